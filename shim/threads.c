#include "threads.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "aside.h"
#include "lock.h"
#include "procfs.h"
#include "sys.h"
#include "touched.h"

#define POLLED_MAX 4096 // entries of a poll array that are looked through
#define CHUNK 32        // of them at a time
#define LIST_BYTES 512
#define LINE_BYTES 256
#define THREADS_A_LOOK 8 // at the clock: it costs as much as a thirtieth of a thread

// How a call is given its descriptor: as one of its arguments, or in an array or sets in memory.
enum passing { ARG_0, ARG_1, ARG_2, POLL_ARRAY, RESTARTED_POLL, SELECT_SETS };

// The calls that can block on a socket. One that has two descriptors has two rows.
static const struct call_row {
    short number;
    uint8_t passing;
    bool sending;
    char name[16];
    uint8_t flags; // of a sending call: which argument may hold MSG_NOSIGNAL; 0: none
} calls[] = {
    {SYS_read, ARG_0, false, "read", 0},
    {SYS_readv, ARG_0, false, "readv", 0},
    {SYS_preadv2, ARG_0, false, "preadv2", 0}, // at offset -1 it is readv
    {SYS_recvfrom, ARG_0, false, "recvfrom", 0},
    {SYS_recvmsg, ARG_0, false, "recvmsg", 0},
    {SYS_recvmmsg, ARG_0, false, "recvmmsg", 0},
    {SYS_accept, ARG_0, false, "accept", 0},
    {SYS_accept4, ARG_0, false, "accept4", 0},
    {SYS_connect, ARG_0, false, "connect", 0},
    {SYS_write, ARG_0, true, "write", 0},
    {SYS_writev, ARG_0, true, "writev", 0},
    {SYS_pwritev2, ARG_0, true, "pwritev2", 0},
    {SYS_sendto, ARG_0, true, "sendto", 3},
    {SYS_sendmsg, ARG_0, true, "sendmsg", 2},
    {SYS_sendmmsg, ARG_0, true, "sendmmsg", 3},
    {SYS_sendfile, ARG_0, true, "sendfile", 0},
    {SYS_sendfile, ARG_1, false, "sendfile", 0},
    {SYS_splice, ARG_0, false, "splice", 0},
    {SYS_splice, ARG_2, true, "splice", 0},
    {SYS_ppoll, POLL_ARRAY, false, "ppoll", 0},
    {SYS_pselect6, SELECT_SETS, false, "pselect6", 0},
#ifdef SYS_poll
    {SYS_poll, POLL_ARRAY, false, "poll", 0},
    {SYS_restart_syscall, RESTARTED_POLL, false, "restart_syscall", 0},
#endif
#ifdef SYS_select
    {SYS_select, SELECT_SETS, false, "select", 0},
#endif
};

static _Atomic pid_t own; // the thread of preclose itself

struct search {
    int fd;
    uint64_t limit_us, took_us;
    int tasks; // /proc/self/task
    int mem;   // /proc/self/mem, once it is needed; -1
    pid_t caller, me; // who wants to know, and who looks
    char link[32]; // what fd is to the caller ("socket:[INODE]"), once it is needed; ""
    struct blocked *found;
};

#define ASIDE_US 60 // of processor time that a thread aside takes, to begin and to end
#define GHOSTS 64

// Threads that were left blocked on a socket that has lost its number.
static struct {
    lock_t lock;
    unsigned next;
    struct ghost {
        pid_t tid;
        int fd;
        uint64_t runs; // how often it had been given a CPU
    } of[GHOSTS];
} ghosts;

// What /proc/self/task/TID/syscall says.
struct waiting {
    uint64_t number, arg[6];
};

// Reads memory of this process that may be gone. Not by process_vm_readv(2): there are filters of system
// calls that kill for it.
static bool peek(struct search *s, uint64_t from, void *to, size_t n)
{
    if (s->mem < 0) s->mem = procfs_open(s->tasks, "../mem");
    return s->mem >= 0 && sys_call4(SYS_pread64, s->mem, (long)to, (long)n, (long)from) == (long)n;
}

// Could this be an entry of a poll array? A futex or a sleep that was restarted shows the same call.
static bool is_plausible(const struct pollfd *p)
{
    const unsigned events = 0x3fff;
    return p->fd < 1 << 20 && !((unsigned short)p->events & ~events) && !p->revents;
}

static bool polls(struct search *s, const struct waiting *w, bool doubtful)
{
    struct pollfd entry[CHUNK] = {0};
    uint64_t n = w->arg[1];
    bool found = false;
    if (doubtful && n > CHUNK) return false;
    if (n > POLLED_MAX) {
        n = POLLED_MAX;
        s->found->known = false;
    }
    for (uint64_t at = 0; at < n && !found; at += CHUNK) {
        size_t some = n - at < CHUNK ? (size_t)(n - at) : CHUNK;
        if (!peek(s, w->arg[0] + at * sizeof *entry, entry, some * sizeof *entry)) {
            s->found->known = s->found->known && doubtful;
            return false;
        }
        for (size_t i = 0; i < some; i++) {
            if (doubtful && !is_plausible(&entry[i])) return false;
            found = found || (entry[i].fd == s->fd && (entry[i].events || !doubtful));
        }
    }
    return found;
}

static bool selects(struct search *s, const struct waiting *w)
{
    const unsigned bits = 8 * sizeof(unsigned long), fd = (unsigned)s->fd;
    if ((int)w->arg[0] <= s->fd) return false;
    for (unsigned set = 1; set <= 3; set++) {
        unsigned long word = 0;
        if (!w->arg[set]) continue;
        if (!peek(s, w->arg[set] + fd / bits * sizeof word, &word, sizeof word))
            s->found->known = false;
        else if (word >> fd % bits & 1)
            return true;
    }
    return false;
}

static bool is_on(struct search *s, const struct waiting *w, enum passing passing)
{
    switch (passing) {
    case ARG_0:
    case ARG_1:
    case ARG_2:
        return (int)w->arg[passing - ARG_0] == s->fd;
    case POLL_ARRAY:
    case RESTARTED_POLL:
        return polls(s, w, passing == RESTARTED_POLL);
    case SELECT_SETS:
        return selects(s, w);
    }
    return false;
}

static long link_of(const struct search *s, unsigned tid, char *text, size_t size)
{
    char path[40];
    procfs_path(procfs_put(procfs_put_number(path, tid, 10), "/fd/"), (unsigned)s->fd, "");
    return procfs_link(s->tasks, path, text, size);
}

// Does the number mean the same socket to that thread? Not if it has a descriptor table of its own
// (unshare(CLONE_FILES)). Where that can't be told, it is taken to.
static bool is_same_socket(struct search *s, unsigned tid)
{
    if (s->found->n >= THREADS_TOLD) return true; // of a crowd, those that are named are looked at
    char theirs[sizeof s->link];
    long n = link_of(s, tid, theirs, sizeof theirs);
    if (n < 0) return n != -ENOENT;
    if (!s->link[0] && link_of(s, (unsigned)s->caller, s->link, sizeof s->link) < 0) return true;
    return !strcmp(s->link, theirs);
}

// "45 0x3 0x7ffe… 0x4 0x0 0x0 0x0 0xSP 0xPC"; "running"; or "-1 0xSP 0xPC", blocked outside of a call.
static bool parse(const char *line, struct waiting *w)
{
    if (!procfs_number(&line, 10, &w->number)) return false;
    for (int i = 0; i < 6; i++)
        if (!procfs_number(&line, 16, &w->arg[i])) return false;
    return true;
}

static void read_name(int dir, const char *path, char name[16])
{
    long n = procfs_read(dir, path, name, 16);
    if (n > 0 && name[n - 1] == '\n') name[n - 1] = '\0';
    if (n < 0) name[0] = '\0';
}

static void task_name(int tasks, unsigned tid, char name[16])
{
    char path[24];
    procfs_path(path, tid, "/comm");
    read_name(tasks, path, name);
}

static void add(const struct search *s, unsigned tid, const struct call_row *row, const struct waiting *w)
{
    struct blocked *b = s->found;
    if (b->n < THREADS_TOLD) {
        struct blocked_thread *t = &b->thread[b->n];
        t->tid = (pid_t)tid;
        memcpy(t->call, row->name, sizeof t->call);
        task_name(s->tasks, tid, t->name);
    }
    b->n++;
    if (!row->sending) {
        b->waiting = true;
        return;
    }
    b->sending = true;
    if (!row->flags || !(w->arg[row->flags] & MSG_NOSIGNAL)) b->sigpipe = true;
}

// How often the thread has been given a CPU (Documentation/scheduler/sched-stats.rst, schedstat); 0: it can't be told.
static uint64_t runs_of(int tasks, unsigned tid)
{
    char path[24], line[80];
    uint64_t number = 0;
    const char *at = line;
    procfs_path(path, tid, "/schedstat");
    if (procfs_read(tasks, path, line, sizeof line) < 0) return 0;
    for (int i = 0; i < 3; i++)
        if (!procfs_number(&at, 10, &number)) return 0;
    return number;
}

// Is the thread blocked still in the call that it was left in, on a socket that had the number before?
static bool is_ghost(const struct search *s, unsigned tid)
{
    uint64_t runs = 0;
    lock_take(&ghosts.lock);
    for (unsigned i = 0; i < GHOSTS; i++)
        if (ghosts.of[i].tid == (pid_t)tid && ghosts.of[i].fd == s->fd) runs = ghosts.of[i].runs;
    lock_give(&ghosts.lock);
    return runs && runs == runs_of(s->tasks, tid);
}

// Returns whether the thread could be looked at.
static bool look_at(struct search *s, unsigned tid)
{
    char path[24], line[LINE_BYTES];
    struct waiting w;
    procfs_path(path, tid, "/syscall");
    if (procfs_read(s->tasks, path, line, sizeof line) < 0) return false;
    if (!parse(line, &w)) {
        if (line[0] == 'r') s->found->running++;
        return true;
    }
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const struct call_row *row = &calls[i];
        if ((uint64_t)row->number != w.number || !is_on(s, &w, (enum passing)row->passing)) continue;
        if (is_same_socket(s, tid) && !is_ghost(s, tid)) add(s, tid, row, &w);
        break;
    }
    return true;
}

static void look_at_all(struct search *s, const struct procfs_limit *limit)
{
    char buffer[LIST_BYTES];
    struct procfs_list list = {.fd = s->tasks, .buffer = buffer, .size = sizeof buffer};
    unsigned tid, seen = 0, failed = 0;
    int ret;
    while ((ret = procfs_next(&list, &tid)) > 0) {
        if ((pid_t)tid == s->caller || (pid_t)tid == s->me || (pid_t)tid == atomic_load(&own)) continue;
        if ((seen + failed) % THREADS_A_LOOK == 0 && procfs_is_over(limit)) break;
        if (look_at(s, tid))
            seen++;
        else
            failed++;
    }
    // A thread that has ended meanwhile can't be read, and is not blocked. Where none can be read the file
    // is not for us (a process that dropped its privileges: prctl(2), PR_SET_DUMPABLE), or not there.
    if (ret || (failed && !seen)) s->found->known = false;
}

static void search(void *arg)
{
    struct search *s = arg;
    struct procfs_limit limit;
    procfs_limit(&limit, s->limit_us);
    s->me = aside_here() ? (pid_t)sys_call(SYS_gettid, 0, 0, 0) : s->caller;
    s->tasks = procfs_open_directory(AT_FDCWD, "/proc/self/task");
    if (s->tasks >= 0) {
        s->found->known = true;
        look_at_all(s, &limit);
        procfs_close(s->tasks);
        if (s->mem >= 0) procfs_close(s->mem);
    }
    s->took_us = procfs_spent(&limit);
}

uint64_t threads_blocked_on(int fd, uint64_t limit_us, struct blocked *b)
{
    memset(b, 0, sizeof *b);
    struct search s = {
        .fd = fd,
        .limit_us = limit_us,
        .mem = -1,
        .caller = (pid_t)sys_call(SYS_gettid, 0, 0, 0),
        .found = b,
    };
    bool apart = aside(search, &s);
    if (!apart) search(&s);
    return s.took_us + (apart ? ASIDE_US : 0);
}

struct left {
    int fd;
    const struct blocked *blocked;
};

static void remember(void *arg)
{
    const struct left *l = arg;
    int tasks = procfs_open_directory(AT_FDCWD, "/proc/self/task");
    if (tasks < 0) return;
    for (unsigned i = 0; i < l->blocked->n && i < THREADS_TOLD; i++) {
        pid_t tid = l->blocked->thread[i].tid;
        struct ghost g = {.tid = tid, .fd = l->fd, .runs = runs_of(tasks, (unsigned)tid)};
        lock_take(&ghosts.lock);
        ghosts.of[ghosts.next++ % GHOSTS] = g;
        lock_give(&ghosts.lock);
    }
    procfs_close(tasks);
}

void threads_left(int fd, const struct blocked *b)
{
    struct left l = {fd, b};
    touch(&touched.ghosts);
    if (!aside(remember, &l)) remember(&l);
}

void threads_child(void)
{
    lock_reset(&ghosts.lock);
    memset(ghosts.of, 0, sizeof ghosts.of);
}

void threads_own(pid_t tid)
{
    atomic_store(&own, tid);
}

static _Atomic bool sigpipe_deadly; // as far as was asked, and no call has changed it since

void threads_sigpipe_changes(void)
{
    atomic_store(&sigpipe_deadly, false);
}

// That it is deadly is believed without asking again: if it is no more, by a raw system call, less is done.
bool threads_die_of_sigpipe(void)
{
    uint64_t action[8] = {0}; // the kernel's struct sigaction: the handler comes first
    if (atomic_load_explicit(&sigpipe_deadly, memory_order_relaxed)) return true;
    sys_call4(SYS_rt_sigaction, SIGPIPE, 0, (long)action, sizeof(uint64_t));
    bool deadly = action[0] == (uint64_t)(uintptr_t)SIG_DFL;
    if (deadly) atomic_store(&sigpipe_deadly, true);
    return deadly;
}

struct naming {
    pid_t tid;
    char *name;
};

static void ask_name(void *arg)
{
    const struct naming *n = arg;
    char path[48];
    procfs_path(procfs_put(path, "/proc/self/task/"), (unsigned)n->tid, "/comm");
    read_name(AT_FDCWD, path, n->name);
}

static struct naming_once {
    pid_t tid;
    char name[16];
} once[4];

void thread_names_forget(void)
{
    for (unsigned i = 0; i < sizeof once / sizeof *once; i++) once[i].tid = 0;
}

const char *thread_name_once(pid_t tid)
{
    struct naming_once *o = &once[(unsigned)tid % (sizeof once / sizeof *once)];
    if (o->tid != tid) thread_name(tid, o->name);
    o->tid = tid;
    return o->name;
}

void thread_name(pid_t tid, char name[16])
{
    struct naming n = {tid, name};
    name[0] = '\0';
    if (tid == (pid_t)sys_call(SYS_gettid, 0, 0, 0)) sys_call(SYS_prctl, PR_GET_NAME, (long)name, 0);
    else if (!aside(ask_name, &n)) ask_name(&n);
}
