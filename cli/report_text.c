// The report for a person: what hangs, what leaks and from where, what resets whose data, first.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "view.h"

enum { PLACES_SHOWN = 5, LEAKS_SHOWN = 8, NAMES_SHOWN = 6, FRAMES_SHOWN = 8, INDENT = 8 };

#define INLINED "           inlined in " // below "at "

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void put_number_of(FILE *out, uint64_t n, const char *thing)
{
    char text[NUMBER_MAX];
    fprintf(out, "%s %s%s", text_count(text, n), thing, plural(n));
}

// A line that is put together first, and then wrapped.
struct part {
    FILE *out;
    char *text;
    size_t size;
    bool any;
};

static void part_begin(struct part *p)
{
    *p = (struct part){0};
    p->out = need(open_memstream(&p->text, &p->size));
}

// What follows is another thing in the same line.
static FILE *part_next(struct part *p)
{
    if (p->any) fputs("; ", p->out);
    p->any = true;
    return p->out;
}

static void part_end(struct part *p, FILE *out, int indent, int column, int width)
{
    if (fclose(p->out) != 0) need(NULL);
    if (p->size) {
        fprintf(out, "%*s", column ? 0 : indent, "");
        put_wrapped(out, (struct slice){p->text, p->size}, indent, column ? column : indent, width);
    }
    free(p->text);
}

// "peers 10.0.0.7 (400), 10.0.0.8 (11), others (3)"
static void put_names(const struct view *v, FILE *out, const char *title, const struct names *names)
{
    char text[NUMBER_MAX];
    struct name *sorted = names_sorted(names);
    uint64_t others = names->others;
    fputs(title, out);
    for (unsigned i = 0; i < names->n; i++) {
        if (i >= NAMES_SHOWN && !v->all) {
            others += sorted[i].count;
            continue;
        }
        fputs(i ? ", " : " ", out);
        put_safe(out, slice_of(sorted[i].name));
        if (names->n > 1 || names->others) fprintf(out, " (%s)", text_count(text, sorted[i].count));
    }
    if (others) fprintf(out, ", others (%s)", text_count(text, others));
    free(sorted);
}

static void put_span(FILE *out, int64_t first_us, int64_t last_us)
{
    char first[NUMBER_MAX], last[NUMBER_MAX];
    text_time(first, first_us);
    text_time(last, last_us);
    // The same day is said once.
    const bool same_day = strncmp(first, last, strlen("2026-11-21 ")) == 0;
    fputs(first, out);
    if (strcmp(first, last) != 0) fprintf(out, " to %s", same_day ? last + strlen("2026-11-21 ") : last);
    fputs(" UTC", out);
}

// How a measure is said: before and behind its greatest; and whether the sum means something.
static const struct {
    const char *before, *behind;
    bool sum;
} said[MEASURE_COUNT] = {
    [MEASURE_UNREAD] = {"", " unread", true},
    [MEASURE_UNSENT] = {"", " not yet acknowledged by the peer", true},
    [MEASURE_BACKLOG] = {"", " not accepted", true},
    [MEASURE_AGE] = {"open for up to ", "", false},
    [MEASURE_CLOSE_WAIT] = {"in CLOSE_WAIT for up to ", "", false},
    [MEASURE_BLOCKED] = {"blocked for up to ", "", false},
};

enum unit { UNIT_BYTES, UNIT_MS, UNIT_PIECES };

static const enum unit units[MEASURE_COUNT] = {
#define NUMBER(key, member)
#define MEASURE(id, key, unit) [MEASURE_##id] = UNIT_##unit,
#define STRING(key, member)
#define PLACE(id, key)
#include "fields.def"
#undef NUMBER
#undef MEASURE
#undef STRING
#undef PLACE
};

static void put_measure(FILE *out, unsigned i, int64_t value)
{
    char text[NUMBER_MAX];
    if (units[i] == UNIT_BYTES) fputs(text_bytes(text, (uint64_t)value), out);
    if (units[i] == UNIT_MS) fputs(text_ms(text, value), out);
    if (units[i] == UNIT_PIECES) put_number_of(out, (uint64_t)value, "connection");
}

static void put_measures(struct part *p, const struct group *g)
{
    for (unsigned i = 0; i < MEASURE_COUNT; i++) {
        if (g->measure[i].most <= 0) continue;
        FILE *out = part_next(p);
        fputs(said[i].before, out);
        put_measure(out, i, said[i].sum ? g->measure[i].sum : g->measure[i].most);
        fputs(said[i].behind, out);
        if (said[i].sum && g->measure[i].sum != g->measure[i].most) {
            fputs(" in all, at most ", out);
            put_measure(out, i, g->measure[i].most);
        }
    }
}

// The stack, if it says more than the heading does.
static void put_frames(const struct view *v, FILE *out, const struct group *g)
{
    struct slice rest = slice_of(g->at);
    const struct place_symbols *only = v->symbols ? symbols_of(v->symbols, rest) : NULL;
    if (!strchr(g->at, '\n') && !(only && only->n > 1)) return;
    for (unsigned n = 0; rest.n; n++) {
        const struct slice frame = slice_cut(&rest, '\n');
        if (n == FRAMES_SHOWN && !v->all) {
            fprintf(out, "%*s   ... (--all)\n", INDENT, "");
            return;
        }
        fprintf(out, "%*s%s", INDENT, "", n ? "by " : "at ");
        view_put_frame(v, out, frame, "\n" INLINED);
        putc('\n', out);
    }
}

static void put_other(const struct view *v, FILE *out, const struct name *name, bool only)
{
    char count[NUMBER_MAX], call[64];
    const struct view_other other = view_other(name->name);
    struct part p;
    snprintf(call, sizeof call, "%.*s", (int)other.call.n, other.call.at);
    part_begin(&p);
    FILE *line = part_next(&p);
    fprintf(line, "%s by ", place_name(other.place));
    view_put_place(v, line, call, other.at.at);
    if (!only) fprintf(line, " (%s)", text_count(count, name->count));
    part_end(&p, out, INDENT, 0, v->width);
}

static void put_others(const struct view *v, FILE *out, const struct group *g)
{
    char count[NUMBER_MAX];
    struct name *sorted = names_sorted(&g->others);
    uint64_t left = g->others.others;
    for (unsigned i = 0; i < g->others.n; i++) {
        if (i < NAMES_SHOWN || v->all)
            put_other(v, out, &sorted[i], g->others.n == 1);
        else
            left += sorted[i].count;
    }
    if (left) fprintf(out, "%*sand elsewhere (%s)\n", INDENT, "", text_count(count, left));
    free(sorted);
}

static void put_facts(const struct view *v, FILE *out, const struct group *g)
{
    struct part p;
    char text[NUMBER_MAX];
    part_begin(&p);
    put_names(v, part_next(&p), "in", &g->comms);
    if (g->first_us != LOG_UNKNOWN) put_span(part_next(&p), g->first_us, g->last_us);
    if (g->held) fprintf(part_next(&p), "%s of them held back by PRECLOSE_RATE", text_count(text, g->held));
    if (g->threads.n) put_names(v, part_next(&p), "blocked:", &g->threads);
    if (g->peers.n) put_names(v, part_next(&p), "peers", &g->peers);
    put_measures(&p, g);
    if (g->actions.n) put_names(v, part_next(&p), "preclose did:", &g->actions);
    part_end(&p, out, INDENT, 0, v->width);
}

static void put_group(const struct view *v, FILE *out, const struct group *g)
{
    char count[NUMBER_MAX];
    struct part p;
    const int column = fprintf(out, "%7s ", text_count(count, group_total(g)));
    part_begin(&p);
    FILE *head = part_next(&p);
    put_safe(head, slice_of(g->event));
    // What was used too late is said by the event.
    if (*g->call || *g->at) fprintf(head, g->place == PLACE_USED ? " by " : " %s by ", place_name(g->place));
    if (*g->call || *g->at) view_put_place(v, head, g->call, g->at);
    part_end(&p, out, INDENT, column, v->width);
    put_frames(v, out, g);
    put_others(v, out, g);
    put_facts(v, out, g);
    char *sentence = view_sentence(v, g);
    if (*sentence) {
        fprintf(out, "%*s", INDENT, "");
        put_wrapped(out, slice_of(sentence), INDENT, INDENT, v->width);
    }
    free(sentence);
    putc('\n', out);
}

static void put_leak(const struct view *v, FILE *out, const struct leak *l)
{
    char text[NUMBER_MAX];
    struct part p;
    part_begin(&p);
    FILE *line = part_next(&p);
    fprintf(line, "%s opened by ", text_count(text, (uint64_t)l->now));
    view_put_place(v, line, l->call, l->at);
    fprintf(part_next(&p), "%s at most in one process", text_count(text, (uint64_t)l->most));
    if (l->oldest_ms > 0) fprintf(part_next(&p), "the oldest for %s", text_ms(text, l->oldest_ms));
    if (l->growing) fputs("growing", part_next(&p));
    part_end(&p, out, INDENT, 0, v->width);
}

static void put_leaks(const struct view *v, FILE *out)
{
    size_t n;
    const struct leak **leaks = leaks_sorted(v->tally, &n);
    const size_t shown = v->all || n <= LEAKS_SHOWN ? n : LEAKS_SHOWN;
    if (n) fprintf(out, "  In CLOSE_WAIT when the programs ended:\n");
    for (size_t i = 0; i < shown; i++) put_leak(v, out, leaks[i]);
    if (shown < n) {
        fprintf(out, "%*sand at ", INDENT, "");
        put_number_of(out, n - shown, "other place");
        fputs(" (--all)\n", out);
    }
    if (n) putc('\n', out);
    free(leaks);
}

// The groups of one event, which stand side by side from the i-th on: the first of them, and how many there
// are more. Returns the index behind them.
static size_t put_event(const struct view *v, FILE *out, size_t i)
{
    const char *event = v->groups[i]->event;
    size_t shown = 0, left = 0;
    uint64_t findings = 0;
    char count[NUMBER_MAX];
    for (; i < v->n && strcmp(v->groups[i]->event, event) == 0; i++) {
        if (shown++ < PLACES_SHOWN || v->all) {
            put_group(v, out, v->groups[i]);
            continue;
        }
        left++;
        findings += group_total(v->groups[i]);
    }
    if (!left) return i;
    fprintf(out, "%7s ", text_count(count, findings));
    put_safe(out, slice_of(event));
    fputs(" at ", out);
    put_number_of(out, left, "other place");
    fputs(" (--all)\n\n", out);
    return i;
}

static void put_class(const struct view *v, FILE *out, enum class class)
{
    char count[NUMBER_MAX];
    struct part p;
    if (!v->totals[class] && !(class == CLASS_LEAK && v->tally->leaks)) return;
    part_begin(&p);
    fprintf(part_next(&p), "%s: %s finding%s", class_name(class), text_count(count, v->totals[class]),
            plural(v->totals[class]));
    fputs(class_title(class), part_next(&p));
    part_end(&p, out, 0, 0, v->width);
    putc('\n', out);
    for (size_t i = 0; i < v->n;) {
        if (v->groups[i]->class == class)
            i = put_event(v, out, i);
        else
            i++;
    }
    if (class == CLASS_LEAK) put_leaks(v, out);
}

// What programs counted beyond what they wrote.
static void put_unwritten(const struct view *v, FILE *out)
{
    struct part p;
    char text[NUMBER_MAX];
    const char *before = "";
    part_begin(&p);
    for (const struct event_count *e = v->tally->events; e; e = e->hh.next) {
        if (!event_unwritten(e)) continue;
        fprintf(p.out, "%s%s more ", before, text_count(text, event_unwritten(e)));
        put_safe(p.out, slice_of(e->event));
        before = ", ";
    }
    if (*before) fputs(" were counted and not written (PRECLOSE_RATE, PRECLOSE_LEVEL)", p.out);
    part_end(&p, out, 0, 0, v->width);
}

static void put_lines(const struct view *v, FILE *out)
{
    const struct tally *t = v->tally;
    const uint64_t broken = t->broken + v->count->too_long;
    struct part p;
    part_begin(&p);
    if (broken) {
        FILE *line = part_next(&p);
        put_number_of(line, broken, "broken line");
        fputs(" skipped", line);
    }
    if (t->other) {
        FILE *line = part_next(&p);
        put_number_of(line, t->other, "line");
        fputs(t->other == 1 ? " is no finding" : " are no findings", line);
    }
    part_end(&p, out, 0, 0, v->width);
}

static void tell_doubt(void *out, const char *module, const char *why)
{
    put_safe(out, slice_of(module));
    fprintf(out, " %s\n", why);
}

static void put_head(const struct view *v, FILE *out)
{
    const struct tally *t = v->tally;
    struct part p;
    char text[NUMBER_MAX];
    uint64_t found = 0;
    for (unsigned c = 0; c < CLASS_COUNT; c++) found += v->totals[c];
    part_begin(&p);
    FILE *line = part_next(&p);
    if (found)
        put_number_of(line, found, "finding");
    else
        fputs("nothing found", line);
    fputs(" in ", line);
    put_number_of(line, v->count->lines, "line");
    if (t->processes) {
        fputs(" of ", line);
        if (t->more_processes) fputs("more than ", line);
        fprintf(line, "%s process%s", text_count(text, t->processes), t->processes == 1 ? "" : "es");
    }
    if (t->first_us != LOG_UNKNOWN) put_span(part_next(&p), t->first_us, t->last_us);
    part_end(&p, out, 0, 0, v->width);
    bool first = true;
    for (enum class c = 0; c < CLASS_COUNT; c++) {
        if (!v->totals[c] && !v->unwritten[c]) continue;
        fprintf(out, "%s%s %s", first ? "" : ", ", class_name(c), text_count(text, v->totals[c]));
        if (v->unwritten[c])
            fprintf(out, " (of %s counted)", text_count(text, v->totals[c] + v->unwritten[c]));
        first = false;
    }
    fputs(first ? "" : "\n\n", out);
}

void report_text(const struct view *v, FILE *out)
{
    put_head(v, out);
    for (enum class c = 0; c < CLASS_COUNT; c++) put_class(v, out, c);
    put_unwritten(v, out);
    put_lines(v, out);
    if (v->symbols && v->tally->last_us != LOG_UNKNOWN)
        symbols_doubts(v->symbols, v->tally->last_us, tell_doubt, out);
}
