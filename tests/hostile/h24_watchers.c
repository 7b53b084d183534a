// Hazard 24: others that watch a socket without a descriptor of their own: a poll in an io_uring, in kernel AIO, a SIGIO
// owner. A close tells them nothing; a shutdown would. What they are told must be the same with the library.
#include "hostile.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>

static void let_go(int fd, unsigned route)
{
    switch (route % 3) {
    case 0:
        must(close(fd));
        break;
    case 1:
        must(dup2(STDIN_FILENO, fd));
        break;
    default:
        must(close_range((unsigned)fd, (unsigned)fd, 0));
    }
}

// --- io_uring ---

struct ring {
    int fd;
    _Atomic unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqe;
    struct io_uring_cqe *cqe;
};

static void open_ring(struct ring *r)
{
    struct io_uring_params p = {0};
    r->fd = (int)syscall(SYS_io_uring_setup, 8, &p);
    if (r->fd < 0) skip("no io_uring here: %s", strerror(errno));
    size_t sq_size = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t cq_size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    char *sq = mmap(NULL, sq_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, cq_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
    r->sqe = mmap(NULL, p.sq_entries * sizeof *r->sqe, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
    expect(sq != MAP_FAILED && cq != MAP_FAILED && r->sqe != MAP_FAILED);
    r->sq_tail = (void *)(sq + p.sq_off.tail);
    r->sq_mask = (void *)(sq + p.sq_off.ring_mask);
    r->sq_array = (void *)(sq + p.sq_off.array);
    r->cq_head = (void *)(cq + p.cq_off.head);
    r->cq_tail = (void *)(cq + p.cq_off.tail);
    r->cq_mask = (void *)(cq + p.cq_off.ring_mask);
    r->cqe = (void *)(cq + p.cq_off.cqes);
}

static void submit(struct ring *r, unsigned char op, int fd, uint64_t what, void *at, unsigned n)
{
    unsigned tail = *r->sq_tail, i = tail & *r->sq_mask;
    r->sqe[i] = (struct io_uring_sqe){.opcode = op, .fd = fd, .user_data = what, .addr = (uintptr_t)at, .len = n};
    if (op == IORING_OP_POLL_ADD) r->sqe[i].poll32_events = POLLIN;
    r->sq_array[i] = i;
    atomic_store(r->sq_tail, tail + 1);
    expect(syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0) == 1);
}

static unsigned completions(struct ring *r)
{
    syscall(SYS_io_uring_enter, r->fd, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    return atomic_load(r->cq_tail) - atomic_load(r->cq_head);
}

static void in_ring(long n)
{
    struct ring r;
    int sv[2];
    static char byte;
    if (n & 8) pair(sv); // opened before the ring was
    open_ring(&r);
    if (!(n & 8)) {
        if (n & 4) tcp_pair(sv);
        else pair(sv);
    }
    submit(&r, n & 16 ? IORING_OP_RECV : IORING_OP_POLL_ADD, sv[0], 1, n & 16 ? &byte : NULL, n & 16);
    expect(completions(&r) == 0);
    let_go(sv[0], (unsigned)n);
    for (int i = 0; i < 20; i++) look_again();
    if (completions(&r)) fail("the ring was told of a close: %d", r.cqe[0].res);
    // The watcher is alive: what the peer sends still comes to it.
    expect(send(sv[1], "x", 1, MSG_NOSIGNAL) == 1);
    for (int64_t end = now_ms() + DEADLINE_MS; !completions(&r); look_again())
        if (now_ms() > end) fail("what the peer sent did not come to the ring");
}

// --- Kernel AIO ---

static void in_aio(long route)
{
    aio_context_t context = 0;
    struct iocb cb = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN}, *list = &cb;
    struct io_event event;
    struct timespec none = {0, 0};
    int sv[2];
    if (syscall(SYS_io_setup, 4, &context)) skip("no kernel AIO here: %s", strerror(errno));
    pair(sv);
    cb.aio_fildes = (unsigned)sv[0];
    if (syscall(SYS_io_submit, context, 1, &list) != 1) skip("no poll in kernel AIO here: %s", strerror(errno));
    let_go(sv[0], (unsigned)route);
    for (int i = 0; i < 20; i++) look_again();
    if (syscall(SYS_io_getevents, context, 0, 1, &event, &none) != 0) fail("a poll in kernel AIO was told of a close");
    expect(send(sv[1], "x", 1, MSG_NOSIGNAL) == 1);
    struct timespec limit = {DEADLINE_MS / 1000, 0};
    expect(syscall(SYS_io_getevents, context, 1, 1, &event, &limit) == 1);
}

// --- SIGIO ---

static _Atomic unsigned signals;

static void on_signal(int sig)
{
    (void)sig;
    atomic_fetch_add(&signals, 1);
}

static void to_owner(long n)
{
    int sv[2], one = 1, signal_number = n & 8 ? SIGRTMIN + 1 : SIGIO;
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    must(sigaction(signal_number, &sa, NULL));
    struct sockaddr_in at;
    bool listens = n >= 64; // whose shutdown is an error to the kernel (net/ipv4/tcp.c tcp_disconnect)
    if (listens) sv[0] = listener_on(&at);
    else if (n & 16) tcp_pair(sv);
    else pair(sv);
    must(fcntl(sv[0], F_SETOWN, getpid()));
    if (n & 8) must(fcntl(sv[0], F_SETSIG, signal_number));
    int by = n & 32 ? must(dup(sv[0])) : sv[0]; // set through a duplicate, of which nothing is left
    switch (n & 3) {
    case 0:
        must(fcntl(by, F_SETFL, O_ASYNC | O_NONBLOCK));
        break;
    case 1:
        must(ioctl(by, FIOASYNC, &one));
        break;
    case 2:
        must(syscall(SYS_fcntl, by, F_SETFL, O_ASYNC));
        break;
    default:
        must(syscall(SYS_ioctl, by, FIOASYNC, &one));
    }
    if (by != sv[0]) must(close(by));
    char byte;
    if (listens) must(connect(must(socket(AF_INET, SOCK_STREAM, 0)), (struct sockaddr *)&at, sizeof at));
    else expect(send(sv[1], "x", 1, 0) == 1);
    for (int64_t end = now_ms() + DEADLINE_MS; !signals; look_again())
        if (now_ms() > end) fail("no signal came for a byte: this test tests nothing");
    if (listens) must(accept(sv[0], NULL, NULL));
    else expect(recv(sv[0], &byte, 1, MSG_DONTWAIT) == 1);
    for (int i = 0; i < 5; i++) look_again();
    unsigned before = atomic_load(&signals);
    let_go(sv[0], (unsigned)n / 4);
    for (int i = 0; i < 20; i++) look_again();
    if (atomic_load(&signals) != before) fail("the owner was sent a signal for a close");
}

int main(void)
{
    need_library();
    for (long n = 0; n < 96; n++) in_child("SIGIO", 10000, to_owner, n);
    for (long route = 0; route < 3; route++) in_child("kernel AIO", 10000, in_aio, route);
    for (long n = 0; n < 32; n++) in_child("io_uring", 10000, in_ring, n);
    return 0;
}
