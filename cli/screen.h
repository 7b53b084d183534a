// What top draws: the state of what is looked at, and the pictures. All but screen_open draw into ncurses'
// memory, and screen_show brings it to the terminal.
#ifndef PRECLOSE_CLI_SCREEN_H
#define PRECLOSE_CLI_SCREEN_H

#include <stdbool.h>

#include "top.h"

enum mode { MODE_LIST, MODE_SEARCH, MODE_FILTER, MODE_DELAY, MODE_SORT, MODE_HELP, MODE_DETAIL };

struct screen {
    enum mode mode;
    struct top_key selected; // the row that is, by its process; pid -1: the first
    size_t at, first;        // where it was, and the first row that is shown
    size_t detail_first;
    int menu;      // the column that is chosen in MODE_SORT
    char text[64]; // what is being typed
    int64_t delay_ms;
    bool with_logs;
    int reading;         // of the logs, in per cent; 100: all that is there has been read
    char complaint[256]; // "": none
    int64_t complained_ms;
};

// Takes the terminal of standard input and output. Returns false after a complaint. It is given back when the
// process exits.
bool screen_open(bool color);
void screen_close(void);

// How many rows of processes fit.
int screen_rows(const struct screen *s);

void screen_draw(struct screen *s, const struct top_table *t);

// Draws all anew, also where the terminal should already show it.
void screen_again(void);

#endif
