#include "series.h"

#include <stdbool.h>
#include <string.h>

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static uint32_t add(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

// The buckets that have something in them: [*low, *high], counted from 1970 in the series' width.
static bool extent(const struct series *s, int64_t *low, int64_t *high)
{
    bool any = false;
    for (int i = 0; i < SERIES_BUCKETS; i++) {
        if (!s->n[i]) continue;
        if (!any) *low = s->first + i;
        *high = s->first + i;
        any = true;
    }
    return any;
}

// Moves the counts into buckets that are factor times as wide, where [0] is the bucket first.
static void regroup(struct series *s, int64_t factor, int64_t first)
{
    struct series to = {.first = first, .second = s->second * factor};
    for (int i = 0; i < SERIES_BUCKETS; i++) {
        if (!s->n[i]) continue;
        const int64_t at = floor_divide(s->first + i, factor) - first;
        if (at < 0 || at >= SERIES_BUCKETS) return;
        to.n[at] = add(to.n[at], s->n[i]);
    }
    *s = to;
}

void series_add(struct series *s, int64_t us, uint32_t n)
{
    const int64_t second = floor_divide(us, 1000000);
    if (!s->second) {
        s->second = 1;
        s->first = second;
    }
    int64_t at = floor_divide(second, s->second), low = at, high = at;
    if (at < s->first || at >= s->first + SERIES_BUCKETS) {
        int64_t factor = 1;
        if (extent(s, &low, &high)) {
            if (at < low) low = at;
            if (at > high) high = at;
        }
        while (floor_divide(high, factor) - floor_divide(low, factor) >= SERIES_BUCKETS) factor *= 2;
        regroup(s, factor, floor_divide(low, factor));
        at = floor_divide(at, factor);
    }
    s->n[at - s->first] = add(s->n[at - s->first], n);
}

void series_align(struct series *s, int64_t second, int64_t first)
{
    if (!s->second || second < s->second) return;
    regroup(s, second / s->second, first);
}
