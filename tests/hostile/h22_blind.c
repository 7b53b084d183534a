// timeout: 40
// Hazard 22: no /proc, a /proc that hides others, a /proc that is not ours, a kernel without socket cookies or TCP_INFO.
// Less is known, less is reported, nothing breaks; and what can be known without them still cures.
#include "hostile.h"

#include <grp.h>
#include <sys/mount.h>

// There may be no /proc to see it blocked in: it is given a moment.
static void start_receiver_unseen(struct receiver *r, int fd)
{
    memset(r, 0, sizeof *r);
    r->fd = fd;
    r->thread = start_thread(receive, r);
    while (!atomic_load(&r->tid)) sched_yield();
    for (int i = 0; i < 50; i++) look_again();
}

// What must be so in any surroundings.
static void holds(bool wakes)
{
    int sv[2], go[2];
    struct receiver r;
    for (int i = 0; i < 20; i++) exercise();
    // Shared by fork, a thread blocked on it: without a look at the others it is left alone.
    pair(sv);
    must(pipe(go));
    pid_t pid = must(fork());
    if (!pid) {
        char byte;
        must(close(go[1]));
        expect(read(go[0], &byte, 1) == 0);
        expect(both_ways(sv[0], sv[1]));
        raw_exit(0);
    }
    must(close(go[0]));
    start_receiver_unseen(&r, sv[0]);
    must(close(sv[0]));
    if (peer_sees(sv[1], 20) != '-') fail("what a child holds was cut");
    expect(send(sv[1], "x", 1, MSG_NOSIGNAL) == 1 && comes_back(&r, DEADLINE_MS));
    must(close(go[1]));
    reap(pid, "the child", DEADLINE_MS);
    // TCP, with bytes unread, lingering, a backlog.
    for (int i = 0; i < 3; i++) {
        struct linger l = {.l_onoff = 1};
        tcp_pair(sv);
        if (i == 0) expect(send(sv[1], "abc", 3, 0) == 3);
        if (i == 1) must(setsockopt(sv[0], SOL_SOCKET, SO_LINGER, &l, sizeof l));
        must(close(sv[0]));
        char end = peer_sees(sv[1], DEADLINE_MS);
        if (i == 1 && end != 'r') fail("the peer of SO_LINGER 0 sees '%c'", end);
        expect(end == 'e' || end == 'r');
        must(close(sv[1]));
    }
    // Stale numbers.
    int b[2];
    pair(sv);
    expect(raw6(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (long)b, 0, 0) == 0);
    expect(raw(SYS_dup3, b[0], sv[0], 0) == sv[0]);
    must(close(sv[0]));
    if (!both_ways(b[0], b[1])) fail("a socket that took the number unseen was cut");
    if (!library_here()) return;
    pair(sv);
    start_receiver_unseen(&r, sv[0]);
    must(close(sv[0]));
    if (wakes && !comes_back(&r, DEADLINE_MS)) fail("nobody else holds it, and its thread was not woken");
}

static void start_again(const char *mode)
{
    const char *log = getenv("PRECLOSE_LOG");
    struct again a = {mode, NULL, log ? log : "none", NULL, NULL, -1};
    become((long)&a);
}

static void own_mounts(void)
{
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        skip("no mount namespace of its own: %s", strerror(errno));
}

// The program is started from a copy, since there is no /proc/self/exe.
static void run_copy(const char *mode)
{
    char path[PATH_MAX];
    const char *log = getenv("PRECLOSE_LOG");
    snprintf(path, sizeof path, "%s/copy", scratch());
    char *argv[] = {path, (char *)(uintptr_t)mode, NULL};
    if (log) must(setenv("PRECLOSE_LOG", log, 1));
    execv(path, argv);
    fail("cannot run %s: %s", path, strerror(errno));
}

static void without_proc(long how)
{
    own_mounts();
    if (how == 0) must(mount("none", "/proc", "tmpfs", 0, NULL));
    if (how == 1) { // one that looks right at first
        must(mount("none", "/proc", "tmpfs", 0, NULL));
        must(mkdir("/proc/self", 0755));
        must(mkdir("/proc/self/fd", 0755));
        must(mkdir("/proc/self/task", 0755));
        must(mkdir("/proc/self/task/1", 0755));
    }
    run_copy("wakes");
}

static void hidden(long how)
{
    char options[20];
    snprintf(options, sizeof options, "hidepid=%ld", how);
    own_mounts();
    if (mount("proc", "/proc", "proc", 0, options)) skip("no hidepid: %s", strerror(errno));
    must(setgroups(0, NULL));
    must(setresgid(65534, 65534, 65534));
    must(setresuid(65534, 65534, 65534));
    run_copy("wakes");
}

static void masked(long how)
{
    struct filter f = filter_new();
    const unsigned error = SECCOMP_RET_ERRNO | (how % 2 ? ENOSYS : ENOPROTOOPT);
    const char *mode = "wakes";
    switch (how / 2) {
    case 0: // no cookies: the inode number serves
        filter_argument(&f, SYS_getsockopt, 2, SO_COOKIE, error);
        break;
    case 1: // neither: nothing is known
        filter_argument(&f, SYS_getsockopt, 2, SO_COOKIE, error);
        filter_call(&f, SYS_fstat, SECCOMP_RET_ERRNO | ENOSYS);
        mode = "blind";
        break;
    case 2: // TCP_INFO is option 11 of level 6, and SO_TCP_INFO's number has no other use here
        filter_argument(&f, SYS_getsockopt, 2, TCP_INFO, error);
        break;
    case 3:
        filter_call(&f, SYS_kcmp, SECCOMP_RET_ERRNO | EPERM);
        filter_call(&f, SYS_process_vm_readv, SECCOMP_RET_ERRNO | EPERM);
        break;
    case 4:
        filter_call(&f, SYS_madvise, SECCOMP_RET_ERRNO | EINVAL); // no MADV_WIPEONFORK
        break;
    default: // no sock_diag
        filter_argument(&f, SYS_socket, 0, AF_NETLINK, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
    }
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    filter_inherit(&p);
    start_again(mode);
}

int main(int argc, char **argv)
{
    need_library();
    if (argc > 1) {
        within = argv[1];
        holds(!strcmp(argv[1], "wakes"));
        _exit(0);
    }
    char command[3 * PATH_MAX], self[PATH_MAX] = "";
    must(readlink("/proc/self/exe", self, sizeof self - 1));
    snprintf(command, sizeof command, "cp '%s' '%s/copy' && chmod 755 '%s/copy'", self, scratch(), scratch());
    expect(system(command) == 0);
    in_child("no sock_diag", 10000, masked, 10);
    if (!geteuid()) {
        in_child("an empty /proc", 10000, without_proc, 0);
        in_child("a /proc that is none", 10000, without_proc, 1);
        in_child("hidepid=1", 10000, hidden, 1);
        in_child("hidepid=2", 10000, hidden, 2);
    }
    for (long how = 0; how < 10; how++) {
        char what[40];
        snprintf(what, sizeof what, "what the kernel lacks, %ld", how);
        in_child(what, 10000, masked, how);
    }
    if (geteuid()) skip("what needs root was left out");
    return 0;
}
