// Places, and the stacks that they share.
#include "unit.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "modules.h"
#include "place.h"

#define STAY() __asm__ volatile("" ::: "memory")
#define NOINLINE __attribute__((noinline))
#define HERE ((uintptr_t)__builtin_return_address(0) - 1)

enum { KEPT_MAX = 4096, BITS = 13 };

static bool have_tables;

static int start(void **state)
{
    (void)state;
    modules_finder *find;
    *(void **)&find = dlsym(RTLD_DEFAULT, "_dl_find_object");
    modules_use(find);
    have_tables = find != NULL;
    return 0;
}

#define NEED_TABLES()                                       \
    do {                                                    \
        if (!have_tables) {                                 \
            print_message("skipped: no _dl_find_object\n"); \
            skip();                                         \
        }                                                   \
    } while (0)

NOINLINE static struct place make(void)
{
    struct place p = place_make(CALL_SOCKET, HERE, 42);
    STAY();
    return p;
}

NOINLINE static struct place path(unsigned bits, unsigned n);

NOINLINE static struct place left(unsigned bits, unsigned n)
{
    struct place p = path(bits, n);
    STAY();
    return p;
}

NOINLINE static struct place right(unsigned bits, unsigned n)
{
    struct place p = path(bits, n);
    STAY();
    return p;
}

// A stack for each number of n bits: left and right, one after the other.
NOINLINE static struct place path(unsigned bits, unsigned n)
{
    struct place p = !n ? make() : bits & 1 ? right(bits >> 1, n - 1) : left(bits >> 1, n - 1);
    STAY();
    return p;
}

static bool is_in(uintptr_t at, struct place (*function)(unsigned, unsigned))
{
    uintptr_t start;
    memcpy(&start, &function, sizeof start);
    return at > start && at < start + 200;
}

// Are these the calls that path(bits, n) made?
static bool is_path(const struct place *p, unsigned bits, unsigned n)
{
    unsigned callers;
    const uintptr_t *caller = place_callers(p, &callers);
    if (callers < 2 * n || !is_in(p->pc, path)) return false;
    for (unsigned i = 0; i < n; i++) {
        const bool to_right = bits >> (n - 1 - i) & 1;
        if (!is_in(caller[2 * i], to_right ? right : left) || !is_in(caller[2 * i + 1], path)) return false;
    }
    return true;
}

static void test_size(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct place), 2 * sizeof(void *));
}

static void test_few_frames(void **state)
{
    (void)state;
    unsigned n;
    place_start(1);
    struct place p = path(0, 1);
    assert_true(is_in(p.pc, path));
    assert_int_equal(p.tid, 42);
    assert_int_equal(p.call, CALL_SOCKET);
    place_callers(&p, &n);
    assert_int_equal(n, 0);
    place_start(0);
    p = path(0, 1);
    assert_int_equal(p.pc, 0);
    assert_int_equal(p.tid, 42);
    place_callers(&p, &n);
    assert_int_equal(n, 0);
    for (unsigned frames = 2; frames < 8; frames++) {
        place_start(frames);
        p = path(5, 4);
        place_callers(&p, &n);
        assert_int_equal(n, have_tables ? frames - 1 : 0);
    }
}

static void test_same(void **state)
{
    (void)state;
    NEED_TABLES();
    place_start(PLACE_FRAMES_MAX);
    struct place p[16];
    for (volatile int round = 0; round < 2; round++) // volatile: one call in the code for both rounds
        for (unsigned i = 0; i < 16; i++) {
            struct place now = path(i, 4);
            if (round) assert_memory_equal(&now, &p[i], sizeof now);
            p[i] = now;
        }
    for (unsigned i = 0; i < 16; i++) {
        assert_true(is_path(&p[i], i, 4));
        for (unsigned k = 0; k < i; k++) assert_int_not_equal(p[i].stack, p[k].stack);
    }
}

// What does not fit any more has its first frame, and what was there before stays.
static void test_full(void **state)
{
    (void)state;
    NEED_TABLES();
    place_start(PLACE_FRAMES_MAX);
    unsigned with = 0;
    static struct place kept[KEPT_MAX];
    struct place first = path(0, BITS);
    for (unsigned bits = 0; bits < 1u << BITS; bits++) {
        struct place p = path(bits, BITS);
        assert_true(is_in(p.pc, path));
        if (!p.stack) continue;
        kept[with++] = p;
        assert_true(is_path(&p, bits, BITS));
    }
    assert_int_equal(with, KEPT_MAX - 1); // the first is of another line
    struct place again = path(0, BITS);
    assert_int_equal(again.stack, 0);
    assert_true(is_path(&first, 0, BITS));
    for (unsigned bits = 0; bits < with; bits++) assert_true(is_path(&kept[bits], bits, BITS));
}

// Threads that meet the same stacks at the same time.
static _Atomic unsigned wrong;
static struct place met[4][512];

static void *meet(void *arg)
{
    struct place *mine = arg;
    for (unsigned i = 0; i < 512; i++) {
        mine[i] = path(i, 9);
        if (!is_path(&mine[i], i, 9)) atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    NEED_TABLES();
    pthread_t t[4];
    place_start(PLACE_FRAMES_MAX);
    for (unsigned i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, meet, met[i]), 0);
    for (unsigned i = 0; i < 4; i++) pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
    for (unsigned i = 1; i < 4; i++) assert_memory_equal(met[i], met[0], sizeof met[0]);
}

// A child has its parent's stacks, and goes on with them.
static void test_child(void **state)
{
    (void)state;
    NEED_TABLES();
    place_start(PLACE_FRAMES_MAX);
    struct place before[16];
    for (unsigned i = 0; i < 16; i++) before[i] = path(i, 4);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        bool right = true;
        place_child();
        for (unsigned i = 0; i < 32; i++) {
            struct place p = path(i, 5);
            right = right && is_path(&p, i, 5);
        }
        for (unsigned i = 0; i < 16; i++) right = right && is_path(&before[i], i, 4);
        _exit(!right);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size), cmocka_unit_test(test_few_frames), cmocka_unit_test(test_same),
        cmocka_unit_test(test_full), cmocka_unit_test(test_threads),    cmocka_unit_test(test_child),
    };
    return cmocka_run_group_tests_name("place", tests, start, NULL);
}
