#include "leaks.h"

#define FIRST_SPAN_MS 250
#define LOOKS_LEAST 6

int64_t leaks_age(int64_t now_ms, int64_t seen_ms, int64_t data_ms)
{
    int64_t age = now_ms - seen_ms;
    if (age > data_ms) age = data_ms;
    return age > 0 ? age : 0;
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t greater(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void double_spans(struct history *h)
{
    for (unsigned i = 0; i < h->spans; i += 2) {
        unsigned j = i + 1 < h->spans ? i + 1 : i;
        h->span[i / 2].fewest = lesser(h->span[i].fewest, h->span[j].fewest);
        h->span[i / 2].most = greater(h->span[i].most, h->span[j].most);
    }
    h->spans = (h->spans + 1) / 2;
    h->span_ms *= 2;
}

void history_add(struct history *h, int64_t now_ms, uint32_t count)
{
    if (!h->looks && !count) return;
    if (!h->looks) *h = (struct history){.begin_ms = now_ms, .span_ms = FIRST_SPAN_MS};
    int64_t at = 0;
    while ((at = (now_ms - h->begin_ms) / h->span_ms) >= HISTORY_SPANS) double_spans(h);
    // Where nobody looked there were as many as before.
    for (; h->spans <= at; h->spans++) h->span[h->spans].fewest = h->span[h->spans].most = h->spans < at ? h->now : count;
    unsigned last = h->spans - 1;
    h->span[last].fewest = lesser(h->span[last].fewest, count);
    h->span[last].most = greater(h->span[last].most, count);
    h->now = count;
    h->most = greater(h->most, count);
    h->looks++;
}

enum trend history_trend(const struct history *h)
{
    if (h->looks < LOOKS_LEAST || h->spans < 3) return TREND_UNKNOWN;
    uint32_t first = 0, middle = 0, last = 0, fewest = UINT32_MAX;
    for (unsigned i = 0; i < h->spans; i++) {
        if (i < h->spans / 3) {
            first = greater(first, h->span[i].most);
        } else if (i < h->spans - h->spans / 3) {
            middle = greater(middle, h->span[i].most);
        } else {
            last = greater(last, h->span[i].most);
            fewest = lesser(fewest, h->span[i].fewest);
        }
    }
    bool grows = h->now >= GROWING_LEAST && fewest > first && last > middle;
    return grows ? TREND_GROWING : TREND_STEADY;
}

const char *trend_name(enum trend trend)
{
    static const char *const names[] = {"", "steady", "growing"};
    return names[trend];
}

void leaks_begin(struct leaks *l)
{
    for (unsigned i = 0; i < l->places; i++) {
        l->place[i].counted = 0;
        l->place[i].counted_oldest_ms = 0;
    }
}

// The entry of a place; the last one stands for all that have none.
static struct leak_place *entry_of(struct leaks *l, const struct place *opened)
{
    for (unsigned i = 0; i < l->places; i++)
        if (l->place[i].opened.pc == opened->pc && l->place[i].opened.call == opened->call) return &l->place[i];
    struct leak_place *p = &l->place[LEAK_PLACES - 1];
    if (l->places < LEAK_PLACES) {
        p = &l->place[l->places++];
        *p = (struct leak_place){.opened = *opened};
    }
    if (p == &l->place[LEAK_PLACES - 1]) p->opened = (struct place){0};
    return p;
}

void leaks_count(struct leaks *l, const struct place *opened, int64_t age_ms)
{
    struct leak_place *p = entry_of(l, opened);
    if (!p->counted || age_ms > p->counted_oldest_ms) {
        p->counted_oldest_ms = age_ms;
        if (p->opened.pc) p->opened = *opened;
    }
    p->counted++;
}

void leaks_end(struct leaks *l, int64_t now_ms)
{
    for (unsigned i = 0; i < l->places; i++) {
        struct leak_place *p = &l->place[i];
        history_add(&p->history, now_ms, p->counted);
        p->oldest_ms = p->counted_oldest_ms;
    }
}

static bool comes_before(const struct leak *a, const struct leak *b)
{
    return a->now != b->now ? a->now > b->now : a->most > b->most;
}

unsigned leaks_list(const struct leaks *l, struct leak *list, unsigned max)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->places; i++) {
        const struct leak_place *p = &l->place[i];
        if (!p->history.most) continue;
        struct leak leak = {p->opened, p->history.now, p->history.most, p->oldest_ms, history_trend(&p->history)};
        unsigned at = n < max ? n++ : max;
        for (; at > 0 && comes_before(&leak, &list[at - 1]); at--)
            if (at < max) list[at] = list[at - 1];
        if (at < max) list[at] = leak;
    }
    return n;
}
