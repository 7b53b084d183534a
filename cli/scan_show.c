// What scan has found, for a person, a program, and a monitoring system.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "owners.h"
#include "say.h"
#include "scan.h"
#include "text.h"

enum { ROWS_SHOWN = 10, CLOSE_WAIT = 8, LISTEN = 10 };

// Has an owner that is shown earlier all of these too?
static const struct owner *shown_before(const struct census *c, const struct owners *o,
                                        const struct owner *last)
{
    for (size_t n = 0; n < o->n && o->owner[n] != last; n++) {
        const struct owner *before = o->owner[n];
        size_t shared = 0;
        if (!before->pid) break;
        for (size_t i = 0; i < last->rows; i++) {
            const struct entry *e = &c->entry[last->row[i]];
            for (size_t k = 0; k < e->holders; k++)
                if (c->holder[e->first + k].pid == before->pid) {
                    shared++;
                    break;
                }
        }
        if (shared == last->rows) return before;
    }
    return NULL;
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

// The descriptor by which a process holds a socket; further ones are as good.
static const struct holder *holder_of(const struct census *c, const struct entry *e, pid_t pid)
{
    for (size_t i = 0; i < e->holders; i++)
        if (c->holder[e->first + i].pid == pid) return &c->holder[e->first + i];
    return NULL;
}

void scan_row(const struct scan *s, const struct entry *e, pid_t pid, scan_cells cell)
{
    char text[NUMBER_MAX], address[DIAG_ADDRESS_MAX];
    const struct holder *h = holder_of(&s->census, e, pid);
    size_t others = 0;
    cell[CELL_FD][0] = '\0';
    if (h) snprintf(cell[CELL_FD], SCAN_CELL_MAX, e->held == NOT_ACCEPTED ? "at %d" : "%d", h->fd);
    snprintf(cell[CELL_STATE], SCAN_CELL_MAX, "%s", diag_state(e->s.state));
    snprintf(cell[CELL_LOCAL], SCAN_CELL_MAX, "%s", diag_address(address, &e->s, false));
    snprintf(cell[CELL_PEER], SCAN_CELL_MAX, "%s",
             e->s.state == LISTEN ? "-" : diag_address(address, &e->s, true));
    snprintf(cell[CELL_AGE], SCAN_CELL_MAX, "%s",
             e->s.quiet_ms < 0 || e->s.state == LISTEN ? "-" : text_ms(text, e->s.quiet_ms));
    const uint32_t unread = diag_unread(&e->s);
    for (size_t i = 0; i < e->holders; i++) others += s->census.holder[e->first + i].pid != pid;
    char *note = cell[CELL_NOTE];
    note[0] = '\0';
    if (e->held == NOT_ACCEPTED)
        snprintf(note, SCAN_CELL_MAX, "not accepted yet");
    else if (e->s.state == LISTEN)
        snprintf(note, SCAN_CELL_MAX, "%" PRIu32 " waiting", e->s.queued);
    else if (unread)
        snprintf(note, SCAN_CELL_MAX, "%s unread", text_bytes(text, unread));
    else if (e->s.state == CLOSE_WAIT)
        snprintf(note, SCAN_CELL_MAX, e->s.queued ? "its end was not read" : "all was read");
    if (others && e->held == HELD)
        snprintf(note + strlen(note), SCAN_CELL_MAX - strlen(note), "%sheld by %zu other process%s too",
                 *note ? ", " : "", others, others == 1 ? "" : "es");
}

// Rows with columns as wide as they need.
static void put_rows(const struct scan *s, const struct owner *o)
{
    static const char *const titles[SCAN_CELLS] = {"FD", "STATE", "LOCAL", "PEER", "", ""};
    const size_t shown = s->all || o->rows <= ROWS_SHOWN ? o->rows : ROWS_SHOWN;
    scan_cells *rows = need(calloc(shown + 1, sizeof *rows));
    int width[SCAN_CELLS];
    for (int k = 0; k < SCAN_CELLS; k++) snprintf(rows[0][k], SCAN_CELL_MAX, "%s", titles[k]);
    snprintf(rows[0][CELL_AGE], SCAN_CELL_MAX,
             s->states == diag_state_bit("close-wait") ? "AT LEAST" : "QUIET FOR");
    for (size_t i = 0; i < shown; i++) scan_row(s, &s->census.entry[o->row[i]], o->pid, rows[i + 1]);
    for (int k = 0; k < SCAN_CELLS; k++) {
        width[k] = 0;
        for (size_t i = 0; i <= shown; i++)
            if ((int)strlen(rows[i][k]) > width[k]) width[k] = (int)strlen(rows[i][k]);
    }
    for (size_t i = 0; i <= shown; i++) {
        printf("    %*s", width[0], rows[i][0]);
        for (int k = 1; k < SCAN_CELLS - 1; k++) printf("  %-*s", width[k], rows[i][k]);
        printf("  %s\n", rows[i][SCAN_CELLS - 1]);
    }
    if (shown < o->rows) printf("    ... and %zu more (--all)\n", o->rows - shown);
    free(rows);
}

static void put_owner(const struct scan *s, const struct owners *all, const struct owner *o)
{
    const struct owner *same = shown_before(&s->census, all, o);
    char text[NUMBER_MAX];
    const struct process *p = census_process(&s->census, o->pid);
    if (p) {
        put_safe(stdout, slice_of(p->comm));
        printf(", pid %d, user %s: ", p->pid, owner_user(p->uid, text));
    } else {
        printf("held by nobody that can be seen from here%s: ", geteuid() ? " (run it as root)" : "");
    }
    printf("%s", text_count(text, o->rows));
    if (o->waiting == o->rows)
        printf(" that %s not been accepted", o->rows == 1 ? "has" : "have");
    else if (o->waiting)
        printf(", of which %s not been accepted", text_count(text, o->waiting));
    if (o->oldest_ms > 0 && s->states == diag_state_bit("close-wait"))
        printf(", %s %s", o->rows == 1 ? "for at least" : "the oldest for at least",
               text_ms(text, o->oldest_ms));
    if (o->unread) printf(", %s unread", text_bytes(text, o->unread));
    if (same) printf("; all of them held by pid %d too, and shown there\n\n", same->pid);
    if (same) return;
    putchar('\n');
    put_rows(s, o);
    putchar('\n');
}

static void put_orphan(const struct orphan_call *o)
{
    char comm[PROC_NAME_MAX];
    proc_comm(o->pid, comm);
    fputs("        ", stdout);
    put_safe(stdout, slice_of(comm));
    printf(", pid %d: thread %d is in %s on descriptor %d, which is %s\n", o->pid, o->tid, o->call.name,
           o->call.fd, o->closed ? "closed" : "something else now");
}

static void put_ghost(const struct census *c, const struct entry *e)
{
    char local[DIAG_ADDRESS_MAX], peer[DIAG_ADDRESS_MAX], user[NUMBER_MAX];
    size_t candidates = 0;
    printf("    %s %s %s", diag_type(&e->s), diag_state(e->s.state), diag_address(local, &e->s, false));
    if (e->s.state != LISTEN) printf(" -> %s", diag_address(peer, &e->s, true));
    printf(", made by user %s\n", owner_user(e->s.uid, user));
    for (size_t k = 0; k < c->orphans; k++) {
        if (!census_fits(&c->orphan[k], e)) continue;
        if (!candidates++) printf("      could be of\n");
        put_orphan(&c->orphan[k]);
    }
}

static void put_ghosts(const struct census *c, enum held held, const char *title)
{
    bool any = false;
    for (size_t i = 0; i < c->entries; i++) {
        if (c->entry[i].held != held) continue;
        if (!any) puts(title);
        any = true;
        put_ghost(c, &c->entry[i]);
    }
    if (any) putchar('\n');
}

static void put_limits(const struct census *c)
{
    if (c->interrupted)
        printf("The kernel's table changed while it was read: a connection may be missing or there twice.\n");
    if (c->nets_unseen)
        printf("%u other network namespace%s could not be looked into%s.\n", c->nets_unseen,
               plural(c->nets_unseen), geteuid() ? "; run it as root" : "");
    if (c->sees_all) return;
    if (geteuid())
        printf("The descriptors of other users' processes can't be read; run it as root to see all.\n");
    else if (!proc_sees_all())
        printf("Processes outside of this process namespace are not seen.\n");
    else
        printf("The descriptors of some processes can't be read, not even by root here.\n");
}

void scan_text(const struct scan *s)
{
    struct owners o = owners_of(s);
    char text[NUMBER_MAX];
    const size_t n = scan_count(s);
    printf("%s TCP %s%s %s", n ? text_count(text, n) : "no",
           s->states >> LISTEN & 1 ? "socket" : "connection", plural(n), s->what);
    if (s->older_ms) printf(" for at least %s", text_ms(text, s->older_ms));
    printf("\n\n");
    for (size_t i = 0; i < o.n; i++) put_owner(s, &o, o.owner[i]);
    put_ghosts(&s->census, GHOST,
               "No descriptor of any process is one of these: closed while a thread was in a call on them, "
               "or kept by the\n"
               "kernel or by a message that no one has read:");
    put_ghosts(&s->census, LIKELY_GHOST,
               "No descriptor that can be read is one of these, and a thread is in a call that fits: most "
               "likely closed\n"
               "while it was in that call:");
    put_limits(&s->census);
}

static void json_holders(const struct scan *s, struct json_out *o, const struct entry *e)
{
    out_open(o, e->held == NOT_ACCEPTED ? "listener" : "holders", '[');
    for (size_t i = 0; i < e->holders; i++) {
        const struct holder *h = &s->census.holder[e->first + i];
        const struct process *p = census_process(&s->census, h->pid);
        out_open(o, NULL, '{');
        out_number(o, "pid", h->pid);
        if (h->tid) out_number(o, "tid", h->tid);
        if (p) out_string(o, "comm", slice_of(p->comm));
        out_number(o, "fd", h->fd);
        out_close(o, '}');
    }
    out_close(o, ']');
}

static void json_candidates(const struct scan *s, struct json_out *o, const struct entry *e)
{
    char comm[PROC_NAME_MAX];
    out_open(o, "candidates", '[');
    for (size_t i = 0; i < s->census.orphans; i++) {
        const struct orphan_call *c = &s->census.orphan[i];
        if (!census_fits(c, e)) continue;
        proc_comm(c->pid, comm);
        out_open(o, NULL, '{');
        out_number(o, "pid", c->pid);
        out_number(o, "tid", c->tid);
        out_string(o, "comm", slice_of(comm));
        out_string(o, "call", slice_of(c->call.name));
        out_number(o, "fd", c->call.fd);
        out_bool(o, "closed", c->closed);
        out_close(o, '}');
    }
    out_close(o, ']');
}

static void json_socket(const struct scan *s, struct json_out *o, const struct entry *e)
{
    static const char *const held[] = {[HELD] = "held",      [NOT_ACCEPTED] = "not-accepted",
                                       [GHOST] = "ghost",    [LIKELY_GHOST] = "likely-ghost",
                                       [HIDDEN] = "unknown", [CLOSED] = "closed"};
    char address[DIAG_ADDRESS_MAX];
    out_open(o, NULL, '{');
    out_string(o, "held", slice_of(held[e->held]));
    out_string(o, "type", slice_of(diag_type(&e->s)));
    out_string(o, "state", slice_of(diag_state(e->s.state)));
    out_string(o, "local", slice_of(diag_address(address, &e->s, false)));
    if (e->s.state != LISTEN) out_string(o, "peer", slice_of(diag_address(address, &e->s, true)));
    out_number(o, "cookie", (int64_t)e->s.cookie);
    out_number(o, "inode", e->s.inode);
    out_number(o, "uid", e->s.uid);
    if (e->s.state == LISTEN) out_number(o, "waiting", e->s.queued);
    if (e->s.state != LISTEN) out_number(o, "unread", diag_unread(&e->s));
    if (e->s.state == CLOSE_WAIT) out_bool(o, "all_read", e->s.queued == 0);
    if (e->s.state == CLOSE_WAIT && e->s.quiet_ms >= 0) out_number(o, "close_wait_ms", e->s.quiet_ms);
    if (e->s.state != LISTEN && e->s.quiet_ms >= 0) out_number(o, "quiet_ms", e->s.quiet_ms);
    if (e->held == GHOST || e->held == LIKELY_GHOST)
        json_candidates(s, o, e);
    else
        json_holders(s, o, e);
    out_close(o, '}');
}

void scan_json(const struct scan *s)
{
    struct json_out o = {.out = stdout};
    const struct census *c = &s->census;
    out_open(&o, NULL, '{');
    out_number(&o, "count", (int64_t)scan_count(s));
    out_open(&o, "sockets", '[');
    for (size_t i = 0; i < c->entries; i++)
        if (scan_wants(s, &c->entry[i])) json_socket(s, &o, &c->entry[i]);
    out_close(&o, ']');
    out_open(&o, "ghosts", '[');
    for (size_t i = 0; i < c->entries; i++)
        if (c->entry[i].held == GHOST || c->entry[i].held == LIKELY_GHOST) json_socket(s, &o, &c->entry[i]);
    out_close(&o, ']');
    out_bool(&o, "sees_all", c->sees_all);
    out_bool(&o, "interrupted", c->interrupted);
    out_number(&o, "network_namespaces", c->nets);
    out_number(&o, "network_namespaces_unseen", c->nets_unseen);
    out_close(&o, '}');
    putchar('\n');
}

// https://www.monitoring-plugins.org/doc/guidelines.html: a range N is left by more than N.
int scan_plugin(const struct scan *s)
{
    static const char *const words[] = {"OK", "WARNING", "CRITICAL"};
    const size_t n = scan_count(s);
    struct owners o = owners_of(s);
    int status = s->warn >= 0 && n > (size_t)s->warn ? 1 : 0;
    if (s->crit >= 0 && n > (size_t)s->crit) status = 2;
    printf("CLOSE_WAIT %s - %zu connection%s %s", words[status], n, plural(n), s->what);
    for (size_t i = 0; i < o.n && i < 3; i++) {
        const struct process *p = census_process(&s->census, o.owner[i]->pid);
        fputs(i ? ", " : ": ", stdout);
        put_safe(stdout, slice_of(p ? p->comm : "unseen"));
        if (p) printf(" (%d)", p->pid);
        printf(" %zu", o.owner[i]->rows);
    }
    printf(" | connections=%zu;", n);
    if (s->warn >= 0) printf("%" PRId64, s->warn);
    putchar(';');
    if (s->crit >= 0) printf("%" PRId64, s->crit);
    printf(";0\n");
    return status;
}
