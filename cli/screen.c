#include "screen.h"

#include <inttypes.h>
#include <locale.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "say.h"

enum { PLAIN, HEADING, SELECTED, KEY, ALARM, STYLES };
enum { HEADER_LINES = 4, NAME_COLUMNS = 15, LINE_BYTES = 512 };

static int style[STYLES];
static bool is_open;

void screen_close(void)
{
    if (is_open) endwin();
    is_open = false;
}

static void choose_styles(bool color)
{
    style[PLAIN] = A_NORMAL;
    style[HEADING] = style[SELECTED] = style[KEY] = A_REVERSE;
    style[ALARM] = A_BOLD;
    if (!color || !has_colors() || start_color() == ERR) return;
    use_default_colors();
    init_pair(1, COLOR_BLACK, COLOR_GREEN);
    init_pair(2, COLOR_BLACK, COLOR_CYAN);
    init_pair(3, COLOR_RED, -1);
    style[HEADING] = COLOR_PAIR(1);
    style[SELECTED] = style[KEY] = COLOR_PAIR(2);
    style[ALARM] = COLOR_PAIR(3) | A_BOLD;
}

bool screen_open(bool color)
{
    const char *term = getenv("TERM");
    setlocale(LC_CTYPE, "");
    SCREEN *s = term && *term ? newterm(NULL, stdout, stdin) : NULL;
    if (s) is_open = true;
    const char *move = s ? tigetstr("cup") : NULL;
    if (!move || move == (char *)-1) { // NOLINT(performance-no-int-to-ptr): what terminfo(3) returns
        screen_close();
        complain("top needs a terminal whose cursor can be moved; TERM=%s has none; use: preclose scan",
                 term ? term : "");
        return false;
    }
    atexit(screen_close);
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    nodelay(stdscr, TRUE);
    set_escdelay(25);
    curs_set(0);
    choose_styles(color);
    return true;
}

// Writes text from column x up to column end: what can't be shown, or would do something to the terminal, as
// '?'. Returns the column behind it.
static int put(int y, int x, int end, const char *text)
{
    mbstate_t state = {0};
    const size_t all = strlen(text);
    if (y < 0 || y >= LINES || end > COLS) end = y < 0 || y >= LINES ? 0 : COLS;
    for (size_t i = 0; i < all && x < end;) {
        wchar_t c;
        size_t n = mbrtowc(&c, text + i, all - i, &state);
        int width = 1;
        if (n == 0 || n > all - i) { // not a character of this locale
            memset(&state, 0, sizeof state);
            n = 1;
            c = L'?';
        } else if ((width = wcwidth(c)) < 1) {
            width = 1;
            c = L'?';
        }
        if (x + width > end) break;
        mvaddnwstr(y, x, &c, 1);
        x += width;
        i += n;
    }
    return x;
}

// A line of one style from edge to edge.
static void put_bar(int y, int how, const char *text)
{
    if (y < 0 || y >= LINES) return;
    attrset(how);
    mvhline(y, 0, ' ', COLS);
    put(y, 0, COLS, text);
    attrset(style[PLAIN]);
}

static void put_cell(int y, int x, int width, const char *text, bool right)
{
    const int length = (int)strlen(text);
    put(y, right && length < width ? x + width - length : x, x + width, text);
}

static bool is_text(enum column c)
{
    return c == COLUMN_USER || c == COLUMN_COMMAND;
}

// FIND/S is there only with logs. On a narrow terminal others make room for the name.
static void choose_columns(const struct screen *s, bool shown[COLUMN_COUNT])
{
    static const enum column less[] = {COLUMN_USER,   COLUMN_OLDEST, COLUMN_UNREAD,
                                       COLUMN_MINUTE, COLUMN_GROWTH, COLUMN_FINDINGS};
    int width = NAME_COLUMNS;
    for (enum column c = 0; c < COLUMN_COUNT; c++) {
        shown[c] = c != COLUMN_FINDINGS || s->with_logs;
        if (shown[c] && column_width(c)) width += column_width(c) + 1;
    }
    for (unsigned i = 0; i < sizeof less / sizeof less[0] && width > COLS; i++) {
        if (shown[less[i]]) width -= column_width(less[i]) + 1;
        shown[less[i]] = false;
    }
}

static void put_row(const struct screen *s, int y, int how, const struct top_table *t,
                    const struct top_process *p)
{
    char cell[CELL_BYTES];
    bool shown[COLUMN_COUNT];
    int x = 0;
    if (y >= LINES) return;
    choose_columns(s, shown);
    attrset(how);
    mvhline(y, 0, ' ', COLS);
    for (enum column c = 0; c < COLUMN_COUNT && x < COLS; c++) {
        const int width = column_width(c) ? column_width(c) : COLS - x;
        if (!shown[c]) continue;
        if (p)
            top_cell(t, p, c, cell);
        else
            snprintf(cell, sizeof cell, "%s", column_title(c));
        if (!p && c == t->sort) attron(A_UNDERLINE | A_BOLD);
        put_cell(y, x, width, cell, !is_text(c));
        if (!p && c == t->sort) attrset(how);
        x += width + 1;
    }
    attrset(style[PLAIN]);
}

// The lines above the table.

static void put_title(const struct screen *s)
{
    char text[LINE_BYTES], when[16];
    const time_t now = time(NULL);
    struct tm tm;
    if (!localtime_r(&now, &tm) || !strftime(when, sizeof when, "%H:%M:%S", &tm)) when[0] = '\0';
    snprintf(text, sizeof text, "preclose top - %s, every %.1f s%s", when, (double)s->delay_ms / 1000,
             geteuid() ? "; not root: others' processes are not seen" : "");
    put(0, 0, COLS, text);
}

static void put_totals(const struct top_table *t)
{
    char text[LINE_BYTES], growth[CELL_BYTES], unread[CELL_BYTES], oldest[CELL_BYTES];
    uint64_t bytes = 0;
    int64_t age = -1;
    double minute;
    size_t processes = 0;
    if (t->scanned < 0) {
        snprintf(text, sizeof text, "the kernel does not tell of its sockets (sock_diag): %s",
                 strerror(-t->scanned));
        attrset(style[ALARM]);
        put(1, 0, COLS, text);
        attrset(style[PLAIN]);
        return;
    }
    for (size_t i = 0; i < t->scan.census.entries; i++) {
        const struct entry *e = &t->scan.census.entry[i];
        if (!scan_wants(&t->scan, e)) continue;
        bytes += diag_unread(&e->s);
        if (e->s.quiet_ms > age) age = e->s.quiet_ms;
    }
    for (size_t i = 0; i < t->owners.n; i++) processes += t->owners.owner[i]->pid != 0;
    top_growth(growth, t->connections - t->base);
    top_bytes(unread, bytes);
    top_age(oldest, age);
    int n = snprintf(text, sizeof text, "CLOSE_WAIT: %" PRId64 " in %zu process%s, %s", t->connections,
                     processes, processes == 1 ? "" : "es", growth);
    if (trend_per_minute(&t->trend, &minute))
        n += snprintf(text + n, sizeof text - (size_t)n, ", %+.1f/min", minute);
    if (bytes) n += snprintf(text + n, sizeof text - (size_t)n, "; %sB unread", unread);
    if (age >= 0) snprintf(text + n, sizeof text - (size_t)n, "; oldest %s", oldest);
    put(1, 0, COLS, text);
}

static int by_count(const void *a, const void *b)
{
    const struct top_event *x = *(const struct top_event *const *)a, *y = *(const struct top_event *const *)b;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void put_findings(const struct screen *s, const struct top_table *t)
{
    char text[LINE_BYTES];
    const struct top_event *sorted[EVENTS_SHOWN];
    if (!s->with_logs) return;
    int n = snprintf(text, sizeof text, "Findings: %.1f/s, %" PRIu64 " in all",
                     (double)pace_sum(&t->pace, t->now_s, PACE_WINDOW) / PACE_WINDOW, t->findings);
    if (s->reading < 100) n += snprintf(text + n, sizeof text - (size_t)n, " (%d %% read)", s->reading);
    for (unsigned i = 0; i < t->events; i++) sorted[i] = &t->event[i];
    if (t->events) qsort(sorted, t->events, sizeof(struct top_event *), by_count);
    for (unsigned i = 0; i < t->events && n < LINE_BYTES - 64; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %s %" PRIu64, i ? "," : ":", sorted[i]->name,
                      sorted[i]->n);
    put(2, 0, COLS, text);
}

// What is wrong, or should be looked at; the filter.
static void put_notes(const struct screen *s, const struct top_table *t)
{
    char text[LINE_BYTES];
    int n = 0;
    if (t->filter[0]) n += snprintf(text, sizeof text, "Filter: %s (F4, Esc: none)  ", t->filter);
    attrset(style[ALARM]);
    if (s->complaint[0])
        n += snprintf(text + n, sizeof text - (size_t)n, "! %s", s->complaint);
    else if (t->ghosts)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "%zu socket%s without a descriptor: see preclose scan", t->ghosts,
                      t->ghosts == 1 ? "" : "s");
    if (n) put(3, 0, COLS, text);
    attrset(style[PLAIN]);
}

int screen_rows(const struct screen *s)
{
    (void)s;
    const int rows = LINES - HEADER_LINES - 2;
    return rows > 0 ? rows : 0;
}

// Where the selected process is now; where it was, if it is gone.
static void find_selected(struct screen *s, const struct top_table *t)
{
    size_t i = 0;
    while (i < t->n && memcmp(&t->row[i]->key, &s->selected, sizeof s->selected) != 0) i++;
    if (i < t->n) s->at = i;
    if (s->at >= t->n) s->at = t->n ? t->n - 1 : 0;
    const size_t rows = (size_t)screen_rows(s);
    if (s->first > s->at) s->first = s->at;
    if (rows && s->at - s->first >= rows) s->first = s->at - rows + 1;
    if (rows && s->first && t->n - s->first < rows) s->first = t->n > rows ? t->n - rows : 0;
}

static void put_table(struct screen *s, const struct top_table *t)
{
    const size_t rows = (size_t)screen_rows(s);
    find_selected(s, t);
    put_row(s, HEADER_LINES, style[HEADING], t, NULL);
    for (size_t i = 0; i < rows && s->first + i < t->n; i++) {
        const struct top_process *p = t->row[s->first + i];
        const bool selected = s->first + i == s->at;
        put_row(s, HEADER_LINES + 1 + (int)i, style[selected ? SELECTED : PLAIN], t, p);
    }
    if (!t->n && rows)
        put(HEADER_LINES + 1, 0, COLS, t->filter[0] ? "(none that the filter lets through)" : "(none)");
}

// The keys, as htop has them at the bottom.
static void put_keys(const struct screen *s)
{
    static const char *const list[] = {"F1", "Help", "F3",    "Search",  "F4",  "Filter", "F5", "Restart",
                                       "F6", "Sort", "Enter", "Sockets", "F10", "Quit",   NULL};
    static const char *const back[] = {"Esc", "Back", NULL};
    static const char *const prompts[] = {
        [MODE_SEARCH] = "Search: ", [MODE_FILTER] = "Filter: ", [MODE_DELAY] = "Seconds: "};
    char text[LINE_BYTES];
    const char *const *words = s->mode == MODE_LIST ? list : back;
    int x = 0;
    if (s->mode == MODE_SEARCH || s->mode == MODE_FILTER || s->mode == MODE_DELAY) {
        snprintf(text, sizeof text, "%s%s_", prompts[s->mode], s->text);
        put_bar(LINES - 1, style[KEY], text);
        return;
    }
    for (int i = 0; words[i]; i += 2) {
        attrset(style[PLAIN]);
        x = put(LINES - 1, x, COLS, words[i]);
        attrset(style[KEY]);
        x = put(LINES - 1, x, COLS, words[i + 1]);
        attrset(style[PLAIN]);
        x = put(LINES - 1, x, COLS, " ");
    }
}

static void put_help(const struct screen *s)
{
    static const char *const keys[][2] = {
        {"Up Down PgUp PgDn Home End", "another process"},
        {"Enter", "the sockets of the process"},
        {"F3 /", "search by name; again: the next"},
        {"F4 \\", "filter by name, user or number"},
        {"F5 r", "growth counts from now"},
        {"F6", "choose the column to sort by"},
        {"< > I", "sort by another column; the other way"},
        {"d", "look more or less often"},
        {"Space Ctrl-L", "look now; draw anew"},
        {"F1 h ?", "this"},
        {"F10 q", "end"},
    };
    int y = 0;
    put_bar(y++, style[HEADING],
            "preclose top: connections that the peer has closed and the program has not");
    for (enum column c = 0; c < COLUMN_COUNT; c++, y++) {
        if (c == COLUMN_FINDINGS && !s->with_logs) {
            y--;
            continue;
        }
        put(y, 1, COLS, column_title(c));
        put(y, 10, COLS, column_says(c));
    }
    y++;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++, y++) {
        put(y, 1, COLS, keys[i][0]);
        put(y, 29, COLS, keys[i][1]);
    }
}

static void put_menu(const struct screen *s)
{
    put_bar(HEADER_LINES, style[HEADING], "Sort by");
    int y = HEADER_LINES + 1;
    for (enum column c = 0; c < COLUMN_COUNT; c++) {
        char text[LINE_BYTES];
        if (c == COLUMN_FINDINGS && !s->with_logs) continue;
        snprintf(text, sizeof text, " %-9s%s", column_title(c), column_says(c));
        if (y < LINES - 1) put_bar(y, style[(int)c == s->menu ? SELECTED : PLAIN], text);
        y++;
    }
}

static const struct owner *owner_of(const struct top_table *t, pid_t pid)
{
    for (size_t i = 0; i < t->owners.n; i++)
        if (t->owners.owner[i]->pid == pid) return t->owners.owner[i];
    return NULL;
}

// The sockets of the selected process, as scan shows them, in columns as wide as those in sight need.
static void put_sockets(const struct top_table *t, const struct owner *o, size_t first, size_t n)
{
    static const enum scan_cell shown[] = {CELL_FD, CELL_LOCAL, CELL_PEER, CELL_AGE, CELL_NOTE};
    static const char *const titles[] = {"FD", "LOCAL", "PEER", "AT LEAST", ""};
    enum { SHOWN = sizeof shown / sizeof shown[0] };
    scan_cells *cells = need(calloc(n + 1, sizeof *cells));
    int x = 0;
    for (size_t i = 0; i < n; i++)
        scan_row(&t->scan, &t->scan.census.entry[o->row[first + i]], o->pid, cells[i]);
    for (unsigned k = 0; k < SHOWN; k++) {
        size_t width = strlen(titles[k]);
        for (size_t i = 0; i < n; i++)
            if (strlen(cells[i][shown[k]]) > width) width = strlen(cells[i][shown[k]]);
        put_cell(1, x, (int)width, titles[k], k == 0);
        for (size_t i = 0; i < n; i++) put_cell(2 + (int)i, x, (int)width, cells[i][shown[k]], k == 0);
        x += (int)width + 2;
    }
    free(cells);
}

static void put_detail(struct screen *s, const struct top_table *t)
{
    char text[LINE_BYTES];
    const struct owner *o = owner_of(t, s->selected.pid);
    const size_t n = o ? o->rows : 0, rows = LINES > 3 ? (size_t)LINES - 3 : 0;
    if (s->detail_first + rows > n) s->detail_first = n > rows ? n - rows : 0;
    snprintf(text, sizeof text, "%s, pid %d: %zu in CLOSE_WAIT", s->selected.comm, s->selected.pid, n);
    put_bar(0, style[HEADING], text);
    if (n) put_sockets(t, o, s->detail_first, n - s->detail_first < rows ? n - s->detail_first : rows);
}

void screen_again(void)
{
    clearok(curscr, TRUE);
}

void screen_draw(struct screen *s, const struct top_table *t)
{
    erase();
    attrset(style[PLAIN]);
    if (s->mode == MODE_HELP) {
        put_help(s);
    } else if (s->mode == MODE_DETAIL) {
        put_detail(s, t);
    } else {
        put_title(s);
        put_totals(t);
        put_findings(s, t);
        put_notes(s, t);
        if (s->mode == MODE_SORT)
            put_menu(s);
        else
            put_table(s, t);
    }
    put_keys(s);
    refresh();
}
