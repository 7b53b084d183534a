#include "drain.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

#include "act.h"
#include "clock.h"
#include "sys.h"
#include "touched.h"
#include "track.h"

#define AT_ONCE 256       // connections that are drained
#define SOME (1 << 20)    // bytes between two looks at the clock
#define LONGEST 60000     // milliseconds until one begins that is in a range with others
#define CALM 20           // milliseconds in which a call of send ends, or fills its buffer
#define LEFT_BEHIND 5000  // milliseconds after its time, when whoever drained it will not come back

// Our descriptors, so that a forked child can close its copies. fd: 0: free; -1: about to be used; else 1 more.
static struct {
    _Atomic int fd;
    _Atomic uint64_t inode; // of its socket: the number can have been closed, and be the program's by now
    _Atomic int64_t until_ms;
} slots[AT_ONCE];

static bool holds(int slot, int fd)
{
    uint64_t inode = atomic_load(&slots[slot].inode);
    return atomic_load(&slots[slot].fd) == fd + 1 && inode && probe_inode(fd) == inode;
}

static void free_slot(int slot, int fd)
{
    int own = fd + 1;
    if (atomic_compare_exchange_strong(&slots[slot].fd, &own, 0)) track_mark(fd, 0, FD_OURS);
}

static void let_go(int slot, int fd)
{
    if (holds(slot, fd)) sys_call(SYS_close, fd, 0, 0);
    free_slot(slot, fd);
}

static int take_slot(int64_t now)
{
    for (int i = 0; i < AT_ONCE; i++) {
        int used = atomic_load(&slots[i].fd);
        if (used > 0 && atomic_load(&slots[i].until_ms) < now) let_go(i, used - 1);
        int unused = 0;
        if (atomic_compare_exchange_strong(&slots[i].fd, &unused, -1)) return i;
    }
    return -1;
}

// High, but not so high that the kernel must make a larger table.
static long duplicate(int fd)
{
    struct rlimit limit = {0};
    sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit);
    const long top = limit.rlim_cur < 1024 ? (long)limit.rlim_cur : 1024;
    return sys_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, top - top / 4);
}

bool drain_begin(struct drain *d, int fd, enum kind kind, bool lingers)
{
    touch(&touched.drain);
    int64_t now = clock_monotonic_us() / 1000;
    int slot = take_slot(now);
    if (slot < 0) return false;
    long ours = duplicate(fd);
    if (ours < 0) {
        atomic_store(&slots[slot].fd, 0);
        return false;
    }
    *d = (struct drain){.fd = (int)ours, .slot = slot, .kind = kind, .lingers = lingers};
    atomic_store(&slots[slot].until_ms, now + LONGEST + LEFT_BEHIND);
    atomic_store(&slots[slot].inode, probe_inode(d->fd));
    atomic_store(&slots[slot].fd, d->fd + 1);
    track_mark(d->fd, FD_OURS, 0);
    return true;
}

void drain_drop(struct drain *d)
{
    let_go(d->slot, d->fd);
}

bool drain_holds(int fd)
{
    for (int i = 0; i < AT_ONCE; i++)
        if (atomic_load(&slots[i].fd) == fd + 1) return holds(i, fd);
    return false;
}

void drain_child(void)
{
    for (int i = 0; i < AT_ONCE; i++) {
        int used = atomic_load(&slots[i].fd);
        if (used > 0) let_go(i, used - 1);
        else atomic_store(&slots[i].fd, 0);
    }
}

// Until there is something to read, or for left milliseconds, in slices. Returns false if preclose is off.
static bool wait_for_more(const struct drain *d, struct guard *g, int64_t left)
{
    const int64_t most = d->fin_later ? CALM : GUARD_CALL_MS, slice = left < most ? left : most;
    struct pollfd p = {.fd = d->fd, .events = POLLIN | POLLRDHUP};
    struct timespec t = {.tv_nsec = (long)slice * 1000000};
    long ret;
    return guard_call(g, &ret, SYS_ppoll, (const long[6]){(long)&p, 1, (long)&t});
}

// The program has no descriptor of it any more. Whoever was in send when it closed has ended that call soon, or is blocked
// in it: then there is no room, or what is unsent changes.
static void end_sending(struct drain *d)
{
    if (!d->fin_later) return;
    int64_t now = clock_monotonic_us() / 1000, unsent = probe_unsent(d->fd);
    bool calm = unsent == d->unsent && d->calm_ms && probe_has_room(d->fd);
    if (!calm) d->calm_ms = now, d->unsent = unsent;
    if (now - d->calm_ms < CALM) return;
    act_stop_sending(d->fd);
    d->fin_later = false;
}

static enum drain_end end_of(int err)
{
    return err == 1 ? DRAIN_FINISHED : err == -EBADF || err == -ENOTSOCK ? DRAIN_GONE : DRAIN_BROKEN;
}

// Returns false if preclose is off.
static bool read_on(struct drain *d, struct guard *g, int64_t until, int64_t first, struct drained *out)
{
    while (holds(d->slot, d->fd)) {
        int64_t some = DRAIN_BYTES_MAX - out->bytes;
        int err;
        end_sending(d);
        int64_t n = act_discard(d->fd, d->kind, some < SOME ? some : SOME, &err);
        out->bytes += n;
        int64_t left = (out->bytes ? until : first) - clock_monotonic_us() / 1000;
        out->end = err ? end_of(err) : out->bytes >= DRAIN_BYTES_MAX ? DRAIN_BYTES : DRAIN_TIME;
        if (out->end != DRAIN_TIME || left <= 0) return true;
        if (n < SOME && !wait_for_more(d, g, left)) return false;
    }
    out->end = DRAIN_GONE;
    return true;
}

// A close that lingers can wait for long: it is made as the program would make it.
static bool close_ours(struct drain *d, struct guard *g, struct drained *out)
{
    if (!holds(d->slot, d->fd)) return true;
    if (out->end != DRAIN_FINISHED) act_stop_receiving(d->fd); // wakes whom nobody saw
    out->unread = probe_unread(d->fd) > 0;
    int64_t before = clock_monotonic_us() / 1000;
    long ret;
    if (d->lingers && !guard_call(g, &ret, SYS_close, (const long[6]){d->fd})) return false;
    if (!d->lingers) sys_call(SYS_close, d->fd, 0, 0);
    out->close_ms = clock_monotonic_us() / 1000 - before;
    return true;
}

bool drain(struct drain *d, struct guard *g, int64_t ms, int64_t first_ms, struct drained *out)
{
    int64_t start = clock_monotonic_us() / 1000;
    long pid = sys_call(SYS_getpid, 0, 0, 0);
    *out = (struct drained){.end = DRAIN_GONE};
    atomic_store(&slots[d->slot].until_ms, start + ms + LEFT_BEHIND);
    if (!read_on(d, g, start + ms, start + (first_ms < ms ? first_ms : ms), out)) return false;
    out->ms = clock_monotonic_us() / 1000 - start;
    if (!close_ours(d, g, out)) return false;
    free_slot(d->slot, d->fd);
    out->child = sys_call(SYS_getpid, 0, 0, 0) != pid;
    return true;
}
