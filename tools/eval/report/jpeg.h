/**
 * jpeg.h - a picture as the bytes of a JPEG file.
 */
#ifndef REPORT_JPEG_H
#define REPORT_JPEG_H

#include <stddef.h>
#include <stdint.h>

/** Of tightly packed RGB rows, sides from 1 to 65,535; quality from 50 to 100, as libjpeg counts it. New
 * memory, `*bytes` of it; NULL when it runs out. */
uint8_t *jpeg_encode(const uint8_t *rgb, int width, int height, int quality, size_t *bytes);

#endif
