// A program that is to be run with the library: where it is, and whether the loader can load a library into
// it.
#ifndef PRECLOSE_CLI_PROGRAM_H
#define PRECLOSE_CLI_PROGRAM_H

#include <stdbool.h>

struct program {
    char *path;    // what is to be executed; malloc
    bool has_asan; // AddressSanitizer insists on being the first library, unless it is told otherwise
    bool is_go;    // with cgo: only what its C parts do is seen
};

// Finds name as a shell does: as a path if it has a slash, else in PATH; and looks into the file, or into the
// interpreter of a script, for what makes preloading impossible: statically linked, Go without cgo,
// setuid, setgid or file capabilities that take effect (ld.so(8), secure-execution mode), another
// architecture, another libc. Returns 0, or the exit status (126, 127) after a complaint that says what to
// do.
int program_find(const char *name, struct program *p);

#endif
