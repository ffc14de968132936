/**
 * config_image.h - the part of a configuration that says how pictures are prepared.
 */
#ifndef VLCI_CHECKPOINT_CONFIG_IMAGE_H
#define VLCI_CHECKPOINT_CONFIG_IMAGE_H

#include "checkpoint/json.h"
#include "checkpoint/settings.h"

/**
 * Reads the image processor's file into `config->image`; `root` is config.json, whose family and vision part
 * are read already. The nested "image_processor" of processor_config.json goes before
 * preprocessor_config.json, as in transformers 5.
 */
vlcache_status vlci_config_read_image(const char *folder, const vlci_scope *root, vlci_config *config);

#endif
