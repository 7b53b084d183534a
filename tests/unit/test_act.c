// What is read and dropped of a connection that is drained.
#include "unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "act.h"
#include "wait.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

// Returns false if this system has no such socket.
static bool tcp_pair(int protocol, int *ours, int *peer)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
    if (l < 0) return false;
    assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&a, &n), 0);
    *peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
    assert_int_equal(connect(*peer, (struct sockaddr *)&a, sizeof a), 0);
    *ours = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    close(l);
    return *ours >= 0;
}

static bool make_pair(const char *kind, int *ours, int *peer)
{
    int sv[2];
    if (strcmp(kind, "unix")) return tcp_pair(strcmp(kind, "mptcp") ? 0 : IPPROTO_MPTCP, ours, peer);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv)) return false;
    *ours = sv[0];
    *peer = sv[1];
    return true;
}

static int queued(int fd)
{
    int n = 0;
    ioctl(fd, SIOCINQ, &n);
    return n;
}

static void bytes_are_dropped(void **state)
{
    (void)state;
    static const char *const kinds[] = {"tcp", "unix", "mptcp"};
    static char block[5000];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        enum kind kind = strcmp(kinds[i], "unix") ? KIND_TCP : KIND_UNIX_STREAM;
        int ours, peer, end = 9;
        if (!make_pair(kinds[i], &ours, &peer)) {
            print_message("         no %s here\n", kinds[i]);
            continue;
        }
        assert_int_equal(act_discard(ours, kind, 100, &end), 0);
        assert_int_equal(end, 0);
        assert_int_equal(send(peer, block, sizeof block, 0), (ssize_t)sizeof block);
        assert_true(WAIT_UNTIL(queued(ours) == (int)sizeof block));
        assert_int_equal(act_discard(ours, kind, 2, &end), 2);
        assert_int_equal(end, 0);
        assert_int_equal(act_discard(ours, kind, 1000000, &end), (int)sizeof block - 2);
        assert_int_equal(end, 0);
        shutdown(peer, SHUT_WR);
        assert_true(WAIT_UNTIL((act_discard(ours, kind, 100, &end), end == 1)));
        close(ours);
        close(peer);
    }
}

// Urgent bytes (MSG_OOB), read or not, do not hold it up.
static void urgent_bytes_are_no_end(void **state)
{
    (void)state;
    int ours, peer, end, one = 1;
    for (int in_line = 0; in_line < 2; in_line++) {
        assert_true(tcp_pair(0, &ours, &peer));
        setsockopt(ours, SOL_SOCKET, SO_OOBINLINE, &one, in_line ? sizeof one : 0);
        assert_int_equal(send(peer, "abc", 3, 0), 3);
        assert_int_equal(send(peer, "!", 1, MSG_OOB), 1);
        assert_int_equal(send(peer, "def", 3, 0), 3);
        shutdown(peer, SHUT_WR);
        int64_t all = 0;
        assert_true(WAIT_UNTIL((all += act_discard(ours, KIND_TCP, 100, &end), end == 1)));
        assert_int_equal(all, 6 + in_line);
        close(ours);
        close(peer);
    }
}

static void an_error_ends_it(void **state)
{
    (void)state;
    int ours, peer, end;
    struct linger reset = {1, 0};
    assert_true(tcp_pair(0, &ours, &peer));
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(peer);
    assert_true(WAIT_UNTIL((act_discard(ours, KIND_TCP, 100, &end), end)));
    assert_int_equal(end, -ECONNRESET);
    close(ours);
    assert_int_equal(act_discard(-1, KIND_TCP, 100, &end), 0);
    assert_int_equal(end, -EBADF);
    int file[2];
    assert_int_equal(pipe(file), 0);
    assert_int_equal(act_discard(file[0], KIND_TCP, 100, &end), 0);
    assert_int_equal(end, -ENOTSOCK);
    close(file[0]);
    close(file[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_dropped),
        cmocka_unit_test(urgent_bytes_are_no_end),
        cmocka_unit_test(an_error_ends_it),
    };
    return cmocka_run_group_tests_name("act", tests, NULL, NULL);
}
