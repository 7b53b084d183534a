// The subcommands and their options, from commands.def and options.def: read, and described by --help.
#ifndef PRECLOSE_CLI_OPTIONS_H
#define PRECLOSE_CLI_OPTIONS_H

#include <stdbool.h>

enum command {
#define COMMAND(id, name, operands, what) COMMAND_##id,
#include "commands.def"
#undef COMMAND
    COMMAND_COUNT
};

enum flag {
#define OPTION(command, id, letter, name, argument, meaning) FLAG_##command##_##id,
#include "options.def"
#undef OPTION
    FLAG_SETTING // this one and those that follow: the settings, in the order of settings.def
};

// Told once for each option, in order; argument is NULL where the option takes none. Returns false, with a
// complaint made, for an argument that won't do.
typedef bool option_take(void *context, enum flag flag, const char *argument);

// Reads the options of a command from argv[1] on; for COMMAND_RUN only up to PROGRAM, for others anywhere.
// Returns the index of the first operand (argv is reordered so that operands are last), or -1 after a
// complaint. --help and --version are answered here, and end the process.
int options_read(enum command command, int argc, char **argv, option_take *take, void *context);

// Of the setting behind an option from FLAG_SETTING on: its variable ("PRECLOSE_CLOSE_WAIT") and its long
// option ("close-wait"), in memory that lasts.
const char *setting_variable(enum flag flag);
const char *setting_option(enum flag flag);

// The command whose name this is; COMMAND_RUN if none.
enum command command_named(const char *name);

// Writes the help of a command to standard output.
void options_help(enum command command);

#endif
