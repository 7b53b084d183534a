// The functions behind the names that preclose exports: those of the next library in line, be it libc or
// another preloaded one. Only this room knows dlsym.
#ifndef PRECLOSE_REAL_H
#define PRECLOSE_REAL_H

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

struct real {
#define REAL(ret, name, params) ret(*name) params;
#define REAL_SINCE(minor, ret, name, params) REAL(ret, name, params)
#include "real.def"
#undef REAL
#undef REAL_SINCE
};

extern struct real real_functions;
extern _Atomic bool real_loaded;

// Looks all of them up (dlsym(3) with RTLD_NEXT). Not async-signal-safe, which is why the constructor does it;
// a call that comes before, from the constructor of another library, does it then. While this thread is
// in it (the loader's malloc may itself open sockets), system calls go straight to the kernel.
void real_load(void);

// What libc has by this name since glibc 2.minor; NULL if this one is older. Not async-signal-safe.
void *real_optional(unsigned minor, const char *name);

// Is a shared object whose path has this in it loaded now? Not async-signal-safe.
bool real_has_object(const char *part);

// The functions, looked up. Async-signal-safe once loaded. real_functions.close, __close and .dup may be called as
// they are: they look themselves up.
static inline const struct real *real(void)
{
    if (!atomic_load_explicit(&real_loaded, memory_order_acquire)) real_load();
    return &real_functions;
}

#endif
