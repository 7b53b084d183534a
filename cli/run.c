// preclose PROGRAM: sets the library and its settings in the environment, and becomes the program.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../shim/settings.h"
#include "commands.h"
#include "options.h"
#include "program.h"
#include "say.h"

#define LIBRARY "libpreclose.so"
#ifndef PRECLOSE_LIBDIR
#define PRECLOSE_LIBDIR "/usr/local/lib"
#endif

struct run {
    bool quiet;
};

struct check {
    const char *option;
    bool wrong;
};

// "PRECLOSE_RATE=x: takes a number ...; using 10" → "--rate=x: takes a number ..."
static void complain_of_setting(void *context, const char *line)
{
    struct check *c = context;
    const char *value = strchr(line, '='), *end = strstr(line, "; using ");
    if (!end) end = strstr(line, "; ignored");
    if (!end) end = line + strlen(line);
    if (!value || value > end) value = line;
    complain("--%s%.*s", c->option, (int)(end - value), value);
    c->wrong = true;
}

// Puts a setting into the environment if it is one that the library takes. option: what it was given by.
static bool set_by(const char *option, enum flag flag, const char *value)
{
    char *assignment;
    struct settings unused;
    struct check check = {.option = option};
    if (asprintf(&assignment, "%s=%s", setting_variable(flag), value) < 0) return false;
    char *environment[] = {assignment, NULL};
    settings_read(&unused, environment, (int)getpid(), complain_of_setting, &check);
    free(assignment);
    if (check.wrong) return false;
    if (setenv(setting_variable(flag), value, 1) == 0) return true;
    complain("cannot set %s: %s", setting_variable(flag), strerror(errno));
    return false;
}

static bool set(enum flag flag, const char *value)
{
    return set_by(setting_option(flag), flag, value);
}

static enum flag flag_named(const char *option)
{
    enum flag flag = FLAG_SETTING;
    while (strcmp(setting_option(flag), option) != 0) flag++;
    return flag;
}

// Can findings be appended to path? A name with %p in it is known only when the program runs.
static bool is_writable(const char *path)
{
    if (strstr(path, "%p")) return true;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
    if (fd >= 0) close(fd);
    if (fd >= 0 || errno == ENXIO) return true; // ENXIO: a FIFO that no one reads yet
    complain("cannot write findings to %s: %s", path, strerror(errno));
    return false;
}

// The program and its children may change their directory: the path becomes absolute.
static bool set_log(const char *path)
{
    char cwd[PATH_MAX], *absolute;
    if (path[0] == '/') return is_writable(path) && set(flag_named("log"), path);
    if (!getcwd(cwd, sizeof cwd)) {
        complain("cannot tell which directory %s is in: %s; name it by an absolute path", path,
                 strerror(errno));
        return false;
    }
    if (asprintf(&absolute, "%s/%s", cwd, path) < 0) return false;
    const bool ok = is_writable(path) && set(flag_named("log"), absolute);
    free(absolute);
    return ok;
}

static bool take(void *context, enum flag flag, const char *argument)
{
    struct run *r = context;
    switch (flag) {
    case FLAG_RUN_OUTPUT:
        return set_log(argument);
    case FLAG_RUN_SHORT_FORMAT:
        return set(flag_named("format"), argument);
    case FLAG_RUN_FAIL:
        return set_by("fail", flag_named("exit-code"), argument);
    case FLAG_RUN_QUIET:
        r->quiet = true;
        return set(flag_named("level"), "warning") && set(flag_named("report"), "never");
    default:
        break;
    }
    const bool is_path = flag == flag_named("log") && strcmp(argument, "stderr") != 0 &&
                         strcmp(argument, "none") != 0 && *argument;
    return is_path ? set_log(argument) : set(flag, argument);
}

// The library beside this command (a build directory), in ../lib beside its directory, or where it was
// installed: the first that can be read.
static bool find_library(char path[PATH_MAX])
{
    static const char *const beside[] = {"/" LIBRARY, "/../lib/" LIBRARY};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n < 0 ? 0 : n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) *slash = '\0';
    for (size_t i = 0; slash && i < sizeof beside / sizeof beside[0]; i++) {
        char candidate[2 * PATH_MAX];
        snprintf(candidate, sizeof candidate, "%s%s", self, beside[i]);
        if (access(candidate, R_OK) == 0 && realpath(candidate, path)) return true;
    }
    if (access(PRECLOSE_LIBDIR "/" LIBRARY, R_OK) == 0 && realpath(PRECLOSE_LIBDIR "/" LIBRARY, path))
        return true;
    complain("cannot find " LIBRARY " beside this command (%s), in ../lib or in " PRECLOSE_LIBDIR
             "; install it there",
             slash ? self : "unknown");
    return false;
}

// Is path one of the names in an LD_PRELOAD, which spaces and colons part (ld.so(8))?
static bool is_preloaded(const char *list, const char *path)
{
    const size_t length = strlen(path);
    for (const char *at = list; (at = strstr(at, path)); at++) {
        const bool begins = at == list || at[-1] == ':' || at[-1] == ' ';
        if (begins && (!at[length] || at[length] == ':' || at[length] == ' ')) return true;
    }
    return false;
}

// Behind what is there already: a sanitizer's runtime, for one, must come first.
static bool preload(const char *path)
{
    const char *before = getenv("LD_PRELOAD");
    char *list;
    if (strpbrk(path, ": $")) {
        complain("%s has a space, a colon or a dollar in its path, which LD_PRELOAD can't hold; move it",
                 path);
        return false;
    }
    if (before && is_preloaded(before, path)) return true;
    if (asprintf(&list, "%s%s%s", before ? before : "", before && *before ? ":" : "", path) < 0) return false;
    const bool ok = setenv("LD_PRELOAD", list, 1) == 0;
    free(list);
    return ok;
}

// AddressSanitizer ends a program in which it is not the first library, unless it is told not to look.
static bool let_asan_be(void)
{
    const char *before = getenv("ASAN_OPTIONS");
    char *options;
    if (before && strstr(before, "verify_asan_link_order")) return true;
    if (asprintf(&options, "%s%sverify_asan_link_order=0", before ? before : "",
                 before && *before ? ":" : "") < 0)
        return false;
    const bool ok = setenv("ASAN_OPTIONS", options, 1) == 0;
    free(options);
    return ok;
}

static int become(const struct program *p, char **argv)
{
    execvp(p->path, argv); // the path has a slash: execvp runs a script without #! as a shell would
    const int error = errno;
    complain("%s: cannot be run: %s", p->path, strerror(error));
    return error == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
}

int command_run(int argc, char **argv)
{
    struct run run = {0};
    struct program program;
    char library[PATH_MAX];
    int first = options_read(COMMAND_RUN, argc, argv, take, &run);
    if (first < 0) return STATUS_RUN_FAILED;
    if (first == argc) {
        complain("which program? preclose [OPTION]... [--] PROGRAM [ARG]...; see: preclose --help");
        return STATUS_RUN_FAILED;
    }
    int status = program_find(argv[first], &program);
    if (status != 0) return status;
    if (!find_library(library) || !preload(library)) return STATUS_RUN_FAILED;
    if (program.has_asan && !let_asan_be()) return STATUS_RUN_FAILED;
    if (program.is_go && !run.quiet)
        complain("%s is a Go program: Go makes its system calls itself, so only sockets of its C libraries "
                 "are seen",
                 program.path);
    return become(&program, argv + first);
}
