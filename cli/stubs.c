#include "commands.h"
int command_report(int argc, char **argv) { (void)argc; (void)argv; return 1; }
int command_scan(int argc, char **argv) { (void)argc; (void)argv; return 1; }
