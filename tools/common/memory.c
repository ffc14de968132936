/*
 * memory.c - jansson's allocator, which does not return without memory.
 */
#include "common/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/exit.h"

/* Nothing that may ask for memory again, or that waits for the device. */
static void *allocate(size_t bytes) {
    static const char said[] = ": out of host memory\n";
    void *block = malloc(bytes ? bytes : 1);
    if (block) return block;
    (void)!write(STDERR_FILENO, program_invocation_short_name, strlen(program_invocation_short_name));
    (void)!write(STDERR_FILENO, said, sizeof said - 1);
    _exit(EXIT_MEMORY);
}

void memory_guard_json(void) {
    json_set_alloc_funcs(allocate, free);
}
