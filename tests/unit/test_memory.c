// What can be read, and what not: page by page.
#include "unit.h"

#include <errno.h>
#include <sys/mman.h>

#include "memory.h"

static void test_pages(void **state)
{
    (void)state;
    char *pages = mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + 2 * 4096, 4096, PROT_NONE), 0);
    const uintptr_t at = (uintptr_t)pages, end = at + 2 * 4096;
    const struct {
        uintptr_t from;
        size_t n;
        bool can;
    } asked[] = {
        {at, 1, true},           {at, 2 * 4096, true},     {at, 2 * 4096 + 1, false}, {at + 1, 2 * 4096, false},
        {end - 1, 1, true},      {end - 1, 2, false},      {end - 7, 7, true},        {end, 1, false},
        {end, 4096, false},      {end + 4095, 1, false},   {end + 4095, 2, false},    {end + 4096, 4096, true},
        {at, 4 * 4096, false},   {at, 0, true},            {0, 0, true},              {0, 1, false},
        {7, 1, false},           {8, 8, false},            {UINTPTR_MAX, 1, false},   {UINTPTR_MAX, 2, false},
        {at, SIZE_MAX, false},   {1, SIZE_MAX, false},     {UINTPTR_MAX / 2, 8, false},
        {(uintptr_t)0xdeadbeefdeadbeef, 8, false},
    };
    for (unsigned i = 0; i < sizeof asked / sizeof asked[0]; i++)
        if (memory_readable(asked[i].from, asked[i].n) != asked[i].can)
            fail_msg("%u: %#lx, %zu", i, (unsigned long)asked[i].from, asked[i].n);
    assert_int_equal(memory_check(end, 1), -EFAULT);
    munmap(pages, 4 * 4096);
    assert_int_equal(memory_check(at, 1), -EFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages)};
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
