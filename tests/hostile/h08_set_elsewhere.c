// Hazard 8: a reset that was asked for by other ways than setsockopt on the socket itself: by number, on the listener or on
// a duplicate, by another process that shares or got the socket, or before this program began. The peer gets it all the same.
#include "hostile.h"

static struct sockaddr_in at;
static int client, conn;
static const struct linger reset = {.l_onoff = 1, .l_linger = 0};

static int set_reset(int fd)
{
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

static int call_reset(int fd)
{
    return (int)syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

static void connect_and_accept(int listener)
{
    client = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(client, (struct sockaddr *)&at, sizeof at));
    conn = must(accept(listener, NULL, NULL));
}

static void begin(void)
{
    int l = listener_on(&at);
    connect_and_accept(l);
    must(close(l));
}

static void by_number(void)
{
    begin();
    must(call_reset(conn));
}

static void on_duplicate(void)
{
    begin();
    int d = must(dup(conn));
    must(set_reset(d));
    must(close(d));
}

static void on_listener(void)
{
    int l = listener_on(&at);
    must(set_reset(l));
    connect_and_accept(l);
    must(close(l));
}

static void on_listener_by_number(void)
{
    int l = listener_on(&at);
    must(call_reset(l));
    connect_and_accept(l);
    must(close(l));
}

// What is accepted has what its listener had when the connection was made, not when it is accepted.
static void on_listener_for_a_while(void)
{
    struct linger off = {0};
    int l = listener_on(&at);
    must(set_reset(l));
    client = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(client, (struct sockaddr *)&at, sizeof at));
    must(setsockopt(l, SOL_SOCKET, SO_LINGER, &off, sizeof off));
    conn = must(accept4(l, NULL, NULL, SOCK_CLOEXEC));
    must(close(l));
}

static void in_child_process(int fd, bool by_vfork)
{
    pid_t pid = must(by_vfork ? vfork() : fork());
    if (!pid) _exit(set_reset(fd) != 0);
    reap(pid, "the child that sets SO_LINGER", DEADLINE_MS);
}

static void by_forked_child(void)
{
    begin();
    in_child_process(conn, false);
}

static void by_vfork_child(void)
{
    begin();
    in_child_process(conn, true);
}

static void on_listener_by_forked_child(void)
{
    int l = listener_on(&at);
    in_child_process(l, false);
    connect_and_accept(l);
    must(close(l));
}

static void on_listener_by_vfork_child(void)
{
    int l = listener_on(&at);
    in_child_process(l, true);
    connect_and_accept(l);
    must(close(l));
}

// It comes over a unix socket from a child, who had it set where this process does not see it.
static void received(void)
{
    char byte = 0;
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int sv[2], l = listener_on(&at);
    pair(sv);
    client = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(client, (struct sockaddr *)&at, sizeof at));
    pid_t pid = must(fork());
    if (!pid) {
        int fd = must(accept(l, NULL, NULL));
        must(set_reset(fd));
        control.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
        must(sendmsg(sv[1], &m, 0));
        _exit(0);
    }
    must(recvmsg(sv[0], &m, 0));
    memcpy(&conn, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof conn);
    reap(pid, "the child that sends it", DEADLINE_MS);
    must(close(l));
}

static const struct way {
    const char *name;
    void (*open)(void);
} ways[] = {
    {"by number", by_number},
    {"on a duplicate", on_duplicate},
    {"on the listener", on_listener},
    {"on the listener, by number", on_listener_by_number},
    {"on the listener, for a while", on_listener_for_a_while},
    {"by a forked child", by_forked_child},
    {"by a vfork child", by_vfork_child},
    {"on the listener, by a forked child", on_listener_by_forked_child},
    {"on the listener, by a vfork child", on_listener_by_vfork_child},
    {"by who sent it", received},
};

static void expect_reset(const char *how)
{
    must(close(conn));
    char end = peer_sees(client, DEADLINE_MS);
    if (end != 'r') fail("%s: the peer sees '%c', not its reset", how, end);
}

static void alone(long n)
{
    ways[n].open();
    expect_reset("in one thread");
}

// With threads the library looks closer, and whether another process has the socket still.
static void with_threads(long n)
{
    struct receiver r;
    int sv[2];
    pair(sv);
    start_receiver(&r, sv[0]);
    ways[n].open();
    expect_reset("in two threads");
}

// And with a thread of ours that hangs on it.
static void blocked(long n)
{
    struct receiver r;
    if (!library_here()) return; // bare, a blocked thread keeps the connection as it is
    ways[n].open();
    start_receiver(&r, conn);
    must(close(conn));
    if (comes_back(&r, 300)) {
        char end = peer_sees(client, DEADLINE_MS);
        if (end != 'r') fail("a blocked thread: the peer sees '%c', not its reset", end);
    } else if (peer_sees(client, 50) != '-') {
        fail("a blocked thread was left so, and the peer sees an end");
    }
    raw_exit(0);
}

// The program that it becomes: argv[1] is the connection, argv[2] the peer's.
static int anew(char **argv)
{
    conn = atoi(argv[1]);
    client = atoi(argv[2]);
    expect_reset("before exec");
    return 0;
}

static void before_exec(long with_thread)
{
    char numbers[2][12];
    struct receiver r;
    int sv[2];
    begin();
    must(set_reset(conn));
    snprintf(numbers[0], sizeof numbers[0], "%d", conn);
    snprintf(numbers[1], sizeof numbers[1], "%d", client);
    if (with_thread) {
        pair(sv);
        start_receiver(&r, sv[0]);
    }
    execl("/proc/self/exe", "self", numbers[0], numbers[1], (char *)NULL);
    fail("exec: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    if (argc == 3) return anew(argv);
    need_library();
    for (long n = 0; n < (long)(sizeof ways / sizeof *ways); n++) {
        in_child(ways[n].name, 10000, alone, n);
        in_child(ways[n].name, 10000, with_threads, n);
        in_child(ways[n].name, 10000, blocked, n);
    }
    for (long n = 0; n < 2; n++) in_child("before exec", 10000, before_exec, n);
    return 0;
}
