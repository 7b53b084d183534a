// A server forks a child for its connection and closes its own copy, as servers have always done.
//
// close lets go of one hold: the connection lives on in the child. shutdown acts on the connection
// itself, for all who hold it. So a shutdown before each close, without asking who else holds the
// socket, cuts the child off.
#include "demo.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct table results = {.width = {31, 15, 14, 17}};

// Sends back what it receives. Returns how many requests it has answered.
static int answer_requests(int connection)
{
    char request[64];
    long length;
    int answered = 0;
    while ((length = recv(connection, request, sizeof request, 0)) > 0)
        if (send(connection, request, (size_t)length, MSG_NOSIGNAL) == length) answered++;
    return answered;
}

static void serve(const char *how, bool shut_down_first)
{
    struct pair pair = loopback_pair(); // the parent plays the client, too
    pid_t child = must("fork", fork());
    if (child == 0) {
        close(pair.client);
        _exit(answer_requests(pair.server));
    }

    if (shut_down_first) shutdown(pair.server, SHUT_RDWR);
    close(pair.server);
    const char *expected = shut_down_first ? "FIN_WAIT2" : "ESTABLISHED";
    const char *state = await_state(pair.server_port, pair.client_port, expected);

    char answer[64];
    send(pair.client, "hello", 5, MSG_NOSIGNAL);
    const char *received = outcome(recv(pair.client, answer, sizeof answer, 0));
    close(pair.client);

    int status;
    must("waitpid", waitpid(child, &status, 0));
    table_row(&results, how, state, received, text("%d", WEXITSTATUS(status)));
}

int main(void)
{
    table_head(&results, "the parent", "the socket is", "client: recv", "child answered");
    serve("close", false);
    serve("shutdown(SHUT_RDWR), close", true);
    return 0;
}
