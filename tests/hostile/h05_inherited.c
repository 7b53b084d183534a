// Hazard 5: sockets from whoever started the program: 0 to 2, and others, as inetd and systemd hand them over. The
// starter still holds them. What this program closes ends nothing of the starter's.
#include "hostile.h"

enum { NUMBERS = 6 };
static const int numbers[NUMBERS] = {0, 3, 4, 17, 250, 1100}; // where the program finds its connections

// The started program: lets go of what it was given in one way or another, after having used it.
static int started(const char *route)
{
    char byte;
    for (int i = 0; i < NUMBERS; i++) expect(read(numbers[i], &byte, 1) == 1 && write(numbers[i], "x", 1) == 1);
    if (!strcmp(route, "close")) {
        for (int i = 0; i < NUMBERS; i++) must(close(numbers[i]));
    } else if (!strcmp(route, "dup2")) {
        for (int i = 0; i < NUMBERS; i++) must(dup2(STDOUT_FILENO, numbers[i]));
    } else if (!strcmp(route, "fclose")) {
        must(fclose(stdin));
        for (int i = 1; i < NUMBERS; i++) must(fclose(fdopen(numbers[i], "r+")));
    } else if (!strcmp(route, "freopen")) {
        expect(freopen("/dev/null", "r", stdin));
        for (int i = 1; i < NUMBERS; i++) expect(freopen("/dev/null", "r", fdopen(numbers[i], "r+")));
    } else if (!strcmp(route, "closefrom")) {
        must(close(0));
        closefrom(3);
    } else if (!strcmp(route, "duplicates")) {
        // The usual: the connection becomes 1, the original goes.
        int kept = must(dup(STDOUT_FILENO));
        for (int i = 0; i < NUMBERS; i++) {
            must(dup2(numbers[i], STDOUT_FILENO));
            must(close(numbers[i]));
            expect(write(STDOUT_FILENO, "y", 1) == 1);
        }
        must(dup2(kept, STDOUT_FILENO));
    } else if (!strcmp(route, "threads")) {
        // A thread is blocked on each: worth a proof, which finds the starter.
        for (int i = 0; i < NUMBERS; i++) {
            static struct receiver r[NUMBERS];
            start_receiver(&r[i], numbers[i]);
            must(close(numbers[i]));
        }
        if (write(STDOUT_FILENO, "closed\n", 7) != 7) return 1;
        raw_exit(0);
    } else if (!strcmp(route, "exit")) {
        return 0;
    }
    if (write(STDOUT_FILENO, "closed\n", 7) != 7) return 1;
    return 0;
}

static void start(const char *route, bool tcp)
{
    int ours[NUMBERS], other[NUMBERS], out[2];
    for (int i = 0; i < NUMBERS; i++) {
        int sv[2];
        if (tcp) tcp_pair(sv);
        else pair(sv);
        ours[i] = must(fcntl(sv[0], F_DUPFD_CLOEXEC, 2000)); // the starter's hold, out of the way
        other[i] = must(fcntl(sv[1], F_DUPFD_CLOEXEC, 2000));
        raw_close(sv[0]);
        raw_close(sv[1]);
        expect(send(other[i], "h", 1, MSG_NOSIGNAL) == 1);
    }
    must(pipe2(out, O_CLOEXEC));
    pid_t pid = must(fork());
    if (!pid) {
        must(dup2(out[1], STDOUT_FILENO));
        for (int i = 0; i < NUMBERS; i++) must(dup2(ours[i], numbers[i]));
        char *argv[] = {(char[]){"self"}, (char[]){"started"}, (char *)(uintptr_t)route, NULL};
        execv("/proc/self/exe", argv);
        _exit(126);
    }
    reap(pid, route, DEADLINE_MS);
    must(close(out[1]));
    for (int i = 0; i < NUMBERS; i++) {
        char bytes[8];
        ssize_t n = recv(other[i], bytes, sizeof bytes, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN)) fail("%s: descriptor %d was cut for its starter", route, numbers[i]);
        if (peer_sees(other[i], 5) != '-') fail("%s: descriptor %d was cut for its starter", route, numbers[i]);
        if (!both_ways(ours[i], other[i])) fail("%s: descriptor %d no longer works", route, numbers[i]);
        raw_close(ours[i]);
        raw_close(other[i]);
    }
    raw_close(out[0]);
}

int main(int argc, char **argv)
{
    if (argc > 2) return started(argv[2]);
    static const char *const routes[] = {"close", "dup2", "fclose", "freopen", "closefrom", "duplicates", "threads", "exit"};
    need_library();
    for (unsigned r = 0; r < sizeof routes / sizeof *routes; r++)
        for (int tcp = 0; tcp < 2; tcp++) start(routes[r], tcp);
    return 0;
}
