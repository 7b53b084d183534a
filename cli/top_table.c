#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "clock.h"
#include "say.h"
#include "top.h"

enum { PROCESSES_KEPT = 4096, PID_MOST = 1 << 22 }; // include/linux/threads.h PID_MAX_LIMIT
enum order { ASCENDING, DESCENDING };

static const struct {
    const char *title;
    int width;
    enum order order;
    const char *says;
} columns[] = {
#define COLUMN(id, title, width, order, what) {title, width, order, what},
#include "columns.def"
#undef COLUMN
};

const char *column_title(enum column column)
{
    return columns[column].title;
}

const char *column_says(enum column column)
{
    return columns[column].says;
}

int column_width(enum column column)
{
    return columns[column].width;
}

enum column column_named(const char *title)
{
    enum column c = 0;
    while (c < COLUMN_COUNT && strcasecmp(columns[c].title, title) != 0) c++;
    return c;
}

static struct top_process *process_of(struct top_table *t, pid_t pid, struct slice comm, bool make)
{
    struct top_process *p;
    struct top_key key;
    memset(&key, 0, sizeof key);
    key.pid = pid;
    const size_t n = comm.n < sizeof key.comm - 1 ? comm.n : sizeof key.comm - 1;
    if (n) memcpy(key.comm, comm.at, n);
    HASH_FIND(hh, t->all, &key, sizeof key, p);
    if (p || !make || HASH_COUNT(t->all) >= PROCESSES_KEPT) return p;
    p = need(calloc(1, sizeof *p));
    p->key = key;
    p->oldest_ms = -1;
    if (pid) p->started = proc_started(pid);
    HASH_ADD(hh, t->all, key, sizeof p->key, p);
    return p;
}

static void take_owner(struct top_table *t, const struct owner *o, int64_t now)
{
    const struct process *process = census_process(&t->scan.census, o->pid);
    struct top_process *p = process_of(t, o->pid, slice_of(process ? process->comm : "(unseen)"), true);
    if (!p) return;
    const uint64_t started = o->pid ? proc_started(o->pid) : 0;
    const bool another = started && started != p->started;
    if (another) p->trend = (struct trend){0};
    if (another) p->base = 0;
    if (t->looks == 0) p->base = (int64_t)o->rows;
    if (another || !p->user[0]) owner_user(process ? process->uid : -1, p->user);
    if (!o->pid) snprintf(p->user, sizeof p->user, "-");
    p->started = started;
    p->connections = (int64_t)o->rows;
    p->waiting = (int64_t)o->waiting;
    p->unread = o->unread;
    p->oldest_ms = o->oldest_ms;
    p->seen = true;
    if (p->trend.n == 0 && t->looks) trend_add(&p->trend, t->trend.now_ms, 0); // it had none at the last look
    trend_add(&p->trend, now, p->connections);
}

// Of a process that has none any more what was is kept for as long as it lives, and what the logs said of it
// for as long as that is shown.
static void settle(struct top_table *t, struct top_process *p, int64_t now)
{
    if (p->seen) return;
    const bool lives = p->key.pid && p->started && proc_started(p->key.pid) == p->started;
    if (!lives && !pace_sum(&p->pace, t->now_s, PACE_KEPT)) {
        HASH_DEL(t->all, p);
        free(p);
        return;
    }
    p->connections = p->waiting = 0;
    p->unread = 0;
    p->oldest_ms = -1;
    trend_add(&p->trend, now, 0);
}

static void count_totals(struct top_table *t, int64_t now)
{
    const struct census *c = &t->scan.census;
    t->connections = (int64_t)scan_count(&t->scan);
    if (t->looks == 0) t->base = t->connections;
    trend_add(&t->trend, now, t->connections);
    t->ghosts = 0;
    for (size_t i = 0; i < c->entries; i++)
        t->ghosts += c->entry[i].held == GHOST || c->entry[i].held == LIKELY_GHOST;
}

static int64_t seconds_now(void)
{
    return (int64_t)time(NULL);
}

void top_look(struct top_table *t)
{
    struct top_process *p, *next;
    const int64_t now = now_ms();
    t->now_s = seconds_now();
    owners_free(&t->owners);
    census_free(&t->scan.census);
    t->scanned = census_take(&t->scan.census, false);
    t->owners = owners_of(&t->scan);
    for (p = t->all; p; p = p->hh.next) p->seen = false;
    for (size_t i = 0; i < t->owners.n; i++) take_owner(t, t->owners.owner[i], now);
    for (p = t->all; p; p = next) {
        next = p->hh.next;
        settle(t, p, now);
    }
    count_totals(t, now);
    t->looks++;
    top_arrange(t);
}

void top_restart(struct top_table *t)
{
    for (struct top_process *p = t->all; p; p = p->hh.next) {
        p->base = p->connections;
        p->trend = (struct trend){0};
        trend_add(&p->trend, now_ms(), p->connections);
    }
    t->base = t->connections;
    t->trend = (struct trend){0};
    trend_add(&t->trend, now_ms(), t->connections);
}

static double growth_of(const struct top_process *p)
{
    double growth;
    return trend_per_minute(&p->trend, &growth) ? growth : 0;
}

static int order_of(double a, double b)
{
    return a < b ? -1 : a > b;
}

static const struct top_table *sorting;

static int compare_in(const struct top_process *p, const struct top_process *q, enum column column)
{
    const int64_t now = sorting->now_s;
    switch (column) {
    case COLUMN_USER:
        return strcmp(p->user, q->user);
    case COLUMN_CONN:
        return order_of((double)p->connections, (double)q->connections);
    case COLUMN_GROWTH:
        return order_of((double)(p->connections - p->base), (double)(q->connections - q->base));
    case COLUMN_MINUTE:
        return order_of(growth_of(p), growth_of(q));
    case COLUMN_UNREAD:
        return order_of((double)p->unread, (double)q->unread);
    case COLUMN_OLDEST:
        return order_of((double)p->oldest_ms, (double)q->oldest_ms);
    case COLUMN_FINDINGS:
        return order_of((double)pace_sum(&p->pace, now, PACE_WINDOW),
                        (double)pace_sum(&q->pace, now, PACE_WINDOW));
    case COLUMN_COMMAND:
        return strcmp(p->key.comm, q->key.comm);
    case COLUMN_PID:
    case COLUMN_COUNT:
        break;
    }
    return p->key.pid < q->key.pid ? -1 : p->key.pid > q->key.pid;
}

// Rows that are the same in the column stay in the order of their connections, then of their numbers.
static int compare(const void *a, const void *b)
{
    const struct top_process *p = *(struct top_process *const *)a, *q = *(struct top_process *const *)b;
    int order = compare_in(p, q, sorting->sort);
    if ((columns[sorting->sort].order == DESCENDING) != sorting->inverted) order = -order;
    if (!order) order = -compare_in(p, q, COLUMN_CONN);
    if (!order) order = compare_in(p, q, COLUMN_PID);
    return order ? order : strcmp(p->key.comm, q->key.comm);
}

static bool is_shown(const struct top_table *t, const struct top_process *p)
{
    char pid[16];
    if (!p->connections && !pace_sum(&p->pace, t->now_s, PACE_KEPT)) return false;
    bool asked_for = t->scan.n == 0;
    for (int i = 0; i < t->scan.n; i++) asked_for |= t->scan.pids[i] == p->key.pid;
    if (!asked_for || !t->filter[0]) return asked_for;
    snprintf(pid, sizeof pid, "%d", p->key.pid);
    return strcasestr(p->key.comm, t->filter) || strcasestr(p->user, t->filter) || strstr(pid, t->filter);
}

void top_arrange(struct top_table *t)
{
    const size_t all = HASH_COUNT(t->all);
    if (all > t->room) t->row = need(reallocarray(t->row, t->room = 2 * all, sizeof(struct top_process *)));
    t->n = 0;
    for (struct top_process *p = t->all; p; p = p->hh.next)
        if (is_shown(t, p)) t->row[t->n++] = p;
    sorting = t;
    if (t->n) qsort(t->row, t->n, sizeof(struct top_process *), compare);
}

// Logs.

static struct top_event *event_of(struct top_table *t, struct slice name)
{
    for (unsigned i = 0; i < t->events; i++)
        if (slice_is(name, t->event[i].name)) return &t->event[i];
    if (t->events == EVENTS_SHOWN) return &t->event[EVENTS_SHOWN - 1];
    struct top_event *e = &t->event[t->events++];
    if (t->events == EVENTS_SHOWN || name.n >= sizeof e->name) name = slice_of("other");
    memcpy(e->name, name.at, name.n);
    return e;
}

static bool is_pid(int64_t pid)
{
    return pid > 0 && pid <= PID_MOST;
}

// A summary is no finding, and a line per close (PRECLOSE_LEVEL=info) neither.
static void add_finding(struct top_table *t, const struct finding *f)
{
    if (slice_is(f->event, "summary") || slice_is(f->event, "close")) return;
    const uint64_t n = 1 + (f->held > 0 && f->held < UINT32_MAX ? (uint64_t)f->held : 0);
    const int64_t now = seconds_now(), second = f->time_us == LOG_UNKNOWN ? now : f->time_us / 1000000;
    struct top_event *e = event_of(t, f->event);
    t->findings += n;
    e->n += n;
    if (now - second >= PACE_KEPT) return;
    pace_add(&t->pace, now, second, n);
    pace_add(&e->pace, now, second, n);
    struct top_process *p = is_pid(f->pid) ? process_of(t, (pid_t)f->pid, f->comm, true) : NULL;
    if (p) pace_add(&p->pace, now, second, n);
}

void top_line(void *table, const char *line, size_t n)
{
    struct top_table *t = table;
    if (log_read(&t->memory, line, n, &t->finding) == LOG_FINDING) add_finding(t, &t->finding);
}

// Cells.

void top_bytes(char out[CELL_BYTES], uint64_t n)
{
    static const char units[] = "kMGTPE";
    double value = (double)n;
    int unit = -1;
    for (; value >= 999.5 && unit < 5; unit++) value /= 1000;
    if (unit < 0)
        snprintf(out, CELL_BYTES, "%" PRIu64, n);
    else
        snprintf(out, CELL_BYTES, value < 9.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
}

void top_growth(char out[CELL_BYTES], int64_t n)
{
    snprintf(out, CELL_BYTES, n > 0 ? "+%" PRId64 : "%" PRId64, n);
}

void top_age(char out[CELL_BYTES], int64_t ms)
{
    const int64_t s = ms / 1000, min = s / 60, h = min / 60;
    if (ms < 0)
        snprintf(out, CELL_BYTES, "-");
    else if (s < 100)
        snprintf(out, CELL_BYTES, "%" PRId64 "s", s);
    else if (min < 60)
        snprintf(out, CELL_BYTES, "%" PRId64 "m%02" PRId64, min, s % 60);
    else if (h < 48)
        snprintf(out, CELL_BYTES, "%" PRId64 "h%02" PRId64, h, min % 60);
    else
        snprintf(out, CELL_BYTES, "%" PRId64 "d%02" PRId64, h / 24, h % 24);
}

void top_cell(const struct top_table *t, const struct top_process *p, enum column column,
              char out[CELL_BYTES])
{
    double growth;
    switch (column) {
    case COLUMN_PID:
        snprintf(out, CELL_BYTES, p->key.pid ? "%d" : "-", p->key.pid);
        break;
    case COLUMN_USER:
        snprintf(out, CELL_BYTES, "%s", p->user[0] ? p->user : "-");
        break;
    case COLUMN_CONN:
        snprintf(out, CELL_BYTES, "%" PRId64, p->connections);
        break;
    case COLUMN_GROWTH:
        top_growth(out, p->connections - p->base);
        break;
    case COLUMN_MINUTE:
        if (trend_per_minute(&p->trend, &growth))
            snprintf(out, CELL_BYTES, growth > -0.05 && growth < 0.05 ? "0" : "%+.1f", growth);
        else
            snprintf(out, CELL_BYTES, "-");
        break;
    case COLUMN_UNREAD:
        top_bytes(out, p->unread);
        break;
    case COLUMN_OLDEST:
        top_age(out, p->oldest_ms);
        break;
    case COLUMN_FINDINGS:
        snprintf(out, CELL_BYTES, "%.1f", (double)pace_sum(&p->pace, t->now_s, PACE_WINDOW) / PACE_WINDOW);
        break;
    case COLUMN_COMMAND:
        snprintf(out, CELL_BYTES, "%s", p->key.comm);
        break;
    case COLUMN_COUNT:
        break;
    }
}
