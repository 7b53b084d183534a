// Raw system calls: what preclose asks of the kernel for itself.
//
// The library exports close, fcntl, syscall and the like, so calling those names would enter it again;
// libraries preloaded beside it may wrap them too. These calls go straight to the kernel, return its
// answer or -errno, and leave errno alone. All are async-signal-safe and take no lock.
#ifndef PRECLOSE_SYS_H
#define PRECLOSE_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#else
#error "preclose knows the system call convention of x86_64 and aarch64 only"
#endif

static inline long sys_call(long nr, long a, long b, long c)
{
    return sys_call6(nr, a, b, c, 0, 0, 0);
}

static inline long sys_call4(long nr, long a, long b, long c, long d)
{
    return sys_call6(nr, a, b, c, d, 0, 0);
}

#endif
