#include "tally.h"

#include <stdlib.h>
#include <string.h>

#include "say.h"

enum { KEY_MAX = 8192, NAME_MAX_BYTES = 4096, TEXT_MAX_BYTES = 2048, SLOTS = 2 * PROCESSES_MAX };

static const struct {
    const char *name, *title;
} classes[] = {
#define CLASS(id, name, title) {name, title},
#define SORT(event, class, place)
#include "classes.def"
#undef CLASS
#undef SORT
};

static const struct sort {
    const char *event;
    enum class class;
    enum place place;
} sorts[] = {
#define CLASS(id, name, title)
#define SORT(event, class, place) {event, CLASS_##class, PLACE_##place},
#include "classes.def"
#undef CLASS
#undef SORT
};

enum { SORTS = sizeof sorts / sizeof sorts[0] };

static const char *const levels[] = {"warning", "notice", "info"};

const char *class_name(enum class class)
{
    return classes[class].name;
}

const char *class_title(enum class class)
{
    return classes[class].title;
}

const char *level_name(int level)
{
    return levels[level];
}

uint64_t group_total(const struct group *g)
{
    return g->told + g->held;
}

static int level_of(struct slice name)
{
    for (int i = 0; i < LEVEL_OF_INFO; i++)
        if (slice_is(name, levels[i])) return i;
    return LEVEL_OF_INFO;
}

static struct sort sort_of(struct slice event)
{
    for (unsigned i = 0; i < SORTS; i++)
        if (slice_is(event, sorts[i].event)) return sorts[i];
    return (struct sort){NULL, CLASS_OTHER, PLACE_CLOSED};
}

enum class class_of(const char *event) { return sort_of(slice_of(event)).class; }

// Every close is counted, and only told if it was asked for: that is no finding.
uint64_t event_unwritten(const struct event_count *e)
{
    const uint64_t written = e->told + e->held;
    return e->summed > written && strcmp(e->event, "close") != 0 ? e->summed - written : 0;
}

static char *copy(struct slice s, size_t max)
{
    return need(strndup(s.n ? s.at : "", s.n < max ? s.n : max));
}

static void name_add(struct names *names, struct slice name, uint64_t count)
{
    if (!name.n) return;
    if (name.n > NAME_MAX_BYTES) name.n = NAME_MAX_BYTES;
    for (unsigned i = 0; i < names->n; i++) {
        if (!slice_is(name, names->of[i].name)) continue;
        names->of[i].count += count;
        return;
    }
    if (names->n == NAMES_MAX) {
        names->others += count;
        return;
    }
    // Room for 1, 2, 4 ... of them: most have one.
    if ((names->n & (names->n - 1)) == 0)
        names->of = need(reallocarray(names->of, names->n ? 2 * (size_t)names->n : 1, sizeof *names->of));
    names->of[names->n++] = (struct name){copy(name, NAME_MAX_BYTES), count};
}

static int by_count(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return strcmp(x->name, y->name);
}

struct name *names_sorted(const struct names *names)
{
    struct name *sorted = need(calloc(names->n + 1, sizeof *sorted));
    if (names->n) memcpy(sorted, names->of, names->n * sizeof *sorted);
    if (names->n) qsort(sorted, names->n, sizeof *sorted, by_count);
    return sorted;
}

// a, between and b side by side in text.
struct joined {
    size_t n;
    char text[KEY_MAX];
};

static void join(struct joined *j, struct slice s)
{
    const size_t n = s.n < sizeof j->text - j->n ? s.n : sizeof j->text - j->n;
    if (n) memcpy(j->text + j->n, s.at, n);
    j->n += n;
}

static struct slice joined(const struct joined *j)
{
    return (struct slice){j->text, j->n};
}

static bool is_known(const struct log_place *p)
{
    return p->at.n || p->call.n;
}

// Where the finding belongs: the place that its event goes by, or the next best.
static enum place place_of(const struct finding *f, enum place wanted)
{
    static const enum place order[] = {PLACE_USED, PLACE_CLOSED, PLACE_OPENED};
    if (is_known(&f->place[wanted])) return wanted;
    for (unsigned i = 0; i < sizeof order / sizeof order[0]; i++)
        if (is_known(&f->place[order[i]])) return order[i];
    return wanted;
}

static struct group *group_new(const struct finding *f, const struct sort *sort, enum place place,
                               struct slice key)
{
    struct group *g = need(calloc(1, sizeof *g));
    g->key = need(malloc(key.n + 1));
    memcpy(g->key, key.at, key.n);
    g->event = copy(f->event, 64);
    g->call = copy(f->place[place].call, 64);
    g->at = copy(f->place[place].at, NAME_MAX_BYTES);
    g->text = copy(f->text, TEXT_MAX_BYTES);
    g->place = place;
    g->class = sort->class;
    g->level = LEVEL_OF_INFO;
    g->first_us = g->last_us = LOG_UNKNOWN;
    return g;
}

// The group of places that came when there was room for no more.
static struct group *overflow(struct tally *t, const struct finding *f, const struct sort *sort)
{
    struct group **g = &t->overflow[sort->class];
    if (!*g) {
        *g = group_new(f, sort, sort->place, (struct slice){"", 0});
        free((*g)->at);
        (*g)->at = copy(slice_of("(further places)"), NAME_MAX_BYTES);
        (*g)->call[0] = '\0';
    }
    return *g;
}

static struct group *group_of(struct tally *t, const struct finding *f, const struct sort *sort)
{
    static struct joined key;
    struct group *g;
    const enum place place = place_of(f, sort->place);
    const struct log_place *p = &f->place[place];
    key.n = 0;
    join(&key, f->event);
    join(&key, slice_of("\n"));
    join(&key, p->call);
    join(&key, slice_of("\n"));
    // Without a place, programs are told apart by their names.
    join(&key, p->at.n ? p->at : f->comm);
    HASH_FIND(hh, t->groups, key.text, key.n, g);
    if (g) return g;
    if (HASH_COUNT(t->groups) >= GROUPS_MAX) return overflow(t, f, sort);
    g = group_new(f, sort, place, joined(&key));
    HASH_ADD_KEYPTR(hh, t->groups, g->key, key.n, g);
    return g;
}

// "10.0.0.1:41222" → "10.0.0.1"; a path of a unix socket stays.
static struct slice host_of(struct slice address)
{
    const char *colon = address.n ? memrchr(address.at, ':', address.n) : NULL;
    return colon ? (struct slice){address.at, (size_t)(colon - address.at)} : address;
}

static bool is_system(struct slice frame)
{
    static const char *const directories[] = {"/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/",
                                              "/usr/libexec/"};
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
        if (slice_begins(frame, directories[i])) return true;
    return false;
}

struct slice frames_main(struct slice at)
{
    struct slice first = {at.at, 0};
    while (at.n) {
        const struct slice frame = slice_cut(&at, '\n');
        if (!first.n) first = frame;
        if (!is_system(frame)) return frame;
    }
    return first;
}

static void add_names(struct group *g, const struct finding *f, enum place wanted)
{
    static struct joined text;
    name_add(&g->comms, f->comm, 1);
    name_add(&g->peers, host_of(f->peer), 1);
    for (unsigned i = 0; i < f->threads && i < THREADS_READ; i++) {
        text.n = 0;
        join(&text, f->thread[i].name);
        join(&text, slice_of(f->thread[i].name.n ? " in " : "a thread in "));
        join(&text, f->thread[i].call);
        name_add(&g->threads, joined(&text), 1);
    }
    text.n = 0;
    join(&text, f->action);
    if (f->reason.n) join(&text, slice_of(" ("));
    join(&text, f->reason);
    if (f->reason.n) join(&text, slice_of(")"));
    name_add(&g->actions, joined(&text), 1);
    for (enum place p = 0; p < PLACE_COUNT; p++) {
        const struct log_place *place = &f->place[p];
        if (p == wanted || !place->at.n) continue;
        text.n = 0;
        text.text[text.n++] = (char)('0' + p); // as view_other takes it apart
        join(&text, place->call);
        join(&text, slice_of("\n"));
        join(&text, frames_main(place->at));
        name_add(&g->others, joined(&text), 1);
    }
}

static void stretch(int64_t *first, int64_t *last, int64_t us)
{
    if (*first == LOG_UNKNOWN || us < *first) *first = us;
    if (*last == LOG_UNKNOWN || us > *last) *last = us;
}

static void add_measures(struct group *g, const struct finding *f)
{
    for (unsigned i = 0; i < MEASURE_COUNT; i++) {
        const int64_t value = f->measure[i];
        if (value < 0) continue; // unknown, too
        g->measure[i].sum = value > INT64_MAX - g->measure[i].sum ? INT64_MAX : g->measure[i].sum + value;
        if (!g->measure[i].n++ || value > g->measure[i].most) g->measure[i].most = value;
    }
}

// A damaged line may say anything.
static uint64_t held_by(const struct finding *f)
{
    return f->held > 0 && f->held < UINT32_MAX ? (uint64_t)f->held : 0;
}

static void add_to_group(struct tally *t, const struct finding *f, int level)
{
    const struct sort sort = sort_of(f->event);
    struct group *g = group_of(t, f, &sort);
    if (level < g->level) g->level = level;
    g->told++;
    g->held += held_by(f);
    add_measures(g, f);
    add_names(g, f, g->place);
    if (f->time_us == LOG_UNKNOWN) return;
    stretch(&g->first_us, &g->last_us, f->time_us);
    series_add(&g->series, f->time_us, 1 + (uint32_t)held_by(f));
}

static struct event_count *event_of(struct tally *t, struct slice name)
{
    struct event_count *e;
    if (name.n > 64) name.n = 64;
    HASH_FIND(hh, t->events, name.at, name.n, e);
    if (e || HASH_COUNT(t->events) >= EVENTS_MAX) return e;
    e = need(calloc(1, sizeof *e));
    e->event = copy(name, 64);
    HASH_ADD_KEYPTR(hh, t->events, e->event, name.n, e);
    return e;
}

static void add_leak(struct tally *t, const struct log_leak *k)
{
    static struct joined key;
    struct leak *l;
    key.n = 0;
    join(&key, k->call);
    join(&key, slice_of("\n"));
    join(&key, k->at);
    HASH_FIND(hh, t->leaks, key.text, key.n, l);
    if (!l && HASH_COUNT(t->leaks) >= LEAKS_MAX) return;
    if (!l) {
        l = need(calloc(1, sizeof *l));
        l->key = need(malloc(key.n + 1));
        memcpy(l->key, key.text, key.n);
        l->call = copy(k->call, 64);
        l->at = copy(k->at, NAME_MAX_BYTES);
        HASH_ADD_KEYPTR(hh, t->leaks, l->key, key.n, l);
    }
    l->summaries++;
    l->growing += slice_is(k->trend, "growing");
    if (k->now > 0 && k->now <= INT64_MAX - l->now) l->now += k->now;
    if (k->most > l->most) l->most = k->most;
    if (k->oldest_ms > l->oldest_ms) l->oldest_ms = k->oldest_ms;
}

static void add_summary(struct tally *t, const struct finding *f)
{
    for (unsigned i = 0; i < f->counts; i++) {
        struct event_count *e = event_of(t, f->count[i].event);
        if (e && f->count[i].n > 0) e->summed += (uint64_t)f->count[i].n;
    }
    for (unsigned i = 0; i < f->leaks; i++) add_leak(t, &f->leak[i]);
}

static void add_process(struct tally *t, int64_t pid)
{
    if (pid == LOG_UNKNOWN || pid == 0) return;
    uint64_t at = (uint64_t)pid * UINT64_C(0x9e3779b97f4a7c15) >> 40;
    while (t->pids[at % SLOTS] && t->pids[at % SLOTS] != pid) at++;
    if (t->pids[at % SLOTS]) return;
    if (t->processes == PROCESSES_MAX) {
        t->more_processes = true;
        return;
    }
    t->pids[at % SLOTS] = pid;
    t->processes++;
}

static const char *pack(struct recent *r, size_t *used, struct slice s, size_t max)
{
    char *to = r->bytes + *used;
    const size_t n = s.n < max ? s.n : max;
    if (n) memcpy(to, s.at, n);
    to[n] = '\0';
    *used += n + 1;
    return to;
}

static void add_recent(struct tally *t, const struct finding *f, int level)
{
    const struct sort sort = sort_of(f->event);
    const struct log_place *p = &f->place[place_of(f, sort.place)];
    struct recent *r = &t->recent[t->recents++ % RECENT_MAX];
    size_t used = 0;
    r->time_us = f->time_us;
    r->pid = f->pid;
    r->fd = f->fd;
    r->level = level;
    r->class = sort.class;
    r->event = pack(r, &used, f->event, 64);
    r->comm = pack(r, &used, f->comm, 64);
    r->peer = pack(r, &used, f->peer, 120);
    r->call = pack(r, &used, p->call, 32);
    r->at = pack(r, &used, p->at, 700);
    r->text = pack(r, &used, f->text, 1000);
}

static void add_finding(struct tally *t, const struct finding *f)
{
    const int level = level_of(f->level);
    struct event_count *e = event_of(t, f->event);
    t->findings++;
    if (f->time_us != LOG_UNKNOWN) stretch(&t->first_us, &t->last_us, f->time_us);
    add_process(t, f->pid);
    if (e) e->told++;
    if (e) e->held += held_by(f);
    if (slice_is(f->event, "summary")) {
        add_summary(t, f);
        return;
    }
    if (slice_is(f->event, "close")) return;
    if (level == LEVEL_OF_WARNING) t->warnings++;
    add_to_group(t, f, level);
    if (t->recent) add_recent(t, f, level);
}

void tally_line(void *tally, const char *line, size_t n)
{
    struct tally *t = tally;
    switch (log_read(&t->memory, line, n, &t->finding)) {
    case LOG_FINDING:
        add_finding(t, &t->finding);
        break;
    case LOG_BROKEN:
        t->broken++;
        break;
    case LOG_OTHER:
        t->other++;
        break;
    case LOG_EMPTY:
        t->empty++;
        break;
    }
}

struct tally *tally_new(bool keep_recent)
{
    struct tally *t = need(calloc(1, sizeof *t));
    t->first_us = t->last_us = LOG_UNKNOWN;
    t->pids = need(calloc(SLOTS, sizeof *t->pids));
    if (keep_recent) t->recent = need(calloc(RECENT_MAX, sizeof *t->recent));
    return t;
}

static unsigned rank_of(const struct group *g)
{
    unsigned i = 0;
    while (i < SORTS && strcmp(sorts[i].event, g->event) != 0) i++;
    return i;
}

static int compare(const void *a, const void *b)
{
    const struct group *g = *(struct group *const *)a, *h = *(struct group *const *)b;
    if (g->class != h->class) return g->class < h->class ? -1 : 1;
    if (rank_of(g) != rank_of(h)) return rank_of(g) < rank_of(h) ? -1 : 1;
    const int event = strcmp(g->event, h->event);
    if (event) return event;
    if (group_total(g) != group_total(h)) return group_total(g) > group_total(h) ? -1 : 1;
    const int order = strcmp(g->at, h->at);
    return order ? order : strcmp(g->call, h->call);
}

static int by_leaks(const void *a, const void *b)
{
    const struct leak *k = *(const struct leak *const *)a, *l = *(const struct leak *const *)b;
    if (k->now != l->now) return k->now > l->now ? -1 : 1;
    if (k->most != l->most) return k->most > l->most ? -1 : 1;
    const int order = strcmp(k->at, l->at);
    return order ? order : strcmp(k->call, l->call);
}

const struct leak **leaks_sorted(const struct tally *t, size_t *n)
{
    const struct leak **sorted = need(calloc(HASH_COUNT(t->leaks) + 1, sizeof(struct leak *)));
    *n = 0;
    for (const struct leak *l = t->leaks; l; l = l->hh.next) sorted[(*n)++] = l;
    if (*n) qsort(sorted, *n, sizeof(struct leak *), by_leaks);
    return sorted;
}

struct group **tally_sorted(const struct tally *t, size_t *n)
{
    struct group **sorted = need(calloc(HASH_COUNT(t->groups) + CLASS_COUNT, sizeof(struct group *)));
    *n = 0;
    for (struct group *g = t->groups; g; g = g->hh.next) sorted[(*n)++] = g;
    for (unsigned i = 0; i < CLASS_COUNT; i++)
        if (t->overflow[i]) sorted[(*n)++] = t->overflow[i];
    if (*n) qsort(sorted, *n, sizeof(struct group *), compare);
    return sorted;
}
