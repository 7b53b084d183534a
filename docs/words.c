#include "words.h"

#include <ctype.h>
#include <string.h>

bool is_literal(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && s[i] != '-') return false;
    return n > 0;
}

bool next_alternative(const char **s, char one[WORD_MAX])
{
    const size_t n = strcspn(*s, "|");
    if (!n) return false;
    const size_t kept = n < WORD_MAX - 1 ? n : WORD_MAX - 1;
    memcpy(one, *s, kept);
    one[kept] = '\0';
    *s += n + ((*s)[n] == '|');
    return true;
}

const char *long_option(const char *setting, char name[WORD_MAX])
{
    size_t n = 0;
    for (; n < WORD_MAX - 1 && setting[n]; n++)
        name[n] = (char)(setting[n] == '_' ? '-' : tolower((unsigned char)setting[n]));
    name[n] = '\0';
    return name;
}
