#include "procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>

#include "aside.h"
#include "clock.h"
#include "sys.h"

int procfs_open(int dir, const char *path)
{
    return (int)sys_call4(SYS_openat, dir, (long)path, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
}

int procfs_open_directory(int dir, const char *path)
{
    return (int)sys_call4(SYS_openat, dir, (long)path, O_RDONLY | O_CLOEXEC | O_DIRECTORY, 0);
}

void procfs_close(int fd)
{
    // In the program's table another thread may have closed it, and the program have opened something else of that
    // number.
    struct statfs fs = {.f_type = PROC_SUPER_MAGIC};
    long ret = aside_here() ? 0 : sys_call(SYS_fstatfs, fd, (long)&fs, 0);
    if (ret == -EBADF || (ret == 0 && fs.f_type != PROC_SUPER_MAGIC)) return;
    sys_call(SYS_close, fd, 0, 0);
}

long procfs_read(int dir, const char *path, char *text, size_t size)
{
    int fd = procfs_open(dir, path);
    if (fd < 0) return fd;
    long n = sys_call4(SYS_pread64, fd, (long)text, (long)(size - 1), 0);
    procfs_close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n;
}

long procfs_link(int dir, const char *path, char *text, size_t size)
{
    long n = sys_call4(SYS_readlinkat, dir, (long)path, (long)text, (long)(size - 1));
    text[n > 0 ? n : 0] = '\0';
    return n;
}

// The last bytes of each window are kept in front of the next, so that an occurrence across two is found.
long procfs_find(int fd, long from, const char *pattern, char *text, size_t size)
{
    size_t length = strlen(pattern), kept = 0;
    for (long at = from;;) {
        long n = sys_call4(SYS_pread64, fd, (long)(text + kept), (long)(size - kept), at);
        if (n <= 0) return n;
        const char *hit = memmem(text, kept + (size_t)n, pattern, length);
        if (hit) return at - (long)kept + (hit - text) + (long)length;
        at += n;
        size_t have = kept + (size_t)n;
        kept = have < length ? have : length - 1;
        memmove(text, text + have - kept, kept);
    }
}

int procfs_contains(int dir, const char *path, const char *pattern, char *text, size_t size)
{
    int fd = procfs_open(dir, path);
    if (fd < 0) return fd;
    long found = procfs_find(fd, 0, pattern, text, size);
    procfs_close(fd);
    return found > 0 ? 1 : (int)found;
}

// What getdents64(2) returns: struct linux_dirent64 up to the name.
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
} __attribute__((packed));

int procfs_next(struct procfs_list *list, unsigned *number)
{
    for (;;) {
        if (list->at >= list->end) {
            long n = sys_call(SYS_getdents64, list->fd, (long)list->buffer, list->size);
            if (n <= 0) return (int)n;
            list->at = 0;
            list->end = (unsigned)n;
        }
        struct entry e;
        const char *name = list->buffer + list->at + sizeof e;
        memcpy(&e, list->buffer + list->at, sizeof e);
        list->at += e.length;
        uint64_t value;
        if (procfs_number(&name, 10, &value) && *name == '\0' && value <= UINT32_MAX) {
            *number = (unsigned)value;
            return 1;
        }
    }
}

char *procfs_put(char *end, const char *text)
{
    size_t n = strlen(text);
    memcpy(end, text, n + 1);
    return end + n;
}

char *procfs_put_number(char *end, uint64_t number, unsigned base)
{
    char digits[20];
    unsigned n = 0;
    do digits[n++] = "0123456789abcdef"[number % base];
    while (number /= base);
    while (n) *end++ = digits[--n];
    *end = '\0';
    return end;
}

void procfs_path(char *path, unsigned number, const char *tail)
{
    procfs_put(procfs_put_number(path, number, 10), tail);
}

static unsigned digit_of(char c)
{
    if (c >= '0' && c <= '9') return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f') return (unsigned)(c - 'a') + 10;
    return 99;
}

bool procfs_number(const char **text, unsigned base, uint64_t *number)
{
    const char *p = *text;
    if (base == 16 && p[0] == '0' && p[1] == 'x') p += 2;
    if (digit_of(*p) >= base) return false;
    uint64_t value = 0;
    for (; digit_of(*p) < base; p++) value = value * base + digit_of(*p);
    while (*p == ' ' || *p == '\t') p++;
    *text = p;
    *number = value;
    return true;
}

void procfs_limit(struct procfs_limit *l, uint64_t us)
{
    *l = (struct procfs_limit){
        .us = us,
        .start_us = (uint64_t)clock_monotonic_us(),
        .start_cpu_us = (uint64_t)clock_thread_us(),
    };
}

uint64_t procfs_spent(const struct procfs_limit *l)
{
    return (uint64_t)clock_thread_us() - l->start_cpu_us + l->rested_us;
}

bool procfs_is_over(const struct procfs_limit *l)
{
    uint64_t passed = (uint64_t)clock_monotonic_us() - l->start_us;
    if (passed < l->us) return false;
    return passed >= l->us + PROCFS_WAIT_US || procfs_spent(l) >= l->us;
}

void procfs_rest(struct procfs_limit *l, uint64_t us)
{
    uint64_t spent = procfs_spent(l);
    if (spent >= l->us) return;
    if (us > l->us - spent) us = l->us - spent;
    struct timespec t = {.tv_nsec = (long)us * 1000};
    sys_call(SYS_nanosleep, (long)&t, 0, 0);
    l->rested_us += us;
}
