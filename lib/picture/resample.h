/**
 * resample.h - resizing 8-bit RGB as Pillow's Image.resize() does, to the bit: columns first, as Pillow up to
 * 12 and torchvision have it. (Pillow 13 does the rows first where the height shrinks more than the width,
 * and then differs by a few units of 255.)
 */
#ifndef VLCI_PICTURE_RESAMPLE_H
#define VLCI_PICTURE_RESAMPLE_H

#include "core/status.h"

/** Pillow's numbers, as preprocessor_config.json has them. */
typedef enum vlci_filter {
    VLCI_FILTER_NEAREST = 0,
    VLCI_FILTER_LANCZOS = 1,
    VLCI_FILTER_BILINEAR = 2,
    VLCI_FILTER_BICUBIC = 3,
    VLCI_FILTER_BOX = 4,
    VLCI_FILTER_HAMMING = 5
} vlci_filter;

/** A picture, or one laid on a larger canvas of one colour (which is never stored). */
typedef struct vlci_canvas {
    const uint8_t *pixels; /**< picture_height rows of picture_width RGB triples */
    int picture_width, picture_height;
    int left, top;     /**< where the picture lies on the canvas */
    int width, height; /**< the canvas; contains the picture */
    uint8_t background[3];
} vlci_canvas;

/** What is wanted of a resize to width x height: its rectangle of columns x columns_n, rows x rows_n. */
typedef struct vlci_window {
    int width, height;       /**< the whole result, never stored */
    int x, y, columns, rows; /**< the part to compute; inside the whole, not empty */
} vlci_window;

/**
 * Resizes `canvas` and writes the window: rows of `columns` RGB triples, `stride` bytes apart, to `out`.
 * Errors: VLCACHE_E_ARGUMENT (unknown filter), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_resample(const vlci_canvas *canvas, vlci_filter filter, const vlci_window *window,
                             uint8_t *out, size_t stride);

#endif
