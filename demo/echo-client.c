// A client of the echo server: echo-client PORT
//
//   SIGINT  half-closes the connection: no more writing, but reading
//
// It sends each line of its standard input, reads an answer, and prints what write and read return.
#include "demo.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int connection;

static void half_close(int signal_number)
{
    (void)signal_number;
    shutdown(connection, SHUT_WR);
    (void)!write(STDOUT_FILENO, "shut\n", 5); // printf is not for signal handlers
}

int main(int count, char *arguments[])
{
    if (count != 2) {
        fprintf(stderr, "usage: echo-client PORT\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, half_close);

    int own_port;
    connection = must("connect", loopback_connect(atoi(arguments[1]), &own_port));
    printf("port %d\n", own_port);

    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        printf("write %s\n", outcome(write(connection, line, strlen(line))));
        char answer[64];
        printf("read %s\n", outcome(read(connection, answer, sizeof answer)));
    }
    close(connection);
    return 0;
}
