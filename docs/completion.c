// Makes a completion: completion < preclose.SHELL.in. A line of the input that is @NAME@ stands for a table in the
// words of that shell; within a line, @NAMES|@ for the names of the commands with | between them, and so on.
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tables.h"
#include "words.h"

enum { CHOICES_MAX = 1024, ALL = OPTIONS + SETTINGS + 2 };

// What an option takes, or the operands of a command are.
enum kind { NOTHING, ANYTHING, WORDS, LIST, FILES, DIRECTORIES, PIDS, PROGRAM, COLUMNS };

struct option {
    char letter[2]; // "": none
    char name[WORD_MAX], argument[WORD_MAX], meaning[WORD_MAX];
    char choices[CHOICES_MAX]; // words with blanks between them; of FILES, those that may stand there, too
    enum kind kind;
};

static const char *const states[] = {
#define SCANNED(name) name,
#include "../cli/scanned.def"
};

static const char *const columns[] = {
#define COLUMN(id, title, width, sorted, meaning) title,
#include "../cli/columns.def"
};

static bool begins(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static void copy(char to[WORD_MAX], const char *s, size_t n)
{
    snprintf(to, WORD_MAX, "%.*s", (int)n, s);
}

static void add_choice(char choices[CHOICES_MAX], const char *word)
{
    const size_t n = strlen(choices);
    snprintf(choices + n, CHOICES_MAX - n, "%s%s", n ? " " : "", word);
}

// From what a table says of an argument: "", "FILE", "text|json", "stderr|none|a path (...)".
static void set_kind(struct option *o, const char *argument)
{
    static const struct {
        const char *begins;
        enum kind kind;
    } kinds[] = {{"FILE", FILES},    {"LOG", FILES}, {"a path", FILES},   {"DIR", DIRECTORIES},
                 {"STATE[", LIST},   {"PID", PIDS},  {"PROGRAM", PROGRAM},
                 {"COLUMN", COLUMNS}};
    char one[WORD_MAX];
    o->kind = *argument ? ANYTHING : NOTHING;
    while (next_alternative(&argument, one)) {
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (begins(one, kinds[i].begins)) o->kind = kinds[i].kind;
        if (!is_literal(one, strlen(one))) continue;
        if (o->kind == ANYTHING) o->kind = WORDS;
        add_choice(o->choices, one);
    }
    if (o->kind == COLUMNS) {
        o->kind = WORDS;
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) add_choice(o->choices, columns[i]);
    }
    if (o->kind == LIST) {
        for (size_t i = 0; i < sizeof states / sizeof *states; i++) add_choice(o->choices, states[i]);
        add_choice(o->choices, "all");
    }
}

// "ignore: SIGPIPE is ignored from the start unless ..." → "SIGPIPE is ignored from the start unless ...": the first
// thing that is said.
static void set_brief(struct option *o, const char *meaning)
{
    size_t n = strcspn(meaning, ";:");
    if (meaning[n] == ':' && is_literal(meaning, n)) {
        meaning += n + 2;
        n = strcspn(meaning, ";:");
    }
    for (size_t i = 0; i + 1 < n; i++)
        if (meaning[i] == '.' && meaning[i + 1] == ' ') n = i;
    copy(o->meaning, meaning, n);
}

static void from_row(struct option *o, int i)
{
    *o = (struct option){.letter = {(char)options[i].letter, '\0'}};
    copy(o->name, options[i].name, WORD_MAX);
    copy(o->argument, options[i].argument, WORD_MAX);
    copy(o->meaning, options[i].meaning, WORD_MAX);
    set_kind(o, options[i].argument);
}

static void from_setting(struct option *o, int i)
{
    *o = (struct option){.argument = "VALUE"};
    long_option(settings[i].name, o->name);
    set_kind(o, settings[i].values);
    set_brief(o, settings[i].meaning);
}

// Every option of a command. Returns how many.
static int options_of(int command, struct option all[ALL])
{
    int n = 0;
    for (int i = 0; i < OPTIONS; i++)
        if (options[i].command == command) from_row(&all[n++], i);
    for (int i = 0; command == COMMAND_RUN && i < SETTINGS; i++) from_setting(&all[n++], i);
    all[n++] = (struct option){.name = "help", .meaning = "say how it is used"};
    all[n++] = (struct option){.name = "version", .meaning = "say which version this is"};
    return n;
}

static const char *name_of(int command)
{
    return command == COMMAND_RUN ? "run" : commands[command].name;
}

// "[OPTION]... [LOG]...": what LOG is, the first that says what it is.
static enum kind operands_of(int command)
{
    static const char capitals[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    struct option o = {0};
    char word[WORD_MAX];
    size_t n;
    for (const char *at = commands[command].operands; *(at += strcspn(at, capitals)); at += n) {
        n = strspn(at, capitals);
        copy(word, at, n);
        set_kind(&o, word);
        if (o.kind > ANYTHING) break;
    }
    return o.kind;
}

// For bash.

static const char *const bash_kinds[] = {
    [ANYTHING] = "anything", [WORDS] = "words", [LIST] = "list", [FILES] = "files",
    [DIRECTORIES] = "directories", [PIDS] = "pids"};

static void bash_options(void)
{
    struct option all[ALL];
    for (int c = 0; c < COMMANDS; c++) {
        printf("    %s) echo '", name_of(c));
        for (int i = 0, n = options_of(c, all); i < n; i++) {
            if (*all[i].letter) printf("-%s ", all[i].letter);
            if (*all[i].name) printf("--%s%s ", all[i].name, all[i].kind == NOTHING ? "" : "=");
        }
        printf("' ;;\n");
    }
}

static void bash_arguments(void)
{
    struct option all[ALL];
    for (int c = 0; c < COMMANDS; c++)
        for (int i = 0, n = options_of(c, all); i < n; i++) {
            if (all[i].kind == NOTHING) continue;
            printf("    ");
            if (*all[i].letter) printf("%s:-%s%s", name_of(c), all[i].letter, *all[i].name ? " | " : "");
            if (*all[i].name) printf("%s:--%s", name_of(c), all[i].name);
            printf(") echo %s%s%s ;;\n", bash_kinds[all[i].kind], *all[i].choices ? " " : "", all[i].choices);
        }
}

static void bash_operands(void)
{
    for (int c = 0; c < COMMANDS; c++)
        if (c != COMMAND_RUN && operands_of(c) > ANYTHING)
            printf("    %s) echo %s ;;\n", name_of(c), bash_kinds[operands_of(c)]);
    printf("    *) echo anything ;;\n");
}

// For zsh.

// Inside single quotes, with a backslash before what special has.
static void quoted(const char *s, const char *special)
{
    for (; *s; s++) {
        if (*s == '\'') {
            fputs("'\\''", stdout);
            continue;
        }
        if (strchr(special, *s)) putchar('\\');
        putchar(*s);
    }
}

static void zsh_action(enum kind kind, const char *choices)
{
    switch (kind) {
    case WORDS:
        printf("(%s)", choices);
        break;
    case LIST:
        printf(" _values -s , value %s", choices);
        break;
    case FILES:
        if (*choices) printf(" _preclose_words_or_file %s", choices);
        else fputs("_files", stdout);
        break;
    case DIRECTORIES:
        fputs("_files -/", stdout);
        break;
    case PIDS:
        fputs("_preclose_pids", stdout);
        break;
    default:
        putchar(' '); // anything
    }
}

// '(-o --output)'{-o+,--output=}'[append the findings to FILE]:FILE:_files'
static void zsh_option(const struct option *o)
{
    const bool takes = o->kind != NOTHING;
    printf(" \\\n    ");
    if (*o->letter && *o->name)
        printf("'(-%s --%s)'{-%s%s,--%s%s}'[", o->letter, o->name, o->letter, takes ? "+" : "", o->name, takes ? "=" : "");
    else if (*o->letter)
        printf("'-%s%s[", o->letter, takes ? "+" : "");
    else
        printf("'--%s%s[", o->name, takes ? "=" : "");
    quoted(o->meaning, "[]\\");
    putchar(']');
    if (takes) {
        putchar(':');
        quoted(o->argument, ":\\");
        putchar(':');
        zsh_action(o->kind, o->choices);
    }
    putchar('\'');
}

static void zsh_functions(void)
{
    struct option all[ALL];
    for (int c = 0; c < COMMANDS; c++) {
        printf("%s_preclose_%s() {\n  _arguments -S -s", c ? "\n" : "", name_of(c));
        for (int i = 0, n = options_of(c, all); i < n; i++) zsh_option(&all[i]);
        if (c == COMMAND_RUN) {
            printf(" \\\n    '(-):program:_preclose_program' '*::argument:_normal'\n}\n");
            continue;
        }
        if (operands_of(c) > ANYTHING) {
            printf(" \\\n    '*:operand:");
            zsh_action(operands_of(c), "");
            putchar('\'');
        }
        printf("\n}\n");
    }
}

// "Says what logs hold: ..." → "says what logs hold"
static void brief_command(int command, char brief[WORD_MAX])
{
    copy(brief, commands[command].what, strcspn(commands[command].what, ":.;"));
    brief[0] = (char)tolower((unsigned char)brief[0]);
}

static void zsh_descriptions(void)
{
    char brief[WORD_MAX];
    for (int c = 0; c < COMMANDS; c++) {
        if (c == COMMAND_RUN) continue;
        brief_command(c, brief);
        printf("    '%s:", name_of(c));
        quoted(brief, "");
        printf("'\n");
    }
}

// For fish.

static void fish_commands(void)
{
    char brief[WORD_MAX];
    for (int c = 0; c < COMMANDS; c++) {
        if (c == COMMAND_RUN) continue;
        brief_command(c, brief);
        printf("complete -c preclose -n __preclose_first -a %s -d '", name_of(c));
        for (const char *s = brief; *s; s++) printf("%s%c", *s == '\'' ? "\\" : "", *s);
        printf("'\n");
        if (operands_of(c) == FILES) printf("complete -c preclose -n '__preclose_in %s' -F\n", name_of(c));
        if (operands_of(c) == PIDS)
            printf("complete -c preclose -n '__preclose_in %s' -a '(__fish_complete_pids)'\n", name_of(c));
    }
}

static void fish_argument(const struct option *o)
{
    switch (o->kind) {
    case NOTHING:
        break;
    case FILES:
        printf(" -r -F");
        if (*o->choices) printf(" -a '%s'", o->choices);
        break;
    case DIRECTORIES:
        printf(" -x -a '(__fish_complete_directories)'");
        break;
    case LIST:
        printf(" -x -a '(__fish_append , %s)'", o->choices);
        break;
    default:
        printf(" -x");
        if (*o->choices) printf(" -a '%s'", o->choices);
    }
}

static void fish_options(void)
{
    struct option all[ALL];
    for (int c = 0; c < COMMANDS; c++)
        for (int i = 0, n = options_of(c, all); i < n; i++) {
            printf("complete -c preclose -n '__preclose_in %s'", name_of(c));
            if (*all[i].letter) printf(" -s %s", all[i].letter);
            if (*all[i].name) printf(" -l %s", all[i].name);
            fish_argument(&all[i]);
            printf(" -d '");
            for (const char *s = all[i].meaning; *s; s++) printf("%s%c", *s == '\'' || *s == '\\' ? "\\" : "", *s);
            printf("'\n");
        }
}

// Within a line.

static void put_names(char between)
{
    const char *before = "";
    const char sign[] = {between, '\0'};
    for (int c = 0; c < COMMANDS; c++) {
        if (c == COMMAND_RUN) continue;
        printf("%s%s", before, name_of(c));
        before = sign;
    }
}

// The options of the command that runs a program, as far as they take an argument.
static void put_taking(void)
{
    struct option all[ALL];
    for (int i = 0, n = options_of(COMMAND_RUN, all); i < n; i++) {
        if (all[i].kind == NOTHING) continue;
        if (*all[i].letter) printf("-%s ", all[i].letter);
        if (*all[i].name) printf("--%s ", all[i].name);
    }
}

static const struct {
    const char *mark; // in the input of any shell
    void (*bash)(void), (*zsh)(void), (*fish)(void);
} tables[] = {
    {"@OPTIONS@\n", bash_options, NULL, fish_options}, {"@ARGUMENTS@\n", bash_arguments, NULL, NULL},
    {"@OPERANDS@\n", bash_operands, NULL, NULL},       {"@FUNCTIONS@\n", NULL, zsh_functions, NULL},
    {"@DESCRIPTIONS@\n", NULL, zsh_descriptions, NULL}, {"@COMMANDS@\n", NULL, NULL, fish_commands},
};

static bool put_table(const char *line, const char *shell)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (strcmp(line, tables[i].mark) != 0) continue;
        void (*put)(void) = strcmp(shell, "bash") == 0 ? tables[i].bash
                            : strcmp(shell, "zsh") == 0 ? tables[i].zsh : tables[i].fish;
        if (put) put();
        return put != NULL;
    }
    return false;
}

static void put_line(const char *line)
{
    static const struct {
        const char *mark;
        char between;
    } marks[] = {{"@NAMES|@", '|'}, {"@NAMES @", ' '}, {"@TAKING @", '\0'}};
    while (*line) {
        size_t i = 0;
        while (i < sizeof marks / sizeof *marks && !begins(line, marks[i].mark)) i++;
        if (i == sizeof marks / sizeof *marks) {
            putchar(*line++);
            continue;
        }
        if (marks[i].between) put_names(marks[i].between);
        else put_taking();
        line += strlen(marks[i].mark);
    }
}

int main(int argc, char **argv)
{
    char line[1000];
    if (argc != 2) return fputs("usage: completion bash|zsh|fish < preclose.SHELL.in\n", stderr), 2;
    while (fgets(line, sizeof line, stdin))
        if (!put_table(line, argv[1])) put_line(line);
    return ferror(stdin) || fflush(stdout) != 0;
}
