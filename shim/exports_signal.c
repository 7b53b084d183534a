// The ways a program gets a signal handler, or lets a thread be cancelled at any instruction: from then on preclose
// works with signals blocked. Noted before the call, as the signal may be pending already.
#include "exports.h"

#include <pthread.h>
#include <signal.h>

#include "guard.h"

typedef void handler(int);

// glibc has them by these names too.
handler *bsd_signal(int, handler *);
handler *__sysv_signal(int, handler *);
handler *sysv_signal(int, handler *);

static void note(handler *h)
{
    if (h != SIG_DFL && h != SIG_IGN) guard_handlers();
}

static int act(int sig, const struct sigaction *action, struct sigaction *old)
{
    if (action) note(action->sa_handler);
    return real()->sigaction(sig, action, old);
}

EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return act(sig, action, old);
}

EXPORT int __sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return act(sig, action, old);
}

EXPORT handler *signal(int sig, handler *h)
{
    note(h);
    return real()->signal(sig, h);
}

EXPORT handler *ssignal(int sig, handler *h)
{
    note(h);
    return real()->signal(sig, h);
}

EXPORT handler *bsd_signal(int sig, handler *h)
{
    note(h);
    return real()->signal(sig, h);
}

EXPORT handler *sysv_signal(int sig, handler *h)
{
    note(h);
    return real()->sysv_signal(sig, h);
}

EXPORT handler *__sysv_signal(int sig, handler *h)
{
    note(h);
    return real()->sysv_signal(sig, h);
}

EXPORT handler *sigset(int sig, handler *h)
{
    note(h);
    return real()->sigset(sig, h);
}

EXPORT int pthread_setcanceltype(int type, int *old)
{
    if (type == PTHREAD_CANCEL_ASYNCHRONOUS) guard_handlers();
    return real()->pthread_setcanceltype(type, old);
}
