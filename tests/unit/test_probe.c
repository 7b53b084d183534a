// What close does is held against what probe said: the kernel's counter of connections that it reset
// because of unread data (TCPAbortOnClose), and the error that a unix peer gets.
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "probe.h"
#include "threads.h"
#include "wait.h"

#ifndef IPPROTO_L2TP
#define IPPROTO_L2TP 115
#endif

static bool own_network; // its counters are ours alone

static int make_own_network(void **state)
{
    (void)state;
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    if (unshare(CLONE_NEWNET)) return 0;
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    own_network = !ioctl(s, SIOCSIFFLAGS, &lo);
    close(s);
    FILE *f = fopen("/proc/sys/net/ipv4/ping_group_range", "w");
    if (f) fputs("0 2147483647", f), fclose(f);
    return own_network ? 0 : -1;
}

static long aborts(void)
{
    static char names[16384], values[16384];
    long n = -1;
    FILE *f = fopen("/proc/thread-self/net/netstat", "re");
    assert_non_null(f);
    while (n < 0 && fgets(names, sizeof names, f) && fgets(values, sizeof values, f)) {
        char *a, *b, *name = strtok_r(names, " \n", &a), *value = strtok_r(values, " \n", &b);
        for (; name && value; name = strtok_r(NULL, " \n", &a), value = strtok_r(NULL, " \n", &b))
            if (!strcmp(name, "TCPAbortOnClose")) n = atol(value);
    }
    fclose(f);
    assert_true(n >= 0);
    return n;
}

static int listener(int family, int type, int protocol, struct sockaddr_storage *a, socklen_t *n)
{
    *n = sizeof *a;
    *a = (struct sockaddr_storage){.ss_family = (sa_family_t)family};
    if (family == AF_INET) ((struct sockaddr_in *)a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = family == AF_INET    ? sizeof(struct sockaddr_in)
                     : family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                          : sizeof(sa_family_t);
    if (family == AF_INET6) ((struct sockaddr_in6 *)a)->sin6_addr = in6addr_loopback;
    int l = socket(family, type | SOCK_CLOEXEC, protocol);
    if (l < 0) return -1;
    assert_int_equal(bind(l, (struct sockaddr *)a, size), 0);
    assert_int_equal(listen(l, 8), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)a, n), 0);
    return l;
}

static void pair(int protocol, int *peer, int *ours)
{
    struct sockaddr_storage a;
    socklen_t n;
    int l = listener(AF_INET, SOCK_STREAM, protocol, &a, &n);
    *peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
    assert_int_equal(connect(*peer, (struct sockaddr *)&a, n), 0);
    *ours = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    assert_true(*ours >= 0);
    close(l);
}

static bool has_event(int fd, short event)
{
    struct pollfd p = {.fd = fd, .events = event};
    return poll(&p, 1, WAIT_S * 1000) == 1 && p.revents & (event | POLLHUP | POLLERR);
}

static enum tcp_state tcp_state(int fd)
{
    struct facts f;
    probe_facts(fd, KIND_TCP, 1, &f);
    return f.state;
}

// One step in the life of a connection: what the peer does (small letters) or we do (capitals).
static void step(char what, int *peer, int ours)
{
    char buffer[64];
    const int one = 1;
    const struct linger reset = {1, 0};
    switch (what) {
    case 'w': // three bytes arrive
        assert_int_equal(write(*peer, "abc", 3), 3);
        assert_true(has_event(ours, POLLIN));
        break;
    case 'o': // an urgent byte arrives
        assert_int_equal(send(*peer, "x", 1, MSG_OOB), 1);
        assert_true(has_event(ours, POLLPRI));
        break;
    case 'f': // the peer half-closes
        assert_int_equal(shutdown(*peer, SHUT_WR), 0);
        assert_true(has_event(ours, POLLRDHUP));
        break;
    case 'b': // the peer shuts both ways
        assert_int_equal(shutdown(*peer, SHUT_RDWR), 0);
        assert_true(has_event(ours, POLLRDHUP));
        break;
    case 'c': // the peer closes
        close(*peer);
        *peer = -1;
        assert_true(has_event(ours, POLLRDHUP));
        break;
    case 'r': // the peer resets
        setsockopt(*peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(*peer);
        *peer = -1;
        assert_true(has_event(ours, POLLHUP));
        break;
    case 'R':
        assert_int_equal(read(ours, buffer, 1), 1);
        break;
    case 'A':
        assert_int_equal(read(ours, buffer, sizeof buffer), 3);
        break;
    case 'N': // nothing to read but an urgent byte
        assert_int_equal(recv(ours, buffer, sizeof buffer, MSG_DONTWAIT), -1);
        break;
    case 'O':
        assert_int_equal(recv(ours, buffer, 1, MSG_OOB), 1);
        break;
    case 'I':
        assert_int_equal(setsockopt(ours, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one), 0);
        break;
    case 'L':
        assert_int_equal(setsockopt(ours, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        break;
    case 'D':
        assert_int_equal(shutdown(ours, SHUT_RD), 0);
        break;
    case 'W':
        assert_int_equal(shutdown(ours, SHUT_WR), 0);
        break;
    default:
        fail_msg("no such step: %c", what);
    }
}

static const struct life {
    const char *steps;
    enum tcp_state state;
    int unread;
    bool linger_reset;
} lives[] = {
    {"", TCP_STATE_ESTABLISHED, 0, false},     {"w", TCP_STATE_ESTABLISHED, 3, false},
    {"wR", TCP_STATE_ESTABLISHED, 2, false},   {"wA", TCP_STATE_ESTABLISHED, 0, false},
    {"f", TCP_STATE_CLOSE_WAIT, 0, false},     {"wf", TCP_STATE_CLOSE_WAIT, 3, false},
    {"wfA", TCP_STATE_CLOSE_WAIT, 0, false},   {"wc", TCP_STATE_CLOSE_WAIT, 3, false},
    {"wr", TCP_STATE_CLOSED, 3, false},        {"wD", TCP_STATE_ESTABLISHED, 3, false},
    {"Dw", TCP_STATE_ESTABLISHED, 3, false},   {"Ww", TCP_STATE_FIN_WAIT2, 3, false},
    {"wWD", TCP_STATE_FIN_WAIT2, 3, false},    {"o", TCP_STATE_ESTABLISHED, 1, false},
    {"oO", TCP_STATE_ESTABLISHED, 1, false},   {"oN", TCP_STATE_ESTABLISHED, 0, false},
    {"Io", TCP_STATE_ESTABLISHED, 1, false},   {"IoR", TCP_STATE_ESTABLISHED, 0, false},
    {"wo", TCP_STATE_ESTABLISHED, 3, false},   {"woA", TCP_STATE_ESTABLISHED, 1, false},
    {"woAO", TCP_STATE_ESTABLISHED, 1, false}, {"owA", TCP_STATE_ESTABLISHED, 0, false},
    {"oc", TCP_STATE_CLOSE_WAIT, 1, false},    {"L", TCP_STATE_ESTABLISHED, 0, true},
    {"Lw", TCP_STATE_ESTABLISHED, 3, true},    {"LfW", TCP_STATE_CLOSED, 0, true},
};

static void close_resets_for_what_is_unread(void **state)
{
    (void)state;
    if (!own_network) print_message("         counters left out: no network of its own (not root)\n");
    for (size_t i = 0; i < sizeof lives / sizeof *lives; i++) {
        const struct life *l = &lives[i];
        int peer, ours;
        struct facts f;
        pair(0, &peer, &ours);
        for (const char *s = l->steps; *s; s++) step(*s, &peer, ours);
        if (!WAIT_UNTIL(tcp_state(ours) == l->state)) fail_msg("\"%s\": state %d", l->steps, tcp_state(ours));
        probe_facts(ours, KIND_TCP, probe_cookie(ours), &f);
        if (f.unread != l->unread || f.linger_reset != l->linger_reset || f.listening ||
            f.backlog != UNKNOWN || f.unsent != 0)
            fail_msg("\"%s\": unread %d linger %d", l->steps, (int)f.unread, f.linger_reset);
        long before = own_network ? aborts() : 0;
        bool resets = f.unread > 0 && f.state != TCP_STATE_CLOSED;
        close(ours);
        if (own_network && aborts() - before != resets)
            fail_msg("\"%s\": the kernel did not agree", l->steps);
        if (peer >= 0) close(peer);
    }
}

static void lingering_is_told_from_a_reset(void **state)
{
    (void)state;
    static const struct {
        struct linger linger;
        bool reset;
        int seconds;
    } rows[] = {{{0, 0}, false, 0}, {{0, 5}, false, 0}, {{1, 0}, true, 0}, {{1, 5}, false, 5}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int peer, ours;
        struct facts f;
        pair(0, &peer, &ours);
        setsockopt(ours, SOL_SOCKET, SO_LINGER, &rows[i].linger, sizeof rows[i].linger);
        probe_facts(ours, KIND_TCP, probe_cookie(ours), &f);
        assert_int_equal(f.linger_reset, rows[i].reset);
        assert_int_equal(f.linger_s, rows[i].seconds);
        close(ours);
        close(peer);
    }
}

// Only where both have sent, and the peer has not ended its side, may more be on its way; and only a blocking socket is
// asked for.
static void a_busy_peer_is_one_that_asked_and_was_answered(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        bool busy;
    } rows[] = {{"", false},   {"r", false},   {"a", false},   {"ra", true},   {"raW", true},
                {"raf", false}, {"raN", false}, {"raD", true}, {"rafW", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int peer, ours;
        char byte;
        pair(0, &peer, &ours);
        for (const char *s = rows[i].what; *s; s++) {
            if (*s == 'r') assert_true(send(peer, "r", 1, 0) == 1 && recv(ours, &byte, 1, 0) == 1);
            if (*s == 'a') assert_true(send(ours, "a", 1, 0) == 1 && recv(peer, &byte, 1, 0) == 1);
            if (*s == 'f') assert_true(shutdown(peer, SHUT_WR) == 0 && recv(ours, &byte, 1, 0) == 0);
            if (*s == 'W') assert_int_equal(shutdown(ours, SHUT_WR), 0);
            if (*s == 'D') assert_int_equal(shutdown(ours, SHUT_RD), 0);
            if (*s == 'N') assert_int_equal(fcntl(ours, F_SETFL, O_NONBLOCK), 0);
        }
        int ms = probe_busy(ours);
        if ((ms > 0) != rows[i].busy || (ms && (ms < 100 || ms > 1000))) fail_msg("\"%s\": %d", rows[i].what, ms);
        close(ours);
        close(peer);
    }
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    assert_int_equal(probe_busy(sv[0]), 0);
    close(sv[0]);
    close(sv[1]);
    assert_int_equal(probe_busy(-1), 0);
}

static int64_t queued(int fd)
{
    int n = 0;
    assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
    return n;
}

static void our_fin_is_no_unsent_byte(void **state)
{
    (void)state;
    static char big[1 << 20];
    int peer, ours, small = 4096;
    struct facts f;
    pair(0, &peer, &ours);
    setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    ssize_t sent = send(ours, big, sizeof big, MSG_DONTWAIT);
    assert_true(sent > 65536);
    probe_facts(ours, KIND_TCP, 1, &f);
    assert_true(WAIT_UNTIL((probe_facts(ours, KIND_TCP, 1, &f), f.unsent) == sent - queued(peer)));
    assert_int_equal(shutdown(ours, SHUT_WR), 0);
    assert_true(WAIT_UNTIL((probe_facts(ours, KIND_TCP, 1, &f), f.unsent) == sent - queued(peer)));
    assert_int_equal(f.state, TCP_STATE_FIN_WAIT1);
    close(ours);
    close(peer);
}

static const struct unix_life {
    int type;
    const char *steps;
    int unread;
    bool peer_gone;
} unix_lives[] = {
    {SOCK_STREAM, "", 0, false},       {SOCK_STREAM, "w", 3, false},    {SOCK_STREAM, "wR", 2, false},
    {SOCK_STREAM, "wA", 0, false},     {SOCK_STREAM, "wc", 3, true},    {SOCK_STREAM, "wf", 3, false},
    {SOCK_STREAM, "wb", 3, false},     {SOCK_STREAM, "wDW", 3, false},  {SOCK_STREAM, "c", 0, false},
    {SOCK_STREAM, "o", 1, false},      {SOCK_STREAM, "oO", 0, false},   {SOCK_STREAM, "oN", 0, false},
    {SOCK_SEQPACKET, "", 0, false},    {SOCK_SEQPACKET, "w", 3, false}, {SOCK_SEQPACKET, "wA", 0, false},
    {SOCK_SEQPACKET, "wDW", 3, false}, {SOCK_SEQPACKET, "wc", 3, true},
};

// CONFIG_AF_UNIX_OOB, Linux 5.15
static bool unix_has_urgent_bytes(void)
{
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    bool has = send(sv[0], "x", 1, MSG_OOB) == 1;
    close(sv[0]), close(sv[1]);
    return has;
}

static void a_unix_peer_gets_econnreset(void **state)
{
    (void)state;
    bool urgent = unix_has_urgent_bytes();
    if (!urgent) print_message("         urgent bytes left out: unix sockets have none here\n");
    for (size_t i = 0; i < sizeof unix_lives / sizeof *unix_lives; i++) {
        const struct unix_life *l = &unix_lives[i];
        enum kind kind = l->type == SOCK_STREAM ? KIND_UNIX_STREAM : KIND_UNIX_SEQPACKET;
        int sv[2], error = 0;
        socklen_t n = sizeof error;
        struct facts f;
        if (!urgent && strchr(l->steps, 'o')) continue;
        assert_int_equal(socketpair(AF_UNIX, l->type | SOCK_CLOEXEC, 0, sv), 0);
        for (const char *s = l->steps; *s; s++) step(*s, &sv[0], sv[1]);
        probe_facts(sv[1], kind, probe_cookie(sv[1]), &f);
        if (f.unread != l->unread || f.peer_gone != l->peer_gone || f.listening)
            fail_msg("%d \"%s\": unread %d peer_gone %d", l->type, l->steps, (int)f.unread, f.peer_gone);
        if (f.peer_behind) fail_msg("\"%s\": the peer has nothing to read", l->steps);
        if (sv[0] >= 0 && f.unread > 0 && send(sv[1], "x", 1, MSG_NOSIGNAL) == 1) {
            probe_facts(sv[1], kind, probe_cookie(sv[1]), &f);
            if (!f.peer_behind) fail_msg("\"%s\": the peer has a byte to read", l->steps);
        }
        close(sv[1]);
        if (sv[0] < 0) continue;
        assert_int_equal(getsockopt(sv[0], SOL_SOCKET, SO_ERROR, &error, &n), 0);
        if ((error == ECONNRESET) != (f.unread > 0)) fail_msg("\"%s\": the peer got %d", l->steps, error);
        close(sv[0]);
    }
}

static void listeners_count_their_backlog(void **state)
{
    (void)state;
    static const struct {
        int family, type;
        enum kind kind;
    } rows[] = {{AF_INET, SOCK_STREAM, KIND_TCP},
                {AF_INET6, SOCK_STREAM, KIND_TCP6},
                {AF_UNIX, SOCK_STREAM, KIND_UNIX_STREAM},
                {AF_UNIX, SOCK_SEQPACKET, KIND_UNIX_SEQPACKET}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sockaddr_storage a;
        socklen_t n;
        struct facts f;
        int l = listener(rows[i].family, rows[i].type, 0, &a, &n);
        assert_int_equal(probe_kind(l), rows[i].kind);
        probe_facts(l, rows[i].kind, probe_cookie(l), &f);
        assert_true(f.listening);
        assert_int_equal(f.backlog, 0);
        int c[2];
        for (int k = 0; k < 2; k++) {
            c[k] = socket(rows[i].family, rows[i].type | SOCK_CLOEXEC, 0);
            assert_int_equal(connect(c[k], (struct sockaddr *)&a, n), 0);
        }
        assert_true(WAIT_UNTIL((probe_facts(l, rows[i].kind, probe_cookie(l), &f), f.backlog) != 0));
        if (f.backlog == UNKNOWN)
            print_message("         no unix_diag here: the backlog stays unknown\n");
        else
            assert_true(WAIT_UNTIL((probe_facts(l, rows[i].kind, probe_cookie(l), &f), f.backlog) == 2));
        assert_int_equal(f.unread, UNKNOWN);
        close(c[0]), close(c[1]), close(l);
    }
}

// At the end of the stream SIOCINQ of an MPTCP socket says 1.
static void mptcp_has_no_byte_at_the_end(void **state)
{
    (void)state;
    int test = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP), peer, ours;
    struct facts f;
    if (test < 0) {
        print_message("         skipped: no MPTCP (%s)\n", strerror(errno));
        skip();
    }
    close(test);
    pair(IPPROTO_MPTCP, &peer, &ours);
    assert_int_equal(probe_kind(ours), KIND_TCP);
    step('w', &peer, ours);
    step('R', &peer, ours);
    step('R', &peer, ours);
    probe_facts(ours, KIND_TCP, 1, &f);
    assert_int_equal(f.unread, 1);
    step('f', &peer, ours);
    step('R', &peer, ours);
    probe_facts(ours, KIND_TCP, 1, &f);
    assert_int_equal(f.unread, 0);
    close(peer), close(ours);
}

static void datagrams_show_the_next_one(void **state)
{
    (void)state;
    int sv[2];
    struct facts f;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv), 0);
    step('w', &sv[0], sv[1]);
    step('w', &sv[0], sv[1]);
    probe_facts(sv[1], probe_kind(sv[1]), 1, &f);
    assert_int_equal(f.unread, 3);
    assert_int_equal(f.unsent, UNKNOWN);
    close(sv[0]), close(sv[1]);
}

static void kinds_by_family_type_and_protocol(void **state)
{
    (void)state;
    static const struct {
        int family, type, protocol;
        const char *name;
    } rows[] = {
        {AF_INET, SOCK_STREAM, 0, "tcp"},
        {AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP, "tcp"},
        {AF_INET6, SOCK_STREAM, 0, "tcp6"},
        {AF_INET, SOCK_STREAM, IPPROTO_MPTCP, "tcp"},
        {AF_INET6, SOCK_STREAM, IPPROTO_MPTCP, "tcp6"},
        {AF_INET, SOCK_STREAM, IPPROTO_SCTP, "other"},
        {AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP, "other"},
        {AF_INET, SOCK_DGRAM, 0, "udp"},
        {AF_INET6, SOCK_DGRAM, IPPROTO_UDP, "udp6"},
        {AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, "udp"},
        {AF_INET, SOCK_DGRAM, IPPROTO_ICMP, "ping"},
        {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6, "ping6"},
        {AF_INET, SOCK_DGRAM, IPPROTO_L2TP, "other"},
        {AF_INET, SOCK_RAW, IPPROTO_ICMP, "raw"},
        {AF_INET6, SOCK_RAW, IPPROTO_TCP, "raw6"},
        {AF_UNIX, SOCK_STREAM, 0, "unix-stream"},
        {AF_UNIX, SOCK_DGRAM, 0, "unix-dgram"},
        {AF_UNIX, SOCK_SEQPACKET, 0, "unix-seqpacket"},
        {AF_NETLINK, SOCK_RAW, 4, "netlink"},
        {AF_NETLINK, SOCK_DGRAM, 0, "netlink"},
        {AF_PACKET, SOCK_RAW, 0x300, "packet"},
        {AF_VSOCK, SOCK_STREAM, 0, "vsock"},
        {AF_ALG, SOCK_SEQPACKET, 0, "alg"},
        {AF_BLUETOOTH, SOCK_STREAM, 3, "other"},
        {-1, -1, -1, "other"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum kind k = kind_of(rows[i].family, rows[i].type, rows[i].protocol);
        assert_string_equal(kind_name(k), rows[i].name);
        int fd = rows[i].family < 0 ? -1 : socket(rows[i].family, rows[i].type, rows[i].protocol);
        if (fd < 0) continue; // not every machine has every protocol
        assert_int_equal(probe_kind(fd), k);
        close(fd);
    }
    assert_int_equal(probe_kind(-1), KIND_OTHER);
    assert_string_equal(state_name(TCP_STATE_CLOSE_WAIT), "close-wait");
    assert_string_equal(state_name(TCP_STATE_UNKNOWN), "");
    assert_string_equal(state_name((enum tcp_state)99), "");
}

struct sleeper {
    int fd;
    bool accepts;
    _Atomic bool awake;
};

static void *sleeps(void *p)
{
    struct sleeper *s = p;
    char byte;
    if (s->accepts)
        accept(s->fd, NULL, NULL);
    else
        recv(s->fd, &byte, 1, 0);
    s->awake = true;
    return NULL;
}

// A thread is blocked on the socket; does shutdown wake it? Where not, the call itself must have failed, and
// the thread is seen in the same call.
static void check_wakes(int fd, bool accepts, const char *what)
{
    struct sleeper s = {.fd = fd, .accepts = accepts};
    struct blocked b;
    struct facts f;
    pthread_t t;
    if (fd < 0) return;
    probe_facts(fd, probe_kind(fd), 0, &f);
    assert_int_equal(pthread_create(&t, NULL, sleeps, &s), 0);
    assert_true(WAIT_UNTIL((threads_blocked_on(fd, 1000000, &b), b.n) == 1));
    int ret = shutdown(fd, SHUT_RDWR), error = errno;
    if (facts_wake(&f)) {
        if (!WAIT_UNTIL(s.awake)) fail_msg("%s: not woken", what);
    } else {
        if (!ret || (error != EOPNOTSUPP && error != ENOTCONN)) fail_msg("%s: shutdown worked", what);
        threads_blocked_on(fd, 1000000, &b);
        if (s.awake || b.n != 1) fail_msg("%s: woken", what);
    }
    assert_true(interrupt_and_join(t));
    close(fd);
}

static void kinds_that_wake(void **state)
{
    (void)state;
    struct sockaddr_storage a;
    socklen_t n;
    int sv[2];
    check_wakes(listener(AF_INET, SOCK_STREAM, 0, &a, &n), true, "tcp listener");
    check_wakes(listener(AF_INET, SOCK_STREAM, IPPROTO_MPTCP, &a, &n), true, "mptcp listener");
    check_wakes(listener(AF_UNIX, SOCK_SEQPACKET, 0, &a, &n), true, "unix-seqpacket listener");
    check_wakes(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), false, "udp");
    check_wakes(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP), false, "ping");
    check_wakes(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMPV6), false, "ping6");
    check_wakes(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP), false, "raw");
    check_wakes(socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6), false, "raw6");
    check_wakes(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0), false, "netlink");
    check_wakes(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5)), false, "packet");
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, sv), 0);
        check_wakes(sv[0], false, "unix");
        close(sv[1]);
    }
    struct sockaddr_vm v = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    int l = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l >= 0 && !bind(l, (struct sockaddr *)&v, sizeof v) && !listen(l, 1))
        check_wakes(l, true, "vsock");
    else
        print_message("         no vsock here\n"), close(l);
}

static void identity(void **state)
{
    (void)state;
    int sv[2], file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    int twin = dup(sv[0]);
    assert_true(probe_cookie(sv[0]) != 0 && probe_cookie(sv[0]) == probe_cookie(twin));
    assert_true(probe_cookie(sv[0]) != probe_cookie(sv[1]));
    assert_true(probe_inode(sv[0]) != 0 && probe_inode(sv[0]) == probe_inode(twin));
    assert_int_equal(probe_cookie(file), 0);
    assert_int_equal(probe_inode(file), 0);
    assert_true(probe_is_open(file));
    close(file), close(sv[0]), close(sv[1]), close(twin);
    errno = 0;
    assert_false(probe_is_open(file));
    assert_int_equal(probe_inode(-1), 0);
    struct facts f;
    probe_facts(-1, KIND_TCP, 0, &f);
    assert_true(f.unread == UNKNOWN && f.unsent == UNKNOWN && f.state == TCP_STATE_UNKNOWN);
    assert_int_equal(errno, 0);
}

static void addresses(void **state)
{
    (void)state;
    struct sockaddr_storage a;
    socklen_t n;
    struct facts f = {0};
    int l = listener(AF_INET6, SOCK_STREAM, 0, &a, &n);
    probe_addresses(l, &f);
    assert_int_equal(f.local.len, sizeof(struct sockaddr_in6));
    assert_memory_equal(&f.local.u, &a, sizeof(struct sockaddr_in6));
    assert_int_equal(f.peer.len, 0);
    close(l);
    l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    probe_addresses(l, &f);
    assert_int_equal(f.local.len, 0);
    close(l);
    int sv[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    probe_addresses(sv[0], &f);
    assert_true(f.local.len == 0 && f.peer.len == 0);
    close(sv[0]), close(sv[1]);
    struct sockaddr_un full = {.sun_family = AF_UNIX};
    memset(full.sun_path, 'a', sizeof full.sun_path);
    full.sun_path[0] = '\0';
    l = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l, (struct sockaddr *)&full, sizeof full), 0);
    probe_addresses(l, &f);
    assert_int_equal(f.local.len, sizeof full);
    assert_memory_equal(&f.local.u, &full, sizeof full);
    close(l);
}

static struct silence silence(int fd)
{
    struct silence s;
    assert_true(probe_silence(fd, &s));
    return s;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void wait_ms(int64_t ms)
{
    int64_t end = now_ms() + ms;
    while (now_ms() < end) poll(NULL, 0, (int)(end - now_ms()));
}

enum { TICKS_MS = 12 }; // of the kernel's clock, which has as few as 100 ticks a second

// The FIN lies between the last data and the last acknowledgement, whatever comes later.
static void silence_holds_the_time_of_the_fin(void **state)
{
    (void)state;
    for (int data = 0; data < 2; data++) {
        int peer, ours;
        pair(0, &peer, &ours);
        wait_ms(60);
        if (data) step('w', &peer, ours);
        wait_ms(60);
        int64_t before = now_ms();
        step('f', &peer, ours);
        int64_t fin = now_ms();
        assert_int_equal(silence(ours).state, TCP_STATE_CLOSE_WAIT);
        wait_ms(100);
        struct silence s = silence(ours);
        assert_in_range(s.ack_ms + TICKS_MS, now_ms() - fin, now_ms() - before + 2 * TICKS_MS);
        assert_true(s.data_ms + TICKS_MS >= now_ms() - fin + 60);
        // The peer still reads: what it acknowledges now says nothing of its FIN any more.
        assert_int_equal(write(ours, "x", 1), 1);
        assert_true(WAIT_UNTIL(silence(ours).ack_ms < 50));
        assert_true(silence(ours).ack_ms <= now_ms() - fin + TICKS_MS);
        assert_true(silence(ours).data_ms + TICKS_MS >= now_ms() - fin + 60);
        close(peer), close(ours);
    }
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct silence none;
    assert_false(probe_silence(s, &none));
    close(s);
}

static short hangup(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    probe_hangups(&p, 1);
    return p.revents;
}

static void hangups_tell_who_has_closed(void **state)
{
    (void)state;
    static const struct {
        const char *steps;
        bool ours_rd, ours_wr;
        short events;
    } rows[] = {
        {"", false, false, 0},         {"w", false, false, 0},          {"f", false, false, POLLRDHUP},
        {"wf", false, false, POLLRDHUP}, {"c", false, false, POLLRDHUP}, {"", true, false, POLLRDHUP},
        {"", false, true, 0},          {"f", true, false, POLLRDHUP},   {"f", false, true, POLLRDHUP | POLLHUP},
        {"", true, true, POLLRDHUP | POLLHUP},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int peer, ours;
        pair(0, &peer, &ours);
        for (const char *s = rows[i].steps; *s; s++) step(*s, &peer, ours);
        if (rows[i].ours_rd) shutdown(ours, SHUT_RD);
        if (rows[i].ours_wr) shutdown(ours, SHUT_WR);
        if ((hangup(ours) & (POLLRDHUP | POLLHUP)) != rows[i].events) fail_msg("row %zu: %x", i, hangup(ours));
        if (peer >= 0) close(peer);
        close(ours);
    }
    struct sockaddr_storage a;
    socklen_t n;
    int l = listener(AF_INET, SOCK_STREAM, 0, &a, &n), s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(hangup(l), 0);
    assert_int_equal(hangup(s), POLLHUP);
    close(l), close(s);
    assert_int_equal(hangup(s), POLLNVAL);
}

int main(void)
{
    take_interrupts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_resets_for_what_is_unread),
        cmocka_unit_test(our_fin_is_no_unsent_byte),
        cmocka_unit_test(a_unix_peer_gets_econnreset),
        cmocka_unit_test(listeners_count_their_backlog),
        cmocka_unit_test(mptcp_has_no_byte_at_the_end),
        cmocka_unit_test(lingering_is_told_from_a_reset),
        cmocka_unit_test(a_busy_peer_is_one_that_asked_and_was_answered),
        cmocka_unit_test(datagrams_show_the_next_one),
        cmocka_unit_test(kinds_by_family_type_and_protocol),
        cmocka_unit_test(kinds_that_wake),
        cmocka_unit_test(identity),
        cmocka_unit_test(addresses),
        cmocka_unit_test(silence_holds_the_time_of_the_fin),
        cmocka_unit_test(hangups_tell_who_has_closed),
    };
    return cmocka_run_group_tests(tests, make_own_network, NULL);
}
