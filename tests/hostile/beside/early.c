// A neighbour that is set up before the library and torn down after it, and uses sockets whenever it is called: in its
// constructor and destructor, in handlers of fork and exit, and in destructors of thread data.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

_Atomic unsigned early_ran; // a bit for each place
pthread_mutex_t early_mutex = PTHREAD_MUTEX_INITIALIZER;
int early_pair[2]; // opened before the library was there
static pthread_key_t key;

extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

static void complain(const char *where)
{
    char line[100] = "a neighbour's sockets do not work in ";
    strcat(line, where);
    strcat(line, "\n");
    if (write(STDOUT_FILENO, line, strlen(line)) < 0) _exit(2);
    _exit(1);
}

static void use_sockets(const char *where, unsigned bit)
{
    int sv[2], set = epoll_create1(0);
    char byte;
    struct epoll_event e = {.events = EPOLLIN};
    atomic_fetch_or(&early_ran, 1u << bit);
    if (set < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sv)) complain(where);
    int d = dup(sv[0]), other = dup2(sv[1], 900);
    if (d < 0 || other != 900 || epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &e)) complain(where);
    if (close(sv[0]) || close(sv[1]) || write(d, "x", 1) != 1 || read(other, &byte, 1) != 1) complain(where);
    if (close(d) || read(other, &byte, 1) != 0 || close(other) || close(set)) complain(where);
    errno = 0;
    if (close(other) != -1 || errno != EBADF) complain(where);
}

static void at_exit(void)
{
    use_sockets("an exit handler", 1);
}

static void at_quick(void)
{
    use_sockets("a quick_exit handler", 2);
}

static void before_fork(void)
{
    pthread_mutex_lock(&early_mutex);
    use_sockets("a prepare handler", 3);
}

static void after_fork_parent(void)
{
    use_sockets("a parent handler", 4);
    pthread_mutex_unlock(&early_mutex);
}

static void after_fork_child(void)
{
    pthread_mutex_unlock(&early_mutex);
    use_sockets("a child handler", 5);
}

static void key_destructor(void *fd)
{
    use_sockets("a destructor of thread data", 6);
    if (close((int)(long)fd)) complain("a destructor of thread data");
}

static void thread_local_destructor(void *fd)
{
    use_sockets("a thread_local destructor", 7);
    if (close((int)(long)fd)) complain("a thread_local destructor");
}

// In a thread: sockets that are closed when it ends.
void early_thread(void)
{
    int sv[2], again[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) || socketpair(AF_UNIX, SOCK_STREAM, 0, again)) complain("a thread");
    pthread_setspecific(key, (void *)(long)sv[0]);
    __cxa_thread_atexit_impl(thread_local_destructor, (void *)(long)again[0], &__dso_handle);
    if (close(sv[1]) || close(again[1])) complain("a thread");
}

__attribute__((constructor(101))) static void construct(void)
{
    use_sockets("a constructor", 0);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, early_pair)) complain("a constructor");
    pthread_key_create(&key, key_destructor);
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    atexit(at_exit);
    at_quick_exit(at_quick);
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    if (waitpid(pid, NULL, 0) != pid) complain("a constructor");
}

__attribute__((destructor(101))) static void destruct(void)
{
    use_sockets("a destructor", 8);
    if (close(early_pair[0]) || close(early_pair[1])) complain("a destructor");
    if (getenv("EARLY_SAYS_BYE") && write(STDOUT_FILENO, "bye\n", 4) != 4) _exit(1);
}
