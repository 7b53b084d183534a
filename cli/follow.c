#include "follow.h"

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "say.h"

// A file whose name is gone is read on for as long: who has it open may still write.
enum { LOOK_MS = 1000, GONE_MS = 10000 };

// Files are told apart by what they are, not by their names: a log that is rotated keeps its place in it.
struct log {
    dev_t device;
    ino_t inode;
    char *path;          // by which it was found
    struct lines *lines; // NULL: read to its end, or given up
    int64_t there_ms;    // when it last had one of the names
};

struct follow {
    char **names;
    int n;
    struct log *logs; // FOLLOWED_MAX
    unsigned count;
    unsigned next; // the one to go on with; count: all have been read to their end
    struct lines_count lines;
    int64_t looked_ms;
    unsigned open, failed;
    bool looked, caught_up;
    bool full; // and that was said
};

struct follow *follow_new(char **names, int n)
{
    struct follow *f = need(calloc(1, sizeof *f));
    struct rlimit limit;
    f->logs = need(calloc(FOLLOWED_MAX, sizeof *f->logs));
    f->names = names;
    f->n = n;
    f->caught_up = n == 0;
    if (n && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        const rlim_t wanted = (rlim_t)4 * FOLLOWED_MAX;
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return f;
}

static void shut(struct follow *f, struct log *log)
{
    if (!log->lines) return;
    lines_close(log->lines);
    log->lines = NULL;
    f->open--;
}

// RFC 1952 section 2.3.1
static bool is_packed(const char *path)
{
    unsigned char magic[2] = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return false;
    const bool packed = read(fd, magic, sizeof magic) == sizeof magic && magic[0] == 0x1f && magic[1] == 0x8b;
    close(fd);
    return packed;
}

static void open_log(struct follow *f, struct log *log, const struct stat *s)
{
    if (S_ISREG(s->st_mode) && f->caught_up && is_packed(log->path)) return;
    if (S_ISREG(s->st_mode))
        log->lines = lines_open(log->path);
    else
        complain("%s is no file that could be followed", log->path);
    if (!log->lines) {
        f->failed++;
        return;
    }
    lines_stay(log->lines);
    f->open++;
}

static void say_full(struct follow *f, const char *path)
{
    if (!f->full) complain("there are more than %d logs: %s, for one, is left out", FOLLOWED_MAX, path);
    f->full = true;
}

static struct log *log_of(struct follow *f, const struct stat *s)
{
    for (unsigned i = 0; i < f->count; i++)
        if (f->logs[i].inode == s->st_ino && f->logs[i].device == s->st_dev) return &f->logs[i];
    return NULL;
}

// Opens the log of this name unless that has been done. Returns whether there is one.
static bool look_at(struct follow *f, const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0) return false;
    struct log *log = log_of(f, &s);
    if (!log && f->count == FOLLOWED_MAX) {
        say_full(f, path);
        return true;
    }
    if (!log) {
        log = &f->logs[f->count++];
        *log = (struct log){.device = s.st_dev, .inode = s.st_ino, .path = need(strdup(path))};
        open_log(f, log, &s);
    }
    log->there_ms = now_ms();
    return true;
}

// Looks at a name, or at what a pattern finds. Returns whether there is anything.
static bool look_for(struct follow *f, const char *name)
{
    glob_t found = {0};
    if (!strpbrk(name, "*?[") || access(name, F_OK) == 0) return look_at(f, name);
    if (glob(name, GLOB_NOSORT, NULL, &found) != 0) found.gl_pathc = 0;
    const bool any = found.gl_pathc > 0;
    for (size_t i = 0; i < found.gl_pathc; i++) look_at(f, found.gl_pathv[i]);
    globfree(&found);
    return any;
}

static void look_for_more(struct follow *f)
{
    for (int i = 0; i < f->n; i++)
        if (!look_for(f, f->names[i]) && !f->looked)
            complain("%s is not there yet; it is read from when it is", f->names[i]);
    f->looked = true;
    f->looked_ms = now_ms();
}

static void forget_gone(struct follow *f)
{
    for (unsigned i = f->count; i-- > 0;) {
        struct log *log = &f->logs[i];
        if (f->looked_ms - log->there_ms < GONE_MS) continue;
        shut(f, log);
        free(log->path);
        *log = f->logs[--f->count];
    }
}

// Reads a log to its end. Returns false if the time is over before.
static bool read_log(struct follow *f, struct log *log, int64_t until, lines_take *take, void *context)
{
    while (log->lines) {
        const int more = lines_read(log->lines, true, &f->lines, take, context);
        if (more < 0) f->failed++;
        if (more < 0 || (more == 0 && lines_packed(log->lines))) shut(f, log); // gzip data does not grow
        if (more <= 0) return true;
        if (now_ms() >= until) return false;
    }
    return true;
}

bool follow_read(struct follow *f, int64_t ms, lines_take *take, void *context)
{
    const int64_t until = now_ms() + ms;
    if (f->next >= f->count) {
        if (!f->looked || now_ms() - f->looked_ms >= LOOK_MS) {
            look_for_more(f);
            forget_gone(f);
        }
        f->next = 0;
    }
    for (; f->next < f->count; f->next++)
        if (!read_log(f, &f->logs[f->next], until, take, context)) return true;
    f->caught_up = true;
    return false;
}

bool follow_caught_up(const struct follow *f)
{
    return f->caught_up;
}

int follow_percent(const struct follow *f)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < f->count; i++)
        if (f->logs[i].lines) total += lines_size(f->logs[i].lines);
    return f->lines.raw >= total ? 100 : (int)(f->lines.raw * 100 / total);
}

const struct lines_count *follow_count(const struct follow *f)
{
    return &f->lines;
}

unsigned follow_open(const struct follow *f)
{
    return f->open;
}

unsigned follow_failed(const struct follow *f)
{
    return f->failed;
}
