// How something changes: a number that goes up and down, and events that come. Pure: time is an argument.
#ifndef PRECLOSE_CLI_TREND_H
#define PRECLOSE_CLI_TREND_H

#include <stdbool.h>
#include <stdint.h>

enum { TREND_SAMPLES = 61, TREND_LEAST_MS = 5000, PACE_SECONDS = 64, PACE_KEPT = 60 };

// The last minute of a number, a sample a second at most.
struct trend {
    int64_t ms[TREND_SAMPLES];
    int64_t value[TREND_SAMPLES];
    unsigned n, last; // how many samples; the latest
    int64_t now_ms, now;
};

// Takes the number as it is at ms, which does not go back.
void trend_add(struct trend *t, int64_t ms, int64_t value);

// How much it grows a minute, by the last minute, or by what is known of it: false below TREND_LEAST_MS.
bool trend_per_minute(const struct trend *t, double *growth);

// Events by the second, of the last PACE_KEPT seconds.
struct pace {
    int64_t second[PACE_SECONDS];
    uint64_t n[PACE_SECONDS];
};

// Takes n events at a second; what is older than PACE_KEPT seconds at now counts for nothing, and what is
// later than now came now.
void pace_add(struct pace *p, int64_t now, int64_t second, uint64_t n);

// Events of the last `seconds` seconds, now's own included.
uint64_t pace_sum(const struct pace *p, int64_t now, int64_t seconds);

#endif
