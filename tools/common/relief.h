/**
 * relief.h - how often each visual token is kept, painted over the picture that it shows.
 */
#ifndef COMMON_RELIEF_H
#define COMMON_RELIEF_H

#include "common/canvas.h"

/** A token: its part of the picture, in pixels of that, and how many pairs keep it. */
typedef struct relief_cell {
    float x0, y0, x1, y1;
    int count;
} relief_cell;

/** Where the picture lies on the canvas, its top at row 0; `scale` from its own pixels to those of the
 * canvas; `total` is the count of a token that all pairs keep. */
typedef struct relief_place {
    int x, width, height, total;
    float scale;
} relief_place;

/** Paints over a picture that is drawn already. False when memory runs out. */
bool relief_paint(canvas *c, const relief_place *place, const relief_cell *cells, size_t n);

#endif
