/**
 * png.h - a picture as the bytes of a PNG file.
 */
#ifndef COMMON_PNG_H
#define COMMON_PNG_H

#include <stddef.h>
#include <stdint.h>

/** Of tightly packed RGB rows, both sides at least 1. New memory, `*bytes` of it; NULL when it runs out. */
uint8_t *png_encode(const uint8_t *rgb, int width, int height, size_t *bytes);

#endif
