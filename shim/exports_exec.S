// The exec functions: what must be noted is noted, and then the real one is jumped to, with its arguments where they were.
#if defined(__x86_64__)
        .macro  jump_to name
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        endbr64
        pushq   %rdi
        pushq   %rsi
        pushq   %rdx
        pushq   %rcx
        pushq   %r8
        pushq   %r9
        pushq   %rax
        .cfi_adjust_cfa_offset 56
        call    before_exec
        popq    %rax
        popq    %r9
        popq    %r8
        popq    %rcx
        popq    %rdx
        popq    %rsi
        popq    %rdi
        .cfi_adjust_cfa_offset -56
        jmp     *real_\name(%rip)
        .cfi_endproc
        .size   \name, . - \name
        .endm
#elif defined(__aarch64__)
        .macro  jump_to name
        .globl  \name
        .type   \name, %function
\name:
        .cfi_startproc
        hint    #34
        stp     x29, x30, [sp, #-80]!
        .cfi_adjust_cfa_offset 80
        stp     x0, x1, [sp, #16]
        stp     x2, x3, [sp, #32]
        stp     x4, x5, [sp, #48]
        stp     x6, x7, [sp, #64]
        bl      before_exec
        ldp     x0, x1, [sp, #16]
        ldp     x2, x3, [sp, #32]
        ldp     x4, x5, [sp, #48]
        ldp     x6, x7, [sp, #64]
        ldp     x29, x30, [sp], #80
        .cfi_adjust_cfa_offset -80
        adrp    x16, real_\name
        ldr     x16, [x16, #:lo12:real_\name]
        br      x16
        .cfi_endproc
        .size   \name, . - \name
        .endm
#endif
        .text
#define EXEC(name) jump_to name
#include "exec.def"
        .section .note.GNU-stack, "", %progbits
