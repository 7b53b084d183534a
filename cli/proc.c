#include "proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "say.h"

#define FIRST_PID_NAMESPACE 0xEFFFFFFCu

enum { PATH_BYTES = 64 };

int *proc_numbers(const char *directory, int *n)
{
    DIR *dir = opendir(directory);
    int *numbers = NULL, room = 0;
    *n = 0;
    if (!dir) return NULL;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char *end;
        const long number = strtol(entry->d_name, &end, 10);
        if (*end || end == entry->d_name) continue;
        if (*n == room)
            numbers = need(realloc(numbers, (size_t)(room = room ? 2 * room : 64) * sizeof *numbers));
        numbers[(*n)++] = (int)number;
    }
    closedir(dir);
    return numbers ? numbers : need(calloc(1, sizeof *numbers));
}

// The beginning of a file of /proc. Returns its length, or -1.
static ssize_t read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n < 0 ? 0 : n] = '\0';
    return n;
}

void proc_comm(pid_t pid, char out[PROC_NAME_MAX])
{
    char path[PATH_BYTES], text[64];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if (read_file(path, text, sizeof text) < 0) text[0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    snprintf(out, PROC_NAME_MAX, "%.15s", text);
}

pid_t proc_parent(pid_t pid)
{
    char path[PATH_BYTES], text[512];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (read_file(path, text, sizeof text) < 0) return 0;
    const char *behind = strrchr(text, ')'); // the name may have anything in it
    return behind && sscanf(behind, ") %*c %d", &parent) == 1 ? parent : 0;
}

int64_t proc_uid(pid_t pid)
{
    char path[PATH_BYTES];
    struct stat s;
    snprintf(path, sizeof path, "/proc/%d", pid);
    return stat(path, &s) == 0 ? (int64_t)s.st_uid : -1;
}

// The 22nd field of /proc/PID/stat; the second is the name, which may have anything in it (proc(5)).
uint64_t proc_started(pid_t pid)
{
    char path[PATH_BYTES], text[1024];
    uint64_t ticks;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const char *at = read_file(path, text, sizeof text) > 0 ? strrchr(text, ')') : NULL;
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at && sscanf(at, " %" SCNu64, &ticks) == 1 ? ticks : 0;
}

uint64_t proc_net(pid_t pid)
{
    char path[PATH_BYTES];
    struct stat s;
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    return stat(path, &s) == 0 ? s.st_ino : 0;
}

bool proc_sees_all(void)
{
    struct stat s;
    return stat("/proc/self/ns/pid", &s) == 0 && s.st_ino == FIRST_PID_NAMESPACE;
}

// "socket:[4711]": the number; 0 for another file; -errno.
static int64_t inode_at(const char *path)
{
    char link[PATH_BYTES];
    uint32_t inode;
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n < 0) return -errno;
    link[n] = '\0';
    return sscanf(link, "socket:[%" SCNu32 "]", &inode) == 1 ? (int64_t)inode : 0;
}

int64_t proc_socket(pid_t pid, pid_t tid, int fd)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/proc/%d/task/%d/fd/%d", pid, tid, fd);
    return inode_at(path);
}

static int table_sockets(const char *directory, pid_t pid, pid_t tid,
                         void (*take)(void *, pid_t, pid_t, int, uint32_t), void *context)
{
    int n;
    int *fds = proc_numbers(directory, &n), result = 0;
    if (!fds) return -errno;
    for (int i = 0; i < n; i++) {
        char path[2 * PATH_BYTES];
        snprintf(path, sizeof path, "%s/%d", directory, fds[i]);
        const int64_t inode = inode_at(path);
        if (inode > 0) take(context, pid, tid, fds[i], (uint32_t)inode);
        if (inode < 0 && inode != -ENOENT) result = (int)inode; // they may be listed, and not be read
    }
    free(fds);
    return result;
}

// Has a thread a table of its own? Where kcmp(2) can't say: yes, so that no table is missed.
static bool has_own_table(pid_t pid, pid_t tid)
{
    return syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) != 0;
}

int proc_sockets(pid_t pid, void (*take)(void *context, pid_t pid, pid_t tid, int fd, uint32_t inode),
                 void *context)
{
    char directory[PATH_BYTES];
    int n;
    snprintf(directory, sizeof directory, "/proc/%d/fd", pid);
    int result = table_sockets(directory, pid, 0, take, context);
    if (result < 0) return result;
    snprintf(directory, sizeof directory, "/proc/%d/task", pid);
    int *tids = proc_numbers(directory, &n);
    for (int i = 0; tids && i < n; i++) {
        if (tids[i] == pid || !has_own_table(pid, tids[i])) continue;
        snprintf(directory, sizeof directory, "/proc/%d/task/%d/fd", pid, tids[i]);
        const int own = table_sockets(directory, pid, tids[i], take, context);
        if (own < 0 && own != -ENOENT) result = own;
    }
    free(tids);
    return result;
}

bool proc_dies_of_sigpipe(pid_t pid)
{
    char path[PATH_BYTES], text[4096];
    uint64_t ignored = 0, caught = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (read_file(path, text, sizeof text) < 0) return true;
    const char *at = strstr(text, "\nSigIgn:");
    if (!at || sscanf(at, "\nSigIgn: %" SCNx64 " SigCgt: %" SCNx64, &ignored, &caught) != 2) return true;
    return !((ignored | caught) >> (SIGPIPE - 1) & 1);
}

int64_t proc_in_flight(pid_t pid)
{
    char path[2 * PATH_BYTES], text[2048];
    int64_t total = 0;
    int n;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    int *fds = proc_numbers(path, &n);
    if (!fds) return -errno;
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fds[i]);
        if (inode_at(path) <= 0) continue;
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, fds[i]);
        const char *found = read_file(path, text, sizeof text) < 0 ? NULL : strstr(text, "\nscm_fds:");
        if (found) total += strtol(found + strlen("\nscm_fds:"), NULL, 10);
    }
    free(fds);
    return total;
}

uint64_t proc_cgroup(pid_t pid)
{
    static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    char path[PATH_BYTES], text[8192], directory[8192 + PATH_BYTES];
    struct stat s;
    snprintf(path, sizeof path, "/proc/%d/cgroup", pid);
    if (read_file(path, text, sizeof text) < 0) return 0;
    char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (!line) return 0;
    line += line == text ? 3 : 4;
    line[strcspn(line, "\n")] = '\0';
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        snprintf(directory, sizeof directory, "%s/cgroup.controllers", mounts[i]);
        if (access(directory, F_OK) != 0) continue;
        snprintf(directory, sizeof directory, "%s%s", mounts[i], line);
        return stat(directory, &s) == 0 ? s.st_ino : 0;
    }
    return 0;
}

static const struct {
    long number;
    const char *name;
    bool listens, sends;
} calls[] = {
#define BLOCKING(call, listens, sends) {SYS_##call, #call, listens, sends},
#include "blocking.def"
#undef BLOCKING
};

// The third number of /proc/PID/task/TID/schedstat (Documentation/scheduler/sched-stats.rst).
static uint64_t runs_of(pid_t pid, pid_t tid)
{
    char path[PATH_BYTES], text[128];
    uint64_t runs;
    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, tid);
    return read_file(path, text, sizeof text) > 0 && sscanf(text, "%*u %*u %" SCNu64, &runs) == 1 ? runs : 0;
}

// /proc/PID/task/TID/syscall: "45 0x7 ...", in decimal and hexadecimal (proc(5)).
bool proc_blocked(pid_t pid, pid_t tid, struct proc_call *call)
{
    char path[PATH_BYTES], text[256];
    long number;
    uint64_t first;
    call->runs = runs_of(pid, tid);
    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", pid, tid);
    if (read_file(path, text, sizeof text) < 0 || sscanf(text, "%ld 0x%" SCNx64, &number, &first) != 2)
        return false;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (calls[i].number != number) continue;
        call->name = calls[i].name;
        call->listens = calls[i].listens;
        call->sends = calls[i].sends;
        call->fd = (int)first;
        return true;
    }
    return false;
}
