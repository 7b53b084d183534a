// timeout: 60
// env: PRECLOSE_CLOSE_WAIT=20ms
// Hazard 27: the library's own thread is at rest while another forks: it holds nothing that the child would miss.
#include "watcher.h"

enum { FORKS = 3000, CONNECTIONS = 3000 };

static void close_one(int fd)
{
    if (close(fd)) raw_exit(21);
    raw_exit(0);
}

// The child's table is whole, however busy it is: what the child closes is told, from what the table knows.
static void children_have_a_whole_table(long arg)
{
    struct rlimit limit = {8192, 8192};
    int sv[2], fds[CONNECTIONS];
    (void)arg;
    must(setrlimit(RLIMIT_NOFILE, &limit));
    pthread_t t = start_worker();
    for (int i = 0; i < CONNECTIONS; i++) {
        tcp_pair(sv);
        fds[i] = sv[1];
        raw_close(sv[0]); // CLOSE_WAIT: each round looks it up
    }
    wait_watcher("before the forks");
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = must(fork());
        if (!pid) close_one(fds[i]);
        int status;
        must(waitpid(pid, &status, 0));
        if (status) fail("a child ended with %x", (unsigned)status);
    }
    end_worker(t);
}

static void check_log(void)
{
    const char *path = getenv("PRECLOSE_LOG");
    char *text = path ? text_of(path) : NULL;
    unsigned n = 0;
    if (!text || !library_here()) return;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        n += strstr(line, "\"event\":\"close\"") && strstr(line, "\"state\":\"close-wait\"") && strstr(line, "\"reason\":\"shared\"");
    if (n != FORKS) fail("%u closes of children told, not %u", n, FORKS);
}

int main(void)
{
    need_library();
    in_child("forks", 50000, children_have_a_whole_table, 0);
    check_log();
    return 0;
}
