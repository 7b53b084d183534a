// What time it is, as cheaply as the kernel tells it: by its own code in the process's memory (vdso(7)), where there is
// some. Not by libc's clock_gettime, which libraries preloaded beside this one replace.
// All are async-signal-safe and take no lock.
#ifndef PRECLOSE_CLOCK_H
#define PRECLOSE_CLOCK_H

#include <stdint.h>

// Finds the kernel's code. Called once, at start; without it every question is a system call.
void clock_start(void);

// clock_gettime(2): CLOCK_BOOTTIME in milliseconds; CLOCK_MONOTONIC, CLOCK_REALTIME and CLOCK_THREAD_CPUTIME_ID in
// microseconds.
int64_t clock_boottime_ms(void);
int64_t clock_monotonic_us(void);
int64_t clock_realtime_us(void);
int64_t clock_thread_us(void);

#endif
