// One step, N times, between two calls of getppid: steps NAME N. What it needs has been made before, for MOST steps whatever N
// is, and for sockets the table has been as large before: two runs with different N differ by steps alone.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 800
#define must(call) must_(call, #call)

static int listener, file, ends[2], one[2 * MOST], other[2 * MOST];
static struct sockaddr_in at = {.sin_family = AF_INET};

static int must_(long ret, const char *call)
{
    if (ret >= 0) return (int)ret;
    fprintf(stderr, "steps: %s: %s\n", call, strerror(errno));
    _exit(1);
}

static void nothing(int i)
{
    (void)i;
}

static void open_file(int i)
{
    one[i] = must(open("/dev/null", O_RDONLY));
}

static void open_pipe(int i)
{
    int fd[2];
    must(pipe(fd));
    one[i] = fd[0];
    other[i] = fd[1];
}

static void open_tcp(int i)
{
    one[i] = must(socket(AF_INET, SOCK_STREAM, 0));
}

static void open_udp(int i)
{
    one[i] = must(socket(AF_INET, SOCK_DGRAM, 0));
}

static void open_pair(int i)
{
    int fd[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
    one[i] = fd[0];
    other[i] = fd[1];
}

static void dup_file(int i)
{
    one[i] = must(dup(file));
}

static void dup_socket(int i)
{
    one[i] = must(dup(ends[0]));
}

static void connect_tcp(int i)
{
    must(connect(one[i], (struct sockaddr *)&at, sizeof at));
}

static void open_and_connect(int i)
{
    open_tcp(i);
    connect_tcp(i);
}

static void accept_tcp(int i)
{
    other[i] = must(accept(listener, NULL, NULL));
}

static void make_connection(int i)
{
    open_and_connect(i);
    accept_tcp(i);
}

static void close_one(int i)
{
    must(close(one[i]));
}

static void close_other(int i)
{
    must(close(other[i]));
}

static void shut_and_close(int i)
{
    must(shutdown(one[i], SHUT_RDWR));
    must(close(one[i]));
}

static void send_and_receive(int i)
{
    char text[64] = "";
    (void)i;
    must(send(ends[0], text, sizeof text, 0));
    must(recv(ends[1], text, sizeof text, 0));
}

static void write_and_read(int i)
{
    char text[64] = "";
    (void)i;
    must(write(ends[0], text, sizeof text));
    must(read(ends[1], text, sizeof text));
}

static const struct step {
    const char *name;
    void (*before)(int i), (*step)(int i);
    int fresh; // its descriptors have numbers that no socket has had
} steps[] = {
    {"file-open", nothing, open_file, 1},
    {"file-close", open_file, close_one, 1},
    {"file-close-was-socket", open_file, close_one, 0},
    {"pipe-close", open_pipe, close_one, 1},
    {"file-dup", nothing, dup_file, 1},
    {"file-dup-close", dup_file, close_one, 1},
    {"tcp-socket", nothing, open_tcp, 0},
    {"tcp-connect", open_tcp, connect_tcp, 0},
    {"tcp-accept", open_and_connect, accept_tcp, 0},
    {"tcp-close", make_connection, close_one, 0},
    {"tcp-close-accepted", make_connection, close_other, 0},
    {"tcp-close-unconnected", open_tcp, close_one, 0},
    {"tcp-shutdown-close", make_connection, shut_and_close, 0},
    {"udp-socket", nothing, open_udp, 0},
    {"udp-close", open_udp, close_one, 0},
    {"socketpair", nothing, open_pair, 0},
    {"socketpair-close", open_pair, close_one, 0},
    {"socket-dup", nothing, dup_socket, 0},
    {"socket-dup-close", dup_socket, close_one, 0},
    {"send-recv", nothing, send_and_receive, 0},
    {"write-read", nothing, write_and_read, 0},
};

static void prepare(int fresh)
{
    socklen_t n = sizeof at;
    must(file = open("/dev/null", O_RDONLY));
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    must(listener = socket(AF_INET, SOCK_STREAM, 0));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(listener, (struct sockaddr *)&at, sizeof at));
    must(listen(listener, 2 * MOST));
    must(getsockname(listener, (struct sockaddr *)&at, &n));
    for (int i = 0; i < MOST && !fresh; i++) open_pair(i);
    for (int i = 0; i < MOST && !fresh; i++) {
        close_one(i);
        close_other(i);
    }
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 1 && i < sizeof steps / sizeof *steps; i++) puts(steps[i].name);
    if (argc != 3) return argc != 1;
    int n = atoi(argv[2]);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (strcmp(argv[1], steps[i].name) != 0) continue;
        prepare(steps[i].fresh);
        for (int j = 0; j < MOST; j++) steps[i].before(j);
        getppid();
        for (int j = 0; j < n && j < MOST; j++) steps[i].step(j);
        getppid();
        _exit(0);
    }
    return 2;
}
