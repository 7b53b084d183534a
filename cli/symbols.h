// "module+0xoffset" → function, file and line, by elfutils' libdwfl: from the module's own debug information,
// from separate debug files (build-id, .gnu_debuglink), or from debuginfod if the user has DEBUGINFOD_URLS
// set.
#ifndef PRECLOSE_CLI_SYMBOLS_H
#define PRECLOSE_CLI_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

// A function at a place. Where the compiler has put functions into each other, a place has several: the
// innermost first, each called at the line of the next.
struct symbol {
    char *function; // NULL: unknown
    char *file;     // as the compiler was told, with its directory; NULL: unknown
    int line;       // 0: unknown
};

enum { SYMBOLS_MAX = 8 };

struct place_symbols {
    const char *module; // path; NULL if the place is in none
    uint64_t offset;
    unsigned n; // of symbol; 0: nothing is known
    struct symbol symbol[SYMBOLS_MAX];
};

struct symbols;

// root: a directory that module paths are looked up in; "" for the paths as they are. malloc.
struct symbols *symbols_new(const char *root);

// Notes a place, to be looked up by symbols_find. A place that isn't "/path+0xoffset" is left alone.
void symbols_want(struct symbols *s, struct slice place);

// Looks up all that is wanted and has not been yet, module by module. Only regular files are opened.
void symbols_find(struct symbols *s);

// What is known of a place; NULL if it was not wanted or is in no module.
const struct place_symbols *symbols_of(const struct symbols *s, struct slice place);

// Tells each module that is not what it was when the log was written: changed after last_us (microseconds
// since 1970), or gone; why is "was changed after the log was written", for one.
void symbols_doubts(const struct symbols *s, int64_t last_us,
                    void (*tell)(void *context, const char *module, const char *why), void *context);

#endif
