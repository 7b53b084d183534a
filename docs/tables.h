// The tables of the command, for what is made from them: its manual page and its completions.
#ifndef PRECLOSE_DOCS_TABLES_H
#define PRECLOSE_DOCS_TABLES_H

enum {
#define COMMAND(id, name, operands, what) COMMAND_##id,
#include "../cli/commands.def"
#undef COMMAND
    COMMANDS
};

static const struct {
    const char *name, *operands, *what; // name: "" for the one that runs a program
} commands[COMMANDS] = {
#define COMMAND(id, name, operands, what) {name, operands, what},
#include "../cli/commands.def"
#undef COMMAND
};

static const struct {
    int command;
    int letter;                           // 0: none
    const char *name, *argument, *meaning; // "": none
} options[] = {
#define OPTION(command, id, letter, name, argument, meaning) {COMMAND_##command, letter, name, argument, meaning},
#include "../cli/options.def"
#undef OPTION
};

// Each is an option of the command that runs a program, too: PRECLOSE_CLOSE_WAIT is --close-wait.
static const struct {
    const char *name, *values, *fallback, *meaning;
} settings[] = {
#define SETTING(name, how, field, values, fallback, meaning) {#name, values, fallback, meaning},
#include "../shim/settings.def"
#undef SETTING
};

enum { OPTIONS = sizeof options / sizeof options[0], SETTINGS = sizeof settings / sizeof settings[0] };

#endif
