// timeout: 60
// env: PRECLOSE_LEVEL=warning PRECLOSE_REPORT=never
// Hazard 19: memory. Sockets that come and go by the hundred thousand, with duplicates, in epoll sets, passed on and given
// away, leave nothing behind in the process; nor do forks.
#include "hostile.h"

enum { PAIRS = 200000, FORKS = 1500, ROOM_KB = 256 };

// Of this process, from /proc/self/status; in KiB.
static long memory(const char *what)
{
    char *text = text_of("/proc/self/status"), *at = strstr(text, what);
    long n = at ? strtol(at + strlen(what), NULL, 10) : -1;
    free(text);
    if (n < 0) skip("no %s in /proc/self/status", what);
    return n;
}

static long mapped_before;

static void begin(void)
{
    memory("VmSize:"); // whatever reading it needs is there from now on
    mapped_before = memory("VmSize:");
}

static void end(const char *after)
{
    long grown = memory("VmSize:") - mapped_before;
    if (grown > ROOM_KB) fail("%ld KiB more are mapped after %s", grown, after);
}

static void one_round(unsigned i, int set, const int over[2])
{
    int sv[2], d;
    struct epoll_event e = {.events = EPOLLIN};
    pair(sv);
    switch (i % 8) {
    case 0:
        d = must(dup(sv[0]));
        must(close(sv[0]));
        sv[0] = d;
        break;
    case 1:
        must(epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &e));
        break;
    case 2: // a set that goes first
        d = must(epoll_create1(0));
        must(epoll_ctl(d, EPOLL_CTL_ADD, sv[0], &e));
        must(close(d));
        break;
    case 3:
        must(dup2(sv[0], sv[1]));
        break;
    case 4: // closed where nobody sees it
        raw_close(sv[0]);
        raw_close(sv[1]);
        return;
    case 5: {
        char byte = 'p', control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
        struct iovec part = {&byte, 1};
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(c), sv, sizeof(int));
        must(sendmsg(over[0], &m, 0));
        must(recvmsg(over[1], &m, 0));
        memcpy(&d, CMSG_DATA(c), sizeof d);
        must(close(d));
        break;
    }
    case 6:
        must(fcntl(sv[0], F_SETFD, FD_CLOEXEC));
        must(shutdown(sv[0], SHUT_RDWR));
        break;
    default:
        break;
    }
    must(close(sv[0]));
    must(close(sv[1]));
}

static void pairs(long arg)
{
    int set = must(epoll_create1(0)), over[2];
    (void)arg;
    pair(over);
    for (unsigned i = 0; i < 2000; i++) one_round(i, set, over);
    begin();
    for (unsigned i = 0; i < PAIRS; i++) one_round(i, set, over);
    end("200,000 pairs of sockets");
}

// Different numbers each time, as in a server that holds many: what is kept for a number is kept once.
static void many_at_once(long arg)
{
    static int fd[8000];
    (void)arg;
    for (int round = 0; round < 12; round++) {
        if (round == 2) begin();
        for (int i = 0; i < 8000; i++) fd[i] = must(socket(AF_UNIX, SOCK_DGRAM, 0));
        for (int i = 0; i < 8000; i++) must(close(fd[round & 1 ? 7999 - i : i]));
    }
    end("8,000 sockets at once, again and again");
}

static void forks(long arg)
{
    int sv[2];
    (void)arg;
    pair(sv);
    for (int i = 0; i < FORKS; i++) {
        if (i == 100) begin();
        pid_t pid = must(i & 1 ? fork() : raw_fork());
        if (!pid) {
            close(sv[0]);
            raw_exit(0);
        }
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    }
    end("1,500 forks");
}

int main(void)
{
    need_library();
    in_child("pairs", 50000, pairs, 0);
    in_child("many at once", 20000, many_at_once, 0);
    in_child("forks", 20000, forks, 0);
    return 0;
}
