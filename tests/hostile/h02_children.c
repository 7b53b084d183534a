// Hazard 2: children that run in the parent's memory, and children with a new program. What they close, duplicate
// and sweep is theirs; a socket that one of them holds lives on when the parent closes it; and the log goes on.
// timeout: 60
#include "hostile.h"

#include <spawn.h>

static const char *self = "/proc/self/exe";

// The program that a child becomes: says on descriptor 1 that it runs, waits for a byte on 0, and uses the connection
// that it was given as argv[2].
static int hold(const char *number)
{
    char byte;
    int fd = atoi(number);
    if (write(1, "r", 1) != 1 || read(0, &byte, 1) != 1) return 3;
    if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) return 4;
    return recv(fd, &byte, 1, 0) == 1 ? 0 : 5;
}

struct holder {
    int conn, peer; // conn: shared with the child
    int to[2], from[2];
    char number[12];
    char *argv[4];
};

static void holder_begin(struct holder *h)
{
    int sv[2];
    pair(sv);
    h->conn = sv[0];
    h->peer = sv[1];
    must(fcntl(h->peer, F_SETFD, FD_CLOEXEC));
    must(pipe2(h->to, O_CLOEXEC));
    must(pipe2(h->from, O_CLOEXEC));
    snprintf(h->number, sizeof h->number, "%d", h->conn);
    h->argv[0] = (char *)(uintptr_t)self;
    static char word[] = "hold";
    h->argv[1] = word;
    h->argv[2] = h->number;
    h->argv[3] = NULL;
}

// The child runs. The parent closes its copy, and the child's connection lives.
static void holder_end(struct holder *h, pid_t pid)
{
    char byte;
    struct pollfd p = {.fd = h->from[0], .events = POLLIN};
    if (poll(&p, 1, DEADLINE_MS) != 1 || read(h->from[0], &byte, 1) != 1) fail("the child does not run");
    must(close(h->conn));
    if (peer_sees(h->peer, 20) != '-') fail("the child's connection was cut");
    must(write(h->to[1], "g", 1));
    expect(peer_sees(h->peer, DEADLINE_MS) == 'd');
    expect(send(h->peer, "y", 1, MSG_NOSIGNAL) == 1);
    if (pid > 0) reap(pid, "the child", DEADLINE_MS);
}

static void spawned(long with_actions)
{
    struct holder h;
    posix_spawn_file_actions_t actions;
    pid_t pid;
    holder_begin(&h);
    must(posix_spawn_file_actions_init(&actions));
    posix_spawn_file_actions_adddup2(&actions, h.to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, h.from[1], 1);
    if (with_actions) { // close-on-exec here, and given to the child under another number
        must(fcntl(h.conn, F_SETFD, FD_CLOEXEC));
        posix_spawn_file_actions_adddup2(&actions, h.conn, 50);
        snprintf(h.number, sizeof h.number, "50");
    }
    expect(posix_spawn(&pid, self, &actions, NULL, h.argv, environ) == 0);
    holder_end(&h, pid);
}

static void spawned_same_number(long arg)
{
    (void)arg;
    struct holder h;
    posix_spawn_file_actions_t actions;
    pid_t pid;
    holder_begin(&h);
    must(fcntl(h.conn, F_SETFD, FD_CLOEXEC));
    must(posix_spawn_file_actions_init(&actions));
    posix_spawn_file_actions_adddup2(&actions, h.to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, h.from[1], 1);
    posix_spawn_file_actions_adddup2(&actions, h.conn, h.conn); // clears close-on-exec in the child
    expect(posix_spawnp(&pid, self, &actions, NULL, h.argv, environ) == 0);
    holder_end(&h, pid);
}

static void exec_child(struct holder *h)
{
    dup2(h->to[0], 0);
    dup2(h->from[1], 1);
    execv(self, h->argv);
    _exit(126);
}

static void by_vfork(long late_flag)
{
    struct holder h;
    holder_begin(&h);
    if (late_flag) must(fcntl(h.conn, F_SETFD, FD_CLOEXEC));
    pid_t pid = vfork();
    if (!pid) {
        if (late_flag) fcntl(h.conn, F_SETFD, 0); // in the child alone
        exec_child(&h);
    }
    holder_end(&h, must(pid));
}

static int clone_exec(void *arg)
{
    exec_child(arg);
    return 1;
}

static void by_clone(long flags)
{
    struct holder h;
    static char stack[65536] __attribute__((aligned(16)));
    holder_begin(&h);
    pid_t pid = must(clone(clone_exec, stack + sizeof stack, (int)flags | SIGCHLD, &h));
    holder_end(&h, pid);
}

static void by_shell(long with_popen)
{
    struct holder h;
    char command[200];
    holder_begin(&h);
    must(fcntl(h.to[0], F_SETFD, 0));
    must(fcntl(h.from[1], F_SETFD, 0));
    snprintf(command, sizeof command, "/proc/%d/exe hold %d <&%d >&%d &", (int)getpid(), h.conn, h.to[0], h.from[1]);
    if (with_popen) {
        FILE *f = popen(command, "w");
        expect(f);
        holder_end(&h, 0);
        pclose(f);
    } else {
        must(system(command));
        holder_end(&h, 0);
    }
}

// How many lines say of a close here that others may have the socket? So it is told where the table is right, and time
// did not suffice to prove that the child has taken nothing along.
static unsigned unproven(void)
{
    unsigned n = 0;
    char head[40], *text = text_of(getenv("PRECLOSE_LOG"));
    snprintf(head, sizeof head, "\"pid\":%d,", (int)getpid());
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        n += strstr(line, head) && strstr(line, "\"reason\":\"shared\"");
    free(text);
    return n;
}

// What a child in the parent's memory does to its copy of a, b and c.
struct deed {
    int a[2], b[2], c[2];
    long how;
};

static int do_deed(void *arg)
{
    const struct deed *d = arg;
    if (d->how == 0) {
        close(d->a[0]);
        close(d->b[0]);
        close(d->c[0]);
    } else if (d->how == 1) {
        dup2(d->a[0], d->b[0]);
        dup2(d->a[1], d->c[0]);
        dup2(d->a[0], 900);
    } else if (d->how == 2) {
        for (int fd = 3; fd < 2000; fd++) close(fd);
    } else {
        closefrom(3);
    }
    return 0;
}

#define IN_OUR_MEMORY (CLONE_VM | CLONE_VFORK | SIGCHLD)

// vfork by a system call of the program's own, which nobody sees: the child runs do_deed on another stack.
static pid_t unseen_vfork(struct deed *d, char *top)
{
#if defined(__x86_64__)
    long ret;
    register long zero __asm__("r10") = 0;
    register long tls __asm__("r8") = 0;
    register void *function __asm__("r12") = (void *)(uintptr_t)do_deed;
    register void *argument __asm__("r13") = d;
    __asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\t"
                     "mov %%r13, %%rdi\n\tcall *%%r12\n\tmov %%eax, %%edi\n\tmov %[end], %%eax\n\tsyscall\n1:"
                     : "=a"(ret)
                     : "0"((long)SYS_clone), "D"((long)IN_OUR_MEMORY), "S"(top), "d"(0l), "r"(zero), "r"(tls),
                       "r"(function), "r"(argument), [end] "i"(SYS_exit_group)
                     : "rcx", "r11", "cc", "memory");
    return (pid_t)ret;
#else
    return clone(do_deed, top, IN_OUR_MEMORY, d);
#endif
}

enum { VFORK, CLONE, UNSEEN, MAKERS };

static pid_t make_child(struct deed *d, long maker)
{
    static char stack[65536] __attribute__((aligned(16)));
    if (maker == CLONE) return clone(do_deed, stack + sizeof stack, IN_OUR_MEMORY, d);
    if (maker == UNSEEN) return unseen_vfork(d, stack + sizeof stack);
    pid_t pid = vfork();
    if (!pid) _exit(do_deed(d));
    return pid;
}

// A child in our memory closes, duplicates and sweeps. Our sockets and what is known of them stay. Returns false if the
// machine was too busy to tell.
static bool told_after_vfork(long how)
{
    struct deed d = {.how = how % 4};
    int *a = d.a, *b = d.b, *c = d.c;
    struct receiver r;
    pair(a);
    pair(b);
    tcp_pair(c);
    reap(must(make_child(&d, how / 4)), "the child in our memory", DEADLINE_MS);
    expect(both_ways(a[0], a[1]) && both_ways(b[0], b[1]) && both_ways(c[0], c[1]));
    // Still known as one hold each: the close of the last ends the connection and wakes.
    start_receiver(&r, b[0]);
    unsigned before = unproven();
    must(close(b[0]));
    bool proven = unproven() == before;
    if (!proven) must(close(b[1]));
    if (library_here() && !comes_back(&r, DEADLINE_MS)) fail("the table was changed by the vfork child");
    if (proven) must(close(b[1]));
    must(close(a[0]));
    expect(peer_sees(a[1], DEADLINE_MS) == 'e');
    must(close(c[0]));
    expect(peer_sees(c[1], DEADLINE_MS) == 'e');
    must(close(a[1]));
    must(close(c[1]));
    still_works("vfork");
    return proven;
}

static void vfork_closes(long how)
{
    int64_t end = now_ms() + 4 * DEADLINE_MS;
    while (!told_after_vfork(how))
        if (now_ms() > end) fail("it is never proven that the vfork child holds nothing");
}

__attribute__((noinline)) static unsigned open_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 2048; fd++) n += is_open(fd);
    return n;
}

// A vfork child puts something of its own over the log's descriptor, and sweeps it: the parent's log stays.
static void vfork_over_log(long how)
{
    const char *path = getenv("PRECLOSE_LOG");
    int sv[2], kept = path ? log_descriptor(path) : -1;
    if (kept < 0) skip("no log file");
    pair(sv);
    unsigned before = open_descriptors();
    pid_t pid = vfork();
    if (!pid) {
        if (how == 0) dup2(sv[0], kept);
        else if (how == 1) close_range(3, 4000, 0);
        else syscall(SYS_dup3, sv[0], kept, 0);
        _exit(0);
    }
    reap(must(pid), "the vfork child", DEADLINE_MS);
    if (log_descriptor(path) != kept) fail("the parent's log was moved by what its vfork child did");
    unsigned told = lines_in(path);
    must(close(sv[0]));
    must(close(sv[1]));
    if (lines_in(path) < told + 2) fail("after a vfork child that meets the log's descriptor nothing is written any more");
    expect(open_descriptors() == before - 2);
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "hold")) return hold(argv[2]);
    need_library();
    in_child("posix_spawn", 10000, spawned, 0);
    in_child("posix_spawn with a dup2 action", 10000, spawned, 1);
    in_child("posix_spawnp with a dup2 action onto itself", 10000, spawned_same_number, 0);
    in_child("vfork", 10000, by_vfork, 0);
    in_child("vfork whose child clears close-on-exec", 10000, by_vfork, 1);
    in_child("clone", 10000, by_clone, 0);
    in_child("clone(CLONE_VM | CLONE_VFORK)", 10000, by_clone, CLONE_VM | CLONE_VFORK);
    in_child("system", 10000, by_shell, 0);
    in_child("popen", 10000, by_shell, 1);
    static const char *const makers[MAKERS] = {"a vfork child that closes", "a clone in our memory that closes",
                                               "a vfork child that nobody told of, and closes"};
    for (long how = 0; how < 4 * MAKERS; how++) in_child(makers[how / 4], 40000, vfork_closes, how);
    for (long how = 0; how < 3; how++) in_child("a vfork child over the log", 10000, vfork_over_log, how);
    return 0;
}
