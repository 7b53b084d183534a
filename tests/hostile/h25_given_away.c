// Hazard 25: a child has the socket by fork and gives it away over SCM_RIGHTS. It is in the queue of the child, where no
// table shows it; in the queue of a process that was there long before the socket; in that process's table, which
// descends from nobody who ever held it. It is never cut.
#include "hostile.h"

static int conn[2], to_elder[2], told[2], go[2];

static char control[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
static char byte = 'g';
static struct iovec part = {&byte, 1};

static void give(int over, const int fds[2])
{
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int))};
    memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
    must(sendmsg(over, &m, 0));
}

static void take(int over, int fds[2])
{
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(over, &m, 0) != 1) raw_exit(2);
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), 2 * sizeof(int));
}

static void check(const int fds[2])
{
    must(read(go[0], &byte, 1));
    if (!both_ways(fds[0], fds[1])) fail("the connection was cut under its other holder");
    raw_exit(0);
}

static void close_with_thread(const char *holder)
{
    struct receiver r;
    start_receiver(&r, conn[0]);
    must(close(conn[0]));
    if (peer_sees(conn[1], 20) != '-') fail("cut, though %s holds it", holder);
    expect(send(conn[1], "x", 1, MSG_NOSIGNAL) == 1 && comes_back(&r, DEADLINE_MS));
    must(write(go[1], "g", 1));
}

static void to_an_elder(long reads_later)
{
    int fds[2];
    pair(to_elder);
    must(pipe(told));
    must(pipe(go));
    pid_t elder = must(fork());
    if (!elder) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        must(close(to_elder[0]));
        if (reads_later) must(read(told[0], &byte, 1));
        take(to_elder[1], fds);
        if (!reads_later) must(write(told[1], "h", 1));
        check(fds);
    }
    must(close(to_elder[1]));
    for (int i = 0; i < 150; i++) look_again(); // a start time is counted in hundredths of a second
    pair(conn);
    pid_t child = must(fork());
    if (!child) {
        give(to_elder[0], conn);
        raw_exit(0);
    }
    reap(child, "the child", DEADLINE_MS);
    if (!reads_later) must(read(told[0], &byte, 1));
    close_with_thread(reads_later ? "a message to an older process" : "an older process");
    if (reads_later) must(write(told[1], "r", 1));
    reap(elder, "the older process", DEADLINE_MS);
}

// The child keeps it in a message to itself.
static void in_own_queue(long arg)
{
    int over[2], fds[2];
    (void)arg;
    pair(conn);
    must(pipe(told));
    must(pipe(go));
    pid_t child = must(fork());
    if (!child) {
        pair(over);
        give(over[0], conn);
        must(close(conn[0]));
        must(write(told[1], "h", 1));
        must(read(go[0], &byte, 1));
        must(write(go[1], "g", 1));
        take(over[1], fds);
        check(fds);
    }
    must(read(told[0], &byte, 1));
    close_with_thread("a message in flight");
    reap(child, "the child", DEADLINE_MS);
}

int main(void)
{
    need_library();
    in_child("given to an older process", 10000, to_an_elder, 0);
    in_child("in the queue of an older process", 10000, to_an_elder, 1);
    in_child("in a child's own queue", 10000, in_own_queue, 0);
    return 0;
}
