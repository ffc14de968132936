/*
 * memory.c - allocators that do not return without memory.
 */
#include "common/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/exit.h"

/* Nothing that may ask for memory again, or that waits for the device. */
void memory_out(void) {
    static const char said[] = ": out of host memory\n";
    (void)!write(STDERR_FILENO, program_invocation_short_name, strlen(program_invocation_short_name));
    (void)!write(STDERR_FILENO, said, sizeof said - 1);
    _exit(EXIT_MEMORY);
}

void *memory_take(size_t n, size_t bytes) {
    void *block = calloc(n ? n : 1, bytes);
    if (!block) memory_out();
    return block;
}

static void *allocate(size_t bytes) {
    void *block = malloc(bytes ? bytes : 1);
    if (!block) memory_out();
    return block;
}

void memory_guard_json(void) {
    json_set_alloc_funcs(allocate, free);
}
