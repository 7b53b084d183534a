// Hazard 19: numbers at the edges and beyond, and no memory to be had: the right answer or, at worst, no action. A
// duplicate that could not be recorded is a hold like any other.
#include "hostile.h"

static void answer(const char *what, long ret, int error)
{
    if (ret != -1 || errno != error) fail("%s: %ld, %s", what, ret, strerror(errno));
}

static void no_descriptors(long arg)
{
    static const int numbers[] = {-1, INT_MIN, INT_MAX, -100, 1 << 20, (1 << 20) - 1, (1 << 20) + 1, 1 << 30};
    int sv[2];
    (void)arg;
    pair(sv);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int n = numbers[i];
        answer("close", close(n), EBADF);
        answer("close by number", syscall(SYS_close, n), EBADF);
        answer("dup", dup(n), EBADF);
        answer("dup2 from", dup2(n, sv[0]), EBADF);
        answer("dup2 to", dup2(sv[0], n), EBADF);
        answer("dup3 to", dup3(sv[0], n, 0), EBADF);
        answer("shutdown", shutdown(n, SHUT_RDWR), EBADF);
        answer("accept", accept(n, NULL, NULL), EBADF);
        answer("fcntl", fcntl(n, F_SETFD, 0), EBADF);
        answer("sendmsg", sendmsg(n, &(struct msghdr){0}, 0), EBADF);
        answer("epoll_ctl", epoll_ctl(n, EPOLL_CTL_ADD, sv[0], &(struct epoll_event){0}), EBADF);
        answer("F_DUPFD", fcntl(sv[0], F_DUPFD, n), EINVAL);
    }
    answer("close_range backwards", close_range((unsigned)sv[0] + 1, (unsigned)sv[0], 0), EINVAL);
    answer("close_range with unknown flags", close_range(0, ~0u, 1 << 10), EINVAL);
    must(close_range(~0u, ~0u, 0));
    must(close_range(1u << 20, ~0u, 0));
    must(close_range(1u << 31, ~0u, 0));
    closefrom(INT_MAX);
    closefrom(1 << 20);
    expect(both_ways(sv[0], sv[1]));
}

// As high as the process may: where it may not, as high as it can.
static void high(long arg)
{
    struct rlimit limit;
    int sv[2];
    (void)arg;
    must(getrlimit(RLIMIT_NOFILE, &limit));
    rlim_t old = limit.rlim_max;
    for (rlim_t most = 1 << 22; most >= 1024; most /= 2) {
        limit = (struct rlimit){most, most > old ? most : old};
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0) break;
    }
    must(getrlimit(RLIMIT_NOFILE, &limit));
    int last = (int)limit.rlim_cur - 1;
    int numbers[] = {last, last - 1, last / 2, last > 1 << 20 ? (1 << 20) : last, last > 1 << 20 ? (1 << 20) - 1 : last - 2};
    for (unsigned i = 0; i < 5; i++) {
        tcp_pair(sv);
        int d = must(dup2(sv[0], numbers[i]));
        must(close(sv[0]));
        if (!both_ways(d, sv[1])) fail("a duplicate with number %d was cut", d);
        int e = must(dup(d));
        must(close(d));
        if (!both_ways(e, sv[1])) fail("the duplicate of number %d was cut", d);
        must(close(e));
        expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
        must(close(sv[1]));
    }
    answer("dup2 beyond the limit", dup2(STDIN_FILENO, last + 1), EBADF);
    pair(sv);
    must(dup2(sv[0], last));
    closefrom(last);
    expect(!is_open(last) && both_ways(sv[0], sv[1]));
}

// The limit is lowered below what is open; numbers above it can be closed, and dup2 onto them fails and cuts nothing.
static void lowered(long arg)
{
    struct rlimit limit;
    int sv[2];
    (void)arg;
    must(getrlimit(RLIMIT_NOFILE, &limit));
    pair(sv);
    int d = must(fcntl(sv[0], F_DUPFD, 500));
    must(close(sv[0]));
    limit.rlim_cur = 200;
    must(setrlimit(RLIMIT_NOFILE, &limit));
    answer("dup2 above the limit", dup2(STDIN_FILENO, d), EBADF);
    answer("dup3 above the limit", syscall(SYS_dup3, STDIN_FILENO, d, 0), EBADF);
    expect(both_ways(d, sv[1]));
    must(close(d));
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
}

enum { CROWD = 800, RECORDS = 6 };

// No memory is to be had from some moment on: duplicates are made, counted or not, and live.
// Each time with so many records more in use before, so that it is another record that fails first.
static void no_memory(long n)
{
    static int s[CROWD], d[CROWD], e[CROWD];
    long pages = n / RECORDS;
    struct rlimit limit, files;
    unsigned long used = 0;
    must(getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = files.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &files));
    if (files.rlim_cur < 4 * CROWD) skip("not enough descriptors here");
    FILE *f = fopen("/proc/self/statm", "r");
    expect(f && fscanf(f, "%lu", &used) == 1);
    fclose(f);
    must(getrlimit(RLIMIT_AS, &limit));
    limit.rlim_cur = (used + (unsigned long)pages) * 4096;
    must(setrlimit(RLIMIT_AS, &limit));
    int set = must(epoll_create1(0));
    for (long i = 0; i < n % RECORDS; i++) must(dup(set));
    for (int i = 0; i < CROWD; i++) {
        int sv[2];
        pair(sv);
        s[i] = sv[0];
        e[i] = sv[1];
        d[i] = must(dup(sv[0]));
        if (i % 3 == 0) must(epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &(struct epoll_event){.events = EPOLLPRI}));
    }
    for (int i = 0; i < CROWD; i++) must(close(i & 1 ? s[i] : d[i]));
    for (int i = 0; i < CROWD; i++)
        if (!flows(i & 1 ? d[i] : s[i], e[i])) fail("without memory duplicate %d was cut", i);
    for (int i = 0; i < CROWD; i++) {
        must(close(i & 1 ? d[i] : s[i]));
        if (peer_sees(e[i], DEADLINE_MS) != 'e') fail("without memory socket %d was not closed", i);
        must(close(e[i]));
    }
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_AS, &limit));
    still_works("a time without memory");
}

int main(void)
{
    need_library();
    in_child("no descriptors", 5000, no_descriptors, 0);
    in_child("high numbers", 5000, high, 0);
    in_child("a lowered limit", 5000, lowered, 0);
    for (long pages = 0; pages <= 96; pages = pages ? pages * 4 : 6)
        for (long records = 0; records < RECORDS; records++)
            in_child("no memory", 10000, no_memory, pages * RECORDS + records);
    return 0;
}
