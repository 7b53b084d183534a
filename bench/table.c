// The table by itself, with N entries: table next|random N, driven by scripts/bench. An operation is a lookup, the
// end of an entry and a new one: of the descriptor that comes next, as in a process that opens and closes with
// N others open, or of any one of them.
#include "slot.h"

#include <stdbool.h>

#include "track.h"

static const struct place here = {.pc = 0x1000, .tid = 1, .call = CALL_SOCKET};
static const struct place there = {.pc = 0x2000, .tid = 1, .call = CALL_CLOSE};
static uint32_t entries;
static bool any;

static void open_one(int fd)
{
    static uint64_t cookie;
    struct opening o = {.place = here, .cookie = ++cookie, .kind = KIND_TCP, .share = SHARE_NONE, .cloexec = true};
    track_open(fd, &o);
}

static void close_one(int fd)
{
    struct retired r;
    if (!(track_state(fd) & FD_SOCKET) || !track_retire(fd, &there, &r)) abort();
    track_closed(fd, r.closing);
}

static uint64_t run(uint64_t n)
{
    static uint64_t random = 88172645463325252u;
    for (; n; n--) {
        int fd = (int)entries;
        if (any) { // xorshift
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            fd = (int)(random % entries);
        }
        struct connection c;
        if (!track_connection(fd, &c)) abort();
        close_one(fd);
        open_one(fd);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    any = !strcmp(argv[1], "random");
    entries = (uint32_t)strtoul(argv[2], NULL, 10);
    for (uint32_t fd = 0; fd <= entries; fd++) open_one((int)fd);
    serve(run);
}
