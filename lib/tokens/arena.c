/*
 * arena.c - blocks in a list, each larger than the one before.
 */
#include "tokens/arena.h"

#include <stdalign.h>
#include <string.h>

#include "core/alloc.h"

enum { FIRST = 4096, LARGEST = 1 << 20, ALIGN = alignof(max_align_t) };

struct vlci_arena_block {
    vlci_arena_block *next;
    size_t used, room;
    alignas(max_align_t) char data[];
};

_Noreturn void vlci_arena_leave(vlci_arena *arena, vlcache_status status) {
    arena->status = status;
    longjmp(arena->out, 1);
}

static void add_block(vlci_arena *arena, size_t bytes) {
    size_t room = arena->held < FIRST ? FIRST : arena->held < LARGEST ? arena->held : LARGEST;
    if (room < bytes) room = bytes;
    if (bytes > arena->limit || room > arena->limit - arena->held)
        vlci_arena_leave(arena, vlci_fail(VLCACHE_E_FORMAT, "%s: takes more than %zu MiB of memory",
                                          arena->what, arena->limit >> 20));
    vlci_arena_block *block = vlci_alloc(1, sizeof *block + room);
    if (!block) vlci_arena_leave(arena, vlci_fail_memory(arena->what));
    *block = (vlci_arena_block){.next = arena->blocks, .room = room};
    arena->blocks = block;
    arena->held += room;
}

void *vlci_arena_take(vlci_arena *arena, size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total) || total > arena->limit) total = arena->limit;
    total = (total + ALIGN - 1) / ALIGN * ALIGN;
    if (!arena->blocks || arena->blocks->room - arena->blocks->used < total) add_block(arena, total);
    void *taken = arena->blocks->data + arena->blocks->used;
    arena->blocks->used += total;
    return memset(taken, 0, total);
}

void *vlci_arena_grow(vlci_arena *arena, void *list, size_t n, size_t *room, size_t bytes) {
    if (n < *room) return list;
    size_t more = 2 * *room + 4;
    void *grown = vlci_arena_take(arena, more, bytes);
    if (n) memcpy(grown, list, n * bytes);
    *room = more;
    return grown;
}

void vlci_arena_release(vlci_arena *arena) {
    while (arena->blocks) {
        vlci_arena_block *next = arena->blocks->next;
        vlci_free(arena->blocks);
        arena->blocks = next;
    }
    arena->held = 0;
}
