#include "sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#include "clock.h"
#include "lock.h"
#include "sys.h"
#include "touched.h"

// Which file a descriptor or a path stands for.
struct identity {
    dev_t dev;
    ino_t ino;
    mode_t type; // S_IFMT
    bool exists;
};

static struct {
    lock_t lock;
    enum log_kind to;
    _Atomic int number;      // LOG_FILE: our own descriptor and 1; 0: none
    _Atomic unsigned held;   // calls of the program that are replacing stderr
    bool torn;               // the last line went out in part
    struct identity file;    // what is written to
} sink;

// Where the file is opened again.
TOUCHED_APART static struct {
    struct identity root;    // the root directory that path is meant in
    int64_t looked_s;        // when the path was last looked at
    char path[2 * PATH_MAX]; // LOG_FILE: absolute; "" if the file can't be opened again
} again;

static int own_fd(void)
{
    return atomic_load_explicit(&sink.number, memory_order_relaxed) - 1;
}

static void (*told)(int fd);

void sink_tell(void (*who)(int fd))
{
    told = who;
}

// Before the number is in use, so that a close of it is never taken for one of a file.
static void set_own_fd(int fd)
{
    if (told && fd >= 0) told(fd);
    atomic_store(&sink.number, fd + 1);
}

static struct identity identity_of(long result, const struct stat *st)
{
    if (result != 0) return (struct identity){0};
    return (struct identity){st->st_dev, st->st_ino, st->st_mode & S_IFMT, true};
}

static struct identity identity_fd(int fd)
{
    struct stat st = {0};
    return identity_of(sys_call(SYS_fstat, fd, (long)&st, 0), &st);
}

static struct identity identity_path(const char *path)
{
    struct stat st = {0};
    return identity_of(sys_call4(SYS_newfstatat, AT_FDCWD, (long)path, (long)&st, 0), &st);
}

static bool is_same(const struct identity *a, const struct identity *b)
{
    return a->exists && b->exists && a->dev == b->dev && a->ino == b->ino && a->type == b->type;
}

static bool is_still(int fd, const struct identity *was)
{
    struct identity now = identity_fd(fd);
    return is_same(&now, was);
}

static void let_go(int fd)
{
    sys_call(SYS_close, fd, 0, 0);
}

static int64_t now_s(void)
{
    return clock_monotonic_us() / 1000000;
}

// A duplicate of fd that the program is unlikely to meet: high, but below 1024, so that a program that
// uses select or counts on a small table is not disturbed. Returns it or -errno.
static int duplicate_high(int fd)
{
    struct rlimit limit = {0};
    sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit);
    const long top = limit.rlim_cur < 1024 ? (long)limit.rlim_cur : 1024;
    long result = -EMFILE;
    for (long below = 1; top - below > 2; below *= 2) {
        result = sys_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, top - below);
        if (result >= 0) break;
    }
    return (int)result;
}

// Returns a descriptor above 2 or -errno.
static int open_log(const char *path)
{
    const int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int fd = (int)sys_call4(SYS_openat, AT_FDCWD, (long)path, flags, 0644);
    if (fd < 0) return fd;
    int high = duplicate_high(fd);
    if (high < 0 && fd > STDERR_FILENO) return fd;
    let_go(fd); // 0 to 2 belong to the program even where it has closed them
    return high;
}

// Where the path will still lead after chdir.
static void note_path(const char *path)
{
    long n = 0;
    again.path[0] = '\0';
    if (path[0] != '/') {
        n = sys_call(SYS_getcwd, (long)again.path, PATH_MAX, 0);
        if (n < 2 || again.path[0] != '/') { // "(unreachable)" before it: outside our root
            again.path[0] = '\0';
            return;
        }
        again.path[n - 1] = '/'; // it counts the NUL
    }
    size_t length = strnlen(path, PATH_MAX - 1);
    memcpy(again.path + n, path, length);
    again.path[(size_t)n + length] = '\0';
}

static int open_file(const char *path)
{
    int fd = open_log(path);
    if (fd < 0) return fd;
    note_path(path);
    again.root = identity_path("/");
    sink.file = identity_fd(fd);
    again.looked_s = now_s();
    set_own_fd(fd);
    return 0;
}

int sink_open(const struct settings *s)
{
    int old = own_fd();
    set_own_fd(-1);
    if (old >= 0 && is_still(old, &sink.file)) let_go(old);
    int result = s->log == LOG_FILE ? open_file(s->log_path) : 0;
    sink.to = result == 0 ? s->log : LOG_STDERR;
    sink.torn = false;
    if (sink.to == LOG_STDERR) sink.file = identity_fd(STDERR_FILENO);
    return result;
}

// Rotation: where the path no longer leads to the file that is open, opens what it leads to now. The number
// stays the same (dup3). The old file is kept if that fails (after a chroot, or without the right to).
static void look_at_path(void)
{
    int64_t now = now_s();
    if (!again.path[0] || now == again.looked_s) return;
    again.looked_s = now;
    struct identity there = identity_path(again.path), root = identity_path("/");
    int fd = own_fd();
    if (!is_same(&root, &again.root) || (fd >= 0 && is_same(&there, &sink.file))) return;
    int fresh = open_log(again.path);
    if (fresh < 0) return;
    sink.file = identity_fd(fresh);
    sink.torn = false;
    if (fd >= 0 && sys_call(SYS_dup3, fresh, fd, O_CLOEXEC) >= 0)
        let_go(fresh);
    else
        set_own_fd(fresh);
}

static uint64_t bit(int sig)
{
    return UINT64_C(1) << (sig - 1);
}

static void take_back(int sig)
{
    const uint64_t set = bit(sig);
    const struct timespec at_once = {0};
    sys_call4(SYS_rt_sigtimedwait, (long)&set, 0, (long)&at_once, sizeof set);
}

static long write_parts(int fd, const struct iovec *part, int parts, int flags)
{
    if (flags) return sys_call6(SYS_pwritev2, fd, (long)part, parts, -1, -1, flags); // -1: at its position
    if (parts == 1) return sys_call(SYS_write, fd, (long)part->iov_base, (long)part->iov_len);
    return sys_call(SYS_writev, fd, (long)part, parts);
}

// The signal that a failed write raises is meant for a program that wrote: it is blocked here, and taken
// back unless one was pending before, which takes a program that blocks it.
static long write_quietly(int fd, const struct iovec *part, int parts, int flags)
{
    const uint64_t both = bit(SIGPIPE) | bit(SIGXFSZ); // RLIMIT_FSIZE, setrlimit(2)
    uint64_t mask = 0, pending = 0;
    sys_call4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&both, (long)&mask, sizeof mask);
    if (mask & both) sys_call(SYS_rt_sigpending, (long)&pending, sizeof pending, 0);
    long n = write_parts(fd, part, parts, flags);
    if (n == -EPIPE && !(pending & bit(SIGPIPE))) take_back(SIGPIPE);
    if (n == -EFBIG && !(pending & bit(SIGXFSZ))) take_back(SIGXFSZ);
    if ((mask & both) != both) sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof mask);
    return n;
}

// A terminal that nobody reads says POLLOUT as long as it has room for a byte, and then blocks for the
// rest of the line (drivers/tty/n_tty.c n_tty_write). Only O_NONBLOCK helps, which the borrowed description
// does not have: a description of our own, for this line only.
static int open_terminal(void)
{
    const int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = (int)sys_call4(SYS_openat, AT_FDCWD, (long)"/proc/thread-self/fd/2", flags, 0);
    if (fd >= 0) return fd;
    // After su the device belongs to someone else, but /dev/tty is open to all, if it is the same one.
    fd = (int)sys_call4(SYS_openat, AT_FDCWD, (long)"/dev/tty", flags, 0);
    if (fd < 0) return fd;
    unsigned ours = 0, borrowed = 1;
    if (sys_call(SYS_ioctl, fd, TIOCGDEV, (long)&ours) == 0 &&
        sys_call(SYS_ioctl, STDERR_FILENO, TIOCGDEV, (long)&borrowed) == 0 && ours == borrowed)
        return fd;
    let_go(fd);
    return -ENOTTY;
}

static long write_terminal(const struct iovec *part, int parts)
{
    int fd = open_terminal();
    if (fd < 0) return fd;
    struct identity opened = identity_fd(fd);
    long n = write_quietly(fd, part, parts, 0);
    if (is_still(fd, &opened)) let_go(fd); // not if a sweep of another thread has closed it meanwhile
    return n;
}

static bool is_terminal(const struct identity *file)
{
    unsigned device;
    return file->type == S_IFCHR && sys_call(SYS_ioctl, STDERR_FILENO, TIOCGDEV, (long)&device) == 0;
}

// A pipe, FIFO or device that we share with the program and must not switch to O_NONBLOCK.
static long write_borrowed(const struct identity *file, const struct iovec *part, int parts)
{
    if (is_terminal(file)) return write_terminal(part, parts);
    long n = write_quietly(STDERR_FILENO, part, parts, RWF_NOWAIT);
    if (n != -EOPNOTSUPP && n != -ENOSYS && n != -EINVAL) return n;
    // A pipe that is writable has room for PIPE_BUF bytes, and takes no less at once (pipe(7)).
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    struct timespec at_once = {0};
    if (sys_call6(SYS_ppoll, (long)&ready, 1, (long)&at_once, 0, 0, 0) != 1) return -EAGAIN;
    return write_quietly(STDERR_FILENO, part, parts, 0);
}

static long write_socket(struct iovec *part, int parts)
{
    struct msghdr message = {.msg_iov = part, .msg_iovlen = (size_t)parts};
    return sys_call(SYS_sendmsg, STDERR_FILENO, (long)&message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// file: what stderr is, if it is to be written to.
static long write_stderr(const struct identity *file, struct iovec *part, int parts)
{
    if (atomic_load(&sink.held) || !is_still(STDERR_FILENO, file)) return -EBADF;
    switch (file->type) {
    case S_IFREG:
        return write_quietly(STDERR_FILENO, part, parts, 0);
    case S_IFSOCK:
        return write_socket(part, parts);
    case S_IFIFO:
    case S_IFCHR:
        return write_borrowed(file, part, parts);
    default:
        return -EBADF; // a directory, an eventfd: nothing that takes lines
    }
}

static long write_file(const struct iovec *part, int parts)
{
    int fd = own_fd();
    struct stat st = {0};
    long asked = sys_call(SYS_fstat, fd, (long)&st, 0);
    if (fd >= 0 && asked != 0 && asked != -EBADF) return -EIO; // not known whose it is now
    struct identity now = identity_of(asked, &st);
    if (fd >= 0 && !is_same(&now, &sink.file)) {
        // Closed where no preload sees it (a raw system call): the number is the program's now.
        set_own_fd(-1);
        again.looked_s = 0;
    }
    look_at_path();
    fd = own_fd();
    return fd < 0 ? -EBADF : write_quietly(fd, part, parts, 0);
}

bool sink_write(const char *line, size_t n)
{
    if (sink.to == LOG_NONE) return true;
    touch(&touched.sink);
    lock_take(&sink.lock);
    // After half a line (a full disk, a terminal that stalls) the next begins on a line of its own; the
    // half stays, as others may have written behind it.
    struct iovec part[2] = {{(char[]){'\n'}, 1}, {(char *)(uintptr_t)line, n}};
    const int skip = !sink.torn;
    const size_t whole = n + (sink.torn ? 1 : 0);
    long written = sink.to == LOG_STDERR ? write_stderr(&sink.file, part + skip, 2 - skip)
                                         : write_file(part + skip, 2 - skip);
    const bool done = written == (long)whole;
    if (written > 0) sink.torn = !done;
    lock_give(&sink.lock);
    return done;
}

void sink_complain(const char *line, size_t n)
{
    const struct identity now = identity_fd(STDERR_FILENO);
    struct iovec part = {(char *)(uintptr_t)line, n};
    write_stderr(&now, &part, 1);
}

int sink_fd(void)
{
    return own_fd();
}

bool sink_holds(int fd)
{
    if (fd < 0 || fd != sink_fd()) return false;
    touch(&touched.sink);
    lock_take(&sink.lock); // a thread that opens the file anew changes both
    bool still = fd == sink_fd() && is_still(fd, &sink.file);
    lock_give(&sink.lock);
    return still;
}

bool sink_hold(unsigned first, unsigned last)
{
    if (sink.to != LOG_STDERR || first > STDERR_FILENO || last < STDERR_FILENO) return false;
    touch(&touched.sink);
    atomic_fetch_add(&sink.held, 1);
    lock_take(&sink.lock); // a line on its way goes out first
    lock_give(&sink.lock);
    return true;
}

void sink_free(bool held)
{
    if (held) atomic_fetch_sub(&sink.held, 1);
}

bool sink_move(void)
{
    touch(&touched.sink);
    lock_take(&sink.lock);
    int old = own_fd(), fresh = -1;
    if (old >= 0 && is_still(old, &sink.file)) {
        fresh = duplicate_high(old);
        set_own_fd(fresh < 0 ? -1 : fresh);
        let_go(old);
    }
    lock_give(&sink.lock);
    return fresh >= 0;
}

void sink_child(void)
{
    if (atomic_load(&sink.held)) atomic_store(&sink.held, 0); // the calls of threads that are not there
    lock_reset(&sink.lock);
}
