// timeout: 60
// env: PRECLOSE_STACK=16
// Hazard 29: code that is unloaded while stacks are walked, and other code at the same addresses. What is told of the
// callers is that of the code that is there now, and nothing that is gone is read.
#include "hostile.h"

typedef int opener(void);

enum { ROUNDS = 40, RACE_ROUNDS = 400, WALKERS = 3 };

static void build(const char *path, const char *room)
{
    char command[PATH_MAX * 3];
    const char *cc = getenv("HOSTILE_CC"), *source = getenv("HOSTILE_SOURCE");
    if (!cc || !source) skip("run by run.py only");
    snprintf(command, sizeof command, "%s -O1 -shared -fPIC -DROOM=%s -o '%s' '%s/beside/frames.c'", cc, room, path, source);
    if (system(command) != 0) skip("%s can build no module here", cc);
}

static opener *load(const char *path, void **module)
{
    opener *function;
    *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!*module) fail("dlopen: %s", dlerror());
    *(void **)&function = dlsym(*module, "plugin_open");
    if (!function) fail("dlsym: %s", dlerror());
    return function;
}

__attribute__((noinline)) static void open_and_close(opener *function)
{
    int fd = must(function());
    must(close(fd));
}

// The callers of the module's function, in each line of the log that tells of it: always the same.
static void expect_same_callers(const char *log, const char *first, const char *second)
{
    char *text = text_of(log), *expected = NULL;
    unsigned told[2] = {0, 0};
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *at = strstr(line, "\"opened\":");
        at = at ? strstr(at, "\"at\":[") : NULL;
        if (!at || (!strstr(at, first) && !strstr(at, second))) continue;
        told[strstr(at, first) == NULL]++;
        char *callers = strchr(at, ','), *end = strchr(at, ']');
        if (!callers || !end || callers > end) fail("no callers: %.300s", at);
        *end = '\0';
        if (count_of(callers, ",") < 4) fail("few callers: %s", callers);
        if (!expected) expected = callers;
        if (strcmp(callers, expected) != 0) fail("callers %s and %s", expected, callers);
    }
    if (told[0] != ROUNDS || told[1] != ROUNDS) fail("%u and %u lines told, not %d", told[0], told[1], ROUNDS);
    free(text);
}

static void other_code_there(const char *small, const char *large)
{
    uintptr_t at[2] = {0, 0};
    unsigned same = 0;
    for (int i = 0; i < 2 * ROUNDS; i++) {
        void *module;
        opener *function = load(i % 2 ? large : small, &module);
        at[i % 2] = (uintptr_t)function;
        same += at[0] == at[1];
        open_and_close(function);
        must(dlclose(module));
    }
    expect_same_callers(getenv("PRECLOSE_LOG"), "/small.so+", "/large.so+");
    if (!same) skip("the loader never put the one where the other had been");
}

static _Atomic bool over;

__attribute__((noinline)) static void deep(unsigned depth)
{
    if (depth) {
        deep(depth - 1);
    } else {
        int sv[2];
        pair(sv);
        must(close(sv[0]));
        must(close(sv[1]));
    }
    __asm__ volatile("");
}

static void *walk(void *arg)
{
    for (unsigned i = 0; !atomic_load(&over); i++) deep(i % 20);
    return arg;
}

static void *load_and_unload(void *arg)
{
    for (int i = 0; i < RACE_ROUNDS; i++) {
        void *module;
        open_and_close(load(arg, &module));
        must(dlclose(module));
    }
    return NULL;
}

int main(void)
{
    char small[PATH_MAX], large[PATH_MAX];
    need_library();
    snprintf(small, sizeof small, "%s/small.so", scratch());
    snprintf(large, sizeof large, "%s/large.so", scratch());
    build(small, "0x1000");
    build(large, "0x2000");
    other_code_there(small, large);
    pthread_t walkers[WALKERS], loaders[2];
    for (int i = 0; i < WALKERS; i++) walkers[i] = start_thread(walk, NULL);
    loaders[0] = start_thread(load_and_unload, small);
    loaders[1] = start_thread(load_and_unload, large);
    for (int i = 0; i < 2; i++) pthread_join(loaders[i], NULL);
    atomic_store(&over, true);
    for (int i = 0; i < WALKERS; i++) pthread_join(walkers[i], NULL);
    still_works("unloading");
    return 0;
}
