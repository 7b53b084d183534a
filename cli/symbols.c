#include "symbols.h"

#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "say.h"

struct module {
    char *path;
    struct known_place *places;
    bool wanted;        // some of them have not been looked up yet
    const char *wrong;  // why it can't be read; NULL: it could
    bool has_lines;     // debug information was found for a place in it
    int64_t changed_us; // when the file was last changed
    UT_hash_handle hh;
};

struct known_place {
    char *text;
    struct module *module;
    struct known_place *next; // in the same module
    bool looked_up;
    struct place_symbols symbols;
    UT_hash_handle hh;
};

struct symbols {
    const char *root;
    struct module *modules;
    struct known_place *places;
    char *(*demangle)(const char *, char *, size_t *, int *);
};

// C++ names are made readable where the C++ runtime is there: the command itself does not need it.
static void find_demangler(struct symbols *s)
{
    void *runtime = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_LOCAL);
    void *found = runtime ? dlsym(runtime, "__cxa_demangle") : NULL;
    memcpy(&s->demangle, &found, sizeof found); // POSIX.1-2017, dlsym: a function's address in a void pointer
}

struct symbols *symbols_new(const char *root)
{
    struct symbols *s = need(calloc(1, sizeof *s));
    s->root = root;
    find_demangler(s);
    return s;
}

static struct module *module_of(struct symbols *s, struct slice path)
{
    struct module *m;
    HASH_FIND(hh, s->modules, path.at, path.n, m);
    if (m) return m;
    m = need(calloc(1, sizeof *m));
    m->path = need(strndup(path.at, path.n));
    HASH_ADD_KEYPTR(hh, s->modules, m->path, strlen(m->path), m);
    return m;
}

// "/usr/bin/server+0x11d2": false if it is in no file by that path.
static bool split(struct slice place, struct slice *path, uint64_t *offset)
{
    size_t n = place.n;
    *offset = 0;
    while (n && strchr("0123456789abcdef", place.at[n - 1]) && place.at[n - 1]) n--;
    if (n == place.n || place.n - n > 16 || n < 4 || memcmp(place.at + n - 3, "+0x", 3) != 0) return false;
    for (size_t i = n; i < place.n; i++) {
        const char c = place.at[i];
        *offset = *offset << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *path = (struct slice){place.at, n - 3};
    return path->at[0] == '/' && !memchr(path->at, '\0', path->n);
}

void symbols_want(struct symbols *s, struct slice place)
{
    struct known_place *p;
    struct slice path;
    uint64_t offset;
    if (!split(place, &path, &offset)) return;
    HASH_FIND(hh, s->places, place.at, place.n, p);
    if (p) return;
    p = need(calloc(1, sizeof *p));
    p->text = need(strndup(place.at, place.n));
    p->module = module_of(s, path);
    p->next = p->module->places;
    p->module->places = p;
    p->module->wanted = true;
    p->symbols.module = p->module->path;
    p->symbols.offset = offset;
    HASH_ADD_KEYPTR(hh, s->places, p->text, place.n, p);
}

const struct place_symbols *symbols_of(const struct symbols *s, struct slice place)
{
    struct known_place *p;
    HASH_FIND(hh, s->places, place.at, place.n, p);
    return p ? &p->symbols : NULL;
}

static char *readable(const struct symbols *s, const char *name)
{
    int status = -1;
    char *plain = NULL;
    if (!name) return NULL;
    if (s->demangle && name[0] == '_' && (name[1] == 'Z' || name[1] == 'R'))
        plain = s->demangle(name, NULL, NULL, &status);
    return plain && status == 0 ? plain : need(strdup(name));
}

// The name of a function as the linker knows it, or as it is written.
static const char *die_name(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    const char *name = NULL;
    if (dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute) ||
        dwarf_attr_integrate(die, DW_AT_MIPS_linkage_name, &attribute))
        name = dwarf_formstring(&attribute);
    return name ? name : dwarf_diename(die);
}

// Where an inlined function was called.
static void call_site(Dwarf_Die *unit, Dwarf_Die *die, const char **file, int *line)
{
    Dwarf_Attribute attribute;
    Dwarf_Word number;
    Dwarf_Files *files;
    size_t n;
    *file = NULL;
    *line = 0;
    if (dwarf_formudata(dwarf_attr(die, DW_AT_call_file, &attribute), &number) == 0 &&
        dwarf_getsrcfiles(unit, &files, &n) == 0 && number < n)
        *file = dwarf_filesrc(files, number, NULL, NULL);
    if (dwarf_formudata(dwarf_attr(die, DW_AT_call_line, &attribute), &number) == 0 && number <= INT32_MAX)
        *line = (int)number;
}

static void add_symbol(const struct symbols *s, struct place_symbols *p, const char *function,
                       const char *file, int line)
{
    if (p->n == SYMBOLS_MAX) return;
    p->symbol[p->n].function = readable(s, function);
    p->symbol[p->n].file = file ? need(strdup(file)) : NULL;
    p->symbol[p->n].line = line;
    p->n++;
}

// The functions around an address, by its unit's debug information; the innermost stands at file and line.
static void add_scopes(const struct symbols *s, Dwarf_Die *unit, Dwarf_Addr address, const char *file,
                       int line, struct place_symbols *p)
{
    Dwarf_Die *at = NULL, *scopes = NULL;
    int n = dwarf_getscopes(unit, address, &at);
    // Around an inlined function dwarf_getscopes gives where it was written; dwarf_getscopes_die, where it
    // is.
    if (n > 0) n = dwarf_getscopes_die(&at[0], &scopes);
    for (int i = 0; i < n; i++) {
        const int tag = dwarf_tag(&scopes[i]);
        if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram) continue;
        add_symbol(s, p, die_name(&scopes[i]), file, line);
        if (tag == DW_TAG_subprogram) break;
        call_site(unit, &scopes[i], &file, &line);
    }
    free(scopes);
    free(at);
}

// The name in the symbol table, where the symbol covers the address: the nearest one could be another
// function.
static const char *table_name(Dwfl_Module *module, Dwarf_Addr address)
{
    GElf_Off offset;
    GElf_Sym symbol;
    const char *name = dwfl_module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL);
    return name && offset < symbol.st_size ? name : NULL;
}

static void look_up(const struct symbols *s, Dwfl_Module *dwfl, GElf_Addr bias, struct known_place *p)
{
    const Dwarf_Addr address = p->symbols.offset + bias;
    Dwarf_Addr unit_bias;
    int line = 0;
    Dwfl_Line *found = dwfl_module_getsrc(dwfl, address);
    const char *file = found ? dwfl_lineinfo(found, NULL, &line, NULL, NULL, NULL) : NULL;
    Dwarf_Die *unit = dwfl_module_addrdie(dwfl, address, &unit_bias);
    if (unit) add_scopes(s, unit, address - unit_bias, file, line, &p->symbols);
    if (file) p->module->has_lines = true;
    if (p->symbols.n) return;
    const char *name = table_name(dwfl, address);
    if (name || file) add_symbol(s, &p->symbols, name, file, line);
}

// Opens a module that is a regular file: a log may name anything, and a FIFO or a device must not be touched.
static int open_module(const struct symbols *s, struct module *m)
{
    char *path;
    struct stat st;
    if (asprintf(&path, "%s%s", s->root, m->path) < 0) need(NULL);
    int fd = -1;
    if (stat(path, &st) != 0)
        m->wrong = errno == ENOENT ? "is not here any more" : strerror(errno);
    else if (!S_ISREG(st.st_mode))
        m->wrong = "is no file";
    else if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) < 0)
        m->wrong = strerror(errno);
    free(path);
    if (fd >= 0) m->changed_us = (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
    return fd;
}

static void find_in_module(const struct symbols *s, struct module *m)
{
    static const Dwfl_Callbacks callbacks = {
        .find_elf = dwfl_build_id_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .section_address = dwfl_offline_section_address,
    };
    int fd = open_module(s, m);
    if (fd < 0) return;
    Dwfl *dwfl = dwfl_begin(&callbacks);
    Dwfl_Module *module = dwfl ? dwfl_report_offline(dwfl, m->path, m->path, fd) : NULL;
    GElf_Addr bias = 0;
    if (!module) close(fd); // else it is libdwfl's
    if (dwfl) dwfl_report_end(dwfl, NULL, NULL);
    if (module && dwfl_module_getelf(module, &bias))
        for (struct known_place *p = m->places; p; p = p->next)
            if (!p->looked_up) look_up(s, module, bias, p);
    if (!module) m->wrong = "is no program or library";
    if (dwfl) dwfl_end(dwfl);
}

void symbols_find(struct symbols *s)
{
    for (struct module *m = s->modules; m; m = m->hh.next) {
        if (m->wanted) find_in_module(s, m);
        m->wanted = false;
        for (struct known_place *p = m->places; p; p = p->next) p->looked_up = true;
    }
}

void symbols_doubts(const struct symbols *s, int64_t last_us,
                    void (*tell)(void *context, const char *module, const char *why), void *context)
{
    for (const struct module *m = s->modules; m; m = m->hh.next) {
        if (m->wrong)
            tell(context, m->path, m->wrong);
        else if (m->changed_us > last_us)
            tell(context, m->path, "was changed after the log was written: lines may be off");
        else if (!m->has_lines)
            tell(context, m->path,
                 "has no debug information for these places (build it with -g, install its -dbgsym, -dbg "
                 "or -debuginfo package, or set DEBUGINFOD_URLS)");
    }
}
