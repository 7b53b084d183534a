// Threads blocked on a socket that another thread lets go of.

static const struct row {
    const char *name, *kind, *call;
} rows[] = {
    {"tcp-recv", "tcp", "recv"},
    {"tcp-read", "tcp", "read"},
    {"tcp-poll", "tcp", "poll"},
    {"tcp-select", "tcp", "select"},
    {"tcp-send", "tcp", "send"},
    {"tcp6-recv", "tcp6", "recv"},
    {"tcp-sys_recvfrom", "tcp", "sys_recvfrom"},
    {"tcp-recvmsg", "tcp", "recvmsg"},
    {"tcp-recvmmsg", "tcp", "recvmmsg"},
    {"tcp-readv", "tcp", "readv"},
    {"tcp-ppoll", "tcp", "ppoll"},
    {"tcp-pselect", "tcp", "pselect"},
    {"tcp-splice", "tcp", "splice"},
    {"tcp-write", "tcp", "write"},
    {"tcp-writev", "tcp", "writev"},
    {"tcp-sendmsg", "tcp", "sendmsg"},
    {"tcp-sendmmsg", "tcp", "sendmmsg"},
    {"tcp-sendfile", "tcp", "sendfile"},
    {"tcp-connect", "tcp-connecting", "connect"},
    {"listener-accept4", "listener", "accept4"},
    {"listener-accept", "listener", "accept"},
    {"listener-poll", "listener", "poll"},
    {"unix-listener-accept", "unix-listener", "accept"},
    {"unix-stream-recv", "unix-stream", "recv"},
    {"unix-stream-send", "unix-stream", "send"},
    {"unix-seqpacket-recv", "unix-seqpacket", "recv"},
    {"unix-dgram-recv", "unix-dgram", "recv"},
    {"udp-recv", "udp", "recv"},
    {"udp-unbound-recv", "udp-unbound", "recv"},
    {"udp6-unbound-recv", "udp6-unbound", "recv"},
    {"netlink-recv", "netlink", "recv"},
    {"packet-recv", "packet", "recv"},
};

static const struct row *row_named(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (is(rows[i].name, name)) return &rows[i];
    errno = EINVAL;
    broken(name);
}

enum { CROWD_MAX = 64 };

// wake row=ROW route=ROUTE [threads=N] [linger=0] [unread=N] [number=N] [hang=MS]: number is where the socket
// is moved to before
static void scenario_wake(void)
{
    static struct waiter crowd[CROWD_MAX];
    const struct row *row = row_named(text_of("row", "tcp-recv"));
    long threads = number_of("threads", 1);
    int s, p;
    make_socket(row->kind, &s, &p);
    signal(SIGPIPE, SIG_IGN);
    if (number_of("number", 0)) {
        int high = must(dup2(s, (int)number_of("number", 0)), "dup2");
        close(s);
        s = high;
    }
    if (is_sending(row->call)) fill(s);
    if (number_of("unread", 0)) { // only a sender can be blocked then
        must(send(p, "unread", 6, 0), "send");
        WAIT_FOR(unread_bytes(s) == 6, "bytes do not arrive");
    }
    if (text_of("linger", NULL)) set_linger(s, 1, (int)number_of("linger", 0));
    say("fd=%d", s);
    say("cookie=%llu", cookie_of(s));
    for (long i = 0; i < threads && i < CROWD_MAX; i++) waiter_start(&crowd[i], row->call, s);
    let_go(s);
    long woken = waiter_tell(&crowd[0]);
    for (long i = 1; i < threads && i < CROWD_MAX; i++)
        woken += waiter_returned(&crowd[i], woken ? number_of("hang", WAKE_MS) : 0);
    if (threads > 1) say("all_woken=%s", woken == threads ? "yes" : "no");
    if (p >= 0 && !is(row->kind, "unix-dgram")) {
        long bytes;
        say("peer=%s", sees(p, woken ? DEADLINE_MS : HANG_MS, &bytes));
    }
}

// got by=sys_socket|sys_socketpair|sys_accept|sys_accept4|accept4|recvmsg|...: a socket that came by another
// call
static int get_by(const char *by, int *p)
{
    int sv[2], s;
    if (is(by, "sys_socketpair")) {
        must(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, sv), by);
        *p = sv[0];
        return sv[1];
    }
    int l = listener(AF_INET);
    struct name name = name_of(l);
    *p = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    if (is(by, "sys_socket")) { // then it is the connecting side
        s = (int)must(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0), by);
        must(connect(s, (struct sockaddr *)&name.address, name.length), "connect");
        close(*p);
        *p = must(accept(l, NULL, NULL), "accept");
    } else {
        must(connect(*p, (struct sockaddr *)&name.address, name.length), "connect");
        s = is(by, "sys_accept4")  ? (int)syscall(SYS_accept4, l, NULL, NULL, SOCK_CLOEXEC)
            : is(by, "sys_accept") ? (int)syscall(SYS_accept, l, NULL, NULL)
                                   : accept4(l, NULL, NULL, SOCK_CLOEXEC);
    }
    close(l);
    return must(s, by);
}

static void scenario_got(void)
{
    static struct waiter w;
    int p, s = get_by(text_of("by", "accept4"), &p);
    say("cookie=%llu", cookie_of(s));
    waiter_start(&w, "recv", s);
    let_go(s);
    waiter_tell(&w);
}

static int inline_close(int fd)
{
    long r;
#if defined(__x86_64__)
    __asm__ volatile("syscall" : "=a"(r) : "0"(SYS_close), "D"(fd) : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = SYS_close;
    register long x0 __asm__("x0") = fd;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8) : "memory");
    r = x0;
#endif
    return (int)r;
}

static int inline_dup(int fd)
{
    long r;
#if defined(__x86_64__)
    __asm__ volatile("syscall" : "=a"(r) : "0"(SYS_dup), "D"(fd) : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = SYS_dup;
    register long x0 __asm__("x0") = fd;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8) : "memory");
    r = x0;
#endif
    return (int)r;
}

// stale: closed where no library sees it; the number comes to stand for another connection in the same way,
// and is then closed. That connection goes on.
static void scenario_stale(void)
{
    int s, p, s2, p2;
    connection(AF_INET, &s2, &p2);
    connection(AF_INET, &s, &p);
    while (dup(p) < s) continue; // s is to be the lowest number when it is closed
    must(inline_close(s), "close");
    say("same=%s", inline_dup(s2) == s ? "yes" : "no");
    let_go(s);
    say("alive=%s", passes_both_ways(s2, p2));
}

// range by=close_range|closefrom|sys_close_range: descriptors of every sort in one range
static void scenario_range(void)
{
    static struct waiter w;
    int shared[2], doubled[2], inside[2], waited[2], tell[2];
    must(pipe(tell), "pipe");
    connection(AF_INET, &shared[0], &shared[1]);
    connection(AF_INET, &doubled[0], &doubled[1]);
    connection(AF_INET, &inside[0], &inside[1]);
    connection(AF_INET, &waited[0], &waited[1]);
    pid_t pid = must(fork(), "fork");
    if (pid == 0) {
        must(write(tell[1], "r", 1), "tell");
        answer_bytes(shared[0]);
        _exit(0);
    }
    char ready;
    must(read(tell[0], &ready, 1), "tell");
    connection(AF_INET, &waited[0], &waited[1]); // one that no child has
    must(dup2(shared[0], 100), "dup2");
    close(shared[0]);
    must(dup2(doubled[0], 101), "dup2"); // stays open below
    must(dup2(waited[0], 102), "dup2");
    must(dup2(waited[0], 104), "dup2"); // twice in the range: the last of the two lets go
    close(waited[0]);
    must(dup2(tell[0], 103), "dup2");
    waiter_start(&w, "recv", 102);
    const char *by = text_of("by", "close_range");
    if (is(by, "closefrom"))
        closefrom(100);
    else
        must(is(by, "close_range") ? close_range(100, ~0U, 0) : syscall(SYS_close_range, 100, 150, 0), by);
    say("shared=%s", answers(shared[1]));
    say("doubled=%s", passes_both_ways(doubled[0], doubled[1]));
    say("woken=%s", waiter_returned(&w, number_of("hang", WAKE_MS)) ? "yes" : "no");
    say("left=%d", (fcntl(100, F_GETFD) >= 0) + (fcntl(103, F_GETFD) >= 0) + (fcntl(104, F_GETFD) >= 0));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
