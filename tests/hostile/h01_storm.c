// Hazard 1, at random: a tree of processes, forked in every way and reparented when their parents leave first, threads
// that fork and duplicate meanwhile, and each closes what it holds in an order of its own. Whoever still holds a
// connection can send on it, whatever the others have closed.
#include "hostile.h"

enum { CONNECTIONS = 10, PROCESSES = 60, HELD = 40, STEPS = 60 };

struct board {
    _Atomic unsigned forks, alive;
    _Atomic bool bad;
    char why[200];
};
static struct board *board;

// The other ends are never closed: a connection that is held can be sent on.
struct hold {
    int fd;
    bool own; // opened by this process
};

static struct me {
    struct hold held[HELD];
    unsigned n, depth;
    uint64_t seed;
    const char *how;
} me;

static void complain(const char *what)
{
    if (!atomic_exchange(&board->bad, true))
        snprintf(board->why, sizeof board->why, "%s (a process %u forks deep, by %s)", what, me.depth, me.how);
}

static unsigned pick(unsigned n)
{
    return (unsigned)(next_random(&me.seed) >> 20) % n;
}

static void check(void)
{
    for (unsigned i = 0; i < me.n; i++) {
        struct hold *h = &me.held[i];
        if (send(h->fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 || errno == EAGAIN) continue;
        complain(h->own ? "a connection of its own was cut" : "a connection that others had too was cut while held");
    }
}

static void let_go(unsigned i)
{
    int fd = me.held[i].fd;
    me.held[i] = me.held[--me.n];
    switch (pick(5)) {
    case 0:
        must(close(fd));
        break;
    case 1:
        must(dup2(STDIN_FILENO, fd));
        raw_close(fd);
        break;
    case 2:
        must(close_range((unsigned)fd, (unsigned)fd, 0));
        break;
    case 3:
        must(syscall(SYS_close, fd));
        break;
    default:
        must(fclose(fdopen(fd, "r+")));
    }
}

static void take_more(void)
{
    int sv[2];
    if (me.n == HELD) return;
    if (me.n && pick(2)) {
        me.held[me.n] = (struct hold){must(dup(me.held[pick(me.n)].fd)), false};
    } else {
        if (pick(4)) pair(sv);
        else tcp_pair(sv);
        me.held[me.n] = (struct hold){sv[0], true};
    }
    me.n++;
}

static void live(void);

static void be_child(const char *how, bool orphan)
{
    for (unsigned i = 0; i < me.n; i++) me.held[i].own = false;
    if (orphan) {
        pid_t pid = fork();
        if (pid) raw_exit(0);
    }
    me.how = how;
    me.depth++;
    me.seed ^= (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
    live();
    atomic_fetch_sub(&board->alive, 1);
    raw_exit(0);
}

static void multiply(void)
{
    if (atomic_fetch_add(&board->forks, 1) >= PROCESSES) return;
    atomic_fetch_add(&board->alive, 1);
    static const char *const how[] = {"fork", "_Fork", "syscall(SYS_clone)", "an unseen fork", "a double fork"};
    unsigned kind = pick(5);
    bool orphan = kind == 4;
    pid_t pid;
    switch (kind) {
    case 1:
        pid = _Fork();
        break;
    case 2:
        pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0L);
        break;
    case 3:
        pid = raw_fork();
        break;
    default:
        pid = fork();
    }
    if (pid < 0) fail("fork");
    if (!pid) be_child(how[kind], orphan);
    // After a fork that nobody could see the parent cannot know: what both hold it leaves alone.
    if (kind == 3) me.n = 0;
    if (orphan) while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
}

static _Atomic bool quiet;

// A thread of a process: duplicates, closes and forks children that end at once.
static void *bystander(void *arg)
{
    (void)arg;
    for (int i = 0; i < 40 && !atomic_load(&quiet); i++) {
        int sv[2];
        pair(sv);
        int d = must(dup(sv[0]));
        must(close(sv[0]));
        if (i % 10 == 0) {
            pid_t pid = fork();
            if (!pid) {
                close(d);
                close(sv[1]);
                raw_exit(0);
            }
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
        }
        if (send(d, "x", 1, MSG_NOSIGNAL) != 1) complain("a thread's duplicate was cut");
        must(close(d));
        must(close(sv[1]));
    }
    return NULL;
}

static void live(void)
{
    pthread_t t;
    bool threaded = me.depth && pick(3) == 0 && pthread_create(&t, NULL, bystander, NULL) == 0;
    for (unsigned step = 0; step < STEPS && !atomic_load(&board->bad); step++) {
        check();
        if (!me.depth && step % 8 == 0) multiply();
        switch (pick(6)) {
        case 0:
            if (me.depth < 6 && !threaded) multiply();
            break;
        case 1:
        case 2:
            if (me.n) let_go(pick(me.n));
            break;
        case 3:
            take_more();
            break;
        default:
            sched_yield();
        }
    }
    if (threaded) pthread_join(t, NULL);
    check();
    while (me.n) let_go(me.n - 1);
}

static void storm(long seed)
{
    int keep[CONNECTIONS];
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    expect(board != MAP_FAILED);
    me = (struct me){.seed = 88172645463325252u + (uint64_t)seed * 7919, .how = "no fork"};
    for (int i = 0; i < CONNECTIONS; i++) {
        int sv[2];
        if (i % 3) pair(sv);
        else tcp_pair(sv);
        keep[i] = sv[0];
    }
    // The root holds them all, and we let go of our copies in the middle.
    atomic_store(&board->alive, 1);
    pid_t pid = must(fork());
    if (!pid) {
        for (int i = 0; i < CONNECTIONS; i++) me.held[me.n++] = (struct hold){keep[i], false};
        live();
        atomic_fetch_sub(&board->alive, 1);
        raw_exit(0);
    }
    for (int i = 0; i < CONNECTIONS; i++) must(close(keep[i]));
    reap(pid, "the root", 2 * DEADLINE_MS);
    int64_t end = now_ms() + 2 * DEADLINE_MS;
    for (; atomic_load(&board->alive) && !atomic_load(&board->bad); look_again())
        if (now_ms() > end) fail("%u processes never came to an end", atomic_load(&board->alive));
    if (atomic_load(&board->bad)) fail("%s", board->why);
    expect(atomic_load(&board->forks) >= STEPS / 8);
}

int main(void)
{
    need_library();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (long seed = 0; seed < 6; seed++) in_child("a storm", 15000, storm, seed);
    still_works("a storm");
    return 0;
}
