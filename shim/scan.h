// One look at the program's TCP connections: which of them has the peer closed, since when, and who opened it.
//
// A round goes over all of them in steps, which any thread may make. A healthy connection costs its share of a
// poll(2) and no lock; one in CLOSE_WAIT is looked up in the table, and asked for once. Its time begins at the
// earliest moment that is certain: when it was first seen so, less the time since the peer's last
// acknowledgement, which its FIN was or preceded. CLOCK_MONOTONIC: time in which the machine sleeps is no fault
// of the program's.
//
// All are async-signal-safe between guard_enter and guard_leave, and take the scan lock, inside it the table lock
// and the report lock.
#ifndef PRECLOSE_SCAN_H
#define PRECLOSE_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "leaks.h"
#include "settings.h"

// Which settings apply. Called once.
void scan_start(const struct settings *settings);

enum scan { SCAN_BUSY, SCAN_MORE, SCAN_DONE };

// Makes a step of the round under way, or of a new one: at most 64 connections; with until_us (CLOCK_MONOTONIC
// microseconds; 0: none) fewer, and it ends soon after that, though it may tell one finding. Returns SCAN_BUSY if another thread is at it,
// SCAN_DONE if the round has ended.
enum scan scan_step(int64_t until_us);

// A whole round, at exit, which also tells what is still open and what that means: begun steps end, but no new
// one is begun after limit_us microseconds; what was not looked at is counted.
void scan_exit(int64_t limit_us);

// The leak table for the summary.
unsigned scan_leaks(struct leak *list, unsigned max);

#endif
