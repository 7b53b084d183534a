// An echo server for one client, to try signals on: echo-server
//
//   SIGINT   shuts the connection both ways
//   SIGUSR1  shuts reading
//   SIGUSR2  shuts writing
//
// It prints its port, and what each read and write returns. When there is nothing to send back it
// says "bye". After a read of 0 or an error it waits for a line on its standard input before it
// goes on, and leaves when that ends.
#include "demo.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int connection;

static void shut(int signal_number)
{
    if (signal_number == SIGINT) shutdown(connection, SHUT_RDWR);
    if (signal_number == SIGUSR1) shutdown(connection, SHUT_RD);
    if (signal_number == SIGUSR2) shutdown(connection, SHUT_WR);
    (void)!write(STDOUT_FILENO, "shut\n", 5); // printf is not for signal handlers
}

static bool a_line_comes(void)
{
    char line[64];
    return fgets(line, sizeof line, stdin) != NULL;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, shut);
    signal(SIGUSR1, shut);
    signal(SIGUSR2, shut);

    int port;
    int listener = loopback_listen(&port);
    printf("port %d\n", port);
    connection = must("accept", accept(listener, NULL, NULL));
    close(listener);

    bool going_on = true;
    while (going_on) {
        char message[64] = "bye";
        long length = read(connection, message, sizeof message);
        printf("read %s\n", outcome(length));
        bool received = length > 0;
        if (!received) length = 3;

        long sent = write(connection, message, (size_t)length);
        printf("write %s\n", outcome(sent));
        going_on = (received && sent > 0) || a_line_comes();
    }
    close(connection);
    return 0;
}
