// report_line: the fields of a finding, in the order of the manual, and its sentence.
#include <limits.h>
#include <string.h>

#include "address.h"
#include "line.h"
#include "modules.h"
#include "report.h"
#include "sentence.h"

// Never inlined: what it has on the stack is not there while the other fields are written, which may look far.
#define APART __attribute__((noinline))

struct out {
    struct line line;
    bool json;
    bool first;         // the next key opens its object
    const char *within; // text: the key of the object that the fields belong to, or NULL
};

// A field is written whole or not at all: from field_begin to field_end, where it is taken back if it did
// not fit. Returns what field_end takes.
static size_t field_begin(struct out *o, const char *key)
{
    size_t start = o->line.n;
    if (o->json) {
        line_text(&o->line, o->first ? "\"" : ",\"");
        line_text(&o->line, key);
        line_text(&o->line, "\":");
    } else {
        line_text(&o->line, " ");
        if (o->within) line_text(&o->line, o->within);
        if (o->within) line_text(&o->line, ".");
        line_text(&o->line, key);
        line_text(&o->line, "=");
    }
    return start;
}

static bool field_end(struct out *o, size_t start)
{
    if (o->line.full) {
        o->line.n = start;
        o->line.full = false;
        return false;
    }
    o->first = false;
    return true;
}

static bool field_string(struct out *o, const char *key, const char *s, size_t n)
{
    if (!n) return false;
    size_t start = field_begin(o, key);
    if (o->json)
        line_json(&o->line, s, n);
    else
        line_value(&o->line, s, n, SIZE_MAX);
    return field_end(o, start);
}

static void field_name(struct out *o, const char *key, const char *name)
{
    field_string(o, key, name, strlen(name));
}

static void field_number(struct out *o, const char *key, int64_t number)
{
    if (number == UNKNOWN) return;
    size_t start = field_begin(o, key);
    line_signed(&o->line, number);
    field_end(o, start);
}

APART static void field_address(struct out *o, const char *key, const struct address *a)
{
    char text[ADDRESS_TEXT_MAX];
    field_string(o, key, text, address_text(a, text));
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

// Days since 1970-01-01 → year, month and day of the Gregorian calendar.
static void civil_day(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned y = 1970, m = 0;
    for (int64_t length; days >= (length = is_leap(y) ? 366 : 365); y++) days -= length;
    for (int64_t length; days >= (length = lengths[m] + (m == 1 && is_leap(y))); m++) days -= length;
    *year = y;
    *month = m + 1;
    *day = (unsigned)days + 1;
}

// RFC 3339 knows years of four digits; a clock before 1970 or behind 9999 is shown as the end of that.
APART static void field_time(struct out *o, int64_t us)
{
    const int64_t last = INT64_C(253402300799999999);
    const uint64_t now = (uint64_t)(us < 0 ? 0 : us > last ? last : us);
    const uint64_t second = now / 1000000;
    unsigned year, month, day;
    char text[32];
    struct line l = line_start(text, sizeof text);
    civil_day((int64_t)(second / 86400), &year, &month, &day);
    const struct {
        uint64_t number;
        unsigned width;
        const char *before;
    } parts[] = {
        {year, 4, ""},
        {month, 2, "-"},
        {day, 2, "-"},
        {second / 3600 % 24, 2, "T"},
        {second / 60 % 60, 2, ":"},
        {second % 60, 2, ":"},
        {now % 1000000, 6, "."},
    };
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        line_text(&l, parts[i].before);
        line_padded(&l, parts[i].number, parts[i].width);
    }
    line_text(&l, "Z");
    field_string(o, "time", text, l.n);
}

// Begins an object: its fields follow, as "key.field=" in text. Returns what object_end takes.
static size_t object_begin(struct out *o, const char *key)
{
    size_t start = o->line.n;
    if (o->json) {
        field_begin(o, key);
        line_text(&o->line, "{");
    }
    o->line.limit--; // for the brace
    o->within = key;
    o->first = true;
    return start;
}

static void object_end(struct out *o, size_t start)
{
    o->line.limit++;
    o->within = NULL;
    if (o->first)
        o->line.n = start; // nothing of it is known, or nothing fitted
    else if (o->json)
        line_text(&o->line, "}");
    o->first = false; // an object is never the first field
}

// The frames of a place as text, side by side: frame i ends at end[i], after the comma that follows it. As many
// as a line can hold, and the first in any case.
struct frames {
    unsigned n;
    size_t end[PLACE_FRAMES_MAX];
    char text[PATH_MAX + LINE_MAX_BYTES];
};

static void name_frames(const struct place *p, struct frames *f)
{
    unsigned callers;
    const uintptr_t *caller = place_callers(p, &callers);
    struct line l = line_start(f->text, sizeof f->text);
    for (f->n = 0; f->n <= callers && f->n < PLACE_FRAMES_MAX; f->n++) {
        const char *text;
        size_t n = modules_place(f->n ? caller[f->n - 1] : p->pc, &text);
        line_bytes(&l, text, n);
        line_text(&l, ",");
        if (l.full) break;
        f->end[f->n] = l.n;
    }
}

// ["/usr/bin/server+0x11d2", ...], or with commas between in text: the frames from byte start of the text on, n
// of them. Returns false, and writes nothing, if they do not fit below limit.
static bool field_frames(struct out *o, const struct frames *f, size_t start, unsigned n, size_t limit)
{
    const size_t whole = o->line.limit, begin = field_begin(o, "at");
    o->line.limit = limit;
    if (!o->json) line_value(&o->line, f->text + start, f->end[n - 1] - 1 - start, SIZE_MAX);
    for (unsigned i = 0; o->json && i < n; start = f->end[i++]) {
        line_text(&o->line, i ? "," : "[");
        line_json(&o->line, f->text + start, f->end[i] - 1 - start);
    }
    if (o->json) line_text(&o->line, "]");
    const bool fits = field_end(o, begin);
    o->line.limit = whole;
    return fits;
}

// The frames of a place: the first with its file name alone if the path is too long for the line, and as many of
// the others as leave room for the places to come, of which this is the first.
APART static void field_at(struct out *o, const struct place *p, unsigned places)
{
    static struct frames f;
    if (!p->pc) return;
    name_frames(p, &f);
    const size_t share = (o->line.limit - o->line.n) / places;
    for (unsigned n = f.n; n > 1; n--)
        if (f.end[n - 1] <= share && field_frames(o, &f, 0, n, o->line.n + share)) return;
    if (field_frames(o, &f, 0, 1, o->line.limit)) return;
    const char *slash = memrchr(f.text, '/', f.end[0]);
    if (slash) field_frames(o, &f, (size_t)(slash + 1 - f.text), 1, o->line.limit);
}

static void field_place(struct out *o, const char *key, const struct place *p, unsigned places)
{
    size_t start = object_begin(o, key);
    if (!o->line.full) {
        field_name(o, "call", call_name(p->call));
        if (p->tid) {
            field_number(o, "tid", p->tid);
            field_name(o, "thread", thread_name_once(p->tid));
        }
        field_at(o, p, places);
    }
    o->line.full = false;
    object_end(o, start);
}

static void json_thread(struct out *o, const struct blocked_thread *t)
{
    line_text(&o->line, "{\"tid\":");
    line_signed(&o->line, t->tid);
    if (t->name[0]) line_text(&o->line, ",\"name\":");
    if (t->name[0]) line_json(&o->line, t->name, strlen(t->name));
    if (t->call[0]) line_text(&o->line, ",\"call\":");
    if (t->call[0]) line_json(&o->line, t->call, strlen(t->call));
    line_text(&o->line, "}");
}

// [{"tid":17,"name":"worker","call":"recvfrom"}, ...]: as many as fit.
static void json_threads(struct out *o, const struct blocked *b, unsigned told)
{
    size_t start = field_begin(o, "threads"), whole = 0;
    line_text(&o->line, "[");
    o->line.limit--; // for the bracket
    for (unsigned i = 0; i < told; i++) {
        if (i) line_text(&o->line, ",");
        json_thread(o, &b->thread[i]);
        if (o->line.full) break;
        whole = o->line.n;
    }
    o->line.limit++;
    if (whole) {
        o->line.n = whole;
        o->line.full = false;
        line_text(&o->line, "]");
    }
    field_end(o, start);
}

// threads=17:worker:recvfrom,18:worker:recvfrom
static void text_threads(struct out *o, const struct blocked *b, unsigned told)
{
    char text[THREADS_TOLD * 48];
    struct line l = line_start(text, sizeof text);
    for (unsigned i = 0; i < told; i++) {
        const struct blocked_thread *t = &b->thread[i];
        if (i) line_text(&l, ",");
        line_signed(&l, t->tid);
        line_text(&l, ":");
        line_text(&l, t->name);
        line_text(&l, ":");
        line_text(&l, t->call);
    }
    field_string(o, "threads", text, l.n);
}

static void field_threads(struct out *o, const struct blocked *b)
{
    if (!b || !b->n) return;
    const unsigned told = b->n < THREADS_TOLD ? b->n : THREADS_TOLD;
    if (o->json)
        json_threads(o, b, told);
    else
        text_threads(o, b, told);
}

static void field_counts(struct out *o, const uint64_t *counts)
{
    if (!counts) return;
    size_t start = object_begin(o, "counts");
    for (unsigned e = 0; e < EVENT_COUNT && !o->line.full; e++)
        if (counts[e]) field_number(o, event_name((enum event)e), (int64_t)counts[e]);
    o->line.full = false;
    object_end(o, start);
}

static void json_leak(struct out *o, const struct leak *k)
{
    struct line *l = &o->line;
    line_text(l, "{\"opened\":{\"call\":\"");
    line_text(l, call_name(k->opened.call));
    if (k->opened.pc) {
        const char *text;
        size_t n = modules_place(k->opened.pc, &text);
        line_text(l, "\",\"at\":[");
        line_json(l, text, n);
        line_text(l, "]},\"now\":");
    } else {
        line_text(l, "\"},\"now\":");
    }
    line_unsigned(l, k->now);
    line_text(l, ",\"most\":");
    line_unsigned(l, k->most);
    line_text(l, ",\"oldest_ms\":");
    line_signed(l, k->oldest_ms);
    if (k->trend != TREND_UNKNOWN) line_text(l, ",\"trend\":\"");
    line_text(l, trend_name(k->trend));
    line_text(l, k->trend != TREND_UNKNOWN ? "\"}" : "}");
}

// accept4 at /usr/bin/server+0x11d2 now 3 most 5 oldest_ms 71000 growing
static void text_leak(struct out *o, const struct leak *k)
{
    struct line *l = &o->line;
    line_text(l, k->opened.call == CALL_NONE ? "elsewhere" : call_name(k->opened.call));
    if (k->opened.pc) {
        const char *text;
        size_t n = modules_place(k->opened.pc, &text);
        line_text(l, " at ");
        l->nested = true;
        line_value(l, text, n, SIZE_MAX);
        l->nested = false;
    }
    line_text(l, " now ");
    line_unsigned(l, k->now);
    line_text(l, " most ");
    line_unsigned(l, k->most);
    line_text(l, " oldest_ms ");
    line_signed(l, k->oldest_ms);
    if (k->trend != TREND_UNKNOWN) line_text(l, " ");
    line_text(l, trend_name(k->trend));
}

// [{"opened":{"call":"accept4","at":["/usr/bin/server+0x11d2"]},"now":3,...}, ...]: as many as fit.
static void field_leaks(struct out *o, const struct leak *leak, unsigned n)
{
    if (!n) return;
    size_t start = field_begin(o, "leaks"), whole = 0;
    line_text(&o->line, o->json ? "[" : "\"");
    o->line.limit--; // for the bracket or the quote
    for (unsigned i = 0; i < n; i++) {
        if (i) line_text(&o->line, o->json ? "," : ", ");
        (o->json ? json_leak : text_leak)(o, &leak[i]);
        if (o->line.full) break;
        whole = o->line.n;
    }
    o->line.limit++;
    if (whole) {
        o->line.n = whole;
        o->line.full = false;
        line_text(&o->line, o->json ? "]" : "\"");
    }
    field_end(o, start);
}

static void field_facts(struct out *o, const struct facts *f)
{
    if (!f) return;
    if (f->cookie) {
        size_t start = field_begin(o, "cookie");
        line_unsigned(&o->line, f->cookie);
        field_end(o, start);
    }
    field_name(o, "type", kind_name(f->kind));
    field_name(o, "state", state_name(f->state));
    field_address(o, "local", &f->local);
    field_address(o, "peer", &f->peer);
    field_number(o, "unread", f->unread);
    field_number(o, "unsent", f->unsent);
    field_number(o, "backlog", f->backlog);
}

static const char *level_name(const struct finding *f)
{
    static const char *const names[] = {
        [LEVEL_WARNING] = "warning", [LEVEL_NOTICE] = "notice", [LEVEL_INFO] = "info"};
    return names[finding_level(f)];
}

static void fields(struct out *o, const struct finding *f, const struct line_context *c)
{
    field_time(o, c->time_us);
    field_number(o, "pid", c->pid);
    field_name(o, "comm", c->comm);
    if (o->json) field_name(o, "level", level_name(f));
    if (o->json) field_name(o, "event", event_name(f->event));
    field_number(o, "fd", f->fd);
    field_facts(o, f->facts);
    field_number(o, "age_ms", f->age_ms);
    if (f->close_wait_ms) field_number(o, "close_wait_ms", f->close_wait_ms);
    if (f->blocked_ms > 0) field_number(o, "blocked_ms", f->blocked_ms);
    if (f->acted) field_name(o, "action", action_name(f->action));
    if (f->acted) field_name(o, "reason", reason_name(f->reason));
    field_threads(o, f->blocked);
    const unsigned used = f->used.pc ? 1 : 0;
    field_place(o, "opened", &f->opened, 2 + used);
    field_place(o, "closed", &f->closed, 1 + used);
    field_place(o, "used", &f->used, 1);
    if (f->event == EVENT_SUMMARY) {
        field_counts(o, c->counts);
        field_leaks(o, c->leak, c->leaks);
    } else if (c->held_back) {
        field_number(o, "held_back", (int64_t)c->held_back);
    }
}

// The sentence, cut with "..." if it is longer than limit allows.
static void cut_sentence(struct line *l, size_t limit, const struct finding *f, const struct line_context *c)
{
    static const char dots[] = "...";
    l->limit = limit - (sizeof dots - 1);
    sentence(l, f, c);
    l->limit = limit;
    if (!l->full) return;
    l->full = false;
    line_text(l, dots);
}

static void json_line(struct out *o, size_t size, const struct finding *f, const struct line_context *c)
{
    static const char before[] = ",\"text\":\"", behind[] = "\"}\n";
    struct line *l = &o->line;
    line_text(l, "{");
    o->first = true;
    l->limit = size - size / 4; // the rest is the sentence's, whatever the fields hold
    fields(o, f, c);
    l->limit = size;
    line_text(l, before);
    l->nested = true;
    cut_sentence(l, size - (sizeof behind - 1), f, c);
    l->nested = false;
    l->limit = size;
    line_text(l, behind);
}

static void text_line(struct out *o, size_t size, const struct finding *f, const struct line_context *c)
{
    struct line *l = &o->line;
    line_text(l, "preclose: ");
    line_text(l, level_name(f));
    line_text(l, ": ");
    line_text(l, event_name(f->event));
    line_text(l, ": ");
    cut_sentence(l, size / 2, f, c);
    l->limit = size - 1;
    fields(o, f, c);
    l->limit = size;
    line_text(l, "\n");
}

size_t report_line(char *line, size_t size, enum format format, const struct finding *f,
                   const struct line_context *c)
{
    struct out o = {.line = line_start(line, size), .json = format == FORMAT_JSON};
    if (size < 512) return 0;
    if (o.json)
        json_line(&o, size, f, c);
    else
        text_line(&o, size, f, c);
    return o.line.n;
}
