// timeout: 40
// beside: after early plugin
// Hazard 16: calls before the library's constructor and after its destructor, from other libraries' constructors,
// destructors, exit handlers, fork handlers and destructors of thread data, and from modules that come and go. A lock
// that such a handler takes around a fork may be held by a thread that is just closing.
#include "hostile.h"

static _Atomic unsigned *ran;
static pthread_mutex_t *mutex;
static void (*early_thread)(void);
static int *early_pair;

static bool preinit_ok;

// Runs before any constructor.
static void preinit(int argc, char **argv, char **env)
{
    int sv[2];
    (void)argc;
    (void)argv;
    (void)env;
    preinit_ok = !socketpair(AF_UNIX, SOCK_STREAM, 0, sv) && !close(sv[0]) && dup2(sv[1], sv[0]) == sv[0] &&
                 !close(sv[0]) && !close(sv[1]) && close(sv[1]) == -1 && errno == EBADF;
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(int, char **, char **) = preinit;

static void *find(const char *name)
{
    void *at = dlsym(RTLD_DEFAULT, name);
    if (!at) skip("beside/early.so is not preloaded");
    return at;
}

static void find_early(void)
{
    ran = find("early_ran");
    mutex = find("early_mutex");
    early_pair = find("early_pair");
    *(void **)&early_thread = find("early_thread");
}

static void expect_ran(unsigned bits)
{
    if ((atomic_load(ran) & bits) != bits) fail("of the neighbour's places %#x only %#x have run", bits, atomic_load(ran));
}

// A socket that was open before the library was there.
static void opened_early(long arg)
{
    (void)arg;
    expect(both_ways(early_pair[0], early_pair[1]));
    pid_t pid = must(fork());
    if (!pid) {
        must(close(early_pair[0]));
        raw_exit(0);
    }
    reap(pid, "a child", DEADLINE_MS);
    expect(both_ways(early_pair[0], early_pair[1]));
    expect_ran(1u << 0 | 1u << 3 | 1u << 4);
}

static void *run_early_thread(void *arg)
{
    early_thread();
    exercise();
    return arg;
}

static void threads(long arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) pthread_join(start_thread(run_early_thread, NULL), NULL);
    expect_ran(1u << 6 | 1u << 7);
    pthread_t t = start_thread(run_early_thread, NULL);
    pthread_cancel(t);
    pthread_join(t, NULL);
    still_works("threads that closed at their end");
}

static int left[2];

static void at_exit(void)
{
    exercise();
    must(close(left[0]));
    expect(peer_sees(left[1], 1000) == 'e');
}

static void ends(long how)
{
    must(setenv("EARLY_SAYS_BYE", "1", 1));
    int out[2], status;
    must(pipe(out));
    pid_t pid = must(fork());
    if (!pid) {
        pair(left);
        must(dup2(out[1], STDOUT_FILENO));
        atexit(at_exit);
        at_quick_exit(at_exit);
        if (how == 0) exit(0);
        if (how == 1) quick_exit(0);
        if (how == 2) pthread_exit(NULL); // the last thread: the process ends as by exit(0)
        _exit(0);
    }
    must(close(out[1]));
    char said[100] = "";
    ssize_t n = read(out[0], said, sizeof said - 1);
    must(waitpid(pid, &status, 0));
    if (status) fail("ended with status %#x: %.*s", (unsigned)status, n > 0 ? (int)n : 0, said);
    if (how != 1 && how != 3) expect(!strcmp(said, "bye\n"));
}

// A module opens and closes, is gone when that is told, and another takes its place.
static void unloaded(long arg)
{
    (void)arg;
    char path[PATH_MAX];
    const char *preload = getenv("LD_PRELOAD");
    const char *at = preload ? strstr(preload, "plugin.so") : NULL;
    if (!at) skip("beside/plugin.so is not there");
    const char *start = at;
    while (start > preload && start[-1] != ' ' && start[-1] != ':') start--;
    snprintf(path, sizeof path, "%s/plugin.so", scratch());
    char command[2 * PATH_MAX];
    snprintf(command, sizeof command, "cp '%.*s' '%s'", (int)(at - start) + 9, start, path);
    must(system(command));
    for (int i = 0; i < 30; i++) {
        int sv[2], (*open_pair)(int *), (*close_one)(int);
        void *module = dlopen(path, RTLD_NOW);
        if (!module) fail("dlopen: %s", dlerror());
        *(void **)&open_pair = dlsym(module, "plugin_open");
        *(void **)&close_one = dlsym(module, "plugin_close");
        expect(!open_pair(sv));
        struct receiver r;
        start_receiver(&r, sv[0]);
        if (i & 1) must(close_one(sv[0]));
        expect(!dlclose(module));
        void *there = i % 3 == 0 ? mmap(NULL, 1 << 16, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
        if (!(i & 1)) must(close(sv[0])); // told: opened in a module that is not there any more
        errno = 0;
        expect(close(sv[0]) == -1 && errno == EBADF); // told: closed there
        must(close(sv[1]));
        expect(comes_back(&r, DEADLINE_MS));
        if (there) munmap(there, 1 << 16);
    }
}

static _Atomic bool over;

static void *lock_and_close(void *arg)
{
    while (!atomic_load(&over)) {
        pthread_mutex_lock(mutex);
        exercise();
        pthread_mutex_unlock(mutex);
    }
    return arg;
}

// The neighbour's prepare handler was registered first, and so comes last: after what the library does before a fork.
static void lock_around_fork(long arg)
{
    (void)arg;
    pthread_t t[2];
    for (int i = 0; i < 2; i++) t[i] = start_thread(lock_and_close, NULL);
    for (int i = 0; i < 60; i++) {
        pid_t pid = must(fork());
        if (!pid) {
            exercise();
            raw_exit(0);
        }
        reap(pid, "a child", DEADLINE_MS);
    }
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
}

int main(void)
{
    need_library();
    find_early();
    if (!preinit_ok) fail("sockets do not work before the first constructor");
    in_child("opened before the library was there", 10000, opened_early, 0);
    in_child("threads", 10000, threads, 0);
    for (long how = 0; how < 4; how++) in_child("the end", 10000, ends, how);
    in_child("a module that is unloaded", 20000, unloaded, 0);
    in_child("a lock around fork", 20000, lock_around_fork, 0);
    return 0;
}
