#include "trend.h"

enum { MINUTE_MS = 60000, APART_MS = 1000 };

void trend_add(struct trend *t, int64_t ms, int64_t value)
{
    t->now_ms = ms;
    t->now = value;
    if (t->n && ms - t->ms[t->last] < APART_MS) return;
    t->last = t->n ? (t->last + 1) % TREND_SAMPLES : 0;
    t->ms[t->last] = ms;
    t->value[t->last] = value;
    if (t->n < TREND_SAMPLES) t->n++;
}

bool trend_per_minute(const struct trend *t, double *growth)
{
    int64_t from = t->now, since = t->now_ms;
    for (unsigned i = 0; i < t->n; i++)
        if (t->ms[i] < since && t->now_ms - t->ms[i] <= MINUTE_MS) {
            since = t->ms[i];
            from = t->value[i];
        }
    if (t->now_ms - since < TREND_LEAST_MS) return false;
    *growth = (double)(t->now - from) * MINUTE_MS / (double)(t->now_ms - since);
    return true;
}

void pace_add(struct pace *p, int64_t now, int64_t second, uint64_t n)
{
    if (second > now) second = now;
    if (second < 0 || now - second >= PACE_KEPT) return;
    const int64_t at = second % PACE_SECONDS;
    if (p->second[at] != second) p->n[at] = 0;
    p->second[at] = second;
    p->n[at] += n;
}

uint64_t pace_sum(const struct pace *p, int64_t now, int64_t seconds)
{
    uint64_t sum = 0;
    for (int i = 0; i < PACE_SECONDS; i++)
        if (p->second[i] <= now && now - p->second[i] < seconds) sum += p->n[i];
    return sum;
}
