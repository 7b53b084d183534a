#include "cfi.h"

#include <string.h>

#include "memory.h"
#include "modules.h"

#if defined(__x86_64__)
enum { REGISTER_FP = 6, REGISTER_SP = 7, REGISTER_RA = 16 }; // System V ABI, AMD64, figure 3.36
#elif defined(__aarch64__)
enum { REGISTER_FP = 29, REGISTER_RA = 30, REGISTER_SP = 31 }; // DWARF for AArch64, section 4.1
#endif

enum { // how pointers are written (LSB Core, "DWARF Exception Header Encoding")
    FORM_POINTER = 0x00,
    FORM_U4 = 0x03,
    FORM_U8 = 0x04,
    FORM_S4 = 0x0b,
    FORM_S8 = 0x0c,
    FORM = 0x0f,
    FROM_HERE = 0x10,
    FROM_TABLE = 0x30,
};

enum {                 // DWARF 5, table 7.29; the last three are the GNU toolchain's and Arm's
    OP_ADVANCE = 0x40, // these three have an operand in their low six bits
    OP_OFFSET = 0x80,
    OP_RESTORE = 0xc0,
    OP_NOP = 0x00,
    OP_ADVANCE_1 = 0x02,
    OP_ADVANCE_2 = 0x03,
    OP_ADVANCE_4 = 0x04,
    OP_OFFSET_LONG = 0x05,
    OP_RESTORE_LONG = 0x06,
    OP_UNDEFINED = 0x07,
    OP_SAME = 0x08,
    OP_REGISTER = 0x09,
    OP_REMEMBER_STATE = 0x0a,
    OP_RESTORE_STATE = 0x0b,
    OP_CFA = 0x0c,
    OP_CFA_REGISTER = 0x0d,
    OP_CFA_OFFSET = 0x0e,
    OP_CFA_EXPRESSION = 0x0f,
    OP_EXPRESSION = 0x10,
    OP_OFFSET_SIGNED = 0x11,
    OP_CFA_SIGNED = 0x12,
    OP_CFA_OFFSET_SIGNED = 0x13,
    OP_VALUE = 0x14,
    OP_VALUE_SIGNED = 0x15,
    OP_VALUE_EXPRESSION = 0x16,
    OP_AUTHENTICATED = 0x2d,
    OP_ARGUMENTS = 0x2e,
};

enum { EXPRESSION_DEREFERENCE = 0x06, EXPRESSION_REGISTER = 0x70 }; // DWARF 5, table 7.9

#define OPERATIONS_MAX 20000 // no compiler writes a function that needs more
#define STATES_MAX 4

// A place in a module's tables.
struct reader {
    uintptr_t at;
    uintptr_t low, high; // the module
    uintptr_t end;       // of what is being read
    uintptr_t page;      // the last that was found readable
    bool bad;            // something was not as it should be: all that is read from then on is 0
};

static uint8_t u8(struct reader *r)
{
    if (r->bad || r->at < r->low || r->at >= r->end) {
        r->bad = true;
        return 0;
    }
    const uintptr_t page = r->at / MEMORY_PAGE;
    if (page != r->page && !memory_readable(r->at, 1)) {
        r->bad = true;
        return 0;
    }
    r->page = page;
    return memory_byte(r->at++);
}

static uint64_t fixed(struct reader *r, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)u8(r) << 8 * i;
    return value;
}

static int64_t fixed_signed(struct reader *r, unsigned bytes)
{
    const unsigned unused = 64 - 8 * bytes;
    return (int64_t)(fixed(r, bytes) << unused) >> unused;
}

// LEB128 (DWARF 5, section 7.6); one that does not fit 64 bits is bad.
static uint64_t leb(struct reader *r, bool is_signed)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = u8(r);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        if (is_signed && byte & 0x40 && shift + 7 < 64) value |= ~UINT64_C(0) << (shift + 7);
        return value;
    }
    r->bad = true;
    return 0;
}

static uint64_t uleb(struct reader *r)
{
    return leb(r, false);
}

static int64_t sleb(struct reader *r)
{
    return (int64_t)leb(r, true);
}

static void skip(struct reader *r, uint64_t bytes)
{
    if (bytes > r->end - r->at)
        r->bad = true;
    else
        r->at += bytes;
}

// A number in this form; what it is counted from is left to the caller.
static uint64_t number(struct reader *r, uint8_t encoding)
{
    switch (encoding & FORM) {
    case FORM_U4:
        return fixed(r, 4);
    case FORM_S4:
        return (uint64_t)fixed_signed(r, 4);
    case FORM_POINTER:
    case FORM_U8:
    case FORM_S8:
        return fixed(r, 8);
    default:
        r->bad = true;
        return 0;
    }
}

// An address; 0 in the table means 0 wherever it is counted from.
static uintptr_t address(struct reader *r, uint8_t encoding)
{
    const uintptr_t here = r->at;
    uint64_t value = number(r, encoding);
    switch (encoding & ~FORM) {
    case 0:
        return value;
    case FROM_HERE:
        return here + value;
    default:
        r->bad = true;
        return 0;
    }
}

// The description of the function that pc may be in: the last in the sorted table (LSB Core, "The
// .eh_frame_hdr section") that begins at pc or before. 0: there is none.
static uintptr_t search(struct reader *r, uintptr_t header, uintptr_t pc)
{
    r->at = header;
    uint8_t version = u8(r), section = u8(r), count = u8(r), table = u8(r);
    if (version != 1 || count != FORM_U4 || table != (FROM_TABLE | FORM_S4)) return 0;
    number(r, section);
    uint64_t first = 0, n = fixed(r, 4);
    const uintptr_t pairs = r->at;
    if (r->bad || n > (r->end - pairs) / 8) return 0;
    while (n) { // first and the n that follow are left; those before first begin at pc or before
        const uint64_t middle = first + n / 2;
        r->at = pairs + 8 * middle;
        if (header + (uint64_t)fixed_signed(r, 4) > pc) {
            n /= 2;
        } else {
            n -= n / 2 + 1;
            first = middle + 1;
        }
    }
    if (first == 0) return 0;
    r->at = pairs + 8 * (first - 1) + 4;
    return header + (uint64_t)fixed_signed(r, 4);
}

// What a function's description shares with others (CIE), and its own (FDE).
struct common {
    uint64_t code_unit;
    int64_t data_unit;
    uintptr_t program, end;
    uint8_t pointers; // their encoding
    bool augmented;   // descriptions have augmentation data
    bool signal;
};

struct function {
    uintptr_t start;
    uintptr_t program, end;
};

// Moves into the entry at this address; its end is set. Entries of 4 GiB (length 0xffffffff) are none of
// ours.
static void enter(struct reader *r, uintptr_t entry)
{
    r->at = entry;
    r->end = r->high;
    uint64_t length = fixed(r, 4);
    if (length == 0 || length == UINT32_MAX || length > r->end - r->at)
        r->bad = true;
    else
        r->end = r->at + length;
}

// "zRS" and so on: a letter for each item of the augmentation data, in that order.
static void read_augmentation(struct reader *r, const char *letters, struct common *c)
{
    for (; *letters; letters++)
        switch (*letters) {
        case 'R':
            c->pointers = u8(r);
            break;
        case 'P':
            number(r, u8(r));
            break;
        case 'L':
            u8(r);
            break;
        case 'S':
            c->signal = true;
            break;
        case 'B': // return addresses are signed with the other key, which does not matter for taking it off
        case 'G': // the stack is tagged
            break;
        default:
            r->bad = true;
        }
}

#define LETTERS_MAX 8

static void read_letters(struct reader *r, char letters[LETTERS_MAX])
{
    for (unsigned n = 0; n < LETTERS_MAX; n++) {
        letters[n] = (char)u8(r);
        if (!letters[n]) return;
    }
    r->bad = true;
}

static void read_common(struct reader *r, uintptr_t entry, struct common *c)
{
    char letters[LETTERS_MAX];
    *c = (struct common){.pointers = FORM_POINTER};
    enter(r, entry);
    if (fixed(r, 4) != 0) r->bad = true; // this is a function's
    uint8_t version = u8(r);
    read_letters(r, letters);
    if (version != 1 && version != 3) r->bad = true;
    c->code_unit = uleb(r);
    c->data_unit = sleb(r);
    if ((version == 1 ? u8(r) : uleb(r)) != REGISTER_RA) r->bad = true;
    if (r->bad) return;
    c->augmented = letters[0] == 'z';
    if (c->augmented) {
        uint64_t length = uleb(r);
        const uintptr_t data = r->at;
        read_augmentation(r, letters + 1, c);
        r->at = data;
        skip(r, length);
    } else if (letters[0]) {
        r->bad = true;
    }
    c->program = r->at;
    c->end = r->end;
}

// Is pc in the function that is described here?
static bool read_function(struct reader *r, uintptr_t entry, uintptr_t pc, struct common *c,
                          struct function *f)
{
    enter(r, entry);
    const uintptr_t id = r->at, end = r->end;
    const uint64_t back = fixed(r, 4);
    const uintptr_t behind = r->at;
    if (r->bad || back == 0 || back > id - r->low) return false;
    read_common(r, id - back, c);
    r->at = behind;
    r->end = end;
    f->start = address(r, c->pointers);
    uint64_t length = number(r, c->pointers & FORM);
    if (c->augmented) skip(r, uleb(r));
    f->program = r->at;
    f->end = end;
    return !r->bad && pc >= f->start && pc - f->start < length;
}

// The program of a function, run up to the instruction that is asked for.
struct machine {
    struct reader *r;
    const struct common *c;
    uintptr_t location, pc;
    struct cfi_rule row, initial, state[STATES_MAX];
    unsigned states;
    bool there; // the row is that of pc
};

// Keeps a rule for one of the registers that are followed; those of the others do not matter.
static void set(struct machine *m, uint64_t reg, enum cfi_base base, int64_t offset)
{
    if (offset != (int32_t)offset) base = CFI_UNKNOWN;
    if (reg == REGISTER_RA) {
        m->row.ra_base = (uint8_t)base;
        m->row.ra = (int32_t)offset;
    } else if (reg == REGISTER_FP) {
        m->row.fp_base = (uint8_t)base;
        m->row.fp = (int32_t)offset;
    }
}

static void restore(struct machine *m, uint64_t reg)
{
    if (reg == REGISTER_RA) set(m, reg, (enum cfi_base)m->initial.ra_base, m->initial.ra);
    if (reg == REGISTER_FP) set(m, reg, (enum cfi_base)m->initial.fp_base, m->initial.fp);
}

static enum cfi_base base_of(uint64_t reg)
{
    return reg == REGISTER_SP ? CFI_SP : reg == REGISTER_FP ? CFI_FP : CFI_UNKNOWN;
}

static void set_cfa(struct machine *m, enum cfi_base base, int64_t offset, bool dereference)
{
    if (offset != (int32_t)offset) base = CFI_UNKNOWN;
    m->row.cfa_base = (uint8_t)base;
    m->row.cfa = (int32_t)offset;
    m->row.dereference = dereference;
}

// Expressions are understood as far as realigned stacks and signal frames use them: a register and an offset,
// and then perhaps what stands there.
static enum cfi_base expression(struct reader *r, int64_t *offset, bool *dereference)
{
    const uint64_t length = uleb(r);
    const uintptr_t start = r->at;
    skip(r, length);
    if (r->bad) return CFI_UNKNOWN;
    const uintptr_t end = r->at, outer = r->end;
    r->at = start;
    r->end = end;
    enum cfi_base base = CFI_UNKNOWN;
    uint8_t op = length ? u8(r) : 0;
    if (op >= EXPRESSION_REGISTER && op < EXPRESSION_REGISTER + 32) {
        base = base_of(op - EXPRESSION_REGISTER);
        *offset = sleb(r);
        *dereference = r->at < end && u8(r) == EXPRESSION_DEREFERENCE;
    }
    if (r->at != end) base = CFI_UNKNOWN;
    r->at = end;
    r->end = outer;
    return base;
}

static void advance(struct machine *m, uint64_t units)
{
    const uint64_t left = m->pc - m->location;
    if (units && m->c->code_unit > left / units)
        m->there = true;
    else
        m->location += units * m->c->code_unit;
}

static int64_t scaled(const struct machine *m, int64_t units)
{
    int64_t bytes;
    return __builtin_mul_overflow(units, m->c->data_unit, &bytes) ? INT64_MAX : bytes;
}

static void cfa_operation(struct machine *m, uint8_t op)
{
    struct reader *r = m->r;
    const bool simple = !m->row.dereference; // only then can one part of it be changed
    enum cfi_base base = CFI_UNKNOWN;
    int64_t offset = 0;
    bool dereference = false;
    switch (op) {
    case OP_CFA:
    case OP_CFA_SIGNED:
        base = base_of(uleb(r));
        offset = op == OP_CFA ? (int64_t)uleb(r) : scaled(m, sleb(r));
        break;
    case OP_CFA_REGISTER:
        base = base_of(uleb(r));
        offset = m->row.cfa;
        if (!simple) base = CFI_UNKNOWN;
        break;
    case OP_CFA_OFFSET:
    case OP_CFA_OFFSET_SIGNED:
        if (simple) base = (enum cfi_base)m->row.cfa_base;
        offset = op == OP_CFA_OFFSET ? (int64_t)uleb(r) : scaled(m, sleb(r));
        break;
    default: // OP_CFA_EXPRESSION
        base = expression(r, &offset, &dereference);
    }
    set_cfa(m, base, offset, dereference);
}

static void register_operation(struct machine *m, uint8_t op)
{
    struct reader *r = m->r;
    const uint64_t reg = uleb(r);
    enum cfi_base base = CFI_UNKNOWN;
    int64_t offset = 0;
    bool dereference = false;
    switch (op) {
    case OP_OFFSET_LONG:
        base = CFI_CFA;
        offset = scaled(m, (int64_t)uleb(r));
        break;
    case OP_OFFSET_SIGNED:
        base = CFI_CFA;
        offset = scaled(m, sleb(r));
        break;
    case OP_RESTORE_LONG:
        restore(m, reg);
        return;
    case OP_UNDEFINED:
        base = CFI_UNDEFINED;
        break;
    case OP_SAME:
        base = CFI_SAME;
        break;
    case OP_EXPRESSION:
        base = expression(r, &offset, &dereference);
        if (dereference) base = CFI_UNKNOWN;
        break;
    case OP_VALUE_EXPRESSION:
        expression(r, &offset, &dereference);
        break;
    default: // OP_REGISTER, OP_VALUE, OP_VALUE_SIGNED: the size of the operand is the same for all
        uleb(r);
    }
    set(m, reg, base, offset);
}

static void state_operation(struct machine *m, uint8_t op)
{
    if (op == OP_REMEMBER_STATE && m->states < STATES_MAX)
        m->state[m->states++] = m->row;
    else if (op == OP_RESTORE_STATE && m->states)
        m->row = m->state[--m->states];
    else
        m->r->bad = true;
}

static void operation(struct machine *m, uint8_t op)
{
    struct reader *r = m->r;
    switch (op) {
    case OP_NOP:
        break;
    case OP_ADVANCE_1:
        advance(m, u8(r));
        break;
    case OP_ADVANCE_2:
        advance(m, fixed(r, 2));
        break;
    case OP_ADVANCE_4:
        advance(m, fixed(r, 4));
        break;
    case OP_REMEMBER_STATE:
    case OP_RESTORE_STATE:
        state_operation(m, op);
        break;
    case OP_CFA:
    case OP_CFA_SIGNED:
    case OP_CFA_REGISTER:
    case OP_CFA_OFFSET:
    case OP_CFA_OFFSET_SIGNED:
    case OP_CFA_EXPRESSION:
        cfa_operation(m, op);
        break;
    case OP_OFFSET_LONG:
    case OP_OFFSET_SIGNED:
    case OP_RESTORE_LONG:
    case OP_UNDEFINED:
    case OP_SAME:
    case OP_REGISTER:
    case OP_EXPRESSION:
    case OP_VALUE:
    case OP_VALUE_SIGNED:
    case OP_VALUE_EXPRESSION:
        register_operation(m, op);
        break;
    case OP_ARGUMENTS:
        uleb(r);
        break;
#if defined(__aarch64__)
    case OP_AUTHENTICATED:
        m->row.authenticated = !m->row.authenticated;
        break;
#endif
    default:
        r->bad = true;
    }
}

static void run(struct machine *m, uintptr_t program, uintptr_t end)
{
    struct reader *r = m->r;
    r->at = program;
    r->end = end;
    for (unsigned n = 0; r->at < end && !m->there && !r->bad; n++) {
        uint8_t op = u8(r), low = op & 0x3f;
        switch (op & 0xc0) {
        case OP_ADVANCE:
            advance(m, low);
            break;
        case OP_OFFSET:
            set(m, low, CFI_CFA, scaled(m, (int64_t)uleb(r)));
            break;
        case OP_RESTORE:
            restore(m, low);
            break;
        default:
            operation(m, op);
        }
        if (n == OPERATIONS_MAX) r->bad = true;
    }
}

bool cfi_find(uintptr_t pc, struct cfi_rule *rule)
{
    struct module_span span;
    struct common c;
    struct function f;
    if (!modules_span(pc, &span) || !span.frames) return false;
    struct reader r = {.low = span.start, .high = span.end, .end = span.end, .page = UINTPTR_MAX};
    const uintptr_t entry = search(&r, span.frames, pc);
    if (!entry || r.bad || !read_function(&r, entry, pc, &c, &f)) return false;
    struct machine m = {.r = &r, .c = &c, .location = f.start, .pc = f.start};
    m.row.ra_base = m.row.fp_base = CFI_SAME; // what is not told is as it was
    run(&m, c.program, c.end);
    m.initial = m.row;
    m.there = false;
    m.pc = pc;
    run(&m, f.program, f.end);
    *rule = m.row;
    rule->signal = c.signal;
    const bool ends = rule->ra_base == CFI_UNDEFINED;
    return !r.bad && (ends || (rule->cfa_base != CFI_UNKNOWN && rule->ra_base != CFI_UNKNOWN));
}
