// Hazard 28: a thread in the middle of sending, not blocked, when another thread closes. Without the library it goes
// on, and its next call gets EBADF. A receiver on the same connection is woken all the same.
// timeout: 40
#include "hostile.h"

enum { TRIALS = 100, CHUNK = 100 };

static int conn, peer;
static _Atomic pid_t sender_tid;

static void *send_on(void *arg)
{
    static char bytes[CHUNK];
    atomic_store(&sender_tid, tid_now());
    while (write(conn, bytes, sizeof bytes) > 0) {}
    return arg;
}

static void *drain(void *arg)
{
    static char bytes[1 << 16];
    while (recv(peer, bytes, sizeof bytes, 0) > 0) {}
    return arg;
}

static void connect_both(void)
{
    int sv[2];
    signal(SIGPIPE, SIG_DFL);
    tcp_pair(sv);
    conn = sv[0];
    peer = sv[1];
}

static void close_while_sending(long trial)
{
    uint64_t random = (uint64_t)trial * 2654435761u + 1;
    connect_both();
    start_thread(drain, NULL);
    pthread_t sender = start_thread(send_on, NULL);
    while (!atomic_load(&sender_tid)) look_again();
    nanosleep(&(struct timespec){.tv_nsec = (long)(next_random(&random) % 4000000)}, NULL);
    must(close(conn));
    pthread_join(sender, NULL);
}

static void close_under_sender_and_receiver(long arg)
{
    struct receiver r;
    (void)arg;
    connect_both();
    start_thread(send_on, NULL);
    while (!atomic_load(&sender_tid)) look_again();
    wait_blocked(atomic_load(&sender_tid), SYS_write);
    start_receiver(&r, conn);
    must(close(conn));
    if (library_here() && !comes_back(&r, DEADLINE_MS)) fail("the receiver beside a sender was not woken");
}

int main(void)
{
    need_library();
    for (long trial = 0; trial < TRIALS; trial++) in_child("sending while another closes", 10000, close_while_sending, trial);
    in_child("sending and receiving", 10000, close_under_sender_and_receiver, 0);
    return 0;
}
