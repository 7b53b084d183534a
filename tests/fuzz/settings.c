// settings_read on any environment: in bounds, each field as a reader of the manual would set it, and for
// each thing wrong one complaint of one printable line. settings_match and settings_duration beside it.
#include <fnmatch.h>
#include <limits.h>

#include "fuzz.h"
#include "json.h"

#include "settings.h"

enum { VARIABLES = 24, PID = 4711 };

// How the manual says that a value is read. Returns false for a bad one. A setting that is read in a new way
// needs a function here, named after it.
typedef bool reader(const char *value, const char *values, void *field);

static reader want_CHOICE, want_NUMBER, want_RANGE, want_DURATION, want_UNREAD, want_KEEPALIVE, want_LOG, want_GLOBS;

// Every name of the manual; read is NULL for one that this version does not have.
static const struct {
    const char *name;
    reader *read;
    size_t offset;
    const char *values, *fallback;
} names[] = {
#define SETTING(name, how, field, values, fallback, meaning) \
    {#name, want_##how, offsetof(struct settings, field), values, fallback},
#include "settings.def"
};
enum { NAMES = sizeof names / sizeof *names };

static unsigned complaints;

static void complained(void *context, const char *text)
{
    (void)context;
    size_t n = strlen(text);
    complaints++;
    if (strncmp(text, "PRECLOSE_", 9) != 0 || n >= 320) wrong("a complaint of %zu bytes: %s", n, text);
    for (const char *at = text, *end = text + n; at < end;) {
        int length = json_utf8(at, end);
        if (!length) wrong("a complaint that is not UTF-8: %s", text);
        if ((unsigned char)*at < 0x20 || *at == 0x7f || (*at == '\xc2' && (unsigned char)at[1] < 0xa0))
            wrong("a complaint with a control character: %s", text);
        at += length;
    }
}

// The next variable, in a block of its own with nothing behind it. A first byte below 64 stands for the
// prefix and mostly a name, so that the fuzzer need not find them.
static char *variable(struct input *in)
{
    char text[2400];
    size_t n = 0;
    uint8_t first = take(in);
    if (first < 64) {
        n = (size_t)snprintf(text, sizeof text, "PRECLOSE_");
        if (first < NAMES) n += (size_t)snprintf(text + n, sizeof text - n, "%s=", names[first].name);
    }
    unsigned repeat = 1;
    while (in->left && n < sizeof text - 1) {
        uint8_t c = take(in);
        if (!c) break;
        if (c == 1) { // long values: the next character many times over
            repeat = 1u + take(in) * 8;
            continue;
        }
        while (repeat-- && n < sizeof text - 1) text[n++] = (char)c;
        repeat = 1;
    }
    char *copy = malloc(n + 1);
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

static bool want_CHOICE(const char *value, const char *values, void *field)
{
    char list[256];
    unsigned index = 0;
    snprintf(list, sizeof list, "%s", values);
    for (char *at = list, *word; (word = strsep(&at, "|")); index++)
        if (strcmp(value, word) == 0) return memcpy(field, &index, sizeof index), true;
    return false;
}

static bool want_NUMBER(const char *value, const char *values, void *field)
{
    (void)values;
    unsigned long long n = 0;
    if (!*value || strspn(value, "0123456789") != strlen(value)) return false;
    for (; *value; value++)
        if ((n = n * 10 + (unsigned)(*value - '0')) > UINT_MAX) return false;
    unsigned number = (unsigned)n;
    return memcpy(field, &number, sizeof number), true;
}

static bool want_RANGE(const char *value, const char *values, void *field)
{
    unsigned low, high, number;
    if (sscanf(values, "%u to %u", &low, &high) != 2) wrong("not a range: %s", values);
    if (!want_NUMBER(value, values, &number) || number < low || number > high) return false;
    return memcpy(field, &number, sizeof number), true;
}

// -1: not a duration.
static int64_t milliseconds(const char *text)
{
    int64_t ms = -1;
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    __extension__ unsigned __int128 value = 0;
    for (size_t i = 0; i < digits; i++)
        if (value <= INT64_MAX) value = value * 10 + (unsigned)(text[i] - '0');
    unsigned factor = !strcmp(unit, "ms")  ? 1
                      : !strcmp(unit, "s") ? 1000
                      : !strcmp(unit, "m") ? 60000
                      : !strcmp(unit, "h") ? 3600000
                                           : 0;
    if (digits && factor && value * factor <= INT64_MAX) ms = (int64_t)(value * factor);
    return digits && !*unit && value == 0 ? 0 : ms;
}

static bool want_DURATION(const char *value, const char *values, void *field)
{
    (void)values;
    int64_t ms = milliseconds(value);
    return ms >= 0 && memcpy(field, &ms, sizeof ms);
}

static bool want_UNREAD(const char *value, const char *values, void *field)
{
    struct settings *s = (struct settings *)((char *)field - offsetof(struct settings, unread));
    unsigned ms = 1000;
    bool with = strncmp(value, "drain:", 6) == 0;
    if (with && (!want_NUMBER(value + 6, values, &ms) || ms > 60000)) return false;
    if (!want_CHOICE(with ? "drain" : value, "shutdown|reset|drain", field)) return false;
    s->drain_ms = ms;
    return true;
}

static bool want_KEEPALIVE(const char *value, const char *values, void *field)
{
    unsigned n[3] = {0};
    char list[64];
    if (strcmp(value, "off") == 0) return memcpy(field, n, sizeof n), true;
    if (strlen(value) >= sizeof list) { // zeroes before a number
        unsigned long long a, b, c;
        int end = 0;
        if (strspn(value, "0123456789,") != strlen(value) || value[0] == ',' || strstr(value, ",,")) return false;
        if (sscanf(value, "%llu,%llu,%llu%n", &a, &b, &c, &end) != 3 || value[end]) return false;
        if (!a || !b || !c || a > 32767 || b > 32767 || c > 127) return false;
        n[0] = (unsigned)a, n[1] = (unsigned)b, n[2] = (unsigned)c;
        return memcpy(field, n, sizeof n), true;
    }
    char *at = strcpy(list, value);
    for (int i = 0; i < 3; i++) {
        char *word = strsep(&at, ",");
        if (!word || !want_NUMBER(word, values, &n[i]) || !n[i] || n[i] > (i < 2 ? 32767u : 127u)) return false;
    }
    return !at && memcpy(field, n, sizeof n);
}

static bool want_LOG(const char *value, const char *values, void *field)
{
    struct settings *s = (struct settings *)((char *)field - offsetof(struct settings, log));
    char path[8192];
    size_t n = 0;
    if (want_CHOICE(value, "stderr|none", field)) return true;
    (void)values;
    for (; *value; value++) {
        if (strncmp(value, "%p", 2) == 0)
            n += (size_t)sprintf(path + n, "%d", PID), value++;
        else
            path[n++] = *value;
    }
    path[n] = '\0';
    if (!n || n >= LOG_PATH_MAX) return false;
    s->log = LOG_FILE;
    memcpy(s->log_path, path, n + 1);
    return true;
}

static bool want_GLOBS(const char *value, const char *values, void *field)
{
    (void)values;
    return *value && strlen(value) < ONLY_MAX && strcpy(field, value);
}

static bool want(unsigned i, const char *value, struct settings *s)
{
    return names[i].read && names[i].read(value, names[i].values, (char *)s + names[i].offset);
}

// Reads the environment as the manual says; returns how many things are wrong with it.
static unsigned expect(char *const *env, struct settings *s)
{
    unsigned bad = 0;
    bool seen[NAMES] = {false};
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < NAMES; i++)
        if (names[i].read && !want(i, names[i].fallback, s)) wrong("%s: a bad default", names[i].name);
    for (; *env; env++) {
        const char *equals = strchr(*env, '=');
        if (strncmp(*env, "PRECLOSE_", 9) != 0 || !equals) continue;
        unsigned i = 0;
        size_t length = (size_t)(equals - *env) - 9;
        while (i < NAMES && (strlen(names[i].name) != length || memcmp(names[i].name, *env + 9, length))) i++;
        if (i == NAMES)
            bad++;
        else if (!seen[i] && !want(i, equals + 1, s))
            bad++;
        if (i < NAMES) seen[i] = true;
    }
    return bad;
}

static size_t size_of(reader *read)
{
    return read == want_DURATION ? sizeof(int64_t) : read == want_KEEPALIVE ? sizeof(struct keepalive) : sizeof(unsigned);
}

static void compare(const struct settings *s, const struct settings *w)
{
    for (unsigned i = 0; i < NAMES; i++)
        if (names[i].read && names[i].read != want_GLOBS &&
            memcmp((const char *)s + names[i].offset, (const char *)w + names[i].offset, size_of(names[i].read)))
            wrong("%s is not what the manual says", names[i].name);
    if (s->drain_ms != w->drain_ms) wrong("drain_ms is %u, not %u", s->drain_ms, w->drain_ms);
    if (!memchr(s->only, '\0', sizeof s->only) || strcmp(s->only, w->only)) wrong("only is not as given");
    if (s->log == LOG_FILE &&
        (!memchr(s->log_path, '\0', sizeof s->log_path) || strcmp(s->log_path, w->log_path)))
        wrong("log_path is not as given");
}

// Where the rules for brackets, escapes and lists don't come in, it is fnmatch(3).
static void match(const struct settings *s, struct input *in)
{
    char comm[16] = "", pattern[ONLY_MAX];
    take_bytes(in, comm, 15);
    bool is = settings_match(s, comm);
    if (strpbrk(s->only, "[\\, ")) return;
    strcpy(pattern, s->only);
    if (!strpbrk(pattern, "*?")) pattern[15] = '\0';
    if (is != (fnmatch(pattern, comm, 0) == 0)) wrong("%s matches %s: %d", s->only, comm, is);
}

static void duration(struct input *in)
{
    char text[32], *copy;
    size_t n = take_bytes(in, text, sizeof text - 1);
    text[n] = '\0';
    copy = strdup(text);
    int64_t is = settings_duration(copy), ms = milliseconds(copy);
    if (is != ms) wrong("duration %s is %lld, not %lld", text, (long long)is, (long long)ms);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    unsigned n = take_below(&in, VARIABLES);
    char **env = calloc(n + 1, sizeof *env);
    for (unsigned i = 0; i < n; i++) env[i] = variable(&in);
    struct settings *s = malloc(sizeof *s), w;
    memset(s, 0xaa, sizeof *s);
    complaints = 0;
    settings_read(s, env, PID, complained, NULL);
    unsigned bad = expect(env, &w);
    if (complaints != bad) wrong("%u complaints, but %u things are wrong", complaints, bad);
    compare(s, &w);
    match(s, &in);
    duration(&in);
    for (unsigned i = 0; i < n; i++) free(env[i]);
    free(env);
    free(s);
    return 0;
}
