#include "modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "line.h"
#include "memory.h"
#include "sys.h"
#include "touched.h"

TOUCHED_APART static struct {
    size_t length;
    char path[PATH_MAX];
} program;

static modules_finder *finder;

void modules_use(modules_finder *find)
{
    finder = find;
}

// Copies n bytes of our own memory, which may be gone (dlclose in another thread): it is read only if it can be.
static bool copy(void *to, uintptr_t from, size_t n)
{
    if (!memory_readable(from, n)) return false;
    for (size_t i = 0; i < n; i++) ((uint8_t *)to)[i] = memory_byte(from + i);
    return true;
}

// Copies a string, and nothing of what follows its end. Returns its length, 0 if it can't be read or does not fit.
static size_t copy_string(char *to, uintptr_t from, size_t size)
{
    for (size_t n = 0; n < size; n++) {
        const uintptr_t at = from + n;
        if ((n == 0 || at % MEMORY_PAGE == 0) && !memory_readable(at, 1)) return 0;
        to[n] = (char)memory_byte(at);
        if (!to[n]) return n;
    }
    return 0;
}

void modules_start(void)
{
    // Started as "ld.so program", /proc/self/exe is ld.so: the kernel then loaded no interpreter (AT_BASE).
    long n = -ENOENT;
    if (getauxval(AT_BASE))
        n = sys_call4(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)program.path,
                      sizeof program.path);
    program.length = n > 0 ? (size_t)n : 0;
}

// The path of the module that pc is in, where the loader has none or one that was relative to the
// directory it started in.
static void name_from_maps(uintptr_t pc, struct module *m)
{
    TOUCHED_APART static struct module mapped;
    if (!modules_by_maps(pc, &mapped)) return;
    memcpy(m->path, mapped.path, mapped.length);
    m->length = mapped.length;
}

static void name_program(uintptr_t pc, struct module *m)
{
    if (!program.length) name_from_maps(pc, m);
    const char *started = (const char *)getauxval(AT_EXECFN);
    if (!program.length && !m->length && started)
        m->length = copy_string(m->path, (uintptr_t)started, sizeof m->path);
    if (!program.length) {
        memcpy(program.path, m->path, m->length);
        program.length = m->length;
    }
    memcpy(m->path, program.path, program.length);
    m->length = program.length;
}

bool modules_span(uintptr_t pc, struct module_span *span)
{
#if __GLIBC_PREREQ(2, 35)
    struct dl_find_object found;
    if (!finder || finder((void *)pc, &found) != 0) return false;
    *span = (struct module_span){(uintptr_t)found.dlfo_map_start, (uintptr_t)found.dlfo_map_end,
                                 (uintptr_t)found.dlfo_eh_frame};
    return true;
#else
    (void)pc, (void)span;
    return false;
#endif
}

bool modules_by_loader(uintptr_t pc, struct module *m)
{
    m->length = 0;
#if __GLIBC_PREREQ(2, 35)
    struct dl_find_object found;
    struct link_map map = {0};
    if (!finder || finder((void *)pc, &found) != 0) return false;
    if (!copy(&map, (uintptr_t)found.dlfo_link_map, sizeof map)) return false;
    m->offset = pc - map.l_addr;
    m->length = copy_string(m->path, (uintptr_t)map.l_name, sizeof m->path);
    if (m->length == 0)
        name_program(pc, m); // the loader gives the main program no name
    else if (m->path[0] != '/')
        name_from_maps(pc, m);
    return m->length > 0;
#else
    (void)pc;
    return false;
#endif
}

// A line of /proc/self/maps (proc(5)): start-end perms offset dev inode path.
struct mapping {
    uintptr_t start, end, offset;
    char file[40]; // dev and inode, as they stand there: which file it is
    size_t file_length;
    const char *path;
    size_t path_length;
};

static const char *hex(const char *at, const char *end, uintptr_t *value)
{
    *value = 0;
    for (; at < end; at++) {
        unsigned c = (unsigned char)*at;
        unsigned digit = c - '0' < 10 ? c - '0' : c - 'a' < 6 ? c - 'a' + 10 : 16;
        if (digit == 16) break;
        *value = *value << 4 | digit;
    }
    return at < end ? at + 1 : end;
}

static const char *after_space(const char *at, const char *end)
{
    const char *space = memchr(at, ' ', (size_t)(end - at));
    return space ? space + 1 : end;
}

static void parse_mapping(const char *at, const char *end, struct mapping *m)
{
    at = hex(at, end, &m->start);
    at = hex(at, end, &m->end);
    at = after_space(at, end);
    at = hex(at, end, &m->offset);
    const char *file = at;
    at = after_space(after_space(at, end), end);
    m->file_length = (size_t)(at - file);
    if (m->file_length > sizeof m->file) m->file_length = sizeof m->file;
    memcpy(m->file, file, m->file_length);
    while (at < end && *at == ' ') at++;
    m->path = at;
    m->path_length = (size_t)(end - at);
}

// What the search for pc has met so far.
struct search {
    uintptr_t pc;
    struct mapping first; // the last mapping of the beginning of a file: its ELF header
    struct module *found;
    uintptr_t in_file; // found: where pc is in the file
    bool done;         // the mapping of pc was met
    bool is_file;      // and it belongs to the file of first
};

static void meet(struct search *s, const struct mapping *m)
{
    if (m->offset == 0) s->first = *m;
    if (s->pc < m->start || s->pc >= m->end) return;
    s->done = true;
    s->is_file = m->path_length > 0 && m->path[0] == '/' && m->path_length <= sizeof s->found->path &&
                 m->file_length == s->first.file_length &&
                 memcmp(m->file, s->first.file, m->file_length) == 0;
    if (!s->is_file) return;
    s->in_file = s->pc - m->start + m->offset;
    memcpy(s->found->path, m->path, m->path_length);
    s->found->length = m->path_length;
}

// Takes the whole lines out of text; returns how many bytes they were.
static size_t meet_lines(struct search *s, const char *text, size_t n)
{
    size_t used = 0;
    while (!s->done) {
        const char *line = text + used;
        const char *end = memchr(line, '\n', n - used);
        if (!end) break;
        struct mapping m;
        parse_mapping(line, end, &m);
        meet(s, &m);
        used = (size_t)(end - text) + 1;
    }
    return used;
}

static void search_maps(struct search *s)
{
    TOUCHED_APART static char text[2 * PATH_MAX]; // a line is at most a path and 100 bytes
    long fd = sys_call4(SYS_openat, AT_FDCWD, (long)"/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    size_t n = 0;
    while (!s->done) {
        long got = sys_call(SYS_read, fd, (long)(text + n), (long)(sizeof text - n));
        if (got <= 0) break;
        n += (size_t)got;
        size_t used = meet_lines(s, text, n);
        n -= used;
        memmove(text, text + used, n);
    }
    sys_call(SYS_close, fd, 0, 0);
}

// The virtual address that the program headers give to a place in the file (elf(5)).
static bool address_in_file(uintptr_t header, uintptr_t in_file, uintptr_t *address)
{
    ElfW(Ehdr) elf = {0};
    if (!copy(&elf, header, sizeof elf)) return false;
    if (memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 || elf.e_phentsize != sizeof(ElfW(Phdr))) return false;
    for (unsigned i = 0; i < elf.e_phnum; i++) {
        ElfW(Phdr) part = {0};
        if (!copy(&part, header + elf.e_phoff + i * sizeof part, sizeof part)) return false;
        if (part.p_type != PT_LOAD || !(part.p_flags & PF_X)) continue;
        if (in_file < part.p_offset || in_file - part.p_offset >= part.p_filesz) continue;
        *address = in_file - part.p_offset + part.p_vaddr;
        return true;
    }
    return false;
}

bool modules_by_maps(uintptr_t pc, struct module *m)
{
    struct search s = {.pc = pc, .found = m};
    m->length = 0;
    search_maps(&s);
    return s.done && s.is_file && address_in_file(s.first.start, s.in_file, &m->offset);
}

// Places that were asked for lately, and what they are called: a program has few that close its sockets.
#define REMEMBERED 64
TOUCHED_APART static struct remembered {
    uintptr_t pc; // 0: none
    uint32_t generation;
    unsigned length;
    char text[240];
} remembered[REMEMBERED];
static _Atomic uint32_t generation; // of what is loaded

void modules_forget(void)
{
    atomic_fetch_add(&generation, 1);
}

static size_t name_place(uintptr_t pc, const char **text, bool *known)
{
    TOUCHED_APART static struct module m;
    TOUCHED_APART static char place[PATH_MAX + 32];
    struct line l = line_start(place, sizeof place);
    *known = modules_by_loader(pc, &m) || modules_by_maps(pc, &m);
    if (*known) {
        line_bytes(&l, m.path, m.length);
        line_text(&l, "+");
        line_hex(&l, m.offset);
    } else {
        line_hex(&l, pc);
    }
    *text = place;
    return l.n;
}

size_t modules_place(uintptr_t pc, const char **text)
{
    struct remembered *r = &remembered[pc * UINT64_C(0x9e3779b97f4a7c15) >> 58];
    const uint32_t now = atomic_load(&generation); // before it is looked up
    if (pc && r->pc == pc && r->generation == now) {
        *text = r->text;
        return r->length;
    }
    bool known;
    size_t n = name_place(pc, text, &known);
    if (known && n <= sizeof r->text) {
        *r = (struct remembered){.pc = pc, .generation = now, .length = (unsigned)n};
        memcpy(r->text, *text, n);
    }
    return n;
}
