// Hazard 3, at the same moment: one thread closes a number while another duplicates it, sends it or adds it to an epoll
// set. The kernel puts one before the other: a duplicate that was made lives, and a set never shows what is closed.
#include "hostile.h"

enum { MS = 1200 };

static _Atomic int target = -1;
static _Atomic unsigned round_now, done_closing;
static _Atomic bool over;

static void *closer(void *arg)
{
    unsigned seen = 0;
    (void)arg;
    while (!atomic_load(&over)) {
        unsigned r = atomic_load(&round_now);
        if (r == seen) continue;
        seen = r;
        must(close(atomic_load(&target)));
        atomic_store(&done_closing, r);
    }
    return NULL;
}

static int duplicate(int fd, unsigned how)
{
    switch (how % 4) {
    case 0:
        return dup(fd);
    case 1:
        return dup2(fd, 700);
    case 2:
        return fcntl(fd, F_DUPFD_CLOEXEC, 600);
    default:
        return (int)syscall(SYS_dup3, fd, 701, 0);
    }
}

static void linger_a_little(unsigned r)
{
    for (volatile unsigned i = 0; i < r * 37 % 4000; i++) {}
}

static void finish(unsigned made, unsigned cut, const char *what)
{
    if (getenv("HOSTILE_COUNT")) printf("%s: made %u wrong %u\n", what, made, cut), fflush(stdout);
    if (!made) skip("the two threads never met");
    if (cut) fail("%u of %u %s", cut, made, what);
}

static void duplicates(long arg)
{
    int sv[2];
    unsigned made = 0, cut = 0;
    pthread_t t = start_thread(closer, NULL);
    (void)arg;
    int64_t end = now_ms() + MS;
    for (unsigned r = 1; now_ms() < end; r++) {
        pair(sv);
        atomic_store(&target, sv[0]);
        atomic_store(&round_now, r);
        linger_a_little(r);
        int d = duplicate(sv[0], r);
        while (atomic_load(&done_closing) != r) sched_yield();
        if (d >= 0) {
            made++;
            if (peer_sees(sv[1], 0) != '-') cut++;
            must(close(d));
        }
        must(close(sv[1]));
    }
    atomic_store(&over, true);
    pthread_join(t, NULL);
    finish(made, cut, "duplicates that were made before the close took effect were cut by it");
}

static void messages(long arg)
{
    int sv[2], over_[2], got;
    unsigned made = 0, cut = 0;
    char byte = 'm';
    pthread_t t = start_thread(closer, NULL);
    (void)arg;
    pair(over_);
    int64_t end = now_ms() + MS;
    for (unsigned r = 1; now_ms() < end; r++) {
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr h;
        } c = {.h = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
        struct iovec part = {&byte, 1};
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
        pair(sv);
        memcpy(CMSG_DATA(&c.h), &sv[0], sizeof(int));
        atomic_store(&target, sv[0]);
        atomic_store(&round_now, r);
        linger_a_little(r);
        ssize_t sent = sendmsg(over_[0], &m, 0);
        while (atomic_load(&done_closing) != r) sched_yield();
        if (sent == 1) {
            made++;
            if (peer_sees(sv[1], 0) != '-') cut++;
            m.msg_controllen = sizeof c;
            expect(recvmsg(over_[1], &m, 0) == 1);
            memcpy(&got, CMSG_DATA(&c.h), sizeof got);
            must(close(got));
        }
        must(close(sv[1]));
    }
    atomic_store(&over, true);
    pthread_join(t, NULL);
    finish(made, cut, "sockets that were sent before the close took effect were cut by it");
}

static void sets(long arg)
{
    int sv[2];
    unsigned made = 0, phantoms = 0;
    pthread_t t = start_thread(closer, NULL);
    (void)arg;
    int set = must(epoll_create1(EPOLL_CLOEXEC));
    int64_t end = now_ms() + MS;
    for (unsigned r = 1; now_ms() < end; r++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = r};
        pair(sv);
        atomic_store(&target, sv[0]);
        atomic_store(&round_now, r);
        linger_a_little(r);
        bool added = epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &event) == 0;
        if (added && epoll_wait(set, &event, 1, 0) == 1) phantoms++;
        while (atomic_load(&done_closing) != r)
            if (added && epoll_wait(set, &event, 1, 0) == 1) phantoms++;
        if (added) made++;
        must(close(sv[1]));
    }
    atomic_store(&over, true);
    pthread_join(t, NULL);
    finish(made, phantoms, "additions to an epoll set were answered with an event that no peer had made");
}

int main(void)
{
    need_library();
    in_child("a dup at the moment of a close", 10000, duplicates, 0);
    in_child("a sendmsg at the moment of a close", 10000, messages, 0);
    in_child("an epoll_ctl at the moment of a close", 10000, sets, 0);
    return 0;
}
