// The command preclose: which subcommand is meant.
#include <stdbool.h>
#include <stdio.h>

#include "commands.h"
#include "options.h"

static int (*const commands[COMMAND_COUNT])(int argc, char **argv) = {
    [COMMAND_RUN] = command_run,
    [COMMAND_REPORT] = command_report,
    [COMMAND_SCAN] = command_scan,
    [COMMAND_FREE] = command_free,
    [COMMAND_TOP] = command_top,
    [COMMAND_METRICS] = command_metrics,
};

int main(int argc, char **argv)
{
    enum command command = argc > 1 ? command_named(argv[1]) : COMMAND_RUN;
    const int skipped = command == COMMAND_RUN ? 0 : 1;
    return commands[command](argc - skipped, argv + skipped);
}
