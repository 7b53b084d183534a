// Connections whose peer has closed and the program has not: left for long, for a moment, or at exit.

// A system call that no library sees: the other ends of the connections here are no connections of the program's
// as far as one can know.
static int unseen(long nr, long a, long b, long c)
{
    long r;
#if defined(__x86_64__)
    __asm__ volatile("syscall" : "=a"(r) : "0"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    r = x0;
#endif
    if (r < 0) errno = (int)-r;
    return r < 0 ? -1 : (int)r;
}

static void close_unseen(int fd)
{
    unseen(SYS_close, fd, 0, 0);
}

static int connect_unseen(int l)
{
    struct name name = name_of(l);
    int fd = must(unseen(SYS_socket, name.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    must(unseen(SYS_connect, fd, (long)&name.address, name.length), "connect");
    return fd;
}

static long wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// How many findings of an event the log holds; 0 without the library.
static long log_has(const char *event)
{
    static char text[1 << 22];
    char wanted[64];
    const char *path = getenv("PRECLOSE_LOG");
    long n = 0;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t got, have = 0;
    while ((got = read(fd, text + have, sizeof text - 1 - (size_t)have)) > 0) have += got;
    text[have] = '\0';
    close(fd);
    snprintf(wanted, sizeof wanted, "\"event\":\"%s\"", event);
    for (const char *at = text; (at = strstr(at, wanted)); at++) n++;
    return n;
}

static void *wait_for_ever(void *arg)
{
    for (;;) pause();
    return arg;
}

static void start_idle_thread(void)
{
    pthread_t thread;
    errno = pthread_create(&thread, NULL, wait_for_ever, NULL);
    if (errno) broken("pthread_create");
}

// A socket call of the program's, in which it may be looked around.
static void call_something(void)
{
    close(must(socket(AF_INET, SOCK_DGRAM, 0), "socket"));
}

// At least ms go by; a program that calls does so all the time, or a thread of it sleeps.
static void let_pass(long ms, bool calls)
{
    for (long end = now_ms() + ms; now_ms() < end; look_again())
        if (calls) call_something();
}

static void wait_told(const char *event, long n, bool calls)
{
    long end = now_ms() + DEADLINE_MS;
    while (log_has(event) < n && now_ms() < end) {
        if (calls) call_something();
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

__attribute__((noinline)) static int accept_here(int l)
{
    int fd = accept(l, NULL, NULL);
    return must(fd, "accept");
}

__attribute__((noinline)) static void connect_here(int fd, const struct name *name)
{
    int ret = connect(fd, (const struct sockaddr *)&name->address, name->length);
    must(ret, "connect");
}

__attribute__((noinline)) static int socket_here(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return must(fd, "socket");
}

// ours is the end that is left: the one that accepts, or the one that connects.
static void connection_from(const char *opened, int family, int *ours, int *peer)
{
    int l = must(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    bind_free(l, family);
    must(listen(l, 16), "listen");
    if (is(opened, "accept")) {
        *peer = connect_unseen(l);
        *ours = accept_here(l);
    } else {
        struct name name = name_of(l);
        *ours = socket_here(family);
        connect_here(*ours, &name);
        *peer = must(unseen(SYS_accept, l, 0, 0), "accept");
    }
    close(l);
}

static void send_bytes(int fd, long n)
{
    for (; n > 0; n--) must(send(fd, "x", 1, MSG_NOSIGNAL), "send");
}

static long begun; // when the last peer was about to end

static void the_peer_ends(int ours, int peer, bool closes)
{
    begun = wall_ms();
    if (closes) close_unseen(peer);
    else must(shutdown(peer, SHUT_WR), "shutdown");
    WAIT_FOR(tcp_state(ours) == CLOSE_WAIT, "no CLOSE_WAIT");
}

static void say_leak(const char *prefix, int fd)
{
    say("%scookie=%llu", prefix, cookie_of(fd));
    say("%sfd=%d", prefix, fd);
    say("%sbegun=%ld", prefix, begun); // between these two lies the FIN
    say("%sfin=%ld", prefix, wall_ms());
}

// leak [opened=accept|connect] [family=4|6] [unread=N] [thread=no|before|after] [calls=1] [closes=1] [wait=MS]: its
// peer ends, and it is left until that is told (or MS have passed), and then to the end
static void scenario_leak(void)
{
    int ours, peer;
    bool calls = number_of("calls", 0);
    if (is(text_of("thread", "no"), "before")) start_idle_thread();
    connection_from(text_of("opened", "accept"), number_of("family", 4) == 6 ? AF_INET6 : AF_INET,
                    &ours, &peer);
    if (is(text_of("thread", "no"), "after")) start_idle_thread();
    say("tid=%d", (int)gettid());
    print_name("local", getsockname, ours);
    print_name("peer", getpeername, ours);
    send_bytes(peer, number_of("unread", 0));
    WAIT_FOR(unread_bytes(ours) == number_of("unread", 0), "bytes do not arrive");
    the_peer_ends(ours, peer, number_of("closes", 0));
    say_leak("", ours);
    if (number_of("wait", 0)) let_pass(number_of("wait", 0), calls);
    else wait_told("close-wait", 1, calls);
    let_pass(number_of("then", 0), calls); // told once, however long it stays
    say("close_wait told=%ld", log_has("close-wait"));
}

// no-leak how=HOW: what is no connection left in CLOSE_WAIT; for MS milliseconds
static void scenario_no_leak(void)
{
    const char *how = text_of("how", "idle");
    int s, p;
    bool threads = number_of("threads", 1);
    if (threads) start_idle_thread();
    if (is(how, "unix")) unix_pair(SOCK_STREAM, &s, &p);
    else connection_from("accept", AF_INET, &s, &p);
    if (is(how, "shut-read")) must(shutdown(s, SHUT_RD), "shutdown");
    if (is(how, "shut-write")) must(shutdown(s, SHUT_WR), "shutdown");
    if (is(how, "unix")) close(p);
    if (is(how, "reset")) set_linger(p, 1, 0), close(p);
    if (is(how, "both")) must(shutdown(p, SHUT_WR), "shutdown"), must(shutdown(s, SHUT_WR), "shutdown");
    if (is(how, "listener")) {
        struct name name = name_of(s = listener(AF_INET));
        connect_here(p = socket_here(AF_INET), &name);
        close(p);
    }
    if (is(how, "connecting")) {
        fcntl(s = connecting(), F_SETFL, O_NONBLOCK);
        connect(s, (struct sockaddr *)&full_listener.address, full_listener.length);
    }
    if (is(how, "in-time"))
        for (long end = now_ms() + number_of("ms", 600); now_ms() < end;) {
            connection_from("accept", AF_INET, &s, &p);
            the_peer_ends(s, p, true);
            let_pass(20, !threads);
            close(s);
        }
    let_pass(number_of("ms", 600), !threads);
    say("told=%ld", log_has("close-wait"));
}

// strange: the number of a connection in CLOSE_WAIT becomes, unseen, that of a stranger, which is in CLOSE_WAIT too
static void scenario_strange(void)
{
    int s, p, p2, l = listener(AF_INET);
    start_idle_thread();
    connection_from("accept", AF_INET, &s, &p);
    the_peer_ends(s, p, true);
    let_pass(number_of("ms", 100), false);
    p2 = connect_unseen(l);
    must(unseen(SYS_dup3, unseen(SYS_accept, l, 0, 0), s, 0), "dup3");
    the_peer_ends(s, p2, true);
    let_pass(number_of("then", 600), false);
    say("told=%ld", log_has("close-wait"));
}

// reuse how=close|raw|dup2: a connection stays in CLOSE_WAIT nearly long enough; then its number is another's, which
// has waited for no time
static void scenario_reuse(void)
{
    const char *how = text_of("how", "close");
    int s, p, s2, p2;
    start_idle_thread();
    connection_from("accept", AF_INET, &s, &p);
    the_peer_ends(s, p, true);
    say_leak("first ", s);
    let_pass(number_of("ms", 250), false);
    if (is(how, "dup2")) {
        connection_from("accept", AF_INET, &s2, &p2);
        must(dup2(s2, s), "dup2");
        close(s2);
        s2 = s;
    } else {
        if (is(how, "raw")) close_unseen(s);
        else close(s);
        do connection_from("accept", AF_INET, &s2, &p2); // what has a lower number is kept
        while (s2 < s && (close_unseen(p2), true));
        if (s2 != s) broken("the number is not used again");
    }
    the_peer_ends(s2, p2, true);
    say_leak("second ", s2);
    wait_told("close-wait", 1, false);
}

// reconnect: a socket in CLOSE_WAIT is disconnected and connected again: its new connection has waited for no time
static void scenario_reconnect(void)
{
    int s, p, l = listener(AF_INET);
    struct name name = name_of(l);
    start_idle_thread();
    connection_from("connect", AF_INET, &s, &p);
    the_peer_ends(s, p, true);
    let_pass(number_of("ms", 250), false);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    must(connect(s, &none, sizeof none), "disconnect");
    connect_here(s, &name);
    the_peer_ends(s, accept_here(l), true);
    say_leak("", s);
    wait_told("close-wait", 1, false);
}

// half-closed: the peer has closed its side and goes on reading
static void scenario_half_closed(void)
{
    int s, p;
    start_idle_thread();
    connection_from("accept", AF_INET, &s, &p);
    the_peer_ends(s, p, false);
    say_leak("", s);
    long end = now_ms() + DEADLINE_MS;
    char byte;
    while (log_has("close-wait") < 1 && now_ms() < end) { // each acknowledgement hides the FIN's
        send_bytes(s, 1);
        must(recv(p, &byte, 1, 0), "recv");
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
}

// duplicates-left: two descriptors of one connection
static void scenario_duplicates_left(void)
{
    int s, p;
    start_idle_thread();
    connection_from("accept", AF_INET, &s, &p);
    must(dup(s), "dup");
    must(fcntl(s, F_DUPFD_CLOEXEC, 50), "dup");
    the_peer_ends(s, p, true);
    say_leak("", s);
    wait_told("close-wait", 1, false);
    let_pass(300, false);
}

// left-by-fork who=parent|child: one of the two has opened the connection that both hold
static void scenario_left_by_fork(void)
{
    int s = -1, p = -1;
    bool child_opens = is(text_of("who", "parent"), "child");
    if (!child_opens) connection_from("accept", AF_INET, &s, &p), the_peer_ends(s, p, true);
    pid_t pid = must(fork(), "fork");
    start_idle_thread();
    if (pid == 0) {
        if (child_opens) connection_from("accept", AF_INET, &s, &p), the_peer_ends(s, p, true);
        if (child_opens) say("child=%d", getpid()), wait_told("close-wait", 1, false);
        else let_pass(700, true);
        exit(0);
    }
    if (!child_opens) say("parent=%d", getpid());
    if (!child_opens) wait_told("close-wait", 1, false);
    must(waitpid(pid, NULL, 0), "waitpid");
}

// Whoever reads the output waits for its last writer.
static void wait_without_output(void)
{
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    for (;;) pause();
}

// at-exit state=STATE [by=ROUTE] [shared=1] [n=N]: what is open when the process ends
static void scenario_at_exit(void)
{
    const char *state = text_of("state", "established"), *by = text_of("by", "return");
    static int s[4096], p[4096];
    long n = number_of("n", 1);
    for (long i = 0; i < n; i++) {
        connection_from("accept", AF_INET, &s[i], &p[i]);
        if (is(state, "unread")) send_bytes(p[i], 3);
        if (is(state, "unread")) WAIT_FOR(unread_bytes(s[i]) == 3, "bytes do not arrive");
        if (is(state, "close-wait")) the_peer_ends(s[i], p[i], true);
        else if (is(state, "half")) must(shutdown(s[i], SHUT_WR), "shutdown");
        else if (is(state, "shut")) must(shutdown(s[i], SHUT_RDWR), "shutdown");
        else if (is(state, "closed")) close(s[i]);
        else if (is(state, "reset")) set_linger(p[i], 1, 0), close_unseen(p[i]);
        if (is(state, "reset")) WAIT_FOR(tcp_state(s[i]) == CLOSED, "no reset");
        }
    if (number_of("shared", 0) && must(fork(), "fork") == 0) wait_without_output();
    say("cookie=%llu", cookie_of(s[0]));
    if (is(by, "exit")) exit(0);
    if (is(by, "_exit")) _exit(0);
    if (is(by, "_Exit")) _Exit(0);
    if (is(by, "quick_exit")) quick_exit(0);
    if (is(by, "exit_group")) syscall(SYS_exit_group, 0);
    if (is(by, "pthread_exit")) pthread_exit(NULL);
}

// child-at-exit: a forked child ends with its parent's connections, which the parent then closes
static void scenario_child_at_exit(void)
{
    int s, p;
    connection_from("accept", AF_INET, &s, &p);
    send_bytes(p, 3);
    WAIT_FOR(unread_bytes(s) == 3, "bytes do not arrive");
    for (int i = 0; i < 3; i++) {
        pid_t pid = must(fork(), "fork");
        if (pid == 0 && i == 0) exit(0);
        if (pid == 0 && i == 1) _exit(0);
        if (pid == 0) execl("/bin/true", "true", NULL);
        must(waitpid(pid, NULL, 0), "waitpid");
    }
    char bytes[3];
    must(recv(s, bytes, 3, MSG_WAITALL), "recv");
    close(s);
}

static int late_socket, late_peer;

// The library's own end comes after whatever closes at the end.
static void close_late(void)
{
    close(late_socket);
}

__attribute__((destructor)) static void close_later(void)
{
    if (late_peer < 0) close(late_socket);
}

// late how=atexit|destructor: closed by what exit calls
static void scenario_late(void)
{
    connection_from("accept", AF_INET, &late_socket, &late_peer);
    if (is(text_of("how", "atexit"), "atexit")) atexit(close_late);
    else late_peer = -late_peer;
}

// A place of its own for each connection that is left.
#define LEAVE_AT(name)                                      \
    __attribute__((noinline)) static int name(int l)        \
    {                                                       \
        int fd = accept(l, NULL, NULL);                     \
        __asm__ volatile("");                               \
        return fd;                                          \
    }
LEAVE_AT(leave_first)
LEAVE_AT(leave_second)
LEAVE_AT(leave_third)

static int (*const leaving[])(int) = {leave_first, leave_second, leave_third};
static const char *const leaving_names[] = {"leave_first", "leave_second", "leave_third"};

static int leave_one(unsigned place, int l)
{
    int p = connect_unseen(l);
    int s = must(leaving[place](l), "accept");
    close_unseen(p);
    return s;
}

// table: one place leaks all the time, one holds a few that it has had from the beginning, one had some
static void scenario_table(void)
{
    int l = listener(AF_INET), had[4];
    start_idle_thread();
    for (int i = 0; i < 6; i++) leave_one(1, l);
    for (int i = 0; i < 4; i++) had[i] = leave_one(2, l);
    for (int i = 0; i < 40; i++) {
        leave_one(0, l);
        let_pass(50, false);
        if (i == 20)
            for (int j = 0; j < 4; j++) close(had[j]);
    }
}

struct leaker {
    pthread_t thread;
    unsigned seed, n;
};

static void leave_or_close(int s, int p, const char *function, unsigned how)
{
    if (how < 5) {
        close_unseen(p);
        say("left %llu %s", cookie_of(s), function);
    } else if (how < 7) {
        close_unseen(p);
        close(s);
    } else if (how < 8) {
        must(shutdown(p, SHUT_WR), "shutdown");
        must(shutdown(s, SHUT_RDWR), "shutdown"); // in LAST_ACK or gone
    } else if (how < 9) {
        must(shutdown(s, SHUT_RD), "shutdown");
    }
}

static void *leak_some(void *arg)
{
    struct leaker *me = arg;
    for (unsigned i = 0; i < me->n; i++) {
        unsigned r = (unsigned)rand_r(&me->seed);
        int s, p, l = listener(AF_INET);
        if (r % 4 == 3) {
            struct name name = name_of(l);
            s = socket_here(AF_INET);
            connect_here(s, &name);
            p = must(unseen(SYS_accept, l, 0, 0), "accept");
            leave_or_close(s, p, "socket_here", r / 4 % 10);
        } else {
            p = connect_unseen(l);
            s = must(leaving[r % 4](l), "accept");
            leave_or_close(s, p, leaving_names[r % 4], r / 4 % 10);
        }
        close(l);
        if (r % 7 == 0) sched_yield();
    }
    return NULL;
}

// leaks seed=N n=N threads=N: connections opened by several functions in several threads, some of them closed, some
// left by their peers and some by the program too; "ready" when it is so, then "end" on stdin
static void scenario_leaks(void)
{
    static struct leaker leaker[16];
    long threads = number_of("threads", 4);
    for (long i = 0; i < threads; i++) {
        leaker[i].seed = (unsigned)(number_of("seed", 1) * 16 + i);
        leaker[i].n = (unsigned)(number_of("n", 100) / (threads ? threads : 1));
        errno = pthread_create(&leaker[i].thread, NULL, leak_some, &leaker[i]);
        if (errno) broken("pthread_create");
    }
    for (long i = 0; i < threads; i++) pthread_join(leaker[i].thread, NULL);
    if (threads) start_idle_thread();
    leaker[0].n = (unsigned)number_of("n", 100) / 4;
    leak_some(&leaker[0]);
    say("ready=%d", getpid());
    char end;
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&in, 1, threads ? -1 : 5) == 0) call_something();
    if (read(STDIN_FILENO, &end, 1) < 0) broken("read");
}
