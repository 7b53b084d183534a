#include "sentence.h"

#include <string.h>

#include "address.h"
#include "modules.h"

enum { VALUE_MAX = 72 }; // bytes of a name or a path in a sentence

static void number_of(struct line *l, uint64_t n, const char *thing)
{
    line_unsigned(l, n);
    line_text(l, " ");
    line_text(l, thing);
    if (n != 1) line_text(l, "s");
}

static bool is_tcp(const struct finding *f)
{
    return f->facts && (f->facts->kind == KIND_TCP || f->facts->kind == KIND_TCP6);
}

static bool has_unread(const struct finding *f)
{
    return f->facts && f->facts->unread > 0;
}

static bool has_unsent(const struct finding *f)
{
    return f->facts && f->facts->unsent > 0;
}

static void say_name(struct line *l, const char *before, const char *name)
{
    if (!name[0]) return;
    line_text(l, before);
    line_value(l, name, strlen(name), VALUE_MAX);
}

static void say_address(struct line *l, const char *before, const struct address *a)
{
    char text[ADDRESS_TEXT_MAX];
    size_t n = address_text(a, text);
    if (!n) return;
    line_text(l, before);
    line_value(l, text, n, VALUE_MAX);
}

// "fd 7 tcp 127.0.0.1:8080 -> 127.0.0.1:40112"
static void say_socket(struct line *l, const struct finding *f)
{
    line_text(l, f->fd >= 0 ? "fd " : "a socket");
    if (f->fd >= 0) line_signed(l, f->fd);
    if (!f->facts) return;
    line_text(l, " ");
    line_text(l, kind_name(f->facts->kind));
    if (f->facts->listening) line_text(l, " listener");
    say_address(l, " ", &f->facts->local);
    say_address(l, " -> ", &f->facts->peer);
}

// "close at server+0x11d2 (thread 4242 worker)", as far as it is known. A module goes by its file name
// here; the fields have its path.
static void say_place(struct line *l, const struct place *p)
{
    line_text(l, p->call == CALL_NONE ? "a call" : call_name(p->call));
    if (p->pc) {
        const char *text;
        size_t n = modules_place(p->pc, &text);
        const char *slash = memrchr(text, '/', n);
        if (slash) {
            n -= (size_t)(slash + 1 - text);
            text = slash + 1;
        }
        line_text(l, " at ");
        line_value(l, text, n, VALUE_MAX);
    }
    if (!p->tid) return;
    line_text(l, " (thread ");
    line_signed(l, p->tid);
    say_name(l, " ", thread_name_once(p->tid));
    line_text(l, ")");
}

static bool is_known(const struct place *p)
{
    return p->pc || p->tid || p->call != CALL_NONE;
}

static void say_where(struct line *l, const char *before, const struct place *p)
{
    if (!is_known(p)) return;
    line_text(l, before);
    say_place(l, p);
}

// "2 threads were blocked on it (17 worker in recvfrom, 18 in accept4)"
static void say_threads(struct line *l, const struct blocked *b)
{
    if (!b || !b->n) {
        line_text(l, "threads were blocked on it");
        return;
    }
    if (!b->known) line_text(l, "at least ");
    number_of(l, b->n, "thread");
    line_text(l, b->n == 1 ? " was blocked on it (" : " were blocked on it (");
    for (unsigned i = 0; i < b->n && i < THREADS_TOLD; i++) {
        const struct blocked_thread *t = &b->thread[i];
        if (i) line_text(l, ", ");
        line_signed(l, t->tid);
        say_name(l, " ", t->name);
        say_name(l, " in ", t->call);
    }
    if (b->n > THREADS_TOLD) {
        line_text(l, " and ");
        line_unsigned(l, b->n - THREADS_TOLD);
        line_text(l, " more");
    }
    line_text(l, ")");
}

static void blocked_threads(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    const bool one = f->blocked && f->blocked->known && f->blocked->n == 1;
    const char *them = one ? "it" : "them";
    say_socket(l, f);
    say_where(l, " closed by ", &f->closed);
    line_text(l, is_known(&f->closed) ? " while " : " closed while ");
    say_threads(l, f->blocked);
    if (f->acted && f->action != ACTION_NONE) {
        line_text(l, "; preclose woke ");
        line_text(l, them);
        line_text(l, f->action == ACTION_ABORT ? " and the peer still gets the reset that this close means"
                                               : " by a shutdown");
        line_text(l, ", close alone leaves ");
        line_text(l, them);
        line_text(l, " hanging");
    }
    line_text(l, "; call shutdown(SHUT_RDWR) before close, or end ");
    line_text(l, one ? "that thread" : "those threads");
    line_text(l, " first");
}

static void say_why_left(struct line *l, const struct finding *f)
{
    if (f->facts && !facts_wake(f->facts)) {
        line_text(l, ": shutdown does not wake threads on a socket of this kind (");
        line_text(l, kind_name(f->facts->kind));
        line_text(l, ")");
    } else if (f->deadly && f->reason == REASON_NONE) {
        line_text(l, ": EPIPE would come with SIGPIPE, which ends this process");
    } else if (f->acted && f->holder > 0) {
        line_text(l, ": process ");
        line_signed(l, f->holder);
        line_text(l, " may hold the socket too, and a shutdown would cut its connection");
    } else if (f->acted && f->reason != REASON_NONE) {
        line_text(l, ": ");
        line_text(l, reason_text(f->reason));
    }
}

static void left_blocked(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    say_socket(l, f);
    say_where(l, " closed by ", &f->closed);
    line_text(l, is_known(&f->closed) ? " while " : " closed while ");
    say_threads(l, f->blocked);
    if (f->blocked && f->blocked->n == 1)
        line_text(l, "; it stays blocked");
    else
        line_text(l, f->acted && f->action != ACTION_NONE ? "; those that send stay blocked" : "; they stay blocked");
    say_why_left(l, f);
    if (f->acted && f->reason == REASON_SETTING)
        line_text(l, "; set PRECLOSE_SHUTDOWN to always, or wake threads before close");
    else if (f->deadly && f->reason == REASON_NONE)
        line_text(l, "; ignore SIGPIPE or send with MSG_NOSIGNAL, and wake threads before close");
    else
        line_text(l, "; wake threads before close: by a signal, a timeout, or an eventfd in their poll");
}

static void say_lost(struct line *l, const struct finding *f)
{
    line_text(l, " and up to ");
    number_of(l, (uint64_t)f->facts->unsent, "byte");
    line_text(l, " that it had not acknowledged ");
    line_text(l, f->facts->unsent == 1 ? "is lost" : "are lost");
}

static void unread_cost_tcp(struct line *l, const struct finding *f)
{
    const bool already = f->acted && f->reason == REASON_ALREADY_SHUT;
    const bool shut = already || (f->acted && f->action == ACTION_SHUTDOWN && !f->deadly);
    if (!has_unsent(f) && shut) {
        line_text(l, already ? "; the program had shut it down" : "; preclose shut it down first");
        line_text(l, f->facts->unsent == 0
                         ? " and all that was sent had arrived, so the peer reads EOF and no reset"
                         : ", so the peer reads EOF if all that was sent had arrived, else it gets a reset");
        return;
    }
    line_text(l, "; the peer gets a reset");
    if (has_unsent(f))
        say_lost(l, f);
    else
        line_text(l, f->facts->unsent == 0 ? " (ECONNRESET) where it would have read EOF"
                                           : " and what had not reached it is lost");
}

// What a drain has come to, where close alone would have reset the connection.
static void say_drained(struct line *l, const struct drained *d)
{
    line_text(l, "; preclose drained ");
    number_of(l, (uint64_t)d->bytes, "byte");
    line_text(l, " in ");
    line_signed(l, d->ms);
    line_text(l, " ms");
    switch (d->end) {
    case DRAIN_FINISHED:
        line_text(l, " until the peer had finished too, so that it gets no reset and nothing of ours is lost by this close");
        break;
    case DRAIN_BROKEN:
        line_text(l, ", then the peer reset the connection itself");
        break;
    case DRAIN_TIME:
        line_text(l, d->unread ? ", and the peer was still sending: it gets a reset"
                               : ", and the peer had not finished: if it sends more, that is answered by a reset");
        break;
    case DRAIN_BYTES:
        line_text(l, ", which is as much as it reads, and the peer was still sending: it gets a reset");
        break;
    case DRAIN_GONE:
        line_text(l, ", then its descriptor was closed under it: the peer may get a reset");
        break;
    }
}

static void unread_reset(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    say_socket(l, f);
    if (f->drained && !has_unread(f)) {
        line_text(l, " closed while the peer was still sending");
    } else {
        line_text(l, " closed with ");
        if (has_unread(f))
            number_of(l, (uint64_t)f->facts->unread, "byte");
        else
            line_text(l, "bytes");
        line_text(l, " unread");
    }
    say_where(l, " by ", &f->closed);
    if (f->drained)
        say_drained(l, f->drained);
    else if (is_tcp(f))
        unread_cost_tcp(l, f);
    else
        line_text(l, "; the peer gets ECONNRESET where it would have read EOF");
    line_text(l, "; call shutdown(SHUT_WR) and read until EOF before close");
}

static void linger_reset(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    say_socket(l, f);
    line_text(l, " reset on purpose");
    say_where(l, " by ", &f->closed);
    line_text(l, ": SO_LINGER is on with 0 s; ");
    line_text(l, f->acted && f->reason == REASON_ALREADY_SHUT
                     ? "the program had shut it down, so the peer may read EOF before the reset"
                     : "the peer gets a reset and no EOF");
    if (has_unsent(f)) line_text(l, ",");
    if (has_unsent(f)) say_lost(l, f);
    if (has_unread(f)) {
        line_text(l, ", and ");
        number_of(l, (uint64_t)f->facts->unread, "byte");
        line_text(l, " received were never read");
    }
    line_text(l, "; turn SO_LINGER off before close if that is not meant");
}

static void slow_close(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    const int seconds = f->facts ? f->facts->linger_s : 0;
    say_socket(l, f);
    line_text(l, " closed");
    say_where(l, " by ", &f->closed);
    line_text(l, is_known(&f->closed) ? ", which blocked for " : ", and that blocked for ");
    line_signed(l, f->blocked_ms);
    line_text(l, " ms: SO_LINGER with ");
    line_signed(l, seconds);
    line_text(l, " s has it wait until the peer has acknowledged ");
    if (has_unsent(f)) number_of(l, (uint64_t)f->facts->unsent, "byte");
    line_text(l, has_unsent(f) ? " and the end of the stream" : "all that was sent");
    if (f->blocked_ms >= (int64_t)seconds * 1000) line_text(l, ", and that time was over before");
    line_text(l, "; turn SO_LINGER off, as the kernel delivers what is unsent after close too, or close in a thread that "
                 "may wait");
}

static void backlog_reset(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    say_socket(l, f);
    line_text(l, " closed with ");
    if (f->facts && f->facts->backlog > 0)
        number_of(l, (uint64_t)f->facts->backlog, "connection");
    else
        line_text(l, "connections");
    line_text(l, " that no one had accepted");
    say_where(l, " by ", &f->closed);
    line_text(l, "; each is reset, with what its client has sent; accept what waits before closing, or "
                 "hand the listener on");
}

// double-close and use-after-close: the call that came too late, then the one that it came after.
static void too_late(struct line *l, const struct finding *f, const char *did, const char *todo)
{
    say_socket(l, f);
    line_text(l, did);
    say_where(l, " by ", &f->used);
    say_where(l, " after ", &f->closed);
    if (!is_known(&f->closed)) line_text(l, " after it had been closed");
    say_where(l, ", opened by ", &f->opened);
    line_text(l, "; it fails with EBADF now, and hits whatever gets the number next; ");
    line_text(l, todo);
}

static void double_close(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    too_late(l, f, " closed again", "close a descriptor once, and forget its number then");
}

static void use_after_close(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    too_late(l, f, " used", "end every use of a descriptor before closing it");
}

static void retry_loop(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    say_socket(l, f);
    line_text(l, " was closed");
    say_where(l, " by ", &f->closed);
    line_text(l, ", and a thread keeps calling");
    say_where(l, " ", &f->used);
    line_text(l, " on it, 1000 times within a second; each further failure is held 10 ms, so that the loop does "
                 "not eat a core; end the loop on EBADF and EINVAL");
}

// "a connection 127.0.0.1:80 -> 127.0.0.1:4711 (established, uid 0)"
static void say_other(struct line *l, const struct diag_socket *s)
{
    line_text(l, s->peer.len ? "a connection" : "a socket that is bound and does not listen");
    say_address(l, s->peer.len ? " " : ", ", &s->local);
    say_address(l, " -> ", &s->peer);
}

static void say_whose(struct line *l, const struct in_use *u)
{
    if (u->fd >= 0) {
        line_text(l, " (fd ");
        line_signed(l, u->fd);
        line_text(l, " of this process)");
        return;
    }
    line_text(l, u->first.uid == u->uid ? " (of the same user, uid " : " (of another user, uid ");
    line_unsigned(l, u->first.uid);
    line_text(l, ")");
}

// What no process has any more, but the kernel keeps.
static void say_waiting(struct line *l, const struct in_use *u)
{
    line_text(l, u->whole ? "only " : "at least ");
    if (u->waiting) number_of(l, u->waiting, "connection");
    if (u->waiting) line_text(l, " in TIME_WAIT");
    if (u->waiting && u->closing) line_text(l, " and ");
    if (u->closing) number_of(l, u->closing, "closed connection");
    if (u->closing) line_text(l, " whose end the peer has not confirmed");
    line_text(l, u->waiting + u->closing == 1 ? " stands in the way" : " stand in the way");
    if (u->waiting) line_text(l, " (it lasts 60 s)");
    line_text(l, u->reuse ? "; SO_REUSEADDR is on here, but was not when they were made: have it on from the first start"
                          : "; set SO_REUSEADDR before bind, in the program or by PRECLOSE_REUSEADDR set to 1: it "
                            "counts for connections that are made from then on");
}

static void say_in_the_way(struct line *l, const struct in_use *u)
{
    if (u->any_port) {
        line_text(l, "no port is free; widen net.ipv4.ip_local_port_range, or close what is not needed");
    } else if (u->listeners) {
        line_text(l, "a listener on");
        say_address(l, " ", &u->first.local);
        say_whose(l, u);
        line_text(l, " stands in the way; end it, or choose another port");
    } else if (u->others) {
        say_other(l, &u->first);
        say_whose(l, u);
        line_text(l, " stands in the way; close it first, or set SO_REUSEADDR before bind on both sides");
    } else if (u->waiting || u->closing) {
        say_waiting(l, u);
    } else {
        line_text(l, u->known ? "what stood in the way cannot be seen: it is bound and does not listen, or is gone by now"
                              : "the kernel does not tell what stands in the way");
        line_text(l, "; look with ss -tanp");
    }
}

static void address_in_use(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    say_socket(l, f);
    line_text(l, " could not be bound");
    say_where(l, " by ", &f->used);
    line_text(l, " (EADDRINUSE): ");
    if (f->in_use) say_in_the_way(l, f->in_use);
}

// "61 s"; below ten seconds in milliseconds.
static void say_time(struct line *l, int64_t ms)
{
    line_signed(l, ms < 10000 ? ms : ms / 1000);
    line_text(l, ms < 10000 ? " ms" : " s");
}

static void close_wait(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    say_socket(l, f);
    line_text(l, ": the peer closed its side at least ");
    say_time(l, f->close_wait_ms);
    line_text(l, " ago, and it is still open here");
    if (has_unread(f)) {
        line_text(l, ", with ");
        number_of(l, (uint64_t)f->facts->unread, "byte");
        line_text(l, " unread");
    }
    say_where(l, "; opened by ", &f->opened);
    line_text(l, "; it keeps a descriptor and memory in CLOSE_WAIT until the program closes it");
    if (f->shared) line_text(l, ", and any other process that holds it");
    line_text(l, "; close it when a read returns 0, and on every path that gives a connection up");
}

static void open_at_exit(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    const bool left = f->facts && f->facts->state == TCP_STATE_CLOSE_WAIT;
    if (f->more) {
        line_unsigned(l, f->more);
        line_text(l, " more ");
        line_text(l, f->more == 1 ? "connection is" : "connections are");
        line_text(l, " still open at exit, not told one by one");
        return;
    }
    say_socket(l, f);
    line_text(l, " is still open at exit");
    if (has_unread(f)) {
        line_text(l, " with ");
        number_of(l, (uint64_t)f->facts->unread, "byte");
        line_text(l, " unread");
        if (!f->shared) line_text(l, ", so that the peer gets a reset");
        if (!f->shared && has_unsent(f)) say_lost(l, f);
    }
    if (left) line_text(l, has_unread(f) ? "; the peer had closed its side" : ", and the peer had closed its side");
    if (left && f->close_wait_ms) {
        line_text(l, " at least ");
        say_time(l, f->close_wait_ms);
        line_text(l, " before");
    }
    say_where(l, "; opened by ", &f->opened);
    if (f->shared) line_text(l, "; another process may hold it too, and then it lives on there");
    if (left) line_text(l, "; close it when a read returns 0");
    else if (has_unread(f)) line_text(l, "; call shutdown(SHUT_WR), read until EOF and close it before the program ends");
    else line_text(l, "; close it before the program ends, to learn whether all was delivered");
}

static void closed(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)c;
    static const char *const first[] = {
        [ACTION_NONE] = "; nothing was done first",
        [ACTION_SHUTDOWN] = "; shut down first",
        [ACTION_ABORT] = "; aborted first, so that the peer gets no EOF",
        [ACTION_DRAIN] = "; drained, so that the peer gets no reset",
    };
    say_socket(l, f);
    line_text(l, " closed");
    say_where(l, " by ", &f->closed);
    if (f->age_ms >= 0) {
        line_text(l, " after ");
        line_signed(l, f->age_ms);
        line_text(l, " ms");
    }
    if (!f->acted) return;
    line_text(l, first[f->action]);
    if (f->action == ACTION_SHUTDOWN && f->deadly)
        line_text(l, ", for reading only: a thread may be sending, and SIGPIPE would end this process");
    if (f->reason == REASON_NONE) return;
    line_text(l, ": ");
    line_text(l, reason_text(f->reason));
}

// "; in CLOSE_WAIT: 12 opened by accept at server+0x11d2 (12 at most, the oldest for 75 s, growing)"
static void say_leaks(struct line *l, const struct line_context *c)
{
    for (unsigned i = 0; i < c->leaks; i++) {
        const struct leak *k = &c->leak[i];
        line_text(l, i ? ", " : "; in CLOSE_WAIT: ");
        line_unsigned(l, k->now);
        line_text(l, k->opened.call == CALL_NONE ? " opened elsewhere" : " opened by ");
        if (k->opened.call != CALL_NONE) say_place(l, &(struct place){.pc = k->opened.pc, .call = k->opened.call});
        line_text(l, " (");
        line_unsigned(l, k->most);
        line_text(l, " at most");
        if (k->now) line_text(l, k->now == 1 ? ", for " : ", the oldest for ");
        if (k->now) say_time(l, k->oldest_ms);
        if (k->trend != TREND_UNKNOWN) line_text(l, ", ");
        line_text(l, trend_name(k->trend));
        line_text(l, ")");
    }
}

static void summary(struct line *l, const struct finding *f, const struct line_context *c)
{
    (void)f;
    const char *before = "";
    for (unsigned e = 0; c->counts && e < EVENT_COUNT; e++) {
        if (!c->counts[e]) continue;
        line_text(l, before);
        line_unsigned(l, c->counts[e]);
        line_text(l, " ");
        line_text(l, event_name((enum event)e));
        before = ", ";
    }
    if (!*before) line_text(l, "no findings");
    say_leaks(l, c);
    if (c->held_back) {
        line_text(l, "; ");
        number_of(l, c->held_back, "line");
        line_text(l, " held back by PRECLOSE_RATE");
    }
    if (c->lost) {
        line_text(l, "; ");
        number_of(l, c->lost, "line");
        line_text(l, " could not be written");
    }
}

static void (*const sentences[EVENT_COUNT])(struct line *, const struct finding *,
                                            const struct line_context *) = {
    [EVENT_BLOCKED_THREADS] = blocked_threads,
    [EVENT_LEFT_BLOCKED] = left_blocked,
    [EVENT_UNREAD_RESET] = unread_reset,
    [EVENT_LINGER_RESET] = linger_reset,
    [EVENT_BACKLOG_RESET] = backlog_reset,
    [EVENT_CLOSE_WAIT] = close_wait,
    [EVENT_SLOW_CLOSE] = slow_close,
    [EVENT_DOUBLE_CLOSE] = double_close,
    [EVENT_USE_AFTER_CLOSE] = use_after_close,
    [EVENT_RETRY_LOOP] = retry_loop,
    [EVENT_OPEN_AT_EXIT] = open_at_exit,
    [EVENT_ADDRESS_IN_USE] = address_in_use,
    [EVENT_CLOSE] = closed,
    [EVENT_SUMMARY] = summary,
};

void sentence(struct line *l, const struct finding *f, const struct line_context *c)
{
    if (sentences[f->event]) sentences[f->event](l, f, c);
    if (f->event == EVENT_SUMMARY) return;
    if (c->held_back) {
        line_text(l, "; ");
        line_unsigned(l, c->held_back);
        line_text(l, " more from here held back since the last line");
    }
    if (c->lost) {
        line_text(l, "; ");
        number_of(l, c->lost, "earlier line");
        line_text(l, " could not be written");
    }
}
