// timeout: 60
// Hazard 13: findings go to a file that fills, ends, moves, that others write too, and to what is no file at all.
#include "hostile.h"

#include <grp.h>

static const char *log_path;

static void many(unsigned n)
{
    for (unsigned i = 0; i < n; i++) told_close();
}

static void quickly(unsigned n)
{
    int64_t start = now_ms();
    many(n);
    if (now_ms() - start > DEADLINE_MS) fail("%u closes took %d ms", n, (int)(now_ms() - start));
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

// PRECLOSE_LOG is a FIFO that has a reader, this program itself.
static void fifo(void)
{
    static char bytes[1 << 20];
    int reader = must(open(log_path, O_RDONLY | O_NONBLOCK));
    raw_close(100);
    while (read(reader, bytes, sizeof bytes) > 0) {}
    quickly(3000); // it is full, and nobody reads
    ssize_t n = read(reader, bytes, sizeof bytes);
    expect(n > 0 && bytes[n - 1] == '\n');
    must(close(reader));
    many(20); // without a reader SIGPIPE would end the process
    signal(SIGPIPE, on_signal);
    many(20);
    expect(!signals);
}

// A FIFO that no one reads: opening it must not wait.
static void unread_fifo(void)
{
    quickly(100);
}

static void full_disk(void)
{
    quickly(500);
}

static void limited(void)
{
    struct rlimit limit = {3000, 3000};
    sigset_t set, pending;
    must(setrlimit(RLIMIT_FSIZE, &limit));
    many(50); // SIGXFSZ would end the process
    signal(SIGXFSZ, on_signal);
    many(50);
    expect(!signals);
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    must(sigprocmask(SIG_BLOCK, &set, NULL));
    raise(SIGXFSZ);
    many(20);
    must(sigpending(&pending));
    expect(sigismember(&pending, SIGXFSZ));
    struct stat st;
    must(stat(log_path, &st));
    expect(st.st_size <= 3000);
}

static void wait_for_line(const char *path, const char *what)
{
    for (int64_t end = now_ms() + DEADLINE_MS; lines_in(path) == 0;) {
        if (now_ms() > end) fail("%s: nothing is written to the new file", what);
        told_close();
        look_again();
    }
}

static void rotated(void)
{
    char moved[PATH_MAX + 4];
    snprintf(moved, sizeof moved, "%s.1", log_path);
    int kept = log_descriptor(log_path);
    many(3);
    must(rename(log_path, moved));
    wait_for_line(log_path, "renamed");
    expect(log_descriptor(log_path) == kept);
    must(unlink(log_path));
    wait_for_line(log_path, "removed");
    must(truncate(log_path, 0)); // as copytruncate does
    wait_for_line(log_path, "truncated");
    char *text = text_of(log_path);
    expect(text[0] == '{'); // no hole of zeros in front
}

static void elsewhere(void)
{
    char dir[PATH_MAX], inside[2 * PATH_MAX];
    if (geteuid()) skip("chroot needs root");
    snprintf(dir, sizeof dir, "%s/root", scratch());
    must(mkdir(dir, 0777));
    snprintf(inside, sizeof inside, "%s%s", dir, scratch());
    for (char *c = inside + strlen(dir) + 1; *c; c++)
        if (*c == '/') *c = '\0', mkdir(inside, 0777), *c = '/';
    mkdir(inside, 0777); // the log's path exists in there too, and must not be used
    must(chroot(dir));
    must(chdir("/"));
    must(setgroups(0, NULL));
    must(setresgid(65534, 65534, 65534));
    must(setresuid(65534, 65534, 65534));
    int64_t end = now_ms() + 1300; // it looks once a second whether the file has moved
    while (now_ms() < end) {
        told_close();
        look_again();
    }
    many(10);
    expect(access(log_path, F_OK) == -1 && errno == ENOENT);
}

// Several processes with several threads: whole lines, none lost.
enum { PROCESSES = 3, THREADS = 3, LINES = 400 };

static void *write_lines(void *arg)
{
    many(LINES);
    return arg;
}

static void together(void)
{
    pid_t pid[PROCESSES];
    pthread_t t[THREADS];
    for (int p = 0; p < PROCESSES; p++) {
        pid[p] = must(fork());
        if (pid[p]) continue;
        for (int i = 0; i < THREADS; i++) t[i] = start_thread(write_lines, NULL);
        for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
        raw_exit(0); // no summary
    }
    for (int p = 0; p < PROCESSES; p++) reap(pid[p], "a writer", 10000);
    char *text = text_of(log_path);
    unsigned n = 0;
    for (char *at = text; *at; n++) {
        char *end = strchr(at, '\n');
        if (!end) fail("the last line is torn");
        if (strncmp(at, "{\"time\":\"", 9) || end[-1] != '}') fail("line %u is torn: %.100s", n + 1, at);
        at = end + 1;
    }
    if (n != PROCESSES * THREADS * LINES) fail("%u lines of %u", n, PROCESSES * THREADS * LINES);
    raw_exit(0);
}

// Lines that could not be written are counted, and the count is told with the next that can be.
static void told_later(void)
{
    static char bytes[1 << 20];
    int reader = must(open(log_path, O_RDONLY | O_NONBLOCK));
    raw_close(100);
    many(3000);
    while (read(reader, bytes, sizeof bytes) > 0) {}
    told_close();
    ssize_t n = read(reader, bytes, sizeof bytes - 1);
    expect(n > 0);
    bytes[n] = '\0';
    expect(strstr(bytes, "could not be written"));
}

static const struct {
    const char *name;
    void (*run)(void);
    enum { FILE_, FIFO, FIFO_UNREAD, DEVICE } what;
} scenarios[] = {
    {"a FIFO", fifo, FIFO},
    {"a FIFO that nobody reads", unread_fifo, FIFO_UNREAD},
    {"/dev/full", full_disk, DEVICE},
    {"RLIMIT_FSIZE", limited, FILE_},
    {"rotated", rotated, FILE_},
    {"chroot and another user", elsewhere, FILE_},
    {"many writers", together, FILE_},
    {"told later", told_later, FIFO},
};

static void start(long n)
{
    char number[12], path[PATH_MAX];
    snprintf(number, sizeof number, "%ld", n);
    snprintf(path, sizeof path, "%s/file.%ld", scratch(), n);
    struct again a = {.mode = "scenario", .arg = number, .log = path, .stderr_fd = -1};
    if (scenarios[n].what == DEVICE) a.log = "/dev/full";
    if (scenarios[n].what == FIFO || scenarios[n].what == FIFO_UNREAD) must(mkfifo(path, 0666));
    if (scenarios[n].what == FIFO) { // there is a reader from the start, kept over exec
        int fd = must(open(path, O_RDWR));
        must(dup2(fd, 100));
        raw_close(fd);
    }
    become((long)&a);
}

int main(int argc, char **argv)
{
    need_library();
    if (argc > 1) {
        log_path = getenv("PRECLOSE_LOG");
        within = scenarios[atoi(argv[2])].name;
        scenarios[atoi(argv[2])].run();
        _exit(0);
    }
    for (long n = 0; n < (long)(sizeof scenarios / sizeof *scenarios); n++) in_child(scenarios[n].name, 20000, start, n);
    // What was written from inside a chroot, as another user, went to the file that was opened at the start.
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/file.5", scratch());
    if (!geteuid() && lines_in(path) < 10) fail("after chroot and setuid only %u lines were written", lines_in(path));
    return 0;
}
