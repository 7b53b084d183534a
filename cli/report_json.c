// The report for a program: one JSON object, with everything.
#include <stdlib.h>
#include <string.h>

#include "view.h"

static void out_symbol(struct json_out *o, const struct symbol *s)
{
    out_open(o, NULL, '{');
    if (s->function) out_string(o, "function", slice_of(s->function));
    if (s->file) out_string(o, "file", slice_of(s->file));
    if (s->line) out_number(o, "line", s->line);
    out_close(o, '}');
}

static void out_frame(const struct view *v, struct json_out *o, struct slice frame)
{
    const struct place_symbols *p = v->symbols ? symbols_of(v->symbols, frame) : NULL;
    out_open(o, NULL, '{');
    out_string(o, "at", frame);
    if (p && p->n) {
        out_open(o, "functions", '[');
        for (unsigned i = 0; i < p->n; i++) out_symbol(o, &p->symbol[i]);
        out_close(o, ']');
    }
    out_close(o, '}');
}

// "place": {"call", "name", "frames": [{"at", "functions": [{"function", "file", "line"}]}]}
static void out_place(const struct view *v, struct json_out *o, const char *key, struct slice call,
                      struct slice at)
{
    out_open(o, key, '{');
    if (call.n) out_string(o, "call", call);
    if (at.n) {
        out_open(o, "frames", '[');
        for (struct slice rest = at; rest.n;) out_frame(v, o, slice_cut(&rest, '\n'));
        out_close(o, ']');
    }
    out_close(o, '}');
}

static void out_time(struct json_out *o, const char *key, int64_t us)
{
    char text[NUMBER_MAX], stamp[NUMBER_MAX];
    if (us == LOG_UNKNOWN) return;
    text_time(text, us);
    snprintf(stamp, sizeof stamp, "%.10sT%.8sZ", text, text + strlen("2026-11-21 "));
    out_string(o, key, slice_of(stamp));
}

static void out_names(struct json_out *o, const char *key, const struct names *names)
{
    if (!names->n) return;
    struct name *sorted = names_sorted(names);
    out_open(o, key, '{');
    for (unsigned i = 0; i < names->n; i++) out_number(o, sorted[i].name, (int64_t)sorted[i].count);
    out_close(o, '}');
    free(sorted);
    if (!names->others) return;
    char more[64];
    snprintf(more, sizeof more, "%s_others", key);
    out_number(o, more, (int64_t)names->others);
}

static const char *const measure_keys[MEASURE_COUNT] = {
#define NUMBER(key, member)
#define MEASURE(id, key, unit) [MEASURE_##id] = key,
#define STRING(key, member)
#define PLACE(id, key)
#include "fields.def"
#undef NUMBER
#undef MEASURE
#undef STRING
#undef PLACE
};

// "unread": {"findings": 3, "sum": 12, "most": 7}
static void out_measures(struct json_out *o, const struct group *g)
{
    for (unsigned i = 0; i < MEASURE_COUNT; i++) {
        if (!g->measure[i].n) continue;
        out_open(o, measure_keys[i], '{');
        out_number(o, "findings", (int64_t)g->measure[i].n);
        out_number(o, "sum", g->measure[i].sum);
        out_number(o, "most", g->measure[i].most);
        out_close(o, '}');
    }
}

// Counts over time: from the first bucket that has something to the last.
static void out_series(struct json_out *o, const struct series *s)
{
    int low = 0, high = SERIES_BUCKETS;
    if (!s->second) return;
    while (low < high && !s->n[low]) low++;
    while (high > low && !s->n[high - 1]) high--;
    out_open(o, "over_time", '{');
    out_number(o, "first", (s->first + low) * s->second);
    out_number(o, "seconds", s->second);
    out_open(o, "counts", '[');
    for (int i = low; i < high; i++) out_number(o, NULL, s->n[i]);
    out_close(o, ']');
    out_close(o, '}');
}

static void out_group(const struct view *v, struct json_out *o, const struct group *g)
{
    out_open(o, NULL, '{');
    out_string(o, "event", slice_of(g->event));
    out_string(o, "class", slice_of(class_name(g->class)));
    out_string(o, "level", slice_of(level_name(g->level)));
    out_number(o, "count", (int64_t)group_total(g));
    out_number(o, "held_back", (int64_t)g->held);
    out_string(o, "place", slice_of(place_name(g->place)));
    out_place(v, o, place_name(g->place), slice_of(g->call), slice_of(g->at));
    struct name *others = names_sorted(&g->others);
    out_open(o, "others", '[');
    for (unsigned i = 0; i < g->others.n; i++) {
        const struct view_other other = view_other(others[i].name);
        out_open(o, NULL, '{');
        out_number(o, "count", (int64_t)others[i].count);
        out_place(v, o, place_name(other.place), other.call, other.at);
        out_close(o, '}');
    }
    out_close(o, ']');
    free(others);
    out_time(o, "first", g->first_us);
    out_time(o, "last", g->last_us);
    out_names(o, "comms", &g->comms);
    out_names(o, "threads", &g->threads);
    out_names(o, "peers", &g->peers);
    out_names(o, "actions", &g->actions);
    out_measures(o, g);
    out_series(o, &g->series);
    char *sentence = view_sentence(v, g);
    out_string(o, "text", slice_of(sentence));
    free(sentence);
    out_close(o, '}');
}

static void out_leaks(const struct view *v, struct json_out *o)
{
    size_t n;
    const struct leak **leaks = leaks_sorted(v->tally, &n);
    out_open(o, "close_wait_at_exit", '[');
    for (size_t i = 0; i < n; i++) {
        const struct leak *l = leaks[i];
        out_open(o, NULL, '{');
        out_place(v, o, "opened", slice_of(l->call), slice_of(l->at));
        out_number(o, "now", l->now);
        out_number(o, "most", l->most);
        out_number(o, "oldest_ms", l->oldest_ms);
        out_number(o, "summaries", (int64_t)l->summaries);
        out_number(o, "growing", (int64_t)l->growing);
        out_close(o, '}');
    }
    out_close(o, ']');
    free(leaks);
}

static void out_recent(const struct view *v, struct json_out *o)
{
    const struct tally *t = v->tally;
    const uint64_t first = t->recents > RECENT_MAX ? t->recents - RECENT_MAX : 0;
    out_open(o, "recent", '[');
    for (uint64_t i = first; i < t->recents; i++) {
        const struct recent *r = &t->recent[i % RECENT_MAX];
        out_open(o, NULL, '{');
        out_time(o, "time", r->time_us);
        out_string(o, "level", slice_of(level_name(r->level)));
        out_string(o, "class", slice_of(class_name(r->class)));
        out_string(o, "event", slice_of(r->event));
        out_string(o, "comm", slice_of(r->comm));
        if (r->pid != LOG_UNKNOWN) out_number(o, "pid", r->pid);
        if (r->fd != LOG_UNKNOWN) out_number(o, "fd", r->fd);
        out_string(o, "peer", slice_of(r->peer));
        out_place(v, o, "at", slice_of(r->call), slice_of(r->at));
        out_string(o, "text", slice_of(r->text));
        out_close(o, '}');
    }
    out_close(o, ']');
}

static void out_events(struct json_out *o, const struct tally *t)
{
    out_open(o, "events", '{');
    for (const struct event_count *e = t->events; e; e = e->hh.next) {
        out_open(o, e->event, '{');
        out_number(o, "lines", (int64_t)e->told);
        out_number(o, "held_back", (int64_t)e->held);
        out_number(o, "counted_by_programs", (int64_t)e->summed);
        out_close(o, '}');
    }
    out_close(o, '}');
}

static void tell_doubt(void *context, const char *module, const char *why)
{
    struct json_out *o = context;
    out_open(o, NULL, '{');
    out_string(o, "module", slice_of(module));
    out_string(o, "why", slice_of(why));
    out_close(o, '}');
}

void report_json(const struct view *v, FILE *out, bool with_recent)
{
    struct json_out o = {.out = out};
    const struct tally *t = v->tally;
    uint64_t found = 0;
    out_open(&o, NULL, '{');
    for (enum class c = 0; c < CLASS_COUNT; c++) found += v->totals[c];
    out_string(&o, "preclose", slice_of(PRECLOSE_VERSION));
    out_number(&o, "findings", (int64_t)found);
    out_open(&o, "classes", '{');
    for (enum class c = 0; c < CLASS_COUNT; c++) out_number(&o, class_name(c), (int64_t)v->totals[c]);
    out_close(&o, '}');
    out_open(&o, "classes_counted", '{');
    for (enum class c = 0; c < CLASS_COUNT; c++)
        out_number(&o, class_name(c), (int64_t)(v->totals[c] + v->unwritten[c]));
    out_close(&o, '}');
    out_number(&o, "lines", (int64_t)v->count->lines);
    out_number(&o, "finding_lines", (int64_t)t->findings);
    out_number(&o, "broken_lines", (int64_t)(t->broken + v->count->too_long));
    out_number(&o, "other_lines", (int64_t)t->other);
    out_number(&o, "processes", (int64_t)t->processes);
    out_time(&o, "first", t->first_us);
    out_time(&o, "last", t->last_us);
    out_events(&o, t);
    out_open(&o, "groups", '[');
    for (size_t i = 0; i < v->n; i++) out_group(v, &o, v->groups[i]);
    out_close(&o, ']');
    out_leaks(v, &o);
    out_open(&o, "doubts", '[');
    if (v->symbols && t->last_us != LOG_UNKNOWN) symbols_doubts(v->symbols, t->last_us, tell_doubt, &o);
    out_close(&o, ']');
    if (with_recent && t->recent) out_recent(v, &o);
    out_close(&o, '}');
}
