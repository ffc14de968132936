/**
 * memory.h - memory that a tool cannot do without.
 */
#ifndef COMMON_MEMORY_H
#define COMMON_MEMORY_H

#include <stddef.h>

/** Says so and ends the program with EXIT_MEMORY. */
_Noreturn void memory_out(void);

/** New memory for `n` things, all zero; without it, memory_out(). */
void *memory_take(size_t n, size_t bytes);

/**
 * From now on JSON that runs out of memory does the same. jansson goes on instead: a text that it
 * reads loses a letter, an object that it makes a field, and neither of them shows. For the start of main().
 */
void memory_guard_json(void);

#endif
