#include "track.h"

#include <string.h>
#include <sys/single_threaded.h>

#include "arena.h"
#include "clock.h"
#include "family.h"
#include "lock.h"
#include "track_table.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) arena_alloc(size)
#define uthash_free(block, size) arena_free(block, size)
#define uthash_nonfatal_oom(element) ((element)->in_index = false)
#define HASH_FUNCTION(key, length, hash) ((hash) = (unsigned)(*(const uint64_t *)(key) * UINT64_C(0x9e3779b97f4a7c15) >> 32))
#include <uthash.h>

// One registration of a socket in an epoll set. The kernel's key is the number that it was added as
// together with the open file description (fs/eventpoll.c struct epoll_filefd).
struct reg {
    struct reg *next;
    struct ofd *set;
    int key;
};

// An open file description: a socket, or an epoll set. Of one whose last descriptor has been closed the record stays
// with that number, for the next to use.
struct ofd {
    uint64_t cookie;
    uint64_t opened_ms;
    struct place opened;
    union {
        struct {
            struct reg *regs; // a socket's registrations in epoll sets
            int first;        // its descriptors in this process: a list by number
            uint32_t count;   // of them
        };
        struct place closed; // dead
    };
    uint32_t fork_epoch, spawn_epoch; // those of its birth: a later one means a child that may hold it
    uint32_t generation;              // of the process that opened it
    uint32_t execs;                   // of its family until then
    uint32_t pins;                    // duplicates being made
    union {
        uint32_t users; // an epoll set: registrations that point to it
        uint32_t wait;  // a socket: track_wait
    };
    uint8_t kind, share, flags;
    bool epoll : 1;
    bool dead : 1;     // only cookie, opened and closed are right
    bool leaky : 1;    // one of its descriptors has been without FD_CLOEXEC since spawn_epoch
    bool exposed : 1;  // and was so at a fork or a spawn before that
    bool doubt : 1;    // something about it could not be recorded
    bool orphaned : 1; // an epoll set that another process may still hold, and this one no longer
    bool stuck : 1;    // in an epoll set by a registration that could not be recorded
};

// What is known of a descriptor's number.
struct slot {
    struct ofd *ofd; // what it is, or if that is dead, was; NULL: nothing is known
    int next, prev;  // other descriptors of the same
};

// Where a socket is, by its cookie: only kept where it is asked for.
struct place_of_cookie {
    uint64_t cookie;
    struct ofd *ofd;
    bool in_index;
    UT_hash_handle hh;
};

#define NONE (-1)
#define TRACKED ((uint32_t)(FD_SOCKET | FD_EPOLL))
#define CLOSING ((uint32_t)(FD_CLOSING | FD_ACTING | FD_LOOKING))
#define ANEW (TRACKED | CLOSING | FD_CLOSED | FD_DOUBT | FD_CARRIER | FD_LEAKED) // what a number's next owner begins without
#ifndef FEW
#define FEW 64 // slots of low numbers, beside everything else that a fork has a process copy
#endif

static lock_t lock;
static struct slot few[FEW];
static struct place_of_cookie *by_cookie; // of all sockets, while has_index
static bool has_index;
static _Atomic int highest = -1; // no descriptor above it has a state
static _Atomic uint32_t fork_epoch, spawn_epoch;
static _Atomic bool split, own_thread;
_Atomic bool lock_crowded;
static _Atomic unsigned connections; // open file descriptions of this generation with SOCK_CONNECTED
static _Atomic bool foreign; // FD_TCP may be set for connections of an earlier generation
static bool lost; // sockets of the process that this one was forked from are not in the table
static uint32_t generation; // forks between the process that started and this one

static void raise_highest(int fd)
{
    int top = atomic_load_explicit(&highest, memory_order_relaxed);
    while (fd > top && !atomic_compare_exchange_weak(&highest, &top, fd)) {}
}

void track_mark(int fd, uint32_t set, uint32_t clear)
{
    if ((unsigned)fd >= TRACK_FD_MAX) return;
    if (set) raise_highest(fd);
    if (clear & FD_SOCKET) clear |= FD_TCP;
    // At once: who sees a descriptor neither tracked nor being closed has no reason to wait.
    uint32_t was = atomic_load(&fd_state[fd]);
    while (!atomic_compare_exchange_weak(&fd_state[fd], &was, (was & ~clear) | set)) {}
}

static struct slot *slot_of(int fd)
{
    if ((unsigned)fd < FEW) return &few[fd];
    struct slot *page = (unsigned)fd < TRACK_FD_MAX ? track_pages[fd / TRACK_PAGE] : NULL;
    return page ? &page[fd % TRACK_PAGE] : NULL;
}

static struct slot *make_slot(int fd)
{
    if (fd < FEW) return &few[fd];
    struct slot **page = &track_pages[fd / TRACK_PAGE];
    if (!*page) *page = arena_alloc(TRACK_PAGE * sizeof **page); // zeroed, as it is a mapping of its own
    return slot_of(fd);
}

// What fd is, as far as is known.
static struct ofd *ofd_of(int fd)
{
    const struct slot *s = slot_of(fd);
    return s && s->ofd && !s->ofd->dead ? s->ofd : NULL;
}

// What fd was, if it is closed.
static struct ofd *dead_of(int fd)
{
    const struct slot *s = slot_of(fd);
    return s && s->ofd && s->ofd->dead ? s->ofd : NULL;
}

static void give_up_index(void)
{
    struct place_of_cookie *p, *next;
    HASH_ITER(hh, by_cookie, p, next)
    {
        HASH_DEL(by_cookie, p);
        arena_free(p, sizeof *p);
    }
    has_index = false;
}

static struct place_of_cookie *in_index(uint64_t cookie)
{
    struct place_of_cookie *p = NULL;
    HASH_FIND(hh, by_cookie, &cookie, sizeof cookie, p);
    return p;
}

// Of two records of one socket, as where it came back from another process, the last is found.
static void add_to_index(struct ofd *o)
{
    struct place_of_cookie *p = in_index(o->cookie);
    if (p) {
        p->ofd = o;
        return;
    }
    p = arena_alloc(sizeof *p);
    if (p) {
        *p = (struct place_of_cookie){.cookie = o->cookie, .ofd = o, .in_index = true};
        HASH_ADD(hh, by_cookie, cookie, sizeof p->cookie, p);
        if (p->in_index) return;
        arena_free(p, sizeof *p);
    }
    give_up_index();
}

static void remove_from_index(const struct ofd *o)
{
    struct place_of_cookie *p = in_index(o->cookie);
    if (!p || p->ofd != o) return;
    HASH_DEL(by_cookie, p);
    arena_free(p, sizeof *p);
}

static enum share share_of(const struct ofd *o)
{
    if (o->share != SHARE_NONE) return (enum share)o->share;
    if (atomic_load(&split) || o->fork_epoch != atomic_load(&fork_epoch)) return SHARE_FORK;
    if (o->spawn_epoch == atomic_load(&spawn_epoch)) return SHARE_NONE;
    if (o->leaky) return SHARE_FORK;
    for (int fd = o->first; fd != NONE; fd = slot_of(fd)->next)
        if (track_state(fd) & FD_GIVEN) return SHARE_FORK;
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

// Nobody here holds it, nor is about to, nor points to it.
static bool is_dropped(const struct ofd *o)
{
    return !o->count && !o->pins && !(o->epoll && o->users);
}

static void drop_regs(struct ofd *o)
{
    while (o->regs) {
        struct reg *r = o->regs;
        o->regs = r->next;
        r->set->users--;
        if (is_dropped(r->set)) arena_free(r->set, sizeof *r->set); // a set is in none itself, as far as is known
        arena_free(r, sizeof *r);
    }
}

// What others know of it is taken back.
static void withdraw(struct ofd *o)
{
    drop_regs(o);
    if (o->flags & SOCK_CONNECTED && o->generation == generation) atomic_fetch_sub(&connections, 1);
    if (has_index && !o->epoll) remove_from_index(o);
}

static void drop_if_gone(struct ofd *o)
{
    if (!is_dropped(o)) return;
    withdraw(o);
    arena_free(o, sizeof *o);
}

// A set that may still be held, by nobody that is known here: its registrations live on, out of reach.
static void note_orphan(struct ofd *o)
{
    if (o->epoll && !o->count && !o->pins && (o->doubt || share_of(o) != SHARE_NONE)) o->orphaned = true;
}

static void unlink_fd(int fd)
{
    struct slot *s = slot_of(fd);
    struct ofd *o = s->ofd;
    if (s->prev != NONE) slot_of(s->prev)->next = s->next;
    else o->first = s->next;
    if (s->next != NONE) slot_of(s->next)->prev = s->prev;
    o->count--;
    uint32_t state = track_state(fd);
    if (state & FD_DOUBT) o->doubt = true;
    if (state & FD_GIVEN) leak(o);
    if (state & FD_LEAKED) o->exposed = true;
    s->ofd = NULL;
    note_orphan(o);
}

// Whatever the number stood for is gone, closed where nobody saw it. What stays is memory for the next, or nothing.
static void forget(int fd)
{
    struct ofd *o = ofd_of(fd);
    if (!o) return;
    unlink_fd(fd);
    drop_if_gone(o);
}

// Is it for this process to say what becomes of the connection? Not where an ancestor opened it, or whoever
// started this program.
static bool is_own_tcp(const struct ofd *o)
{
    bool tcp = !o->epoll && (o->kind == KIND_TCP || o->kind == KIND_TCP6);
    return tcp && o->share != SHARE_INHERITED && o->generation == generation;
}

static void link_fd(int fd, struct ofd *o, bool cloexec)
{
    struct slot *s = slot_of(fd);
    *s = (struct slot){.ofd = o, .next = o->first, .prev = NONE};
    if (s->next != NONE) slot_of(s->next)->prev = fd;
    o->first = fd;
    o->count++;
    if (!cloexec) leak(o);
    unsigned socket = FD_SOCKET | (kind_carries((enum kind)o->kind) ? FD_CARRIER : 0u) | (is_own_tcp(o) ? FD_TCP : 0u);
    track_mark(fd, o->epoll ? FD_EPOLL : socket, ANEW);
}

static void note_connected(struct ofd *o)
{
    if (!is_own_tcp(o) || o->flags & SOCK_CONNECTED) return;
    o->flags |= SOCK_CONNECTED;
    atomic_fetch_add(&connections, 1);
}

// A record for what fd is from now on, in place of what it was; NULL if there is no memory, and then it is not tracked.
static struct ofd *renew(int fd)
{
    if ((unsigned)fd >= TRACK_FD_MAX) return NULL;
    forget(fd);
    struct ofd *o = dead_of(fd);
    if (!o && make_slot(fd)) o = arena_alloc(sizeof *o);
    if (!o) {
        track_mark(fd, 0, ANEW);
        return NULL;
    }
    *o = (struct ofd){
        .first = NONE,
        .fork_epoch = atomic_load(&fork_epoch),
        .spawn_epoch = atomic_load(&spawn_epoch),
        .generation = generation,
        .execs = (uint32_t)family_execs(),
    };
    return o;
}

static void open_socket(int fd, const struct opening *op, uint64_t opened_ms)
{
    struct ofd *o = renew(fd);
    if (!o) return;
    o->cookie = op->cookie;
    o->opened_ms = opened_ms;
    o->opened = op->place;
    o->kind = (uint8_t)op->kind;
    o->share = (uint8_t)op->share;
    o->flags = op->asks ? SOCK_ASK : 0;
    if (op->connected) note_connected(o);
    link_fd(fd, o, op->cloexec);
    if (has_index) add_to_index(o);
}

void track_open(int fd, const struct opening *op)
{
    uint64_t opened_ms = (uint64_t)clock_boottime_ms();
    lock_take(&lock);
    open_socket(fd, op, opened_ms);
    lock_give(&lock);
}

bool track_accepted(int fd, int listener, struct opening *op)
{
    uint64_t opened_ms = (uint64_t)clock_boottime_ms();
    lock_take(&lock);
    const struct ofd *l = track_state(listener) & FD_SOCKET ? ofd_of(listener) : NULL;
    bool known = l && l->share == SHARE_NONE && listener != fd;
    if (known) {
        op->kind = (enum kind)l->kind;
        op->asks = l->flags & SOCK_ASK || share_of(l) != SHARE_NONE;
        open_socket(fd, op, opened_ms);
    }
    lock_give(&lock);
    return known;
}

void track_open_epoll(int fd, bool cloexec)
{
    lock_take(&lock);
    struct ofd *o = renew(fd);
    if (o) {
        o->epoll = true;
        link_fd(fd, o, cloexec);
    }
    lock_give(&lock);
}

// Nobody holds the set any more, nor is about to.
static bool is_gone(const struct ofd *set)
{
    return !set->count && !set->pins && !set->orphaned;
}

// The epoll sets that a socket must be taken out of when fd, its last descriptor, is closed.
static void list_sets(const struct ofd *o, int fd, struct retired *out)
{
    out->stuck = o->stuck;
    for (const struct reg *r = o->regs; r; r = r->next) {
        const int set = r->set->first;
        if (is_gone(r->set)) continue; // and the registration with it
        bool known = set != NONE && track_state(set) & FD_EPOLL;
        if (!known || r->key != fd || out->sets == TRACK_SETS_MAX) out->stuck = true;
        else out->set[out->sets++] = set;
    }
}

static void describe(const struct ofd *o, struct retired *out)
{
    uint64_t forks = track_forks(); // before the epochs are compared: one that is missed there shows here
    out->cookie = o->cookie;
    out->opened_ms = o->opened_ms;
    out->opened = o->opened;
    out->kind = (enum kind)o->kind;
    out->share = share_of(o);
    out->flags = o->flags;
    out->others = o->count + o->pins + o->doubt; // one that could not be recorded may still hold it
    out->forefathers = o->generation != generation;
    out->leaky = o->leaky;
    out->exposed = o->exposed || o->leaky;
    out->execs = o->execs;
    out->forks = forks;
    out->epoll = o->epoll;
    out->stuck = false;
    out->sets = 0;
}

// The number's record says from now on what it was: the socket's own record where it was the last descriptor, or one
// more. Where there is no memory for that nothing is known.
static void bury(int fd, struct ofd *o, const struct place *closed)
{
    struct ofd *dead = o;
    if (is_dropped(o)) withdraw(o);
    else if ((dead = arena_alloc(sizeof *dead))) *dead = (struct ofd){.cookie = o->cookie, .opened = o->opened};
    if (!dead) return;
    dead->closed = *closed;
    dead->dead = true;
    slot_of(fd)->ofd = dead;
}

bool track_is_last(int fd)
{
    lock_take(&lock);
    const struct ofd *o = ofd_of(fd);
    bool last = o && o->count + o->pins + o->doubt == 1;
    lock_give(&lock);
    return last;
}

bool track_retire(int fd, const struct place *closed, struct retired *out)
{
    if (!(track_state(fd) & TRACKED)) return false;
    lock_take(&lock);
    struct ofd *o = track_state(fd) & TRACKED ? ofd_of(fd) : NULL;
    if (o) {
        unlink_fd(fd);
        describe(o, out);
        if (!out->others) list_sets(o, fd, out);
        uint32_t closing = (atomic_load(&fd_state[fd]) & ~FD_FLAGS) + FD_FLAGS + 1;
        track_mark(fd, o->epoll ? 0 : FD_CLOSED | FD_CLOSING | closing,
                   TRACKED | FD_ACTING | FD_DOUBT | FD_CARRIER | FD_LEAKED | ~FD_FLAGS);
        out->closing = closing;
        if (o->epoll) drop_if_gone(o);
        else bury(fd, o, closed);
    }
    lock_give(&lock);
    return o;
}

void track_closed(int fd, uint32_t closing)
{
    if ((unsigned)fd >= TRACK_FD_MAX) return;
    uint32_t was = atomic_load(&fd_state[fd]);
    while (was & CLOSING && (was & ~FD_FLAGS) == closing)
        if (atomic_compare_exchange_weak(&fd_state[fd], &was, was & ~CLOSING)) break;
}

struct ofd *track_pin(int fd)
{
    if (!(track_state(fd) & (FD_SOCKET | FD_EPOLL))) return NULL;
    lock_take(&lock);
    struct ofd *o = ofd_of(fd);
    if (o) o->pins++;
    lock_give(&lock);
    return o;
}

// to is from now on the same as o.
static void add_fd(struct ofd *o, int to, bool cloexec)
{
    if ((unsigned)to < TRACK_FD_MAX) forget(to);
    struct ofd *dead = dead_of(to);
    if (dead) arena_free(dead, sizeof *dead);
    if ((unsigned)to < TRACK_FD_MAX && make_slot(to)) link_fd(to, o, cloexec);
    else o->doubt = true; // a duplicate that has no record: never again the last hold
}

void track_unpin(struct ofd *o, int to, bool cloexec)
{
    if (!o && !(track_state(to) & ~(uint32_t)FD_GIVEN)) return;
    lock_take(&lock);
    if (o && to >= 0) {
        settle(o);
        add_fd(o, to, cloexec);
    } else if (to >= 0 && slot_of(to)) {
        forget(to);
        track_mark(to, 0, ANEW);
    }
    if (o) {
        o->pins--;
        note_orphan(o);
        drop_if_gone(o);
    }
    lock_give(&lock);
}

static void set_cloexec(struct ofd *o, bool on)
{
    settle(o);
    // With several descriptors the others' flags are not known here; what has leaked stays leaky.
    if (!on) leak(o);
    else if (o->count == 1) o->leaky = false;
}

bool track_cloexec(int fd, bool on)
{
    lock_take(&lock);
    struct ofd *o = ofd_of(fd);
    if (o) set_cloexec(o, on);
    lock_give(&lock);
    return o;
}

void track_cloexec_range(unsigned first, unsigned last)
{
    lock_take(&lock);
    for (int fd = track_next(first, last); fd >= 0; fd = track_next((unsigned)fd + 1, last)) {
        struct ofd *o = ofd_of(fd);
        if (o) set_cloexec(o, true);
    }
    lock_give(&lock);
}

void track_flags(int fd, unsigned set)
{
    lock_take(&lock);
    struct ofd *o = ofd_of(fd);
    if (o) o->flags |= (uint8_t)set;
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
    struct ofd *o = ofd_of(fd);
    if (o) leak(o);
    lock_give(&lock);
}

bool track_passed(int fd)
{
    lock_take(&lock);
    struct ofd *o = ofd_of(fd);
    if (o) {
        tell_of_passing(o);
        o->share = SHARE_PASSED;
    }
    lock_give(&lock);
    return o;
}

// Each descriptor that is known, in turn, beginning with -1; NONE behind the last.
static int next_known(int fd)
{
    do fd = track_next((unsigned)fd + 1, TRACK_FD_MAX - 1);
    while (fd != NONE && !ofd_of(fd));
    return fd;
}

static void make_index(void)
{
    has_index = true;
    for (int fd = next_known(NONE); fd != NONE && has_index; fd = next_known(fd)) {
        struct ofd *o = ofd_of(fd);
        if (!o->epoll && o->first == fd) add_to_index(o);
    }
}

static int find_one_by_one(uint64_t cookie)
{
    int fd = next_known(NONE);
    while (fd != NONE && (ofd_of(fd)->epoll || ofd_of(fd)->cookie != cookie)) fd = next_known(fd);
    return fd;
}

int track_find(uint64_t cookie)
{
    lock_take(&lock);
    if (!has_index) make_index();
    const struct place_of_cookie *p = has_index ? in_index(cookie) : NULL;
    int fd = p ? p->ofd->first : has_index ? NONE : find_one_by_one(cookie);
    lock_give(&lock);
    return fd;
}

void track_doubt(void)
{
    lock_take(&lock);
    for (int fd = next_known(NONE); fd != NONE; fd = next_known(fd)) ofd_of(fd)->doubt = true;
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
    drop_if_gone(r->set);
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
    struct ofd *o = track_state(fd) & FD_EPOLL ? ofd_of(fd) : NULL;
    return o && o->epoll ? o : NULL;
}

void track_epoll_add(int set, int fd)
{
    lock_take(&lock);
    struct ofd *s = set_of(set), *o = ofd_of(fd);
    if (o && !o->epoll && !(s && is_registered(o, s, fd))) {
        drop_dead_regs(o);
        struct reg *r = s ? arena_alloc(sizeof *r) : NULL;
        if (r) {
            *r = (struct reg){.next = o->regs, .set = s, .key = fd};
            s->users++;
            o->regs = r;
        } else {
            o->stuck = true;
        }
    }
    lock_give(&lock);
}

void track_epoll_del(int set, int fd)
{
    lock_take(&lock);
    struct ofd *s = set_of(set), *o = ofd_of(fd);
    if (s && o && !o->epoll) {
        for (struct reg **at = &o->regs; *at; at = &(*at)->next) {
            if ((*at)->set != s || (*at)->key != fd) continue;
            drop_reg(at);
            break;
        }
    }
    lock_give(&lock);
}

int track_next_in(unsigned first, unsigned last, uint32_t bits)
{
    int top = atomic_load(&highest);
    for (unsigned fd = first; top >= 0 && fd <= (unsigned)top && fd <= last; fd++)
        if (track_state((int)fd) & bits) return (int)fd;
    return -1;
}

void track_closed_range(unsigned first, unsigned last, pid_t tid)
{
    lock_take(&lock);
    for (int fd = (int)first; (fd = track_next_in((unsigned)fd, last, FD_CLOSING)) >= 0; fd++) {
        const struct ofd *dead = dead_of(fd);
        // The number may have been another socket's meanwhile, which another thread is closing now.
        if (dead ? dead->closed.tid == tid : !ofd_of(fd)) track_mark(fd, 0, CLOSING);
    }
    lock_give(&lock);
}

uint64_t track_closing(int fd, pid_t tid)
{
    lock_take(&lock);
    const struct ofd *dead = track_state(fd) & FD_CLOSING ? dead_of(fd) : NULL;
    uint64_t cookie = dead && dead->closed.tid != tid ? dead->cookie : 0;
    lock_give(&lock);
    return cookie;
}

// The open file description of fd, if it is a TCP socket of this process's own.
static struct ofd *own_tcp(int fd)
{
    struct ofd *o = track_state(fd) & FD_TCP ? ofd_of(fd) : NULL;
    return o && is_own_tcp(o) ? o : NULL;
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
            .representative = o->first == fd,
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
    const struct ofd *dead = dead_of(fd);
    if (dead && dead->cookie == cookie) track_mark(fd, 0, CLOSING);
    lock_give(&lock);
}

bool track_closed_at(int fd, struct place *opened, struct place *closed)
{
    lock_take(&lock);
    const struct ofd *dead = track_state(fd) & FD_CLOSED ? dead_of(fd) : NULL;
    if (dead) {
        *opened = dead->opened;
        *closed = dead->closed;
    }
    lock_give(&lock);
    return dead;
}

int track_next(unsigned first, unsigned last)
{
    return track_next_in(first, last, FD_SOCKET | FD_EPOLL);
}

int track_next_with(unsigned first, uint32_t bits)
{
    return track_next_in(first, TRACK_FD_MAX - 1, bits);
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
    atomic_store(&lock_crowded, true);
}

bool track_has_threads(void)
{
    if (atomic_load_explicit(&lock_crowded, memory_order_relaxed)) return true;
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
    if (atomic_exchange(&connections, 0)) atomic_store(&foreign, true); // the parent's
    if (!lock_reset(&lock)) return;
    // The table was being changed by a thread that is not here. Its memory stays mapped, unused.
    memset(few, 0, sizeof few);
    memset(track_pages, 0, sizeof track_pages);
    by_cookie = NULL;
    has_index = false;
    lost = true;
    family_tell_of_all(TOLD_UNSEEN);
    arena_abandon();
    for (int fd = 0; fd <= atomic_load(&highest); fd++)
        track_mark(fd, 0, ANEW);
}

void track_own_connections(void)
{
    if (!atomic_exchange(&foreign, false)) return;
    lock_take(&lock);
    for (int fd = 0; (fd = track_next_with((unsigned)fd, FD_TCP)) >= 0; fd++)
        if (!own_tcp(fd)) track_mark(fd, 0, FD_TCP);
    lock_give(&lock);
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
