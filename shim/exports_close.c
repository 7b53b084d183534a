// The ways a program lets go of a descriptor.
#include "exports.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio_ext.h>
#include <linux/close_range.h>
#include <sys/resource.h>
#include <unistd.h>

#include "drain.h"
#include "guard.h"
#include "probe.h"
#include "release.h"
#include "sink.h"
#include "sys.h"
#include "watch.h"

static bool may_be_ours(int fd)
{
    return track_state(fd) & FD_OURS;
}

// Is fd the descriptor of preclose's log, or of a connection that it drains? The program has none of that number. In a
// sandbox we may not ask, and need them no longer.
static bool is_ours(int fd)
{
    struct guard g;
    if (!may_be_ours(fd) || guard_enter(&g) != ENTRY_OK) return false;
    bool ours = sink_holds(fd) || drain_holds(fd);
    guard_leave(&g);
    return ours;
}

// The lowest of them in first..last, or -1.
static int next_of_ours(unsigned first, unsigned last)
{
    int log = sink_fd(), fd = track_next_in(first, last, FD_OURS);
    while (fd >= 0 && !is_ours(fd)) fd = track_next_in((unsigned)fd + 1, last, FD_OURS);
    bool log_first = log >= 0 && (unsigned)log >= first && (unsigned)log <= last && (fd < 0 || log < fd);
    return log_first && is_ours(log) ? log : fd;
}

// Kept out of let_go_close, so that the close of a file does not pay for the frame.
__attribute__((noinline)) static int close_tracked(int fd, uintptr_t pc, int (*next)(int))
{
    struct release w;
    release_begin(&w, fd, CALL_CLOSE, pc, true);
    if (!w.pending && release_under_way(fd)) { // another thread was first after all
        errno = EBADF;
        return -1;
    }
    int ret = next(fd);
    release_end(&w);
    return ret;
}

// Something else had the number since a socket of that number was closed. Not for a vfork child to say.
static void clear_closed(int fd)
{
    struct guard g;
    if (guard_enter(&g) != ENTRY_OK) return;
    track_mark(fd, 0, FD_CLOSED);
    guard_leave(&g);
}

// first..last are about to be closed or replaced; if stderr is among them, no finding may go to what takes its place.
static bool hold_stderr(unsigned first, unsigned last)
{
    struct guard g;
    if (first > STDERR_FILENO || last < STDERR_FILENO || guard_enter(&g) != ENTRY_OK) return false;
    bool held = sink_hold(first, last);
    guard_leave(&g);
    return held;
}

static int close_stderr(int (*next)(int))
{
    bool held = hold_stderr(STDERR_FILENO, STDERR_FILENO);
    int ret = next(STDERR_FILENO);
    sink_free(held);
    return ret;
}

int let_go_close(int fd, uintptr_t pc, int (*next)(int))
{
    uint32_t state = track_state(fd);
    if (may_be_ours(fd) && is_ours(fd)) {
        errno = EBADF;
        return -1;
    }
    if (state & FD_CLOSING && release_under_way(fd)) {
        errno = EBADF;
        return -1;
    }
    misuse_note_close(fd);
    if (state & (FD_SOCKET | FD_EPOLL)) return close_tracked(fd, pc, next);
    int ret = fd == STDERR_FILENO ? close_stderr(next) : next(fd);
    if (!(state & FD_CLOSED)) return ret;
    if (ret == 0) clear_closed(fd);
    else if (errno == EBADF) misuse_double_close(fd, pc);
    return ret;
}

// close is a cancellation point (pthreads(7)): where a thread is cancelled instead of closing, nothing may have
// been done to the socket. Kept out of its callers, as let_go_close is.
__attribute__((noinline)) static int close_or_cancel(int fd, uintptr_t pc, int (*next)(int))
{
    if (track_state(fd) & FD_SOCKET) pthread_testcancel();
    return let_go_close(fd, pc, next);
}

// Nothing is known of fd, and nobody waits for what this thread closes next: what nearly every close of a file costs.
static bool is_plain(int fd)
{
    return !track_state(fd) && fd != STDERR_FILENO && !misuse_closes.waits;
}

EXPORT int close(int fd)
{
    if (!is_plain(fd)) return close_or_cancel(fd, CALLER, real()->close);
    misuse_count_close(fd);
    return real_functions.close(fd);
}

EXPORT int __close(int fd)
{
    if (!is_plain(fd)) return close_or_cancel(fd, CALLER, real()->__close);
    misuse_count_close(fd);
    return real_functions.__close(fd);
}

// Will dup2 or dup3 onto to go through? One that fails lets go of nothing.
static bool dup_will_work(int from, int to, int flags, enum call call)
{
    if (call == CALL_DUP3 && flags & ~O_CLOEXEC) return false;
    struct guard g;
    if (from == to || guard_enter(&g) != ENTRY_OK) return false;
    struct rlimit limit = {0};
    sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit);
    bool works = (rlim_t)to < limit.rlim_cur && probe_is_open(from);
    guard_leave(&g);
    return works;
}

static int next_dup(int from, int to, int flags, enum call call, bool raw)
{
    if (raw && call == CALL_DUP3) return (int)real()->syscall(SYS_dup3, from, to, flags);
#ifdef SYS_dup2
    if (raw) return (int)real()->syscall(SYS_dup2, from, to);
#endif
    return call == CALL_DUP3 ? real()->dup3(from, to, flags) : real()->dup2(from, to);
}

// The program wants the number to, which preclose's log may have.
static void make_way(int to)
{
    struct guard g;
    if (to < 0 || to != sink_fd() || guard_enter(&g) != ENTRY_OK) return;
    if (sink_holds(to)) sink_move();
    guard_leave(&g);
}

__attribute__((noinline)) static int dup_over(int from, int to, int flags, enum call call, uintptr_t pc, bool raw)
{
    struct release w;
    release_begin(&w, to, call, pc, true);
    if (!w.pending) release_wait((unsigned)to, (unsigned)to);
    int ret = next_dup(from, to, flags, call, raw);
    int saved = errno;
    release_end(&w);
    errno = saved;
    return ret;
}

int let_go_dup3(int from, int to, int flags, enum call call, uintptr_t pc, bool raw)
{
    if (from == to) return next_dup(from, to, flags, call, raw);
    make_way(to);
    struct ofd *pinned = duplicate_begin(from);
    bool replaces = track_state(to) & (FD_SOCKET | FD_EPOLL) && dup_will_work(from, to, flags, call);
    if (!replaces) release_wait((unsigned)to, (unsigned)to);
    bool held = hold_stderr((unsigned)to, (unsigned)to);
    int ret = replaces ? dup_over(from, to, flags, call, pc, raw) : next_dup(from, to, flags, call, raw);
    sink_free(held);
    return duplicated(pinned, from, ret, flags & O_CLOEXEC, call, pc);
}

EXPORT int dup2(int from, int to)
{
    return let_go_dup3(from, to, 0, CALL_DUP2, CALLER, false);
}

EXPORT int __dup2(int from, int to)
{
    return let_go_dup3(from, to, 0, CALL_DUP2, CALLER, false);
}

EXPORT int dup3(int from, int to, int flags)
{
    return let_go_dup3(from, to, flags, CALL_DUP3, CALLER, false);
}

static int next_close_range(unsigned first, unsigned last, int flags, bool raw)
{
    bool barred = (unsigned)flags & CLOSE_RANGE_UNSHARE && watch_bar(); // it would keep the old table
    int ret = raw ? (int)real()->syscall(SYS_close_range, first, last, flags)
                  : real()->close_range(first, last, flags);
    watch_unbar(barred);
    return ret;
}

// The same, around preclose's own descriptors.
static int close_range_around(unsigned first, unsigned last, int flags, bool raw)
{
    for (unsigned kept; (kept = (unsigned)next_of_ours(first, last)) <= INT_MAX; first = kept + 1) {
        int ret = kept > first ? next_close_range(first, kept - 1, flags, raw) : 0;
        if (ret != 0 || kept == last) return ret;
    }
    return next_close_range(first, last, flags, raw);
}

// Does this kernel have close_range (Linux 5.9), and is it not forbidden? A range where nothing can be open.
static bool close_range_works(void)
{
    struct guard g;
    if (guard_enter(&g) != ENTRY_OK) return false;
    bool works = sys_call(SYS_close_range, INT_MAX, INT_MAX, 0) == 0;
    guard_leave(&g);
    return works;
}

static void note_cloexec(unsigned first, unsigned last)
{
    struct guard g;
    if (track_next(first, last) < 0 || guard_enter(&g) != ENTRY_OK) return;
    track_cloexec_range(first, last);
    guard_leave(&g);
}

int let_go_close_range(unsigned first, unsigned last, int flags, uintptr_t pc, bool raw)
{
    const unsigned known = CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE;
    if (first > last || (unsigned)flags & ~known) return next_close_range(first, last, flags, raw);
    bool parts = (unsigned)flags & CLOSE_RANGE_UNSHARE && track_has_threads();
    if (parts) { // the other threads keep theirs
        track_split();
        release_wait_acting();
    }
    if ((unsigned)flags & CLOSE_RANGE_CLOEXEC) {
        int ret = next_close_range(first, last, flags, raw);
        if (ret == 0) note_cloexec(first, last);
        return ret;
    }
    bool acts = !parts && track_next(first, last) >= 0 && close_range_works();
    struct release *kept = acts ? release_range(first, last, CALL_CLOSE_RANGE, pc) : NULL;
    release_wait(first, last);
    bool held = hold_stderr(first, last);
    int ret = close_range_around(first, last, flags, raw);
    sink_free(held);
    int saved = errno;
    if (acts) release_range_end(first, last, kept);
    errno = saved;
    return ret;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    return let_go_close_range(first, last, flags, CALLER, false);
}

static void closefrom_around(int low, int first)
{
    for (int kept; (kept = next_of_ours((unsigned)first, INT_MAX)) >= 0; low = first = kept + 1) {
        // glibc's own has no upper end.
        if (kept > first && real()->close_range((unsigned)first, (unsigned)kept - 1, 0) != 0)
            for (int fd = first; fd < kept; fd++) real()->close(fd);
    }
    real()->closefrom(low);
}

EXPORT void closefrom(int low)
{
    int first = low < 0 ? 0 : low;
    bool acts = track_next((unsigned)first, INT_MAX) >= 0;
    struct release *kept = acts ? release_range((unsigned)first, INT_MAX, CALL_CLOSEFROM, CALLER) : NULL;
    release_wait((unsigned)first, INT_MAX);
    closefrom_around(low, first);
    int saved = errno;
    if (acts) release_range_end((unsigned)first, INT_MAX, kept);
    errno = saved;
}

// A stream with the number of a closed socket: something has reopened the number, unless fd is closed still.
static void note_reopened(int fd)
{
    struct guard g;
    if (!(track_state(fd) & FD_CLOSED) || guard_enter(&g) != ENTRY_OK) return;
    if (probe_is_open(fd)) track_mark(fd, 0, FD_CLOSED);
    guard_leave(&g);
}

// A stream on a socket is about to be closed. What it has buffered goes out first. Returns false if that
// fails: nothing is then done to the socket, and errno says why, as it would have in the program's own
// call, which finds the buffer empty now (glibc drops what it could not write).
static bool let_go_stream(struct release *w, FILE *stream, enum call call, uintptr_t pc)
{
    int saved = errno;
    int fd = fileno(stream);
    bool flushed = true;
    note_reopened(fd);
    w->pending = false;
    if (track_state(fd) & FD_SOCKET) {
        flushed = __fpending(stream) == 0 || fflush(stream) == 0;
        if (!flushed) saved = errno;
        release_begin(w, fd, call, pc, flushed);
    }
    if (!w->pending) release_wait((unsigned)fd, (unsigned)fd);
    errno = saved;
    return flushed;
}

static int close_stream(FILE *stream, uintptr_t pc)
{
    struct release w;
    bool flushed = let_go_stream(&w, stream, CALL_FCLOSE, pc);
    int ret = real()->fclose(stream);
    release_end(&w);
    return flushed ? ret : EOF;
}

EXPORT int fclose(FILE *stream)
{
    return close_stream(stream, CALLER);
}

EXPORT int _IO_fclose(FILE *stream)
{
    return close_stream(stream, CALLER);
}

typedef FILE *freopen_function(const char *, const char *, FILE *);

static FILE *reopen_stream(freopen_function *next, const char *path, const char *mode, FILE *stream, uintptr_t pc)
{
    struct release w;
    let_go_stream(&w, stream, CALL_FREOPEN, pc);
    FILE *reopened = next(path, mode, stream);
    int saved = errno;
    release_end(&w);
    if (reopened) duplicate_end(NULL, -1, fileno(reopened), true);
    errno = saved;
    return reopened;
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
    return reopen_stream(real()->freopen, path, mode, stream, CALLER);
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
    return reopen_stream(real()->freopen64, path, mode, stream, CALLER);
}
