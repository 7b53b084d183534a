// Hazard 15: descriptors closed and numbers reused where no preload sees it. Preclose acts on no socket that is not the
// one it knows, takes none out of an epoll set, and reports nothing about it.
#include "hostile.h"

static void let_go(int fd, unsigned route)
{
    FILE *f;
    switch (route % 6) {
    case 0:
        must(close(fd));
        break;
    case 1:
        must(dup2(STDIN_FILENO, fd));
        break;
    case 2:
        must(close_range((unsigned)fd, (unsigned)fd, 0));
        break;
    case 3:
        must(syscall(SYS_close, fd));
        break;
    case 4:
        f = fdopen(fd, (raw(SYS_fcntl, fd, F_GETFL, 0) & O_ACCMODE) == O_WRONLY ? "w" : "r");
        expect(f && !fclose(f));
        break;
    default:
        must(dup3(STDIN_FILENO, fd, O_CLOEXEC));
    }
}

// The number fd becomes another socket, past the library. other is its end elsewhere.
static void replace(int fd, int by)
{
    expect(raw_close(fd) == 0);
    expect(raw(SYS_dup3, by, fd, 0) == fd);
}

// The new socket is a child's too.
static void shared_with_child(long route)
{
    int a[2], b[2], go[2];
    pair(a);
    if (route & 8) tcp_pair(b);
    else pair(b);
    must(pipe(go));
    pid_t pid = must(fork());
    if (!pid) {
        char byte;
        must(read(go[0], &byte, 1));
        expect(both_ways(b[0], b[1]));
        raw_exit(0);
    }
    int fresh[2];
    pair(fresh); // opened after the fork: known to be this process's alone
    replace(fresh[0], b[0]);
    expect(raw_close(b[0]) == 0);
    struct receiver r;
    if (route & 16) start_receiver(&r, fresh[0]);
    let_go(fresh[0], (unsigned)route);
    if (peer_sees(b[1], 10) != '-') fail("route %ld: a socket that took the number unseen was cut", route);
    if (route & 16) {
        expect(send(b[1], "x", 1, MSG_NOSIGNAL) == 1);
        expect(comes_back(&r, DEADLINE_MS));
    }
    must(write(go[1], "g", 1));
    reap(pid, "the child", DEADLINE_MS);
}

// The new socket lives on under another number of this process that nobody saw either.
static void duplicated_unseen(long route)
{
    int a[2], over[2], b[2];
    pair(a);
    expect(raw6(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (long)b, 0, 0) == 0);
    pair(over);
    replace(a[0], b[0]);
    let_go(a[0], (unsigned)route);
    expect(both_ways(b[0], b[1]));
    // A tracked socket's number becomes a duplicate of another tracked one.
    int c[2], d[2];
    pair(c);
    pair(d);
    replace(c[0], d[0]);
    let_go(c[0], (unsigned)route);
    expect(both_ways(d[0], d[1]));
    must(close(d[0]));
    expect(peer_sees(d[1], DEADLINE_MS) == 'e');
}

// The number becomes a file, a pipe, an epoll set, nothing at all.
static void no_socket(long route)
{
    int sv[2], p[2];
    for (int what = 0; what < 4; what++) {
        pair(sv);
        must(pipe(p));
        expect(raw_close(sv[0]) == 0);
        int fd = what == 0   ? (int)raw6(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR, 0, 0, 0)
                 : what == 1 ? p[1]
                 : what == 2 ? (int)raw(SYS_epoll_create1, 0, 0, 0)
                             : -1;
        if (fd >= 0 && fd != sv[0]) expect(raw(SYS_dup3, fd, sv[0], 0) == sv[0]);
        if (what == 3) {
            expect(close(sv[0]) == -1 && errno == EBADF);
        } else {
            let_go(sv[0], (unsigned)route);
        }
        if (what == 1) expect(write(p[1], "x", 1) == 1);
        raw_close(sv[1]);
        raw_close(p[0]);
        raw_close(p[1]);
    }
    still_works("numbers that became something else");
}

// The set's number is another set now, in which the new socket of the same number waits for its events.
static void stale_set(long arg)
{
    int sv[2], b[2], set = must(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 1}, got;
    (void)arg;
    pair(sv);
    must(epoll_ctl(set, EPOLL_CTL_ADD, sv[0], &e));
    int other = (int)raw(SYS_epoll_create1, 0, 0, 0);
    expect(raw6(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (long)b, 0, 0) == 0);
    replace(set, other);
    replace(sv[0], b[0]);
    e.data.u64 = 2;
    expect(raw6(SYS_epoll_ctl, set, EPOLL_CTL_ADD, sv[0], (long)&e, 0, 0) == 0);
    must(close(sv[0])); // b[0] lives, and its registration with it
    expect(both_ways(b[0], b[1]));
    expect(send(b[1], "x", 1, 0) == 1);
    if (epoll_wait(set, &got, 1, 1000) != 1 || got.data.u64 != 2) fail("a socket was taken out of a set that it was not recorded in");
}

// Closed by libc's own hidden calls.
static void closed_by_libc(long arg)
{
    int sv[2], b[2];
    (void)arg;
    pair(sv);
    FILE *f = fdopen(sv[0], "r+");
    expect(f && fileno(f) == sv[0]);
    expect(!fclose(f));
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
    // Its number is the next socket's, that nobody saw opened.
    expect(raw6(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (long)b, 0, 0) == 0);
    expect(b[0] == sv[0]);
    int kept = (int)raw(SYS_dup, b[0], 0, 0);
    must(close(b[0]));
    expect(both_ways(kept, b[1]));
}

int main(void)
{
    need_library();
    for (long route = 0; route < 32; route++) in_child("shared with a child", 10000, shared_with_child, route);
    for (long route = 0; route < 6; route++) in_child("duplicated unseen", 10000, duplicated_unseen, route);
    for (long route = 0; route < 6; route++) in_child("no socket", 10000, no_socket, route);
    in_child("a stale set", 10000, stale_set, 0);
    in_child("closed by libc", 10000, closed_by_libc, 0);
    // Nothing that would be untrue was told: no finding names a socket that was not the one recorded.
    const char *path = getenv("PRECLOSE_LOG");
    if (!path || !library_here()) return 0;
    char *text = text_of(path);
    expect(count_of(text, "\"reason\":\"stale\"") > 40);
    return 0;
}
