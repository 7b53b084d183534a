// Two places of 32 frames in one line: as many as fit, whole, and never the one instead of the other.
#include "unit.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "modules.h"
#include "report.h"

#define STAY() __asm__ volatile("" ::: "memory")
#define NOINLINE __attribute__((noinline))

static struct place opened, closed;
static char whole[2][PLACE_FRAMES_MAX][300]; // their frames as text

NOINLINE static struct place make(enum call call)
{
    struct place p = place_make(call, (uintptr_t)__builtin_return_address(0) - 1, 0);
    STAY();
    return p;
}

NOINLINE static struct place open_at(unsigned depth)
{
    struct place p = depth ? open_at(depth - 1) : make(CALL_ACCEPT4);
    STAY();
    return p;
}

NOINLINE static struct place close_at(unsigned depth)
{
    struct place p = depth ? close_at(depth - 1) : make(CALL_CLOSE);
    STAY();
    return p;
}

static void name_all(const struct place *p, char names[][300])
{
    unsigned n;
    const uintptr_t *caller = place_callers(p, &n);
    assert_int_equal(n, PLACE_FRAMES_MAX - 1);
    for (unsigned i = 0; i <= n; i++) {
        const char *text;
        size_t length = modules_place(i ? caller[i - 1] : p->pc, &text);
        snprintf(names[i], sizeof names[i], "%.*s", (int)length, text);
    }
}

static int start(void **state)
{
    (void)state;
    modules_finder *find;
    *(void **)&find = dlsym(RTLD_DEFAULT, "_dl_find_object");
    modules_use(find);
    modules_start();
    place_start(PLACE_FRAMES_MAX);
    opened = open_at(40);
    closed = close_at(40);
    if (!find) return 0;
    name_all(&opened, whole[0]);
    name_all(&closed, whole[1]);
    return 0;
}

// How many frames stand at at, between quotes or commas; each must be the one that belongs there.
static unsigned count_frames(const char *at, char names[][300], bool json)
{
    unsigned n = 0;
    for (; n < PLACE_FRAMES_MAX; n++) {
        size_t length = strlen(names[n]);
        if (json && *at++ != '"') fail_msg("no frame: %.80s", at);
        const char *slash = strrchr(names[n], '/');
        if (n == 0 && *at != '/' && slash) length -= (size_t)(slash + 1 - names[n]); // the file name alone
        if (strncmp(at, names[n] + strlen(names[n]) - length, length) != 0) fail_msg("frame %u: %.80s", n, at);
        at += length;
        if (json && *at++ != '"') fail_msg("frame %u goes on: %.80s", n, at);
        if (*at != ',') return n + 1;
        at++;
    }
    fail_msg("too many frames: %.80s", at);
    return 0;
}

static unsigned frames_in(const char *line, size_t n, const char *key, char names[][300], bool json)
{
    char before[32];
    const char *object = line, *end = line + n;
    if (json) {
        static char copy[LINE_MAX_BYTES];
        snprintf(copy, sizeof copy, "%s", json_get(line, end, key));
        if (!copy[0]) return 0;
        snprintf(copy, sizeof copy, "%s", json_get(copy, copy + strlen(copy), "at"));
        return copy[0] ? count_frames(copy + 1, names, true) : 0;
    }
    snprintf(before, sizeof before, " %s.at=", key);
    object = memmem(line, n, before, strlen(before));
    return object ? count_frames(object + strlen(before), names, false) : 0;
}

static const struct line_context context = {.time_us = 1, .pid = 17, .comm = "server"};

static void in_format(enum format format)
{
    static char line[LINE_MAX_BYTES + 1];
    const bool json = format == FORMAT_JSON;
    const struct finding f = {.event = EVENT_CLOSE, .fd = 7, .age_ms = 12, .opened = opened, .closed = closed};
    unsigned most[2] = {0, 0};
    for (size_t size = 512; size <= LINE_MAX_BYTES; size++) {
        char keys[512];
        size_t n = report_line(line, size, format, &f, &context);
        assert_true(n <= size);
        if (json ? !json_is_line(line, n) : !text_keys(line, n, keys, sizeof keys)) fail_msg("%.*s", (int)n, line);
        line[n - 1] = ' ';
        const unsigned of[2] = {frames_in(line, n, "opened", whole[0], json), frames_in(line, n, "closed", whole[1], json)};
        if (size > 1024) assert_true(of[0] >= 1 && of[1] >= 1);
        if (size > 2048) assert_true(of[0] >= 3 && of[1] >= 3);
        for (int i = 0; i < 2; i++) {
            assert_true(of[i] + 1 >= most[i]); // a longer line has no less, but for one field that fits now
            if (of[i] > most[i]) most[i] = of[i];
        }
    }
    assert_true(most[0] > 8 && most[1] > 8);
}

static void test_frames_that_fit(void **state)
{
    (void)state;
    if (!opened.stack) {
        print_message("skipped: no _dl_find_object\n");
        skip();
    }
    in_format(FORMAT_JSON);
    in_format(FORMAT_TEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_frames_that_fit)};
    return cmocka_run_group_tests_name("report_frames", tests, start, NULL);
}
