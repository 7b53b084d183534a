// preclose metrics: what logs and a scan say, as metrics: once, into a file again and again, or over HTTP.
#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../shim/settings.h"
#include "clock.h"
#include "commands.h"
#include "follow.h"
#include "options.h"
#include "say.h"
#include "serve.h"

enum {
    EVERY_MS = 15000, // where --listen is given and --every is not
    SLICE_MS = 50,    // of reading, between looks at the network
    TICK_MS = 1000,   // how often logs are looked at
    PAGE_MS = 100,    // so old may a page be that is sent again,
    SCAN_MS = 1000,   // and a scan, but
    SCAN_SHARE = 10,  // scans take at most this part of the time
};

struct work {
    struct metrics m;
    struct follow *follow;
    int n; // logs that were asked for
    int64_t scanned_ms;
    bool scan_done;
    struct page *page[2]; // as OpenMetrics, or not
    int64_t page_ms[2];
    bool write_failed; // and that was said
};

static volatile sig_atomic_t ended;

static void end(int signal)
{
    (void)signal;
    ended = 1;
}

static bool take_dialect(const char *argument, enum dialect *dialect)
{
    static const char *const names[] = {[DIALECT_COMMON] = "common",
                                        [DIALECT_OPENMETRICS] = "openmetrics",
                                        [DIALECT_PROMETHEUS] = "prometheus"};
    for (enum dialect d = 0; d <= DIALECT_PROMETHEUS; d++) {
        *dialect = d;
        if (strcmp(names[d], argument) == 0) return true;
    }
    complain("--format=%s: takes common, openmetrics or prometheus", argument);
    return false;
}

static bool take(void *context, enum flag flag, const char *argument)
{
    struct metrics *m = context;
    switch (flag) {
    case FLAG_METRICS_OUTPUT:
        m->output = argument;
        return true;
    case FLAG_METRICS_LISTEN:
        m->listen = argument;
        return true;
    case FLAG_METRICS_EVERY:
        m->every_ms = settings_duration(argument);
        if (m->every_ms < 100)
            complain("--every=%s: takes a duration of 100ms or more, such as 15s", argument);
        return m->every_ms >= 100;
    case FLAG_METRICS_FORMAT:
        return take_dialect(argument, &m->dialect);
    case FLAG_METRICS_NO_SCAN:
        m->no_scan = true;
        return true;
    default:
        return false;
    }
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void scan(struct work *w)
{
    struct metrics *m = &w->m;
    const int64_t least = m->took_us / 1000 * SCAN_SHARE;
    if (m->no_scan || (w->scan_done && now_ms() - w->scanned_ms < (least > SCAN_MS ? least : SCAN_MS)))
        return;
    const int64_t began = now_us();
    census_free(&m->scan.census);
    m->scanned = census_take(&m->scan.census, false);
    m->took_us = now_us() - began;
    w->scanned_ms = now_ms();
    w->scan_done = true;
}

static bool follow_for(struct work *w, int64_t ms)
{
    const bool more = follow_read(w->follow, ms, counters_line, w->m.counters);
    w->m.lines = *follow_count(w->follow);
    w->m.open = follow_open(w->follow);
    w->m.failed = follow_failed(w->follow);
    return more;
}

static struct page *make_page(struct work *w, enum dialect dialect)
{
    char *text;
    size_t n;
    FILE *out = need(open_memstream(&text, &n));
    scan(w);
    metrics_page(&w->m, w->n, dialect, out);
    if (fclose(out) != 0) need(NULL);
    return page_new(text, n, dialect_type(dialect));
}

// A serve_page. Half of what the logs say would look as if counters had gone back.
static struct page *give_page(void *context, bool openmetrics)
{
    struct work *w = context;
    struct page **page = &w->page[openmetrics];
    follow_for(w, SLICE_MS);
    if (!follow_caught_up(w->follow)) return NULL;
    if (!*page || now_ms() - w->page_ms[openmetrics] >= PAGE_MS) {
        page_drop(*page);
        *page = make_page(w, openmetrics ? DIALECT_OPENMETRICS : DIALECT_PROMETHEUS);
        w->page_ms[openmetrics] = now_ms();
    }
    (*page)->users++;
    return *page;
}

// A pipe, a terminal or a device is written to; a file is replaced.
static bool is_replaced(const char *path)
{
    struct stat s;
    return stat(path, &s) != 0 || S_ISREG(s.st_mode);
}

static bool write_page(const struct page *p, FILE *out)
{
    bool ok = out && fwrite(p->text, 1, p->n, out) == p->n;
    if (out) ok = fclose(out) == 0 && ok;
    return ok;
}

// Into a file beside it, that takes its place when it is whole: who reads it sees the old one or the new one.
// Its name does not end as the collector's files do (*.prom).
static bool replace(const struct page *p, const char *path)
{
    char *real = realpath(path, NULL), *new;
    if (asprintf(&new, "%s.XXXXXX", real ? real : path) < 0) need(NULL);
    const mode_t mask = umask(0);
    umask(mask);
    const int fd = mkostemp(new, O_CLOEXEC);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    bool ok = out && fchmod(fd, 0666 & ~mask) == 0;
    ok = write_page(p, out) && ok && rename(new, real ? real : path) == 0;
    if (!ok && fd >= 0) {
        const int error = errno;
        unlink(new);
        errno = error;
    }
    free(new);
    free(real);
    return ok;
}

static bool write_file(struct work *w)
{
    const char *path = w->m.output;
    struct page *p = make_page(w, w->m.dialect);
    errno = 0;
    const bool ok = is_replaced(path) ? replace(p, path) : write_page(p, fopen(path, "we"));
    if (!ok && !w->write_failed) complain("cannot write %s: %s", path, strerror(errno));
    w->write_failed = !ok;
    page_drop(p);
    return ok;
}

// SIGTERM and SIGINT come only while it waits.
static void take_signals(sigset_t *waiting)
{
    const struct sigaction on_end = {.sa_handler = end}, ignore = {.sa_handler = SIG_IGN};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, waiting);
    sigdelset(waiting, SIGTERM);
    sigdelset(waiting, SIGINT);
    sigaction(SIGTERM, &on_end, NULL);
    sigaction(SIGINT, &on_end, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

static int stay(struct work *w, char **logs)
{
    sigset_t waiting;
    take_signals(&waiting); // before it says that it is there
    struct serve *s = w->m.listen ? serve_open(w->m.listen) : NULL;
    int64_t next = 0;
    if (w->m.listen && !s) return STATUS_FAILED;
    w->follow = follow_new(logs, w->n);
    while (!ended) {
        const bool more = follow_for(w, SLICE_MS);
        const bool write = w->m.output && follow_caught_up(w->follow);
        if (write && now_ms() >= next) {
            write_file(w);
            next = now_ms() + w->m.every_ms;
        }
        const int64_t left = write ? next - now_ms() : TICK_MS;
        serve_wait(s, more || left < 0 ? 0 : left < TICK_MS ? (int)left : TICK_MS, &waiting, give_page, w);
    }
    serve_close(s);
    return STATUS_OK;
}

// Reads the logs to their end, one after the other.
static void read_logs(struct work *w, char **logs)
{
    for (int i = 0; i < w->n; i++) {
        struct lines *l = lines_open(logs[i]);
        int more = l ? 1 : -1;
        while (more > 0) more = lines_read(l, false, &w->m.lines, counters_line, w->m.counters);
        if (l) lines_close(l);
        if (more < 0)
            w->m.failed++;
        else
            w->m.open++;
    }
}

static int once(struct work *w, char **logs)
{
    read_logs(w, logs);
    bool ok = true;
    if (w->m.output) {
        ok = write_file(w);
    } else {
        struct page *p = make_page(w, w->m.dialect);
        fwrite(p->text, 1, p->n, stdout);
        page_drop(p);
        ok = output_done();
    }
    if (w->m.scanned < 0)
        complain("the kernel does not tell of its sockets (sock_diag): %s; it needs CONFIG_INET_DIAG",
                 strerror(-w->m.scanned));
    return ok && !w->m.failed && w->m.scanned == 0 ? STATUS_OK : STATUS_FAILED;
}

int command_metrics(int argc, char **argv)
{
    struct work w = {.m.scan = {.states = diag_state_bit("close-wait"), .warn = -1, .crit = -1}};
    const int first = options_read(COMMAND_METRICS, argc, argv, take, &w.m);
    if (first < 0) return STATUS_USAGE;
    if (w.m.every_ms && !w.m.output) {
        complain("--every needs --output=FILE; see: preclose metrics --help");
        return STATUS_USAGE;
    }
    w.n = argc - first;
    w.m.counters = counters_new();
    if (w.m.listen && !w.m.every_ms) w.m.every_ms = EVERY_MS;
    return w.m.every_ms ? stay(&w, argv + first) : once(&w, argv + first);
}
