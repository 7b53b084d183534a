// A socket without a descriptor is easily one whose descriptor has just been moved, or that has just been
// made. So what looks like a ghost is looked for in every process once more, and must still be there after
// that.
#include "census.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "say.h"

enum {
    ESTABLISHED = 1,
    SYN_RECV = 3,
    FIN_WAIT_1,
    FIN_WAIT_2,
    TIME_WAIT,
    CLOSED_STATE,
    CLOSE_WAIT,
    LAST_ACK,
    LISTEN,
    CLOSING,
    NEW_SYN_RECV,
};

// Those that can have a descriptor, or wait to get one.
#define STATES (~(UINT32_C(1) << TIME_WAIT | UINT32_C(1) << SYN_RECV | UINT32_C(1) << NEW_SYN_RECV))

// A holder as it is found, until all are known.
struct found {
    uint32_t inode;
    struct holder holder;
};

struct known {
    uint32_t inode;
    size_t entry;
    UT_hash_handle hh;
};

struct net {
    uint64_t inode;
    pid_t pid; // one of its processes; 0: ours
};

struct work {
    struct census *census;
    int *pids;
    int n;
    uint64_t net; // that is being read
    void (*take)(void *, const struct diag_socket *);
    size_t entry_room;
    struct known *by_inode, *slot;
    struct found *found;
    size_t finds, find_room;
    struct net *net_list;
    size_t net_count;
    bool udp;   // and all calls on closed descriptors
    bool again; // the second look: only at what seemed to have no descriptor
    size_t process_room;
    bool blind;
};

static void *grown(void *memory, size_t n, size_t *room, size_t size)
{
    if (n < *room) return memory;
    *room = *room ? 2 * *room : 256;
    return need(reallocarray(memory, *room, size));
}

static void take_socket(void *context, const struct diag_socket *s)
{
    struct work *w = context;
    struct census *c = w->census;
    c->entry = grown(c->entry, c->entries, &w->entry_room, sizeof *c->entry);
    c->entry[c->entries++] = (struct entry){.s = *s, .net = w->net, .held = s->inode ? HIDDEN : CLOSED};
}

// Which network namespaces there are, by the processes that are in them.
static void find_nets(struct work *w)
{
    const uint64_t own = proc_net(getpid());
    w->net_list = need(calloc((size_t)w->n + 1, sizeof *w->net_list));
    w->net_list[w->net_count++] = (struct net){own, 0};
    for (int i = 0; i < w->n; i++) {
        const uint64_t inode = proc_net(w->pids[i]);
        size_t k = 0;
        while (k < w->net_count && w->net_list[k].inode != inode) k++;
        if (inode && k == w->net_count) w->net_list[w->net_count++] = (struct net){inode, w->pids[i]};
    }
}

static int read_protocols(struct work *w)
{
    bool *interrupted = &w->census->interrupted;
    const int result = diag_dump(IPPROTO_TCP, STATES, w->take, w, interrupted);
    return result < 0 || !w->udp ? result : diag_dump(IPPROTO_UDP, STATES, w->take, w, interrupted);
}

// Reads the sockets of a network namespace, from inside. Returns 0 or -errno.
static int read_net(struct work *w, const struct net *net, int own)
{
    char path[64];
    int fd = -1;
    w->net = net->inode;
    if (net->pid) {
        snprintf(path, sizeof path, "/proc/%d/ns/net", net->pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return -errno;
        if (setns(fd, CLONE_NEWNET) != 0) {
            close(fd);
            return -EPERM;
        }
    }
    const int result = read_protocols(w);
    if (fd >= 0) close(fd);
    if (fd >= 0 && setns(own, CLONE_NEWNET) != 0) {
        complain("cannot get back into this network namespace: %s", strerror(errno));
        exit(STATUS_FAILED);
    }
    return result;
}

static int read_nets(struct work *w, void (*take)(void *, const struct diag_socket *))
{
    struct census *c = w->census;
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), first_error = 0;
    w->take = take;
    c->nets = c->nets_unseen = 0;
    for (size_t i = 0; i < w->net_count; i++) {
        const int result = own < 0 && i ? -EPERM : read_net(w, &w->net_list[i], own);
        if (result == 0) c->nets++;
        if (result < 0) c->nets_unseen++;
        if (result < 0 && !first_error) first_error = result;
    }
    if (own >= 0) close(own);
    return c->nets ? 0 : first_error;
}

// The kernel counts its way through its table from one piece of the answer to the next, so that one that is there twice
// has moved on meanwhile (net/ipv4/inet_diag.c; the table is that of all namespaces).
static void drop_repeated(struct census *c)
{
    struct once {
        uint64_t cookie;
        UT_hash_handle hh;
    } *all = NULL, *slot = need(calloc(c->entries + 1, sizeof *slot)), *before;
    size_t kept = 0;
    for (size_t i = 0; i < c->entries; i++) {
        slot[i].cookie = c->entry[i].s.cookie;
        HASH_FIND(hh, all, &slot[i].cookie, sizeof slot[i].cookie, before);
        if (before && slot[i].cookie) continue;
        if (!before) HASH_ADD(hh, all, cookie, sizeof slot[i].cookie, &slot[i]);
        c->entry[kept++] = c->entry[i];
    }
    c->entries = kept;
    HASH_CLEAR(hh, all);
    free(slot);
}

// An inode number belongs to one socket, whatever its namespace: they are all files of one file system.
static void index_inodes(struct work *w)
{
    struct census *c = w->census;
    w->slot = need(calloc(c->entries + 1, sizeof *w->slot));
    for (size_t i = 0; i < c->entries; i++) {
        struct known *k = &w->slot[i], *other;
        if (!c->entry[i].s.inode) continue;
        k->inode = c->entry[i].s.inode;
        k->entry = i;
        HASH_FIND(hh, w->by_inode, &k->inode, sizeof k->inode, other);
        if (!other) HASH_ADD(hh, w->by_inode, inode, sizeof k->inode, k);
    }
}

static struct entry *entry_of(const struct work *w, uint32_t inode)
{
    struct known *k;
    HASH_FIND(hh, w->by_inode, &inode, sizeof inode, k);
    return k ? &w->census->entry[k->entry] : NULL;
}

static void take_holder(void *context, pid_t pid, pid_t tid, int fd, uint32_t inode)
{
    struct work *w = context;
    struct entry *e = entry_of(w, inode);
    if (!e || (w->again && e->held != HIDDEN)) return;
    e->held = HELD;
    w->found = grown(w->found, w->finds, &w->find_room, sizeof *w->found);
    w->found[w->finds++] = (struct found){inode, {pid, tid, fd}};
}

static void add_process(struct work *w, pid_t pid)
{
    struct census *c = w->census;
    c->process = grown(c->process, c->processes, &w->process_room, sizeof *c->process);
    struct process *p = &c->process[c->processes++];
    p->pid = pid;
    p->uid = proc_uid(pid);
    proc_comm(pid, p->comm);
}

const struct process *census_process(const struct census *c, pid_t pid)
{
    for (size_t i = 0; i < c->processes; i++)
        if (c->process[i].pid == pid) return &c->process[i];
    return NULL;
}

static void read_holders(struct work *w)
{
    for (int i = 0; i < w->n; i++) {
        const size_t before = w->finds;
        const int result = proc_sockets(w->pids[i], take_holder, w);
        if (w->finds > before) add_process(w, w->pids[i]);
        if (result < 0 && result != -ENOENT && result != -ESRCH) w->blind = true;
    }
}

static int by_inode(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->inode != y->inode) return x->inode < y->inode ? -1 : 1;
    if (x->holder.pid != y->holder.pid) return x->holder.pid < y->holder.pid ? -1 : 1;
    return x->holder.fd < y->holder.fd ? -1 : x->holder.fd > y->holder.fd;
}

// The holders of each socket side by side.
static void sort_holders(struct work *w)
{
    struct census *c = w->census;
    if (w->finds) qsort(w->found, w->finds, sizeof *w->found, by_inode);
    c->holder = need(calloc(w->finds + 1, sizeof *c->holder));
    for (size_t i = 0; i < w->finds; i++) {
        struct entry *e = entry_of(w, w->found[i].inode);
        if (!e->holders) e->first = i;
        e->holders++;
        c->holder[i] = w->found[i].holder;
    }
    c->holders = w->finds;
}

// Is this the listener that a connection to the other's local address waits at? One on any address takes
// connections to each; an IPv6 one also those of IPv4, unless it is told not to.
static int fits(const struct entry *listener, const struct entry *e)
{
    static const unsigned char any[16];
    const size_t length = e->s.family == AF_INET6 ? 16 : 4;
    if (listener->s.state != LISTEN || listener->net != e->net || listener->s.local_port != e->s.local_port)
        return 0;
    if (listener->s.family == e->s.family && memcmp(listener->s.local, e->s.local, length) == 0) return 3;
    if (memcmp(listener->s.local, any, sizeof any) != 0) return 0;
    return listener->s.family == e->s.family ? 2 : listener->s.family == AF_INET6 ? 1 : 0;
}

// A connection without a file that has not been closed here was never accepted
// (net/ipv4/inet_connection_sock.c: it has no struct socket until then).
static void find_listeners(struct work *w)
{
    struct census *c = w->census;
    size_t *listener = need(calloc(c->entries + 1, sizeof *listener)), n = 0;
    for (size_t i = 0; i < c->entries; i++)
        if (c->entry[i].s.state == LISTEN) listener[n++] = i;
    for (size_t i = 0; i < c->entries; i++) {
        struct entry *e = &c->entry[i];
        int best = 0;
        if (e->s.inode || e->s.protocol != IPPROTO_TCP ||
            (e->s.state != ESTABLISHED && e->s.state != CLOSE_WAIT))
            continue;
        e->held = NOT_ACCEPTED;
        for (size_t k = 0; k < n; k++) {
            const struct entry *l = &c->entry[listener[k]];
            const int fit = fits(l, e);
            if (fit <= best) continue;
            best = fit;
            e->first = l->first;
            e->holders = l->holders;
        }
    }
    free(listener);
}

static void take_again(void *context, const struct diag_socket *s)
{
    struct work *w = context;
    struct entry *e = s->inode ? entry_of(w, s->inode) : NULL;
    if (e && e->held == HIDDEN && e->s.cookie == s->cookie && e->net == w->net) e->seen_again = true;
}

static void list_processes(struct work *w)
{
    free(w->pids);
    w->pids = proc_numbers("/proc", &w->n);
}

static size_t count(const struct census *c, enum held held)
{
    size_t n = 0;
    for (size_t i = 0; i < c->entries; i++) n += c->entry[i].held == held;
    return n;
}

// Looks once more at what seems to have no descriptor. What is gone then has been closed meanwhile.
static void look_again(struct work *w)
{
    struct census *c = w->census;
    if (!count(c, HIDDEN)) return;
    w->again = true;
    list_processes(w);
    read_holders(w);
    read_nets(w, take_again);
    for (size_t i = 0; i < c->entries; i++)
        if (c->entry[i].held == HIDDEN && !c->entry[i].seen_again) c->entry[i].held = CLOSED;
}

// Can the thread not be in this call on what its descriptor is now?
static bool is_misfit(struct work *w, struct orphan_call *o)
{
    const int64_t inode = proc_socket(o->pid, o->tid, o->call.fd);
    o->closed = inode == -ENOENT;
    if (inode < 0) return o->closed;
    const bool only_sockets = o->call.listens || strncmp(o->call.name, "recv", 4) == 0 ||
                              strncmp(o->call.name, "send", 4) == 0 || strcmp(o->call.name, "connect") == 0;
    if (inode == 0) return only_sockets;
    const struct entry *e = entry_of(w, (uint32_t)inode);
    return e && (e->s.state == LISTEN) != o->call.listens;
}

// The call and the descriptor are looked at one after the other: they belong together if the thread has not
// run.
static bool is_orphan(struct work *w, struct orphan_call *o)
{
    struct proc_call again;
    if (!proc_blocked(o->pid, o->tid, &o->call) || !is_misfit(w, o)) return false;
    return proc_blocked(o->pid, o->tid, &again) && again.name == o->call.name && again.fd == o->call.fd &&
           again.runs == o->call.runs;
}

static void find_orphan_calls(struct work *w)
{
    struct census *c = w->census;
    size_t room = 0;
    for (int i = 0; i < w->n; i++) {
        char directory[64];
        int n, *tids;
        snprintf(directory, sizeof directory, "/proc/%d/task", w->pids[i]);
        tids = w->pids[i] == getpid() ? NULL : proc_numbers(directory, &n);
        for (int k = 0; tids && k < n; k++) {
            struct orphan_call o = {.pid = w->pids[i], .tid = tids[k]};
            if (!is_orphan(w, &o)) continue;
            o.net = proc_net(o.pid);
            c->orphan = grown(c->orphan, c->orphans, &room, sizeof *c->orphan);
            c->orphan[c->orphans++] = o;
        }
        free(tids);
    }
}

bool census_fits(const struct orphan_call *o, const struct entry *e)
{
    return o->net == e->net && o->call.listens == (e->s.state == LISTEN);
}

static void tell_ghosts(struct work *w)
{
    struct census *c = w->census;
    // Under hidepid (proc(5)) processes of others are not even listed.
    c->sees_all = !w->blind && proc_sees_all() && geteuid() == 0;
    if (!count(c, HIDDEN) && !w->udp) return;
    find_orphan_calls(w);
    for (size_t i = 0; i < c->entries; i++) {
        struct entry *e = &c->entry[i];
        bool fits = false;
        if (e->held != HIDDEN) continue;
        for (size_t k = 0; k < c->orphans && !fits; k++) fits = census_fits(&c->orphan[k], e);
        if (c->sees_all || fits) e->held = c->sees_all ? GHOST : LIKELY_GHOST;
    }
}

int census_take(struct census *c, bool udp)
{
    struct work w = {.census = c, .udp = udp};
    *c = (struct census){0};
    list_processes(&w);
    find_nets(&w);
    const int result = read_nets(&w, take_socket);
    if (result == 0) {
        drop_repeated(c);
        index_inodes(&w);
        read_holders(&w);
        look_again(&w);
        tell_ghosts(&w);
        sort_holders(&w);
        find_listeners(&w);
    }
    HASH_CLEAR(hh, w.by_inode);
    free(w.slot);
    free(w.found);
    free(w.net_list);
    free(w.pids);
    if (result < 0) census_free(c);
    return result;
}

void census_free(struct census *c)
{
    free(c->entry);
    free(c->holder);
    free(c->process);
    free(c->orphan);
    *c = (struct census){0};
}
