// Every way to let go of a descriptor. None is a tail call, so that the return address, and with it
// the place that a finding names, is in the function of that name.

#define STAY_HERE() __asm__ volatile("" ::: "memory")
#define ROUTE static __attribute__((noinline)) long

extern int close_by_its_other_name(int fd) __asm__("__close");

static int dev_null(void)
{
    return must(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
}

ROUTE route_close(int fd)
{
    long r = close(fd);
    STAY_HERE();
    return r;
}

ROUTE route___close(int fd)
{
    long r = close_by_its_other_name(fd);
    STAY_HERE();
    return r;
}

ROUTE route_close_range(int fd)
{
    long r = close_range((unsigned)fd, (unsigned)fd, 0);
    STAY_HERE();
    return r;
}

ROUTE route_closefrom(int fd)
{
    closefrom(fd);
    STAY_HERE();
    return 0;
}

// What takes the place of fd is /dev/null.
ROUTE route_dup2(int fd)
{
    int other = dev_null();
    long r = dup2(other, fd);
    int err = errno;
    close(other);
    errno = err;
    return r;
}

ROUTE route_dup3(int fd)
{
    int other = dev_null();
    long r = dup3(other, fd, O_CLOEXEC);
    int err = errno;
    close(other);
    errno = err;
    return r;
}

ROUTE route_fclose(int fd)
{
    FILE *stream = fdopen(fd, "r+");
    if (!stream) return -1;
    long r = fclose(stream);
    STAY_HERE();
    return r;
}

ROUTE route_freopen(int fd)
{
    FILE *stream = fdopen(fd, "r+");
    if (!stream) return -1;
    FILE *again = freopen("/dev/null", "r", stream);
    STAY_HERE();
    return again == stream ? 0 : -1;
}

ROUTE route_sys_close(int fd)
{
    long r = syscall(SYS_close, fd);
    STAY_HERE();
    return r;
}

ROUTE route_sys_close_range(int fd)
{
    long r = syscall(SYS_close_range, fd, fd, 0);
    STAY_HERE();
    return r;
}

#ifdef SYS_dup2
ROUTE route_sys_dup2(int fd)
{
    int other = dev_null();
    long r = syscall(SYS_dup2, other, fd);
    int err = errno;
    close(other);
    errno = err;
    return r;
}
#endif

ROUTE route_sys_dup3(int fd)
{
    int other = dev_null();
    long r = syscall(SYS_dup3, other, fd, 0);
    int err = errno;
    close(other);
    errno = err;
    return r;
}

static const struct route {
    const char *name;
    long (*go)(int fd);
} routes[] = {
    {"close", route_close},
    {"__close", route___close},
    {"close_range", route_close_range},
    {"closefrom", route_closefrom},
    {"dup2", route_dup2},
    {"dup3", route_dup3},
    {"fclose", route_fclose},
    {"freopen", route_freopen},
    {"sys_close", route_sys_close},
    {"sys_close_range", route_sys_close_range},
#ifdef SYS_dup2
    {"sys_dup2", route_sys_dup2},
#endif
    {"sys_dup3", route_sys_dup3},
};

enum { ROUTES = sizeof routes / sizeof *routes };

static const struct route *route_named(const char *name)
{
    for (int i = 0; i < ROUTES; i++)
        if (is(routes[i].name, name)) return &routes[i];
    errno = EINVAL;
    broken(name);
}

// Lets go of fd by a route, and does first what a careless shim does if the parameters say naive=1.
static long go_by(const char *name, int fd)
{
    const struct route *route = route_named(name);
    if (number_of("naive", 0)) shutdown(fd, SHUT_RDWR);
    errno = 4242; // a call that succeeds leaves errno alone
    return route->go(fd);
}

// Lets go of fd by the route that the parameters name.
static long go(int fd)
{
    return go_by(text_of("route", "close"), fd);
}

// The same, and tells what the call answered.
static void let_go(int fd)
{
    long r = go(fd);
    int err = errno;
    say("ret=%ld", r);
    say("errno=%s", err == 4242 ? "kept" : error_name(err));
    say("released=%s", is_socket(fd) ? "no" : "yes");
}
