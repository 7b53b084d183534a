// Hazard 25: a child has the socket by fork and gives it away over SCM_RIGHTS; or a program that a child runs does,
// which no library sees. It is in the queue of the child, where no table shows it; in the queue of a process that was
// there long before the socket; in that process's table, which descends from nobody who ever held it. It is never cut.
#include "hostile.h"

#include <spawn.h>

static int conn[2], to_elder[2], told[2], go[2];

static char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
static char byte = 'g';
static struct iovec part = {&byte, 1};

static void give(int over, const int fds[2])
{
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int))};
    memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
    must(sendmsg(over, &m, 0));
}

static void take(int over, int fds[2])
{
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(over, &m, 0) != 1) raw_exit(2);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), 2 * sizeof(int));
}

static void check(const int fds[2])
{
    must(read(go[0], &byte, 1));
    if (!both_ways(fds[0], fds[1])) fail("the connection was cut under its other holder");
    raw_exit(0);
}

static void close_with_thread(const char *holder)
{
    struct receiver r;
    start_receiver(&r, conn[0]);
    must(close(conn[0]));
    if (peer_sees(conn[1], 20) != '-') fail("cut, though %s holds it", holder);
    expect(send(conn[1], "x", 1, MSG_NOSIGNAL) == 1 && comes_back(&r, DEADLINE_MS));
    must(write(go[1], "g", 1));
}

// Starts whoever gives conn away, in one of these ways.
enum way {
    CHILD,
    GRANDCHILD,
    PROGRAM,
    PROGRAM_BY_DUP2,
    PROGRAM_BY_FCNTL,
    PROGRAM_BY_VFORK,
    PROGRAM_BY_SPAWN,
    PROGRAM_OF_CHILD,
    SANDBOX,
    WAYS
};

static const char *const names[] = {"a child", "a grandchild", "a program", "a program, by dup2", "a program, by fcntl",
                                    "a program, by vfork and dup2", "a program, by posix_spawn",
                                    "a program that a child has spawned", "a child in a sandbox"};

static char numbers[3][12];
static char *argv[] = {(char[]){"self"}, (char[]){"give"}, numbers[0], numbers[1], numbers[2], NULL};
static char *bare[] = {NULL};

static void number(int over, int a, int b)
{
    snprintf(numbers[0], sizeof numbers[0], "%d", over);
    snprintf(numbers[1], sizeof numbers[1], "%d", a);
    snprintf(numbers[2], sizeof numbers[2], "%d", b);
}

__attribute__((noreturn)) static void give_as_program(void)
{
    execve("/proc/self/exe", argv, bare);
    raw_exit(126);
}

static void give_from_sandbox(void)
{
    struct filter f = filter_new();
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
    give(to_elder[0], conn);
}

static pid_t spawn_giver(void)
{
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, conn[0], 70);
    posix_spawn_file_actions_adddup2(&actions, conn[1], 71);
    expect(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, bare) == 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static void act_as_child(enum way way)
{
    if (way == CHILD) give(to_elder[0], conn);
    if (way == GRANDCHILD) {
        pid_t pid = must(fork());
        if (!pid) {
            give(to_elder[0], conn);
            raw_exit(0);
        }
        reap(pid, "the grandchild", DEADLINE_MS);
    }
    if (way == SANDBOX) give_from_sandbox();
    if (way == PROGRAM) give_as_program();
    if (way == PROGRAM_BY_DUP2) must(dup2(conn[0], 70)), must(dup2(conn[1], 71)), give_as_program();
    if (way == PROGRAM_BY_FCNTL) must(fcntl(conn[0], F_SETFD, 0)), must(fcntl(conn[1], F_SETFD, 0)), give_as_program();
    if (way == PROGRAM_OF_CHILD) reap(spawn_giver(), "the grandchild", DEADLINE_MS);
    raw_exit(0);
}

static pid_t start_giver(enum way way)
{
    bool moved = way == PROGRAM_BY_DUP2 || way == PROGRAM_BY_VFORK || way == PROGRAM_BY_SPAWN ||
                 way == PROGRAM_OF_CHILD;
    number(to_elder[0], moved ? 70 : conn[0], moved ? 71 : conn[1]);
    if (way == PROGRAM_BY_SPAWN) return spawn_giver();
    if (way == PROGRAM_BY_VFORK) {
        pid_t pid = must(vfork());
        if (!pid) {
            dup2(conn[0], 70);
            dup2(conn[1], 71);
            give_as_program();
        }
        return pid;
    }
    pid_t pid = must(fork());
    if (!pid) act_as_child(way);
    return pid;
}

static void to_an_elder(long how)
{
    int fds[2];
    bool reads_later = how & 1;
    enum way way = (enum way)(how / 2);
    pair(to_elder);
    must(pipe(told));
    must(pipe(go));
    pid_t elder = must(fork());
    if (!elder) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        must(close(to_elder[0]));
        if (reads_later) must(read(told[0], &byte, 1));
        take(to_elder[1], fds);
        if (!reads_later) must(write(told[1], "h", 1));
        check(fds);
    }
    must(close(to_elder[1]));
    for (int i = 0; i < 150; i++) look_again(); // a start time is counted in hundredths of a second
    must(socketpair(AF_UNIX, SOCK_STREAM | (way == PROGRAM ? 0 : SOCK_CLOEXEC), 0, conn));
    reap(start_giver(way), names[way], DEADLINE_MS);
    if (!reads_later) must(read(told[0], &byte, 1));
    close_with_thread(reads_later ? "a message to an older process" : "an older process");
    if (reads_later) must(write(told[1], "r", 1));
    reap(elder, "the older process", DEADLINE_MS);
}

// The child keeps it in a message to itself.
static void in_own_queue(long arg)
{
    int over[2], fds[2];
    (void)arg;
    pair(conn);
    must(pipe(told));
    must(pipe(go));
    pid_t child = must(fork());
    if (!child) {
        pair(over);
        give(over[0], conn);
        must(close(conn[0]));
        must(write(told[1], "h", 1));
        must(read(go[0], &byte, 1));
        must(write(go[1], "g", 1));
        take(over[1], fds);
        check(fds);
    }
    must(read(told[0], &byte, 1));
    close_with_thread("a message in flight");
    reap(child, "the child", DEADLINE_MS);
}

// It is the parent that has given it away, and a child that lets go of it.
static void by_a_parent(long arg)
{
    int over[2], fds[2];
    (void)arg;
    pair(conn);
    pair(over);
    must(pipe(told));
    must(pipe(go));
    pid_t child = must(fork());
    if (!child) {
        must(read(told[0], &byte, 1));
        close_with_thread("a message of the parent's");
        raw_exit(0);
    }
    give(over[0], conn);
    must(close(conn[0]));
    must(write(told[1], "h", 1));
    reap(child, "the child", DEADLINE_MS);
    take(over[1], fds);
    if (!both_ways(fds[0], fds[1])) fail("the connection was cut in its message");
}

static int give_and_end(char **words)
{
    const int fds[2] = {atoi(words[1]), atoi(words[2])};
    give(atoi(words[0]), fds);
    return 0;
}

int main(int argc, char **args)
{
    if (argc == 5 && !strcmp(args[1], "give")) return give_and_end(args + 2);
    need_library();
    for (long way = 0; way < WAYS; way++) {
        char what[100];
        snprintf(what, sizeof what, "given to an older process by %s", names[way]);
        in_child(what, 10000, to_an_elder, way * 2);
        snprintf(what, sizeof what, "put into the queue of an older process by %s", names[way]);
        in_child(what, 10000, to_an_elder, way * 2 + 1);
    }
    in_child("given away by a parent", 10000, by_a_parent, 0);
    in_child("in a child's own queue", 10000, in_own_queue, 0);
    return 0;
}
