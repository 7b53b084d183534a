// The socket options that the user asked for: set where the program has left them out, and nowhere else.
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "options.h"

static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t n = sizeof value;
    getsockopt(fd, level, name, &value, &n);
    return value;
}

static long timeout_ms(int fd)
{
    struct timeval t = {-1, 0};
    socklen_t n = sizeof t;
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &n);
    return t.tv_sec * 1000 + t.tv_usec / 1000;
}

static int listener(struct sockaddr_in *a)
{
    *a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof *a;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l, (struct sockaddr *)a, sizeof *a), 0);
    assert_int_equal(listen(l, 4), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)a, &n), 0);
    return l;
}

static int client(const struct sockaddr_in *a)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)a, sizeof *a), 0);
    return fd;
}

static const struct settings all = {.keepalive = {60, 10, 5}, .recv_timeout_ms = 1500, .reuseaddr = 1};

static void nothing_is_asked_for(void **state)
{
    (void)state;
    const struct settings none = {.drain_ms = 1000};
    options_start(&none);
    assert_false(options_for_bind());
    assert_false(options_for_connections());
    struct sockaddr_in a;
    int l = listener(&a), fd = client(&a);
    options_on_connection(fd);
    options_before_bind(l);
    assert_int_equal(get(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_int_equal(timeout_ms(fd), 0);
    assert_int_equal(get(l, SOL_SOCKET, SO_REUSEADDR), 0);
    close(fd);
    close(l);
}

static void a_connection_gets_them(void **state)
{
    (void)state;
    struct sockaddr_in a;
    int l = listener(&a), fd = client(&a);
    options_start(&all);
    assert_true(options_for_bind());
    assert_true(options_for_connections());
    options_on_connection(fd);
    assert_int_equal(get(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPCNT), 5);
    assert_int_equal(timeout_ms(fd), 1500);
    close(fd);
    close(l);
}

static void what_the_program_has_set_stays(void **state)
{
    (void)state;
    struct sockaddr_in a;
    int l = listener(&a), fd = client(&a), interval = 77, one = 1;
    struct timeval t = {.tv_sec = 9};
    options_start(&all);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    options_on_connection(fd);
    assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPINTVL), 77);
    assert_int_equal(timeout_ms(fd), 9000);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    options_on_connection(fd); // again, as for a connect that is called again
    assert_int_equal(get(fd, IPPROTO_TCP, TCP_KEEPINTVL), 77);
    close(fd);
    close(l);
}

// Neither a listener, whose accept would time out, nor what is not TCP, nor no socket at all.
static void nothing_else_is_touched(void **state)
{
    (void)state;
    struct sockaddr_in a;
    int sv[2], pipe_ends[2], l = listener(&a), u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(pipe(pipe_ends), 0);
    options_start(&all);
    const int others[] = {l, u, unconnected, sv[0]};
    for (unsigned i = 0; i < 4; i++) {
        options_on_connection(others[i]);
        assert_int_equal(get(others[i], SOL_SOCKET, SO_KEEPALIVE), 0);
        assert_int_equal(timeout_ms(others[i]), 0);
    }
    options_before_bind(u);
    options_before_bind(sv[0]);
    assert_int_equal(get(u, SOL_SOCKET, SO_REUSEADDR), 0);
    assert_int_equal(get(sv[0], SOL_SOCKET, SO_REUSEADDR), 0);
    options_before_bind(unconnected);
    assert_int_equal(get(unconnected, SOL_SOCKET, SO_REUSEADDR), 1);
    errno = 4242;
    options_on_connection(pipe_ends[0]);
    options_before_bind(-1);
    assert_int_equal(errno, 4242);
    const int opened[] = {l, u, unconnected, sv[0], sv[1], pipe_ends[0], pipe_ends[1]};
    for (unsigned i = 0; i < sizeof opened / sizeof *opened; i++) close(opened[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_asked_for),
        cmocka_unit_test(a_connection_gets_them),
        cmocka_unit_test(what_the_program_has_set_stays),
        cmocka_unit_test(nothing_else_is_touched),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
