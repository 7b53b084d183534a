// A program that does at random what programs do with sockets, under a model that knows who holds what:
// soak SECONDS [without]. Each worker thread owns connections, and for each of them the descriptors here, the
// child that holds it, whether a message has carried it and whether a fork may have shared it. It ends with 1
// at the first thing that is wrong.
//
// "near" is the end that is duplicated, passed on and let go; "far" is where one sees whether it lives.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    WORKERS = 4,
    CONNS = 6,
    HOLDERS = 6,
    RING = 24,
    EVENTS = 1 << 16,
    DEADLINE_MS = 15000,
    NUMBERS = 4096,
    POLL_MS = 1500
};

extern char **environ;

struct child {
    pid_t pid;
    int ctl; // commands to it, answers from it
};

struct conn {
    unsigned id;
    bool used, tcp, passed, leaky, linger, unread, shared;
    bool junk;   // a blocked sender has filled it
    bool in_set; // near is in the worker's epoll set,
    int key;     // by this number: it can be taken out of it by no other
    int near[HOLDERS], n, far;
    uint8_t to_far, to_near;     // the next byte
    unsigned long forks, spawns; // that had ended when it was made
    struct child child;
};

struct worker {
    unsigned number;
    uint64_t random;
    pthread_t thread, waiter;
    int listener, set;
    uint16_t port;
    unsigned next_id;
    struct conn conn[CONNS];
    _Atomic unsigned long ops;
    _Atomic int mailbox;           // a descriptor for the signal handler to close, or -1
    _Atomic uint8_t event[EVENTS]; // by id: may a hang-up be told of it?
    struct {
        const char *what;
        unsigned id;
        int a, b;
    } ring[RING];
    unsigned at;
};

static struct worker workers[WORKERS];
static __thread struct worker *self;
static uint64_t seed;
static bool without;
static _Atomic bool over, pausing;
static _Atomic int parked;
static _Atomic unsigned long forks_begun, forks_ended, spawns_begun, spawns_ended;
static _Atomic bool given[NUMBERS];
// Written to from before a fork until the child holds only what the model says.
static pthread_rwlock_t forking = PTHREAD_RWLOCK_INITIALIZER;

static _Atomic unsigned long opened, closes, dups, woken, left, proven, late, forks, passes, bytes, events,
    handled, races_won, races_lost;

static void nap(long us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...)
{
    static _Atomic bool told;
    int error = errno;
    if (atomic_exchange(&told, true))
        for (;;) pause();
    printf("soak: WRONG: ");
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (errno %s)\nsoak: SOAK_SEED=%llu", strerror(error), (unsigned long long)seed);
    if (self) {
        printf(", worker %u; its last operations:\n", self->number);
        for (unsigned i = self->at > RING ? self->at - RING : 0; i < self->at; i++)
            printf("  %s connection %u: %d %d\n", self->ring[i % RING].what, self->ring[i % RING].id,
                   self->ring[i % RING].a, self->ring[i % RING].b);
    }
    printf("\n");
    fflush(stdout);
    syscall(SYS_exit_group, 1);
    __builtin_unreachable();
}

static int must_at(long ret, const char *what, int line)
{
    if (ret < 0) wrong("line %d: %s", line, what);
    return (int)ret;
}
#define must(call) must_at((long)(call), #call, __LINE__)

// xorshift64* (G. Marsaglia; S. Vigna)
static unsigned below(unsigned n)
{
    uint64_t x = self->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    self->random = x;
    return (unsigned)((x * 2685821657736338717ull) >> 33) % n;
}

static void note(const char *what, const struct conn *c, int a, int b)
{
    unsigned i = self->at++ % RING;
    self->ring[i].what = what;
    self->ring[i].id = c ? c->id : 0;
    self->ring[i].a = a;
    self->ring[i].b = b;
}

// --- Bytes ---

static bool wait_for(int fd, short what, int ms)
{
    struct pollfd p = {.fd = fd, .events = what};
    int64_t end = now_ms() + ms;
    int n;
    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR)
        ms = (int)(end - now_ms()) > 0 ? (int)(end - now_ms()) : 0;
    return n == 1;
}

static void put_byte(int fd, uint8_t b, const char *who)
{
    ssize_t n;
    while ((n = send(fd, &b, 1, MSG_NOSIGNAL)) < 0 && errno == EINTR) {
    }
    if (n != 1) wrong("%s: a byte can't be sent on descriptor %d: its connection is cut", who, fd);
}

static void get_byte(int fd, uint8_t b, const char *who)
{
    uint8_t got = 0;
    if (!wait_for(fd, POLLIN, DEADLINE_MS)) wrong("%s: a byte has not come on descriptor %d", who, fd);
    ssize_t n;
    while ((n = recv(fd, &got, 1, 0)) < 0 && errno == EINTR) {
    }
    if (n != 1) wrong("%s: recv on descriptor %d is %zd: its connection is cut", who, fd, n);
    if (got != b) wrong("%s: byte %u came on descriptor %d, sent was %u", who, got, fd, b);
    atomic_fetch_add(&bytes, 1);
}

static uint8_t ask_child(struct conn *c, char what, uint8_t value)
{
    uint8_t ask[2] = {(uint8_t)what, value}, answer;
    if (send(c->child.ctl, ask, 2, MSG_NOSIGNAL) != 2) wrong("child %d is gone", c->child.pid);
    if (!wait_for(c->child.ctl, POLLIN, DEADLINE_MS))
        wrong("child %d does not answer to %c", c->child.pid, what);
    ssize_t n;
    while ((n = recv(c->child.ctl, &answer, 1, 0)) < 0 && errno == EINTR) {
    }
    if (n != 1) wrong("child %d has ended at %c", c->child.pid, what);
    return answer;
}

static void exchange(struct conn *c)
{
    if (c->n) {
        int fd = c->near[below((unsigned)c->n)];
        put_byte(fd, c->to_far, "near");
        get_byte(c->far, c->to_far++, "far");
        if (c->unread) return;
        fd = c->near[below((unsigned)c->n)];
        put_byte(c->far, c->to_near, "far");
        get_byte(fd, c->to_near++, "near");
    }
    if (!c->child.pid) return;
    if (ask_child(c, 'x', c->to_far) != 'k') wrong("connection %u is cut in child %d", c->id, c->child.pid);
    get_byte(c->far, c->to_far++, "far, from the child");
    if (c->unread) return;
    put_byte(c->far, c->to_near, "far, to the child");
    if (ask_child(c, 'r', c->to_near++) != 'k') wrong("child %d does not get its byte", c->child.pid);
}

// --- The child's side ---

static bool is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static void serve(int ctl, int fd)
{
    uint8_t ask[2], got;
    while (recv(ctl, ask, 2, MSG_WAITALL) == 2) {
        uint8_t answer = 'k';
        if (ask[0] == 'x' && send(fd, &ask[1], 1, MSG_NOSIGNAL) != 1) answer = 'n';
        if (ask[0] == 'r' && (recv(fd, &got, 1, 0) != 1 || got != ask[1])) answer = 'n';
        if (ask[0] == 'm') { // moves it to another number
            int moved = dup(fd);
            close(fd);
            fd = moved;
        }
        if (ask[0] == 'h' && !is_socket(fd)) answer = 'n';
        if (ask[0] == 'c') close(fd);
        if (send(ctl, &answer, 1, MSG_NOSIGNAL) != 1 || ask[0] == 'c') break;
    }
    _exit(0);
}

// Keeps stdio, ctl and fd.
static void close_rest(int ctl, int fd, unsigned how)
{
    int low = ctl < fd ? ctl : fd, high = ctl < fd ? fd : ctl;
    if (how == 0) {
        for (int i = 3; i < 512; i++)
            if (i != ctl && i != fd) close(i);
        low = high = 511 > high ? 511 : high;
    } else {
        if (low > 3) close_range(3, (unsigned)low - 1, 0);
        if (high > low + 1) close_range((unsigned)low + 1, (unsigned)high - 1, 0);
    }
    if (how == 1)
        closefrom(high + 1);
    else
        close_range((unsigned)high + 1, ~0u, 0);
}

static void child(int ctl, int fd, unsigned how)
{
    close_rest(ctl, fd, how);
    if (send(ctl, "k", 1, MSG_NOSIGNAL) != 1) _exit(1);
    serve(ctl, fd);
}

// --- Opening ---

static void add_holder(struct conn *c, int fd, bool cloexec)
{
    if (fd >= NUMBERS || !cloexec || atomic_load(&given[fd])) c->leaky = true;
    c->near[c->n++] = fd;
}

static void watch(struct conn *c)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = c->id};
    int fd = c->near[below((unsigned)c->n)];
    atomic_store(&self->event[c->id % EVENTS], c->passed || c->shared);
    must(epoll_ctl(self->set, EPOLL_CTL_ADD, fd, &e));
    c->in_set = true;
    c->key = fd;
    if (below(4)) return;
    must(epoll_ctl(self->set, EPOLL_CTL_DEL, fd, &e));
    c->in_set = false;
}

static void tcp_pair(int sv[2], int flags)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = self->port};
    to.sin_addr.s_addr = htonl(0x7f000000u | (1 + below(0xfffffd)));
    sv[0] = must(socket(AF_INET, SOCK_STREAM | flags, 0));
    while (connect(sv[0], (struct sockaddr *)&to, sizeof to) < 0)
        if (errno != EINTR) wrong("connect");
    while ((sv[1] = accept4(self->listener, NULL, NULL, flags)) < 0)
        if (errno != EINTR) wrong("accept4");
}

static struct conn *open_conn(void)
{
    struct conn *c = self->conn;
    while (c < self->conn + CONNS && c->used) c++;
    if (c == self->conn + CONNS) return NULL;
    int sv[2], flags = below(2) ? SOCK_CLOEXEC : 0;
    *c = (struct conn){.used = true,
                       .id = ++self->next_id,
                       .forks = atomic_load(&forks_ended),
                       .spawns = atomic_load(&spawns_ended),
                       .tcp = below(3) == 0};
    if (c->tcp)
        tcp_pair(sv, flags);
    else
        must(socketpair(AF_UNIX, SOCK_STREAM | flags, 0, sv));
    unsigned turn = below(2);
    c->far = sv[!turn];
    add_holder(c, sv[turn], flags);
    note(c->tcp ? "tcp" : "pair", c, c->near[0], c->far);
    if (c->tcp && below(5) == 0) {
        must(setsockopt(c->near[0], SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
        c->linger = true;
    }
    if (below(3) == 0) watch(c);
    atomic_fetch_add(&opened, 1);
    return c;
}

// A message with a descriptor: sends fd over that socket, or receives one.
static int pass(int through, int fd, bool out, int flags)
{
    char byte = 'f', control[CMSG_SPACE(sizeof(int))] = "";
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    if (out) return (int)sendmsg(through, &m, flags);
    must(recvmsg(through, &m, flags));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

// Sent to ourselves in a message, and received under another number.
static int pass_here(int fd, bool cloexec)
{
    int sv[2];
    must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv));
    must(pass(sv[0], fd, true, 0));
    fd = pass(sv[1], -1, false, cloexec ? MSG_CMSG_CLOEXEC : 0);
    close(sv[0]);
    close(sv[1]);
    return fd;
}

static void duplicate(struct conn *c)
{
    if (!c->n || c->n == HOLDERS) return;
    int from = c->near[below((unsigned)c->n)], to;
    unsigned how = below(9);
    bool cloexec = how == 2 || how == 4 || how == 6;
    if (how <= 1)
        to = how ? (int)syscall(SYS_dup, from) : dup(from);
    else if (how <= 4)
        to = fcntl(from, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, (int)below(300));
    else if (how <= 6 && below(3) == 0) {
        atomic_store(&self->event[c->id % EVENTS], 1);
        c->passed = true;
        to = pass_here(from, cloexec);
        atomic_fetch_add(&passes, 1);
    } else
        to = dup(from), cloexec = false;
    must(to);
    add_holder(c, to, cloexec);
    note("dup of", c, from, to);
    atomic_fetch_add(&dups, 1);
}

// --- Letting go ---

static void *close_there(void *fd)
{
    must(close((int)(intptr_t)fd));
    return NULL;
}

static pthread_t start_thread(void *(*run)(void *), void *arg)
{
    pthread_t t;
    pthread_attr_t a;
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 128 * 1024);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&t, &a, run, arg)) wrong("pthread_create");
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&a);
    return t;
}

static void by_handler(int fd)
{
    atomic_store(&self->mailbox, fd);
    while (atomic_load(&self->mailbox) >= 0) pthread_kill(pthread_self(), SIGUSR1);
}

static void by_stream(struct conn *c, int fd, bool reopen)
{
    FILE *f = fdopen(fd, "r+");
    bool buffered = !reopen && !c->linger && !c->junk && !c->unread && below(2);
    if (!f) wrong("fdopen");
    if (buffered && fputc(c->to_far, f) == EOF) wrong("fputc");
    if (reopen && !(f = freopen("/dev/null", "r", f))) wrong("freopen");
    if (fclose(f)) wrong("fclose");
    if (buffered) get_byte(c->far, c->to_far++, "far, from a buffer");
}

// dup2 of another connection of ours onto it.
static bool by_dup2(int fd, const struct conn *c, unsigned how)
{
    struct conn *o = &self->conn[below(CONNS)];
    if (!o->used || o == c || !o->n || o->n == HOLDERS) return false;
    int from = o->near[below((unsigned)o->n)];
    if (how == 0)
        must(dup2(from, fd));
    else if (how == 1)
        must(dup3(from, fd, O_CLOEXEC));
    else
        must(syscall(SYS_dup2, from, fd));
    add_holder(o, fd, how == 1);
    note("dup2 onto it, of", o, from, fd);
    return true;
}

static void let_go_fd(struct conn *c, int fd)
{
    unsigned how = below(12);
    note("let go", c, fd, (int)how);
    atomic_fetch_add(&closes, 1);
    if (how == 1)
        must(syscall(SYS_close, fd));
    else if (how == 2)
        must(close_range((unsigned)fd, (unsigned)fd, 0));
    else if (how == 3)
        by_handler(fd);
    else if (how == 4 || how == 5)
        by_stream(c, fd, how == 5);
    else if (how == 6)
        pthread_join(start_thread(close_there, (void *)(intptr_t)fd), NULL);
    else if (how == 7) {
        must(dup2(STDIN_FILENO, fd));
        must(close(fd));
    } else if (how < 8 || !by_dup2(fd, c, how - 8))
        must(close(fd));
}

static int take_holder(struct conn *c)
{
    unsigned i = below((unsigned)c->n);
    int fd = c->near[i];
    c->near[i] = c->near[--c->n];
    return fd;
}

// Is it, as far as the library can know without looking at other processes, ours alone? To be asked with
// forks held off.
static bool surely_alone(const struct conn *c, int last)
{
    return (!c->in_set || c->key == last) && !c->shared && !c->passed &&
           atomic_load(&forks_begun) == c->forks && (!c->leaky || atomic_load(&spawns_begun) == c->spawns);
}

static void end_child(struct conn *c)
{
    int status;
    ask_child(c, 'c', 0);
    close(c->child.ctl);
    while (waitpid(c->child.pid, &status, 0) < 0)
        if (errno != EINTR) wrong("waitpid");
    if (status) wrong("child %d ended with status %x", c->child.pid, status);
    c->child.pid = 0;
}

// Nobody holds near any more.
static void expect_end(struct conn *c)
{
    uint8_t byte;
    if (!wait_for(c->far, POLLIN, DEADLINE_MS)) wrong("far of connection %u sees no end", c->id);
    ssize_t n;
    while ((n = recv(c->far, &byte, 1, 0)) < 0 && errno == EINTR) {
    }
    if (n > 0) wrong("far of connection %u gets a byte that was not sent", c->id);
    if (n < 0 && errno != ECONNRESET) wrong("far of connection %u", c->id);
    if (n < 0 && !c->linger && !c->unread) wrong("far of connection %u is reset", c->id);
    if (n == 0 && c->linger && !c->unread)
        wrong("far of connection %u gets EOF where a reset was asked for", c->id);
}

static void finish(struct conn *c)
{
    if (c->child.pid) {
        exchange(c);
        end_child(c);
    }
    expect_end(c);
    close(c->far);
    c->used = false;
}

static void let_go(struct conn *c)
{
    if (!c->n) return;
    int fd = take_holder(c);
    bool last = !c->n, watched = c->in_set && last;
    // A fork now would keep the socket in its sets until the child has closed it.
    if (watched) pthread_rwlock_rdlock(&forking);
    let_go_fd(c, fd);
    if (last) finish(c);
    if (watched) pthread_rwlock_unlock(&forking);
}

// Two neighbours at once, whichever connections they are of.
static void close_neighbours(void)
{
    for (struct conn *a = self->conn; a < self->conn + CONNS; a++)
        for (struct conn *b = self->conn; b < self->conn + CONNS; b++)
            for (int i = 0; a->used && b->used && i < a->n; i++)
                for (int k = 0; k < b->n; k++) {
                    if (b->near[k] != a->near[i] + 1 || (a == b ? a->n < 3 : a->n < 2 || b->n < 2)) continue;
                    int fd = a->near[i];
                    note("close_range of two", a, fd, (int)b->id);
                    if (a == b) { // the later one first, so that the index of the other stays right
                        int hi = i > k ? i : k, lo = i > k ? k : i;
                        a->near[hi] = a->near[--a->n];
                        a->near[lo] = a->near[--a->n];
                    } else {
                        a->near[i] = a->near[--a->n];
                        b->near[k] = b->near[--b->n];
                    }
                    must(close_range((unsigned)fd, (unsigned)fd + 1, 0));
                    atomic_fetch_add(&closes, 2);
                    exchange(a);
                    exchange(b);
                    return;
                }
}

// --- Children ---

static void spawn(pid_t *pid, int ctl, int fd, unsigned how, unsigned sweep)
{
    char a[16], b[16], c[16];
    char *const argv[] = {"/proc/self/exe", "hold", a, b, c, NULL};
    posix_spawn_file_actions_t actions;
    int to = how == 1 ? 700 : fd;
    snprintf(a, sizeof a, "%d", ctl);
    snprintf(b, sizeof b, "%d", to);
    snprintf(c, sizeof c, "%u", sweep);
    if (how == 2) {
        *pid = vfork();
        if (*pid == 0) {
            execve(argv[0], argv, environ);
            _exit(127);
        }
        must(*pid);
        return;
    }
    posix_spawn_file_actions_init(&actions);
    if (how == 1) posix_spawn_file_actions_adddup2(&actions, fd, to);
    if (posix_spawn(pid, argv[0], &actions, NULL, argv, environ)) wrong("posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
}

// The child has begun, and holds no more than the model says.
static void meet_child(struct conn *c, const int sv[2])
{
    uint8_t answer;
    c->child.ctl = sv[0];
    c->shared = true;
    must(fcntl(sv[0], F_SETFD, FD_CLOEXEC));
    close(sv[1]);
    if (!wait_for(sv[0], POLLIN, DEADLINE_MS)) wrong("child %d does not begin", c->child.pid);
    if (recv(sv[0], &answer, 1, 0) != 1) wrong("child %d has ended at once", c->child.pid);
}

// A child that holds what near is: a fork, or a program started by posix_spawn or vfork and exec.
static void start_child(struct conn *c)
{
    if (!c->n || c->n == HOLDERS || c->child.pid) return;
    unsigned how = below(4), sweep = below(3);
    int sv[2], fd = c->near[below((unsigned)c->n)];
    pthread_rwlock_wrlock(&forking);
    atomic_store(&self->event[c->id % EVENTS], 1);
    atomic_fetch_add(how == 3 || how == 2 ? &forks_begun : &spawns_begun, 1);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
    note(how == 3 ? "fork with" : how == 2 ? "vfork with" : "spawn with", c, fd, (int)how);
    if (how != 3 && how != 1) { // without FD_CLOEXEC
        fd = must(dup(fd));
        add_holder(c, fd, false);
    }
    if (how == 1) {
        if (fd < NUMBERS) atomic_store(&given[fd], true);
        c->leaky = true;
    }
    if (how == 3) {
        c->child.pid = must(fork());
        if (c->child.pid == 0) child(sv[1], fd, sweep);
    } else {
        spawn(&c->child.pid, sv[1], fd, how, sweep);
    }
    meet_child(c, sv);
    atomic_fetch_add(how == 3 || how == 2 ? &forks_ended : &spawns_ended, 1);
    pthread_rwlock_unlock(&forking);
    atomic_fetch_add(&forks, 1);
    exchange(c);
    if (below(2)) ask_child(c, 'm', 0);
}

// --- Races: another thread makes a holder while the last one is let go of ---

enum racing { RACE_DUP, RACE_FCNTL, RACE_DUP2, RACE_MESSAGE, RACE_EPOLL, RACE_FORK, RACE_SPAWN, RACES };

struct racer {
    enum racing how;
    int fd;      // a number that nobody else opens
    int set;     // RACE_EPOLL
    int over[2]; // RACE_MESSAGE, and the child's
    unsigned delay, sweep, id;
    _Atomic bool ready, go;
    int got; // the call's result
};

static void delay(unsigned n)
{
    for (volatile unsigned i = 0; i < n; i++) {
    }
}

static void *race(void *arg)
{
    struct racer *r = arg;
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = r->id};
    pid_t pid;
    atomic_store(&r->ready, true);
    while (!atomic_load(&r->go)) {
    }
    delay(r->delay);
    switch (r->how) {
    case RACE_DUP:
        r->got = dup(r->fd);
        break;
    case RACE_FCNTL:
        r->got = fcntl(r->fd, F_DUPFD_CLOEXEC, r->fd);
        break;
    case RACE_DUP2:
        r->got = dup2(r->fd, r->fd + 1);
        break;
    case RACE_MESSAGE:
        r->got = pass(r->over[0], r->fd, true, MSG_NOSIGNAL);
        break;
    case RACE_EPOLL:
        r->got = epoll_ctl(r->set, EPOLL_CTL_ADD, r->fd, &e);
        break;
    case RACE_FORK:
        r->got = must(fork());
        if (!r->got) child(r->over[1], r->fd, r->sweep);
        break;
    default:
        spawn(&pid, r->over[1], r->fd, 0, r->sweep);
        r->got = pid;
    }
    return NULL;
}

static void race_close(int fd, unsigned how, FILE *f)
{
    if (how == 0) must(close(fd));
    if (how == 1) must(syscall(SYS_close, fd));
    if (how == 2) must(close_range((unsigned)fd, (unsigned)fd, 0));
    if (how == 3) must(dup2(STDIN_FILENO, fd));
    if (how == 4) must(fclose(f));
}

// The descriptor that the race has made, if it is one of the connection; else -1.
static int race_won(struct racer *r)
{
    if (r->how == RACE_MESSAGE && r->got >= 0) r->got = pass(r->over[1], -1, false, MSG_CMSG_CLOEXEC);
    if (r->how > RACE_MESSAGE || r->got < 0) return -1;
    if (is_socket(r->got)) return r->got;
    must(close(r->got)); // of what has replaced it
    return -1;
}

static void race_and_close(struct conn *c)
{
    static const char *const names[] = {"dup of", "fcntl of", "dup2 of", "message with", "epoll add of", "fork with", "spawn with"};
    unsigned how = below(5), after = below(4) ? below(60000) : 0;
    struct racer r = {.how = (enum racing)below(RACES), .set = self->set, .id = c->id, .sweep = below(3), .delay = below(4) ? below(60000) : 0};
    if (c->n != 1 || c->child.pid || c->in_set) return;
    bool begets = r.how >= RACE_FORK;
    r.fd = must(fcntl(c->near[0], F_DUPFD, 1000 + 100 * (int)self->number));
    must(close(c->near[0]));
    c->n = 0;
    c->leaky = true;
    note(names[r.how], c, r.fd, (int)how);
    FILE *f = how == 4 ? fdopen(r.fd, "r+") : NULL;
    if (begets) {
        pthread_rwlock_wrlock(&forking);
        atomic_fetch_add(r.how == RACE_FORK ? &forks_begun : &spawns_begun, 1);
    }
    if (r.how == RACE_MESSAGE || begets) must(socketpair(AF_UNIX, r.how == RACE_MESSAGE ? SOCK_DGRAM | SOCK_CLOEXEC : SOCK_STREAM, 0, r.over));
    pthread_t t = start_thread(race, &r);
    while (!atomic_load(&r.ready)) {
    }
    atomic_store(&r.go, true);
    if (below(2)) nap((long)below(200)); // on a busy machine the other gets no turn otherwise
    delay(after);
    race_close(r.fd, how, f);
    pthread_join(t, NULL);
    if (begets) {
        c->child.pid = r.got;
        meet_child(c, r.over);
        atomic_fetch_add(r.how == RACE_FORK ? &forks_ended : &spawns_ended, 1);
        pthread_rwlock_unlock(&forking);
        if (ask_child(c, 'h', 0) == 'k') exchange(c);
        end_child(c);
    }
    int won = race_won(&r);
    if (r.how == RACE_MESSAGE) close(r.over[0]), close(r.over[1]);
    if (how == 3) must(close(r.fd));
    atomic_fetch_add(won >= 0 ? &races_won : &races_lost, 1);
    if (won >= 0) {
        add_holder(c, won, false);
        exchange(c);
        c->n = 0;
        must(close(won));
    }
    expect_end(c);
    close(c->far);
    c->used = false;
}

// --- Blocked threads ---

struct blocked {
    pthread_t thread;
    int fd;
    enum { RECV, READ, POLL, SEND, ACCEPT } call;
    _Atomic int tid;
    ssize_t result;
    int error;
    bool late; // a poll that nothing has woken
};

static void *block(void *arg)
{
    static char junk[64 << 20]; // more than any buffer takes
    char byte[4];
    struct blocked *b = arg;
    struct pollfd p = {.fd = b->fd, .events = POLLIN};
    atomic_store(&b->tid, (int)syscall(SYS_gettid));
    if (b->call == RECV) b->result = recv(b->fd, byte, sizeof byte, 0);
    if (b->call == READ) b->result = read(b->fd, byte, sizeof byte);
    // A poll that is woken looks the number up again (fs/select.c do_pollfd). If it stands for another socket
    // by then, the wake is lost, with any way to wake it: so that it ends by itself, and is counted.
    if (b->call == POLL && (b->result = poll(&p, 1, POLL_MS) == 1 ? 0 : -1) < 0) b->late = true;
    if (b->call == ACCEPT) b->result = accept(b->fd, NULL, NULL);
    if (b->call == SEND) b->result = send(b->fd, junk, sizeof junk, MSG_NOSIGNAL);
    b->error = errno;
    return NULL;
}

// Returns once the kernel shows the thread blocked in its call.
static void start_blocked(struct blocked *b, int fd, unsigned call)
{
    static const long numbers[] = {[RECV] = SYS_recvfrom,
                                   [READ] = SYS_read,
                                   [POLL] = SYS_poll,
                                   [SEND] = SYS_sendto,
                                   [ACCEPT] = SYS_accept};
    char path[64], text[256];
    *b = (struct blocked){.fd = fd, .call = call};
    b->thread = start_thread(block, b);
    for (int64_t end = now_ms() + DEADLINE_MS;; nap(50)) {
        if (now_ms() > end) wrong("a thread does not block on %d", fd);
        if (!atomic_load(&b->tid)) continue;
        snprintf(path, sizeof path, "/proc/self/task/%d/syscall", atomic_load(&b->tid));
        int file = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = file < 0 ? 0 : read(file, text, sizeof text - 1);
        if (file >= 0) close(file);
        long number = -1;
        unsigned long arg = 0;
        text[n > 0 ? n : 0] = '\0';
        if (sscanf(text, "%ld %lx", &number, &arg) == 2 && number == numbers[call] &&
            (call == POLL || arg == (unsigned long)fd))
            return;
    }
}

static bool ended(struct blocked *b, int ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000L;
    if (t.tv_nsec >= 1000000000L) t.tv_sec++, t.tv_nsec -= 1000000000L;
    int ret = pthread_timedjoin_np(b->thread, NULL, &t);
    if (ret && ret != ETIMEDOUT) wrong("pthread_timedjoin_np: %s", strerror(ret));
    return ret == 0;
}

// Threads block on it, and then it is let go, descriptor by descriptor.
static void block_and_close(struct conn *c)
{
    static const char *const names[] = {"recv on", "read on", "poll on", "send on"};
    struct blocked b[2];
    unsigned n = 1 + below(2), call = below(10) == 0 ? POLL : (unsigned[]){RECV, READ, SEND}[below(3)];
    if (!c->n || (c->unread && call != SEND)) return;
    atomic_store(&self->event[c->id % EVENTS], atomic_load(&self->event[c->id % EVENTS]) || call == SEND);
    c->junk = call == SEND;
    for (unsigned i = 0; i < n; i++) start_blocked(&b[i], c->near[0], call);
    note(names[call], c, c->near[0], (int)n);
    while (c->n > 1) {
        let_go_fd(c, take_holder(c));
        for (unsigned i = 0; i < n; i++)
            if (ended(&b[i], 0))
                wrong("a thread in %s connection %u was woken, which has %d more", names[call], c->id, c->n);
    }
    pthread_rwlock_rdlock(&forking);
    int last = take_holder(c);
    bool sure = surely_alone(c, last) && !without;
    let_go_fd(c, last);
    unsigned back = 0;
    bool here[2] = {false, false};
    for (unsigned i = 0; i < n; i++) back += here[i] = ended(&b[i], sure ? DEADLINE_MS : without ? 1 : 5);
    if (sure && back < n)
        wrong("%u threads in %s connection %u hang, which was ours alone", n - back, names[call], c->id);
    if (back && c->child.pid)
        wrong("a thread in %s connection %u was woken, which a child holds", names[call], c->id);
    if (back && without)
        wrong("a thread in %s connection %u was woken without the library", names[call], c->id);
    for (unsigned i = 0; i < n; i++)
        if (here[i] && b[i].late) atomic_fetch_add(&late, 1);
    atomic_fetch_add(sure ? &woken : back == n ? &proven : &left, 1);
    note(sure ? "woken" : back == n ? "proven" : "left", c, 0, 0);
    if (c->child.pid) {
        if (call != SEND && ask_child(c, 'x', c->to_far) != 'k')
            wrong("connection %u is cut in the child", c->id);
        if (call != SEND) get_byte(c->far, c->to_far++, "far, from the child");
    }
    if (call != SEND && back == n) expect_end(c);
    // A blocked thread keeps the socket, and so its place in the set.
    if (back < n) atomic_store(&self->event[c->id % EVENTS], 1);
    close(c->far); // whoever is left goes now
    for (unsigned i = 0; i < n; i++) {
        if (!here[i] && !ended(&b[i], DEADLINE_MS)) wrong("the far end is gone, and the thread still hangs");
        if (call != SEND && b[i].result > 0)
            wrong("a thread in %s connection %u got data that no one sent", names[call], c->id);
    }
    pthread_rwlock_unlock(&forking);
    if (c->child.pid) end_child(c);
    c->used = false;
}

// A listener or a datagram socket, alone for the time of this call, with a thread on it.
static void lone(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    struct conn c = {
        .id = ++self->next_id, .forks = atomic_load(&forks_ended), .spawns = atomic_load(&spawns_ended)};
    bool udp = below(2);
    struct blocked b;
    int fd = must(socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0));
    must(bind(fd, (struct sockaddr *)&a, sizeof a));
    if (!udp) must(listen(fd, 8));
    must(getsockname(fd, (struct sockaddr *)&a, &length));
    add_holder(&c, fd, true);
    note(udp ? "udp" : "listener", &c, fd, 0);
    start_blocked(&b, fd, !udp ? ACCEPT : below(8) ? RECV : POLL);
    if (below(2)) {
        add_holder(&c, must(dup(fd)), false);
        must(close(fd));
        c.near[0] = c.near[1];
        if (ended(&b, 0)) wrong("woken, though a duplicate holds it");
    }
    pthread_rwlock_rdlock(&forking);
    bool sure = surely_alone(&c, c.near[0]) && !without;
    must(below(2) ? close(c.near[0]) : close_range((unsigned)c.near[0], (unsigned)c.near[0], 0));
    pthread_rwlock_unlock(&forking);
    bool back = ended(&b, sure ? DEADLINE_MS : without ? 1 : 5);
    if (sure && !back) wrong("a thread hangs on a %s that was ours alone", udp ? "UDP socket" : "listener");
    if (without && back)
        wrong("a thread on a %s was woken without the library", udp ? "UDP socket" : "listener");
    if (back && b.late) atomic_fetch_add(&late, 1);
    atomic_fetch_add(sure ? &woken : back ? &proven : &left, 1);
    int poke = back ? -1 : must(socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0));
    if (!back && connect(poke, (struct sockaddr *)&a, sizeof a) == 0 && udp) send(poke, "x", 1, MSG_NOSIGNAL);
    if (!back && !ended(&b, DEADLINE_MS)) wrong("a thread can't be poked");
    if (b.call == ACCEPT && b.result >= 0) close((int)b.result);
    if (poke >= 0) close(poke);
}

// --- What goes on beside the workers ---

static void on_signal(int sig)
{
    (void)sig;
    int saved = errno, sv[2];
    char byte = 's';
    if (!self) return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0) {
        int copy = dup(sv[0]);
        close(sv[0]);
        if (send(copy, &byte, 1, MSG_NOSIGNAL) != 1 || recv(sv[1], &byte, 1, MSG_DONTWAIT) != 1)
            wrong("a duplicate in a handler is cut");
        close(copy);
        close(sv[1]);
    }
    int fd = atomic_exchange(&self->mailbox, -1);
    if (fd >= 0) must(close(fd));
    atomic_fetch_add(&handled, 1);
    errno = saved;
}

static void *pester(void *arg)
{
    for (unsigned i = 0; !atomic_load(&over); i++) {
        if (!atomic_load(&pausing)) pthread_kill(workers[i % WORKERS].thread, SIGUSR1);
        nap(700);
    }
    return arg;
}

static void *wait_for_events(void *arg)
{
    struct worker *w = arg;
    struct epoll_event e[16];
    while (!atomic_load(&over)) {
        int n = epoll_wait(w->set, e, 16, 100);
        for (int i = 0; i < n; i++) {
            atomic_fetch_add(&events, 1);
            if (e[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR) &&
                !atomic_load(&w->event[e[i].data.u32 % EVENTS])) {
                self = w;
                wrong("a phantom: event %x for connection %u, whose far end is open", e[i].events,
                      e[i].data.u32);
            }
        }
    }
    return NULL;
}

static void step(void)
{
    struct conn *c = &self->conn[below(CONNS)];
    unsigned what = below(66);
    if (what < 10 || !c->used) {
        if (!open_conn()) let_go(c);
    } else if (what < 24)
        duplicate(c);
    else if (what < 42)
        let_go(c);
    else if (what < 50)
        exchange(c);
    else if (what < 53)
        close_neighbours();
    else if (what < 56)
        block_and_close(c);
    else if (what < 60)
        lone();
    else if (what < 62)
        race_and_close(c);
    else if (what == 62)
        start_child(c);
    else if (what == 63 && c->n && !c->unread) {
        note("leave unread", c, 3, 0);
        for (int i = 0; i < 3; i++) put_byte(c->far, c->to_near, "far");
        c->unread = true;
        if (c->child.pid) end_child(c);
    } else if (what == 64 && c->child.pid && c->n) {
        note("end the child of", c, c->child.pid, 0);
        end_child(c);
        exchange(c);
    } else if (c->n) {
        int fd = c->near[below((unsigned)c->n)], on = (int)below(2);
        must(fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0));
        if (!on) c->leaky = true;
    }
    atomic_fetch_add(&self->ops, 1);
}

static void *work(void *arg)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t length = sizeof a;
    sigset_t none;
    self = arg;
    self->listener = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    must(bind(self->listener, (struct sockaddr *)&a, sizeof a));
    must(listen(self->listener, 64));
    must(getsockname(self->listener, (struct sockaddr *)&a, &length));
    self->port = a.sin_port;
    self->set = must(epoll_create1(EPOLL_CLOEXEC));
    self->waiter = start_thread(wait_for_events, self);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    while (!atomic_load(&over)) {
        if (!atomic_load(&pausing)) {
            step();
            continue;
        }
        for (struct conn *c = self->conn; c < self->conn + CONNS; c++)
            while (c->used) let_go(c);
        atomic_fetch_add(&parked, 1);
        while (atomic_load(&pausing) && !atomic_load(&over)) nap(200);
        atomic_fetch_sub(&parked, 1);
    }
    return NULL;
}

// --- Nothing is left behind ---

struct use {
    long descriptors, threads, resident_kb, mappings;
};

// Those of the program: the library's watcher comes and goes.
static long count_threads(void)
{
    long n = 0;
    char path[300], name[32];
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = *e->d_name == '.' ? NULL : fopen(path, "re");
        if (f && fgets(name, sizeof name, f) && strcmp(name, "preclose\n") != 0) n++;
        if (f) fclose(f);
    }
    if (d) closedir(d);
    return n;
}

static struct use measure(void)
{
    struct use u = {.threads = count_threads()};
    char line[512];
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) u.descriptors++;
    if (d) closedir(d);
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f)) sscanf(line, "VmRSS: %ld", &u.resident_kb);
    if (f) fclose(f);
    f = fopen("/proc/self/maps", "re");
    while (f && fgets(line, sizeof line, f)) u.mappings++;
    if (f) fclose(f);
    return u;
}

static unsigned long all_ops(void)
{
    unsigned long n = 0;
    for (int i = 0; i < WORKERS; i++) n += atomic_load(&workers[i].ops);
    return n;
}

// Every worker lets go of everything and waits.
static struct use rest(void)
{
    unsigned long before = all_ops();
    int64_t end = now_ms() + 2 * DEADLINE_MS;
    atomic_store(&pausing, true);
    while (atomic_load(&parked) < WORKERS) {
        nap(1000);
        if (all_ops() != before) before = all_ops(), end = now_ms() + 2 * DEADLINE_MS;
        if (now_ms() < end) continue;
        for (int i = 0; i < WORKERS; i++)
            printf("soak: worker %d: %s\n", i, workers[i].ring[(workers[i].at - 1) % RING].what);
        wrong("a worker is stuck");
    }
    nap(20000); // handlers on their way
    struct use u = measure();
    for (int i = 0; i < WORKERS; i++)
        if (atomic_load(&workers[i].mailbox) >= 0) wrong("a handler has not run");
    atomic_store(&pausing, false);
    while (atomic_load(&parked) && !atomic_load(&over)) nap(200);
    return u;
}

static void compare(const struct use *first, const struct use *u)
{
    if (u->descriptors != first->descriptors)
        wrong("%ld descriptors, there were %ld", u->descriptors, first->descriptors);
    if (u->threads != first->threads) wrong("%ld threads, there were %ld", u->threads, first->threads);
    if (u->resident_kb > first->resident_kb + 1024)
        wrong("%ld KiB resident, there were %ld", u->resident_kb, first->resident_kb);
    if (u->mappings > first->mappings + 32)
        wrong("%ld mappings, there were %ld", u->mappings, first->mappings);
}

static void counters(long s)
{
    printf("soak: %ld s: %lu operations, %lu opened, %lu duplicates, %lu closes, %lu children, %lu passed, "
           "%lu bytes, "
           "%lu events, %lu handlers; blocked and woken %lu, woken by proof %lu, left %lu, races lost %lu, won by the other %lu, polls that met "
           "the next owner %lu\n",
           s, all_ops(), atomic_load(&opened), atomic_load(&dups), atomic_load(&closes), atomic_load(&forks),
           atomic_load(&passes), atomic_load(&bytes), atomic_load(&events), atomic_load(&handled),
           atomic_load(&woken), atomic_load(&proven), atomic_load(&left), atomic_load(&races_lost),
           atomic_load(&races_won), atomic_load(&late));
    fflush(stdout);
}

static void run(long seconds)
{
    struct use first = {0}, u = {0};
    int64_t start = now_ms(), told = start;
    long rests = 0;
    for (int64_t now; (now = now_ms()) < start + seconds * 1000;) {
        for (int i = 0; i < 20; i++) nap(100000);
        u = rest();
        if (++rests <= 4)
            first = u;
        else
            compare(&first, &u);
        if (now - told >= 10000) {
            told = now;
            counters((long)((now - start) / 1000));
        }
    }
    u = rest();
    if (rests >= 4) compare(&first, &u);
    counters((long)((now_ms() - start) / 1000));
    printf("soak: %ld descriptors, %ld KiB resident (%ld after warming up), %ld mappings (%ld)\n",
           u.descriptors, u.resident_kb, first.resident_kb, u.mappings, first.mappings);
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "hold")) child(atoi(argv[2]), atoi(argv[3]), (unsigned)atoi(argv[4]));
    long seconds = argc > 1 ? atol(argv[1]) : 0;
    if (seconds <= 0) return fprintf(stderr, "usage: soak SECONDS [without]\n"), 2;
    without = argc > 2;
    const char *given_seed = getenv("SOAK_SEED");
    seed = given_seed ? strtoull(given_seed, NULL, 0) : (uint64_t)time(NULL) << 16 ^ (uint64_t)getpid();
    printf("soak: SOAK_SEED=%llu, %ld s%s\n", (unsigned long long)seed, seconds,
           without ? ", without the library" : "");
    fflush(stdout);
    mallopt(M_ARENA_MAX, 1);
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    must(dup2(must(open("/dev/null", O_RDWR | O_CLOEXEC)), STDIN_FILENO));
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        workers[i].random = (seed + i) * 0x9e3779b97f4a7c15ull | 1;
        atomic_store(&workers[i].mailbox, -1);
        workers[i].thread = start_thread(work, &workers[i]);
    }
    pthread_t pest = start_thread(pester, NULL);
    run(seconds);
    atomic_store(&over, true);
    pthread_join(pest, NULL);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        pthread_join(workers[i].waiter, NULL);
    }
    printf("soak: %lu operations, 0 wrong\n", all_ops());
    return 0;
}
