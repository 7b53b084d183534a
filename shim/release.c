#include "release.h"

#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "act.h"
#include "clock.h"
#include "decide.h"
#include "family.h"
#include "guard.h"
#include "life.h"
#include "owners.h"
#include "probe.h"
#include "report.h"
#include "sys.h"
#include "threads.h"
#include "track.h"

#define PATIENCE_MS 300       // with a close under way in another thread, which a handler may have left for good
#define LOOK_PATIENCE_MS 2500 // with two looks of it into /proc, at their limits (procfs.h, procfs_limit)
#define OPENING_MS 20 // between the opening of a socket by the kernel and our noting of it

// Looking into /proc is slow, so it is paid from a purse that fills with time: a share of the process's
// life, and something to begin with, so that the one close that matters is always looked at.
struct purse {
    _Atomic int64_t spent_us;
    _Atomic int64_t least_us; // what a whole look took lately: with less none is begun, as half a look finds nothing
    int64_t start_us, percent, limit_us;
};

static struct purse threads_purse = {.start_us = 100000, .percent = 1, .limit_us = 30000};
static struct purse owners_purse = {.start_us = 500000, .percent = 3, .limit_us = 200000};
static const struct settings *settings;
static int64_t born_ms;         // 0: not known
static _Atomic int64_t paid_ms; // since when the purses fill; 0: since the next look

void release_start(const struct settings *s)
{
    settings = s;
    born_ms = clock_boottime_ms();
}

// Its time begins with the first look.
void release_child(void)
{
    born_ms = 0;
    atomic_store(&paid_ms, 0);
    atomic_store(&threads_purse.spent_us, 0);
    atomic_store(&threads_purse.least_us, 0);
    atomic_store(&owners_purse.spent_us, 0);
}

// How many microseconds the purse gives now; 0: nothing.
static uint64_t purse_open(struct purse *p, int64_t now)
{
    int64_t begun = 0;
    if (atomic_compare_exchange_strong(&paid_ms, &begun, now)) begun = now;
    int64_t earned = p->start_us + (now - begun) * 10 * p->percent;
    int64_t left = earned - atomic_load(&p->spent_us);
    if (left > p->start_us) {
        // Time in which nothing was to be looked at is not saved up without end.
        atomic_store(&p->spent_us, earned - p->start_us);
        left = p->start_us;
    }
    if (left <= 0 || left < atomic_load(&p->least_us)) return 0;
    return (uint64_t)(left < p->limit_us ? left : p->limit_us);
}

static void purse_pay(struct purse *p, uint64_t us)
{
    atomic_fetch_add(&p->spent_us, (int64_t)us);
}

static void purse_learn(struct purse *p, uint64_t whole_us)
{
    int64_t us = (int64_t)whole_us;
    atomic_store(&p->least_us, us < p->limit_us ? us : p->limit_us);
}

static void look_at_threads(struct release *w)
{
    w->s.blocked_known = true;
    if (!track_has_threads()) return;
    enum want want = decide_wants_threads(&w->s, settings);
    if (want == WANT_NOTHING) return;
    uint64_t limit = purse_open(&threads_purse, clock_boottime_ms());
    if (want == WANT_ACTION && settings->shutdown == ACT_BLOCKED) limit = (uint64_t)threads_purse.limit_us;
    w->s.blocked_known = false;
    if (!limit) return;
    track_mark(w->fd, FD_LOOKING, 0);
    uint64_t took = threads_blocked_on(w->fd, limit, &w->blocked);
    track_mark(w->fd, 0, FD_LOOKING);
    purse_pay(&threads_purse, took);
    purse_learn(&threads_purse, w->blocked.known ? took : 2 * limit);
    w->s.blocked_known = w->blocked.known;
    w->s.blocked = w->blocked.n;
    w->s.blocked_sending = w->blocked.sending;
    w->s.blocked_waiting = w->blocked.waiting;
    w->s.running = w->blocked.running;
}

// A thread that write has blocked in gets SIGPIPE when a shutdown wakes it, and by default the process dies
// of that (net/core/stream.c sk_stream_error; unix sockets raise none).
static void look_for_death(struct release *w)
{
    bool possible = w->blocked.sigpipe || decide_fears_sigpipe(&w->s);
    bool tcp = w->r.kind == KIND_TCP || w->r.kind == KIND_TCP6;
    w->s.deadly = possible && tcp && threads_die_of_sigpipe();
}

// What other processes that have it by a fork have done with it. One that has been passed on is found in no process for
// certain, and one that a program has got may be in any.
static enum told ask_family(struct release *w)
{
    uint64_t since = w->r.opened_ms > OPENING_MS ? w->r.opened_ms - OPENING_MS : 0;
    enum told told = family_told(w->r.cookie, since);
    if (told == TOLD_PASSED) w->s.share = SHARE_PASSED;
    return told;
}

// May a program have got it, which no library saw passing it on? It takes an exec, and no close-on-exec.
static bool is_at_large(const struct release *w, enum told told)
{
    if (told >= TOLD_UNSEEN) return true;
    return (w->r.exposed || told == TOLD_LEAKED) && (uint32_t)family_execs() != w->r.execs;
}

static void look_for_owners(struct release *w)
{
    if (!decide_wants_proof(&w->s, settings)) return;
    enum told told = ask_family(w);
    if (told == TOLD_PASSED) return;
    uint64_t limit = purse_open(&owners_purse, clock_boottime_ms());
    if (!limit) return;
    // What this process has not opened itself, older processes may hold: its parent, at least. What it has, a
    // child may hold that another thread forked before the time of the opening was noted.
    bool ours = w->r.share != SHARE_INHERITED && !w->r.forefathers;
    int64_t opened = (int64_t)w->r.opened_ms - OPENING_MS;
    uint64_t since = !ours ? 0 : (uint64_t)(opened > born_ms ? opened : born_ms);
    // The answer is true of a moment: any fork or spawn from here on puts it in doubt (perform).
    w->r.forks = track_forks();
    w->r.leaky = true;
    struct owners_answer a;
    bool at_large = is_at_large(w, told);
    track_mark(w->fd, FD_LOOKING, 0);
    owners_prove(w->fd, probe_inode(w->fd), since, at_large, limit, &a);
    track_mark(w->fd, 0, FD_LOOKING);
    purse_pay(&owners_purse, a.took_us);
    w->s.proof = a.owners;
    w->holder = a.pid;
    // Again: one that is found without it now may have passed it on meanwhile.
    told = ask_family(w);
    if (is_at_large(w, told) != at_large) w->s.proof = OWNERS_UNKNOWN;
}

// Is what a decision rests on enough to ask for, if nothing is unusual? Whoever has asked for more than the default
// decides by more; what others may have done to the socket is not known.
static bool is_plain(const struct release *w)
{
    if (settings->unread != UNREAD_SHUTDOWN || settings->shutdown != ACT_ALWAYS) return false;
    if (w->r.flags & (SOCK_ASK | SOCK_HANDS_OFF) || life_has_io_uring()) return false;
    return w->r.share == SHARE_NONE && !w->r.forefathers;
}

static void ask_everything(struct release *w)
{
    w->whole = true;
    probe_facts(w->fd, w->r.kind, w->r.cookie & PROBE_NO_COOKIE ? 0 : w->r.cookie, &w->facts);
    if (settings->unread == UNREAD_DRAIN && w->facts.unread == 0) w->facts.busy_ms = probe_busy(w->fd);
}

// The state of a connection matters to who may be sending on it, and to what the program has shut down before.
static void ask(struct release *w)
{
    const unsigned both = SOCK_SHUT_RD | SOCK_SHUT_WR;
    bool asks_state = !(w->r.flags & SOCK_CONNECTED) || (w->r.flags & both) == both || track_has_threads() ||
                      report_wants(EVENT_CLOSE);
    if (w->s.others) facts_clear(&w->facts, w->r.kind);
    else if (!is_plain(w) || !probe_idle(w->fd, w->r.kind, asks_state, &w->facts)) ask_everything(w);
    if (!(w->r.cookie & PROBE_NO_COOKIE)) w->facts.cookie = w->r.cookie;
}

static void examine(struct release *w)
{
    w->s = (struct situation){
        .facts = &w->facts,
        .others = w->r.others,
        .share = w->r.share,
        .proof = OWNERS_UNKNOWN,
        .flags = w->r.flags,
        .stuck = w->r.stuck,
        .io_uring = life_has_io_uring(),
    };
    ask(w);
    look_at_threads(w);
    look_for_death(w);
    look_for_owners(w);
}

// The last question before something is done or told, as looking around takes time: a raw close may have given the
// number to another socket, of which then all this was said, or which may have got another holder. Whoever would be
// one from here on waits for the program's call (release_disturb).
static void make_sure(struct release *w)
{
    bool acts = w->v.action != ACTION_NONE, changed = false;
    if (acts && track_has_threads()) track_mark(w->fd, FD_ACTING, 0);
    uint64_t id = probe_identity(w->fd);
    if (id != w->r.cookie || !id) {
        w->s.stale = changed = true;
        facts_clear(&w->facts, w->r.kind);
    }
    uint32_t state = track_state(w->fd);
    if (state & FD_DOUBT) w->s.others = changed = true;
    if (state & FD_GIVEN) w->r.leaky = true;
    if (track_shared_since(&w->r)) {
        if (w->s.share == SHARE_NONE) w->s.share = SHARE_FORK;
        w->s.proof = OWNERS_UNKNOWN;
        changed = true;
    }
    if (changed) decide(&w->s, settings, &w->v);
    if (acts && w->v.action == ACTION_NONE) track_mark(w->fd, 0, FD_ACTING);
}

static bool hold_for_drain(struct release *w)
{
    if (!drain_begin(&w->drain, w->fd, w->r.kind, w->facts.linger_s > 0)) return false;
    w->drains = probe_identity(w->drain.fd) == w->r.cookie;
    if (!w->drains) drain_drop(&w->drain);
    return w->drains;
}

static bool has_news(const struct release *w)
{
    bool later = w->timed || w->v.action == ACTION_DRAIN; // there may be more to tell
    return w->v.findings != 1u << EVENT_CLOSE || later || report_wants(EVENT_CLOSE);
}

// What is to be done, and what is to be told.
static void judge(struct release *w)
{
    decide(&w->s, settings, &w->v);
    w->tells = has_news(w);
    bool known = w->v.findings == 1u << EVENT_CLOSE && w->facts.unread == 0 && w->facts.unsent == 0;
    if (w->tells && !w->whole && !w->s.others && !known) {
        ask_everything(w);
        decide(&w->s, settings, &w->v);
        w->tells = has_news(w);
    }
    if (w->tells) probe_addresses(w->fd, &w->facts);
    if (w->tells || w->v.action != ACTION_NONE) make_sure(w);
}

static void perform(struct release *w)
{
    if (w->v.action == ACTION_NONE) return;
    if (!act_leave_epoll(w->fd, &w->r)) {
        w->s.stuck = true;
        decide(&w->s, settings, &w->v);
    }
    if (w->v.action == ACTION_DRAIN && !hold_for_drain(w)) {
        w->s.undrained = true;
        decide(&w->s, settings, &w->v);
    }
    w->drain.fin_later = w->v.fin_later;
    if (!act(w->fd, &w->v)) {
        w->s.refused = true;
        decide(&w->s, settings, &w->v);
    }
    if (w->v.action != ACTION_SHUTDOWN || !(w->v.findings & 1u << EVENT_UNREAD_RESET)) return;
    w->s.left_in = probe_state(w->fd, w->r.kind);
    decide(&w->s, settings, &w->v);
}

// drained: how that went; NULL: there was nothing to drain.
static void tell(struct release *w, const struct drained *drained)
{
    int64_t closing_ms = w->timed ? w->call_us / 1000 : 0, draining_ms = drained ? drained->ms : 0;
    if (drained) closing_ms += drained->close_ms;
    if (drained && w->facts.unread <= 0) {
        w->s.late = drained->bytes ? LATE_BYTES : LATE_NOTHING;
        decide(&w->s, settings, &w->v);
    }
    if (w->timed && closing_ms >= settings->slow_close_ms) w->v.findings |= 1u << EVENT_SLOW_CLOSE;
    struct finding f = {
        .fd = w->fd,
        .facts = w->s.stale ? NULL : &w->facts,
        .blocked = &w->blocked,
        .action = w->v.action,
        .reason = w->v.reason,
        .acted = true,
        .holder = w->holder,
        .deadly = w->s.deadly,
        .drained = w->v.action == ACTION_DRAIN ? drained : NULL,
        .age_ms = w->r.opened.call == CALL_EXEC ? UNKNOWN : clock_boottime_ms() - (int64_t)w->r.opened_ms,
        .opened = w->r.opened,
        .closed = w->closed,
    };
    for (unsigned e = 0; e < EVENT_COUNT; e++)
        if (w->v.findings & 1u << e) {
            f.event = (enum event)e;
            f.blocked_ms = f.event == EVENT_SLOW_CLOSE ? closing_ms : closing_ms + draining_ms;
            report(&f);
        }
    if (w->v.findings & 1u << EVENT_LEFT_BLOCKED) threads_left(w->fd, &w->blocked);
}

// Not all of it at once: it is long, and most of it is for what is told.
static void clear(struct release *w, int fd)
{
    w->pending = w->tells = w->whole = w->drains = w->timed = false;
    w->fd = fd;
    w->holder = 0;
    w->call_us = 0;
    w->next = NULL;
    w->drain.fin_later = false;
    threads_none(&w->blocked);
}

// Is it clear without a question that nothing is to be done, and that nobody will read of it? Another descriptor holds
// the socket, or another process may, and no thread can be blocked on it.
static bool is_clear(const struct release *w)
{
    if (report_wants(EVENT_CLOSE)) return false;
    return w->r.others || (w->r.share != SHARE_NONE && !track_has_threads());
}

static void work_on(struct release *w, int fd, enum call call, uintptr_t pc, bool may_act)
{
    if (track_is_last(fd) && !guard_sure()) return;
    const struct place closed = place_here(call, pc); // apart, or the analyzer takes all of *w for unchanged
    if (!track_retire(fd, &closed, &w->r) || w->r.epoll) return;
    w->closed = closed;
    w->pending = true;
    if (is_clear(w)) {
        report_count(EVENT_CLOSE);
        return;
    }
    if (!may_act) w->r.flags |= SOCK_HANDS_OFF;
    examine(w);
    w->timed = decide_times_close(&w->s, settings);
    judge(w);
    perform(w);
    if (!w->tells) report_count(EVENT_CLOSE);
}

void release_begin(struct release *w, int fd, enum call call, uintptr_t pc, bool may_act)
{
    clear(w, fd);
    if (!(track_state(fd) & (FD_SOCKET | FD_EPOLL))) return;
    struct guard g;
    switch (guard_enter(&g)) {
    case ENTRY_OK:
        work_on(w, fd, call, pc, may_act);
        if (w->timed) w->call_us = clock_monotonic_us();
        guard_leave(&g);
        break;
    case ENTRY_NESTED:
        track_mark(fd, FD_CLOSED, FD_SOCKET | FD_EPOLL);
        break;
    case ENTRY_OFF:
        break;
    }
}

// Ends the work for which guard_enter has returned ENTRY_OK. Returns false if what else there is to do is not ours any
// more: preclose is off, or this is a child that a handler has forked meanwhile.
static bool finish(struct release *w, struct guard *g, int64_t drain_ms)
{
    struct drained drained = {.child = false};
    int64_t first_ms = w->facts.unread > 0 ? drain_ms : w->facts.busy_ms;
    if (w->drains && !drain(&w->drain, g, drain_ms, first_ms, &drained)) return false;
    if (!drained.child) tell(w, w->drains ? &drained : NULL);
    guard_leave(g);
    return !drained.child;
}

void release_end(struct release *w)
{
    if (!w->pending) return;
    track_closed(w->fd, w->r.closing);
    struct guard g;
    if (!w->tells || guard_enter(&g) != ENTRY_OK) return;
    if (w->timed) w->call_us = clock_monotonic_us() - w->call_us;
    finish(w, &g, settings->drain_ms);
}

// A copy that lasts until release_range_end; NULL: there is no memory.
static struct release *keep(const struct release *w, struct release *next)
{
    long page = sys_call6(SYS_mmap, 0, sizeof *w, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page <= 0) return NULL;
    struct release *kept = (struct release *)page;
    *kept = *w;
    kept->s.facts = &kept->facts;
    kept->next = next;
    return kept;
}

// Kept out of its callers, which do not pay for the frame where there is nothing to do. Returns the list of those kept.
__attribute__((noinline)) static struct release *release_one(int fd, enum call call, uintptr_t pc, struct release *list)
{
    struct release w;
    struct guard g;
    release_begin(&w, fd, call, pc, true);
    if (!w.pending || !w.tells) return list;
    struct release *kept = w.drains || w.timed ? keep(&w, list) : NULL;
    if (kept) return kept;
    w.timed = false;
    if (guard_enter(&g) == ENTRY_OK) finish(&w, &g, 0);
    return list;
}

struct release *release_range(unsigned first, unsigned last, enum call call, uintptr_t pc)
{
    struct release *kept = NULL;
    for (int fd = track_next(first, last); fd >= 0; fd = track_next((unsigned)fd + 1, last))
        kept = release_one(fd, call, pc, kept);
    struct guard g;
    if (!kept || guard_enter(&g) != ENTRY_OK) return kept;
    kept->call_us = clock_monotonic_us();
    guard_leave(&g);
    return kept;
}

// Of several that linger, the one with the most to deliver is taken to be what the call has waited for.
static void take_time(struct release *list, int64_t us)
{
    struct release *most = NULL;
    for (struct release *w = list; w; w = w->next)
        if (w->timed && (!most || w->facts.unsent > most->facts.unsent)) most = w;
    for (struct release *w = list; w; w = w->next) w->timed = w == most;
    if (most) most->call_us = us;
}

void release_range_end(unsigned first, unsigned last, struct release *kept)
{
    struct guard g;
    if (guard_enter(&g) != ENTRY_OK) return;
    int64_t end = clock_boottime_ms() + settings->drain_ms;
    if (kept) take_time(kept, clock_monotonic_us() - kept->call_us);
    track_closed_range(first, last, guard_tid());
    guard_leave(&g);
    for (struct release *next; kept; kept = next) {
        next = kept->next;
        if (guard_enter(&g) != ENTRY_OK) return;
        int64_t left = end - clock_boottime_ms();
        if (!finish(kept, &g, left > 0 ? left : 0) || guard_enter(&g) != ENTRY_OK) return;
        sys_call(SYS_munmap, (long)kept, sizeof *kept, 0);
        guard_leave(&g);
    }
}

// The cookie of the socket that fd still is, and that another thread is closing; 0: it is not so.
static uint64_t is_under_way(int fd)
{
    uint64_t closing = track_closing(fd, guard_tid());
    return closing && probe_identity(fd) == closing ? closing : 0;
}

struct patience {
    int64_t since, end; // milliseconds; 0: not begun
};

// Waits while fd has that state, as another thread is closing it. Bounded: a handler may have jumped out of that close,
// which is then forgotten. Returns false if so.
static bool wait_while(int fd, uint32_t state, struct patience *p)
{
    uint64_t closing;
    while (track_state(fd) & state && (closing = is_under_way(fd))) {
        int64_t now = clock_boottime_ms();
        if (!p->since) *p = (struct patience){now, now + PATIENCE_MS};
        if (track_state(fd) & FD_LOOKING && now < p->since + LOOK_PATIENCE_MS) p->end = now + PATIENCE_MS;
        if (now > p->end) {
            track_give_up(fd, closing);
            return false;
        }
        // A thread of high priority would not make way for the other by a yield.
        if (now < p->since + 2) sys_call(SYS_sched_yield, 0, 0, 0);
        else sys_call(SYS_nanosleep, (long)&(struct timespec){.tv_nsec = 100000}, 0, 0);
    }
    return true;
}

bool release_under_way(int fd)
{
    struct guard g;
    struct patience p = {0};
    if (!(track_state(fd) & FD_CLOSING) || guard_enter(&g) != ENTRY_OK) return false;
    bool first = is_under_way(fd) && wait_while(fd, FD_CLOSING, &p);
    guard_leave(&g);
    return first;
}

void release_disturb(int fd)
{
    struct patience p = {0};
    if (!(track_state(fd) & FD_CLOSING) || !is_under_way(fd)) return;
    track_mark(fd, FD_DOUBT, 0);
    wait_while(fd, FD_ACTING, &p);
}

static void wait_for_all(unsigned first, unsigned last, uint32_t state)
{
    struct guard g;
    struct patience p = {0};
    int fd = track_next_in(first, last, state);
    if (fd < 0 || guard_enter(&g) != ENTRY_OK) return;
    for (; fd >= 0; fd = track_next_in((unsigned)fd + 1, last, state)) wait_while(fd, state, &p);
    guard_leave(&g);
}

void release_wait(unsigned first, unsigned last)
{
    wait_for_all(first, last, FD_CLOSING);
}

void release_wait_acting(void)
{
    if (track_has_threads()) wait_for_all(0, UINT_MAX, FD_ACTING);
}
