// decide is a table: so is this.
#include "unit.h"

#include "decide.h"

#define BIT(event) (1u << EVENT_##event)

struct row {
    const char *what;
    struct facts facts;
    struct situation s;
    enum act_when when;
    enum unread_how unread;
    enum action action;
    enum reason reason;
    bool disconnect, shut_both, read_only, fin_later;
    unsigned findings; // besides close
};

#define ESTABLISHED .kind = KIND_TCP, .state = TCP_STATE_ESTABLISHED
#define CALM .blocked_known = true

static const struct row rows[] = {
    {"a quiet connection", {ESTABLISHED}, {CALM}, .action = ACTION_SHUTDOWN},
    {"a thread in recv", {ESTABLISHED}, {CALM, .blocked = 1}, .action = ACTION_SHUTDOWN,
     .findings = BIT(BLOCKED_THREADS)},
    {"threads not looked at", {ESTABLISHED}, {.blocked_known = false}, .action = ACTION_SHUTDOWN},
    {"a duplicate", {ESTABLISHED}, {CALM, .others = 1, .blocked = 1}, .reason = REASON_DUPLICATED},
    {"another socket by now", {ESTABLISHED, .unread = 3}, {CALM, .stale = true, .blocked = 1},
     .reason = REASON_STALE},
    {"stale comes before duplicated", {ESTABLISHED}, {CALM, .stale = true, .others = 2},
     .reason = REASON_STALE},
    {"after a fork", {ESTABLISHED, .unread = 3}, {CALM, .share = SHARE_FORK}, .reason = REASON_SHARED},
    {"after a fork, blocked, unproven", {ESTABLISHED}, {CALM, .share = SHARE_FORK, .blocked = 2},
     .reason = REASON_SHARED, .findings = BIT(LEFT_BLOCKED)},
    {"after a fork, blocked, held", {ESTABLISHED},
     {CALM, .share = SHARE_FORK, .blocked = 2, .proof = OWNERS_HELD}, .reason = REASON_SHARED,
     .findings = BIT(LEFT_BLOCKED)},
    {"after a fork, blocked, alone", {ESTABLISHED},
     {CALM, .share = SHARE_FORK, .blocked = 2, .proof = OWNERS_ALONE}, .action = ACTION_SHUTDOWN,
     .findings = BIT(BLOCKED_THREADS)},
    {"inherited", {ESTABLISHED}, {CALM, .share = SHARE_INHERITED}, .reason = REASON_INHERITED},
    {"inherited, blocked, alone", {ESTABLISHED},
     {CALM, .share = SHARE_INHERITED, .blocked = 1, .proof = OWNERS_ALONE}, .action = ACTION_SHUTDOWN,
     .findings = BIT(BLOCKED_THREADS)},
    {"passed, whatever a proof says", {ESTABLISHED},
     {CALM, .share = SHARE_PASSED, .blocked = 1, .proof = OWNERS_ALONE}, .reason = REASON_PASSED,
     .findings = BIT(LEFT_BLOCKED)},
    {"shut both ways by the program", {.kind = KIND_TCP, .state = TCP_STATE_FIN_WAIT2},
     {CALM, .flags = SOCK_SHUT_RD | SOCK_SHUT_WR}, .reason = REASON_ALREADY_SHUT},
    {"shut both ways, of unknown state", {.kind = KIND_TCP}, {CALM, .flags = SOCK_SHUT_RD | SOCK_SHUT_WR},
     .reason = REASON_ALREADY_SHUT},
    {"shut both ways, and listening again", {.kind = KIND_TCP, .state = TCP_STATE_LISTEN, .listening = true},
     {CALM, .flags = SOCK_SHUT_RD | SOCK_SHUT_WR}, .action = ACTION_SHUTDOWN},
    {"shut both ways, and connected again", {ESTABLISHED}, {CALM, .flags = SOCK_SHUT_RD | SOCK_SHUT_WR},
     .action = ACTION_SHUTDOWN},
    {"shut one way", {ESTABLISHED}, {CALM, .flags = SOCK_SHUT_WR}, .action = ACTION_SHUTDOWN},
    {"io_uring", {ESTABLISHED}, {CALM, .io_uring = true, .blocked = 1}, .reason = REASON_IO_URING,
     .findings = BIT(LEFT_BLOCKED)},
    {"O_ASYNC", {ESTABLISHED}, {CALM, .flags = SOCK_ASYNC}, .reason = REASON_ASYNC},
    {"stuck in an epoll set", {ESTABLISHED}, {CALM, .stuck = true, .blocked = 1}, .reason = REASON_EPOLL,
     .findings = BIT(LEFT_BLOCKED)},
    {"never", {ESTABLISHED}, {CALM, .blocked = 1}, .when = ACT_NEVER, .reason = REASON_SETTING,
     .findings = BIT(LEFT_BLOCKED)},
    {"blocked only: no one is", {ESTABLISHED}, {CALM}, .when = ACT_BLOCKED, .reason = REASON_SETTING},
    {"blocked only: one is", {ESTABLISHED}, {CALM, .blocked = 1}, .when = ACT_BLOCKED,
     .action = ACTION_SHUTDOWN, .findings = BIT(BLOCKED_THREADS)},
    {"kTLS or TCP_REPAIR", {ESTABLISHED}, {CALM, .flags = SOCK_HANDS_OFF}, .reason = REASON_NONE},

    {"linger 0", {ESTABLISHED, .linger_reset = true}, {CALM}, .action = ACTION_ABORT,
     .findings = BIT(LINGER_RESET)},
    {"linger 0 with a sender", {ESTABLISHED, .linger_reset = true},
     {CALM, .blocked = 1, .blocked_sending = true}, .action = ACTION_ABORT, .disconnect = true,
     .findings = BIT(LINGER_RESET) | BIT(BLOCKED_THREADS)},
    {"linger 0 with a sender, and the kernel refuses", {ESTABLISHED, .linger_reset = true},
     {CALM, .blocked = 1, .blocked_sending = true, .refused = true}, .action = ACTION_ABORT,
     .findings = BIT(LEFT_BLOCKED)},
    {"linger 0 with a sender that could die", {ESTABLISHED, .linger_reset = true},
     {CALM, .blocked = 1, .blocked_sending = true, .deadly = true}, .action = ACTION_ABORT,
     .disconnect = true, .findings = BIT(LINGER_RESET) | BIT(BLOCKED_THREADS)},
    {"linger 0 with two, one of whom could die", {ESTABLISHED, .linger_reset = true},
     {CALM, .blocked = 2, .blocked_sending = true, .deadly = true}, .action = ACTION_ABORT,
     .findings = BIT(LEFT_BLOCKED)},
    {"a sender that a shutdown would kill", {ESTABLISHED, .unsent = 70000},
     {CALM, .blocked = 1, .blocked_sending = true, .deadly = true}, .action = ACTION_SHUTDOWN, .read_only = true,
     .findings = BIT(LEFT_BLOCKED)},
    {"a receiver, and perhaps a sender that a shutdown would kill", {ESTABLISHED},
     {CALM, .running = true, .blocked = 1, .deadly = true}, .action = ACTION_SHUTDOWN, .read_only = true,
     .findings = BIT(BLOCKED_THREADS)},
    {"unread, and perhaps a sender that a shutdown would kill", {ESTABLISHED, .unread = 3},
     {CALM, .running = true, .deadly = true}, .action = ACTION_SHUTDOWN, .read_only = true,
     .findings = BIT(UNREAD_RESET)},
    {"a sender that waits for the connection, and that any shutdown would kill",
     {.kind = KIND_TCP, .state = TCP_STATE_SYN_SENT}, {CALM, .blocked = 1, .blocked_sending = true, .deadly = true},
     .reason = REASON_NONE, .findings = BIT(LEFT_BLOCKED)},
    {"linger 0 with a sender that could die, and another thread that may be a second",
     {ESTABLISHED, .linger_reset = true, .unsent = 70000},
     {CALM, .running = true, .blocked = 1, .blocked_sending = true, .deadly = true}, .action = ACTION_ABORT,
     .findings = BIT(LEFT_BLOCKED)},
    {"linger 0, threads not looked at", {ESTABLISHED, .linger_reset = true}, {.blocked_known = false},
     .action = ACTION_ABORT, .disconnect = true, .findings = BIT(LINGER_RESET)},
    {"linger 0, and a thread that runs may be sending", {ESTABLISHED, .linger_reset = true},
     {CALM, .running = true}, .action = ACTION_ABORT, .disconnect = true, .findings = BIT(LINGER_RESET)},
    {"linger 0, and a thread that runs may be sending and die",
     {ESTABLISHED, .linger_reset = true, .unsent = 70000}, {CALM, .running = true, .deadly = true},
     .action = ACTION_ABORT, .findings = BIT(LINGER_RESET)},
    {"linger 0, half-closed: nobody is sending",
     {.kind = KIND_TCP, .state = TCP_STATE_FIN_WAIT1, .linger_reset = true, .unsent = 70000},
     {CALM, .running = true}, .action = ACTION_ABORT, .findings = BIT(LINGER_RESET)},
    {"linger 0 on a closed connection resets nothing",
     {.kind = KIND_TCP, .state = TCP_STATE_CLOSED, .linger_reset = true}, {CALM}, .action = ACTION_ABORT},
    {"linger 0 means nothing to UDP", {.kind = KIND_UDP, .linger_reset = true}, {CALM},
     .action = ACTION_SHUTDOWN},
    {"linger 0 and unread: the reset was asked for", {ESTABLISHED, .linger_reset = true, .unread = 5},
     {CALM}, .action = ACTION_ABORT, .findings = BIT(LINGER_RESET)},

    {"unread", {ESTABLISHED, .unread = 3}, {CALM}, .action = ACTION_SHUTDOWN, .findings = BIT(UNREAD_RESET)},
    {"unread, reset wanted", {ESTABLISHED, .unread = 3}, {CALM}, .unread = UNREAD_RESET,
     .action = ACTION_ABORT, .findings = BIT(UNREAD_RESET)},
    {"unread, to be drained", {ESTABLISHED, .unread = 3}, {CALM}, .unread = UNREAD_DRAIN, .action = ACTION_DRAIN,
     .findings = BIT(UNREAD_RESET)},
    {"unread, to be drained, threads not looked at", {ESTABLISHED, .unread = 3}, {.blocked_known = false},
     .unread = UNREAD_DRAIN, .action = ACTION_DRAIN, .findings = BIT(UNREAD_RESET)},
    {"unread, to be drained, with a sender", {ESTABLISHED, .unread = 3},
     {CALM, .blocked = 1, .blocked_sending = true}, .unread = UNREAD_DRAIN, .action = ACTION_DRAIN,
     .findings = BIT(UNREAD_RESET) | BIT(BLOCKED_THREADS)},
    {"unread, to be drained, with a sender that would die", {ESTABLISHED, .unread = 3},
     {CALM, .blocked = 1, .blocked_sending = true, .deadly = true}, .unread = UNREAD_DRAIN,
     .action = ACTION_SHUTDOWN, .read_only = true, .findings = BIT(LEFT_BLOCKED)},
    {"unread, to be drained, and a thread may be sending that would die", {ESTABLISHED, .unread = 3},
     {CALM, .running = true, .deadly = true}, .unread = UNREAD_DRAIN, .action = ACTION_DRAIN, .fin_later = true,
     .findings = BIT(UNREAD_RESET)},
    {"unread, to be drained, with a thread that waits for more", {ESTABLISHED, .unread = 3},
     {CALM, .blocked = 1, .blocked_waiting = true}, .unread = UNREAD_DRAIN, .action = ACTION_SHUTDOWN,
     .findings = BIT(UNREAD_RESET) | BIT(BLOCKED_THREADS)},
    {"unread, to be drained, no descriptor for it", {ESTABLISHED, .unread = 3}, {CALM, .undrained = true},
     .unread = UNREAD_DRAIN, .action = ACTION_SHUTDOWN, .findings = BIT(UNREAD_RESET)},
    {"unread, to be drained, and the program reads no more", {ESTABLISHED, .unread = 3},
     {CALM, .flags = SOCK_SHUT_RD}, .unread = UNREAD_DRAIN, .action = ACTION_SHUTDOWN,
     .findings = BIT(UNREAD_RESET)},
    {"unread, to be drained, reset on purpose", {ESTABLISHED, .unread = 3, .linger_reset = true}, {CALM},
     .unread = UNREAD_DRAIN, .action = ACTION_ABORT, .findings = BIT(LINGER_RESET)},
    {"unread, to be drained, shared", {ESTABLISHED, .unread = 3}, {CALM, .share = SHARE_FORK},
     .unread = UNREAD_DRAIN, .reason = REASON_SHARED},
    {"unread, to be drained, held twice", {ESTABLISHED, .unread = 3}, {CALM, .others = 1},
     .unread = UNREAD_DRAIN, .reason = REASON_DUPLICATED},
    {"unread, to be drained, never", {ESTABLISHED, .unread = 3}, {CALM}, .when = ACT_NEVER,
     .unread = UNREAD_DRAIN, .reason = REASON_SETTING, .findings = BIT(UNREAD_RESET)},
    {"unread in CLOSE_WAIT, to be drained", {.kind = KIND_TCP, .state = TCP_STATE_CLOSE_WAIT, .unread = 3}, {CALM},
     .unread = UNREAD_DRAIN, .action = ACTION_DRAIN, .findings = BIT(UNREAD_RESET)},
    {"unread on a unix stream, to be drained", {.kind = KIND_UNIX_STREAM, .unread = 3}, {CALM},
     .unread = UNREAD_DRAIN, .action = ACTION_DRAIN, .findings = BIT(UNREAD_RESET)},
    {"unread packets are not a stream", {.kind = KIND_UNIX_SEQPACKET, .unread = 3}, {CALM},
     .unread = UNREAD_DRAIN, .action = ACTION_SHUTDOWN, .findings = BIT(UNREAD_RESET)},
    {"unread datagrams, to be drained", {.kind = KIND_UDP, .unread = 3}, {CALM}, .unread = UNREAD_DRAIN,
     .action = ACTION_SHUTDOWN},
    {"nothing unread, to be drained", {ESTABLISHED}, {CALM}, .unread = UNREAD_DRAIN, .action = ACTION_SHUTDOWN},
    {"perhaps more is coming", {ESTABLISHED, .busy_ms = 100}, {CALM}, .unread = UNREAD_DRAIN,
     .action = ACTION_DRAIN},
    {"perhaps more is coming, threads not looked at", {ESTABLISHED, .busy_ms = 100}, {.blocked_known = false},
     .unread = UNREAD_DRAIN, .action = ACTION_SHUTDOWN},
    {"perhaps more is coming, and a thread waits for it", {ESTABLISHED, .busy_ms = 100},
     {CALM, .blocked = 1, .blocked_waiting = true}, .unread = UNREAD_DRAIN, .action = ACTION_SHUTDOWN,
     .findings = BIT(BLOCKED_THREADS)},
    {"more has come", {ESTABLISHED, .busy_ms = 100}, {CALM, .late = LATE_BYTES}, .unread = UNREAD_DRAIN,
     .action = ACTION_DRAIN, .findings = BIT(UNREAD_RESET)},
    {"nothing has come", {ESTABLISHED, .busy_ms = 100}, {CALM, .late = LATE_NOTHING}, .unread = UNREAD_DRAIN,
     .action = ACTION_SHUTDOWN},
    {"unread in CLOSE_WAIT", {.kind = KIND_TCP6, .state = TCP_STATE_CLOSE_WAIT, .unread = 3}, {CALM},
     .action = ACTION_SHUTDOWN, .findings = BIT(UNREAD_RESET)},
    {"unread after the peer's reset", {.kind = KIND_TCP, .state = TCP_STATE_CLOSED, .unread = 3}, {CALM},
     .action = ACTION_SHUTDOWN},
    {"unread, and the shutdown has ended the connection",
     {.kind = KIND_TCP, .state = TCP_STATE_CLOSE_WAIT, .unread = 3}, {CALM, .left_in = TCP_STATE_CLOSED},
     .action = ACTION_SHUTDOWN},
    {"unread, and the shutdown's FIN is on its way",
     {.kind = KIND_TCP, .state = TCP_STATE_CLOSE_WAIT, .unread = 3}, {CALM, .left_in = TCP_STATE_LAST_ACK},
     .action = ACTION_SHUTDOWN, .findings = BIT(UNREAD_RESET)},
    {"unread on a unix stream whose peer is gone",
     {.kind = KIND_UNIX_STREAM, .unread = 3, .peer_gone = true}, {CALM}, .action = ACTION_SHUTDOWN},
    {"unread, never", {ESTABLISHED, .unread = 3}, {CALM}, .when = ACT_NEVER, .reason = REASON_SETTING,
     .findings = BIT(UNREAD_RESET)},
    {"unread, never, and a thread keeps the socket", {ESTABLISHED, .unread = 3}, {CALM, .blocked = 1},
     .when = ACT_NEVER, .reason = REASON_SETTING, .findings = BIT(LEFT_BLOCKED)},
    {"unread, shut by the program", {.kind = KIND_TCP, .state = TCP_STATE_FIN_WAIT2, .unread = 3},
     {CALM, .flags = SOCK_SHUT_RD | SOCK_SHUT_WR}, .reason = REASON_ALREADY_SHUT,
     .findings = BIT(UNREAD_RESET)},
    {"unread on a unix stream", {.kind = KIND_UNIX_STREAM, .unread = 3}, {CALM}, .action = ACTION_SHUTDOWN,
     .findings = BIT(UNREAD_RESET)},
    {"unread on a unix stream, reset wanted, with a receiver", {.kind = KIND_UNIX_STREAM, .unread = 3},
     {CALM, .blocked = 1}, .unread = UNREAD_RESET, .action = ACTION_ABORT,
     .findings = BIT(UNREAD_RESET) | BIT(BLOCKED_THREADS)},
    {"unread on a unix stream, reset wanted, with a sender", {.kind = KIND_UNIX_STREAM, .unread = 3},
     {CALM, .blocked = 1, .blocked_sending = true}, .unread = UNREAD_RESET, .action = ACTION_ABORT,
     .shut_both = true, .findings = BIT(UNREAD_RESET) | BIT(BLOCKED_THREADS)},
    {"unread on a unix stream, reset wanted, threads not looked at", {.kind = KIND_UNIX_STREAM, .unread = 3},
     {.blocked_known = false}, .unread = UNREAD_RESET, .action = ACTION_ABORT, .findings = BIT(UNREAD_RESET)},
    {"the same, and the peer has bytes to read", {.kind = KIND_UNIX_STREAM, .unread = 3, .peer_behind = true},
     {.blocked_known = false}, .unread = UNREAD_RESET, .action = ACTION_ABORT, .shut_both = true,
     .findings = BIT(UNREAD_RESET)},
    {"the same, and a thread that runs may be sending", {.kind = KIND_UNIX_STREAM, .unread = 3, .peer_behind = true},
     {CALM, .running = true}, .unread = UNREAD_RESET, .action = ACTION_ABORT, .shut_both = true,
     .findings = BIT(UNREAD_RESET)},
    {"the same, and nobody can be sending", {.kind = KIND_UNIX_STREAM, .unread = 3, .peer_behind = true}, {CALM},
     .unread = UNREAD_RESET, .action = ACTION_ABORT, .findings = BIT(UNREAD_RESET)},
    {"unread datagrams are lost without a reset", {.kind = KIND_UDP, .unread = 3}, {CALM},
     .action = ACTION_SHUTDOWN},
    {"unread unknown", {ESTABLISHED, .unread = UNKNOWN}, {CALM}, .action = ACTION_SHUTDOWN},

    {"a listener with a queue", {.kind = KIND_TCP, .state = TCP_STATE_LISTEN, .listening = true, .backlog = 4},
     {CALM}, .action = ACTION_SHUTDOWN, .findings = BIT(BACKLOG_RESET)},
    {"a shared listener with a queue",
     {.kind = KIND_TCP, .state = TCP_STATE_LISTEN, .listening = true, .backlog = 4},
     {CALM, .share = SHARE_FORK}, .reason = REASON_SHARED},
    {"netlink can't be woken", {.kind = KIND_NETLINK}, {CALM, .blocked = 1}, .findings = BIT(LEFT_BLOCKED)},
    {"a packet socket", {.kind = KIND_PACKET}, {CALM}, .reason = REASON_NONE},
};

static void check(const struct row *r)
{
    struct settings set = {.shutdown = r->when, .unread = r->unread};
    struct situation s = r->s;
    struct verdict v;
    s.facts = &r->facts;
    decide(&s, &set, &v);
    if (v.action != r->action || v.reason != r->reason || v.disconnect != r->disconnect || v.shut_both != r->shut_both ||
        v.read_only != r->read_only || v.fin_later != r->fin_later ||
        v.findings != (r->findings | BIT(CLOSE)))
        fail_msg("%s: %s %s disconnect=%d findings=%x", r->what, action_name(v.action),
                 reason_name(v.reason), v.disconnect, v.findings);
}

static void the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check(&rows[i]);
}

static void a_sender_may_be_unseen(void **state)
{
    (void)state;
    const struct {
        struct facts facts;
        struct situation s;
        bool feared;
    } cases[] = {
        {{ESTABLISHED, .unsent = 1}, {CALM}, false},
        {{ESTABLISHED, .unsent = 1}, {CALM, .running = true}, true},
        {{ESTABLISHED, .unsent = 1}, {.blocked_known = false}, true},
        {{ESTABLISHED, .unsent = UNKNOWN}, {CALM, .running = true}, true},
        {{ESTABLISHED}, {.running = true}, true},
        {{.kind = KIND_TCP, .unsent = UNKNOWN}, {.running = true}, true},
        {{.kind = KIND_TCP, .state = TCP_STATE_SYN_SENT}, {.running = true}, false},
        {{.kind = KIND_TCP, .state = TCP_STATE_LISTEN, .listening = true, .unsent = UNKNOWN}, {.running = true}, false},
        {{.kind = KIND_TCP, .state = TCP_STATE_CLOSED, .unsent = 1}, {.running = true}, false},
        {{.kind = KIND_UDP, .unsent = UNKNOWN}, {.running = true}, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct situation s = cases[i].s;
        s.facts = &cases[i].facts;
        if (decide_fears_sigpipe(&s) != cases[i].feared) fail_msg("case %zu", i);
    }
}

// OWNERS_ALONE is the dangerous answer: a situation that nobody has filled in must not claim it.
static void nothing_is_proven_by_default(void **state)
{
    (void)state;
    struct situation s = {0};
    assert_int_not_equal(s.proof, OWNERS_ALONE);
}

static void threads_are_worth_a_look(void **state)
{
    (void)state;
    struct settings always = {.shutdown = ACT_ALWAYS}, blocked = {.shutdown = ACT_BLOCKED};
    struct facts tcp = {ESTABLISHED}, abort = {ESTABLISHED, .linger_reset = true};
    struct situation alone = {.facts = &tcp, CALM};
    assert_int_equal(decide_wants_threads(&alone, &always), WANT_FINDING);
    assert_int_equal(decide_wants_threads(&alone, &blocked), WANT_ACTION);
    struct situation dup = {.facts = &tcp, CALM, .others = 1};
    assert_int_equal(decide_wants_threads(&dup, &blocked), WANT_NOTHING);
    struct situation shared = {.facts = &tcp, CALM, .share = SHARE_FORK};
    assert_int_equal(decide_wants_threads(&shared, &always), WANT_ACTION);
    struct situation passed = {.facts = &tcp, CALM, .share = SHARE_PASSED};
    assert_int_equal(decide_wants_threads(&passed, &always), WANT_FINDING);
    struct situation linger = {.facts = &abort, CALM};
    assert_int_equal(decide_wants_threads(&linger, &always), WANT_ACTION);
}

static void drains_depend_on_threads(void **state)
{
    (void)state;
    struct settings drain = {.unread = UNREAD_DRAIN};
    struct facts unread = {ESTABLISHED, .unread = 3}, none = {ESTABLISHED};
    struct situation s = {.facts = &unread, CALM};
    assert_int_equal(decide_wants_threads(&s, &drain), WANT_ACTION);
    s.facts = &none;
    assert_int_equal(decide_wants_threads(&s, &drain), WANT_FINDING);
}

static void only_a_close_that_lingers_is_timed(void **state)
{
    (void)state;
    struct settings on = {.slow_close_ms = 1}, off = {.slow_close_ms = 0};
    struct facts lingers = {ESTABLISHED, .linger_s = 1}, does_not = {ESTABLISHED}, udp = {.kind = KIND_UDP, .linger_s = 1};
    struct situation s = {.facts = &lingers};
    assert_true(decide_times_close(&s, &on));
    assert_false(decide_times_close(&s, &off));
    s.share = SHARE_FORK; // it can still be the last
    assert_true(decide_times_close(&s, &on));
    s.others = 1;
    assert_false(decide_times_close(&s, &on));
    s = (struct situation){.facts = &lingers, .stale = true};
    assert_false(decide_times_close(&s, &on));
    s = (struct situation){.facts = &does_not};
    assert_false(decide_times_close(&s, &on));
    s = (struct situation){.facts = &udp};
    assert_false(decide_times_close(&s, &on));
}

static void a_proof_is_worth_it_only_for_blocked_threads(void **state)
{
    (void)state;
    struct settings always = {.shutdown = ACT_ALWAYS}, never = {.shutdown = ACT_NEVER};
    struct facts tcp = {ESTABLISHED};
    struct situation s = {.facts = &tcp, CALM, .share = SHARE_FORK};
    assert_false(decide_wants_proof(&s, &always));
    s.blocked = 1;
    assert_true(decide_wants_proof(&s, &always));
    assert_false(decide_wants_proof(&s, &never));
    s.share = SHARE_PASSED;
    assert_false(decide_wants_proof(&s, &always));
    s.share = SHARE_INHERITED;
    assert_true(decide_wants_proof(&s, &always));
    s.stuck = true;
    assert_false(decide_wants_proof(&s, &always));
}

#define AT_EXIT(name, bytes) {.kind = KIND_TCP, .state = TCP_STATE_##name, .unread = (bytes), .unsent = 0, .backlog = UNKNOWN}

static const struct {
    struct facts facts;
    bool shared, told;
    enum level level;
} at_exit[] = {
    {AT_EXIT(ESTABLISHED, 0), false, true, LEVEL_NOTICE},
    {AT_EXIT(ESTABLISHED, 0), true, true, LEVEL_NOTICE},
    {AT_EXIT(ESTABLISHED, 1), false, true, LEVEL_WARNING}, // reset
    {AT_EXIT(ESTABLISHED, 1), true, true, LEVEL_NOTICE},   // not if another process lives on with it
    {AT_EXIT(ESTABLISHED, UNKNOWN), false, true, LEVEL_NOTICE},
    {AT_EXIT(CLOSE_WAIT, 0), false, true, LEVEL_WARNING},
    {AT_EXIT(CLOSE_WAIT, 0), true, true, LEVEL_WARNING},
    {AT_EXIT(CLOSE_WAIT, 1), false, true, LEVEL_WARNING},
    {AT_EXIT(FIN_WAIT1, 0), false, true, LEVEL_NOTICE}, // half-closed by the program: the answer is not read
    {AT_EXIT(FIN_WAIT2, 0), false, true, LEVEL_NOTICE},
    {AT_EXIT(FIN_WAIT2, 7), false, true, LEVEL_WARNING},
    {AT_EXIT(SYN_SENT, 0), false, false, LEVEL_NOTICE},
    {AT_EXIT(CLOSED, 0), false, false, LEVEL_NOTICE},
    {AT_EXIT(CLOSED, 9), false, false, LEVEL_NOTICE},
    {AT_EXIT(LISTEN, UNKNOWN), false, false, LEVEL_NOTICE},
    {AT_EXIT(LAST_ACK, 0), false, false, LEVEL_NOTICE},
    {AT_EXIT(CLOSING, 0), false, false, LEVEL_NOTICE},
    {AT_EXIT(TIME_WAIT, 0), false, false, LEVEL_NOTICE},
    {AT_EXIT(UNKNOWN, 0), false, false, LEVEL_NOTICE},
};

static void what_is_open_at_exit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof at_exit / sizeof *at_exit; i++) {
        enum level level;
        bool told = decide_open_at_exit(&at_exit[i].facts, at_exit[i].shared, &level);
        if (told != at_exit[i].told || (told && level != at_exit[i].level)) fail_msg("row %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table),
        cmocka_unit_test(a_sender_may_be_unseen),
        cmocka_unit_test(what_is_open_at_exit),
        cmocka_unit_test(nothing_is_proven_by_default),
        cmocka_unit_test(threads_are_worth_a_look),
        cmocka_unit_test(drains_depend_on_threads),
        cmocka_unit_test(only_a_close_that_lingers_is_timed),
        cmocka_unit_test(a_proof_is_worth_it_only_for_blocked_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
