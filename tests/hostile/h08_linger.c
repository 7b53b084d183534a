// Hazard 8: a program that sets SO_LINGER to 0 s asks for a reset, and its peer gets one: by whatever call the socket is
// let go of, with bytes unread or unsent, half-closed, and with threads blocked on it, which are woken all the same.
#include "hostile.h"

enum state { PLAIN, UNREAD, UNSENT, PEER_HALF_CLOSED, HALF_CLOSED, STATES };
enum block { NOBODY, RECEIVER, POLLER, SENDER, BLOCKS };

static int conn;
static _Atomic pid_t blocked_tid;
static _Atomic bool came_back;

static void *block(void *arg)
{
    static char bytes[1 << 16];
    struct pollfd p = {.fd = conn, .events = POLLIN | POLLPRI};
    atomic_store(&blocked_tid, tid_now());
    switch ((enum block)(uintptr_t)arg) {
    case RECEIVER:
        while (recv(conn, bytes, sizeof bytes, 0) > 0) {}
        break;
    case POLLER:
        while (poll(&p, 1, -1) < 0) {}
        break;
    default:
        while (send(conn, bytes, sizeof bytes, MSG_NOSIGNAL) > 0) {}
    }
    atomic_store(&came_back, true);
    return NULL;
}

static void fill(int fd)
{
    static char bytes[1 << 16];
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {}
}

static void let_go(unsigned route)
{
    FILE *f;
    switch (route % 6) {
    case 0:
        must(close(conn));
        break;
    case 1:
        must(dup2(STDOUT_FILENO, conn));
        break;
    case 2:
        must(close_range((unsigned)conn, (unsigned)conn, 0));
        break;
    case 3:
        must(syscall(SYS_close, conn));
        break;
    case 4:
        f = fdopen(conn, "r+");
        expect(f && !fclose(f));
        break;
    default:
        f = fdopen(conn, "r+");
        expect(f && freopen("/dev/null", "r", f));
    }
}

// What the peer's connection ends with, all data read: 'e' EOF, 'r' reset.
static char end_of(int fd)
{
    static char bytes[1 << 16];
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, DEADLINE_MS) != 1) return '-';
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) return n == 0 ? 'e' : errno == ECONNRESET ? 'r' : '?';
    }
}

// Behind the EOF that the program asked for first: the reset has come when the connection is no more.
static bool is_reset(int fd)
{
    struct tcp_info info;
    for (int64_t stop = now_ms() + DEADLINE_MS; now_ms() < stop; look_again()) {
        socklen_t n = sizeof info;
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_state == TCP_CLOSE) return true;
    }
    return false;
}

static bool can_block(enum block who, enum state state)
{
    switch (who) {
    case NOBODY:
        return false;
    case RECEIVER:
        return state != PEER_HALF_CLOSED;
    case SENDER:
        return state != HALF_CLOSED;
    default:
        return state != UNREAD && state != PEER_HALF_CLOSED;
    }
}

static void scenario(long n)
{
    enum state state = (enum state)(n % STATES);
    enum block who = (enum block)(n / STATES % BLOCKS);
    int sv[2];
    struct linger l = {.l_onoff = 1, .l_linger = 0};
    pthread_t t = 0;
    tcp_pair(sv);
    conn = sv[0];
    must(setsockopt(conn, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    if (state == UNREAD) expect(send(sv[1], "abc", 3, 0) == 3);
    if (state == UNSENT) fill(conn);
    if (state == PEER_HALF_CLOSED) must(shutdown(sv[1], SHUT_WR));
    if (state == HALF_CLOSED) must(shutdown(conn, SHUT_WR));
    if (can_block(who, state)) {
        t = start_thread(block, (void *)(uintptr_t)who);
        while (!atomic_load(&blocked_tid)) look_again();
        wait_blocked(blocked_tid, who == SENDER ? SYS_sendto : who == RECEIVER ? SYS_recvfrom : SYS_poll);
    }
    let_go((unsigned)(n / STATES / BLOCKS));
    char end = end_of(sv[1]);
    if (end == 'e' && state == HALF_CLOSED && is_reset(sv[1])) end = 'r';
    if (end != 'r') fail("state %d, thread %d, route %ld: the peer sees '%c', not its reset", state, who, n / STATES / BLOCKS, end);
    if (!t || !library_here()) raw_exit(0);
    for (int64_t stop = now_ms() + DEADLINE_MS; !atomic_load(&came_back); look_again())
        if (now_ms() > stop) fail("state %d, thread %d: the blocked thread was not woken", state, who);
}

int main(void)
{
    need_library();
    // Bare, a blocked thread keeps the connection as it is: that is what the library is for.
    for (long n = 0; n < STATES * BLOCKS * 6; n++)
        if (library_here() || n / STATES % BLOCKS == NOBODY) in_child("SO_LINGER 0", 10000, scenario, n);
    return 0;
}
