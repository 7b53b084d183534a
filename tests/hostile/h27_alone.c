// timeout: 60
// env: PRECLOSE_CLOSE_WAIT=60s PRECLOSE_WATCH=thread
// Hazard 27: the library's own thread in a program that has none, where the user has asked for it: the program
// counts as alone, may do what only such a one may, and ends as it would.
#include "watcher.h"

static void comes_and_goes(long arg)
{
    int sv[2];
    (void)arg;
    struct sockaddr_in at;
    int l = listener_on(&at);
    for (int64_t end = now_ms() + 200; now_ms() < end; look_again())
        if (watchers(NULL)) fail("it is there for a listener");
    tcp_pair(sv);
    wait_watcher("the first connection");
    close_pair(sv);
    wait_none("there is no connection any more");
    must(close(l));
}

static void enters_a_namespace(long how)
{
    int sv[2];
    tcp_pair(sv);
    if (library_here()) wait_watcher("before unshare");
    long ret = how % 2 ? syscall(SYS_unshare, CLONE_NEWUSER) : unshare(CLONE_NEWUSER);
    if (ret < 0 && errno != EINVAL) skip("no user namespaces here: %s", strerror(errno));
    expect(ret == 0);
    expect(both_ways(sv[0], sv[1]));
    if (library_here()) wait_watcher("after unshare");
}

// A table that only it would still hold: what is in it would never be closed.
static void keeps_no_table(long how)
{
    int sv[2], ends[2];
    char byte;
    tcp_pair(sv);
    if (library_here()) wait_watcher("before the table is parted");
    must(pipe(ends));
    if (how == 0) must(unshare(CLONE_FILES));
    if (how == 0) must(close(ends[1]));
    if (how == 1) must((int)syscall(SYS_close_range, ends[1], ends[1], 2 /* CLOSE_RANGE_UNSHARE */));
    if (how == 2) must(close_range((unsigned)ends[1], (unsigned)ends[1], 2));
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    if (poll(&p, 1, DEADLINE_MS) != 1 || read(ends[0], &byte, 1) != 0) fail("way %ld: the pipe has a writer still", how);
    expect(both_ways(sv[0], sv[1]));
    must(close(sv[0])); // told with its action: had the table been in doubt, nothing would be done
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
}

// The program's first thread counts from its beginning: a close wakes it.
static void its_first_thread_counts(long arg)
{
    int sv[2], un[2];
    (void)arg;
    tcp_pair(sv);
    if (library_here()) wait_watcher("before the thread");
    pair(un);
    struct receiver r;
    start_receiver(&r, un[0]);
    must(close(un[0]));
    if (library_here() && !comes_back(&r, DEADLINE_MS)) fail("a close does not wake the program's first thread");
}

static void ends_with_main(long how)
{
    int ends[2];
    must(pipe(ends));
    pid_t pid = must(fork());
    if (!pid) {
        int sv[2];
        tcp_pair(sv);
        if (library_here()) wait_watcher("before the end");
        int64_t now = now_ms();
        must(write(ends[1], &now, sizeof now));
        if (how == 0) pthread_exit(NULL);
        if (how == 1) raw(SYS_exit, 0, 0, 0);
        if (how == 2) exit(0);
        if (how == 3) _exit(0);
        quick_exit(0);
    }
    int64_t ended;
    expect(read(ends[0], &ended, sizeof ended) == sizeof ended);
    reap(pid, "a process without threads", 8000);
    int took = (int)(now_ms() - ended);
    if (took > (how == 1 ? 1500 : 100)) fail("way %ld: %d ms later", how, took);
}

static void check_log(void)
{
    const char *path = getenv("PRECLOSE_LOG");
    char *text = path ? text_of(path) : NULL;
    unsigned n = 0;
    if (!text || !library_here()) return;
    if (count_of(text, "\"event\":\"blocked-threads\"") != 1) fail("the thread that a close has woken is not told");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        n += strstr(line, "\"event\":\"close\"") && strstr(line, "\"state\":\"established\"") && strstr(line, "\"action\":\"none\"");
    if (n) fail("%u connections left as if threads were there", n);
}

int main(void)
{
    need_library();
    in_child("comes and goes", 10000, comes_and_goes, 0);
    for (long how = 0; how < 2; how++) in_child("unshare", 10000, enters_a_namespace, how);
    for (long how = 0; how < 3; how++) in_child("tables", 15000, keeps_no_table, how);
    in_child("first thread", 10000, its_first_thread_counts, 0);
    for (long how = 0; how < 5; how++) in_child("the end", 12000, ends_with_main, how);
    check_log();
    return 0;
}
