// Hazard 28: a thread blocked sending gets EPIPE when a shutdown wakes it, and with it a SIGPIPE that by default
// ends the process. close alone left that thread hanging, but the process alive.
// timeout: 20
#include "hostile.h"

enum way { WRITE, SEND, SEND_NOSIGNAL, SENDMSG };

static struct sender {
    int fd;
    enum way way;
    _Atomic pid_t tid;
    _Atomic bool back;
    int error; // with which it came back
} sender;

static const long number[] = {SYS_write, SYS_sendto, SYS_sendto, SYS_sendmsg};

static long send_some(int fd, enum way way)
{
    static char bytes[1 << 16];
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    switch (way) {
    case WRITE:
        return write(fd, bytes, sizeof bytes);
    case SEND:
        return send(fd, bytes, sizeof bytes, 0);
    case SEND_NOSIGNAL:
        return send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
    case SENDMSG:
        return sendmsg(fd, &m, 0);
    }
    return -1;
}

static void *send_on(void *arg)
{
    struct sender *s = arg;
    atomic_store(&s->tid, tid_now());
    while (send_some(s->fd, s->way) > 0) {}
    s->error = errno;
    atomic_store(&s->back, true);
    return NULL;
}

// In a child: closes a connection under a thread blocked sending on it. way * 2, plus 1 where SIGPIPE is ignored.
static void close_under_sender(long arg)
{
    int sv[2];
    bool ignored = arg & 1;
    signal(SIGPIPE, ignored ? SIG_IGN : SIG_DFL);
    tcp_pair(sv);
    sender = (struct sender){.fd = sv[0], .way = (enum way)(arg / 2)};
    start_thread(send_on, &sender);
    while (!atomic_load(&sender.tid)) look_again();
    wait_blocked(atomic_load(&sender.tid), number[sender.way]);
    close(sv[0]);
    bool harmless = ignored || sender.way == SEND_NOSIGNAL;
    for (int64_t end = now_ms() + (harmless ? DEADLINE_MS : 300); now_ms() < end && !sender.back;) look_again();
    if (harmless && !sender.back) fail("the sender still hangs, though waking it could not end the process");
    // The kernel may have made room once more before the close: then the next call found nothing open.
    if (!harmless && sender.back && sender.error != EBADF) fail("the sender came back with neither SIGPIPE nor the process's end?");
}

int main(void)
{
    static const char *const ways[] = {"write", "send", "send with MSG_NOSIGNAL", "sendmsg"};
    need_library();
    for (long way = WRITE; way <= SENDMSG; way++)
        for (long ignored = 0; ignored < 2; ignored++) {
            char what[64];
            snprintf(what, sizeof what, "%s, SIGPIPE %s", ways[way], ignored ? "ignored" : "by default");
            in_child(what, 8000, close_under_sender, way * 2 + ignored);
        }
    return 0;
}
