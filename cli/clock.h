// Time that only goes forward.
#ifndef PRECLOSE_CLI_CLOCK_H
#define PRECLOSE_CLI_CLOCK_H

#include <stdint.h>

// Milliseconds since some time in the past (CLOCK_MONOTONIC).
int64_t now_ms(void);

#endif
