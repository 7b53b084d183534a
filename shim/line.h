// A line that is put together in a buffer of fixed size and is always whole: what does not fit is left
// out, never torn in the middle of an escape sequence or of a UTF-8 character.
//
// All are pure, async-signal-safe and take no lock. No locale, no allocation.
#ifndef PRECLOSE_LINE_H
#define PRECLOSE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line {
    char *at;
    size_t n;     // bytes written so far
    size_t limit; // bytes that may be written
    bool full;    // something did not fit: nothing more is taken until n is set back and full cleared
    bool nested;  // inside a JSON string: every quote and backslash gets a backslash
};

// An empty line that will be written to at, limit bytes at most.
struct line line_start(char *at, size_t limit);

// Appends s as it is, byte by byte; for text of our own in ASCII.
void line_text(struct line *l, const char *s);

// Appends n bytes as they are, or none of them.
void line_bytes(struct line *l, const char *s, size_t n);

// Appends a number: signed, unsigned, hexadecimal ("0x1f"), or decimal with leading zeroes to a width
// of at most 20.
void line_signed(struct line *l, int64_t number);
void line_unsigned(struct line *l, uint64_t number);
void line_hex(struct line *l, uint64_t number);
void line_padded(struct line *l, uint64_t number, unsigned width);

// Appends n bytes from anywhere as a JSON string with its quotes (RFC 8259 section 7), or nothing of it.
// Control characters (C0, DEL, C1, U+2028, U+2029) become \uXXXX, bytes that are not UTF-8 \ufffd.
void line_json(struct line *l, const char *s, size_t n);

// Appends n bytes from anywhere as a logfmt value, or nothing of it: bare where it can be, otherwise
// (empty, or with a space, '=', '"', a control character or bytes that are not UTF-8) a JSON string.
// A value of more than max bytes is shortened to about that and ends in "...".
void line_value(struct line *l, const char *s, size_t n, size_t max);

#endif
