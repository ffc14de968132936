/**
 * heif.h (internal) - HEIC and AVIF to RGB through libheif, where this build has it.
 */
#ifndef VLCI_PICTURE_HEIF_H
#define VLCI_PICTURE_HEIF_H

#include "picture/format.h"

/** What an ISO media file says it is: "HEIC", "AVIF", or NULL for neither. */
const char *vlci_heif_kind(const uint8_t *file, size_t bytes);

/**
 * Reads the size of the primary picture, upright: libheif turns it, so the orientation is 1. Errors:
 * VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (a build without libheif), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_heif_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out);

/** Decodes to width * height RGB triples, alpha composed on white. Errors: VLCACHE_E_FORMAT,
 * VLCACHE_E_UNSUPPORTED (libheif has no decoder for it), VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_heif_decode(const uint8_t *file, size_t bytes, const char *name,
                                const vlci_container *header, uint8_t *rgb);

#endif
