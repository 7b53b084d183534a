#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "say.h"

#define TEXT_BYTES ((size_t)1 << 20)
#define RAW_BYTES ((size_t)1 << 18)

struct lines {
    const char *path;
    int fd;
    dev_t device; // of the file that is open
    ino_t inode;
    bool started; // enough has been read to know whether it is packed
    bool packed;
    bool at_end;   // packed: behind a whole member
    bool skipping; // inside a line that is too long
    bool failed;
    bool piped; // standard input that is no file: it ends when whoever writes has ended
    bool over;  // it has ended
    bool renamed; // there is another file under the name: this one is read to its end once more
    z_stream z;
    size_t n;   // bytes in text that are not told yet: the beginning of a line
    bool stays; // with this file, whatever its name
    bool idle;  // many logs may be followed at once: at its end, one has memory only for what is not told yet
    char *text; // TEXT_BYTES
    unsigned char *raw; // RAW_BYTES
};

static const char *shown(const struct lines *l)
{
    return strcmp(l->path, "-") == 0 ? "standard input" : l->path;
}

// A complaint that ends the log. Returns -1.
static int give_up(struct lines *l, const char *why, const char *todo)
{
    complain("%s: %s%s%s", shown(l), why, *todo ? "; " : "", todo);
    l->failed = true;
    return -1;
}

static bool open_file(struct lines *l)
{
    struct stat s;
    const bool standard = strcmp(l->path, "-") == 0;
    l->fd = standard ? STDIN_FILENO : open(l->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (l->fd < 0 || fstat(l->fd, &s) != 0) {
        complain("cannot read %s: %s", l->path, strerror(errno));
        return false;
    }
    if (S_ISDIR(s.st_mode)) {
        complain("%s is a directory; name the logs in it: %s/*", shown(l), shown(l));
        return false;
    }
    l->device = s.st_dev;
    l->inode = s.st_ino;
    l->piped = standard && !S_ISREG(s.st_mode);
    return true;
}

struct lines *lines_open(const char *path)
{
    struct lines *l = need(calloc(1, sizeof *l));
    l->path = path;
    l->fd = -1;
    if (open_file(l)) return l;
    lines_close(l);
    return NULL;
}

void lines_close(struct lines *l)
{
    if (l->packed) inflateEnd(&l->z);
    if (l->fd > STDERR_FILENO) close(l->fd);
    free(l->text);
    free(l->raw);
    free(l);
}

void lines_stay(struct lines *l)
{
    l->stays = true;
}

bool lines_packed(const struct lines *l)
{
    return l->packed;
}

static void take_memory(struct lines *l)
{
    if (!l->idle && l->text) return;
    l->text = need(realloc(l->text, TEXT_BYTES));
    l->raw = need(realloc(l->raw, RAW_BYTES));
    l->idle = false;
}

// At the end of a log, until it grows.
static void give_memory(struct lines *l)
{
    if (l->packed) return;
    l->text = need(realloc(l->text, l->n + 1));
    free(l->raw);
    l->raw = NULL;
    l->idle = true;
}

uint64_t lines_size(const struct lines *l)
{
    struct stat s;
    if (fstat(l->fd, &s) != 0 || !S_ISREG(s.st_mode)) return 0;
    return (uint64_t)s.st_size;
}

// Tells the whole lines of the text and keeps the rest; at the end of the log that is a line too.
static void tell(struct lines *l, bool end, struct lines_count *count, lines_take *take, void *context)
{
    const char *at = l->text, *limit = l->text + l->n;
    while (at < limit) {
        const char *newline = memchr(at, '\n', (size_t)(limit - at));
        const size_t n = (size_t)((newline ? newline : limit) - at);
        if (!newline && !end && n <= LINE_BYTES_MAX) break;
        const bool too_long = l->skipping || n > LINE_BYTES_MAX;
        if (newline || end) {
            count->lines++;
            if (too_long)
                count->too_long++;
            else
                take(context, at, n);
        }
        l->skipping = too_long && !newline && !end;
        at += n + (newline ? 1 : 0);
    }
    if (end && l->skipping) { // its beginning is gone already, and nothing came behind that
        count->lines++;
        count->too_long++;
        l->skipping = false;
    }
    l->n = (size_t)(limit - at);
    memmove(l->text, at, l->n);
}

static ssize_t read_some(struct lines *l, void *to, size_t n, struct lines_count *count)
{
    ssize_t got;
    do got = read(l->fd, to, n);
    while (got < 0 && errno == EINTR);
    if (got > 0) count->raw += (uint64_t)got;
    return got;
}

// What some other packers put first, and how to undo it.
static const struct {
    const char *magic, *what, *todo;
} strange[] = {
    {"\x28\xb5\x2f\xfd", "is packed by zstd, which is not read here",
     "unpack it on the way: zstdcat LOG | preclose report"},
    {"\xfd"
     "7zXZ",
     "is packed by xz, which is not read here", "unpack it on the way: xzcat LOG | preclose report"},
    {"BZh", "is packed by bzip2, which is not read here",
     "unpack it on the way: bzcat LOG | preclose report"},
};

// The first bytes, into raw: what kind of log it is. Returns how many, or -1.
static ssize_t start(struct lines *l, struct lines_count *count)
{
    ssize_t n = 0, got = 1;
    while (n < 6 && (got = read_some(l, l->raw + n, RAW_BYTES - (size_t)n, count)) > 0) n += got;
    if (got < 0) return give_up(l, strerror(errno), "");
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++)
        if ((size_t)n >= strlen(strange[i].magic) &&
            memcmp(l->raw, strange[i].magic, strlen(strange[i].magic)) == 0)
            return give_up(l, strange[i].what, strange[i].todo);
    l->packed = n >= 3 && memcmp(l->raw, "\x1f\x8b\x08", 3) == 0; // RFC 1952 section 2.3.1
    l->started = n > 0;
    if (l->packed && inflateInit2(&l->z, 15 + 16) != Z_OK) return give_up(l, "no memory", "");
    return n;
}

// More bytes of a packed log into the text. Returns 1, 0 at its end, or -1.
static int unpack(struct lines *l, struct lines_count *count)
{
    const unsigned left = l->z.avail_in;
    if (left < 2) {
        if (left) l->raw[0] = *l->z.next_in;
        ssize_t n = read_some(l, l->raw + left, RAW_BYTES - left, count);
        if (n < 0) return give_up(l, strerror(errno), "");
        l->z.next_in = l->raw;
        l->z.avail_in = left + (unsigned)n;
        if (n == 0 && l->at_end) return 0;
        if (n == 0 && !left)
            return give_up(l, "ends in the middle of its gzip data", "what came before counts");
    }
    if (l->at_end) { // gzip files may follow each other; what is not one is padding
        if (l->z.avail_in < 2 || l->z.next_in[0] != 0x1f || l->z.next_in[1] != 0x8b) return 0;
        inflateReset(&l->z);
        l->at_end = false;
    }
    l->z.next_out = (unsigned char *)l->text + l->n;
    l->z.avail_out = (unsigned)(TEXT_BYTES - l->n);
    const int result = inflate(&l->z, Z_NO_FLUSH);
    count->bytes += TEXT_BYTES - l->n - l->z.avail_out;
    l->n = TEXT_BYTES - l->z.avail_out;
    l->at_end = result == Z_STREAM_END;
    if (result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR) return 1;
    return give_up(l, "has damaged gzip data", "what came before counts");
}

// More bytes of a plain log into the text. Returns 1, 0 at its end, or -1.
static int fill(struct lines *l, struct lines_count *count)
{
    ssize_t n = read_some(l, l->text + l->n, TEXT_BYTES - l->n, count);
    if (n < 0) return give_up(l, strerror(errno), "");
    l->n += (size_t)n;
    count->bytes += (uint64_t)n;
    return n > 0;
}

// At the end of a log that is followed: has the file been cut, or is there another one under its name?
static bool begins_anew(struct lines *l)
{
    struct stat here, there;
    if (l->packed || strcmp(l->path, "-") == 0 || fstat(l->fd, &here) != 0 || !S_ISREG(here.st_mode))
        return false;
    const off_t at = lseek(l->fd, 0, SEEK_CUR);
    if (at > here.st_size) return lseek(l->fd, 0, SEEK_SET) == 0;
    if (l->stays || stat(l->path, &there) != 0 || (there.st_dev == l->device && there.st_ino == l->inode))
        return false;
    if (!l->renamed) return l->renamed = true; // who had it open may have written since
    int fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return false;
    close(l->fd);
    l->fd = fd;
    l->renamed = false;
    l->device = there.st_dev;
    l->inode = there.st_ino;
    return true;
}

bool lines_over(const struct lines *l)
{
    return l->over || l->failed;
}

static bool would_wait(const struct lines *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    return l->piped && poll(&p, 1, 0) == 0;
}

int lines_read(struct lines *l, bool follow, struct lines_count *count, lines_take *take, void *context)
{
    int more = 1;
    if (l->failed) return -1;
    if (l->over || (follow && would_wait(l))) return 0;
    take_memory(l);
    if (!l->started) {
        ssize_t n = start(l, count);
        if (n < 0) return -1;
        if (l->packed) {
            l->z.next_in = l->raw;
            l->z.avail_in = (unsigned)n;
        } else {
            memcpy(l->text, l->raw, (size_t)n);
            l->n = (size_t)n;
            count->bytes += (uint64_t)n;
            more = n > 0;
        }
    } else {
        more = l->packed ? unpack(l, count) : fill(l, count);
    }
    const bool anew = more == 0 && follow && begins_anew(l);
    l->over = more == 0 && l->piped;
    tell(l, more <= 0 && (!follow || (anew && !l->renamed) || l->packed || l->over), count, take, context);
    if (more <= 0) give_memory(l);
    return anew ? 1 : more;
}
