// What a report shows, whichever way it is written: the groups in order, with the names of their places.
#ifndef PRECLOSE_CLI_VIEW_H
#define PRECLOSE_CLI_VIEW_H

#include <stdbool.h>
#include <stdio.h>

#include "symbols.h"
#include "tally.h"

struct view {
    const struct tally *tally;
    const struct lines_count *count;
    struct symbols *symbols; // NULL: places stay module+0xoffset
    bool all;                // nothing is left out
    int width;               // of the text, in columns
    struct group **groups;
    size_t n;
    uint64_t totals[CLASS_COUNT];    // findings of each class, told or held back
    uint64_t unwritten[CLASS_COUNT]; // further ones, that summaries count
};

// Sorts the groups and looks up their places. view_end frees what view_start has taken, not the symbols.
void view_start(struct view *v);
void view_end(struct view *v);

// Writes where a frame is: "handle (server.c:120)", or "server+0x11d2" if no more is known. separator: also
// the functions that this one is inlined in, each behind it; NULL: not.
void view_put_frame(const struct view *v, FILE *out, struct slice frame, const char *separator);

// Writes a call and where it was made: "accept4 in handle (server.c:120)".
void view_put_place(const struct view *v, FILE *out, const char *call, const char *at);

// Another place of a group's findings (names others): which it is, the call, and the frame that tells most,
// in memory of the name.
struct view_other {
    enum place place;
    struct slice call, at;
};
struct view_other view_other(const char *name);

// The sentence of a group, with its places named as view_put_frame does. malloc.
char *view_sentence(const struct view *v, const struct group *g);

// "opened", "closed", "used".
const char *place_name(enum place place);

// The three ways to write a report. They return nothing: the stream knows whether it failed.
void report_text(const struct view *v, FILE *out);
void report_json(const struct view *v, FILE *out, bool with_recent);
void report_html(const struct view *v, FILE *out);

#endif
