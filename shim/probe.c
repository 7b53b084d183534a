#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "diag.h"
#include "sys.h"

enum protocols { PROTOCOLS_ANY, PROTOCOLS_TCP, PROTOCOLS_UDP, PROTOCOLS_ICMP };
enum asks { ASKS_NOTHING, ASKS_TCP, ASKS_NEXT, ASKS_UNIX, ASKS_ACCEPT };

static const struct {
    const char *name;
    short family, type;
    uint8_t protocols, asks;
    bool wakes;
} kinds[] = {
#define KIND(id, name, family, type, protocols, wakes, asks) \
    [KIND_##id] = {name, family, type, PROTOCOLS_##protocols, ASKS_##asks, wakes},
#include "kinds.def"
#undef KIND
};

static const char *const states[] = {
#define STATE(number, name) [number] = name,
#include "states.def"
#undef STATE
};

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t n = sizeof value;
    long ret = sys_call6(SYS_getsockopt, fd, level, name, (long)&value, (long)&n, 0);
    return ret < 0 ? (int)ret : value;
}

static int64_t amount(int fd, unsigned long request)
{
    int n = 0;
    long ret = sys_call(SYS_ioctl, fd, (long)request, (long)&n);
    return ret < 0 ? ret : n;
}

static int64_t or_unknown(int64_t n)
{
    return n < 0 ? UNKNOWN : n;
}

static short events_now(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec now = {0, 0};
    sys_call6(SYS_ppoll, (long)&p, 1, (long)&now, 0, 0, 0);
    return p.revents;
}

uint64_t probe_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t n = sizeof cookie;
    if (sys_call6(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, (long)&cookie, (long)&n, 0) < 0) return 0;
    return cookie;
}

uint64_t probe_identity(int fd)
{
    uint64_t id = 0;
    socklen_t n = sizeof id;
    long ret = sys_call6(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, (long)&id, (long)&n, 0);
    if (ret == 0) return id;
    if (ret == -ENOTSOCK || ret == -EBADF) return 0;
    id = probe_inode(fd);
    return id ? id | PROBE_NO_COOKIE : 0;
}

static bool fits(enum protocols set, int protocol)
{
    switch (set) {
    case PROTOCOLS_TCP:
        return protocol == 0 || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
    case PROTOCOLS_UDP:
        return protocol == 0 || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
    case PROTOCOLS_ICMP:
        return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
    case PROTOCOLS_ANY:
        break;
    }
    return true;
}

enum kind kind_of(int family, int type, int protocol)
{
    type &= ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (int k = 0; k < KIND_OTHER; k++)
        if (kinds[k].family == family && (kinds[k].type < 0 || kinds[k].type == type) &&
            fits((enum protocols)kinds[k].protocols, protocol))
            return (enum kind)k;
    return KIND_OTHER;
}

enum kind probe_kind(int fd)
{
    int family = option(fd, SOL_SOCKET, SO_DOMAIN);
    if (family < 0) return KIND_OTHER;
    int type = option(fd, SOL_SOCKET, SO_TYPE);
    bool ip = family == AF_INET || family == AF_INET6;
    return kind_of(family, type, ip ? option(fd, SOL_SOCKET, SO_PROTOCOL) : 0);
}

// The state, and for a listener its accept queue. The kernel copies no more than it is asked for.
static void ask_tcp_state(int fd, struct facts *f)
{
    struct tcp_info info = {0};
    socklen_t n = offsetof(struct tcp_info, tcpi_unacked) + sizeof info.tcpi_unacked;
    if (sys_call6(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&info, (long)&n, 0) < 0) return;
    f->state = (enum tcp_state)info.tcpi_state;
    f->listening = f->state == TCP_STATE_LISTEN;
    // net/ipv4/tcp.c tcp_get_info: of a listener sk_ack_backlog, of others something else.
    if (f->listening) f->backlog = info.tcpi_unacked;
}

// At an urgent mark SIOCINQ says 0 though the urgent byte lies in the queue, even one that was read with
// MSG_OOB (net/ipv4/tcp.c tcp_inq); close resets for it. A mark that was announced before its byte has come
// (EAGAIN), or that is counted like any other byte (SO_OOBINLINE), is no such case.
static bool urgent_byte_waits(int fd)
{
    char byte;
    if (amount(fd, SIOCATMARK) != 1) return false;
    if (sys_call6(SYS_recvfrom, fd, (long)&byte, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT, 0, 0) == -EAGAIN)
        return false;
    return option(fd, SOL_SOCKET, SO_OOBINLINE) != 1;
}

// At the end of a stream an MPTCP socket says 1 (net/mptcp/protocol.c mptcp_inq_hint). It is asked for the
// byte itself, unless an error is pending, which recv would take from the program.
static bool byte_is_a_hint(int fd)
{
    char byte;
    if (option(fd, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_MPTCP) return false;
    if (events_now(fd) & POLLERR) return true;
    return sys_call6(SYS_recvfrom, fd, (long)&byte, 1, MSG_PEEK | MSG_DONTWAIT, 0, 0) != 1;
}

// What close resets for is the bytes in the receive queue behind copied_seq (net/ipv4/tcp.c __tcp_close;
// RFC 2525 section 2.17), whatever either side has shut down, but nothing in state CLOSED. SIOCINQ counts
// the same bytes (tcp_inq): without the peer's FIN; with what was received while another thread was inside
// the socket, since it waits for that thread; without what came out of order, which resets nothing.
static int64_t tcp_unread(int fd, enum tcp_state state)
{
    int64_t n = amount(fd, SIOCINQ);
    if (n == 0 && state != TCP_STATE_CLOSED && urgent_byte_waits(fd)) return 1;
    if (n == 1 && byte_is_a_hint(fd)) return 0;
    return or_unknown(n);
}

// SIOCOUTQ counts our FIN as a byte until it is acknowledged (write_seq in net/ipv4/tcp_output.c
// tcp_send_fin).
static int64_t tcp_unsent(int fd, enum tcp_state state)
{
    int64_t n = amount(fd, SIOCOUTQ);
    bool fin = state == TCP_STATE_FIN_WAIT1 || state == TCP_STATE_CLOSING || state == TCP_STATE_LAST_ACK;
    return or_unknown(n > 0 && fin ? n - 1 : n);
}

static void ask_tcp(int fd, struct facts *f)
{
    ask_tcp_state(fd, f);
    if (f->listening) return;
    struct linger l = {0};
    socklen_t n = sizeof l;
    if (sys_call6(SYS_getsockopt, fd, SOL_SOCKET, SO_LINGER, (long)&l, (long)&n, 0) < 0 || !l.l_onoff) l.l_linger = -1;
    f->linger_reset = l.l_linger == 0;
    f->linger_s = l.l_linger > 0 ? l.l_linger : 0;
    f->unread = tcp_unread(fd, f->state);
    f->unsent = tcp_unsent(fd, f->state);
}

// Close gives the peer ECONNRESET if the receive queue is not empty (net/unix/af_unix.c unix_release_sock).
// SIOCINQ counts that queue, and refuses for a listener alone (unix_inq_len). It may count a byte that was
// sent with MSG_OOB and is gone already: then poll says that there is nothing to read. POLLHUP is a closed
// peer or a shutdown of both directions by either side: only sock_diag tells which. Where it can't, the peer
// counts as gone: a reset that nobody sees is not told.
static void ask_unix(int fd, struct facts *f)
{
    int64_t n = amount(fd, SIOCINQ);
    f->listening = n == -EINVAL;
    f->unread = or_unknown(n);
    if (n == 0 || (n < 0 && !f->listening)) return;
    short events = events_now(fd);
    if (f->listening)
        f->backlog = (events & POLLIN) ? diag_unix_backlog(probe_inode(fd), f->cookie) : 0;
    else if (!(events & POLLIN))
        f->unread = 0;
    else
        f->peer_gone = (events & POLLHUP) && diag_unix_peer_gone(probe_inode(fd), f->cookie);
    f->peer_behind = f->unread > 0 && amount(fd, SIOCOUTQ) > 0;
}

// Field by field: the addresses are long, and empty when their length is 0.
void facts_clear(struct facts *f, enum kind kind)
{
    f->cookie = 0;
    f->kind = kind;
    f->state = TCP_STATE_UNKNOWN;
    f->listening = f->linger_reset = f->peer_gone = f->peer_behind = false;
    f->linger_s = f->busy_ms = 0;
    f->unread = f->unsent = f->backlog = UNKNOWN;
    f->local.len = f->peer.len = 0;
}

// Is there nothing received that was not read but, where the peer has ended its side, that end? It lies in the receive
// queue as a packet does, until the program reads it. *unsent: 0, or UNKNOWN if there is something.
static bool nothing_unread(int fd, int64_t *unsent)
{
    uint32_t memory[SK_MEMINFO_BACKLOG + 1] = {0};
    socklen_t n = sizeof memory;
    if (sys_call6(SYS_getsockopt, fd, SOL_SOCKET, SO_MEMINFO, (long)memory, (long)&n, 0) < 0 || n != sizeof memory)
        return false;
    if (!memory[SK_MEMINFO_WMEM_QUEUED]) *unsent = 0;
    if (!memory[SK_MEMINFO_RMEM_ALLOC] && !memory[SK_MEMINFO_BACKLOG]) return true;
    return amount(fd, SIOCINQ) == 0 && amount(fd, SIOCATMARK) == 0;
}

bool probe_idle(int fd, enum kind kind, bool asks_state, struct facts *f)
{
    facts_clear(f, kind);
    switch ((enum asks)kinds[kind].asks) {
    case ASKS_TCP:
        if (asks_state) ask_tcp_state(fd, f);
        if (f->listening || !nothing_unread(fd, &f->unsent)) return false;
        f->unread = 0;
        return true;
    case ASKS_UNIX:
        f->unread = amount(fd, SIOCINQ);
        return f->unread == 0;
    case ASKS_ACCEPT:
        return false;
    case ASKS_NEXT:
    case ASKS_NOTHING:
        break;
    }
    return true;
}

void probe_facts(int fd, enum kind kind, uint64_t cookie, struct facts *f)
{
    facts_clear(f, kind);
    f->cookie = cookie;
    switch ((enum asks)kinds[kind].asks) {
    case ASKS_TCP:
        ask_tcp(fd, f);
        break;
    case ASKS_UNIX:
        ask_unix(fd, f);
        break;
    case ASKS_NEXT:
        f->unread = or_unknown(amount(fd, SIOCINQ));
        break;
    case ASKS_ACCEPT:
        f->listening = option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1;
        break;
    case ASKS_NOTHING:
        break;
    }
}

int probe_busy(int fd)
{
    struct {
        struct tcp_info base; // as far as libc knows it; the rest as include/uapi/linux/tcp.h has it
        uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
        uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
    } info = {0};
    const int shortest = 100, longest = 1000, recent = 1000; // milliseconds
    socklen_t n = sizeof info;
    long flags = sys_call(SYS_fcntl, fd, F_GETFL, 0);
    if (flags < 0 || flags & O_NONBLOCK) return 0;
    if (sys_call6(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&info, (long)&n, 0) < 0) return 0;
    enum tcp_state state = (enum tcp_state)info.base.tcpi_state;
    if (state != TCP_STATE_ESTABLISHED && state != TCP_STATE_FIN_WAIT1 && state != TCP_STATE_FIN_WAIT2) return 0;
    if (!info.data_segs_in || !info.data_segs_out || info.base.tcpi_last_data_recv > recent) return 0;
    unsigned rounds = 2 * info.base.tcpi_rtt / 1000; // microseconds
    return rounds < (unsigned)shortest ? shortest : rounds > (unsigned)longest ? longest : (int)rounds;
}

int64_t probe_unread(int fd)
{
    return or_unknown(amount(fd, SIOCINQ));
}

int64_t probe_unsent(int fd)
{
    return or_unknown(amount(fd, SIOCOUTQ));
}

bool probe_has_room(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    probe_hangups(&p, 1);
    return p.revents & POLLOUT;
}

enum tcp_state probe_state(int fd, enum kind kind)
{
    struct facts f = {.state = TCP_STATE_UNKNOWN};
    if (kinds[kind].asks == ASKS_TCP) ask_tcp_state(fd, &f);
    return f.state;
}

void probe_hangups(struct pollfd *p, unsigned n)
{
    struct timespec now = {0, 0};
    sys_call6(SYS_ppoll, (long)p, n, (long)&now, 0, 0, 0);
}

bool probe_silence(int fd, struct silence *s)
{
    struct tcp_info info = {0};
    socklen_t n = offsetof(struct tcp_info, tcpi_last_ack_recv) + sizeof info.tcpi_last_ack_recv;
    if (sys_call6(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, (long)&info, (long)&n, 0) < 0) return false;
    *s = (struct silence){(enum tcp_state)info.tcpi_state, info.tcpi_last_ack_recv, info.tcpi_last_data_recv};
    return true;
}

static bool is_unbound(const struct address *a)
{
    static const struct in6_addr any = IN6ADDR_ANY_INIT;
    switch (a->u.any.sa_family) {
    case AF_INET:
        return !a->u.in.sin_port && a->u.in.sin_addr.s_addr == INADDR_ANY;
    case AF_INET6:
        return !a->u.in6.sin6_port && IN6_ARE_ADDR_EQUAL(&a->u.in6.sin6_addr, &any);
    case AF_UNIX:
        return a->len <= offsetof(struct sockaddr_un, sun_path);
    default:
        return true;
    }
}

static void ask_address(int fd, long call, struct address *a)
{
    a->len = sizeof a->u;
    if (sys_call(call, fd, (long)&a->u, (long)&a->len) < 0) a->len = 0;
    if (a->len > sizeof a->u) a->len = sizeof a->u;
    if (a->len < sizeof(sa_family_t) || is_unbound(a)) a->len = 0;
}

void probe_addresses(int fd, struct facts *f)
{
    ask_address(fd, SYS_getsockname, &f->local);
    ask_address(fd, SYS_getpeername, &f->peer);
}

bool probe_is_open(int fd)
{
    return sys_call(SYS_fcntl, fd, F_GETFD, 0) >= 0;
}

uint64_t probe_inode(int fd)
{
    struct stat st = {0};
    if (sys_call(SYS_fstat, fd, (long)&st, 0) < 0 || !S_ISSOCK(st.st_mode)) return 0;
    return st.st_ino;
}

const char *kind_name(enum kind kind)
{
    return kinds[kind].name;
}

const char *state_name(enum tcp_state state)
{
    const unsigned n = sizeof states / sizeof *states;
    return (unsigned)state < n && states[state] ? states[state] : "";
}

bool kind_carries(enum kind kind)
{
    return kind == KIND_UNIX_STREAM || kind == KIND_UNIX_DGRAM || kind == KIND_UNIX_SEQPACKET || kind == KIND_OTHER;
}

bool kind_wakes(enum kind kind)
{
    return kinds[kind].wakes;
}

bool facts_wake(const struct facts *f)
{
    return kinds[f->kind].wakes && !(f->kind == KIND_VSOCK && f->listening);
}
