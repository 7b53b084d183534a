// Logs that are followed as they grow: some that are not there yet, rotated ones, and those that a pattern
// finds.
#ifndef PRECLOSE_CLI_FOLLOW_H
#define PRECLOSE_CLI_FOLLOW_H

#include <stdbool.h>

#include "lines.h"

struct follow;

enum { FOLLOWED_MAX = 1024 };

// Of n names of logs. One that is not there may come later. One that holds *, ? or [ and is no file's name is
// a pattern as the shell knows it (PRECLOSE_LOG=/var/log/app.%p.log makes a log per process): what it finds
// later is read too, from its beginning, unless it is gzip data: a rotated log, which was read before. Each
// file is read once, by whatever names: one that is renamed is read on. Raises the soft limit of descriptors
// (RLIMIT_NOFILE). names must last. malloc.
struct follow *follow_new(char **names, int n);

// Reads what has come and tells its lines, for about ms milliseconds at most. Returns whether there is more.
// Complains of what can't be read, once, and goes on with the others.
bool follow_read(struct follow *f, int64_t ms, lines_take *take, void *context);

// Has all that was there at the beginning been read?
bool follow_caught_up(const struct follow *f);

// How far it is through what is there, 0 to 100.
int follow_percent(const struct follow *f);

// What has been read so far; how many logs are open; how many could not be read to their end, or not at all.
const struct lines_count *follow_count(const struct follow *f);
unsigned follow_open(const struct follow *f);
unsigned follow_failed(const struct follow *f);

#endif
