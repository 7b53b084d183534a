// Several descriptors of one socket: only the last lets go of it.

static int duplicate(const char *how, int fd)
{
    int to = fd + 10; // where dup2 and dup3 put it: a number that is free
    while (fcntl(to, F_GETFD) >= 0) to++;
    if (is(how, "dup")) return dup(fd);
    if (is(how, "dup2")) return dup2(fd, to);
    if (is(how, "dup3")) return dup3(fd, to, O_CLOEXEC);
    if (is(how, "F_DUPFD")) return fcntl(fd, F_DUPFD, to);
    if (is(how, "F_DUPFD_CLOEXEC")) return fcntl(fd, F_DUPFD_CLOEXEC, to);
    if (is(how, "sys_dup")) return (int)syscall(SYS_dup, fd);
#ifdef SYS_dup2
    if (is(how, "sys_dup2")) return (int)syscall(SYS_dup2, fd, to);
#endif
    if (is(how, "sys_dup3")) return (int)syscall(SYS_dup3, fd, to, 0);
    if (is(how, "sys_fcntl")) return (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, to);
    errno = EINVAL;
    broken(how);
}

// One order: three descriptors, a thread blocked on the first. Tells after each close whether the
// connection still carries a byte, and whether the thread is still blocked.
static void close_in_order(const char *how, const int order[3])
{
    static struct waiter w;
    int fds[3], p;
    connection(AF_INET, &fds[0], &p);
    fds[1] = must(duplicate(how, fds[0]), how);
    fds[2] = must(duplicate(how, fds[1]), how);
    waiter_start(&w, "recv", fds[0]);
    char line[160] = "";
    bool open[3] = {true, true, true};
    for (int i = 0; i < 3; i++) {
        if (go(fds[order[i]]) < 0) broken("route");
        open[order[i]] = false;
        int left = open[0] ? fds[0] : open[1] ? fds[1] : open[2] ? fds[2] : -1;
        bool woken = waiter_returned(&w, left < 0 ? number_of("hang", WAKE_MS) : 0);
        size_t n = strlen(line);
        snprintf(line + n, sizeof line - n, "%s%s%s", i ? " " : "", left < 0 ? "" : passes(left, p),
                 woken ? "+woken" : "+blocked");
    }
    say("order %d%d%d=%s", order[0], order[1], order[2], line);
    shutdown(p, SHUT_RDWR);
    close(p);
}

// duplicates how=HOW [route=ROUTE]: all six orders
static void scenario_duplicates(void)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int i = 0; i < 6; i++) close_in_order(text_of("how", "dup"), orders[i]);
}

// One marker socket put behind several descriptors by dup2, as Java pre-closes: each dup2 lets go of what
// was there, and none of the marker.
static void scenario_marker(void)
{
    static struct waiter w[3];
    int marker[2], s[3], p[3];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, marker), "socketpair");
    shutdown(marker[0], SHUT_RDWR);
    close(marker[1]);
    for (int i = 0; i < 3; i++) {
        connection(AF_INET, &s[i], &p[i]);
        waiter_start(&w[i], "recv", s[i]);
    }
    for (int i = 0; i < 3; i++) {
        must(dup2(marker[0], s[i]), "dup2");
        say("woken%d=%s", i, waiter_returned(&w[i], number_of("hang", WAKE_MS)) ? "yes" : "no");
        must(close(s[i]), "close");
    }
    say("marker open=%s", is_socket(marker[0]) ? "yes" : "no");
}

// dup2 of one connection onto another: the one is let go of, the other has one more descriptor.
static void scenario_dup2_onto_socket(void)
{
    static struct waiter lost, kept;
    int s, p, s2, p2;
    connection(AF_INET, &s, &p);
    connection(AF_INET, &s2, &p2);
    waiter_start(&lost, "recv", s2);
    waiter_start(&kept, "recv", s);
    must(dup2(s, s2), "dup2");
    say("lost woken=%s", waiter_returned(&lost, number_of("hang", WAKE_MS)) ? "yes" : "no");
    must(close(s), "close");
    say("kept passes=%s", passes(s2, p));
    say("kept woken early=%s", waiter_returned(&kept, 0) ? "yes" : "no");
    must(close(s2), "close");
    say("kept woken=%s", waiter_returned(&kept, number_of("hang", WAKE_MS)) ? "yes" : "no");
}

// Threads that open, use and let go of connections as fast as they can, so that numbers go from one to the
// other all the time. A connection that is cut by another's close shows at once.
static _Atomic long storm_rounds, storm_cut;

static void *storm_main(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    for (long i = number_of("n", 2000); i > 0; i--) {
        int sv[2], other = -1;
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), "socketpair");
        if (rand_r(&seed) % 3 == 0) other = must(dup(sv[0]), "dup");
        if (rand_r(&seed) % 4 == 0) { // its number is given up and another taken, by raw calls
            int moved = must(inline_dup(sv[0]), "dup");
            inline_close(sv[0]);
            sv[0] = moved;
        }
        if (!is(passes_both_ways(sv[0], sv[1]), "yes")) storm_cut++;
        const struct route *route = &routes[(unsigned)rand_r(&seed) % ROUTES];
        if (is(route->name, "closefrom") || strstr(route->name, "dup") || is(route->name, "freopen"))
            route = &routes[0];
        route->go(sv[0]);
        if (other >= 0 && !is(passes_both_ways(other, sv[1]), "yes")) storm_cut++;
        close(sv[1]);
        if (other >= 0) close(other);
        storm_rounds++;
    }
    return NULL;
}

// storm [threads=N] [n=N]
static void scenario_storm(void)
{
    pthread_t threads[16];
    long n = number_of("threads", 4);
    for (long i = 0; i < n && i < 16; i++)
        if (pthread_create(&threads[i], NULL, storm_main, (void *)(uintptr_t)(i + 1)))
            broken("pthread_create");
    for (long i = 0; i < n && i < 16; i++) pthread_join(threads[i], NULL);
    say("rounds=%ld", (long)storm_rounds);
    say("cut=%ld", (long)storm_cut);
}
