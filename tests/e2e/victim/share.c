// Sockets that another process holds: whoever closes first, the other's connection lives.

static char self_path[PATH_MAX];

// The other process: it has the socket as fd and says on tell what it has done.
struct holder {
    int fd;
    int tell;
    bool closes; // lets go of fd by the route of the parameters; otherwise answers on it until the end
};

static void hold(const struct holder *h)
{
    must(write(h->tell, "r", 1), "tell");
    if (!h->closes) {
        answer_bytes(h->fd);
        return;
    }
    go(h->fd);
    must(write(h->tell, "c", 1), "tell");
}

// Waits for one word of the holder; false if it ended without.
static bool told_by_holder(int tell, char word)
{
    char byte = 0;
    struct pollfd ready = {.fd = tell, .events = POLLIN};
    while (poll(&ready, 1, DEADLINE_MS) == 1 && read(tell, &byte, 1) == 1)
        if (byte == word) return true;
    return false;
}

// hold fd=N tell=N first=child|parent [route=ROUTE] [stdio=1]: what the programs that are started run
static void scenario_hold(void)
{
    struct holder h = {
        .fd = (int)number_of("fd", 0),
        .tell = (int)number_of("tell", 1),
        .closes = is(text_of("first", "child"), "child"),
    };
    if (h.closes && number_of("stdio", 0)) { // as a server that inetd started ends: all three
        must(write(h.tell, "r", 1), "tell");
        for (int fd = 0; fd < 3; fd++) go(fd);
        must(write(h.tell, "c", 1), "tell");
        return;
    }
    hold(&h);
}

// The arguments and, for a shell, the command line that start a holder.
struct program {
    char fd[32], tell[32], first[32], route[48], stdio[32], naive[32];
    char *argv[9];
    char shell[PATH_MAX + 256];
};

static void program_for(struct program *g, const struct holder *h, bool stdio)
{
    snprintf(g->fd, sizeof g->fd, "fd=%d", h->fd);
    snprintf(g->tell, sizeof g->tell, "tell=%d", h->tell);
    snprintf(g->first, sizeof g->first, "first=%s", h->closes ? "child" : "parent");
    snprintf(g->route, sizeof g->route, "route=%s", text_of("route", "close"));
    snprintf(g->stdio, sizeof g->stdio, "stdio=%d", stdio);
    snprintf(g->naive, sizeof g->naive, "naive=%ld", number_of("naive", 0));
    char *argv[] = {self_path, "hold", g->fd, g->tell, g->first, g->route, g->stdio, g->naive, NULL};
    memcpy(g->argv, argv, sizeof argv);
    snprintf(g->shell, sizeof g->shell, "exec '%s' hold %s %s %s %s %s", self_path, g->fd, g->tell, g->first,
             g->route, g->naive);
}

static char child_stack[256 * 1024] __attribute__((aligned(16)));

static int clone_child(void *argument)
{
    hold(argument);
    _exit(0);
}

// For children that run in the parent's memory: no more than the close.
static int clone_vm_child(void *argument)
{
    struct holder *h = argument;
    go(h->fd);
    if (write(h->tell, "rc", 2) < 0) _exit(1);
    _exit(0);
}

// fork that no library sees.
static long inline_fork(void)
{
    long r;
#if defined(__x86_64__)
    __asm__ volatile("syscall" : "=a"(r) : "0"(SYS_fork) : "rcx", "r11", "memory");
#else
    register long x8 __asm__("x8") = SYS_clone;
    register long x0 __asm__("x0") = SIGCHLD;
    register long x1 __asm__("x1") = 0, x2 __asm__("x2") = 0, x3 __asm__("x3") = 0, x4 __asm__("x4") = 0;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    r = x0;
#endif
    return r;
}

static pid_t spawn_holder(const struct holder *h, bool moved)
{
    struct program g;
    struct holder there = *h;
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    if (moved) { // close-on-exec, and put at another number by a file action
        must(fcntl(h->fd, F_SETFD, FD_CLOEXEC), "F_SETFD");
        there.fd = 70;
        posix_spawn_file_actions_adddup2(&actions, h->fd, there.fd);
    }
    program_for(&g, &there, false);
    errno = posix_spawn(&pid, self_path, &actions, NULL, g.argv, environ);
    if (errno) broken("posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static void *system_main(void *argument)
{
    if (system(argument) < 0) broken("system");
    return NULL;
}

// Children that begin with a return of 0 from some kind of fork.
static pid_t fork_by(const char *how, int *terminal)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    if (is(how, "fork")) return fork();
    if (is(how, "_Fork")) return _Fork();
    if (is(how, "sys_clone")) return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (is(how, "sys_clone3")) return (pid_t)syscall(SYS_clone3, &args, sizeof args);
#ifdef SYS_fork
    if (is(how, "sys_fork")) return (pid_t)syscall(SYS_fork);
#endif
    if (is(how, "inline-fork")) return (pid_t)inline_fork();
    if (is(how, "forkpty")) return forkpty(terminal, NULL, NULL, NULL);
    return -2; // not one of them
}

static pid_t vfork_closing(const struct holder *h)
{
    pid_t pid = vfork();
    if (pid == 0) {
        go(h->fd);
        _exit(write(h->tell, "rc", 2) != 2);
    }
    return pid;
}

static pid_t vfork_running(struct program *g)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execv(self_path, g->argv);
        _exit(127);
    }
    return pid;
}

// fork and exec with the socket as 0, 1 and 2, or as 5.
static pid_t exec_holder(const struct holder *h, bool stdio)
{
    struct program g;
    struct holder there = {.fd = stdio ? 0 : 5, .tell = 80, .closes = h->closes};
    program_for(&g, &there, stdio);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(h->tell, there.tell);
        for (int fd = stdio ? 0 : 5; fd < (stdio ? 3 : 6); fd++)
            if (h->fd != fd) dup2(h->fd, fd);
        execv(self_path, g.argv);
        _exit(127);
    }
    return pid;
}

static int terminal = -1;
static FILE *pipe_stream;

// Starts the process that shares h->fd.
static pid_t start_holder(const char *how, struct holder *h)
{
    static struct program g;
    program_for(&g, h, false);
    pid_t pid = fork_by(how, &terminal);
    if (pid == 0) {
        hold(h);
        _exit(0);
    }
    if (pid != -2) return pid;
    if (is(how, "vfork")) return h->closes ? vfork_closing(h) : vfork_running(&g);
    if (is(how, "vfork-exec")) return vfork_running(&g);
    if (is(how, "posix_spawn")) return spawn_holder(h, false);
    if (is(how, "posix_spawn-dup2")) return spawn_holder(h, true);
    if (is(how, "clone")) return clone(clone_child, child_stack + sizeof child_stack, SIGCHLD, h);
    if (is(how, "clone-vm"))
        return clone(clone_vm_child, child_stack + sizeof child_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, h);
    if (is(how, "exec-stdio")) return exec_holder(h, true);
    if (is(how, "exec-5")) return exec_holder(h, false);
    if (is(how, "popen")) {
        pipe_stream = popen(g.shell, "r");
        return pipe_stream ? 0 : -1;
    }
    if (is(how, "system")) {
        pthread_t thread;
        errno = pthread_create(&thread, NULL, system_main, g.shell);
        return errno ? -1 : 0;
    }
    errno = EINVAL;
    broken(how);
}

// share how=HOW first=parent|child [route=ROUTE] [route2=ROUTE]: who lets go first, and does the other's
// connection live?
static void scenario_share(void)
{
    const char *how = text_of("how", "fork");
    int s, p, tell[2];
    must(pipe(tell), "pipe");
    connection(AF_INET, &s, &p);
    struct holder h = {.fd = s, .tell = tell[1], .closes = is(text_of("first", "child"), "child")};
    say("cookie=%llu", cookie_of(s));
    must(start_holder(how, &h), how);
    if (!told_by_holder(tell[0], h.closes ? 'c' : 'r')) broken("the other process says nothing");
    if (h.closes) {
        say("alive=%s", passes_both_ways(s, p));
    } else {
        let_go(s);
        say("alive=%s", answers(p));
    }
    shutdown(p, SHUT_RDWR); // ends the holder
}

// A child made before the socket, and the way to pass it one.
static long pass_by(const char *how, int channel, int fd)
{
    char byte = 'm';
    struct iovec data = {&byte, 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1}};
    m.msg_hdr.msg_control = control.space;
    m.msg_hdr.msg_controllen = sizeof control.space;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg_hdr);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (is(how, "sendmsg")) return sendmsg(channel, &m.msg_hdr, 0);
    if (is(how, "sendmmsg")) return sendmmsg(channel, &m, 1, 0);
    if (is(how, "sys_sendmsg")) return syscall(SYS_sendmsg, channel, &m.msg_hdr, 0);
    if (is(how, "sys_sendmmsg")) return syscall(SYS_sendmmsg, channel, &m, 1, 0);
    errno = EINVAL;
    broken(how);
}

static int receive_by(const char *how, int channel)
{
    char byte;
    struct iovec data = {&byte, 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &data, .msg_iovlen = 1}};
    m.msg_hdr.msg_control = control.space;
    m.msg_hdr.msg_controllen = sizeof control.space;
    int fd;
    if (is(how, "recvmmsg"))
        must(recvmmsg(channel, &m, 1, 0, NULL), how);
    else if (is(how, "sys_recvmsg"))
        must(syscall(SYS_recvmsg, channel, &m.msg_hdr, 0), how);
    else
        must(recvmsg(channel, &m.msg_hdr, 0), how);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg_hdr);
    if (!c) broken("no descriptor came");
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

// pass how=sendmsg|sendmmsg|sys_sendmsg|sys_sendmmsg by=recvmsg|recvmmsg|sys_recvmsg first=parent|child
static void scenario_pass(void)
{
    int channel[2], tell[2], s, p;
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), "socketpair");
    must(pipe(tell), "pipe");
    struct holder h = {.tell = tell[1], .closes = is(text_of("first", "child"), "child")};
    pid_t pid = must(fork(), "fork");
    if (pid == 0) {
        h.fd = receive_by(text_of("by", "recvmsg"), channel[1]);
        hold(&h);
        _exit(0);
    }
    connection(AF_INET, &s, &p);
    say("cookie=%llu", cookie_of(s));
    must(pass_by(text_of("how", "sendmsg"), channel[0], s), "pass");
    if (!told_by_holder(tell[0], h.closes ? 'c' : 'r')) broken("the other process says nothing");
    if (h.closes) {
        say("alive=%s", passes_both_ways(s, p));
    } else {
        let_go(s);
        say("alive=%s", answers(p));
    }
    shutdown(p, SHUT_RDWR);
    waitpid(pid, NULL, 0);
}

// in-flight how=sendmsg|…: nobody's table holds it while it is let go of; then it is received and used.
static void scenario_in_flight(void)
{
    int channel[2], s, p;
    must(socketpair(AF_UNIX, SOCK_DGRAM, 0, channel), "socketpair");
    connection(AF_INET, &s, &p);
    say("cookie=%llu", cookie_of(s));
    must(pass_by(text_of("how", "sendmsg"), channel[0], s), "pass");
    let_go(s);
    s = receive_by("recvmsg", channel[1]);
    say("alive=%s", passes_both_ways(s, p));
}

// daemon [blocked=1]: after daemon(3) only the child is left.
static void scenario_daemon(void)
{
    static struct waiter w;
    int s, p;
    connection(AF_INET, &s, &p);
    say("cookie=%llu", cookie_of(s));
    must(daemon(1, 1), "daemon");
    say("alive=%s", passes_both_ways(s, p));
    waiter_start(&w, "recv", s);
    let_go(s);
    waiter_tell(&w);
}

// A child that keeps moving its descriptor: dup2 to another number, close of the old one, and an answer
// to each byte in between.
static void move_about(int fd, int tell)
{
    int here = fd, spare = 90;
    must(write(tell, "r", 1), "tell");
    for (;;) {
        char byte;
        ssize_t n = recv(here, &byte, 1, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return;
        if (n == 1) {
            byte = (char)toupper(byte);
            if (send(here, &byte, 1, MSG_NOSIGNAL) != 1) return;
        }
        must(dup2(here, spare), "dup2");
        must(close(here), "close");
        int was = here;
        here = spare;
        spare = was;
    }
}

// What the child of a possibly shared socket does with it.
static void prove_child(const char *holder, int s, int tell)
{
    struct holder h = {.fd = s, .tell = tell};
    if (is(holder, "mover")) {
        move_about(s, tell);
    } else if (is(holder, "child")) {
        hold(&h);
    } else if (is(holder, "grandchild")) {
        if (fork() == 0) hold(&h);
    } else if (is(holder, "execed")) {
        struct program g;
        program_for(&g, &h, false);
        execv(self_path, g.argv);
    } else if (is(holder, "ran")) { // a program had it, and has ended
        must(write(tell, "r", 1), "tell");
        execlp("true", "true", (char *)NULL);
    } else if (is(holder, "closed")) { // lives on without it
        close(s);
        must(write(tell, "r", 1), "tell");
        pause();
    } else
        must(write(tell, "r", 1), "tell");
    _exit(0);
}

// A process that lives, has the socket as close-on-exec, and so does not have it.
static pid_t spawn_sleeper(int s, int tell)
{
    char *argv[] = {"sh", "-c", NULL, NULL};
    char command[64];
    snprintf(command, sizeof command, "printf r >&%d; exec sleep 30", tell);
    argv[2] = command;
    must(fcntl(s, F_SETFD, FD_CLOEXEC), "F_SETFD");
    pid_t pid;
    errno = posix_spawnp(&pid, "sh", NULL, NULL, argv, environ);
    if (errno) broken("posix_spawnp");
    return pid;
}

// prove holder=exited|zombie|ran|closed|cloexec|child|grandchild|execed|mover [rounds=N]: a possibly shared
// socket, a thread of ours blocked on it. Who else holds it decides.
static void prove_once(const char *holder)
{
    static struct waiter w;
    int s, p, tell[2];
    must(pipe2(tell, is(holder, "execed") || is(holder, "cloexec") ? 0 : O_CLOEXEC), "pipe");
    connection(AF_INET, &s, &p);
    say("cookie=%llu", cookie_of(s));
    pid_t pid = is(holder, "cloexec") ? spawn_sleeper(s, tell[1]) : fork();
    if (pid == 0) prove_child(holder, s, tell[1]);
    say("child=%d", pid);
    if (!told_by_holder(tell[0], 'r')) broken("the other process says nothing");
    if (is(holder, "exited") || is(holder, "ran") || is(holder, "grandchild")) must(waitpid(pid, NULL, 0), "waitpid");
    siginfo_t info;
    if (is(holder, "zombie")) must(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), "waitid");
    waiter_start(&w, "poll", s); // does not take the bytes that the holder answers
    let_go(s);
    bool held =
        is(holder, "child") || is(holder, "grandchild") || is(holder, "execed") || is(holder, "mover");
    if (held && waiter_returned(&w, 0))
        say("woken=yes");
    else if (held)
        say("woken=no");
    else
        waiter_tell(&w);
    if (held) say("alive=%s", answers(p));
    shutdown(p, SHUT_RDWR);
    if (is(holder, "closed") || is(holder, "cloexec")) kill(pid, SIGKILL);
    if (held) waiter_returned(&w, DEADLINE_MS);
    if (!is(holder, "exited") && !is(holder, "ran") && !is(holder, "grandchild")) waitpid(pid, NULL, 0);
    close(p);
    close(tell[0]);
    close(tell[1]);
}

static void scenario_prove(void)
{
    for (long i = number_of("rounds", 1); i > 0; i--) prove_once(text_of("holder", "exited"));
}

// prove-passed state=in-flight|returned: passed once, never proven alone again.
static void scenario_prove_passed(void)
{
    static struct waiter w;
    int channel[2], s, p;
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), "socketpair");
    connection(AF_INET, &s, &p);
    say("cookie=%llu", cookie_of(s));
    must(pass_by("sendmsg", channel[0], s), "pass");
    if (is(text_of("state", "in-flight"), "returned")) // received by ourselves and closed again
        close(receive_by("recvmsg", channel[1]));
    waiter_start(&w, "poll", s);
    let_go(s);
    say("woken=%s", waiter_returned(&w, HANG_MS) ? "yes" : "no");
    if (is(text_of("state", "in-flight"), "in-flight")) {
        s = receive_by("recvmsg", channel[1]);
        say("alive=%s", passes_both_ways(s, p));
    }
    shutdown(p, SHUT_RDWR);
}

// inherited fd=N: what the program that prove-inherited starts runs
static void scenario_inherited(void)
{
    static struct waiter w;
    int s = (int)number_of("fd", 5);
    say("cookie=%llu", cookie_of(s));
    waiter_start(&w, "poll", s);
    let_go(s);
    waiter_tell(&w);
}

// prove-inherited held=yes|no [route=ROUTE] [hang=MS]: a program started with the socket as 5, while its
// parent has it too or has not.
static void scenario_prove_inherited(void)
{
    char route[48], hang[32];
    bool held = is(text_of("held", "no"), "yes");
    snprintf(route, sizeof route, "route=%s", text_of("route", "close"));
    snprintf(hang, sizeof hang, "hang=%ld", number_of("hang", WAKE_MS));
    int l = listener(AF_INET); // both ends outlive the child: the peer here, s here only if held
    struct name name = name_of(l);
    int p = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    must(connect(p, (struct sockaddr *)&name.address, name.length), "connect");
    int s = must(accept4(l, NULL, NULL, SOCK_CLOEXEC), "accept4");
    int go[2];
    must(pipe2(go, O_CLOEXEC), "pipe");
    pid_t pid = must(fork(), "fork");
    if (pid == 0) {
        char *argv[] = {self_path, "inherited", "fd=5", route, hang, NULL};
        char byte;
        int end = fcntl(go[0], F_DUPFD_CLOEXEC, 20), socket = fcntl(s, F_DUPFD_CLOEXEC, 20);
        close(go[1]);
        close(s); // else 5 or its neighbour stays, close-on-exec
        if (dup2(socket, 5) < 0 || read(end, &byte, 1) < 0) _exit(1);
        execv(self_path, argv);
        _exit(127);
    }
    if (!held) close(s);
    must(write(go[1], "g", 1), "go");
    int status;
    must(waitpid(pid, &status, 0), "waitpid");
    if (held) say("alive=%s", passes_both_ways(s, p));
}

// parted how=unshare|sys_unshare|close_range|sys_close_range first=thread|main [route=ROUTE]: a thread with a
// descriptor table of its own is another holder.
struct parted {
    int s, p, tell[2], go[2];
};

static void part(const char *how, int s)
{
    if (is(how, "unshare"))
        must(unshare(CLONE_FILES), how);
    else if (is(how, "sys_unshare"))
        must(syscall(SYS_unshare, CLONE_FILES), how);
    else if (is(how, "close_range"))
        must(close_range((unsigned)s, ~0U, CLOSE_RANGE_UNSHARE), how);
    else
        must(syscall(SYS_close_range, s, ~0U, CLOSE_RANGE_UNSHARE), how);
}

static void *parted_main(void *argument)
{
    struct parted *d = argument;
    const char *how = text_of("how", "unshare");
    char byte;
    part(how, d->s);
    if (is(text_of("first", "thread"), "thread") && strstr(how, "unshare")) go(d->s);
    must(write(d->tell[1], "r", 1), "tell");
    must(read(d->go[0], &byte, 1), "go");
    if (is(text_of("first", "thread"), "main")) say("alive=%s", passes_both_ways(d->s, d->p));
    return NULL;
}

static void scenario_parted(void)
{
    static struct parted d;
    pthread_t thread;
    char byte;
    must(pipe(d.tell), "pipe");
    must(pipe(d.go), "pipe");
    connection(AF_INET, &d.s, &d.p);
    say("cookie=%llu", cookie_of(d.s));
    errno = pthread_create(&thread, NULL, parted_main, &d);
    if (errno) broken("pthread_create");
    must(read(d.tell[0], &byte, 1), "tell");
    if (is(text_of("first", "thread"), "main"))
        let_go(d.s);
    else
        say("alive=%s", passes_both_ways(d.s, d.p));
    must(write(d.go[1], "g", 1), "go");
    pthread_join(thread, NULL);
}

// child-own how=HOW: what a forked child opens itself is its own: a blocked thread of it wakes.
static void scenario_child_own(void)
{
    static struct waiter w;
    int s, p;
    pid_t pid = must(fork_by(text_of("how", "fork"), &terminal), "fork");
    if (pid > 0) {
        must(waitpid(pid, NULL, 0), "waitpid");
        return;
    }
    connection(AF_INET, &s, &p);
    waiter_start(&w, "recv", s);
    let_go(s);
    waiter_tell(&w);
    _exit(0);
}

// prove-in-child: the child closes while its thread is blocked; the parent has the socket too.
static void scenario_prove_in_child(void)
{
    static struct waiter w;
    int s, p;
    connection(AF_INET, &s, &p);
    say("cookie=%llu", cookie_of(s));
    pid_t pid = must(fork(), "fork");
    if (pid == 0) {
        waiter_start(&w, "poll", s);
        let_go(s);
        say("woken=%s", waiter_returned(&w, number_of("hang", HANG_MS)) ? "yes" : "no");
        _exit(0);
    }
    must(waitpid(pid, NULL, 0), "waitpid");
    say("alive=%s", passes_both_ways(s, p));
}
