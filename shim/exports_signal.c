// The ways a program gets a signal handler, or lets a thread be cancelled at any instruction: from then on preclose
// works with signals blocked. Noted before the call, as the signal may be pending already.
#include "exports.h"

#include <pthread.h>
#include <signal.h>

#include "guard.h"
#include "threads.h"

// glibc has them by these names too.
sighandler_t bsd_signal(int, sighandler_t );
sighandler_t __sysv_signal(int, sighandler_t );
sighandler_t sysv_signal(int, sighandler_t );

static void note(sighandler_t h)
{
    if (h != SIG_DFL && h != SIG_IGN) guard_handlers();
}

static void changed(int sig)
{
    if (sig == SIGPIPE) threads_sigpipe_changes();
}

static int act(int sig, const struct sigaction *action, struct sigaction *old)
{
    if (action) note(action->sa_handler);
    int ret = real()->sigaction(sig, action, old);
    if (action) changed(sig);
    return ret;
}

EXPORT int sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return act(sig, action, old);
}

EXPORT int __sigaction(int sig, const struct sigaction *action, struct sigaction *old)
{
    return act(sig, action, old);
}

static sighandler_t set(sighandler_t (*next)(int, sighandler_t), int sig, sighandler_t h)
{
    note(h);
    sighandler_t old = next(sig, h);
    changed(sig);
    return old;
}

EXPORT sighandler_t signal(int sig, sighandler_t h)
{
    return set(real()->signal, sig, h);
}

EXPORT sighandler_t ssignal(int sig, sighandler_t h)
{
    return set(real()->signal, sig, h);
}

EXPORT sighandler_t bsd_signal(int sig, sighandler_t h)
{
    return set(real()->signal, sig, h);
}

EXPORT sighandler_t sysv_signal(int sig, sighandler_t h)
{
    return set(real()->sysv_signal, sig, h);
}

EXPORT sighandler_t __sysv_signal(int sig, sighandler_t h)
{
    return set(real()->sysv_signal, sig, h);
}

EXPORT sighandler_t sigset(int sig, sighandler_t h)
{
    return set(real()->sigset, sig, h);
}

EXPORT int pthread_setcanceltype(int type, int *old)
{
    if (type == PTHREAD_CANCEL_ASYNCHRONOUS) guard_handlers();
    return real()->pthread_setcanceltype(type, old);
}
