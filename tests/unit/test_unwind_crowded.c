// What is known of places in the code, where there is room for two of them only: what a thread has half written
// another does not take for whole.
#define KNOWN_BITS 1
#define unwind_start crowded_start
#define unwind_child crowded_child
#define unwind_callers crowded_callers
#define unwind_forget crowded_forget
#define unwind_where crowded_where
#include "unwind.c"

#include "unit.h"

#include <pthread.h>

enum { PLACES = 8, THREADS = 4, LOOKS = 4000000 };

static _Atomic unsigned wrong, looks, met;

static struct cfi_rule rule_of(uintptr_t at)
{
    struct cfi_rule rule;
    memset(&rule, (int)at, sizeof rule);
    rule.dereference = rule.signal = rule.authenticated = false; // the rest of their byte means nothing
    return rule;
}

static void *learn_and_recall(void *arg)
{
    const uintptr_t first = (uintptr_t)arg;
    for (unsigned i = 0; atomic_load(&looks) < LOOKS; i++) {
        const uintptr_t at = (first + i) % PLACES + 1;
        const uint32_t now = atomic_load(&generation);
        struct cfi_rule right = rule_of(at), rule;
        if (recall(at, now, &rule)) {
            atomic_fetch_add(&met, 1);
            if (rule.cfa != right.cfa || rule.ra != right.ra || rule.fp != right.fp || rule.fp_base != right.fp_base)
                atomic_fetch_add(&wrong, 1);
        }
        if (i % 3 == 0) learn(at, now, &right);
        atomic_fetch_add(&looks, 1);
    }
    return NULL;
}

static void test_crowded(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, learn_and_recall, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    assert_true(atomic_load(&met) > 1000);
    assert_int_equal(atomic_load(&wrong), 0);
}

static void test_generations(void **state)
{
    (void)state;
    struct cfi_rule rule, right = rule_of(1);
    uint32_t now = atomic_load(&generation);
    learn(1, now, &right);
    assert_true(recall(1, now, &rule));
    crowded_forget();
    assert_false(recall(1, atomic_load(&generation), &rule));
    learn(1, now, &right); // what was read before is not taken for what is there now
    assert_false(recall(1, atomic_load(&generation), &rule));
}

// A fork while another thread was writing: the lock is held, and a place is half written.
static void test_child(void **state)
{
    (void)state;
    struct cfi_rule rule, right = rule_of(1);
    const uint32_t now = atomic_load(&generation);
    lock_take(&cache_lock);
    atomic_fetch_or(&slot_of(1)->sequence, 1);
    learn(1, now, &right);
    assert_false(recall(1, now, &rule));
    crowded_child();
    learn(1, now, &right);
    assert_true(recall(1, now, &rule));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crowded), cmocka_unit_test(test_generations), cmocka_unit_test(test_child)};
    return cmocka_run_group_tests_name("unwind_crowded", tests, NULL, NULL);
}
