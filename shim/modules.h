// An instruction address → "module+0xoffset", where the offset is the one that addr2line -e module takes:
// the address minus the load bias, for programs, position-independent programs and shared objects alike.
#ifndef PRECLOSE_MODULES_H
#define PRECLOSE_MODULES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct module {
    uintptr_t offset;    // virtual address in the file (ELF p_vaddr)
    size_t length;       // of path
    char path[PATH_MAX]; // full path where it is known; not terminated
};

// Start: notes the path of the main program (proc(5) /proc/self/exe), which can no longer be read after a
// chroot. Called once, before threads; without it that path is looked for when it is needed.
void modules_start(void);

// The loader's _dl_find_object (glibc 2.35), looked up by whoever may: linked with by name, it would keep the
// library from loading beside an older libc. NULL: the kernel is asked instead. Called once, before threads.
struct dl_find_object;
typedef int modules_finder(void *pc, struct dl_find_object *found);
void modules_use(modules_finder *find);

// What the loader says of the module of pc: where it is mapped, and its sorted table of call frame information
// (PT_GNU_EH_FRAME; 0: it has none). False if pc is in no module, or the loader is too old to be asked.
// No lock, no system call, async-signal-safe; needs no serialising.
struct module_span {
    uintptr_t start, end, frames;
};
bool modules_span(uintptr_t pc, struct module_span *span);

// The place of pc as findings print it: "/usr/bin/server+0x11d2"; "0x7f12a0" if pc is in no module (code
// made at run time). Sets *text to it, in a buffer that the next call overwrites, and returns its length.
// Remembers the last, until modules_forget. Async-signal-safe; the caller serialises (report lock).
size_t modules_place(uintptr_t pc, const char **text);

// Code has been unloaded, or is about to be: other code may come to the same addresses. Async-signal-safe, no lock.
void modules_forget(void);

// The module of pc as the loader knows it (_dl_find_object, glibc 2.35: no lock, async-signal-safe), or
// as the kernel does (/proc/self/maps and the ELF program headers in memory), which is slower but knows
// the path of everything. They return false if pc is in no module or they can't tell.
// Async-signal-safe; the caller serialises.
bool modules_by_loader(uintptr_t pc, struct module *m);
bool modules_by_maps(uintptr_t pc, struct module *m);

#endif
