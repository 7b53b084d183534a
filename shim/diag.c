#include "diag.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>

#include "aside.h"
#include "sys.h"

struct question {
    struct nlmsghdr header;
    struct unix_diag_req unix_socket;
};

union reply {
    struct nlmsghdr header;
    char bytes[256];
};

// The answer is in the queue when send returns: the kernel works on a request in the caller's context
// (net/netlink/af_netlink.c netlink_unicast_kernel). So nothing is waited for.
static long converse_here(const struct question *q, union reply *r)
{
    long fd = sys_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0) return fd;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    long n = sys_call6(SYS_sendto, fd, (long)q, sizeof *q, MSG_DONTWAIT, (long)&kernel, sizeof kernel);
    if (n >= 0) n = sys_call6(SYS_recvfrom, fd, (long)r, sizeof *r, MSG_DONTWAIT, 0, 0);
    sys_call(SYS_close, fd, 0, 0);
    return n;
}

struct conversation {
    const struct question *question;
    union reply *reply;
    long n;
};

static void hold(void *arg)
{
    struct conversation *c = arg;
    c->n = converse_here(c->question, c->reply);
}

static long converse(const struct question *q, union reply *r)
{
    struct conversation c = {.question = q, .reply = r};
    if (!aside(hold, &c)) hold(&c);
    return c.n;
}

// Copies the attribute of this type into value. Returns false if the answer has none of that size.
static bool attribute(const union reply *r, long n, unsigned short type, void *value, size_t size)
{
    long at = NLMSG_LENGTH(sizeof(struct unix_diag_msg));
    if (n < at || r->header.nlmsg_type != SOCK_DIAG_BY_FAMILY) return false;
    while (at + (long)sizeof(struct rtattr) <= n) {
        struct rtattr a;
        memcpy(&a, r->bytes + at, sizeof a);
        if (a.rta_len < sizeof a || at + a.rta_len > n) return false;
        if (a.rta_type == type && a.rta_len >= RTA_LENGTH(size)) {
            memcpy(value, r->bytes + at + RTA_LENGTH(0), size);
            return true;
        }
        at += (long)RTA_ALIGN(a.rta_len);
    }
    return false;
}

static bool ask(uint64_t inode, uint64_t cookie, unsigned show, unsigned short type, void *value, size_t size)
{
    struct question q = {
        .header = {.nlmsg_len = sizeof q, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .unix_socket =
            {
                .sdiag_family = AF_UNIX,
                .udiag_states = UINT32_MAX,
                .udiag_ino = (uint32_t)inode,
                .udiag_show = show,
                .udiag_cookie = {(uint32_t)cookie, (uint32_t)(cookie >> 32)},
            },
    };
    if (!inode || !cookie) return false;
    union reply r = {0};
    long n = converse(&q, &r);
    return attribute(&r, n, type, value, size);
}

int64_t diag_unix_backlog(uint64_t inode, uint64_t cookie)
{
    struct unix_diag_rqlen queue;
    if (!ask(inode, cookie, UDIAG_SHOW_RQLEN, UNIX_DIAG_RQLEN, &queue, sizeof queue)) return -1;
    return queue.udiag_rqueue;
}

int diag_unix_peer_gone(uint64_t inode, uint64_t cookie)
{
    uint32_t peer;
    if (!ask(inode, cookie, UDIAG_SHOW_PEER, UNIX_DIAG_PEER, &peer, sizeof peer)) return -1;
    return peer == 0;
}
