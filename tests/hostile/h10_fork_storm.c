// timeout: 40
// Hazard 10: forks of every kind while other threads open, duplicate and close without pause. Each child closes what it
// has inherited, opens, duplicates, forks and exits; the parent's connections live.
#include "hostile.h"

enum { WORKERS = 3, INHERITED = 12, SECONDS = 5 };

static _Atomic bool over;
static int near[INHERITED], far[INHERITED];

static void *work(void *arg)
{
    while (!atomic_load(&over)) exercise();
    return arg;
}

static pid_t fork_somehow(unsigned turn)
{
    switch (turn % 5) {
    case 0:
    case 1:
        return fork();
    case 2:
        return _Fork();
    case 3:
        return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    default:
        return raw_fork();
    }
}

static void child(unsigned turn)
{
    if (turn % 7 == 0) closefrom(20);
    for (int i = 0; i < INHERITED; i++) {
        int fd = turn & 1 ? near[i] : far[i];
        if (is_open(fd)) must(turn % 3 ? close(fd) : (int)syscall(SYS_close, fd));
    }
    exercise();
    if (turn % 4 == 0) {
        pid_t pid = must(fork_somehow(turn / 4));
        if (!pid) {
            exercise();
            raw_exit(0);
        }
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        if (status) fail("a grandchild ended with status %#x", (unsigned)status);
    }
    if (turn % 5 < 2 && turn % 2) exit(0);
    if (turn % 3) _exit(0);
    raw_exit(0);
}

int main(void)
{
    need_library();
    pthread_t t[WORKERS];
    for (int i = 0; i < INHERITED; i++) {
        int sv[2];
        pair(sv);
        near[i] = sv[0];
        far[i] = sv[1];
    }
    for (int i = 0; i < WORKERS; i++) t[i] = start_thread(work, NULL);
    unsigned forks = 0;
    for (int64_t end = now_ms() + SECONDS * 1000; now_ms() < end; forks++) {
        pid_t pid = must(fork_somehow(forks));
        if (!pid) child(forks);
        reap(pid, "a child", DEADLINE_MS);
        if (forks % 16 == 0)
            for (int i = 0; i < INHERITED; i++) expect(both_ways(near[i], far[i]));
    }
    atomic_store(&over, true);
    for (int i = 0; i < WORKERS; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < INHERITED; i++) expect(both_ways(near[i], far[i]));
    still_works("the forks");
    printf("note: %u forks\n", forks);
    return 0;
}
