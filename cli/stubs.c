#include "commands.h"
#include "view.h"
int command_scan(int argc, char **argv) { (void)argc; (void)argv; return 1; }
void report_html(const struct view *v, FILE *out) { report_json(v, out, true); }
