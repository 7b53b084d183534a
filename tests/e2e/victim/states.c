// A socket put into a state that is known in every part, let go of, and what the kernel and the peer did
// then. The findings are held against these records.

// The choices that make up a state.
struct state {
    const char *family; // tcp-accepted tcp-connected unix-stream udp udp-connected unix-dgram listener
                        // unix-listener tcp-unconnected
    const char *peer;    // open closed half reset
    const char *ours;    // open half rd shut: what we shut down before
    const char *holder;  // sole duplicated forked exited
    const char *blocked; // none recv poll accept send
    const char *route;
    int unread;  // bytes
    bool unsent; // more than the peer takes
    int linger;  // -1 off
    int backlog; // connections not accepted
};

struct subject {
    const struct state *state;
    int s, id; // our socket; the peer's number for its end, or -1
    int other; // duplicate, or -1
    pid_t child;
    long sent;
    int backlog_ids[8];
    struct waiter w;
    bool waiting, hung; // a thread is blocked on it; and stayed so
};

static bool is_tcp(const struct state *st)
{
    return !strncmp(st->family, "tcp", 3);
}

static bool is_stream(const struct state *st)
{
    return is(st->family, "tcp-accepted") || is(st->family, "tcp-connected") || is(st->family, "unix-stream");
}

static void subject_connect(struct subject *b, int family, int which)
{
    b->s = must(socket(family, SOCK_STREAM, 0), "socket");
    struct name name = peer_do((struct peer_order){.op = PEER_ADDRESS, .which = which}).name;
    must(connect(b->s, (struct sockaddr *)&name.address, name.length), "connect");
    b->id = (int)peer_do((struct peer_order){.op = PEER_ACCEPT, .which = which}).value;
}

// The peer connects to a listener of ours, which is kept for all.
static void subject_accept(struct subject *b)
{
    static int l = -1;
    if (l < 0) l = listener(AF_INET);
    b->id = (int)peer_do((struct peer_order){.op = PEER_CONNECT, .name = name_of(l)}).value;
    b->s = must(accept(l, NULL, NULL), "accept");
}

static void subject_listen(struct subject *b, int family)
{
    b->s = listener(family);
    for (int i = 0; i < b->state->backlog; i++)
        b->backlog_ids[i] =
            (int)peer_do((struct peer_order){.op = PEER_CONNECT, .name = name_of(b->s)}).value;
    if (family == AF_INET) WAIT_FOR(accept_queue(b->s) == b->state->backlog, "accept queue does not fill");
}

static void subject_make(struct subject *b)
{
    const char *family = b->state->family;
    struct name name;
    if (is(family, "tcp-connected"))
        subject_connect(b, AF_INET, PEER_TCP);
    else if (is(family, "tcp-accepted"))
        subject_accept(b);
    else if (is(family, "unix-stream"))
        subject_connect(b, AF_UNIX, PEER_UNIX);
    else if (is(family, "listener"))
        subject_listen(b, AF_INET);
    else if (is(family, "unix-listener"))
        subject_listen(b, AF_UNIX);
    else if (is(family, "tcp-unconnected"))
        b->s = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    else if (is(family, "unix-dgram")) {
        b->s = must(socket(AF_UNIX, SOCK_DGRAM, 0), "socket");
        bind_free(b->s, AF_UNIX);
    } else {
        b->s = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
        bind_free(b->s, AF_INET);
        name = peer_do((struct peer_order){.op = PEER_ADDRESS, .which = PEER_UDP}).name;
        if (is(family, "udp-connected"))
            must(connect(b->s, (struct sockaddr *)&name.address, name.length), "connect");
    }
}

static bool is_settled(struct subject *b)
{
    const struct state *st = b->state;
    bool peer_gone = is(st->peer, "closed") || is(st->peer, "half");
    bool we_gone = is(st->ours, "half") || is(st->ours, "shut");
    if (!is_tcp(st)) return true;
    int now = tcp_state(b->s);
    if (is(st->peer, "reset") || (peer_gone && we_gone)) return now == CLOSED;
    if (peer_gone) return now == CLOSE_WAIT;
    if (we_gone) return now == (st->unsent ? FIN_WAIT1 : FIN_WAIT2);
    return now == ESTABLISHED;
}

static void subject_receive(struct subject *b)
{
    int n = b->state->unread;
    if (!n) return;
    if (is_stream(b->state))
        peer_do((struct peer_order){.op = PEER_SEND, .id = b->id, .n = n});
    else
        peer_do((struct peer_order){.op = PEER_SEND_UDP, .n = n, .name = name_of(b->s)});
    WAIT_FOR(unread_bytes(b->s) == n, "bytes do not arrive");
}

static void subject_shut(struct subject *b)
{
    const struct state *st = b->state;
    if (is(st->ours, "half"))
        must(shutdown(b->s, SHUT_WR), "SHUT_WR");
    else if (is(st->ours, "rd"))
        must(shutdown(b->s, SHUT_RD), "SHUT_RD");
    else if (is(st->ours, "shut"))
        must(shutdown(b->s, SHUT_RDWR), "SHUT_RDWR");
}

// A child that has the socket until it is killed, or that had it.
static void subject_fork(struct subject *b)
{
    b->child = must(fork(), "fork");
    if (b->child == 0) {
        if (is(b->state->holder, "forked"))
            for (;;) pause();
        _exit(0);
    }
    if (is(b->state->holder, "exited")) {
        must(waitpid(b->child, NULL, 0), "waitpid");
        b->child = -1;
    }
}

static void subject_prepare(struct subject *b)
{
    const struct state *st = b->state;
    subject_make(b);
    if (is(st->holder, "forked") || is(st->holder, "exited")) subject_fork(b);
    if (is(st->holder, "duplicated")) b->other = must(dup(b->s), "dup");
    subject_receive(b);
    if (st->unsent) b->sent = fill(b->s);
    if (is_stream(st) && !is(st->peer, "open")) {
        enum peer_op op = is(st->peer, "half") ? PEER_SHUT : is(st->peer, "reset") ? PEER_RESET : PEER_CLOSE;
        peer_do((struct peer_order){.op = op, .id = b->id});
    }
    WAIT_FOR(!is(st->peer, "reset") || !is_tcp(st) || tcp_state(b->s) == CLOSED, "reset does not arrive");
    if (!is(st->peer, "reset")) subject_shut(b);
    if (st->linger >= 0) set_linger(b->s, 1, st->linger);
    if (is_stream(st)) WAIT_FOR(is_settled(b), "state does not settle");
    if (!is(st->blocked, "none")) {
        waiter_start(&b->w, st->blocked, b->s);
        b->waiting = true;
    }
}

// A counter of this network namespace: the number under `name` in the pair of lines that begin with `table`.
static long counter(const char *file, const char *table, const char *name)
{
    static char text[32768];
    int fd = must(open(file, O_RDONLY | O_CLOEXEC), file);
    ssize_t n = 0, got;
    while ((got = read(fd, text + n, sizeof text - 1 - (size_t)n)) > 0) n += got;
    close(fd);
    text[n] = '\0';
    char *names = strstr(text, table), *values = names ? strstr(names + 1, table) : NULL;
    if (!values) broken(table);
    char *name_end, *value_end;
    char *column = strtok_r(names, " \n", &name_end), *value = strtok_r(values, " \n", &value_end);
    while (column && value) {
        if (is(column, name)) return atol(value);
        column = strtok_r(NULL, " \n", &name_end);
        value = strtok_r(NULL, " \n", &value_end);
    }
    errno = ENOENT;
    broken(name);
}

struct counters {
    long resets, abort_close, abort_data;
};

static struct counters counters_now(void)
{
    return (struct counters){
        .resets = counter("/proc/net/snmp", "Tcp:", "OutRsts"),
        .abort_close = counter("/proc/net/netstat", "TcpExt:", "TCPAbortOnClose"),
        .abort_data = counter("/proc/net/netstat", "TcpExt:", "TCPAbortOnData"),
    };
}

// Lets go of one descriptor of the subject and writes the record of it.
static void subject_let_go(struct subject *b, long n, int fd, bool last)
{
    const struct state *st = b->state;
    unsigned long long cookie = cookie_of(fd);
    int tcp = tcp_state(fd), unread = unread_bytes(fd), unsent = unsent_bytes(fd), queue = accept_queue(fd);
    struct counters before = counters_now();
    if (go_by(st->route, fd) < 0) broken(st->route);
    const char *woken = "-";
    if (b->waiting) // as long as its call lasts the thread holds the socket: the reset comes when it returns
        woken = waiter_returned(&b->w, last ? number_of("hang", WAKE_MS) : 0) ? "yes" : "no";
    b->hung = last && is(woken, "no");
    struct counters after = counters_now();
    say("record n=%ld fd=%d cookie=%llu family=%s route=%s peer=%s ours=%s holder=%s blocked=%s last=%d "
        "linger=%d "
        "state=%s unread=%d unsent=%d queue=%d backlog=%d woken=%s tid=%d resets=%ld abort_close=%ld "
        "abort_data=%ld",
        n, fd, cookie, st->family, st->route, st->peer, st->ours, st->holder, st->blocked, last, st->linger,
        tcp_state_name(tcp), unread, unsent, queue, st->backlog, woken, b->waiting ? b->w.tid : 0,
        after.resets - before.resets, after.abort_close - before.abort_close,
        after.abort_data - before.abort_data);
}

// What the peer has seen at its end of the connection, once nobody here holds ours.
static void subject_watch(struct subject *b, long n)
{
    const struct state *st = b->state;
    long hang = number_of("hang", WAKE_MS);
    if (b->child > 0) {
        kill(b->child, SIGKILL);
        waitpid(b->child, NULL, 0);
    }
    if (b->id >= 0 && (is(st->peer, "open") || is(st->peer, "half"))) {
        struct peer_answer a = peer_do((struct peer_order){.op = PEER_WATCH, .id = b->id, .n = hang});
        say("saw n=%ld end=%s bytes=%ld sent=%ld", n, saw_name(a.value), a.bytes, b->sent);
    }
    for (int i = 0; i < st->backlog; i++) {
        struct peer_answer a =
            peer_do((struct peer_order){.op = PEER_WATCH, .id = b->backlog_ids[i], .n = hang});
        say("saw n=%ld end=%s bytes=%ld sent=0", n, saw_name(a.value), a.bytes);
    }
}

// After dup2, dup3 and freopen the number is /dev/null; with freopen the stream goes on with it. The number
// on which a thread hangs is not to be another socket's: that thread would be taken to wait for it.
static void settle_number(const struct subject *b, int fd)
{
    if (b->hung) {
        int other = dev_null();
        must(dup2(other, fd), "dup2");
        close(other);
    } else if (strcmp(b->state->route, "freopen") && fcntl(fd, F_GETFD) >= 0)
        close(fd);
}

static void state_once(const struct state *st, long n)
{
    struct subject *b = malloc(sizeof *b); // never freed: a thread that hangs for ever keeps its waiter
    if (!b) broken("malloc");
    *b = (struct subject){.state = st, .s = -1, .id = -1, .other = -1, .child = -1};
    subject_prepare(b);
    subject_let_go(b, n, b->s, b->other < 0);
    settle_number(b, b->s);
    if (b->other >= 0) {
        subject_let_go(b, n, b->other, true);
        settle_number(b, b->other);
    }
    subject_watch(b, n);
}

// state family=… peer=… ours=… holder=… blocked=… route=… unread=N unsent=0|1 linger=N backlog=N
static void scenario_state(void)
{
    struct state st = {
        .family = text_of("family", "tcp-accepted"),
        .peer = text_of("peer", "open"),
        .ours = text_of("ours", "open"),
        .holder = text_of("holder", "sole"),
        .blocked = text_of("blocked", "none"),
        .route = text_of("route", "close"),
        .unread = (int)number_of("unread", 0),
        .unsent = number_of("unsent", 0) != 0,
        .linger = (int)number_of("linger", -1),
        .backlog = (int)number_of("backlog", 0),
    };
    peer_start();
    state_once(&st, 0);
}

// A small generator with a known seed: the same closes for the same seed everywhere (xorshift64*).
static uint64_t dice;

static unsigned roll(unsigned sides)
{
    dice ^= dice >> 12;
    dice ^= dice << 25;
    dice ^= dice >> 27;
    return (unsigned)((dice * 0x2545F4914F6CDD1DULL) >> 33) % sides;
}

#define PICK(...) \
    ((const char *const[]){__VA_ARGS__})[roll(sizeof(const char *const[]){__VA_ARGS__} / sizeof(char *))]

static void roll_stream(struct state *st)
{
    st->unread = roll(3) == 0 ? (int)roll(2000) + 1 : 0;
    st->peer = PICK("open", "open", "open", "open", "closed", "half", "reset");
    st->ours = PICK("open", "open", "open", "open", "half", "rd", "shut");
    st->linger = roll(5) == 0 ? 0 : -1;
    // A peer that closed answers bytes with a reset of its own; a unix peer that closed sees nothing.
    if (is(st->peer, "open") && !is(st->ours, "shut")) st->unsent = roll(6) == 0;
    if (!is_tcp(st) && is(st->peer, "reset")) st->peer = "closed";
    if (is(st->peer, "reset")) st->ours = "open"; // nothing left to shut down
    if (is(st->peer, "open") && (is(st->ours, "open") || is(st->ours, "half")) && !st->unread && !st->unsent)
        st->blocked = PICK("none", "none", "recv", "poll");
    if (st->unsent && is(st->ours, "open")) st->blocked = PICK("none", "none", "send");
}

static struct state roll_state(void)
{
    struct state st = {.peer = "open", .ours = "open", .blocked = "none", .linger = -1};
    st.family = PICK("tcp-accepted", "tcp-accepted", "tcp-accepted", "tcp-connected", "tcp-connected",
                     "unix-stream", "unix-stream", "udp", "udp-connected", "unix-dgram", "listener",
                     "unix-listener", "tcp-unconnected");
    st.route = routes[roll(ROUTES)].name;
    while (is(st.route, "closefrom")) // would take what the other states need
        st.route = routes[roll(ROUTES)].name;
    st.holder = PICK("sole", "sole", "sole", "sole", "sole", "duplicated", "forked", "exited");
    if (is_stream(&st))
        roll_stream(&st);
    else if (is(st.family, "listener")) {
        st.backlog = roll(2) ? (int)roll(6) : 0;
        st.blocked = st.backlog ? "none" : PICK("none", "accept", "poll");
    } else if (is(st.family, "unix-listener"))
        st.blocked = PICK("none", "accept");
    else if (is(st.family, "udp") || is(st.family, "udp-connected")) {
        st.unread = roll(2) ? (int)roll(500) + 1 : 0;
        st.blocked = st.unread ? "none" : PICK("none", "recv", "poll");
    } else if (is(st.family, "unix-dgram"))
        st.blocked = PICK("none", "recv");
    if (!number_of("waiters", 1)) st.blocked = "none";
    if (is(st.holder, "duplicated") && !is(st.blocked, "none"))
        st.holder = "sole"; // a thread is known by the number it is blocked on, which goes first
    if (is(st.holder, "forked") && !is(st.blocked, "none"))
        st.holder = "exited"; // it would hang until the end
    return st;
}

// random seed=N n=N [waiters=0]
static void scenario_random(void)
{
    dice = (uint64_t)number_of("seed", 1) * 0x9E3779B97F4A7C15ULL + 1;
    peer_start();
    for (long i = 0; i < number_of("n", 100); i++) {
        struct state st = roll_state();
        state_once(&st, i);
    }
}
