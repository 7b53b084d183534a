// Makes a manual page: page VERSION LIBDIR < libpreclose.7.in. A line of the input that is @NAME@ stands for a table;
// within a line, @VERSION@ for the version and @LIBDIR@ for where the library is. The tables are those of shim/ and cli/.
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "roff.h"

static void setting(const char *name, const char *takes, const char *fallback, const char *meaning)
{
    char variable[64];
    snprintf(variable, sizeof variable, "PRECLOSE_%s", name);
    roff_head(variable, "");
    roff_sentence(meaning);
    roff_values(takes);
    roff_text("; the default is ");
    roff_bold(fallback);
    roff_text(".\n");
}

static void settings(void)
{
#define SETTING(name, how, field, values, fallback, meaning) setting(#name, values, fallback, meaning);
#include "settings.def"
}

static void event(const char *name, const char *severity, const char *when)
{
    char level[16];
    snprintf(level, sizeof level, "%s", severity);
    for (char *c = level; *c; c++) *c = (char)tolower((unsigned char)*c);
    roff_head(name, level);
    roff_sentence(when);
}

static void findings(void)
{
#define EVENT(id, name, severity, when) event(name, #severity, when);
#include "findings.def"
}

static void reason(const char *name, const char *why)
{
    if (!*name) return; // none: the action says all
    roff_head(name, "");
    roff_sentence(why);
}

static void reasons(void)
{
#define ACTION(id, name)
#define REASON(id, name, text) reason(name, text);
#include "actions.def"
#undef ACTION
#undef REASON
}

enum shape { STRING, NUMBER, PLACE, PLACES, THREADS, COUNTS, LEAKS };

static void field(const char *name, enum shape shape, const char *meaning)
{
    static const char *const shapes[] = {
        [STRING] = "string",   [NUMBER] = "number",     [PLACE] = "object", [PLACES] = "array of strings",
        [THREADS] = "array of objects", [COUNTS] = "object", [LEAKS] = "array of objects",
    };
    roff_head(name, shapes[shape]);
    roff_sentence(meaning);
}

static void fields(void)
{
#define FIELD(name, shape, meaning) field(name, shape, meaning);
#define THREAD_FIELD(name, shape, meaning)
#define PLACE_FIELD(name, shape, meaning)
#define LEAK_FIELD(name, shape, meaning)
#include "fields.def"
#undef FIELD
#undef THREAD_FIELD
#undef PLACE_FIELD
#undef LEAK_FIELD
}

static void thread_fields(void)
{
#define FIELD(name, shape, meaning)
#define THREAD_FIELD(name, shape, meaning) field(name, shape, meaning);
#define PLACE_FIELD(name, shape, meaning)
#define LEAK_FIELD(name, shape, meaning)
#include "fields.def"
#undef FIELD
#undef THREAD_FIELD
#undef PLACE_FIELD
#undef LEAK_FIELD
}

static void place_fields(void)
{
#define FIELD(name, shape, meaning)
#define THREAD_FIELD(name, shape, meaning)
#define PLACE_FIELD(name, shape, meaning) field(name, shape, meaning);
#define LEAK_FIELD(name, shape, meaning)
#include "fields.def"
#undef FIELD
#undef THREAD_FIELD
#undef PLACE_FIELD
#undef LEAK_FIELD
}

static void leak_fields(void)
{
#define FIELD(name, shape, meaning)
#define THREAD_FIELD(name, shape, meaning)
#define PLACE_FIELD(name, shape, meaning)
#define LEAK_FIELD(name, shape, meaning) field(name, shape, meaning);
#include "fields.def"
#undef FIELD
#undef THREAD_FIELD
#undef PLACE_FIELD
#undef LEAK_FIELD
}

// "tcp, tcp6, ... or other."
static void list(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        roff_bold(names[i]);
        roff_text(i + 2 < n ? ", " : i + 1 < n ? " or " : ".\n");
    }
}

static void kinds(void)
{
    static const char *const names[] = {
#define KIND(id, name, family, type, protocols, wakes, asks) name,
#include "kinds.def"
    };
    list(names, sizeof names / sizeof *names);
}

static void states(void)
{
    static const char *const names[] = {
#define STATE(number, name) name,
#include "states.def"
    };
    list(names, sizeof names / sizeof *names);
}

static const struct {
    const char *name;
    void (*print)(void);
} tables[] = {
    {"@SETTINGS@\n", settings}, {"@FINDINGS@\n", findings},         {"@REASONS@\n", reasons},
    {"@FIELDS@\n", fields},     {"@THREAD-FIELDS@\n", thread_fields}, {"@PLACE-FIELDS@\n", place_fields},
    {"@LEAK-FIELDS@\n", leak_fields}, {"@KINDS@\n", kinds}, {"@STATES@\n", states},
    {"@SYNOPSIS@\n", command_synopsis}, {"@RUN@\n", command_running}, {"@FLAGS@\n", command_flags},
    {"@COMMANDS@\n", command_others},
};

static bool print_table(const char *line)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (strcmp(line, tables[i].name) == 0) return tables[i].print(), true;
    return false;
}

// A line with its @NAME@s replaced. Returns false, with a complaint, if one is not known.
static bool print_line(const char *line, const char *version, const char *libdir)
{
    for (const char *at; (at = strchr(line, '@'));) {
        printf("%.*s", (int)(at - line), line);
        const size_t n = strcspn(at + 1, "@");
        if (strncmp(at, "@VERSION@", n + 2) == 0) fputs(version, stdout);
        else if (strncmp(at, "@LIBDIR@", n + 2) == 0) fputs(libdir, stdout);
        else return fprintf(stderr, "page: what is %s", at), false;
        line = at + n + 2;
    }
    fputs(line, stdout);
    return true;
}

int main(int argc, char **argv)
{
    char line[1000];
    if (argc != 3) return fputs("usage: page VERSION LIBDIR < libpreclose.7.in\n", stderr), 2;
    while (fgets(line, sizeof line, stdin))
        if (!print_table(line) && !print_line(line, argv[1], argv[2])) return 1;
    return ferror(stdin) || fflush(stdout) != 0;
}
