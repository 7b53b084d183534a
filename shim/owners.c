// How ALONE is proven.
//
// Holding is inherited: a process that does not hold the socket at one moment never will, nor will its
// children from then on, as long as nothing but fork shares it. So each process that could hold it needs to
// be found without it once. That takes three things:
// - Its descriptors don't move while they are read (dup2 to a number that has been read, close of the other):
//   none of its threads runs in that time. See quiet() and is_unchanged().
// - Every descriptor table is read: threads can have one of their own (unshare(CLONE_FILES)).
// - No process is missed because it is born behind the place where the listing of /proc is. See look_at_everyone().
// Whatever can't be done ends in HELD or UNKNOWN. Left out: two processes with one table between them
// (clone(2), CLONE_FILES without CLONE_THREAD), which could take turns in moving a descriptor.
#include "owners.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "aside.h"
#include "procfs.h"
#include "sys.h"

#define PIDS (1 << 22)   // include/linux/threads.h PID_MAX_LIMIT
#define TASKS_MAX 1024   // threads of a process; one with more can't be proven not to hold it
#define ANCESTORS_MAX 32 // processes above this one
#define STRANGERS_MAX 64 // remembered processes that do not descend from this one
#define TICK_MS 10       // of a start time in /proc/PID/stat: USER_HZ is 100 on x86-64 and arm64
#define NAP_US 100       // between two passes, doubled each time
// Of the flags in /proc/PID/stat (include/linux/sched.h):
#define EXITING 0x4            // PF_EXITING
#define KERNEL_THREAD 0x200000 // PF_KTHREAD

enum verdict {
    CLEAN,    // does not hold it and never will
    BUSY,     // ran while it was read: look again
    UNPROVEN, // there is no telling, now or later
    OPAQUE,   // can't be looked into
    HOLDER,
};

struct task {
    unsigned tid;
    uint64_t runs; // how often it has been given a CPU
};

struct process {
    char state;
    unsigned parent;
    uint64_t flags, start; // start: ticks since boot
    bool thread;           // not the first of its process
};

struct search {
    struct owners_answer *answer;
    unsigned fd;
    int proc, load;        // /proc, /proc/loadavg
    unsigned self, caller; // this process, and the thread that wants to know
    unsigned me;           // the thread that looks: the caller, or one aside
    uint64_t since_ms, limit_us;
    struct procfs_limit limit;
    bool leaked;      // a message of any process's may hold it
    bool late, kcmp;  // out of time; kcmp(2) may be called and works
    char link[32];    // "socket:[INODE]"
    char epolled[32]; // " ino:INODE sdev:", as an epoll set shows it
    unsigned culprit; // the last process that did not turn out CLEAN; 0 none
    unsigned ancestor[ANCESTORS_MAX], ancestors;
    unsigned stranger[STRANGERS_MAX], strangers;
    struct task task[TASKS_MAX];
    unsigned tasks;
    char text[4096], processes[4096], threads[1024], descriptors[1024];
    uint64_t newest;             // process id
    uint64_t settled[PIDS / 64]; // processes that are CLEAN
};

static bool is_late(struct search *s)
{
    s->late = s->late || procfs_is_over(&s->limit);
    return s->late;
}

// The process or thread is not there any more.
static bool is_gone(long error)
{
    return error == -ENOENT || error == -ESRCH;
}

// Have two threads the same descriptor table; is descriptor n of both the same file? (kcmp(2)) No, if it
// can't be told.
static bool same_table(const struct search *s, unsigned a, unsigned b)
{
    return s->kcmp && sys_call6(SYS_kcmp, a, b, KCMP_FILES, 0, 0, 0) == 0;
}

static bool same_file(const struct search *s, unsigned a, unsigned b, unsigned n)
{
    return s->kcmp && sys_call6(SYS_kcmp, a, b, KCMP_FILE, n, n, 0) == 0;
}

static void find_kcmp(struct search *s)
{
    s->kcmp = aside_unfiltered();
    s->kcmp = same_table(s, s->caller, s->caller);
}

// proc(5), /proc/PID/stat. The name in it may hold anything; the last ')' ends it.
static long read_process(struct search *s, unsigned pid, struct process *p)
{
    char path[24];
    procfs_path(path, pid, "/stat");
    long n = procfs_read(s->proc, path, s->text, sizeof s->text);
    if (n < 0) return n;
    const char *at = memrchr(s->text, ')', (size_t)n);
    if (!at || at[1] != ' ' || !at[2] || at[3] != ' ') return -EINVAL;
    p->state = at[2];
    at += 4;
    uint64_t field[39] = {0};
    bool below_zero = false;
    for (int i = 4; i <= 38; i++) {
        below_zero = *at == '-';
        if (below_zero) at++;
        if (!procfs_number(&at, 10, &field[i])) return -EINVAL;
    }
    p->thread = below_zero; // the signal at its end is -1 (kernel/fork.c copy_process)
    p->parent = (unsigned)field[4];
    p->flags = field[9];
    p->start = field[22];
    return 0;
}

// A start time is cut to ticks. It is taken after the child got its copy of the descriptors
// (kernel/fork.c copy_process, Linux 5.0), in the time namespace of the reader, as CLOCK_BOOTTIME is.
static bool is_older(const struct search *s, const struct process *p)
{
    return (p->start + 1) * TICK_MS <= s->since_ms;
}

static bool is_among(unsigned pid, const unsigned *pids, unsigned n)
{
    while (n)
        if (pids[--n] == pid) return true;
    return false;
}

// Is it the first process of a process namespace? Orphans in that namespace become its children.
static bool is_init(struct search *s, unsigned pid)
{
    char path[24];
    procfs_path(path, pid, "/status");
    if (procfs_read(s->proc, path, s->text, sizeof s->text) < 0) return true;
    const char *at = strstr(s->text, "\nNSpid:\t");
    if (!at) return true;
    at += strlen("\nNSpid:\t");
    uint64_t number = 1;
    bool more = true;
    while (more) more = procfs_number(&at, 10, &number);
    return number == 1;
}

// This process's parent, its parent, and so on up to the first process of the namespace.
static bool find_ancestors(struct search *s)
{
    struct process p;
    unsigned pid = s->self;
    if (s->ancestors) return true;
    while (s->ancestors < ANCESTORS_MAX) {
        if (read_process(s, pid, &p) < 0) break;
        if (p.parent <= 1) {
            s->ancestor[s->ancestors++] = 1;
            return true;
        }
        s->ancestor[s->ancestors++] = pid = p.parent;
    }
    s->ancestors = 0;
    return false;
}

// Could a process with this parent descend from us? A parent is the process that forked it (with CLONE_PARENT
// that one's parent) or, after that has ended, an ancestor of that one or the first process of its namespace
// (kernel/exit.c find_new_reaper). So a parent that is none of ours and not one of those, and that is older
// than the socket or has itself no such parent, shows a stranger. In doubt: yes.
static bool may_descend(struct search *s, unsigned parent)
{
    struct process p;
    unsigned below = 0;
    if (!find_ancestors(s)) return true;
    for (int height = 0; height < ANCESTORS_MAX && !is_late(s); height++) {
        if (is_among(parent, s->stranger, s->strangers)) return false;
        if (parent <= 1 || parent == s->self || is_among(parent, s->ancestor, s->ancestors)) return true;
        if (read_process(s, parent, &p) < 0 || is_init(s, parent)) return true;
        if (!below) below = parent;
        if (is_older(s, &p)) {
            if (s->strangers < STRANGERS_MAX) s->stranger[s->strangers++] = below;
            return false;
        }
        parent = p.parent;
    }
    return true;
}

// How often the thread has been given a CPU (Documentation/scheduler/sched-stats.rst, schedstat; the count
// goes up in kernel/sched/stats.h sched_info_arrive). Returns it or -errno; 0: not counted here, or never
// yet.
static int64_t read_runs(struct search *s, int dir, unsigned tid)
{
    char path[24];
    uint64_t number;
    procfs_path(path, tid, "/schedstat");
    long n = procfs_read(dir, path, s->text, sizeof s->text);
    if (n < 0) return n;
    const char *at = s->text;
    for (int i = 0; i < 3; i++)
        if (!procfs_number(&at, 10, &number)) return -EINVAL;
    return (int64_t)number;
}

// Is the thread off the CPU now? Its state does not say so: a thread sets it to sleeping some time before it
// leaves the CPU, and may stay. This file does (kernel lib/syscall.c task_current_syscall).
static enum verdict is_off_cpu(struct search *s, int dir, unsigned tid)
{
    char path[24];
    procfs_path(path, tid, "/syscall");
    long n = procfs_read(dir, path, s->text, sizeof s->text);
    if (is_gone(n)) return BUSY;
    if (n <= 0) return OPAQUE;
    return s->text[0] == 'r' ? BUSY : CLEAN;
}

// Notes the runs of each task of s->task and whether it is off the CPU after that. If is_unchanged() says so
// later, none has run in between: to run it would have had to be given a CPU.
static enum verdict quiet(struct search *s, int dir)
{
    enum verdict all = CLEAN;
    for (unsigned i = 0; i < s->tasks; i++) {
        if (is_late(s)) return BUSY;
        int64_t runs = read_runs(s, dir, s->task[i].tid);
        enum verdict v = is_gone(runs) ? BUSY : runs < 0 ? OPAQUE : is_off_cpu(s, dir, s->task[i].tid);
        if (v == CLEAN && runs == 0) v = UNPROVEN; // a kernel without CONFIG_SCHED_INFO
        s->task[i].runs = (uint64_t)runs;
        if (v > all) all = v;
    }
    return all;
}

static bool is_unchanged(struct search *s, int dir)
{
    for (unsigned i = 0; i < s->tasks; i++)
        if (is_late(s) || read_runs(s, dir, s->task[i].tid) != (int64_t)s->task[i].runs) return false;
    return true;
}

// An epoll set, or an io_uring with registered files, refers to the socket without a descriptor. Those in the
// caller's own table are no other holder.
static enum verdict look_behind(struct search *s, int dir, unsigned tid, unsigned n, const char *link)
{
    char path[40];
    bool epoll = !strcmp(link, "anon_inode:[eventpoll]"), ring = !strcmp(link, "anon_inode:[io_uring]");
    bool queue = s->leaked && !strncmp(link, "socket:", 7);
    if (!queue && (tid == s->caller || (!epoll && !ring))) return CLEAN;
    // A set that a child has with us by fork: what is taken out of it here is taken out of it there.
    if (epoll && same_file(s, s->caller, tid, n)) return CLEAN;
    procfs_path(procfs_put(procfs_put_number(path, tid, 10), "/fdinfo/"), n, "");
    if (queue) {
        // Descriptors in the queue of a unix socket: any of them may be ours (net/unix/af_unix.c).
        long got = procfs_read(dir, path, s->text, sizeof s->text);
        if (got < 0) return !is_gone(got) ? OPAQUE : tid == s->caller ? CLEAN : BUSY;
        const char *at = strstr(s->text, "scm_fds: ");
        return at && strncmp(at, "scm_fds: 0\n", 11) ? UNPROVEN : CLEAN;
    }
    int found = procfs_contains(dir, path, epoll ? s->epolled : s->link, s->text, sizeof s->text);
    if (found < 0) return is_gone(found) ? BUSY : OPAQUE;
    return found ? HOLDER : CLEAN;
}

static enum verdict look_at_descriptor(struct search *s, int dir, unsigned tid, int fds, unsigned n)
{
    char name[12], link[64];
    procfs_path(name, n, "");
    long ret = procfs_link(fds, name, link, sizeof link);
    if (is_gone(ret)) return tid == s->caller ? CLEAN : BUSY;
    if (ret < 0) return OPAQUE;
    if (!strcmp(link, s->link)) return tid == s->caller && n == s->fd ? CLEAN : HOLDER;
    return look_behind(s, dir, tid, n, link);
}

// Looks through the descriptor table of one thread.
static enum verdict look_at_table(struct search *s, int dir, unsigned tid)
{
    char path[24];
    procfs_path(path, tid, "/fd");
    int fds = procfs_open_directory(dir, path);
    if (fds < 0) return is_gone(fds) ? CLEAN : OPAQUE; // a thread that has ended has no table
    struct procfs_list list = {.fd = fds, .buffer = s->descriptors, .size = sizeof s->descriptors};
    enum verdict all = CLEAN;
    unsigned n;
    int ret;
    while ((ret = procfs_next(&list, &n)) > 0 && all != HOLDER) {
        enum verdict v = is_late(s) ? BUSY : look_at_descriptor(s, dir, tid, fds, n);
        if (v > all) all = v;
        if (s->late) break;
    }
    procfs_close(fds);
    if (ret < 0 && !is_gone(ret) && all < OPAQUE) all = OPAQUE;
    return all;
}

// Threads commonly share the table of the first. Where kcmp(2) is not to be had, each is read.
static enum verdict look_at_tables(struct search *s, int dir)
{
    enum verdict all = CLEAN;
    for (unsigned i = 0; i < s->tasks && all != HOLDER; i++) {
        unsigned tid = s->task[i].tid;
        if (i && same_table(s, s->task[0].tid, tid)) continue;
        // A forked child has it under the number that we have.
        enum verdict v = same_file(s, s->caller, tid, s->fd) ? HOLDER : look_at_table(s, dir, tid);
        if (v > all) all = v;
    }
    return all;
}

// How many threads has the process whose /proc/PID/task this is? (fs/proc/base.c proc_task_getattr.)
static unsigned count_threads(int dir)
{
    struct stat st = {0};
    if (sys_call(SYS_fstat, dir, (long)&st, 0) < 0 || st.st_nlink < 3) return 0;
    return (unsigned)st.st_nlink - 2;
}

static enum verdict list_tasks(struct search *s, int dir)
{
    struct procfs_list list = {.fd = dir, .buffer = s->threads, .size = sizeof s->threads};
    unsigned tid;
    int ret;
    s->tasks = 0;
    while ((ret = procfs_next(&list, &tid)) > 0) {
        if (s->tasks == TASKS_MAX) return UNPROVEN;
        s->task[s->tasks++].tid = tid;
    }
    if (is_gone(ret)) return BUSY;
    return ret < 0 ? OPAQUE : CLEAN;
}

// dir is /proc/PID/task. A process of which every thread was at rest, and that had no other threads then,
// had no one to move its descriptors.
static enum verdict look_into_threads(struct search *s, int dir, unsigned pid)
{
    enum verdict v = CLEAN;
    if (count_threads(dir) == 1)
        s->task[0].tid = pid, s->tasks = 1;
    else
        v = list_tasks(s, dir);
    if (v != CLEAN) return v;
    enum verdict calm = quiet(s, dir);
    if (calm == CLEAN && count_threads(dir) != s->tasks) calm = BUSY;
    v = look_at_tables(s, dir);
    if (v == HOLDER) return v;
    if (v < calm) v = calm;
    if (v == CLEAN && !is_unchanged(s, dir)) v = BUSY;
    return v;
}

// A process that is about to end belongs to root for some moments (fs/proc/base.c task_dump_owner).
static enum verdict reconsider(struct search *s, unsigned pid)
{
    struct process p;
    long ret = read_process(s, pid, &p);
    return is_gone(ret) || (!ret && p.flags & EXITING) ? BUSY : OPAQUE;
}

// A process that could only have got it by a message. It is looked at as it is, if we may: to be sure, one would
// have to catch every process of the machine at rest.
static enum verdict glance_at(struct search *s, int dir, unsigned pid)
{
    enum verdict v = look_at_table(s, dir, pid);
    return v == BUSY || v == OPAQUE ? s->late ? BUSY : CLEAN : v;
}

static enum verdict look_into(struct search *s, unsigned pid)
{
    char path[24];
    struct process p;
    long ret = read_process(s, pid, &p);
    if (ret < 0) return is_gone(ret) ? CLEAN : OPAQUE;
    if (p.flags & KERNEL_THREAD || p.thread) return CLEAN;
    bool relative = !s->since_ms || (!is_older(s, &p) && may_descend(s, p.parent));
    if (!relative && !s->leaked) return CLEAN;
    procfs_path(path, pid, "/task");
    int dir = procfs_open_directory(s->proc, path);
    if (dir < 0) return is_gone(dir) ? CLEAN : OPAQUE;
    // A zombie has no descriptors (kernel/exit.c do_exit), but other threads may live on behind it.
    bool dead = (p.state == 'Z' || p.state == 'X') && count_threads(dir) <= 1;
    enum verdict v = dead ? CLEAN : relative ? look_into_threads(s, dir, pid) : glance_at(s, dir, pid);
    procfs_close(dir);
    return v == OPAQUE ? reconsider(s, pid) : v;
}

// Into text: what descriptor n is to that thread, which may be nothing (then "").
static void link_of(int dir, unsigned tid, unsigned n, char *text, size_t size)
{
    char path[40];
    procfs_path(procfs_put(procfs_put_number(path, tid, 10), "/fd/"), n, "");
    if (procfs_link(dir, path, text, size) < 0) text[0] = '\0';
}

// Lists the threads of this process that have a table of their own. Where kcmp(2) is not to be had, the
// others show a marker that has just been put into ours. *listed: how many threads there are.
static enum verdict list_parted(struct search *s, int dir, unsigned *listed)
{
    struct procfs_list list = {.fd = dir, .buffer = s->threads, .size = sizeof s->threads};
    char mine[32] = "", theirs[32];
    unsigned tid;
    int ret, marker = -1;
    if (!s->kcmp) {
        marker = (int)sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (marker < 0) return UNPROVEN;
        link_of(dir, s->caller, (unsigned)marker, mine, sizeof mine);
    }
    s->tasks = *listed = 0;
    while ((ret = procfs_next(&list, &tid)) > 0 && s->tasks < TASKS_MAX && !is_late(s)) {
        ++*listed;
        if (tid == s->caller || tid == s->me || same_table(s, s->caller, tid)) continue;
        if (marker >= 0) link_of(dir, tid, (unsigned)marker, theirs, sizeof theirs);
        if (marker < 0 || !mine[0] || strcmp(mine, theirs)) s->task[s->tasks++].tid = tid;
    }
    if (marker >= 0) sys_call(SYS_close, marker, 0, 0);
    if (s->late) return BUSY;
    return ret ? UNPROVEN : CLEAN;
}

static enum verdict look_into_ourselves(struct search *s)
{
    unsigned listed;
    int dir = procfs_open_directory(s->proc, "self/task");
    if (dir < 0) return UNPROVEN;
    enum verdict v = list_parted(s, dir, &listed);
    if (v == CLEAN && s->tasks) {
        enum verdict calm = quiet(s, dir);
        if (calm == CLEAN && count_threads(dir) != listed) calm = BUSY;
        v = look_at_tables(s, dir);
        if (v < calm) v = calm;
        if (v == CLEAN && !is_unchanged(s, dir)) v = BUSY;
    }
    if (v == CLEAN && s->leaked) v = look_at_table(s, dir, s->caller);
    procfs_close(dir);
    return v;
}

// The last process id that was given out in our process namespace; 0 if it can't be told.
static uint64_t last_pid(struct search *s)
{
    uint64_t pid = 0;
    long n = sys_call4(SYS_pread64, s->load, (long)s->text, sizeof s->text - 1, 0);
    if (n <= 0) return 0;
    s->text[n] = '\0';
    const char *at = memrchr(s->text, ' ', (size_t)n);
    if (!at) return 0;
    at++;
    return procfs_number(&at, 10, &pid) ? pid : 0;
}

// Time that runs out in the middle of a process is not that process's fault.
static void blame(struct search *s, unsigned pid, enum verdict v)
{
    if (v > BUSY || (v == BUSY && !s->late)) s->culprit = pid;
}

// Looks into a process, unless it is settled.
static enum verdict settle(struct search *s, unsigned pid)
{
    if (pid >= PIDS) return UNPROVEN;
    if (pid == s->self || (s->settled[pid / 64] >> pid % 64 & 1)) return CLEAN;
    enum verdict v = look_into(s, pid);
    blame(s, pid, v);
    if (v == CLEAN) s->settled[pid / 64] |= 1ull << pid % 64;
    return v;
}

// Looks into every process that is listed. Returns the worst; s->culprit is the process it was.
static enum verdict pass(struct search *s)
{
    struct procfs_list list = {.fd = s->proc, .buffer = s->processes, .size = sizeof s->processes};
    enum verdict all = CLEAN;
    unsigned n;
    int ret;
    if (sys_call(SYS_lseek, s->proc, 0, 0) != 0) return UNPROVEN;
    while ((ret = procfs_next(&list, &n)) > 0) {
        if (is_late(s)) return BUSY;
        enum verdict v = settle(s, n);
        if (v > BUSY) return v;
        if (v > all) all = v;
    }
    enum verdict v = ret < 0 ? UNPROVEN : look_into_ourselves(s);
    blame(s, s->self, v);
    return v > all ? v : all;
}

// Looks into the processes that have come after that one, in the order of their coming, until there are no more.
static enum verdict catch_up(struct search *s, uint64_t from)
{
    for (uint64_t now, last = from; (now = last_pid(s)) != last; last = now) {
        if (now < last) return BUSY; // or the numbers have begun again
        s->newest = now;
        for (uint64_t pid = last + 1; pid <= now; pid++) {
            enum verdict v = is_late(s) ? BUSY : settle(s, (unsigned)pid);
            if (v != CLEAN) return v;
        }
    }
    return CLEAN;
}

// While processes come and go. Nobody need wait for a moment in which none is born, as children are found after their
// parents, and are visible to us before those come to rest, or to an end:
// - The first pass finds all that are there when it begins without the socket. Whoever holds it after that is a child
//   that one of them had before it was looked at.
// - Such a child may have had its number before the pass began, though it was not to be seen yet. The second finds it.
// - The others have greater numbers than any at the beginning, and each a greater one than its parent. The walk through
//   these numbers comes to the parent first; and one that it finds nobody behind, since he is being born, is the child
//   of one that it has found without the socket.
static enum verdict look_at_everyone(struct search *s)
{
    uint64_t last = last_pid(s);
    if (!last) return UNPROVEN;
    // The numbers have begun again: a settled one may have been given out anew.
    if (last < s->newest) memset(s->settled, 0, sizeof s->settled);
    s->newest = last;
    enum verdict v = pass(s);
    if (v == CLEAN) v = pass(s);
    return v == CLEAN ? catch_up(s, last) : v;
}

// Does some process have the same file under the same number? A forked child commonly does, and so does a
// parent; this finds it many times faster than a look into every process.
static bool is_held_as_here(struct search *s)
{
    struct procfs_list list = {.fd = s->proc, .buffer = s->processes, .size = sizeof s->processes};
    unsigned n;
    while (procfs_next(&list, &n) > 0 && !is_late(s)) {
        if (n == s->self || !same_file(s, s->caller, n, s->fd)) continue;
        s->culprit = n;
        return true;
    }
    return false;
}

// No limit on what can be seen in this /proc? hidepid= hides processes of others (proc(5)). A socket that was
// inherited may be held outside of our process namespace: then only the first namespace will do
// (include/linux/proc_ns.h PROC_PID_INIT_INO).
static bool is_all_visible(struct search *s)
{
    if (!s->since_ms) {
        long n = procfs_link(s->proc, "self/ns/pid", s->text, sizeof s->text);
        if (n < 0 || strcmp(s->text, "pid:[4026531836]")) return false;
    }
    return procfs_contains(s->proc, "self/mountinfo", "hidepid=", s->text, sizeof s->text) == 0;
}

// Is /proc of our process namespace, and loadavg the kernel's own (lxcfs has one that lags behind)? In a
// /proc of another namespace "self" is missing or another number; kcmp(2) and loadavg know only our own.
static bool is_our_proc(struct search *s)
{
    struct statfs fs = {0};
    const char *at = s->text;
    uint64_t self;
    if (sys_call(SYS_fstatfs, s->load, (long)&fs, 0) < 0 || fs.f_type != PROC_SUPER_MAGIC) return false;
    if (procfs_link(s->proc, "self", s->text, sizeof s->text) < 0) return false;
    return procfs_number(&at, 10, &self) && self == s->self;
}

// A process that is younger than the socket has not opened it, whatever the caller believes: it has it by
// fork, and the process that opened it may be any older one.
static void doubt_opener(struct search *s)
{
    struct process p;
    if (read_process(s, s->self, &p) < 0 || p.start * TICK_MS > s->since_ms) s->since_ms = 0;
    if (!s->since_ms) s->leaked = true;
}

static enum owners prove(struct search *s)
{
    doubt_opener(s);
    if (s->kcmp && is_held_as_here(s)) return OWNERS_HELD;
    enum verdict v = look_at_everyone(s);
    for (unsigned turn = 0; v == BUSY && !is_late(s); turn++) {
        procfs_rest(&s->limit, (uint64_t)NAP_US << (turn < 5 ? turn : 5));
        v = look_at_everyone(s);
    }
    if (v == HOLDER || v == OPAQUE) return OWNERS_HELD;
    if (v != CLEAN) return OWNERS_UNKNOWN;
    s->culprit = 0;
    return is_all_visible(s) ? OWNERS_ALONE : OWNERS_UNKNOWN;
}

static void find_owners(void *arg)
{
    struct search *s = arg;
    procfs_limit(&s->limit, s->limit_us);
    s->me = (unsigned)sys_call(SYS_gettid, 0, 0, 0);
    s->proc = procfs_open_directory(AT_FDCWD, "/proc");
    if (s->proc < 0) return;
    s->load = procfs_open(s->proc, "loadavg");
    if (s->load >= 0) {
        if (is_our_proc(s)) s->answer->owners = prove(s);
        s->answer->pid = (int)s->culprit;
        procfs_close(s->load);
    }
    procfs_close(s->proc);
    s->answer->took_us = procfs_spent(&s->limit);
}

void owners_prove(int fd, uint64_t inode, uint64_t since_ms, bool leaked, uint64_t limit_us,
                  struct owners_answer *answer)
{
    *answer = (struct owners_answer){.owners = OWNERS_UNKNOWN};
    long ret = sys_call6(SYS_mmap, 0, sizeof(struct search), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (inode && (ret > 0 || ret < -4095)) {
        struct search *s = (struct search *)ret;
        s->fd = (unsigned)fd;
        s->since_ms = since_ms;
        s->limit_us = limit_us;
        s->leaked = leaked;
        s->self = (unsigned)sys_call(SYS_getpid, 0, 0, 0);
        s->caller = (unsigned)sys_call(SYS_gettid, 0, 0, 0);
        procfs_put(procfs_put_number(procfs_put(s->link, "socket:["), inode, 10), "]");
        procfs_put(procfs_put_number(procfs_put(s->epolled, " ino:"), inode, 16), " sdev:");
        s->answer = answer;
        find_kcmp(s);
        // Without kcmp(2) the look needs a marker in the caller's own table, and is made there.
        if (!s->kcmp || !aside(find_owners, s)) find_owners(s);
        sys_call(SYS_munmap, ret, sizeof(struct search), 0);
    }
}
