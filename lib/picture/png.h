/**
 * png.h - PNG's checksum, and a small PNG writer.
 */
#ifndef VLCI_PICTURE_PNG_H
#define VLCI_PICTURE_PNG_H

#include <stddef.h>
#include <stdint.h>

/** CRC-32 of PNG (ISO 3309) over a chunk's type and body. */
uint32_t vlci_png_crc(const uint8_t *data, size_t bytes);

/**
 * Encodes height rows of width RGB triples, tightly packed, as an 8-bit PNG in new memory (vlci_free());
 * NULL when out of memory. `*bytes` is its length.
 */
uint8_t *vlci_png_encode(const uint8_t *rgb, int width, int height, size_t *bytes);

#endif
