#include "scan.h"

#include <poll.h>
#include <time.h>

#include "clock.h"
#include "decide.h"
#include "lock.h"
#include "probe.h"
#include "release.h"
#include "report.h"
#include "sys.h"
#include "touched.h"
#include "track.h"

#define STEP 64         // connections that are polled at once
#define SLICE 16        // the same, where time is short
#define TELL_US 30      // what a finding takes: with less left none is begun, but as a step's first work
#define COUNTED_MS 1000 // in CLOSE_WAIT for less than that is no leak: the program may be about to close it
#define EXIT_LINES 16   // connections that are told one by one at exit
#define UNIT_MS 16      // of the times that track keeps: 32 bits of it are two years

static struct {
    lock_t lock;
    int64_t limit_ms; // PRECLOSE_CLOSE_WAIT; 0: nobody looks
    unsigned next;    // the round under way goes on from this descriptor; 0: a new one begins
    bool whole; // a round has ended
    bool at_exit;
    int64_t now_ms;
} self;

TOUCHED_APART static struct {
    struct leaks leaks;
    struct pollfd polled[STEP]; // not on the stack, of which a handler may have little
} seen;

void scan_start(const struct settings *settings)
{
    self.limit_ms = settings->watch == WATCH_OFF ? 0 : settings->close_wait_ms;
}

// In a child whose parent was, or had been, looking: not before the child does so itself, if it ever does.
static void begin_anew(void)
{
    touch(&touched.scan);
    if (!touched_anew(&touched.scan_anew)) return;
    lock_reset(&self.lock);
    self.next = 0;
    seen.leaks.places = 0;
    self.whole = self.at_exit = false;
}

// Rounded up, so that an age is never too great; never 0.
static uint32_t units_of(int64_t ms)
{
    uint32_t units = (uint32_t)((ms + UNIT_MS - 1) / UNIT_MS);
    return units ? units : 1;
}

static int64_t since_ms(uint32_t wait)
{
    uint32_t ago = (uint32_t)(self.now_ms / UNIT_MS) - wait;
    return ago > UINT32_MAX / 2 ? self.now_ms : self.now_ms - (int64_t)ago * UNIT_MS; // noted a moment ago
}

// The program may have shut the connection down for reading itself: only the state says that the peer has closed.
static bool notice(int fd, struct connection *c)
{
    struct silence s;
    if (!probe_silence(fd, &s) || s.state != TCP_STATE_CLOSE_WAIT) return false;
    c->wait = units_of(self.now_ms - s.ack_ms);
    track_wait(fd, c->cookie, c->wait);
    return true;
}

static void tell(struct finding *f, int fd, const struct connection *c, struct facts *facts)
{
    probe_addresses(fd, facts);
    // The program may have closed it meanwhile, and the number be another's.
    if (probe_identity(fd) != c->cookie) return;
    f->fd = fd;
    f->facts = facts;
    f->age_ms = clock_boottime_ms() - (int64_t)c->opened_ms;
    f->opened = c->opened;
    report(f);
}

// Is fd still that connection, and in CLOSE_WAIT for certain as long as it seems? *age_ms is corrected.
static bool has_waited(int fd, const struct connection *c, int64_t *age_ms)
{
    struct silence s;
    if (!probe_silence(fd, &s) || s.state != TCP_STATE_CLOSE_WAIT) return false;
    *age_ms = leaks_age(self.now_ms, since_ms(c->wait), s.data_ms);
    if (*age_ms < self.limit_ms) track_wait(fd, c->cookie, units_of(self.now_ms - *age_ms));
    return *age_ms >= self.limit_ms && probe_identity(fd) == c->cookie;
}

static void tell_close_wait(int fd, const struct connection *c, int64_t age_ms)
{
    if (!has_waited(fd, c, &age_ms) || !track_tell(fd, c->cookie)) return;
    struct finding f = {.event = EVENT_CLOSE_WAIT, .close_wait_ms = age_ms, .shared = c->share != SHARE_NONE};
    struct facts facts;
    probe_facts(fd, c->kind, c->cookie, &facts);
    tell(&f, fd, c, &facts);
}

// A connection that poll says its peer has closed. Returns false if there is something to tell, and no time for it
// before tell_until_us (0: there is).
static bool look(int fd, struct connection *c, int64_t tell_until_us)
{
    if (!c->wait && !notice(fd, c)) return true;
    int64_t age_ms = self.now_ms - since_ms(c->wait);
    bool due = age_ms >= self.limit_ms && !(c->flags & SOCK_TOLD);
    if (due && tell_until_us && tell_until_us - clock_monotonic_us() < TELL_US) return false;
    if (due) tell_close_wait(fd, c, age_ms);
    if (self.at_exit || age_ms >= COUNTED_MS || age_ms >= self.limit_ms)
        leaks_count(&seen.leaks, &c->opened, age_ms);
    return true;
}

static unsigned gather(unsigned most, short events)
{
    unsigned n = 0;
    int fd = track_next_with(self.next, FD_TCP);
    for (; fd >= 0 && n < most; fd = track_next_with((unsigned)fd + 1, FD_TCP))
        seen.polled[n++] = (struct pollfd){.fd = fd, .events = events};
    self.next = fd < 0 ? TRACK_FD_MAX : (unsigned)fd;
    probe_hangups(seen.polled, n);
    return n;
}

// In CLOSE_WAIT, or shut down for reading by the program.
static bool is_half_closed(const struct pollfd *p)
{
    return (p->revents & (POLLRDHUP | POLLHUP | POLLNVAL)) == POLLRDHUP;
}

static void begin_round(void)
{
    track_own_connections();
    self.next = 0;
    leaks_begin(&seen.leaks);
}

static void end_round(void)
{
    leaks_end(&seen.leaks, self.now_ms);
    self.whole = true;
    self.next = 0;
}

static enum scan step(int64_t until_us)
{
    self.now_ms = clock_monotonic_us() / 1000;
    if (!self.next) begin_round();
    unsigned n = gather(until_us ? SLICE : STEP, POLLRDHUP);
    for (const struct pollfd *p = seen.polled; p < seen.polled + n; p++) {
        struct connection c;
        if (!is_half_closed(p) || !track_connection(p->fd, &c) || !c.representative) continue;
        bool done = look(p->fd, &c, p == seen.polled ? 0 : until_us);
        if (done && (!until_us || clock_monotonic_us() < until_us)) continue;
        unsigned rest = (unsigned)p->fd + (done ? 1 : 0);
        if (rest < self.next) self.next = rest;
        return SCAN_MORE;
    }
    if (self.next < TRACK_FD_MAX) return SCAN_MORE;
    end_round();
    return SCAN_DONE;
}

enum scan scan_step(int64_t until_us)
{
    if (!self.limit_ms) return SCAN_DONE;
    begin_anew();
    if (until_us && !lock_try(&self.lock)) return SCAN_BUSY;
    if (!until_us) lock_take(&self.lock);
    enum scan result = step(until_us);
    lock_give(&self.lock);
    return result;
}

// What is open at exit and not told one by one.
struct untold {
    unsigned seen, warnings_told, notices_told, more;
    bool grave;
};

static void count_more(struct untold *u, unsigned n, bool grave)
{
    u->more += n;
    u->grave |= grave;
}

static int64_t waited_ms(int fd, struct connection *c)
{
    struct silence s;
    if (!c->wait && !notice(fd, c)) return 0;
    if (!probe_silence(fd, &s)) return 0;
    return leaks_age(self.now_ms, since_ms(c->wait), s.data_ms);
}

static void tell_open(int fd, struct connection *c, struct untold *u)
{
    struct facts facts;
    enum level level;
    bool shared = c->share != SHARE_NONE;
    if (probe_identity(fd) != c->cookie) return;
    probe_facts(fd, c->kind, c->cookie, &facts);
    if (!decide_open_at_exit(&facts, shared, &level)) return;
    struct finding f = {.event = EVENT_OPEN_AT_EXIT, .grave = level == LEVEL_WARNING, .shared = shared};
    unsigned *told = f.grave ? &u->warnings_told : &u->notices_told;
    if (*told == EXIT_LINES) {
        count_more(u, 1, f.grave);
        return;
    }
    if (facts.state == TCP_STATE_CLOSE_WAIT) f.close_wait_ms = waited_ms(fd, c);
    ++*told;
    tell(&f, fd, c, &facts);
}

static void look_at_exit(const struct pollfd *p, struct untold *u)
{
    struct connection c;
    if (!track_connection(p->fd, &c) || !c.representative || !(c.flags & SOCK_CONNECTED)) return;
    u->seen++;
    if (self.limit_ms && is_half_closed(p)) look(p->fd, &c, 0);
    if (p->revents & (POLLHUP | POLLNVAL)) return; // both sides are done with it, or it never was one
    // Where no line is left, or wanted, nothing more need be known than poll says.
    bool noisy = p->revents & (POLLIN | POLLRDHUP); // bytes unread, or in CLOSE_WAIT
    bool quiet = (p->revents & (POLLIN | POLLOUT | POLLRDHUP)) == POLLOUT; // established, and nothing unread
    if (quiet && !report_wants(EVENT_OPEN_AT_EXIT)) count_more(u, 1, false);
    else if (noisy && u->warnings_told == EXIT_LINES) count_more(u, 1, true);
    else tell_open(p->fd, &c, u);
}

static void tell_more(const struct untold *u)
{
    struct finding f = {.event = EVENT_OPEN_AT_EXIT, .fd = UNKNOWN, .age_ms = UNKNOWN, .grave = u->grave, .more = u->more};
    if (f.more) report(&f);
}

void scan_exit(int64_t limit_us)
{
    struct untold u = {0};
    begin_anew();
    int64_t end = clock_monotonic_us() + limit_us;
    while (!lock_try(&self.lock)) {
        if (clock_monotonic_us() > end) return;
        sys_call(SYS_sched_yield, 0, 0, 0);
    }
    self.at_exit = true;
    begin_round();
    do {
        self.now_ms = clock_monotonic_us() / 1000;
        unsigned n = gather(STEP, POLLIN | POLLOUT | POLLRDHUP);
        for (unsigned i = 0; i < n; i++) look_at_exit(&seen.polled[i], &u);
    } while (self.next < TRACK_FD_MAX && clock_monotonic_us() < end);
    bool whole = self.next == TRACK_FD_MAX;
    if (!whole && track_connections() > u.seen) count_more(&u, track_connections() - u.seen, false);
    if (self.limit_ms && (whole || !self.whole)) end_round();
    tell_more(&u);
    lock_give(&self.lock);
}

unsigned scan_leaks(struct leak *list, unsigned max)
{
    begin_anew();
    return leaks_list(&seen.leaks, list, max);
}
