#include "roff.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "words.h"

enum { BREAK_AT = 65 };

static size_t column; // of the line that is being written

void roff(const char *s)
{
    fputs(s, stdout);
    column = strchr(s, '\n') ? 0 : column + strlen(s);
}

void roff_text(const char *s)
{
    for (; *s; s++) {
        const char one[] = {*s, '\0'};
        if (*s == ' ' && column + strcspn(s + 1, " ") > BREAK_AT) {
            roff("\n");
            continue;
        }
        if (column == 0 && (*s == '.' || *s == '\'')) roff("\\&");
        roff(*s == '-' ? "\\-" : *s == '\\' ? "\\e" : one);
    }
}

static void in_font(const char *font, const char *s)
{
    roff(font);
    roff_text(s);
    roff("\\fP");
}

void roff_bold(const char *s)
{
    in_font("\\fB", s);
}

void roff_italic(const char *s)
{
    in_font("\\fI", s);
}

void roff_sentence(const char *s)
{
    const size_t n = strlen(s);
    const char first[] = {(char)toupper((unsigned char)*s), '\0'};
    roff_text(first);
    roff_text(s + 1);
    roff_text(n && s[n - 1] == '.' ? "\n" : ".\n");
}

void roff_operands(const char *s)
{
    char word[WORD_MAX];
    while (*s) {
        size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        const bool is_name = n > 0;
        if (!n) n = strcspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        snprintf(word, sizeof word, "%.*s", (int)n, s);
        if (is_name) roff_italic(word);
        else roff_text(word);
        s += n;
    }
}

void roff_head(const char *name, const char *more)
{
    puts(".TP");
    roff_bold(name);
    if (*more) printf(" (%s)", more);
    roff_text("\n");
}

void roff_values(const char *s)
{
    char one[WORD_MAX];
    const char *before = "Takes ";
    while (next_alternative(&s, one)) {
        roff_text(before);
        if (is_literal(one, strlen(one))) roff_bold(one);
        else roff_text(one);
        const char *rest = s;
        char other[WORD_MAX];
        before = next_alternative(&rest, other) && *rest ? ", " : " or ";
    }
}
