// Call frame information: for an instruction, where its function keeps its caller's registers (.eh_frame: LSB
// Core, "Exception Frames"; the instructions are DWARF's, version 5, section 6.4). As far as compilers and
// libc use it; what goes beyond is not guessed.
#ifndef PRECLOSE_CFI_H
#define PRECLOSE_CFI_H

#include <stdbool.h>
#include <stdint.h>

// Where a value is, or what an address is counted from.
enum cfi_base {
    CFI_UNKNOWN,   // not told, or in a way that is not understood
    CFI_UNDEFINED, // there is none: of the return address, that this is the thread's first function
    CFI_SAME,      // still in its register
    CFI_CFA,       // in memory, counted from the canonical frame address
    CFI_SP,        // from the stack pointer
    CFI_FP,        // from the frame pointer
};

struct cfi_rule {
    int32_t cfa, ra, fp;      // bytes, from the bases
    uint8_t cfa_base;         // CFI_SP, CFI_FP, or CFI_UNKNOWN
    uint8_t ra_base, fp_base; // where the return address and the caller's frame pointer are
    bool dereference : 1;     // the CFA is what stands in memory there
    bool signal : 1;          // the "caller" was interrupted by a signal at that very instruction
    bool authenticated : 1;   // aarch64: the return address carries a signature
};

// The rule for the instruction that holds pc. Returns false if there is none that is understood. Tables are
// read only where the kernel says that they can be, and never beyond their module. Async-signal-safe, no
// lock.
bool cfi_find(uintptr_t pc, struct cfi_rule *rule);

#endif
