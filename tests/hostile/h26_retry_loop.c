// timeout: 20
// Hazard 26: a thread that calls accept on a closed descriptor again and again is told once and then held a little for each
// failure. The result stays EBADF, nobody else is held, a signal ends the hold, and a number that is in use again is
// no such loop.
#include "hostile.h"

enum { MANY = 5000 };

static int closed_listener(void)
{
    struct sockaddr_in at;
    int l = listener_on(&at);
    must(close(l));
    return l;
}

static long fail_once(int fd, unsigned how)
{
    errno = 0;
    long ret = how % 3 == 0 ? accept(fd, NULL, NULL) : how % 3 == 1 ? accept4(fd, NULL, NULL, 0) : syscall(SYS_accept4, fd, 0, 0, 0);
    expect(ret == -1 && errno == EBADF);
    return ret;
}

// It eats no core: a loop without end is slowed to about a hundred turns a second.
static void slowed(long how)
{
    int fd = closed_listener();
    for (int i = 0; i < 1005; i++) fail_once(fd, (unsigned)how);
    int64_t start = now_ms();
    for (int i = 0; i < 30; i++) fail_once(fd, (unsigned)how);
    if (library_here() && now_ms() - start < 150) fail("30 more failures took %d ms: nothing holds the loop", (int)(now_ms() - start));
    // The number is the program's again: at once as fast as ever.
    struct sockaddr_in at;
    int l = listener_on(&at);
    expect(l == fd);
    must(fcntl(l, F_SETFL, O_NONBLOCK));
    start = now_ms();
    for (int i = 0; i < 300; i++) expect(accept(l, NULL, NULL) == -1 && errno == EAGAIN);
    if (now_ms() - start > 1000) fail("an accept that works is held too");
}

static void on_signal(int sig)
{
    (void)sig;
}

static _Atomic bool over;
static _Atomic unsigned turns;

static void *loop(void *arg)
{
    int fd = *(int *)arg;
    while (!atomic_load(&over)) {
        accept(fd, NULL, NULL);
        atomic_fetch_add(&turns, 1);
    }
    return NULL;
}

static void others_go_on(long arg)
{
    int fd = closed_listener();
    (void)arg;
    pthread_t t = start_thread(loop, &fd);
    while (atomic_load(&turns) < 1010) sched_yield();
    int64_t start = now_ms();
    for (int i = 0; i < 200; i++) exercise();
    if (now_ms() - start > DEADLINE_MS) fail("200 rounds of another thread took %d ms", (int)(now_ms() - start));
    still_works("a loop that retries");
    struct sigaction sa = {.sa_handler = on_signal};
    must(sigaction(SIGUSR1, &sa, NULL));
    pthread_kill(t, SIGUSR1);
    atomic_store(&over, true);
    pthread_join(t, NULL);
}

// A few failures now and then, and failures of another kind, are no loop.
static void no_loop(long arg)
{
    int s = must(socket(AF_INET, SOCK_STREAM, 0)), fd = closed_listener();
    (void)arg;
    int64_t start = now_ms();
    for (int i = 0; i < 900; i++) fail_once(fd, (unsigned)i);
    for (int i = 0; i < MANY; i++) expect(accept(s, NULL, NULL) == -1 && errno == EINVAL);
    for (int i = 0; i < MANY; i++) expect(accept(-1, NULL, NULL) == -1 && errno == EBADF);
    for (int i = 0; i < MANY; i++) expect(accept(3999, NULL, NULL) == -1 && errno == EBADF);
    for (int i = 0; i < MANY; i++) expect(close(fd) == -1 && errno == EBADF);
    if (now_ms() - start > 4000) fail("what is no loop was held: %d ms", (int)(now_ms() - start));
}

int main(void)
{
    need_library();
    for (long how = 0; how < 3; how++) in_child("slowed", 15000, slowed, how);
    in_child("others go on", 15000, others_go_on, 0);
    in_child("no loop", 15000, no_loop, 0);
    const char *path = getenv("PRECLOSE_LOG");
    char *text = path ? text_of(path) : NULL;
    if (text && library_here()) {
        unsigned n = count_of(text, "\"event\":\"retry-loop\"");
        if (n != 4) fail("told %u times, for 4 loops", n);
    }
    return 0;
}
