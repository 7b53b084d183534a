// What the columns of the tables mean to a reader and to a shell.
#ifndef PRECLOSE_DOCS_WORDS_H
#define PRECLOSE_DOCS_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum { WORD_MAX = 256 };

// Is it a value as it is typed, and not a description of one? The first n bytes of s.
bool is_literal(const char *s, size_t n);

// The next of "always|blocked|never" into one; moves *s behind it. Returns false at the end.
bool next_alternative(const char **s, char one[WORD_MAX]);

// "CLOSE_WAIT" → "close-wait", as an option is called.
const char *long_option(const char *setting, char name[WORD_MAX]);

#endif
