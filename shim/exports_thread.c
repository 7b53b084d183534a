// The ways a program gets a thread and loses one, and moves to where no other thread may be.
#include "exports.h"

#include <pthread.h>
#include <sched.h>

#include "watch.h"

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg)
{
    int err = real()->pthread_create(thread, attributes, start, arg);
    // The last thread that a limit allows may have been ours.
    if (err == EAGAIN && watch_give_way()) err = real()->pthread_create(thread, attributes, start, arg);
    if (!err) watch_new_thread();
    return err;
}

EXPORT _Noreturn void pthread_exit(void *value)
{
    watch_thread_exit();
    real()->pthread_exit(value);
    __builtin_unreachable();
}

EXPORT int setns(int fd, int type)
{
    bool barred = watch_bar();
    int ret = real()->setns(fd, type);
    watch_unbar(barred);
    return ret;
}
