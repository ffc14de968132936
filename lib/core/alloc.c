/*
 * alloc.c - one door for host memory.
 */
#include "core/alloc.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *libc_resize(void *user, void *block, size_t bytes) {
    (void)user;
    return realloc(block, bytes);
}

static void libc_release(void *user, void *block) {
    (void)user;
    free(block);
}

static struct {
    void *(*resize)(void *user, void *block, size_t bytes);
    void (*release)(void *user, void *block);
    void *user;
} allocator = {libc_resize, libc_release, NULL};

void vlcache_set_allocator(void *(*resize)(void *, void *, size_t), void (*release)(void *, void *),
                           void *user) {
    allocator.resize = resize ? resize : libc_resize;
    allocator.release = release ? release : libc_release;
    allocator.user = user;
}

void *vlci_realloc(void *block, size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) return NULL;
    return allocator.resize(allocator.user, block, total ? total : 1);
}

void *vlci_alloc(size_t count, size_t bytes) {
    return vlci_realloc(NULL, count, bytes);
}

void *vlci_calloc(size_t count, size_t bytes) {
    void *block = vlci_realloc(NULL, count, bytes);
    if (block) memset(block, 0, count * bytes);
    return block;
}

char *vlci_strdup(const char *text) {
    if (!text) return NULL;
    size_t bytes = strlen(text) + 1;
    char *copy = vlci_alloc(bytes, 1);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

char *vlci_format(const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) return NULL;
    char *text = vlci_alloc((size_t)length + 1, 1);
    if (!text) return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)length + 1, format, args);
    va_end(args);
    return text;
}

void vlci_free(void *block) {
    if (block) allocator.release(allocator.user, block);
}

void vlcache_free(void *block) {
    vlci_free(block);
}

vlcache_status vlci_fail_memory(const char *what) {
    return vlci_fail(VLCACHE_E_NO_MEMORY, "out of host memory for the %s", what);
}
