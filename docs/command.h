// The parts of preclose(1) that come from the tables of the command.
#ifndef PRECLOSE_DOCS_COMMAND_H
#define PRECLOSE_DOCS_COMMAND_H

void command_synopsis(void); // a line for each command
void command_running(void);  // the options of the command that runs a program
void command_flags(void);    // and those of it that are settings of the library
void command_others(void);   // the other commands, with their options

#endif
