/**
 * families.h (internal) - the families of models that there are.
 */
#ifndef VLCI_MODELS_FAMILIES_H
#define VLCI_MODELS_FAMILIES_H

#include "models/config.h"

/** All families, ends with NULL. */
extern const vlci_family *const vlci_families[];

/** A family by config.json's "model_type"; NULL when there is none of that name. */
const vlci_family *vlci_family_find(const char *name);

/**
 * Reads the folder's configuration files, as its family has them.
 * Errors: VLCACHE_E_IO (a file is missing: which), VLCACHE_E_FORMAT (file and field named, with what is
 * allowed), VLCACHE_E_UNSUPPORTED (field named), VLCACHE_E_NO_MEMORY. On failure `*out` is zeroed.
 */
vlcache_status vlci_config_load(const char *folder, vlci_config *out);

/** The same of a config.json that stands alone, its path or its text: vlci_hub_open_alone(). */
vlcache_status vlci_config_load_alone(const char *config, vlci_config *out);

#endif
