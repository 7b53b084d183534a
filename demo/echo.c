// Drives echo-server and echo-client: what do read and write return on each side when the server
// shuts down reading, writing or both, and the client writing, in all combinations?
//
// First the two exchange one line. Then come the signals. Then they take two turns each: the client
// sends a line and reads an answer; the server reads, and sends back what came, or "bye".
#include "demo.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct table results = {.width = {9, 9, 6, 13, 13, 13, 13}};

// A program under our control: we write its standard input and read its standard output.
struct program {
    pid_t pid;
    FILE *input;
    FILE *output;
    int port; // its end of the connection
};

// The rest of the program's next line of output, which must begin with WORD.
static const char *next_result(struct program *program, const char *word)
{
    char line[64] = "";
    size_t length = strlen(word);
    if (!fgets(line, sizeof line, program->output) || strncmp(line, word, length) != 0) {
        fprintf(stderr, "expected \"%s\", received \"%s\"\n", word, line);
        exit(1);
    }
    line[strcspn(line, "\n")] = '\0';
    return text("%s", line + length);
}

static void give_line(struct program *program, const char *line)
{
    fprintf(program->input, "%s\n", line);
    fflush(program->input);
}

static void give_signal(struct program *program, int number)
{
    if (number == 0) return;
    must("kill", kill(program->pid, number));
    next_result(program, "shut");
}

static const char *signal_name(int number)
{
    return number == 0 ? "-" : text("SIG%s", sigabbrev_np(number));
}

// Starts a program that lies in the same folder as this one.
static struct program start(const char *folder, const char *name, const char *argument)
{
    int input[2];
    int output[2];
    must("pipe2", pipe2(input, O_CLOEXEC));
    must("pipe2", pipe2(output, O_CLOEXEC));

    struct program program = {.pid = must("fork", fork())};
    if (program.pid == 0) {
        const char *path = text("%s/%s", folder, name);
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        must(path, execl(path, name, argument, NULL));
    }
    close(input[0]);
    close(output[1]);
    program.input = fdopen(input[1], "w");
    program.output = fdopen(output[0], "r");
    program.port = atoi(next_result(&program, "port "));
    return program;
}

static void stop(struct program *program)
{
    fclose(program->input);
    fclose(program->output);
    must("waitpid", waitpid(program->pid, NULL, 0));
}

// One turn of the server: what its read returned, and then its write.
struct turn {
    const char *read;
    const char *write;
};

static struct turn take_turn(struct program *server)
{
    struct turn turn;
    turn.read = next_result(server, "read ");
    turn.write = next_result(server, "write ");
    return turn;
}

static void show(const char *folder, int server_signal, int client_signal)
{
    struct program server = start(folder, "echo-server", NULL);
    struct program client = start(folder, "echo-client", text("%d", server.port));

    give_line(&client, "hello");
    take_turn(&server);
    next_result(&client, "write ");
    next_result(&client, "read ");

    give_signal(&server, server_signal);
    give_signal(&client, client_signal);

    // A server that can receive nothing more does not wait for the client's line.
    bool server_first = server_signal == SIGINT || server_signal == SIGUSR1 || client_signal == SIGINT;

    for (int turn = 1; turn <= 2; turn++) {
        bool first = turn == 1;
        struct turn server_turn;
        if (first && server_first) server_turn = take_turn(&server);

        give_line(&client, "hello");
        const char *client_write = next_result(&client, "write ");
        await_delivery(client.port, server.port);

        if (!first) give_line(&server, "go on");
        if (!first || !server_first) server_turn = take_turn(&server);
        const char *client_read = next_result(&client, "read ");

        table_row(&results, first ? signal_name(server_signal) : "", first ? signal_name(client_signal) : "",
                  text("%d", turn), client_write, client_read, server_turn.read, server_turn.write);
    }
    stop(&client);
    stop(&server);
}

int main(int count, char *arguments[])
{
    (void)count;
    char *folder = arguments[0];
    char *slash = strrchr(folder, '/');
    if (!slash) {
        fprintf(stderr, "run it by its path, as in build/demo/echo\n");
        return 2;
    }
    *slash = '\0';

    printf("Server: SIGINT shuts both ways, SIGUSR1 reading, SIGUSR2 writing.\n"
           "Client: SIGINT shuts writing.\n\n");
    table_row(&results, "signal to", "", "", "client's", "", "server's", "");
    table_head(&results, "server", "client", "turn", "write", "read", "read", "write");
    static const int server_signals[] = {0, SIGINT, SIGUSR1, SIGUSR2};
    static const int client_signals[] = {0, SIGINT};
    for (size_t s = 0; s < sizeof server_signals / sizeof server_signals[0]; s++)
        for (size_t c = 0; c < sizeof client_signals / sizeof client_signals[0]; c++)
            show(folder, server_signals[s], client_signals[c]);
    return 0;
}
