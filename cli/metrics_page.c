// The families of metrics and what they are counted from.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"
#include "owners.h"
#include "say.h"

static void put_gauge(struct exposition *e, const char *name, const char *help, uint64_t value)
{
    expose_family(e, false, name, help);
    expose_sample(e);
    expose_count(e, value);
}

static void put_counters(struct exposition *e, const struct counter *all, bool with_level)
{
    for (const struct counter *c = all; c; c = c->hh.next) {
        expose_sample(e);
        expose_label(e, "event", slice_of(c->event));
        if (with_level) expose_label(e, "level", slice_of(c->level));
        expose_label(e, "comm", slice_of(c->comm));
        expose_count(e, c->n);
    }
}

static void put_lines(struct exposition *e, const struct metrics *m)
{
    expose_family(
        e, true, "preclose_log_lines",
        "Lines of the logs: findings; other output; broken ones that begin as a finding; empty; too long.");
    for (enum line_kind kind = 0; kind < KIND_COUNT; kind++) {
        expose_sample(e);
        expose_label(e, "kind", slice_of(line_kind_name(kind)));
        expose_count(e, m->counters->lines[kind]);
    }
    expose_sample(e);
    expose_label(e, "kind", slice_of("too-long"));
    expose_count(e, m->lines.too_long);
}

static void put_logs(struct exposition *e, const struct metrics *m)
{
    expose_family(e, true, "preclose_findings",
                  "Findings in the logs, those that were held back (PRECLOSE_RATE) included.");
    put_counters(e, m->counters->findings, true);
    expose_family(e, true, "preclose_exit_findings",
                  "Findings that processes had counted when they ended, whether they were written or not.");
    put_counters(e, m->counters->summaries, false);
    put_lines(e, m);
    put_gauge(e, "preclose_logs_open", "Logs that are read.", m->open);
    put_gauge(e, "preclose_logs_failed", "Logs that could not be read, or not to their end.", m->failed);
    if (m->counters->last_us == LOG_UNKNOWN) return;
    expose_family(e, false, "preclose_last_finding_timestamp_seconds", "When the latest finding was made.");
    expose_sample(e);
    expose_seconds(e, m->counters->last_us);
}

// A process that has connections in CLOSE_WAIT, as it is shown.
struct row {
    char comm[PROC_NAME_MAX], pid[16];
    uint64_t rows, waiting, unread;
    int64_t oldest_ms;
};

struct rows {
    struct row row[METRICS_PROCESSES_MAX + 1];
    size_t n;
};

static struct row *row_of(struct rows *rows, const struct scan *s, const struct owner *o)
{
    const struct process *p = census_process(&s->census, o->pid);
    if (rows->n > METRICS_PROCESSES_MAX) return &rows->row[METRICS_PROCESSES_MAX];
    struct row *r = &rows->row[rows->n++];
    *r = (struct row){.oldest_ms = -1};
    if (rows->n > METRICS_PROCESSES_MAX)
        snprintf(r->comm, sizeof r->comm, OTHER_PROGRAMS);
    else if (!o->pid)
        snprintf(r->comm, sizeof r->comm, "(unseen)");
    else
        snprintf(r->pid, sizeof r->pid, "%d", o->pid);
    if (p && r->pid[0]) memcpy(r->comm, p->comm, sizeof r->comm);
    return r;
}

static void fill_rows(struct rows *rows, const struct scan *s)
{
    struct owners owners = owners_of(s);
    for (size_t i = 0; i < owners.n; i++) {
        const struct owner *o = owners.owner[i];
        struct row *r = row_of(rows, s, o);
        r->rows += o->rows;
        r->waiting += o->waiting;
        r->unread += o->unread;
        if (o->oldest_ms > r->oldest_ms) r->oldest_ms = o->oldest_ms;
    }
    owners_free(&owners);
}

static void put_process(struct exposition *e, const struct row *r)
{
    expose_sample(e);
    expose_label(e, "comm", slice_of(r->comm));
    expose_label(e, "pid", slice_of(r->pid));
}

// The samples of a family stand together: each family goes through the processes.
static void put_processes(struct exposition *e, const struct rows *rows)
{
    expose_family(e, false, "preclose_close_wait_connections",
                  "Connections in CLOSE_WAIT that a process holds; one that several hold counts for each.");
    for (size_t i = 0; i < rows->n; i++) {
        put_process(e, &rows->row[i]);
        expose_count(e, rows->row[i].rows);
    }
    expose_family(e, false, "preclose_close_wait_not_accepted_connections",
                  "Those of them that wait at a listener of the process and have not been accepted.");
    for (size_t i = 0; i < rows->n; i++) {
        put_process(e, &rows->row[i]);
        expose_count(e, rows->row[i].waiting);
    }
    expose_family(e, false, "preclose_close_wait_unread_bytes",
                  "Bytes that they have received and that were not read.");
    for (size_t i = 0; i < rows->n; i++) {
        put_process(e, &rows->row[i]);
        expose_count(e, rows->row[i].unread);
    }
    expose_family(e, false, "preclose_close_wait_oldest_seconds",
                  "For how long, at least, the oldest of them has been in CLOSE_WAIT.");
    for (size_t i = 0; i < rows->n; i++) {
        if (rows->row[i].oldest_ms < 0) continue;
        put_process(e, &rows->row[i]);
        expose_seconds(e, rows->row[i].oldest_ms * 1000);
    }
}

static size_t ghosts(const struct census *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->entries; i++)
        n += c->entry[i].held == GHOST || c->entry[i].held == LIKELY_GHOST;
    return n;
}

static void put_scan(struct exposition *e, const struct metrics *m)
{
    const struct census *c = &m->scan.census;
    put_gauge(e, "preclose_scan_success", "Whether the kernel has told of its sockets (1), or not (0).",
              m->scanned == 0);
    if (m->scanned < 0) return;
    struct rows *rows = need(calloc(1, sizeof *rows));
    fill_rows(rows, &m->scan);
    put_processes(e, rows);
    free(rows);
    put_gauge(e, "preclose_close_wait_sockets", "Connections in CLOSE_WAIT, each counted once.",
              scan_count(&m->scan));
    put_gauge(e, "preclose_ghost_sockets",
              "TCP sockets that no descriptor of any process is: closed while a thread was in a call on "
              "them, for one.",
              ghosts(c));
    put_gauge(
        e, "preclose_scan_complete",
        "Whether every process and network namespace could be looked into (1), or some are missing (0).",
        c->sees_all && !c->nets_unseen && !c->interrupted);
    expose_family(e, false, "preclose_scan_duration_seconds", "How long it took to look.");
    expose_sample(e);
    expose_seconds(e, m->took_us);
}

void metrics_page(const struct metrics *m, int n, enum dialect dialect, FILE *out)
{
    struct exposition e = {.out = out, .dialect = dialect};
    if (n) put_logs(&e, m);
    if (!m->no_scan) put_scan(&e, m);
    expose_end(&e);
}
