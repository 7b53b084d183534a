// What stands in the way of a bind, held against what the kernel lets be bound.
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inuse.h"
#include "wait.h"

static bool own_network; // its ports are ours alone

static int make_own_network(void **state)
{
    (void)state;
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    if (unshare(CLONE_NEWNET)) return 0;
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    own_network = !ioctl(s, SIOCSIFFLAGS, &lo);
    close(s);
    return own_network ? 0 : -1;
}

static void need_own_network(void)
{
    if (own_network) return;
    print_message("skipped: no network namespace of its own may be made here\n");
    skip();
}

static const struct wanted {
    const char *ip;
    int only6;
} wanted[] = {
    {"0.0.0.0", 0}, {"127.0.0.1", 0}, {"127.0.0.2", 0}, {"::", 0}, {"::", 1}, {"::1", 0}, {"::1", 1},
    {"::ffff:127.0.0.1", 0}, {"::ffff:0.0.0.0", 0},
};

enum { WANTED = sizeof wanted / sizeof *wanted };

static struct address address_of(const char *ip, uint16_t port)
{
    struct address a = {.len = sizeof a.u.in};
    a.u.in.sin_family = AF_INET;
    a.u.in.sin_port = htons(port);
    if (inet_pton(AF_INET, ip, &a.u.in.sin_addr) == 1) return a;
    a = (struct address){.len = sizeof a.u.in6};
    a.u.in6.sin6_family = AF_INET6;
    a.u.in6.sin6_port = htons(port);
    assert_int_equal(inet_pton(AF_INET6, ip, &a.u.in6.sin6_addr), 1);
    return a;
}

static int socket_for(const struct wanted *w)
{
    int s = socket(strchr(w->ip, ':') ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0) skip(); // no IPv6 here
    if (strchr(w->ip, ':')) setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &w->only6, sizeof w->only6);
    return s;
}

static int bind_to(const struct wanted *w, uint16_t port, bool *bound)
{
    int s = socket_for(w);
    struct address a = address_of(w->ip, port);
    *bound = bind(s, &a.u.any, a.len) == 0;
    if (!*bound && errno == EADDRNOTAVAIL) skip(); // no IPv6 on the loopback
    if (!*bound) assert_int_equal(errno, EADDRINUSE);
    return s;
}

static uint16_t port_of(int s)
{
    struct sockaddr_in6 a;
    socklen_t n = sizeof a;
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &n), 0);
    return ntohs(a.sin6_port);
}

// Every pair of addresses, with a listener on the first: the kernel refuses the second exactly if they overlap, and
// then the listener is what is found.
static void addresses_overlap_as_the_kernel_says(void **state)
{
    (void)state;
    need_own_network();
    for (int i = 0; i < WANTED; i++)
        for (int k = 0; k < WANTED; k++) {
            const struct wanted *has = &wanted[i], *wants = &wanted[k];
            bool free;
            int l = bind_to(has, 0, &free);
            assert_true(free && listen(l, 1) == 0);
            uint16_t port = port_of(l);
            int s = bind_to(wants, port, &free);
            struct address a = address_of(has->ip, port), b = address_of(wants->ip, port);
            if (inuse_overlap(&b, wants->only6, &a, has->only6) == free)
                fail_msg("%s,%d has it, %s,%d %s it", has->ip, has->only6, wants->ip, wants->only6,
                         free ? "gets" : "does not get");
            struct in_use u;
            close(s);
            s = socket_for(wants);
            inuse_ask(s, probe_kind(s), &b, &u);
            assert_true(u.known && u.whole && !u.any_port && !u.waiting && !u.closing && !u.others);
            assert_int_equal(u.listeners, !free);
            if (!free) assert_true(u.first.cookie == probe_cookie(l) && u.first.state == TCP_STATE_LISTEN);
            if (!free) assert_int_equal(u.first.uid, geteuid());
            close(s);
            close(l);
        }
}

// A connection of a port whose listener is gone, closed on the side that has the port.
static void connection(int *server, int *client, struct address *a)
{
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *a = address_of("127.0.0.1", 0);
    assert_int_equal(bind(l, &a->u.any, a->len), 0);
    assert_int_equal(listen(l, 1), 0);
    *a = address_of("127.0.0.1", port_of(l));
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*client, &a->u.any, a->len), 0);
    *server = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    assert_true(*server >= 0);
    close(l);
}

static void ask(const struct address *a, struct in_use *u)
{
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(bind(s, &a->u.any, a->len) < 0 && errno == EADDRINUSE);
    inuse_ask(s, KIND_TCP, a, u);
    close(s);
    assert_true(u->known && u->whole);
}

static void a_connection_is_told_from_time_wait(void **state)
{
    (void)state;
    need_own_network();
    int server, client;
    struct address a;
    struct in_use u;
    connection(&server, &client, &a);
    ask(&a, &u);
    assert_true(!u.listeners && u.others == 1 && !u.waiting && !u.closing);
    assert_true(u.first.state == TCP_STATE_ESTABLISHED && u.first.peer.len);
    close(server); // the client has not closed: FIN_WAIT2, and no process has it
    WAIT_UNTIL(recv(client, &(char){0}, 1, MSG_DONTWAIT) == 0);
    ask(&a, &u);
    assert_true(!u.listeners && !u.others && !u.waiting && u.closing == 1);
    close(client);
    do ask(&a, &u);
    while (!u.waiting && u.closing == 1);
    assert_true(!u.listeners && !u.others && u.waiting == 1 && !u.closing);
}

static void any_port_is_not_a_port(void **state)
{
    (void)state;
    need_own_network();
    struct address a = address_of("127.0.0.1", 0);
    struct in_use u;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inuse_ask(s, KIND_TCP, &a, &u);
    assert_true(u.any_port && !u.listeners && !u.others && !u.waiting);
    close(s);
}

static void count(void *context, const struct diag_socket *s)
{
    assert_int_equal(s->state, TCP_STATE_TIME_WAIT);
    ++*(unsigned *)context;
}

// More than one message of the kernel's holds.
static void a_long_answer_is_read_to_its_end(void **state)
{
    (void)state;
    need_own_network();
    enum { MANY = 400 };
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct address a = address_of("127.0.0.1", 0);
    assert_int_equal(bind(l, &a.u.any, a.len), 0);
    assert_int_equal(listen(l, 8), 0);
    a = address_of("127.0.0.1", port_of(l));
    for (int i = 0; i < MANY; i++) {
        int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(c, &a.u.any, a.len), 0);
        int s = accept4(l, NULL, NULL, SOCK_CLOEXEC);
        close(s);
        assert_int_equal(recv(c, &(char){0}, 1, 0), 0);
        close(c);
    }
    unsigned n = 0;
    assert_int_equal(diag_tcp_port(AF_INET, port_of(l), 1u << TCP_STATE_TIME_WAIT, count, &n), 0);
    assert_int_equal(n, MANY);
    close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_overlap_as_the_kernel_says),
        cmocka_unit_test(a_connection_is_told_from_time_wait),
        cmocka_unit_test(any_port_is_not_a_port),
        cmocka_unit_test(a_long_answer_is_read_to_its_end),
    };
    return cmocka_run_group_tests_name("inuse", tests, make_own_network, NULL);
}
