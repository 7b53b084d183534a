// What each process has of the connections that scan shows: one row for scan, top and metrics alike.
#ifndef PRECLOSE_CLI_OWNERS_H
#define PRECLOSE_CLI_OWNERS_H

#include <uthash.h>

#include "scan.h"
#include "text.h"

struct owner {
    pid_t pid; // 0: nobody that can be seen
    size_t
        *row; // numbers of entries of the census, the oldest first; one that processes share is in each one's
    size_t rows, room;
    size_t waiting;    // of them, not accepted yet
    int64_t oldest_ms; // -1: unknown
    uint64_t unread;   // bytes
    UT_hash_handle hh;
};

struct owners {
    struct owner **owner; // those with the most first; the unseen last
    size_t n;
};

// Sums up what scan wants, by process. malloc.
struct owners owners_of(const struct scan *s);

void owners_free(struct owners *o);

// The name of a user, or "uid N", in out, which is returned. Asks the user database: takes its time.
const char *owner_user(int64_t uid, char out[NUMBER_MAX]);

#endif
