#include "settings.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "line.h"

#define PREFIX "PRECLOSE_"
#define PREFIX_LENGTH (sizeof PREFIX - 1)
#define COMM_LENGTH 15 // TASK_COMM_LEN without its NUL
#define DRAIN_MS 1000
#define DRAIN_MS_MAX 60000
#define KEEPALIVE_SECONDS_MAX 32767 // MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL (include/net/tcp.h)
#define KEEPALIVE_COUNT_MAX 127     // MAX_TCP_KEEPCNT

enum how {
    HOW_CHOICE,    // one of the alternatives
    HOW_NUMBER,    // any unsigned
    HOW_RANGE,     // an unsigned between the ends that values names: "0 to 255"
    HOW_DURATION,  // milliseconds, 64 bits
    HOW_UNREAD,    // a choice, or drain:MS
    HOW_KEEPALIVE, // off, or three numbers
    HOW_LOG,
    HOW_GLOBS,
};

struct setting {
    const char *name; // without PRECLOSE_
    enum how how;
    size_t offset; // of the field in struct settings
    const char *values;
    const char *fallback;
};

static const struct setting table[] = {
#define SETTING(name, how, field, values, fallback, meaning) \
    {#name, HOW_##how, offsetof(struct settings, field), values, fallback},
#include "settings.def"
#undef SETTING
};

enum { SETTINGS = sizeof table / sizeof table[0] };
_Static_assert(SETTINGS <= 32, "settings_read notes those it has seen in 32 bits");

// A pattern or part of one: [at, end).
struct glob {
    const char *at, *end;
};

// The first character or range of a bracket: low..high; moves past it.
static void bracket_item(struct glob *g, unsigned char *low, unsigned char *high)
{
    if (*g->at == '\\' && g->at + 1 < g->end) g->at++;
    *low = *high = (unsigned char)*g->at++;
    if (g->end - g->at < 2 || g->at[0] != '-' || g->at[1] == ']') return;
    g->at++;
    if (*g->at == '\\' && g->at + 1 < g->end) g->at++;
    *high = (unsigned char)*g->at++;
}

// Does c match the bracket that begins behind its '['? Moves past the ']'. *closed: it has one; a '['
// without stands for itself.
static bool match_bracket(struct glob *g, unsigned char c, bool *closed)
{
    bool match = false, first = true, negated = g->at < g->end && (*g->at == '!' || *g->at == '^');
    if (negated) g->at++;
    for (*closed = false; g->at < g->end; first = false) {
        if (*g->at == ']' && !first) {
            g->at++;
            *closed = true;
            break;
        }
        unsigned char low, high;
        bracket_item(g, &low, &high);
        if (c >= low && c <= high) match = true;
    }
    return match != negated;
}

// Does c match the first element of the pattern, which is not '*'? Moves past it.
static bool match_one(struct glob *g, char c)
{
    const char *start = g->at++;
    if (*start == '?') return true;
    if (*start == '[') {
        bool closed, match = match_bracket(g, (unsigned char)c, &closed);
        if (closed) return match;
        g->at = start + 1;
    }
    if (*start == '\\' && g->at < g->end) return *g->at++ == c;
    return *start == c;
}

// When a match fails, only the last '*' need take one character more: an earlier one could only leave less
// for what follows it. So the work is at most pattern times name.
static bool glob_match(struct glob g, const char *name)
{
    struct glob behind_star = {NULL, NULL};
    const char *retry = NULL;
    while (*name || g.at < g.end) {
        if (g.at < g.end && *g.at == '*') {
            g.at++;
            behind_star = g;
            retry = name;
            continue;
        }
        if (*name && g.at < g.end && match_one(&g, *name)) {
            name++;
            continue;
        }
        if (!retry || !*retry) return false;
        name = ++retry;
        g = behind_star;
    }
    return true;
}

static bool is_literal(struct glob g)
{
    for (; g.at < g.end; g.at++)
        if (strchr("*?[\\", *g.at)) return false;
    return true;
}

bool settings_match(const struct settings *s, const char *comm)
{
    for (const char *at = s->only;;) {
        const char *end = at + strcspn(at, ",");
        struct glob g = {at, end};
        while (g.at < g.end && *g.at == ' ') g.at++;
        while (g.at < g.end && g.end[-1] == ' ') g.end--;
        if (g.end - g.at > COMM_LENGTH && is_literal(g)) g.end = g.at + COMM_LENGTH;
        if (g.at < g.end && glob_match(g, comm)) return true;
        if (!*end) return false;
        at = end + 1;
    }
}

// A decimal number up to max and nothing else before what *end is set to; false if there is none.
static bool parse_number(const char *text, uint64_t max, uint64_t *number, const char **end)
{
    *number = 0;
    *end = text;
    for (; **end >= '0' && **end <= '9'; (*end)++) {
        unsigned digit = (unsigned)(**end - '0');
        if (*number > (max - digit) / 10) return false;
        *number = *number * 10 + digit;
    }
    return *end > text;
}

int64_t settings_duration(const char *text)
{
    static const struct {
        char name[3];
        unsigned ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}};
    uint64_t number;
    const char *unit;
    if (!parse_number(text, INT64_MAX, &number, &unit)) return -1;
    if (!*unit) return number == 0 ? 0 : -1;
    for (unsigned i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0)
            return number > INT64_MAX / units[i].ms ? -1 : (int64_t)(number * units[i].ms);
    return -1;
}

static size_t alternative_length(const char *values)
{
    return strcspn(values, "|");
}

static const char *next_alternative(const char *values)
{
    values += alternative_length(values);
    return *values ? values + 1 : values;
}

// Which of the alternatives value is; -1 if none.
static int choice(const char *values, const char *value)
{
    for (int i = 0; *values; i++, values = next_alternative(values)) {
        size_t length = alternative_length(values);
        if (strlen(value) == length && memcmp(value, values, length) == 0) return i;
    }
    return -1;
}

// Enums and unsigned alike: settings.h has no narrower field for a choice or a number.
static void store(struct settings *s, const struct setting *setting, unsigned value)
{
    _Static_assert(sizeof(enum act_when) == sizeof value && sizeof s->rate == sizeof value,
                   "a field for a choice or a number is as wide as unsigned");
    memcpy((char *)s + setting->offset, &value, sizeof value);
}

static bool set_choice(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    (void)pid;
    int index = choice(setting->values, value);
    if (index >= 0) store(s, setting, (unsigned)index);
    return index >= 0;
}

static bool set_number(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    (void)pid;
    uint64_t number;
    const char *end;
    if (!parse_number(value, UINT_MAX, &number, &end) || *end) return false;
    store(s, setting, (unsigned)number);
    return true;
}

static bool set_range(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    (void)pid;
    static const char to[] = " to ";
    uint64_t low, high, number;
    const char *end;
    parse_number(setting->values, UINT_MAX, &low, &end);
    parse_number(end + sizeof to - 1, UINT_MAX, &high, &end);
    if (!parse_number(value, high, &number, &end) || *end || number < low) return false;
    store(s, setting, (unsigned)number);
    return true;
}

static bool set_duration(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    (void)pid;
    int64_t ms = settings_duration(value);
    if (ms < 0) return false;
    memcpy((char *)s + setting->offset, &ms, sizeof ms);
    return true;
}

static bool set_unread(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    (void)pid;
    static const char drain[] = "drain:";
    uint64_t ms = DRAIN_MS;
    const char *end;
    int index = choice(setting->values, value);
    if (strncmp(value, drain, sizeof drain - 1) == 0 &&
        parse_number(value + sizeof drain - 1, DRAIN_MS_MAX, &ms, &end) && !*end)
        index = UNREAD_DRAIN;
    if (index < 0 || index > UNREAD_DRAIN) return false;
    store(s, setting, (unsigned)index);
    s->drain_ms = (unsigned)ms;
    return true;
}

static bool set_keepalive(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    (void)pid;
    uint64_t idle = 0, interval = 0, count = 0;
    const char *end;
    if (strcmp(value, "off") != 0) {
        if (!parse_number(value, KEEPALIVE_SECONDS_MAX, &idle, &end) || *end != ',' ||
            !parse_number(end + 1, KEEPALIVE_SECONDS_MAX, &interval, &end) || *end != ',' ||
            !parse_number(end + 1, KEEPALIVE_COUNT_MAX, &count, &end) || *end || !idle || !interval || !count)
            return false;
    }
    const struct keepalive k = {(unsigned)idle, (unsigned)interval, (unsigned)count};
    memcpy((char *)s + setting->offset, &k, sizeof k);
    return true;
}

static bool set_log(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    int index = choice(setting->values, value);
    if (index == LOG_STDERR || index == LOG_NONE) {
        store(s, setting, (unsigned)index);
        return true;
    }
    struct line path = line_start(s->log_path, sizeof s->log_path - 1);
    for (const char *at = value; *at; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            line_signed(&path, pid);
            at++;
        } else {
            line_bytes(&path, at, 1);
        }
    }
    s->log_path[path.full ? 0 : path.n] = '\0';
    if (!s->log_path[0]) return false;
    store(s, setting, LOG_FILE);
    return true;
}

static bool set_globs(struct settings *s, const struct setting *setting, const char *value, int pid)
{
    (void)pid;
    size_t length = strlen(value);
    if (length == 0 || length >= ONLY_MAX) return false;
    memcpy((char *)s + setting->offset, value, length + 1);
    return true;
}

static bool (*const set[])(struct settings *, const struct setting *, const char *value, int pid) = {
    [HOW_CHOICE] = set_choice,       [HOW_NUMBER] = set_number, [HOW_RANGE] = set_range,
    [HOW_DURATION] = set_duration,   [HOW_UNREAD] = set_unread, [HOW_KEEPALIVE] = set_keepalive,
    [HOW_LOG] = set_log,             [HOW_GLOBS] = set_globs,
};

// A complaint begins with the variable as it was set, shortened.
static void begin_complaint(struct line *l, const char *name, size_t length, const char *value)
{
    line_text(l, PREFIX);
    line_value(l, name, length, 40);
    line_text(l, "=");
    line_value(l, value, strlen(value), 60);
    line_text(l, ": ");
}

static void say_values(struct line *l, const char *values)
{
    line_text(l, "takes ");
    for (const char *next; *values; values = next) {
        line_bytes(l, values, alternative_length(values));
        next = next_alternative(values);
        if (*next) line_text(l, *next_alternative(next) ? ", " : " or ");
    }
}

static void complain_value(struct line *l, const struct setting *setting, const char *value)
{
    begin_complaint(l, setting->name, strlen(setting->name), value);
    say_values(l, setting->values);
    line_text(l, "; using ");
    line_text(l, setting->fallback);
}

static unsigned char upper(char c)
{
    return (unsigned char)(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
}

// How many letters must be added, left out or changed to make one name of the other (Levenshtein);
// letters count as the same in either case. b is at most NAME_MAX_LENGTH long.
enum { NAME_MAX_LENGTH = 15 };

static unsigned distance(const char *a, size_t n, const char *b)
{
    const size_t m = strlen(b);
    unsigned row[NAME_MAX_LENGTH + 1];
    for (unsigned j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 0; i < n; i++) {
        unsigned diagonal = row[0]++;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = diagonal + (upper(a[i]) != upper(b[j - 1]));
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

static const struct setting *nearest(const char *name, size_t length)
{
    const struct setting *near = NULL;
    unsigned best = 3;
    if (length > NAME_MAX_LENGTH + 2) return NULL;
    for (const struct setting *setting = table; setting < table + SETTINGS; setting++) {
        unsigned d = distance(name, length, setting->name);
        if (d < best) {
            best = d;
            near = setting;
        }
    }
    return near;
}

static void complain_name(struct line *l, const char *name, size_t length, const char *value)
{
    const struct setting *near = nearest(name, length);
    begin_complaint(l, name, length, value);
    line_text(l, "there is no such setting");
    if (!near) return;
    line_text(l, "; did you mean " PREFIX);
    line_text(l, near->name);
    line_text(l, "?");
}

static const struct setting *find(const char *name, size_t length)
{
    for (const struct setting *setting = table; setting < table + SETTINGS; setting++)
        if (strlen(setting->name) == length && memcmp(setting->name, name, length) == 0) return setting;
    return NULL;
}

// One variable of the environment; seen has a bit for every setting that came before it.
static void read_variable(struct settings *s, const char *variable, int pid, uint32_t *seen, struct line *l)
{
    const char *name = variable + PREFIX_LENGTH;
    const size_t length = strcspn(name, "=");
    if (!name[length]) return;
    const char *value = name + length + 1;
    const struct setting *setting = find(name, length);
    if (!setting) {
        complain_name(l, name, length, value);
        return;
    }
    const uint32_t bit = UINT32_C(1) << (setting - table);
    if (*seen & bit) return;
    *seen |= bit;
    if (!set[setting->how](s, setting, value, pid)) complain_value(l, setting, value);
}

void settings_read(struct settings *s, char *const *env, int pid, settings_complaint *complain, void *context)
{
    memset(s, 0, sizeof *s);
    for (const struct setting *setting = table; setting < table + SETTINGS; setting++)
        set[setting->how](s, setting, setting->fallback, pid);
    uint32_t seen = 0;
    for (; env && *env; env++) {
        char text[320];
        struct line l = line_start(text, sizeof text - 1);
        if (strncmp(*env, PREFIX, PREFIX_LENGTH) != 0) continue;
        read_variable(s, *env, pid, &seen, &l);
        text[l.n] = '\0';
        if (l.n && complain) complain(context, text);
    }
}
