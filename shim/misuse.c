#include "misuse.h"

#include <stdatomic.h>
#include <time.h>

#include "guard.h"
#include "lock.h"
#include "report.h"
#include "sys.h"
#include "track.h"

#define WAITING 3      // double closes in a row that are kept back
#define RETRIES 1000 // failures within a second
#define SWEEP_LENGTH 4 // closes of so many neighbouring numbers, one after the other, are a sweep

// The closes of this thread: the last number and how long a run of neighbours it ends.
static __thread struct {
    int last;
    unsigned run;
} closes __attribute__((tls_model("initial-exec")));

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
    struct finding finding[WAITING];
} waiting;

static void tell_waiting(void)
{
    for (unsigned i = 0; i < atomic_load(&waiting.n); i++) report(&waiting.finding[i]);
    atomic_store(&waiting.n, 0);
}

void misuse_note_close(int fd)
{
    const unsigned step = (unsigned)fd - (unsigned)closes.last; // of any numbers, also of INT_MAX and INT_MIN
    bool neighbour = step == 1 || step == -1u;
    closes.last = fd;
    closes.run = neighbour ? closes.run + 1 : 1;
    if (!atomic_load_explicit(&waiting.n, memory_order_relaxed)) return;
    struct guard g;
    if (neighbour && closes.run < SWEEP_LENGTH) return;
    if (guard_enter(&g) != ENTRY_OK) return;
    lock_take(&waiting.lock);
    if (waiting.tid == guard_tid()) {
        if (neighbour) atomic_store(&waiting.n, 0);
        else tell_waiting();
    }
    lock_give(&waiting.lock);
    guard_leave(&g);
}

static bool describe(struct finding *f, enum event event, int fd, enum call call, uintptr_t pc)
{
    *f = (struct finding){
        .event = event,
        .fd = fd,
        .age_ms = UNKNOWN,
        .used = {.pc = pc, .tid = guard_tid(), .call = call},
    };
    return track_closed_at(fd, &f->opened, &f->closed);
}

void misuse_double_close(int fd, uintptr_t pc)
{
    struct guard g;
    if (closes.run >= SWEEP_LENGTH || guard_enter(&g) != ENTRY_OK) return;
    struct finding f;
    if (describe(&f, EVENT_DOUBLE_CLOSE, fd, CALL_CLOSE, pc)) {
        lock_take(&waiting.lock);
        if (waiting.tid != guard_tid() || atomic_load(&waiting.n) == WAITING) tell_waiting();
        waiting.tid = guard_tid();
        waiting.finding[atomic_load(&waiting.n)] = f;
        atomic_fetch_add(&waiting.n, 1);
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
    struct timespec t = {0, 0};
    sys_call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0);
    int64_t now = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
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
    atomic_store(&waiting.n, 0);
}
