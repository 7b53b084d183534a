// Hazard 1: parent or child closes its copy, by whatever fork and whatever call, in whatever order. The other side's
// connection is untouched: bytes flow both ways, and nothing ends before the last holder lets go.
#include "hostile.h"

#include <pty.h>

enum how { FORK, FORK_ALONE, BY_NUMBER, BY_CLONE, UNSEEN, FORKPTY, DAEMON, FROM_THREAD, FROM_HANDLER, HOWS };
static const char *const how_names[] = {"fork", "_Fork", "syscall(SYS_fork)", "syscall(SYS_clone)", "an unseen fork",
                                        "forkpty", "daemon", "a fork in a thread", "a fork in a handler"};

static int conn, peer; // the connection that is shared, and its other end
static int tell[2];    // a byte to the other process: go on
static int answer[2];

static void post(int fd)
{
    must(write(fd, "g", 1));
}

static void await(int fd)
{
    char byte;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, DEADLINE_MS) < 0 && errno == EINTR) {}
    if (!(p.revents & POLLIN) || read(fd, &byte, 1) != 1) fail("the other process never said to go on");
}

static void let_go(unsigned route)
{
    switch (route % 4) {
    case 0:
        must(close(conn));
        break;
    case 1:
        must(dup2(tell[0], conn));
        break;
    case 2:
        must(close_range((unsigned)conn, (unsigned)conn, 0));
        break;
    default:
        must(syscall(SYS_close, conn));
    }
}

static pid_t handler_result;

static void fork_in_handler(int sig)
{
    (void)sig;
    handler_result = fork();
}

static void *fork_in_thread(void *arg);

static pid_t fork_how(enum how how)
{
    int terminal;
    switch (how) {
    case FORK:
    case FROM_THREAD:
        return fork();
    case FORK_ALONE:
        return _Fork();
    case BY_NUMBER:
#ifdef SYS_fork
        return (pid_t)syscall(SYS_fork);
#endif
    case BY_CLONE:
        return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    case UNSEEN:
        return raw_fork();
    case FORKPTY:
        return forkpty(&terminal, NULL, NULL, NULL);
    case FROM_HANDLER:
        signal(SIGUSR1, fork_in_handler);
        raise(SIGUSR1);
        return handler_result;
    default:
        return fork();
    }
}

// In the child: the first to let go, or the one that stays.
static void child_side(bool first, unsigned route)
{
    if (first) {
        let_go(route);
        post(answer[1]);
        return;
    }
    await(tell[0]); // the parent has let go
    expect(both_ways(conn, peer));
    let_go(route);
    expect(peer_sees(peer, DEADLINE_MS) == 'e'); // it was the last hold
    post(answer[1]);
}

static void parent_side(pid_t pid, bool first, unsigned route)
{
    if (first) {
        await(answer[0]);
        expect(both_ways(conn, peer));
        let_go(route);
    } else {
        let_go(route);
        expect(peer_sees(peer, 20) == '-');
        post(tell[1]);
        await(answer[0]);
    }
    if (pid > 0) reap(pid, "the child", DEADLINE_MS);
}

static void share(enum how how, bool child_first, unsigned route)
{
    if (how == DAEMON) {
        // The process that daemon() leaves behind ends with _exit: its copies go with it.
        pid_t outer = must(fork());
        if (!outer) {
            must(daemon(1, 1));
            child_side(false, route);
            _exit(0);
        }
        reap(outer, "the process that calls daemon", DEADLINE_MS);
        parent_side(0, false, route);
        return;
    }
    pid_t pid = must(fork_how(how));
    if (!pid) {
        child_side(child_first, route);
        if (how == UNSEEN) raw_exit(0);
        _exit(0);
    }
    parent_side(pid, child_first, route);
}

struct job {
    enum how how;
    bool child_first;
    unsigned route;
};

static void *fork_in_thread(void *arg)
{
    const struct job *j = arg;
    share(j->how, j->child_first, j->route);
    return NULL;
}

static void scenario(long n)
{
    struct job j = {(enum how)(n / 8), n & 1, (unsigned)(n >> 1)};
    int sv[2];
    if (n & 2) tcp_pair(sv);
    else pair(sv);
    conn = sv[0];
    peer = sv[1];
    must(pipe(tell));
    must(pipe(answer));
    if (j.how != FROM_THREAD) {
        share(j.how, j.child_first, j.route);
        return;
    }
    pthread_join(start_thread(fork_in_thread, &j), NULL);
}

int main(void)
{
    need_library();
    for (long how = 0; how < HOWS; how++)
        for (long variant = 0; variant < 8; variant++) {
            char what[100];
            if (how == UNSEEN && !(variant & 1)) continue; // the parent can't know
            snprintf(what, sizeof what, "%s, %s closes first", how_names[how], variant & 1 ? "child" : "parent");
            in_child(what, 10000, scenario, how * 8 + variant);
        }
    return 0;
}
