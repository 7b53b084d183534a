// How many lines a minute an event from one place in the program may write (PRECLOSE_RATE).
#ifndef PRECLOSE_RATE_H
#define PRECLOSE_RATE_H

#include <stdint.h>

#define RATE_PLACES 256 // events and places that are told apart at once; further ones share one allowance

struct rate_place {
    uintptr_t pc;
    int64_t since_us; // when its minute began
    uint64_t held;    // repeats held back and not yet told
    uint32_t told;    // lines let through in this minute
    uint32_t event;   // plus 1; 0: not in use
};

struct rate {
    struct rate_place place[RATE_PLACES];
    struct rate_place rest; // every place for which there was no room
};

// May a line for this event at this place be written at now_us (a clock that only goes forward,
// microseconds), if limit lines a minute may? A minute begins with the first line in it.
// Returns the place's count of repeats held back, which the caller sets to 0 once it has told it; NULL if
// this one is held back too, which is then counted. limit must not be 0.
// Pure, async-signal-safe, no lock: the caller serialises.
uint64_t *rate_admit(struct rate *r, unsigned event, uintptr_t pc, int64_t now_us, unsigned limit);

#endif
