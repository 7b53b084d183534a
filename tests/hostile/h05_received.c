// Hazard 5: sockets that came over SCM_RIGHTS, received in every way. Whoever sent them still holds them, in a process that
// shares nothing else with this one, or in a message that was only looked at. What is closed here ends nothing there.
#include "hostile.h"

enum way { RECVMSG, RECVMMSG, BY_NUMBER, MANY_BY_NUMBER, PEEKED, WAYS };
enum { ROUTES = 6, EACH = 2 };

static char control[CMSG_SPACE(EACH * sizeof(int))] __attribute__((aligned(8)));
static char byte = 'm';
static struct iovec part = {&byte, 1};

static struct msghdr message(void)
{
    return (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
}

static void give(int over, const int fds[EACH])
{
    struct msghdr m = message();
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(EACH * sizeof(int))};
    memcpy(CMSG_DATA(c), fds, EACH * sizeof(int));
    must(raw(SYS_sendmsg, over, (long)&m, 0));
}

static void take(enum way way, int over, int fds[EACH])
{
    struct mmsghdr m = {.msg_hdr = message()};
    long ret = way == RECVMSG     ? recvmsg(over, &m.msg_hdr, MSG_CMSG_CLOEXEC)
               : way == PEEKED    ? recvmsg(over, &m.msg_hdr, MSG_PEEK)
               : way == RECVMMSG  ? recvmmsg(over, &m, 1, 0, NULL)
               : way == BY_NUMBER ? syscall(SYS_recvmsg, over, &m.msg_hdr, 0)
                                  : syscall(SYS_recvmmsg, over, &m, 1, 0, NULL);
    must(ret);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg_hdr);
    if (!c || c->cmsg_type != SCM_RIGHTS) fail("no descriptor came");
    memcpy(fds, CMSG_DATA(c), EACH * sizeof(int));
}

static void let_go(int route, int fd)
{
    FILE *f;
    switch (route) {
    case 0:
        must(close(fd));
        break;
    case 1:
        must(dup2(STDIN_FILENO, fd));
        break;
    case 2:
        must(close_range((unsigned)fd, (unsigned)fd, 0));
        break;
    case 3:
        must(syscall(SYS_close, fd));
        break;
    case 4: // of two descriptors
        f = fdopen(must(dup(fd)), "r+");
        must(close(fd));
        must(fclose(f));
        break;
    default:
        must(syscall(SYS_close_range, fd, fd, 0));
    }
}

// fds: one with a thread blocked on it, which is worth a proof; one without.
static void use_and_let_go(enum way way, int route, int over, const int peer[EACH])
{
    int fds[EACH];
    struct receiver r;
    take(way, over, fds);
    for (int i = 0; i < EACH; i++) expect(both_ways(fds[i], peer[i]));
    start_receiver(&r, fds[0]);
    for (int i = 0; i < EACH; i++) let_go(route, fds[i]);
    expect(send(peer[0], "x", 1, MSG_NOSIGNAL) == 1); // for the thread: its connection lives
    if (!comes_back(&r, DEADLINE_MS) || r.got != 1) fail("way %d, route %d: the thread's connection was cut", way, route);
}

// The sender is another process, that was there before; what it has it does not say to anyone.
static void from_another(long n)
{
    enum way way = (enum way)(n % WAYS);
    int over[2], peer[2 * EACH], told[2];
    pair(over);
    must(pipe(told));
    for (int i = 0; i < EACH; i++)
        if (n & 1) tcp_pair(peer + 2 * i);
        else pair(peer + 2 * i);
    int ours[EACH] = {peer[1], peer[3]}, theirs[EACH] = {peer[0], peer[2]};
    pid_t pid = raw_fork(); // nobody is told
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int route = 0; route < ROUTES; route++) give(over[0], theirs);
        if (raw(SYS_read, told[0], (long)&byte, 1) != 1) raw_exit(2);
        for (int i = 0; i < EACH; i++)
            if (!flows(theirs[i], ours[i])) raw_exit(3);
        raw_exit(0);
    }
    for (int i = 0; i < EACH; i++) raw_close(theirs[i]);
    raw_close(over[0]); // the messages are there, or on their way
    for (int route = 0; route < ROUTES; route++) {
        use_and_let_go(way, route, over[1], ours);
        if (way != PEEKED) continue;
        int fds[EACH];
        take(RECVMSG, over[1], fds); // the message has it still
        expect(both_ways(fds[0], ours[0]));
        raw_close(fds[0]);
        raw_close(fds[1]);
    }
    must(write(told[1], "t", 1));
    reap(pid, "the sender, which has its own", DEADLINE_MS);
}

int main(void)
{
    need_library();
    for (long n = 0; n < 2 * WAYS; n++) {
        char what[60];
        snprintf(what, sizeof what, "received in way %ld over %s", n % WAYS, n & 1 ? "tcp" : "unix");
        in_child(what, 10000, from_another, n);
    }
    return 0;
}
