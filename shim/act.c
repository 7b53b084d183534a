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
    if (v->action == ACTION_NONE) return true;
    bool both = v->action == ACTION_SHUTDOWN || v->shut_both;
    sys_call(SYS_shutdown, fd, both ? SHUT_RDWR : SHUT_RD, 0);
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    return !v->disconnect || sys_call(SYS_connect, fd, (long)&unspec, sizeof unspec) != -EBUSY;
}
