// Growth a minute, and events a second.
#include "unit.h"

#include "../../cli/trend.h"

static void test_growth(void **state)
{
    (void)state;
    struct trend t = {0};
    double growth;
    assert_false(trend_per_minute(&t, &growth));
    for (int64_t ms = 0; ms < TREND_LEAST_MS; ms += 100) {
        trend_add(&t, 1000 + ms, ms / 100);
        assert_false(trend_per_minute(&t, &growth));
    }
    trend_add(&t, 1000 + TREND_LEAST_MS, 50);
    assert_true(trend_per_minute(&t, &growth));
    assert_true(growth > 599 && growth < 601); // 50 in 5 s
    // A minute later only that minute counts, however often it was looked.
    for (int64_t ms = TREND_LEAST_MS; ms <= 90000; ms += 250) trend_add(&t, 1000 + ms, 50);
    assert_true(trend_per_minute(&t, &growth));
    assert_true(growth > -0.01 && growth < 0.01);
    trend_add(&t, 91100, 20);
    assert_true(trend_per_minute(&t, &growth));
    assert_true(growth > -31 && growth < -29);
}

// After a pause of more than a minute nothing is known of the last one.
static void test_pause(void **state)
{
    (void)state;
    struct trend t = {0};
    double growth;
    trend_add(&t, 0, 5);
    trend_add(&t, 10000, 5);
    trend_add(&t, 200000, 500);
    assert_false(trend_per_minute(&t, &growth));
    trend_add(&t, 206000, 503);
    assert_true(trend_per_minute(&t, &growth));
    assert_true(growth > 29 && growth < 31);
}

static void test_pace(void **state)
{
    (void)state;
    static struct pace p;
    const int64_t now = 1795270240;
    assert_int_equal(pace_sum(&p, now, 10), 0);
    pace_add(&p, now, now, 3);
    pace_add(&p, now, now - 9, 4);
    pace_add(&p, now, now - 10, 5);
    pace_add(&p, now, now - PACE_KEPT, 100); // too old
    pace_add(&p, now, now + 1000000, 1);     // later than now: now
    pace_add(&p, now, -5, 100);
    assert_int_equal(pace_sum(&p, now, 10), 8);
    assert_int_equal(pace_sum(&p, now, PACE_KEPT), 13);
    assert_int_equal(pace_sum(&p, now + 1, 10), 4);
    assert_int_equal(pace_sum(&p, now + 9, 10), 4);
    assert_int_equal(pace_sum(&p, now + 10, 10), 0);
    assert_int_equal(pace_sum(&p, now - 5, 10), 9); // the clock was set back: what is later does not count
    pace_add(&p, now + PACE_SECONDS, now + PACE_SECONDS, 2); // the same place in the ring
    assert_int_equal(pace_sum(&p, now + PACE_SECONDS, PACE_KEPT), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_pace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
