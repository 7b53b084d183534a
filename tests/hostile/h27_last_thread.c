// timeout: 60
// env: PRECLOSE_CLOSE_WAIT=60s
// Hazard 27: the library's own thread, which looks around once a second, keeps no process alive whose last thread has
// ended, however the main thread has left.
#include "watcher.h"

enum leaving { BY_PTHREAD_EXIT, BY_CANCEL, BY_SYSTEM_CALL, BEFORE_IT_COMES, LEAVINGS };

static int stamps[2];
static pthread_t main_thread;

static void *last_worker(void *arg)
{
    int sv[2];
    long how = (long)arg;
    if (how == BY_CANCEL) pthread_cancel(main_thread);
    while (how != BEFORE_IT_COMES && !status_of(getpid(), "\nState:\tZ", 10) && is_blocked(getpid(), getpid(), -1)) look_again();
    if (how == BEFORE_IT_COMES) tcp_pair(sv);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    int64_t now = now_ms();
    must(write(stamps[1], &now, sizeof now));
    return NULL;
}

static void main_leaves(long how)
{
    int sv[2];
    main_thread = pthread_self();
    if (how != BEFORE_IT_COMES) tcp_pair(sv);
    pthread_t t = start_worker();
    if (how != BEFORE_IT_COMES && library_here()) wait_watcher("before main leaves");
    start_thread(last_worker, (void *)how);
    atomic_store(&end_all, true);
    pthread_join(t, NULL);
    if (how == BY_SYSTEM_CALL) raw(SYS_exit, 0, 0, 0);
    if (how == BY_CANCEL) pause();
    pthread_exit(NULL);
}

// How long a process outlives its last thread.
static void ends_with_its_last_thread(long how)
{
    must(pipe(stamps));
    pid_t pid = must(fork());
    if (!pid) main_leaves(how);
    int64_t ended;
    raw_close(stamps[1]);
    if (read(stamps[0], &ended, sizeof ended) != sizeof ended) fail("the last thread never came to its end");
    reap(pid, "a process without threads", 8000);
    int took = (int)(now_ms() - ended);
    if (took > (how == BY_SYSTEM_CALL || how == BY_CANCEL ? 1500 : 400)) fail("way %ld: %d ms later", how, took);
}

int main(void)
{
    need_library();
    for (long how = 0; how < LEAVINGS; how++) in_child("last thread", 12000, ends_with_its_last_thread, how);
    return 0;
}
