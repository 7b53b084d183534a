// Connections left in CLOSE_WAIT, by the place that opened them: how many there are, and whether they grow.
//
// Pure: no system call, no clock, no lock; the caller serialises. Times are CLOCK_MONOTONIC milliseconds.
#ifndef PRECLOSE_LEAKS_H
#define PRECLOSE_LEAKS_H

#include <stdbool.h>
#include <stdint.h>

#include "place.h"

// How long a connection has been in CLOSE_WAIT for certain, at now_ms. seen_ms: since when it has been known to
// be. data_ms: how long ago its peer last sent data (tcpi_last_data_recv, TCP_INFO), which it has not done since
// its FIN; so what is known longer is known of an earlier connection of the same socket. Never negative.
int64_t leaks_age(int64_t now_ms, int64_t seen_ms, int64_t data_ms);

#define HISTORY_SPANS 12
#define GROWING_LEAST 5 // fewer than that are a few, however they came

// How many there were over time: the fewest and the most in each of up to HISTORY_SPANS equal spans, which double
// in length when there would be more.
struct history {
    int64_t begin_ms, span_ms;
    uint32_t looks, spans, now, most;
    struct {
        uint32_t fewest, most;
    } span[HISTORY_SPANS];
};

enum trend { TREND_UNKNOWN, TREND_STEADY, TREND_GROWING };

// There are count at now_ms. It begins with the first that is not 0.
void history_add(struct history *h, int64_t now_ms, uint32_t count);

// Growing: at least GROWING_LEAST now; in the last third of the time there were never as few as the most in the
// first third, and at some time more than ever in the middle third. Anything else is steady: a pool that was
// filled and then keeps what it has, or lets some go. Unknown below six looks.
enum trend history_trend(const struct history *h);

// "growing", "steady"; "" if unknown.
const char *trend_name(enum trend trend);

// What is told of one place.
struct leak {
    struct place opened; // of the oldest connection
    uint32_t now, most;
    int64_t oldest_ms;
    enum trend trend;
};

#define LEAK_PLACES 64 // places that are told apart; further ones count together as unknown

struct leaks {
    struct leak_place {
        struct place opened;
        uint32_t counted; // in the round under way
        int64_t oldest_ms, counted_oldest_ms;
        struct history history;
    } place[LEAK_PLACES];
    unsigned places;
};

// A round of counting: it begins, counts each connection in CLOSE_WAIT with its age, and ends.
void leaks_begin(struct leaks *l);
void leaks_count(struct leaks *l, const struct place *opened, int64_t age_ms);
void leaks_end(struct leaks *l, int64_t now_ms);

// The places that have connections in CLOSE_WAIT now, or had, into list: at most max, those with the most now
// first. Returns how many.
unsigned leaks_list(const struct leaks *l, struct leak *list, unsigned max);

#endif
