#include "track_table.h"

#include "touched.h"

_Atomic uint32_t fd_state[TRACK_FD_MAX];
TOUCHED_APART struct slot *track_pages[TRACK_PAGES];
