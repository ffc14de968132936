/**
 * pnm.h - portable bitmaps, greymaps and pixmaps (P1..P6).
 */
#ifndef VLCI_PICTURE_PNM_H
#define VLCI_PICTURE_PNM_H

#include "picture/format.h"

/** Reads the header: form, width, height, maxval, pixels_at. Errors: VLCACHE_E_FORMAT. */
vlcache_status vlci_pnm_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out);

/** Decodes the samples to width * height RGB triples, scaled to 0..255. Errors: VLCACHE_E_FORMAT. */
vlcache_status vlci_pnm_decode(const uint8_t *file, size_t bytes, const char *name,
                               const vlci_container *header, uint8_t *rgb);

#endif
