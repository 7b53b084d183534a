// A finding → one line: its sentence, its fields, and what is told, held back and counted.
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "json.h"
#include "line.h"
#include "report.h"
#include "sink.h"

static struct address ipv4(const char *host, unsigned port)
{
    struct address a = {.len = sizeof a.u.in};
    a.u.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &a.u.in.sin_addr);
    return a;
}

static struct address ipv6(const char *host, unsigned port, unsigned scope)
{
    struct address a = {.len = sizeof a.u.in6};
    a.u.in6 = (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_scope_id = scope};
    inet_pton(AF_INET6, host, &a.u.in6.sin6_addr);
    return a;
}

static struct address local(const char *name, size_t n)
{
    struct address a = {.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)};
    a.u.un.sun_family = AF_UNIX;
    memcpy(a.u.un.sun_path, name, n);
    return a;
}

static void assert_address(struct address a, const char *expected)
{
    char text[ADDRESS_TEXT_MAX + 1];
    text[address_text(&a, text)] = '\0';
    assert_string_equal(text, expected);
}

static void test_addresses(void **state)
{
    (void)state;
    static char full[sizeof((struct sockaddr_un *)0)->sun_path + 1];
    assert_address(ipv4("127.0.0.1", 80), "127.0.0.1:80");
    assert_address(ipv4("255.255.255.255", 65535), "255.255.255.255:65535");
    assert_address(ipv6("::1", 80, 0), "[::1]:80");
    assert_address(ipv6("::", 0, 0), "[::]:0");
    assert_address(ipv6("fe80::1", 443, 2), "[fe80::1%2]:443");
    assert_address(ipv6("2001:db8:0:1:1:1:1:1", 1, 0), "[2001:db8:0:1:1:1:1:1]:1"); // RFC 5952 4.2.2
    assert_address(ipv6("2001:0:0:1:0:0:0:1", 1, 0), "[2001:0:0:1::1]:1");          // the longest run
    assert_address(ipv6("2001:db8:0:0:1:0:0:1", 1, 0), "[2001:db8::1:0:0:1]:1");    // the first of equals
    assert_address(ipv6("1:2:3:4:5:6:0:0", 1, 0), "[1:2:3:4:5:6::]:1");
    assert_address(ipv6("::ffff:10.0.0.1", 80, 0), "[::ffff:10.0.0.1]:80");
    assert_address(local("/run/x.sock", 12), "/run/x.sock");
    assert_address(local("/run/x.sock", 11), "/run/x.sock");
    assert_address(local("\0name", 5), "@name");
    assert_address(local("\0a\0b\0", 5), "@a@b@");
    assert_address(local("\0", 1), "@");
    assert_address(local("", 0), "");
    memset(full, 'x', sizeof full - 1);
    assert_address(local(full, sizeof full - 1), full);
    assert_address((struct address){0}, "");
    assert_address((struct address){.len = 16, .u.any.sa_family = AF_NETLINK}, "");
}

static const struct {
    const char *bytes, *json, *value;
} escapes[] = {
    {"", "\"\"", "\"\""},
    {"plain", "\"plain\"", "plain"},
    {"a b", "\"a b\"", "\"a b\""},
    {"a=b", "\"a=b\"", "\"a=b\""},
    {"a\"b", "\"a\\\"b\"", "\"a\\\"b\""},
    {"a\\b", "\"a\\\\b\"", "a\\b"},
    {"\t\n\x1b\x7f", "\"\\u0009\\u000a\\u001b\\u007f\"", "\"\\u0009\\u000a\\u001b\\u007f\""},
    {"gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\"", "gr\xc3\xbc\xc3\x9f"},
    {"\xf0\x9f\x99\x82", "\"\xf0\x9f\x99\x82\"", "\xf0\x9f\x99\x82"},
    {"\xc2\x9b", "\"\\u009b\"", "\"\\u009b\""},                             // C1: CSI
    {"\xe2\x80\xa8\xe2\x80\xa9", "\"\\u2028\\u2029\"", "\"\\u2028\\u2029\""}, // ends of lines to some
    {"\xff", "\"\\ufffd\"", "\"\\ufffd\""},
    {"\xc3", "\"\\ufffd\"", "\"\\ufffd\""},                   // cut short
    {"\xc0\x80", "\"\\ufffd\\ufffd\"", "\"\\ufffd\\ufffd\""}, // overlong
    {"\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\"", "\"\\ufffd\\ufffd\\ufffd\""},
    {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"", "\"\\ufffd\\ufffd\\ufffd\""}, // a surrogate
    {"0123456789", "\"0123456789\"", "01234567..."},
    {"01234567 9", "\"01234567 9\"", "\"01234567...\""},
    {"0123456\xc3\xbc", "\"0123456\xc3\xbc\"", "0123456..."},
};

static void test_escapes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
        char json[64], value[64];
        const char *bytes = escapes[i].bytes;
        struct line l = line_start(json, sizeof json - 1);
        line_json(&l, bytes, strlen(bytes));
        json[l.n] = '\0';
        assert_string_equal(json, escapes[i].json);
        l = line_start(value, sizeof value - 1);
        line_value(&l, bytes, strlen(bytes), i < 16 ? SIZE_MAX : 8);
        value[l.n] = '\0';
        assert_string_equal(value, escapes[i].value);
        // One byte too few for it: nothing of it.
        l = line_start(value, strlen(escapes[i].json) - 1);
        line_json(&l, bytes, strlen(bytes));
        assert_true(l.full && l.n == 0);
    }
}

// Places in no module, by no thread that there is: their text is the same everywhere.
#define CLOSED {.pc = 0x10, .tid = 0, .call = CALL_CLOSE}
#define OPENED {.pc = 0x20, .tid = 0, .call = CALL_ACCEPT4}
#define USED(name) {.pc = 0x30, .tid = 0, .call = CALL_##name}

#define TCP .kind = KIND_TCP, .state = TCP_STATE_ESTABLISHED, .backlog = UNKNOWN
#define UNIX .kind = KIND_UNIX_STREAM, .backlog = UNKNOWN
#define ACTED(what, why) .acted = true, .action = ACTION_##what, .reason = REASON_##why

static const struct blocked one = {.known = true, .n = 1, .thread = {{17, "worker", "recvfrom"}}};
static const struct blocked two = {
    .known = true, .n = 2, .thread = {{17, "worker", "recvfrom"}, {18, "a b=c", "accept4"}}};
static const struct blocked crowd = {
    .known = false, .n = 40, .thread = {{1, "", ""}, {2, "", "poll"}, {3, "t", ""}, {4, "t", "poll"},
                                        {5, "t", "poll"}, {6, "t", "poll"}, {7, "t", "poll"},
                                        {8, "t", "poll"}}};

// A port whose holders a bind has met.
#define PORT_80 {.len = sizeof(struct sockaddr_in), .u.in = {.sin_family = AF_INET, .sin_port = 80 << 8}}
#define PORT_90 {.len = sizeof(struct sockaddr_in), .u.in = {.sin_family = AF_INET, .sin_port = 90 << 8}}
#define IN_USE .known = true, .whole = true, .fd = -1
#define BIND .event = EVENT_ADDRESS_IN_USE, .used = USED(BIND)
#define NOT_BOUND "fd 7 tcp 127.0.0.1:80 could not be bound by bind at 0x30 (EADDRINUSE): "

static const struct drained finished = {.end = DRAIN_FINISHED, .bytes = 900, .ms = 12};
static const struct drained broken = {.end = DRAIN_BROKEN, .bytes = 1};
static const struct drained too_long = {.end = DRAIN_TIME, .bytes = 3, .ms = 1000};
static const struct drained still = {.end = DRAIN_TIME, .bytes = 3, .ms = 1000, .unread = true};
static const struct drained too_much = {.end = DRAIN_BYTES, .bytes = DRAIN_BYTES_MAX, .ms = 70, .unread = true};
static const struct drained gone = {.end = DRAIN_GONE, .ms = 5};

static const struct in_use listened = {IN_USE, .listeners = 1, .uid = 5, .first = {.uid = 33, .local = PORT_80}};
static const struct in_use own = {
    .known = true, .whole = true, .fd = 9, .listeners = 1, .first = {.local = PORT_80}};
static const struct in_use connected = {
    IN_USE, .others = 2, .uid = 33, .first = {.uid = 33, .local = PORT_80, .peer = PORT_90}};
static const struct in_use bound = {IN_USE, .others = 1, .first = {.local = PORT_80}};
static const struct in_use waiting = {IN_USE, .waiting = 1};
static const struct in_use crowded = {.known = true, .fd = -1, .waiting = 900, .closing = 2, .reuse = true};
static const struct in_use closing = {IN_USE, .closing = 2};
static const struct in_use unseen = {IN_USE};
static const struct in_use untold = {.fd = -1};
static const struct in_use no_port = {IN_USE, .any_port = true};

static const struct {
    const char *what;
    struct facts facts;
    struct finding f;
    const char *sentence;
} sentences[] = {
    {"in use by a listener", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &listened},
     NOT_BOUND "a listener on 0.0.0.0:80 (of another user, uid 33) stands in the way; end it, or choose another "
     "port"},
    {"in use by a listener of our own", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &own},
     NOT_BOUND "a listener on 0.0.0.0:80 (fd 9 of this process) stands in the way; end it, or choose another port"},
    {"in use by connections", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &connected},
     NOT_BOUND "a connection 0.0.0.0:80 -> 0.0.0.0:90 (of the same user, uid 33) stands in the way; close it first, "
     "or set SO_REUSEADDR before bind on both sides"},
    {"in use by a bound socket", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &bound},
     NOT_BOUND "a socket that is bound and does not listen, 0.0.0.0:80 (of the same user, uid 0) stands in the way; "
     "close it first, or set SO_REUSEADDR before bind on both sides"},
    {"in use by TIME_WAIT", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &waiting},
     NOT_BOUND "only 1 connection in TIME_WAIT stands in the way (it lasts 60 s); set SO_REUSEADDR before bind, in "
     "the program or by PRECLOSE_REUSEADDR set to 1: it counts for connections that are made from then on"},
    {"in use by many", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &crowded},
     NOT_BOUND "at least 900 connections in TIME_WAIT and 2 closed connections whose end the peer has not "
     "confirmed stand in the way (it lasts 60 s); SO_REUSEADDR is on here, but was not when they were made: have "
     "it on from the first start"},
    {"in use by what is closing", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &closing},
     NOT_BOUND "only 2 closed connections whose end the peer has not confirmed stand in the way; set SO_REUSEADDR "
     "before bind, in the program or by PRECLOSE_REUSEADDR set to 1: it counts for connections that are made from then on"},
    {"in use, unseen", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &unseen},
     NOT_BOUND "what stood in the way cannot be seen: it is bound and does not listen, or is gone by now; look with "
     "ss -tanp"},
    {"in use, untold", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &untold},
     NOT_BOUND "the kernel does not tell what stands in the way; look with ss -tanp"},
    {"no port", {TCP, .unread = UNKNOWN}, {BIND, .in_use = &no_port},
     NOT_BOUND "no port is free; widen net.ipv4.ip_local_port_range, or close what is not needed"},
    {"unread, shut down, all arrived", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(SHUTDOWN, NONE), .closed = CLOSED},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread by close at 0x10; preclose shut it "
     "down first and all that was sent had arrived, so the peer reads EOF and no reset; call "
     "shutdown(SHUT_WR) and read until EOF before close"},
    {"unread, shut down, bytes unsent", {TCP, .unread = 1, .unsent = 1},
     {.event = EVENT_UNREAD_RESET, ACTED(SHUTDOWN, NONE), .closed = CLOSED},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 1 byte unread by close at 0x10; the peer gets a "
     "reset and up to 1 byte that it had not acknowledged is lost; call shutdown(SHUT_WR) and read until "
     "EOF before close"},
    {"unread, shut down, unsent unknown", {TCP, .unread = 3, .unsent = UNKNOWN},
     {.event = EVENT_UNREAD_RESET, ACTED(SHUTDOWN, NONE)},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; preclose shut it down first, so "
     "the peer reads EOF if all that was sent had arrived, else it gets a reset; call shutdown(SHUT_WR) and "
     "read until EOF before close"},
    {"unread, shut down for reading only", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(SHUTDOWN, NONE), .deadly = true},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; the peer gets a reset "
     "(ECONNRESET) where it would have read EOF; call shutdown(SHUT_WR) and read until EOF before close"},
    {"unread, shut by the program", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(NONE, ALREADY_SHUT)},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; the program had shut it down and "
     "all that was sent had arrived, so the peer reads EOF and no reset; call shutdown(SHUT_WR) and read "
     "until EOF before close"},
    {"unread, aborted", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(ABORT, NONE)},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; the peer gets a reset "
     "(ECONNRESET) where it would have read EOF; call shutdown(SHUT_WR) and read until EOF before close"},
    {"unread, nothing done", {TCP, .unread = 3, .unsent = 3900000},
     {.event = EVENT_UNREAD_RESET, ACTED(NONE, SETTING)},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; the peer gets a reset and up to "
     "3900000 bytes that it had not acknowledged are lost; call shutdown(SHUT_WR) and read until EOF before "
     "close"},
    {"unread, nothing done, unsent unknown", {TCP, .unread = 3, .unsent = UNKNOWN},
     {.event = EVENT_UNREAD_RESET, ACTED(NONE, EPOLL)},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; the peer gets a reset and what "
     "had not reached it is lost; call shutdown(SHUT_WR) and read until EOF before close"},
    {"unread, drained", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(DRAIN, NONE), .closed = CLOSED, .drained = &finished, .blocked_ms = 12},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread by close at 0x10; preclose drained 900 bytes "
     "in 12 ms until the peer had finished too, so that it gets no reset and nothing of ours is lost by this close; "
     "call shutdown(SHUT_WR) and read until EOF before close"},
    {"nothing unread, drained", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(DRAIN, NONE), .drained = &broken},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed while the peer was still sending; preclose drained 1 byte in 0 "
     "ms, then the peer reset the connection itself; call shutdown(SHUT_WR) and read until EOF before close"},
    {"unread, drained for too long", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(DRAIN, NONE), .drained = &too_long},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; preclose drained 3 bytes in 1000 ms, and the "
     "peer had not finished: if it sends more, that is answered by a reset; call shutdown(SHUT_WR) and read until EOF "
     "before close"},
    {"unread, drained for too long, more came", {UNIX, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(DRAIN, NONE), .drained = &still},
     "fd 7 unix-stream /run/x -> @y closed with 3 bytes unread; preclose drained 3 bytes in 1000 ms, and the peer was "
     "still sending: it gets a reset; call shutdown(SHUT_WR) and read until EOF before close"},
    {"unread, too much to drain", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(DRAIN, NONE), .drained = &too_much},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; preclose drained 67108864 bytes in 70 ms, "
     "which is as much as it reads, and the peer was still sending: it gets a reset; call shutdown(SHUT_WR) and read "
     "until EOF before close"},
    {"unread, the drain ended", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(DRAIN, NONE), .drained = &gone},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed with 3 bytes unread; preclose drained 0 bytes in 5 ms, then its "
     "descriptor was closed under it: the peer may get a reset; call shutdown(SHUT_WR) and read until EOF before close"},
    {"a close that lingered", {TCP, .unread = 0, .unsent = 66000, .linger_s = 5},
     {.event = EVENT_SLOW_CLOSE, ACTED(SHUTDOWN, NONE), .closed = CLOSED, .blocked_ms = 2010},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed by close at 0x10, which blocked for 2010 ms: SO_LINGER with 5 s "
     "has it wait until the peer has acknowledged 66000 bytes and the end of the stream; turn SO_LINGER off, as the "
     "kernel delivers what is unsent after close too, or close in a thread that may wait"},
    {"a close that lingered in vain", {TCP, .unread = 0, .unsent = 0, .linger_s = 1},
     {.event = EVENT_SLOW_CLOSE, ACTED(NONE, SHARED), .blocked_ms = 1000},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed, and that blocked for 1000 ms: SO_LINGER with 1 s has it wait "
     "until the peer has acknowledged all that was sent, and that time was over before; turn SO_LINGER off, as the "
     "kernel delivers what is unsent after close too, or close in a thread that may wait"},
    {"unread on unix", {UNIX, .unread = 3, .unsent = 0},
     {.event = EVENT_UNREAD_RESET, ACTED(SHUTDOWN, NONE)},
     "fd 7 unix-stream /run/x -> @y closed with 3 bytes unread; the peer gets ECONNRESET where it would "
     "have read EOF; call shutdown(SHUT_WR) and read until EOF before close"},
    {"one thread woken", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_BLOCKED_THREADS, ACTED(SHUTDOWN, NONE), .closed = CLOSED, .blocked = &one},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed by close at 0x10 while 1 thread was blocked on it (17 "
     "worker in recvfrom); preclose woke it by a shutdown, close alone leaves it hanging; call "
     "shutdown(SHUT_RDWR) before close, or end that thread first"},
    {"two threads woken by an abort", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_BLOCKED_THREADS, ACTED(ABORT, NONE), .blocked = &two},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed while 2 threads were blocked on it (17 worker in "
     "recvfrom, 18 \"a b=c\" in accept4); preclose woke them and the peer still gets the reset that this "
     "close means, close alone leaves them hanging; call shutdown(SHUT_RDWR) before close, or end those "
     "threads first"},
    {"a crowd", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_BLOCKED_THREADS, ACTED(SHUTDOWN, NONE), .blocked = &crowd},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed while at least 40 threads were blocked on it (1, 2 in "
     "poll, 3 t, 4 t in poll, 5 t in poll, 6 t in poll, 7 t in poll, 8 t in poll and 32 more); preclose "
     "woke them by a shutdown, close alone leaves them hanging; call shutdown(SHUT_RDWR) before close, or "
     "end those threads first"},
    {"left, another process has it", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_LEFT_BLOCKED, ACTED(NONE, SHARED), .blocked = &one, .holder = 99, .closed = CLOSED},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed by close at 0x10 while 1 thread was blocked on it (17 "
     "worker in recvfrom); it stays blocked: process 99 may hold the socket too, and a shutdown would cut "
     "its connection; wake threads before close: by a signal, a timeout, or an eventfd in their poll"},
    {"left, perhaps another process has it", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_LEFT_BLOCKED, ACTED(NONE, PASSED), .blocked = &two},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed while 2 threads were blocked on it (17 worker in "
     "recvfrom, 18 \"a b=c\" in accept4); they stay blocked: it was passed between processes over a unix "
     "socket; wake threads before close: by a signal, a timeout, or an eventfd in their poll"},
    {"left, by setting", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_LEFT_BLOCKED, ACTED(NONE, SETTING), .blocked = &one},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed while 1 thread was blocked on it (17 worker in "
     "recvfrom); it stays blocked: PRECLOSE_SHUTDOWN says so; set PRECLOSE_SHUTDOWN to always, or wake "
     "threads before close"},
    {"left, cannot be woken",
     {.kind = KIND_NETLINK, .unread = UNKNOWN, .unsent = UNKNOWN, .backlog = UNKNOWN},
     {.event = EVENT_LEFT_BLOCKED, ACTED(NONE, NONE), .blocked = &one},
     "fd 7 netlink closed while 1 thread was blocked on it (17 worker in recvfrom); it stays blocked: "
     "shutdown does not wake threads on a socket of this kind (netlink); wake threads before close: by a "
     "signal, a timeout, or an eventfd in their poll"},
    {"left, as SIGPIPE would end the process", {TCP, .unread = 0, .unsent = 9},
     {.event = EVENT_LEFT_BLOCKED, ACTED(SHUTDOWN, NONE), .blocked = &two, .deadly = true},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed while 2 threads were blocked on it (17 worker in "
     "recvfrom, 18 \"a b=c\" in accept4); those that send stay blocked: EPIPE would come with SIGPIPE, which "
     "ends this process; ignore SIGPIPE or send with MSG_NOSIGNAL, and wake threads before close"},
    {"linger", {TCP, .unread = 2, .unsent = 5, .linger_reset = true},
     {.event = EVENT_LINGER_RESET, ACTED(ABORT, NONE), .closed = CLOSED},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 reset on purpose by close at 0x10: SO_LINGER is on with 0 s; "
     "the peer gets a reset and no EOF, and up to 5 bytes that it had not acknowledged are lost, and 2 "
     "bytes received were never read; turn SO_LINGER off before close if that is not meant"},
    {"linger after shutdown", {TCP, .unread = 0, .unsent = 0, .linger_reset = true},
     {.event = EVENT_LINGER_RESET, ACTED(NONE, ALREADY_SHUT)},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 reset on purpose: SO_LINGER is on with 0 s; the program had "
     "shut it down, so the peer may read EOF before the reset; turn SO_LINGER off before close if that is "
     "not meant"},
    {"backlog", {.kind = KIND_TCP, .state = TCP_STATE_LISTEN, .listening = true, .backlog = 3,
                 .unread = UNKNOWN, .unsent = UNKNOWN},
     {.event = EVENT_BACKLOG_RESET, ACTED(SHUTDOWN, NONE), .closed = CLOSED},
     "fd 7 tcp listener 127.0.0.1:80 closed with 3 connections that no one had accepted by close at 0x10; "
     "each is reset, with what its client has sent; accept what waits before closing, or hand the listener "
     "on"},
    {"double close", {0},
     {.event = EVENT_DOUBLE_CLOSE, .used = USED(CLOSE), .closed = CLOSED, .opened = OPENED},
     "fd 7 closed again by close at 0x30 after close at 0x10, opened by accept4 at 0x20; it fails with "
     "EBADF now, and hits whatever gets the number next; close a descriptor once, and forget its number "
     "then"},
    {"use after close", {0}, {.event = EVENT_USE_AFTER_CLOSE, .used = USED(SHUTDOWN)},
     "fd 7 used by shutdown at 0x30 after it had been closed; it fails with EBADF now, and hits whatever "
     "gets the number next; end every use of a descriptor before closing it"},
    {"close-wait", {.kind = KIND_TCP, .state = TCP_STATE_CLOSE_WAIT, .unread = 0, .unsent = 0, .backlog = UNKNOWN},
     {.event = EVENT_CLOSE_WAIT, .opened = OPENED, .close_wait_ms = 61000},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000: the peer closed its side at least 61 s ago, and it is still open here; "
     "opened by accept4 at 0x20; it keeps a descriptor and memory in CLOSE_WAIT until the program closes it; close "
     "it when a read returns 0, and on every path that gives a connection up"},
    {"close-wait, unread, shared", {TCP, .unread = 1, .unsent = 0},
     {.event = EVENT_CLOSE_WAIT, .opened = OPENED, .close_wait_ms = 1500, .shared = true},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000: the peer closed its side at least 1500 ms ago, and it is still open here, "
     "with 1 byte unread; opened by accept4 at 0x20; it keeps a descriptor and memory in CLOSE_WAIT until the "
     "program closes it, and any other process that holds it; close it when a read returns 0, and on every path "
     "that gives a connection up"},
    {"open at exit", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_OPEN_AT_EXIT, .opened = OPENED},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 is still open at exit; opened by accept4 at 0x20; close it before the "
     "program ends, to learn whether all was delivered"},
    {"open at exit, shared", {TCP, .unread = 3, .unsent = 0},
     {.event = EVENT_OPEN_AT_EXIT, .opened = OPENED, .shared = true},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 is still open at exit with 3 bytes unread; opened by accept4 at 0x20; "
     "another process may hold it too, and then it lives on there; call shutdown(SHUT_WR), read until EOF and close "
     "it before the program ends"},
    {"open at exit, reset", {TCP, .unread = 3, .unsent = 9},
     {.event = EVENT_OPEN_AT_EXIT, .opened = OPENED, .grave = true},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 is still open at exit with 3 bytes unread, so that the peer gets a "
     "reset and up to 9 bytes that it had not acknowledged are lost; opened by accept4 at 0x20; call "
     "shutdown(SHUT_WR), read until EOF and close it before the program ends"},
    {"open at exit, left", {.kind = KIND_TCP, .state = TCP_STATE_CLOSE_WAIT, .unread = 0, .unsent = 0, .backlog = UNKNOWN},
     {.event = EVENT_OPEN_AT_EXIT, .opened = OPENED, .grave = true, .close_wait_ms = 5000},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 is still open at exit, and the peer had closed its side at least 5000 ms "
     "before; opened by accept4 at 0x20; close it when a read returns 0"},
    {"open at exit, left with bytes", {.kind = KIND_TCP, .state = TCP_STATE_CLOSE_WAIT, .unread = 2, .unsent = 0, .backlog = UNKNOWN},
     {.event = EVENT_OPEN_AT_EXIT, .opened = OPENED, .grave = true},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 is still open at exit with 2 bytes unread, so that the peer gets a "
     "reset; the peer had closed its side; opened by accept4 at 0x20; close it when a read returns 0"},
    {"open at exit, more", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_OPEN_AT_EXIT, .more = 21}, "21 more connections are still open at exit, not told one by one"},
    {"open at exit, one more", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_OPEN_AT_EXIT, .more = 1}, "1 more connection is still open at exit, not told one by one"},
    {"close", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_CLOSE, ACTED(SHUTDOWN, NONE), .closed = CLOSED, .age_ms = 1500},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed by close at 0x10 after 1500 ms; shut down first"},
    {"close, shut down for reading only", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_CLOSE, ACTED(SHUTDOWN, NONE), .deadly = true},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed; shut down first, for reading only: a thread may be "
     "sending, and SIGPIPE would end this process"},
    {"close of a duplicate", {TCP, .unread = 0, .unsent = 0},
     {.event = EVENT_CLOSE, ACTED(NONE, DUPLICATED)},
     "fd 7 tcp 127.0.0.1:80 -> 127.0.0.1:4000 closed; nothing was done first: another descriptor of this "
     "process holds it"},
    {"close, aborted", {UNIX, .unread = 1, .unsent = 0}, {.event = EVENT_CLOSE, ACTED(ABORT, NONE)},
     "fd 7 unix-stream /run/x -> @y closed; aborted first, so that the peer gets no EOF"},
    {"close of something unknown", {0}, {.event = EVENT_CLOSE, .fd = UNKNOWN}, "a socket closed"},
};

enum { SENTENCES = sizeof sentences / sizeof sentences[0] };

// Row i of the table with what all rows share filled in.
static void row(unsigned i, struct finding *f, struct facts *facts)
{
    *f = sentences[i].f;
    *facts = sentences[i].facts;
    if (f->fd == 0) f->fd = 7;
    if (f->age_ms == 0) f->age_ms = UNKNOWN;
    if (facts->kind == KIND_UNIX_STREAM) {
        facts->local = local("/run/x", 7);
        facts->peer = local("\0y", 2);
    } else if (facts->kind == KIND_TCP) {
        facts->local = ipv4("127.0.0.1", 80);
        if (!facts->listening && f->event != EVENT_ADDRESS_IN_USE) facts->peer = ipv4("127.0.0.1", 4000);
    }
    const bool late = f->event == EVENT_DOUBLE_CLOSE || f->event == EVENT_USE_AFTER_CLOSE;
    f->facts = late || f->fd == UNKNOWN ? NULL : facts;
}

static const struct line_context context = {.time_us = 1700000000123456, .pid = 42, .comm = "server"};

static void test_sentences(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SENTENCES; i++) {
        struct finding f;
        struct facts facts;
        char line[LINE_MAX_BYTES], expected[1200], json[1200];
        row(i, &f, &facts);
        size_t n = report_line(line, sizeof line, FORMAT_TEXT, &f, &context);
        static const char *const levels[] = {"warning", "notice", "info"};
        snprintf(expected, sizeof expected, "preclose: %s: %s: %s time=2023-11-14T22:13:20.123456Z pid=42 ",
                 levels[finding_level(&f)], event_name(f.event), sentences[i].sentence);
        if (n < strlen(expected) || memcmp(line, expected, strlen(expected)) != 0)
            fail_msg("%s:\n%.*s\n%s", sentences[i].what, (int)n, line, expected);
        n = report_line(line, sizeof line, FORMAT_JSON, &f, &context);
        assert_true(json_is_line(line, n));
        size_t k = 0;
        json[k++] = '"';
        for (const char *s = sentences[i].sentence; *s; s++) {
            if (*s == '"') json[k++] = '\\';
            json[k++] = *s;
        }
        json[k++] = '"';
        json[k] = '\0';
        assert_string_equal(json_get(line, line + n, "text"), json);
    }
}

// What was held back or lost is told at the end of the sentence.
static void test_told_with_it(void **state)
{
    (void)state;
    struct finding f = {.event = EVENT_CLOSE, .fd = 7, .age_ms = UNKNOWN};
    struct line_context c = context;
    char line[1024];
    c.held_back = 1;
    c.lost = 2;
    size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &c);
    assert_string_equal(json_get(line, line + n, "text"),
                        "\"fd 7 closed; 1 more from here held back since the last line; 2 earlier lines "
                        "could not be written\"");
    assert_string_equal(json_get(line, line + n, "held_back"), "1");
    n = report_line(line, sizeof line, FORMAT_TEXT, &f, &c);
    assert_non_null(strstr(line, " fd=7 held_back=1\n"));
    f.event = EVENT_SUMMARY; // says how many in all, and not since a line
    n = report_line(line, sizeof line, FORMAT_JSON, &f, &c);
    assert_null(strstr(line, "\"held_back\""));
}

static struct finding full_finding(const struct facts *facts)
{
    return (struct finding){
        .event = EVENT_UNREAD_RESET, .fd = 7, .facts = facts, .blocked = &two, ACTED(NONE, SETTING),
        .age_ms = 12, .blocked_ms = 34, .opened = OPENED, .closed = {.pc = 0x10, .tid = getpid(), .call = CALL_DUP2}};
}

static struct facts full_facts(void)
{
    return (struct facts){.cookie = 4097, .kind = KIND_TCP6, .state = TCP_STATE_CLOSE_WAIT, .unread = 3,
                          .unsent = 5, .backlog = 0, .local = ipv6("::1", 80, 0), .peer = ipv6("::1", 81, 0)};
}

static void test_fields(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } expected[] = {
        {"time", "\"2023-11-14T22:13:20.123456Z\""},
        {"pid", "42"},
        {"comm", "\"server\""},
        {"level", "\"warning\""},
        {"event", "\"unread-reset\""},
        {"fd", "7"},
        {"cookie", "4097"},
        {"type", "\"tcp6\""},
        {"state", "\"close-wait\""},
        {"local", "\"[::1]:80\""},
        {"peer", "\"[::1]:81\""},
        {"unread", "3"},
        {"unsent", "5"},
        {"backlog", "0"},
        {"age_ms", "12"},
        {"blocked_ms", "34"},
        {"action", "\"none\""},
        {"reason", "\"setting\""},
        {"threads", "[{\"tid\":17,\"name\":\"worker\",\"call\":\"recvfrom\"},"
                    "{\"tid\":18,\"name\":\"a b=c\",\"call\":\"accept4\"}]"},
        {"opened", "{\"call\":\"accept4\",\"at\":[\"0x20\"]}"},
    };
    struct facts facts = full_facts();
    struct finding f = full_finding(&facts);
    char line[LINE_MAX_BYTES], keys[512], closed[200];
    size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &context);
    assert_true(json_is_line(line, n));
    for (unsigned i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_string_equal(json_get(line, line + n, expected[i].key), expected[i].value);
    snprintf(closed, sizeof closed, "{\"call\":\"dup2\",\"tid\":%d,\"thread\":\"%.15s\",\"at\":[\"0x10\"]}",
             getpid(), program_invocation_short_name);
    assert_string_equal(json_get(line, line + n, "closed"), closed);
    json_keys(line, line + n, keys, sizeof keys);
    assert_string_equal(keys, "time pid comm level event fd cookie type state local peer unread unsent "
                              "backlog age_ms blocked_ms action reason threads opened closed text");
    n = report_line(line, sizeof line, FORMAT_TEXT, &f, &context);
    assert_true(text_keys(line, n, keys, sizeof keys));
    assert_string_equal(keys, "time pid comm fd cookie type state local peer unread unsent backlog age_ms "
                              "blocked_ms action reason threads opened.call opened.at closed.call closed.tid "
                              "closed.thread closed.at");
    assert_non_null(strstr(line, " threads=\"17:worker:recvfrom,18:a b=c:accept4\" opened.call=accept4 "));
}

static void test_used_fields(void **state)
{
    (void)state;
    struct finding f = {.event = EVENT_DOUBLE_CLOSE, .fd = 7, .age_ms = UNKNOWN, .opened = OPENED, .closed = CLOSED,
                        .used = {.pc = 0x30, .tid = getpid(), .call = CALL_CLOSE}};
    struct line_context c = context;
    char line[LINE_MAX_BYTES], keys[512], used[200];
    c.held_back = 17;
    size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &c);
    assert_true(json_is_line(line, n));
    json_keys(line, line + n, keys, sizeof keys);
    assert_string_equal(keys, "time pid comm level event fd opened closed used held_back text");
    snprintf(used, sizeof used, "{\"call\":\"close\",\"tid\":%d,\"thread\":\"%.15s\",\"at\":[\"0x30\"]}", getpid(),
             program_invocation_short_name);
    assert_string_equal(json_get(line, line + n, "used"), used);
    assert_string_equal(json_get(line, line + n, "held_back"), "17");
    n = report_line(line, sizeof line, FORMAT_TEXT, &f, &c);
    assert_true(text_keys(line, n, keys, sizeof keys));
    assert_string_equal(keys, "time pid comm fd opened.call opened.at closed.call closed.at used.call used.tid "
                              "used.thread used.at held_back");
}

static void test_close_wait_fields(void **state)
{
    (void)state;
    struct facts facts = full_facts();
    struct finding f = full_finding(&facts);
    char line[LINE_MAX_BYTES], keys[512];
    f.event = EVENT_OPEN_AT_EXIT;
    f.close_wait_ms = 60123;
    f.blocked_ms = 0;
    f.acted = false;
    f.blocked = NULL;
    f.closed = (struct place){0};
    size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &context);
    assert_true(json_is_line(line, n));
    assert_string_equal(json_get(line, line + n, "level"), "\"notice\"");
    assert_string_equal(json_get(line, line + n, "close_wait_ms"), "60123");
    json_keys(line, line + n, keys, sizeof keys);
    assert_string_equal(keys, "time pid comm level event fd cookie type state local peer unread unsent backlog age_ms "
                              "close_wait_ms opened text");
    f.grave = true;
    n = report_line(line, sizeof line, FORMAT_JSON, &f, &context);
    assert_string_equal(json_get(line, line + n, "level"), "\"warning\"");
    n = report_line(line, sizeof line, FORMAT_TEXT, &f, &context);
    assert_ptr_equal(strstr(line, "preclose: warning: open-at-exit: fd 7 "), line);
}

static const struct leak leaks[] = {
    {{.pc = 0x20, .call = CALL_ACCEPT4}, 12, 15, 75000, TREND_GROWING},
    {{.pc = 0x30, .tid = 1, .call = CALL_SOCKET}, 1, 2, 900, TREND_STEADY},
    {{.pc = 0}, 0, 4, 0, TREND_UNKNOWN},
};

static void test_leaks(void **state)
{
    (void)state;
    const struct finding f = {.event = EVENT_SUMMARY, .fd = UNKNOWN, .age_ms = UNKNOWN};
    static const uint64_t counts[EVENT_COUNT] = {[EVENT_CLOSE_WAIT] = 3};
    struct line_context c = {.comm = "server", .counts = counts, .leak = leaks, .leaks = 3};
    char line[LINE_MAX_BYTES], keys[512];
    size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &c);
    assert_true(json_is_line(line, n));
    json_keys(line, line + n, keys, sizeof keys);
    assert_string_equal(keys, "time pid comm level event counts leaks text");
    assert_string_equal(json_get(line, line + n, "leaks"),
        "[{\"opened\":{\"call\":\"accept4\",\"at\":[\"0x20\"]},\"now\":12,\"most\":15,\"oldest_ms\":75000,"
        "\"trend\":\"growing\"},{\"opened\":{\"call\":\"socket\",\"at\":[\"0x30\"]},\"now\":1,\"most\":2,"
        "\"oldest_ms\":900,\"trend\":\"steady\"},{\"opened\":{\"call\":\"\"},\"now\":0,\"most\":4,\"oldest_ms\":0}]");
    assert_string_equal(json_get(line, line + n, "text"),
        "\"3 close-wait; in CLOSE_WAIT: 12 opened by accept4 at 0x20 (15 at most, the oldest for 75 s, growing), 1 opened "
        "by socket at 0x30 (2 at most, for 900 ms, steady), 0 opened elsewhere (4 at most)\"");
    n = report_line(line, sizeof line, FORMAT_TEXT, &f, &c);
    assert_true(text_keys(line, n, keys, sizeof keys));
    assert_non_null(strstr(line, " leaks=\"accept4 at 0x20 now 12 most 15 oldest_ms 75000 growing, socket at 0x30 now 1 "
                                 "most 2 oldest_ms 900 steady, elsewhere now 0 most 4 oldest_ms 0\"\n"));
    for (size_t size = 512; size < 1024; size++)
        for (int format = FORMAT_TEXT; format <= FORMAT_JSON; format++) {
            n = report_line(line, size, (enum format)format, &f, &c);
            if (format == FORMAT_JSON ? !json_is_line(line, n) : !text_keys(line, n, keys, sizeof keys))
                fail_msg("%.*s", (int)n, line);
        }
}

static void test_nothing_known(void **state)
{
    (void)state;
    struct finding f = {.event = EVENT_USE_AFTER_CLOSE, .fd = UNKNOWN, .age_ms = UNKNOWN};
    struct line_context c = {.comm = ""};
    char line[512], keys[512];
    size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &c);
    assert_true(json_is_line(line, n));
    json_keys(line, line + n, keys, sizeof keys);
    assert_string_equal(keys, "time pid level event text");
    assert_string_equal(json_get(line, line + n, "time"), "\"1970-01-01T00:00:00.000000Z\"");
}

static void test_times(void **state)
{
    (void)state;
    struct finding f = {.event = EVENT_CLOSE, .fd = 1, .age_ms = UNKNOWN};
    char line[512], expected[64];
    srandom(1);
    for (int i = 0; i < 20000; i++) {
        // Midnights around the ends of years and months, and any second of four-digit years.
        int64_t second = i < 8000 ? (int64_t)i * 86400 - (i & 1) : random() * INT64_C(100) % 253402300800;
        if (second < 0) second = 0;
        time_t at = second;
        struct tm tm;
        gmtime_r(&at, &tm);
        size_t k = strftime(expected, sizeof expected, "\"%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(expected + k, sizeof expected - k, ".%06dZ\"", i);
        struct line_context c = {.time_us = second * 1000000 + i, .comm = "x"};
        size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &c);
        assert_string_equal(json_get(line, line + n, "time"), expected);
    }
    const struct line_context odd[] = {{.time_us = -1, .comm = ""}, {.time_us = INT64_MAX, .comm = ""}};
    for (int i = 0; i < 2; i++) {
        size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &odd[i]);
        assert_string_equal(json_get(line, line + n, "time"),
                            i ? "\"9999-12-31T23:59:59.999999Z\"" : "\"1970-01-01T00:00:00.000000Z\"");
    }
}

static void random_bytes(char *at, size_t n)
{
    static const char *const awkward[] = {
        "\"", "\\", "\n", "=", " ", "\x7f", "\xff", "\xc2\x85", "\xe2\x80\xa8", "\xf0\x9f\x99\x82",
        "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"};
    for (size_t i = 0; i < n; i++) {
        const char *piece = awkward[random() % 13];
        size_t length = strlen(piece);
        if (random() % 2 || length > n - i) at[i] = (char)random();
        else memcpy(at + i, piece, length), i += length - 1;
    }
}

static void random_name(char name[16])
{
    random_bytes(name, 15);
    name[random() % 16] = '\0';
    name[15] = '\0';
}

static struct address random_local(void)
{
    char name[108];
    random_bytes(name, sizeof name);
    if (random() % 2) name[0] = '\0';
    return local(name, (size_t)random() % 109);
}

// The keys that a line may have, in the order of the manual: text shows the fields of a place as keys.
static char known[64][32];
static bool told_key[64];
static unsigned n_known;

enum shape { STRING, NUMBER, PLACE, PLACES, THREADS, COUNTS, LEAKS };

static void list_key(const char *name, enum shape shape)
{
    snprintf(known[n_known++], sizeof known[0], "%s", name);
    if (shape != PLACE) return;
#define FIELD(part, shape, meaning)
#define THREAD_FIELD(part, shape, meaning)
#define PLACE_FIELD(part, shape, meaning) snprintf(known[n_known++], sizeof known[0], "%s.%s", name, part);
#define LEAK_FIELD(name, shape, meaning)
#include "fields.def"
#undef FIELD
#undef THREAD_FIELD
#undef PLACE_FIELD
#undef LEAK_FIELD
}

static void list_keys(void)
{
#define FIELD(name, shape, meaning) list_key(name, shape);
#define THREAD_FIELD(part, shape, meaning)
#define PLACE_FIELD(part, shape, meaning)
#define LEAK_FIELD(name, shape, meaning)
#include "fields.def"
#undef FIELD
#undef THREAD_FIELD
#undef PLACE_FIELD
#undef LEAK_FIELD
}

// Every key is one of those, in their order; behind "counts." stand events.
static void check_keys(char *keys)
{
    unsigned next = 0;
    for (char *word = strtok(keys, " "); word; word = strtok(NULL, " ")) {
        const bool count = strncmp(word, "counts.", 7) == 0;
        if (count) word[6] = '\0';
        while (next < n_known && strcmp(known[next], word) != 0) next++;
        if (next == n_known) fail_msg("key %s is unknown, or out of order", word);
        told_key[next] = true;
        if (!count) next++;
    }
}

// A line holds only what it should, whatever bytes come from outside, in any size.
static void check_random(size_t size, const struct finding *f, const struct line_context *c)
{
    static char line[LINE_MAX_BYTES + 1];
    char keys[1024];
    for (int format = FORMAT_TEXT; format <= FORMAT_JSON; format++) {
        line[size] = '!';
        size_t n = report_line(line, size, (enum format)format, f, c);
        assert_int_equal(line[size], '!');
        assert_true(n > 100 && n <= size);
        if (format == FORMAT_TEXT) {
            if (!text_keys(line, n, keys, sizeof keys)) fail_msg("not a text line:\n%.*s", (int)n, line);
        } else {
            if (!json_is_line(line, n)) fail_msg("not a JSON line:\n%.*s", (int)n, line);
            json_keys(line, line + n, keys, sizeof keys);
        }
        check_keys(keys);
    }
}

// Every field of the table is told by some finding, in both formats.
static void test_every_field(void **state)
{
    (void)state;
    struct facts facts = full_facts();
    struct finding f[] = {full_finding(&facts), {.event = EVENT_SUMMARY, .fd = UNKNOWN, .age_ms = UNKNOWN}};
    static const uint64_t counts[EVENT_COUNT] = {[EVENT_CLOSE] = 1};
    struct line_context c = context;
    c.counts = counts;
    c.leak = leaks;
    c.leaks = 1;
    f[0].close_wait_ms = 60000;
    f[0].opened.tid = getpid();
    f[0].used = (struct place){.pc = 0x30, .tid = getpid(), .call = CALL_CLOSE};
    c.held_back = 1;
    memset(told_key, 0, sizeof told_key);
    for (int i = 0; i < 2; i++) check_random(LINE_MAX_BYTES, &f[i], &c);
    for (unsigned i = 0; i < n_known; i++)
        if (!told_key[i]) fail_msg("field %s is never told", known[i]);
}

static void test_random_bytes(void **state)
{
    (void)state;
    srandom(7);
    for (int i = 0; i < (UNDER_TSAN ? 1000 : 20000); i++) {
        struct facts facts = full_facts();
        struct finding f = full_finding(&facts);
        struct blocked blocked = {.known = random() % 2, .n = (unsigned)random() % 20};
        struct line_context c = context;
        char comm[16];
        f.event = (enum event)(random() % EVENT_SUMMARY);
        if (i % 32) f.opened.pc = f.closed.pc = 0; // one in no module costs a reading of /proc/self/maps
        if (random() % 2) f.used = (struct place){.pc = i % 32 ? 0 : 0x30, .tid = getpid(), .call = CALL_SHUTDOWN};
        f.blocked = &blocked;
        facts.kind = KIND_UNIX_STREAM;
        facts.cookie = (uint64_t)random() << 33;
        facts.local = random_local();
        facts.peer = random_local();
        for (int t = 0; t < THREADS_TOLD; t++) {
            blocked.thread[t].tid = (int)random();
            random_name(blocked.thread[t].name);
            strcpy(blocked.thread[t].call, "recvfrom");
        }
        random_name(comm);
        c.comm = comm;
        c.held_back = (uint64_t)random() % 2;
        c.lost = (uint64_t)random() % 3;
        check_random(i % 4 ? 512 + (size_t)random() % (LINE_MAX_BYTES - 511) : 512, &f, &c);
    }
}

// A line that holds everything is not shortened at its full size.
static void test_long_line(void **state)
{
    (void)state;
    struct facts facts = full_facts();
    struct finding f = full_finding(&facts);
    struct blocked blocked = {.known = true, .n = THREADS_TOLD};
    char line[LINE_MAX_BYTES], name[108];
    memset(name, 'n', sizeof name);
    facts.local = facts.peer = local(name, sizeof name);
    facts.kind = KIND_UNIX_STREAM;
    f.blocked = &blocked;
    f.event = EVENT_BLOCKED_THREADS;
    for (int t = 0; t < THREADS_TOLD; t++)
        blocked.thread[t] = (struct blocked_thread){4194303, "fifteen letters", "recvmmsg"};
    size_t n = report_line(line, sizeof line, FORMAT_JSON, &f, &context);
    assert_true(json_is_line(line, n));
    assert_int_equal(strlen(json_get(line, line + n, "local")), 110);
    assert_non_null(strstr(json_get(line, line + n, "text"), "or end those threads first\""));
    const char *threads = json_get(line, line + n, "threads");
    int told = 0;
    while ((threads = strstr(threads, "4194303"))) threads++, told++;
    assert_int_equal(told, THREADS_TOLD);
}

// In a line that grows, more and more threads are told.
static void test_threads_that_fit(void **state)
{
    (void)state;
    struct facts facts = full_facts();
    struct finding f = full_finding(&facts);
    char line[1600];
    int before = 0, told = 0, sizes = 0;
    f.blocked = &crowd;
    for (size_t size = 512; size <= sizeof line; size++, before = told) {
        size_t n = report_line(line, size, FORMAT_JSON, &f, &context);
        told = 0;
        for (const char *at = json_get(line, line + n, "threads"); (at = strstr(at, "\"tid\"")); at++) told++;
        assert_true(told >= before);
        sizes += told > before;
    }
    assert_int_equal(told, THREADS_TOLD);
    assert_true(sizes > 3);
}

static char path[] = "/tmp/preclose-report-XXXXXX";
static char log_text[1 << 20];

static struct settings settings_for(enum level level, unsigned rate, enum report_when when)
{
    struct settings s = {
        .log = LOG_FILE, .format = FORMAT_JSON, .level = level, .rate = rate, .report = when};
    strcpy(s.log_path, path);
    return s;
}

static void begin(struct settings s)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    close(fd);
    assert_int_equal(sink_open(&s), 0);
    report_start(&s, "server-with-a-long-name");
}

// The lines written since begin; their number.
static int read_log(void)
{
    int fd = open(path, O_RDONLY), lines = 0;
    ssize_t n = read(fd, log_text, sizeof log_text - 1);
    close(fd);
    log_text[n > 0 ? n : 0] = '\0';
    for (char *at = log_text, *next; (next = strchr(at, '\n')); at = next + 1, lines++)
        if (!json_is_line(at, (size_t)(next + 1 - at))) fail_msg("%s", at);
    return lines;
}

static const char *last_line(const char *key)
{
    char *end = log_text + strlen(log_text), *at = end - 1;
    while (at > log_text && at[-1] != '\n') at--;
    return json_get(at, end, key);
}

static void tell(enum event event, uintptr_t pc, int times)
{
    struct finding f = {.event = event, .fd = 7, .age_ms = UNKNOWN, .closed = {.pc = pc, .call = CALL_CLOSE}};
    for (int i = 0; i < times; i++) report(&f);
}

static void test_levels(void **state)
{
    (void)state;
    static const int lines[] = {[LEVEL_WARNING] = 1, [LEVEL_NOTICE] = 2, [LEVEL_INFO] = 3};
    for (int level = LEVEL_WARNING; level <= LEVEL_INFO; level++) {
        begin(settings_for((enum level)level, 10, REPORT_NEVER));
        tell(EVENT_UNREAD_RESET, 1, 1);
        tell(EVENT_LINGER_RESET, 1, 1);
        tell(EVENT_CLOSE, 1, 1);
        assert_int_equal(read_log(), lines[level]);
        assert_string_equal(last_line("comm"), "\"server-with-a-l\"");
        assert_true(report_wants(EVENT_UNREAD_RESET));
        assert_int_equal(report_wants(EVENT_LINGER_RESET), level >= LEVEL_NOTICE);
        assert_int_equal(report_wants(EVENT_CLOSE), level >= LEVEL_INFO);
        report_summary(NULL, 0);
        assert_int_equal(read_log(), lines[level]);
    }
}

static void test_rate_limit(void **state)
{
    (void)state;
    begin(settings_for(LEVEL_INFO, 3, REPORT_AUTO));
    tell(EVENT_UNREAD_RESET, 1, 10);
    assert_int_equal(read_log(), 3);
    tell(EVENT_UNREAD_RESET, 2, 1); // another place
    tell(EVENT_BACKLOG_RESET, 1, 1);
    assert_int_equal(read_log(), 5);
    tell(EVENT_CLOSE, 1, 20);
    assert_int_equal(read_log(), 25);
    report_summary(NULL, 0);
    assert_int_equal(read_log(), 26);
    assert_string_equal(last_line("event"), "\"summary\"");
    assert_string_equal(last_line("level"), "\"notice\"");
    assert_string_equal(last_line("counts"), "{\"unread-reset\":11,\"backlog-reset\":1,\"close\":20}");
    assert_string_equal(last_line("text"),
                        "\"11 unread-reset, 1 backlog-reset, 20 close; 7 lines held back by PRECLOSE_RATE\"");
    begin(settings_for(LEVEL_WARNING, 0, REPORT_AUTO));
    tell(EVENT_UNREAD_RESET, 1, 500);
    assert_int_equal(read_log(), 500);
}

static void test_late_use_has_its_place(void **state)
{
    (void)state;
    begin(settings_for(LEVEL_WARNING, 1, REPORT_AUTO));
    for (uintptr_t i = 0; i < 6; i++) {
        struct finding f = {.event = EVENT_DOUBLE_CLOSE, .fd = 7, .age_ms = UNKNOWN, .closed = CLOSED,
                            .used = {.pc = i % 3 + 1, .call = CALL_CLOSE}};
        report(&f);
    }
    assert_int_equal(read_log(), 3);
}

// A leak is held back by the place that opened it.
static void test_leak_has_its_place(void **state)
{
    (void)state;
    begin(settings_for(LEVEL_WARNING, 1, REPORT_AUTO));
    for (uintptr_t i = 0; i < 6; i++) {
        struct finding f = {.event = EVENT_CLOSE_WAIT, .fd = 7, .age_ms = UNKNOWN, .close_wait_ms = 1,
                            .opened = {.pc = i % 3 + 1, .call = CALL_ACCEPT}};
        report(&f);
    }
    assert_int_equal(read_log(), 3);
}

static void test_summary(void **state)
{
    (void)state;
    static const struct {
        enum report_when when;
        enum event event;
        int lines; // beside those of the findings
    } rows[] = {
        {REPORT_AUTO, EVENT_CLOSE, 0},          {REPORT_AUTO, EVENT_LINGER_RESET, 0},
        {REPORT_AUTO, EVENT_LEFT_BLOCKED, 1},   {REPORT_ALWAYS, EVENT_CLOSE, 1},
        {REPORT_ALWAYS, EVENT_LEFT_BLOCKED, 1}, {REPORT_NEVER, EVENT_LEFT_BLOCKED, 0},
        {REPORT_AUTO, EVENT_OPEN_AT_EXIT, 0},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        begin(settings_for(LEVEL_WARNING, 10, rows[i].when));
        tell(rows[i].event, 1, 1);
        int before = read_log();
        report_summary(NULL, 0);
        report_summary(NULL, 0);
        assert_int_equal(read_log() - before, rows[i].lines);
    }
    begin(settings_for(LEVEL_WARNING, 10, REPORT_AUTO));
    struct finding f = {.event = EVENT_OPEN_AT_EXIT, .fd = UNKNOWN, .age_ms = UNKNOWN, .more = 21, .grave = true};
    report(&f);
    report_summary(leaks, 1);
    assert_int_equal(read_log(), 2);
    assert_string_equal(last_line("counts"), "{\"open-at-exit\":21}");
    assert_non_null(strstr(last_line("leaks"), "[{\"opened\":{\"call\":\"accept4\",\"at\":[\"0x20\"]},\"now\":12,"));
    begin(settings_for(LEVEL_WARNING, 10, REPORT_ALWAYS));
    report_summary(NULL, 0);
    assert_int_equal(read_log(), 1);
    assert_string_equal(last_line("text"), "\"no findings\"");
    assert_string_equal(last_line("counts"), "");
}

static void test_child(void **state)
{
    (void)state;
    begin(settings_for(LEVEL_WARNING, 1, REPORT_AUTO));
    tell(EVENT_UNREAD_RESET, 1, 3);
    report_summary(NULL, 0);
    assert_int_equal(read_log(), 2);
    report_child();
    report_summary(NULL, 0); // the parent's warnings are not the child's
    assert_int_equal(read_log(), 2);
    report_child();
    tell(EVENT_UNREAD_RESET, 1, 3);
    assert_int_equal(read_log(), 3);
    report_summary(NULL, 0);
    assert_string_equal((read_log(), last_line("counts")), "{\"unread-reset\":3}");
}

static void test_nowhere(void **state)
{
    (void)state;
    struct settings s = settings_for(LEVEL_INFO, 10, REPORT_ALWAYS);
    begin(s);
    s.log = LOG_NONE;
    sink_open(&s);
    report_start(&s, "x");
    assert_false(report_wants(EVENT_UNREAD_RESET));
    tell(EVENT_UNREAD_RESET, 1, 1);
    report_summary(NULL, 0);
    assert_int_equal(read_log(), 0);
}

// Lines that a full pipe did not take are counted, and told when it does.
static void test_lost(void **state)
{
    (void)state;
    int pipe_ends[2], saved = dup(STDERR_FILENO);
    struct settings s = settings_for(LEVEL_WARNING, 2, REPORT_AUTO);
    static char buffer[1 << 16];
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    dup2(pipe_ends[1], STDERR_FILENO);
    s.log = LOG_STDERR;
    sink_open(&s);
    report_start(&s, "x");
    while (write(pipe_ends[1], buffer, 4096) > 0) continue;
    tell(EVENT_UNREAD_RESET, 1, 5); // two are lost, three held back
    while (read(pipe_ends[0], buffer, sizeof buffer) > 0) continue;
    tell(EVENT_UNREAD_RESET, 2, 1);
    ssize_t n = read(pipe_ends[0], buffer, sizeof buffer);
    tell(EVENT_UNREAD_RESET, 2, 1);
    report_summary(NULL, 0);
    ssize_t more = read(pipe_ends[0], buffer + n, sizeof buffer - (size_t)n);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    assert_true(n > 0 && more > 0 && json_is_line(buffer, (size_t)n));
    assert_non_null(strstr(json_get(buffer, buffer + n, "text"), "; 2 earlier lines could not be written\""));
    char *summary = (char *)memchr(buffer + n, '\n', (size_t)more) + 1;
    assert_null(strstr(json_get(buffer + n, summary, "text"), "could not")); // told once
    assert_true(json_is_line(summary, (size_t)(buffer + n + more - summary)));
    assert_string_equal(json_get(summary, buffer + n + more, "text"),
                        "\"7 unread-reset; 3 lines held back by PRECLOSE_RATE; 2 lines could not be "
                        "written\"");
}

enum { WRITERS = 4, WRITES = 500 };

static void *write_many(void *unused)
{
    (void)unused;
    tell(EVENT_CLOSE, 1, WRITES);
    tell(EVENT_UNREAD_RESET, 1, WRITES);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t writers[WRITERS];
    begin(settings_for(LEVEL_INFO, 5, REPORT_AUTO));
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_many, NULL), 0);
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
    report_summary(NULL, 0);
    assert_int_equal(read_log(), WRITERS * WRITES + 5 + 1);
    assert_string_equal(last_line("counts"), "{\"unread-reset\":2000,\"close\":2000}");
}

static int start(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    close(fd);
    list_keys();
    return fd < 0;
}

static int end(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),    cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_threads_that_fit),
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_told_with_it), cmocka_unit_test(test_fields),
        cmocka_unit_test(test_used_fields),
        cmocka_unit_test(test_close_wait_fields), cmocka_unit_test(test_leaks),
        cmocka_unit_test(test_leak_has_its_place),
        cmocka_unit_test(test_nothing_known), cmocka_unit_test(test_times),
        cmocka_unit_test(test_random_bytes), cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_levels),       cmocka_unit_test(test_rate_limit),
        cmocka_unit_test(test_late_use_has_its_place), cmocka_unit_test(test_summary),
        cmocka_unit_test(test_child),        cmocka_unit_test(test_nowhere),
        cmocka_unit_test(test_lost),         cmocka_unit_test(test_threads),
    };
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGPIPE);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    return cmocka_run_group_tests_name("report", tests, start, end);
}
