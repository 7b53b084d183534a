// Makes the manual page: page VERSION < libpreclose.7.in. A line of the input that is @NAME@ stands for a table,
// @VERSION@ within a line for the version; the tables are those of shim/*.def.
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static size_t column; // of the line of roff that is being written

static void put(const char *s)
{
    fputs(s, stdout);
    column = strchr(s, '\n') ? 0 : column + strlen(s);
}

// Text as roff takes it: a hyphen that may be copied stays one, no line is a request, and none is long.
static void text(const char *s)
{
    for (; *s; s++) {
        const char one[] = {*s, '\0'};
        if (*s == ' ' && column + strcspn(s + 1, " ") > 65) {
            put("\n");
            continue;
        }
        if (column == 0 && (*s == '.' || *s == '\'')) put("\\&");
        put(*s == '-' ? "\\-" : *s == '\\' ? "\\e" : one);
    }
}

static void bold(const char *s)
{
    put("\\fB");
    text(s);
    put("\\fP");
}

// "act on every close" → "Act on every close."
static void sentence(const char *s)
{
    char first[] = {(char)toupper((unsigned char)*s), '\0'};
    text(first);
    text(s + 1);
    text(".\n");
}

static void head(const char *name, const char *more)
{
    puts(".TP");
    bold(name);
    if (*more) printf(" (%s)", more);
    text("\n");
}

// Is it a value as it is typed, and not a description of one?
static bool is_literal(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && s[i] != '-') return false;
    return true;
}

// "always|blocked|never" → "Takes always, blocked or never"
static void values(const char *s)
{
    char one[200];
    text("Takes ");
    for (size_t n; *s; s += n) {
        n = strcspn(s, "|");
        snprintf(one, sizeof one, "%.*s", (int)n, s);
        if (is_literal(s, n)) bold(one);
        else text(one);
        if (!s[n]) break;
        n++;
        text(strchr(s + n, '|') ? ", " : " or ");
    }
}

static void setting(const char *name, const char *takes, const char *fallback, const char *meaning)
{
    char variable[64];
    snprintf(variable, sizeof variable, "PRECLOSE_%s", name);
    head(variable, "");
    sentence(meaning);
    values(takes);
    text("; the default is ");
    bold(fallback);
    text(".\n");
}

static void settings(void)
{
#define SETTING(name, how, field, values, fallback, meaning) setting(#name, values, fallback, meaning);
#include "settings.def"
}

static void event(const char *name, const char *severity, const char *when)
{
    char level[16];
    size_t n = 0;
    for (; severity[n] && n < sizeof level - 1; n++) level[n] = (char)tolower((unsigned char)severity[n]);
    level[n] = '\0';
    head(name, level);
    sentence(when);
}

static void findings(void)
{
#define EVENT(id, name, severity, when) event(name, #severity, when);
#include "findings.def"
}

static void reason(const char *name, const char *why)
{
    if (!*name) return; // none: the action says all
    head(name, "");
    sentence(why);
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
    head(name, shapes[shape]);
    sentence(meaning);
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
        bold(names[i]);
        text(i + 2 < n ? ", " : i + 1 < n ? " or " : ".\n");
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
};

static bool print_table(const char *line)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (strcmp(line, tables[i].name) == 0) return tables[i].print(), true;
    return false;
}

int main(int argc, char **argv)
{
    static const char version[] = "@VERSION@";
    char line[1000];
    if (argc != 2) return fputs("usage: page VERSION < libpreclose.7.in\n", stderr), 2;
    while (fgets(line, sizeof line, stdin)) {
        if (print_table(line)) continue;
        char *at = strstr(line, version);
        if (at) printf("%.*s%s%s", (int)(at - line), line, argv[1], at + strlen(version));
        else if (*line == '@') return fprintf(stderr, "page: no table %s", line), 1;
        else fputs(line, stdout);
    }
    return ferror(stdin) || fflush(stdout) != 0;
}
