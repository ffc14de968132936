/**
 * arena.h - memory that is taken piece by piece and given back all at once, up to a limit. A failure leaves
 * by one way: longjmp() to where the arena was opened, so that what works in it (the parser and the
 * interpreter of templates) need not hand errors up through every expression.
 */
#ifndef VLCI_TOKENS_ARENA_H
#define VLCI_TOKENS_ARENA_H

#include <setjmp.h>
#include <stddef.h>

#include "core/status.h"

typedef struct vlci_arena_block vlci_arena_block;

/** Zeroed, with `limit` and `what` set, it is empty. */
typedef struct vlci_arena {
    vlci_arena_block *blocks; /**< the newest first */
    size_t held, limit;       /**< bytes of all blocks; most that there may be */
    const char *what;         /**< for messages: "chat template" */
    vlcache_status status;    /**< of the failure that left */
    jmp_buf out;              /**< set by the owner before anything is taken */
} vlci_arena;

/** Zeroed memory for `count` things of `bytes`, aligned for any type; it lives as long as the arena. Leaves
 * with VLCACHE_E_NO_MEMORY, or VLCACHE_E_FORMAT beyond the limit. */
void *vlci_arena_take(vlci_arena *arena, size_t count, size_t bytes) __attribute__((returns_nonnull));

/** A thing of a type. */
#define VLCI_ARENA_NEW(arena, type) ((type *)vlci_arena_take((arena), 1, sizeof(type)))

/** Room for one more behind `n` of `*room` things of `bytes` at `*list`: where there is none, they are
 * copied to twice the room. */
void *vlci_arena_grow(vlci_arena *arena, void *list, size_t n, size_t *room, size_t bytes)
    __attribute__((returns_nonnull));

/** Leaves to `out` with the failure recorded by vlci_fail(). */
_Noreturn void vlci_arena_leave(vlci_arena *arena, vlcache_status status);

/** Gives everything back; the arena is empty. */
void vlci_arena_release(vlci_arena *arena);

#endif
