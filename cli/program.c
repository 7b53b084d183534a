#include "program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <limits.h>
#include <libelf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "say.h"

#define INSTEAD "what it leaves open can be seen without the library: preclose scan PID"

enum { SCRIPT_DEPTH = 5 }; // fs/exec.c exec_binprm: so many interpreters of interpreters

#if defined __x86_64__ && defined __LP64__
#define OUR_MACHINE EM_X86_64
#define OUR_CLASS ELFCLASS64
#elif defined __aarch64__
#define OUR_MACHINE EM_AARCH64
#define OUR_CLASS ELFCLASS64
#elif defined __i386__
#define OUR_MACHINE EM_386
#define OUR_CLASS ELFCLASS32
#else
#error "no ELF machine is known for this architecture"
#endif

static const struct {
    unsigned machine;
    int class;
    const char *name;
} machines[] = {
    {EM_X86_64, ELFCLASS64, "x86_64"},
    {EM_X86_64, ELFCLASS32, "x32"},
    {EM_386, ELFCLASS32, "i386"},
    {EM_AARCH64, ELFCLASS64, "aarch64"},
    {EM_ARM, ELFCLASS32, "arm"},
    {EM_RISCV, ELFCLASS64, "riscv64"},
    {EM_PPC64, ELFCLASS64, "ppc64"},
    {EM_S390, ELFCLASS64, "s390x"},
    {EM_MIPS, ELFCLASS32, "mips"},
    {EM_MIPS, ELFCLASS64, "mips64"},
    {EM_LOONGARCH, ELFCLASS64, "loongarch64"},
};

static const char *machine_name(unsigned machine, int class)
{
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++)
        if (machines[i].machine == machine && machines[i].class == class) return machines[i].name;
    return "another architecture";
}

// What is being looked at: a program, or the interpreter of one.
struct look {
    struct program *program;
    char subject[2 * PATH_MAX + 64]; // how complaints begin
    int depth;
};

// Complains about the program, and returns the status.
__attribute__((format(printf, 3, 4))) static int refuse(const struct look *l, int status, const char *format,
                                                        ...)
{
    char why[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    complain("%s: %s", l->subject, why);
    return status;
}

// What the loader will go by, of any class and byte order.
struct image {
    bool has_interpreter, has_dynamic, has_go, has_asan, is_loader;
    char interpreter[PATH_MAX];
};

static bool raw_bytes(Elf *elf, uint64_t offset, uint64_t size, Elf_Data **data)
{
    *data = elf_getdata_rawchunk(elf, (int64_t)offset, size, ELF_T_BYTE);
    return *data && (*data)->d_buf && (*data)->d_size == size;
}

// A Go linker's note: name "Go", type 4 (cmd/link/internal/ld/elf.go, ELF_NOTE_GOBUILDID_TAG).
static void read_note(Elf *elf, const GElf_Phdr *h, struct image *i)
{
    Elf_Data *data;
    if (h->p_filesz < 16 || h->p_filesz > 1 << 20 || !raw_bytes(elf, h->p_offset, h->p_filesz, &data)) return;
    for (const char *at = data->d_buf, *end = at + data->d_size - 16; at <= end; at += 4)
        if (memcmp(at, "\4\0\0\0", 4) == 0 && memcmp(at + 8, "\4\0\0\0Go\0\0", 8) == 0) i->has_go = true;
}

// The place in the file of what is at an address once loaded.
static bool file_offset(Elf *elf, uint64_t address, uint64_t *offset)
{
    size_t n;
    if (elf_getphdrnum(elf, &n) != 0) return false;
    for (size_t k = 0; k < n; k++) {
        GElf_Phdr h;
        if (!gelf_getphdr(elf, (int)k, &h) || h.p_type != PT_LOAD) continue;
        if (address < h.p_vaddr || address - h.p_vaddr >= h.p_filesz) continue;
        *offset = address - h.p_vaddr + h.p_offset;
        return true;
    }
    return false;
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// The names of glibc's loader on its ports: ld-linux-x86-64.so.2, ld-linux-aarch64.so.1, ld64.so.2, ld.so.1.
static bool is_glibc_loader(const char *path)
{
    const char *name = base_name(path);
    return begins(name, "ld-linux") || begins(name, "ld64.so.") || begins(name, "ld.so.") ||
           (begins(name, "ld-2.") && strstr(name, ".so"));
}

// The dynamic section's strings: does it use AddressSanitizer; is it the loader itself, which is a program
// without an interpreter and heeds LD_PRELOAD.
static void read_strings(Elf *elf, uint64_t address, uint64_t size, uint64_t soname, struct image *i)
{
    Elf_Data *data;
    uint64_t offset;
    if (size == 0 || size > 1 << 28 || !file_offset(elf, address, &offset)) return;
    if (!raw_bytes(elf, offset, size, &data)) return;
    const char *strings = data->d_buf;
    if (strings[size - 1] != '\0') return;
    if (soname && soname < size) i->is_loader = is_glibc_loader(strings + soname);
    i->has_asan = memmem(strings, size, "__asan_init", sizeof "__asan_init") != NULL;
}

static void read_dynamic(Elf *elf, const GElf_Phdr *h, struct image *i)
{
    i->has_dynamic = h->p_filesz > 0;
    if (h->p_filesz > 1 << 20) return;
    Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)h->p_offset, h->p_filesz, ELF_T_DYN);
    uint64_t table = 0, size = 0, soname = 0;
    GElf_Dyn entry;
    for (int k = 0; data && gelf_getdyn(data, k, &entry) && entry.d_tag != DT_NULL; k++) {
        if (entry.d_tag == DT_STRTAB) table = entry.d_un.d_ptr;
        if (entry.d_tag == DT_STRSZ) size = entry.d_un.d_val;
        if (entry.d_tag == DT_SONAME) soname = entry.d_un.d_val;
    }
    read_strings(elf, table, size, soname, i);
}

static void read_interpreter(Elf *elf, const GElf_Phdr *h, struct image *i)
{
    Elf_Data *data;
    if (h->p_filesz == 0 || h->p_filesz >= sizeof i->interpreter) return;
    if (!raw_bytes(elf, h->p_offset, h->p_filesz, &data)) return;
    memcpy(i->interpreter, data->d_buf, data->d_size);
    i->has_interpreter = true;
}

static void read_image(Elf *elf, struct image *i)
{
    size_t n;
    if (elf_getphdrnum(elf, &n) != 0) return;
    for (size_t k = 0; k < n; k++) {
        GElf_Phdr h;
        if (!gelf_getphdr(elf, (int)k, &h)) return;
        if (h.p_type == PT_INTERP) read_interpreter(elf, &h, i);
        if (h.p_type == PT_DYNAMIC) read_dynamic(elf, &h, i);
        if (h.p_type == PT_NOTE) read_note(elf, &h, i);
    }
}

static int judge(const struct look *l, const struct image *i)
{
    if (!i->has_interpreter && i->is_loader) return 0;
    if (!i->has_interpreter && i->has_go)
        return refuse(
            l, STATUS_CANNOT_RUN,
            "is a Go program without cgo: it has no loader that could load a library, and makes its "
            "system calls itself; " INSTEAD);
    if (!i->has_interpreter)
        return refuse(l, STATUS_CANNOT_RUN,
                      "is statically linked: there is no loader that could load a library; link it "
                      "dynamically; " INSTEAD);
    if (strstr(base_name(i->interpreter), "musl"))
        return refuse(
            l, STATUS_CANNOT_RUN,
            "is built for musl (its loader is %s), the library for glibc; use a build for glibc; " INSTEAD,
            i->interpreter);
    if (!is_glibc_loader(i->interpreter))
        return refuse(l, STATUS_CANNOT_RUN,
                      "has a loader that is not glibc's (%s), the library needs that one; " INSTEAD,
                      i->interpreter);
    if (access(i->interpreter, F_OK) != 0)
        return refuse(l, STATUS_NOT_FOUND, "its loader %s is missing; install the libc that it was built for",
                      i->interpreter);
    return 0;
}

static int look_at_elf(struct look *l, int fd)
{
    struct image image = {0};
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    GElf_Ehdr header;
    if (!elf || !gelf_getehdr(elf, &header)) {
        if (elf) elf_end(elf);
        return refuse(l, STATUS_CANNOT_RUN, "is a damaged ELF file");
    }
    const int class = header.e_ident[EI_CLASS];
    const unsigned machine = header.e_machine;
    if (header.e_type == ET_EXEC || header.e_type == ET_DYN) read_image(elf, &image);
    const bool is_program = header.e_type == ET_EXEC || header.e_type == ET_DYN;
    elf_end(elf);
    if (!is_program) return refuse(l, STATUS_CANNOT_RUN, "is an object file, not a program; link it first");
    if (machine != OUR_MACHINE || class != OUR_CLASS)
        return refuse(
            l, STATUS_CANNOT_RUN, "is built for %s, the library for %s; use a preclose built for %s",
            machine_name(machine, class), machine_name(OUR_MACHINE, OUR_CLASS), machine_name(machine, class));
    l->program->has_asan |= image.has_asan;
    l->program->is_go |= image.has_go;
    return judge(l, &image);
}

// Would the kernel raise AT_SECURE for it? (ld.so(8); security/commoncap.c cap_bprm_creds_from_file)
static int look_at_rights(const struct look *l, int fd, const struct stat *s)
{
    struct statvfs fs;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return 0;
    if (fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_NOSUID)) return 0;
    const bool setuid = (s->st_mode & S_ISUID) && s->st_uid != getuid();
    const bool setgid = (s->st_mode & S_ISGID) && (s->st_mode & S_IXGRP) && s->st_gid != getgid();
    if (setuid || setgid)
        return refuse(
            l, STATUS_CANNOT_RUN,
            "is %s: the loader takes no library into it; run preclose behind it (sudo preclose ...), or as "
            "the %s that it runs as",
            setuid ? "setuid" : "setgid", setuid ? "user" : "group");
    if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        return refuse(l, STATUS_CANNOT_RUN,
                      "has file capabilities: the loader takes no library into it; run preclose as root");
    return 0;
}

static int look_at(struct look *l, const char *path);
static char *search_path(const char *name, int *status);

// The interpreter's own argument matters for env(1) alone: the program that it will run.
static int look_at_env(struct look *l, char *arguments)
{
    char *rest = arguments;
    for (char *word; (word = strtok_r(NULL, " \t", &rest));) {
        int status;
        if (word[0] == '-' || strchr(word, '=')) continue;
        char *path = search_path(word, &status);
        if (!path) return 0; // env will say so itself
        snprintf(l->subject, sizeof l->subject, "%s: %s, which env runs", l->program->path, path);
        status = look_at(l, path);
        free(path);
        return status;
    }
    return 0;
}

static int look_at_script(struct look *l, const char *head)
{
    char line[256], *rest;
    snprintf(line, sizeof line, "%s", head + 2);
    line[strcspn(line, "\n")] = '\0';
    char *interpreter = strtok_r(line, " \t\r", &rest);
    if (!interpreter) return refuse(l, STATUS_CANNOT_RUN, "names no interpreter in its first line");
    if (++l->depth > SCRIPT_DEPTH)
        return refuse(l, STATUS_CANNOT_RUN, "has too many interpreters of interpreters");
    if (access(interpreter, F_OK) != 0)
        return refuse(l, STATUS_NOT_FOUND,
                      "its interpreter %s is missing; install it, or mend the first line", interpreter);
    snprintf(l->subject, sizeof l->subject, "%s: its interpreter %s", l->program->path, interpreter);
    int status = look_at(l, interpreter);
    if (status == 0 && strcmp(base_name(interpreter), "env") == 0) status = look_at_env(l, rest);
    return status;
}

// A file without a known beginning: execvp runs it by the shell if it is text (POSIX.1-2017, exec).
static int look_at_other(const struct look *l, const char *head, size_t n)
{
    const char *newline = memchr(head, '\n', n);
    if (n == 0 || memchr(head, '\0', newline ? (size_t)(newline - head) : n))
        return refuse(l, STATUS_CANNOT_RUN, n == 0 ? "is empty" : "is neither a program nor a script");
    return 0;
}

static int look_at(struct look *l, const char *path)
{
    char head[256] = "";
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return 0; // may be executed and not read: nothing can be said against it
    int status = 0;
    ssize_t n = -1;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) n = pread(fd, head, sizeof head - 1, 0);
    if (n >= 0) status = look_at_rights(l, fd, &s);
    if (n < 0 || status != 0)
        ;
    else if (n >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0)
        status = look_at_elf(l, fd);
    else if (begins(head, "#!"))
        status = look_at_script(l, head);
    else
        status = look_at_other(l, head, (size_t)n);
    close(fd);
    return status;
}

// 0 if path can be executed, else the errno that says why not.
static int executable(const char *path)
{
    struct stat s;
    if (stat(path, &s) != 0) return errno;
    if (S_ISDIR(s.st_mode)) return EISDIR;
    if (!S_ISREG(s.st_mode)) return EACCES;
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

// name in PATH, as execvp looks for it: malloc; NULL with the errno if there is none that can be executed.
static char *search_path(const char *name, int *error)
{
    const char *path = getenv("PATH");
    *error = ENOENT;
    for (const char *at = path ? path : "/bin:/usr/bin";; at++) {
        const int length = (int)strcspn(at, ":");
        char *found;
        if (asprintf(&found, "%.*s/%s", length ? length : 1, length ? at : ".", name) < 0) return NULL;
        const int why_not = executable(found);
        if (why_not == 0) return found;
        free(found);
        if (why_not == EACCES) *error = EACCES;
        at += length;
        if (!*at) return NULL;
    }
}

static int cannot_execute(const char *name, int error)
{
    if (error == ENOENT && !strchr(name, '/'))
        complain("%s: no such program in PATH%s", name,
                 strcmp(name, "run") == 0 ? "; to run one: preclose [OPTION]... -- PROGRAM" : "");
    else
        complain("%s: %s", name,
                 error == EACCES ? "may not be executed (chmod +x, or a file system mounted noexec)"
                                 : strerror(error));
    return error == ENOENT || error == ENOTDIR ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
}

int program_find(const char *name, struct program *p)
{
    struct look look = {.program = p};
    int error;
    *p = (struct program){0};
    if (strchr(name, '/')) {
        error = executable(name);
        if (error == 0) p->path = strdup(name);
    } else {
        p->path = search_path(name, &error);
    }
    if (!p->path) return cannot_execute(name, error);
    snprintf(look.subject, sizeof look.subject, "%s", p->path);
    return look_at(&look, p->path);
}
