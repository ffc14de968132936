/**
 * config.h - what a Hugging Face folder says of a model: config.json, preprocessor_config.json (or the
 * image part of processor_config.json) and generation_config.json, checked. A field that changes the result
 * is honoured or refused by name, never ignored.
 */
#ifndef VLCI_CHECKPOINT_CONFIG_H
#define VLCI_CHECKPOINT_CONFIG_H

#include "checkpoint/settings.h"

/**
 * Reads the folder's configuration files.
 * Errors: VLCACHE_E_IO (a file is missing: which), VLCACHE_E_FORMAT (file and field named, with what is
 * allowed), VLCACHE_E_UNSUPPORTED (field named), VLCACHE_E_NO_MEMORY. On failure `*out` is zeroed.
 */
vlcache_status vlci_config_load(const char *folder, vlci_config *out);

/** Frees what `config` points to and zeroes it. */
void vlci_config_release(vlci_config *config);

#endif
