// timeout: 40
// Hazard 20: a thread closes numbers a second time, which have become another's: sockets, and whatever preclose has
// open for a moment. A third thread's socket loses its descriptor, as it would without preclose, but never its
// connection, which it holds under another number too; and nobody waits for ever.
#include "hostile.h"

enum { SECONDS = 3, HIGH = 1500 };

static _Atomic int victim = -1;
static _Atomic bool over;
static _Atomic unsigned opened, closed;

// A number from one thread, closed by both.
static void *open_and_close(void *arg)
{
    while (!atomic_load(&over)) {
        int sv[2];
        pair(sv);
        atomic_store(&victim, sv[0]);
        for (int spin = 0; spin < 200; spin++) __asm__ volatile("" ::: "memory");
        close(sv[0]);
        close(sv[1]);
        atomic_fetch_add(&closed, 1);
    }
    return arg;
}

static void *close_too(void *arg)
{
    while (!atomic_load(&over)) {
        int fd = atomic_exchange(&victim, -1);
        if (fd >= 0) close(fd);
        else sched_yield();
    }
    return arg;
}

// Only this thread opens UDP sockets. One that is held under a high number and has nevertheless been shut down was
// shut down by preclose: no close does that.
static void *open_others(void *arg)
{
    while (!atomic_load(&over)) {
        struct sockaddr_storage name;
        socklen_t n = sizeof name;
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_port = htons(9)};
        char byte;
        int low = socket(AF_INET, SOCK_DGRAM, 0);
        connect(low, (struct sockaddr *)&at, sizeof at);
        int high = fcntl(low, F_DUPFD, HIGH);
        if (high < 0) continue;
        for (int spin = 0; spin < 300; spin++) __asm__ volatile("" ::: "memory");
        if (getsockname(high, (struct sockaddr *)&name, &n) == 0 && name.ss_family == AF_INET &&
            recv(high, &byte, 1, MSG_DONTWAIT) == 0)
            fail("a third thread's socket was shut down, after %u sockets and %u closes", opened, closed);
        close(high);
        close(low);
        atomic_fetch_add(&opened, 1);
    }
    return arg;
}

static void loop(long arg)
{
    pthread_t t[4];
    void *(*const what[])(void *) = {open_and_close, close_too, open_others, open_others};
    (void)arg;
    for (int i = 0; i < 4; i++) t[i] = start_thread(what[i], NULL);
    nanosleep(&(struct timespec){.tv_sec = SECONDS}, NULL);
    atomic_store(&over, true);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    still_works("the closes");
}

int main(void)
{
    need_library();
    in_child("in a loop", 15000, loop, 0);
    return 0;
}
