// A client has sent all its questions. It can say so in two ways.
//
// shutdown(SHUT_WR) ends one direction: the server reads to the end, its answers still arrive.
// close ends both: the first late answer is met with RST, the second finds the connection broken
// and raises SIGPIPE, which kills a program that does not ignore it; if it does, EPIPE.
#include "demo.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// The server reads the questions, then sends two answers. Tells each result as it comes.
static void answer(const struct pair *pair)
{
    struct received questions = read_to_end(pair->server);
    printf("  server reads             %ld bytes, then %s\n", questions.bytes, questions.end);
    printf("  server's first answer    %s\n", outcome(write(pair->server, "forty", 5)));
    await_delivery(pair->server_port, pair->client_port);
    printf("  server's second answer   %s\n", outcome(write(pair->server, "two", 3)));
    close(pair->server);
}

static void half_close(void)
{
    struct pair pair = loopback_pair();
    must("write", write(pair.client, "what is the answer?", 19));
    shutdown(pair.client, SHUT_WR);
    answer(&pair);
    struct received answers = read_to_end(pair.client);
    printf("  client reads             %ld bytes, then %s\n", answers.bytes, answers.end);
    close(pair.client);
}

static void full_close(void)
{
    struct pair pair = loopback_pair();
    must("write", write(pair.client, "what is the answer?", 19));
    close(pair.client);
    answer(&pair);
}

// Runs one exchange in a process of its own, which SIGPIPE may kill.
static void show(const char *title, void (*exchange)(void), void (*on_sigpipe)(int))
{
    printf("%s\n", title);
    pid_t child = must("fork", fork());
    if (child == 0) {
        signal(SIGPIPE, on_sigpipe);
        exchange();
        exit(0);
    }
    int status;
    must("waitpid", waitpid(child, &status, 0));
    if (WIFSIGNALED(status))
        printf("  the process              killed by SIG%s\n\n", sigabbrev_np(WTERMSIG(status)));
    else
        printf("  the process              exits with status %d\n\n", WEXITSTATUS(status));
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    show("client: shutdown(SHUT_WR)", half_close, SIG_DFL);
    show("client: close", full_close, SIG_DFL);
    show("client: close; the server ignores SIGPIPE", full_close, SIG_IGN);
    return 0;
}
