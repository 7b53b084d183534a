// Waiting for a state, with a deadline: no test is right because it slept long enough.
#ifndef PRECLOSE_WAIT_H
#define PRECLOSE_WAIT_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define WAIT_S 20

static inline bool wait_more(time_t *deadline)
{
    struct timespec now, pause = {.tv_nsec = 200000};
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!*deadline) *deadline = now.tv_sec + WAIT_S;
    if (now.tv_sec >= *deadline) return false;
    nanosleep(&pause, NULL);
    return true;
}

// Until the condition holds: true; past the deadline: false.
#define WAIT_UNTIL(condition)                                              \
    __extension__({                                                        \
        time_t deadline_ = 0;                                              \
        bool holds_;                                                       \
        while (!(holds_ = (condition)) && wait_more(&deadline_)) continue; \
        holds_;                                                            \
    })

static inline void ignore_interrupt(int signal_number)
{
    (void)signal_number;
}

// From now on SIGUSR1 ends the system call that a thread is blocked in (EINTR).
static inline void take_interrupts(void)
{
    struct sigaction a = {.sa_handler = ignore_interrupt};
    sigaction(SIGUSR1, &a, NULL);
}

// Ends a thread that leaves when its call fails, and joins it. After take_interrupts.
static inline bool interrupt_and_join(pthread_t thread)
{
    return WAIT_UNTIL((pthread_kill(thread, SIGUSR1), pthread_tryjoin_np(thread, NULL) == 0));
}

// Is the thread blocked in any system call?
static inline bool is_blocked(pid_t pid, pid_t tid)
{
    char path[64], line[64] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)pid, (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, line, sizeof line - 1);
    close(fd);
    return n > 0 && line[0] >= '0' && line[0] <= '9';
}

// The state letter of a process ('Z': zombie); 0 if there is none.
static inline char process_state(pid_t pid)
{
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    for (; n > 2; n--)
        if (line[n - 1] == ')') return line[n + 1];
    return 0;
}

#endif
