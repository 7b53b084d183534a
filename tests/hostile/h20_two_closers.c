// Hazard 20: two threads close one number at once, and whoever opens next gets it. What the program does to itself by
// that is its own; but the library never reaches the new owner's socket: a duplicate of it, made at once, lives.
// And whatever the order, the two closes end as the kernel ends them.
#include "hostile.h"

enum { ROUNDS = 2000, IDLE = 24, SETS = 8, MS = 400 };

static _Atomic int target = -1;
static _Atomic unsigned round_now, finished, closed;
static _Atomic bool over;

static int let_go(int fd, unsigned route)
{
    switch (route % 3) {
    case 0:
        return close(fd);
    case 1:
        return (int)syscall(SYS_close, fd);
    default:
        return close_range((unsigned)fd, (unsigned)fd, 0) < 0 ? -1 : 0;
    }
}

static void *closer(void *arg)
{
    unsigned seen = 0, route = (unsigned)(uintptr_t)arg;
    while (!atomic_load(&over)) {
        unsigned r = atomic_load(&round_now);
        if (r == seen) continue;
        seen = r;
        if (let_go(atomic_load(&target), route) == 0) atomic_fetch_add(&closed, 1);
        else expect(errno == EBADF);
        atomic_fetch_add(&finished, 1);
    }
    return NULL;
}

static void *idle(void *arg)
{
    char byte;
    expect(recv((int)(intptr_t)arg, &byte, 1, 0) == 0);
    return NULL;
}

static void rounds(long routes)
{
    int quiet[2], victim[2], fresh[2], set[SETS];
    struct epoll_event event = {.events = EPOLLIN};
    pthread_t t[2], crowd[IDLE];
    pair(quiet);
    // A crowd of blocked threads, and epoll sets to be taken out of, make a close take its time.
    for (int i = 0; i < SETS; i++) set[i] = must(epoll_create1(EPOLL_CLOEXEC));
    for (int i = 0; i < IDLE; i++) crowd[i] = start_thread(idle, (void *)(intptr_t)quiet[0]);
    for (int i = 0; i < 2; i++) t[i] = start_thread(closer, (void *)(uintptr_t)(i ? routes / 3 : routes % 3));
    unsigned cut = 0, met = 0;
    int64_t end = now_ms() + MS;
    for (unsigned r = 1; r <= ROUNDS && now_ms() < end; r++) {
        pair(victim);
        for (int i = 0; i < SETS; i++) must(epoll_ctl(set[i], EPOLL_CTL_ADD, victim[0], &event));
        atomic_store(&finished, 0);
        atomic_store(&target, victim[0]);
        atomic_store(&round_now, r);
        do { // the next owner opens again and again until both closers are through
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, fresh) < 0) continue;
            int i = fresh[1] == victim[0];
            int d = fresh[i] == victim[0] ? fcntl(fresh[i], F_DUPFD, 600) : -1;
            if (d >= 0) {
                met++;
                while (atomic_load(&finished) < 2) sched_yield();
                if (is_open(fresh[!i]) && peer_sees(d, 0) == 'e') cut++; // shut down, since its peer is open
                raw_close(d);
            }
            raw_close(fresh[0]);
            raw_close(fresh[1]);
        } while (atomic_load(&finished) < 2);
        must(close(victim[1]));
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    must(shutdown(quiet[0], SHUT_RDWR));
    for (int i = 0; i < IDLE; i++) pthread_join(crowd[i], NULL);
    if (getenv("HOSTILE_COUNT")) printf("met %u cut %u\n", met, cut), fflush(stdout);
    if (cut) fail("%u of %u sockets that got the number were cut though another number held them", cut, met);
}

int main(void)
{
    need_library();
    for (long i = 0; i < 10; i++) in_child("two closers", 12000, rounds, i % 2 ? i % 9 : 0);
    still_works("two closers");
    return 0;
}
