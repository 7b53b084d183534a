// At work, or in a handler?
#include "unit.h"

#include <signal.h>

#include "masks.h"

#define BIT(sig) (1ull << ((sig) - 1))
#define ALL ~0ull
#define APP (ALL & ~MASKS_LIBC & ~BIT(SIGKILL) & ~BIT(SIGSTOP)) // what sigfillset and the kernel make of all

enum { NONE = 0 };

static const struct {
    const char *what;
    uint64_t mask, usual[2];
    struct {
        int sig;
        uint64_t added;
    } handler[2];
    bool lax, outside;
} rows[] = {
    {"nothing blocked, no handlers", 0, {0}, {{0}}, false, true},
    {"nothing blocked, handlers", 0, {0}, {{SIGTERM, BIT(SIGTERM)}, {SIGHUP, APP}}, false, true},
    {"nothing blocked, a handler that blocks nothing", 0, {0}, {{SIGUSR1, NONE}}, true, false},
    {"in a handler", BIT(SIGTERM), {0}, {{SIGTERM, BIT(SIGTERM)}}, false, false},
    {"a mask never seen", BIT(SIGTERM), {0}, {{0}}, false, false},
    {"a mask with which threads are made", BIT(SIGPIPE), {BIT(SIGPIPE)}, {{SIGTERM, BIT(SIGTERM)}}, false, true},
    {"a handler makes that mask", BIT(SIGPIPE), {BIT(SIGPIPE)}, {{SIGPIPE, BIT(SIGPIPE)}}, false, false},
    {"in a handler, on top of that mask", BIT(SIGPIPE) | BIT(SIGTERM), {BIT(SIGPIPE)}, {{SIGTERM, BIT(SIGTERM)}}, false, false},
    {"workers block everything", APP, {APP}, {{SIGTERM, BIT(SIGTERM)}}, false, true},
    {"and so does a handler", APP, {APP}, {{SIGTERM, APP}}, false, false},
    {"a handler makes one usual mask out of another", BIT(1) | BIT(2), {BIT(1) | BIT(2), BIT(1)}, {{2, BIT(2)}}, false, false},
    {"it does not out of these", BIT(1) | BIT(2), {BIT(1) | BIT(2), BIT(3)}, {{2, BIT(2)}}, false, true},
    {"libc's own signals make no difference", MASKS_LIBC, {0}, {{0}}, false, true},
    {"nor those that can't be blocked", APP | MASKS_LIBC, {ALL}, {{SIGINT, BIT(SIGINT)}}, false, true},
};

static void the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct masks m = {.lax = rows[i].lax};
        for (; m.n < 2 && rows[i].usual[m.n]; m.n++) m.usual[m.n] = rows[i].usual[m.n];
        for (int h = 0; h < 2 && rows[i].handler[h].sig; h++) m.added[rows[i].handler[h].sig - 1] = rows[i].handler[h].added;
        if (masks_outside(&m, rows[i].mask) != rows[i].outside) fail_msg("%s", rows[i].what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_table)};
    return cmocka_run_group_tests_name("masks", tests, NULL, NULL);
}
