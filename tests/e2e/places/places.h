// What program.c and part.c share.
#ifndef PLACES_H
#define PLACES_H

#include <stdio.h>

#define NOINLINE __attribute__((noinline))
// Says where it is, and does it there: in one line, and not as the last thing, so that the frame stays.
#define ON(what, call) do { printf(what " %s %d\n", __func__, __LINE__); call; __asm__ volatile("" ::: "memory"); } while (0)

int part_open(const char *how);
void part_close(const char *how, int fd);
void say_cookie(int fd);

#endif
