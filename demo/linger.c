// SO_LINGER decides what close does with bytes that are sent but not yet delivered.
//
// Off: close returns at once, the kernel delivers in the background. On with 0 s: close drops them
// and resets. On with n s: close waits until they are delivered, n seconds at most, also on a
// non-blocking socket. Each time the peer is slow: it starts to read some time after the close.
#include "demo.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct table results = {.width = {26, 12, 9, 17, 13}};

struct closing {
    const char *setting;
    struct linger linger;
    bool non_blocking;
    bool all_delivered;   // a few bytes that the peer has at close; otherwise all that fits
    double peer_reads_at; // seconds after close has begun
};

struct peer {
    int fd;
    double reads_at;
    struct received received;
};

static void *read_late(void *argument)
{
    struct peer *peer = argument;
    sleep_seconds(peer->reads_at);
    peer->received = read_to_end(peer->fd);
    close(peer->fd);
    return NULL;
}

static void show(const struct closing *closing)
{
    struct pair pair = loopback_pair();
    int fd = pair.server;
    must("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &closing->linger, sizeof closing->linger));
    if (closing->non_blocking) must("fcntl", fcntl(fd, F_SETFL, O_NONBLOCK));

    long sent = closing->all_delivered ? must("send", send(fd, "reply", 5, 0)) : fill(fd);
    if (closing->all_delivered) await_delivery(pair.server_port, pair.client_port);

    struct peer peer = {.fd = pair.client, .reads_at = closing->peer_reads_at};
    pthread_t thread;
    pthread_create(&thread, NULL, read_late, &peer);

    double start = seconds();
    close(fd);
    double took = seconds() - start;
    pthread_join(thread, NULL);

    table_row(&results, closing->setting, text("%.1f s", closing->peer_reads_at), text("%.1f s", took),
              text("%ld %%", peer.received.bytes * 100 / sent), peer.received.end);
}

int main(void)
{
    static const struct closing closings[] = {
        {"off", {.l_onoff = 0}, .peer_reads_at = 0.3},
        {"on, 0 s", {.l_onoff = 1, .l_linger = 0}, .peer_reads_at = 0.3},
        {"on, 0 s, all delivered",
         {.l_onoff = 1, .l_linger = 0},
         .all_delivered = true,
         .peer_reads_at = 0.3},
        {"on, 5 s", {.l_onoff = 1, .l_linger = 5}, .peer_reads_at = 0.3},
        {"on, 1 s", {.l_onoff = 1, .l_linger = 1}, .peer_reads_at = 1.3},
        {"on, 1 s, non-blocking", {.l_onoff = 1, .l_linger = 1}, .non_blocking = true, .peer_reads_at = 1.3},
    };
    table_row(&results, "", "the peer", "close", "of what was sent", "");
    table_head(&results, "SO_LINGER", "reads after", "took", "the peer gets", "and then");
    for (size_t i = 0; i < sizeof closings / sizeof closings[0]; i++) show(&closings[i]);
    return 0;
}
