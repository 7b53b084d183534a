// A strict reader of JSON (RFC 8259), to hold what is written against; and of the fields of a text line.
#ifndef PRECLOSE_TESTS_JSON_H
#define PRECLOSE_TESTS_JSON_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

// Each of these takes the text at *at (before end), moves *at past what it stands for and returns true;
// false: not well-formed.
static inline bool json_value(const char **at, const char *end);

static inline bool json_hex4(const char *at, const char *end)
{
    for (int i = 0; i < 4; i++)
        if (at + i >= end || !strchr("0123456789abcdefABCDEF", at[i]) || !at[i]) return false;
    return true;
}

// The length of the well-formed UTF-8 sequence at at, 0 if there is none.
static inline int json_utf8(const char *at, const char *end)
{
    const unsigned char *u = (const unsigned char *)at;
    long left = end - at;
    if (u[0] < 0x80) return 1;
    if (left < 2 || (u[1] & 0xc0) != 0x80 || u[0] < 0xc2 || u[0] > 0xf4) return 0;
    if (u[0] < 0xe0) return 2;
    if (left < 3 || (u[2] & 0xc0) != 0x80) return 0;
    if (u[0] < 0xf0) return (u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ? 0 : 3;
    if (left < 4 || (u[3] & 0xc0) != 0x80) return 0;
    return (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f) ? 0 : 4;
}

static inline bool json_string(const char **at, const char *end)
{
    if (*at >= end || **at != '"') return false;
    for ((*at)++; *at < end && **at != '"';) {
        if ((unsigned char)**at < 0x20 || **at == 0x7f) return false;
        if (**at != '\\') {
            int length = json_utf8(*at, end);
            if (!length) return false;
            *at += length;
            continue;
        }
        if (++*at >= end) return false;
        char escaped = *(*at)++;
        if (!escaped || !strchr("\"\\/bfnrtu", escaped)) return false;
        if (escaped != 'u') continue;
        if (!json_hex4(*at, end)) return false;
        *at += 4;
    }
    return *at < end && *(*at)++ == '"';
}

static inline bool json_number(const char **at, const char *end)
{
    if (*at < end && **at == '-') (*at)++;
    const char *start = *at;
    while (*at < end && **at >= '0' && **at <= '9') (*at)++;
    return *at > start && !(*at - start > 1 && *start == '0');
}

static inline bool json_list(const char **at, const char *end, char close, bool keys)
{
    (*at)++;
    if (*at < end && **at == close) return ++*at, true;
    for (;;) {
        if (keys && (!json_string(at, end) || *at >= end || *(*at)++ != ':')) return false;
        if (!json_value(at, end) || *at >= end) return false;
        char next = *(*at)++;
        if (next == close) return true;
        if (next != ',') return false;
    }
}

static inline bool json_value(const char **at, const char *end)
{
    if (*at >= end) return false;
    if (**at == '{') return json_list(at, end, '}', true);
    if (**at == '[') return json_list(at, end, ']', false);
    if (**at == '"') return json_string(at, end);
    return json_number(at, end);
}

// One line that holds one object and nothing else?
static inline bool json_is_line(const char *line, size_t n)
{
    const char *at = line;
    if (n < 3 || line[0] != '{' || line[n - 1] != '\n' || memchr(line, '\n', n - 1)) return false;
    return json_value(&at, line + n - 1) && at == line + n - 1;
}

// The keys of the object, in their order, separated by spaces. The line must be valid.
static inline void json_keys(const char *object, const char *end, char *keys, size_t size)
{
    size_t used = 0;
    keys[0] = '\0';
    for (const char *at = object + 1; at < end && *at != '}';) {
        const char *key = at;
        json_string(&at, end);
        used += (size_t)snprintf(keys + used, size - used, "%s%.*s", used ? " " : "", (int)(at - key - 2),
                                 key + 1);
        at++;
        json_value(&at, end);
        if (*at == ',') at++;
    }
}

// The value of a key of the object as it is written, "" if there is none. The line must be valid.
static inline const char *json_get(const char *object, const char *end, const char *key)
{
    static char value[4096];
    value[0] = '\0';
    for (const char *at = object + 1; at < end && *at != '}';) {
        const char *name = at;
        json_string(&at, end);
        bool found = strlen(key) == (size_t)(at - name - 2) && !memcmp(name + 1, key, strlen(key));
        const char *start = ++at;
        json_value(&at, end);
        if (found) {
            snprintf(value, sizeof value, "%.*s", (int)(at - start), start);
            break;
        }
        if (*at == ',') at++;
    }
    return value;
}

// A text line: words and key=value fields between spaces, where a value is bare or a JSON string, and
// so may be a word. Collects the keys as json_keys does. False: torn, several lines, or not UTF-8.
static inline bool text_keys(const char *line, size_t n, char *keys, size_t size)
{
    const char *at = line, *end = line + n - 1, *word = line;
    size_t used = 0;
    keys[0] = '\0';
    if (n < 2 || *end != '\n') return false;
    while (at < end) {
        int length = json_utf8(at, end);
        if (!length || (unsigned char)*at < 0x20 || *at == 0x7f) return false;
        if (*at == '"') {
            if (!json_string(&at, end)) return false;
            continue;
        }
        if (*at == '=')
            used +=
                (size_t)snprintf(keys + used, size - used, "%s%.*s", used ? " " : "", (int)(at - word), word);
        at += length;
        if (at[-1] == ' ') word = at;
    }
    return true;
}

#endif
