// timeout: 40
// Hazard 20: the thread that a close wakes closes the number too, at once, and opens something else. Its close comes second,
// as it would without preclose: EBADF. What it opens is not what the first thread's call then closes or replaces.
#include "hostile.h"

enum { ROUNDS = 150, ROUTES = 6 };
static const char *const routes[ROUTES] = {"close", "syscall", "dup2", "dup3", "close_range", "fclose"};

static _Atomic int number = -1;
static _Atomic pid_t tid;
static _Atomic unsigned answered;
static int second_close, second_error, opened[2];
static bool by_number;

// Receives, closes, opens; once for each round.
static void *be_woken(void *arg)
{
    atomic_store(&tid, tid_now());
    for (unsigned round = 1; round <= ROUNDS; round++) {
        char byte;
        int fd;
        while ((fd = atomic_load(&number)) < 0) sched_yield();
        atomic_store(&number, -1);
        recv(fd, &byte, 1, 0);
        second_close = by_number ? (int)syscall(SYS_close, fd) : close(fd);
        second_error = errno;
        pair(opened);
        atomic_store(&answered, round);
    }
    return arg;
}

static int let_go(long route, int fd, FILE *stream)
{
    switch (route) {
    case 0:
        return close(fd);
    case 1:
        return (int)syscall(SYS_close, fd);
    case 2:
        return dup2(STDIN_FILENO, fd) == fd ? 0 : -1;
    case 3:
        return dup3(STDIN_FILENO, fd, O_CLOEXEC) == fd ? 0 : -1;
    case 4:
        return close_range((unsigned)fd, (unsigned)fd, 0);
    default:
        return fclose(stream);
    }
}

static void rounds(long n)
{
    long route = n / 2;
    by_number = n & 1;
    pthread_t t = start_thread(be_woken, NULL);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        int sv[2];
        pair(sv);
        FILE *stream = route == 5 ? fdopen(sv[0], "r+") : NULL;
        atomic_store(&number, sv[0]);
        // Blocked in recv, or about to be: both happen to programs.
        for (int64_t end = now_ms() + DEADLINE_MS; atomic_load(&number) >= 0 && now_ms() < end;) sched_yield();
        if (round % 3) wait_blocked(atomic_load(&tid), SYS_recvfrom);
        if (let_go(route, sv[0], stream)) fail("%s: %s", routes[route], strerror(errno));
        for (int64_t end = now_ms() + DEADLINE_MS; atomic_load(&answered) < round; sched_yield())
            if (now_ms() > end) fail("%s: the thread in recv was not woken", routes[route]);
        bool replaced = route == 2 || route == 3;
        // What dup2 has put there the second close may hit, if it comes late; it may be early only where it fails.
        if (!replaced && (second_close != -1 || second_error != EBADF))
            fail("%s: the woken thread's own close answers %d", routes[route], second_close);
        if (!both_ways(opened[0], opened[1])) fail("%s: what the woken thread opened was closed under it", routes[route]);
        raw_close(opened[0]);
        raw_close(opened[1]);
        raw_close(sv[1]);
        if (replaced) raw_close(sv[0]);
    }
    pthread_join(t, NULL);
}

int main(void)
{
    need_library();
    if (!library_here()) skip("nobody wakes the thread");
    for (long n = 0; n < 2 * ROUTES; n++) in_child(routes[n / 2], 20000, rounds, n);
    return 0;
}
