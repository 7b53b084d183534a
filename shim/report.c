#include "report.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "lock.h"
#include "modules.h"
#include "rate.h"
#include "sink.h"
#include "sys.h"
#include "threads.h"
#include "touched.h"

static struct {
    lock_t lock;
    enum format format;
    enum level level;
    enum report_when when;
    unsigned limit; // PRECLOSE_RATE
    bool nowhere;   // PRECLOSE_LOG=none
    int pid;
    _Atomic bool warned; // a warning was found
    _Atomic bool summed_up;
    _Atomic uint64_t counts[EVENT_COUNT];
} self;

// What only lines need.
TOUCHED_APART static struct {
    char comm[16];
    struct rate rate;
    uint64_t held_back;         // since the start of the process
    uint64_t lost, lost_untold; // lines that could not be written: all, and those not yet told
    char line[LINE_MAX_BYTES];
} lines;

static void start_anew(void)
{
    lock_reset(&self.lock);
    self.pid = (int)sys_call(SYS_getpid, 0, 0, 0);
    for (unsigned e = 0; e < EVENT_COUNT; e++) atomic_store(&self.counts[e], 0);
    atomic_store(&self.warned, false);
    atomic_store(&self.summed_up, false);
    if (!touched_anew(&touched.report)) return;
    memset(&lines.rate, 0, sizeof lines.rate);
    lines.held_back = lines.lost = lines.lost_untold = 0;
}

void report_start(const struct settings *settings, const char *comm)
{
    self.format = settings->format;
    self.level = settings->level;
    self.when = settings->report;
    self.limit = settings->rate;
    self.nowhere = settings->log == LOG_NONE;
    size_t length = strnlen(comm, sizeof lines.comm - 1);
    memcpy(lines.comm, comm, length);
    lines.comm[length] = '\0';
    start_anew();
}

void report_child(void)
{
    start_anew();
    if (touched_anew(&touched.sink)) sink_child();
}

enum level finding_level(const struct finding *f)
{
    return f->grave ? LEVEL_WARNING : event_level(f->event);
}

static bool is_wanted(enum level level)
{
    return !self.nowhere && level <= self.level;
}

bool report_wants(enum event event)
{
    return is_wanted(event_level(event));
}

static bool put(const struct finding *f, struct line_context *c)
{
    c->time_us = clock_realtime_us();
    c->pid = self.pid;
    thread_names_forget();
    c->comm = lines.comm;
    size_t n = report_line(lines.line, sizeof lines.line, self.format, f, c);
    return sink_write(lines.line, n);
}

static uint64_t *admit(const struct finding *f)
{
    static uint64_t never_held;
    if (f->event == EVENT_CLOSE || !self.limit) return &never_held;
    uintptr_t pc = f->used.pc ? f->used.pc : f->closed.pc ? f->closed.pc : f->opened.pc;
    return rate_admit(&lines.rate, f->event, pc, clock_monotonic_us(), self.limit);
}

static void tell(const struct finding *f)
{
    touch(&touched.report);
    uint64_t *held = admit(f);
    if (!held) {
        lines.held_back++;
        return;
    }
    struct line_context c = {.held_back = *held, .lost = lines.lost_untold};
    if (put(f, &c)) {
        *held = 0;
        lines.lost_untold = 0;
    } else {
        lines.lost++;
        lines.lost_untold++;
    }
}

void report(const struct finding *f)
{
    atomic_fetch_add(&self.counts[f->event], f->more ? f->more : 1);
    if (finding_level(f) == LEVEL_WARNING) atomic_store(&self.warned, true);
    if (!is_wanted(finding_level(f))) return;
    lock_take(&self.lock);
    tell(f);
    lock_give(&self.lock);
}

void report_count(enum event event)
{
    atomic_fetch_add_explicit(&self.counts[event], 1, memory_order_relaxed);
}

bool report_warned(void)
{
    return atomic_load(&self.warned);
}

bool report_summary_due(void)
{
    if (self.nowhere || self.when == REPORT_NEVER || atomic_load(&self.summed_up)) return false;
    return self.when == REPORT_ALWAYS || report_warned();
}

void report_summary(const struct leak *leak, unsigned n)
{
    if (!report_summary_due() || atomic_exchange(&self.summed_up, true)) return;
    uint64_t counts[EVENT_COUNT];
    for (unsigned e = 0; e < EVENT_COUNT; e++) counts[e] = atomic_load(&self.counts[e]);
    const struct finding f = {.event = EVENT_SUMMARY, .fd = UNKNOWN, .age_ms = UNKNOWN};
    lock_take(&self.lock);
    struct line_context c = {
        .held_back = lines.held_back, .lost = lines.lost, .counts = counts, .leak = leak, .leaks = n};
    put(&f, &c);
    lock_give(&self.lock);
}
