// preclose report: reads logs, adds them up, and writes what they say.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "options.h"
#include "say.h"
#include "view.h"

enum { FOLLOW_MS = 500, PROGRESS_MS = 100 };

struct report {
    bool json, follow, all, no_symbols;
    const char *html, *root;
    struct tally *tally;
    struct symbols *symbols;
    struct lines_count count;
    struct lines **logs;
    int n;
    bool failed;    // a log could not be read, or not to its end
    uint64_t total; // bytes of all logs, as far as it is known
    int64_t began_ms, told_ms;
    bool progress; // is shown now
};

static bool take(void *context, enum flag flag, const char *argument)
{
    struct report *r = context;
    switch (flag) {
    case FLAG_REPORT_JSON:
        r->json = true;
        break;
    case FLAG_REPORT_HTML:
        r->html = argument;
        break;
    case FLAG_REPORT_FOLLOW:
        r->follow = true;
        break;
    case FLAG_REPORT_ALL:
        r->all = true;
        break;
    case FLAG_REPORT_ROOT:
        r->root = argument;
        break;
    case FLAG_REPORT_NO_SYMBOLS:
        r->no_symbols = true;
        break;
    default:
        return false;
    }
    return true;
}

static void clear_progress(struct report *r)
{
    if (r->progress) fputs("\r\033[K", stderr);
    r->progress = false;
}

// "45 % of 1.0 GB, 512 MB/s" on a terminal, if it takes a while.
static void show_progress(struct report *r)
{
    char bytes[NUMBER_MAX], rate[NUMBER_MAX];
    const int64_t now = now_ms(), took = now - r->began_ms;
    if (now - r->told_ms < PROGRESS_MS || !isatty(STDERR_FILENO)) return;
    r->told_ms = now;
    text_bytes(rate, took > 0 ? r->count.bytes * 1000 / (uint64_t)took : 0);
    if (r->total)
        fprintf(stderr, "\rreading: %3" PRIu64 " %% of %s, %s/s \033[K",
                r->count.raw < r->total ? r->count.raw * 100 / r->total : 100, text_bytes(bytes, r->total),
                rate);
    else
        fprintf(stderr, "\rreading: %s, %s/s \033[K", text_bytes(bytes, r->count.raw), rate);
    fflush(stderr);
    r->progress = true;
}

// Reads a log as far as it goes. Returns whether anything came.
static bool read_log(struct report *r, struct lines *log)
{
    const uint64_t before = r->count.raw, lines = r->count.lines; // a last line may be told without new bytes
    int more;
    while ((more = lines_read(log, r->follow, &r->count, tally_line, r->tally)) > 0) show_progress(r);
    if (more < 0) r->failed = true;
    return r->count.raw > before || r->count.lines > lines;
}

static void open_logs(struct report *r, char **paths, int n)
{
    r->logs = need(calloc((size_t)n + 1, sizeof(struct lines *)));
    for (int i = 0; i < n; i++) {
        struct lines *log = lines_open(paths[i]);
        if (!log) {
            r->failed = true;
            continue;
        }
        r->total += lines_size(log);
        r->logs[r->n++] = log;
    }
}

// Reads the logs one after the other, and closes each unless it is followed.
static void read_logs(struct report *r)
{
    for (int i = 0; i < r->n; i++) {
        read_log(r, r->logs[i]);
        if (r->follow) continue;
        lines_close(r->logs[i]);
        r->logs[i] = NULL;
    }
    clear_progress(r);
}

// To a file that takes the place of the old one only when it is whole.
static bool write_html(const struct view *v, const char *path)
{
    char *new;
    if (asprintf(&new, "%s.new", path) < 0) need(NULL);
    FILE *out = fopen(new, "we");
    bool ok = out != NULL;
    if (out) {
        report_html(v, out);
        ok = !ferror(out);
        ok = fclose(out) == 0 && ok && rename(new, path) == 0;
    }
    if (!ok) complain("cannot write %s: %s", path, strerror(errno));
    if (!ok && out) unlink(new);
    free(new);
    return ok;
}

static bool write_report(struct report *r)
{
    struct view view = {.tally = r->tally,
                        .count = &r->count,
                        .symbols = r->symbols,
                        .all = r->all,
                        .width = text_width(STDOUT_FILENO)};
    bool ok = true;
    view_start(&view);
    if (r->html) ok = write_html(&view, r->html);
    if (r->json) {
        report_json(&view, stdout, false);
        putchar('\n');
    } else if (!r->html) {
        report_text(&view, stdout);
    }
    view_end(&view);
    return output_done() && ok;
}

static void nap(void)
{
    const struct timespec time = {.tv_nsec = FOLLOW_MS * 1000000L};
    nanosleep(&time, NULL);
}

static bool is_over(const struct report *r)
{
    int n = 0;
    while (n < r->n && lines_over(r->logs[n])) n++;
    return n == r->n;
}

// The report anew whenever a log has grown, until someone ends it, or nothing can come any more.
static bool follow(struct report *r)
{
    const bool terminal = isatty(STDOUT_FILENO) && !r->json;
    for (;;) {
        if (terminal) fputs("\033[H\033[2J", stdout);
        if (!write_report(r)) return false;
        for (bool grown = false; !grown; nap()) {
            for (int i = 0; i < r->n; i++) grown |= read_log(r, r->logs[i]);
            if (!grown && is_over(r)) return !r->failed;
        }
        clear_progress(r);
        if (!terminal && !r->json) putchar('\n');
    }
}

int command_report(int argc, char **argv)
{
    static char standard_input[] = "-", *standard[] = {standard_input, NULL};
    struct report r = {.root = ""};
    int first = options_read(COMMAND_REPORT, argc, argv, take, &r);
    if (first < 0) return STATUS_USAGE;
    const bool piped = first == argc;
    if (piped && isatty(STDIN_FILENO)) {
        complain("which log? preclose report LOG..., or pipe one in; see: preclose report --help");
        return STATUS_USAGE;
    }
    r.tally = tally_new(r.html != NULL);
    r.symbols = r.no_symbols ? NULL : symbols_new(r.root);
    r.began_ms = r.told_ms = now_ms();
    open_logs(&r, piped ? standard : argv + first, piped ? 1 : argc - first);
    if (!r.n) return STATUS_FAILED;
    read_logs(&r);
    if (r.follow) return follow(&r) ? STATUS_OK : STATUS_FAILED;
    const bool written = write_report(&r);
    return written && !r.failed ? STATUS_OK : STATUS_FAILED;
}
