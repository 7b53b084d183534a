// Counts over time in a fixed number of buckets, whose width doubles as the time grows.
#ifndef PRECLOSE_CLI_SERIES_H
#define PRECLOSE_CLI_SERIES_H

#include <stdint.h>

enum { SERIES_BUCKETS = 96 };

struct series {
    int64_t first;  // the bucket [0] is that many widths after 1970
    int64_t second; // width of a bucket in seconds: a power of two; 0: nothing was added yet
    uint32_t n[SERIES_BUCKETS];
};

// Adds n at us microseconds since 1970, before or after what is there. Pure.
void series_add(struct series *s, int64_t us, uint32_t n);

// Widens the buckets so that they have this width and [0] is the bucket first, if the counts fit in; they
// do for the width and the first bucket of a series that has everything of this one. Pure.
void series_align(struct series *s, int64_t second, int64_t first);

#endif
