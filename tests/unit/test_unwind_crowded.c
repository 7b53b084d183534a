// Threads that walk at once with a memory of two places: what one has half written another does not take for whole.
#define KNOWN_BITS 1
#define unwind_start crowded_start
#define unwind_child crowded_child
#define unwind_callers crowded_callers
#define unwind_forget crowded_forget
#include "unwind.c"

#include "unit.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define STAY() __asm__ volatile("" ::: "memory")
#define NOINLINE __attribute__((noinline))

enum { DEPTHS = 12, FRAMES = 40, THREADS = 4, WALKS = 10000 };

static _Atomic unsigned wrong, walks;

struct found {
    uintptr_t frame[FRAMES];
    unsigned n;
};

NOINLINE static void look(struct found *before)
{
    struct found now = {.n = 0};
    now.n = crowded_callers((uintptr_t)__builtin_return_address(0) - 1, now.frame, FRAMES);
    if (!before->n) *before = now;
    if (now.n != before->n || memcmp(now.frame, before->frame, now.n * sizeof now.frame[0]) != 0)
        atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&walks, 1);
}

// Frames of three sizes, so that what is told of one is wrong of another.
NOINLINE static void dig(unsigned depth, struct found *found);

NOINLINE static void dig_wide(unsigned depth, struct found *found)
{
    volatile char room[200];
    room[0] = 1;
    dig(depth, found);
    room[1] = room[0];
}

NOINLINE static void dig_wider(unsigned depth, struct found *found)
{
    volatile char room[600];
    room[0] = 1;
    dig(depth, found);
    room[1] = room[0];
}

NOINLINE static void dig(unsigned depth, struct found *found)
{
    if (!depth) look(found);
    else if (depth % 2) dig_wide(depth - 1, found);
    else dig_wider(depth - 1, found);
    STAY();
}

static void *keep_walking(void *arg)
{
    struct found *found = calloc(DEPTHS, sizeof *found);
    for (unsigned depth = 0; found && atomic_load(&walks) < WALKS; depth = (depth + 1) % DEPTHS) {
        dig(depth, &found[depth]);
        if (found[depth].n < 2 * depth) atomic_fetch_add(&wrong, 1);
    }
    free(found);
    return arg;
}

static void test_crowded(void **state)
{
    (void)state;
    modules_finder *find;
    pthread_t t[THREADS];
    *(void **)&find = dlsym(RTLD_DEFAULT, "_dl_find_object");
    if (!find) {
        print_message("skipped: no _dl_find_object\n");
        skip();
    }
    modules_use(find);
    crowded_start();
    for (unsigned i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&t[i], NULL, keep_walking, NULL), 0);
    while (atomic_load(&walks) < WALKS) {
        crowded_forget();
        sched_yield();
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    crowded_child();
    assert_int_equal(atomic_load(&wrong), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_crowded)};
    return cmocka_run_group_tests_name("unwind_crowded", tests, NULL, NULL);
}
