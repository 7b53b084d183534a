// Hazard 3: only the last descriptor of a socket in this process is a last hold, however the others were made,
// how many there are, and whichever thread closes which.
#include "hostile.h"

#include <sys/pidfd.h>

enum { MANY = 2000, THREADS = 4, ROUNDS = 300 };

static int duplicate(int fd, unsigned how, int spare)
{
    switch (how % 10) {
    case 0:
        return dup(fd);
    case 1:
        return dup2(fd, spare);
    case 2:
        return dup3(fd, spare, O_CLOEXEC);
    case 3:
        return fcntl(fd, F_DUPFD, 3);
    case 4:
        return fcntl(fd, F_DUPFD_CLOEXEC, 100);
    case 5:
        return (int)syscall(SYS_dup, fd);
    case 6:
        return (int)syscall(SYS_dup3, fd, spare, 0);
    case 7:
        return (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
    case 8:
        return pidfd_getfd((int)syscall(SYS_pidfd_open, getpid(), 0), fd, 0);
    default:
        return (int)syscall(SYS_pidfd_getfd, (int)syscall(SYS_pidfd_open, getpid(), 0), fd, 0);
    }
}

static void each(long how)
{
    int sv[2];
    tcp_pair(sv);
    int d = must(duplicate(sv[0], (unsigned)how, 700));
    must(close(how & 1 ? d : sv[0]));
    expect(both_ways(how & 1 ? sv[0] : d, sv[1]));
    must(close(how & 1 ? sv[0] : d));
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
}

// What dup2 replaces is let go of; what it duplicates is not. dup2 onto itself does nothing.
static void onto(long arg)
{
    int a[2], b[2];
    (void)arg;
    pair(a);
    pair(b);
    must(dup2(a[0], a[0]));
    expect(both_ways(a[0], a[1]));
    must(dup2(a[0], b[0]));
    expect(peer_sees(b[1], DEADLINE_MS) == 'e');
    must(dup2(b[0], a[0])); // the same socket already
    expect(both_ways(a[0], a[1]) && both_ways(b[0], a[1]));
    expect(dup2(4000, b[0]) == -1 && errno == EBADF);
    expect(dup3(a[0], a[0], 0) == -1 && errno == EINVAL);
    expect(dup3(a[0], b[0], O_APPEND) == -1 && errno == EINVAL);
    expect(dup2(a[0], -1) == -1 && errno == EBADF);
    expect(both_ways(b[0], a[1]));
    must(close(a[0]));
    expect(both_ways(b[0], a[1]));
}

// Java's pre-close: one marker behind many descriptors.
static void marker(long arg)
{
    int m[2], s[50][2];
    (void)arg;
    pair(m);
    must(shutdown(m[1], SHUT_WR));
    for (int i = 0; i < 50; i++) {
        pair(s[i]);
        must(dup2(m[0], s[i][0]));
        expect(peer_sees(s[i][1], DEADLINE_MS) == 'e');
    }
    for (int i = 0; i < 50; i++) must(close(s[i][0]));
    expect(flows(m[0], m[1])); // the marker itself is as it was
}

static void many(long arg)
{
    int sv[2];
    static int d[MANY];
    (void)arg;
    pair(sv);
    for (int i = 0; i < MANY; i++) d[i] = must(duplicate(i ? d[i / 2] : sv[0], (unsigned)i % 5 ? 0 : 3, 0));
    uint64_t seed = 42;
    for (int i = MANY; i > 1; i--) {
        int j = (int)(next_random(&seed) % (unsigned)i), t = d[j];
        d[j] = d[i - 1];
        d[i - 1] = t;
    }
    must(close(sv[0]));
    for (int i = 0; i < MANY; i++) {
        if (i % 100 == 0) expect(both_ways(d[i], sv[1]));
        must(close(d[i]));
    }
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
}

static _Atomic int shared;

static void *duplicate_and_close(void *arg)
{
    unsigned how = (unsigned)(uintptr_t)arg;
    int slot = must(fcntl(shared, F_DUPFD, 1000)); // the thread's own number, to dup2 onto
    for (int i = 0; i < ROUNDS; i++) {
        int a = must(duplicate(shared, how % 8, slot)), b = must(duplicate(a, (how + 4) % 8 == 1 ? 0 : 3, slot));
        how++;
        if (a != slot) must(close(a));
        expect(send(b, "x", 1, MSG_NOSIGNAL) == 1);
        must(close(b));
    }
    must(close(slot));
    return NULL;
}

// Threads duplicate and close the same socket all the time: it lives until the last.
static void threads(long arg)
{
    int sv[2];
    pthread_t t[THREADS];
    (void)arg;
    pair(sv);
    shared = sv[0];
    for (uintptr_t i = 0; i < THREADS; i++) t[i] = start_thread(duplicate_and_close, (void *)i);
    char bytes[256];
    for (int left = THREADS * ROUNDS; left > 0;) {
        ssize_t n = recv(sv[1], bytes, sizeof bytes, 0);
        if (n <= 0) fail("a duplicate was taken for the last descriptor");
        left -= (int)n;
    }
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    expect(both_ways(sv[0], sv[1]));
    struct receiver r;
    start_receiver(&r, sv[0]);
    must(close(sv[0]));
    if (library_here() && !comes_back(&r, DEADLINE_MS)) fail("the last descriptor was not taken for it");
}

int main(void)
{
    need_library();
    for (long how = 0; how < 20; how++) in_child("one duplicate", 10000, each, how);
    in_child("dup2", 10000, onto, 0);
    in_child("a marker", 10000, marker, 0);
    in_child("many duplicates", 10000, many, 0);
    in_child("threads", 20000, threads, 0);
    return 0;
}
