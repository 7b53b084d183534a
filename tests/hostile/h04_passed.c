// Hazard 4: a socket sent over SCM_RIGHTS is another's too, from the call on, whether it has been received or not, and
// whichever way it was sent. And whatever a message looks like, the call's result is the kernel's.
#include "hostile.h"

enum way { SENDMSG, SENDMMSG, BY_NUMBER, MANY_BY_NUMBER, WAYS };

union control {
    char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(4 * sizeof(int))];
    struct cmsghdr align;
};

// A message of one byte with n descriptors; behind other control data where credentials.
static void message(struct msghdr *m, struct iovec *part, union control *c, const int *fds, unsigned n, bool credentials)
{
    static char byte = 'm';
    *part = (struct iovec){&byte, 1};
    memset(c, 0, sizeof *c);
    *m = (struct msghdr){.msg_iov = part, .msg_iovlen = 1, .msg_control = c->bytes};
    m->msg_controllen = CMSG_SPACE(n * sizeof(int)) + (credentials ? CMSG_SPACE(sizeof(struct ucred)) : 0);
    struct cmsghdr *h = CMSG_FIRSTHDR(m);
    if (credentials) {
        struct ucred me = {.pid = getpid(), .uid = getuid(), .gid = getgid()};
        *h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof me)};
        memcpy(CMSG_DATA(h), &me, sizeof me);
        h = (struct cmsghdr *)(void *)(c->bytes + CMSG_SPACE(sizeof me));
    }
    *h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(int))};
    memcpy(CMSG_DATA(h), fds, n * sizeof(int));
}

static long pass(enum way way, int over, const int *fds, unsigned n, bool credentials)
{
    struct mmsghdr m = {0};
    struct iovec part;
    union control c;
    message(&m.msg_hdr, &part, &c, fds, n, credentials);
    switch (way) {
    case SENDMSG:
        return sendmsg(over, &m.msg_hdr, 0);
    case SENDMMSG:
        return sendmmsg(over, &m, 1, 0);
    case BY_NUMBER:
        return syscall(SYS_sendmsg, over, &m.msg_hdr, 0);
    default:
        return syscall(SYS_sendmmsg, over, &m, 1, 0);
    }
}

static int take(int over)
{
    char byte;
    struct iovec part = {&byte, 1};
    union control c;
    int fd = -1;
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof c.bytes};
    must(recvmsg(over, &m, MSG_CMSG_CLOEXEC));
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
        if (h->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(h), sizeof fd);
    if (fd < 0) fail("no descriptor came");
    return fd;
}

// Sent, closed by the sender while it is in flight, and used by whoever receives it.
static void in_flight(long n)
{
    int over[2], conn[2], others[2];
    enum way way = (enum way)(n % WAYS);
    pair(over);
    pair(others);
    if (n & 8) tcp_pair(conn);
    else pair(conn);
    int fds[3] = {STDIN_FILENO, others[0], conn[0]};
    unsigned first = n & 4 ? 0 : 2;
    must(pass(way, over[0], fds + first, 3 - first, n & 16));
    must(close(conn[0]));
    if (peer_sees(conn[1], 10) != '-') fail("cut while in flight");
    pid_t pid = must(fork());
    if (!pid) {
        char byte;
        struct iovec part = {&byte, 1};
        union control c;
        int got[3];
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof c.bytes};
        must(recvmsg(over[1], &m, 0));
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
            if (h->cmsg_type == SCM_RIGHTS) memcpy(got, CMSG_DATA(h), (3 - first) * sizeof(int));
        expect(both_ways(got[2 - first], conn[1]));
        _exit(0);
    }
    reap(pid, "the receiver", DEADLINE_MS);
}

// Sent to itself, received and sent on: a hold in each message, and none is proven alone while threads wait on it.
static void round_and_round(long arg)
{
    int over[2], conn[2];
    (void)arg;
    pair(over);
    pair(conn);
    for (int i = 0; i < 50; i++) {
        must(pass((enum way)(i % WAYS), over[0], conn, 1, false));
        must(close(conn[0]));
        expect(peer_sees(conn[1], 0) == '-');
        conn[0] = take(over[1]);
        expect(both_ways(conn[0], conn[1]));
    }
    must(pass(SENDMSG, over[0], conn, 1, false));
    struct receiver r;
    start_receiver(&r, conn[0]);
    must(close(conn[0])); // with a thread blocked on it: worth a proof, but a message holds it
    expect(peer_sees(conn[1], 50) == '-');
    conn[0] = take(over[1]);
    expect(flows(conn[0], conn[1]));
    expect(send(conn[1], "x", 1, 0) == 1 && comes_back(&r, DEADLINE_MS));
}

// Received by another process before it is closed here.
static void held_elsewhere(long arg)
{
    int over[2], conn[2], go[2], ready[2];
    char byte;
    (void)arg;
    pair(over);
    pair(conn);
    must(pipe(go));
    must(pipe(ready));
    pid_t pid = must(fork());
    if (!pid) {
        must(close(conn[0]));
        int fd = take(over[1]);
        must(write(ready[1], "r", 1));
        must(read(go[0], &byte, 1));
        expect(both_ways(fd, conn[1]));
        _exit(0);
    }
    must(pass(SENDMSG, over[0], conn, 1, false));
    must(read(ready[0], &byte, 1));
    struct receiver r;
    start_receiver(&r, conn[0]);
    must(close(conn[0]));
    expect(peer_sees(conn[1], 20) == '-');
    expect(send(conn[1], "x", 1, MSG_NOSIGNAL) == 1 && comes_back(&r, DEADLINE_MS));
    must(write(go[1], "g", 1));
    reap(pid, "the receiver", DEADLINE_MS);
}

static void result(const char *what, long ret)
{
    printf("%s: %ld %d\n", what, ret, ret < 0 ? errno : 0);
}

// Messages that lie: the same results as without the library.
static int crooked(void)
{
    int over[2], conn[2];
    struct mmsghdr m[2];
    struct iovec part;
    union control c;
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(mprotect(page + 4096, 4096, PROT_NONE));
    pair(over);
    pair(conn);
    message(&m[0].msg_hdr, &part, &c, conn, 1, false);
    m[1] = m[0];
    for (size_t length = 0; length < 40; length++) {
        struct cmsghdr *h = (struct cmsghdr *)(void *)c.bytes;
        h->cmsg_len = length;
        result("a length of its own", sendmsg(over[0], &m[0].msg_hdr, MSG_DONTWAIT));
        h->cmsg_len = SIZE_MAX - length;
        result("a huge length", sendmsg(over[0], &m[0].msg_hdr, MSG_DONTWAIT));
        h->cmsg_len = CMSG_LEN(sizeof(int));
        m[0].msg_hdr.msg_controllen = length;
        result("a short control", sendmsg(over[0], &m[0].msg_hdr, MSG_DONTWAIT));
        m[0].msg_hdr.msg_controllen = SIZE_MAX - length;
        result("a huge control", sendmsg(over[0], &m[0].msg_hdr, MSG_DONTWAIT));
        m[0].msg_hdr.msg_controllen = CMSG_SPACE(sizeof(int));
        m[0].msg_hdr.msg_control = page + 4096 - length;
        result("control at the end of memory", sendmsg(over[0], &m[0].msg_hdr, MSG_DONTWAIT));
        m[0].msg_hdr.msg_control = c.bytes;
        result("a message at the end of memory", sendmsg(over[0], (struct msghdr *)(void *)(page + 4096 - length), MSG_DONTWAIT));
        result("messages at the end of memory",
               sendmmsg(over[0], (struct mmsghdr *)(void *)(page + 4096 - length), 3, MSG_DONTWAIT));
        char drop[64];
        while (recv(over[1], drop, sizeof drop, MSG_DONTWAIT) > 0) {}
    }
    result("no message", sendmsg(over[0], NULL, 0));
    result("no messages", sendmmsg(over[0], NULL, 5, 0));
    result("no messages by number", syscall(SYS_sendmmsg, over[0], NULL, -1, 0));
    result("a closed descriptor", sendmsg(3999, &m[0].msg_hdr, 0));
    result("a pipe", sendmsg(STDIN_FILENO, &m[0].msg_hdr, 0));
    int closed[1] = {3999};
    message(&m[0].msg_hdr, &part, &c, closed, 1, false);
    result("a closed descriptor in it", sendmsg(over[0], &m[0].msg_hdr, 0));
    result("none of them", sendmmsg(over[0], m, 0, 0));
    for (size_t length = 0; length < 40; length++) {
        struct msghdr in = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = length};
        message(&m[0].msg_hdr, &part, &c, conn, 1, false);
        must(sendmsg(over[0], &m[0].msg_hdr, 0));
        result("room for less", recvmsg(over[1], &in, 0));
        must(sendmsg(over[0], &m[0].msg_hdr, 0));
        in.msg_control = page + 4096 - length;
        in.msg_controllen = 24;
        result("no room at all", recvmsg(over[1], &in, 0));
    }
    result("nowhere to put it", recvmsg(over[1], NULL, MSG_DONTWAIT));
    expect(both_ways(conn[0], conn[1]));
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "crooked")) return crooked();
    need_library();
    for (long n = 0; n < 32; n++) in_child("in flight", 10000, in_flight, n);
    in_child("sent to itself", 10000, round_and_round, 0);
    in_child("held elsewhere", 10000, held_elsewhere, 0);
    int a, b;
    char *without = output_of_self("crooked", NULL, false, &a), *with = output_of_self("crooked", NULL, true, &b);
    expect_same("crooked messages", without, with);
    expect(a == 0 && b == 0);
    return 0;
}
