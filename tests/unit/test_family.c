// What forked processes tell each other: at once, of each socket alone as long as there is room, and of all that may be
// meant when there was not.
#include "unit.h"

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "family.h"

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t later(void)
{
    uint64_t start = now_ms();
    while (now_ms() <= start) continue;
    return now_ms();
}

// Said by a child of a child that has ended.
static void tell_from_afar(uint64_t cookie, enum told what)
{
    pid_t pid = fork();
    if (!pid) {
        if (!fork()) {
            family_tell(cookie, what);
            _exit(0);
        }
        wait(NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void nothing_is_known_without_pages(void **state)
{
    (void)state;
    family_tell(1, TOLD_PASSED);
    family_tell_of_all(TOLD_PASSED);
    assert_int_equal(family_told(1, now_ms()), TOLD_PASSED);
    family_start();
    assert_int_equal(family_told(1, now_ms()), TOLD_NOTHING);
}

static void a_child_tells(void **state)
{
    (void)state;
    uint64_t ms = now_ms();
    tell_from_afar(10, TOLD_LEAKED);
    tell_from_afar(11, TOLD_PASSED);
    assert_int_equal(family_told(10, ms), TOLD_LEAKED);
    assert_int_equal(family_told(11, ms), TOLD_PASSED);
    assert_int_equal(family_told(12, ms), TOLD_NOTHING);
    tell_from_afar(10, TOLD_PASSED);
    assert_int_equal(family_told(10, ms), TOLD_PASSED);
    tell_from_afar(11, TOLD_LEAKED);
    assert_int_equal(family_told(11, ms), TOLD_PASSED);
    family_tell(0, TOLD_PASSED); // not a socket
    assert_int_equal(family_told(0, ms), TOLD_NOTHING);
}

static void the_same_again_takes_no_room(void **state)
{
    (void)state;
    uint64_t ms = now_ms();
    family_tell(20, TOLD_PASSED);
    for (int i = 0; i < 5000; i++) family_tell(21, TOLD_PASSED);
    assert_int_equal(family_told(20, ms), TOLD_PASSED);
    assert_int_equal(family_told(22, ms), TOLD_NOTHING);
}

// Sockets opened since the oldest that was forgotten are still told apart.
static void of_what_was_long_ago_only_the_time_is_kept(void **state)
{
    (void)state;
    uint64_t before = now_ms();
    family_tell(100, TOLD_LEAKED);
    uint64_t after = later();
    for (uint64_t i = 0; i < 600; i++) family_tell(1000 + i, TOLD_LEAKED);
    uint64_t now = later();
    assert_int_equal(family_told(100, before), TOLD_LEAKED);
    assert_int_equal(family_told(99, before), TOLD_LEAKED);
    assert_int_equal(family_told(1000, after), TOLD_LEAKED);
    assert_int_equal(family_told(1599, now), TOLD_LEAKED);
    assert_int_equal(family_told(2000, now), TOLD_NOTHING);
}

static void all_that_exists(void **state)
{
    (void)state;
    uint64_t before = now_ms();
    family_tell_of_all(TOLD_PASSED);
    assert_int_equal(family_told(30, before), TOLD_PASSED);
    assert_int_equal(family_told(30, later()), TOLD_NOTHING);
}

static void programs_are_counted(void **state)
{
    (void)state;
    uint64_t before = family_execs();
    pid_t pid = fork();
    if (!pid) {
        family_exec();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(family_execs(), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_without_pages),
        cmocka_unit_test(a_child_tells),
        cmocka_unit_test(the_same_again_takes_no_room),
        cmocka_unit_test(of_what_was_long_ago_only_the_time_is_kept),
        cmocka_unit_test(all_that_exists),
        cmocka_unit_test(programs_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
