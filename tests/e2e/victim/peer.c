// The other side of connections, in a process of its own that runs without the library: it does what it is
// told over a pipe. So what it does to its sockets is never mixed up with what the victim does.

enum peer_op {
    PEER_ADDRESS,  // → port of the TCP listener (tcp), of the UDP socket (udp)
    PEER_ACCEPT,   // on the listener `which` → id
    PEER_CONNECT,  // to the name given → id
    PEER_SEND,     // n bytes on id
    PEER_SEND_UDP, // n bytes in a datagram to the name given
    PEER_SHUT,     // id, both ways for reading on: SHUT_WR
    PEER_CLOSE,    // id
    PEER_RESET,    // id, by SO_LINGER with 0 s
    PEER_FLOOD, // sends on id, until that fails or n ms have passed → what that call saw
    PEER_LATE,  // reads id to the end, only then sends n bytes, shuts it and reads on, and closes it → what it saw then
    PEER_WATCH, // reads id to the end, or until n ms pass in silence, and closes it → what it saw, how many
                // bytes
};

enum { PEER_TCP, PEER_UNIX, PEER_UDP };
enum { SAW_EOF, SAW_RESET, SAW_OPEN, SAW_OTHER };

struct peer_order {
    enum peer_op op;
    int id, which;
    long n;
    struct name name;
};

struct peer_answer {
    long value, bytes;
    int err;
    struct name name;
};

static int peer_to = -1, peer_from = -1; // the victim's ends of the pipes

static long saw(const char *seen)
{
    bool reset = is(seen, "ECONNRESET") || is(seen, "EPIPE"); // EPIPE behind an EOF
    return is(seen, "eof") ? SAW_EOF : reset ? SAW_RESET : is(seen, "open") ? SAW_OPEN : SAW_OTHER;
}

static void peer_watch(int id, int ms, struct peer_answer *a)
{
    a->value = saw(sees(id, ms, &a->bytes));
    close(id);
}

static void peer_flood(int id, long ms, struct peer_answer *a)
{
    static char block[65536];
    long end = now_ms() + ms, n = 0;
    while (now_ms() < end && (n >= 0 || errno == EAGAIN)) {
        struct pollfd ready = {.fd = id, .events = POLLOUT};
        poll(&ready, 1, 50);
        n = send(id, block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) a->bytes += n;
    }
    a->value = n >= 0 || errno == EAGAIN ? SAW_OPEN : saw(error_name(errno));
    close(id);
}

static void peer_late(int id, size_t n, struct peer_answer *a)
{
    static char block[65536];
    a->value = saw(sees(id, DEADLINE_MS, &a->bytes));
    if (a->value != SAW_EOF) return;
    if (send(id, block, n, MSG_NOSIGNAL) != (ssize_t)n || shutdown(id, SHUT_WR) < 0) a->value = SAW_RESET;
    long more;
    if (a->value == SAW_EOF) a->value = saw(sees(id, DEADLINE_MS, &more));
    close(id);
}

static long peer_connect(const struct name *name)
{
    int fd = socket(name->address.ss_family, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&name->address, name->length) < 0) return -1;
    return fd;
}

static void peer_obey(const int listeners[3], const struct peer_order *o, struct peer_answer *a)
{
    static char block[65536];
    switch (o->op) {
    case PEER_ADDRESS:
        a->name = name_of(listeners[o->which]);
        break;
    case PEER_ACCEPT:
        a->value = accept(listeners[o->which], NULL, NULL);
        break;
    case PEER_CONNECT:
        a->value = peer_connect(&o->name);
        break;
    case PEER_SEND:
        a->value = send(o->id, block, (size_t)o->n, MSG_NOSIGNAL);
        break;
    case PEER_SEND_UDP:
        a->value = sendto(listeners[PEER_UDP], block, (size_t)o->n, 0,
                          (const struct sockaddr *)&o->name.address, o->name.length);
        break;
    case PEER_SHUT:
        a->value = shutdown(o->id, SHUT_WR);
        break;
    case PEER_RESET:
        set_linger(o->id, 1, 0);
        a->value = close(o->id);
        break;
    case PEER_CLOSE:
        a->value = close(o->id);
        break;
    case PEER_FLOOD:
        peer_flood(o->id, o->n, a);
        break;
    case PEER_LATE:
        peer_late(o->id, (size_t)o->n, a);
        break;
    case PEER_WATCH:
        peer_watch(o->id, (int)o->n, a);
        break;
    }
    a->err = a->value < 0 ? errno : 0;
}

// peer in=N out=N: what peer_start runs
static void scenario_peer(void)
{
    int in = (int)number_of("in", 0), out = (int)number_of("out", 1), buffer = 65536;
    int listeners[3] = {listener(AF_INET), listener(AF_UNIX), must(socket(AF_INET, SOCK_DGRAM, 0), "socket")};
    setsockopt(listeners[PEER_TCP], SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    must(listen(listeners[PEER_TCP], 64), "listen"); // again: connections take the listener's buffer
    bind_free(listeners[PEER_UDP], AF_INET);
    struct peer_order o;
    while (read(in, &o, sizeof o) == sizeof o) {
        struct peer_answer a = {0};
        peer_obey(listeners, &o, &a);
        if (write(out, &a, sizeof a) != sizeof a) return;
    }
}

// The environment without the library.
static char **plain_environment(void)
{
    static char *plain[512];
    size_t n = 0;
    for (char **e = environ; *e && n < 511; e++)
        if (strncmp(*e, "LD_PRELOAD=", 11) && strncmp(*e, "PRECLOSE_", 9)) plain[n++] = *e;
    return plain;
}

static void peer_start(void)
{
    int to[2], from[2];
    char in[32], out[32];
    must(pipe(to), "pipe");
    must(pipe(from), "pipe");
    snprintf(in, sizeof in, "in=%d", to[0]);
    snprintf(out, sizeof out, "out=%d", from[1]);
    fcntl(to[1], F_SETFD, FD_CLOEXEC);
    fcntl(from[0], F_SETFD, FD_CLOEXEC);
    char *argv[] = {self_path, "peer", in, out, NULL};
    pid_t pid;
    errno = posix_spawn(&pid, self_path, NULL, NULL, argv, plain_environment());
    if (errno) broken("posix_spawn");
    close(to[0]);
    close(from[1]);
    peer_to = to[1];
    peer_from = from[0];
}

// The peer starts on what it is told; its answer is read by peer_answered.
static void peer_tell(struct peer_order o)
{
    if (write(peer_to, &o, sizeof o) != sizeof o) broken("peer is gone");
}

static struct peer_answer peer_answered(void)
{
    struct peer_answer a;
    if (read(peer_from, &a, sizeof a) != sizeof a) broken("peer is gone");
    if (a.value < 0) {
        errno = a.err;
        broken("peer failed");
    }
    return a;
}

static struct peer_answer peer_do(struct peer_order o)
{
    peer_tell(o);
    return peer_answered();
}

static const char *saw_name(long saw)
{
    return saw == SAW_EOF ? "eof" : saw == SAW_RESET ? "reset" : saw == SAW_OPEN ? "open" : "other";
}
