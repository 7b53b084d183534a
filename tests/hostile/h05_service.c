// Hazard 5: a service that is given its listeners as systemd gives them (LISTEN_FDS, LISTEN_PID, from descriptor 3 on), and
// as inetd gives one to "wait" services (descriptor 0). The manager has them too, for the next start of the service. What
// the service closes stays open for the manager: clients in the queue are not reset, and new ones come.
#include "hostile.h"

enum kind { TCP, UNIX, UDP, UNIX_DGRAM, KINDS };
enum { FIRST = 3, ROUTES = 6 };
static const char *const routes[ROUTES] = {"close", "dup2", "close_range", "fclose", "exit", "exec"};

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_un un;
    } u;
    socklen_t n;
};

static int type_of(enum kind kind)
{
    return kind == TCP || kind == UNIX ? SOCK_STREAM : SOCK_DGRAM;
}

static int family_of(enum kind kind)
{
    return kind == TCP || kind == UDP ? AF_INET : AF_UNIX;
}

static int serve_on(enum kind kind, struct address *at)
{
    int fd = must(socket(family_of(kind), type_of(kind) | SOCK_CLOEXEC, 0));
    *at = (struct address){.n = sizeof(struct sockaddr_in)};
    at->u.any.sa_family = (sa_family_t)family_of(kind);
    if (family_of(kind) == AF_UNIX) at->n = sizeof(sa_family_t); // a name that the kernel chooses
    else at->u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(fd, &at->u.any, at->n));
    if (type_of(kind) == SOCK_STREAM) must(listen(fd, 5));
    at->n = sizeof at->u;
    must(getsockname(fd, &at->u.any, &at->n));
    return fd;
}

static int client_of(enum kind kind, const struct address *at)
{
    int fd = must(socket(family_of(kind), type_of(kind) | SOCK_CLOEXEC, 0));
    must(connect(fd, &at->u.any, at->n));
    return fd;
}

// --- The service ---

static _Atomic pid_t waiting;

// Blocked on it, without taking anything away.
static void *wait_on(void *arg)
{
    struct pollfd p = {.fd = (int)(intptr_t)arg, .events = POLLPRI};
    atomic_store(&waiting, tid_now());
    poll(&p, 1, -1);
    return NULL;
}

static void let_go(const char *route, int fd)
{
    if (!strcmp(route, "close")) must(close(fd));
    if (!strcmp(route, "dup2")) must(dup2(STDOUT_FILENO, fd));
    if (!strcmp(route, "close_range")) must(close_range((unsigned)fd, (unsigned)fd, 0));
    if (!strcmp(route, "fclose")) must(fclose(fdopen(fd, "r+")));
    if (!strcmp(route, "exec")) must(fcntl(fd, F_SETFD, FD_CLOEXEC));
}

static int serve(const char *route)
{
    int fds[KINDS + 1] = {0};
    expect(atoi(getenv("LISTEN_FDS")) == KINDS && atoi(getenv("LISTEN_PID")) == getpid());
    for (int kind = 0; kind < KINDS; kind++) fds[kind] = FIRST + kind;
    // One client each is served; its connection is the service's own.
    for (int kind = TCP; kind <= UNIX; kind++) {
        int c = must(accept(fds[kind], NULL, NULL));
        expect(peer_sees(c, DEADLINE_MS) == 'd' && send(c, "y", 1, MSG_NOSIGNAL) == 1);
        must(close(c));
    }
    for (int i = 0; i <= KINDS; i++) {
        atomic_store(&waiting, 0);
        start_thread(wait_on, (void *)(intptr_t)fds[i]);
        while (!atomic_load(&waiting)) look_again();
        wait_blocked(atomic_load(&waiting), SYS_poll);
        let_go(route, fds[i]);
    }
    if (write(STDOUT_FILENO, "d", 1) != 1) return 1;
    if (!strcmp(route, "exec")) execl("/bin/true", "true", NULL);
    if (!strcmp(route, "exit")) exit(0);
    raw_exit(0);
}

// --- The manager ---

static void expect_alive(enum kind kind, int fd, const struct address *at, int queued)
{
    char byte;
    if (type_of(kind) == SOCK_STREAM) {
        if (peer_sees(queued, 0) != '-') fail("kind %d: the client in the queue was cut", kind);
        int c = must(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
        if (!both_ways(c, queued)) fail("kind %d: the client in the queue was cut", kind);
        int again = client_of(kind, at), d = must(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
        if (!both_ways(again, d)) fail("kind %d: no new clients", kind);
        raw_close(again);
        raw_close(d);
        raw_close(c);
    } else {
        expect(recv(fd, &byte, 1, MSG_DONTWAIT) == 1 && byte == 'q'); // what nobody has read yet
        int again = client_of(kind, at);
        if (!flows(again, fd)) fail("kind %d: nothing is received any more", kind);
        raw_close(again);
    }
}

static void manage(long route)
{
    struct address at[KINDS + 1];
    int ours[KINDS + 1], served[KINDS + 1], queued[KINDS + 1], out[2];
    char byte;
    for (int i = 0; i <= KINDS; i++) { // the last is what inetd would give
        int kind = i % KINDS;
        int fd = serve_on((enum kind)kind, &at[i]);
        ours[i] = must(fcntl(fd, F_DUPFD_CLOEXEC, 100));
        raw_close(fd);
        served[i] = client_of((enum kind)kind, &at[i]);
        if (type_of((enum kind)kind) == SOCK_STREAM && i < KINDS) expect(send(served[i], "x", 1, 0) == 1);
        queued[i] = i < KINDS ? client_of((enum kind)kind, &at[i]) : served[i];
        if (type_of((enum kind)kind) == SOCK_DGRAM) expect(send(queued[i], "q", 1, 0) == 1);
    }
    must(pipe2(out, O_CLOEXEC));
    pid_t pid = must(fork());
    if (!pid) {
        char pid_text[12];
        must(dup2(out[1], STDOUT_FILENO));
        must(dup2(ours[KINDS], STDIN_FILENO));
        for (int i = 0; i < KINDS; i++) must(dup2(ours[i], FIRST + i));
        snprintf(pid_text, sizeof pid_text, "%d", (int)getpid());
        must(setenv("LISTEN_PID", pid_text, 1));
        must(setenv("LISTEN_FDS", "4", 1));
        char *argv[] = {(char[]){"self"}, (char[]){"serve"}, (char *)(uintptr_t)routes[route], NULL};
        execv("/proc/self/exe", argv);
        _exit(126);
    }
    must(close(out[1]));
    if (read(out[0], &byte, 1) != 1 || byte != 'd') {
        char rest[300] = "";
        if (read(out[0], rest, sizeof rest - 1) < 0) rest[0] = '\0';
        fail("%c%s", byte, rest);
    }
    reap(pid, "the service", DEADLINE_MS);
    for (int kind = TCP; kind <= UNIX; kind++) {
        expect(peer_sees(served[kind], DEADLINE_MS) == 'd');
        expect(peer_sees(served[kind], DEADLINE_MS) == 'e');
    }
    for (int i = 0; i <= KINDS; i++) expect_alive((enum kind)(i % KINDS), ours[i], &at[i], queued[i]);
}

int main(int argc, char **argv)
{
    if (argc > 2) return serve(argv[2]);
    need_library();
    for (long route = 0; route < ROUTES; route++) in_child(routes[route], 10000, manage, route);
    return 0;
}
