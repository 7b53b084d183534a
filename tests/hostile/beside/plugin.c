// A module that opens and closes, and is unloaded: what is told of its calls later must not look into it.
#include <sys/socket.h>
#include <unistd.h>

int plugin_open(int sv[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
}

int plugin_close(int fd)
{
    int ret = close(fd);
    return ret;
}

static int own[2];

__attribute__((constructor)) static void construct(void)
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, own)) own[0] = -1;
}

__attribute__((destructor)) static void destruct(void)
{
    close(own[0]);
    close(own[1]);
}
