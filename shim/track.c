#include "track.h"

#include <sys/single_threaded.h>
#include <time.h>

#include "arena.h"
#include "family.h"
#include "lock.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) arena_alloc(size)
#define uthash_free(block, size) arena_free(block, size)
#define uthash_nonfatal_oom(element) ((element)->in_table = false)
#define HASH_FUNCTION(key, length, hash) ((hash) = fd_hash(key))
#include <uthash.h>

// One registration of a socket in an epoll set. The kernel's key is the number that it was added as
// together with the open file description (fs/eventpoll.c struct epoll_filefd).
struct reg {
    struct reg *next;
    struct ofd *set;
    int key;
};

// An open file description: a socket, or an epoll set.
struct ofd {
    struct desc *descs; // its descriptors in this process
    struct reg *regs;   // a socket's registrations in epoll sets
    uint64_t cookie;
    uint64_t opened_ms;
    struct place opened;
    uint32_t fork_epoch, spawn_epoch; // those of its birth: a later one means a child that may hold it
    uint32_t generation;              // of the process that opened it
    uint64_t execs;                   // of its family until then
    uint32_t count;                   // of descs
    uint32_t pins;                    // duplicates being made
    uint32_t users;                   // an epoll set: registrations that point to it
    uint32_t wait;                    // track_wait
    uint8_t kind, share, flags;
    bool epoll;
    bool leaky;    // one of its descriptors has been without FD_CLOEXEC since spawn_epoch
    bool exposed;  // and was so at a fork or a spawn before that
    bool doubt;    // something about it could not be recorded
    bool orphaned; // an epoll set that another process may still hold, and this one no longer
    bool stuck;    // in an epoll set by a registration that could not be recorded
};

// What is known of a descriptor's number. Made once per number and kept.
struct desc {
    int fd;
    bool in_table;
    struct ofd *ofd;     // NULL: closed
    struct desc *next, *prev; // other descriptors of the same ofd
    struct place opened; // of the socket it was last; right when FD_CLOSED
    struct place closed;
    uint64_t was; // the cookie of that socket
    UT_hash_handle hh;
};

#define TRACKED (FD_SOCKET | FD_EPOLL)
#define CLOSING (FD_CLOSING | FD_ACTING)
#define ANEW (TRACKED | FD_CLOSED | CLOSING | FD_DOUBT | FD_CARRIER | FD_LEAKED) // what a number's next owner begins without

_Atomic uint16_t fd_state[TRACK_FD_MAX];

static lock_t lock;
static struct desc *table;
static _Atomic int highest = -1; // no descriptor above it has a state
static _Atomic uint32_t fork_epoch, spawn_epoch;
static _Atomic bool split, threads, own_thread;
static _Atomic unsigned connections; // open file descriptions of this generation with SOCK_CONNECTED
static bool lost; // sockets of the process that this one was forked from are not in the table
static uint32_t generation; // forks between the process that started and this one

static unsigned fd_hash(const void *key)
{
    return (unsigned)*(const int *)key * 2654435769u;
}

static uint64_t now_ms(void)
{
    struct timespec t = {0, 0};
    sys_call(SYS_clock_gettime, CLOCK_BOOTTIME, (long)&t, 0);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void track_mark(int fd, uint16_t set, uint16_t clear)
{
    if ((unsigned)fd >= TRACK_FD_MAX) return;
    int top = atomic_load(&highest);
    while (set && fd > top && !atomic_compare_exchange_weak(&highest, &top, fd)) {}
    if (clear & FD_SOCKET) clear |= FD_TCP;
    // At once: who sees a descriptor neither tracked nor being closed has no reason to wait.
    uint16_t was = atomic_load(&fd_state[fd]);
    while (!atomic_compare_exchange_weak(&fd_state[fd], &was, (uint16_t)((was & ~clear) | set))) {}
}

static struct desc *find(int fd)
{
    struct desc *d = NULL;
    HASH_FIND_INT(table, &fd, d);
    return d;
}

static struct desc *find_or_add(int fd)
{
    struct desc *d = find(fd);
    if (d) return d;
    d = arena_alloc(sizeof *d);
    if (!d) return NULL;
    *d = (struct desc){.fd = fd, .in_table = true};
    HASH_ADD_INT(table, fd, d);
    if (d->in_table) return d;
    arena_free(d, sizeof *d);
    return NULL;
}

static enum share share_of(const struct ofd *o)
{
    if (o->share != SHARE_NONE) return (enum share)o->share;
    if (atomic_load(&split) || o->fork_epoch != atomic_load(&fork_epoch)) return SHARE_FORK;
    if (o->spawn_epoch == atomic_load(&spawn_epoch)) return SHARE_NONE;
    if (o->leaky) return SHARE_FORK;
    for (const struct desc *d = o->descs; d; d = d->next)
        if (track_state(d->fd) & FD_GIVEN) return SHARE_FORK;
    return SHARE_NONE;
}

// Makes what past spawns mean for o final, so that FD_CLOEXEC may change from here on.
static void settle(struct ofd *o)
{
    if (share_of(o) == SHARE_FORK) {
        o->share = SHARE_FORK;
        if (o->leaky) o->exposed = true;
    }
    o->spawn_epoch = atomic_load(&spawn_epoch);
}

// A program that this process, or a child, runs from here on gets it. Whoever opened it, before the fork that made this
// process, does not see that.
static void leak(struct ofd *o)
{
    if (!o->leaky && !o->epoll && o->generation != generation) family_tell(o->cookie, TOLD_LEAKED);
    o->leaky = true;
}

static void drop_ofd(struct ofd *o)
{
    if (o->descs || o->pins || o->users) return;
    while (o->regs) {
        struct reg *r = o->regs;
        o->regs = r->next;
        r->set->users--;
        drop_ofd(r->set);
        arena_free(r, sizeof *r);
    }
    if (o->flags & SOCK_CONNECTED && o->generation == generation) atomic_fetch_sub(&connections, 1);
    arena_free(o, sizeof *o);
}

// A set that may still be held, by nobody that is known here: its registrations live on, out of reach.
static void note_orphan(struct ofd *o)
{
    if (o->epoll && !o->descs && !o->pins && (o->doubt || share_of(o) != SHARE_NONE)) o->orphaned = true;
}

static void unlink_desc(struct desc *d)
{
    struct ofd *o = d->ofd;
    if (d->prev) d->prev->next = d->next;
    else o->descs = d->next;
    if (d->next) d->next->prev = d->prev;
    o->count--;
    uint16_t state = track_state(d->fd);
    if (state & FD_DOUBT) o->doubt = true;
    if (state & FD_GIVEN) leak(o);
    if (state & FD_LEAKED) o->exposed = true;
    d->ofd = NULL;
    d->next = d->prev = NULL;
    note_orphan(o);
}

// Whatever the number stood for is gone, closed where nobody saw it.
static void forget(struct desc *d)
{
    if (!d->ofd) return;
    struct ofd *o = d->ofd;
    unlink_desc(d);
    drop_ofd(o);
}

// Is it for this process to say what becomes of the connection? Not where an ancestor opened it, or whoever
// started this program.
static bool is_own_tcp(const struct ofd *o)
{
    bool tcp = !o->epoll && (o->kind == KIND_TCP || o->kind == KIND_TCP6);
    return tcp && o->share != SHARE_INHERITED && o->generation == generation;
}

static void link_desc(struct desc *d, struct ofd *o, bool cloexec)
{
    d->ofd = o;
    d->next = o->descs;
    if (d->next) d->next->prev = d;
    o->descs = d;
    o->count++;
    if (!cloexec) leak(o);
    int socket = FD_SOCKET | (kind_carries((enum kind)o->kind) ? FD_CARRIER : 0) | (is_own_tcp(o) ? FD_TCP : 0);
    track_mark(d->fd, (uint16_t)(o->epoll ? FD_EPOLL : socket), ANEW);
}

static void note_connected(struct ofd *o)
{
    if (!is_own_tcp(o) || o->flags & SOCK_CONNECTED) return;
    o->flags |= SOCK_CONNECTED;
    atomic_fetch_add(&connections, 1);
}

static struct ofd *new_ofd(void)
{
    struct ofd *o = arena_alloc(sizeof *o);
    if (!o) return NULL;
    *o = (struct ofd){
        .fork_epoch = atomic_load(&fork_epoch),
        .spawn_epoch = atomic_load(&spawn_epoch),
        .generation = generation,
        .execs = family_execs(),
    };
    return o;
}

// A record for fd, free of what the number was before; NULL if there is no memory, and then it is not tracked.
static struct desc *fresh(int fd)
{
    if ((unsigned)fd >= TRACK_FD_MAX) return NULL;
    struct desc *d = find_or_add(fd);
    if (d) forget(d);
    else track_mark(fd, 0, ANEW);
    return d;
}

static void open_ofd(struct desc *d, struct ofd *o, bool cloexec)
{
    if (d && o) link_desc(d, o, cloexec);
    else if (o) arena_free(o, sizeof *o);
    else if (d) track_mark(d->fd, 0, ANEW);
}

void track_open(int fd, const struct opening *op)
{
    uint64_t opened_ms = now_ms();
    lock_take(&lock);
    struct desc *d = fresh(fd);
    struct ofd *o = new_ofd();
    if (o) {
        o->cookie = op->cookie;
        o->opened_ms = opened_ms;
        o->opened = op->place;
        o->kind = (uint8_t)op->kind;
        o->share = (uint8_t)op->share;
        if (d && op->connected) note_connected(o);
    }
    open_ofd(d, o, op->cloexec);
    lock_give(&lock);
}

void track_open_epoll(int fd, bool cloexec)
{
    lock_take(&lock);
    struct desc *d = fresh(fd);
    struct ofd *o = new_ofd();
    if (o) o->epoll = true;
    open_ofd(d, o, cloexec);
    lock_give(&lock);
}

// Nobody holds the set any more, nor is about to.
static bool is_gone(const struct ofd *set)
{
    return !set->descs && !set->pins && !set->orphaned;
}

// The epoll sets that a socket must be taken out of when fd, its last descriptor, is closed.
static void list_sets(const struct ofd *o, int fd, struct retired *out)
{
    out->stuck = o->stuck;
    for (const struct reg *r = o->regs; r; r = r->next) {
        const struct desc *set = r->set->descs;
        if (is_gone(r->set)) continue; // and the registration with it
        bool known = set && track_state(set->fd) & FD_EPOLL;
        if (!known || r->key != fd || out->sets == TRACK_SETS_MAX) out->stuck = true;
        else out->set[out->sets++] = set->fd;
    }
}

static void describe(const struct ofd *o, struct retired *out)
{
    uint64_t forks = track_forks(); // before the epochs are compared: one that is missed there shows here
    *out = (struct retired){
        .cookie = o->cookie,
        .opened_ms = o->opened_ms,
        .opened = o->opened,
        .kind = (enum kind)o->kind,
        .share = share_of(o),
        .flags = o->flags,
        .others = o->count + o->pins + o->doubt, // one that could not be recorded may still hold it
        .forefathers = o->generation != generation,
        .leaky = o->leaky,
        .exposed = o->exposed || o->leaky,
        .execs = o->execs,
        .forks = forks,
        .epoll = o->epoll,
    };
}

bool track_retire(int fd, const struct place *closed, struct retired *out)
{
    if (!(track_state(fd) & (FD_SOCKET | FD_EPOLL))) return false;
    lock_take(&lock);
    struct desc *d = find(fd);
    bool tracked = d && d->ofd && (track_state(fd) & (FD_SOCKET | FD_EPOLL));
    if (tracked) {
        struct ofd *o = d->ofd;
        d->opened = o->opened;
        d->closed = *closed;
        d->was = o->cookie;
        unlink_desc(d);
        describe(o, out);
        if (!out->others) list_sets(o, fd, out);
        track_mark(fd, o->epoll ? 0 : FD_CLOSED | FD_CLOSING, TRACKED | FD_ACTING | FD_DOUBT | FD_CARRIER | FD_LEAKED);
        drop_ofd(o);
    }
    lock_give(&lock);
    return tracked;
}

struct ofd *track_pin(int fd)
{
    if (!(track_state(fd) & (FD_SOCKET | FD_EPOLL))) return NULL;
    lock_take(&lock);
    struct desc *d = find(fd);
    struct ofd *o = d ? d->ofd : NULL;
    if (o) o->pins++;
    lock_give(&lock);
    return o;
}

void track_unpin(struct ofd *o, int to, bool cloexec)
{
    if (!o && !(track_state(to) & ~FD_GIVEN)) return;
    lock_take(&lock);
    struct desc *d = NULL;
    if (o && to >= 0) {
        settle(o);
        d = fresh(to);
        if (d) link_desc(d, o, cloexec);
        else o->doubt = true; // a duplicate that has no record: never again the last hold
    } else if (to >= 0 && (d = find(to))) {
        forget(d);
        track_mark(to, 0, ANEW);
    }
    if (o) {
        o->pins--;
        note_orphan(o);
        drop_ofd(o);
    }
    lock_give(&lock);
}

static void set_cloexec(struct desc *d, bool on)
{
    struct ofd *o = d->ofd;
    settle(o);
    // With several descriptors the others' flags are not known here; what has leaked stays leaky.
    if (!on) leak(o);
    else if (!o->descs->next) o->leaky = false;
}

bool track_cloexec(int fd, bool on)
{
    lock_take(&lock);
    struct desc *d = find(fd);
    bool tracked = d && d->ofd;
    if (tracked) set_cloexec(d, on);
    lock_give(&lock);
    return tracked;
}

void track_cloexec_range(unsigned first, unsigned last)
{
    lock_take(&lock);
    for (int fd = track_next(first, last); fd >= 0; fd = track_next((unsigned)fd + 1, last)) {
        struct desc *d = find(fd);
        if (d && d->ofd) set_cloexec(d, true);
    }
    lock_give(&lock);
}

void track_flags(int fd, unsigned set)
{
    lock_take(&lock);
    struct desc *d = find(fd);
    if (d && d->ofd) d->ofd->flags |= (uint8_t)set;
    lock_give(&lock);
}

// Whoever else has it by a fork does not see it given away; nor, if it is an epoll set, the sockets in it.
static void tell_of_passing(const struct ofd *o)
{
    if (share_of(o) == SHARE_NONE) return;
    if (o->epoll) family_tell_of_all(TOLD_PASSED);
    else family_tell(o->cookie, TOLD_PASSED);
}

void track_given(int fd)
{
    lock_take(&lock);
    struct desc *d = find(fd);
    if (d && d->ofd) leak(d->ofd);
    lock_give(&lock);
}

bool track_passed(int fd)
{
    lock_take(&lock);
    struct desc *d = find(fd);
    bool tracked = d && d->ofd;
    if (tracked) {
        tell_of_passing(d->ofd);
        d->ofd->share = SHARE_PASSED;
    }
    lock_give(&lock);
    return tracked;
}

int track_find(uint64_t cookie)
{
    int fd = -1;
    struct desc *d, *next;
    lock_take(&lock);
    HASH_ITER(hh, table, d, next)
        if (d->ofd && !d->ofd->epoll && d->ofd->cookie == cookie) fd = d->fd;
    lock_give(&lock);
    return fd;
}

void track_doubt(void)
{
    struct desc *d, *next;
    lock_take(&lock);
    HASH_ITER(hh, table, d, next)
        if (d->ofd) d->ofd->doubt = true;
    lock_give(&lock);
}

static bool is_registered(const struct ofd *o, const struct ofd *set, int key)
{
    for (const struct reg *r = o->regs; r; r = r->next)
        if (r->set == set && r->key == key) return true;
    return false;
}

static void drop_reg(struct reg **at)
{
    struct reg *r = *at;
    *at = r->next;
    r->set->users--;
    drop_ofd(r->set);
    arena_free(r, sizeof *r);
}

// A set that is closed took its registrations with it, unless another process has it.
static void drop_dead_regs(struct ofd *o)
{
    for (struct reg **at = &o->regs; *at;) {
        if (is_gone((*at)->set)) drop_reg(at);
        else at = &(*at)->next;
    }
}

// The epoll set that fd is. Not what the number was before a handler, interrupting us, closed it.
static struct ofd *set_of(int fd)
{
    struct desc *d = track_state(fd) & FD_EPOLL ? find(fd) : NULL;
    return d && d->ofd && d->ofd->epoll ? d->ofd : NULL;
}

void track_epoll_add(int set, int fd)
{
    lock_take(&lock);
    struct ofd *s = set_of(set);
    struct desc *d = find(fd);
    if (d && d->ofd && !d->ofd->epoll && !(s && is_registered(d->ofd, s, fd))) {
        drop_dead_regs(d->ofd);
        struct reg *r = s ? arena_alloc(sizeof *r) : NULL;
        if (r) {
            *r = (struct reg){.next = d->ofd->regs, .set = s, .key = fd};
            s->users++;
            d->ofd->regs = r;
        } else {
            d->ofd->stuck = true;
        }
    }
    lock_give(&lock);
}

void track_epoll_del(int set, int fd)
{
    lock_take(&lock);
    struct ofd *s = set_of(set);
    struct desc *d = find(fd);
    if (s && d && d->ofd) {
        for (struct reg **at = &d->ofd->regs; *at; at = &(*at)->next) {
            if ((*at)->set != s || (*at)->key != fd) continue;
            drop_reg(at);
            break;
        }
    }
    lock_give(&lock);
}

void track_closed_range(unsigned first, unsigned last, pid_t tid)
{
    lock_take(&lock);
    for (int fd = (int)first; (fd = track_next_with((unsigned)fd, FD_CLOSING)) >= 0 && (unsigned)fd <= last; fd++) {
        const struct desc *d = find(fd);
        // The number may have been another socket's meanwhile, which another thread is closing now.
        if (!d || (!d->ofd && d->closed.tid == tid)) track_mark(fd, 0, CLOSING);
    }
    lock_give(&lock);
}

uint64_t track_closing(int fd, pid_t tid)
{
    lock_take(&lock);
    struct desc *d = find(fd);
    uint64_t cookie = d && !d->ofd && track_state(fd) & FD_CLOSING && d->closed.tid != tid ? d->was : 0;
    lock_give(&lock);
    return cookie;
}

// The open file description of fd, if it is a TCP socket of this process's own.
static struct ofd *own_tcp(int fd)
{
    struct desc *d = track_state(fd) & FD_TCP ? find(fd) : NULL;
    return d && d->ofd && is_own_tcp(d->ofd) ? d->ofd : NULL;
}

bool track_connection(int fd, struct connection *c)
{
    lock_take(&lock);
    const struct ofd *o = own_tcp(fd);
    if (o)
        *c = (struct connection){
            .cookie = o->cookie,
            .opened_ms = o->opened_ms,
            .opened = o->opened,
            .kind = (enum kind)o->kind,
            .share = share_of(o),
            .flags = o->flags,
            .wait = o->wait,
            .representative = o->descs->fd == fd,
        };
    lock_give(&lock);
    return o;
}

void track_connected(int fd)
{
    lock_take(&lock);
    struct ofd *o = own_tcp(fd);
    if (o) {
        note_connected(o);
        o->flags &= (uint8_t)~SOCK_TOLD;
        o->wait = 0;
    }
    lock_give(&lock);
}

void track_wait(int fd, uint64_t cookie, uint32_t wait)
{
    lock_take(&lock);
    struct ofd *o = own_tcp(fd);
    if (o && o->cookie == cookie) o->wait = wait;
    lock_give(&lock);
}

bool track_tell(int fd, uint64_t cookie)
{
    lock_take(&lock);
    struct ofd *o = own_tcp(fd);
    bool first = o && o->cookie == cookie && !(o->flags & SOCK_TOLD);
    if (first) o->flags |= SOCK_TOLD;
    lock_give(&lock);
    return first;
}

unsigned track_connections(void)
{
    return atomic_load(&connections);
}

void track_give_up(int fd, uint64_t cookie)
{
    lock_take(&lock);
    const struct desc *d = find(fd);
    if (d && !d->ofd && d->was == cookie) track_mark(fd, 0, CLOSING);
    lock_give(&lock);
}

bool track_closed_at(int fd, struct place *opened, struct place *closed)
{
    lock_take(&lock);
    struct desc *d = find(fd);
    bool known = d && !d->ofd && (track_state(fd) & FD_CLOSED);
    if (known) {
        *opened = d->opened;
        *closed = d->closed;
    }
    lock_give(&lock);
    return known;
}

static int next_with(unsigned first, unsigned last, uint16_t bits)
{
    int top = atomic_load(&highest);
    for (unsigned fd = first; top >= 0 && fd <= (unsigned)top && fd <= last; fd++)
        if (track_state((int)fd) & bits) return (int)fd;
    return -1;
}

int track_next(unsigned first, unsigned last)
{
    return next_with(first, last, FD_SOCKET | FD_EPOLL);
}

int track_next_with(unsigned first, uint16_t bits)
{
    return next_with(first, TRACK_FD_MAX - 1, bits);
}

bool track_shared_since(const struct retired *r)
{
    uint64_t now = track_forks();
    return now >> 32 != r->forks >> 32 || (r->leaky && now != r->forks);
}

uint64_t track_forks(void)
{
    return (uint64_t)atomic_load(&fork_epoch) << 32 | atomic_load(&spawn_epoch);
}

void track_forked(void)
{
    atomic_fetch_add(&fork_epoch, 1);
}

void track_spawned(void)
{
    atomic_fetch_add(&spawn_epoch, 1);
}

void track_threads(void)
{
    atomic_store(&threads, true);
}

bool track_has_threads(void)
{
    if (atomic_load_explicit(&threads, memory_order_relaxed)) return true;
    return !__libc_single_threaded && !atomic_load_explicit(&own_thread, memory_order_relaxed);
}

void track_own_thread(void)
{
    if (__libc_single_threaded) atomic_store(&own_thread, true);
}

void track_split(void)
{
    atomic_store(&split, true);
    track_forked();
}

bool track_is_split(void)
{
    return atomic_load(&split);
}

void track_fork_recover(void)
{
    track_forked();
    generation++;
    if (atomic_exchange(&connections, 0)) // the parent's
        for (int fd = 0; (fd = track_next_with((unsigned)fd, FD_TCP)) >= 0; fd++) track_mark(fd, 0, FD_TCP);
    if (!lock_reset(&lock)) return;
    // The table was being changed by a thread that is not here. Its memory stays mapped, unused.
    table = NULL;
    lost = true;
    family_tell_of_all(TOLD_UNSEEN);
    arena_abandon();
    for (int fd = 0; fd <= atomic_load(&highest); fd++)
        track_mark(fd, 0, ANEW);
}

bool track_is_child(void)
{
    return generation != 0;
}

bool track_is_lost(void)
{
    return lost;
}

uint64_t track_memory(void)
{
    lock_take(&lock);
    uint64_t mapped = arena_mapped();
    lock_give(&lock);
    return mapped;
}
