// What each call answers, whether it can be answered or not: the same with the library as without.

static void told(const char *what, long r)
{
    int err = errno;
    say("%s=%ld,%s", what, r, r < 0 ? error_name(err) : err == 4242 ? "kept" : error_name(err));
}

#define TELL(what, call)  \
    do {                  \
        errno = 4242;     \
        long r_ = (call); \
        told(what, r_);   \
    } while (0)

static void results_close(void)
{
    int s, p;
    connection(AF_INET, &s, &p);
    TELL("close(-1)", close(-1));
    TELL("close(never opened)", close(777));
    TELL("close(beyond the limit)", close(2000000));
    TELL("close(INT_MAX)", close(INT_MAX));
    TELL("close(INT_MIN)", close(INT_MIN));
    TELL("__close(-1)", close_by_its_other_name(-1));
    TELL("syscall(SYS_close, -1)", syscall(SYS_close, -1));
    TELL("syscall(SYS_close, 777)", syscall(SYS_close, 777));
    say("alive=%s", passes_both_ways(s, p));
    TELL("close(s)", close(s));
    TELL("close(s) again", close(s));
    connection(AF_INET, &s, &p);
    TELL("syscall(SYS_close, s)", syscall(SYS_close, s));
    TELL("syscall(SYS_close, s) again", syscall(SYS_close, s));
    connection(AF_INET, &s, &p);
    TELL("syscall(SYS_close, s with high bits)", syscall(SYS_close, (1L << 32) | s));
    TELL("fcntl(s)", fcntl(s, F_GETFD));
    TELL("syscall(no such call)", syscall(100000, s));
}

static void results_dup2(void)
{
    int s, p;
    connection(AF_INET, &s, &p);
    TELL("dup2(closed, s)", dup2(777, s));
    TELL("dup2(-1, s)", dup2(-1, s));
    TELL("dup2(s, -1)", dup2(s, -1));
    TELL("dup2(s, s)", dup2(s, s));
    TELL("dup2(closed, itself)", dup2(777, 777));
    TELL("dup3(closed, s)", dup3(777, s, 0));
    TELL("dup3(s, s)", dup3(s, s, 0));
    TELL("dup3(p, s, bad flags)", dup3(p, s, 0x40000));
    TELL("dup3(s, -1)", dup3(s, -1, 0));
    TELL("dup(777)", dup(777));
    TELL("dup(-1)", dup(-1));
    TELL("syscall(SYS_dup3, closed, s)", syscall(SYS_dup3, 777, s, 0));
    TELL("syscall(SYS_dup3, s, s)", syscall(SYS_dup3, s, s, 0));
#ifdef SYS_dup2
    TELL("syscall(SYS_dup2, closed, s)", syscall(SYS_dup2, 777, s));
    TELL("syscall(SYS_dup2, s, s)", syscall(SYS_dup2, s, s));
#endif
    TELL("fcntl(s, F_DUPFD, -1)", fcntl(s, F_DUPFD, -1));
    TELL("fcntl(s, F_DUPFD, 1 << 30)", fcntl(s, F_DUPFD, 1 << 30));
    TELL("fcntl(777, F_DUPFD)", fcntl(777, F_DUPFD, 0));
    say("alive=%s", passes_both_ways(s, p));
    int n = dev_null();
    TELL("dup2(n, s)", dup2(n, s));
    TELL("fcntl(s, F_GETFD)", fcntl(s, F_GETFD));
    connection(AF_INET, &s, &p);
    TELL("dup3(n, s, O_CLOEXEC)", dup3(n, s, O_CLOEXEC));
    TELL("fcntl(s, F_GETFD)", fcntl(s, F_GETFD));
}

// dup2 onto a number that the lowered limit no longer allows fails, and cuts nothing.
static void results_limit(void)
{
    int s, p, n = dev_null();
    connection(AF_INET, &s, &p);
    must(dup2(s, 60), "dup2");
    close(s);
    struct rlimit limit;
    must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = 40;
    must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
    TELL("dup2(n, 60)", dup2(n, 60));
    TELL("dup3(n, 60)", dup3(n, 60, 0));
    TELL("syscall(SYS_dup3, n, 60)", syscall(SYS_dup3, n, 60, 0));
    TELL("fcntl(60, F_DUPFD, 50)", fcntl(60, F_DUPFD, 50));
    say("alive=%s", passes_both_ways(60, p));
    TELL("close(60)", close(60));
}

static void results_close_range(void)
{
    int s, p;
    connection(AF_INET, &s, &p);
    unsigned u = (unsigned)s;
    TELL("close_range(first > last)", close_range(u + 1, u, 0));
    TELL("close_range(bad flags)", close_range(u, u, 0x40));
    TELL("close_range(CLOEXEC)", close_range(u, u, CLOSE_RANGE_CLOEXEC));
    TELL("syscall(SYS_close_range, bad flags)", syscall(SYS_close_range, u, u, 0x40));
    TELL("syscall(SYS_close_range, CLOEXEC)", syscall(SYS_close_range, u, u, CLOSE_RANGE_CLOEXEC));
    TELL("fcntl(s, F_GETFD)", fcntl(s, F_GETFD));
    TELL("close_range(nothing there)", close_range(700, 800, 0));
    say("alive=%s", passes_both_ways(s, p));
    TELL("close_range(s, s)", close_range(u, u, 0));
    TELL("fcntl(s, F_GETFD)", fcntl(s, F_GETFD));
    connection(AF_INET, &s, &p);
    u = (unsigned)s;
    TELL("close_range(s, ~0)", close_range(u, ~0U, 0));
    TELL("fcntl(s, F_GETFD)", fcntl(s, F_GETFD));
    connection(AF_INET, &s, &p);
    TELL("close_range(s, UNSHARE)", close_range((unsigned)s, ~0U, CLOSE_RANGE_UNSHARE));
    TELL("fcntl(s, F_GETFD)", fcntl(s, F_GETFD));
}

// How a stream is closed: by fclose, or by freopen of something else.
static long end_stream(FILE *stream)
{
    if (is(text_of("by", "fclose"), "fclose")) return fclose(stream);
    return freopen("/dev/null", "r", stream) ? 0 : -1;
}

// What the stream has buffered reaches the peer before the end of the connection.
static void results_stream(void)
{
    int s, p;
    long bytes;
    connection(AF_INET, &s, &p);
    FILE *stream = fdopen(s, "r+");
    fputs("buffered", stream);
    TELL("end", end_stream(stream));
    const char *end = sees(p, DEADLINE_MS, &bytes);
    say("peer=%s after %ld", end, bytes);
    connection(AF_INET, &s, &p);
    stream = fdopen(s, "r+");
    must(send(p, "two lines\nin one packet\n", 24, 0), "send");
    char line[64];
    say("read=%s", fgets(line, sizeof line, stream) ? "yes" : "no");
    fputs("answer", stream);
    TELL("end after reading ahead", end_stream(stream));
    end = sees(p, DEADLINE_MS, &bytes);
    say("peer of the second=%s after %ld", end, bytes);
}

static volatile sig_atomic_t broken_pipes;

static void count_broken_pipe(int signal)
{
    (void)signal;
    broken_pipes++;
}

// A non-blocking socket that takes no more: the flush fails, the descriptor is closed all the same.
static void results_stream_full(void)
{
    int s, p;
    signal(SIGPIPE, count_broken_pipe);
    connection(AF_INET, &s, &p);
    fill(s);
    must(fcntl(s, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
    FILE *stream = fdopen(s, "r+");
    fputs("buffered", stream);
    TELL("end", end_stream(stream));
    say("broken pipes=%d", (int)broken_pipes);
    say("still a socket=%s", is_socket(s) ? "yes" : "no");
}

// Streams that are no sockets, or no descriptors at all.
static void results_stream_other(void)
{
    char memory[16] = "";
    FILE *stream = fmemopen(memory, sizeof memory, "w");
    fputs("abc", stream);
    TELL("fclose(memory)", fclose(stream));
    say("memory=%s", memory);
    stream = fopen("/dev/null", "r");
    TELL("fclose(file)", fclose(stream));
    stream = fopen("/dev/null", "r");
    TELL("freopen(file)", freopen("/dev/zero", "r", stream) ? 0 : -1);
    TELL("fgetc", fgetc(stream));
    TELL("freopen(no such file)", freopen("/nonexistent/file", "r", stream) ? 0 : -1);
    stream = popen("exit 3", "r");
    TELL("pclose", pclose(stream));
    int s, p;
    connection(AF_INET, &s, &p);
    stream = fdopen(s, "r+");
    TELL("freopen(socket, no such file)", freopen("/nonexistent/file", "r", stream) ? 0 : -1);
    TELL("fcntl(s, F_GETFD)", fcntl(s, F_GETFD));
    connection(AF_INET, &s, &p);
    stream = fdopen(s, "r+");
    fputs("buffered", stream);
    TELL("freopen(socket, itself)", freopen(NULL, "r", stream) ? 0 : -1);
    long bytes;
    const char *end = sees(p, DEADLINE_MS, &bytes);
    say("peer=%s after %ld", end, bytes);
}

// results of=close|dup2|limit|close_range|stream|stream-full|stream-other [by=fclose|freopen]
static void scenario_results(void)
{
    const char *of = text_of("of", "close");
    if (is(of, "close"))
        results_close();
    else if (is(of, "dup2"))
        results_dup2();
    else if (is(of, "limit"))
        results_limit();
    else if (is(of, "close_range"))
        results_close_range();
    else if (is(of, "stream"))
        results_stream();
    else if (is(of, "stream-full"))
        results_stream_full();
    else if (is(of, "stream-other"))
        results_stream_other();
    else
        broken(of);
}
