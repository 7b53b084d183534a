#include "diag.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLOSE_WAIT = 8, LISTEN = 10, ANSWER_BYTES = 1 << 16 };

static const char *const states[] = {
#define STATE(number, name) [number] = name,
#include "../shim/states.def"
#undef STATE
};

enum { STATES = sizeof states / sizeof states[0] };

const char *diag_state(unsigned state)
{
    return state < STATES && states[state] ? states[state] : "unknown";
}

const char *diag_type(const struct diag_socket *s)
{
    if (s->protocol == IPPROTO_UDP) return s->family == AF_INET6 ? "udp6" : "udp";
    return s->family == AF_INET6 ? "tcp6" : "tcp";
}

static bool same_name(const char *name, const char *state)
{
    for (; *name && *state; name++, state++)
        if (tolower((unsigned char)*name) != *state && !(*name == '_' && *state == '-')) return false;
    return !*name && !*state;
}

uint32_t diag_state_bit(const char *name)
{
    for (unsigned i = 0; i < STATES; i++)
        if (states[i] && same_name(name, states[i])) return UINT32_C(1) << i;
    return 0;
}

// The kernel counts the end of the stream as one byte until it is read (net/ipv4/tcp_diag.c
// tcp_diag_get_info: rcv_nxt - copied_seq), where one has come.
uint32_t diag_unread(const struct diag_socket *s)
{
    if (s->state == LISTEN) return 0;
    return s->state == CLOSE_WAIT && s->queued ? s->queued - 1 : s->queued;
}

const char *diag_address(char out[DIAG_ADDRESS_MAX], const struct diag_socket *s, bool peer)
{
    char text[INET6_ADDRSTRLEN];
    if (!inet_ntop(s->family, peer ? s->peer : s->local, text, sizeof text)) text[0] = '\0';
    snprintf(out, DIAG_ADDRESS_MAX, s->family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
             peer ? s->peer_port : s->local_port);
    return out;
}

// Copies size bytes at offset of an attribute into value. False if the answer has none that holds them.
static bool attribute(const struct nlmsghdr *h, unsigned short type, size_t offset, void *value, size_t size)
{
    size_t at = NLMSG_LENGTH(sizeof(struct inet_diag_msg));
    while (at + sizeof(struct rtattr) <= h->nlmsg_len) {
        struct rtattr a;
        memcpy(&a, (const char *)h + at, sizeof a);
        if (a.rta_len < sizeof a || at + a.rta_len > h->nlmsg_len) return false;
        if (a.rta_type == type && a.rta_len >= RTA_LENGTH(offset + size)) {
            memcpy(value, (const char *)h + at + RTA_LENGTH(offset), size);
            return true;
        }
        at += RTA_ALIGN(a.rta_len);
    }
    return false;
}

static struct diag_socket socket_of(const struct nlmsghdr *h, int protocol)
{
    struct inet_diag_msg m;
    memcpy(&m, NLMSG_DATA(h), sizeof m);
    struct diag_socket s = {
        .family = m.idiag_family,
        .state = m.idiag_state,
        .inode = m.idiag_inode,
        .uid = m.idiag_uid,
        .cookie = (uint64_t)m.id.idiag_cookie[1] << 32 | m.id.idiag_cookie[0],
        .queued = m.idiag_rqueue,
        .protocol = (uint8_t)protocol,
        .quiet_ms = -1,
        .local_port = ntohs(m.id.idiag_sport),
        .peer_port = ntohs(m.id.idiag_dport),
    };
    memcpy(s.local, m.id.idiag_src, sizeof s.local);
    memcpy(s.peer, m.id.idiag_dst, sizeof s.peer);
    s.device = m.id.idiag_if;
    __u32 ms;
    if (attribute(h, INET_DIAG_INFO, offsetof(struct tcp_info, tcpi_last_ack_recv), &ms, sizeof ms))
        s.quiet_ms = ms;
    if (!attribute(h, INET_DIAG_CGROUP_ID, 0, &s.cgroup, sizeof s.cgroup)) s.cgroup = 0;
    return s;
}

// One question: who is asked for what. Answers come to take.
struct question {
    int family, protocol;
    uint32_t states;
    void (*take)(void *context, const struct diag_socket *s);
    void *context;
    bool *interrupted;
};

static int send_request(int fd, const void *request, size_t n)
{
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    return sendto(fd, request, n, 0, (const struct sockaddr *)&kernel, sizeof kernel) < 0 ? -errno : 0;
}

static int ask(int fd, const struct question *question)
{
    const struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } q = {
        .header = {.nlmsg_len = sizeof q,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = (uint8_t)question->family,
                    .sdiag_protocol = (uint8_t)question->protocol,
                    .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                    .idiag_states = question->states},
    };
    return send_request(fd, &q, sizeof q);
}

// The answers in a buffer. Returns 1 when the last has come, 0 if there are more, or -errno.
static int answers(const char *at, size_t n, const struct question *q)
{
    while (n >= sizeof(struct nlmsghdr)) {
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)at;
        if (h->nlmsg_len < sizeof *h || h->nlmsg_len > n) return -EPROTO;
        if (h->nlmsg_flags & NLM_F_DUMP_INTR) *q->interrupted = true;
        if (h->nlmsg_type == NLMSG_DONE) return 1;
        if (h->nlmsg_type == NLMSG_ERROR) {
            const struct nlmsgerr *e = NLMSG_DATA(h);
            if (h->nlmsg_len < NLMSG_LENGTH(sizeof *e)) return -EPROTO;
            return e->error ? e->error : 1;
        }
        if (q->take && h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg))) {
            const struct diag_socket s = socket_of(h, q->protocol);
            q->take(q->context, &s);
        }
        const size_t length = NLMSG_ALIGN(h->nlmsg_len);
        at += length < n ? length : n;
        n -= length < n ? length : n;
    }
    return 0;
}

static int receive(int fd, const struct question *q)
{
    static _Alignas(struct nlmsghdr) char buffer[ANSWER_BYTES];
    int result = 0;
    while (result == 0) {
        const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EINTR) continue;
        result = n < 0 ? -errno : n == 0 ? -EPROTO : answers(buffer, (size_t)n, q);
    }
    return result < 0 ? result : 0;
}

int diag_dump(int protocol, uint32_t wanted, void (*take)(void *context, const struct diag_socket *s),
              void *context, bool *interrupted)
{
    struct question q = {AF_INET, protocol, wanted, take, context, interrupted};
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0) return -errno;
    int result = ask(fd, &q);
    if (result == 0) result = receive(fd, &q);
    q.family = AF_INET6;
    int result6 = result < 0 ? result : ask(fd, &q);
    if (result6 == 0) result6 = receive(fd, &q);
    close(fd);
    // A kernel without IPv6 answers that there is none.
    return result6 < 0 && result6 != -ENOENT && result6 != -EAFNOSUPPORT ? result6 : result;
}

int diag_destroy(const struct diag_socket *s)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } q = {
        .header = {.nlmsg_len = sizeof q,
                   .nlmsg_type = SOCK_DESTROY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .request = {.sdiag_family = s->family,
                    .sdiag_protocol = s->protocol,
                    .idiag_states = UINT32_C(1) << s->state,
                    .id = {.idiag_sport = htons(s->local_port),
                           .idiag_dport = htons(s->peer_port),
                           .idiag_if = s->device,
                           .idiag_cookie = {(uint32_t)s->cookie, (uint32_t)(s->cookie >> 32)}}},
    };
    bool interrupted;
    const struct question question = {.interrupted = &interrupted};
    memcpy(q.request.id.idiag_src, s->local, sizeof s->local);
    memcpy(q.request.id.idiag_dst, s->peer, sizeof s->peer);
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0) return -errno;
    int result = send_request(fd, &q, sizeof q);
    if (result == 0) result = receive(fd, &question);
    close(fd);
    return result;
}
