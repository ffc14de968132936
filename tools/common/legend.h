/**
 * legend.h - the colours of a heat map and the strip that explains them.
 */
#ifndef COMMON_LEGEND_H
#define COMMON_LEGEND_H

#include "common/canvas.h"

enum { LEGEND_HEIGHT = 84 };

/** The colour of a visual token that `count` of `total` (layer, kv head) pairs keep; count from 1. */
colour legend_colour(int count, int total);

/** Draws the strip at the bottom of the canvas; `note` is a line of words. */
void legend_draw(canvas *c, int total, const char *note);

#endif
