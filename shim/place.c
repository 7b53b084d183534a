#include "place.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "lock.h"
#include "sys.h"
#include "unwind.h"

#define CALLERS_MAX (PLACE_FRAMES_MAX - 1)
#define STACKS_MAX 4096
#define BUCKETS 8192 // twice as many: a search meets an empty one soon

static const char *const names[] = {
#define CALL(id, name) name,
#include "calls.def"
#undef CALL
};

// The callers of a place; those of all places that have the same are kept once, and for ever.
struct stack {
    uint32_t hash, n;
    uintptr_t caller[];
};

// A bucket has the number of a stack, counted from 1, from the moment on that the stack is complete.
struct stacks {
    _Atomic uint16_t bucket[BUCKETS];
    unsigned char room[]; // for STACKS_MAX of stack_size
};

static unsigned frames = 1;
static size_t stack_size;
static struct stacks *stacks;
static lock_t lock; // for adding
static unsigned kept;

const char *call_name(enum call call)
{
    return names[call];
}

void place_start(unsigned wanted)
{
    frames = wanted;
    kept = 0;
    if (frames < 2) return;
    unwind_start();
    stack_size = sizeof(struct stack) + (frames - 1) * sizeof(uintptr_t);
    const size_t size = sizeof *stacks + STACKS_MAX * stack_size;
    long at = sys_call6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0 && at > -4096)
        frames = 1;
    else
        stacks = (struct stacks *)at;
}

void place_child(void)
{
    lock_reset(&lock);
    unwind_child();
}

static struct stack *stack_at(unsigned id)
{
    return (struct stack *)(void *)(stacks->room + (id - 1) * stack_size);
}

static uint32_t hash_of(const uintptr_t *caller, unsigned n)
{
    uint64_t hash = n;
    for (unsigned i = 0; i < n; i++) {
        hash = (hash ^ caller[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

// The number of a stack that is kept; otherwise 0, and *bucket is where it belongs.
static unsigned find(uint32_t hash, const uintptr_t *caller, unsigned n, unsigned *bucket)
{
    for (*bucket = hash % BUCKETS;; *bucket = (*bucket + 1) % BUCKETS) {
        const unsigned id = atomic_load_explicit(&stacks->bucket[*bucket], memory_order_acquire);
        if (!id) return 0;
        const struct stack *s = stack_at(id);
        if (s->hash == hash && s->n == n && memcmp(s->caller, caller, n * sizeof *caller) == 0) return id;
    }
}

static unsigned add(uint32_t hash, const uintptr_t *caller, unsigned n)
{
    unsigned bucket;
    unsigned id = find(hash, caller, n, &bucket); // another thread may have added it
    if (id || kept == STACKS_MAX) return id;
    struct stack *s = stack_at(kept + 1);
    s->hash = hash;
    s->n = n;
    memcpy(s->caller, caller, n * sizeof *caller);
    kept++;
    atomic_store_explicit(&stacks->bucket[bucket], (uint16_t)kept, memory_order_release);
    return kept;
}

// Kept out of place_make, so that a place of one frame does not pay for the frame.
__attribute__((noinline)) static unsigned stack_of(uintptr_t pc)
{
    uintptr_t caller[CALLERS_MAX];
    unsigned bucket;
    const unsigned n = unwind_callers(pc, caller, frames - 1);
    if (!n) return 0;
    const uint32_t hash = hash_of(caller, n);
    unsigned id = find(hash, caller, n, &bucket);
    if (id) return id;
    lock_take(&lock);
    id = add(hash, caller, n);
    lock_give(&lock);
    return id;
}

struct place place_make(enum call call, uintptr_t pc, pid_t tid)
{
    struct place p = {.pc = frames ? pc : 0, .tid = tid, .call = call};
    if (frames > 1 && pc) p.stack = stack_of(pc) & UINT16_MAX;
    return p;
}

const uintptr_t *place_callers(const struct place *p, unsigned *n)
{
    *n = 0;
    if (!p->stack) return NULL;
    const struct stack *s = stack_at(p->stack);
    *n = s->n;
    return s->caller;
}
