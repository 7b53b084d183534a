// An address → the module and the offset that addr2line takes.
#include "unit.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "modules.h"

static char exe[PATH_MAX];
static struct module by_loader, by_maps;

static int start(void **state)
{
    (void)state;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0) return -1;
    exe[n] = '\0';
    return 0;
}

static uintptr_t address_of(void (*function)(void))
{
    uintptr_t address;
    memcpy(&address, &function, sizeof address);
    return address;
}

// A function of this program with a name that its symbol table has.
__attribute__((noinline)) void modules_landmark(void)
{
    __asm__ volatile("");
}

// The value that this program's own symbol table gives to a function.
static uintptr_t symbol_value(const char *name)
{
    static char file[1 << 24];
    FILE *f = fopen(exe, "r");
    size_t n = f ? fread(file, 1, sizeof file, f) : 0;
    if (f) fclose(f);
    if (n < sizeof(ElfW(Ehdr))) return 0;
    ElfW(Ehdr) *elf = (void *)file;
    ElfW(Shdr) *sections = (void *)(file + elf->e_shoff);
    for (unsigned i = 0; i < elf->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB) continue;
        const char *names = file + sections[sections[i].sh_link].sh_offset;
        ElfW(Sym) *symbols = (void *)(file + sections[i].sh_offset);
        for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; k++)
            if (strcmp(names + symbols[k].st_name, name) == 0) return symbols[k].st_value;
    }
    return 0;
}

static void assert_module(const struct module *m, const char *path, uintptr_t offset)
{
    assert_int_equal(m->length, strlen(path));
    assert_memory_equal(m->path, path, m->length);
    assert_int_equal(m->offset, offset);
}

static void test_program(void **state)
{
    (void)state;
#if __GLIBC_PREREQ(2, 35)
    modules_use(_dl_find_object);
#endif
    uintptr_t pc = address_of(modules_landmark);
    uintptr_t value = symbol_value("modules_landmark");
    if (!value) {
        print_message("skipped: this program has no symbol table\n");
        skip();
    }
    if (modules_by_loader(pc, &by_loader))
        assert_module(&by_loader, exe, value);
    else
        print_message("no _dl_find_object here\n");
    assert_true(modules_by_maps(pc + 1, &by_maps));
    assert_module(&by_maps, exe, value + 1);
}

static void test_program_place(void **state)
{
    (void)state;
    char expected[PATH_MAX + 32];
    const char *text;
    modules_start();
    size_t n = modules_place(address_of(modules_landmark), &text);
    snprintf(expected, sizeof expected, "%s+0x%lx", exe, (unsigned long)symbol_value("modules_landmark"));
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(text, expected, n);
}

// Not by RTLD_DEFAULT: a sanitizer puts its own into this program.
static uintptr_t in_libc(void)
{
    return (uintptr_t)dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "qsort");
}

static void test_library(void **state)
{
    (void)state;
    uintptr_t pc = in_libc();
    Dl_info info;
    char path[PATH_MAX];
    assert_true(dladdr((void *)pc, &info));
    assert_non_null(realpath(info.dli_fname, path));
    assert_true(modules_by_maps(pc, &by_maps));
    assert_module(&by_maps, path, pc - (uintptr_t)info.dli_fbase);
    if (!modules_by_loader(pc, &by_loader)) return;
    assert_module(&by_loader, info.dli_fname, pc - (uintptr_t)info.dli_fbase);
}

// Code made at run time, memory that is no code, and addresses that are nothing.
static void test_no_module(void **state)
{
    (void)state;
    char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int memfd = memfd_create("jit", MFD_CLOEXEC);
    assert_int_equal(ftruncate(memfd, 8192), 0);
    char *file = mmap(NULL, 8192, PROT_READ, MAP_SHARED, memfd, 0);
    int local = 0;
    const uintptr_t none[] = {
        (uintptr_t)code, (uintptr_t)file, (uintptr_t)file + 4096, (uintptr_t)&local, 0, 1, UINTPTR_MAX};
    for (unsigned i = 0; i < sizeof none / sizeof none[0]; i++) {
        const char *text;
        char expected[32];
        assert_false(modules_by_loader(none[i], &by_loader));
        assert_false(modules_by_maps(none[i], &by_maps));
        size_t n = modules_place(none[i], &text);
        snprintf(expected, sizeof expected, "0x%lx", (unsigned long)none[i]);
        assert_int_equal(n, strlen(expected));
        assert_memory_equal(text, expected, n);
    }
    munmap(code, 4096);
    munmap(file, 8192);
    close(memfd);
}

// A copy of a library that is on every system.
static void *load_copy(const char *as)
{
    char command[PATH_MAX + 256];
    Dl_info libc;
    assert_true(dladdr((void *)in_libc(), &libc));
    const char *slash = strrchr(libc.dli_fname, '/');
    snprintf(command, sizeof command, "cp '%.*s/libm.so.6' '%s'", (int)(slash - libc.dli_fname),
             libc.dli_fname, as);
    if (system(command) != 0) return NULL;
    return dlopen(as, RTLD_NOW);
}

// Loaded by a path relative to a directory that the program has left, and with a space in it; and gone.
static void test_plugin(void **state)
{
    (void)state;
    char dir[] = "/tmp/preclose modules XXXXXX", path[128], back[PATH_MAX];
    assert_non_null(getcwd(back, sizeof back));
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);
    void *plugin = load_copy("./plugin.so");
    assert_int_equal(chdir(back), 0);
    snprintf(path, sizeof path, "%s/plugin.so", dir);
    uintptr_t pc = plugin ? (uintptr_t)dlsym(plugin, "cbrt") : 0;
    unlink(path);
    snprintf(path, sizeof path, "%s/plugin.so (deleted)", dir); // as proc(5) shows it
    rmdir(dir);
    if (!pc) {
        print_message("skipped: no libm to load a copy of\n");
        skip();
    }
    struct link_map *map;
    assert_int_equal(dlinfo(plugin, RTLD_DI_LINKMAP, &map), 0);
    uintptr_t offset = pc - map->l_addr;
    assert_true(modules_by_maps(pc, &by_maps));
    assert_module(&by_maps, path, offset);
    if (modules_by_loader(pc, &by_loader)) assert_module(&by_loader, path, offset);
    dlclose(plugin);
    assert_false(modules_by_loader(pc, &by_loader));
    assert_false(modules_by_maps(pc, &by_maps));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program), cmocka_unit_test(test_program_place),
        cmocka_unit_test(test_library), cmocka_unit_test(test_no_module),
        cmocka_unit_test(test_plugin),
    };
    return cmocka_run_group_tests_name("modules", tests, start, NULL);
}
