// Hazard 21: every kind of socket that can be made here, in every state that it comes to, and what is no socket: each
// call answers as it does without the library. So do those of a child that holds the same socket, which may have an error
// pending or bytes unread that are the child's to find; and the peer sees the same end.
#include "hostile.h"

#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

enum { ROUTES = 7, STATES = 9 };

static void result(const char *what, int a, int b, long ret)
{
    // The numbers of descriptors are not the point.
    printf("%s %d.%d: %d %s\n", what, a, b, ret < 0 ? -1 : 0, ret < 0 ? strerrorname_np(errno) : "");
}

static void let_go(int fd, int route, int a, int b)
{
    FILE *f;
    switch (route) {
    case 0:
        result("close", a, b, close(fd));
        break;
    case 1:
        result("dup2", a, b, dup2(STDIN_FILENO, fd));
        result("close after dup2", a, b, close(fd));
        break;
    case 2:
        result("dup3", a, b, dup3(STDIN_FILENO, fd, O_CLOEXEC));
        result("close after dup3", a, b, close(fd));
        break;
    case 3:
        result("close_range", a, b, close_range((unsigned)fd, (unsigned)fd, 0));
        break;
    case 4:
        result("syscall", a, b, syscall(SYS_close, fd));
        break;
    case 5:
        f = fdopen(fd, "r");
        result("fdopen", a, b, f ? 0 : -1);
        result("fclose", a, b, f ? fclose(f) : close(fd));
        break;
    default:
        f = fdopen(fd, "r");
        f = f ? freopen("/dev/null", "r", f) : NULL;
        result("freopen", a, b, f ? 0 : -1);
        result("fclose", a, b, f ? fclose(f) : close(fd));
    }
    result("close again", a, b, close(fd));
}

static socklen_t some_address(int family, struct sockaddr_storage *at)
{
    memset(at, 0, sizeof *at);
    at->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        ((struct sockaddr_in *)at)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof(struct sockaddr_in);
    }
    if (family == AF_INET6) {
        ((struct sockaddr_in6 *)at)->sin6_addr = in6addr_loopback;
        return sizeof(struct sockaddr_in6);
    }
    if (family == AF_UNIX) return sizeof(sa_family_t); // autobind
    if (family == AF_NETLINK) return sizeof(struct sockaddr_nl);
    if (family == AF_PACKET) return sizeof(struct sockaddr_ll);
    if (family == AF_VSOCK) {
        *(struct sockaddr_vm *)at = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
        return sizeof(struct sockaddr_vm);
    }
    return sizeof *at;
}

// Brings it to a state; whether that works is part of what is compared.
static void into_state(int fd, int family, int state, int a, int b)
{
    struct sockaddr_storage at;
    struct linger l = {1, 0};
    char byte = 'x';
    socklen_t n = some_address(family, &at);
    if (state == 1 || state == 2 || state == 6) result("bind", a, b, bind(fd, (struct sockaddr *)&at, n));
    if (state == 2) result("listen", a, b, listen(fd, 5));
    if (state == 3) {
        must(fcntl(fd, F_SETFL, O_NONBLOCK));
        if (family == AF_INET) { // nobody answers: under way
            inet_pton(AF_INET, "192.0.2.1", &((struct sockaddr_in *)&at)->sin_addr);
            ((struct sockaddr_in *)&at)->sin_port = htons(9);
        }
        result("connect", a, b, connect(fd, (struct sockaddr *)&at, n));
    }
    if (state == 4) result("linger", a, b, setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    if (state == 5) result("shutdown", a, b, shutdown(fd, SHUT_RDWR));
    if (state == 6) { // connected to itself
        socklen_t size = sizeof at;
        result("getsockname", a, b, getsockname(fd, (struct sockaddr *)&at, &size));
        must(fcntl(fd, F_SETFL, O_NONBLOCK));
        result("connect to itself", a, b, connect(fd, (struct sockaddr *)&at, size));
        result("send", a, b, send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
    }
    if (state == 7) result("O_ASYNC", a, b, fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
    if (state == 8) {
        result("recv", a, b, recv(fd, &byte, 1, MSG_DONTWAIT));
        result("SO_ERROR", a, b, getsockopt(fd, SOL_SOCKET, SO_ERROR, &(int){0}, &(socklen_t){sizeof(int)}));
    }
}

static void each_socket(int family, int type, int protocol, int what)
{
    for (int state = 0; state < STATES; state++)
        for (int route = 0; route < ROUTES; route++) {
            int fd = socket(family, type, protocol);
            result("socket", what, type, fd);
            if (fd < 0) return;
            into_state(fd, family, state, what, state);
            let_go(fd, route, what, state);
        }
}

static int other(int kind)
{
    int p[2];
    sigset_t none;
    sigemptyset(&none);
    switch (kind) {
    case 0:
        must(pipe(p));
        close(p[1]);
        return p[0];
    case 1:
        return eventfd(0, 0);
    case 2:
        return timerfd_create(CLOCK_MONOTONIC, 0);
    case 3:
        return signalfd(-1, &none, 0);
    case 4:
        return inotify_init1(0);
    case 5:
        return memfd_create("m", 0);
    case 6:
        return open("/", O_RDONLY | O_DIRECTORY);
    case 7:
        return open("/dev/null", O_RDWR);
    case 8:
        return epoll_create1(0);
    case 9:
        return (int)syscall(SYS_pidfd_open, getpid(), 0);
    case 10:
        return posix_openpt(O_RDWR | O_NOCTTY);
    default:
        return open("/", O_PATH);
    }
}

// --- Connected, and shared with a child ---

enum { TCP, TCP6, MPTCP, UNIX, SEQPACKET, UNIX_DGRAM, UDP, PAIRS };
enum { IDLE, BYTES, URGENT, PEER_GONE, PEER_RESET, REFUSED, HALF_SHUT, PAIR_STATES };

static bool connected(int kind, int sv[2])
{
    struct sockaddr_storage at;
    int family = kind == TCP6 ? AF_INET6 : AF_INET;
    int type = kind == SEQPACKET ? SOCK_SEQPACKET : kind == UDP || kind == UNIX_DGRAM ? SOCK_DGRAM : SOCK_STREAM;
    if (kind == UNIX || kind == SEQPACKET || kind == UNIX_DGRAM) return socketpair(AF_UNIX, type, 0, sv) == 0;
    int l = socket(family, type, kind == MPTCP ? 262 : 0);
    socklen_t n = some_address(family, &at);
    if (l < 0 || bind(l, (struct sockaddr *)&at, n)) return false;
    must(getsockname(l, (struct sockaddr *)&at, &n));
    if (type == SOCK_STREAM) must(listen(l, 5));
    sv[0] = must(socket(family, type, kind == MPTCP ? 262 : 0));
    must(connect(sv[0], (struct sockaddr *)&at, n));
    if (kind == UDP) {
        must(getsockname(sv[0], (struct sockaddr *)&at, &n));
        must(connect(l, (struct sockaddr *)&at, n));
        sv[1] = l;
        return true;
    }
    sv[1] = must(accept(l, NULL, NULL));
    raw_close(l);
    return true;
}

// A connection's end comes in its time; datagrams know none.
static void settle(int kind, int state, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    poll(&p, 1, kind < UNIX_DGRAM || state == REFUSED ? DEADLINE_MS : 0);
}

// Into what the child is to find. Returns false where that is not possible.
static bool into_pair_state(int kind, int state, int sv[2])
{
    struct linger l = {1, 0};
    struct sockaddr_storage at;
    socklen_t n = some_address(AF_INET, &at);
    switch (state) {
    case BYTES:
        return send(sv[1], "abc", 3, 0) == 3;
    case URGENT:
        if (kind > TCP6) return false;
        return send(sv[1], "ab", 2, 0) == 2 && send(sv[1], "u", 1, MSG_OOB) == 1;
    case PEER_GONE:
        raw_close(sv[1]);
        break;
    case PEER_RESET:
        if (kind > MPTCP) return false;
        must(setsockopt(sv[1], SOL_SOCKET, SO_LINGER, &l, sizeof l));
        raw_close(sv[1]);
        break;
    case REFUSED: // nobody listens there
        if (kind != TCP && kind != UDP) return false;
        raw_close(sv[0]);
        sv[0] = must(socket(AF_INET, (kind == TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0));
        ((struct sockaddr_in *)&at)->sin_port = htons(9);
        if (connect(sv[0], (struct sockaddr *)&at, n) && errno != EINPROGRESS) return false;
        if (kind == UDP) must(send(sv[0], "x", 1, 0));
        break;
    case HALF_SHUT:
        if (shutdown(sv[1], SHUT_WR)) return false;
        break;
    default:
        return true;
    }
    settle(kind, state, sv[0]);
    return true;
}

static void use(const char *who, int fd, int a, int b)
{
    char bytes[8] = "";
    int error = 0, again = 0;
    socklen_t n = sizeof error;
    char what[40];
    snprintf(what, sizeof what, "%s has SO_ERROR", who);
    result(what, a, b, getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n));
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &again, &n);
    printf("%s %d then %d\n", what, error, again);
    // An MPTCP socket at its end answers now this, now that.
    for (int i = 0; i < (a == MPTCP ? 1 : 2); i++) {
        ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        printf("%s receives %d: %d %.*s %s\n", who, a, (int)got, got > 0 ? (int)got : 0, bytes, got < 0 ? strerrorname_np(errno) : "");
    }
    snprintf(what, sizeof what, "%s receives urgently", who);
    if (a != MPTCP) result(what, a, b, recv(fd, bytes, 1, MSG_OOB | MSG_DONTWAIT));
    snprintf(what, sizeof what, "%s sends", who);
    result(what, a, b, send(fd, "y", 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static void each_pair(int kind, int state, int route, bool shared)
{
    int sv[2], go[2];
    char byte;
    if (!shared && (state == BYTES || state == URGENT)) return; // a reset or not: that is a setting
    if (!connected(kind, sv)) return;
    if (!into_pair_state(kind, state, sv)) goto end;
    printf("pair %d.%d by %d\n", kind, state, route);
    must(pipe(go));
    fflush(stdout);
    pid_t pid = shared ? must(fork()) : 0;
    if (shared && !pid) {
        raw_close(sv[1]);
        if (read(go[0], &byte, 1) != 1) raw_exit(1);
        use("the child", sv[0], kind, state);
        fflush(stdout);
        raw_exit(0);
    }
    let_go(sv[0], route, kind, state);
    must(write(go[1], "g", 1));
    if (shared) must(waitpid(pid, NULL, 0));
    raw_close(go[0]);
    raw_close(go[1]);
    if (state != PEER_GONE && state != PEER_RESET && state != REFUSED) {
        settle(kind, state, sv[1]);
        use("the peer", sv[1], kind, state);
    }
end:
    raw_close(sv[0]);
    raw_close(sv[1]);
}

static void all_pairs(void)
{
    for (int kind = 0; kind < PAIRS; kind++)
        for (int state = 0; state < PAIR_STATES; state++)
            for (int route = 0; route < ROUTES - 1; route++) {
                each_pair(kind, state, route, true);
                each_pair(kind, state, route, false);
            }
}

static int everything(void)
{
    static const int families[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG, AF_CAN, AF_KEY,
                                   44 /* AF_XDP */, AF_TIPC, 41 /* AF_KCM */, 43 /* AF_SMC */, AF_BLUETOOTH, AF_RDS, AF_PPPOX,
                                   AF_LLC, AF_NFC, 42 /* AF_QIPCRTR */, 45 /* AF_MCTP */};
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_RAW, SOCK_RDM};
    signal(SIGIO, SIG_IGN);
    for (unsigned f = 0; f < sizeof families / sizeof *families; f++)
        for (unsigned t = 0; t < sizeof types / sizeof *types; t++) each_socket(families[f], types[t], 0, families[f]);
    each_socket(AF_INET, SOCK_STREAM, 262 /* IPPROTO_MPTCP */, 1000);
    each_socket(AF_INET6, SOCK_STREAM, 262, 1001);
    each_socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, 1002);
    each_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP, 1003);
    each_socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP, 1004);
    each_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP, 1005);
    each_socket(AF_INET, SOCK_RAW, IPPROTO_RAW, 1006);
    for (int protocol = 0; protocol < 23; protocol++) each_socket(AF_NETLINK, SOCK_RAW, protocol, 1100 + protocol);
    for (int kind = 0; kind < 12; kind++)
        for (int route = 0; route < ROUTES; route++) {
            int fd = other(kind);
            result("other", kind, route, fd);
            if (fd >= 0) let_go(fd, route, kind, route);
        }
    all_pairs();
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "everything")) return everything();
    need_library();
    int a, b;
    char *without = output_of_self("everything", NULL, false, &a), *with = output_of_self("everything", NULL, true, &b);
    expect_same("kinds of sockets", without, with);
    expect(a == 0 && b == 0);
    expect(count_of(without, "\n") > 1000);
    return 0;
}
