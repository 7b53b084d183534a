// timeout: 60
// Hazards 3, 4, 2 and 7: while one thread closes a socket, another gives it a holder: a duplicate, a message, a child, an
// epoll set. Either the close came first, and there is nothing to be held; or there is a holder, and then its
// connection lives. No epoll set ever shows an event. HOSTILE_MS: for how long each, instead of some hundred ms.
#include "hostile.h"

#include <spawn.h>

static int conn[2], other[2], channel[2], set;
static uint64_t cookie;

static _Atomic unsigned turn, done, watched; // watched: the turn in which no event may come
static _Atomic bool over;
static _Atomic unsigned events;

static uint64_t cookie_of(int fd)
{
    uint64_t is = 0;
    socklen_t n = sizeof is;
    return raw6(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, (long)&is, (long)&n, 0) ? 0 : is;
}

// --- A child that may have got it: says "h" or "-", and if it holds it answers one byte on it ---

static int said[2], asked[2];

__attribute__((noreturn)) static void as_holder(int fd)
{
    char byte = cookie_of(fd) == cookie ? 'h' : '-';
    raw(SYS_write, said[1], (long)&byte, 1);
    if (byte == 'h' && raw(SYS_read, asked[0], (long)&byte, 1) == 1 && raw(SYS_read, fd, (long)&byte, 1) == 1)
        raw(SYS_write, fd, (long)&byte, 1);
    raw_exit(0);
}

static char numbers[6][24];
static char *words[] = {(char[]){"self"}, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], NULL};
static char *bare[] = {NULL};

static void word_for_program(int fd)
{
    const int n[] = {fd, said[1], asked[0], conn[1], asked[1]};
    for (int i = 0; i < 5; i++) snprintf(numbers[i], sizeof numbers[i], "%d", n[i]);
    snprintf(numbers[5], sizeof numbers[5], "%" PRIx64, cookie);
}

static int as_program(char **args)
{
    said[1] = atoi(args[2]);
    asked[0] = atoi(args[3]);
    raw_close(atoi(args[4]));
    raw_close(atoi(args[5]));
    cookie = strtoull(args[6], NULL, 16);
    as_holder(atoi(args[1]));
}

// --- What races with the close. Each returns the holder's descriptor, -1 if the close came first, or 0: it isn't a
// descriptor ---

static pid_t child;
static bool won; // it came before the close

static int by_dup(void)
{
    return dup(conn[0]);
}

static int by_dup2(void)
{
    return dup2(conn[0], 700);
}

static int by_syscall_dup3(void)
{
    return (int)syscall(SYS_dup3, conn[0], 700, O_CLOEXEC);
}

static int by_fcntl(void)
{
    return fcntl(conn[0], F_DUPFD_CLOEXEC, 600);
}

static char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
static char mark = 'm';
static struct iovec part = {&mark, 1};

static int by_message(void)
{
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), conn, sizeof(int));
    if (sendmsg(channel[0], &m, 0) < 0) return -1;
    int fd;
    must(recvmsg(channel[1], &m, 0));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static int by_fork(void)
{
    child = must(fork());
    if (!child) {
        raw_close(conn[1]);
        raw_close(asked[1]);
        as_holder(conn[0]);
    }
    return 0;
}

static int by_fork_alone(void)
{
    child = must(_Fork());
    if (!child) {
        raw_close(conn[1]);
        raw_close(asked[1]);
        as_holder(conn[0]);
    }
    return 0;
}

static int spawn(int fd, const posix_spawn_file_actions_t *actions)
{
    word_for_program(fd);
    if (posix_spawn(&child, "/proc/self/exe", actions, NULL, words, bare)) return -1;
    return 0;
}

static int by_spawn(void)
{
    return spawn(conn[0], NULL);
}

// Close-on-exec until now.
static int by_clearing_cloexec(void)
{
    return fcntl(conn[0], F_SETFD, 0) ? -1 : spawn(conn[0], NULL);
}

static int by_file_action(void)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, conn[0], 80);
    int ret = spawn(80, &actions);
    posix_spawn_file_actions_destroy(&actions);
    return ret;
}

static int by_vfork(void)
{
    word_for_program(conn[0]);
    child = must(vfork());
    if (!child) {
        fcntl(conn[0], F_SETFD, 0);
        execve("/proc/self/exe", words, bare);
        _exit(1);
    }
    return 0;
}

// No holder: but no event either.
static int by_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = atomic_load(&turn)};
    won = epoll_ctl(set, EPOLL_CTL_ADD, conn[0], &event) == 0;
    return 0;
}

// Another socket takes the number, and lives.
static int by_dup2_onto(void)
{
    must(dup2(other[0], conn[0]));
    return 0;
}

static int by_dup3_onto(void)
{
    must((int)syscall(SYS_dup3, other[0], conn[0], O_CLOEXEC));
    return 0;
}

enum { CLOEXEC = 1, SLOW = 2 };

static const struct race {
    const char *name;
    int (*run)(void);
    unsigned how;
} races[] = {
    {"dup", by_dup, CLOEXEC},
    {"dup2", by_dup2, CLOEXEC},
    {"syscall(SYS_dup3)", by_syscall_dup3, CLOEXEC},
    {"fcntl(F_DUPFD_CLOEXEC)", by_fcntl, CLOEXEC},
    {"sendmsg", by_message, CLOEXEC},
    {"epoll_ctl", by_epoll, CLOEXEC},
    {"dup2 onto it", by_dup2_onto, CLOEXEC},
    {"syscall(SYS_dup3) onto it", by_dup3_onto, CLOEXEC},
    {"fork", by_fork, CLOEXEC | SLOW},
    {"_Fork", by_fork_alone, CLOEXEC | SLOW},
    {"posix_spawn", by_spawn, SLOW},
    {"fcntl(F_SETFD) and posix_spawn", by_clearing_cloexec, CLOEXEC | SLOW},
    {"posix_spawn_file_actions_adddup2", by_file_action, CLOEXEC | SLOW},
    {"vfork", by_vfork, CLOEXEC | SLOW},
};

// --- The threads ---

static unsigned close_delay;
static int64_t race_delay = 10000; // with which the close comes first as often as not

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void spin(int64_t ns)
{
    for (int64_t end = now_ns() + ns; now_ns() < end;) continue;
}

static int let_go(unsigned route)
{
    switch (route % 4) {
    case 0:
        return (int)syscall(SYS_close, conn[0]);
    case 1:
        return close_range((unsigned)conn[0], (unsigned)conn[0], 0);
    default:
        return close(conn[0]);
    }
}

static void *closes(void *arg)
{
    unsigned seen = 0, waits = 0;
    while (!atomic_load(&over)) {
        unsigned now = atomic_load(&turn);
        if (now == seen) {
            if (++waits % 1000 == 0) sched_yield();
            continue;
        }
        seen = now;
        spin(close_delay);
        let_go(seen);
        atomic_store(&done, seen);
    }
    return arg;
}

static void *watches(void *arg)
{
    struct epoll_event event;
    while (!atomic_load(&over))
        if (epoll_wait(set, &event, 1, 20) == 1 && atomic_load(&watched) == event.data.u32) atomic_fetch_add(&events, 1);
    return arg;
}

// --- A round ---

static void open_round(const struct race *race, unsigned n)
{
    if (n & 1) tcp_pair(conn);
    else pair(conn);
    for (int i = 0; i < 2; i++) must(fcntl(conn[i], F_SETFD, race->how & CLOEXEC ? FD_CLOEXEC : 0));
    cookie = cookie_of(conn[0]);
    if (race->how & SLOW) must(pipe(said)), must(pipe(asked));
}

// The thread in recv comes back with the byte, unless it was woken by the close.
static void send_home(struct receiver *r, bool held, const char *name)
{
    if (held) expect(send(conn[1], "x", 1, MSG_NOSIGNAL) == 1);
    else send(conn[1], "x", 1, MSG_NOSIGNAL);
    if (!comes_back(r, DEADLINE_MS)) fail("%s: the thread in recv never comes back", name);
    if (held && r->got != 1) fail("%s: the thread in recv was cut off, though the socket has a holder", name);
}

static bool child_holds(void)
{
    char byte = '-';
    must(read(said[0], &byte, 1));
    return byte == 'h';
}

static void check_child(const char *name)
{
    char byte = 'a';
    must(write(asked[1], &byte, 1));
    expect(send(conn[1], "y", 1, MSG_NOSIGNAL) == 1);
    if (peer_sees(conn[1], DEADLINE_MS) != 'd') fail("%s: the connection was cut under the child", name);
}

static void end_round(const struct race *race, int fd)
{
    if (race->how & SLOW) {
        for (int i = 0; i < 2; i++) raw_close(said[i]), raw_close(asked[i]);
        if (child) reap(child, race->name, DEADLINE_MS);
        child = 0;
    }
    if (fd > 0) must(close(fd));
    must(close(conn[1]));
}

static unsigned firsts, holds; // which came first

static void race_once(const struct race *race, unsigned n, uint64_t *random)
{
    struct receiver r;
    bool blocked = next_random(random) % 4 == 0;
    open_round(race, n);
    if (blocked) start_receiver(&r, conn[0]);
    close_delay = race->how & SLOW ? 100000 : 1000;
    won = true;
    atomic_store(&watched, atomic_load(&turn) + 1);
    atomic_store(&turn, atomic_load(&turn) + 1);
    spin((int64_t)(next_random(random) % (uint64_t)(2 * race_delay)));
    int fd = race->run();
    while (atomic_load(&done) != atomic_load(&turn)) sched_yield();
    bool held = fd > 0 || (child && child_holds());
    if (child) won = held;
    if (race->run == by_epoll) nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    if (atomic_load(&events)) fail("%s: an epoll set showed an event", race->name);
    atomic_store(&watched, 0);
    if (blocked) send_home(&r, held, race->name);
    if (fd > 0 && !both_ways(fd, conn[1])) fail("%s: the connection was cut under its other holder", race->name);
    if (child && held) check_child(race->name);
    if (!both_ways(other[0], other[1])) fail("%s: the socket that takes the number was cut", race->name);
    if (race->run == by_dup2_onto || race->run == by_dup3_onto) won = raw_close(conn[0]) != 0;
    won = won && fd >= 0;
    *(won ? &holds : &firsts) += 1;
    race_delay += won ? race_delay / 8 + 100 : -race_delay / 8;
    end_round(race, fd);
}

static void run_race(long i)
{
    const struct race *race = &races[i];
    const char *ms = getenv("HOSTILE_MS");
    uint64_t random = (uint64_t)now_ns() | 1;
    pair(other);
    must(socketpair(AF_UNIX, SOCK_DGRAM, 0, channel));
    set = must(epoll_create1(EPOLL_CLOEXEC));
    pthread_t t[2] = {start_thread(closes, NULL), start_thread(watches, NULL)};
    int64_t end = now_ms() + (ms ? atoi(ms) : race->how & SLOW ? 600 : 400);
    for (unsigned n = 0; now_ms() < end; n++) race_once(race, n, &random);
    atomic_store(&over, true);
    for (int k = 0; k < 2; k++) pthread_join(t[k], NULL);
    if (getenv("HOSTILE_COUNT")) printf("%s: %u held, %u closed first\n", race->name, holds, firsts), fflush(stdout);
}

int main(int argc, char **args)
{
    if (argc == 7) return as_program(args);
    need_library();
    const char *only = getenv("HOSTILE_ONLY");
    int ms = 20000 + (getenv("HOSTILE_MS") ? atoi(getenv("HOSTILE_MS")) : 0);
    for (long i = 0; i < (long)(sizeof races / sizeof *races); i++)
        if (!only || !strcmp(only, races[i].name)) in_child(races[i].name, ms, run_race, i);
    still_works("the races");
    return 0;
}
