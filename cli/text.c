#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "../shim/line.h"

enum { NO_TERMINAL = 100, NARROWEST = 40, WIDEST = 160 };

struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

bool slice_same(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.at, b.at, a.n) == 0);
}

bool slice_is(struct slice s, const char *text)
{
    return slice_same(s, slice_of(text));
}

bool slice_begins(struct slice s, const char *prefix)
{
    const size_t n = strlen(prefix);
    return s.n >= n && slice_is((struct slice){s.at, n}, prefix);
}

const char *slice_find(struct slice s, const char *text)
{
    return s.n ? memmem(s.at, s.n, text, strlen(text)) : NULL;
}

struct slice slice_cut(struct slice *s, char c)
{
    const char *found = s->n ? memchr(s->at, c, s->n) : NULL;
    struct slice part = {s->at, found ? (size_t)(found - s->at) : s->n};
    const size_t gone = part.n + (found ? 1 : 0);
    s->at += gone;
    s->n -= gone;
    return part;
}

struct slice slice_base(struct slice path)
{
    const char *slash = path.n ? memrchr(path.at, '/', path.n) : NULL;
    return slash ? (struct slice){slash + 1, path.n - (size_t)(slash + 1 - path.at)} : path;
}

bool slice_number(struct slice s, int64_t *number)
{
    const bool negative = s.n > 1 && s.at[0] == '-';
    uint64_t value = 0;
    size_t i = negative ? 1 : 0;
    if (i == s.n) return false;
    for (; i < s.n; i++) {
        const uint64_t digit = (uint64_t)(s.at[i] - '0');
        if (digit > 9 || value > ((uint64_t)INT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *number = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

// Writes s by the library's own rules for strings (line.h), without quotes, in pieces that end where a
// character does.
static void put_escaped(FILE *out, struct slice s)
{
    enum { PIECE = 512, WORST = 6 * PIECE + 2 };
    while (s.n) {
        char text[WORST];
        size_t n = s.n < PIECE ? s.n : PIECE;
        while (n < s.n && n > PIECE - 4 && ((unsigned char)s.at[n] & 0xc0) == 0x80) n--;
        struct line l = line_start(text, sizeof text);
        line_json(&l, s.at, n);
        fwrite(text + 1, 1, l.n - 2, out);
        s.at += n;
        s.n -= n;
    }
}

// Most strings need no escape at all.
static bool is_plain(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.at[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') return false;
    }
    return true;
}

void put_json(FILE *out, struct slice s)
{
    putc('"', out);
    if (is_plain(s))
        fwrite(s.at, 1, s.n, out);
    else
        put_escaped(out, s);
    putc('"', out);
}

// As in JSON, but quotes and backslashes as they are: so they are written apart.
void put_safe(FILE *out, struct slice s)
{
    while (s.n) {
        size_t n = 0;
        while (n < s.n && s.at[n] != '"' && s.at[n] != '\\') n++;
        const struct slice part = {s.at, n};
        if (is_plain(part))
            fwrite(part.at, 1, part.n, out);
        else
            put_escaped(out, part);
        if (n < s.n) putc(s.at[n++], out);
        s.at += n;
        s.n -= n;
    }
}

static void out_key(struct json_out *o, const char *key)
{
    if (o->more) putc(',', o->out);
    if (key) put_json(o->out, slice_of(key));
    if (key) putc(':', o->out);
    o->more = true;
}

void out_open(struct json_out *o, const char *key, char bracket)
{
    out_key(o, key);
    putc(bracket, o->out);
    o->more = false;
}

void out_close(struct json_out *o, char bracket)
{
    putc(bracket, o->out);
    o->more = true;
}

void out_string(struct json_out *o, const char *key, struct slice s)
{
    out_key(o, key);
    put_json(o->out, s);
}

void out_number(struct json_out *o, const char *key, int64_t number)
{
    out_key(o, key);
    fprintf(o->out, "%" PRId64, number);
}

void out_bool(struct json_out *o, const char *key, bool value)
{
    out_key(o, key);
    fputs(value ? "true" : "false", o->out);
}

const char *text_count(char out[NUMBER_MAX], uint64_t n)
{
    char digits[24];
    const int length = snprintf(digits, sizeof digits, "%" PRIu64, n);
    char *to = out;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
    return out;
}

const char *text_bytes(char out[NUMBER_MAX], uint64_t n)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)n / 1000;
    unsigned unit = 0;
    if (n < 10000) {
        snprintf(out, NUMBER_MAX, "%" PRIu64 " byte%s", n, n == 1 ? "" : "s");
        return out;
    }
    for (; value >= 999.5 && unit < sizeof units / sizeof units[0] - 1; unit++) value /= 1000;
    snprintf(out, NUMBER_MAX, value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

const char *text_ms(char out[NUMBER_MAX], int64_t ms)
{
    const int64_t s = ms / 1000, min = s / 60, h = min / 60, days = h / 24;
    if (ms < 10000)
        snprintf(out, NUMBER_MAX, "%" PRId64 " ms", ms);
    else if (s < 100)
        snprintf(out, NUMBER_MAX, "%" PRId64 " s", s);
    else if (min < 60)
        snprintf(out, NUMBER_MAX, "%" PRId64 " min %" PRId64 " s", min, s % 60);
    else if (h < 48)
        snprintf(out, NUMBER_MAX, "%" PRId64 " h %" PRId64 " min", h, min % 60);
    else
        snprintf(out, NUMBER_MAX, "%" PRId64 " days %" PRId64 " h", days, h % 24);
    return out;
}

const char *text_time(char out[NUMBER_MAX], int64_t us)
{
    const time_t second = (time_t)(us / 1000000);
    struct tm tm;
    if (!gmtime_r(&second, &tm)) tm = (struct tm){0};
    snprintf(out, NUMBER_MAX, "%04d-%02d-%02d %02d:%02d:%02d", tm.tm_year % 10000 + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return out;
}

// Columns that UTF-8 text takes: a byte that continues a character takes none. (Wide and combining characters
// are rare enough here that a line may come out a little long or short.)
static int columns(struct slice s)
{
    int n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.at[i] & 0xc0) != 0x80;
    return n;
}

void put_wrapped(FILE *out, struct slice s, int indent, int column, int width)
{
    bool first = true;
    while (s.n) {
        const struct slice word = slice_cut(&s, ' ');
        const int length = columns(word);
        if (!word.n) continue;
        if (column > indent && column + 1 + length > width) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            putc(' ', out);
            column++;
        }
        put_safe(out, word);
        column += length;
        first = false;
    }
    putc('\n', out);
}

int text_width(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || !size.ws_col) return NO_TERMINAL;
    return size.ws_col < NARROWEST ? NARROWEST : size.ws_col > WIDEST ? WIDEST : size.ws_col;
}
