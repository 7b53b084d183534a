#include "diag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/mman.h>
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

#define DUMP_BYTES 32768 // what the kernel puts into one message at most (net/netlink/af_netlink.c netlink_dump)
#define DUMP_MESSAGES 32
#define BOUND_INACTIVE 13 // TCP_BOUND_INACTIVE (include/net/tcp_states.h): a question only

struct port_question {
    struct nlmsghdr header;
    struct inet_diag_req_v2 tcp;
};

static void copy_address(struct address *a, int family, const uint32_t ip[4], uint16_t port)
{
    *a = (struct address){0};
    if (family == AF_INET) {
        a->len = sizeof a->u.in;
        a->u.in.sin_family = AF_INET;
        a->u.in.sin_port = port;
        a->u.in.sin_addr.s_addr = ip[0];
    } else {
        a->len = sizeof a->u.in6;
        a->u.in6.sin6_family = AF_INET6;
        a->u.in6.sin6_port = port;
        memcpy(&a->u.in6.sin6_addr, ip, sizeof a->u.in6.sin6_addr);
    }
}

static bool is_only6(const char *at, const char *end)
{
    struct rtattr a;
    while (end - at >= (long)sizeof a) {
        memcpy(&a, at, sizeof a);
        if (a.rta_len < sizeof a || a.rta_len > end - at) return false;
        if (a.rta_type == INET_DIAG_SKV6ONLY) return a.rta_len > RTA_LENGTH(0) && at[RTA_LENGTH(0)];
        at += (long)RTA_ALIGN(a.rta_len);
    }
    return false;
}

static void show(const char *at, const char *end, diag_visitor *visit, void *context)
{
    struct inet_diag_msg m;
    if (end - at < (long)sizeof m) return;
    memcpy(&m, at, sizeof m);
    struct diag_socket s = {
        .state = m.idiag_state == BOUND_INACTIVE ? TCP_STATE_CLOSED : (enum tcp_state)m.idiag_state,
        .orphan = !m.idiag_inode,
        .only6 = is_only6(at + NLMSG_ALIGN(sizeof m), end),
        .uid = m.idiag_uid,
        .cookie = m.id.idiag_cookie[0] | (uint64_t)m.id.idiag_cookie[1] << 32,
    };
    copy_address(&s.local, m.idiag_family, m.id.idiag_src, m.id.idiag_sport);
    if (m.id.idiag_dport) copy_address(&s.peer, m.idiag_family, m.id.idiag_dst, m.id.idiag_dport);
    visit(context, &s);
}

// Returns 1: there is more; 0: that was all; -1: the kernel refuses.
static int show_message(const char *at, long n, diag_visitor *visit, void *context)
{
    const char *end = at + n;
    while (end - at >= (long)sizeof(struct nlmsghdr)) {
        struct nlmsghdr h;
        memcpy(&h, at, sizeof h);
        if (h.nlmsg_len < sizeof h || h.nlmsg_len > end - at || h.nlmsg_type == NLMSG_ERROR) return -1;
        if (h.nlmsg_type == NLMSG_DONE) return 0;
        if (h.nlmsg_type == SOCK_DIAG_BY_FAMILY) show(at + NLMSG_HDRLEN, at + h.nlmsg_len, visit, context);
        if (NLMSG_ALIGN(h.nlmsg_len) > (size_t)(end - at)) break;
        at += NLMSG_ALIGN(h.nlmsg_len);
    }
    return 1;
}

// The kernel puts the next part of a dump together when one is read: nothing is waited for here either.
static int read_dump(int fd, char *buffer, diag_visitor *visit, void *context)
{
    for (int i = 0; i < DUMP_MESSAGES; i++) {
        long n = sys_call6(SYS_recvfrom, fd, (long)buffer, DUMP_BYTES, MSG_DONTWAIT, 0, 0);
        if (n < 0) return -1;
        int more = show_message(buffer, n, visit, context);
        if (more <= 0) return more;
    }
    return 1;
}

struct dump {
    const struct port_question *question;
    diag_visitor *visit;
    void *context;
    int ret;
};

static void ask_port(void *arg)
{
    struct dump *d = arg;
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    long buffer = sys_call6(SYS_mmap, 0, DUMP_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer <= 0) return;
    long fd = sys_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd >= 0 && sys_call6(SYS_sendto, fd, (long)d->question, sizeof *d->question, MSG_DONTWAIT, (long)&kernel,
                             sizeof kernel) >= 0)
        d->ret = read_dump((int)fd, (char *)buffer, d->visit, d->context);
    if (fd >= 0) sys_call(SYS_close, fd, 0, 0);
    sys_call(SYS_munmap, buffer, DUMP_BYTES, 0);
}

int diag_tcp_port(int family, uint16_t port, unsigned states, diag_visitor *visit, void *context)
{
    struct port_question q = {
        .header = {.nlmsg_len = sizeof q, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .tcp = {.sdiag_family = (uint8_t)family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = states},
    };
    q.tcp.id.idiag_sport = htons(port);
    if (states & 1u << TCP_STATE_CLOSED) q.tcp.idiag_states |= 1u << BOUND_INACTIVE;
    struct dump d = {.question = &q, .visit = visit, .context = context, .ret = -1};
    if (!aside(ask_port, &d)) ask_port(&d);
    return d.ret;
}
