// Small files and directories of /proc, read by raw calls into buffers of the caller.
//
// Nothing here allocates, takes a lock or touches errno; all of it is async-signal-safe. Descriptors are
// close-on-exec and meant to be closed before the caller returns; where they must be in the program's table (aside.h),
// another thread may put something else in their place: so files are read by pread, which takes nothing from a
// socket or a pipe. Errors are -errno.
#ifndef PRECLOSE_PROCFS_H
#define PRECLOSE_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Opens path, relative to directory dir (AT_FDCWD: path is absolute). Returns the descriptor or -errno.
int procfs_open(int dir, const char *path);
int procfs_open_directory(int dir, const char *path);
void procfs_close(int fd);

// Reads the beginning of a file into text (size bytes, NUL-terminated) by one read, which is the whole of
// every file that the kernel shows at once (fs/seq_file.c seq_read_iter). Returns its length or -errno.
long procfs_read(int dir, const char *path, char *text, size_t size);

// Where the symbolic link path points, into text (size bytes, NUL-terminated). Returns its length or -errno.
// /proc/PID/fd/N is asked this way and never by stat: stat asks the file's own filesystem, which may be a
// network server that no longer answers; readlink only prints a name (fs/proc/base.c do_proc_readlink).
long procfs_link(int dir, const char *path, char *text, size_t size);

// Searches a file for pattern, from that offset on, with a window of size bytes in text. Returns the offset behind it,
// 0 if it does not occur, or -errno.
long procfs_find(int fd, long from, const char *pattern, char *text, size_t size);

// Searches a whole file for pattern, with a window of size bytes in text.
// Returns 1 if it occurs, 0 if it does not, or -errno.
int procfs_contains(int dir, const char *path, const char *pattern, char *text, size_t size);

// The entries of a directory whose names are numbers: processes, threads, descriptors. Others are skipped.
struct procfs_list {
    int fd;       // the directory, opened by the caller
    char *buffer; // of size bytes, at least 320
    unsigned size;
    unsigned at, end; // 0 to begin with
};

// The next number into *number. Returns 1, 0 at the end, or -errno.
int procfs_next(struct procfs_list *list, unsigned *number);

// A text under construction: appends text, or a number in base 10 or 16, and returns the new end, where a
// NUL stands.
char *procfs_put(char *end, const char *text);
char *procfs_put_number(char *end, uint64_t number, unsigned base);

// "NUMBER" + tail into path, which must have room for both.
void procfs_path(char *path, unsigned number, const char *tail);

// Reads a number at *text in the given base (a leading "0x" is skipped in base 16), moves *text behind it
// and any spaces. Returns false if there is none.
bool procfs_number(const char **text, unsigned base, uint64_t *number);

// How long a look may take. What it works and rests is counted, and what it waits for a processor is not: on a machine
// that is busy enough, that alone would be more than any limit. In all it is ended PROCFS_WAIT_US after its limit.
#define PROCFS_WAIT_US 1000000

struct procfs_limit {
    uint64_t us; // the limit
    uint64_t start_us, start_cpu_us, rested_us;
};

// Begins to count, for the calling thread (CLOCK_THREAD_CPUTIME_ID).
void procfs_limit(struct procfs_limit *l, uint64_t us);

// Microseconds counted so far; is the limit reached?
uint64_t procfs_spent(const struct procfs_limit *l);
bool procfs_is_over(const struct procfs_limit *l);

// Sleeps for at most us microseconds, within the limit.
void procfs_rest(struct procfs_limit *l, uint64_t us);

#endif
