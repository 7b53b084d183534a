// The large arrays of track.c, which are far apart from what every fork copies.
#ifndef PRECLOSE_TRACK_TABLE_H
#define PRECLOSE_TRACK_TABLE_H

#include "track.h"

#define TRACK_PAGE 1024 // slots that are made at once
#define TRACK_PAGES (TRACK_FD_MAX / TRACK_PAGE)

struct slot;
extern struct slot *track_pages[TRACK_PAGES]; // by number / TRACK_PAGE; the lowest are elsewhere

#endif
