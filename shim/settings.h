// What the user asked for, from the PRECLOSE_ variables of the environment (settings.def).
#ifndef PRECLOSE_SETTINGS_H
#define PRECLOSE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

enum act_when { ACT_ALWAYS, ACT_BLOCKED, ACT_NEVER };
enum unread_how { UNREAD_SHUTDOWN, UNREAD_RESET, UNREAD_DRAIN };
enum log_kind { LOG_STDERR, LOG_NONE, LOG_FILE };
enum format { FORMAT_TEXT, FORMAT_JSON };
enum level { LEVEL_WARNING, LEVEL_NOTICE, LEVEL_INFO }; // a finding is written if its level <= the setting
enum report_when { REPORT_AUTO, REPORT_ALWAYS, REPORT_NEVER };
enum watch_how { WATCH_AUTO, WATCH_THREAD, WATCH_CALLS, WATCH_OFF };
enum sigpipe_how { SIGPIPE_DEFAULT, SIGPIPE_IGNORE };

#define LOG_PATH_MAX 1024
#define ONLY_MAX 256

// TCP keepalive (tcp(7)); idle 0: off.
struct keepalive {
    unsigned idle, interval; // seconds
    unsigned count;          // of probes
};

struct settings {
    enum act_when shutdown;
    enum unread_how unread;
    unsigned drain_ms; // UNREAD_DRAIN: at most
    enum log_kind log;
    char log_path[LOG_PATH_MAX]; // LOG_FILE: with %p replaced by the pid
    enum format format;
    enum level level;
    enum report_when report;
    int64_t close_wait_ms; // 0 = off
    enum watch_how watch;
    int64_t slow_close_ms; // 0 = off
    unsigned stack;        // frames, 0 to 32
    unsigned rate;         // lines a minute per event and place; 0 = no limit
    unsigned exit_code;    // 0 = the program's own
    char only[ONLY_MAX];   // globs separated by ','
    enum sigpipe_how sigpipe;
    unsigned reuseaddr; // 0 or 1
    struct keepalive keepalive;
    int64_t recv_timeout_ms; // 0 = off
};

// Told once for each thing wrong in the environment: one line without newline, e.g.
// "PRECLOSE_LEVEL=loud: takes warning, notice or info; using warning".
typedef void settings_complaint(void *context, const char *line);

// Fills in *s with the defaults, then with what the PRECLOSE_ variables of env (NULL-terminated
// "NAME=value" strings, as environ(7); of a name that is there twice the first counts, as for getenv) say.
// An unknown PRECLOSE_ name, one that this version does not have or a bad value is told through complain
// (may be NULL) and leaves the default. pid: what %p in PRECLOSE_LOG stands for. Pure but for complain;
// async-signal-safe, no lock.
void settings_read(struct settings *s, char *const *env, int pid, settings_complaint *complain,
                   void *context);

// Does a program name (comm) match one of the globs of s->only, between commas? As fnmatch without flags:
// *, ?, [a-z], [!x], \ before a character that stands for itself. A name without any of these is cut at 15
// bytes, as the kernel cuts comm (proc(5)). Pure.
bool settings_match(const struct settings *s, const char *comm);

// The duration in milliseconds of a number with ms, s, m or h ("60s", "100ms"; "0" needs no unit), or -1.
// Pure.
int64_t settings_duration(const char *text);

#endif
