// Lines → stderr or file: never a block, a signal, or a byte into what is not ours (hazard 13).
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sink.h"

#define LINE "preclose: a line of thirty bytes\n"
#define LENGTH (sizeof LINE - 1)

static int real_stderr;
static char dir[64], path[128], back[4096];
static struct rlimit files, file_size;

// What a test has read so far: whole lines, and others.
static struct {
    char text[1 << 20];
    size_t n;
} got;

static int start(void **state)
{
    (void)state;
    got.n = 0;
    strcpy(dir, "/tmp/preclose-sink-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/log", dir);
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_FSIZE, &file_size);
    return getcwd(back, sizeof back) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    struct settings none = {.log = LOG_NONE};
    char command[100];
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_FSIZE, &file_size);
    dup2(real_stderr, STDERR_FILENO);
    sink_open(&none);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return chdir(back) || system(command);
}

static int open_to(enum log_kind kind, const char *where)
{
    static struct settings s;
    s.log = kind;
    if (where) strcpy(s.log_path, where);
    return sink_open(&s);
}

static bool put(void)
{
    return sink_write(LINE, LENGTH);
}

// Makes fd the program's stderr; the test's own copy of it is closed.
static void become_stderr(int fd)
{
    assert_true(fd >= 0);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

// The number that the next open would get: a descriptor left open shows.
static int lowest_free(void)
{
    int fd = dup(STDIN_FILENO);
    close(fd);
    return fd;
}

static off_t size_of(const char *file)
{
    struct stat st;
    return stat(file, &st) == 0 ? st.st_size : -1;
}

static bool is_pending(int sig)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, sig);
}

static void take_pending(int sig)
{
    sigset_t set;
    struct timespec at_once = {0};
    sigemptyset(&set);
    sigaddset(&set, sig);
    assert_int_equal(sigtimedwait(&set, NULL, &at_once), sig);
}

// Reads what is there without waiting. Returns how many whole lines the test has read by now.
static int read_lines(int fd)
{
    int lines = 0;
    ssize_t n;
    while ((n = read(fd, got.text + got.n, sizeof got.text - got.n)) > 0)
        for (char *at = got.text + got.n, *last = at + n; at < last; at++)
            if (*at != '\r') got.text[got.n++] = *at; // which a terminal adds
    const char *end = got.text + got.n;
    for (const char *at = got.text, *next; (next = memchr(at, '\n', (size_t)(end - at))); at = next + 1)
        if (next + 1 - at == LENGTH && memcmp(at, LINE, LENGTH) == 0) lines++;
    return lines;
}

// How many bytes of it were no whole line.
static size_t torn(int lines)
{
    return got.n - (size_t)lines * LENGTH;
}

static void test_file(void **state)
{
    (void)state;
    umask(022);
    assert_int_equal(open_to(LOG_FILE, path), 0);
    struct stat st;
    int fd = sink_fd();
    assert_true(fd > 900 && fd < 1024);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_APPEND);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_true(put() && put());
    assert_int_equal(size_of(path), 2 * LENGTH);
    assert_int_equal(open_to(LOG_FILE, path), 0);
    assert_true(put()); // appended
    assert_int_equal(size_of(path), 3 * LENGTH);
    assert_true(sink_holds(sink_fd()));
    assert_false(sink_holds(0) || sink_holds(-1));
}

static void test_none(void **state)
{
    (void)state;
    int pipe_ends[2];
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    become_stderr(pipe_ends[1]);
    assert_int_equal(open_to(LOG_NONE, NULL), 0);
    assert_true(put());
    assert_int_equal(read_lines(pipe_ends[0]), 0);
    assert_int_equal(sink_fd(), -1);
    close(pipe_ends[0]);
}

static void test_cannot_open(void **state)
{
    (void)state;
    int pipe_ends[2];
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    become_stderr(pipe_ends[1]);
    assert_int_equal(open_to(LOG_FILE, "/nonexistent/log"), -ENOENT);
    assert_true(put());
    assert_int_equal(open_to(LOG_FILE, dir), -EISDIR);
    assert_true(put());
    assert_int_equal(read_lines(pipe_ends[0]), 2);
    assert_int_equal(sink_fd(), -1);
    close(pipe_ends[0]);
}

static void test_low_limit(void **state)
{
    (void)state;
    struct rlimit low = {64, files.rlim_max};
    setrlimit(RLIMIT_NOFILE, &low);
    assert_int_equal(open_to(LOG_FILE, path), 0);
    assert_int_equal(sink_fd(), 63);
    assert_int_not_equal(fcntl(63, F_DUPFD, 63), 63); // the highest is taken: the next goes lower
    assert_true(sink_move());
    assert_int_equal(sink_fd(), 62);
    assert_int_equal(fcntl(63, F_GETFD), -1);
    assert_true(put());
    low.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &low);
    assert_true(put()); // what is open stays so
    assert_false(sink_move());
    assert_int_equal(sink_fd(), -1);
    assert_int_equal(fcntl(62, F_GETFD), -1);
    assert_false(put());
    assert_int_equal(size_of(path), 2 * LENGTH);
}

// Every number from 3 on is taken: those of the standard streams are never used instead.
static void test_no_descriptors(void **state)
{
    (void)state;
    struct rlimit low = {3, files.rlim_max};
    int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100);
    close(STDIN_FILENO);
    setrlimit(RLIMIT_NOFILE, &low);
    assert_int_equal(open_to(LOG_FILE, path), -EMFILE);
    assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
    setrlimit(RLIMIT_NOFILE, &files);
    assert_int_equal(open_to(LOG_FILE, path), 0); // open gives 0, which is moved
    assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
    assert_true(put());
    if (saved >= 0) dup2(saved, STDIN_FILENO);
    close(saved);
}

static void test_pipe(void **state)
{
    (void)state;
    int pipe_ends[2], written = 0;
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    fcntl(pipe_ends[1], F_SETFL, 0); // as a shell leaves it
    become_stderr(pipe_ends[1]);
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    while (put()) assert_true(++written < 100000);
    assert_true(written > 100);
    assert_false(put());
    assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(read_lines(pipe_ends[0]), written);
    assert_true(put());
    assert_int_equal(read_lines(pipe_ends[0]), written + 1);
    assert_int_equal(torn(written + 1), 0);
    close(pipe_ends[0]);
}

static void check_sigpipe(void)
{
    assert_false(is_pending(SIGPIPE));
    assert_false(put());
    assert_false(is_pending(SIGPIPE));
    raise(SIGPIPE);
    assert_false(put());
    assert_true(is_pending(SIGPIPE)); // the program's own stays
    take_pending(SIGPIPE);
    assert_false(is_pending(SIGPIPE));
}

static void test_closed_pipe(void **state)
{
    (void)state;
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    become_stderr(pipe_ends[1]);
    close(pipe_ends[0]);
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    check_sigpipe();
}

static void test_fifo_stderr(void **state)
{
    (void)state;
    int written = 0;
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    become_stderr(open(path, O_WRONLY));
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    while (put()) assert_true(++written < 100000);
    assert_int_equal(read_lines(reader), written);
    assert_true(put());
    close(reader);
    check_sigpipe();
}

static void test_fifo_log(void **state)
{
    (void)state;
    int written = 0;
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(open_to(LOG_FILE, path), -ENXIO); // no reader: not waited for
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_int_equal(open_to(LOG_FILE, path), 0);
    while (put()) assert_true(++written < 100000);
    assert_int_equal(read_lines(reader), written);
    assert_int_equal(torn(written), 0);
    close(reader);
    check_sigpipe();
}

static void test_socket(void **state)
{
    (void)state;
    int sockets[2], written = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    become_stderr(sockets[1]);
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    while (put()) assert_true(++written < 100000);
    fcntl(sockets[0], F_SETFL, O_NONBLOCK);
    assert_int_equal(read_lines(sockets[0]), written);
    assert_int_equal(torn(written), 0);
    close(sockets[0]);
    check_sigpipe();
}

static int open_terminal(int *terminal)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) {
        print_message("skipped: no pseudo-terminals here\n");
        skip();
    }
    fcntl(master, F_SETFL, O_NONBLOCK);
    *terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    return master;
}

// A terminal that nobody reads takes what it has room for; what follows half a line stands apart from it.
// The kernel moves what is written to the reader in its own time.
static void check_terminal(int master)
{
    struct pollfd ready = {.fd = master, .events = POLLIN};
    int written = 0, failed = 1, lines = 0;
    while (put()) assert_true(++written < 100000);
    assert_true(written > 10);
    for (time_t deadline = time(NULL) + 10; !put(); failed++) {
        assert_true(time(NULL) < deadline);
        poll(&ready, 1, 100);
        lines = read_lines(master);
    }
    for (written++; lines < written; lines = read_lines(master)) assert_int_equal(poll(&ready, 1, 10000), 1);
    assert_true(lines <= written + failed); // one may lack only its newline, which then came
    assert_true(torn(lines) <= (size_t)failed * LENGTH);
}

static void test_terminal_stderr(void **state)
{
    (void)state;
    int terminal, master = open_terminal(&terminal);
    become_stderr(terminal);
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    int lowest = lowest_free();
    check_terminal(master);
    assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(lowest_free(), lowest);
    close(master);
}

static void test_terminal_log(void **state)
{
    (void)state;
    int terminal, master = open_terminal(&terminal);
    assert_int_equal(open_to(LOG_FILE, ptsname(master)), 0);
    check_terminal(master);
    close(terminal);
    close(master);
}

static void test_full_disk(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK)) {
        print_message("skipped: no /dev/full\n");
        skip();
    }
    assert_int_equal(open_to(LOG_FILE, "/dev/full"), 0);
    assert_false(put());
    become_stderr(open("/dev/full", O_WRONLY));
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    assert_false(put());
}

static void check_file_limit(void)
{
    struct rlimit limit = {LENGTH + 10, file_size.rlim_max};
    char text[4 * LENGTH] = "";
    assert_true(put());
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_false(put()); // ten bytes of it
    assert_false(put()); // none
    assert_false(is_pending(SIGXFSZ));
    raise(SIGXFSZ);
    assert_false(put());
    assert_true(is_pending(SIGXFSZ)); // the program's own
    take_pending(SIGXFSZ);
    setrlimit(RLIMIT_FSIZE, &file_size);
    assert_true(put());
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof text), 2 * LENGTH + 11);
    close(fd);
    assert_memory_equal(text + LENGTH + 10, "\n" LINE, LENGTH + 1);
}

static void test_file_limit(void **state)
{
    (void)state;
    assert_int_equal(open_to(LOG_FILE, path), 0);
    check_file_limit();
}

static void test_file_limit_stderr(void **state)
{
    (void)state;
    become_stderr(open(path, O_WRONLY | O_CREAT, 0600));
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    check_file_limit();
}

static void test_closed_stderr(void **state)
{
    (void)state;
    close(STDERR_FILENO);
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    assert_false(put());
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(dup2(file, STDERR_FILENO), STDERR_FILENO); // the program's file
    if (file != STDERR_FILENO) close(file);
    assert_false(put());
    assert_int_equal(size_of(path), 0);
}

static void test_replaced_stderr(void **state)
{
    (void)state;
    int pipe_ends[2], other = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    become_stderr(pipe_ends[1]);
    int pipe_end = dup(STDERR_FILENO);
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    assert_true(put());
    dup2(other, STDERR_FILENO);
    assert_false(put());
    close(STDERR_FILENO);
    assert_false(put());
    dup2(pipe_end, STDERR_FILENO); // back again
    assert_true(put());
    assert_int_equal(read_lines(pipe_ends[0]), 2);
    assert_int_equal(size_of(path), 0);
    close(other);
    close(pipe_end);
    close(pipe_ends[0]);
}

// By raw system calls, which no preload sees.
static void test_replaced_descriptor(void **state)
{
    (void)state;
    char other_path[160];
    snprintf(other_path, sizeof other_path, "%s/other", dir);
    int other = open(other_path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(open_to(LOG_FILE, path), 0);
    assert_true(put());
    int fd = sink_fd();
    dup2(other, fd);
    assert_false(sink_holds(fd));
    assert_true(put()); // opened anew
    assert_int_not_equal(sink_fd(), fd);
    assert_int_equal(size_of(other_path), 0);
    assert_int_equal(size_of(path), 2 * LENGTH);
    assert_int_equal(fcntl(fd, F_GETFD), 0); // the program's descriptor is left alone
    close(sink_fd());
    assert_true(put());
    assert_int_equal(size_of(path), 3 * LENGTH);
    dup2(other, sink_fd());
    assert_false(sink_move()); // not ours: not duplicated, not closed
    assert_int_equal(size_of(other_path), 0);
    close(fd);
    close(other);
}

static void test_move(void **state)
{
    (void)state;
    assert_int_equal(open_to(LOG_FILE, path), 0);
    int fd = sink_fd();
    assert_true(sink_move());
    assert_int_not_equal(sink_fd(), fd);
    assert_true(sink_fd() > 900);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(fcntl(sink_fd(), F_GETFD), FD_CLOEXEC);
    assert_true(put());
    assert_int_equal(size_of(path), LENGTH);
    assert_int_equal(open_to(LOG_STDERR, NULL), 0);
    assert_false(sink_move());
}

// At start signals are not blocked: a closed pipe as stderr must not end the program.
static void test_complain(void **state)
{
    (void)state;
    int pipe_ends[2];
    sigset_t none, blocked, after;
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    become_stderr(pipe_ends[1]);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, &blocked);
    sink_complain(LINE, LENGTH);
    assert_int_equal(read_lines(pipe_ends[0]), 1);
    close(pipe_ends[0]);
    sink_complain(LINE, LENGTH);
    close(STDERR_FILENO);
    sink_complain(LINE, LENGTH);
    sigprocmask(SIG_SETMASK, &blocked, &after);
    assert_true(sigisemptyset(&after));
}

static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

// Writes until the line lands in file. The path is looked at once a second at most.
static bool lands_in(const char *file, int seconds)
{
    time_t deadline = time(NULL) + seconds;
    while (time(NULL) < deadline) {
        off_t before = size_of(file);
        assert_true(put());
        if (size_of(file) > (before > 0 ? before : 0)) return true;
        pause_briefly();
    }
    return false;
}

static void test_rotation(void **state)
{
    (void)state;
    char old[160];
    snprintf(old, sizeof old, "%s/log.1", dir);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(open_to(LOG_FILE, "log"), 0);
    int fd = sink_fd(), lowest = lowest_free();
    assert_int_equal(chdir("/"), 0);
    assert_true(put());
    assert_int_equal(rename(path, old), 0);
    assert_true(lands_in(path, 10));
    assert_int_equal(sink_fd(), fd);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    off_t kept = size_of(old);
    assert_true(put());
    assert_int_equal(size_of(old), kept);
    assert_int_equal(lowest_free(), lowest);
    assert_int_equal(truncate(path, 0), 0); // copytruncate
    assert_true(put());
    assert_int_equal(size_of(path), LENGTH);
}

static void test_rotation_fails(void **state)
{
    (void)state;
    char sub[100], log[128], moved[100], old[128];
    snprintf(sub, sizeof sub, "%s/sub", dir);
    snprintf(log, sizeof log, "%s/sub/log", dir);
    snprintf(moved, sizeof moved, "%s/moved", dir);
    snprintf(old, sizeof old, "%s/moved/log", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    assert_int_equal(open_to(LOG_FILE, log), 0);
    assert_int_equal(rename(sub, moved), 0);
    for (time_t deadline = time(NULL) + 1; time(NULL) <= deadline; pause_briefly()) assert_true(put());
    assert_true(size_of(old) > 0);
    assert_int_equal(size_of(log), -1);
}

// After chroot the path leads elsewhere: the old file is kept, and none is made in the new root.
static int in_chroot(void)
{
    if (chroot(dir) || chdir("/")) return 2;
    for (time_t deadline = time(NULL) + 1; time(NULL) <= deadline; pause_briefly())
        if (!put()) return 3;
    return size_of(path) == -1 ? 0 : 4;
}

static void test_chroot(void **state)
{
    (void)state;
    char inside[256];
    int status;
    if (geteuid() != 0) {
        print_message("skipped: chroot needs root\n");
        skip();
    }
    snprintf(inside, sizeof inside, "mkdir -p '%s%s'", dir, dir);
    assert_int_equal(system(inside), 0);
    assert_int_equal(open_to(LOG_FILE, path), 0);
    pid_t child = fork();
    if (child == 0) _exit(in_chroot());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(size_of(path) >= (off_t)LENGTH);
}

enum { WRITERS = 4, WRITES = 7000 };
static _Atomic int written_by_all, writers_left;

static void *write_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < WRITES; i++)
        if (put()) written_by_all++;
    writers_left--;
    return NULL;
}

// While the program puts a descriptor of its own in the place of ours, again and again.
static void test_threads(void **state)
{
    (void)state;
    pthread_t writers[WRITERS];
    char other_path[160];
    snprintf(other_path, sizeof other_path, "%s/other", dir);
    int other = open(other_path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(open_to(LOG_FILE, path), 0);
    writers_left = WRITERS;
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_many, NULL), 0);
    while (writers_left) {
        int fd = sink_fd();
        assert_true(sink_holds(fd));
        assert_true(sink_move());
        assert_int_equal(dup2(other, fd), fd);
        close(fd);
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
    close(other);
    int fd = open(path, O_RDONLY);
    assert_int_equal(written_by_all, WRITERS * WRITES);
    assert_int_equal(read_lines(fd), WRITERS * WRITES);
    assert_int_equal(torn(WRITERS * WRITES), 0);
    assert_int_equal(size_of(other_path), 0);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, start, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(file),
        TEST(none),
        TEST(cannot_open),
        TEST(low_limit),
        TEST(no_descriptors),
        TEST(pipe),
        TEST(closed_pipe),
        TEST(fifo_stderr),
        TEST(fifo_log),
        TEST(socket),
        TEST(terminal_stderr),
        TEST(terminal_log),
        TEST(full_disk),
        TEST(file_limit),
        TEST(file_limit_stderr),
        TEST(closed_stderr),
        TEST(replaced_stderr),
        TEST(replaced_descriptor),
        TEST(move),
        TEST(complain),
        TEST(rotation),
        TEST(rotation_fails),
        TEST(chroot),
        TEST(threads),
    };
    // As the guard does around every line. A write that blocks is ended by the alarm.
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGPIPE);
    sigaddset(&blocked, SIGXFSZ);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    alarm(60);
    real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 200);
    return cmocka_run_group_tests_name("sink", tests, NULL, NULL);
}
