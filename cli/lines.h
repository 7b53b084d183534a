// The lines of logs: files plain or gzip, standard input; read once, or followed as they grow.
#ifndef PRECLOSE_CLI_LINES_H
#define PRECLOSE_CLI_LINES_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

// A line may be this long: the library's own have at most 3072 bytes, a collector may put some in front.
#define LINE_BYTES_MAX ((size_t)64 * 1024)

struct lines; // one log

// What has been read so far, of all logs.
struct lines_count {
    uint64_t bytes; // of text, unpacked
    uint64_t raw;   // of the file
    uint64_t lines;
    uint64_t too_long; // lines of more than LINE_BYTES_MAX bytes, which are left out
};

// Told for each line, without its newline; also for the last one of a log that has none. n <= LINE_BYTES_MAX.
typedef void lines_take(void *context, const char *line, size_t n);

// Opens a log; path "-" is standard input. Returns NULL after a complaint. malloc.
struct lines *lines_open(const char *path);

// Reads some more (up to a megabyte) and tells its lines. Returns 1 if there may be more, 0 at the end, -1
// after a complaint (damaged gzip data, an error of the disk): what came before it has been told. If follow,
// a last line without newline waits for its rest; and 0 may be followed by 1 later, when the file has grown,
// has been cut to nothing, or has been renamed away and there is a new one under the name; and what comes through a
// pipe is not waited for.
int lines_read(struct lines *l, bool follow, struct lines_count *count, lines_take *take, void *context);

// From now on the log is the file that is open, even when there is another one under its name.
void lines_stay(struct lines *l);

// Is it gzip data? Known once something has been read.
bool lines_packed(const struct lines *l);

// Can nothing come any more, even if it is followed? So it is behind the end of a pipe.
bool lines_over(const struct lines *l);

// How many bytes the file has, for progress; 0 if that isn't known.
uint64_t lines_size(const struct lines *l);

void lines_close(struct lines *l);

#endif
