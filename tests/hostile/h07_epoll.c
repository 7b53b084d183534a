// beside: after hook
// Hazard 7: a thread in epoll_wait never receives an event for a socket that the program closes. However the socket
// came into the set, however the set came here, and even if another thread closes it before epoll_ctl has returned.
#include "hostile.h"

#include <sys/eventfd.h>

enum { ROUNDS = 1500 };

static int set, outer = -1, fence;
static _Atomic unsigned phantoms;
static _Atomic bool over;

static void *wait_for_events(void *arg)
{
    struct epoll_event e[8];
    for (int on = outer >= 0 ? outer : set; !atomic_load(&over);) {
        int n = epoll_wait(on, e, 8, -1);
        for (int i = 0; i < n; i++) {
            if (e[i].data.u64 == UINT64_MAX) atomic_store(&over, true);
            else atomic_fetch_add(&phantoms, 1);
        }
    }
    return arg;
}

static void add(int to, int fd, uint64_t what, uint32_t flags)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | flags, .data.u64 = what};
    must(epoll_ctl(to, EPOLL_CTL_ADD, fd, &e));
}

static pthread_t start_waiting(void)
{
    fence = must(eventfd(0, EFD_CLOEXEC));
    add(outer >= 0 ? outer : set, fence, UINT64_MAX, 0);
    return start_thread(wait_for_events, NULL);
}

// No event was on its way when the fence was crossed.
static void end_waiting(pthread_t t)
{
    uint64_t one = 1;
    must(write(fence, &one, sizeof one));
    pthread_join(t, NULL);
    if (atomic_load(&phantoms)) fail("%u events for sockets that were closed", atomic_load(&phantoms));
}

static void let_go(int fd, unsigned route)
{
    FILE *f;
    switch (route % 5) {
    case 0:
        must(close(fd));
        break;
    case 1:
        must(dup2(STDIN_FILENO, fd));
        raw_close(fd);
        break;
    case 2:
        must(close_range((unsigned)fd, (unsigned)fd, 0));
        break;
    case 3:
        f = fdopen(fd, "r");
        expect(f && !fclose(f));
        break;
    default:
        must(syscall(SYS_close, fd));
    }
}

static void connected(int sv[2], unsigned i)
{
    if (i % 8) pair(sv);
    else tcp_pair(sv);
}

static void plain(long flags)
{
    set = must(flags & 1 ? epoll_create(1) : epoll_create1(EPOLL_CLOEXEC));
    pthread_t t = start_waiting();
    for (unsigned i = 0; i < ROUNDS; i++) {
        int sv[2];
        connected(sv, i);
        add(set, sv[0], i, (uint32_t)flags & ~1u);
        let_go(sv[0], i);
        must(close(sv[1]));
    }
    end_waiting(t);
}

static void by_number(long arg)
{
    (void)arg;
    set = must(syscall(SYS_epoll_create1, 0));
    pthread_t t = start_waiting();
    for (unsigned i = 0; i < ROUNDS; i++) {
        int sv[2];
        connected(sv, i);
        struct epoll_event e = {.events = EPOLLIN, .data.u64 = i};
        must(syscall(SYS_epoll_ctl, set, EPOLL_CTL_ADD, sv[0], &e));
        let_go(sv[0], i);
        must(close(sv[1]));
    }
    end_waiting(t);
}

// A set within a set; the socket in two sets; a duplicated set whose first descriptor is closed.
static void several(long arg)
{
    (void)arg;
    int first = must(epoll_create1(0)), other = must(epoll_create1(0));
    set = must(dup(first));
    outer = must(epoll_create1(0));
    add(outer, first, 1, EPOLLET);
    add(outer, other, 2, EPOLLET);
    must(dup2(set, first));
    pthread_t t = start_waiting();
    for (unsigned i = 0; i < ROUNDS; i++) {
        int sv[2];
        connected(sv, i);
        add(i & 1 ? first : set, sv[0], i, 0);
        add(other, sv[0], i, 0);
        let_go(sv[0], i);
        must(close(sv[1]));
    }
    end_waiting(t);
}

// Added under a number that is gone when the socket is closed under another: it can't be taken out.
static void lost_key(long arg)
{
    (void)arg;
    set = must(epoll_create1(0));
    pthread_t t = start_waiting();
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        int sv[2];
        connected(sv, i);
        add(set, sv[0], i, 0);
        int d = must(dup(sv[0]));
        must(close(sv[0]));
        let_go(d, i);
        // sv[1] stays open: its close would be an event that the program causes itself
    }
    end_waiting(t);
}

// A set that the library has not seen made: received, or made past it.
static void strange_set(long how)
{
    int over_it[2];
    pair(over_it);
    int made = how ? (int)raw(SYS_epoll_create1, 0, 0, 0) : must(epoll_create1(0));
    if (how) {
        set = made;
    } else {
        char byte = 's', control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
        struct iovec part = {&byte, 1};
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(c), &made, sizeof made);
        must(sendmsg(over_it[0], &m, 0));
        must(close(made));
        must(recvmsg(over_it[1], &m, 0));
        memcpy(&set, CMSG_DATA(c), sizeof set);
    }
    pthread_t t = start_waiting();
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        int sv[2];
        connected(sv, i);
        add(set, sv[0], i, 0);
        let_go(sv[0], i);
    }
    end_waiting(t);
}

// The set is the child's too, and the child waits on it.
static void forked_set(long arg)
{
    (void)arg;
    set = must(epoll_create1(0));
    pid_t pid = must(fork());
    if (!pid) {
        pthread_t t = start_waiting();
        pthread_join(t, NULL);
        if (atomic_load(&phantoms)) fail("%u events in the child", atomic_load(&phantoms));
        _exit(0);
    }
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        int sv[2];
        connected(sv, i);
        add(set, sv[0], i, 0);
        let_go(sv[0], i);
    }
    fence = must(eventfd(1, 0));
    add(set, fence, UINT64_MAX, 0);
    reap(pid, "the child", DEADLINE_MS);
}

// --- epoll_ctl has added the socket, and has not returned: another thread gets its event and closes it ---

static _Atomic int victim = -1;
static unsigned route;

static void *close_victim(void *arg)
{
    let_go(victim, route);
    return arg;
}

static void after_epoll_ctl(const char *call, int ret)
{
    if (victim < 0 || strcmp(call, "epoll_ctl") || ret < 0) return;
    pthread_t t = start_thread(close_victim, NULL);
    pthread_join(t, NULL);
    victim = -1;
}

static void closed_meanwhile(long arg)
{
    (void)arg;
    void (**hook)(const char *, int);
    *(void **)(void *)&hook = dlsym(RTLD_DEFAULT, "beside_after");
    if (!hook) skip("beside/hook.so is not preloaded");
    set = must(epoll_create1(0));
    pthread_t t = start_waiting();
    *hook = after_epoll_ctl;
    for (unsigned i = 0; i < 50; i++) {
        int sv[2];
        connected(sv, i);
        route = i;
        victim = sv[0];
        add(set, sv[0], i, 0);
        expect(victim == -1);
    }
    *hook = NULL;
    end_waiting(t);
}

int main(void)
{
    need_library();
    in_child("epoll_create1", 20000, plain, 0);
    in_child("epoll_create, edge-triggered", 20000, plain, 1 | (long)EPOLLET);
    in_child("one shot", 20000, plain, EPOLLONESHOT);
    in_child("by number", 20000, by_number, 0);
    in_child("several sets", 20000, several, 0);
    in_child("the key is gone", 20000, lost_key, 0);
    in_child("a set that was received", 20000, strange_set, 0);
    in_child("a set that was made unseen", 20000, strange_set, 1);
    in_child("a set shared by fork", 20000, forked_set, 0);
    in_child("closed before epoll_ctl returned", 20000, closed_meanwhile, 0);
    return 0;
}
