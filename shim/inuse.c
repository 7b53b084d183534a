#include "inuse.h"

#include <string.h>

#include "sys.h"
#include "track.h"

#define STATE(id) (1u << TCP_STATE_##id)

struct search {
    const struct address *wanted;
    bool only6;
    struct in_use *found;
};

static bool is_on(int fd, int level, int name)
{
    int value = 0;
    socklen_t n = sizeof value;
    return sys_call6(SYS_getsockopt, fd, level, name, (long)&value, (long)&n, 0) == 0 && value;
}

// The IPv4 address that a socket has, also as an IPv4-mapped one of IPv6 (RFC 4291 section 2.5.5.2); false if
// it has another. IPv6's "any" takes IPv4's too, unless the socket is IPV6_V6ONLY (ipv6(7)).
static bool as_ipv4(const struct address *a, bool only6, uint32_t *ip)
{
    if (a->u.any.sa_family == AF_INET) {
        *ip = a->u.in.sin_addr.s_addr;
        return true;
    }
    const struct in6_addr *six = &a->u.in6.sin6_addr;
    memcpy(ip, six->s6_addr + 12, sizeof *ip);
    return IN6_IS_ADDR_V4MAPPED(six) || (IN6_IS_ADDR_UNSPECIFIED(six) && !only6);
}

bool inuse_overlap(const struct address *a, bool a_only6, const struct address *b, bool b_only6)
{
    if (a->u.any.sa_family == AF_INET6 && b->u.any.sa_family == AF_INET6) {
        const struct in6_addr *x = &a->u.in6.sin6_addr, *y = &b->u.in6.sin6_addr;
        if (IN6_ARE_ADDR_EQUAL(x, y)) return true;
        bool mapped = IN6_IS_ADDR_V4MAPPED(x) || IN6_IS_ADDR_V4MAPPED(y);
        if (!mapped) return IN6_IS_ADDR_UNSPECIFIED(x) || IN6_IS_ADDR_UNSPECIFIED(y);
    }
    uint32_t x, y;
    if (!as_ipv4(a, a_only6, &x) || !as_ipv4(b, b_only6, &y)) return false;
    return x == y || x == INADDR_ANY || y == INADDR_ANY;
}

static void count(void *context, const struct diag_socket *s)
{
    const struct search *search = context;
    struct in_use *u = search->found;
    if (!inuse_overlap(search->wanted, search->only6, &s->local, s->only6)) return;
    if (s->state == TCP_STATE_TIME_WAIT) {
        u->waiting++;
    } else if (s->orphan) {
        u->closing++;
    } else {
        bool listens = s->state == TCP_STATE_LISTEN;
        if (listens ? !u->listeners : !u->listeners && !u->others) u->first = *s;
        *(listens ? &u->listeners : &u->others) += 1;
    }
}

// Listeners are few and in a table of their own; where one is found, the table of connections, which the kernel walks
// from end to end, is left alone. What a process has comes before what waits, which can be too much to look
// through. An IPv6 socket can stand in the way of an IPv4 one, and the other way round.
static void ask(struct search *search, uint16_t port)
{
    static const int families[] = {AF_INET, AF_INET6};
    static const unsigned states[] = {STATE(LISTEN), ~(STATE(LISTEN) | STATE(TIME_WAIT)), STATE(TIME_WAIT)};
    struct in_use *u = search->found;
    u->known = u->whole = true;
    for (unsigned s = 0; s < 3 && !u->listeners && !u->others; s++)
        for (unsigned f = 0; f < 2; f++) {
            int ret = diag_tcp_port(families[f], port, states[s], count, search);
            if (ret < 0 && families[f] == AF_INET) u->known = false; // a kernel may have no IPv6
            if (ret > 0) u->whole = false;
        }
}

void inuse_ask(int fd, enum kind kind, const struct address *wanted, struct in_use *u)
{
    uint16_t port = ntohs(wanted->u.in.sin_port); // the same place in IPv6's
    struct search search = {
        .wanted = wanted,
        .only6 = kind == KIND_TCP6 && is_on(fd, IPPROTO_IPV6, IPV6_V6ONLY),
        .found = u,
    };
    *u = (struct in_use){
        .any_port = !port,
        .reuse = is_on(fd, SOL_SOCKET, SO_REUSEADDR),
        .uid = (uint32_t)sys_call(SYS_geteuid, 0, 0, 0),
        .fd = -1,
    };
    if (!port) return;
    ask(&search, port);
    if (u->first.cookie) u->fd = track_find(u->first.cookie);
}
