#include "owners.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>

#include "say.h"

static struct owner *owner_of(struct owner **all, pid_t pid)
{
    struct owner *o;
    HASH_FIND_INT(*all, &pid, o);
    if (o) return o;
    o = need(calloc(1, sizeof *o));
    o->pid = pid;
    o->oldest_ms = -1;
    HASH_ADD_INT(*all, pid, o);
    return o;
}

static void add_row(struct owner *o, size_t row, const struct entry *e)
{
    if (o->rows && o->row[o->rows - 1] == row) return; // two descriptors of one process
    if (o->rows == o->room)
        o->row = need(reallocarray(o->row, o->room = o->room ? 2 * o->room : 16, sizeof *o->row));
    o->row[o->rows++] = row;
    o->waiting += e->held == NOT_ACCEPTED;
    o->unread += diag_unread(&e->s);
    if (e->s.quiet_ms > o->oldest_ms) o->oldest_ms = e->s.quiet_ms;
}

static int by_rows(const void *a, const void *b)
{
    const struct owner *x = *(struct owner *const *)a, *y = *(struct owner *const *)b;
    if ((x->pid == 0) != (y->pid == 0)) return x->pid == 0 ? 1 : -1;
    if (x->rows != y->rows) return x->rows > y->rows ? -1 : 1;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static const struct census *sorting;

// Those that have been so for longest first.
static int by_age(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    const int64_t age = sorting->entry[x].s.quiet_ms, other = sorting->entry[y].s.quiet_ms;
    return age != other ? (age > other ? -1 : 1) : x < y ? -1 : x > y;
}

struct owners owners_of(const struct scan *s)
{
    struct owner *all = NULL, *next;
    struct owners o = {0};
    const struct census *c = &s->census;
    for (size_t i = 0; i < c->entries; i++) {
        const struct entry *e = &c->entry[i];
        if (!scan_wants(s, e)) continue;
        for (size_t k = 0; k < e->holders; k++) add_row(owner_of(&all, c->holder[e->first + k].pid), i, e);
        if (!e->holders) add_row(owner_of(&all, 0), i, e);
    }
    o.owner = need(calloc(HASH_COUNT(all) + 1, sizeof(struct owner *)));
    for (struct owner *one = all; one; one = next) {
        next = one->hh.next;
        o.owner[o.n++] = one;
    }
    HASH_CLEAR(hh, all);
    sorting = c;
    for (size_t i = 0; i < o.n; i++)
        qsort(o.owner[i]->row, o.owner[i]->rows, sizeof *o.owner[i]->row, by_age);
    if (o.n) qsort(o.owner, o.n, sizeof(struct owner *), by_rows);
    return o;
}

void owners_free(struct owners *o)
{
    for (size_t i = 0; i < o->n; i++) {
        free(o->owner[i]->row);
        free(o->owner[i]);
    }
    free(o->owner);
    *o = (struct owners){0};
}

const char *owner_user(int64_t uid, char out[NUMBER_MAX])
{
    const struct passwd *user = uid < 0 ? NULL : getpwuid((uid_t)uid);
    if (user)
        snprintf(out, NUMBER_MAX, "%s", user->pw_name);
    else
        snprintf(out, NUMBER_MAX, "uid %" PRId64, uid);
    return out;
}
