// Sockets opened and closed several calls deep, in the ways that programs have. Each function says, before it
// calls on, its name and its line: "opened NAME LINE" or "closed NAME LINE", outermost first.
//
//     program OPEN CLOSE     how: the names in the tables of part.c
#include "places.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *how_to_open, *how_to_close;
static int fd = -1;

NOINLINE static void open_below(unsigned depth)
{
    if (depth) ON("opened", open_below(depth - 1));
    else ON("opened", fd = part_open(how_to_open));
}

NOINLINE static void close_below(unsigned depth)
{
    if (depth) ON("closed", close_below(depth - 1));
    else ON("closed", part_close(how_to_close, fd));
}

// Called by libc.
static int compare(const void *a, const void *b)
{
    static int calls;
    if (!calls++) ON("closed", close_below(1));
    return *(const int *)a - *(const int *)b;
}

static void handler(int sig)
{
    (void)sig;
    ON("closed", close_below(1));
}

static void *thread(void *arg)
{
    ON("closed", close_below(1));
    return arg;
}

static void by_thread(void)
{
    pthread_t t;
    if (pthread_create(&t, NULL, thread, NULL) == 0) pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    how_to_open = argv[1];
    how_to_close = argv[2];
    setvbuf(stdout, NULL, _IOLBF, 0);
    ON("opened", open_below(2));
    say_cookie(fd);
    if (strcmp(how_to_close, "from-qsort") == 0) {
        int numbers[] = {3, 1, 2};
        ON("closed", qsort(numbers, 3, sizeof numbers[0], compare));
    } else if (strcmp(how_to_close, "in-handler") == 0) {
        signal(SIGUSR1, handler);
        ON("closed", raise(SIGUSR1));
    } else if (strcmp(how_to_close, "in-thread") == 0) {
        by_thread();
    } else {
        ON("closed", close_below(2));
    }
    return 0;
}
