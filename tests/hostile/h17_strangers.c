// timeout: 40
// Hazard 17: other libraries beside us that stand behind the same names, before and after us: the same work under each
// (run.py has the list). The next in line is called, nothing recurses, nothing deadlocks.
#include "hostile.h"

#include <netdb.h>

static _Atomic bool over;

static void *work(void *arg)
{
    while (!atomic_load(&over)) {
        void *at = malloc(100 + (size_t)tid_now() % 1000);
        exercise();
        free(at);
    }
    return arg;
}

static void streams(void)
{
    int sv[2];
    char line[20] = "";
    pair(sv);
    FILE *a = fdopen(sv[0], "r+"), *b = fdopen(sv[1], "r+");
    if (!a || !b) fail("fdopen: %s", strerror(errno));
    fputs("in the buffer\n", a);
    expect(!fclose(a));
    expect(fgets(line, sizeof line, b) && !strcmp(line, "in the buffer\n"));
    expect(!fclose(b));
}

static void connections(void)
{
    int sv[2];
    tcp_pair(sv);
    expect(both_ways(sv[0], sv[1]));
    pid_t pid = must(fork());
    if (!pid) {
        must(close(sv[0]));
        exercise();
        _exit(0); // exit would have ASan look for leaks, under locks that other threads may hold at the fork
    }
    reap(pid, "a child", DEADLINE_MS);
    expect(both_ways(sv[0], sv[1]));
    must(close(sv[0]));
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
    must(close(sv[1]));
}

static void others(void)
{
    struct addrinfo *list;
    if (!getaddrinfo("127.0.0.1", "80", NULL, &list)) freeaddrinfo(list);
    FILE *f = popen("exit 0", "r");
    expect(f && pclose(f) == 0);
    expect(system("exit 3") == 3 << 8);
    for (int i = 0; i < 200; i++) free(realloc(calloc(3, (size_t)i + 1), (size_t)i * 100 + 1));
    expect(close(-1) == -1 && errno == EBADF);
}

int main(void)
{
    pthread_t t[3];
    const char *rounds = getenv("HOSTILE_ROUNDS");
    need_library();
    for (int i = 0; i < 3; i++) t[i] = start_thread(work, NULL);
    for (int i = rounds ? atoi(rounds) : 10; i; i--) {
        streams();
        connections();
        others();
    }
    atomic_store(&over, true);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    if (!getenv("HOSTILE_UNSEEN")) still_works("the work");
    return 0;
}
