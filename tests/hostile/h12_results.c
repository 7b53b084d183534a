// timeout: 60
// Hazard 12: results, errno and numbers are those of the program's own calls. Random sequences of calls, right and
// wrong ones, run with the library and without: every answer is the same, errno after a success included.
#include "hostile.h"

#include <linux/close_range.h>
#include <sys/eventfd.h>

enum { CALLS = 12000, TOP = 40, RUNS = 4 };

static uint64_t seed;

static unsigned below(unsigned n)
{
    return (unsigned)(next_random(&seed) >> 20) % n;
}

// A descriptor: mostly one that may be open, now and then none at all.
static int some_fd(void)
{
    static const int odd[] = {-1, -5, INT_MIN, INT_MAX, 5000, 1 << 20, (1 << 20) - 1, 19999, 20000};
    return below(25) ? 5 + (int)below(TOP - 5) : odd[below(sizeof odd / sizeof *odd)];
}

static struct iovec part;
static char byte, control[128] __attribute__((aligned(8)));

// The number of a pair of unix sockets in this run. They keep it wherever they go: as a timeout, which nothing here waits
// for. 0: not of a pair.
static unsigned pair_of(int fd)
{
    struct timeval t = {0};
    socklen_t n = sizeof t;
    raw6(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, (long)&t, (long)&n, 0);
    return (unsigned)t.tv_sec;
}

static void note_pair(const int sv[2])
{
    static unsigned pairs;
    struct timeval t = {.tv_sec = ++pairs};
    for (int i = 0; i < 2; i++) raw6(SYS_setsockopt, sv[i], SOL_SOCKET, SO_RCVTIMEO, (long)&t, sizeof t, 0);
}

// One that may be sent over that socket: of unix sockets, only younger ones. Two that carry each other are cleared away
// by the kernel at a time of its own (net/unix/garbage.c), and what a later call finds then differs from run to run,
// without the library too.
static int some_sendable(int over)
{
    int fd = some_fd();
    unsigned number = pair_of(fd);
    return number && number <= pair_of(over) ? 3 : fd;
}

static struct msghdr *some_message(int over)
{
    static struct msghdr m;
    part = (struct iovec){&byte, 1};
    m = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
    if (below(2)) return &m;
    int fds[2] = {some_sendable(over), some_sendable(over)};
    unsigned n = 1 + below(2);
    memset(control, 0, sizeof control);
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(n * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(int))};
    memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    return &m;
}

static long socket_call(const char **name)
{
    static const int domains[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, 999, AF_UNIX};
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_RAW, 77, SOCK_STREAM | SOCK_CLOEXEC};
    // Few packet sockets: the close of one waits for every CPU.
    int domain = below(40) ? domains[below(6)] : AF_PACKET, type = types[below(6)], sv[2] = {-7, -7};
    if (below(3)) {
        *name = "socketpair";
        long ret = below(3) ? socketpair(below(8) ? AF_UNIX : domain, type, 0, sv)
                            : syscall(SYS_socketpair, AF_UNIX, type, 0, sv);
        if (ret) return ret;
        note_pair(sv);
        return sv[0] * 1000 + sv[1];
    }
    *name = "socket";
    return below(2) ? socket(domain, type, 0) : syscall(SYS_socket, domain, type, 0);
}

static long duplicate_call(const char **name)
{
    int from = some_fd(), to = some_fd();
    switch (below(8)) {
    case 0:
        *name = "dup";
        return dup(from);
    case 1:
        *name = "dup2";
        return dup2(from, to);
    case 2:
        *name = "dup3";
        return dup3(from, to, below(4) ? O_CLOEXEC : (int)below(9000));
    case 3:
        *name = "F_DUPFD";
        return fcntl(from, F_DUPFD, (int)below(20) - 1);
    case 4:
        *name = "F_DUPFD_CLOEXEC";
        return syscall(SYS_fcntl, from, F_DUPFD_CLOEXEC, below(8) ? (int)below(20) : INT_MAX);
    case 5:
        *name = "syscall dup3";
        return syscall(SYS_dup3, from, to, 0);
    case 6:
        *name = "F_GETFD";
        return fcntl(from, F_GETFD);
    default:
        *name = "F_SETFD";
        return fcntl(from, F_SETFD, (int)below(3));
    }
}

static long close_call(const char **name)
{
    int fd = some_fd();
    FILE *f;
    switch (below(8)) {
    case 0:
        *name = "close_range";
        return close_range((unsigned)fd, (unsigned)fd + below(2), (int)below(8));
    case 1:
        *name = "close_range backwards";
        return close_range((unsigned)fd + 3, (unsigned)fd, 0);
    case 2:
        *name = "syscall close_range";
        return fd < 0 ? 0 : syscall(SYS_close_range, fd, fd, below(2) ? CLOSE_RANGE_CLOEXEC : 0);
    case 3:
        *name = "fclose";
        f = fdopen(fd, below(2) ? "r+" : "w");
        if (!f) return -1;
        if (below(2)) fputs("text in a buffer", f);
        errno = 0;
        return fclose(f);
    case 4:
        *name = "syscall close";
        return syscall(SYS_close, fd);
    default:
        *name = "close";
        return close(fd);
    }
}

static long message_call(const char **name)
{
    int fd = some_fd();
    struct mmsghdr m = {0};
    ssize_t n;
    switch (below(6)) {
    case 0:
        *name = "sendmsg";
        return sendmsg(fd, some_message(fd), MSG_DONTWAIT | MSG_NOSIGNAL);
    case 1:
        *name = "sendmmsg";
        m.msg_hdr = *some_message(fd);
        return sendmmsg(fd, &m, below(2), MSG_DONTWAIT | MSG_NOSIGNAL);
    case 2:
        *name = "recvmsg";
        m.msg_hdr = *some_message(fd);
        return recvmsg(fd, &m.msg_hdr, MSG_DONTWAIT | (below(2) ? MSG_CMSG_CLOEXEC : 0));
    case 3:
        *name = "recvmmsg";
        m.msg_hdr = *some_message(fd);
        return recvmmsg(fd, &m, 1, MSG_DONTWAIT, NULL);
    case 4:
        *name = "send";
        return send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    default:
        *name = "read all";
        while ((n = recv(fd, &byte, 1, MSG_DONTWAIT)) > 0) {}
        return n;
    }
}

static long other_call(const char **name)
{
    int fd = some_fd(), value = (int)below(2);
    struct epoll_event e = {.events = EPOLLIN};
    struct sockaddr_in any = {.sin_family = AF_INET};
    switch (below(12)) {
    case 0:
        *name = "epoll_create1";
        return epoll_create1((int)below(2) * (below(9) ? EPOLL_CLOEXEC : 5));
    case 1:
    case 2:
        *name = "epoll_ctl";
        return epoll_ctl(fd, 1 + (int)below(4), some_fd(), below(20) ? &e : NULL);
    case 3:
        *name = "shutdown";
        return shutdown(fd, (int)below(4));
    case 4:
        *name = "setsockopt";
        return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, below(9) ? &value : NULL, below(9) ? sizeof value : 1);
    case 5:
        *name = "accept";
        return fd < 0 ? accept(fd, NULL, NULL) : below(2) ? accept4(fd, NULL, NULL, (int)below(3)) : syscall(SYS_accept4, fd, 0, 0, 0);
    case 6:
        *name = "listen";
        return bind(fd, (struct sockaddr *)&any, sizeof any) ? -1 : listen(fd, 5);
    case 7:
        *name = "FIOCLEX";
        return ioctl(fd, below(2) ? FIOCLEX : FIONCLEX);
    case 8:
        *name = "FIONBIO";
        return ioctl(fd, FIONBIO, &value);
    case 9:
        *name = "F_SETFL";
        return fcntl(fd, F_SETFL, O_NONBLOCK | (below(6) ? 0 : O_ASYNC));
    case 10:
        *name = "eventfd";
        return eventfd(0, 0);
    default:
        *name = "F_GETFL";
        return fcntl(fd, F_GETFL);
    }
}

static int sequence(const char *number)
{
    seed = strtoull(number, NULL, 0) * 7919 + 17;
    // A place of their own for what the two runs do not have in common.
    for (int fd = 3; fd < TOP; fd++) raw_close(fd);
    must(open("/dev/null", O_RDWR));
    must(open("/dev/null", O_RDWR));
    signal(SIGIO, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < CALLS; i++) {
        const char *name = "";
        unsigned what = below(20);
        // Few stay open, closed past the library: what it knows of them is stale. And nothing is to wait.
        for (int fd = TOP; i % 50 == 0 && fd < 600; fd++) raw_close(fd);
        for (int fd = 5; i % 50 == 0 && fd < TOP; fd++) raw(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
        for (int fd = 5; what == 19 && fd < TOP; fd++) raw(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
        errno = 4321;
        long ret = what < 6 ? socket_call(&name) : what < 10 ? duplicate_call(&name) : what < 14 ? close_call(&name)
                   : what < 17 ? message_call(&name) : other_call(&name);
        printf("%d %s %ld %d\n", i, name, ret, errno);
    }
    fflush(stdout);
    raw_exit(0);
}

static void on_alarm(int sig)
{
    (void)sig;
}

// A call that a signal interrupts says so.
static void interrupted(long how)
{
    struct sigaction sa = {.sa_handler = on_alarm};
    struct sockaddr_in at;
    int sv[2], l = listener_on(&at);
    must(sigaction(SIGALRM, &sa, NULL));
    struct itimerval soon = {.it_value = {.tv_usec = 2000}, .it_interval = {.tv_usec = 2000}};
    pair(sv);
    must(setitimer(ITIMER_REAL, &soon, NULL));
    struct msghdr m = *some_message(-1);
    struct mmsghdr mm = {.msg_hdr = m};
    long ret = how == 0   ? accept(l, NULL, NULL)
               : how == 1 ? accept4(l, NULL, NULL, SOCK_CLOEXEC)
               : how == 2 ? recvmsg(sv[0], &m, 0)
               : how == 3 ? recvmmsg(sv[0], &mm, 1, 0, NULL)
               : how == 4 ? syscall(SYS_accept, l, 0, 0)
                          : syscall(SYS_recvmsg, sv[0], &m, 0);
    expect(ret == -1 && errno == EINTR);
}

int main(int argc, char **argv)
{
    if (argc > 2) return sequence(argv[2]);
    need_library();
    for (long how = 0; how < 6; how++) in_child("interrupted", 5000, interrupted, how);
    for (int run = 0; run < RUNS; run++) {
        char number[12];
        int a, b;
        snprintf(number, sizeof number, "%d", run);
        char *without = output_of_self("sequence", number, false, &a), *with = output_of_self("sequence", number, true, &b);
        expect_same(number, without, with);
        expect(a == 0 && b == 0 && count_of(with, "\n") == CALLS);
        free(without);
        free(with);
    }
    return 0;
}
