#include "rate.h"

#include <stdbool.h>
#include <stddef.h>

#define MINUTE_US INT64_C(60000000)

static bool is_over(const struct rate_place *p, int64_t now_us)
{
    return now_us - p->since_us >= MINUTE_US;
}

// The place of this event and pc, taking over one that is not needed if it is new. A place whose minute is
// over is not needed; one with repeats to tell goes last.
static struct rate_place *place_for(struct rate *r, unsigned event, uintptr_t pc, int64_t now_us)
{
    struct rate_place *spare = NULL;
    for (struct rate_place *p = r->place; p < r->place + RATE_PLACES; p++) {
        if (p->event == event + 1 && p->pc == pc) return p;
        if (p->event && !is_over(p, now_us)) continue;
        if (!spare || (spare->held && !p->held)) spare = p;
    }
    if (!spare) return &r->rest;
    *spare = (struct rate_place){.pc = pc, .since_us = now_us, .event = event + 1};
    return spare;
}

uint64_t *rate_admit(struct rate *r, unsigned event, uintptr_t pc, int64_t now_us, unsigned limit)
{
    struct rate_place *p = place_for(r, event, pc, now_us);
    if (is_over(p, now_us)) {
        p->since_us = now_us;
        p->told = 0;
    }
    if (p->told >= limit) {
        p->held++;
        return NULL;
    }
    p->told++;
    return &p->held;
}
