// timeout: 60
// env: PRECLOSE_LEVEL=warning PRECLOSE_REPORT=never
// Hazard 19: memory. Sockets that come and go by the hundred thousand, with duplicates, in epoll sets, passed on and given
// away, leave nothing behind in the process; nor do looks at its threads, nor forks, nor a fork in a fork in a fork.
// HOSTILE_FULL=1: ten million pairs.
#include "hostile.h"

enum { PAIRS = 100000, PAIRS_FULL = 10000000, FORKS = 1000, LOOKS = 1000, GENERATIONS = 300, ROOM_KB = 256 };

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
    switch (i % 9) {
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
    case 7:
        must(epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &e));
        must(epoll_ctl(set, EPOLL_CTL_DEL, sv[0], &e));
        break;
    default: // two closes of one number, and a use
        must(close(sv[0]));
        expect(close(sv[0]) < 0 && shutdown(sv[0], SHUT_RDWR) < 0);
        must(close(sv[1]));
        return;
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
    for (unsigned i = 0; i < (everything_asked() ? PAIRS_FULL : PAIRS); i++) one_round(i, set, over);
    end("many pairs of sockets");
}

// Different numbers each time, as in a server that holds many: what is kept for a number is kept once.
static void many_at_once(long arg)
{
    static int fd[8000];
    (void)arg;
    for (int round = 0; round < 8; round++) {
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
    end("1,000 forks");
}

// While a thread is blocked each close looks at the threads, with a stack and a table for that.
static void looks(long arg)
{
    int sv[2], others[2];
    struct receiver r;
    (void)arg;
    pair(sv);
    start_receiver(&r, sv[0]);
    for (int i = 0; i < LOOKS; i++) {
        if (i == 50) begin();
        pair(others);
        must(close(others[0]));
        must(close(others[1]));
    }
    end("closes beside a blocked thread");
    must(close(sv[0]));
    expect(comes_back(&r, DEADLINE_MS));
}

static _Atomic bool busy;

static void *be_busy(void *arg)
{
    while (atomic_load(&busy)) {
        int sv[2];
        pair(sv);
        must(close(sv[0]));
        must(close(sv[1]));
    }
    return arg;
}

// Each forks the next and ends; in some of them another thread is just changing the table, which is then not the child's.
static void generations(long arg)
{
    long *grown = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    (void)arg;
    must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    pid_t first = must(fork());
    for (int i = 0; !first && i < GENERATIONS; i++) {
        exercise();
        if (i == 30) begin();
        if (i > 30) grown[0] = memory("VmSize:") - mapped_before;
        grown[1] = i;
        if (i % 2) {
            atomic_store(&busy, true);
            start_thread(be_busy, NULL);
            for (int n = i; n; n--) sched_yield();
        }
        if (must(fork())) raw_exit(0);
    }
    if (!first) raw_exit(0);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {} // the whole line
    if (grown[1] != GENERATIONS - 1) fail("the line ended after %ld generations", grown[1]);
    if (grown[0] > ROOM_KB) fail("%ld KiB more are mapped in generation %d", grown[0], GENERATIONS);
}

int main(void)
{
    need_library();
    in_child("pairs", everything_asked() ? 1100000 : 50000, pairs, 0);
    in_child("many at once", 20000, many_at_once, 0);
    in_child("looks", 20000, looks, 0);
    in_child("forks", 20000, forks, 0);
    in_child("generations", 20000, generations, 0);
    return 0;
}
