#include "options.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

static const struct {
    const char *name, *operands, *what;
} commands[] = {
#define COMMAND(id, name, operands, what) {name, operands, what},
#include "commands.def"
#undef COMMAND
};

static const struct row {
    enum command command;
    int letter;
    const char *name, *argument, *meaning;
} rows[] = {
#define OPTION(command, id, letter, name, argument, meaning) \
    {COMMAND_##command, letter, name, argument, meaning},
#include "options.def"
#undef OPTION
};
_Static_assert(sizeof rows / sizeof rows[0] == FLAG_SETTING, "an option for each row");

static const struct {
    const char *variable, *values, *fallback, *meaning;
} settings[] = {
#define SETTING(name, how, field, values, fallback, meaning) {"PRECLOSE_" #name, values, fallback, meaning},
#include "../shim/settings.def"
#undef SETTING
};

enum {
    SETTINGS = sizeof settings / sizeof settings[0],
    HELP = FLAG_SETTING + SETTINGS,
    VERSION_ASKED,
    OPTIONS,
    FIRST = 0x100, // what getopt returns for option 0: behind every letter
    NAME_MAX_LENGTH = 32,
    WIDTH = 79, // of the help
};

const char *setting_variable(enum flag flag)
{
    return settings[flag - FLAG_SETTING].variable;
}

const char *setting_option(enum flag flag)
{
    static char names[SETTINGS][NAME_MAX_LENGTH];
    char *name = names[flag - FLAG_SETTING];
    const char *variable = setting_variable(flag) + strlen("PRECLOSE_");
    for (size_t i = 0; i < NAME_MAX_LENGTH - 1 && variable[i]; i++)
        name[i] = (char)(variable[i] == '_' ? '-' : tolower((unsigned char)variable[i]));
    return name;
}

enum command command_named(const char *name)
{
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (*commands[i].name && strcmp(commands[i].name, name) == 0) return (enum command)i;
    return COMMAND_RUN;
}

// Words of text, wrapped; the first line begins in column column, further ones are indented.
static void put_wrapped(const char *text, int indent, int column)
{
    for (const char *at = text; *at;) {
        int length = (int)strcspn(at, " ");
        if (column > indent && column + 1 + length > WIDTH) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (at > text) {
            putchar(' ');
            column++;
        }
        printf("%.*s", length, at);
        column += length;
        at += length;
        while (*at == ' ') at++;
    }
    putchar('\n');
}

// "  -o, --output=FILE  what it means"
static void put_option(int letter, const char *name, const char *argument, const char *meaning)
{
    enum { INDENT = 26 };
    int column = letter ? printf("  -%c", letter) : printf("    ");
    if (letter && *name) column += printf(", ");
    if (!letter && *name) column += printf("  ");
    if (*name) column += printf("--%s", name);
    if (*argument) column += printf("%s%s", *name ? "=" : " ", argument);
    if (column > INDENT - 2) {
        putchar('\n');
        column = 0;
    }
    printf("%*s", INDENT - column, "");
    put_wrapped(meaning, INDENT, INDENT);
}

// Are the values words to type, and nothing else?
static bool is_choice(const char *values)
{
    return values[strspn(values, "abcdefghijklmnopqrstuvwxyz0123456789-|")] == '\0';
}

static void put_settings(void)
{
    printf("\nSettings of the library (each also a variable, PRECLOSE_CLOSE_WAIT for --close-wait):\n");
    for (int i = 0; i < SETTINGS; i++) {
        const bool choice = is_choice(settings[i].values);
        char meaning[1024];
        snprintf(meaning, sizeof meaning, "%s (%s%sdefault %s)", settings[i].meaning,
                 choice ? "" : settings[i].values, choice ? "" : "; ", settings[i].fallback);
        put_option(0, setting_option((enum flag)(FLAG_SETTING + i)), choice ? settings[i].values : "VALUE",
                   meaning);
    }
}

void options_help(enum command command)
{
    const bool run = command == COMMAND_RUN;
    printf("usage: preclose %s%s%s\n", commands[command].name, run ? "" : " ", commands[command].operands);
    for (int i = 0; run && i < COMMAND_COUNT; i++)
        if (i != COMMAND_RUN) printf("       preclose %s %s\n", commands[i].name, commands[i].operands);
    putchar('\n');
    put_wrapped(commands[command].what, 0, 0);
    for (int i = 0; run && i < COMMAND_COUNT; i++) {
        if (i == COMMAND_RUN) continue;
        printf("\npreclose %s\n  ", commands[i].name);
        put_wrapped(commands[i].what, 2, 2);
    }
    printf("\nOptions:\n");
    for (int i = 0; i < FLAG_SETTING; i++)
        if (rows[i].command == command)
            put_option(rows[i].letter, rows[i].name, rows[i].argument, rows[i].meaning);
    put_option(0, "help", "", "say this, and no more");
    put_option(0, "version", "", "say which version this is");
    if (run) put_settings();
}

// What getopt_long takes: the letters, and the long names.
struct table {
    char letters[2 * FLAG_SETTING + 4];
    struct option names[OPTIONS + 1];
};

static void add_long(struct table *t, unsigned *n, const char *name, int argument, int flag)
{
    t->names[(*n)++] = (struct option){name, argument, NULL, FIRST + flag};
}

static void fill(struct table *t, enum command command)
{
    char *letter = t->letters;
    unsigned n = 0;
    // '+': what follows PROGRAM is PROGRAM's. ':': an argument that is missing is told apart.
    if (command == COMMAND_RUN) *letter++ = '+';
    *letter++ = ':';
    for (int i = 0; i < FLAG_SETTING; i++) {
        const int argument = *rows[i].argument ? required_argument : no_argument;
        if (rows[i].command != command) continue;
        if (rows[i].letter) *letter++ = (char)rows[i].letter;
        if (rows[i].letter && argument == required_argument) *letter++ = ':';
        if (*rows[i].name) add_long(t, &n, rows[i].name, argument, i);
    }
    *letter = '\0';
    for (int i = 0; command == COMMAND_RUN && i < SETTINGS; i++)
        add_long(t, &n, setting_option((enum flag)(FLAG_SETTING + i)), required_argument, FLAG_SETTING + i);
    add_long(t, &n, "help", no_argument, HELP);
    add_long(t, &n, "version", no_argument, VERSION_ASKED);
    t->names[n] = (struct option){0};
}

// getopt_long returns a letter, or FIRST + flag for a long name.
static int flag_of(enum command command, int found)
{
    if (found >= FIRST) return found - FIRST;
    for (int i = 0; i < FLAG_SETTING; i++)
        if (rows[i].command == command && rows[i].letter == found) return i;
    return -1;
}

// How many options begin like a word that is none, "--re=x".
static int alike(const struct table *t, const char *word)
{
    int n = 0;
    const size_t length = strncmp(word, "--", 2) == 0 ? strcspn(word + 2, "=") : 0;
    for (const struct option *o = t->names; o->name; o++)
        n += length && strncmp(o->name, word + 2, length) == 0;
    return n;
}

static void complain_of(const struct table *t, enum command command, int found, const char *word)
{
    const char *name = commands[command].name, *space = *name ? " " : "", *wrong = "does not exist";
    char letter[] = {'-', (char)optopt, '\0'};
    // A letter in a bundle (-xyz) is named alone; a long option as it was written.
    if (optopt > 0 && optopt < FIRST) word = letter;
    if (found == ':')
        wrong = "needs an argument";
    else if (optopt >= FIRST)
        wrong = "takes no argument";
    else if (word != letter && alike(t, word) > 1)
        wrong = "can be more than one";
    complain("option %s %s; see: preclose %s%s--help", word, wrong, name, space);
}

int options_read(enum command command, int argc, char **argv, option_take *take, void *context)
{
    struct table t = {0};
    fill(&t, command);
    opterr = 0;
    optind = 1;
    for (;;) {
        const int found = getopt_long(argc, argv, t.letters, t.names, NULL);
        if (found == -1) return optind;
        if (found == '?' || found == ':') {
            complain_of(&t, command, found, argv[optind - 1]);
            return -1;
        }
        const int flag = flag_of(command, found);
        if (flag == HELP) options_help(command);
        if (flag == VERSION_ASKED) printf("preclose %s\n", PRECLOSE_VERSION);
        if (flag >= HELP) exit(output_done() ? STATUS_OK : STATUS_FAILED);
        if (!take(context, (enum flag)flag, optarg)) return -1;
    }
}
