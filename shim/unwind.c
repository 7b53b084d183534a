#include "unwind.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "cfi.h"
#include "lock.h"
#include "memory.h"
#include "modules.h"
#include "touched.h"

#define OWN_FRAMES_MAX 16 // between unwind_callers and the program's call
#define DEPTH_MAX 1000    // frames of unwind_where
#define CALL_MAX 7        // bytes of the longest call instruction, from its opcode on

// How a function was left: it is this one, by a call, by a signal; or it is what a signal handler returns to.
enum way { HERE, CALLED, INTERRUPTED, TRAMPOLINE };

// A function that is under way.
struct frame {
    uintptr_t pc, sp, fp; // in this order (note_registers); CALLED: pc is the instruction behind the call
    enum way way;
    bool fp_known;
};

struct walk {
    struct frame f;
    uintptr_t top;  // the stack ends here at the latest
    uintptr_t page; // of the stack, the last that was found readable
};

// What is known of a place in the code. Read without a lock: what was read is right if sequence was even and
// is still the same.
struct known {
    _Atomic uint32_t sequence, generation;
    _Atomic uintptr_t at;       // inside the instruction
    _Atomic uint64_t low, high; // struct cfi_rule
};
_Static_assert(sizeof(struct cfi_rule) == 2 * sizeof(uint64_t), "a rule is kept in two words");

#ifndef KNOWN_BITS // a test makes it crowded
#define KNOWN_BITS 12
#endif
TOUCHED_APART static struct known cache[1 << KNOWN_BITS];
static lock_t cache_lock; // for writing
static _Atomic uint32_t generation;
static uintptr_t main_stack_end;

void unwind_start(void)
{
    main_stack_end = getauxval(AT_RANDOM); // these bytes lie above the first frame (execve, fs/binfmt_elf.c)
}

void unwind_child(void)
{
    if (!touched_anew(&touched.unwind)) return;
    lock_reset(&cache_lock);
}

void unwind_forget(void)
{
    atomic_fetch_add(&generation, 1);
}

static struct known *slot_of(uintptr_t at)
{
    return &cache[(uint64_t)at * UINT64_C(0x9e3779b97f4a7c15) >> (64 - KNOWN_BITS)];
}

// Acquire on every load keeps the second look at sequence behind them, release on every store the first
// change of it before them; a fence would do the same, but thread sanitizers do not know it.
static bool recall(uintptr_t at, uint32_t now, struct cfi_rule *rule)
{
    struct known *k = slot_of(at);
    const uint32_t sequence = atomic_load_explicit(&k->sequence, memory_order_acquire);
    if (sequence & 1 || atomic_load_explicit(&k->at, memory_order_acquire) != at) return false;
    const uint64_t words[2] = {atomic_load_explicit(&k->low, memory_order_acquire),
                               atomic_load_explicit(&k->high, memory_order_acquire)};
    if (atomic_load_explicit(&k->generation, memory_order_acquire) != now) return false;
    if (atomic_load_explicit(&k->sequence, memory_order_relaxed) != sequence) return false;
    memcpy(rule, words, sizeof words);
    return true;
}

static void learn(uintptr_t at, uint32_t now, const struct cfi_rule *rule)
{
    struct known *k = slot_of(at);
    uint64_t words[2];
    touch(&touched.unwind);
    if (!lock_try(&cache_lock)) return;
    memcpy(words, rule, sizeof words);
    uint32_t sequence = atomic_load_explicit(&k->sequence, memory_order_relaxed);
    sequence |= 1; // it is odd already after a fork in the middle of this
    atomic_store_explicit(&k->sequence, sequence, memory_order_relaxed);
    atomic_store_explicit(&k->at, at, memory_order_release);
    atomic_store_explicit(&k->low, words[0], memory_order_release);
    atomic_store_explicit(&k->high, words[1], memory_order_release);
    atomic_store_explicit(&k->generation, now, memory_order_release);
    atomic_store_explicit(&k->sequence, sequence + 1, memory_order_release);
    lock_give(&cache_lock);
}

#if defined(__x86_64__)
#define note_registers(frame)                    \
    __asm__ volatile("leaq 1f(%%rip), %%rax\n\t" \
                     "movq %%rax, 0(%0)\n\t"     \
                     "movq %%rsp, 8(%0)\n"       \
                     "1:\tmovq %%rbp, 16(%0)"    \
                     :                           \
                     : "r"(frame)                \
                     : "rax", "memory")

// Is this a "call *" of so many bytes (Intel SDM, volume 2, tables 2-2 and 2-3)?
static bool is_indirect_call(uintptr_t at, unsigned length)
{
    if (memory_byte(at) != 0xff) return false;
    const uint8_t modrm = memory_byte(at + 1), mode = modrm >> 6, rm = modrm & 7;
    if ((modrm >> 3 & 7) != 2) return false;
    if (mode == 3) return length == 2;
    const bool sib = rm == 4;
    if (sib && length < 3) return false;
    const uint8_t base = sib ? memory_byte(at + 2) & 7 : rm;
    const unsigned displacement = mode == 1 ? 1 : mode == 2 || base == 5 ? 4 : 0;
    return length == 2 + sib + displacement;
}

static bool follows_call(uintptr_t pc)
{
    unsigned before = CALL_MAX; // bytes of code that can be looked at
    if (!memory_readable(pc - before, before)) {
        before = (unsigned)((pc - 1) % MEMORY_PAGE + 1); // pc is near the beginning of its page
        if (before >= CALL_MAX || !memory_readable(pc - before, before)) return false;
    }
    if (before >= 5 && memory_byte(pc - 5) == 0xe8) return true;
    for (unsigned length = 2; length <= before; length++)
        if (is_indirect_call(pc - length, length)) return true;
    return false;
}

// The code that a signal handler returns to: rt_sigreturn. No call stands before it, and only its table is
// taken at its word that the frame above was interrupted.
static bool is_trampoline(uintptr_t pc)
{
    static const uint8_t code[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}; // mov $15, %rax; syscall
    if (!memory_readable(pc, sizeof code)) return false;
    for (unsigned i = 0; i < sizeof code; i++)
        if (memory_byte(pc + i) != code[i]) return false;
    return true;
}

// Was a system call interrupted? It is then behind pc, or, where it starts again, at pc
// (arch/x86/kernel/signal.c).
static bool in_system_call(uintptr_t pc)
{
    if (!memory_readable(pc - 2, 4)) return false;
    return (memory_byte(pc - 2) == 0x0f && memory_byte(pc - 1) == 0x05) ||
           (memory_byte(pc) == 0x0f && memory_byte(pc + 1) == 0x05);
}

static uintptr_t without_signature(uintptr_t pc)
{
    return pc;
}
#elif defined(__aarch64__)
#define note_registers(frame)                 \
    __asm__ volatile("adr x9, 1f\n\t"         \
                     "mov x10, sp\n\t"        \
                     "stp x9, x10, [%0]\n"    \
                     "1:\tstr x29, [%0, #16]" \
                     :                        \
                     : "r"(frame)             \
                     : "x9", "x10", "memory")

static uint32_t instruction_at(uintptr_t at)
{
    return memory_byte(at) | (uint32_t)memory_byte(at + 1) << 8 | (uint32_t)memory_byte(at + 2) << 16 |
           (uint32_t)memory_byte(at + 3) << 24;
}

static bool follows_call(uintptr_t pc)
{
    if (pc % 4 || pc < 4 || !memory_readable(pc - 4, 4)) return false;
    const uint32_t i = instruction_at(pc - 4); // Arm ARM, C4.1: BL, BLR, BLRAA and its kin
    return (i & 0xfc000000) == 0x94000000 || (i & 0xfffffc1f) == 0xd63f0000 || (i & 0xfefff800) == 0xd63f0800;
}

static bool is_trampoline(uintptr_t pc)
{
    const uint32_t number = 0xd2801168, svc = 0xd4000001; // mov x8, #139; svc #0
    return pc % 4 == 0 && memory_readable(pc, 8) && instruction_at(pc) == number &&
           instruction_at(pc + 4) == svc;
}

static bool in_system_call(uintptr_t pc)
{
    const uint32_t svc = 0xd4000001;
    return pc % 4 == 0 && memory_readable(pc - 4, 8) &&
           (instruction_at(pc - 4) == svc || instruction_at(pc) == svc);
}

static uintptr_t without_signature(uintptr_t pc)
{
    register uintptr_t x30 __asm__("x30") = pc;
    __asm__("hint #7" : "+r"(x30)); // XPACLRI: does nothing where there are no signatures
    return x30;
}
#endif

static __thread char thread_mark __attribute__((tls_model("initial-exec")));

// Where the stack that sp points into ends at the latest. glibc keeps a thread's own variables at the upper
// end of its stack (nptl/allocatestack.c). Memory below does not go away while the thread runs on it.
static uintptr_t top_of(uintptr_t sp)
{
    const uintptr_t thread = (uintptr_t)&thread_mark;
    uintptr_t top = UINTPTR_MAX;
    if (thread > sp) top = thread;
    if (main_stack_end > sp && main_stack_end < top) top = main_stack_end;
    return top;
}

static bool load(struct walk *w, uintptr_t at, uintptr_t *value)
{
    if (at % sizeof *value || at < w->f.sp || at > w->top - sizeof *value) return false;
    if (at / MEMORY_PAGE != w->page) {
        if (!memory_readable(at, sizeof *value)) return false;
        w->page = at / MEMORY_PAGE;
    }
    *value = memory_word(at);
    return true;
}

// What a rule says of a register: where it was saved, or that it has kept its value.
static bool saved(struct walk *w, enum cfi_base base, intptr_t offset, uintptr_t cfa, uintptr_t *value)
{
    const uintptr_t by = (uintptr_t)offset;
    switch (base) {
    case CFI_CFA:
        return load(w, cfa + by, value);
    case CFI_SP:
        return load(w, w->f.sp + by, value);
    case CFI_FP:
        return w->f.fp_known && load(w, w->f.fp + by, value);
    default:
        return false;
    }
}

static bool find_cfa(struct walk *w, const struct cfi_rule *rule, uintptr_t *cfa)
{
    if (rule->cfa_base == CFI_FP && !w->f.fp_known) return false;
    *cfa = (rule->cfa_base == CFI_FP ? w->f.fp : w->f.sp) + (uintptr_t)(intptr_t)rule->cfa;
    if (rule->dereference && !load(w, *cfa, cfa)) return false;
    return *cfa > w->f.sp && *cfa % sizeof *cfa == 0 && (*cfa <= w->top || rule->signal);
}

// From a function to its caller.
static bool go_up(struct walk *w, const struct cfi_rule *rule)
{
    struct frame up = {.fp = w->f.fp, .fp_known = w->f.fp_known, .way = rule->signal ? INTERRUPTED : CALLED};
    if (!find_cfa(w, rule, &up.sp)) return false;
    if (!saved(w, (enum cfi_base)rule->ra_base, rule->ra, up.sp, &up.pc)) return false;
    if (rule->fp_base != CFI_SAME)
        up.fp_known = saved(w, (enum cfi_base)rule->fp_base, rule->fp, up.sp, &up.fp);
    if (rule->authenticated) up.pc = without_signature(up.pc);
    w->f = up;
    if (rule->signal) w->top = top_of(up.sp);
    return true;
}

static uintptr_t inside_instruction(const struct frame *f)
{
    return f->way == CALLED ? f->pc - 1 : f->pc;
}

enum reached {
    REACHED_NOTHING, // pc is no place in the program
    REACHED_END,     // it is, but where its caller is can't be told
    REACHED_RULE,
};

// What the tables say of a function that was not met before. False: nothing that may be kept.
static bool look_up(const struct frame *f, struct cfi_rule *rule)
{
    const uintptr_t at = inside_instruction(f);
    struct module_span span;
    const bool sure = f->way != INTERRUPTED || in_system_call(f->pc);
    const bool found = sure && cfi_find(at, rule) && (!rule->signal || f->way == TRAMPOLINE);
    if (!found) *rule = (struct cfi_rule){.ra_base = CFI_UNKNOWN};
    return found || modules_span(at, &span);
}

// Is pc an address that a function can return to?
static bool is_return_address(struct frame *f)
{
    if (follows_call(f->pc)) return true;
    if (is_trampoline(f->pc)) f->way = TRAMPOLINE;
    return f->way == TRAMPOLINE;
}

// What is known of an interrupted function holds for that instruction only, and is not kept.
static enum reached look_at(struct frame *f, struct cfi_rule *rule)
{
    const uint32_t now = atomic_load_explicit(&generation, memory_order_acquire);
    const bool keeps = f->way != INTERRUPTED;
    if (!keeps || !recall(inside_instruction(f), now, rule)) {
        if (f->way == CALLED && !is_return_address(f)) return REACHED_NOTHING;
        if (look_up(f, rule) && keeps) learn(inside_instruction(f), now, rule);
    }
    return rule->ra_base <= CFI_UNDEFINED ? REACHED_END : REACHED_RULE;
}

unsigned unwind_callers(uintptr_t from, uintptr_t *callers, unsigned max)
{
    struct walk w = {.f = {.way = HERE, .fp_known = true}};
    struct cfi_rule rule;
    bool met = false;
    unsigned n = 0;
    note_registers(&w.f);
    w.top = top_of(w.f.sp);
    w.page = w.f.sp / MEMORY_PAGE;
    enum reached reached = look_at(&w.f, &rule);
    for (unsigned own = 0; reached == REACHED_RULE && n < max && own < OWN_FRAMES_MAX; own += !met) {
        if (!go_up(&w, &rule)) break;
        reached = look_at(&w.f, &rule);
        if (reached == REACHED_NOTHING) break;
        const uintptr_t at = inside_instruction(&w.f);
        if (met)
            callers[n++] = at;
        else
            met = at == from;
    }
    return n;
}

enum unwind_where unwind_where(void)
{
    struct walk w = {.f = {.way = HERE, .fp_known = true}};
    struct cfi_rule rule;
    note_registers(&w.f);
    w.top = top_of(w.f.sp);
    w.page = w.f.sp / MEMORY_PAGE;
    enum reached reached = look_at(&w.f, &rule);
    for (unsigned n = 0; reached == REACHED_RULE && n < DEPTH_MAX; n++) {
        if (!go_up(&w, &rule)) return UNWIND_UNSURE;
        reached = look_at(&w.f, &rule);
        if (w.f.way == TRAMPOLINE || (reached == REACHED_RULE && rule.signal)) return UNWIND_IN_HANDLER;
    }
    return reached == REACHED_END && rule.ra_base == CFI_UNDEFINED ? UNWIND_OUTSIDE : UNWIND_UNSURE;
}
