// preclose scan: options, and the way it is shown.
#include "scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../shim/settings.h"
#include "commands.h"
#include "options.h"
#include "say.h"
#include "text.h"

enum { PLUGIN_UNKNOWN = 3 };

static uint32_t all_states(void)
{
    return 0
#define SCANNED(name) | diag_state_bit(name)
#include "scanned.def"
#undef SCANNED
        ;
}

static bool take_states(struct scan *s, const char *argument)
{
    static const char known[] =
#define SCANNED(name) name ", "
#include "scanned.def"
#undef SCANNED
        "or all";
    struct slice rest = slice_of(argument);
    s->states = 0;
    while (rest.n) {
        const struct slice one = slice_cut(&rest, ',');
        char name[24];
        snprintf(name, sizeof name, "%.*s", (int)(one.n < sizeof name ? one.n : sizeof name - 1), one.at);
        const uint32_t bit = strcmp(name, "all") == 0 ? all_states() : diag_state_bit(name) & all_states();
        if (!bit) {
            complain("--state=%s: takes %s, several with ','", argument, known);
            return false;
        }
        s->states |= bit;
    }
    s->what = s->states == diag_state_bit("close-wait") ? "in CLOSE_WAIT" : "in these states";
    return true;
}

static bool take_number(const char *option, const char *argument, int64_t *number)
{
    if (slice_number(slice_of(argument), number) && *number >= 0) return true;
    complain("--%s=%s: takes a number of connections", option, argument);
    return false;
}

static bool take(void *context, enum flag flag, const char *argument)
{
    struct scan *s = context;
    switch (flag) {
    case FLAG_SCAN_STATE:
        return take_states(s, argument);
    case FLAG_SCAN_OLDER:
        s->older_ms = settings_duration(argument);
        if (s->older_ms < 0) complain("--older=%s: takes a duration, such as 500ms, 60s, 5m or 2h", argument);
        return s->older_ms >= 0;
    case FLAG_SCAN_ALL:
        s->all = true;
        return true;
    case FLAG_SCAN_JSON:
        s->json = true;
        return true;
    case FLAG_SCAN_WARN:
        return take_number("warn", argument, &s->warn);
    case FLAG_SCAN_CRIT:
        return take_number("crit", argument, &s->crit);
    default:
        return false;
    }
}

static bool is_asked_for(const struct scan *s, pid_t pid)
{
    for (int i = 0; i < s->n; i++)
        if (s->pids[i] == pid) return true;
    return s->n == 0;
}

bool scan_wants(const struct scan *s, const struct entry *e)
{
    if (e->held == GHOST || e->held == LIKELY_GHOST || e->held == CLOSED || !(s->states >> e->s.state & 1))
        return false;
    if (s->older_ms && e->s.quiet_ms < s->older_ms) return false;
    if (!s->n) return true;
    for (size_t i = 0; i < e->holders; i++)
        if (is_asked_for(s, s->census.holder[e->first + i].pid)) return true;
    return false;
}

size_t scan_count(const struct scan *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->census.entries; i++) n += scan_wants(s, &s->census.entry[i]);
    return n;
}

// The operands are process ids of processes that are there. malloc; NULL after a complaint.
static int *read_pids(char **operands, int n)
{
    int *pids = need(calloc((size_t)n + 1, sizeof *pids));
    for (int i = 0; i < n; i++) {
        int64_t pid;
        if (!slice_number(slice_of(operands[i]), &pid) || pid <= 0 || pid > INT32_MAX) {
            complain("%s is no process id; preclose scan [OPTION]... [PID]...", operands[i]);
        } else if (proc_uid((pid_t)pid) < 0) {
            complain("there is no process %s", operands[i]);
        } else {
            pids[i] = (int)pid;
            continue;
        }
        free(pids);
        return NULL;
    }
    return pids;
}

// A monitoring system takes status 1 and 2 for what was measured: any failure is UNKNOWN to it.
static bool is_plugin(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "-w", 2) == 0 || strncmp(argv[i], "-c", 2) == 0 ||
            strncmp(argv[i], "--w", 3) == 0 || strncmp(argv[i], "--c", 3) == 0)
            return true;
    return false;
}

static int show(struct scan *s)
{
    if (s->warn >= 0 || s->crit >= 0) return scan_plugin(s);
    if (s->json)
        scan_json(s);
    else
        scan_text(s);
    return STATUS_OK;
}

int command_scan(int argc, char **argv)
{
    struct scan s = {.states = diag_state_bit("close-wait"), .what = "in CLOSE_WAIT", .warn = -1, .crit = -1};
    const bool plugin = is_plugin(argc, argv);
    int first = options_read(COMMAND_SCAN, argc, argv, take, &s);
    int *pids = first < 0 ? NULL : read_pids(argv + first, argc - first);
    if (!pids) return plugin ? PLUGIN_UNKNOWN : STATUS_USAGE;
    s.pids = pids;
    s.n = argc - first;
    const int result = census_take(&s.census, false);
    if (result < 0) {
        complain("the kernel does not tell of its sockets (sock_diag): %s; it needs CONFIG_INET_DIAG",
                 strerror(-result));
        return plugin ? PLUGIN_UNKNOWN : STATUS_FAILED;
    }
    const int status = show(&s);
    if (!output_done()) return plugin ? PLUGIN_UNKNOWN : STATUS_FAILED;
    return status;
}
