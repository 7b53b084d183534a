// A server answers a request and closes. It has left 3 bytes of the request unread.
//
// close with bytes unread sends RST instead of FIN (RFC 2525, 2.17), and the kernel drops what it
// has not delivered of the answer. The cure: say that the answer is complete with
// shutdown(SHUT_WR), read until the client closes too, then close.
#include "demo.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct table results = {.width = {25, 8, 12, 18, 12}};

struct client {
    int fd;
    struct received received;
};

static void *read_answer(void *argument)
{
    struct client *client = argument;
    client->received = read_to_end(client->fd);
    close(client->fd);
    return NULL;
}

static void serve(const char *how, bool read_the_rest)
{
    static const char request[] = "GET /big HTTP/1.0\r\n\r\n";
    size_t length = strlen(request);
    struct pair pair = loopback_pair();
    must("send", send(pair.client, request, length, 0));

    char buffer[64];
    must("recv", recv(pair.server, buffer, length - 3, MSG_WAITALL));
    long sent = fill(pair.server); // the answer: all that the kernel takes at once
    long unread = look("tcp", pair.server_port, pair.client_port).unread;

    if (read_the_rest)
        shutdown(pair.server, SHUT_WR);
    else
        close(pair.server);

    struct client client = {.fd = pair.client};
    pthread_t thread;
    pthread_create(&thread, NULL, read_answer, &client);

    if (read_the_rest) {
        read_to_end(pair.server);
        close(pair.server);
    }
    pthread_join(thread, NULL);

    table_row(&results, how, text("%ld", unread), text("%ld", sent),
              text("%ld = %ld %%", client.received.bytes, client.received.bytes * 100 / sent),
              client.received.end);
}

int main(void)
{
    table_head(&results, "the server", "unread", "sent", "the client got", "and then");
    serve("close", false);
    serve("SHUT_WR, read on, close", true);
    return 0;
}
