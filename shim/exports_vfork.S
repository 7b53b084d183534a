// vfork: its child returns through the same stack frame, so there can be none of ours between it and the
// program. What must be noted is noted, and then the real one is jumped to.
#if defined(__x86_64__)
        .text
        .globl  vfork
        .type   vfork, @function
        .globl  __vfork
        .type   __vfork, @function
vfork:
__vfork:
        .cfi_startproc
        endbr64
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    before_vfork
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        jmp     *real_vfork(%rip)
        .cfi_endproc
        .size   vfork, . - vfork
        .size   __vfork, . - __vfork
#elif defined(__aarch64__)
        .text
        .globl  vfork
        .type   vfork, %function
        .globl  __vfork
        .type   __vfork, %function
vfork:
__vfork:
        .cfi_startproc
        hint    #34
        stp     x29, x30, [sp, #-16]!
        bl      before_vfork
        ldp     x29, x30, [sp], #16
        adrp    x16, real_vfork
        ldr     x16, [x16, #:lo12:real_vfork]
        br      x16
        .cfi_endproc
        .size   vfork, . - vfork
        .size   __vfork, . - __vfork
#endif
        .section .note.GNU-stack, "", %progbits
