// What the settings cure: a connection closed too early, options left out, a death by SIGPIPE, an exit status; and
// what is told of a close that waits and of a bind that fails.

// A connection of ours to the peer, which answers for its end under the id.
static int connected_to_peer(const char *family, int *id)
{
    static struct state st;
    static struct subject b;
    st = (struct state){.family = family, .peer = "open", .ours = "open", .holder = "sole", .blocked = "none"};
    b = (struct subject){.state = &st, .s = -1, .id = -1};
    while (dup(STDOUT_FILENO) < 9) continue; // the highest number is to be the connection's
    subject_make(&b);
    *id = b.id;
    return b.s;
}

// As much as goes out at once.
static long send_all(int fd)
{
    long sent = 0, n;
    while ((n = send_now(fd, 65536))) sent += n;
    return sent;
}

static void receive(int s, int id, int n)
{
    if (!n) return;
    peer_do((struct peer_order){.op = PEER_SEND, .id = id, .n = n});
    WAIT_FOR(unread_bytes(s) == n, "bytes do not arrive");
}

// What the peer is told to do before the close (watch: reads to the end; flood; late) or after it (silent, more:
// sends a byte, then reads).
static bool peer_begins(const char *what, int id)
{
    bool flood = is(what, "flood"), late = is(what, "late");
    if (!flood && !late && !is(what, "watch")) return false;
    peer_tell((struct peer_order){.op = flood ? PEER_FLOOD : late ? PEER_LATE : PEER_WATCH,
                                  .id = id,
                                  .n = late ? 1000 : DEADLINE_MS});
    return true;
}

static void tell_saw(struct peer_answer a)
{
    say("end=%s", saw_name(a.value));
    say("bytes=%ld", a.bytes);
}

static void peer_ends(const char *what, int id, bool begun)
{
    if (begun) {
        tell_saw(peer_answered());
        return;
    }
    if (is(what, "more")) peer_do((struct peer_order){.op = PEER_SEND, .id = id, .n = 1});
    tell_saw(peer_do((struct peer_order){.op = PEER_WATCH, .id = id, .n = DEADLINE_MS}));
}

// A socket that a drain would read from has been given an answer, and may have unread bytes.
static int answered(int *id, long *sent)
{
    int s = connected_to_peer(text_of("family", "tcp-accepted"), id);
    if (number_of("request", 0)) { // one that is read
        char buffer[64];
        receive(s, *id, 3);
        must(recv(s, buffer, sizeof buffer, 0), "recv");
    }
    receive(s, *id, (int)number_of("unread", 0));
    *sent = number_of("big", 0) ? send_all(s) : send(s, "answer", 6, 0);
    if (number_of("linger", -1) >= 0) set_linger(s, 1, (int)number_of("linger", 0));
    if (number_of("nonblock", 0)) fcntl(s, F_SETFL, O_NONBLOCK);
    return s;
}

// How many descriptors above 2 are sockets.
static int count_sockets(void)
{
    int n = 0;
    for (int fd = 3; fd < 4096; fd++) n += is_socket(fd);
    return n;
}

static void *spin_main(void *stop)
{
    while (!*(_Atomic bool *)stop) continue;
    return NULL;
}

struct let_go_of {
    int fd, id;
};

// Tells the peer to read on once our descriptor is gone: not before, as it might have read all by then.
static void *watch_main(void *argument)
{
    const struct let_go_of *gone = argument;
    WAIT_FOR(!is_socket(gone->fd), "the descriptor stays");
    peer_tell((struct peer_order){.op = PEER_WATCH, .id = gone->id, .n = DEADLINE_MS});
    return NULL;
}

// drain [family=…] [route=…] [request=1] [unread=N] [big=1] [peer=watch|after|flood|late|silent|more] [linger=S] [nonblock=1]
// [lowat=N: a thread is blocked in poll for so many bytes] [limit=1: no descriptor is left]
// [spin=1: another thread runs]
static void scenario_drain(void)
{
    static struct waiter w;
    static _Atomic bool stop;
    pthread_t spinning, watching;
    long sent, lowat = number_of("lowat", 0);
    int id;
    peer_start();
    int s = answered(&id, &sent), n = (int)lowat;
    const char *peer = text_of("peer", "watch");
    if (lowat) must(setsockopt(s, SOL_SOCKET, SO_RCVLOWAT, &n, sizeof n), "SO_RCVLOWAT");
    if (lowat) waiter_start(&w, "poll", s);
    struct rlimit limit = {(rlim_t)s + 1, (rlim_t)s + 1};
    if (number_of("limit", 0)) {
        must(prlimit(0, RLIMIT_NOFILE, &limit, NULL), "RLIMIT_NOFILE");
        while (dup(STDOUT_FILENO) >= 0) continue;
    }
    if (number_of("spin", 0)) pthread_create(&spinning, NULL, spin_main, &stop);
    say("fd=%d", s);
    say("cookie=%llu", cookie_of(s));
    say("sent=%ld", sent);
    bool begun = peer_begins(peer, id), after = is(peer, "after");
    struct let_go_of gone = {s, id};
    if (after) pthread_create(&watching, NULL, watch_main, &gone);
    if (is(peer, "flood")) WAIT_FOR(unread_bytes(s) > 0, "bytes do not arrive");
    bool counts = !number_of("limit", 0);
    long resets = counts ? counters_now().resets : 0, start = now_ms();
    let_go(s);
    say("took=%ld", now_ms() - start);
    stop = true;
    if (lowat) say("woken=%s", waiter_returned(&w, WAKE_MS) ? "yes" : "no");
    if (after) pthread_join(watching, NULL);
    peer_ends(peer, id, begun || after);
    if (counts) say("resets=%ld", counters_now().resets - resets);
    say("sockets=%d", count_sockets());
}

// drain-many n=N [route=close_range|closefrom]: several with unread bytes whose peers stay silent, in one range
static void scenario_drain_many(void)
{
    int low = -1, id;
    peer_start();
    for (long i = 0; i < number_of("n", 3); i++) {
        int s = connected_to_peer("tcp-connected", &id);
        receive(s, id, 3);
        if (low < 0) low = s;
    }
    say("sockets=%ld", number_of("n", 3));
    long start = now_ms();
    if (is(text_of("route", "close_range"), "closefrom")) closefrom(low);
    else must(close_range((unsigned)low, ~0U, 0), "close_range");
    say("took=%ld", now_ms() - start);
}

static sigjmp_buf out_of_handler;
static _Atomic int handled;

// Does what a handler may: opens and closes a socket.
static void on_alarm(int sig)
{
    (void)sig;
    int saved = errno, s = socket(AF_INET, SOCK_STREAM, 0);
    if (s >= 0 && close(s) == 0) handled++;
    errno = saved;
    if (is(text_of("how", ""), "jump")) siglongjmp(out_of_handler, 1);
    if (is(text_of("how", ""), "fork") && handled == 1 && fork() == 0) handled = 1000;
}

// drain-handler how=run|jump|fork|die: a signal every 20 ms while a connection is drained whose peer stays silent
static void scenario_drain_handler(void)
{
    const char *how = text_of("how", "run");
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {{0, 20000}, {0, 20000}};
    int id;
    peer_start();
    int s = connected_to_peer("tcp-accepted", &id);
    receive(s, id, 3);
    say("fd=%d", s);
    say("cookie=%llu", cookie_of(s));
    if (!is(how, "die")) sigaction(SIGALRM, &action, NULL);
    long start = now_ms();
    setitimer(ITIMER_REAL, &soon, NULL);
    if (sigsetjmp(out_of_handler, 1) == 0) let_go(s);
    else say("jumped=yes");
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    if (handled >= 1000) _exit(0); // the child of a handler
    say("took=%ld", now_ms() - start);
    say("handled=%d", handled);
    say("open=%s", is_socket(s) ? "yes" : "no");
    int p;
    connection(AF_INET, &s, &p); // the library goes on
    say("next cookie=%llu", cookie_of(s));
    close(s);
    if (is(how, "fork")) wait(NULL);
}

static void *drain_main(void *argument)
{
    let_go(*(int *)argument);
    return NULL;
}

// drain-fork: a child is forked while another thread drains a connection, and goes on. It has none of it.
static void scenario_drain_fork(void)
{
    pthread_t thread;
    int id, from_child[2];
    peer_start();
    int s = connected_to_peer("tcp-connected", &id);
    receive(s, id, 3);
    must(pipe(from_child), "pipe");
    say("cookie=%llu", cookie_of(s));
    errno = pthread_create(&thread, NULL, drain_main, &s);
    if (errno) broken("pthread_create");
    WAIT_FOR(!is_socket(s) && count_sockets() == 1, "the drain does not begin");
    pid_t pid = must(fork(), "fork");
    if (pid == 0) {
        char n = (char)count_sockets();
        if (write(from_child[1], &n, 1) < 0) _exit(1);
        for (;;) pause();
    }
    char n = -1;
    must(read(from_child[0], &n, 1), "read");
    say("child has=%d", n);
    pthread_join(thread, NULL);
    long resets = counters_now().resets;
    peer_do((struct peer_order){.op = PEER_SEND, .id = id, .n = 1}); // nobody has the connection any more
    WAIT_FOR(counters_now().resets > resets, "no reset: somebody has the connection");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

// From here on every thread is killed for the calls that a drain makes.
static void forbid_calls_of_a_drain(void)
{
    static const int calls[] = {SYS_ppoll, SYS_recvfrom, SYS_shutdown, SYS_fstat, SYS_clock_gettime, SYS_fcntl, SYS_getpid,
                                SYS_close, SYS_ioctl, SYS_rt_sigprocmask};
    enum { CALLS = sizeof calls / sizeof *calls };
    struct sock_filter filter[2 * CALLS + 2];
    int n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++) {
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)n, filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), "seccomp");
}

static _Atomic bool drain_ended;

// Nothing but the close: what follows it may be forbidden by then.
static void *close_quietly(void *argument)
{
    int type = is(text_of("how", ""), "cancel-async") ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED;
    pthread_setcanceltype(type, NULL);
    close(*(int *)argument);
    drain_ended = true;
    for (;;) syscall(SYS_pause); // in a sandbox the end of a thread would make calls that are forbidden
    return NULL;
}

// drain-meanwhile how=sandbox|close_range|closefrom|loop|cancel|cancel-async: while a thread drains a connection
static void scenario_drain_meanwhile(void)
{
    const char *how = text_of("how", "");
    pthread_t thread;
    int id;
    peer_start();
    int s = connected_to_peer("tcp-connected", &id);
    receive(s, id, 3);
    say("cookie=%llu", cookie_of(s));
    errno = pthread_create(&thread, NULL, close_quietly, &s);
    if (errno) broken("pthread_create");
    WAIT_FOR(!is_socket(s) && count_sockets() == 1, "the drain does not begin");
    say("draining=%s", drain_ended ? "no" : "yes");
    if (is(how, "sandbox")) {
        forbid_calls_of_a_drain();
        while (!drain_ended) sched_yield();
        say("survived=yes");
        syscall(SYS_exit_group, 0);
    }
    long closed = 0;
    for (int fd = 3; is(how, "loop") && fd < 512; fd++) closed -= fcntl(fd, F_GETFD) >= 0; // ours are above
    if (is(how, "close_range")) closed = close_range(3, ~0U, 0);
    if (is(how, "closefrom")) closefrom(3);
    for (int fd = 3; is(how, "loop") && fd < 1024; fd++) closed += close(fd) == 0;
    if (!strncmp(how, "cancel", 6)) pthread_cancel(thread);
    say("closed=%ld", closed);
    if (is(how, "cancel-async")) pthread_join(thread, NULL);
    else WAIT_FOR(drain_ended, "the drain does not end");
    int p;
    connection(AF_INET, &s, &p); // the library goes on
    say("next cookie=%llu", cookie_of(s));
    close(s);
}

// slow [route=…] linger=S [unsent=0|1]
static void scenario_slow(void)
{
    int id;
    peer_start();
    int s = connected_to_peer(text_of("family", "tcp-accepted"), &id);
    if (number_of("unsent", 1)) send_all(s);
    if (number_of("linger", 1) >= 0) set_linger(s, 1, (int)number_of("linger", 1));
    say("fd=%d", s);
    say("cookie=%llu", cookie_of(s));
    say("unsent=%d", unsent_bytes(s));
    long start = now_ms();
    let_go(s);
    say("took=%ld", now_ms() - start);
    peer_do((struct peer_order){.op = PEER_CLOSE, .id = id});
}

static int bind_again(const struct name *name, bool by_number)
{
    int s = must(socket(name->address.ss_family, SOCK_STREAM, 0), "socket"), one = 1;
    if (number_of("reuse", 0)) setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    say("fd=%d", s);
    say("cookie=%llu", cookie_of(s));
    errno = 4242;
    long r = by_number ? syscall(SYS_bind, s, &name->address, name->length)
                       : bind(s, (const struct sockaddr *)&name->address, name->length);
    say("bind=%ld,%s", r, errno == 4242 ? "kept" : error_name(errno));
    return s;
}

// bind what=nothing|time-wait|listener|connection|bound|any6|unix [reuse=1] [by=syscall]: an address, and what has it
static void scenario_bind(void)
{
    const char *what = text_of("what", "listener");
    int l = is(what, "any6")   ? must(socket(AF_INET6, SOCK_STREAM, 0), "socket")
            : is(what, "unix") ? must(socket(AF_UNIX, SOCK_STREAM, 0), "socket")
                               : must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    if (is(what, "any6")) must(bind(l, (struct sockaddr *)&any, sizeof any), "bind");
    else bind_free(l, is(what, "unix") ? AF_UNIX : AF_INET);
    if (!is(what, "bound")) must(listen(l, 4), "listen");
    struct name name = name_of(l);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    say("holder=%d", l);
    if (is(what, "any6")) {
        in.sin_port = ((struct sockaddr_in6 *)&name.address)->sin6_port;
        memcpy(&name.address, &in, name.length = sizeof in);
    }
    if (is(what, "time-wait") || is(what, "connection")) {
        int p = must(socket(AF_INET, SOCK_STREAM, 0), "socket"), s;
        must(connect(p, (struct sockaddr *)&name.address, name.length), "connect");
        s = must(accept(l, NULL, NULL), "accept");
        close(l);
        if (is(what, "time-wait")) {
            shutdown(s, SHUT_RDWR);
            close(p);
            WAIT_FOR(tcp_state(s) == CLOSED, "the connection does not end");
            close(s);
        }
    }
    if (is(what, "nothing")) close(l);
    print_name("local", getsockname, bind_again(&name, is(text_of("by", ""), "syscall")));
}

static void tell_options(const char *of, int s)
{
    int keep = -1, idle = -1, interval = -1, count = -1, reuse = -1;
    struct timeval timeout = {-1, -1};
    socklen_t n = sizeof keep, m = sizeof timeout;
    getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &keep, &n);
    getsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &n);
    getsockopt(s, IPPROTO_TCP, TCP_KEEPINTVL, &interval, &n);
    getsockopt(s, IPPROTO_TCP, TCP_KEEPCNT, &count, &n);
    getsockopt(s, SOL_SOCKET, SO_REUSEADDR, &reuse, &n);
    getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &timeout, &m);
    say("%s=keepalive:%d,%d,%d,%d timeout:%ld reuse:%d", of, keep, idle, interval, count,
        (long)timeout.tv_sec * 1000 + timeout.tv_usec / 1000, reuse);
}

// A client whose connect is made by libc or by number, with options of its own or without, blocking or not.
static int client_of(const struct name *name, bool own, bool by_number, int type)
{
    int s = must(socket(name->address.ss_family, SOCK_STREAM | type, 0), "socket"), one = 1, idle = 77, reuse = 0;
    struct timeval timeout = {.tv_sec = 9};
    if (own) {
        setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        setsockopt(s, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    }
    errno = 4242;
    long r = by_number ? syscall(SYS_connect, s, &name->address, name->length)
                       : connect(s, (const struct sockaddr *)&name->address, name->length);
    say("connect=%ld,%s", r, errno == 4242 ? "kept" : error_name(errno));
    return s;
}

// options [by=syscall]: what the sockets of a listener and its clients have
static void scenario_options(void)
{
    bool by_number = is(text_of("by", ""), "syscall");
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, port = in;
    int l = must(socket(AF_INET, SOCK_STREAM, 0), "socket"), any = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    port.sin_port = htons((uint16_t)number_of("port", 12345));
    must(by_number ? syscall(SYS_bind, l, &port, sizeof port) : bind(l, (struct sockaddr *)&port, sizeof port), "bind");
    must(bind(any, (struct sockaddr *)&in, sizeof in), "bind");
    must(listen(l, 8), "listen");
    struct name name = name_of(l);
    tell_options("client", client_of(&name, false, by_number, 0));
    tell_options("own", client_of(&name, true, by_number, 0));
    tell_options("nonblocking", client_of(&name, false, by_number, SOCK_NONBLOCK));
    tell_options("accepted", by_number ? (int)syscall(SYS_accept, l, NULL, NULL) : accept(l, NULL, NULL));
    tell_options("accepted4", accept4(l, NULL, NULL, SOCK_CLOEXEC));
    tell_options("listener", l);
    tell_options("any port", any);
    int u = listener(AF_UNIX), d = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    struct name unix_name = name_of(u);
    int c = client_of(&unix_name, false, by_number, 0);
    must(connect(d, (struct sockaddr *)&name.address, name.length), "connect");
    tell_options("unix", c);
    tell_options("unix accepted", accept(u, NULL, NULL));
    tell_options("udp", d);
    if (!number_of("wait", 0)) return;
    char byte;
    int s = client_of(&name, false, by_number, 0);
    long start = now_ms(), r = recv(s, &byte, 1, 0);
    say("recv=%ld,%s", r, error_name(errno));
    say("waited=%ld", now_ms() - start);
}

// sigpipe: writes to a connection that the peer has reset
static void scenario_sigpipe(void)
{
    struct sigaction was;
    int s, p;
    sigaction(SIGPIPE, NULL, &was);
    say("handler=%s", was.sa_handler == SIG_IGN ? "ignore" : was.sa_handler == SIG_DFL ? "default" : "own");
    if (number_of("own", 0)) signal(SIGPIPE, SIG_DFL);
    unix_pair(SOCK_STREAM, &s, &p);
    close(p);
    long r = write(s, "x", 1);
    say("write=%ld,%s", r, error_name(errno));
}

static void print_at_exit(void)
{
    printf("atexit ");
}

// After the handlers of atexit, and after ours if it had not been there before.
__attribute__((destructor)) static void print_in_destructor(void)
{
    if (parameters && text_of("destructor", NULL)) printf("destructor ");
}

// leave how=return|exit|_exit|_Exit|quick_exit|syscall|kill|vfork|fork|pthread_exit [status=N] [warn=0|1]
static void scenario_leave(void)
{
    const char *how = text_of("how", "return");
    int status = (int)number_of("status", 0);
    if (number_of("warn", 1)) close_unread(close_at_first_place);
    if (number_of("stdio", 0)) {
        char first[5] = "";
        atexit(print_at_exit);
        if (scanf("%4s", first) != 1) broken("scanf");
        printf("read=%s ", first);
    }
    if (is(how, "exit")) exit(status);
    if (is(how, "_exit")) _exit(status);
    if (is(how, "_Exit")) _Exit(status);
    if (is(how, "quick_exit")) quick_exit(status);
    if (is(how, "syscall")) syscall(SYS_exit_group, status);
    if (is(how, "kill")) kill(getpid(), SIGTERM);
    if (is(how, "pthread_exit")) pthread_exit(NULL);
    if (!is(how, "vfork") && !is(how, "fork")) return;
    int ended = 0;
    pid_t pid = is(how, "vfork") ? vfork() : fork();
    if (pid == 0) {
        if (number_of("child", 0)) close_unread(close_at_first_place);
        _exit(0);
    }
    waitpid(pid, &ended, 0);
    say("child=%d", WEXITSTATUS(ended));
}
