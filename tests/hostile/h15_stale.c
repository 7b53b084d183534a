// Hazard 15: numbers closed, opened and passed on by system calls that no preload sees. What is recorded of a number is
// then about another socket: nothing is done to the one that is there, and what it carries is still noted.
#include "hostile.h"

static int raw_socket(int family, int type)
{
    return must((int)raw(SYS_socket, family, type, 0));
}

static void raw_pair(int sv[2])
{
    if (raw6(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (long)sv, 0, 0) < 0) fail("socketpair");
}

static void pass_over(int carrier, const int *fds, unsigned n, bool by_number)
{
    union {
        char bytes[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr h;
    } c = {.h = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(int))}};
    char byte = 'm';
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    memcpy(CMSG_DATA(&c.h), fds, n * sizeof(int));
    expect((by_number ? syscall(SYS_sendmsg, carrier, &m, 0) : sendmsg(carrier, &m, 0)) == 1);
}

// The number of a TCP socket has become that of a unix socket, unseen; a connection is sent over it and closed.
static void carrier(long by_number)
{
    int u[2], conn[2], tcp = must(socket(AF_INET, SOCK_STREAM, 0));
    raw_pair(u);
    if (raw(SYS_dup2, u[0], tcp, 0) < 0) fail("dup2");
    raw_close(u[0]);
    tcp_pair(conn);
    pass_over(tcp, conn, 1, by_number);
    must(close(conn[0]));
    if (peer_sees(conn[1], 10) != '-') fail("a connection in a message was cut: its carrier has the number of an old socket");
}

// A recorded number is closed and opened again by raw calls; the new socket is a child's, too.
static void reused(long how)
{
    int old[2], fresh[2], go[2];
    char byte;
    pair(old);
    must(pipe(go));
    raw_close(old[0]);
    raw_pair(fresh);
    expect(fresh[0] == old[0]);
    pid_t pid = how & 1 ? raw_fork() : must(fork());
    if (!pid) {
        must(read(go[0], &byte, 1));
        expect(both_ways(fresh[0], fresh[1]));
        raw_exit(0);
    }
    switch (how >> 1) {
    case 0:
        must(close(fresh[0]));
        break;
    case 1:
        must(dup2(go[0], fresh[0]));
        break;
    case 2:
        must(close_range((unsigned)fresh[0], (unsigned)fresh[0], 0));
        break;
    case 3:
        must(syscall(SYS_close, fresh[0]));
        break;
    default:
        must(fclose(fdopen(fresh[0], "r+")));
    }
    if (peer_sees(fresh[1], 5) != '-') fail("a socket that was never recorded was cut");
    must(write(go[1], "g", 1));
    reap(pid, "the child with the new socket", DEADLINE_MS);
    expect(peer_sees(old[1], 0) == 'e'); // the old one ended when its number did
}

// Duplicates counted under a number that has become another socket.
static void duplicated(long arg)
{
    int a[2], b[2], d;
    (void)arg;
    pair(a);
    pair(b);
    d = must(dup(a[0]));
    raw_close(d);
    expect(raw(SYS_fcntl, b[0], F_DUPFD, d) == d); // unseen: b is held twice, and d recorded as a's
    int e = must(dup(d));                         // of b; recorded as a's
    must(close(d));
    must(close(e));
    expect(both_ways(b[0], b[1]) && both_ways(a[0], a[1]));
    must(close(a[0]));
    expect(peer_sees(a[1], DEADLINE_MS) == 'e');
    expect(both_ways(b[0], b[1]));
}

static _Atomic unsigned events;
static _Atomic pid_t watcher;

static void *watch(void *set)
{
    struct epoll_event event;
    atomic_store(&watcher, tid_now());
    for (;;) {
        int n = epoll_wait((int)(intptr_t)set, &event, 1, -1);
        if (n == 1 && !event.data.u32) return NULL;
        if (n == 1) atomic_fetch_add(&events, 1);
    }
}

// An epoll set has moved to another number, unseen, and another set has its old one.
static void moved_set(long arg)
{
    int sv[2], stop[2];
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 1}, last = {.events = EPOLLIN};
    (void)arg;
    for (int i = 0; i < 30; i++) {
        int set = must(epoll_create1(EPOLL_CLOEXEC));
        pair(sv);
        pair(stop);
        must(epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &event));
        must(epoll_ctl(set, EPOLL_CTL_ADD, stop[0], &last));
        int moved = must((int)raw(SYS_fcntl, set, F_DUPFD, 300)), other = must((int)raw(SYS_epoll_create1, 0, 0, 0));
        must((int)raw(SYS_dup2, other, set, 0));
        atomic_store(&watcher, 0);
        pthread_t t = start_thread(watch, (void *)(intptr_t)moved);
        while (!atomic_load(&watcher)) sched_yield();
        wait_blocked(atomic_load(&watcher), -1);
        must(close(sv[0]));
        must(write(stop[1], "x", 1));
        pthread_join(t, NULL);
        raw_close(other);
        raw_close(moved);
        if (atomic_load(&events)) fail("a phantom event in an epoll set whose number has become another's");
        must(close(sv[1]));
        must(close(set));
        must(close(stop[0]));
        must(close(stop[1]));
    }
}

// Closed by a raw call and opened again by libc's: the new record is the right one.
static void seen_again(long arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        int a[2], b[2];
        pair(a);
        raw_close(a[0]);
        pair(b);
        expect(b[0] == a[0]);
        int d = must(dup(b[0]));
        must(close(b[0]));
        expect(both_ways(d, b[1]));
        must(close(d));
        expect(peer_sees(b[1], DEADLINE_MS) == 'e');
        must(close(a[1]));
        must(close(b[1]));
    }
}

// A file under a number that was a socket's: nothing but what the kernel would answer.
static void a_file(long arg)
{
    char byte;
    (void)arg;
    int s = raw_socket(AF_INET, SOCK_STREAM), p[2], sv[2];
    raw_close(s);
    pair(sv);
    must(pipe(p));
    must((int)raw(SYS_dup2, p[1], sv[0], 0));
    int d = must(dup(sv[0]));
    must(close(sv[0]));
    must(close(p[1]));
    must(write(d, "x", 1));
    expect(read(p[0], &byte, 1) == 1);
    must(close(d));
    expect(read(p[0], &byte, 1) == 0);
}

int main(void)
{
    need_library();
    in_child("a reused carrier", 10000, carrier, 0);
    in_child("a reused carrier by number", 10000, carrier, 1);
    for (long how = 0; how < 10; how++) in_child("a reused number", 10000, reused, how);
    in_child("a reused duplicate", 10000, duplicated, 0);
    in_child("a moved set", 10000, moved_set, 0);
    in_child("seen again", 10000, seen_again, 0);
    in_child("a file", 10000, a_file, 0);
    still_works("numbers reused unseen");
    return 0;
}
