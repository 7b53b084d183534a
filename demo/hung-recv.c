// Five threads wait, each in a call on a socket of its own: recv, accept, send, poll, and recv on
// UDP. Then the main thread closes the five sockets.
//
// On Linux close wakes none of them. A thread inside a call holds the socket, so the kernel keeps
// it: the peer is told nothing, a closed listener still takes connections. shutdown(2) wakes them.
#include "demo.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static const double DEADLINE = 1.0;

struct waiter {
    const char *what;
    long (*call)(int fd);
    const char *family; // where the kernel lists the socket
    int fd;
    int port;
    int peer_port;

    atomic_int tid; // set right before the call
    long result;
    double returned_at;
    int error;
    atomic_bool returned;
};

static long wait_in_recv(int fd)
{
    char byte;
    return recv(fd, &byte, 1, 0);
}

static long wait_in_accept(int fd)
{
    return accept(fd, NULL, NULL);
}

static long wait_in_send(int fd)
{
    static const char block[65536];
    long sent = 1;
    while (sent > 0) sent = send(fd, block, sizeof block, MSG_NOSIGNAL);
    return sent;
}

static long wait_in_poll(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    return poll(&readable, 1, -1);
}

static void *wait_in_call(void *argument)
{
    struct waiter *waiter = argument;
    waiter->tid = gettid();
    waiter->result = waiter->call(waiter->fd);
    waiter->error = errno;
    waiter->returned_at = seconds();
    waiter->returned = true;
    return NULL;
}

static struct waiter on_connection(const char *what, long (*call)(int fd))
{
    struct pair pair = loopback_pair(); // its other end stays open, and says nothing
    return (struct waiter){.what = what,
                           .call = call,
                           .family = "tcp",
                           .fd = pair.server,
                           .port = pair.server_port,
                           .peer_port = pair.client_port};
}

static struct waiter on_listener(const char *what, long (*call)(int fd))
{
    struct waiter waiter = {.what = what, .call = call, .family = "tcp"};
    waiter.fd = loopback_listen(&waiter.port);
    return waiter;
}

static struct waiter on_udp(const char *what, long (*call)(int fd))
{
    struct waiter waiter = {.what = what, .call = call, .family = "udp"};
    waiter.fd = loopback_udp(&waiter.port);
    return waiter;
}

static const char *what_became_of(struct waiter *waiter, double closed_at)
{
    if (!waiter->returned) return text("still blocked after %.1f s", DEADLINE);
    double milliseconds = (waiter->returned_at - closed_at) * 1000;
    errno = waiter->error;
    const char *result = waiter->result < 0 ? outcome(-1) : text("%ld", waiter->result);
    return text("returned %s after %.1f ms", result, milliseconds);
}

int main(void)
{
    enum { RECV, ACCEPT, SEND, POLL, UDP, COUNT };
    static struct waiter waiters[COUNT]; // static: a thread that stays blocked outlives main
    waiters[RECV] = on_connection("recv", wait_in_recv);
    waiters[ACCEPT] = on_listener("accept", wait_in_accept);
    waiters[SEND] = on_connection("send, buffers full", wait_in_send);
    waiters[POLL] = on_connection("poll", wait_in_poll);
    waiters[UDP] = on_udp("recv on UDP", wait_in_recv);
    fill(waiters[SEND].fd);

    for (int i = 0; i < COUNT; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, wait_in_call, &waiters[i]);
        while (waiters[i].tid == 0) continue;
        await_blocked(waiters[i].tid);
    }
    printf("%d threads are blocked. Closing their sockets.\n\n", COUNT);

    double closed_at = seconds();
    for (int i = 0; i < COUNT; i++) close(waiters[i].fd);

    for (int i = 0; i < COUNT; i++)
        while (!waiters[i].returned && seconds() < closed_at + DEADLINE) sleep_seconds(0.001);

    static const struct table results = {.width = {21, 30, 22}};
    table_head(&results, "thread in", "after close", "the socket is");
    for (int i = 0; i < COUNT; i++) {
        struct waiter *waiter = &waiters[i];
        struct end socket = look(waiter->family, waiter->port, waiter->peer_port);
        table_row(&results, waiter->what, what_became_of(waiter, closed_at), socket.state);
    }

    int client = loopback_connect(waiters[ACCEPT].port, NULL);
    printf("\nA client connects to the closed listener: %s\n", client < 0 ? outcome(client) : "connected");
    return 0;
}
