// The table and the decision, driven by random sequences of what programs do, against a world that knows who
// really holds what. Wherever the library's own record is whole, what it says is exact; and it never acts on
// a socket that anyone else holds, nor on one that it has not taken out of every epoll set.
//
// The table's memory is the fuzzer's malloc, so that the address sanitizer watches it, and that it can fail.
#include "fuzz.h"

#include "arena.h"

static bool no_memory;
static long blocks;

static void *watched_alloc(size_t size)
{
    if (no_memory) return NULL;
    blocks++;
    return calloc(1, size); // as a page of the table is a mapping of its own
}

static void watched_free(void *block, size_t size)
{
    (void)size;
    if (block) blocks--;
    free(block);
}

#define FEW 6 // some of the numbers here are in the first level, some in a page
#define arena_alloc watched_alloc
#define arena_free watched_free
#define arena_abandon() ((void)0)
#define arena_mapped() ((size_t)0)
#include "track.c"

#include "decide.h"

enum { FDS = 12, OBJECTS = 64, OTHERS = 3, PINS = 2, REGS = 64, STEPS = 400 };
enum { NOTHING = -1, FILE_HERE = -2 }; // what a descriptor stands for, besides an object

// What the kernel has: open file descriptions, and who holds them. A bit per object.
static struct object {
    bool epoll;
    bool exposed;   // another process has had it, or a message has
    bool suspect;   // the library has a reason to think so, right or wrong
    bool passed;    // by SCM_RIGHTS
    bool inherited; // came with this program
    bool plain;     // every call on it was seen, in order, by a library with memory
    bool several;   // it has had duplicates: what a spawn means for it is known less well
    bool odd_sets;  // it was in a set in a way that can't be undone by its number, or the set is shared
    unsigned flags, generation;
} object[OBJECTS];
static int objects;

// The table of this process, as the kernel has it.
static struct {
    int object;
    bool cloexec, given;
    bool seen; // the library saw it being made and has a record of it
} fd_table[FDS];

static uint64_t held_by[OTHERS]; // other processes, and threads with a table of their own
static uint64_t in_flight;       // SCM_RIGHTS messages not yet received

static struct reg_truth {
    int set, key, object;
} regs[REGS];
static int reg_count;

static struct {
    struct ofd *ofd;
    int object, from;
    bool busy;
} pins[PINS];

static unsigned generations;
static bool parted; // a thread has a table of its own: everything is suspect from then on
static bool poor;   // memory has failed: records are missing

static bool is_object(int fd)
{
    return fd_table[fd].object >= 0;
}

static uint64_t bit(int o)
{
    return UINT64_C(1) << o;
}

static unsigned held_here(int o)
{
    unsigned n = 0;
    for (int fd = 0; fd < FDS; fd++) n += fd_table[fd].object == o;
    return n;
}

static bool held_elsewhere(int o)
{
    uint64_t held = in_flight;
    for (int p = 0; p < OTHERS; p++) held |= held_by[p];
    return held & bit(o);
}

// The kernel drops an object's registrations when nobody holds the object any more, or its set.
static void reap(void)
{
    for (int i = 0; i < reg_count;) {
        int o = regs[i].object, s = regs[i].set;
        bool alive = (held_here(o) || held_elsewhere(o)) && (held_here(s) || held_elsewhere(s));
        if (alive)
            i++;
        else
            regs[i] = regs[--reg_count];
    }
}

static int new_object(bool epoll)
{
    if (objects == OBJECTS) return NOTHING;
    object[objects] = (struct object){
        .epoll = epoll, .generation = generations, .plain = !poor && !no_memory, .suspect = parted};
    return objects++;
}

static int pick_free(struct input *in)
{
    int start = (int)take_below(in, FDS);
    for (int i = 0; i < FDS; i++)
        if (fd_table[(start + i) % FDS].object == NOTHING) return (start + i) % FDS;
    return -1;
}

static void put(int fd, int o, bool cloexec, bool seen)
{
    fd_table[fd].object = o;
    fd_table[fd].cloexec = cloexec;
    fd_table[fd].seen = seen;
}

static bool is_pinned(int o)
{
    for (int i = 0; i < PINS; i++)
        if (pins[i].busy && pins[i].object == o) return true;
    return false;
}

static uint64_t cookie_of(int o)
{
    return o >= 0 && !object[o].epoll ? 1000 + (uint64_t)o : 0;
}

static void expose(int o)
{
    object[o].exposed = object[o].suspect = true;
}

// --- Closing, where everything is checked ---

static void expect_record(int fd, const struct retired *r)
{
    int o = fd_table[fd].object;
    if (o < 0 || !object[o].plain || !fd_table[fd].seen) return;
    unsigned others = held_here(o) - 1;
    for (int i = 0; i < PINS; i++) others += pins[i].busy && pins[i].object == o;
    if (r->others != others) wrong("object %d: %u others, there are %u", o, r->others, others);
    if (r->epoll != object[o].epoll) wrong("object %d: epoll %d", o, r->epoll);
    if (r->epoll) return;
    if (r->cookie != cookie_of(o)) wrong("object %d: cookie %llu", o, (unsigned long long)r->cookie);
    if (r->flags != object[o].flags) wrong("object %d: flags %x, set were %x", o, r->flags, object[o].flags);
    if (r->forefathers != (object[o].generation != generations)) wrong("object %d: forefathers", o);
    if (object[o].passed && r->share != SHARE_PASSED) wrong("object %d was passed: share %d", o, r->share);
    if (object[o].exposed && r->share == SHARE_NONE) wrong("object %d was exposed: share none", o);
    if (!object[o].suspect && r->share != SHARE_NONE) wrong("object %d is ours alone: share %d", o, r->share);
    unsigned sets = 0;
    bool lost_key = false; // added by another number, which is closed: the kernel finds it no more
    for (int i = 0; i < reg_count; i++) {
        if (regs[i].object != o) continue;
        sets++;
        if (regs[i].key != fd) lost_key = true;
    }
    if (!others && !object[o].odd_sets && r->stuck != (lost_key || sets > TRACK_SETS_MAX))
        wrong("object %d: stuck %d in %u sets", o, r->stuck, sets);
    if (!others && !r->stuck && !object[o].odd_sets && r->sets != sets)
        wrong("object %d: in %u sets, the record has %u", o, sets, r->sets);
}

// As act_leave_epoll, on the world.
static bool leave_sets(int fd, const struct retired *r)
{
    if (r->stuck) return false;
    for (unsigned i = 0; i < r->sets; i++) {
        int set = r->set[i], s = set >= 0 && set < FDS ? fd_table[set].object : NOTHING;
        if (s < 0 || !object[s].epoll) return false;
        for (int k = 0; k < reg_count; k++)
            if (regs[k].set == s && regs[k].key == fd && regs[k].object == fd_table[fd].object) {
                regs[k] = regs[--reg_count];
                break;
            }
    }
    return true;
}

static void expect_alone(int fd, const char *why)
{
    int o = fd_table[fd].object;
    if (o < 0) wrong("acts on descriptor %d, which is no socket (%s)", fd, why);
    if (held_here(o) > 1) wrong("acts on object %d, which has a duplicate here (%s)", o, why);
    if (held_elsewhere(o)) wrong("acts on object %d, which another process holds (%s)", o, why);
}

static void op_fork(struct input *in);
static void op_spawn(struct input *in);

// What other threads do between the retiring of fd and the action: a fork, a spawn, a message, a duplicate.
static void meanwhile(struct input *in, int fd)
{
    unsigned how = take_below(in, 16);
    int o = fd_table[fd].object, to;
    if (how > 3 || o < 0) return;
    if (how < 2) {
        (how ? op_spawn : op_fork)(in);
        return;
    }
    if (!(track_state(fd) & FD_CLOSING)) return;
    track_mark(fd, FD_DOUBT, 0); // release_disturb
    object[o].plain = false;
    if (how == 2) {
        in_flight |= bit(o);
        expose(o);
    } else if ((to = pick_free(in)) >= 0) {
        put(to, o, true, false);
        track_unpin(NULL, to, true);
    }
}

// As look_again of release.c.
static void look_again(int fd, const struct retired *r, struct situation *s)
{
    track_mark(fd, FD_ACTING, 0);
    if (track_state(fd) & FD_DOUBT) s->others = 1;
    if (!track_shared_since(r)) return;
    if (s->share == SHARE_NONE) s->share = SHARE_FORK;
    s->proof = OWNERS_UNKNOWN;
}

// As release.c: facts of the world, the decision, what came in between, the sets, the decision again.
static void judge(struct input *in, int fd, struct retired *r)
{
    uint8_t bits = take(in);
    int o = fd_table[fd].object;
    struct settings set = {.shutdown = (enum act_when)(bits % 3),
                           .unread = (enum unread_how)(bits & 4 ? 1 + take_below(in, 2) : 0)};
    struct facts f = {.kind = r->kind,
                      .state = TCP_STATE_ESTABLISHED,
                      .unread = bits & 8 ? 3 : 0,
                      .busy_ms = bits & 8 ? 0 : 100,
                      .linger_reset = bits & 16};
    bool alone = o >= 0 && held_here(o) == 1 && !held_elsewhere(o);
    // A proof sees processes, not messages in flight.
    uint64_t processes = 0;
    for (int p = 0; p < OTHERS; p++) processes |= held_by[p];
    bool seen_alone = o >= 0 && !(processes & bit(o));
    struct situation s = {.facts = &f,
                          .others = r->others,
                          .share = r->share,
                          .flags = r->flags,
                          .stuck = r->stuck,
                          .stale = cookie_of(o) != r->cookie || !cookie_of(o),
                          .blocked_known = true,
                          .blocked = bits & 32 ? 1 : 0,
                          .blocked_sending = bits & 64,
                          .blocked_waiting = (bits & 96) == 32};
    struct verdict v;
    if (decide_wants_proof(&s, &set) && bits & 128) {
        r->forks = track_forks();
        r->leaky = true;
        s.proof = seen_alone ? OWNERS_ALONE : OWNERS_HELD;
    }
    decide(&s, &set, &v);
    bool plain = o >= 0 && object[o].plain && fd_table[fd].seen && !object[o].suspect &&
                 !object[o].odd_sets && !object[o].passed && !object[o].inherited && !r->others &&
                 !r->stuck && !r->flags;
    if (plain && alone && set.shutdown == ACT_ALWAYS && kind_wakes(f.kind) && v.action == ACTION_NONE)
        wrong("object %d is ours alone and is left: reason %s", o, reason_name(v.reason));
    if (v.action == ACTION_NONE) return;
    meanwhile(in, fd);
    look_again(fd, r, &s);
    decide(&s, &set, &v);
    if (v.action == ACTION_NONE) return;
    if (!leave_sets(fd, r)) {
        s.stuck = true;
        decide(&s, &set, &v);
        if (v.action != ACTION_NONE) wrong("acts on a socket in a set that it can't leave");
        return;
    }
    if (set.shutdown == ACT_NEVER) wrong("acts against the setting");
    if (set.shutdown == ACT_BLOCKED && !s.blocked) wrong("acts though nobody is blocked");
    if (r->flags & (SOCK_ASYNC | SOCK_HANDS_OFF)) wrong("acts on a socket with flags %x", r->flags);
    expect_alone(fd, action_name(v.action));
    for (int i = 0; i < reg_count; i++)
        if (regs[i].object == o) wrong("acts on object %d, which is in set object %d still", o, regs[i].set);
}

static void kernel_close(int fd)
{
    put(fd, NOTHING, false, false);
    reap();
}

// release() and then the program's own close.
static void do_release(struct input *in, int fd)
{
    struct place closed = {.pc = 77, .tid = 1, .call = CALL_CLOSE};
    struct retired r;
    bool tracked = track_retire(fd, &closed, &r);
    int o = fd_table[fd].object;
    for (int i = 0; i < reg_count; i++) // the set may live on elsewhere, for all that the library knows
        if (regs[i].set == o && (object[o].suspect || !object[o].plain || is_pinned(o)))
            object[regs[i].object].odd_sets = true;
    if (!tracked && o >= 0 && object[o].plain && fd_table[fd].seen) wrong("descriptor %d is not tracked", fd);
    if (!tracked) return;
    expect_record(fd, &r);
    // What was the last takes its record along; one of several needs memory for another.
    bool recorded = !r.epoll && !(no_memory && r.others);
    if (recorded && track_closing(fd, 2) != r.cookie) wrong("descriptor %d is being closed, and is not", fd);
    if (!r.epoll) judge(in, fd, &r);
    struct place was, at;
    if (recorded && (!track_closed_at(fd, &was, &at) || at.pc != 77))
        wrong("fd %d: where was it closed?", fd);
    if (track_state(fd) & (FD_SOCKET | FD_EPOLL)) wrong("descriptor %d is tracked after its close", fd);
    if (take(in) & 1) return; // its call has not returned yet
    track_closed_range((unsigned)fd, (unsigned)fd, 2);
    if (recorded && !(track_state(fd) & FD_CLOSING)) wrong("another thread's close of %d has ended", fd);
    track_closed_range((unsigned)fd, (unsigned)fd, 1);
    if (track_state(fd) & (FD_CLOSING | FD_ACTING)) wrong("descriptor %d is still being closed", fd);
}

static void op_close(struct input *in)
{
    int fd = (int)take_below(in, FDS);
    do_release(in, fd);
    kernel_close(fd);
}

// The library saw nothing: a handler inside it (which leaves a mark), or a system call inline.
static void op_close_unseen(struct input *in)
{
    int fd = (int)take_below(in, FDS);
    int o = fd_table[fd].object;
    bool nested = take(in) & 1;
    if (nested && track_state(fd) & (FD_SOCKET | FD_EPOLL)) track_mark(fd, FD_CLOSED, FD_SOCKET | FD_EPOLL);
    if (o >= 0) object[o].plain = false;
    for (int i = 0; o >= 0 && i < reg_count; i++)
        if (regs[i].set == o) object[regs[i].object].odd_sets = true;
    kernel_close(fd);
    if (o >= 0 && !nested && take(in) & 1) put(fd, FILE_HERE, false, false);
}

// --- Opening ---

static void op_open(struct input *in)
{
    int fd = pick_free(in), o = fd < 0 ? NOTHING : new_object(false);
    if (o < 0) return;
    uint8_t bits = take(in);
    struct opening op = {.cookie = cookie_of(o),
                         .kind = (enum kind)((bits >> 3) % (KIND_OTHER + 1)),
                         .place = {.pc = 5},
                         .cloexec = bits & 1,
                         .share = (bits & 6) == 6 ? SHARE_INHERITED : SHARE_NONE};
    put(fd, o, op.cloexec, !no_memory);
    if (op.share == SHARE_INHERITED) {
        object[o].inherited = true;
        expose(o);
        held_by[bits >> 3 & 1] |= bit(o);
    }
    track_open(fd, &op);
}

static void op_open_epoll(struct input *in)
{
    int fd = pick_free(in), o = fd < 0 ? NOTHING : new_object(true);
    if (o < 0) return;
    bool cloexec = take(in) & 1;
    put(fd, o, cloexec, !no_memory);
    track_open_epoll(fd, cloexec);
}

// A handler inside the library opens one: only the number's state is changed.
static void op_open_nested(struct input *in)
{
    int fd = pick_free(in), o = fd < 0 ? NOTHING : new_object(false);
    if (o < 0) return;
    object[o].plain = false;
    put(fd, o, true, false);
    track_mark(fd, 0, FD_SOCKET | FD_EPOLL | FD_CLOSED);
}

static void op_open_file(struct input *in)
{
    int fd = pick_free(in);
    if (fd >= 0) put(fd, FILE_HERE, false, false);
}

// The program saw a number come back that is no socket: track_unpin(NULL, fd).
static void op_forget(struct input *in)
{
    int fd = pick_free(in);
    if (fd < 0) return;
    put(fd, FILE_HERE, false, false);
    track_unpin(NULL, fd, false);
    if (track_state(fd) & (FD_SOCKET | FD_EPOLL)) wrong("descriptor %d is tracked, and is a file", fd);
}

// --- Duplicates ---

static void op_pin(struct input *in)
{
    unsigned slot = take_below(in, PINS);
    int fd = (int)take_below(in, FDS);
    if (pins[slot].busy || !is_object(fd)) return;
    pins[slot].ofd = track_pin(fd);
    if (!pins[slot].ofd && object[fd_table[fd].object].plain && fd_table[fd].seen) wrong("fd %d: no pin", fd);
    pins[slot].object = fd_table[fd].object;
    pins[slot].from = fd;
    pins[slot].busy = pins[slot].ofd;
}

// The kernel's dup, then track_unpin. It fails if the descriptor is another by now.
static void finish_dup(struct ofd *pinned, int from, int o, int to, bool cloexec)
{
    bool works = to >= 0 && fd_table[from].object == o && o >= 0;
    if (works) put(to, o, cloexec, pinned && !no_memory);
    if (works) object[o].several = true;
    if (works && no_memory && pinned) object[o].suspect = true;
    if (works && !pinned && object[o].plain) wrong("a duplicate of object %d without a pin", o);
    track_unpin(pinned, works ? to : -1, cloexec);
    reap();
}

static void op_unpin(struct input *in)
{
    unsigned slot = take_below(in, PINS);
    if (!pins[slot].busy) return;
    pins[slot].busy = false;
    int to = take(in) & 7 ? pick_free(in) : -1;
    finish_dup(pins[slot].ofd, pins[slot].from, pins[slot].object, to, take(in) & 1);
}

static void op_dup(struct input *in)
{
    int from = (int)take_below(in, FDS), to = (int)take_below(in, FDS);
    bool cloexec = take(in) & 1;
    if (from == to || fd_table[from].object == NOTHING) return;
    do_release(in, to); // dup2 onto it
    struct ofd *pinned = track_pin(from);
    int o = fd_table[from].object;
    if (o >= 0) {
        put(to, NOTHING, false, false);
        finish_dup(pinned, from, o, to, cloexec);
        return;
    }
    put(to, o, cloexec, false); // a file
    track_unpin(pinned, to, cloexec);
    reap();
}

// In a handler inside the library.
static void op_dup_nested(struct input *in)
{
    int from = (int)take_below(in, FDS), to = pick_free(in);
    if (to < 0 || !is_object(from)) return;
    int o = fd_table[from].object;
    object[o].plain = false;
    if (!(track_state(from) & (FD_SOCKET | FD_EPOLL))) return; // unknown to the library: no promise
    track_mark(from, FD_DOUBT, 0);
    put(to, o, false, false);
    track_mark(to, 0, FD_SOCKET | FD_EPOLL | FD_CLOSED);
}

static void op_cloexec(struct input *in)
{
    int fd = (int)take_below(in, FDS);
    bool on = take(in) & 1;
    fd_table[fd].cloexec = on;
    track_cloexec(fd, on);
}

static void op_cloexec_range(struct input *in)
{
    unsigned first = take_below(in, FDS), last = first + take_below(in, FDS);
    for (unsigned fd = first; fd <= last && fd < FDS; fd++) fd_table[fd].cloexec = true;
    track_cloexec_range(first, last);
}

// --- Other processes ---

static uint64_t whole_table(void)
{
    uint64_t held = 0;
    for (int fd = 0; fd < FDS; fd++)
        if (is_object(fd)) held |= bit(fd_table[fd].object);
    return held;
}

static void suspect_all(void)
{
    for (int o = 0; o < objects; o++) object[o].suspect = true;
}

static void expose_all(uint64_t held)
{
    for (int o = 0; o < objects; o++)
        if (held & bit(o)) expose(o);
    for (int i = 0; i < reg_count; i++)
        if (object[regs[i].set].exposed) object[regs[i].object].odd_sets = true;
}

static void op_fork(struct input *in)
{
    unsigned p = take_below(in, OTHERS);
    track_forked();
    held_by[p] |= whole_table();
    track_forked();
    suspect_all();
    expose_all(whole_table());
}

// What the table knows is forgotten, and its memory given back.
static void empty_table(void)
{
    for (int fd = 0; fd < FDS; fd++) {
        forget(fd);
        struct ofd *dead = dead_of(fd);
        if (!dead) continue;
        slot_of(fd)->ofd = NULL;
        watched_free(dead, sizeof *dead);
    }
    watched_free(track_pages[0], 0);
    track_pages[0] = NULL;
    give_up_index();
}

// We are the child from here on, and the parent is one of the others. Perhaps another of its threads was
// changing the table: then it is given up.
static void op_fork_into(struct input *in)
{
    unsigned p = take_below(in, OTHERS);
    bool held = take(in) % 8 == 0;
    track_forked();
    held_by[p] |= whole_table();
    suspect_all();
    expose_all(whole_table());
    for (int i = 0; held && i < PINS; i++)
        if (pins[i].busy) track_unpin(pins[i].ofd, -1, false), pins[i].busy = false;
    if (held) lock = 1;
    if (held) empty_table(); // its memory is the parent's still; here it would be a leak
    track_fork_recover();
    generations++;
    for (int fd = 0; held && fd < FDS; fd++) {
        fd_table[fd].seen = false;
        if (is_object(fd)) object[fd_table[fd].object].plain = false;
    }
    for (int i = 0; i < reg_count; i++) object[regs[i].object].odd_sets = true;
}

static void op_spawn(struct input *in)
{
    unsigned p = take_below(in, OTHERS);
    uint64_t held = 0;
    track_spawned();
    for (int fd = 0; fd < FDS; fd++)
        if (is_object(fd) && (!fd_table[fd].cloexec || fd_table[fd].given)) held |= bit(fd_table[fd].object);
    held_by[p] |= held;
    track_spawned();
    expose_all(held);
    // With several descriptors the library may think worse of it than it is.
    for (int o = 0; o < objects; o++)
        if (object[o].several) object[o].suspect = true;
}

static void op_give(struct input *in)
{
    int fd = (int)take_below(in, FDS);
    fd_table[fd].given = true;
    if (is_object(fd)) object[fd_table[fd].object].suspect = true; // of spawns that were before, too
    track_mark(fd, FD_GIVEN, 0);
}

// Others close one, or end, or pass one on.
static void op_other(struct input *in)
{
    unsigned p = take_below(in, OTHERS), how = take_below(in, 3);
    uint64_t o = bit((int)take_below(in, OBJECTS));
    if (how == 0) held_by[p] = 0;
    if (how == 1) held_by[p] &= ~o;
    if (how == 2) held_by[(p + 1) % OTHERS] |= held_by[p] & o;
    reap();
}

static void op_send(struct input *in)
{
    int fd = (int)take_below(in, FDS);
    if (!is_object(fd)) return;
    int o = fd_table[fd].object;
    if (track_state(fd) & (FD_SOCKET | FD_EPOLL))
        track_passed(fd);
    else
        return;
    in_flight |= bit(o);
    object[o].passed = true;
    expose(o);
    for (int i = 0; i < reg_count; i++)
        if (regs[i].set == o) object[regs[i].object].odd_sets = true;
    if (take(in) & 1) held_by[take_below(in, OTHERS)] |= bit(o);
}

// A message of ours or of another process arrives, here or there.
static void op_receive(struct input *in)
{
    uint64_t could = in_flight;
    for (int p = 0; p < OTHERS; p++) could |= held_by[p];
    int o = (int)take_below(in, OBJECTS), fd = pick_free(in);
    if (!(could & bit(o)) || take(in) & 1) {
        in_flight &= ~bit(o);
        reap();
        return;
    }
    if (fd < 0 || object[o].epoll) return;
    expose(o);
    object[o].passed = true;
    object[o].plain = false; // a second record of the same socket
    put(fd, o, true, !no_memory);
    struct opening op = {.cookie = cookie_of(o), .kind = KIND_TCP, .share = SHARE_PASSED, .cloexec = true};
    // What comes back may be a socket that this process still has: as got_from does it.
    int same = track_find(op.cookie);
    if (same >= 0) {
        track_passed(same);
        track_unpin(track_pin(same), fd, true);
    } else {
        track_open(fd, &op);
    }
}

// A thread has a table of its own.
static void op_split(struct input *in)
{
    if (take(in) & 15) return;
    held_by[take_below(in, OTHERS)] |= whole_table();
    track_split();
    parted = true;
    suspect_all();
    expose_all(whole_table());
}

// --- Epoll ---

static void op_epoll_add(struct input *in)
{
    int set = (int)take_below(in, FDS), fd = (int)take_below(in, FDS);
    bool nested = take(in) % 16 == 0;
    if (!is_object(set) || !is_object(fd) || reg_count == REGS) return;
    int s = fd_table[set].object, o = fd_table[fd].object;
    if (!object[s].epoll || object[o].epoll) return;
    for (int i = 0; i < reg_count; i++)
        if (regs[i].set == s && regs[i].key == fd && regs[i].object == o) return; // EEXIST
    regs[reg_count++] = (struct reg_truth){s, fd, o};
    if (nested) object[o].plain = false;
    if (object[s].exposed || !object[s].plain || no_memory || poor) object[o].odd_sets = true;
    if (!(track_state(fd) & FD_SOCKET)) return;
    if (nested)
        track_mark(fd, FD_DOUBT, 0);
    else
        track_epoll_add(set, fd);
}

static void op_epoll_del(struct input *in)
{
    int set = (int)take_below(in, FDS), fd = (int)take_below(in, FDS);
    if (!is_object(set) || !is_object(fd)) return;
    for (int i = 0; i < reg_count; i++) {
        if (regs[i].set != fd_table[set].object || regs[i].key != fd || regs[i].object != fd_table[fd].object)
            continue;
        // By a number that the library does not know for a set: it goes on listing it, which does no harm.
        if (!fd_table[set].seen || !object[fd_table[set].object].plain) object[fd_table[fd].object].odd_sets = true;
        regs[i] = regs[--reg_count];
        if (track_state(fd) & FD_SOCKET) track_epoll_del(set, fd);
        return;
    }
}

static void op_flags(struct input *in)
{
    static const unsigned flags[] = {SOCK_SHUT_RD, SOCK_SHUT_WR, SOCK_ASYNC, SOCK_HANDS_OFF};
    int fd = (int)take_below(in, FDS);
    unsigned set = flags[take_below(in, 4)];
    if (!is_object(fd) || object[fd_table[fd].object].epoll) return;
    if (fd_table[fd].seen) object[fd_table[fd].object].flags |= set;
    track_flags(fd, set);
}

static void op_memory(struct input *in)
{
    no_memory = take(in) % 4 == 0;
    if (!no_memory) return;
    poor = true;
    for (int o = 0; o < objects; o++) object[o].plain = false;
}

// A call that could not be followed: any socket may have a duplicate.
static void op_doubt(struct input *in)
{
    if (take(in) % 8) return;
    for (int o = 0; o < objects; o++) object[o].plain = false;
    track_doubt();
}

static void op_next(struct input *in)
{
    unsigned first = take_below(in, FDS), last = take_below(in, FDS);
    int fd = track_next(first, last), want = -1;
    for (int i = (int)last; i >= (int)first; i--)
        if (track_state(i) & (FD_SOCKET | FD_EPOLL)) want = i;
    if (fd != want) wrong("next in %u..%u is %d, not %d", first, last, fd, want);
}

#define OP(name) {#name, op_##name}
static const struct {
    const char *name;
    void (*run)(struct input *);
} ops[] = {
    OP(open),      OP(open),       OP(open),          OP(open_epoll),   OP(dup),         OP(dup),
    OP(close),     OP(close),      OP(close),         OP(close),        OP(epoll_add),   OP(epoll_add),
    OP(epoll_del), OP(pin),        OP(unpin),         OP(unpin),        OP(cloexec),     OP(fork),
    OP(spawn),     OP(other),      OP(other),         OP(send),         OP(receive),     OP(flags),
    OP(give),      OP(next),       OP(cloexec_range), OP(close_unseen), OP(open_nested), OP(open_file),
    OP(forget),    OP(dup_nested), OP(fork_into),     OP(split),        OP(memory),      OP(doubt),
};

static void begin(void)
{
    objects = reg_count = 0;
    generations = generation = 0;
    no_memory = poor = parted = false;
    in_flight = 0;
    memset(held_by, 0, sizeof held_by);
    memset(pins, 0, sizeof pins);
    for (int fd = 0; fd < FDS; fd++) {
        put(fd, NOTHING, false, false);
        fd_table[fd].given = false;
    }
}

// Everything is closed: the table must then hold numbers and nothing else.
static void end(struct input *in)
{
    for (int i = 0; i < PINS; i++)
        if (pins[i].busy) track_unpin(pins[i].ofd, -1, false), pins[i].busy = false;
    for (int fd = 0; fd < FDS; fd++) {
        do_release(in, fd);
        kernel_close(fd);
    }
    empty_table();
    if (blocks) wrong("%ld blocks of the table are lost", blocks);
    for (int fd = 0; fd < FDS; fd++) track_mark(fd, 0, 0xff);
    atomic_store(&highest, -1);
    atomic_store(&fork_epoch, 0);
    atomic_store(&spawn_epoch, 0);
    atomic_store(&split, false);
}

// FUZZ_TELL=1: the world after each step, to read an input that was kept.
static void tell(const char *op)
{
    fprintf(stderr, "%-14s", op);
    for (int fd = 0; fd < FDS; fd++) {
        int o = fd_table[fd].object;
        if (o != NOTHING)
            fprintf(stderr, " %d=%s%d%s", fd,
                    o < 0             ? "file"
                    : object[o].epoll ? "set"
                                      : "sock",
                    o, fd_table[fd].seen ? "" : "?");
    }
    fputc('\n', stderr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    begin();
    static int telling = -1;
    if (telling < 0) telling = getenv("FUZZ_TELL") != NULL;
    for (int i = 0; i < STEPS && in.left; i++) {
        unsigned op = take_below(&in, sizeof ops / sizeof *ops);
        ops[op].run(&in);
        if (telling) tell(ops[op].name);
    }
    end(&in);
    return 0;
}
