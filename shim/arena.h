// The table's own memory, from anonymous mappings: never the program's malloc, which may itself open and
// close descriptors, or be what a signal handler has interrupted.
#ifndef PRECLOSE_ARENA_H
#define PRECLOSE_ARENA_H

#include <stddef.h>

// size bytes, aligned to 16, or NULL. Blocks are kept by size and used again. The caller holds the lock of
// what the memory belongs to. Async-signal-safe.
void *arena_alloc(size_t size);

// Gives a block of arena_alloc(size) back; size must be the same. NULL is nothing.
void arena_free(void *block, size_t size);

// In the child of a fork that happened in the middle of a change: starts anew, with the memory that small blocks had. That
// of large ones stays mapped, unused.
void arena_abandon(void);

// Bytes mapped from the kernel. The caller holds the same lock.
size_t arena_mapped(void);

#endif
