#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aside.h"
#include "sys.h"

static __thread int local = 5;

struct look {
    int given;   // a descriptor of the program's
    long seen;   // what F_GETFD says of it aside
    long opened; // the first number to be had there
    long tid;
    int local;
    char deepest; // from far down the stack
};

static void look(void *arg)
{
    struct look *l = arg;
    char deep[6000];
    memset(deep, l->given, sizeof deep);
    l->deepest = deep[sizeof deep - 1];
    l->seen = sys_call(SYS_fcntl, l->given, F_GETFD, 0);
    l->opened = sys_call4(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDONLY, 0);
    l->tid = sys_call(SYS_gettid, 0, 0, 0);
    l->local = ++local;
}

static void a_table_of_its_own(void **state)
{
    (void)state;
    struct look l = {.given = open("/dev/null", O_RDONLY | O_CLOEXEC)};
    assert_true(aside(look, &l));
    assert_int_equal(l.seen, -EBADF);
    assert_int_equal(l.opened, 0);
    assert_int_not_equal(l.tid, gettid());
    assert_int_equal(l.local, 6); // the caller's
    assert_int_equal(local, 6);
    assert_int_equal(fcntl(l.given, F_GETFD), FD_CLOEXEC);
    int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(next, l.given + 1); // nothing was left here
    close(next), close(l.given);
}

static unsigned lines_of(const char *path)
{
    char line[512];
    unsigned n = 0;
    FILE *f = fopen(path, "re");
    while (fgets(line, sizeof line, f)) n++;
    fclose(f);
    return n;
}

static void nothing(void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static void *many(void *count)
{
    for (int i = 0; i < 500; i++)
        if (!aside(nothing, count)) abort();
    return NULL;
}

static void from_threads_at_once(void **state)
{
    (void)state;
    _Atomic unsigned count = 0;
    pthread_t t[4];
    many(&count);
    unsigned before = lines_of("/proc/self/maps");
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, many, &count), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    many(&count);
    assert_int_equal(count, 6 * 500);
#ifndef __SANITIZE_THREAD__ // which maps memory of its own as threads come and go
    assert_true(lines_of("/proc/self/maps") < before + 40); // the threads' own stacks and arenas
#else
    (void)before;
#endif
}

// In a child: a filter of system calls that kills for a clone, as some sandboxes have.
static void where_a_filter_is(void **state)
{
    (void)state;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    _Atomic unsigned count = 0;
    assert_true(aside(nothing, &count));
    pid_t pid = fork();
    if (!pid) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) _exit(3);
        _exit(aside(nothing, &count) || aside_unfiltered() || count != 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    if (!aside_unfiltered()) {
        printf("skip: runs under a filter of system calls\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_of_its_own),
        cmocka_unit_test(from_threads_at_once),
        cmocka_unit_test(where_a_filter_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
