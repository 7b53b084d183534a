#include "log.h"

#include <stddef.h>
#include <string.h>

#include "json.h"

enum how { HOW_NUMBER, HOW_STRING, HOW_PLACE, HOW_TIME, HOW_THREADS, HOW_COUNTS, HOW_LEAKS };

static const struct field {
    const char *key;
    enum how how;
    size_t offset; // in struct finding
} fields[] = {
    {"time", HOW_TIME, offsetof(struct finding, time_us)},
#define NUMBER(key, member) {key, HOW_NUMBER, offsetof(struct finding, member)},
#define MEASURE(id, key, unit) \
    {key, HOW_NUMBER, offsetof(struct finding, measure) + MEASURE_##id * sizeof(int64_t)},
#define STRING(key, member) {key, HOW_STRING, offsetof(struct finding, member)},
#define PLACE(id, key) \
    {key, HOW_PLACE, offsetof(struct finding, place) + PLACE_##id * sizeof(struct log_place)},
#include "fields.def"
#undef NUMBER
#undef MEASURE
#undef STRING
#undef PLACE
    {"threads", HOW_THREADS, 0},
    {"counts", HOW_COUNTS, 0},
    {"leaks", HOW_LEAKS, 0},
};

enum { FIELDS = sizeof fields / sizeof fields[0], SLOTS = 128 };

static unsigned slot_of(const char *key, size_t n)
{
    const unsigned char *k = (const unsigned char *)key;
    return (k[0] * 5u + k[n - 1] * 11u + k[n / 2] * 3u + (unsigned)n * 17u) % SLOTS;
}

// The field with this key: looked for in every line many times, so by a small hash table.
static const struct field *field_of(struct slice key)
{
    static const struct field *slots[SLOTS];
    static bool filled;
    for (size_t i = 0; !filled && i < FIELDS; i++) {
        unsigned at = slot_of(fields[i].key, strlen(fields[i].key));
        while (slots[at]) at = (at + 1) % SLOTS;
        slots[at] = &fields[i];
    }
    filled = true;
    if (!key.n) return NULL;
    for (unsigned at = slot_of(key.at, key.n); slots[at]; at = (at + 1) % SLOTS)
        if (slice_is(key, slots[at]->key)) return slots[at];
    return NULL;
}

static int64_t *number_at(struct finding *f, const struct field *field)
{
    return (int64_t *)(void *)((char *)f + field->offset);
}

static struct slice *string_at(struct finding *f, const struct field *field)
{
    return (struct slice *)(void *)((char *)f + field->offset);
}

static struct log_place *place_at(struct finding *f, const struct field *field)
{
    return (struct log_place *)(void *)((char *)f + field->offset);
}

// A number of n digits at s, or -1.
static int digits(const char *s, unsigned n)
{
    int value = 0;
    for (unsigned i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        value = value * 10 + (s[i] - '0');
    }
    return value;
}

// Days from 1970-01-01 to a day of the Gregorian calendar: years are counted from March, so that the leap day
// is the last of its year.
static int64_t days_before(int year, int month, int day)
{
    const int64_t y = month > 2 ? year : year - 1;
    const int64_t m = month > 2 ? month - 3 : month + 9;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

// "+01:00": in seconds. False if it is none.
static bool read_zone(struct slice s, int *seconds)
{
    *seconds = 0;
    if (slice_is(s, "Z") || slice_is(s, "z")) return true;
    if (s.n != 6 || (s.at[0] != '+' && s.at[0] != '-') || s.at[3] != ':') return false;
    const int hours = digits(s.at + 1, 2), minutes = digits(s.at + 4, 2);
    if (hours < 0 || minutes < 0) return false;
    *seconds = (hours * 60 + minutes) * 60 * (s.at[0] == '-' ? -1 : 1);
    return true;
}

// RFC 3339: "2026-11-21T14:10:40.023035Z". LOG_UNKNOWN if it is none.
static int64_t read_time(struct slice s)
{
    int zone;
    if (s.n < 20 || s.at[4] != '-' || s.at[7] != '-' || s.at[13] != ':' || s.at[16] != ':')
        return LOG_UNKNOWN;
    const int year = digits(s.at, 4), month = digits(s.at + 5, 2), day = digits(s.at + 8, 2);
    const int hour = digits(s.at + 11, 2), minute = digits(s.at + 14, 2), second = digits(s.at + 17, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > 31) return LOG_UNKNOWN;
    if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return LOG_UNKNOWN;
    int64_t micro = 0;
    size_t at = 19;
    if (s.at[at] == '.')
        for (int64_t unit = 100000; ++at < s.n && s.at[at] >= '0' && s.at[at] <= '9'; unit /= 10)
            micro += unit * (s.at[at] - '0');
    if (at >= s.n || !read_zone((struct slice){s.at + at, s.n - at}, &zone)) return LOG_UNKNOWN;
    const int64_t days = days_before(year, month, day);
    return (((days * 24 + hour) * 60 + minute) * 60 + second - zone) * 1000000 + micro;
}

// The string of a value, without escapes.
static struct slice string_of(struct log_memory *m, const struct json_value *v)
{
    if (v->type != JSON_STRING) return (struct slice){"", 0};
    if (!v->escaped || v->text.n > sizeof m->bytes - m->n) return v->text;
    struct slice s = {m->bytes + m->n, json_unescape(v->text, m->bytes + m->n)};
    m->n += s.n;
    return s;
}

static int64_t number_of(const struct json_value *v)
{
    int64_t number;
    return v->type == JSON_NUMBER && slice_number(v->text, &number) ? number : LOG_UNKNOWN;
}

// Adds a frame to those of a place, which are the last in memory.
static void add_frame(struct log_memory *m, struct slice frame, struct slice *at)
{
    if (!frame.n || frame.n + 1 > sizeof m->frames - m->frames_n) return;
    char *to = m->frames + m->frames_n;
    if (at->n)
        *to++ = '\n';
    else
        at->at = to;
    for (size_t i = 0; i < frame.n; i++) to[i] = (char)(frame.at[i] == '\n' ? '?' : frame.at[i]);
    m->frames_n = (size_t)(to + frame.n - m->frames);
    at->n = (size_t)(to + frame.n - at->at);
}

static void json_frames(struct log_memory *m, const struct json_value *v, struct slice *at)
{
    struct json_value frame;
    if (v->type == JSON_STRING) add_frame(m, string_of(m, v), at);
    if (v->type != JSON_ARRAY) return;
    struct json j = json_open(v->text);
    while (json_element(&j, &frame)) add_frame(m, string_of(m, &frame), at);
}

static void json_place(struct log_memory *m, const struct json_value *v, struct log_place *p)
{
    struct json j = json_open(v->text);
    struct json_value value;
    struct slice key;
    while (v->type == JSON_OBJECT && json_member(&j, &key, &value)) {
        if (slice_is(key, "call")) p->call = string_of(m, &value);
        if (slice_is(key, "thread")) p->thread = string_of(m, &value);
        if (slice_is(key, "at")) json_frames(m, &value, &p->at);
    }
}

static void json_threads(struct log_memory *m, const struct json_value *v, struct finding *f)
{
    struct json j = json_open(v->text), members;
    struct json_value thread, value;
    struct slice key;
    while (v->type == JSON_ARRAY && json_element(&j, &thread)) {
        const unsigned i = f->threads++;
        if (i >= THREADS_READ) continue;
        f->thread[i].name = f->thread[i].call = (struct slice){0};
        if (thread.type != JSON_OBJECT) continue;
        members = json_open(thread.text);
        while (json_member(&members, &key, &value)) {
            if (slice_is(key, "name")) f->thread[i].name = string_of(m, &value);
            if (slice_is(key, "call")) f->thread[i].call = string_of(m, &value);
        }
    }
}

static void json_counts(struct log_memory *m, const struct json_value *v, struct finding *f)
{
    struct json j = json_open(v->text);
    struct json_value value;
    struct slice key;
    (void)m;
    while (v->type == JSON_OBJECT && f->counts < COUNTS_READ && json_member(&j, &key, &value)) {
        f->count[f->counts].event = key;
        f->count[f->counts].n = number_of(&value);
        f->counts++;
    }
}

static void json_leak(struct log_memory *m, const struct json_value *v, struct log_leak *k)
{
    struct json j = json_open(v->text);
    struct json_value value;
    struct slice key;
    struct log_place opened = {0};
    *k = (struct log_leak){.now = LOG_UNKNOWN, .most = LOG_UNKNOWN, .oldest_ms = LOG_UNKNOWN};
    while (v->type == JSON_OBJECT && json_member(&j, &key, &value)) {
        if (slice_is(key, "opened")) json_place(m, &value, &opened);
        if (slice_is(key, "now")) k->now = number_of(&value);
        if (slice_is(key, "most")) k->most = number_of(&value);
        if (slice_is(key, "oldest_ms")) k->oldest_ms = number_of(&value);
        if (slice_is(key, "trend")) k->trend = string_of(m, &value);
    }
    k->call = opened.call;
    k->at = opened.at;
}

static void json_leaks(struct log_memory *m, const struct json_value *v, struct finding *f)
{
    struct json j = json_open(v->text);
    struct json_value value;
    while (v->type == JSON_ARRAY && f->leaks < LEAKS_READ && json_element(&j, &value))
        json_leak(m, &value, &f->leak[f->leaks++]);
}

static void json_field(struct log_memory *m, const struct field *field, const struct json_value *v,
                       struct finding *f)
{
    switch (field->how) {
    case HOW_NUMBER:
        *number_at(f, field) = number_of(v);
        break;
    case HOW_STRING:
        *string_at(f, field) = string_of(m, v);
        break;
    case HOW_TIME:
        f->time_us = read_time(string_of(m, v));
        break;
    case HOW_PLACE:
        json_place(m, v, place_at(f, field));
        break;
    case HOW_THREADS:
        json_threads(m, v, f);
        break;
    case HOW_COUNTS:
        json_counts(m, v, f);
        break;
    case HOW_LEAKS:
        json_leaks(m, v, f);
        break;
    }
}

static enum log_line read_json(struct log_memory *m, struct slice line, struct finding *f)
{
    struct json j = json_open(line);
    struct json_value value;
    struct slice key;
    while (json_member(&j, &key, &value)) {
        const struct field *field = field_of(key);
        if (field) json_field(m, field, &value, f);
    }
    if (j.bad) return LOG_BROKEN;
    return f->event.n ? LOG_FINDING : LOG_OTHER;
}

// The text format.

// A logfmt value at *s: bare up to a space, or a JSON string. Moves *s behind it and its space.
static struct slice text_value(struct log_memory *m, struct slice *s)
{
    struct json_value v;
    if (!s->n || s->at[0] != '"' || !json_string(s, &v)) return slice_cut(s, ' ');
    if (s->n && s->at[0] == ' ') slice_cut(s, ' ');
    return string_of(m, &v);
}

static int64_t text_number(struct slice s)
{
    int64_t number;
    return slice_number(s, &number) ? number : LOG_UNKNOWN;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

// Does s end in "0x" and hexadecimal digits?
static bool ends_in_offset(struct slice s)
{
    size_t n = s.n;
    while (n && is_hex(s.at[n - 1])) n--;
    return n < s.n && n >= 2 && s.at[n - 1] == 'x' && s.at[n - 2] == '0';
}

// "module+0x1f,module+0x2e": a path may have commas in it, so only one behind an offset parts frames.
static void text_frames(struct log_memory *m, struct slice s, struct slice *at)
{
    struct slice frame = {s.at, 0};
    for (const char *end = s.at; end < s.at + s.n; end++) {
        frame.n = (size_t)(end - frame.at);
        if (*end != ',' || !ends_in_offset(frame)) continue;
        add_frame(m, frame, at);
        frame.at = end + 1;
    }
    frame.n = (size_t)(s.at + s.n - frame.at);
    add_frame(m, frame, at);
}

// "17:worker:recvfrom": false if it is no such thing.
static bool text_thread(struct slice s, struct slice *name, struct slice *call)
{
    int64_t tid;
    const struct slice number = slice_cut(&s, ':');
    const char *last = s.n ? memrchr(s.at, ':', s.n) : NULL;
    if (!slice_number(number, &tid) || !last) return false;
    *name = (struct slice){s.at, (size_t)(last - s.at)};
    *call = (struct slice){last + 1, s.n - name->n - 1};
    return true;
}

// "17:worker:recvfrom,18:worker:accept4"
static void text_threads(struct slice s, struct finding *f)
{
    while (s.n) {
        const struct slice one = slice_cut(&s, ',');
        const unsigned i = f->threads;
        struct slice name, call;
        if (!text_thread(one, &name, &call)) continue;
        f->threads++;
        if (i < THREADS_READ) f->thread[i].name = name;
        if (i < THREADS_READ) f->thread[i].call = call;
    }
}

// "accept4 at /usr/bin/server+0x11d2 now 3 most 5 oldest_ms 71000 growing"
static void text_leak(struct log_memory *m, struct slice s, struct log_leak *k)
{
    *k = (struct log_leak){.now = LOG_UNKNOWN, .most = LOG_UNKNOWN, .oldest_ms = LOG_UNKNOWN};
    k->call = slice_cut(&s, ' ');
    while (s.n) {
        const struct slice word = slice_cut(&s, ' ');
        if (slice_is(word, "at"))
            add_frame(m, text_value(m, &s), &k->at);
        else if (slice_is(word, "now"))
            k->now = text_number(slice_cut(&s, ' '));
        else if (slice_is(word, "most"))
            k->most = text_number(slice_cut(&s, ' '));
        else if (slice_is(word, "oldest_ms"))
            k->oldest_ms = text_number(slice_cut(&s, ' '));
        else
            k->trend = word;
    }
}

static void text_leaks(struct log_memory *m, struct slice s, struct finding *f)
{
    while (s.n && f->leaks < LEAKS_READ) {
        const char *comma = slice_find(s, ", ");
        const struct slice one = {s.at, comma ? (size_t)(comma - s.at) : s.n};
        text_leak(m, one, &f->leak[f->leaks++]);
        s.at += one.n + (comma ? 2 : 0);
        s.n -= one.n + (comma ? 2 : 0);
    }
}

static void text_in_place(struct log_memory *m, struct slice key, struct slice value, struct log_place *p)
{
    if (slice_is(key, "call")) p->call = value;
    if (slice_is(key, "thread")) p->thread = value;
    if (slice_is(key, "at")) text_frames(m, value, &p->at);
}

static void text_counted(struct slice event, struct slice value, struct finding *f)
{
    if (f->counts == COUNTS_READ) return;
    f->count[f->counts].event = event;
    f->count[f->counts].n = text_number(value);
    f->counts++;
}

// "key=value", or "object.key=value": rest is the key within.
static void text_field(struct log_memory *m, struct slice key, struct slice rest, struct slice value,
                       struct finding *f)
{
    const struct field *field = field_of(key);
    if (!field) return;
    switch (field->how) {
    case HOW_NUMBER:
        *number_at(f, field) = text_number(value);
        break;
    case HOW_STRING:
        *string_at(f, field) = value;
        break;
    case HOW_TIME:
        f->time_us = read_time(value);
        break;
    case HOW_PLACE:
        text_in_place(m, rest, value, place_at(f, field));
        break;
    case HOW_THREADS:
        text_threads(value, f);
        break;
    case HOW_COUNTS:
        text_counted(rest, value, f);
        break;
    case HOW_LEAKS:
        text_leaks(m, value, f);
        break;
    }
}

// Where the sentence ends and the fields begin: at the first " time=" that is not inside quotes.
static const char *fields_of(struct slice s)
{
    while (s.n) {
        struct json_value v;
        if (slice_begins(s, " time=")) return s.at;
        if (s.at[0] == '"' && json_string(&s, &v)) continue;
        s.at++;
        s.n--;
    }
    return NULL;
}

// "warning: unread-reset: sentence time=... key=value ..."
static enum log_line read_text(struct log_memory *m, struct slice s, struct finding *f)
{
    static const char *const levels[] = {"warning", "notice", "info"};
    bool known = false;
    f->level = slice_cut(&s, ':');
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) known |= slice_is(f->level, levels[i]);
    if (!known || !slice_begins(s, " ")) return LOG_OTHER;
    slice_cut(&s, ' ');
    f->event = slice_cut(&s, ':');
    if (!f->event.n || memchr(f->event.at, ' ', f->event.n)) return LOG_BROKEN;
    if (s.n) slice_cut(&s, ' ');
    const char *start = fields_of(s);
    if (!start) return LOG_BROKEN;
    f->text = (struct slice){s.at, (size_t)(start - s.at)};
    s = (struct slice){start + 1, s.n - f->text.n - 1};
    while (s.n) {
        struct slice key = slice_cut(&s, '='), rest = key;
        const struct slice value = text_value(m, &s);
        const struct slice outer = slice_cut(&rest, '.');
        text_field(m, rest.n ? outer : key, rest, value, f);
    }
    return f->time_us == LOG_UNKNOWN ? LOG_BROKEN : LOG_FINDING;
}

static void start_anew(struct log_memory *m, struct finding *f)
{
    m->n = m->frames_n = 0;
    memset(f, 0, offsetof(struct finding, thread));
    f->counts = f->leaks = 0;
    f->time_us = f->pid = f->fd = f->cookie = f->held = LOG_UNKNOWN;
    for (unsigned i = 0; i < MEASURE_COUNT; i++) f->measure[i] = LOG_UNKNOWN;
}

enum log_line log_read(struct log_memory *m, const char *line, size_t n, struct finding *f)
{
    static const char mark[] = "preclose: ", object[] = "{\"time\":";
    struct slice s = {line, n};
    enum log_line result = LOG_OTHER;
    const char *found;
    start_anew(m, f);
    while (s.n && (s.at[0] == ' ' || s.at[0] == '\t')) s.at++, s.n--;
    while (s.n && (s.at[s.n - 1] == '\r' || s.at[s.n - 1] == ' ')) s.n--;
    if (!s.n) return LOG_EMPTY;
    // A collector of logs, or a program that writes to the same stderr, may have put something in front.
    if (s.at[0] == '{')
        result = read_json(m, s, f);
    else if ((found = slice_find(s, mark)))
        result = read_text(
            m, (struct slice){found + strlen(mark), s.n - (size_t)(found - s.at) - strlen(mark)}, f);
    else if ((found = slice_find(s, object)))
        result = read_json(m, (struct slice){found, s.n - (size_t)(found - s.at)}, f);
    return result;
}
