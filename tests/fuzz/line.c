// report_line on any finding: any bytes in comm, names, addresses and places, any counts. One whole line that
// fits; JSON that a strict reader takes, with the manual's keys in the manual's order; text without a control
// character; and what was given is what is read back.
#include "fuzz.h"
#include "json.h"

#include "modules.h"
#include "report.h"

// These ask the system, or remember, in the library; here they say what the fuzzer wants.
static char names[4][16], place_text[PATH_MAX + 32];
static size_t place_length;
static uintptr_t callers[PLACE_FRAMES_MAX];

void thread_name(pid_t tid, char name[16])
{
    memcpy(name, names[(unsigned)tid % 4], 16);
}

size_t modules_place(uintptr_t pc, const char **text)
{
    (void)pc;
    *text = place_text;
    return place_length;
}

const uintptr_t *place_callers(const struct place *p, unsigned *n)
{
    *n = p->stack;
    return callers;
}

static void take_name(struct input *in, char name[16])
{
    memset(name, 0, 16);
    take_bytes(in, name, take_below(in, 16));
}

static void take_address(struct input *in, struct address *a)
{
    memset(a, 0, sizeof *a);
    static const sa_family_t families[] = {AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC};
    size_t n = take_bytes(in, &a->u, take_below(in, sizeof a->u + 1));
    a->u.any.sa_family = families[take_below(in, 4)];
    a->len = (socklen_t)(take_below(in, 4) ? n : sizeof a->u);
}

static void take_facts(struct input *in, struct facts *f)
{
    memset(f, 0, sizeof *f);
    f->cookie = take_number(in, take_below(in, 9));
    f->kind = (enum kind)take_below(in, KIND_OTHER + 1);
    f->state = (enum tcp_state)take_below(in, TCP_STATE_CLOSING + 1);
    uint8_t bits = take(in);
    f->listening = bits & 1;
    f->linger_reset = bits & 2;
    f->peer_gone = bits & 4;
    f->linger_s = (int)take_number(in, take_below(in, 5));
    f->unread = take_count(in);
    f->unsent = take_count(in);
    f->backlog = take_count(in);
    take_address(in, &f->local);
    take_address(in, &f->peer);
}

static void take_place(struct input *in, struct place *p)
{
    p->pc = take_below(in, 3) ? (uintptr_t)take_number(in, 8) : 0;
    p->tid = (pid_t)take_number(in, take_below(in, 5));
    p->call = (enum call)take_below(in, CALL_SETSOCKOPT + 1);
    p->stack = take_below(in, PLACE_FRAMES_MAX) & 0xffff;
}

static void take_leak(struct input *in, struct leak *k)
{
    memset(k, 0, sizeof *k);
    take_place(in, &k->opened);
    k->now = (uint32_t)take_count(in);
    k->most = (uint32_t)take_count(in);
    k->oldest_ms = take_count(in);
    k->trend = (enum trend)take_below(in, TREND_GROWING + 1);
}

static void take_drained(struct input *in, struct drained *d)
{
    memset(d, 0, sizeof *d);
    d->end = (enum drain_end)take_below(in, DRAIN_GONE + 1);
    d->bytes = take_count(in);
    d->ms = take_count(in);
    d->unread = take(in) & 1;
}

static void take_in_use(struct input *in, struct in_use *u)
{
    memset(u, 0, sizeof *u);
    uint8_t bits = take(in);
    u->known = bits & 1;
    u->whole = bits & 2;
    u->any_port = bits & 4;
    u->reuse = bits & 8;
    u->uid = bits & 16;
    u->listeners = bits & 32;
    u->others = bits & 64;
    u->waiting = (unsigned)take_number(in, take_below(in, 5));
    u->closing = (unsigned)take_number(in, take_below(in, 5));
    u->fd = (int)take_count(in);
    u->first.uid = (uint32_t)take_number(in, take_below(in, 5));
    take_address(in, &u->first.local);
    take_address(in, &u->first.peer);
}

static void take_blocked(struct input *in, struct blocked *b)
{
    memset(b, 0, sizeof *b);
    b->known = take(in) & 1;
    b->n = take_below(in, 4) ? take_below(in, 12) : (unsigned)take_number(in, 4);
    for (unsigned i = 0; i < THREADS_TOLD; i++) {
        b->thread[i].tid = (pid_t)take_number(in, take_below(in, 5));
        take_name(in, b->thread[i].name);
        take_name(in, b->thread[i].call);
    }
}

// No C1 control, no line or paragraph separator either: a terminal and an editor would act on them.
static void no_controls(const char *line, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        unsigned char c = (unsigned char)line[i], next = (unsigned char)line[i + 1];
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0))
            wrong("control character: %.*s", (int)n, line);
        if (c == 0xe2 && next == 0x80 && (line[i + 2] == '\xa8' || line[i + 2] == '\xa9'))
            wrong("line separator: %.*s", (int)n, line);
    }
}

enum shape { STRING, NUMBER, PLACE, PLACES, THREADS, COUNTS, LEAKS };

struct keys {
    char key[96][32];
    unsigned n;
};

static void add_key(struct keys *k, const char *name, const char *part)
{
    snprintf(k->key[k->n++], sizeof *k->key, "%s%s%s", name, *part ? "." : "", part);
}

// As the manual has them; in text the fields of a place, and the events that are counted, are keys.
static void add_field(struct keys *k, const char *name, enum shape shape, bool text)
{
    static const char *const parts[] = {
#define FIELD(name, shape, meaning)
#define THREAD_FIELD(name, shape, meaning)
#define PLACE_FIELD(name, shape, meaning) name,
#define LEAK_FIELD(name, shape, meaning)
#include "fields.def"
#undef FIELD
#undef PLACE_FIELD
    };
    if (text && shape == PLACE)
        for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) add_key(k, name, parts[i]);
    else if (text && shape == COUNTS)
        for (unsigned e = 0; e < EVENT_COUNT; e++) add_key(k, name, event_name((enum event)e));
    else
        add_key(k, name, "");
}

static const struct keys *keys_of(bool text)
{
    static struct keys all[2];
    struct keys *k = &all[text];
    if (k->n) return k;
#define FIELD(name, shape, meaning) add_field(k, name, shape, text);
#define PLACE_FIELD(name, shape, meaning)
#include "fields.def"
    return k;
}

// keys: separated by spaces, each one of the manual's and in its order, none twice.
static void in_order(char *keys, bool text, const char *line, size_t n)
{
    const struct keys *known = keys_of(text);
    unsigned next = 0;
    for (char *key = strtok(keys, " "); key; key = strtok(NULL, " ")) {
        while (next < known->n && strcmp(known->key[next], key) != 0) next++;
        if (next++ == known->n) wrong("key %s: unknown, twice or out of order: %.*s", key, (int)n, line);
    }
}

// Appends the UTF-8 of what four digits say.
static size_t unescape(char *to, const char *digits)
{
    char hex[5] = "";
    memcpy(hex, digits, 4);
    unsigned c = (unsigned)strtoul(hex, NULL, 16);
    if (c < 0x80) return to[0] = (char)c, 1;
    if (c < 0x800) return to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 0x3f)), 2;
    to[0] = (char)(0xe0 | c >> 12);
    to[1] = (char)(0x80 | (c >> 6 & 0x3f));
    to[2] = (char)(0x80 | (c & 0x3f));
    return 3;
}

// A JSON string with its quotes → the bytes it stands for.
static size_t decode(const char *s, char *to)
{
    size_t n = 0;
    for (s++; *s != '"'; s++) {
        if (*s != '\\')
            to[n++] = *s;
        else if (*++s == 'u')
            n += unescape(to + n, s + 1), s += 4;
        else
            to[n++] = *s == 'n'   ? '\n'
                      : *s == 't' ? '\t'
                      : *s == 'r' ? '\r'
                      : *s == 'b' ? '\b'
                      : *s == 'f' ? '\f'
                                  : *s;
    }
    to[n] = '\0';
    return n;
}

// What is no UTF-8 can't be read back: only that it is there.
static void same_string(const char *object, const char *end, const char *key, const char *given)
{
    char read[4096];
    const char *value = json_get(object, end, key);
    if (!*value) return;
    for (const char *at = given, *stop = given + strlen(given); at < stop;) {
        int length = json_utf8(at, stop);
        if (!length) return;
        at += length;
    }
    decode(value, read);
    if (strcmp(read, given) != 0) wrong("%s is %s, given as %s", key, value, given);
}

static void same_number(const char *object, const char *end, const char *key, int64_t given)
{
    char text[32];
    const char *value = json_get(object, end, key);
    snprintf(text, sizeof text, "%lld", (long long)given);
    if (given == UNKNOWN ? *value : (*value && strcmp(value, text) != 0))
        wrong("%s is %s, given as %s", key, value, text);
}

static void check_json(const char *line, size_t n, const struct finding *f, const struct line_context *c)
{
    if (!json_is_line(line, n)) wrong("not one line of JSON: %.*s", (int)n, line);
    char keys[4096];
    const char *end = line + n - 1;
    json_keys(line, end, keys, sizeof keys);
    in_order(keys, false, line, n);
    same_number(line, end, "pid", c->pid);
    same_number(line, end, "fd", f->fd);
    same_number(line, end, "age_ms", f->age_ms);
    same_number(line, end, "blocked_ms", f->blocked_ms > 0 ? f->blocked_ms : UNKNOWN);
    same_string(line, end, "comm", c->comm);
    same_string(line, end, "event", event_name(f->event));
    if (!*json_get(line, end, "time") || !*json_get(line, end, "event") || !*json_get(line, end, "text"))
        wrong("without time, event or text: %.*s", (int)n, line);
    if (f->facts) same_number(line, end, "unread", f->facts->unread);
    if (f->acted) same_string(line, end, "action", action_name(f->action));
}

static void check_text(const char *line, size_t n, const struct finding *f)
{
    char keys[4096], start[64];
    if (!text_keys(line, n, keys, sizeof keys)) wrong("not one line of text: %.*s", (int)n, line);
    in_order(keys, true, line, n);
    snprintf(start, sizeof start, ": %s: ", event_name(f->event));
    if (strncmp(line, "preclose: ", 10) != 0 || !memmem(line, n < 64 ? n : 64, start, strlen(start)))
        wrong("does not begin as it should: %.*s", (int)n, line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct facts facts;
    struct blocked blocked;
    struct drained drained;
    struct in_use in_use;
    enum { LEAKS_MAX = 8 };
    struct leak leak[LEAKS_MAX];
    unsigned leaks = 0;
    uint64_t counts[EVENT_COUNT];
    char comm[16];
    uint8_t bits = take(&in);
    size_t room = 512 + take_number(&in, 2) % (LINE_MAX_BYTES - 512 + 1);
    struct finding f = {.event = (enum event)take_below(&in, EVENT_COUNT),
                        .fd = (int)take_count(&in),
                        .action = (enum action)take_below(&in, ACTION_DRAIN + 1),
                        .reason = (enum reason)take_below(&in, REASON_STALE + 1),
                        .acted = bits & 1,
                        .deadly = bits & 2,
                        .holder = (int)take_count(&in),
                        .age_ms = take_count(&in),
                        .blocked_ms = take_count(&in)};
    struct line_context c = {.time_us = take_count(&in),
                             .pid = (int)take_count(&in),
                             .comm = comm,
                             .held_back = (uint64_t)take_count(&in),
                             .lost = (uint64_t)take_count(&in)};
    take_name(&in, comm);
    take_facts(&in, &facts);
    take_place(&in, &f.opened);
    take_place(&in, &f.closed);
    take_place(&in, &f.used);
    take_blocked(&in, &blocked);
    take_drained(&in, &drained);
    take_in_use(&in, &in_use);
    f.close_wait_ms = take_count(&in);
    f.more = (unsigned)take_count(&in);
    f.shared = take(&in) & 1;
    f.grave = take(&in) & 1;
    c.leak = leak;
    for (c.leaks = take_below(&in, LEAKS_MAX + 1); leaks < c.leaks; leaks++) take_leak(&in, &leak[leaks]);
    if (in_use.any_port || take_below(&in, 2)) f.in_use = &in_use;
    if (drained.unread || take_below(&in, 2)) f.drained = &drained;
    for (unsigned e = 0; e < EVENT_COUNT; e++) counts[e] = (uint64_t)take_count(&in);
    for (unsigned i = 0; i < 4; i++) take_name(&in, names[i]);
    size_t wanted = take_number(&in, 2) % sizeof place_text;
    place_length = take_bytes(&in, place_text, wanted);
    if (bits & 32) // a path as long as they come, of what is left
        for (; place_length && place_length < wanted; place_length++)
            place_text[place_length] = place_text[place_length / 2];
    if (bits & 4) f.facts = &facts;
    if (bits & 8) f.blocked = &blocked;
    if (bits & 16) c.counts = counts;
    enum format format = bits & 64 ? FORMAT_TEXT : FORMAT_JSON;

    char *line = malloc(room);
    size_t n = report_line(line, room, format, &f, &c);
    if (n < 2 || n > room) wrong("%zu bytes of %zu", n, room);
    no_controls(line, n);
    if (format == FORMAT_JSON)
        check_json(line, n, &f, &c);
    else
        check_text(line, n, &f);
    free(line);
    return 0;
}
