// The stack as the tables tell it: against libc's own unwinder where the tables are right, and where they lie
// nothing is made up and nothing faults. Built in several ways (Makefile): what compilers write differs.
#include "unit.h"

#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "modules.h"
#include "unwind.h"

enum { MAX = 64 };
#define STAY() __asm__ volatile("" ::: "memory") // the call before is no jump: this frame is still there
#define NOINLINE __attribute__((noinline))

// What both unwinders say of the calls that led to look().
static struct view {
    uintptr_t ours[MAX];
    unsigned n;
    uintptr_t here;        // behind the call of look()
    void *theirs[2 * MAX]; // from the caller of look()'s caller on
    unsigned depth;
} view;
static unsigned wanted = MAX;
static bool ours_only; // libc's unwinder does not survive all that is walked here

static void note_theirs(const void *here)
{
    void *all[2 * MAX];
    const int n = backtrace(all, 2 * MAX);
    view.depth = 0;
    for (int i = 0; i < n; i++) {
        if (view.depth || (i && all[i - 1] == here)) view.theirs[view.depth++] = all[i];
    }
}

NOINLINE static void look(void)
{
    const uintptr_t here = (uintptr_t)__builtin_return_address(0);
    memset(&view, 0, sizeof view);
    view.here = here;
    view.n = unwind_callers(here - 1, view.ours, wanted);
    if (!ours_only) note_theirs((void *)here);
}

NOINLINE static void via(void)
{
    look();
    STAY();
}

// Address i of ours is that of theirs: behind the call there, inside it here; an interrupted one is the same.
static bool agree(unsigned i)
{
    const uintptr_t theirs = (uintptr_t)view.theirs[i];
    return view.ours[i] + 1 == theirs || view.ours[i] == theirs;
}

static void assert_prefix(unsigned n)
{
    assert_true(view.n >= n);
    for (unsigned i = 0; i < view.n; i++)
        if (!agree(i)) fail_msg("frame %u of %u: %#lx, not %p", i, view.n, (unsigned long)view.ours[i], view.theirs[i]);
}

static void assert_all(void)
{
    assert_prefix(1);
    if (view.n != view.depth) fail_msg("%u frames, not %u", view.n, view.depth);
}

// Each scenario with nothing known of it, and again with all of it known.
static void twice(void (*scenario)(void))
{
    for (int round = 0; round < 3; round++) {
        if (round != 1) unwind_forget();
        scenario();
        STAY();
    }
}

static int find_object(void **state)
{
    (void)state;
    modules_finder *find;
    *(void **)&find = dlsym(RTLD_DEFAULT, "_dl_find_object");
    modules_use(find);
    unwind_start();
    void *first[1];
    backtrace(first, 1); // it loads libgcc_s
    return 0;
}

#define NEED_TABLES()                                         \
    do {                                                      \
        if (!dlsym(RTLD_DEFAULT, "_dl_find_object")) {        \
            print_message("skipped: no _dl_find_object\n");   \
            skip();                                           \
        }                                                     \
    } while (0)

static void straight(void)
{
    via();
    assert_all();
}

static void test_straight(void **state)
{
    (void)state;
    NEED_TABLES();
    twice(straight);
    // libc has called main: a shared object is among the frames.
    Dl_info info;
    bool met = false;
    for (unsigned i = 0; i < view.n; i++)
        met = met || (dladdr((void *)view.ours[i], &info) && strstr(info.dli_fname, "/libc.so"));
    assert_true(met);
}

// Nothing is told where the frame that is asked for is not there, or no frames are wanted.
static void test_not_met(void **state)
{
    (void)state;
    uintptr_t ours[4];
    assert_int_equal(unwind_callers(0, ours, 4), 0);
    assert_int_equal(unwind_callers(1234, ours, 4), 0);
    assert_int_equal(unwind_callers((uintptr_t)__builtin_return_address(0) - 1, ours, 0), 0);
}

NOINLINE static void recurse(unsigned depth)
{
    if (depth) recurse(depth - 1);
    else via();
    STAY();
}

static void deep(void)
{
    recurse(40);
    assert_all();
    assert_true(view.n > 40);
    for (wanted = 0; wanted < 40; wanted++) {
        recurse(40);
        assert_int_equal(view.n, wanted);
        assert_prefix(0);
    }
    wanted = MAX;
}

static void test_recursion(void **state)
{
    (void)state;
    NEED_TABLES();
    twice(deep);
}

static int compare(const void *a, const void *b)
{
    static int depth;
    if (!depth++) via();
    depth--;
    return *(const int *)a - *(const int *)b;
}

static void callbacks(void)
{
    int numbers[] = {5, 3, 4, 1, 2};
    qsort(numbers, 5, sizeof numbers[0], compare);
    assert_all();
    bsearch(&numbers[4], numbers, 5, sizeof numbers[0], compare);
    assert_all();
}

static void test_callbacks(void **state)
{
    (void)state;
    NEED_TABLES();
    twice(callbacks);
}

NOINLINE static void with_alloca(size_t n)
{
    volatile char *a = alloca(n);
    volatile char vla[n];
    a[0] = vla[n - 1] = 1;
    via();
    a[1] = vla[0];
}

NOINLINE static void aligned(size_t n)
{
    _Alignas(128) volatile char line[256];
    line[0] = (char)n;
    if (n) aligned(n - 1);
    else via();
    line[1] = line[0];
}

// A stack that is aligned and grows by an unknown amount: the frame is found by a pointer kept in it.
NOINLINE static void aligned_alloca(size_t n)
{
    _Alignas(64) volatile char line[64];
    volatile char *a = alloca(n);
    line[0] = a[0] = 1;
    aligned(3);
    a[1] = line[0];
}

NOINLINE static void wide(void)
{
    volatile char block[1 << 20];
    block[0] = 1;
    via();
    block[1] = block[0];
}

static void frames(void)
{
    for (size_t n = 16; n < 20000; n = n * 3 + 1) {
        with_alloca(n);
        assert_all();
        aligned_alloca(n);
        assert_all();
    }
    wide();
    assert_all();
}

static void test_frames(void **state)
{
    (void)state;
    NEED_TABLES();
    twice(frames);
}

static void *in_thread(void *arg)
{
    recurse(3);
    assert_all();
    return arg;
}

static void other_stacks(void)
{
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, in_thread, NULL), 0);
    pthread_join(t, NULL);
}

static void test_thread(void **state)
{
    (void)state;
    NEED_TABLES();
    twice(other_stacks);
}

static void handler(int sig)
{
    (void)sig;
    recurse(2);
}

static void handle(int sig, void (*how)(int), int flags)
{
    const struct sigaction sa = {.sa_handler = how, .sa_flags = flags};
    assert_int_equal(sigaction(sig, &sa, NULL), 0);
}

#if defined(__x86_64__)
static void interrupted_call(void)
{
    raise(SIGUSR1);
    assert_all();
    assert_true(view.n > 6);
}

// A system call is where a thread waits, and then all is known of it.
static void test_signal_in_call(void **state)
{
    (void)state;
    NEED_TABLES();
    static char stack[1 << 16];
    const stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    handle(SIGUSR1, handler, 0);
    twice(interrupted_call);
    assert_int_equal(sigaltstack(&ss, NULL), 0);
    handle(SIGUSR1, handler, SA_ONSTACK);
    twice(interrupted_call); // this stack lies below the other, so it is followed
}
#endif

static char *forbidden;

static void permit(int sig)
{
    (void)sig;
    via();
    mprotect(forbidden, 4096, PROT_READ | PROT_WRITE);
}

// The table of an interrupted function need not be right at that instruction: it is told itself, and no more.
static void test_signal_elsewhere(void **state)
{
    (void)state;
    NEED_TABLES();
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle(SIGSEGV, permit, 0);
    for (int round = 0; round < 3; round++) {
        mprotect(forbidden, 4096, PROT_NONE);
        *(volatile char *)forbidden = 1;
#if defined(__x86_64__) // on aarch64 the kernel's trampoline has no table
        assert_prefix(3); // the handler, what it returns to, and what was interrupted
        assert_int_equal(view.ours[view.n - 2], (uintptr_t)view.theirs[view.n - 2]);
        assert_int_equal(view.ours[view.n - 1], (uintptr_t)view.theirs[view.n - 1]);
#endif
        assert_true(view.depth > view.n);
    }
    handle(SIGSEGV, SIG_DFL, 0);
    munmap(forbidden, 4096);
}

static enum unwind_where told_where;

NOINLINE static void ask_where(void)
{
    told_where = unwind_where();
    STAY();
}

static void ask_in_handler(int sig)
{
    (void)sig;
    ask_where();
    if (forbidden) mprotect(forbidden, 4096, PROT_READ | PROT_WRITE);
}

NOINLINE static enum unwind_where where_below(unsigned depth)
{
    if (depth) where_below(depth - 1);
    else ask_where();
    STAY();
    return told_where;
}

static int compare_and_ask(const void *a, const void *b)
{
    ask_where();
    return *(const int *)a - *(const int *)b;
}

static void *ask_in_thread(void *signalled)
{
    if (signalled) raise(SIGUSR1);
    else ask_where();
    return NULL;
}

// In a handler or not: told where the walk is sure up to the thread's first function.
static void test_where(void **state)
{
    (void)state;
    NEED_TABLES();
    int numbers[] = {2, 1};
    pthread_t t;
    static char stack[1 << 16];
    const stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    forbidden = NULL;
    handle(SIGUSR1, ask_in_handler, 0);
    for (int round = 0; round < 3; round++) { // what was met is remembered
        assert_int_equal(where_below(0), UNWIND_OUTSIDE);
        assert_int_equal(where_below(100), UNWIND_OUTSIDE);
        qsort(numbers, 2, sizeof *numbers, compare_and_ask);
        assert_int_equal(told_where, UNWIND_OUTSIDE);
        raise(SIGUSR1);
        assert_int_equal(told_where, UNWIND_IN_HANDLER);
        assert_int_equal(pthread_create(&t, NULL, ask_in_thread, NULL), 0);
        pthread_join(t, NULL);
        assert_int_equal(told_where, UNWIND_OUTSIDE);
        assert_int_equal(pthread_create(&t, NULL, ask_in_thread, numbers), 0);
        pthread_join(t, NULL);
        assert_int_equal(told_where, UNWIND_IN_HANDLER);
    }
    assert_int_equal(sigaltstack(&ss, NULL), 0);
    handle(SIGUSR1, ask_in_handler, SA_ONSTACK | SA_NODEFER);
    raise(SIGUSR1);
    assert_int_equal(told_where, UNWIND_IN_HANDLER);
    forbidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle(SIGSEGV, ask_in_handler, 0); // between two instructions
    told_where = UNWIND_UNSURE;
    *(volatile char *)forbidden = 1;
    STAY();
    assert_int_equal(told_where, UNWIND_IN_HANDLER);
    handle(SIGSEGV, SIG_DFL, 0);
    handle(SIGUSR1, SIG_DFL, 0);
    munmap(forbidden, 4096);
    assert_int_equal(where_below(10000), UNWIND_UNSURE); // deeper than is looked
}

static ucontext_t main_context, coroutine;

static void routine(void)
{
    recurse(3);
    assert_prefix(4);
    assert_true(view.n <= view.depth);
}

// A stack whose end is the end of the memory behind it.
static void run_on_small_stack(void (*function)(void))
{
    const size_t size = 1 << 16;
    char *stack = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(mprotect(stack + size, 4096, PROT_NONE), 0);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = size;
    coroutine.uc_link = &main_context;
    makecontext(&coroutine, function, 0);
    swapcontext(&main_context, &coroutine);
    munmap(stack, size + 4096);
}

static void on_coroutine(void)
{
    run_on_small_stack(routine);
}

static void test_coroutine(void **state)
{
    (void)state;
    NEED_TABLES();
    twice(on_coroutine);
}

#if defined(__x86_64__)
// A function that calls another with %rbp as it is told, and whose table says what it is told to.
typedef void liar(void (*call)(void), uintptr_t rbp);
#define LIAR(name, lie)                        \
    liar name;                                 \
    __asm__(".text\n\t.p2align 4\n"            \
            "\t.type " #name ", @function\n" #name ":\n" \
            "\t.cfi_startproc\n"               \
            "\tpushq %rbp\n"                   \
            "\t.cfi_def_cfa_offset 16\n"       \
            "\t.cfi_offset %rbp, -16\n"        \
            "\tmovq %rsi, %rbp\n"              \
            "\tsubq $16, %rsp\n"               \
            "\tmovq %rsp, (%rsp)\n"            \
            "\t.cfi_def_cfa_offset 32\n" lie "\n" \
            "\tcall *%rdi\n"                   \
            "\taddq $16, %rsp\n"               \
            "\tpopq %rbp\n"                    \
            "\tret\n"                          \
            "\t.cfi_endproc\n"                 \
            "\t.size " #name ", .-" #name)

LIAR(truth, "");
LIAR(beyond_the_stack, ".cfi_def_cfa_offset 0x7ffffff0");
LIAR(near_the_end, ".cfi_def_cfa_offset 0x10000"); // of a stack of 64 KiB
LIAR(below, ".cfi_def_cfa_offset -32");
LIAR(nowhere_up, ".cfi_def_cfa_offset 0");
LIAR(stands_still, ".cfi_def_cfa_offset 0\n\t.cfi_escape 0x10, 16, 2, 0x77, 24"); // the address is right
LIAR(odd, ".cfi_def_cfa_offset 33");
LIAR(by_rbp, ".cfi_def_cfa %rbp, 16");
LIAR(by_rbx, ".cfi_def_cfa %rbx, 16");
LIAR(address_far, ".cfi_offset %rip, -0x7ffffff0");
LIAR(address_ahead, ".cfi_offset %rip, 0x7ffffff0");
LIAR(address_odd, ".cfi_escape 0x10, 16, 2, 0x77, 3");
LIAR(address_stays, ".cfi_same_value %rip");
LIAR(address_in_rbx, ".cfi_register %rip, %rbx");
LIAR(address_is_data, ".cfi_offset %rip, -32"); // a pointer into the stack
LIAR(address_by_rbp, ".cfi_escape 0x10, 16, 2, 0x76, 0");
LIAR(first, ".cfi_undefined %rip");
LIAR(points_to_itself, ".cfi_escape 0x0f, 3, 0x77, 0, 0x06");
LIAR(computed, ".cfi_escape 0x0f, 5, 0x77, 8, 0x31, 0x22, 0x06");
LIAR(handler_like, ".cfi_signal_frame");

// Padding before it, so that no call ends there.
__asm__(".text\n\t.p2align 4\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n\tnop\n"
        "no_return_address:\n\tret");
void no_return_address(void);

static void *page_without_access, *page_with_nothing;
static uintptr_t planted[64] __attribute__((aligned(16)));

static const struct {
    const char *what;
    liar *function;
    enum { RBP_SMALL, RBP_ODD, RBP_WILD, RBP_FORBIDDEN, RBP_HEAP, RBP_PLANTED } rbp;
} lies[] = {
    {"beyond the stack", beyond_the_stack, RBP_SMALL},
    {"below", below, RBP_SMALL},
    {"nowhere up", nowhere_up, RBP_SMALL},
    {"stands still", stands_still, RBP_SMALL},
    {"odd", odd, RBP_SMALL},
    {"by rbp, small", by_rbp, RBP_SMALL},
    {"by rbp, odd", by_rbp, RBP_ODD},
    {"by rbp, wild", by_rbp, RBP_WILD},
    {"by rbp, forbidden", by_rbp, RBP_FORBIDDEN},
    {"by rbp, heap", by_rbp, RBP_HEAP},
    {"by rbp, planted", by_rbp, RBP_PLANTED},
    {"by rbx", by_rbx, RBP_SMALL},
    {"return address far", address_far, RBP_SMALL},
    {"return address ahead", address_ahead, RBP_SMALL},
    {"return address odd", address_odd, RBP_SMALL},
    {"return address stays", address_stays, RBP_SMALL},
    {"return address in rbx", address_in_rbx, RBP_SMALL},
    {"return address is data", address_is_data, RBP_SMALL},
    {"return address by rbp, small", address_by_rbp, RBP_SMALL},
    {"return address by rbp, wild", address_by_rbp, RBP_WILD},
    {"return address by rbp, forbidden", address_by_rbp, RBP_FORBIDDEN},
    {"return address by rbp, planted", address_by_rbp, RBP_PLANTED},
    {"first", first, RBP_SMALL},
    {"points to itself", points_to_itself, RBP_SMALL},
    {"computed", computed, RBP_SMALL},
};

static uintptr_t rbp_of(unsigned i, char *heap, const uintptr_t *on_stack)
{
    switch (lies[i].rbp) {
    case RBP_SMALL:
        return 8;
    case RBP_ODD:
        return (uintptr_t)on_stack + 3;
    case RBP_WILD:
        return (uintptr_t)0xdeadbeefdeadbee0;
    case RBP_FORBIDDEN:
        return (uintptr_t)page_without_access;
    case RBP_HEAP:
        return (uintptr_t)heap;
    default:
        return (uintptr_t)on_stack;
    }
}

// The function that lies is told, since the one that it calls tells the truth of it; then the walk ends.
static void assert_ends_in(liar *function, const char *what)
{
    const uintptr_t start = (uintptr_t)function;
    if (view.n != 1 || view.ours[0] < start || view.ours[0] > start + 64)
        fail_msg("%s: %u frames, the first %#lx, not in %#lx", what, view.n, (unsigned long)view.ours[0],
                 (unsigned long)start);
}

static void check_lies(void)
{
    uintptr_t on_stack[64] __attribute__((aligned(16)));
    char *heap = calloc(1, 4096);
    assert_non_null(heap);
    for (unsigned i = 0; i < 64; i++) on_stack[i] = planted[i] = (uintptr_t)no_return_address;
    for (unsigned i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        lies[i].function(via, rbp_of(i, heap, on_stack));
        assert_ends_in(lies[i].function, lies[i].what);
    }
    free(heap);
}

static void *lie_in_thread(void *arg)
{
    twice(check_lies);
    return arg;
}

static void near_end(void)
{
    near_the_end(via, 8);
    assert_ends_in(near_the_end, "near the end");
    beyond_the_stack(via, 8);
    assert_ends_in(beyond_the_stack, "beyond a coroutine's stack");
}

// Behind a thread's stack there may be memory that looks like one.
static uintptr_t *behind_stack;

static void *lie_at_the_end(void *arg)
{
    via();
    const uintptr_t in_via = view.here;
    for (unsigned i = 0; i < 512; i++) behind_stack[i] = in_via;
    by_rbp(via, (uintptr_t)behind_stack);
    assert_ends_in(by_rbp, "behind a thread's stack");
    return arg;
}

static void run_below_memory(void)
{
    const size_t size = 1 << 21; // sanitizers want much
    pthread_attr_t attr;
    pthread_t t;
    char *stack = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    behind_stack = (uintptr_t *)(void *)(stack + size);
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstack(&attr, stack, size), 0);
    assert_int_equal(pthread_create(&t, &attr, lie_at_the_end, NULL), 0);
    pthread_join(t, NULL);
    pthread_attr_destroy(&attr);
    munmap(stack, size + 4096);
}

static void test_lies(void **state)
{
    (void)state;
    NEED_TABLES();
    pthread_t t;
    page_without_access = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page_with_nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page_with_nothing, 4096);
    truth(via, 8);
    assert_all();
    ours_only = true;
    twice(check_lies);
    assert_int_equal(pthread_create(&t, NULL, lie_in_thread, NULL), 0); // what is wild there may lie above the stack
    pthread_join(t, NULL);
    run_on_small_stack(near_end);
    run_below_memory();
    ours_only = false;
    munmap(page_without_access, 4096);
}

// Only the kernel's own frames are taken at their word that they were interrupted.
static void test_false_signal(void **state)
{
    (void)state;
    NEED_TABLES();
    ours_only = true;
    handler_like(via, 8);
    ours_only = false;
    assert_ends_in(handler_like, "like a handler");
}

// Without a table.
__asm__(".text\n\t.p2align 4\nuntold:\n\tsubq $8, %rsp\n\tcall *%rdi\n\taddq $8, %rsp\n\tret");
liar untold;

static void test_untold(void **state)
{
    (void)state;
    NEED_TABLES();
    ours_only = true;
    for (int round = 0; round < 3; round++) {
        untold(via, 0);
        assert_ends_in(untold, "no table");
    }
    ours_only = false;
}

// Code that was made at run time: known as an address, at the very beginning of its page too.
static void test_made_at_run_time(void **state)
{
    (void)state;
    NEED_TABLES();
    static const unsigned char code[] = {0x50, 0xff, 0xd7, 0x58, 0xc3}; // push; call *%rdi; pop; ret
    unsigned char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const unsigned at[] = {4096, 4100, 6000};
    liar *made;
    ours_only = true;
    for (unsigned i = 0; i < 3; i++) {
        memcpy(pages + at[i], code, sizeof code);
        mprotect(pages + 4096, 4096, PROT_READ | PROT_EXEC);
        mprotect(pages, 4096, PROT_NONE);
        *(void **)&made = pages + at[i];
        made(via, 0);
        assert_ends_in(made, "made at run time");
        mprotect(pages, 8192, PROT_READ | PROT_WRITE);
    }
    ours_only = false;
    munmap(pages, 8192);
}

// Code that was made at run time with a table made for it: at the very end of what can be read of its "module".
static struct {
    unsigned char *base; // a page of code, one for tables, one that can't be read
    modules_finder *real;
    unsigned char *header;
} made;

static int find_made(void *pc, struct dl_find_object *found)
{
    const uintptr_t at = (uintptr_t)pc - (uintptr_t)made.base;
    if (at >= 3 * 4096) return made.real(pc, found);
    found->dlfo_map_start = made.base;
    found->dlfo_map_end = made.base + 3 * 4096;
    found->dlfo_eh_frame = made.header;
    return 0;
}

static const unsigned char made_code[] = {0x55, 0xff, 0xd7, 0x5d, 0xc3}; // push %rbp; call *%rdi; pop %rbp; ret

// What stands in the table of that function: all that is not given is as it should be.
static const struct made_table {
    const char *what;
    bool right; // the caller is found
    const char *program;
    unsigned size; // of program
    const char *letters;   // of the augmentation; "zR"
    int version, pointers; // 1, 0x1b
    int count;             // of the sorted table: 1
    int length;            // of the function: that of the code
    unsigned char header[4];
} made_tables[] = {
#define PROGRAM(bytes) .program = bytes, .size = sizeof bytes - 1
#define PUSHED "\x41\x0e\x10\x86\x02" // advance 1, CFA + 16, %rbp at -16
    {"plain", true, PROGRAM(PUSHED)},
    {"no advance", false, PROGRAM("")},
    {"advance 1", true, PROGRAM("\x02\x01\x0e\x10")},
    {"advance 2", true, PROGRAM("\x03\x01\x00\x0e\x10")},
    {"advance 4", true, PROGRAM("\x04\x01\x00\x00\x00\x0e\x10")},
    {"what comes behind", true, PROGRAM(PUSHED "\x42\x0e\x08")},
    {"far behind", true, PROGRAM(PUSHED "\x04\xff\xff\xff\xff\x0e\x08")},
    {"CFA anew", true, PROGRAM("\x41\x0c\x07\x10")},
    {"CFA anew, signed", true, PROGRAM("\x41\x12\x07\x7e")},
    {"CFA offset, signed", true, PROGRAM("\x41\x13\x7e")},
    {"CFA register", true, PROGRAM("\x41\x0c\x06\x10\x0d\x07")},
    {"CFA register of no interest", false, PROGRAM("\x41\x0e\x10\x0d\x03")},
    {"CFA expression", true, PROGRAM("\x41\x0f\x02\x77\x10")},
    {"CFA expression, then offset", false, PROGRAM("\x41\x0f\x03\x77\x10\x06\x0e\x10")},
    {"CFA expression of two", false, PROGRAM("\x41\x0f\x04\x77\x10\x77\x10")},
    {"CFA expression, empty", false, PROGRAM("\x41\x0f\x00")},
    {"CFA expression, cut", false, PROGRAM("\x41\x0f\x01\x77")},
    {"CFA expression, too long", false, PROGRAM("\x41\x0f\x7f\x77\x10")},
    {"return address, long", true, PROGRAM("\x41\x0e\x10\x05\x10\x01")},
    {"return address, signed", true, PROGRAM("\x41\x0e\x10\x11\x10\x01")},
    {"return address by expression", true, PROGRAM("\x41\x0e\x10\x10\x10\x02\x77\x08")},
    {"return address by its content", false, PROGRAM("\x41\x0e\x10\x10\x10\x03\x77\x08\x06")},
    {"return address is a number", false, PROGRAM("\x41\x0e\x10\x14\x10\x01")},
    {"return address is a number, signed", false, PROGRAM("\x41\x0e\x10\x15\x10\x01")},
    {"return address is computed", false, PROGRAM("\x41\x0e\x10\x16\x10\x02\x77\x08")},
    {"return address undefined", false, PROGRAM("\x41\x0e\x10\x07\x10")},
    {"restored", true, PROGRAM("\x41\x0e\x10\x07\x10\xd0")},
    {"restored, long", true, PROGRAM("\x41\x0e\x10\x07\x10\x06\x10")},
    {"state", true, PROGRAM("\x41\x0e\x10\x0a\x0e\x08\x07\x10\x0b")},
    {"other registers", true,
     PROGRAM("\x41\x0e\x10\x83\x03\x05\x0c\x04\x07\x01\x08\x02\x09\x03\x00\x14\x08\x01\x16\x09\x01\x30\x10\x0a\x01\x30"
             "\xc3\x06\x0c\x2e\x10\x00")},
    {"number of two bytes", true, PROGRAM("\x41\x0e\x90\x00")},
    {"no such operation", false, PROGRAM("\x41\x0e\x10\x3f")},
    {"negated offset", false, PROGRAM("\x41\x0e\x10\x2f\x10\x01")},
    {"another machine's operation", false, PROGRAM("\x41\x0e\x10\x2d")},
    {"set_loc", false, PROGRAM("\x41\x0e\x10\x01\x00\x00\x00\x00")},
    {"endless number", false, PROGRAM("\x41\x0e\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
    {"cut number", false, PROGRAM("\x41\x0e\xff")},
    {"cut operation", false, PROGRAM("\x41\x0e\x10\x03\x01")},
    {"nothing to restore", false, PROGRAM("\x41\x0e\x10\x0b")},
    {"too much to remember", false, PROGRAM("\x41\x0e\x10\x0a\x0a\x0a\x0a\x0a")},
    {"huge offset", false, PROGRAM("\x41\x0e\xff\xff\xff\xff\x7f")},
    {"no augmentation", true, PROGRAM(PUSHED), .letters = ""},
    {"more letters", true, PROGRAM(PUSHED), .letters = "zRB"},
    {"language", true, PROGRAM(PUSHED), .letters = "zLR"},
    {"personality", true, PROGRAM(PUSHED), .letters = "zPLR"},
    {"unknown letter", false, PROGRAM(PUSHED), .letters = "zXR"},
    {"unknown word", false, PROGRAM(PUSHED), .letters = "eh"},
    {"word too long", false, PROGRAM(PUSHED), .letters = "zRRRRRRRR"},
    {"version 3", true, PROGRAM(PUSHED), .version = 3},
    {"version 4", false, PROGRAM(PUSHED), .version = 4},
    {"pointers of 8 bytes", true, PROGRAM(PUSHED), .pointers = 0x1c},
    {"pointers as they are", true, PROGRAM(PUSHED), .pointers = 0x04},
    {"pointers, indirect", false, PROGRAM(PUSHED), .pointers = 0x9b},
    {"pointers from the data", false, PROGRAM(PUSHED), .pointers = 0x3b},
    {"pointers as numbers of any length", false, PROGRAM(PUSHED), .pointers = 0x11},
    {"pointers left out", false, PROGRAM(PUSHED), .pointers = 0xff},
    {"another function's", false, PROGRAM(PUSHED), .length = 2},
    {"no table", false, PROGRAM(PUSHED), .count = -1},
    {"a table that is not there", false, PROGRAM(PUSHED), .count = 0x1000},
    {"a table beyond all", false, PROGRAM(PUSHED), .count = 0x7fffffff},
    {"header of another version", false, PROGRAM(PUSHED), .header = {2, 0x1b, 0x03, 0x3b}},
    {"header without table", false, PROGRAM(PUSHED), .header = {1, 0x1b, 0xff, 0xff}},
    {"header with a table of another kind", false, PROGRAM(PUSHED), .header = {1, 0x1b, 0x03, 0x3c}},
};

struct bytes {
    unsigned char at[512];
    size_t n;
};

static void put(struct bytes *b, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) b->at[b->n++] = (unsigned char)(value >> 8 * i);
}

static void put_length(struct bytes *b, size_t start)
{
    struct bytes length = {.n = 0};
    put(&length, b->n - start - 4, 4);
    memcpy(b->at + start, length.at, 4);
}

static unsigned size_of_pointer(unsigned encoding)
{
    return (encoding & 0xf) == 0xb ? 4 : 8;
}

static void put_common(struct bytes *b, const struct made_table *t, unsigned pointers)
{
    const char *letters = t->letters ? t->letters : "zR";
    const size_t start = b->n;
    put(b, 0, 8);
    put(b, t->version ? (unsigned)t->version : 1, 1);
    for (const char *c = letters; *c; c++) put(b, (unsigned char)*c, 1);
    put(b, 0, 1);
    put(b, 0x107801, 3); // units 1 and -8, return address 16
    if (letters[0] == 'z') {
        const size_t length = b->n++;
        for (const char *c = letters + 1; *c; c++) {
            if (*c == 'R') put(b, pointers, 1);
            if (*c == 'P') put(b, 0x1b, 1), put(b, 0, 4);
            if (*c == 'L') put(b, 0x1b, 1);
        }
        b->at[length] = (unsigned char)(b->n - length - 1);
    }
    put(b, 0x0190080700 + 0x0c, 5); // CFA %rsp + 8, return address at -8
    put_length(b, start);
}

// Everything is counted from where it will be: the last byte is the last that can be read.
static void make_table(const struct made_table *t)
{
    const bool augmented = !t->letters || t->letters[0] == 'z';
    const unsigned pointers = !augmented ? 0 : t->pointers ? (unsigned)t->pointers : 0x1b;
    static const unsigned char header[4] = {1, 0x1b, 0x03, 0x3b};
    size_t size = 0;
    for (int round = 0; round < 2; round++) { // the first finds out how long it is
        const uintptr_t at = (uintptr_t)made.base + 2 * 4096 - size, code = (uintptr_t)made.base;
        struct bytes b = {.n = 0};
        memcpy(b.at, t->header[0] ? t->header : header, 4);
        b.n = 4;
        put(&b, 0, 4);
        put(&b, t->count == -1 ? 0 : t->count ? (unsigned)t->count : 1, 4);
        put(&b, code - at, 4);
        const size_t entry = b.n;
        put(&b, 0, 4);
        const size_t common = b.n;
        put_common(&b, t, pointers);
        const size_t function = b.n;
        put(&b, 0, 4);
        put(&b, b.n - common, 4);
        put(&b, code - (pointers & 0x10 ? at + b.n : 0), size_of_pointer(pointers));
        put(&b, t->length ? (unsigned)t->length : sizeof made_code, size_of_pointer(pointers));
        if (augmented) put(&b, 0, 1);
        memcpy(b.at + b.n, t->program, t->size);
        b.n += t->size;
        put_length(&b, function);
        struct bytes where = {.n = 0};
        put(&where, function, 4);
        memcpy(b.at + entry, where.at, 4);
        if (round) memcpy((void *)at, b.at, b.n);
        made.header = (unsigned char *)at;
        size = b.n;
    }
}

static void test_made_tables(void **state)
{
    (void)state;
    NEED_TABLES();
    liar *function;
    *(void **)&made.real = dlsym(RTLD_DEFAULT, "_dl_find_object");
    made.base = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(made.base, made_code, sizeof made_code);
    mprotect(made.base + 2 * 4096, 4096, PROT_NONE);
    *(void **)&function = made.base;
    modules_use(find_made);
    ours_only = true;
    for (unsigned i = 0; i < sizeof made_tables / sizeof made_tables[0]; i++) {
        const struct made_table *t = &made_tables[i];
        make_table(t);
        unwind_forget();
        for (int round = 0; round < 2; round++) {
            function(via, 0);
            if (view.n < 1 || view.ours[0] != (uintptr_t)made.base + 2 || (view.n > 3) != t->right)
                fail_msg("%s: %u frames, the first %#lx", t->what, view.n, (unsigned long)view.ours[0]);
        }
    }
    made.header = made.base + 2 * 4096; // not to be read at all
    unwind_forget();
    function(via, 0);
    assert_int_equal(view.n, 1);
    made.header = (unsigned char *)8;
    unwind_forget();
    function(via, 0);
    assert_int_equal(view.n, 1);
    ours_only = false;
    modules_use(made.real);
    unwind_forget();
    munmap(made.base, 3 * 4096);
}

// Calls in every form that compilers write: all are known as calls.
#define CALLER(name, code)                                                              \
    liar name;                                                                          \
    __asm__(".text\n\t.p2align 4\n" #name ":\n\t.cfi_startproc\n\tpushq %rbx\n"         \
            "\t.cfi_def_cfa_offset 16\n\t.cfi_offset %rbx, -16\n"                       \
            "\tsubq $512, %rsp\n\t.cfi_def_cfa_offset 528\n\tmovq %rdi, %rax\n"         \
            "\tleaq 256(%rsp), %rbx\n\tmovl $8, %ecx\n"                                 \
            "\tmovq %rdi, (%rbx)\n\tmovq %rdi, 8(%rbx)\n\tmovq %rdi, 16(%rbx)\n"        \
            "\tmovq %rdi, 200(%rbx)\n\tmovq %rdi, 208(%rbx)\n\tmovq %rdi, 256(%rsp)\n"  \
            "\tmovq %rdi, call_target(%rip)\n" code                                     \
            "\n\taddq $512, %rsp\n\tpopq %rbx\n\tret\n\t.cfi_endproc")
__asm__(".local call_target\n\t.comm call_target, 8, 8");
CALLER(call_rax, "call *%rax");
CALLER(call_r8, "movq %rax, %r8\n\tcall *%r8");
CALLER(call_at_rbx, "call *(%rbx)");
CALLER(call_at_rbx_8, "call *8(%rbx)");
CALLER(call_at_rbx_200, "call *200(%rbx)");
CALLER(call_at_index, "call *(%rbx,%rcx,2)");
CALLER(call_at_index_8, "call *8(%rbx,%rcx,1)");
CALLER(call_at_index_200, "call *200(%rbx,%rcx,1)");
CALLER(call_at_rsp, "call *256(%rsp)");
CALLER(call_at_rip, "call *call_target(%rip)");

static void test_calls(void **state)
{
    (void)state;
    NEED_TABLES();
    liar *const callers[] = {call_rax,      call_r8,         call_at_rbx,       call_at_rbx_8, call_at_rbx_200,
                             call_at_index, call_at_index_8, call_at_index_200, call_at_rsp,   call_at_rip};
    ours_only = true;
    for (unsigned i = 0; i < sizeof callers / sizeof callers[0]; i++) {
        callers[i](via, 0);
        const uintptr_t start = (uintptr_t)callers[i];
        if (view.n < 4 || view.ours[0] < start || view.ours[0] > start + 128)
            fail_msg("caller %u: %u frames, the first %#lx", i, view.n, (unsigned long)view.ours[0]);
    }
    ours_only = false;
}
#endif

// The program's own tables, with random bytes in those of the functions that are under way.
struct tables {
    unsigned char *header;
    uintptr_t page, size; // of the segment that holds them
};

static int find_tables(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    struct tables *t = arg;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
            t->header = (unsigned char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        const uintptr_t start = info->dlpi_addr + part->p_vaddr;
        if (part->p_type != PT_LOAD || (uintptr_t)t->header - start >= part->p_memsz) continue;
        t->page = start & ~(uintptr_t)4095;
        t->size = (start + part->p_memsz - t->page + 4095) & ~(uintptr_t)4095;
    }
    return 1; // the first is the program
}

static int32_t signed_at(const unsigned char *at)
{
    int32_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

// Where the sorted table's line for pc is, and what it points to.
static unsigned char *description_of(const struct tables *t, uintptr_t pc, unsigned char **line)
{
    const unsigned n = (unsigned)signed_at(t->header + 8);
    *line = NULL;
    for (unsigned i = 0; i < n; i++) {
        unsigned char *at = t->header + 12 + 8 * i;
        if ((uintptr_t)(t->header + signed_at(at)) > pc) break;
        *line = at;
    }
    return *line ? t->header + signed_at(*line + 4) : NULL;
}

static void spoil(unsigned char *at, size_t n)
{
    for (int i = 1 + (int)(random() % 3); i; i--) at[(size_t)random() % n] = (unsigned char)random();
}

static void test_spoilt_tables(void **state)
{
    (void)state;
    NEED_TABLES();
    struct tables t = {NULL, 0, 0};
    dl_iterate_phdr(find_tables, &t);
    if (!t.header || !t.size) skip();
    if (mprotect((void *)t.page, t.size, PROT_READ | PROT_WRITE | PROT_EXEC)) skip();
    const size_t size = t.page + t.size - (uintptr_t)t.header; // the descriptions stand behind the sorted table
    unsigned char *whole = malloc(size), *line;
    assert_non_null(whole);
    memcpy(whole, t.header, size);
    recurse(2);
    const struct view sound = view;
    unsigned ended_early = 0;
    ours_only = true;
    srandom(1);
    for (int round = 0; round < 20000; round++) {
        unsigned char *d = description_of(&t, sound.ours[(unsigned)random() % sound.n], &line);
        if (!d || (uintptr_t)(d - t.header) > size - 64) continue;
        switch (random() % 4) {
        case 0:
            spoil(line, 8);
            break;
        case 1:
            spoil(t.header, 12);
            break;
        case 2:
            spoil(d + 4 - signed_at(d + 4), 24); // what it shares with others
            break;
        default:
            spoil(d, 40);
        }
        unwind_forget();
        recurse(2);
        ended_early += view.n < sound.n;
        memcpy(t.header, whole, size);
    }
    ours_only = false;
    unwind_forget();
    mprotect((void *)t.page, t.size, PROT_READ | PROT_EXEC);
    free(whole);
    assert_true(ended_early > 1000);
    recurse(2);
    assert_all();
}

// Many threads that walk at once, while modules are said to go: each finds what it found the first time.
enum { DEPTHS = 20 };
static _Atomic bool over;
static _Atomic unsigned walks, wrong;

struct found {
    uintptr_t frame[MAX];
    unsigned n;
};

NOINLINE static void look_again(struct found *before)
{
    struct found now = {.n = 0};
    now.n = unwind_callers((uintptr_t)__builtin_return_address(0) - 1, now.frame, MAX);
    if (!before->n) *before = now;
    if (now.n != before->n || memcmp(now.frame, before->frame, now.n * sizeof now.frame[0]) != 0)
        atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&walks, 1);
}

NOINLINE static void dig(unsigned depth, struct found *found)
{
    if (depth) dig(depth - 1, found);
    else look_again(found);
    STAY();
}

static void *keep_walking(void *arg)
{
    struct found *found = calloc(DEPTHS, sizeof *found);
    for (unsigned depth = 0; found && !atomic_load(&over); depth = (depth + 1) % DEPTHS) {
        dig(depth, &found[depth]);
        if (found[depth].n < depth) atomic_fetch_add(&wrong, 1);
    }
    free(found);
    return arg;
}

static void test_threads(void **state)
{
    (void)state;
    NEED_TABLES();
    pthread_t t[4];
    for (unsigned i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, keep_walking, NULL), 0);
    while (atomic_load(&walks) < 20000) unwind_forget();
    while (atomic_load(&walks) < 40000) {
        recurse(atomic_load(&walks) % 30);
        assert_all();
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 4; i++) pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&wrong), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_straight),
        cmocka_unit_test(test_not_met),
        cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_callbacks),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_signal_elsewhere),
        cmocka_unit_test(test_where),
        cmocka_unit_test(test_coroutine),
#if defined(__x86_64__)
        cmocka_unit_test(test_signal_in_call),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_false_signal),
        cmocka_unit_test(test_untold),
        cmocka_unit_test(test_made_at_run_time),
        cmocka_unit_test(test_made_tables),
        cmocka_unit_test(test_calls),
#endif
        cmocka_unit_test(test_spoilt_tables),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("unwind", tests, find_object, NULL);
}
