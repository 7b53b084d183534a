// preclose free: ends the calls of a process that hangs on sockets it has closed.
//
// A socket is aborted only if it is proven that nobody has it but threads in calls that hang:
// - no descriptor of any process is it, at two looks, and every process could be looked into;
// - no message that is on its way holds a descriptor, as far as the kernel tells (scm_fds);
// - the kernel has not made it for itself: its user is the process's and not root, or its cgroup is the
//   process's and not the root of all;
// - a thread of this process, and of no other, is in a call that fits, on a descriptor that is closed or no
//   such socket any more; and there are no more such sockets than such descriptors.
// And not if it could end the process: the first call on an aborted socket fails with ECONNABORTED, further
// ones that send with EPIPE and SIGPIPE (net/core/stream.c sk_stream_error).
// A call on a descriptor that is closed needs no proof of which socket it is on: interrupted, it begins anew, and fails,
// as the descriptor is closed. What is left hanging when the sockets are done with is ended so; unless a descriptor that
// can be seen could be a duplicate of the closed one, by which the call may be meant to go on.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "census.h"
#include "commands.h"
#include "interrupt.h"
#include "options.h"
#include "say.h"
#include "text.h"

enum { LISTEN = 10, WAIT_MS = 2000, ABORT_MS = 300, NAP_MS = 10 };

struct rescue {
    bool dry, force;
    pid_t pid;
    int64_t uid;
    uint64_t net, cgroup;
    char comm[PROC_NAME_MAX];
    struct census census;
    const char *all; // why nothing can be proven here; NULL: something can
};

static bool take(void *context, enum flag flag, const char *argument)
{
    struct rescue *r = context;
    (void)argument;
    if (flag == FLAG_FREE_DRY_RUN) r->dry = true;
    if (flag == FLAG_FREE_FORCE) r->force = true;
    return true;
}

// Does the kernel tell of descriptors on their way? Asked of a socket of our own.
static bool shows_in_flight(void)
{
    int pair[2];
    char path[64], text[512];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0) return false;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pair[0]);
    FILE *file = fopen(path, "re");
    const size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[n] = '\0';
    if (file) fclose(file);
    close(pair[0]);
    close(pair[1]);
    return strstr(text, "scm_fds:") != NULL;
}

static bool any_in_flight(void)
{
    int n, *pids = proc_numbers("/proc", &n);
    bool any = false;
    for (int i = 0; i < n; i++) any |= proc_in_flight(pids[i]) > 0;
    free(pids);
    return any;
}

static const char *why_nothing(const struct rescue *r)
{
    if (!proc_sees_all()) return "processes outside of this process namespace can't be seen, and may have it";
    if (!r->census.sees_all) return "the descriptors of some processes can't be read, and may be it";
    if (r->census.interrupted) return "the kernel's table changed while it was read; try again";
    if (!shows_in_flight()) return "this kernel does not tell whether a message on its way holds it";
    if (any_in_flight()) return "a message that no one has read holds a descriptor, which may be it";
    return NULL;
}

static bool is_ghost(const struct rescue *r, const struct entry *e)
{
    return (e->held == GHOST || e->held == LIKELY_GHOST || e->held == HIDDEN) && e->net == r->net;
}

// How many different descriptors of the process are in calls that fit such a socket; others: of other
// processes.
static unsigned fitting(const struct rescue *r, const struct entry *e, bool others)
{
    const struct census *c = &r->census;
    unsigned n = 0;
    for (size_t i = 0; i < c->orphans; i++) {
        bool again = false;
        if (!census_fits(&c->orphan[i], e) || (c->orphan[i].pid != r->pid) != others) continue;
        for (size_t k = 0; k < i && !others; k++)
            again |= c->orphan[k].pid == r->pid && census_fits(&c->orphan[k], e) &&
                     c->orphan[k].call.fd == c->orphan[i].call.fd;
        n += !again;
    }
    return n;
}

// Could a thread get SIGPIPE, and the process die of it?
static bool is_deadly(const struct rescue *r, const struct entry *e)
{
    const struct census *c = &r->census;
    unsigned calls = 0;
    bool sends = false;
    for (size_t i = 0; i < c->orphans; i++) {
        if (c->orphan[i].pid != r->pid || !census_fits(&c->orphan[i], e)) continue;
        calls++;
        sends |= c->orphan[i].call.sends;
    }
    return sends && calls > 1 && proc_dies_of_sigpipe(r->pid);
}

// How many sockets the same calls could be on.
static unsigned rivals(const struct rescue *r, const struct entry *e)
{
    unsigned n = 0;
    for (size_t i = 0; i < r->census.entries; i++) {
        const struct entry *other = &r->census.entry[i];
        n += is_ghost(r, other) && (other->s.state == LISTEN) == (e->s.state == LISTEN);
    }
    return n;
}

// Why it is not proven that the socket is the process's and nobody else has it; NULL if it is.
static const char *why_not(const struct rescue *r, const struct entry *e)
{
    const bool same_user = e->s.uid != 0 && (int64_t)e->s.uid == r->uid;
    const bool same_cgroup = e->s.cgroup > 1 && e->s.cgroup == r->cgroup;
    if (r->all) return r->all;
    if (!same_user && !same_cgroup)
        return "neither its user nor its cgroup shows that the process made it, and not the kernel";
    if (fitting(r, e, true)) return "a thread of another process is in a call that fits, too";
    if (rivals(r, e) > fitting(r, e, false))
        return "there are more such sockets than calls that they can belong to";
    if (is_deadly(r, e)) return "a thread that sends could get SIGPIPE, which would end the process";
    return NULL;
}

static size_t put_threads(const struct rescue *r)
{
    const struct census *c = &r->census;
    char comm[PROC_NAME_MAX];
    size_t n = 0;
    for (size_t i = 0; i < c->orphans; i++) {
        const struct orphan_call *o = &c->orphan[i];
        if (o->pid != r->pid) continue;
        proc_comm(o->tid, comm);
        printf("  thread %d (", o->tid);
        put_safe(stdout, slice_of(comm));
        printf(") is in %s on descriptor %d, which is %s\n", o->call.name, o->call.fd,
               o->closed ? "closed" : "something else now");
        n++;
    }
    return n;
}

static int enter_net(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const int result = fd >= 0 && setns(fd, CLONE_NEWNET) == 0 ? 0 : -errno;
    if (fd >= 0) close(fd);
    return result;
}

static const char *put_destroy(const struct rescue *r, const struct entry *e)
{
    if (r->dry) return "would be aborted";
    if (proc_net(getpid()) != r->net && enter_net(r->pid) < 0)
        return "not aborted: its network namespace can't be entered";
    const int result = diag_destroy(&e->s);
    if (result == 0) return "aborted";
    if (result == -ENOENT) return "gone by itself";
    if (result == -EOPNOTSUPP) return "not aborted: the kernel is built without CONFIG_INET_DIAG_DESTROY";
    return result == -EPERM ? "not aborted: that needs root (CAP_NET_ADMIN)" : strerror(-result);
}

// Shows the sockets that its threads could be in a call on, and aborts what may be. Returns how many were (or
// would be).
static size_t put_sockets(const struct rescue *r)
{
    const struct census *c = &r->census;
    char local[DIAG_ADDRESS_MAX], peer[DIAG_ADDRESS_MAX];
    size_t done = 0;
    for (size_t i = 0; i < c->entries; i++) {
        const struct entry *e = &c->entry[i];
        if (!is_ghost(r, e) || !fitting(r, e, false)) continue;
        printf("  %s %s %s", diag_type(&e->s), diag_state(e->s.state), diag_address(local, &e->s, false));
        if (e->s.peer_port) printf(" -> %s", diag_address(peer, &e->s, true));
        const char *not = why_not(r, e);
        printf(" has no descriptor: %s%s\n", not ? "not touched: " : "", not ? not : put_destroy(r, e));
        done += !not ;
    }
    return done;
}

static bool still_in(const struct orphan_call *o)
{
    struct proc_call now;
    return proc_blocked(o->pid, o->tid, &now) && now.runs == o->call.runs;
}

// Is it the process, or one that it has started, at any remove?
static bool is_family(const struct rescue *r, pid_t pid)
{
    for (int generations = 0; pid > 1 && generations < 64; generations++) {
        if (pid == r->pid) return true;
        pid = proc_parent(pid);
    }
    return false;
}

// Could the socket of the call be one that the process or a child of it still has a descriptor for?
static bool may_be_held(const struct rescue *r, const struct orphan_call *o)
{
    const struct census *c = &r->census;
    for (size_t i = 0; i < c->entries; i++) {
        const struct entry *e = &c->entry[i];
        if (e->held != HELD || !census_fits(o, e)) continue;
        for (size_t k = 0; k < e->holders; k++)
            if (is_family(r, c->holder[e->first + k].pid)) return true;
    }
    return false;
}

static const char *put_interrupt(const struct rescue *r, const struct orphan_call *o)
{
    if (!r->force && may_be_held(r, o))
        return "not interrupted: another descriptor could be the same socket; to interrupt it all the same: --force";
    if (r->dry) return "would be interrupted if it hangs then, to find the descriptor closed";
    const int result = interrupt_call(o->pid, o->tid, o->call.fd);
    if (result == 0) return "interrupted, to find the descriptor closed";
    if (result == -EBUSY) return "not interrupted: the descriptor is something else by now";
    if (result == -ESRCH) return "gone by itself";
    return result == -EPERM ? "not interrupted: it may not be traced; that needs root (CAP_SYS_PTRACE), and no debugger there"
                            : strerror(-result);
}

// Interrupts what is on a closed descriptor and hangs still. Returns how many were (or would be).
static size_t put_calls(const struct rescue *r)
{
    const struct census *c = &r->census;
    size_t done = 0;
    for (size_t i = 0; i < c->orphans; i++) {
        const struct orphan_call *o = &c->orphan[i];
        if (o->pid != r->pid || !o->closed || !still_in(o)) continue;
        const char *how = put_interrupt(r, o);
        printf("  thread %d's %s: %s\n", o->tid, o->call.name, how);
        done += strncmp(how, "not ", 4) != 0;
    }
    return done;
}

// Waits for the calls to return. Returns how many have not.
static size_t wait_for_calls(const struct rescue *r, int most_ms)
{
    const struct census *c = &r->census;
    const struct timespec nap = {.tv_nsec = NAP_MS * 1000000L};
    size_t left = 1;
    for (int ms = 0; left && ms < most_ms; ms += NAP_MS) {
        left = 0;
        for (size_t i = 0; i < c->orphans; i++) left += c->orphan[i].pid == r->pid && still_in(&c->orphan[i]);
        if (left) nanosleep(&nap, NULL);
    }
    return left;
}

static size_t put_outcome(const struct rescue *r)
{
    const struct census *c = &r->census;
    const size_t left = wait_for_calls(r, WAIT_MS);
    for (size_t i = 0; i < c->orphans; i++) {
        if (c->orphan[i].pid != r->pid) continue;
        printf("  thread %d %s %s\n", c->orphan[i].tid,
               still_in(&c->orphan[i]) ? "is still in" : "has come back from", c->orphan[i].call.name);
    }
    return left;
}

static int rescue(struct rescue *r)
{
    char count[NUMBER_MAX];
    size_t threads = 0;
    for (size_t i = 0; i < r->census.orphans; i++) threads += r->census.orphan[i].pid == r->pid;
    put_safe(stdout, slice_of(r->comm));
    printf(", pid %d: %s thread%s in a call on a descriptor that is closed or something else now\n", r->pid,
           threads ? text_count(count, threads) : "no", threads == 1 ? " is" : "s are");
    put_threads(r);
    if (!threads) return STATUS_OK;
    size_t done = put_sockets(r);
    if (done && !r->dry) wait_for_calls(r, ABORT_MS);
    done += put_calls(r);
    if (!done) printf("  nothing %s\n", r->dry ? "would be done" : "was done");
    if (r->dry) return done ? STATUS_OK : STATUS_FAILED;
    return done && put_outcome(r) == 0 ? STATUS_OK : STATUS_FAILED;
}

int command_free(int argc, char **argv)
{
    struct rescue r = {0};
    int64_t pid = 0;
    const int first = options_read(COMMAND_FREE, argc, argv, take, &r);
    if (first < 0) return STATUS_USAGE;
    if (argc - first != 1 || !slice_number(slice_of(argv[first]), &pid) || pid <= 0 || pid > INT32_MAX) {
        complain("which process? preclose free [-n] PID");
        return STATUS_USAGE;
    }
    r.pid = (pid_t)pid;
    r.uid = proc_uid(r.pid);
    r.net = proc_net(r.pid);
    if (r.uid < 0) {
        complain("there is no process %d", r.pid);
        return STATUS_USAGE;
    }
    if (!r.net) {
        complain("process %d can't be looked into: %s", r.pid,
                 geteuid() ? "run it as root" : strerror(errno));
        return STATUS_FAILED;
    }
    proc_comm(r.pid, r.comm);
    r.cgroup = proc_cgroup(r.pid);
    const int result = census_take(&r.census, true);
    if (result < 0) {
        complain("the kernel does not tell of its sockets (sock_diag): %s; it needs CONFIG_INET_DIAG",
                 strerror(-result));
        return STATUS_FAILED;
    }
    r.all = why_nothing(&r);
    const int status = rescue(&r);
    return output_done() ? status : STATUS_FAILED;
}
