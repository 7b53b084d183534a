// preclose top: options, keys, and when it looks.
#include "top.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../shim/settings.h"
#include "clock.h"
#include "commands.h"
#include "follow.h"
#include "options.h"
#include "say.h"
#include "screen.h"

enum {
    DELAY_MS = 2000,
    DELAY_LEAST_MS = 100,
    DELAY_MOST_MS = 3600000,
    SLICE_MS = 50,
    LOGS_MS = 500,
    COMPLAINT_MS = 10000,
    ESCAPE = 27
};

struct top {
    struct top_table table;
    struct screen screen;
    struct follow *follow;
    int64_t iterations; // left; -1: no end
    int64_t next_ms;    // when it looks again
    bool color, ended;
    int *pids;
};

static volatile sig_atomic_t caught;

static void catch (int signal)
{
    caught = signal;
}

// Options.

// "500ms", "2s", or as top(1) and htop have it, a number of seconds.
static int64_t delay_of(const char *text)
{
    char *end;
    int64_t ms = settings_duration(text);
    if (ms <= 0 && text[0] >= '0' && text[0] <= '9') {
        const double seconds = strtod(text, &end);
        ms = !*end && seconds < (double)DELAY_MOST_MS ? (int64_t)(seconds * 1000 + 0.5) : -1;
    }
    return ms >= DELAY_LEAST_MS && ms <= DELAY_MOST_MS ? ms : -1;
}

static bool take_pids(struct top *t, const char *argument)
{
    struct slice rest = slice_of(argument);
    t->pids = need(calloc(rest.n + 1, sizeof *t->pids));
    t->table.scan.pids = t->pids;
    while (rest.n) {
        int64_t pid;
        const struct slice one = slice_cut(&rest, ',');
        if (!slice_number(one, &pid) || pid <= 0 || pid > INT32_MAX) {
            complain("--pid=%s: takes process ids, several with ','", argument);
            return false;
        }
        t->pids[t->table.scan.n++] = (int)pid;
    }
    return true;
}

static bool take_sort(struct top *t, const char *argument)
{
    t->table.sort = column_named(argument);
    if (t->table.sort < COLUMN_COUNT) return true;
    complain("--sort=%s: takes PID, USER, CONN, GROWTH, /MIN, UNREAD, OLDEST, FIND/S or COMMAND", argument);
    return false;
}

static bool take(void *context, enum flag flag, const char *argument)
{
    struct top *t = context;
    switch (flag) {
    case FLAG_TOP_DELAY:
        t->screen.delay_ms = delay_of(argument);
        if (t->screen.delay_ms < 0)
            complain("--delay=%s: takes a duration from 100ms to 1h, or seconds", argument);
        return t->screen.delay_ms >= 0;
    case FLAG_TOP_ITERATIONS:
        if (slice_number(slice_of(argument), &t->iterations) && t->iterations > 0) return true;
        complain("--iterations=%s: takes a number above 0", argument);
        return false;
    case FLAG_TOP_SORT:
        return take_sort(t, argument);
    case FLAG_TOP_PIDS:
        return take_pids(t, argument);
    case FLAG_TOP_FILTER:
        snprintf(t->table.filter, sizeof t->table.filter, "%s", argument);
        return true;
    case FLAG_TOP_NO_COLOR:
        t->color = false;
        return true;
    default:
        return false;
    }
}

// Keys.

static void select_at(struct top *t, size_t at)
{
    if (!t->table.n) return;
    if (at >= t->table.n) at = t->table.n - 1;
    t->screen.at = at;
    t->screen.selected = t->table.row[at]->key;
}

static void move_by(struct top *t, int64_t rows)
{
    const int64_t at = (int64_t)t->screen.at + rows;
    select_at(t, at < 0 ? 0 : (size_t)at);
}

static void sort_by(struct top *t, int column)
{
    t->table.sort = (enum column)column;
    t->table.inverted = false;
    top_arrange(&t->table);
}

// The next column, or the one before; FIND/S only with logs.
static int beside(const struct top *t, int column, int step)
{
    do column = (column + step + COLUMN_COUNT) % COLUMN_COUNT;
    while (column == COLUMN_FINDINGS && !t->screen.with_logs);
    return column;
}

// The next row behind the selected one, or the selected one itself, whose name has the text.
static void search(struct top *t, bool next)
{
    const struct top_table *table = &t->table;
    for (size_t i = next ? 1 : 0; i <= table->n && table->n; i++) {
        const size_t at = (t->screen.at + i) % table->n;
        if (!strcasestr(table->row[at]->key.comm, t->screen.text)) continue;
        select_at(t, at);
        return;
    }
}

static void enter(struct top *t, enum mode mode)
{
    struct screen *s = &t->screen;
    s->mode = mode;
    if (mode == MODE_SEARCH || mode == MODE_DELAY) s->text[0] = '\0';
    if (mode == MODE_FILTER) snprintf(s->text, sizeof s->text, "%s", t->table.filter);
    if (mode == MODE_SORT) s->menu = (int)t->table.sort;
    if (mode == MODE_DETAIL) s->detail_first = 0;
    if (mode == MODE_DETAIL && !t->table.n) s->mode = MODE_LIST;
}

static bool move_key(struct top *t, int key)
{
    const int page = screen_rows(&t->screen) > 1 ? screen_rows(&t->screen) - 1 : 1;
    switch (key) {
    case KEY_UP:
        move_by(t, -1);
        return true;
    case KEY_DOWN:
        move_by(t, 1);
        return true;
    case KEY_PPAGE:
        move_by(t, -page);
        return true;
    case KEY_NPAGE:
        move_by(t, page);
        return true;
    case KEY_HOME:
        select_at(t, 0);
        return true;
    case KEY_END:
        select_at(t, t->table.n);
        return true;
    default:
        return false;
    }
}

// Those that do something at once. Returns whether it was one.
static bool action_key(struct top *t, int key)
{
    switch (key) {
    case KEY_F(10):
    case 'q':
        t->ended = true;
        return true;
    case KEY_F(5):
    case 'r':
        top_restart(&t->table);
        return true;
    case '<':
    case '>':
        sort_by(t, beside(t, (int)t->table.sort, key == '<' ? -1 : 1));
        return true;
    case 'I':
        t->table.inverted = !t->table.inverted;
        top_arrange(&t->table);
        return true;
    case ' ':
        t->next_ms = 0;
        return true;
    case ESCAPE:
        t->table.filter[0] = '\0';
        top_arrange(&t->table);
        return true;
    default:
        return false;
    }
}

static void list_key(struct top *t, int key)
{
    if (move_key(t, key) || action_key(t, key)) return;
    switch (key) {
    case KEY_F(1):
    case 'h':
    case '?':
        enter(t, MODE_HELP);
        break;
    case KEY_F(3):
    case '/':
        enter(t, MODE_SEARCH);
        break;
    case KEY_F(4):
    case '\\':
        enter(t, MODE_FILTER);
        break;
    case KEY_F(6):
        enter(t, MODE_SORT);
        break;
    case 'd':
        enter(t, MODE_DELAY);
        break;
    case KEY_ENTER:
    case '\n':
    case '\r':
        enter(t, MODE_DETAIL);
        break;
    default:
        break;
    }
}

static void text_ended(struct top *t, bool taken)
{
    struct screen *s = &t->screen;
    if (s->mode == MODE_FILTER && !taken) t->table.filter[0] = '\0';
    if (s->mode == MODE_FILTER) top_arrange(&t->table);
    const int64_t delay = s->mode == MODE_DELAY && taken ? delay_of(s->text) : -1;
    if (delay > 0) s->delay_ms = delay;
    s->mode = MODE_LIST;
}

// What is typed counts at once.
static void text_key(struct top *t, int key)
{
    struct screen *s = &t->screen;
    const size_t n = strlen(s->text);
    if (key == '\n' || key == '\r' || key == KEY_ENTER || key == ESCAPE) {
        text_ended(t, key != ESCAPE);
        return;
    }
    if (s->mode == MODE_SEARCH && key == KEY_F(3)) search(t, true);
    if ((key == KEY_BACKSPACE || key == 127 || key == 8) && n) s->text[n - 1] = '\0';
    if (key >= ' ' && key < 256 && key != 127 && n + 1 < sizeof s->text) {
        s->text[n] = (char)key;
        s->text[n + 1] = '\0';
        if (s->mode == MODE_SEARCH) search(t, false);
    }
    if (s->mode != MODE_FILTER) return;
    snprintf(t->table.filter, sizeof t->table.filter, "%s", s->text);
    top_arrange(&t->table);
}

static void menu_key(struct top *t, int key)
{
    struct screen *s = &t->screen;
    if (key == KEY_UP) s->menu = beside(t, s->menu, -1);
    if (key == KEY_DOWN) s->menu = beside(t, s->menu, 1);
    if (key == '\n' || key == '\r' || key == KEY_ENTER) sort_by(t, s->menu);
    if (key == '\n' || key == '\r' || key == KEY_ENTER || key == ESCAPE || key == 'q' || key == KEY_F(6))
        s->mode = MODE_LIST;
}

static void detail_key(struct top *t, int key)
{
    struct screen *s = &t->screen;
    const size_t page = (size_t)(screen_rows(s) > 1 ? screen_rows(s) : 1);
    if (key == KEY_UP && s->detail_first) s->detail_first--;
    if (key == KEY_DOWN) s->detail_first++; // the picture holds it at the end
    if (key == KEY_PPAGE) s->detail_first -= page < s->detail_first ? page : s->detail_first;
    if (key == KEY_NPAGE) s->detail_first += page;
    if (key == KEY_HOME) s->detail_first = 0;
    if (key == ESCAPE || key == 'q' || key == '\n' || key == '\r' || key == KEY_ENTER) s->mode = MODE_LIST;
    if (key == KEY_F(10)) t->ended = true;
}

static void take_key(struct top *t, int key)
{
    if (key == KEY_RESIZE) return;
    if (key == 12) { // Ctrl-L
        screen_again();
        return;
    }
    switch (t->screen.mode) {
    case MODE_LIST:
        list_key(t, key);
        break;
    case MODE_SEARCH:
    case MODE_FILTER:
    case MODE_DELAY:
        text_key(t, key);
        break;
    case MODE_SORT:
        menu_key(t, key);
        break;
    case MODE_HELP:
        t->screen.mode = MODE_LIST;
        break;
    case MODE_DETAIL:
        detail_key(t, key);
        break;
    }
}

// The loop.

static struct screen *complaining;

static void show_complaint(const char *line)
{
    snprintf(complaining->complaint, sizeof complaining->complaint, "%s", line);
    complaining->complained_ms = now_ms();
}

static void take_keys(struct top *t)
{
    for (int key; !t->ended && (key = getch()) != ERR;) take_key(t, key);
}

// Waits for a key, a signal or the time. Signals come only here.
static void wait_for(struct top *t, int64_t ms, const sigset_t *waiting)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    if (ms < 0) ms = 0;
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    if (ppoll(&input, 1, &time, waiting) > 0 && (input.revents & (POLLHUP | POLLERR | POLLNVAL)))
        t->ended = true;
}

static bool read_logs(struct top *t)
{
    const bool more = follow_read(t->follow, SLICE_MS, top_line, &t->table);
    t->screen.reading = follow_caught_up(t->follow) ? 100 : follow_percent(t->follow);
    if (t->screen.reading == 100 && !follow_caught_up(t->follow)) t->screen.reading = 99;
    return more;
}

static void look(struct top *t)
{
    top_look(&t->table);
    t->next_ms = now_ms() + t->screen.delay_ms;
    if (t->iterations > 0) t->iterations--;
}

static void run(struct top *t, const sigset_t *waiting)
{
    while (!t->ended && !caught) {
        const bool more = read_logs(t);
        if (now_ms() >= t->next_ms) look(t);
        if (t->table.n && t->screen.selected.pid < 0) select_at(t, 0);
        if (now_ms() - t->screen.complained_ms > COMPLAINT_MS) t->screen.complaint[0] = '\0';
        screen_draw(&t->screen, &t->table);
        if (t->iterations == 0) break;
        const int64_t left = t->next_ms - now_ms();
        wait_for(t, more ? 0 : left < LOGS_MS ? left : LOGS_MS, waiting);
        take_keys(t);
    }
}

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

enum { ENDING = sizeof ending / sizeof ending[0] };

// After newterm, which has handlers of its own.
static void take_signals(sigset_t *waiting)
{
    const struct sigaction action = {.sa_handler = catch};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (unsigned i = 0; i < ENDING; i++) sigaddset(&blocked, ending[i]);
    sigprocmask(SIG_BLOCK, &blocked, waiting);
    for (unsigned i = 0; i < ENDING; i++) {
        sigdelset(waiting, ending[i]);
        sigaction(ending[i], &action, NULL);
    }
}

// Ends as the signal would have ended it, but for Ctrl-C, by which such programs are left.
static int end_by(int number, const sigset_t *waiting)
{
    if (number == 0 || number == SIGINT) return STATUS_OK;
    signal(number, SIG_DFL);
    raise(number);
    sigprocmask(SIG_SETMASK, waiting, NULL);
    return STATUS_FAILED;
}

int command_top(int argc, char **argv)
{
    static struct top t;
    sigset_t waiting;
    const char *no_color = getenv("NO_COLOR"); // https://no-color.org
    t.screen.delay_ms = DELAY_MS;
    t.screen.selected.pid = -1;
    t.iterations = -1;
    t.color = !no_color || !*no_color;
    t.table.sort = COLUMN_CONN;
    t.table.scan = (struct scan){.states = diag_state_bit("close-wait"), .warn = -1, .crit = -1};
    const int first = options_read(COMMAND_TOP, argc, argv, take, &t);
    if (first < 0) return STATUS_USAGE;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        complain("top needs a terminal; for a pipe, a file or a script there is: preclose scan [--json]");
        return STATUS_USAGE;
    }
    t.screen.with_logs = argc > first;
    if (!screen_open(t.color)) return STATUS_FAILED;
    complaining = &t.screen;
    complain_to(show_complaint);
    take_signals(&waiting);
    t.follow = follow_new(argv + first, argc - first);
    run(&t, &waiting);
    screen_close();
    complain_to(NULL);
    return end_by(caught, &waiting);
}
