#include "line.h"

#include <string.h>

struct line line_start(char *at, size_t limit)
{
    return (struct line){.at = at, .limit = limit};
}

// Every write goes through here: n bytes that belong together, at most UNIT_MAX, or none of them.
enum { UNIT_MAX = 8 };

static void unit(struct line *l, const char *s, size_t n)
{
    char escaped[2 * UNIT_MAX];
    if (l->nested) {
        size_t k = 0;
        for (size_t i = 0; i < n; i++) {
            if (s[i] == '"' || s[i] == '\\') escaped[k++] = '\\';
            escaped[k++] = s[i];
        }
        s = escaped;
        n = k;
    }
    if (l->full || l->n + n > l->limit) {
        l->full = true;
        return;
    }
    memcpy(l->at + l->n, s, n);
    l->n += n;
}

// The common case of all below: bytes that need no escape, and fit. Returns false, and has done nothing, in the others.
static bool put_plain(struct line *l, const char *s, size_t n)
{
    if (l->nested || l->full || l->n + n > l->limit) return false;
    memcpy(l->at + l->n, s, n);
    l->n += n;
    return true;
}

void line_text(struct line *l, const char *s)
{
    if (put_plain(l, s, strlen(s))) return;
    for (; *s; s++) unit(l, s, 1);
}

void line_bytes(struct line *l, const char *s, size_t n)
{
    size_t start = l->n;
    if (put_plain(l, s, n)) return;
    for (size_t i = 0; i < n; i++) unit(l, s + i, 1);
    if (l->full) l->n = start;
}

static void digits(struct line *l, uint64_t number, unsigned base, unsigned width)
{
    char text[20];
    size_t at = sizeof text;
    do {
        text[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (at && (number || sizeof text - at < width));
    line_bytes(l, text + at, sizeof text - at);
}

void line_unsigned(struct line *l, uint64_t number)
{
    digits(l, number, 10, 1);
}

void line_padded(struct line *l, uint64_t number, unsigned width)
{
    digits(l, number, 10, width);
}

void line_signed(struct line *l, int64_t number)
{
    if (number < 0) line_text(l, "-");
    digits(l, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 10, 1);
}

void line_hex(struct line *l, uint64_t number)
{
    line_text(l, "0x");
    digits(l, number, 16, 1);
}

// The character at s (n > 0 bytes): its length in bytes, and its code point in *point; -1 for a byte that
// begins no well-formed sequence (The Unicode Standard, table 3-7: no overlong form, no surrogate).
static size_t character(const char *s, size_t n, int32_t *point)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t length = 0;
    if (u[0] < 0x80)
        length = 1;
    else if (u[0] >= 0xc2 && u[0] < 0xf5)
        length = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    *point = -1;
    if (length == 0 || length > n) return 1;
    int32_t value = length == 1 ? u[0] : u[0] & (0x7f >> length);
    for (size_t i = 1; i < length; i++) {
        if ((u[i] & 0xc0) != 0x80) return 1;
        value = value << 6 | (u[i] & 0x3f);
    }
    const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
    if (overlong || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 1;
    *point = value;
    return length;
}

// Would a terminal or a log reader take it for more than a character of the line?
static bool is_control(int32_t point)
{
    return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x2028 || point == 0x2029;
}

// What a character becomes inside a JSON string; returns its length.
static size_t escape(char out[UNIT_MAX], const char *s, size_t n, int32_t point)
{
    if (point == '"' || point == '\\') {
        out[0] = '\\';
        out[1] = s[0];
        return 2;
    }
    if (point >= 0 && !is_control(point)) {
        memcpy(out, s, n);
        return n;
    }
    if (point < 0) point = 0xfffd;
    out[0] = '\\';
    out[1] = 'u';
    for (unsigned i = 0; i < 4; i++) out[2 + i] = "0123456789abcdef"[point >> (12 - 4 * i) & 0xf];
    return 6;
}

// How many bytes at the beginning of s stand for themselves inside a JSON string and outside.
static size_t plain_run(const char *s, size_t n)
{
    size_t run = 0;
    while (run < n && s[run] >= 0x20 && s[run] < 0x7f && s[run] != '"' && s[run] != '\\') run++;
    return run;
}

// The characters of s, at most max bytes of them.
static void characters(struct line *l, const char *s, size_t n, bool quoted, size_t max)
{
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        const size_t run = plain_run(s + i, n - i);
        if (run && run <= max - used && put_plain(l, s + i, run)) {
            used += run;
            i += run;
            continue;
        }
        int32_t point;
        char out[UNIT_MAX];
        size_t length = character(s + i, n - i, &point);
        size_t k = length;
        if (quoted)
            k = escape(out, s + i, length, point);
        else
            memcpy(out, s + i, length);
        if (k > max - used) {
            line_text(l, "...");
            return;
        }
        unit(l, out, k);
        used += k;
        i += length;
    }
}

static void quoted(struct line *l, const char *s, size_t n, size_t max)
{
    size_t start = l->n;
    unit(l, "\"", 1);
    characters(l, s, n, true, max);
    unit(l, "\"", 1);
    if (l->full) l->n = start;
}

void line_json(struct line *l, const char *s, size_t n)
{
    quoted(l, s, n, SIZE_MAX);
}

static bool is_bare(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t point;
        i += character(s + i, n - i, &point);
        if (point == ' ' || point == '=' || point == '"' || is_control(point)) return false;
    }
    return n > 0;
}

void line_value(struct line *l, const char *s, size_t n, size_t max)
{
    if (!is_bare(s, n)) {
        quoted(l, s, n, max);
        return;
    }
    size_t start = l->n;
    characters(l, s, n, false, max);
    if (l->full) l->n = start;
}
