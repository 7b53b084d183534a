#include "arena.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "sys.h"

#define CHUNK ((size_t)64 * 1024)
#define GRAIN ((size_t)16)
#define SMALL_MAX ((size_t)1024) // larger blocks (the buckets of a big table) are mappings of their own

struct block {
    struct block *next;
};

struct chunk {
    struct chunk *next;
    _Alignas(16) char at[];
};

static struct {
    struct block *free[SMALL_MAX / GRAIN + 1]; // by size in grains
    char *next, *end;                          // what is left of the chunk in use
    struct chunk *chunks;                      // all there are
    struct chunk *spare;                       // of those, from here on: unused
    size_t mapped;
} arena;

// What a small program needs, beside everything else that a fork has it copy.
static _Alignas(16) char first[640];
static bool has_first;

static void *map(size_t size)
{
    long at = sys_call6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at < 0 && at > -4096) return NULL;
    arena.mapped += size;
    return (void *)at;
}

static size_t pages(size_t size)
{
    return (size + 4095) & ~(size_t)4095;
}

static void take_first(void)
{
    has_first = true;
    arena.next = first;
    arena.end = first + sizeof first;
}

static struct chunk *next_chunk(void)
{
    struct chunk *c = arena.spare;
    if (c) {
        arena.spare = c->next;
        return c;
    }
    c = map(CHUNK);
    if (!c) return NULL;
    c->next = arena.chunks;
    arena.chunks = c;
    return c;
}

void *arena_alloc(size_t size)
{
    if (size > SMALL_MAX) return map(pages(size));
    size_t grains = (size + GRAIN - 1) / GRAIN;
    struct block *b = arena.free[grains];
    if (b) {
        arena.free[grains] = b->next;
        return b;
    }
    if (!has_first) take_first();
    if ((size_t)(arena.end - arena.next) < grains * GRAIN) {
        struct chunk *c = next_chunk();
        if (!c) return NULL;
        arena.next = c->at;
        arena.end = (char *)c + CHUNK;
    }
    void *at = arena.next;
    arena.next += grains * GRAIN;
    return at;
}

void arena_free(void *block, size_t size)
{
    if (!block) return;
    if (size > SMALL_MAX) {
        sys_call(SYS_munmap, (long)block, (long)pages(size), 0);
        arena.mapped -= pages(size);
        return;
    }
    struct block *b = block;
    size_t grains = (size + GRAIN - 1) / GRAIN;
    b->next = arena.free[grains];
    arena.free[grains] = b;
}

void arena_abandon(void)
{
    memset(arena.free, 0, sizeof arena.free);
    arena.next = arena.end = NULL;
    arena.spare = arena.chunks;
}

size_t arena_mapped(void)
{
    return arena.mapped;
}
