// How a measured program and scripts/bench talk: the script sends a number of operations, the program does them and
// sends back what they took. So two programs, with and without the library, take turns many times a second, and
// what the machine does meanwhile meets both.
#ifndef PRECLOSE_BENCH_SLOT_H
#define PRECLOSE_BENCH_SLOT_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define must(call) must_(call, #call)

static inline int must_(long ret, const char *call)
{
    if (ret >= 0) return (int)ret;
    fprintf(stderr, "bench: %s: %s\n", call, strerror(errno));
    _exit(1);
}

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// Processor time of this process and of its children that have ended.
static inline uint64_t spent_ns(void)
{
    struct rusage r;
    getrusage(RUSAGE_CHILDREN, &r);
    uint64_t us = (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000u +
                  (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + us * 1000;
}

// Serves slots until the script has had enough. run does n operations; what it returns, if not 0, stands for the
// time that passed.
static inline void serve(uint64_t (*run)(uint64_t n))
{
    uint64_t n;
    while (read(STDIN_FILENO, &n, sizeof n) == (ssize_t)sizeof n) {
        uint64_t spent = spent_ns(), began = clock_ns(CLOCK_MONOTONIC);
        uint64_t own = run(n);
        uint64_t took[2] = {spent_ns() - spent, own ? own : clock_ns(CLOCK_MONOTONIC) - began};
        if (write(STDOUT_FILENO, took, sizeof took) != (ssize_t)sizeof took) break;
    }
    _exit(0);
}

#endif
