// Processes of every sort hold, have held or never held a socket; the answer must be ALONE only where that is
// so. Everything runs in a process namespace of its own, where no other process is in the way.
#include "unit.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "wait.h"

// For what can't be had here: the room as a part of this file, beside the one that is linked.
#define owners_prove owners_prove_of_this_file
#include "../../shim/owners.c" // NOLINT(bugprone-suspicious-include)
#undef owners_prove
void owners_prove(int fd, uint64_t inode, uint64_t since_ms, bool leaked, uint64_t limit_us,
                  struct owners_answer *answer);

#define AMPLE_US 5000000
#define NOBODY 65534

static bool is_root; // it was before it had a namespace

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

// The socket in question, at a number that nothing else takes, so that it is not found by its number alone.
struct subject {
    int fd, peer;
    uint64_t since_ms, inode;
    bool leaked;
};

static struct subject make_subject(void)
{
    struct subject s = {.since_ms = now_ms()};
    struct stat st;
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    s.fd = sv[0];
    s.peer = sv[1];
    assert_int_equal(fstat(s.fd, &st), 0);
    s.inode = st.st_ino;
    return s;
}

static void drop_subject(struct subject *s)
{
    close(s->fd), close(s->peer);
}

static struct owners_answer prove_within(const struct subject *s, uint64_t limit_us)
{
    struct owners_answer a;
    errno = 4242;
    owners_prove(s->fd, s->inode, s->since_ms, s->leaked, limit_us, &a);
    assert_int_equal(errno, 4242);
    return a;
}

static void check_answer(const struct subject *s, enum owners owners, pid_t pid)
{
    struct owners_answer a = prove_within(s, AMPLE_US);
    if (a.owners != owners || a.pid != pid)
        fail_msg("owners %d by %d, not %d by %d", a.owners, a.pid, owners, (int)pid);
}

// A child that is told things over a socket pair, one byte each, and answers each with a byte.
struct child {
    pid_t pid;
    int control;
};

typedef void role(const struct subject *s, int control);

static void say(int control)
{
    assert_int_equal(write(control, "r", 1), 1);
}

static bool hear(int control)
{
    char byte;
    struct pollfd p = {.fd = control, .events = POLLIN};
    return poll(&p, 1, WAIT_S * 1000) == 1 && read(control, &byte, 1) == 1;
}

static struct child start_child(role *play, const struct subject *s)
{
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(sv[0]);
        play(s, sv[1]);
        _exit(0);
    }
    close(sv[1]);
    struct child c = {pid, sv[0]};
    assert_true(hear(c.control));
    return c;
}

static void tell(const struct child *c)
{
    say(c->control);
    assert_true(hear(c->control));
}

static void end_child(struct child *c)
{
    close(c->control);
    kill(c->pid, SIGKILL);
    assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
}

static void holds(const struct subject *s, int control)
{
    (void)s;
    say(control);
    hear(control);
}

static void moves_it_away(const struct subject *s, int control)
{
    dup2(s->fd, 300);
    close(s->fd);
    holds(s, control);
}

static void holds_then_closes(const struct subject *s, int control)
{
    say(control);
    hear(control);
    close(s->fd);
    holds(s, control);
}

static void closes_and_spins(const struct subject *s, int control)
{
    close(s->fd);
    say(control);
    for (volatile unsigned n = 0;; n++) continue;
}

static void nobody_else(void **state)
{
    (void)state;
    struct subject s = make_subject();
    check_answer(&s, OWNERS_ALONE, 0);
    drop_subject(&s);
}

static void a_child_holds_it_until_it_closes(void **state)
{
    (void)state;
    struct subject s = make_subject();
    struct child c = start_child(holds_then_closes, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    tell(&c);
    check_answer(&s, OWNERS_ALONE, 0);
    end_child(&c);
    c = start_child(moves_it_away, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    end_child(&c);
    drop_subject(&s);
}

// Has it come to its end, with every thread? A sanitizer has one of its own, which may be the last.
static bool is_over(pid_t pid)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    char how = process_state(pid);
    return !how || (how == 'Z' && (stat(path, &st) || st.st_nlink <= 3));
}

static void a_zombie_holds_nothing(void **state)
{
    (void)state;
    struct subject s = make_subject();
    struct child c = start_child(holds, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    kill(c.pid, SIGKILL);
    assert_true(WAIT_UNTIL(is_over(c.pid)));
    check_answer(&s, OWNERS_ALONE, 0);
    end_child(&c);
    check_answer(&s, OWNERS_ALONE, 0);
    drop_subject(&s);
}

static void has_a_child_that_holds_it(const struct subject *s, int control)
{
    int closed[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, closed)) _exit(1);
    if (!fork()) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        hear(closed[1]);
        moves_it_away(s, control);
        _exit(0);
    }
    close(s->fd);
    say(closed[0]);
    pause();
}

static void a_grandchild_holds_it(void **state)
{
    (void)state;
    struct subject s = make_subject();
    struct child c = start_child(has_a_child_that_holds_it, &s);
    struct owners_answer a = prove_within(&s, AMPLE_US);
    assert_int_equal(a.owners, OWNERS_HELD);
    assert_true(a.pid != c.pid);
    end_child(&c);
    drop_subject(&s);
}

static void leaves_an_orphan(const struct subject *s, int control)
{
    if (fork()) _exit(0);
    setsid();
    moves_it_away(s, control);
}

static void an_orphan_holds_it(void **state)
{
    (void)state;
    struct subject s = make_subject();
    struct child c = start_child(leaves_an_orphan, &s);
    assert_int_equal(waitpid(c.pid, NULL, 0), c.pid);
    struct owners_answer a = prove_within(&s, AMPLE_US);
    assert_int_equal(a.owners, OWNERS_HELD);
    assert_true(a.pid > c.pid);
    close(c.control);
    assert_true(WAIT_UNTIL(is_over(a.pid)));
    check_answer(&s, OWNERS_ALONE, 0);
    drop_subject(&s);
}

// So many descriptors lie between the two places that a scan takes as long as several moves.
static void fill_table(void)
{
    for (int fd = 20; fd < 300; fd++) dup2(STDIN_FILENO, fd);
}

// In the process namespace of another process: a child of ours goes there and leaves an orphan, which becomes
// the child of a process that is older than the socket.
static int elsewhere_ns;

static void leaves_an_orphan_elsewhere(const struct subject *s, int control)
{
    int closed[2];
    if (setns(elsewhere_ns, CLONE_NEWPID) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, closed))
        _exit(1);
    if (fork()) {
        close(s->fd);
        say(closed[0]);
        pause();
    }
    if (fork()) _exit(0);
    while (getppid() != 1) sched_yield();
    hear(closed[1]);
    moves_it_away(s, control);
}

static void an_orphan_in_another_namespace_holds_it(void **state)
{
    (void)state;
    int pipes[2], status;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t maker = fork(), init = 0;
    if (!maker) {
        if (unshare(CLONE_NEWPID)) _exit(1);
        init = fork();
        if (!init) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            signal(SIGCHLD, SIG_IGN);
            for (;;) pause();
        }
        write(pipes[1], &init, sizeof init);
        for (;;) pause();
    }
    assert_int_equal(read(pipes[0], &init, sizeof init), sizeof init);
    uint64_t then = now_ms();
    assert_true(WAIT_UNTIL(now_ms() > then + 2ull * TICK_MS));
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)init);
    elsewhere_ns = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(elsewhere_ns >= 0);
    struct subject s = make_subject();
    struct child c = start_child(leaves_an_orphan_elsewhere, &s);
    struct owners_answer a = prove_within(&s, AMPLE_US);
    assert_int_equal(a.owners, OWNERS_HELD);
    assert_true(a.pid != c.pid);
    end_child(&c);
    kill(maker, SIGKILL);
    waitpid(maker, &status, 0);
    close(elsewhere_ns), close(pipes[0]), close(pipes[1]);
    drop_subject(&s);
}

static void moves_without_end(const struct subject *s, int control)
{
    int at = s->fd, to = 300;
    fill_table();
    say(control);
    for (;;) {
        dup2(at, to);
        close(at);
        at = to;
        to = to == 300 ? 10 : 300;
    }
}

static void moves_now_and_then(const struct subject *s, int control)
{
    const struct timespec pause = {.tv_nsec = 1000};
    int at = s->fd, to = 300;
    fill_table();
    say(control);
    for (;;) {
        dup2(at, to);
        close(at);
        at = to;
        to = to == 300 ? 10 : 300;
        nanosleep(&pause, NULL);
    }
}

// Each move is by a new process, which the one before leaves behind: like a process that flees from the scan.
static void flees(const struct subject *s, int control)
{
    dup2(s->fd, 300);
    close(s->fd);
    say(control);
    for (;;) {
        pid_t pid = fork();
        if (pid < 0) _exit(1);
        if (pid) _exit(0);
        struct pollfd p = {.fd = control};
        if (poll(&p, 1, 0) > 0) _exit(0); // the other end is closed
    }
}

static void never_alone_beside(role *play, int times)
{
    struct subject s = make_subject();
    struct child c = start_child(play, &s);
    int found = 0;
    for (int i = 0; i < times; i++) {
        struct owners_answer a = prove_within(&s, 3000);
        if (a.owners == OWNERS_ALONE) fail_msg("alone, in trial %d", i);
        found += a.owners == OWNERS_HELD;
    }
    assert_true(found > 0);
    end_child(&c);
    drop_subject(&s);
}

// hazard 25: dup2, then close, while the scan reads it
static void a_child_moves_its_descriptor(void **state)
{
    (void)state;
    never_alone_beside(moves_without_end, 100);
    never_alone_beside(moves_now_and_then, 300);
}

static void a_process_flees_through_forks(void **state)
{
    (void)state;
    never_alone_beside(flees, 200);
}

static void a_busy_child_proves_nothing(void **state)
{
    (void)state;
    struct subject s = make_subject();
    struct child c = start_child(closes_and_spins, &s);
    struct owners_answer a = prove_within(&s, 20000);
    assert_int_equal(a.owners, OWNERS_UNKNOWN);
    assert_int_equal(a.pid, c.pid);
    assert_true(a.took_us >= 20000);
    end_child(&c);
    drop_subject(&s);
}

static void an_older_process_is_left_out(void **state)
{
    (void)state;
    struct subject none = {.fd = -1};
    uint64_t before = now_ms();
    struct child c = start_child(closes_and_spins, &none);
    uint64_t then = now_ms();
    assert_true(WAIT_UNTIL(now_ms() > then + 2ull * TICK_MS));
    struct subject s = make_subject();
    check_answer(&s, OWNERS_ALONE, 0);
    s.since_ms = before; // now it is younger
    assert_int_equal(prove_within(&s, 20000).owners, OWNERS_UNKNOWN);
    end_child(&c);
    drop_subject(&s);
}

// Two threads of a child. What each table holds is said by the role.
static pthread_barrier_t parted;

static void *keeps_a_table(void *arg)
{
    const struct subject *s = arg;
    unshare(CLONE_FILES);
    dup2(s->fd, 301);
    close(s->fd);
    pthread_barrier_wait(&parted);
    pause();
    return NULL;
}

static void holds_it_in_a_thread(const struct subject *s, int control)
{
    pthread_t t;
    pthread_barrier_init(&parted, NULL, 2);
    pthread_create(&t, NULL, keeps_a_table, (void *)s);
    pthread_barrier_wait(&parted);
    close(s->fd);
    holds(s, control);
}

static void *answers(void *arg)
{
    int control = *(int *)arg;
    while (process_state(getpid()) != 'Z') sched_yield();
    say(control);
    hear(control);
    return NULL;
}

static void lives_on_without_its_first_thread(const struct subject *s, int control)
{
    static int kept;
    pthread_t t;
    (void)s;
    kept = control;
    pthread_create(&t, NULL, answers, &kept);
    pthread_exit(NULL);
}

static void check_other_tables(void)
{
    struct subject s = make_subject();
    struct child c = start_child(holds_it_in_a_thread, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    end_child(&c);
    c = start_child(lives_on_without_its_first_thread, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    end_child(&c);
    check_answer(&s, OWNERS_ALONE, 0);
    drop_subject(&s);
}

static void other_tables_of_other_processes(void **state)
{
    (void)state;
    check_other_tables();
}

struct parted_thread {
    struct subject s;
    int control;
    bool spins;
};

static void *keeps_then_closes(void *arg)
{
    struct parted_thread *p = arg;
    unshare(CLONE_FILES);
    dup2(p->s.fd, 302);
    close(p->s.fd);
    say(p->control);
    hear(p->control);
    close(302);
    say(p->control);
    while (p->spins) continue;
    hear(p->control);
    return NULL;
}

static void check_own_tables(void)
{
    int control[2];
    pthread_t t;
    struct parted_thread p = {.s = make_subject()};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
    p.control = control[1];
    assert_int_equal(pthread_create(&t, NULL, keeps_then_closes, &p), 0);
    assert_true(hear(control[0]));
    check_answer(&p.s, OWNERS_HELD, getpid());
    say(control[0]);
    assert_true(hear(control[0]));
    check_answer(&p.s, OWNERS_ALONE, 0);
    say(control[0]);
    pthread_join(t, NULL);
    close(control[0]), close(control[1]);
    drop_subject(&p.s);
}

// hazard 6
static void own_threads_with_tables_of_their_own(void **state)
{
    (void)state;
    check_own_tables();
}

// Runs under a filter that kills for a kcmp, as those of some sandboxes do.
static void forbids_kcmp(const struct subject *unused, int control)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kcmp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    (void)unused;
    say(control);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(3);
    check_own_tables();
    check_other_tables();
    struct subject s = make_subject();
    struct child c = start_child(holds_then_closes, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    tell(&c);
    check_answer(&s, OWNERS_ALONE, 0);
    end_child(&c);
}

static int status_of(struct child *c)
{
    int status = -1;
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    close(c->control);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void where_kcmp_is_forbidden(void **state)
{
    (void)state;
    struct child c = start_child(forbids_kcmp, NULL);
    assert_int_equal(status_of(&c), 0);
}

static void keeps_an_epoll_set(const struct subject *s, int control)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &e);
    close(s->fd);
    holds(s, control);
}

static void closes(const struct subject *s, int control)
{
    close(s->fd);
    holds(s, control);
}

static void epoll_sets_hold_it_too(void **state)
{
    (void)state;
    struct subject s = make_subject();
    struct child c = start_child(keeps_an_epoll_set, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    end_child(&c);
    // A set that the child has from us: it is taken out of that one here.
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN};
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, s.fd, &e), 0);
    c = start_child(closes, &s);
    check_answer(&s, OWNERS_ALONE, 0);
    // The same set, but under another number than ours: not to be told from a set of its own.
    int twin = fcntl(set, F_DUPFD_CLOEXEC, 50);
    close(set);
    check_answer(&s, OWNERS_HELD, c.pid);
    end_child(&c);
    close(twin);
    drop_subject(&s);
}

static void registers_it(const struct subject *s, int control)
{
    struct io_uring_params p = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &p);
    if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, &s->fd, 1) < 0) _exit(0);
    closes(s, control);
}

static void registered_io_uring_files_hold_it(void **state)
{
    (void)state;
    struct io_uring_params p = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 4, &p);
    if (ring < 0) {
        print_message("         skipped: no io_uring (%s)\n", strerror(errno));
        skip();
    }
    close(ring);
    struct subject s = make_subject();
    struct child c = start_child(registers_it, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    end_child(&c);
    drop_subject(&s);
}

static void become_nobody(void)
{
    if (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)) _exit(9);
}

// A process that forks a child whenever it is told to; the child lives as long as it does.
static void nurses(const struct subject *s, int control)
{
    (void)s;
    say(control);
    while (hear(control)) {
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            say(control);
            for (;;) pause();
        }
    }
}

static struct child nurse; // older than any socket of the next role

static void asks_as_nobody(const struct subject *unused, int control)
{
    (void)unused;
    struct subject s = make_subject();
    struct child roots = start_child(closes, &s);
    say(control);
    hear(control);
    become_nobody();
    check_answer(&s, OWNERS_HELD, roots.pid); // it does not, but who is to know
    say(control);
    hear(control);
    close(roots.control);
    assert_int_equal(waitpid(roots.pid, NULL, 0), roots.pid);
    check_answer(&s, OWNERS_ALONE, 0);
    tell(&nurse); // a young process of root's that is no child of ours
    check_answer(&s, OWNERS_ALONE, 0);
    // One that changed its user like us is not to be looked into either: it would be root's to look at.
    struct child ours = start_child(holds, &s);
    check_answer(&s, OWNERS_HELD, ours.pid);
    end_child(&ours);
}

// hazard 25: a process whose descriptors can't be read counts as a holder if it could hold it
static void processes_that_cannot_be_read(void **state)
{
    (void)state;
    if (!is_root) {
        print_message("         skipped: not root\n");
        skip();
    }
    nurse = start_child(nurses, NULL);
    uint64_t then = now_ms();
    assert_true(WAIT_UNTIL(now_ms() > then + 2ull * TICK_MS));
    struct child c = start_child(asks_as_nobody, NULL);
    tell(&c);
    say(c.control);
    assert_int_equal(status_of(&c), 0);
    end_child(&nurse);
}

static void asks_about_its_parents(const struct subject *s, int control)
{
    struct subject ours = *s;
    ours.fd = dup2(s->fd, 300); // not under the number that the parent has
    close(s->fd);
    say(control);
    check_answer(&ours, OWNERS_HELD, getppid());
}

// A child that takes the socket for its own does not cut it off its parent, which is older.
static void a_parent_holds_it(void **state)
{
    (void)state;
    struct subject s = make_subject();
    assert_true(WAIT_UNTIL(now_ms() > s.since_ms + 2ull * TICK_MS));
    struct child c = start_child(asks_about_its_parents, &s);
    assert_int_equal(status_of(&c), 0);
    drop_subject(&s);
}

// Runs the question in a mount namespace in which prepare has changed /proc.
static struct owners_answer elsewhere;

static void ask_with(int (*prepare)(void), enum owners expected)
{
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || prepare()) _exit(1);
        struct subject s = make_subject();
        elsewhere = prove_within(&s, AMPLE_US);
        write(pipes[1], &elsewhere, sizeof elsewhere);
        _exit(0);
    }
    close(pipes[1]);
    ssize_t n = read(pipes[0], &elsewhere, sizeof elsewhere);
    close(pipes[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    if (n != sizeof elsewhere)
        print_message("         left out: no such /proc can be made here\n");
    else if (elsewhere.owners != expected)
        fail_msg("owners %d, not %d", elsewhere.owners, expected);
}

static int no_proc(void)
{
    return umount2("/proc", MNT_DETACH);
}

static int proc_that_hides(void)
{
    return mount("proc", "/proc", "proc", 0, "hidepid=2");
}

static int proc_with_processes_only(void)
{
    return mount("proc", "/proc", "proc", 0, "subset=pid");
}

static int file_system_that_is_no_proc(void)
{
    return mount("none", "/proc", "tmpfs", 0, NULL);
}

// lxcfs puts a file of its own there, which is renewed now and then.
static int load_that_is_not_the_kernels(void)
{
    char path[] = "/tmp/preclose-loadavg-XXXXXX";
    const char load[] = "0.00 0.00 0.00 1/1 5\n";
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, load, sizeof load - 1) < 0) return -1;
    int ret = mount(path, "/proc/loadavg", NULL, MS_BIND, NULL);
    umount2(path, MNT_DETACH);
    unlink(path);
    close(fd);
    return ret;
}

// The /proc of the parent's namespace: its numbers are not ours.
static int proc_of_another_namespace(void)
{
    if (unshare(CLONE_NEWPID)) return -1;
    pid_t pid = fork();
    if (pid > 0) {
        int status;
        waitpid(pid, &status, 0);
        _exit(0);
    }
    return pid;
}

static int proc_as_it_is(void)
{
    return 0;
}

static void a_proc_that_does_not_show_everything(void **state)
{
    (void)state;
    ask_with(proc_as_it_is, OWNERS_ALONE);
    ask_with(no_proc, OWNERS_UNKNOWN);
    ask_with(proc_that_hides, OWNERS_UNKNOWN);
    ask_with(proc_with_processes_only, OWNERS_UNKNOWN);
    ask_with(file_system_that_is_no_proc, OWNERS_UNKNOWN);
    ask_with(load_that_is_not_the_kernels, OWNERS_UNKNOWN);
    ask_with(proc_of_another_namespace, OWNERS_UNKNOWN);
}

static bool send_one(int sv[2])
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    union {
        char bytes[CMSG_SPACE(sizeof fd)];
        struct cmsghdr header;
    } c = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)}};
    struct iovec iov = {"x", 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof c.bytes};
    memcpy(CMSG_DATA(&c.header), &fd, sizeof fd);
    bool sent = !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) && sendmsg(sv[0], &m, 0) == 1;
    close(fd);
    return sent;
}

static void sends_one_to_itself(const struct subject *s, int control)
{
    int sv[2];
    close(s->fd);
    say(control);
    hear(control);
    if (!send_one(sv)) _exit(1);
    holds(s, control);
}

// The question, for this file's own copy of the room.
static struct search *ask(const struct subject *s)
{
    struct search *q = mmap(NULL, sizeof *q, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(q, MAP_FAILED);
    *q = (struct search){
        .fd = (unsigned)s->fd,
        .proc = open("/proc", O_DIRECTORY | O_RDONLY | O_CLOEXEC),
        .load = open("/proc/loadavg", O_RDONLY | O_CLOEXEC),
        .self = (unsigned)getpid(),
        .caller = (unsigned)getpid(),
        .since_ms = s->since_ms,
        .leaked = s->leaked || !s->since_ms,
        .kcmp = true,
    };
    procfs_limit(&q->limit, AMPLE_US);
    snprintf(q->link, sizeof q->link, "socket:[%lu]", (unsigned long)s->inode);
    snprintf(q->epolled, sizeof q->epolled, " ino:%lx sdev:", (unsigned long)s->inode);
    return q;
}

static void drop(struct search *q)
{
    close(q->proc), close(q->load);
    munmap(q, sizeof *q);
}

// For one process (0: this one) only.
static enum verdict verdict_of(const struct subject *s, pid_t pid)
{
    struct search *q = ask(s);
    enum verdict v = pid ? look_into(q, (unsigned)pid) : look_into_ourselves(q);
    drop(q);
    return v;
}

static void forks_without_end(const struct subject *s, int control)
{
    (void)s;
    say(control);
    for (struct pollfd p = {.fd = control}; poll(&p, 1, 0) == 0;) {
        pid_t pid = fork();
        if (!pid) _exit(0);
        if (pid > 0) waitpid(pid, NULL, 0);
    }
}

// Whenever one looks, a process is being born.
static void proven_while_others_fork(void **state)
{
    (void)state;
    struct subject none = {.fd = -1};
    struct child c[4];
    for (size_t i = 0; i < 4; i++) c[i] = start_child(forks_without_end, &none);
    uint64_t started = now_ms();
    assert_true(WAIT_UNTIL(now_ms() > started + 20)); // older by more than a tick
    struct subject s = make_subject();
    int at_once = 0;
    for (int i = 0; i < 100; i++) {
        struct search *q = ask(&s);
        enum verdict v = look_at_everyone(q);
        assert_true(v == CLEAN || v == BUSY); // other processes of the machine may be met at work now and then
        at_once += v == CLEAN;
        drop(q);
    }
    assert_true(at_once >= 50);
    for (size_t i = 0; i < 4; i++) end_child(&c[i]);
    drop_subject(&s);
}

// Whoever gets the message may find the socket in it: of no weight for one that only fork has shared.
static void inherited_and_perhaps_in_flight(void **state)
{
    (void)state;
    struct subject s = make_subject();
    struct child c = start_child(sends_one_to_itself, &s);
    struct subject inherited = s;
    inherited.since_ms = 0;
    assert_true(WAIT_UNTIL(verdict_of(&inherited, c.pid) == CLEAN)); // when it waits for us
    tell(&c);
    assert_true(WAIT_UNTIL(verdict_of(&inherited, c.pid) == UNPROVEN));
    assert_true(WAIT_UNTIL(verdict_of(&s, c.pid) == CLEAN));
    assert_int_not_equal(prove_within(&inherited, AMPLE_US).owners, OWNERS_ALONE);
    check_answer(&s, OWNERS_ALONE, 0);
    end_child(&c);
    int sv[2];
    assert_int_equal(verdict_of(&inherited, 0), CLEAN);
    assert_true(send_one(sv));
    assert_int_equal(verdict_of(&inherited, 0), UNPROVEN);
    assert_int_equal(verdict_of(&s, 0), CLEAN);
    close(sv[0]), close(sv[1]);
    drop_subject(&s);
}

// Messages with descriptors, between the test and a process that is older than the socket.
static int channel[2];

static void send_to(int over, int fd)
{
    char control[CMSG_SPACE(sizeof fd)] __attribute__((aligned(8))) = {0};
    struct iovec iov = {"x", 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    assert_int_equal(sendmsg(over, &m, 0), 1);
}

static int take_from(int over)
{
    int fd = -1;
    char byte, control[CMSG_SPACE(sizeof fd)] __attribute__((aligned(8)));
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(over, &m, 0) == 1 && CMSG_FIRSTHDR(&m)) memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static void takes_one_then_closes(const struct subject *s, int control)
{
    int fd;
    (void)s;
    say(control);
    hear(control);
    dup2(fd = take_from(channel[1]), 300);
    close(fd);
    say(control);
    hear(control);
    close(300);
    for (;;) {
        say(control);
        hear(control);
    }
}

// A program that a child ran has given it to a process that was there before.
static void leaked_and_passed_to_an_elder(void **state)
{
    (void)state;
    struct subject none = {.fd = -1};
    struct child busy = start_child(closes_and_spins, &none);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
    struct child elder = start_child(takes_one_then_closes, &none);
    close(channel[1]);
    uint64_t then = now_ms();
    assert_true(WAIT_UNTIL(now_ms() > then + 2ull * TICK_MS));
    struct subject s = make_subject(), leaked = s;
    leaked.leaked = true;
    check_answer(&leaked, OWNERS_ALONE, 0); // whatever the busy one does
    send_to(channel[0], s.fd);
    check_answer(&leaked, OWNERS_UNKNOWN, elder.pid); // in its queue
    check_answer(&s, OWNERS_ALONE, 0);
    tell(&elder);
    check_answer(&leaked, OWNERS_HELD, elder.pid);
    check_answer(&s, OWNERS_ALONE, 0);
    tell(&elder);
    check_answer(&leaked, OWNERS_ALONE, 0);
    end_child(&elder);
    end_child(&busy);
    close(channel[0]);
    drop_subject(&s);
}

// To the process that asks.
static void leaked_and_passed_to_ourselves(void **state)
{
    (void)state;
    struct subject s = make_subject();
    s.leaked = true;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, channel), 0);
    send_to(channel[0], s.fd);
    check_answer(&s, OWNERS_UNKNOWN, getpid());
    int twin = take_from(channel[1]);
    check_answer(&s, OWNERS_HELD, getpid());
    close(twin);
    check_answer(&s, OWNERS_ALONE, 0);
    close(channel[0]), close(channel[1]);
    drop_subject(&s);
}

static void asks_as_nobody_for_a_leaked_one(const struct subject *unused, int control)
{
    (void)unused;
    struct subject s = make_subject();
    s.leaked = true;
    say(control);
    hear(control);
    become_nobody();
    check_answer(&s, OWNERS_ALONE, 0);
}

// Elsewhere each process of another user would stand in the way.
static void leaked_and_an_elder_that_cannot_be_read(void **state)
{
    (void)state;
    if (!is_root) {
        print_message("         skipped: not root\n");
        skip();
    }
    struct subject none = {.fd = -1};
    struct child elder = start_child(holds, &none);
    uint64_t then = now_ms();
    assert_true(WAIT_UNTIL(now_ms() > then + 2ull * TICK_MS));
    struct child c = start_child(asks_as_nobody_for_a_leaked_one, NULL);
    say(c.control);
    assert_int_equal(status_of(&c), 0);
    end_child(&elder);
}

// Outside of the first process namespace somebody unseen may hold it, whoever else does not.
static void inherited_in_a_namespace(void **state)
{
    (void)state;
    struct subject s = make_subject();
    s.since_ms = 0;
    check_answer(&s, OWNERS_UNKNOWN, 0);
    struct child c = start_child(moves_it_away, &s);
    check_answer(&s, OWNERS_HELD, c.pid);
    end_child(&c);
    drop_subject(&s);
}

static void no_time_no_trace(void **state)
{
    (void)state;
    struct subject s = make_subject();
    int before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(before);
    assert_int_equal(prove_within(&s, 0).owners, OWNERS_UNKNOWN);
    check_answer(&s, OWNERS_ALONE, 0);
    s.inode = 0;
    assert_int_equal(prove_within(&s, AMPLE_US).owners, OWNERS_UNKNOWN);
    int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(before, after);
    close(after);
    drop_subject(&s);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_else),
        cmocka_unit_test(a_child_holds_it_until_it_closes),
        cmocka_unit_test(a_zombie_holds_nothing),
        cmocka_unit_test(a_grandchild_holds_it),
        cmocka_unit_test(an_orphan_holds_it),
        cmocka_unit_test(an_orphan_in_another_namespace_holds_it),
        cmocka_unit_test(a_child_moves_its_descriptor),
        cmocka_unit_test(a_process_flees_through_forks),
        cmocka_unit_test(a_busy_child_proves_nothing),
        cmocka_unit_test(an_older_process_is_left_out),
        cmocka_unit_test(other_tables_of_other_processes),
        cmocka_unit_test(own_threads_with_tables_of_their_own),
        cmocka_unit_test(where_kcmp_is_forbidden),
        cmocka_unit_test(epoll_sets_hold_it_too),
        cmocka_unit_test(registered_io_uring_files_hold_it),
        cmocka_unit_test(processes_that_cannot_be_read),
        cmocka_unit_test(a_parent_holds_it),
        cmocka_unit_test(a_proc_that_does_not_show_everything),
        cmocka_unit_test(proven_while_others_fork),
        cmocka_unit_test(inherited_and_perhaps_in_flight),
        cmocka_unit_test(inherited_in_a_namespace),
        cmocka_unit_test(leaked_and_passed_to_an_elder),
        cmocka_unit_test(leaked_and_passed_to_ourselves),
        cmocka_unit_test(leaked_and_an_elder_that_cannot_be_read),
        cmocka_unit_test(no_time_no_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static int status_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// The first process of the namespace: takes in orphans, and ends with the tests.
static int take_in_orphans(void)
{
    int status = 1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", 0, NULL)) {
        print_message("test_owners: skipped: no /proc of its own (%s)\n", strerror(errno));
        return 0;
    }
    pid_t tests = fork(), pid;
    if (!tests) exit(run());
    while ((pid = wait(&status)) != tests && pid > 0) continue;
    return status_code(status);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    if (!f) return;
    fputs(text, f);
    fclose(f);
}

// The next child gets a process namespace; a user who is not root needs one of users for that.
static bool leave_namespace(void)
{
    char map[64];
    snprintf(map, sizeof map, "0 %d 1", (int)geteuid());
    if (!unshare(CLONE_NEWPID | CLONE_NEWNS)) return true;
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)) return false;
    write_file("/proc/self/uid_map", map);
    return true;
}

int main(void)
{
    int status;
    is_root = !geteuid();
    if (!leave_namespace()) {
        print_message("test_owners: skipped: no process namespace of its own (%s)\n", strerror(errno));
        return 0;
    }
    pid_t init = fork();
    if (!init) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(take_in_orphans());
    }
    waitpid(init, &status, 0);
    return status_code(status);
}
