#include "counters.h"

#include <stdlib.h>
#include <string.h>

#include "say.h"

// Longer than any that the library writes: comm has 15 bytes, of which each may have become three.
enum { LABEL_MAX = 64, KEY_MAX = 3 * (LABEL_MAX + 1) };

static const char *const kinds[] = {
    [KIND_FINDING] = "finding", [KIND_OTHER] = "other", [KIND_BROKEN] = "broken", [KIND_EMPTY] = "empty"};

const char *line_kind_name(enum line_kind kind)
{
    return kinds[kind];
}

struct counters *counters_new(void)
{
    struct counters *c = need(calloc(1, sizeof *c));
    c->last_us = LOG_UNKNOWN;
    return c;
}

struct key {
    size_t n;
    char text[KEY_MAX];
};

// A label ends at a 0, which a damaged line may hold, and where a character of UTF-8 does.
static void add_label(struct key *k, struct slice s)
{
    size_t n = s.n ? strnlen(s.at, s.n < LABEL_MAX ? s.n : LABEL_MAX) : 0;
    while (n && n < s.n && ((unsigned char)s.at[n] & 0xc0) == 0x80) n--;
    if (n) memcpy(k->text + k->n, s.at, n);
    k->text[k->n + n] = '\0';
    k->n += n + 1;
}

static struct counter *find(struct counter *all, const struct key *k)
{
    struct counter *found;
    HASH_FIND(hh, all, k->text, k->n, found);
    return found;
}

static struct counter *add(struct counter **all, const struct key *k)
{
    struct counter *c = need(calloc(1, sizeof *c + k->n));
    memcpy(c->key, k->text, k->n);
    c->key_n = k->n;
    c->event = c->key;
    c->level = c->event + strlen(c->event) + 1;
    c->comm = c->level + strlen(c->level) + 1;
    HASH_ADD_KEYPTR(hh, *all, c->key, c->key_n, c);
    return c;
}

static bool is_among(struct slice s, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (slice_is(s, names[i])) return true;
    return false;
}

static const char *const levels[] = {"warning", "notice", "info", ""};
static const char *const events[] = {
#define EVENT(id, name, severity, when) name,
#include "../shim/findings.def"
#undef EVENT
};

static struct counter *counter_of(struct counter **all, struct slice event, struct slice level,
                                  struct slice comm)
{
    const struct slice other = slice_of(OTHER_PROGRAMS);
    struct key k = {0};
    add_label(&k, event);
    add_label(&k, level);
    add_label(&k, comm);
    struct counter *found = find(*all, &k);
    if (found) return found;
    if (HASH_COUNT(*all) >= COUNTERS_MAX) {
        k.n = 0;
        add_label(&k, is_among(event, events, sizeof events / sizeof events[0]) ? event : other);
        add_label(&k, is_among(level, levels, sizeof levels / sizeof levels[0]) ? level : other);
        add_label(&k, other);
        found = find(*all, &k);
    }
    return found ? found : add(all, &k);
}

// A damaged line may say anything: no counter goes round.
static void count(struct counter *c, int64_t n)
{
    if (n > 0 && n < UINT32_MAX) c->n += (uint64_t)n;
}

static void add_finding(struct counters *c, const struct finding *f)
{
    const struct slice none = {"", 0};
    if (f->time_us != LOG_UNKNOWN && f->time_us > c->last_us) c->last_us = f->time_us;
    if (slice_is(f->event, "summary")) {
        for (unsigned i = 0; i < f->counts; i++)
            if (f->count[i].n > 0)
                count(counter_of(&c->summaries, f->count[i].event, none, f->comm), f->count[i].n);
        return;
    }
    struct counter *counter = counter_of(&c->findings, f->event, f->level, f->comm);
    counter->n++;
    count(counter, f->held);
}

void counters_line(void *counters, const char *line, size_t n)
{
    struct counters *c = counters;
    switch (log_read(&c->memory, line, n, &c->finding)) {
    case LOG_FINDING:
        c->lines[KIND_FINDING]++;
        add_finding(c, &c->finding);
        break;
    case LOG_BROKEN:
        c->lines[KIND_BROKEN]++;
        break;
    case LOG_OTHER:
        c->lines[KIND_OTHER]++;
        break;
    case LOG_EMPTY:
        c->lines[KIND_EMPTY]++;
        break;
    }
}
