// PRECLOSE_RATE: lines a minute, per event and place.
#include "unit.h"

#include <string.h>

#include "rate.h"

#define S 1000000LL

static struct rate rate;

static int start(void **state)
{
    (void)state;
    memset(&rate, 0, sizeof rate);
    return 0;
}

static const struct {
    const char *what;
    int64_t at_us;
    unsigned event;
    uintptr_t pc;
    int held; // told with the line; -1: held back
} steps[] = {
    {"first", 100 * S, 1, 0x10, 0},
    {"second", 101 * S, 1, 0x10, 0},
    {"third of two", 102 * S, 1, 0x10, -1},
    {"another place has its own allowance", 102 * S, 1, 0x20, 0},
    {"another event too", 102 * S, 2, 0x10, 0},
    {"an unknown place is a place", 102 * S, 1, 0, 0},
    {"at the end of the minute", 160 * S - 1, 1, 0x10, -1},
    {"the next minute, with what was held back", 160 * S, 1, 0x10, 2},
    {"second of the next minute", 219 * S, 1, 0x10, 0},
    {"held again", 219 * S, 1, 0x10, -1},
    {"event 0 is an event", 219 * S, 0, 0, 0},
};

static void test_steps(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        uint64_t *held = rate_admit(&rate, steps[i].event, steps[i].pc, steps[i].at_us, 2);
        int got = held ? (int)*held : -1;
        if (got != steps[i].held) fail_msg("%s: %d, not %d", steps[i].what, got, steps[i].held);
        if (held) *held = 0;
    }
}

// What could not be told is told by the next line.
static void test_untold_is_kept(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) rate_admit(&rate, 1, 0x10, 100 * S, 2);
    assert_int_equal(*rate_admit(&rate, 1, 0x10, 200 * S, 2), 3);
    assert_int_equal(*rate_admit(&rate, 1, 0x10, 201 * S, 2), 3);
}

static void test_more_places_than_room(void **state)
{
    (void)state;
    unsigned told = 0, many = 4 * RATE_PLACES;
    for (unsigned round = 0; round < 3; round++)
        for (uintptr_t pc = 1; pc <= many; pc++)
            if (rate_admit(&rate, 1, pc, 100 * S, 1)) told++;
    assert_int_equal(told, RATE_PLACES + 1); // those beyond share one allowance, however often they come
    told = 0;
    for (uintptr_t pc = many + 1; pc <= 2 * many; pc++)
        if (rate_admit(&rate, 1, pc, 200 * S, 1)) told++;
    assert_int_equal(told, RATE_PLACES + 1); // places whose minute is over make room
}

// Of two places whose minute is over, the one with nothing to tell makes room.
static void test_held_outlives(void **state)
{
    (void)state;
    for (uintptr_t pc = 1; pc <= RATE_PLACES; pc++) rate_admit(&rate, 1, pc, 100 * S, 1);
    for (uintptr_t pc = 1; pc < RATE_PLACES; pc++) rate_admit(&rate, 1, pc, 100 * S, 1);
    assert_non_null(rate_admit(&rate, 1, 0x9999, 200 * S, 1));
    for (uintptr_t pc = 1; pc < RATE_PLACES; pc++) assert_int_equal(*rate_admit(&rate, 1, pc, 200 * S, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_steps, start),
        cmocka_unit_test_setup(test_untold_is_kept, start),
        cmocka_unit_test_setup(test_more_places_than_room, start),
        cmocka_unit_test_setup(test_held_outlives, start),
    };
    return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
