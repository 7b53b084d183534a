// Reading logs: any line is read within its bytes, in both formats, and what is found in it lies in it.
#include "fuzz.h"

#include "../../cli/log.h"

static struct log_memory memory;
static struct finding found;

static void within(struct slice s, const char *line, size_t n)
{
    if (!s.n) return;
    const uintptr_t at = (uintptr_t)s.at, end = at + s.n;
    const bool in_line = at >= (uintptr_t)line && end <= (uintptr_t)line + n;
    const bool in_memory = at >= (uintptr_t)&memory && end <= (uintptr_t)(&memory + 1);
    if (!in_line && !in_memory) wrong("a string of %zu bytes that is nowhere", s.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = malloc(size ? size : 1); // of exact size, so that a byte too far is seen
    memcpy(line, data, size);
    if (size > LINE_BYTES_MAX || memchr(line, '\n', size)) {
        free(line);
        return 0;
    }
    const enum log_line is = log_read(&memory, line, size, &found);
    if (is == LOG_FINDING) {
        const struct slice all[] = {found.comm,  found.level, found.event,  found.type,   found.state,
                                    found.local, found.peer,  found.action, found.reason, found.text};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) within(all[i], line, size);
        for (unsigned p = 0; p < PLACE_COUNT; p++) {
            within(found.place[p].call, line, size);
            within(found.place[p].at, line, size);
        }
        for (unsigned i = 0; i < found.threads && i < THREADS_READ; i++)
            within(found.thread[i].name, line, size);
        for (unsigned i = 0; i < found.leaks; i++) within(found.leak[i].at, line, size);
        if (!found.event.n) wrong("a finding without an event");
    }
    free(line);
    return 0;
}
