#include "demo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const double PATIENCE = 5.0;

int must(const char *what, long result)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
    return (int)result;
}

static int own_port_of(int fd)
{
    struct sockaddr_in own = {0};
    socklen_t size = sizeof own;
    must("getsockname", getsockname(fd, (struct sockaddr *)&own, &size));
    return ntohs(own.sin_port);
}

static struct sockaddr_in loopback_address(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

int loopback_listen(int *port)
{
    struct sockaddr_in address = loopback_address(0);
    int listener = must("socket", socket(AF_INET, SOCK_STREAM, 0));
    must("bind", bind(listener, (struct sockaddr *)&address, sizeof address));
    must("listen", listen(listener, 8));
    *port = own_port_of(listener);
    return listener;
}

int loopback_connect(int port, int *own_port)
{
    struct sockaddr_in address = loopback_address(port);
    int fd = must("socket", socket(AF_INET, SOCK_STREAM, 0));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int refused = errno;
        close(fd);
        errno = refused;
        return -1;
    }
    if (own_port) *own_port = own_port_of(fd);
    return fd;
}

int loopback_udp(int *port)
{
    struct sockaddr_in address = loopback_address(0);
    int fd = must("socket", socket(AF_INET, SOCK_DGRAM, 0));
    must("bind", bind(fd, (struct sockaddr *)&address, sizeof address));
    *port = own_port_of(fd);
    return fd;
}

struct pair loopback_pair(void)
{
    struct pair pair;
    int listener = loopback_listen(&pair.server_port);
    pair.client = must("connect", loopback_connect(pair.server_port, &pair.client_port));
    pair.server = must("accept", accept(listener, NULL, NULL));
    close(listener);
    return pair;
}

static const char *state_name(const char *family, unsigned number)
{
    // The numbers are TCP's own (include/net/tcp_states.h); the names are those that netstat shows.
    static const char *const names[] = {
        [TCP_ESTABLISHED] = "ESTABLISHED",
        [TCP_SYN_SENT] = "SYN_SENT",
        [TCP_SYN_RECV] = "SYN_RECV",
        [TCP_FIN_WAIT1] = "FIN_WAIT1",
        [TCP_FIN_WAIT2] = "FIN_WAIT2",
        [TCP_TIME_WAIT] = "TIME_WAIT",
        [TCP_CLOSE] = "CLOSE",
        [TCP_CLOSE_WAIT] = "CLOSE_WAIT",
        [TCP_LAST_ACK] = "LAST_ACK",
        [TCP_LISTEN] = "LISTEN",
        [TCP_CLOSING] = "CLOSING",
    };
    if (strcmp(family, "udp") == 0 && number == TCP_CLOSE) return "bound";
    if (number < sizeof names / sizeof names[0] && names[number]) return names[number];
    return "unknown";
}

struct end look(const char *family, int own_port, int peer_port)
{
    struct end end = {.state = "gone"};
    char path[32];
    snprintf(path, sizeof path, "/proc/net/%s", family);
    FILE *list = fopen(path, "r");
    if (!list) must(path, -1);

    char line[256];
    while (fgets(line, sizeof line, list)) {
        unsigned own, peer, state;
        unsigned long unsent, unread;
        int fields = sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%x %x %lx:%lx", &own, &peer, &state,
                            &unsent, &unread);
        if (fields == 5 && (int)own == own_port && (int)peer == peer_port) {
            end.state = state_name(family, state);
            end.unsent = (long)unsent;
            end.unread = (long)unread;
        }
    }
    fclose(list);
    return end;
}

const char *await_state(int own_port, int peer_port, const char *state)
{
    double deadline = seconds() + PATIENCE;
    struct end end = look("tcp", own_port, peer_port);
    while (strcmp(end.state, state) != 0 && seconds() < deadline) {
        sleep_seconds(0.005);
        end = look("tcp", own_port, peer_port);
    }
    return end.state;
}

long await_unread(int own_port, int peer_port, long bytes)
{
    double deadline = seconds() + PATIENCE;
    struct end end = look("tcp", own_port, peer_port);
    while (end.unread < bytes && seconds() < deadline) {
        sleep_seconds(0.005);
        end = look("tcp", own_port, peer_port);
    }
    return end.unread;
}

void await_delivery(int own_port, int peer_port)
{
    double deadline = seconds() + PATIENCE;
    while (look("tcp", own_port, peer_port).unsent > 0 && seconds() < deadline) sleep_seconds(0.005);
}

void await_blocked(int tid)
{
    // The file holds "running", or the number and arguments of the call that the thread is in.
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    double deadline = seconds() + PATIENCE;
    char first = 'r';
    while (first < '0' || first > '9') {
        FILE *file = fopen(path, "r");
        if (!file) must(path, -1);
        first = (char)fgetc(file);
        fclose(file);
        if (seconds() > deadline) {
            fprintf(stderr, "thread %d does not block\n", tid);
            exit(1);
        }
    }
}

static long send_what_fits(int fd)
{
    static const char block[65536];
    long total = 0;
    long sent;
    while ((sent = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) total += sent;
    if (errno != EAGAIN) must("send", sent);
    return total;
}

long fill(int fd)
{
    // What the other end takes makes room again: the buffers are full when a wait brings no more.
    long total = 0;
    long sent = send_what_fits(fd);
    while (sent > 0) {
        total += sent;
        poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 100);
        sent = send_what_fits(fd);
    }
    return total;
}

struct received read_to_end(int fd)
{
    static _Thread_local char block[65536];
    struct received received = {.end = "EOF"};
    long count;
    while ((count = recv(fd, block, sizeof block, 0)) > 0) received.bytes += count;
    if (count < 0) received.end = outcome(count);
    return received;
}

double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void sleep_seconds(double time)
{
    struct timespec left = {.tv_sec = (time_t)time};
    left.tv_nsec = (long)((time - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) < 0 && errno == EINTR) continue;
}

const char *outcome(long result)
{
    if (result < 0) return strerrorname_np(errno);
    if (result == 0) return "0";
    return text("%ld byte%s", result, result == 1 ? "" : "s");
}

const char *text(const char *format, ...)
{
    static _Thread_local char strings[32][128];
    static _Thread_local unsigned next;
    char *string = strings[next++ % 32];
    va_list values;
    va_start(values, format);
    vsnprintf(string, sizeof strings[0], format, values);
    va_end(values);
    return string;
}

static void print_cells(const struct table *table, va_list cells)
{
    for (int column = 0; table->width[column] > 0; column++) {
        const char *cell = va_arg(cells, const char *);
        bool last = table->width[column + 1] == 0;
        if (last)
            printf("%s\n", cell);
        else
            printf("%-*s", table->width[column], cell);
    }
    fflush(stdout);
}

void table_head(const struct table *table, ...)
{
    va_list cells;
    va_start(cells, table);
    print_cells(table, cells);
    va_end(cells);
    for (int column = 0; table->width[column] > 0; column++)
        for (int dash = 0; dash < table->width[column]; dash++) putchar('-');
    putchar('\n');
}

void table_row(const struct table *table, ...)
{
    va_list cells;
    va_start(cells, table);
    print_cells(table, cells);
    va_end(cells);
}
