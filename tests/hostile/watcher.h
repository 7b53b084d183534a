// What the tests of the library's own thread use.
#ifndef WATCHER_H
#define WATCHER_H

#include "hostile.h"

enum { SOON_MS = 4000, TICK_MS = 50 };

// How many threads of ours there are; the last one's number in *tid.
HELPER unsigned watchers(pid_t *tid)
{
    char path[64], name[32];
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%.16s/comm", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : read(fd, name, sizeof name);
        if (fd >= 0) raw_close(fd);
        if (got != 9 || memcmp(name, "preclose\n", 9)) continue;
        n++;
        if (tid) *tid = atoi(e->d_name);
    }
    if (dir) closedir(dir);
    return n;
}

HELPER unsigned tasks(void)
{
    struct stat st;
    must(stat("/proc/self/task", &st));
    return (unsigned)st.st_nlink - 2;
}

HELPER pid_t wait_watcher(const char *when)
{
    pid_t tid = 0;
    if (!library_here()) skip("nothing to see without the library");
    for (int64_t end = now_ms() + SOON_MS; watchers(&tid) != 1; look_again())
        if (now_ms() > end) fail("%s: no thread of ours comes", when);
    return tid;
}

HELPER void wait_none(const char *when)
{
    for (int64_t end = now_ms() + SOON_MS; watchers(NULL); look_again())
        if (now_ms() > end) {
            char where[600];
            where_it_hangs(getpid(), where, sizeof where);
            fail("%s: it stays (%s; the next descriptor is %d)", when, where, dup(0));
        }
}

HELPER void never_comes(const char *when)
{
    for (int64_t end = now_ms() + 4 * TICK_MS; now_ms() < end; look_again())
        if (watchers(NULL)) fail("%s: there is a thread of ours", when);
}

// A thread of the program's that waits to be told to end.
HELPER _Atomic bool end_all, worker_runs;

HELPER void *worker(void *arg)
{
    atomic_store(&worker_runs, true);
    while (!atomic_load(&end_all)) look_again();
    return arg;
}

HELPER pthread_t start_worker(void)
{
    atomic_store(&end_all, false);
    atomic_store(&worker_runs, false);
    pthread_t t = start_thread(worker, NULL);
    while (!atomic_load(&worker_runs)) sched_yield();
    return t;
}

HELPER void end_worker(pthread_t t)
{
    atomic_store(&end_all, true);
    pthread_join(t, NULL);
    for (int64_t end = now_ms() + SOON_MS; tasks() > 1 + watchers(NULL); look_again())
        if (now_ms() > end) fail("a thread that has ended is still there");
}

HELPER void close_pair(const int sv[2])
{
    must(close(sv[0]));
    must(close(sv[1]));
}

// A number of /proc/self/task/TID/status; 0 if there is none.
HELPER uint64_t status_of(pid_t tid, const char *key, int base)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)tid);
    char *text = text_of(path), *at = strstr(text, key);
    uint64_t value = at ? strtoull(at + strlen(key), NULL, base) : 0;
    free(text);
    return value;
}

#endif
