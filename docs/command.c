#include "command.h"

#include <stdio.h>

#include "roff.h"
#include "tables.h"
#include "words.h"

static void full_name(int command, char name[WORD_MAX])
{
    snprintf(name, WORD_MAX, "preclose%s%s", *commands[command].name ? " " : "", commands[command].name);
}

void command_synopsis(void)
{
    char name[WORD_MAX];
    for (int i = 0; i < COMMANDS; i++) {
        if (i) roff(".br\n");
        full_name(i, name);
        roff_bold(name);
        roff_text(" ");
        roff_operands(commands[i].operands);
        roff("\n");
    }
}

// "-o, --output=FILE"
static void put_option(int letter, const char *name, const char *argument, const char *meaning)
{
    char shorter[] = {'-', (char)letter, '\0'}, longer[WORD_MAX];
    snprintf(longer, sizeof longer, "--%s", name);
    roff(".TP\n");
    if (letter) roff_bold(shorter);
    if (letter && *name) roff_text(", ");
    if (*name) roff_bold(longer);
    if (*argument) roff_text(*name ? "=" : " ");
    if (*argument) roff_operands(argument);
    roff("\n");
    roff_sentence(meaning);
}

static void put_options(int command)
{
    for (int i = 0; i < OPTIONS; i++)
        if (options[i].command == command)
            put_option(options[i].letter, options[i].name, options[i].argument, options[i].meaning);
}

void command_running(void)
{
    put_options(COMMAND_RUN);
}

void command_flags(void)
{
    char name[WORD_MAX];
    for (int i = 0; i < SETTINGS; i++) {
        put_option(0, long_option(settings[i].name, name), "VALUE", settings[i].meaning);
        roff_values(settings[i].values);
        roff_text("; the default is ");
        roff_bold(settings[i].fallback);
        roff_text(".\n");
    }
}

void command_others(void)
{
    char name[WORD_MAX];
    for (int i = 0; i < COMMANDS; i++) {
        if (i == COMMAND_RUN) continue;
        full_name(i, name);
        roff(".SS ");
        roff_text(name);
        roff("\n");
        roff_sentence(commands[i].what);
        put_options(i);
    }
}
