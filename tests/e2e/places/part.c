// The calls themselves; part of the program, or a shared object.
#include "places.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int listener;
static struct sockaddr_in at;

static void listen_and_connect(void)
{
    socklen_t n = sizeof at;
    at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, n) || listen(listener, 1)) exit(3);
    getsockname(listener, (struct sockaddr *)&at, &n);
    if (connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&at, n)) exit(3);
}

int part_open(const char *how)
{
    int fd = -1, sv[2] = {-1, -1};
    if (strcmp(how, "socket") == 0) {
        ON("opened", fd = socket(AF_INET, SOCK_STREAM, 0));
    } else if (strcmp(how, "socketpair") == 0) {
        ON("opened", fd = socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
        fd = sv[0];
    } else if (strcmp(how, "accept") == 0) {
        listen_and_connect();
        ON("opened", fd = accept(listener, NULL, NULL));
    } else if (strcmp(how, "accept4") == 0) {
        listen_and_connect();
        ON("opened", fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    } else if (strcmp(how, "sys_socket") == 0) {
        ON("opened", fd = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    }
    return fd;
}

void part_close(const char *how, int fd)
{
    FILE *stream = strcmp(how, "fclose") == 0 || strcmp(how, "freopen") == 0 ? fdopen(fd, "r") : NULL;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (strcmp(how, "fclose") == 0) ON("closed", fclose(stream));
    else if (strcmp(how, "freopen") == 0) ON("closed", stream = freopen("/dev/null", "r", stream));
    else if (strcmp(how, "dup2") == 0) ON("closed", dup2(null, fd));
    else if (strcmp(how, "dup3") == 0) ON("closed", dup3(null, fd, O_CLOEXEC));
    else if (strcmp(how, "close_range") == 0) ON("closed", close_range((unsigned)fd, (unsigned)fd, 0));
    else if (strcmp(how, "closefrom") == 0) ON("closed", closefrom(fd));
    else if (strcmp(how, "sys_close") == 0) ON("closed", syscall(SYS_close, fd));
    else if (strcmp(how, "sys_dup3") == 0) ON("closed", syscall(SYS_dup3, null, fd, 0));
    else ON("closed", close(fd));
}

void say_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t n = sizeof cookie;
    getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n);
    printf("cookie=%llu\n", (unsigned long long)cookie);
}
