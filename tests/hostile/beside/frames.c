// A module with one function, whose frame is as large as ROOM says: built twice, all else is where it was.
#include <sys/socket.h>

int plugin_open(void)
{
    volatile char room[ROOM];
    room[0] = 1;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    room[1] = room[0];
    return fd;
}
