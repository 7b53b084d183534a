// A server answers before it has read the whole request, and closes: the 3 bytes that are left make the kernel
// send a reset, and what the client has not read of the answer by then is lost.
//
// With PRECLOSE_UNREAD=drain the close says first that the answer is complete (SHUT_WR), and drops what the client
// still sends until that has closed too, for at most a second.
#include "demo.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct table results = {.width = {12, 8, 12, 18, 12}};

struct client {
    struct pair pair;
    struct received received;
};

// Reads once the server has let go: it has no such descriptor then.
static void *read_answer(void *argument)
{
    struct client *client = argument;
    while (fcntl(client->pair.server, F_GETFD) >= 0) sleep_seconds(0.005);
    client->received = read_to_end(client->pair.client);
    close(client->pair.client);
    return NULL;
}

int main(void)
{
    static const char request[] = "POST /big HTTP/1.0\r\n\r\nabc";
    size_t length = strlen(request);
    struct client client = {.pair = loopback_pair()};
    int server = client.pair.server;
    must("send", send(client.pair.client, request, length, 0));

    char buffer[64];
    must("recv", recv(server, buffer, length - 3, MSG_WAITALL));
    long sent = fill(server); // the answer: all that the kernel takes at once
    long unread = look("tcp", client.pair.server_port, client.pair.client_port).unread;

    pthread_t thread;
    pthread_create(&thread, NULL, read_answer, &client);
    close(server);
    pthread_join(thread, NULL);

    table_head(&results, "the server", "unread", "sent", "the client got", "and then");
    table_row(&results, "close", text("%ld", unread), text("%ld", sent),
              text("%ld = %ld %%", client.received.bytes, client.received.bytes * 100 / sent), client.received.end);
    return 0;
}
