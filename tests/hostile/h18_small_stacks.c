// timeout: 40
// env: LD_BIND_NOW=1
// Hazard 18: threads with the smallest stack that there is, and handlers on a signal stack with 4.5 KiB more than the
// kernel needs, let go of sockets about which there is much to ask and to tell.
#include "hostile.h"

enum { ROOM = 4096 + 512 };

enum what { PLAIN, UNREAD, RESET, BACKLOG, WATCHED, BLOCKED, SHARED, UNIX_BACKLOG, DOUBLE, TOO_LATE, ONTO, RANGE, STREAM, MESSAGE, WHATS };
static const char *const names[] = {"a plain close", "bytes unread", "SO_LINGER 0", "a backlog", "epoll sets", "a thread blocked",
                                    "a thread blocked, and a child", "a unix backlog", "a double close", "a call too late", "dup2 onto",
                                    "close_range", "fclose", "a message with descriptors"};

static int fd, peer, more[20];
static struct receiver receiver;
static pid_t child;
static FILE *stream;
static struct msghdr message;
static struct iovec part;
static char byte, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));

static void prepare(enum what what)
{
    struct linger l = {.l_onoff = 1};
    struct epoll_event e = {.events = EPOLLIN};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in at;
    int sv[2];
    if (what == UNREAD || what == RESET) tcp_pair(sv);
    else pair(sv);
    fd = sv[0];
    peer = sv[1];
    switch (what) {
    case UNREAD:
        expect(send(peer, "abc", 3, 0) == 3 && send(fd, "abc", 3, 0) == 3);
        break;
    case RESET:
        must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
        break;
    case BACKLOG:
        fd = listener_on(&at);
        for (int i = 0; i < 3; i++) must(connect(must(socket(AF_INET, SOCK_STREAM, 0)), (struct sockaddr *)&at, sizeof at));
        break;
    case UNIX_BACKLOG:
        snprintf(un.sun_path, sizeof un.sun_path, "%.80s/un.%d", scratch(), (int)getpid());
        fd = must(socket(AF_UNIX, SOCK_STREAM, 0));
        must(bind(fd, (struct sockaddr *)&un, sizeof un));
        must(listen(fd, 5));
        must(connect(must(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&un, sizeof un));
        break;
    case WATCHED:
        for (int i = 0; i < 8; i++) must(epoll_ctl(must(epoll_create1(0)), EPOLL_CTL_ADD, fd, &e));
        break;
    case BLOCKED:
    case SHARED:
        start_receiver(&receiver, fd);
        if (what == BLOCKED) break;
        child = must(fork());
        if (!child) {
            for (;;) pause();
        }
        break;
    case DOUBLE:
    case TOO_LATE:
        must(close(fd));
        break;
    case STREAM:
        stream = fdopen(fd, "r+");
        expect(stream);
        break;
    case MESSAGE:
        part = (struct iovec){&byte, 1};
        message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        *CMSG_FIRSTHDR(&message) =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &peer, sizeof peer);
        break;
    default:
        break;
    }
}

// What is measured. Nothing here needs much stack by itself.
static void act(enum what what)
{
    switch (what) {
    case DOUBLE:
        close(fd);
        fd = dup(peer); // what waited is told
        close(fd);
        break;
    case TOO_LATE:
        shutdown(fd, SHUT_RDWR);
        dup(fd);
        break;
    case ONTO:
        dup2(STDIN_FILENO, fd);
        break;
    case RANGE:
        close_range((unsigned)fd, (unsigned)fd, 0);
        break;
    case STREAM:
        fclose(stream);
        break;
    case MESSAGE:
        sendmsg(fd, &message, 0);
        recvmsg(peer, &message, 0);
        close(fd);
        break;
    default:
        close(fd);
    }
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, more) == 0) {
        more[2] = dup(more[0]);
        close(more[0]);
        close(more[1]);
        close(more[2]);
    }
}

static enum what now_what;
static _Atomic bool done;

static void on_signal(int sig)
{
    (void)sig;
    act(now_what);
    done = true;
}

static void finish(enum what what)
{
    if (child > 0) kill(child, SIGKILL);
    if (what == BLOCKED && library_here()) expect(comes_back(&receiver, DEADLINE_MS));
    raw_exit(0);
}

static long minimum(void)
{
    long n = sysconf(_SC_MINSIGSTKSZ);
    return n > 0 ? n : 2048;
}

// With an unreadable page below it: whoever needs more dies.
static char *guarded(size_t size)
{
    size_t pages = (size + 4095) & ~(size_t)4095;
    char *at = mmap(NULL, pages + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(mprotect(at, 4096, PROT_NONE));
    return at + 4096;
}

static struct {
    size_t most;
    enum what what;
} *deepest; // shared

static void on_signal_stack(long what)
{
    // The stack begins right above the unreadable page.
    const size_t size = ((size_t)minimum() + ROOM + 15) & ~(size_t)15;
    char *low = guarded(size);
    stack_t ss = {.ss_sp = low, .ss_size = size};
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    prepare((enum what)what);
    now_what = (enum what)what;
    memset(low, 0xa5, size);
    must(sigaltstack(&ss, NULL));
    must(sigaction(SIGUSR1, &sa, NULL));
    raise(SIGUSR1);
    expect(done);
    size_t untouched = 0;
    while (untouched < size && low[untouched] == (char)0xa5) untouched++;
    if (size - untouched > deepest->most) {
        deepest->most = size - untouched;
        deepest->what = (enum what)what;
    }
    finish((enum what)what);
}

static void *in_thread(void *arg)
{
    act((enum what)(uintptr_t)arg);
    done = true;
    return NULL;
}

static void in_small_thread(long what)
{
    pthread_attr_t attr;
    pthread_t t;
    prepare((enum what)what);
    pthread_attr_init(&attr);
    const size_t size = (size_t)PTHREAD_STACK_MIN;
    must(-pthread_attr_setstacksize(&attr, size));
    must(-pthread_create(&t, &attr, in_thread, (void *)(uintptr_t)what));
    pthread_join(t, NULL);
    expect(done);
    finish((enum what)what);
}

int main(void)
{
    need_library();
    deepest = mmap(NULL, sizeof *deepest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (long what = 0; what < WHATS; what++) {
        char text[100];
        snprintf(text, sizeof text, "%s, on a small stack", names[what]);
        in_child(text, 10000, in_small_thread, what);
        snprintf(text, sizeof text, "%s, on a signal stack", names[what]);
        in_child(text, 10000, on_signal_stack, what);
    }
    printf("note: at most %zu bytes of a signal stack of %ld (%s)\n", deepest->most, minimum() + ROOM,
           names[deepest->what]);
    return 0;
}
