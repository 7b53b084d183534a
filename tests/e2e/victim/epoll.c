// A thread in epoll_wait learns nothing from a close that it would not have learnt without the library.

struct epoll_watcher {
    pthread_t thread;
    int set;
    _Atomic long events; // other than the sentinel
    _Atomic bool stop;
};

enum { SENTINEL = -1 }; // data of the descriptor that ends a watch

static void *watch_epoll(void *argument)
{
    struct epoll_watcher *w = argument;
    while (!w->stop) {
        struct epoll_event e[8];
        int n = epoll_wait(w->set, e, 8, 20);
        for (int i = 0; i < n; i++) w->events += e[i].data.fd != SENTINEL;
    }
    return NULL;
}

// phantoms n=N mode=plain|naive: a naive shim shuts down and closes; how many events does the thread see?
static void scenario_phantoms(void)
{
    static struct epoll_watcher w;
    long n = number_of("n", 20000);
    bool naive = is(text_of("mode", "plain"), "naive");
    w.set = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    errno = pthread_create(&w.thread, NULL, watch_epoll, &w);
    if (errno) broken("pthread_create");
    for (long i = 0; i < n; i++) {
        int sv[2];
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), "socketpair");
        struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = sv[0]};
        must(epoll_ctl(w.set, EPOLL_CTL_ADD, sv[0], &e), "epoll_ctl");
        nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL); // lets the thread go to sleep in epoll_wait
        if (naive) shutdown(sv[0], SHUT_RDWR);
        close(sv[0]);
        close(sv[1]);
    }
    w.stop = true;
    pthread_join(w.thread, NULL);
    say("events=%ld", (long)w.events);
}

static void add_to(int set, int fd, int data)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = data};
    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &e), "EPOLL_CTL_ADD");
}

// The number of events that a set tells before the sentinel's.
static long events_before_sentinel(int set)
{
    long events = 0;
    for (bool seen = false; !seen;) {
        struct epoll_event e[16];
        int n = must(epoll_wait(set, e, 16, DEADLINE_MS), "epoll_wait");
        if (n == 0) broken("the sentinel is not told");
        for (int i = 0; i < n; i++) {
            if (e[i].data.fd == SENTINEL)
                seen = true;
            else
                events++;
        }
    }
    return events;
}

// A round: a set, another around it, and somebody who waits on one of them while the socket is let go of.
struct round {
    int set, outer, watched, sentinel;
    int s, p;
    pthread_t thread;
    _Atomic int tid;
    long events;
};

static void *watch_round(void *argument)
{
    struct round *r = argument;
    r->tid = (int)gettid();
    r->events = events_before_sentinel(r->watched);
    return NULL;
}

static bool is_in_epoll_wait(const char *path)
{
    long first, number = blocked_in(path, &first);
#ifdef SYS_epoll_wait
    if (number == SYS_epoll_wait) return true;
#endif
    return number == SYS_epoll_pwait || number == SYS_epoll_pwait2;
}

static bool round_is_watched(struct round *r)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", r->tid);
    return r->tid && is_in_epoll_wait(path);
}

static void round_watch(struct round *r)
{
    errno = pthread_create(&r->thread, NULL, watch_round, r);
    if (errno) broken("pthread_create");
    WAIT_FOR(round_is_watched(r), "thread is not in epoll_wait");
}

// Added as one number, held by another: the key by which it could be taken out is gone.
static void epoll_key_gone(struct round *r)
{
    add_to(r->set, r->s, r->s);
    int other = must(dup(r->s), "dup");
    must(close(r->s), "close");
    round_watch(r);
    let_go(other);
}

// The set was duplicated and its first descriptor closed: it is still the same set.
static void epoll_duplicated(struct round *r)
{
    add_to(r->set, r->s, r->s);
    r->watched = must(dup(r->set), "dup");
    must(close(r->set), "close");
    r->set = r->watched;
    round_watch(r);
    let_go(r->s);
}

// The set is in another set, on which somebody waits.
static void epoll_nested(struct round *r)
{
    add_to(r->set, r->s, r->s);
    add_to(r->outer, r->set, r->set);
    round_watch(r);
    let_go(r->s);
}

static void epoll_by_syscall(struct round *r)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = r->s};
    must(syscall(SYS_epoll_ctl, r->set, EPOLL_CTL_ADD, r->s, &e), "SYS_epoll_ctl");
    round_watch(r);
    let_go(r->s);
}

// The set is known by a number that no library has seen come.
static void epoll_unseen_set(struct round *r)
{
    r->watched = must(inline_dup(r->set), "dup");
    must(close(r->set), "close");
    r->set = r->watched;
    add_to(r->set, r->s, r->s);
    round_watch(r);
    let_go(r->s);
}

// The program itself takes it out first, or changes what it waits for.
static void epoll_deleted(struct round *r)
{
    add_to(r->set, r->s, r->s);
    must(epoll_ctl(r->set, EPOLL_CTL_DEL, r->s, NULL), "EPOLL_CTL_DEL");
    round_watch(r);
    let_go(r->s);
}

static void epoll_modified(struct round *r)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLHUP, .data.fd = r->s};
    add_to(r->set, r->s, r->s);
    must(epoll_ctl(r->set, EPOLL_CTL_MOD, r->s, &e), "EPOLL_CTL_MOD");
    round_watch(r);
    let_go(r->s);
}

// Both numbers of the socket are in the set; when the second goes, the first's key is gone.
static void epoll_both_numbers(struct round *r)
{
    int other = must(dup(r->s), "dup");
    add_to(r->set, r->s, r->s);
    add_to(r->set, other, other);
    must(close(other), "close");
    round_watch(r);
    let_go(r->s);
}

// It is in two sets; the one that nobody waits on is closed first.
static void epoll_set_closed(struct round *r)
{
    int gone = must(epoll_create1(0), "epoll_create1");
    add_to(gone, r->s, r->s);
    add_to(r->set, r->s, r->s);
    must(close(gone), "close");
    round_watch(r);
    let_go(r->s);
}

static const struct epoll_case {
    const char *name;
    void (*go)(struct round *r);
} epoll_cases[] = {
    {"key-gone", epoll_key_gone},     {"duplicated", epoll_duplicated},     {"nested", epoll_nested},
    {"syscall", epoll_by_syscall},    {"deleted", epoll_deleted},           {"modified", epoll_modified},
    {"set-closed", epoll_set_closed}, {"both-numbers", epoll_both_numbers}, {"unseen-set", epoll_unseen_set},
    {"sys_create", epoll_modified},
};

static int new_set(void)
{
    if (is(text_of("of", ""), "sys_create")) return (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
    return epoll_create1(EPOLL_CLOEXEC);
}

static void round_open(struct round *r)
{
    *r = (struct round){
        .set = must(new_set(), "epoll_create1"),
        .outer = must(epoll_create(8), "epoll_create"),
        .sentinel = must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"),
    };
}

static long epoll_round(const struct epoll_case *c)
{
    struct round r;
    round_open(&r);
    r.watched = is(c->name, "nested") ? r.outer : r.set;
    add_to(r.watched, r.sentinel, SENTINEL);
    unix_pair(SOCK_STREAM, &r.s, &r.p);
    say("cookie=%llu", cookie_of(r.s));
    c->go(&r);
    must(eventfd_write(r.sentinel, 1), "eventfd");
    pthread_join(r.thread, NULL);
    close(r.p);
    close(r.sentinel);
    close(r.outer);
    close(r.set);
    return r.events;
}

// A child waits on a set that it has from its parent; the socket came after the fork.
static void epoll_child_round(void)
{
    struct round r;
    char path[64];
    round_open(&r);
    add_to(r.set, r.sentinel, SENTINEL);
    pid_t pid = must(fork(), "fork");
    if (pid == 0) {
        say("events=%ld", events_before_sentinel(r.set));
        _exit(0);
    }
    unix_pair(SOCK_STREAM, &r.s, &r.p);
    say("cookie=%llu", cookie_of(r.s));
    add_to(r.set, r.s, r.s);
    snprintf(path, sizeof path, "/proc/%d/syscall", pid);
    WAIT_FOR(is_in_epoll_wait(path), "child is not in epoll_wait");
    let_go(r.s);
    must(eventfd_write(r.sentinel, 1), "eventfd");
    must(waitpid(pid, NULL, 0), "waitpid");
    close(r.p);
    close(r.sentinel);
    close(r.outer);
    close(r.set);
}

// epoll of=CASE|child [rounds=N] [naive=1]: events that a thread, or a child, in epoll_wait sees
static void scenario_epoll(void)
{
    const char *of = text_of("of", "key-gone");
    for (long i = number_of("rounds", 1); i > 0; i--) {
        if (is(of, "child")) {
            epoll_child_round();
            continue;
        }
        for (size_t k = 0; k < sizeof epoll_cases / sizeof *epoll_cases; k++)
            if (is(epoll_cases[k].name, of)) say("events=%ld", epoll_round(&epoll_cases[k]));
    }
}
