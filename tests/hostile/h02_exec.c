// Hazard 2: every way to become another program, from a fork and from a vfork, by syscall and with more arguments than
// registers: the program gets its arguments, its environment and its descriptors, and a call that fails says why.
#include "hostile.h"

extern char **environ;

static char here[PATH_MAX];
static char *args[] = {(char[]){"self"}, (char[]){"a"}, (char[]){"b c"}, (char[]){""}, (char[]){"d"}, (char[]){"e"}, (char[]){"f"},
                       (char[]){"g"},    (char[]){"h"}, (char[]){"i"},   NULL};
static char *given[] = {(char[]){"GIVEN=yes"}, NULL};

static int by_execve(const char *path)
{
    return execve(path, args, given);
}

static int by_execv(const char *path)
{
    return execv(path, args);
}

static int by_execvp(const char *path)
{
    return execvp(path, args);
}

static int by_execvpe(const char *path)
{
    return execvpe(path, args, given);
}

static int by_execl(const char *path)
{
    return execl(path, "self", "a", "b c", "", "d", "e", "f", "g", "h", "i", (char *)NULL);
}

static int by_execlp(const char *path)
{
    return execlp(path, "self", "a", "b c", "", "d", "e", "f", "g", "h", "i", (char *)NULL);
}

static int by_execle(const char *path)
{
    return execle(path, "self", "a", "b c", "", "d", "e", "f", "g", "h", "i", (char *)NULL, given);
}

static int by_fexecve(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : fexecve(fd, args, given);
}

static int by_execveat(const char *path)
{
    return execveat(AT_FDCWD, path, args, given, 0);
}

static int by_syscall(const char *path)
{
    return (int)syscall(SYS_execve, path, args, given);
}

static const struct way {
    const char *name;
    int (*run)(const char *path);
    bool gives; // an environment
} ways[] = {
    {"execve", by_execve, true},   {"execv", by_execv, false},    {"execvp", by_execvp, false},
    {"execvpe", by_execvpe, true}, {"execl", by_execl, false},    {"execlp", by_execlp, false},
    {"execle", by_execle, true},   {"fexecve", by_fexecve, true}, {"execveat", by_execveat, true},
    {"syscall", by_syscall, true},
};

static void check_way(const struct way *way, bool by_vfork, int fd)
{
    char number[12];
    snprintf(number, sizeof number, "%d", fd);
    must(setenv("GIVEN", "inherited", 1));
    must(setenv("KEPT", number, 1));
    pid_t pid = must(by_vfork ? vfork() : fork());
    if (!pid) {
        way->run(here);
        _exit(126);
    }
    int status;
    must(waitpid(pid, &status, 0));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != (way->gives ? 42 : 43))
        fail("%s by %s: status %x", way->name, by_vfork ? "vfork" : "fork", (unsigned)status);
    errno = 0;
    if (way->run("/nonexistent/program") != -1 || errno != ENOENT) fail("%s of nothing: errno %d", way->name, errno);
}

// The status says what the program found: 42 or 43, with the environment that was given or that was there.
static int report(int argc, char **argv)
{
    const char *value = getenv("GIVEN"), *kept = getenv("KEPT");
    if (argc != 10 || argv[10]) return 2;
    for (int i = 0; i < 10; i++)
        if (strcmp(argv[i], args[i]) != 0) return 10 + i;
    if (!value) return 3;
    if (kept && !is_open(atoi(kept))) return 4;
    return !strcmp(value, "yes") ? 42 : !strcmp(value, "inherited") ? 43 : 5;
}

int main(int argc, char **argv)
{
    int sv[2];
    if (argc > 1) return report(argc, argv);
    need_library();
    ssize_t n = readlink("/proc/self/exe", here, sizeof here - 1);
    expect(n > 0);
    pair(sv);
    for (const struct way *w = ways; w < ways + sizeof ways / sizeof *ways; w++) {
        check_way(w, false, sv[0]);
        check_way(w, true, sv[0]);
    }
    expect(both_ways(sv[0], sv[1]));
    still_works("the programs");
    return 0;
}
