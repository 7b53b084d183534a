#include "decide.h"

static bool is_tcp(enum kind kind)
{
    return kind == KIND_TCP || kind == KIND_TCP6;
}

static bool is_unix_connected(enum kind kind)
{
    return kind == KIND_UNIX_STREAM || kind == KIND_UNIX_SEQPACKET;
}

// Another process may hold it, and it is not proven that none does.
static enum reason shared_reason(const struct situation *s)
{
    switch (s->share) {
    case SHARE_NONE:
        return REASON_NONE;
    case SHARE_PASSED:
        return REASON_PASSED; // an unread message may hold it: no proof counts
    case SHARE_FORK:
        return s->proof == OWNERS_ALONE ? REASON_NONE : REASON_SHARED;
    case SHARE_INHERITED:
        return s->proof == OWNERS_ALONE ? REASON_NONE : REASON_INHERITED;
    }
    return REASON_SHARED;
}

// Is the descriptor, as far as is known, the last hold on the socket anywhere?
static bool is_last_hold(const struct situation *s)
{
    return !s->stale && !s->others && shared_reason(s) == REASON_NONE;
}

// Has the program shut it down both ways? A TCP socket that is in one of these states has been connected or listened on
// anew since, or the note of it was another socket's (net/ipv4/tcp.c tcp_shutdown, af_inet.c inet_shutdown).
static bool is_shut(const struct situation *s)
{
    const unsigned both = SOCK_SHUT_RD | SOCK_SHUT_WR;
    const enum tcp_state state = s->facts->state;
    bool anew = state == TCP_STATE_ESTABLISHED || state == TCP_STATE_LISTEN || state == TCP_STATE_SYN_SENT ||
                state == TCP_STATE_CLOSE_WAIT;
    return (s->flags & both) == both && !anew;
}

static enum reason reason_to_leave(const struct situation *s, const struct settings *set)
{
    if (s->stale) return REASON_STALE;
    if (s->others) return REASON_DUPLICATED;
    if (shared_reason(s) != REASON_NONE) return shared_reason(s);
    if (is_shut(s)) return REASON_ALREADY_SHUT;
    if (s->io_uring) return REASON_IO_URING;
    if (s->flags & SOCK_ASYNC) return REASON_ASYNC;
    if (s->stuck) return REASON_EPOLL;
    if (set->shutdown == ACT_NEVER) return REASON_SETTING;
    if (set->shutdown == ACT_BLOCKED && !s->blocked) return REASON_SETTING;
    return REASON_NONE;
}

// Will the kernel answer close with a reset because bytes were never read? TCP: in any state but CLOSED
// and LISTEN (net/ipv4/tcp.c __tcp_close, RFC 2525 section 2.17). Unix: the peer gets ECONNRESET
// (net/unix/af_unix.c unix_release_sock).
static bool resets_unread(const struct facts *f)
{
    if (f->unread <= 0 || f->listening) return false;
    if (is_unix_connected(f->kind)) return !f->peer_gone;
    return is_tcp(f->kind) && f->state != TCP_STATE_CLOSED && f->state != TCP_STATE_LISTEN &&
           f->state != TCP_STATE_SYN_SENT && f->state != TCP_STATE_UNKNOWN;
}

// Will the kernel reset because the program asked for it? (net/ipv4/tcp.c tcp_disconnect, tcp_need_reset.)
static bool resets_linger(const struct facts *f)
{
    if (!is_tcp(f->kind) || !f->linger_reset) return false;
    return f->state == TCP_STATE_ESTABLISHED || f->state == TCP_STATE_CLOSE_WAIT ||
           f->state == TCP_STATE_FIN_WAIT1 || f->state == TCP_STATE_FIN_WAIT2 ||
           f->state == TCP_STATE_SYN_RECV;
}

// Is it a connection that can be written to? Only then does SHUT_RD leave its senders alone: where the peer has not
// answered yet, it disconnects (net/ipv4/af_inet.c inet_shutdown).
static bool takes_bytes(const struct facts *f)
{
    return is_tcp(f->kind) && (f->state == TCP_STATE_ESTABLISHED || f->state == TCP_STATE_CLOSE_WAIT ||
                               f->state == TCP_STATE_SYN_RECV);
}

// Threads that wait for the socket to become readable cannot be woken without ending what a drain reads, and
// would take the bytes: they come first. Nor can bytes come where the program has shut that direction down.
static bool can_drain(const struct situation *s)
{
    const struct facts *f = s->facts;
    if (s->blocked_waiting || s->flags & SOCK_SHUT_RD || s->undrained) return false;
    if (resets_unread(f)) return is_tcp(f->kind) || f->kind == KIND_UNIX_STREAM;
    // What is still on its way resets the connection as well, as soon as it comes.
    return f->busy_ms && s->blocked_known && s->late != LATE_NOTHING;
}

static enum action action_for(const struct situation *s, const struct settings *set)
{
    const struct facts *f = s->facts;
    if (!facts_wake(f) || (s->flags & SOCK_HANDS_OFF)) return ACTION_NONE;
    if (is_tcp(f->kind) && f->linger_reset) return ACTION_ABORT;
    if (set->unread == UNREAD_RESET && resets_unread(f)) return ACTION_ABORT;
    bool drains = set->unread == UNREAD_DRAIN && can_drain(s) && !(s->deadly && s->blocked_sending);
    if (drains) return ACTION_DRAIN;
    return !s->deadly || takes_bytes(f) ? ACTION_SHUTDOWN : ACTION_NONE;
}

// May a thread be sending that is not known to be blocked? One that the peer has just made room for, or that
// other work keeps from its processor, shows no call.
static bool unseen_sender(const struct situation *s)
{
    return (takes_bytes(s->facts) || (is_tcp(s->facts->kind) && s->facts->state == TCP_STATE_UNKNOWN)) &&
           (!s->blocked_known || s->running);
}

// SHUT_RD does not wake senders, and leaves one that runs to block for ever once the buffer is full. A
// disconnect wakes, and resets: its error is ECONNRESET, which the first call to fail takes away, so that a
// second could still get SIGPIPE (net/core/stream.c sk_stream_error).
// A unix socket knows none; but where its sender is blocked, or may be, the peer has bytes to read, and will
// meet close's ECONNRESET behind them, not the EOF of a shutdown.
static void wake_senders(const struct situation *s, struct verdict *v)
{
    bool tcp = is_tcp(s->facts->kind), unseen = unseen_sender(s);
    bool harmless = !s->deadly || (s->blocked == 1 && !unseen);
    bool behind = s->facts->peer_behind && (!s->blocked_known || s->running);
    v->shut_both = !tcp && (s->blocked_sending || behind);
    v->disconnect = tcp && !s->refused && (s->blocked_sending || unseen) && harmless;
}

static unsigned reset_findings(const struct situation *s)
{
    const struct facts *f = s->facts;
    if (!is_last_hold(s)) return 0;
    if (f->listening && f->backlog > 0) return 1u << EVENT_BACKLOG_RESET;
    if (resets_linger(f)) return 1u << EVENT_LINGER_RESET;
    // A shutdown after the peer's FIN can end the connection in good order before close would reset it.
    if (s->late == LATE_BYTES) return 1u << EVENT_UNREAD_RESET;
    if (resets_unread(f) && s->left_in != TCP_STATE_CLOSED) return 1u << EVENT_UNREAD_RESET;
    return 0;
}

static unsigned blocked_findings(const struct situation *s, const struct verdict *v)
{
    // A duplicate keeps the socket alive for its threads; a stale record says nothing about them; a program
    // that has shut the socket down has woken them itself.
    if (!s->blocked || v->reason == REASON_DUPLICATED || v->reason == REASON_STALE ||
        v->reason == REASON_ALREADY_SHUT)
        return 0;
    bool senders_wake = v->disconnect || v->shut_both || v->action == ACTION_DRAIN ||
                        (v->action == ACTION_SHUTDOWN && !v->read_only);
    bool left = v->action == ACTION_NONE || (s->blocked_sending && !senders_wake);
    return 1u << (left ? EVENT_LEFT_BLOCKED : EVENT_BLOCKED_THREADS);
}

void decide(const struct situation *s, const struct settings *set, struct verdict *v)
{
    *v = (struct verdict){.reason = reason_to_leave(s, set)};
    if (v->reason == REASON_NONE) v->action = action_for(s, set);
    if (v->action == ACTION_ABORT) wake_senders(s, v);
    v->read_only = v->action == ACTION_SHUTDOWN && s->deadly;
    v->fin_later = v->action == ACTION_DRAIN && s->deadly;
    unsigned blocked = blocked_findings(s, v);
    v->findings = 1u << EVENT_CLOSE | blocked;
    // A thread in a call keeps the socket: what its last release will do, this close has not done yet.
    if (!(blocked & 1u << EVENT_LEFT_BLOCKED)) v->findings |= reset_findings(s);
}

bool decide_times_close(const struct situation *s, const struct settings *set)
{
    return set->slow_close_ms > 0 && !s->stale && !s->others && is_tcp(s->facts->kind) && s->facts->linger_s > 0;
}

enum want decide_wants_threads(const struct situation *s, const struct settings *set)
{
    if (s->stale || s->others) return WANT_NOTHING;
    struct situation blocked = *s;
    blocked.blocked = 1;
    blocked.blocked_sending = true;
    blocked.blocked_waiting = true;
    blocked.blocked_known = true;
    blocked.deadly = is_tcp(s->facts->kind) && s->facts->unsent != 0;
    blocked.proof = OWNERS_ALONE;
    struct verdict now, then;
    decide(s, set, &now);
    decide(&blocked, set, &then);
    if (now.action != then.action || now.disconnect != then.disconnect || now.read_only != then.read_only)
        return WANT_ACTION;
    return now.findings == then.findings ? WANT_NOTHING : WANT_FINDING;
}

// Beside a sender that is blocked another would be too: there is no room for either.
bool decide_fears_sigpipe(const struct situation *s)
{
    bool blocked = s->blocked_known && s->blocked_sending;
    return unseen_sender(s) && !blocked;
}

bool decide_wants_proof(const struct situation *s, const struct settings *set)
{
    if (!s->blocked || s->proof == OWNERS_ALONE) return false;
    struct situation alone = *s;
    alone.proof = OWNERS_ALONE;
    struct verdict now, then;
    decide(s, set, &now);
    decide(&alone, set, &then);
    return now.action != then.action;
}

bool decide_open_at_exit(const struct facts *f, bool shared, enum level *level)
{
    bool reset = !shared && resets_unread(f);
    *level = reset || f->state == TCP_STATE_CLOSE_WAIT ? LEVEL_WARNING : LEVEL_NOTICE;
    switch (f->state) {
    case TCP_STATE_ESTABLISHED:
    case TCP_STATE_CLOSE_WAIT:
    case TCP_STATE_FIN_WAIT1:
    case TCP_STATE_FIN_WAIT2:
        return true;
    default:
        return false; // never connected, or both sides have said that they are done
    }
}

static const char *const action_names[] = {
#define ACTION(id, name) name,
#define REASON(id, name, text)
#include "actions.def"
#undef ACTION
#undef REASON
};

static const struct {
    const char *name, *text;
} reasons[] = {
#define ACTION(id, name)
#define REASON(id, name, text) {name, text},
#include "actions.def"
#undef ACTION
#undef REASON
};

static const struct {
    const char *name;
    enum level level;
} events[] = {
#define EVENT(id, name, severity, when) {name, LEVEL_##severity},
#include "findings.def"
#undef EVENT
};

const char *action_name(enum action action)
{
    return action_names[action];
}

const char *reason_name(enum reason reason)
{
    return reasons[reason].name;
}

const char *reason_text(enum reason reason)
{
    return reasons[reason].text;
}

const char *event_name(enum event event)
{
    return events[event].name;
}

enum level event_level(enum event event)
{
    return events[event].level;
}
