// timeout: 60
// Hazard 13: findings go to a file that fills, ends, moves, that others write too, and to what is no file at all.
#include "hostile.h"

#include <grp.h>
#include <pty.h>
#include <sys/mount.h>
#include <termios.h>

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
    umask(0); // it could be created in there
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

// Several processes with several threads, forked and started on their own: whole lines, none lost.
enum { PROCESSES = 4, THREADS = 3, LINES = 300 };

static void *write_lines(void *arg)
{
    many(LINES);
    return arg;
}

static void write_in_threads(void)
{
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) t[i] = start_thread(write_lines, NULL);
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    raw_exit(0); // no summary
}

static void together(void)
{
    pid_t pid[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        pid[p] = must(fork());
        if (pid[p]) continue;
        if (p & 1) execl("/proc/self/exe", "self", "writer", NULL);
        write_in_threads();
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

// A file system of one page, which gets room again. The half line stays, the next begins on one of its own, and as many
// are told to be missing as are missing.
static void full_page(void)
{
    enum { CLOSES = 200 };
    char dir[PATH_MAX], sentence[100];
    const char *told = NULL;
    unsigned whole = 0, torn = 0;
    quickly(CLOSES);
    struct stat st;
    must(stat(log_path, &st));
    if (st.st_size > 4096) skip("a page is larger here");
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(log_path, '/') - log_path), log_path);
    must(mount("none", dir, NULL, MS_REMOUNT, "size=1m"));
    told_close();
    told_close();
    char *text = text_of(log_path);
    for (char *at = text, *end; *at; at = end + 1) {
        if (!(end = strchr(at, '\n'))) fail("the last line is torn");
        *end = '\0';
        bool is_whole = !strncmp(at, "{\"time\":\"", 9) && end[-1] == '}';
        if (is_whole) whole++;
        else torn++;
        if (count_of(at, "{\"time\":") != 1 || torn > 1) fail("a line goes on in another: %s", at);
        if (is_whole && strstr(at, "could not be written")) told = at;
    }
    snprintf(sentence, sizeof sentence, "%u earlier lines could not be written", CLOSES - (whole - 2));
    if (!told || !strstr(told, sentence)) fail("%u lines of %u are there, but: %s", whole, CLOSES + 2, told ? told : "nothing");
    raw_exit(0);
}

// Another user, who may not make a new file where the old one was: that goes on, wherever it is now.
static void not_allowed(void)
{
    char moved[PATH_MAX + 4];
    snprintf(moved, sizeof moved, "%s.1", log_path);
    must(setgroups(0, NULL));
    must(rename(log_path, moved));
    must(setresuid(65534, 65534, 65534));
    many(3);
    for (int64_t end = now_ms() + 1300; now_ms() < end; look_again()) {} // it looks once a second
    unsigned before = lines_in(moved);
    many(5);
    if (lines_in(moved) != before + 5) fail("%u lines of 5 are written to the file that was renamed", lines_in(moved) - before);
    raw_exit(0);
}

// PRECLOSE_LOG is a terminal whose other end is number 100. It does not become this session's own; a line that it has no
// room for is not waited for; its end is no more than the end of the log.
static void terminal(void)
{
    expect(getsid(0) == getpid());
    many(3);
    if (open("/dev/tty", O_RDWR | O_NOCTTY) != -1) fail("the log has become the controlling terminal");
    must(fcntl(100, F_SETFL, O_NONBLOCK));
    quickly(1000); // nobody reads
    static char bytes[1 << 16];
    ssize_t n = read(100, bytes, sizeof bytes - 1);
    expect(n > 0 && strstr(bytes, "\"event\":\"close\""));
    raw_close(100);
    quickly(20);
}

// So few descriptors from the start that there is no high one for the log. With fewer the loader does not get this far.
static void few_descriptors(void)
{
    struct rlimit limit;
    must(getrlimit(RLIMIT_NOFILE, &limit));
    expect(log_descriptor(log_path) > 2 && limit.rlim_cur < 10);
    limit.rlim_cur = 50;
    must(setrlimit(RLIMIT_NOFILE, &limit));
    many(3);
    expect(lines_in(log_path) >= 3);
    exercise();
}

static const struct {
    const char *name;
    void (*run)(void);
    enum { FILE_, FIFO, FIFO_UNREAD, DEVICE, PAGE, FOREIGN, TERMINAL, LIMIT } what;
    const char *limit;
} scenarios[] = {
    {"a FIFO", fifo, FIFO, NULL},
    {"a FIFO that nobody reads", unread_fifo, FIFO_UNREAD, NULL},
    {"/dev/full", full_disk, DEVICE, NULL},
    {"RLIMIT_FSIZE", limited, FILE_, NULL},
    {"rotated", rotated, FILE_, NULL},
    {"many writers", together, FILE_, NULL},
    {"told later", told_later, FIFO, NULL},
    {"a terminal", terminal, TERMINAL, NULL},
    {"4 descriptors", few_descriptors, LIMIT, "4"},
    {"5 descriptors", few_descriptors, LIMIT, "5"},
    {"8 descriptors", few_descriptors, LIMIT, "8"},
    // For root alone:
    {"chroot and another user", elsewhere, FILE_, NULL},
    {"renamed, and another user", not_allowed, FOREIGN, NULL},
    {"a page of disk", full_page, PAGE, NULL},
};
enum { ELSEWHERE = 11 };

static void own_disk(const char *dir)
{
    must(mkdir(dir, 0777));
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", dir, "tmpfs", 0, "size=4k"))
        skip("no file system can be mounted here: %s", strerror(errno));
}

static void own_terminal(char *name)
{
    int master, slave;
    struct termios t;
    pid_t pid = must(fork()); // whoever leads a group of processes can't begin a session
    if (pid) {
        reap(pid, within, 15000);
        _exit(0);
    }
    must(setsid());
    must(openpty(&master, &slave, name, NULL, NULL));
    must(tcgetattr(slave, &t));
    cfmakeraw(&t);
    must(tcsetattr(slave, TCSANOW, &t));
    must(dup2(master, 100));
    raw_close(master);
    must(fcntl(slave, F_SETFD, FD_CLOEXEC));
    must(dup3(slave, 101, O_CLOEXEC)); // there until the log is open
    raw_close(slave);
}

static void start(long n)
{
    char number[12], path[PATH_MAX];
    snprintf(number, sizeof number, "%ld", n);
    snprintf(path, sizeof path, "%s/file.%ld", scratch(), n);
    struct again a = {.mode = "scenario", .arg = number, .log = path, .stderr_fd = -1};
    struct rlimit limit;
    switch (scenarios[n].what) {
    case FILE_:
        break;
    case DEVICE:
        a.log = "/dev/full";
        break;
    case FIFO: {
        must(mkfifo(path, 0666)); // there is a reader from the start, kept over exec
        int fd = must(open(path, O_RDWR));
        must(dup2(fd, 100));
        raw_close(fd);
        break;
    }
    case FIFO_UNREAD:
        must(mkfifo(path, 0666));
        break;
    case PAGE:
        own_disk(path);
        strcat(path, "/log");
        break;
    case FOREIGN:
        must(mkdir(path, 0755));
        strcat(path, "/log");
        break;
    case TERMINAL:
        own_terminal(path);
        break;
    case LIMIT:
        must(getrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_cur = (rlim_t)atoi(scenarios[n].limit);
        closefrom(3);
        must(setrlimit(RLIMIT_NOFILE, &limit));
        break;
    }
    become((long)&a);
}

int main(int argc, char **argv)
{
    need_library();
    if (argc > 1) {
        if (!strcmp(argv[1], "writer")) write_in_threads();
        log_path = getenv("PRECLOSE_LOG");
        within = scenarios[atoi(argv[2])].name;
        scenarios[atoi(argv[2])].run();
        _exit(0);
    }
    for (long n = 0; n < (long)(sizeof scenarios / sizeof *scenarios); n++) in_child(scenarios[n].name, 20000, start, n);
    // What was written from inside a chroot, as another user, went to the file that was opened at the start.
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/file.%d", scratch(), ELSEWHERE);
    if (!geteuid() && lines_in(path) < 10) fail("after chroot and setuid only %u lines were written", lines_in(path));
    return 0;
}
