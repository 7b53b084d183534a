#include "misuse.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "guard.h"
#include "inuse.h"
#include "lock.h"
#include "report.h"
#include "sys.h"
#include "touched.h"
#include "track.h"

#define WAITING 3      // double closes in a row that are kept back
#define RETRIES 1000 // failures within a second

__thread struct misuse_closes misuse_closes;

// The failing accepts of this thread.
static __thread struct {
    int fd;
    unsigned n;
    bool told;
    int64_t first_ms, last_ms;
} retries __attribute__((tls_model("initial-exec")));

// Findings of one thread that may turn out to be a sweep.
static struct {
    lock_t lock;
    _Atomic unsigned n;
    pid_t tid;
} waiting;

TOUCHED_APART static struct finding held[WAITING];

static void tell_waiting(void)
{
    for (unsigned i = 0; i < atomic_load(&waiting.n); i++) report(&held[i]);
    atomic_store(&waiting.n, 0);
}

void misuse_note_close(int fd)
{
    bool neighbour = misuse_count_close(fd);
    struct guard g;
    if (!misuse_closes.waits || (neighbour && misuse_closes.run < MISUSE_SWEEP_LENGTH)) return;
    if (guard_enter(&g) != ENTRY_OK) return;
    lock_take(&waiting.lock);
    if (waiting.tid == guard_tid()) {
        if (neighbour) atomic_store(&waiting.n, 0);
        else tell_waiting();
    }
    misuse_closes.waits = false;
    lock_give(&waiting.lock);
    guard_leave(&g);
}

static bool describe(struct finding *f, enum event event, int fd, enum call call, uintptr_t pc)
{
    *f = (struct finding){
        .event = event,
        .fd = fd,
        .age_ms = UNKNOWN,
        .used = place_here(call, pc),
    };
    return track_closed_at(fd, &f->opened, &f->closed);
}

void misuse_double_close(int fd, uintptr_t pc)
{
    struct guard g;
    if (misuse_closes.run >= MISUSE_SWEEP_LENGTH || guard_enter(&g) != ENTRY_OK) return;
    struct finding f;
    if (describe(&f, EVENT_DOUBLE_CLOSE, fd, CALL_CLOSE, pc)) {
        lock_take(&waiting.lock);
        if (waiting.tid != guard_tid() || atomic_load(&waiting.n) == WAITING) tell_waiting();
        waiting.tid = guard_tid();
        held[atomic_load(&waiting.n)] = f;
        atomic_fetch_add(&waiting.n, 1);
        misuse_closes.waits = true;
        lock_give(&waiting.lock);
    }
    guard_leave(&g);
}

void misuse_use(int fd, enum call call, uintptr_t pc)
{
    struct guard g;
    if (!(track_state(fd) & FD_CLOSED) || guard_enter(&g) != ENTRY_OK) return;
    struct finding f;
    misuse_flush_own();
    if (describe(&f, EVENT_USE_AFTER_CLOSE, fd, call, pc)) report(&f);
    guard_leave(&g);
}

// Is this failure one of a loop that never ends? first is set where it is the first that shows it.
static bool in_retry_loop(int fd, bool *first)
{
    int64_t now = clock_monotonic_us() / 1000;
    bool same = fd == retries.fd && now - (retries.told ? retries.last_ms : retries.first_ms) < 1000;
    if (!same) retries.n = 0, retries.told = false;
    if (!retries.n) retries.fd = fd, retries.first_ms = now;
    retries.last_ms = now;
    retries.n++;
    *first = !retries.told && retries.n >= RETRIES;
    if (*first) retries.told = true;
    return retries.told;
}

void misuse_accept(int fd, enum call call, uintptr_t pc)
{
    struct guard g;
    if (!(track_state(fd) & FD_CLOSED) || guard_enter(&g) != ENTRY_OK) return;
    bool first, loop = in_retry_loop(fd, &first);
    struct finding f;
    if (first && describe(&f, EVENT_RETRY_LOOP, fd, call, pc)) report(&f);
    guard_leave(&g);
    struct timespec hold = {0, 10000000};
    if (loop) sys_call(SYS_nanosleep, (long)&hold, 0, 0); // outside: a signal may end it
}

// Returns false if it is not an address of TCP.
static bool copy_address(struct address *to, const struct sockaddr *from, socklen_t length)
{
    *to = (struct address){.len = length < sizeof to->u ? length : sizeof to->u};
    memcpy(&to->u, from, to->len);
    sa_family_t family = to->u.any.sa_family;
    const size_t least = offsetof(struct sockaddr_in6, sin6_scope_id); // RFC 2133 knew no scope
    return family == AF_INET ? to->len >= sizeof to->u.in : family == AF_INET6 && to->len >= least;
}

void misuse_bind(int fd, const struct sockaddr *address, socklen_t length, uintptr_t pc)
{
    struct guard g;
    if (guard_enter(&g) != ENTRY_OK) return;
    struct facts facts = {.kind = probe_kind(fd), .unread = UNKNOWN, .unsent = UNKNOWN, .backlog = UNKNOWN};
    struct in_use in_use = {0};
    struct finding f = {
        .event = EVENT_ADDRESS_IN_USE,
        .fd = fd,
        .facts = &facts,
        .age_ms = UNKNOWN,
        .used = place_here(CALL_BIND, pc),
        .in_use = &in_use,
    };
    if ((facts.kind == KIND_TCP || facts.kind == KIND_TCP6) && copy_address(&facts.local, address, length)) {
        misuse_flush_own();
        facts.cookie = probe_cookie(fd);
        if (report_wants(EVENT_ADDRESS_IN_USE)) inuse_ask(fd, facts.kind, &facts.local, &in_use);
        report(&f);
    }
    guard_leave(&g);
}

void misuse_flush_own(void)
{
    if (!atomic_load_explicit(&waiting.n, memory_order_relaxed)) return;
    lock_take(&waiting.lock);
    if (waiting.tid == guard_tid()) tell_waiting();
    lock_give(&waiting.lock);
}

bool misuse_waiting(void)
{
    return atomic_load(&waiting.n) != 0;
}

void misuse_flush(void)
{
    lock_take(&waiting.lock);
    tell_waiting();
    lock_give(&waiting.lock);
}

void misuse_child(void)
{
    lock_reset(&waiting.lock);
    if (misuse_waiting()) atomic_store(&waiting.n, 0);
}
