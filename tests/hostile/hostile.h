// What every hostile test uses. A test runs with the library preloaded and judges itself: it ends with 0,
// with 1 and one line of what went wrong, or with 77 and "skip: reason".
//
// The first lines of a test may say how run.py is to run it: "env: NAME=VALUE...", "timeout: SECONDS",
// "beside: before|after NAME..." (a shared object of beside/, or of a package, preloaded before or after the
// library), "packages: NAME...".
#ifndef HOSTILE_H
#define HOSTILE_H

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HELPER __attribute__((unused)) static

enum { DEADLINE_MS = 5000 }; // a state that was expected and has not come by then is not coming

// --- Verdicts ---

HELPER int verdict_fd = STDOUT_FILENO; // a test that closes everything keeps its verdict elsewhere

HELPER const char *within; // what this child is about

HELPER void say(const char *format, va_list args, const char *before)
{
    char line[1024];
    int n = snprintf(line, sizeof line, "%s%.200s%s", before, within ? within : "", within ? ": " : "");
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    if (n > (int)sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    if (write(verdict_fd, line, (size_t)n) < 0) return;
}

// The test, or the child that this is, has failed.
__attribute__((format(printf, 1, 2), noreturn, unused)) static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args, "");
    va_end(args);
    _exit(1);
}

__attribute__((format(printf, 1, 2), noreturn, unused)) static void skip(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args, "skip: ");
    va_end(args);
    _exit(77);
}

// A call of the test's own that must work for it to mean anything.
HELPER int must_at(long ret, const char *what, int line)
{
    if (ret < 0) fail("line %d: %s: %s", line, what, strerror(errno));
    return (int)ret;
}
#define must(call) must_at((long)(call), #call, __LINE__)

HELPER void expect_at(bool truth, const char *what, int line)
{
    if (!truth) fail("line %d: not so: %s (errno %s)", line, what, strerror(errno));
}
#define expect(truth) expect_at((truth), #truth, __LINE__)

// --- Time ---

HELPER int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Between two looks at a state that is waited for.
HELPER void look_again(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

// --- Past the library: system calls that no preload sees ---

#if defined(__x86_64__)
HELPER long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#else
HELPER long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#endif

HELPER long raw(long nr, long a, long b, long c)
{
    return raw6(nr, a, b, c, 0, 0, 0);
}

HELPER int raw_close(int fd)
{
    return (int)raw(SYS_close, fd, 0, 0);
}

// A fork that no one is told of. Returns as fork(2), or -errno.
HELPER pid_t raw_fork(void)
{
    return (pid_t)raw6(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0);
}

__attribute__((noreturn, unused)) static void raw_exit(int status)
{
    for (;;) raw(SYS_exit_group, status, 0, 0);
}

HELPER int is_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    return info->dlpi_name && strstr(info->dlpi_name, "libpreclose") != NULL;
}

// Is the library in this process?
HELPER bool library_here(void)
{
    return dl_iterate_phdr(is_library, NULL) != 0;
}

// HOSTILE_WITHOUT=1 runs a test bare, to see that what it asks for holds without the library.
HELPER void need_library(void)
{
    if (!library_here() && !getenv("HOSTILE_WITHOUT")) skip("the library is not preloaded");
}

// HOSTILE_FULL=1: all that a test has, however long it takes.
HELPER bool everything_asked(void)
{
    return getenv("HOSTILE_FULL") != NULL;
}

// --- Children with a deadline ---

// "main in 202, 4711 in 202": the system call of each thread of a process that hangs.
HELPER void where_it_hangs(pid_t pid, char *text, size_t size)
{
    char path[64], line[128];
    size_t n = 0;
    text[0] = '\0';
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir)) && n + 48 < size;) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.16s/syscall", (int)pid, e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
        if (fd >= 0) raw_close(fd);
        line[got > 0 ? got : 0] = '\0';
        line[strcspn(line, " \n")] = '\0';
        n += (size_t)snprintf(text + n, size - n, "%s%.16s in call %.16s", n ? ", " : "", e->d_name, line);
    }
    if (dir) closedir(dir);
}

// Waits for a child; fails if it hangs or ends otherwise than with status 0. A child that ends with 1 has said why.
HELPER void reap(pid_t pid, const char *what, int ms)
{
    int status, pidfd = (int)raw(SYS_pidfd_open, pid, 0, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int64_t end = now_ms() + ms;
    for (;;) {
        int64_t left = end - now_ms();
        if (poll(&p, 1, left > 0 ? (int)left : 0) > 0) break;
        if (left > 0) continue;
        char where[600];
        where_it_hangs(pid, where, sizeof where);
        kill(-pid, SIGKILL);
        kill(pid, SIGKILL);
        fail("%s: hangs after %d ms (%s)", what, ms, where);
    }
    raw_close(pidfd);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (WIFSIGNALED(status)) fail("%s: killed by signal %d (%s)", what, WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) == 77) _exit(77);
    if (WEXITSTATUS(status) == 1) _exit(1);
    if (status) fail("%s: ended with status %d", what, WEXITSTATUS(status));
}

typedef void child_function(long arg);

// fn(arg) in a child of its own.
HELPER void in_child(const char *what, int ms, child_function *fn, long arg)
{
    pid_t pid = must(fork());
    if (!pid) {
        setpgid(0, 0);
        within = what;
        fn(arg);
        _exit(0);
    }
    reap(pid, what, ms);
}

// --- Sockets ---

HELPER void pair(int sv[2])
{
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
}

HELPER int listener_on(struct sockaddr_in *at)
{
    int l = must(socket(AF_INET, SOCK_STREAM, 0));
    socklen_t n = sizeof *at;
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    must(bind(l, (struct sockaddr *)at, sizeof *at));
    must(listen(l, 128));
    must(getsockname(l, (struct sockaddr *)at, &n));
    return l;
}

HELPER void tcp_pair(int sv[2])
{
    struct sockaddr_in at;
    int l = listener_on(&at);
    sv[0] = must(socket(AF_INET, SOCK_STREAM, 0));
    must(connect(sv[0], (struct sockaddr *)&at, sizeof at));
    sv[1] = must(accept(l, NULL, NULL));
    must(close(l));
}

// What a peer sees within ms: 'd' data, 'e' EOF, 'r' reset, '-' nothing. Data is taken.
HELPER char peer_sees(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;
    int n;
    do n = poll(&p, 1, ms);
    while (n < 0 && errno == EINTR);
    if (n <= 0) return '-';
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    if (got > 0) return 'd';
    if (got == 0) return 'e';
    return errno == ECONNRESET ? 'r' : errno == EAGAIN ? '-' : '?';
}

// Does a byte get from one end to the other?
HELPER bool flows(int from, int to)
{
    return send(from, "x", 1, MSG_NOSIGNAL) == 1 && peer_sees(to, 1000) == 'd';
}

HELPER bool both_ways(int a, int b)
{
    return flows(a, b) && flows(b, a);
}

HELPER bool is_open(int fd)
{
    return raw(SYS_fcntl, fd, F_GETFD, 0) >= 0;
}

// --- Threads ---

HELPER pid_t tid_now(void)
{
    return (pid_t)raw(SYS_gettid, 0, 0, 0);
}

// Is the thread blocked in that system call? nr < 0: in any.
HELPER bool is_blocked(pid_t pid, pid_t tid, long nr)
{
    char path[64], line[64] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)pid, (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, line, sizeof line - 1);
    raw_close(fd);
    if (n <= 0 || line[0] == 'r' || line[0] == '-') return false;
    return nr < 0 || strtol(line, NULL, 10) == nr;
}

HELPER void wait_blocked(pid_t tid, long nr)
{
    int64_t end = now_ms() + DEADLINE_MS;
    while (!is_blocked(getpid(), tid, nr)) {
        if (now_ms() > end) fail("thread %d never came to block in call %ld", (int)tid, nr);
        look_again();
    }
}

HELPER pthread_t start_thread(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    int err = pthread_create(&t, NULL, fn, arg);
    if (err) fail("pthread_create: %s", strerror(err));
    return t;
}

// A thread in recv on fd.
struct receiver {
    pthread_t thread;
    int fd;
    _Atomic pid_t tid;
    _Atomic bool back;
    ssize_t got;
};

HELPER void *receive(void *arg)
{
    struct receiver *r = arg;
    char byte;
    atomic_store(&r->tid, tid_now());
    r->got = recv(r->fd, &byte, 1, 0);
    atomic_store(&r->back, true);
    return NULL;
}

HELPER void start_receiver(struct receiver *r, int fd)
{
    memset(r, 0, sizeof *r);
    r->fd = fd;
    r->thread = start_thread(receive, r);
    while (!atomic_load(&r->tid)) sched_yield();
    wait_blocked(atomic_load(&r->tid), SYS_recvfrom);
}

HELPER bool comes_back(struct receiver *r, int ms)
{
    for (int64_t end = now_ms() + ms; !atomic_load(&r->back); look_again())
        if (now_ms() > end) return false;
    pthread_join(r->thread, NULL);
    return true;
}

// The library does its work in this process: a thread in recv comes back when another closes. Whatever was
// attacked before, this must be true after.
HELPER void still_works(const char *after)
{
    int sv[2];
    struct receiver r;
    if (!library_here()) return;
    pair(sv);
    start_receiver(&r, sv[0]);
    must(close(sv[0]));
    if (!comes_back(&r, DEADLINE_MS)) fail("after %s: a close no longer wakes the thread in recv", after);
    expect(r.got == 0);
    must(close(sv[1]));
}

// Every kind of call that enters the library, on sockets of its own.
HELPER void exercise(void)
{
    int sv[2], set = must(epoll_create1(EPOLL_CLOEXEC));
    pair(sv);
    struct epoll_event event = {.events = EPOLLIN};
    must(epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &event));
    int d = must(dup(sv[1])), e = must(fcntl(sv[1], F_DUPFD_CLOEXEC, 0));
    must(dup2(sv[1], e));
    must(fcntl(d, F_SETFD, FD_CLOEXEC));
    expect(both_ways(sv[0], d));
    must(close(sv[1]));
    must(close(e));
    expect(both_ways(sv[0], d));
    must(close(d));
    expect(peer_sees(sv[0], DEADLINE_MS) == 'e');
    must(close(sv[0]));
    must(close(set));
}

// --- Filters ---

struct filter {
    struct sock_filter code[400];
    unsigned short n;
};

HELPER struct filter filter_new(void)
{
    return (struct filter){.code = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))}, .n = 1};
}

HELPER void filter_call(struct filter *f, long nr, unsigned action)
{
    f->code[f->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1);
    f->code[f->n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
}

// Only where the 32 bits of argument arg are value.
HELPER void filter_argument(struct filter *f, long nr, unsigned arg, unsigned value, unsigned action)
{
    unsigned at = (unsigned)offsetof(struct seccomp_data, args) + 8 * arg;
    f->code[f->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 4);
    f->code[f->n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at);
    f->code[f->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    f->code[f->n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    f->code[f->n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
}

HELPER struct sock_fprog filter_end(struct filter *f, unsigned otherwise)
{
    f->code[f->n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    return (struct sock_fprog){.len = f->n, .filter = f->code};
}

// Past the library, as whoever starts a program would.
HELPER void filter_inherit(const struct sock_fprog *p)
{
    must(raw6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0));
    long ret = raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (long)p);
    if (ret < 0) skip("no seccomp filters here: %s", strerror((int)-ret));
}

// --- Itself, again ---

// Runs this program again with argv[1] mode and argv[2] arg; gives back what it wrote to stdout (malloc), and its
// status.
HELPER char *output_of_self(const char *mode, const char *arg, bool with_library, int *status)
{
    int out[2];
    must(pipe2(out, O_CLOEXEC));
    pid_t pid = must(fork());
    if (!pid) {
        if (!with_library) unsetenv("LD_PRELOAD");
        must(dup2(out[1], STDOUT_FILENO));
        char *argv[] = {(char[]){"self"}, (char *)(uintptr_t)mode, (char *)(uintptr_t)arg, NULL};
        execv("/proc/self/exe", argv);
        _exit(126);
    }
    must(close(out[1]));
    size_t n = 0, size = 1 << 16;
    char *text = malloc(size);
    if (!text) fail("no memory");
    for (ssize_t got; (got = read(out[0], text + n, size - n - 1)) != 0;) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        n += (size_t)got;
        if (size - n < 4096 && !(text = realloc(text, size *= 2))) fail("no memory");
    }
    text[n] = '\0';
    must(close(out[0]));
    while (waitpid(pid, status, 0) < 0 && errno == EINTR) {}
    return text;
}

// This program again in a child, with the log that it is given, judging itself.
struct again {
    const char *mode, *arg;
    const char *log;   // PRECLOSE_LOG
    const char *stage; // one more variable and its value, or NULL
    const char *value;
    int stderr_fd;     // what its descriptor 2 is to be, or -1
};

HELPER void become(long arg)
{
    const struct again *a = (const struct again *)arg;
    char *argv[] = {(char[]){"self"}, (char *)(uintptr_t)a->mode, (char *)(uintptr_t)a->arg, NULL};
    must(setenv("PRECLOSE_LOG", a->log, 1));
    if (a->stage) must(setenv(a->stage, a->value, 1));
    if (a->stderr_fd >= 0) must(dup2(a->stderr_fd, STDERR_FILENO));
    execv("/proc/self/exe", argv);
    _exit(126);
}

HELPER void again(const char *what, const struct again *a)
{
    in_child(what, 20000, become, (long)a);
}

// The first line in which the two differ, for a verdict.
HELPER void expect_same(const char *what, const char *without, const char *with)
{
    while (*without || *with) {
        size_t a = strcspn(without, "\n"), b = strcspn(with, "\n");
        if (a != b || memcmp(without, with, a))
            fail("%s: without the library \"%.*s\", with it \"%.*s\"", what, (int)a, without, (int)b, with);
        without += a + (without[a] != '\0');
        with += b + (with[b] != '\0');
    }
}

// --- The log ---

// The scratch directory of this run.
HELPER const char *scratch(void)
{
    const char *dir = getenv("HOSTILE_SCRATCH");
    if (!dir) skip("run by run.py only");
    return dir;
}

// The whole of a file (malloc), NUL-terminated; "" if there is none.
HELPER char *text_of(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0, size = 1 << 16;
    char *text = malloc(size);
    if (!text) fail("no memory");
    for (ssize_t got; fd >= 0 && (got = read(fd, text + n, size - n - 1)) > 0;) {
        n += (size_t)got;
        if (size - n < 4096 && !(text = realloc(text, size *= 2))) fail("no memory");
    }
    text[n] = '\0';
    if (fd >= 0) raw_close(fd);
    return text;
}

// The descriptor that the library keeps for the log at path, or -1.
HELPER int log_descriptor(const char *path)
{
    char link[64], at[PATH_MAX];
    for (int fd = 0; fd < 2048; fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, at, sizeof at - 1);
        if (n <= 0) continue;
        at[n] = '\0';
        if (!strcmp(at, path)) return fd;
    }
    return -1;
}

HELPER unsigned lines_in(const char *path)
{
    char *text = text_of(path);
    unsigned n = 0;
    for (const char *c = text; *c; c++) n += *c == '\n';
    free(text);
    return n;
}

// A close that is told (PRECLOSE_LEVEL=info).
HELPER void told_close(void)
{
    int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
    must(close(fd));
}

HELPER unsigned count_of(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

HELPER uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
