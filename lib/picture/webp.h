/**
 * webp.h (internal) - WebP to RGB through libwebp, where this build has it.
 */
#ifndef VLCI_PICTURE_WEBP_H
#define VLCI_PICTURE_WEBP_H

#include "picture/format.h"

/**
 * Reads the header: size, alpha, EXIF orientation; walks the chunks to the end. Errors: VLCACHE_E_FORMAT,
 * VLCACHE_E_UNSUPPORTED (a build without libwebp).
 */
vlcache_status vlci_webp_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out);

/** Decodes to width * height RGB triples, alpha composed on white; of an animation the first frame. Errors:
 * VLCACHE_E_FORMAT, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_webp_decode(const uint8_t *file, size_t bytes, const char *name,
                                const vlci_container *header, uint8_t *rgb);

#endif
