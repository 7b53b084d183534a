// A program that opens, shares and closes sockets in every way that the library has a name for, and says what
// came of each call: the same with the library and without.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long say(const char *what, long result)
{
    printf("%s: %s\n", what, result >= 0 ? "done" : strerrorname_np(errno));
    return result;
}

static int open_listener(int type, struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int on = 1, fd = socket(AF_INET, type, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    say("setsockopt", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    say("bind", bind(fd, (struct sockaddr *)address, sizeof *address));
    getsockname(fd, (struct sockaddr *)address, &length);
    if (type & SOCK_STREAM) say("listen", listen(fd, 8));
    return fd;
}

static int connect_to(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    say("connect", connect(fd, (const struct sockaddr *)address, sizeof *address));
    return fd;
}

// Connections that end in every way, with bytes unread, linger, or a half-close before.
static void connections(void)
{
    struct sockaddr_in address;
    struct linger now = {.l_onoff = 1};
    char byte;
    int listener = open_listener(SOCK_STREAM, &address);
    for (int i = 0; i < 4; i++) {
        int client = connect_to(&address), server = i & 1 ? accept(listener, NULL, NULL) : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        say("send", send(client, "hello", 5, 0));
        while (recv(server, &byte, 1, MSG_PEEK) < 1) continue;
        if (i == 1) say("recv", recv(server, &byte, 1, 0));
        if (i == 2) setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        if (i == 3) say("shutdown", shutdown(server, SHUT_RDWR));
        say("close", close(server));
        say("close again", close(server));
        say("shutdown of a closed one", shutdown(server, SHUT_RDWR));
        say("close", close(client));
    }
    int waiting = connect_to(&address);
    say("close", close(listener));
    say("accept on a closed one", accept(listener, NULL, NULL));
    say("close", close(waiting));
}

static void pair(int ends[2])
{
    say("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
}

static void duplicates(void)
{
    int ends[2], copy;
    pair(ends);
    copy = (int)say("dup", dup(ends[0]));
    close(copy);
    copy = (int)say("F_DUPFD", fcntl(ends[0], F_DUPFD, 50));
    say("dup2", dup2(ends[1], copy));
    say("dup3", dup3(ends[1], copy, O_CLOEXEC));
    say("dup3 onto itself", dup3(copy, copy, 0));
    say("dup2 of nothing", dup2(200, copy));
    say("F_SETFD", fcntl(ends[0], F_SETFD, FD_CLOEXEC));
    say("FIOASYNC", ioctl(ends[0], FIOASYNC, &(int){0}));
    say("syscall", syscall(SYS_close, ends[1]));
    say("close_range", close_range(50, 60, 0));
    say("close_range, badly", close_range(60, 50, 0));
    FILE *stream = fdopen(ends[0], "w");
    fputs("buffered", stream);
    say("fclose", fclose(stream)); // its peer is gone: SIGPIPE is ignored
    pair(ends);
    stream = freopen("/dev/null", "w", fdopen(ends[0], "w"));
    say("freopen", stream ? 0 : -1);
    fclose(stream);
    close(ends[1]);
    pair(ends);
    closefrom(ends[0]);
}

static void sets(void)
{
    int ends[2], set = (int)say("epoll_create1", epoll_create1(EPOLL_CLOEXEC)), old = (int)say("epoll_create", epoll_create(1));
    struct epoll_event event = {.events = EPOLLIN}, got[4];
    pair(ends);
    say("EPOLL_CTL_ADD", epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event));
    say("EPOLL_CTL_ADD", epoll_ctl(old, EPOLL_CTL_ADD, ends[0], &event));
    say("EPOLL_CTL_MOD", epoll_ctl(old, EPOLL_CTL_MOD, ends[0], &event));
    say("EPOLL_CTL_DEL", epoll_ctl(old, EPOLL_CTL_DEL, ends[0], NULL));
    close(ends[0]);
    printf("events: %d\n", epoll_wait(set, got, 4, 0));
    close(ends[1]);
    close(set);
    close(old);
}

static struct msghdr *message(struct iovec *part, char control[64])
{
    static struct msghdr m;
    part->iov_base = "m";
    part->iov_len = 1;
    memset(control, 0, 64);
    m = (struct msghdr){.msg_iov = part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int))};
    return &m;
}

static void pass(void)
{
    int over[2], ends[2], got;
    char control[64], byte;
    struct iovec part;
    pair(over);
    pair(ends);
    struct msghdr *m = message(&part, control);
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), &ends[0], sizeof(int));
    say("sendmsg", sendmsg(over[0], m, 0));
    struct mmsghdr two = {.msg_hdr = *m};
    say("sendmmsg", sendmmsg(over[0], &two, 1, 0));
    close(ends[0]);
    part.iov_base = &byte;
    for (int i = 0; i < 2; i++) {
        two.msg_hdr.msg_controllen = m->msg_controllen = sizeof control;
        say("recvmsg", i ? recvmmsg(over[1], &two, 1, 0, NULL) : recvmsg(over[1], m, MSG_CMSG_CLOEXEC));
        memcpy(&got, CMSG_DATA((struct cmsghdr *)control), sizeof got);
        say("send on what came", send(got, "x", 1, 0));
        close(got);
    }
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    close(pidfd);
    for (int i = 0; i < 2; i++) close(over[i]);
    close(ends[1]);
}

static int in_clone(void *fd)
{
    close(*(int *)fd);
    return 0;
}

static void children(void)
{
    static char stack[64 * 1024] __attribute__((aligned(16)));
    int ends[2], status;
    pid_t child;
    posix_spawn_file_actions_t actions;
    pair(ends);
    fflush(stdout);
    if ((child = fork()) == 0) {
        close(ends[0]);
        _exit(close(ends[1]));
    }
    waitpid(child, &status, 0);
    if ((child = _Fork()) == 0) _exit(close(ends[0]));
    waitpid(child, &status, 0);
    if ((child = vfork()) == 0) _exit(0);
    waitpid(child, &status, 0);
    child = clone(in_clone, stack + sizeof stack, SIGCHLD, &ends[0]);
    waitpid(child, &status, 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
    char *arguments[] = {"true", NULL};
    say("posix_spawnp", -posix_spawnp(&child, "true", &actions, NULL, arguments, environ));
    waitpid(child, &status, 0);
    say("posix_spawn", -posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ));
    waitpid(child, &status, 0);
    posix_spawn_file_actions_destroy(&actions);
    printf("system: %d\n", system("true"));
    pclose(popen("true", "r"));
    say("send after them", send(ends[0], "x", 1, MSG_NOSIGNAL));
    close(ends[0]);
    close(ends[1]);
}

struct blocked {
    int fd;
    _Atomic pid_t tid;
    bool listener;
};

static void *block(void *argument)
{
    struct blocked *b = argument;
    char byte;
    b->tid = (pid_t)syscall(SYS_gettid);
    if (b->listener) accept(b->fd, NULL, NULL);
    else recv(b->fd, &byte, 1, 0);
    return NULL;
}

static bool is_blocked(struct blocked *b)
{
    char path[64], state[512] = "";
    if (!b->tid) return false;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)b->tid);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    if (fread(state, 1, sizeof state - 1, f) == 0) state[0] = '\0';
    fclose(f);
    char *end = strrchr(state, ')');
    return end && end[1] && end[2] == 'S';
}

// Threads blocked on what is closed; the other side then ends what would be left hanging.
static void threads(void)
{
    struct sockaddr_in address;
    int ends[2];
    pthread_t thread;
    for (int round = 0; round < 2; round++) {
        struct blocked b = {.listener = round};
        int last = -1;
        if (round) {
            b.fd = open_listener(SOCK_STREAM, &address);
        } else {
            pair(ends);
            b.fd = ends[0];
            last = ends[1];
        }
        pthread_create(&thread, NULL, block, &b);
        struct timespec pause = {.tv_nsec = 1000000};
        for (int i = 0; i < 5000 && !is_blocked(&b); i++) nanosleep(&pause, NULL);
        close(b.fd);
        if (round) { // a thread that was left in accept takes one more connection
            last = socket(AF_INET, SOCK_STREAM, 0);
            connect(last, (struct sockaddr *)&address, sizeof address);
        }
        close(last);
        pthread_join(thread, NULL);
        puts("joined");
    }
}

static void *close_forever(void *argument)
{
    int ends[2];
    for (int i = 0; i < *(int *)argument; i++) {
        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends)) continue;
        close(ends[0]);
        close(ends[1]);
    }
    return NULL;
}

static void crowd(void)
{
    pthread_t thread[4];
    int rounds = 50;
    for (int i = 0; i < 4; i++) pthread_create(&thread[i], NULL, close_forever, &rounds);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    puts("all closed");
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    connections();
    duplicates();
    sets();
    pass();
    children();
    threads();
    crowd();
    say("prctl", prctl(PR_SET_NAME, "tour"));
    open_listener(SOCK_STREAM, &(struct sockaddr_in){0}); // open at exit
    return 0;
}
