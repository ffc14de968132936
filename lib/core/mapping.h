/**
 * mapping.h - a file in memory, read-only, as long as somebody holds it: what is not written elsewhere need
 * not be read into memory of its own.
 */
#ifndef VLCI_CORE_MAPPING_H
#define VLCI_CORE_MAPPING_H

#include <stddef.h>

#include "core/status.h"

/** An address in a mapping that is no longer the file's, since that was cut short, is a SIGBUS. */
typedef struct vlci_mapping vlci_mapping;

/** Maps the first `bytes` (at least 1) of an open file, which may be closed then; one owner. Errors:
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_UNSUPPORTED where the system does not map it. */
vlcache_status vlci_mapping_open(int file, size_t bytes, vlci_mapping **out);

/** Where byte `at` of the file is. */
const void *vlci_mapping_at(const vlci_mapping *mapping, size_t at);

/** One more owner, of any thread. */
vlci_mapping *vlci_mapping_retain(vlci_mapping *mapping);

/** One owner less and NULLs; the last unmaps. NULL accepted. */
void vlci_mapping_release(vlci_mapping **mapping);

#endif
