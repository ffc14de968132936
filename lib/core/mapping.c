/*
 * mapping.c - a mapping and the count of those who hold it.
 */
#include "core/mapping.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/alloc.h"

struct vlci_mapping {
    void *at;
    size_t bytes;
    int owners; /* atomic */
};

vlcache_status vlci_mapping_open(int file, size_t bytes, vlci_mapping **out) {
    vlci_mapping *mapping = *out = NULL;
    mapping = vlci_calloc(1, sizeof *mapping);
    if (!mapping) return vlci_fail_memory("mapping of a file");
    mapping->at = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapping->at == MAP_FAILED) {
        vlci_free(mapping);
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "a file cannot be mapped: %s", strerror(errno));
    }
    mapping->bytes = bytes;
    mapping->owners = 1;
    *out = mapping;
    return VLCACHE_OK;
}

const void *vlci_mapping_at(const vlci_mapping *mapping, size_t at) {
    return (const char *)mapping->at + at;
}

vlci_mapping *vlci_mapping_retain(vlci_mapping *mapping) {
    __atomic_add_fetch(&mapping->owners, 1, __ATOMIC_RELAXED);
    return mapping;
}

void vlci_mapping_release(vlci_mapping **mapping) {
    vlci_mapping *held = *mapping;
    *mapping = NULL;
    if (!held || __atomic_sub_fetch(&held->owners, 1, __ATOMIC_ACQ_REL)) return;
    munmap(held->at, held->bytes);
    vlci_free(held);
}
