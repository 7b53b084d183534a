// How long a connection has waited, and whether those of one place grow.
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "leaks.h"

static const struct {
    const char *what;
    int64_t now, seen, data, age;
} ages[] = {
    {"what was seen counts", 100000, 40000, INT64_MAX, 60000},
    {"the peer sent its last data before that", 100000, 40000, 70000, 60000},
    {"the peer has sent data since: another connection was seen", 100000, 40000, 5000, 5000},
    {"seen this moment", 100000, 100000, 5000, 0},
    {"seen in the future, by rounding", 100000, 100016, 5000, 0},
    {"data this moment", 100000, 40000, 0, 0},
};

static void ages_are_lower_bounds(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ages / sizeof *ages; i++) {
        int64_t age = leaks_age(ages[i].now, ages[i].seen, ages[i].data);
        if (age != ages[i].age) fail_msg("%s: %d", ages[i].what, (int)age);
    }
}

// One look a second: "5" is five connections, "*N" repeats what is before it N times, "+N" goes up by one N times,
// "-N" skips N seconds.
static const struct {
    const char *what, *looks;
    enum trend trend;
    uint32_t now, most;
} rows[] = {
    {"nothing", "0 *100", TREND_UNKNOWN, 0, 0},
    {"one look", "9", TREND_UNKNOWN, 9, 9},
    {"five looks", "5 +4", TREND_UNKNOWN, 9, 9},
    {"a leak from the start", "1 +10", TREND_GROWING, 11, 11},
    {"a leak after a long calm", "0 *1000 1 +20", TREND_GROWING, 21, 21},
    {"a leak that goes on for an hour", "1 +3600", TREND_GROWING, 3601, 3601},
    {"a leak in bursts", "0 10 *20 20 *20 30 *20 40 *20 50 *20", TREND_GROWING, 50, 50},
    {"a leak among connections that come and go", "2 3 1 5 4 6 5 7 8 7 9 10 11 10 12 13 12 14 15", TREND_GROWING, 15, 15},
    {"a leak on top of a pool", "10 *30 11 *30 12 *30 13 *30 14 *30 15 *30", TREND_GROWING, 15, 15},
    {"a leak, looked at now and then", "1 -30 4 -30 7 -30 9 -30 12 -30 15 -30 18", TREND_GROWING, 18, 18},
    {"a leak that has been mended", "1 +50 51 *60", TREND_STEADY, 51, 51},
    {"a few, however they came", "1 *10 2 *10 3 *10 4 *10", TREND_STEADY, 4, 4},
    {"a pool that was filled at once", "10 *60", TREND_STEADY, 10, 10},
    {"a pool that was filled in a minute", "1 *10 3 *10 6 *10 8 *10 10 *10 10 *120", TREND_STEADY, 10, 10},
    {"a pool that comes and goes", "3 8 2 7 9 1 4 8 3 9 2 7 3 8 1 9 4 6 2 8 3 7 9 2 5", TREND_STEADY, 5, 9},
    {"a pool at its most now", "3 8 2 7 9 1 4 8 3 9 2 7 3 8 1 9 4 6 2 8 3 7 9 2 10", TREND_STEADY, 10, 10},
    {"a burst that was cleared", "0 *5 50 *5 0 *20", TREND_STEADY, 0, 50},
    {"fewer and fewer", "50 *10 40 *10 30 *10 20 *10", TREND_STEADY, 20, 50},
};

static int64_t look(struct history *h, int64_t now, uint32_t count)
{
    history_add(h, now, count);
    return now + 1000;
}

static void play(struct history *h, const char *looks)
{
    int64_t now = 5000;
    uint32_t count = 0, n;
    for (char text[200], *word = strtok(strcpy(text, looks), " "); word; word = strtok(NULL, " ")) {
        if (sscanf(word, "*%u", &n) == 1)
            while (--n) now = look(h, now, count);
        else if (sscanf(word, "+%u", &n) == 1)
            while (n--) now = look(h, now, ++count);
        else if (sscanf(word, "-%u", &n) == 1)
            now += n * INT64_C(1000);
        else if (sscanf(word, "%u", &count) == 1)
            now = look(h, now, count);
    }
}

static void a_leak_grows_and_a_pool_does_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct history h = {0};
        play(&h, rows[i].looks);
        if (history_trend(&h) != rows[i].trend || h.now != rows[i].now || h.most != rows[i].most)
            fail_msg("%s: %s, %u now, %u at most", rows[i].what, trend_name(history_trend(&h)), h.now, h.most);
    }
}

static void a_year_fits(void **state)
{
    (void)state;
    struct history h = {0};
    const int64_t day = 86400000;
    history_add(&h, 0, 1);
    for (int64_t d = 1; d <= 365; d++) history_add(&h, d * day, (uint32_t)d);
    assert_in_range(h.spans, HISTORY_SPANS / 2, HISTORY_SPANS);
    assert_int_equal(history_trend(&h), TREND_GROWING);
    for (int64_t d = 366; d <= 3650; d++) history_add(&h, d * day, 365);
    assert_int_equal(history_trend(&h), TREND_STEADY);
}

static struct place at(uintptr_t pc, pid_t tid)
{
    return (struct place){.pc = pc, .tid = tid, .call = CALL_ACCEPT};
}

static void count(struct leaks *l, uintptr_t pc, uint32_t n, int64_t age_ms)
{
    struct place p = at(pc, (pid_t)pc);
    while (n--) leaks_count(l, &p, age_ms);
}

static void places_are_told_apart(void **state)
{
    (void)state;
    static struct leaks l;
    struct leak list[3];
    memset(&l, 0, sizeof l);
    leaks_begin(&l);
    leaks_end(&l, 500);
    assert_int_equal(leaks_list(&l, list, 3), 0);
    leaks_begin(&l);
    count(&l, 1, 3, 50);
    count(&l, 2, 5, 10);
    count(&l, 1, 1, 70);
    count(&l, 3, 9, 20);
    count(&l, 4, 1, 30);
    leaks_end(&l, 1000);
    leaks_begin(&l);
    count(&l, 1, 2, 60);
    count(&l, 2, 5, 20);
    leaks_end(&l, 2000);
    assert_int_equal(leaks_list(&l, list, 3), 3);
    const struct {
        uintptr_t pc;
        uint32_t now, most;
        int64_t oldest_ms;
    } expected[] = {{2, 5, 5, 20}, {1, 2, 4, 60}, {3, 0, 9, 0}}; // and not 4: 0 now, 1 at most
    for (int i = 0; i < 3; i++) {
        assert_int_equal(list[i].opened.pc, expected[i].pc);
        assert_int_equal(list[i].now, expected[i].now);
        assert_int_equal(list[i].most, expected[i].most);
        assert_int_equal(list[i].oldest_ms, expected[i].oldest_ms);
    }
}

static void a_round_that_is_under_way_is_not_told(void **state)
{
    (void)state;
    static struct leaks l;
    struct leak list[1];
    memset(&l, 0, sizeof l);
    leaks_begin(&l);
    count(&l, 1, 3, 50);
    leaks_end(&l, 1000);
    leaks_begin(&l);
    count(&l, 1, 1, 60);
    assert_int_equal(leaks_list(&l, list, 1), 1);
    assert_int_equal(list[0].now, 3);
    assert_int_equal(list[0].oldest_ms, 50);
}

static void more_places_than_room_count_together(void **state)
{
    (void)state;
    static struct leaks l;
    struct leak list[LEAK_PLACES];
    memset(&l, 0, sizeof l);
    leaks_begin(&l);
    for (uintptr_t pc = 1; pc <= 2 * LEAK_PLACES; pc++) count(&l, pc, 1, 10);
    leaks_end(&l, 1000);
    assert_int_equal(leaks_list(&l, list, LEAK_PLACES), LEAK_PLACES);
    assert_int_equal(list[0].now, LEAK_PLACES + 1);
    assert_int_equal(list[0].opened.pc, 0);
    assert_int_equal(list[1].now, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_are_lower_bounds),
        cmocka_unit_test(a_leak_grows_and_a_pool_does_not),
        cmocka_unit_test(a_year_fits),
        cmocka_unit_test(places_are_told_apart),
        cmocka_unit_test(a_round_that_is_under_way_is_not_told),
        cmocka_unit_test(more_places_than_room_count_together),
    };
    return cmocka_run_group_tests_name("leaks", tests, NULL, NULL);
}
