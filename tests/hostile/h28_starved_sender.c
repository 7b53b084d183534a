// Hazards 8 and 28: a sender that the peer has just made room for, and that other work keeps from its processor, is
// blocked in no call that could be seen. It must not get a SIGPIPE that it would not have had, and after a reset it
// must not go on to fill the buffer and hang.
// timeout: 30
#include "hostile.h"

static int conn;
static _Atomic pid_t sender_tid;
static _Atomic bool came_back, enough;

// One byte at a time, so that the call that meets the shutdown has sent nothing yet; or in one call more than any
// buffer takes, so that it blocks again.
static void *send_bytes(void *arg)
{
    static char bytes[64 << 20];
    size_t at_once = *(long *)arg ? sizeof bytes : 1;
    must(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}));
    atomic_store(&sender_tid, tid_now());
    while (!atomic_load(&enough) && write(conn, bytes, at_once) == (ssize_t)at_once) {}
    atomic_store(&came_back, true);
    return arg;
}

static void *keep_busy(void *arg)
{
    while (!atomic_load(&enough)) {}
    return arg;
}

static void share_one_processor(void)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    must(sched_getaffinity(0, sizeof all, &all));
    for (size_t i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    must(sched_setaffinity(0, sizeof one, &one));
}

// The peer's buffer is much smaller than ours, so that bytes stay unsent when it reads.
static void small_peer(int sv[2])
{
    struct sockaddr_in at;
    int l = listener_on(&at), small = 8192, large = 200000;
    must(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    sv[0] = must(socket(AF_INET, SOCK_STREAM, 0));
    must(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &large, sizeof large));
    must(connect(sv[0], (struct sockaddr *)&at, sizeof at));
    sv[1] = must(accept(l, NULL, NULL));
    must(close(l));
}

static void fill(int fd)
{
    static char bytes[1 << 16];
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {}
}

// In a child. reset: SO_LINGER with 0 s and SIGPIPE ignored; otherwise neither.
static void close_over_starved_sender(long reset)
{
    int sv[2], unsent = 0, null = must(open("/dev/null", O_WRONLY | O_CLOEXEC));
    static char bytes[1 << 12];
    struct linger l = {.l_onoff = 1, .l_linger = 0};
    signal(SIGPIPE, reset ? SIG_IGN : SIG_DFL);
    share_one_processor();
    small_peer(sv);
    conn = sv[0];
    if (reset) must(setsockopt(conn, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    fill(conn);
    start_thread(send_bytes, &reset);
    while (!atomic_load(&sender_tid)) look_again();
    wait_blocked(atomic_load(&sender_tid), SYS_write);
    pthread_t busy = start_thread(keep_busy, NULL);
    for (int64_t end = now_ms() + DEADLINE_MS; is_blocked(getpid(), atomic_load(&sender_tid), SYS_write);) {
        if (now_ms() > end) fail("the peer reads, and the sender never has room");
        must(recv(sv[1], bytes, sizeof bytes, MSG_DONTWAIT) < 0 && errno != EAGAIN ? -1 : 0);
    }
    must(ioctl(conn, TIOCOUTQ, &unsent));
    must(close(conn));
    must(dup2(null, conn)); // what the sender sends from here on must hit no other socket
    atomic_store(&enough, true);
    pthread_join(busy, NULL);
    expect(unsent > 1 << 16);
    if (!reset || !library_here()) {
        still_works("a close over a sender that runs");
        return;
    }
    for (int64_t end = now_ms() + DEADLINE_MS; !atomic_load(&came_back); look_again())
        if (now_ms() > end) fail("the sender has blocked after the reset, and hangs");
}

int main(void)
{
    need_library();
    in_child("SIGPIPE by default", 10000, close_over_starved_sender, 0);
    in_child("SO_LINGER 0", 10000, close_over_starved_sender, 1);
    return 0;
}
