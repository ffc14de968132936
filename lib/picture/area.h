/**
 * area.h - how large a picture becomes where a tower takes any size: of its own shape, sides that are
 * multiples of a factor, and as many pixels as are allowed.
 */
#ifndef VLCI_PICTURE_AREA_H
#define VLCI_PICTURE_AREA_H

#include "checkpoint/json.h"

enum { VLCI_AREA_MAX = 1 << 28, VLCI_AREA_RATIO = 200 };

typedef struct vlci_area {
    int factor;      /**< that both sides are multiples of */
    int least, most; /**< pixels, from 1 to VLCI_AREA_MAX */
} vlci_area;

/**
 * Reads the bounds over the values that are there: "size" with "shortest_edge" and "longest_edge", which are
 * numbers of pixels here, or with "min_pixels" and "max_pixels"; then both of these outside of "size", as old
 * files have them. Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named).
 */
vlcache_status vlci_area_read(const vlci_scope *scope, vlci_area *area);

/**
 * The size that a picture of width x height is resized to. Errors: VLCACHE_E_ARGUMENT (one side is more than
 * VLCI_AREA_RATIO times the other), VLCACHE_E_UNSUPPORTED (a side beyond all bounds).
 */
vlcache_status vlci_area_fit(const vlci_area *area, int width, int height, int *fit_width, int *fit_height);

/**
 * The same for `frames` frames, in steps of `step`, whose pixels are bounded all together (Qwen3-VL). A frame
 * below the factor is enlarged first. Errors: as vlci_area_fit().
 */
vlcache_status vlci_area_fit_frames(const vlci_area *area, int frames, int step, int width, int height,
                                    int *fit_width, int *fit_height);

#endif
