#include "act.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "sys.h"

bool act_leave_epoll(int fd, const struct retired *r)
{
    if (r->stuck) return false;
    for (unsigned i = 0; i < r->sets; i++) {
        struct epoll_event unused = {0}; // kernels before 2.6.9 want one
        long ret = sys_call4(SYS_epoll_ctl, r->set[i], EPOLL_CTL_DEL, fd, (long)&unused);
        if (ret < 0) return false; // not in the set of that number: then it is not known which set has it
    }
    return true;
}

bool act(int fd, const struct verdict *v)
{
    if (v->action == ACTION_NONE || v->fin_later) return true;
    bool both = (v->action == ACTION_SHUTDOWN && !v->read_only) || v->shut_both;
    sys_call(SYS_shutdown, fd, v->action == ACTION_DRAIN ? SHUT_WR : both ? SHUT_RDWR : SHUT_RD, 0);
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    return !v->disconnect || sys_call(SYS_connect, fd, (long)&unspec, sizeof unspec) != -EBUSY;
}

// TCP drops bytes without copying them (MSG_TRUNC, tcp(7)). Where a layer above it does not know that, a copy to
// address 0 is EFAULT, and nothing has been taken.
static long drop_some(int fd, int64_t max, bool *copies)
{
    char buffer[1024];
    if (!*copies) {
        long n = sys_call6(SYS_recvfrom, fd, 0, max < 1 << 20 ? (long)max : 1 << 20, MSG_DONTWAIT | MSG_TRUNC, 0, 0);
        if (n != -EFAULT) return n;
        *copies = true;
    }
    return sys_call6(SYS_recvfrom, fd, (long)buffer, max < 1024 ? (long)max : 1024, MSG_DONTWAIT, 0, 0);
}

int64_t act_discard(int fd, enum kind kind, int64_t max, int *end)
{
    bool copies = kind != KIND_TCP && kind != KIND_TCP6;
    int64_t all = 0;
    for (*end = 0; all < max;) {
        long n = drop_some(fd, max - all, &copies);
        if (n > 0) {
            all += n;
            continue;
        }
        *end = n == 0 ? 1 : n == -EAGAIN || n == -EINTR ? 0 : (int)n;
        break;
    }
    return all;
}

void act_stop_sending(int fd)
{
    sys_call(SYS_shutdown, fd, SHUT_WR, 0);
}

void act_stop_receiving(int fd)
{
    sys_call(SYS_shutdown, fd, SHUT_RD, 0);
}
