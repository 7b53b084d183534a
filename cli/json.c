#include "json.h"

#include <stdint.h>
#include <string.h>

enum { DEPTH_MAX = 64 };

static void skip_space(struct json *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r')) j->at++;
}

static bool fail(struct json *j)
{
    j->bad = true;
    return false;
}

static bool skip_char(struct json *j, char c)
{
    if (j->at == j->end || *j->at != c) return fail(j);
    j->at++;
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Four hexadecimal digits at s: their value, or -1.
static int32_t hex4(const char *s)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_value(s[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

static bool skip_escape(struct json *j)
{
    if (j->end - j->at < 2) return fail(j);
    const char c = j->at[1];
    if (c == 'u') {
        if (j->end - j->at < 6 || hex4(j->at + 2) < 0) return fail(j);
        j->at += 6;
        return true;
    }
    if (!c || !strchr("\"\\/bfnrt", c)) return fail(j);
    j->at += 2;
    return true;
}

// Has one of eight bytes a value that ends a run of plain characters: '"', '\', or below 0x20? (The zero-byte
// test of Hacker's Delight 6-1; what it may say too much, the loop after it sorts out.)
static bool has_special(const char *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    uint64_t w, quote, backslash;
    memcpy(&w, at, sizeof w);
    quote = w ^ (ones * '"');
    backslash = w ^ (ones * '\\');
    return (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((w - ones * 0x20) & ~w)) & high;
}

static bool skip_string(struct json *j, struct json_value *v)
{
    if (!skip_char(j, '"')) return false;
    const char *start = j->at;
    v->type = JSON_STRING;
    v->escaped = false;
    for (;;) {
        while (j->end - j->at >= 8 && !has_special(j->at)) j->at += 8;
        while (j->at < j->end && *j->at != '"' && *j->at != '\\' && (unsigned char)*j->at >= 0x20) j->at++;
        if (j->at == j->end || (unsigned char)*j->at < 0x20) return fail(j);
        if (*j->at == '"') break;
        v->escaped = true;
        if (!skip_escape(j)) return false;
    }
    v->text = (struct slice){start, (size_t)(j->at - start)};
    j->at++;
    return true;
}

static bool skip_digits(struct json *j)
{
    const char *start = j->at;
    while (j->at < j->end && *j->at >= '0' && *j->at <= '9') j->at++;
    return j->at > start || fail(j);
}

static bool is_next(const struct json *j, char c)
{
    return j->at < j->end && *j->at == c;
}

static bool skip_number(struct json *j)
{
    if (is_next(j, '-')) j->at++;
    if (is_next(j, '0'))
        j->at++;
    else if (!skip_digits(j))
        return false;
    if (is_next(j, '.')) {
        j->at++;
        if (!skip_digits(j)) return false;
    }
    if (!is_next(j, 'e') && !is_next(j, 'E')) return true;
    j->at++;
    if (is_next(j, '+') || is_next(j, '-')) j->at++;
    return skip_digits(j);
}

static bool skip_word(struct json *j, const char *word)
{
    const size_t n = strlen(word);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n) != 0) return fail(j);
    j->at += n;
    return true;
}

static bool skip_value(struct json *j, struct json_value *v, int depth);

// The members of a container, from behind its bracket to behind the other.
static bool skip_members(struct json *j, char close, int depth)
{
    struct json_value v;
    skip_space(j);
    if (is_next(j, close)) {
        j->at++;
        return true;
    }
    for (;;) {
        if (close == '}') {
            skip_space(j);
            if (!skip_string(j, &v)) return false;
            skip_space(j);
            if (!skip_char(j, ':')) return false;
        }
        if (!skip_value(j, &v, depth)) return false;
        skip_space(j);
        if (is_next(j, close)) break;
        if (!skip_char(j, ',')) return false;
    }
    j->at++;
    return true;
}

static bool skip_value(struct json *j, struct json_value *v, int depth)
{
    skip_space(j);
    if (j->at == j->end || depth > DEPTH_MAX) return fail(j);
    const char *start = j->at;
    bool ok;
    v->escaped = false;
    switch (*start) {
    case '"':
        return skip_string(j, v);
    case '{':
    case '[':
        v->type = *start == '{' ? JSON_OBJECT : JSON_ARRAY;
        j->at++;
        ok = skip_members(j, *start == '{' ? '}' : ']', depth + 1);
        break;
    case 't':
    case 'f':
    case 'n':
        v->type = JSON_WORD;
        ok = skip_word(j, *start == 't' ? "true" : *start == 'f' ? "false" : "null");
        break;
    default:
        v->type = JSON_NUMBER;
        ok = skip_number(j);
    }
    v->text = (struct slice){start, (size_t)(j->at - start)};
    return ok;
}

struct json json_open(struct slice text)
{
    struct json j = {.at = text.at, .end = text.at + text.n};
    skip_space(&j);
    if (!is_next(&j, '{') && !is_next(&j, '[')) j.bad = true;
    return j;
}

// Goes to the next member or element; false at the end.
static bool next(struct json *j, char open, char close)
{
    if (j->bad) return false;
    if (!j->begun && !skip_char(j, open)) return false;
    const bool first = !j->begun;
    j->begun = true;
    skip_space(j);
    if (is_next(j, close)) {
        j->at++;
        skip_space(j);
        if (j->at != j->end) j->bad = true;
        j->end = j->at;
        return false;
    }
    if (first) return true;
    if (!skip_char(j, ',')) return false;
    skip_space(j);
    return true;
}

bool json_member(struct json *j, struct slice *key, struct json_value *value)
{
    struct json_value name;
    if (!next(j, '{', '}') || !skip_string(j, &name)) return false;
    *key = name.text;
    skip_space(j);
    return skip_char(j, ':') && skip_value(j, value, 1);
}

bool json_element(struct json *j, struct json_value *value)
{
    return next(j, '[', ']') && skip_value(j, value, 1);
}

bool json_string(struct slice *s, struct json_value *value)
{
    struct json j = {.at = s->at, .end = s->at + s->n};
    if (!skip_string(&j, value)) return false;
    s->n = (size_t)(j.end - j.at);
    s->at = j.at;
    return true;
}

static size_t put_utf8(int32_t point, char *out)
{
    const uint32_t p = (uint32_t)point;
    if (p < 0x80) {
        out[0] = (char)p;
        return 1;
    }
    if (p < 0x800) {
        out[0] = (char)(0xc0 | p >> 6);
        out[1] = (char)(0x80 | (p & 0x3f));
        return 2;
    }
    if (p < 0x10000) {
        out[0] = (char)(0xe0 | p >> 12);
        out[1] = (char)(0x80 | (p >> 6 & 0x3f));
        out[2] = (char)(0x80 | (p & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | p >> 18);
    out[1] = (char)(0x80 | (p >> 12 & 0x3f));
    out[2] = (char)(0x80 | (p >> 6 & 0x3f));
    out[3] = (char)(0x80 | (p & 0x3f));
    return 4;
}

// \uXXXX, or two of them that are one character (RFC 8259 section 7). Moves *at behind.
static int32_t unescape_point(const char **at, const char *end)
{
    int32_t high = hex4(*at + 2);
    *at += 6;
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u') return 0xfffd;
    int32_t low = hex4(*at + 2);
    if (low < 0xdc00 || low > 0xdfff) return 0xfffd;
    *at += 6;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

size_t json_unescape(struct slice text, char *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char *to = out;
    for (const char *at = text.at, *end = at + text.n; at < end;) {
        if (*at != '\\') {
            *to++ = *at++;
        } else if (at[1] == 'u') {
            to += put_utf8(unescape_point(&at, end), to);
        } else {
            *to++ = values[strchr(names, at[1]) - names];
            at += 2;
        }
    }
    return (size_t)(to - out);
}
