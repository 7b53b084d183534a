// The table: duplicates, sharing, epoll sets, numbers used again; far beyond the descriptors of a process.
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "family.h"
#include "track.h"

static const struct place here = {.pc = 0x1000, .tid = 1, .call = CALL_SOCKET};
static const struct place there = {.pc = 0x2000, .tid = 2, .call = CALL_CLOSE};

static void open_as(int fd, enum share share, bool cloexec)
{
    static _Atomic uint64_t cookie;
    struct opening o = {.place = here, .cookie = atomic_fetch_add(&cookie, 1) + 1, .kind = KIND_TCP, .share = share, .cloexec = cloexec};
    track_open(fd, &o);
}

static void open_one(int fd)
{
    open_as(fd, SHARE_NONE, true);
}

static struct retired retire(int fd)
{
    struct retired r;
    assert_true(track_retire(fd, &there, &r));
    return r;
}

static void duplicate(int from, int to)
{
    track_unpin(track_pin(from), to, true);
}

static void a_descriptor_is_tracked_from_open_to_retire(void **state)
{
    (void)state;
    struct retired r;
    assert_false(track_retire(5, &there, &r));
    open_one(5);
    assert_int_equal(track_state(5), FD_SOCKET | FD_TCP);
    r = retire(5);
    assert_int_equal(r.others, 0);
    assert_int_equal(r.share, SHARE_NONE);
    assert_int_equal(r.opened.pc, here.pc);
    assert_int_equal(track_state(5), FD_CLOSED | FD_CLOSING);
    assert_false(track_retire(5, &there, &r));
    struct place opened, closed;
    assert_true(track_closed_at(5, &opened, &closed));
    assert_int_equal(opened.pc, here.pc);
    assert_int_equal(closed.pc, there.pc);
    open_one(5);
    assert_false(track_closed_at(5, &opened, &closed));
    retire(5);
}

static void only_the_last_duplicate_is_the_last_hold(void **state)
{
    (void)state;
    int order[][3] = {{3, 4, 5}, {3, 5, 4}, {4, 3, 5}, {4, 5, 3}, {5, 3, 4}, {5, 4, 3}};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        open_one(3);
        duplicate(3, 4);
        duplicate(4, 5);
        assert_int_equal(retire(order[i][0]).others, 2);
        assert_int_equal(retire(order[i][1]).others, 1);
        assert_int_equal(retire(order[i][2]).others, 0);
    }
}

static void a_duplicate_being_made_counts(void **state)
{
    (void)state;
    open_one(3);
    struct ofd *pinned = track_pin(3);
    assert_int_equal(retire(3).others, 1);
    track_unpin(pinned, 4, true);
    assert_int_equal(retire(4).others, 0);
    open_one(3);
    pinned = track_pin(3);
    track_unpin(pinned, -1, true);
    assert_int_equal(retire(3).others, 0);
}

static void a_number_used_again_unseen_is_a_new_socket(void **state)
{
    (void)state;
    open_one(3);
    duplicate(3, 4);
    open_one(4);
    assert_int_equal(retire(3).others, 0);
    assert_int_equal(retire(4).others, 0);
    open_one(3);
    duplicate(3, 4);
    track_unpin(NULL, 4, true); // a file by now
    assert_int_equal(track_state(4), 0);
    assert_int_equal(retire(3).others, 0);
}

static void a_close_ends_for_the_socket_that_it_began_with(void **state)
{
    (void)state;
    open_one(3);
    uint32_t first = retire(3).closing;
    assert_int_equal(track_closing(3, there.tid), 0);
    assert_int_not_equal(track_closing(3, there.tid + 1), 0);
    open_one(3);
    uint32_t second = retire(3).closing;
    track_closed(3, first);
    assert_int_equal(track_state(3), FD_CLOSED | FD_CLOSING);
    track_closed(3, second);
    assert_int_equal(track_state(3), FD_CLOSED);
    duplicate(3, 4); // of nothing
    assert_int_equal(track_state(4), 0);
}

static void what_is_accepted_is_as_its_listener(void **state)
{
    (void)state;
    struct opening o = {.place = here, .cookie = 77, .kind = KIND_OTHER, .cloexec = true, .connected = true};
    assert_false(track_accepted(4, 3, &o));
    assert_int_equal(track_state(4), 0);
    open_one(3);
    assert_true(track_accepted(4, 3, &o));
    struct retired r = retire(4);
    assert_int_equal(r.kind, KIND_TCP);
    assert_int_equal(r.flags, SOCK_CONNECTED);
    track_flags(3, SOCK_ASK);
    assert_true(track_accepted(4, 3, &o));
    assert_int_equal(retire(4).flags, SOCK_CONNECTED | SOCK_ASK);
    retire(3);
    open_one(3);
    track_forked(); // a child may have set an option of the listener's
    assert_true(track_accepted(4, 3, &o));
    assert_int_equal(retire(4).flags, SOCK_CONNECTED | SOCK_ASK);
    retire(3);
    open_as(3, SHARE_PASSED, true);
    assert_false(track_accepted(4, 3, &o));
    retire(3);
}

static void a_socket_is_found_by_its_cookie(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct opening o = {.place = here, .kind = KIND_UDP, .cloexec = true};
    uint64_t base = UINT64_C(1) << 40;
    for (int fd = 3; fd < N; fd++) {
        o.cookie = base + (uint64_t)fd;
        track_open(fd, &o);
        if (fd == N / 2) assert_int_equal(track_find(base + 5), 5);
    }
    for (int fd = 3; fd < N; fd++) assert_int_equal(track_find(base + (uint64_t)fd), fd);
    assert_int_equal(track_find(base + N), -1);
    duplicate(5, N);
    retire(5);
    assert_int_equal(track_find(base + 5), N);
    retire(N);
    assert_int_equal(track_find(base + 5), -1);
    o.cookie = base + N;
    track_open(6, &o); // closed before, unseen
    assert_int_equal(track_find(base + 6), -1);
    assert_int_equal(track_find(base + N), 6);
    for (int fd = 6; fd < N; fd++) retire(fd);
    o.cookie = base + 4; // twice: it came back from another process
    track_open(3, &o);
    assert_int_equal(track_find(base + 4), 3);
    retire(4);
    open_one(4);
    assert_int_equal(track_find(base + 4), 3);
    retire(3);
    assert_int_equal(track_find(base + 4), -1);
    retire(4);
}

static void a_fork_makes_what_exists_possibly_shared(void **state)
{
    (void)state;
    open_one(3);
    track_forked();
    open_one(4);
    assert_int_equal(retire(3).share, SHARE_FORK);
    assert_int_equal(retire(4).share, SHARE_NONE);
}

static void a_child_knows_what_it_has_not_opened(void **state)
{
    (void)state;
    open_one(3);
    track_fork_recover();
    open_one(4);
    assert_true(retire(3).forefathers);
    assert_false(retire(4).forefathers);
}

static void a_spawn_shares_what_is_not_close_on_exec(void **state)
{
    (void)state;
    open_as(3, SHARE_NONE, true);
    open_as(4, SHARE_NONE, false);
    open_as(5, SHARE_NONE, false);
    track_cloexec(5, true);
    open_as(6, SHARE_NONE, true);
    track_mark(6, FD_GIVEN, 0);
    open_as(7, SHARE_NONE, false);
    open_as(8, SHARE_NONE, true);
    track_spawned();
    track_cloexec(7, true);
    track_cloexec(8, false);
    assert_int_equal(retire(3).share, SHARE_NONE);
    assert_int_equal(retire(4).share, SHARE_FORK);
    assert_int_equal(retire(5).share, SHARE_NONE);
    assert_int_equal(retire(6).share, SHARE_FORK);
    assert_int_equal(retire(7).share, SHARE_FORK);
    assert_int_equal(retire(8).share, SHARE_NONE);
    track_mark(6, 0, FD_GIVEN);
}

static void a_duplicate_without_close_on_exec_leaks_into_later_spawns_only(void **state)
{
    (void)state;
    open_one(3);
    track_spawned();
    track_unpin(track_pin(3), 4, false);
    assert_int_equal(retire(4).share, SHARE_NONE);
    track_spawned();
    assert_int_equal(retire(3).share, SHARE_FORK);
}

// Whether a program may have got it, at any time.
static void what_was_without_close_on_exec_stays_exposed(void **state)
{
    (void)state;
    open_as(3, SHARE_NONE, true);
    open_as(4, SHARE_NONE, false);
    open_as(5, SHARE_NONE, false);
    open_as(6, SHARE_NONE, false);
    track_cloexec(5, true);
    track_forked();
    track_cloexec(6, true);
    open_as(7, SHARE_NONE, true);
    track_mark(7, FD_LEAKED, 0);
    assert_false(retire(3).exposed);
    assert_true(retire(4).exposed);
    assert_false(retire(5).exposed);
    assert_true(retire(6).exposed);
    assert_true(retire(7).exposed);
    open_as(7, SHARE_NONE, true);
    assert_false(retire(7).exposed);
}

// What a child does with the sockets that it has by fork, and only with those, is told; once it shows.
static void a_child_tells_what_it_does(void **state)
{
    (void)state;
    family_start();
    for (int fd = 3; fd < 10; fd++) open_as(fd, SHARE_NONE, fd != 9);
    track_fork_recover();
    open_as(10, SHARE_NONE, true);
    track_unpin(track_pin(3), 20, true);
    track_unpin(track_pin(4), 21, false);
    track_cloexec(5, false);
    track_given(6);
    track_passed(7);
    track_unpin(track_pin(9), 22, false); // as it was at the fork
    track_unpin(track_pin(10), 23, false);
    track_passed(10);
    const enum told told[] = {TOLD_NOTHING, TOLD_LEAKED,  TOLD_LEAKED,  TOLD_LEAKED,
                              TOLD_PASSED,  TOLD_NOTHING, TOLD_NOTHING, TOLD_NOTHING};
    for (int fd = 3; fd < 11; fd++) {
        struct retired r = retire(fd);
        enum told is = family_told(r.cookie, r.opened_ms);
        if (is != told[fd - 3]) fail_msg("descriptor %d: told %d", fd, is);
    }
    for (int fd = 20; fd < 24; fd++) retire(fd);
}

static void passed_and_inherited_stay_so(void **state)
{
    (void)state;
    open_one(3);
    duplicate(3, 4);
    track_passed(4);
    assert_int_equal(retire(3).share, SHARE_PASSED);
    assert_int_equal(retire(4).share, SHARE_PASSED);
    open_as(3, SHARE_INHERITED, true);
    assert_int_equal(retire(3).share, SHARE_INHERITED);
}

static void doubt_outlives_the_descriptor_that_it_came_by(void **state)
{
    (void)state;
    open_one(3);
    duplicate(3, 4);
    track_mark(3, FD_DOUBT, 0);
    retire(3);
    assert_int_equal(retire(4).others, 1);
    open_one(3);
    assert_int_equal(retire(3).others, 0);
    open_one(3);
    track_doubt();
    open_one(4);
    assert_int_equal(retire(3).others, 1);
    assert_int_equal(retire(4).others, 0);
}

static void flags_belong_to_the_socket(void **state)
{
    (void)state;
    open_one(3);
    duplicate(3, 4);
    track_flags(3, SOCK_SHUT_RD);
    track_flags(4, SOCK_SHUT_WR);
    assert_int_equal(retire(3).flags, SOCK_SHUT_RD | SOCK_SHUT_WR);
    retire(4);
}

static struct connection connection(int fd)
{
    struct connection c;
    assert_true(track_connection(fd, &c));
    return c;
}

static void connect_one(int fd)
{
    open_one(fd);
    track_connected(fd);
}

static void connections_are_counted(void **state)
{
    (void)state;
    assert_int_equal(track_connections(), 0);
    open_one(3);
    assert_int_equal(track_connections(), 0);
    track_connected(3);
    track_connected(3);
    assert_int_equal(track_connections(), 1);
    duplicate(3, 4);
    assert_int_equal(track_connections(), 1);
    assert_int_equal(track_next_with(0, FD_TCP), 3);
    assert_int_equal(track_next_with(4, FD_TCP), 4);
    retire(3);
    assert_int_equal(track_connections(), 1);
    retire(4);
    assert_int_equal(track_connections(), 0);
    assert_int_equal(track_next_with(0, FD_TCP), -1);
    struct opening o = {.place = here, .cookie = 77, .kind = KIND_TCP6, .connected = true};
    track_open(5, &o);
    assert_int_equal(track_connections(), 1);
    track_open(5, &o); // closed unseen
    assert_int_equal(track_connections(), 1);
    track_unpin(NULL, 5, true); // a file by now
    assert_int_equal(track_connections(), 0);
}

static void only_own_tcp_sockets_are_connections(void **state)
{
    (void)state;
    struct connection c;
    struct opening o = {.place = here, .cookie = 78, .kind = KIND_UDP, .connected = true};
    track_open(3, &o);
    track_open_epoll(4, true);
    o.kind = KIND_TCP;
    o.share = SHARE_INHERITED;
    track_open(5, &o);
    o.share = SHARE_PASSED;
    track_open(6, &o);
    assert_int_equal(track_connections(), 1);
    for (int fd = 2; fd < 6; fd++) {
        track_connected(fd);
        assert_false(track_connection(fd, &c));
        assert_false(track_state(fd) & FD_TCP);
    }
    assert_int_equal(track_next_with(0, FD_TCP), 6);
    assert_int_equal(connection(6).share, SHARE_PASSED);
    for (int fd = 3; fd < 7; fd++) retire(fd);
    assert_int_equal(track_connections(), 0);
}

static void what_is_noted_of_a_connection_ends_with_it(void **state)
{
    (void)state;
    connect_one(3);
    struct connection c = connection(3);
    assert_true(c.representative);
    assert_int_equal(c.flags, SOCK_CONNECTED);
    assert_int_equal(c.wait, 0);
    assert_int_equal(c.opened.pc, here.pc);
    track_wait(3, c.cookie + 1, 9);
    assert_int_equal(connection(3).wait, 0);
    track_wait(3, c.cookie, 9);
    assert_int_equal(connection(3).wait, 9);
    assert_false(track_tell(3, c.cookie + 1));
    assert_true(track_tell(3, c.cookie));
    assert_false(track_tell(3, c.cookie));
    duplicate(3, 4);
    assert_int_equal(connection(4).wait, 9);
    assert_int_equal(connection(3).representative + connection(4).representative, 1);
    assert_false(track_tell(4, c.cookie));
    track_connected(4); // disconnected, and connected anew
    assert_int_equal(connection(3).wait, 0);
    assert_true(track_tell(3, c.cookie));
    track_wait(3, c.cookie, 9);
    connect_one(3); // the number, used again
    assert_int_equal(connection(3).wait, 0);
    assert_int_equal(connection(3).flags, SOCK_CONNECTED);
    retire(3);
    retire(4);
}

static void a_child_has_no_connections_of_its_parent(void **state)
{
    (void)state;
    struct connection c;
    connect_one(3);
    track_fork_recover();
    assert_int_equal(track_connections(), 0);
    assert_false(track_connection(3, &c));
    open_one(5);
    track_own_connections();
    assert_int_equal(track_next_with(0, FD_TCP), 5);
    retire(5);
    duplicate(3, 4);
    track_connected(4);
    assert_int_equal(track_connections(), 0);
    assert_int_equal(track_state(4), FD_SOCKET);
    connect_one(5);
    assert_int_equal(track_connections(), 1);
    retire(3);
    retire(4);
    assert_int_equal(track_connections(), 1);
    retire(5);
    assert_int_equal(track_connections(), 0);
}

static void a_socket_is_taken_out_of_its_epoll_sets(void **state)
{
    (void)state;
    open_one(3);
    track_open_epoll(10, true);
    track_open_epoll(11, true);
    track_epoll_add(10, 3);
    track_epoll_add(11, 3);
    track_epoll_del(11, 3);
    struct retired r = retire(3);
    assert_false(r.stuck);
    assert_int_equal(r.sets, 1);
    assert_int_equal(r.set[0], 10);

    open_one(3);
    track_epoll_add(10, 3);
    duplicate(10, 12);
    assert_true(retire(10).epoll);
    r = retire(3);
    assert_false(r.stuck);
    assert_int_equal(r.set[0], 12);

    open_one(3);
    track_epoll_add(12, 3);
    retire(12);
    r = retire(3);
    assert_false(r.stuck);
    assert_int_equal(r.sets, 0);
    retire(11);
}

static void a_socket_whose_key_is_gone_is_stuck(void **state)
{
    (void)state;
    open_one(5);
    track_open_epoll(10, true);
    track_epoll_add(10, 5);
    duplicate(5, 6);
    retire(5);
    assert_true(retire(6).stuck);

    open_one(5);
    track_epoll_add(10, 5);
    duplicate(5, 6);
    retire(5);
    duplicate(6, 5); // the key again
    retire(6);
    assert_false(retire(5).stuck);
    retire(10);
}

static void a_set_that_a_child_may_hold_outlives_its_descriptors(void **state)
{
    (void)state;
    track_open_epoll(10, true);
    track_forked();
    open_one(3);
    track_epoll_add(10, 3);
    retire(10);
    assert_true(retire(3).stuck);
}

static void a_set_that_may_have_a_duplicate_outlives_its_descriptors(void **state)
{
    (void)state;
    open_one(3);
    track_open_epoll(10, true);
    track_epoll_add(10, 3);
    track_mark(10, FD_DOUBT, 0);
    retire(10);
    assert_true(retire(3).stuck);
}

static void a_set_whose_duplicate_is_being_made_is_not_gone(void **state)
{
    (void)state;
    open_one(3);
    track_open_epoll(10, true);
    track_epoll_add(10, 3);
    struct ofd *pinned = track_pin(10);
    retire(10);
    assert_true(retire(3).stuck);
    track_unpin(pinned, -1, true);

    open_one(3);
    track_open_epoll(10, true);
    track_epoll_add(10, 3);
    pinned = track_pin(10);
    track_forked();
    retire(10);
    track_unpin(pinned, -1, true); // there is no duplicate, but a child may have the set
    assert_true(retire(3).stuck);

    open_one(3);
    track_open_epoll(10, true);
    track_epoll_add(10, 3);
    pinned = track_pin(10);
    retire(10);
    track_unpin(pinned, -1, true);
    assert_false(retire(3).stuck);
}

// A handler that interrupts us can only change what fd_state says of a number.
static void a_set_is_not_left_by_a_number_that_a_handler_has_closed(void **state)
{
    (void)state;
    open_one(3);
    track_open_epoll(11, true);
    track_epoll_add(11, 3);
    duplicate(11, 10);
    track_mark(10, FD_CLOSED, FD_SOCKET | FD_EPOLL);
    assert_true(retire(3).stuck);
    retire(11);
    track_unpin(NULL, 10, true);
}

static void a_set_that_a_handler_has_opened_is_unknown(void **state)
{
    (void)state;
    open_one(3);
    track_open_epoll(10, true);
    duplicate(10, 11);
    track_epoll_add(11, 3);
    track_mark(10, FD_CLOSED, FD_SOCKET | FD_EPOLL);
    track_mark(10, 0, FD_SOCKET | FD_EPOLL | FD_CLOSED);
    track_epoll_del(10, 3); // of the handler's set: it is still in the other
    struct retired r = retire(3);
    assert_false(r.stuck);
    assert_int_equal(r.sets, 1);
    assert_int_equal(r.set[0], 11);
    open_one(3);
    track_epoll_add(10, 3);
    assert_true(retire(3).stuck);
    retire(11);
    track_open_epoll(10, true);
    retire(10);
}

static void an_unknown_set_cannot_be_left(void **state)
{
    (void)state;
    open_one(3);
    track_epoll_add(77, 3);
    assert_true(retire(3).stuck);
}

static void more_sets_than_are_listed(void **state)
{
    (void)state;
    open_one(3);
    for (int i = 0; i <= TRACK_SETS_MAX; i++) {
        track_open_epoll(20 + i, true);
        track_epoll_add(20 + i, 3);
    }
    struct retired r = retire(3);
    assert_true(r.stuck);
    assert_int_equal(r.sets, TRACK_SETS_MAX);
    for (int i = 0; i <= TRACK_SETS_MAX; i++) retire(20 + i);
}

static void numbers_out_of_range_are_nothing(void **state)
{
    (void)state;
    int odd[] = {-1, -2147483647 - 1, TRACK_FD_MAX, 2147483647};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct retired r;
        open_one(odd[i]);
        assert_int_equal(track_state(odd[i]), 0);
        assert_false(track_retire(odd[i], &there, &r));
        track_mark(odd[i], FD_DOUBT, 0);
        assert_null(track_pin(odd[i]));
    }
    assert_int_equal(track_next(0, 4294967295u), -1);
}

static void every_descriptor_up_to_the_limit(void **state)
{
    (void)state;
    if (UNDER_TSAN) skip();
    for (int fd = 0; fd < TRACK_FD_MAX; fd++) open_one(fd);
    assert_int_equal(track_next(TRACK_FD_MAX - 1, 4294967295u), TRACK_FD_MAX - 1);
    uint64_t memory = track_memory();
    assert_true(memory > 0 && memory / TRACK_FD_MAX < 320);
    for (int fd = 0; fd < TRACK_FD_MAX; fd++) assert_int_equal(retire(fd).others, 0);
    assert_int_equal(track_next(0, 4294967295u), -1);
    for (int fd = 0; fd < TRACK_FD_MAX; fd += 4096) open_one(fd);
    assert_true(track_memory() <= memory); // used again
    for (int fd = 0; fd < TRACK_FD_MAX; fd += 4096) retire(fd);
}

// Random operations against a model of what a kernel with 32 descriptors would hold.
static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    enum { FDS = 32 };
    int socket_of[FDS], next = 1;
    for (int i = 0; i < FDS; i++) socket_of[i] = 0;
    srandom(20240611);
    for (int step = 0; step < 200000; step++) {
        int a = (int)(random() % FDS), b = (int)(random() % FDS);
        if (random() % 3 == 0) {
            open_one(a);
            socket_of[a] = next++;
        } else if (random() % 2 && a != b && socket_of[a]) {
            duplicate(a, b);
            socket_of[b] = socket_of[a];
        } else if (socket_of[a]) {
            unsigned others = 0;
            for (int i = 0; i < FDS; i++) others += i != a && socket_of[i] == socket_of[a];
            assert_int_equal(retire(a).others, others);
            socket_of[a] = 0;
        } else {
            struct retired r;
            assert_false(track_retire(a, &there, &r));
        }
    }
    for (int i = 0; i < FDS; i++)
        if (socket_of[i]) retire(i);
}

enum { THREADS = 4, RANGE = 64 };

static void *hammer(void *arg)
{
    int low = 1000 + *(int *)arg * RANGE;
    for (int round = 0; round < 3000; round++) {
        int fd = low + round % RANGE;
        struct retired r;
        open_one(fd);
        track_unpin(track_pin(fd), fd == low ? low + 1 : low, true);
        track_unpin(track_pin(999), fd, true); // one socket that all of them duplicate
        track_flags(999, SOCK_SHUT_RD);
        track_retire(fd, &there, &r);
        track_next(0, TRACK_FD_MAX);
    }
    return NULL;
}

static void threads_share_the_table(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    int number[THREADS];
    open_one(999);
    for (int i = 0; i < THREADS; i++) {
        number[i] = i;
        pthread_create(&thread[i], NULL, hammer, &number[i]);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (int fd = track_next(1000, TRACK_FD_MAX); fd >= 0; fd = track_next(1000, TRACK_FD_MAX)) retire(fd);
    assert_int_equal(retire(999).others, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_descriptor_is_tracked_from_open_to_retire),
        cmocka_unit_test(only_the_last_duplicate_is_the_last_hold),
        cmocka_unit_test(a_duplicate_being_made_counts),
        cmocka_unit_test(a_number_used_again_unseen_is_a_new_socket),
        cmocka_unit_test(a_close_ends_for_the_socket_that_it_began_with),
        cmocka_unit_test(what_is_accepted_is_as_its_listener),
        cmocka_unit_test(a_socket_is_found_by_its_cookie),
        cmocka_unit_test(a_fork_makes_what_exists_possibly_shared),
        cmocka_unit_test(a_child_knows_what_it_has_not_opened),
        cmocka_unit_test(a_spawn_shares_what_is_not_close_on_exec),
        cmocka_unit_test(a_duplicate_without_close_on_exec_leaks_into_later_spawns_only),
        cmocka_unit_test(what_was_without_close_on_exec_stays_exposed),
        cmocka_unit_test(a_child_tells_what_it_does),
        cmocka_unit_test(passed_and_inherited_stay_so),
        cmocka_unit_test(doubt_outlives_the_descriptor_that_it_came_by),
        cmocka_unit_test(flags_belong_to_the_socket),
        cmocka_unit_test(connections_are_counted),
        cmocka_unit_test(only_own_tcp_sockets_are_connections),
        cmocka_unit_test(what_is_noted_of_a_connection_ends_with_it),
        cmocka_unit_test(a_child_has_no_connections_of_its_parent),
        cmocka_unit_test(a_socket_is_taken_out_of_its_epoll_sets),
        cmocka_unit_test(a_socket_whose_key_is_gone_is_stuck),
        cmocka_unit_test(a_set_that_a_child_may_hold_outlives_its_descriptors),
        cmocka_unit_test(a_set_that_may_have_a_duplicate_outlives_its_descriptors),
        cmocka_unit_test(a_set_whose_duplicate_is_being_made_is_not_gone),
        cmocka_unit_test(a_set_is_not_left_by_a_number_that_a_handler_has_closed),
        cmocka_unit_test(a_set_that_a_handler_has_opened_is_unknown),
        cmocka_unit_test(an_unknown_set_cannot_be_left),
        cmocka_unit_test(more_sets_than_are_listed),
        cmocka_unit_test(numbers_out_of_range_are_nothing),
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(threads_share_the_table),
        cmocka_unit_test(every_descriptor_up_to_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
