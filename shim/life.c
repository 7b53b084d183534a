#include "life.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "aside.h"
#include "clock.h"
#include "drain.h"
#include "family.h"
#include "guard.h"
#include "line.h"
#include "misuse.h"
#include "modules.h"
#include "options.h"
#include "place.h"
#include "probe.h"
#include "real.h"
#include "release.h"
#include "report.h"
#include "scan.h"
#include "sink.h"
#include "sys.h"
#include "threads.h"
#include "touched.h"
#include "track.h"
#include "watch.h"

#define LEAKS_TOLD 8 // places that the summary names

TOUCHED_APART static struct settings settings;
static _Atomic bool started;
static _Atomic bool io_uring;

const struct settings *life_settings(void)
{
    return &settings;
}

static void read_comm(char comm[16])
{
    // prctl(PR_GET_NAME) would give the thread's name; the constructor runs in the main thread, whose name is comm.
    memset(comm, 0, 16);
    sys_call(SYS_prctl, PR_GET_NAME, (long)comm, 0);
}

// One line about a setting, to stderr even if findings go elsewhere.
static void complain(void *context, const char *text)
{
    (void)context;
    char buffer[512];
    struct line l = line_start(buffer, sizeof buffer - 1);
    line_text(&l, "preclose: ");
    line_text(&l, text);
    buffer[l.n] = '\n';
    sink_complain(buffer, l.n + 1);
}

static void complain_log(void)
{
    char text[480];
    struct line l = line_start(text, sizeof text - 1);
    line_text(&l, "PRECLOSE_LOG=");
    line_value(&l, settings.log_path, strnlen(settings.log_path, sizeof settings.log_path), 300);
    line_text(&l, ": cannot be opened for writing; findings go to stderr");
    text[l.n] = '\0';
    complain(NULL, text);
}

static void note_log(int fd)
{
    track_mark(fd, FD_OURS, 0);
}

// Sockets that were open before us: from inetd, systemd, or whatever started this program.
static void adopt(int fd)
{
    if (track_state(fd) & FD_SOCKET || fd == sink_fd()) return;
    uint64_t id = probe_identity(fd);
    if (!id) return;
    int same = track_find(id);
    if (same >= 0) { // inetd's 0, 1 and 2
        track_unpin(track_pin(same), fd, false);
        return;
    }
    struct opening o = {
        .place = {.call = CALL_EXEC},
        .cookie = id,
        .kind = probe_kind(fd),
        .share = SHARE_INHERITED,
        .cloexec = false,
        .asks = true,
    };
    track_open(fd, &o);
}

struct entry64 {
    uint64_t ino;
    int64_t off;
    unsigned short len;
    unsigned char type;
    char name[];
};

static void adopt_entry(const struct entry64 *e, int dir)
{
    int fd = 0;
    for (const char *c = e->name; *c; c++) {
        if (*c < '0' || *c > '9') return;
        fd = fd * 10 + (*c - '0');
    }
    if (fd != dir) adopt(fd);
}

__attribute__((noinline)) static void adopt_listed(void)
{
    long dir = sys_call4(SYS_openat, AT_FDCWD, (long)"/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (dir < 0) return;
    _Alignas(8) char buf[512] = {0};
    long n;
    while ((n = sys_call(SYS_getdents64, dir, (long)buf, sizeof buf)) > 0)
        for (long at = 0; at < n;) {
            const struct entry64 *e = (const struct entry64 *)(const void *)(buf + at);
            adopt_entry(e, (int)dir);
            at += e->len;
        }
    sys_call(SYS_close, dir, 0, 0);
}

// The lowest numbers, by one poll(2), which says POLLNVAL of what is not open. Returns whether there may be more.
__attribute__((noinline)) static bool adopt_lowest(void)
{
    enum { LOW = 64, MANY = 32 };
    struct pollfd p[LOW];
    struct timespec at_once = {0, 0};
    bool more = false;
    for (int fd = 0; fd < LOW; fd++) p[fd] = (struct pollfd){.fd = fd};
    if (sys_call6(SYS_ppoll, (long)p, LOW, (long)&at_once, 0, 0, 0) < 0) return true;
    for (int fd = 0; fd < LOW; fd++) {
        if (p[fd].revents & POLLNVAL) continue;
        adopt(fd);
        more |= fd >= MANY;
    }
    return more;
}

// A list of all that are open would cost every program that starts ten times as much; who hands many on begins with
// the lowest.
static void adopt_inherited(void)
{
    if (adopt_lowest()) adopt_listed();
}

bool life_has_socket(void)
{
    static _Atomic bool prepared;
    if (atomic_load_explicit(&prepared, memory_order_relaxed) || atomic_exchange(&prepared, true)) return false;
    guard_arm();
    family_start();
    modules_start();
    if (!aside_prepare()) return false;
    guard_handlers();
    return true;
}

void life_forked_child(void)
{
    track_fork_recover();
    release_child();
    if (touched_anew(&touched.drain)) drain_child();
    report_child();
    misuse_child();
    if (touched_anew(&touched.ghosts)) threads_child();
    aside_child();
    place_child();
    watch_child();
}

// The table's lock is not held across the fork: other handlers, and libc itself, take locks then that a thread
// waiting for ours may hold. A child whose parent was changing the table begins with an empty one.
void life_before_fork(void)
{
    watch_before_fork();
    track_forked();
    release_wait_acting();
}

void life_after_fork(bool child)
{
    if (child) guard_forked_child();
    else track_forked(); // again: for sockets that other threads have opened meanwhile
    watch_after_fork();
}

static void after_fork_parent(void)
{
    life_after_fork(false);
}

static void after_fork_child(void)
{
    life_after_fork(true);
}

static void use_loader(void)
{
    modules_finder *find;
    *(void **)&find = real_optional(35, "_dl_find_object");
    modules_use(find);
}

// exit(3) calls this last, after the destructors, which may close connections: what registers first, and that is
// before libc registers the loader's, is called last. exit calls itself here, for what is left of it: the program's
// streams are flushed. It is not async-signal-safe, and this is its only caller: who is here has called it.
static void leave(int status, void *unused)
{
    (void)unused;
    life_end();
    int ours = life_status(status);
    if (ours != status) exit(ours);
}

// Asked for before the program's first instruction; whatever it, or its parent, has chosen counts.
static void ignore_sigpipe(void)
{
    if (settings.sigpipe != SIGPIPE_IGNORE || !threads_die_of_sigpipe()) return;
    struct {
        uintptr_t handler;
        unsigned long flags;
        uintptr_t restorer;
        uint64_t mask;
    } ignore = {.handler = (uintptr_t)SIG_IGN}; // the kernel's struct sigaction (include/linux/signal_types.h)
    sys_call4(SYS_rt_sigaction, SIGPIPE, (long)&ignore, 0, sizeof ignore.mask);
}

// The order: what later steps call comes first.
//   1. the functions behind our names: everything else may need one
//   2. secure execution (setuid): inert, in silence, whatever the environment says
//   3. settings, and whether this program is meant at all
//   4. where findings go: opened before the program can drop privileges, chroot or close stderr
//   5. the sockets that were there before us
//   6. fork handlers, registered last so that ours are the innermost; the exit handler
//   7. the guard opens: from here on calls are acted upon
// What only matters to a process with a socket waits for the first (life_has_socket): most programs under a preload of
// the whole system have none.
void life_start(void)
{
    static __thread bool starting __attribute__((tls_model("initial-exec")));
    if (starting || atomic_load(&started) || !environ) return;
    if (atomic_exchange(&started, true)) return;
    starting = true;
    int saved = errno;
    clock_start();
    real_load();
    char comm[16];
    read_comm(comm);
    bool wanted = !getauxval(AT_SECURE);
    pid_t pid = (pid_t)sys_call(SYS_getpid, 0, 0, 0);
    if (wanted) {
        settings_read(&settings, environ, pid, NULL, NULL);
        wanted = settings_match(&settings, comm);
    }
    if (wanted) {
        settings_read(&settings, environ, pid, complain, NULL);
        sink_tell(note_log);
        if (sink_open(&settings) != 0) complain_log();
        use_loader();
        place_start(settings.stack);
        // liburing makes its system calls itself: where it is linked, a ring may exist that is never seen.
        if (real_has_object("/liburing.so")) life_io_uring();
        report_start(&settings, comm);
        release_start(&settings);
        options_start(&settings);
        watch_start(&settings);
        ignore_sigpipe();
        adopt_inherited();
        if (track_next(0, UINT_MAX) >= 0) life_has_socket();
        pthread_atfork(life_before_fork, after_fork_parent, after_fork_child);
        on_exit(leave, NULL);
        guard_open(pid);
    } else {
        guard_shut();
    }
    errno = saved;
    starting = false;
}

__attribute__((constructor)) static void construct(void)
{
    life_start();
}

void life_io_uring(void)
{
    atomic_store(&io_uring, true);
    if (track_is_child()) family_tell_of_all(TOLD_UNSEEN); // a ring can send a descriptor, unseen
}

bool life_has_io_uring(void)
{
    return atomic_load_explicit(&io_uring, memory_order_relaxed);
}

// Several threads may try at once: as long as one does, and for good once one has succeeded, all is off.
static _Atomic int attempts;
static _Atomic bool in_sandbox;
static _Atomic int before_attempts; // enum phase
static _Atomic int watches_barred;

void life_sandbox_begin(void)
{
    struct guard g;
    if (track_is_child() && guard_enter(&g) == ENTRY_OK) {
        family_tell_of_all(TOLD_UNSEEN); // what it sends from in there is not looked at
        guard_leave(&g);
    }
    if (watch_bar()) atomic_fetch_add(&watches_barred, 1);
    if (atomic_fetch_add(&attempts, 1) == 0) atomic_store(&before_attempts, guard_shut());
    watch_quiet();
}

void life_sandbox_end(bool entered)
{
    if (entered) atomic_store(&in_sandbox, true);
    if (atomic_fetch_sub(&attempts, 1) > 1 || atomic_load(&in_sandbox)) return;
    enum phase before = (enum phase)atomic_load(&before_attempts);
    if (before == OFF) return;
    // Other threads may have duplicated a socket meanwhile, unseen.
    if (track_has_threads()) track_doubt();
    guard_reopen(before);
    while (atomic_load(&watches_barred) && atomic_fetch_sub(&watches_barred, 1)) watch_unbar(true);
}

void life_end(void)
{
    struct guard g;
    if (!misuse_waiting() && !watch_due() && !report_summary_due()) return;
    if (guard_enter(&g) != ENTRY_OK) return;
    struct leak leak[LEAKS_TOLD];
    if (guard_sure()) {
        misuse_flush();
        watch_exit();
        report_summary(leak, scan_leaks(leak, LEAKS_TOLD));
    }
    guard_leave(&g);
}

int life_status(int status)
{
    struct guard g;
    if (!settings.exit_code || status & 0xff || !report_warned()) return status; // wait(2) gives 8 bits of it
    if (guard_enter(&g) != ENTRY_OK) return status; // a vfork child: the findings are its parent's
    guard_leave(&g);
    return (int)settings.exit_code;
}
