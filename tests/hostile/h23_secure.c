// Hazard 23: in a program that runs with more rights than whoever started it, the library is inert: no setting counts,
// nothing is written, no socket is acted upon. It is loaded there from /etc/ld.so.preload.
#include "hostile.h"

#include <grp.h>
#include <sys/auxv.h>
#include <sys/mount.h>

// The setuid program, started by another user.
static int secure(void)
{
    int sv[2];
    struct receiver r;
    expect(getauxval(AT_SECURE));
    expect(library_here());
    for (int i = 0; i < 20; i++) exercise();
    expect(prctl(PR_SET_SECCOMP, 77, 0, 0, 0) == -1); // fails, and wakes nothing up
    for (int i = 0; i < 20; i++) exercise();
    pair(sv);
    memset(&r, 0, sizeof r);
    r.fd = sv[0];
    r.thread = start_thread(receive, &r);
    while (!atomic_load(&r.tid)) sched_yield();
    for (int i = 0; i < 200; i++) look_again();
    must(close(sv[0]));
    expect(close(sv[0]) == -1 && errno == EBADF);
    if (peer_sees(sv[1], 200) != '-') fail("it acts in a program with more rights than its user has");
    pid_t pid = must(fork());
    if (!pid) raw_exit(0);
    reap(pid, "a child", DEADLINE_MS);
    exit(0);
}

static void private_etc(const char *library)
{
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        skip("no mount namespace of its own: %s", strerror(errno));
    char command[2 * PATH_MAX];
    // The loader's cache stays; of the rest nothing is needed.
    snprintf(command, sizeof command, "cp /etc/ld.so.cache '%s/cache'", scratch());
    expect(system(command) == 0);
    must(mount("none", "/etc", "tmpfs", 0, "mode=755"));
    snprintf(command, sizeof command, "cp '%s/cache' /etc/ld.so.cache; echo '%s' > /etc/ld.so.preload", scratch(), library);
    expect(system(command) == 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "secure")) return secure();
    need_library();
    if (geteuid()) skip("needs root");
    const char *library = getenv("HOSTILE_LIB");
    if (!library) skip("run by run.py only");
    char self[PATH_MAX] = "", copy[PATH_MAX], log[PATH_MAX], command[3 * PATH_MAX];
    must(readlink("/proc/self/exe", self, sizeof self - 1));
    snprintf(copy, sizeof copy, "%s/setuid", scratch());
    snprintf(log, sizeof log, "%s/secure.log", scratch());
    snprintf(command, sizeof command, "cp '%s' '%s'", self, copy);
    expect(system(command) == 0);
    must(chmod(copy, 04755));
    unsetenv("LD_PRELOAD");
    private_etc(library);
    int err[2];
    must(pipe(err));
    pid_t pid = must(fork());
    if (!pid) {
        must(setgroups(0, NULL));
        must(setresgid(65534, 65534, 65534));
        must(setresuid(65534, 65534, 65534));
        must(setenv("PRECLOSE_LOG", log, 1));
        must(setenv("PRECLOSE_LEVEL", "info", 1));
        must(setenv("PRECLOSE_NONSENSE", "1", 1)); // not even a complaint
        must(dup2(err[1], STDERR_FILENO));
        char *const arguments[] = {copy, (char[]){"secure"}, NULL};
        execv(copy, arguments);
        _exit(126);
    }
    must(close(err[1]));
    char said[200] = "";
    ssize_t n = read(err[0], said, sizeof said - 1);
    reap(pid, "the setuid program", 10000);
    if (n > 0) fail("it wrote to stderr: %s", said);
    if (!access(log, F_OK)) fail("it wrote to PRECLOSE_LOG");
    return 0;
}
