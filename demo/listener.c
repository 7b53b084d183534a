// A listener is closed while connections wait in its queues.
//
// A connection is established before the program accepts it: the kernel completes the handshake
// and puts it in the accept queue. Before that it is half open, in SYN_RECV. Usually this lasts
// microseconds; TCP_DEFER_ACCEPT keeps a connection there until its first byte comes (tcp(7)).
// close resets each connection in the accept queue. The half-open ones are dropped without a word when
// the timer for their SYN-ACK next runs out: their clients believe that they are connected until they
// send something.
#include "demo.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 4 };

struct client {
    const char *name;
    bool talks;
    int fd;
    int port;
};

static const char *try_recv(int fd)
{
    char byte;
    return outcome(recv(fd, &byte, 1, MSG_DONTWAIT));
}

static const char *try_send(int fd)
{
    return outcome(send(fd, "hello", 5, MSG_NOSIGNAL));
}

static void connect_clients(struct client clients[], int port)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &clients[i];
        client->fd = must("connect", loopback_connect(port, &client->port));
        if (client->talks) try_send(client->fd);
    }
    await_unread(port, 0, 2);
}

static void show_states(const struct client clients[], int port)
{
    static const struct table states = {.width = {28, 20, 20}};
    table_head(&states, "client", "client's end", "listener's end");
    for (int i = 0; i < CLIENTS; i++) {
        const struct client *client = &clients[i];
        table_row(&states, client->name, look("tcp", client->port, port).state,
                  look("tcp", port, client->port).state);
    }
}

static void show_calls(const struct client clients[], int port)
{
    static const struct table calls = {.width = {28, 16, 16, 16}};
    table_head(&calls, "client", "recv", "then send", "then recv");
    for (int i = 0; i < CLIENTS; i++) {
        const struct client *client = &clients[i];
        const char *first_recv = try_recv(client->fd);
        const char *then_send = try_send(client->fd);
        await_delivery(client->port, port);
        table_row(&calls, client->name, first_recv, then_send, try_recv(client->fd));
    }
}

int main(void)
{
    int port;
    int listener = loopback_listen(&port);
    int longest_wait = 10; // seconds
    must("TCP_DEFER_ACCEPT",
         setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &longest_wait, sizeof longest_wait));

    struct client clients[CLIENTS] = {
        {.name = "1, has sent something", .talks = true},
        {.name = "2, has sent something", .talks = true},
        {.name = "3, silent so far"},
        {.name = "4, silent so far"},
    };
    connect_clients(clients, port);
    printf("Before the close. The accept queue holds %ld connections.\n\n", look("tcp", port, 0).unread);
    show_states(clients, port);

    close(listener);
    double closed_at = seconds();
    for (int i = 0; i < CLIENTS; i++) await_state(port, clients[i].port, "gone");
    printf("\nAfter the close. The last of the listener's ends is gone after %.1f s.\n\n",
           seconds() - closed_at);
    show_states(clients, port);

    printf("\nWhat the clients are told.\n\n");
    show_calls(clients, port);
    return 0;
}
