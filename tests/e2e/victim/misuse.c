// What a program does wrong with a closed descriptor, or seems to; what repeats; and how it ends.

// A connection that is then closed. Returns its number, which is the lowest that is free.
__attribute__((noinline)) static int closed_socket(void)
{
    int s, p;
    connection(AF_INET, &s, &p);
    while (dup(p) < s) continue;
    must(close(s + 1), "close"); // the duplicate that found no lower number
    must(close(s), "close");
    return s;
}

// double-close [route=ROUTE] [between=file|socket|nothing]
static void scenario_double_close(void)
{
    int s = closed_socket(), again = -1;
    if (is(text_of("between", "nothing"), "file")) again = dev_null();
    if (is(text_of("between", "nothing"), "socket")) again = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    say("fd=%d", s);
    say("same=%s", again == s ? "yes" : "no");
    TELL("again", go(s));
}

__attribute__((noinline)) static long use(const char *call, int fd)
{
    int one = 1;
    socklen_t n = sizeof one;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (is(call, "shutdown")) return shutdown(fd, SHUT_RDWR);
    if (is(call, "accept")) return accept(fd, NULL, NULL);
    if (is(call, "accept4")) return accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (is(call, "setsockopt")) return setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if (is(call, "getsockopt")) return getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, &n);
    if (is(call, "listen")) return listen(fd, 1);
    if (is(call, "bind")) return bind(fd, (struct sockaddr *)&a, sizeof a);
    if (is(call, "connect")) return connect(fd, (struct sockaddr *)&a, sizeof a);
    if (is(call, "dup")) return dup(fd);
    if (is(call, "dup2")) return dup2(fd, 99);
    if (is(call, "dup3")) return dup3(fd, 99, 0);
    if (is(call, "fcntl")) return fcntl(fd, F_DUPFD_CLOEXEC, 0);
    errno = EINVAL;
    broken(call);
}

// use-after-close call=CALL [between=file]
static void scenario_use_after_close(void)
{
    int s = closed_socket();
    if (is(text_of("between", "nothing"), "file")) say("same=%s", dev_null() == s ? "yes" : "no");
    say("fd=%d", s);
    TELL("use", use(text_of("call", "shutdown"), s));
}

// sweep how=up|down|around|from-closed|range|closefrom|syscall: closes everything, as daemons do; some numbers were
// sockets' before
static void scenario_sweep(void)
{
    const char *how = text_of("how", "up");
    int low = closed_socket(), s[8], p[8];
    for (int i = 0; i < 8; i++) connection(AF_INET, &s[i], &p[i]);
    for (int i = 0; i < 8; i += 2) close(s[i]);
    if (is(how, "up"))
        for (int fd = 3; fd < 256; fd++) close(fd);
    else if (is(how, "down"))
        for (int fd = 255; fd >= 3; fd--) close(fd);
    else if (is(how, "around")) { // keeps the neighbours of a closed one
        for (int fd = 3; fd < 256; fd++)
            if (fd != s[2] - 1 && fd != s[2] + 1) close(fd);
    } else if (is(how, "from-closed"))
        for (int fd = s[0]; fd < 256; fd++) close(fd);
    else if (is(how, "syscall"))
        for (int fd = 3; fd < 256; fd++) syscall(SYS_close, fd);
    else if (is(how, "range"))
        close_range(3, ~0U, 0);
    else
        closefrom(low);
    say("swept=%s", how);
}

// The line of the close is another one: a place of its own.
__attribute__((noinline)) static void close_at_first_place(int fd)
{
    close(fd);
    STAY_HERE();
}

__attribute__((noinline)) static void close_at_second_place(int fd)
{
    close(fd);
    STAY_HERE();
}

static void close_unread(void (*at)(int))
{
    int s, p;
    connection(AF_INET, &s, &p);
    must(send(p, "abc", 3, 0), "send");
    WAIT_FOR(unread_bytes(s) == 3, "bytes do not arrive");
    at(s);
    close(p);
}

// repeat first=N second=N [end=exit|_exit|_Exit|quick_exit|return|thread|kill]: the same finding from two
// places
static void scenario_repeat(void)
{
    const char *end = text_of("end", "return");
    for (long i = 0; i < number_of("first", 1); i++) close_unread(close_at_first_place);
    for (long i = 0; i < number_of("second", 0); i++) close_unread(close_at_second_place);
    say("ended by=%s", end);
    if (is(end, "exit")) exit(7);
    if (is(end, "_exit")) _exit(7);
    if (is(end, "_Exit")) _Exit(7);
    if (is(end, "quick_exit")) quick_exit(7);
    if (is(end, "fork")) { // a child that has no finding of its own
        pid_t pid = must(fork(), "fork");
        if (pid == 0) _exit(0);
        waitpid(pid, NULL, 0);
    }
}

__attribute__((noinline)) static int open_here(void)
{
    int fd = must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    STAY_HERE();
    return fd;
}

// place: opened in one function, closed in another, by a thread with a name
static void *place_main(void *argument)
{
    pthread_setname_np(pthread_self(), "closer");
    say("closing tid=%d", (int)gettid());
    let_go(*(int *)argument);
    return NULL;
}

static void scenario_place(void)
{
    pthread_t thread;
    int fd = open_here();
    say("cookie=%llu", cookie_of(fd));
    say("opening tid=%d", (int)gettid());
    errno = pthread_create(&thread, NULL, place_main, &fd);
    if (errno) broken("pthread_create");
    pthread_join(thread, NULL);
}

// facts kind=KIND [route=ROUTE]: a clean socket of any kind is let go of; what it was
static void scenario_facts(void)
{
    int s, p;
    make_socket(text_of("kind", "tcp"), &s, &p);
    say("pid=%d", getpid());
    say("fd=%d", s);
    say("cookie=%llu", cookie_of(s));
    say("state=%s", tcp_state_name(tcp_state(s)));
    print_name("local", getsockname, s);
    print_name("peer", getpeername, s);
    let_go(s);
}

// files n=N [of=open|dup|stream]: opens and closes files, never a socket; getppid marks both ends for a
// tracer
static void scenario_files(void)
{
    const char *of = text_of("of", "open");
    getppid();
    for (long i = number_of("n", 1000); i > 0; i--) {
        int fd = open("/dev/null", O_RDONLY);
        if (is(of, "stream")) {
            FILE *stream = fdopen(fd, "r");
            if (i % 2)
                fclose(stream);
            else
                fclose(freopen("/dev/zero", "r", stream));
            continue;
        }
        if (is(of, "dup")) {
            int other = dup(fd);
            dup2(other, 50);
            dup3(fd, 51, O_CLOEXEC);
            close(fcntl(fd, F_DUPFD_CLOEXEC, 60));
            close_range(50, 60, 0);
            close(other);
        }
        close(fd);
    }
    getppid();
}

// none: does nothing
static void scenario_none(void)
{
    say("ran=yes");
}

// preload: is the library in this process?
static void scenario_preload(void)
{
    char line[512];
    bool there = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) there |= strstr(line, "libpreclose") != NULL;
    if (maps) fclose(maps);
    say("loaded=%s", there ? "yes" : "no");
    say("secure=%s", getauxval(AT_SECURE) ? "yes" : "no");
}
