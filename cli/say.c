#include "say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void (*complaints)(const char *line);

void complain_to(void (*take)(const char *line))
{
    complaints = take;
}

void complain(const char *format, ...)
{
    char line[2048] = "preclose: ";
    const size_t start = strlen(line), room = sizeof line - 1 - start;
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line + start, room, format, arguments);
    va_end(arguments);
    size_t length = n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
    for (size_t i = start; i < start + length; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = '?';
    line[start + length] = '\0';
    if (complaints) {
        complaints(line + start);
        return;
    }
    line[start + length] = '\n';
    fflush(stdout);
    if (write(STDERR_FILENO, line, start + length + 1) < 0) return; // there is no one to tell
}

void *need(void *p)
{
    if (p) return p;
    complain("no memory");
    exit(STATUS_FAILED);
}

bool output_done(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    complain("cannot write to standard output: %s", strerror(errno));
    return false;
}
