/**
 * stb.h (internal) - JPEG, PNG, GIF and BMP to RGB.
 */
#ifndef VLCI_PICTURE_STB_H
#define VLCI_PICTURE_STB_H

#include "picture/format.h"

/**
 * Decodes a file whose header vlci_container_read() has read to width * height RGB triples, alpha composed on
 * white. Errors: VLCACHE_E_FORMAT, VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_stb_decode(const uint8_t *file, size_t bytes, const char *name,
                               const vlci_container *header, uint8_t *rgb);

#endif
