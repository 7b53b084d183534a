// The workloads of scripts/bench: work NAME [hand] [held=N [low]] [threads=N]
//   hand       shuts each connection down itself before it closes it, as a program should that knows of preclose's subject
//   held=N     N sockets more are open meanwhile
//   low        and the workload's descriptors have lower numbers than those
//   threads=N  N threads more are blocked in recv meanwhile, each on a socket of its own
#include "slot.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static bool hand;
static int listener, file, ends[2], tcp_ends[2];
static struct sockaddr_in at = {.sin_family = AF_INET};

static void let_go(int fd)
{
    if (hand) shutdown(fd, SHUT_RDWR);
    close(fd);
}

// A connection over loopback: its client's end, then its server's.
static void connect_pair(int fd[2])
{
    fd[0] = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(fd[0], (struct sockaddr *)&at, sizeof at));
    fd[1] = must(accept(listener, NULL, NULL));
}

// The server's end goes first: its TIME_WAIT then is not in the way of the next client's search for a port.
static uint64_t tcp(uint64_t n)
{
    int fd[2];
    for (; n; n--) {
        connect_pair(fd);
        let_go(fd[1]);
        let_go(fd[0]);
    }
    return 0;
}

static uint64_t pair(uint64_t n)
{
    int fd[2];
    for (; n; n--) {
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
        let_go(fd[0]);
        let_go(fd[1]);
    }
    return 0;
}

static uint64_t udp(uint64_t n)
{
    for (; n; n--) let_go(must(socket(AF_INET, SOCK_DGRAM, 0)));
    return 0;
}

static uint64_t open_null(uint64_t n)
{
    for (; n; n--) close(must(open("/dev/null", O_RDONLY)));
    return 0;
}

static uint64_t open_file(uint64_t n)
{
    for (; n; n--) close(must(open("/etc/passwd", O_RDONLY)));
    return 0;
}

static uint64_t open_pipe(uint64_t n)
{
    int fd[2];
    for (; n; n--) {
        must(pipe(fd));
        close(fd[0]);
        close(fd[1]);
    }
    return 0;
}

static uint64_t open_eventfd(uint64_t n)
{
    for (; n; n--) close(must(eventfd(0, 0)));
    return 0;
}

static uint64_t dup_file(uint64_t n)
{
    for (; n; n--) close(must(dup(file)));
    return 0;
}

static uint64_t dup_socket(uint64_t n)
{
    for (; n; n--) close(must(dup(ends[0])));
    return 0;
}

static void exchange(int from, int to, uint64_t n)
{
    char text[64] = "";
    for (; n; n--) {
        must(send(from, text, sizeof text, 0));
        must(recv(to, text, sizeof text, 0));
    }
}

static uint64_t exchange_unix(uint64_t n)
{
    exchange(ends[0], ends[1], n);
    return 0;
}

static uint64_t exchange_tcp(uint64_t n)
{
    exchange(tcp_ends[0], tcp_ends[1], n);
    return 0;
}

static uint64_t file_read_write(uint64_t n)
{
    char text[64] = "";
    for (; n; n--) {
        must(lseek(file, 0, SEEK_SET));
        must(write(file, text, sizeof text));
        must(lseek(file, 0, SEEK_SET));
        must(read(file, text, sizeof text));
    }
    return 0;
}

// A second thread that does the same at the same time.
static pthread_barrier_t both;
static uint64_t shares;

static void *second(void *arg)
{
    for (;;) {
        pthread_barrier_wait(&both);
        pair(shares);
        pthread_barrier_wait(&both);
    }
    return arg;
}

static uint64_t two_threads(uint64_t n)
{
    static bool started;
    pthread_t t;
    if (!started) {
        started = true;
        must(-pthread_barrier_init(&both, NULL, 2));
        must(-pthread_create(&t, NULL, second, NULL));
    }
    shares = n;
    pthread_barrier_wait(&both);
    pair(n);
    pthread_barrier_wait(&both);
    return 0;
}

static uint64_t fork_exit(uint64_t n)
{
    for (; n; n--) {
        pid_t child = must(fork());
        if (child == 0) exit(0);
        must(waitpid(child, NULL, 0));
    }
    return 0;
}

// A server that forks: the child answers, the parent closes its copy at once.
static uint64_t fork_connection(uint64_t n)
{
    int fd[2];
    char answer;
    for (; n; n--) {
        connect_pair(fd);
        pid_t child = must(fork());
        if (child == 0) {
            must(send(fd[1], "", 1, 0));
            close(fd[1]);
            exit(0);
        }
        close(fd[1]);
        while (must(recv(fd[0], &answer, 1, 0)) > 0) {}
        close(fd[0]);
        must(waitpid(child, NULL, 0));
    }
    return 0;
}

static uint64_t spawn(uint64_t n)
{
    char *argv[] = {"/bin/true", NULL};
    for (; n; n--) {
        pid_t child;
        must(-posix_spawn(&child, argv[0], NULL, NULL, argv, environ));
        must(waitpid(child, NULL, 0));
    }
    return 0;
}

// The thread that is to be woken.
static struct {
    sem_t go, done;
    int fd;
    _Atomic pid_t tid;
    _Atomic uint64_t woken;
} sleeper;

static void *sleep_in_recv(void *arg)
{
    char text[8];
    sleeper.tid = (pid_t)syscall(SYS_gettid);
    for (;;) {
        while (sem_wait(&sleeper.go) != 0) {}
        recv(sleeper.fd, text, sizeof text, 0);
        sleeper.woken = clock_ns(CLOCK_MONOTONIC);
        sem_post(&sleeper.done);
    }
    return arg;
}

static void await_blocked(pid_t tid, int fd)
{
    char path[64], text[64], wanted[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    snprintf(wanted, sizeof wanted, "%d 0x%x ", SYS_recvfrom, (unsigned)fd);
    do {
        int proc = must(open(path, O_RDONLY));
        text[must(read(proc, text, sizeof text - 1))] = 0;
        close(proc);
    } while (strncmp(text, wanted, strlen(wanted)) != 0);
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

// From the close (or the shutdown before it) to the return of recv: the median of n, times n. One close in a
// millisecond: a program that frees blocked threads 50,000 times a second is no one's.
static uint64_t wake(uint64_t n)
{
    pthread_t t;
    if (!sleeper.tid) {
        must(-pthread_create(&t, NULL, sleep_in_recv, NULL));
        while (!sleeper.tid) {}
    }
    uint64_t *took = calloc(n, sizeof *took);
    for (uint64_t i = 0; i < n; i++) {
        int fd[2];
        connect_pair(fd);
        sleeper.fd = fd[1];
        sem_post(&sleeper.go);
        await_blocked(sleeper.tid, fd[1]);
        usleep(1000);
        uint64_t began = clock_ns(CLOCK_MONOTONIC);
        if (hand) shutdown(fd[1], SHUT_RDWR);
        close(fd[1]);
        while (sem_wait(&sleeper.done) != 0) {}
        took[i] = sleeper.woken - began;
        let_go(fd[0]);
    }
    qsort(took, n, sizeof *took, by_size);
    uint64_t median = took[n / 2];
    free(took);
    return median * n;
}

// Bytes of anonymous memory that are in use.
static uint64_t memory(uint64_t n)
{
    char text[4096], *line;
    (void)n;
    int proc = must(open("/proc/self/smaps_rollup", O_RDONLY));
    text[must(read(proc, text, sizeof text - 1))] = 0;
    close(proc);
    line = strstr(text, "\nAnonymous:");
    return line ? strtoull(line + strlen("\nAnonymous:"), NULL, 10) * 1024 : 0;
}

static void *blocked(void *arg)
{
    char byte;
    for (const int *fd = arg;;) must(recv(*fd, &byte, 1, 0));
    return arg;
}

static void hold(long sockets, bool low)
{
    int gap[4];
    for (int i = 0; low && i < 4; i++) gap[i] = must(dup(file));
    for (; sockets > 0; sockets--) must(socket(AF_INET, SOCK_STREAM, 0));
    for (int i = 0; low && i < 4; i++) close(gap[i]);
}

static void block(long threads)
{
    pthread_attr_t small;
    pthread_t t;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    for (; threads > 0; threads--) {
        int *fd = calloc(2, sizeof *fd);
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
        must(-pthread_create(&t, &small, blocked, fd));
    }
}

static void prepare(void)
{
    char path[] = "/dev/shm/preclose-bench-XXXXXX";
    socklen_t n = sizeof at;
    must(file = mkstemp(path));
    unlink(path);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)); // not for the program of spawn
    must(listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(listener, (struct sockaddr *)&at, sizeof at));
    must(listen(listener, 16));
    must(getsockname(listener, (struct sockaddr *)&at, &n));
    connect_pair(tcp_ends);
    for (int i = 0; i < 2; i++) must(fcntl(tcp_ends[i], F_SETFD, FD_CLOEXEC));
}

static const struct workload {
    const char *name;
    uint64_t (*run)(uint64_t n);
} workloads[] = {
    {"tcp", tcp},
    {"socketpair", pair},
    {"udp", udp},
    {"open-null", open_null},
    {"open-file", open_file},
    {"open-pipe", open_pipe},
    {"open-eventfd", open_eventfd},
    {"dup-file", dup_file},
    {"dup-socket", dup_socket},
    {"send-recv-unix", exchange_unix},
    {"send-recv-tcp", exchange_tcp},
    {"file-read-write", file_read_write},
    {"two-threads", two_threads},
    {"fork-exit", fork_exit},
    {"fork-connection", fork_connection},
    {"spawn", spawn},
    {"wake", wake},
    {"memory", memory},
};

int main(int argc, char **argv)
{
    long held = 0, threads = 0;
    bool low = false;
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "hand")) hand = true;
        else if (!strcmp(argv[i], "low")) low = true;
        else if (sscanf(argv[i], "held=%ld", &held) != 1) sscanf(argv[i], "threads=%ld", &threads);
    }
    for (size_t i = 0; argc > 1 && i < sizeof workloads / sizeof *workloads; i++) {
        if (strcmp(argv[1], workloads[i].name) != 0) continue;
        prepare();
        hold(held, low);
        block(threads);
        serve(workloads[i].run);
    }
    fprintf(stderr, "usage: work NAME [hand] [held=N [low]] [threads=N], driven by scripts/bench\n");
    return 2;
}
