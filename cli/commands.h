// The subcommands. Each takes its own name as argv[0], and returns the exit status.
#ifndef PRECLOSE_CLI_COMMANDS_H
#define PRECLOSE_CLI_COMMANDS_H

int command_run(int argc, char **argv);
int command_report(int argc, char **argv);
int command_scan(int argc, char **argv);
int command_free(int argc, char **argv);
int command_top(int argc, char **argv);
int command_metrics(int argc, char **argv);

#endif
