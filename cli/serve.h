// A server of one page over HTTP, for few clients that mean well and any number that don't: it takes a
// bounded number of connections, memory and time from each, and never waits for one.
#ifndef PRECLOSE_CLI_SERVE_H
#define PRECLOSE_CLI_SERVE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

// A text that several answers may still be sending.
struct page {
    char *text; // malloc
    size_t n;
    const char *type; // Content-Type
    unsigned users;
};

// Takes the text, and has one user.
struct page *page_new(char *text, size_t n, const char *type);
void page_drop(struct page *p); // NULL is none

// Gives the page as it is now, with a user more; NULL if there is none yet (503).
typedef struct page *serve_page(void *context, bool openmetrics);

struct serve;

// Listens at "ADDRESS:PORT", "[ADDRESS]:PORT" or ":PORT", says where on stderr. Returns NULL after a
// complaint.
struct serve *serve_open(const char *address);

// Waits until something has come or can be sent, for ms milliseconds at most, or until a signal that is not
// in mask; then does what can be done at once. s NULL: only waits.
void serve_wait(struct serve *s, int ms, const sigset_t *mask, serve_page *page, void *context);

void serve_close(struct serve *s);

#endif
