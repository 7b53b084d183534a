// Hazard 5: one connection on descriptors 0, 1 and 2, as inetd gives it. A thread is blocked on one of them when the
// program closes that one: worth a proof, but the other two are holds as well, whoever else lives.
#include "hostile.h"

enum { VERDICT = 30, GO = 31 }; // what the started program has besides the connection

static void wait_for_go(void)
{
    char byte;
    expect(read(GO, &byte, 1) == 1);
}

static int serve(int fd)
{
    struct receiver r;
    verdict_fd = VERDICT;
    start_receiver(&r, fd);
    wait_for_go(); // whoever started us has let go of it by now
    must(close(fd));
    for (int other = 0; other < 3; other++)
        if (other != fd && send(other, "x", 1, MSG_NOSIGNAL) != 1)
            fail("close(%d) cut the connection that descriptor %d still holds", fd, other);
    wait_for_go();
    if (!comes_back(&r, DEADLINE_MS)) fail("the byte that was sent to the thread has not come");
    if (r.got != 1) fail("close(%d) ended the receive on a connection that lives", fd);
    return 0;
}

static void inetd(long how)
{
    int sv[2], go[2];
    char number[] = {(char)('0' + (how & 3)), '\0'};
    if (how & 4) pair(sv);
    else tcp_pair(sv);
    must(pipe2(go, O_CLOEXEC));
    pid_t pid = must(fork());
    if (!pid) {
        must(dup2(STDOUT_FILENO, VERDICT));
        must(dup2(go[0], GO));
        for (int fd = 0; fd < 3; fd++) must(dup2(sv[0], fd));
        must(close_range(3, VERDICT - 1, 0));
        char *argv[] = {(char[]){"serve"}, number, NULL};
        execv("/proc/self/exe", argv);
        _exit(126);
    }
    must(close(go[0]));
    must(close(sv[0])); // the child holds it alone
    must(write(go[1], "g", 1));
    for (int n = 0; n < 2; n++)
        if (peer_sees(sv[1], DEADLINE_MS) != 'd') fail("close(%s) cut a connection that two others hold", number);
    expect(send(sv[1], "y", 1, MSG_NOSIGNAL) == 1);
    must(write(go[1], "g", 1));
    reap(pid, "the started program", DEADLINE_MS);
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
}

int main(int argc, char **argv)
{
    if (argc > 1) return serve(atoi(argv[1]));
    need_library();
    for (long fd = 0; fd < 3; fd++) {
        in_child("a tcp connection on 0, 1 and 2", 10000, inetd, fd);
        in_child("a unix connection on 0, 1 and 2", 10000, inetd, fd | 4);
    }
    return 0;
}
