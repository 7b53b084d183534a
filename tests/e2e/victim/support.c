// What every scenario uses: parameters, lines of output, waits with a deadline, sockets in a known
// state, and threads that are shown to be blocked.

enum {
    DEADLINE_MS = 5000, // after this a state that was expected is not coming
    WAKE_MS = 3000,     // a thread still blocked this long after the close was not woken
    HANG_MS = 300,      // the same, where it is expected to hang
};

static char **parameters; // "key=value", NULL-terminated

// The value of a parameter, or otherwise.
static const char *text_of(const char *key, const char *otherwise)
{
    size_t n = strlen(key);
    for (char **p = parameters; p && *p; p++)
        if (!strncmp(*p, key, n) && (*p)[n] == '=') return *p + n + 1;
    return otherwise;
}

static long number_of(const char *key, long otherwise)
{
    const char *value = text_of(key, NULL);
    return value ? strtol(value, NULL, 0) : otherwise;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

// One line of output, by one write: processes that share the pipe do not tear each other's lines.
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(line, sizeof line - 1, format, ap);
    va_end(ap);
    if (n < 0 || (size_t)n > sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)n) < 0) return;
}

// "EINVAL"; "0" for no error.
static const char *error_name(int err)
{
    const char *name = err ? strerrorname_np(err) : "0";
    return name ? name : "?";
}

// The scenario cannot be set up: says so and ends the process with status 99.
__attribute__((noreturn)) static void broken(const char *what)
{
    say("broken=%s: %s", what, error_name(errno));
    _exit(99);
}

static int must(long r, const char *what)
{
    if (r < 0) broken(what);
    return (int)r;
}

static long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Between two looks at a state that is waited for.
static void look_again(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

#define WAIT_FOR(condition, what)           \
    do {                                    \
        long end_ = now_ms() + DEADLINE_MS; \
        while (!(condition)) {              \
            if (now_ms() > end_) {          \
                errno = ETIMEDOUT;          \
                broken(what);               \
            }                               \
            look_again();                   \
        }                                   \
    } while (0)

static bool is_socket(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static unsigned long long cookie_of(int fd)
{
    unsigned long long cookie = 0;
    socklen_t n = sizeof cookie;
    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n);
    return cookie;
}

// The states as tcpi_state numbers them (include/net/tcp_states.h).
enum {
    ESTABLISHED = 1,
    FIN_WAIT1 = 4,
    FIN_WAIT2 = 5,
    CLOSED = 7,
    CLOSE_WAIT = 8,
    LAST_ACK = 9,
    LISTEN = 10,
    CLOSING = 11,
};

static struct tcp_info tcp_info(int fd)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0) return (struct tcp_info){0};
    return info;
}

// The TCP state; 0 if it is not a TCP socket.
static int tcp_state(int fd)
{
    return tcp_info(fd).tcpi_state;
}

static const char *tcp_state_name(int state)
{
    static const char *const names[] = {
        "",          "established", "syn-sent",   "syn-recv", "fin-wait-1", "fin-wait-2",
        "time-wait", "closed",      "close-wait", "last-ack", "listen",     "closing",
    };
    return state >= 0 && (size_t)state < sizeof names / sizeof *names ? names[state] : "";
}

// Connections that wait in a listener's accept queue.
static int accept_queue(int fd)
{
    struct tcp_info info = tcp_info(fd);
    return info.tcpi_state == LISTEN ? (int)info.tcpi_unacked : 0;
}

static int unread_bytes(int fd)
{
    int n = 0;
    return ioctl(fd, SIOCINQ, &n) < 0 ? 0 : n;
}

// The kernel counts a FIN that is not acknowledged as a byte.
static int unsent_bytes(int fd)
{
    int n = 0, state = tcp_state(fd);
    if (ioctl(fd, SIOCOUTQ, &n) < 0) return 0;
    return n > 0 && (state == FIN_WAIT1 || state == LAST_ACK || state == CLOSING) ? n - 1 : n;
}

static void set_linger(int fd, int on, int seconds)
{
    struct linger linger = {on, seconds};
    must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), "SO_LINGER");
}

struct name {
    struct sockaddr_storage address;
    socklen_t length;
};

static struct name name_of(int fd)
{
    struct name name = {.length = sizeof name.address};
    must(getsockname(fd, (struct sockaddr *)&name.address, &name.length), "getsockname");
    return name;
}

// "127.0.0.1:8080", "[::1]:8080", or "" for what is no internet address or no peer.
static void print_name(const char *key, int (*ask)(int, struct sockaddr *, socklen_t *), int fd)
{
    struct name name = {.length = sizeof name.address};
    char host[INET6_ADDRSTRLEN] = "";
    struct sockaddr_in *in = (struct sockaddr_in *)&name.address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&name.address;
    if (ask(fd, (struct sockaddr *)&name.address, &name.length) < 0)
        say("%s=", key);
    else if (name.address.ss_family == AF_INET)
        say("%s=%s:%d", key, inet_ntop(AF_INET, &in->sin_addr, host, sizeof host), ntohs(in->sin_port));
    else if (name.address.ss_family == AF_INET6)
        say("%s=[%s]:%d", key, inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host),
            ntohs(in6->sin6_port));
    else
        say("%s=", key);
}

// Binds to a free port of the loopback address, or to a free abstract name for AF_UNIX.
static void bind_free(int fd, int family)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (family == AF_INET)
        must(bind(fd, (struct sockaddr *)&in, sizeof in), "bind");
    else if (family == AF_INET6)
        must(bind(fd, (struct sockaddr *)&in6, sizeof in6), "bind");
    else
        must(bind(fd, (struct sockaddr *)&un, sizeof un.sun_family), "bind");
}

static int listener(int family)
{
    int fd = must(socket(family, SOCK_STREAM, 0), "socket");
    bind_free(fd, family);
    must(listen(fd, 16), "listen");
    return fd;
}

static bool is_sending(const char *call)
{
    return !strncmp(call, "send", 4) || !strncmp(call, "write", 5);
}

// A connection: p connects, s is what accept returns. s is the highest descriptor.
static void connection(int family, int *s, int *p)
{
    int l = listener(family);
    struct name name = name_of(l);
    *p = must(socket(family, SOCK_STREAM, 0), "socket");
    must(connect(*p, (struct sockaddr *)&name.address, name.length), "connect");
    *s = must(accept(l, NULL, NULL), "accept");
    close(l);
}

static struct name full_listener;

// A socket whose connect will wait: the listener's queue is full, so that it answers no more.
static int connecting(void)
{
    int l = must(socket(AF_INET, SOCK_STREAM, 0), "socket"), waiting;
    bind_free(l, AF_INET);
    must(listen(l, 0), "listen");
    full_listener = name_of(l);
    for (int i = 0; i < 3; i++) {
        waiting = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
        connect(waiting, (struct sockaddr *)&full_listener.address, full_listener.length);
    }
    return must(socket(AF_INET, SOCK_STREAM, 0), "socket");
}

static void unix_pair(int type, int *s, int *p)
{
    int sv[2];
    must(socketpair(AF_UNIX, type, 0, sv), "socketpair");
    *p = sv[0];
    *s = sv[1];
}

// A socket in a known state by name: s, and its peer p where the kind has one (else -1).
static void make_socket(const char *kind, int *s, int *p)
{
    *p = -1;
    if (is(kind, "tcp"))
        connection(AF_INET, s, p);
    else if (is(kind, "tcp6"))
        connection(AF_INET6, s, p);
    else if (is(kind, "unix-stream"))
        unix_pair(SOCK_STREAM, s, p);
    else if (is(kind, "unix-seqpacket"))
        unix_pair(SOCK_SEQPACKET, s, p);
    else if (is(kind, "unix-dgram"))
        unix_pair(SOCK_DGRAM, s, p);
    else if (is(kind, "listener"))
        *s = listener(AF_INET);
    else if (is(kind, "tcp-connecting"))
        *s = connecting();
    else if (is(kind, "unix-listener"))
        *s = listener(AF_UNIX);
    else if (is(kind, "tcp-unconnected"))
        *s = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    else if (is(kind, "udp-unbound"))
        *s = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    else if (is(kind, "udp6-unbound"))
        *s = must(socket(AF_INET6, SOCK_DGRAM, 0), "socket");
    else if (is(kind, "udp")) {
        *s = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
        bind_free(*s, AF_INET);
    } else if (is(kind, "netlink"))
        *s = must(socket(AF_NETLINK, SOCK_RAW, 0), "socket");
    else if (is(kind, "packet"))
        *s = must(socket(AF_PACKET, SOCK_RAW, htons(0x88b5)), "packet socket");
    else {
        errno = EINVAL;
        broken(kind);
    }
}

static long send_now(int fd, size_t n)
{
    static char block[65536];
    ssize_t sent = send(fd, block, n < sizeof block ? n : sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) broken("send");
    return sent > 0 ? sent : 0;
}

// Sends until nothing more is taken, and nothing will be before the peer reads. For TCP the peer's window
// is used up to the last byte first: in a rest of it the kernel would send more by and by, and have room
// again. Returns the bytes sent.
static long fill(int fd)
{
    int small = 16384;
    long sent = 0, n;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    while (tcp_info(fd).tcpi_snd_wnd) {
        sent += send_now(fd, tcp_info(fd).tcpi_snd_wnd);
        WAIT_FOR(unsent_bytes(fd) == 0, "bytes are not acknowledged");
    }
    while ((n = send_now(fd, 16384))) sent += n;
    return sent;
}

// Reads one byte within the deadline. Returns it, or -1 with why in *seen: "eof", "silent" or the error.
static int read_byte(int fd, int ms, const char **seen)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    unsigned char byte;
    if (poll(&ready, 1, ms) <= 0) {
        *seen = "silent";
        return -1;
    }
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    if (n == 1) return byte;
    *seen = n == 0 ? "eof" : error_name(errno);
    return -1;
}

// Does a byte still get from one end to the other? "yes", or what came instead.
static const char *passes(int from, int to)
{
    const char *seen = "yes";
    if (send(from, "a", 1, MSG_NOSIGNAL) != 1) return error_name(errno);
    int byte = read_byte(to, DEADLINE_MS, &seen);
    return byte == 'a' ? "yes" : byte >= 0 ? "other-data" : seen;
}

static const char *passes_both_ways(int s, int p)
{
    const char *there = passes(s, p);
    return is(there, "yes") ? passes(p, s) : there;
}

// Is somebody still answering at the other end (answer_bytes)? "yes", or what came instead.
static const char *answers(int p)
{
    const char *seen = "yes";
    if (send(p, "a", 1, MSG_NOSIGNAL) != 1) return error_name(errno);
    int byte = read_byte(p, DEADLINE_MS, &seen);
    return byte == 'A' ? "yes" : byte >= 0 ? "other-data" : seen;
}

// The holder's side of answers(): until the end of the connection.
static void answer_bytes(int fd)
{
    char byte;
    while (recv(fd, &byte, 1, 0) == 1) {
        byte = (char)toupper(byte);
        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) return;
    }
}

// Reads all that comes: "eof", "open" (nothing more came) or the error; how much in *bytes.
static const char *sees(int fd, int ms, long *bytes)
{
    static char block[65536];
    *bytes = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, ms) <= 0) return "open";
        ssize_t n = recv(fd, block, sizeof block, MSG_DONTWAIT);
        if (n == 0) return "eof";
        if (n < 0 && errno != EAGAIN) return error_name(errno);
        *bytes += n > 0 ? n : 0;
    }
}

// A thread in one blocking call on one descriptor.
struct waiter {
    pthread_t thread;
    const char *wanted; // "recv", "accept" ...
    int fd;
    _Atomic int tid;
    long number; // the system call it was seen blocked in
    char name[16];
    long ret;
    int err;
    short revents;
};

static long wait_in_select(int fd, bool with_mask)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return with_mask ? pselect(fd + 1, &set, NULL, NULL, NULL, NULL) : select(fd + 1, &set, NULL, NULL, NULL);
}

// Calls with a message of one byte.
static long wait_in_message(const char *wanted, int fd)
{
    char byte = 'x';
    struct iovec data = {&byte, 1};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1}};
    if (is(wanted, "recvmsg")) return recvmsg(fd, &m.msg_hdr, 0);
    if (is(wanted, "recvmmsg")) return recvmmsg(fd, &m, 1, 0, NULL);
    if (is(wanted, "readv")) return readv(fd, &data, 1);
    if (is(wanted, "writev")) return writev(fd, &data, 1);
    if (is(wanted, "sendmsg")) return sendmsg(fd, &m.msg_hdr, MSG_NOSIGNAL);
    return sendmmsg(fd, &m, 1, MSG_NOSIGNAL);
}

// Calls that move bytes between two descriptors.
static long wait_in_transfer(const char *wanted, int fd)
{
    int ends[2], file = must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "open");
    if (is(wanted, "sendfile")) return sendfile(fd, file, NULL, 100);
    must(pipe2(ends, O_CLOEXEC), "pipe");
    return splice(fd, NULL, ends[1], NULL, 1, 0);
}

static long waiter_call(struct waiter *w, struct pollfd *ready)
{
    char byte = 'x';
    const char *wanted = w->wanted;
    if (is(wanted, "recv")) return recv(w->fd, &byte, 1, 0);
    if (is(wanted, "sys_recvfrom")) return syscall(SYS_recvfrom, w->fd, &byte, 1, 0, NULL, NULL);
    if (is(wanted, "read")) return read(w->fd, &byte, 1);
    if (is(wanted, "write")) return write(w->fd, &byte, 1);
    if (is(wanted, "accept")) return accept(w->fd, NULL, NULL);
    if (is(wanted, "accept4")) return accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
    if (is(wanted, "connect"))
        return connect(w->fd, (struct sockaddr *)&full_listener.address, full_listener.length);
    if (is(wanted, "send")) return send(w->fd, &byte, 1, MSG_NOSIGNAL);
    if (is(wanted, "poll")) return poll(ready, 1, -1);
    if (is(wanted, "ppoll")) return ppoll(ready, 1, NULL, NULL);
    if (is(wanted, "select") || is(wanted, "pselect")) return wait_in_select(w->fd, is(wanted, "pselect"));
    if (is(wanted, "sendfile") || is(wanted, "splice")) return wait_in_transfer(wanted, w->fd);
    return wait_in_message(wanted, w->fd);
}

static void *waiter_main(void *argument)
{
    struct waiter *w = argument;
    pthread_setname_np(pthread_self(), w->name);
    w->tid = (int)gettid();
    struct pollfd ready = {.fd = w->fd, .events = POLLIN};
    w->ret = waiter_call(w, &ready);
    w->err = w->ret < 0 ? errno : 0;
    w->revents = ready.revents;
    return NULL;
}

// The system call in which the thread of this /proc/…/syscall is blocked, or -1; its first argument in
// *first.
static long blocked_in(const char *path, long *first)
{
    char line[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    if (n <= 0 || line[0] < '0' || line[0] > '9') return -1;
    line[n] = '\0';
    char *end;
    long number = strtol(line, &end, 10);
    *first = strtol(end, NULL, 16);
    return number;
}

static const char *syscall_name(long number)
{
    static const struct {
        long number;
        const char *name;
    } names[] = {
        {SYS_recvfrom, "recvfrom"}, {SYS_recvmsg, "recvmsg"},   {SYS_recvmmsg, "recvmmsg"},
        {SYS_read, "read"},         {SYS_readv, "readv"},       {SYS_sendto, "sendto"},
        {SYS_sendmsg, "sendmsg"},   {SYS_sendmmsg, "sendmmsg"}, {SYS_write, "write"},
        {SYS_writev, "writev"},     {SYS_sendfile, "sendfile"}, {SYS_splice, "splice"},
        {SYS_connect, "connect"},   {SYS_accept, "accept"},     {SYS_accept4, "accept4"},
        {SYS_pselect6, "pselect6"}, {SYS_ppoll, "ppoll"},
#ifdef SYS_poll
        {SYS_poll, "poll"},         {SYS_select, "select"},
#endif
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number) return names[i].name;
    return "";
}

static bool waiter_is_blocked(struct waiter *w)
{
    long first;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", w->tid);
    w->number = w->tid ? blocked_in(path, &first) : -1;
    if (!*syscall_name(w->number)) return false;
    bool many = is(w->wanted, "poll") || is(w->wanted, "ppoll") || is(w->wanted, "select") ||
                is(w->wanted, "pselect");
    return many || first == w->fd;
}

// Starts the thread and returns once the kernel shows it blocked in the call.
static void waiter_start(struct waiter *w, const char *wanted, int fd)
{
    *w = (struct waiter){.wanted = wanted, .fd = fd};
    snprintf(w->name, sizeof w->name, "wait-%s", wanted);
    int err = pthread_create(&w->thread, NULL, waiter_main, w);
    if (err) {
        errno = err;
        broken("pthread_create");
    }
    WAIT_FOR(waiter_is_blocked(w), "thread is not shown blocked");
}

// Has the call returned within ms milliseconds?
static bool waiter_returned(struct waiter *w, long ms)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += ms % 1000 * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    return pthread_timedjoin_np(w->thread, NULL, &end) == 0;
}

static bool waiter_tell(struct waiter *w)
{
    say("tid=%d", w->tid);
    say("name=%s", w->name);
    say("call=%s", syscall_name(w->number));
    bool woken = waiter_returned(w, number_of("hang", WAKE_MS));
    say("woken=%s", woken ? "yes" : "no");
    if (woken) {
        say("result=%ld", w->ret);
        say("error=%s", error_name(w->err));
        say("revents=%d", w->revents);
    }
    return woken;
}
