/**
 * prepare.h - from a picture to a vision tower's pixels: where each resize takes them from, and their values.
 */
#ifndef VLCI_PICTURE_PREPARE_H
#define VLCI_PICTURE_PREPARE_H

#include "picture/processor.h"
#include "vlcache/image.h"

/** Tiles of one size, f32 [tiles][3][height][width] in host memory. */
typedef struct vlci_pixels {
    int tiles, width, height;
    float *data; /**< owned */
} vlci_pixels;

/** One resize: the picture on a canvas, the canvas scaled to width x height, and an output rectangle of
 * columns x rows that starts at (x, y) of the result, outside of which it is black. */
typedef struct vlci_view {
    int canvas_width, canvas_height, left, top; /**< the picture's place on the canvas */
    int width, height;                          /**< the scaled canvas */
    int x, y;                                   /**< output origin on the scaled canvas, may be negative */
    int columns, rows;                          /**< output size */
} vlci_view;

/** 8-bit RGB on its way: what a resize leaves for the next one. */
typedef struct vlci_rgb {
    int width, height;
    uint8_t *data; /**< height rows of width triples, owned */
} vlci_rgb;

/** Errors: VLCACHE_E_ARGUMENT when a picture cannot have such sides. */
vlcache_status vlci_view_sides(int width, int height);

/** The view that the processor's steps give of a picture of width x height. Errors: VLCACHE_E_ARGUMENT
 * (sides), VLCACHE_E_UNSUPPORTED (a resize beyond all bounds). */
vlcache_status vlci_view_make(const vlci_processor *processor, int width, int height, vlci_view *out);

/** The view of a whole picture squeezed to columns x rows. */
vlci_view vlci_view_squeeze(int width, int height, int columns, int rows);

/** What output pixels x .. x + size, y .. y + size of a view show, as x0, y0, x1, y1 in the picture of
 * width x height. */
void vlci_view_cell(const vlci_view *view, int x, int y, int size, int width, int height, float cell[4]);

/** The same of a rectangle: left, top, right and bottom in pixels of the view. */
void vlci_view_area(const vlci_view *view, const double area[4], int width, int height, float cell[4]);

/** Room for the pixels. Errors: VLCACHE_E_NO_MEMORY, `*out` is then zeroed. */
vlcache_status vlci_pixels_create(int tiles, int width, int height, vlci_pixels *out);

/** The tiles of n pictures, all of one size, behind each other in new memory. Errors: VLCACHE_E_INTERNAL
 * (sizes), VLCACHE_E_NO_MEMORY; `*out` is then zeroed. */
vlcache_status vlci_pixels_join(const vlci_pixels *parts, int n, vlci_pixels *out);

/**
 * Renders a view, whose sides are multiples of the tiles', and cuts it row by row into tiles `first` and
 * following. Equal, before mean and std, to Hugging Face's PIL processors to the bit; its torchvision ones
 * resize with the same filters and differ by a rounding step (1/255) here and there. Errors:
 * VLCACHE_E_ARGUMENT (unknown filter), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_pixels_fill(const vlci_processor *processor, const vlcache_image *image,
                                const vlci_view *view, int first, vlci_pixels *to);

/**
 * A picture, or what an earlier resize has left of one, squeezed to width x height with PIL's filter
 * `resample`. Release with vlci_rgb_release(). Errors: VLCACHE_E_ARGUMENT (unknown filter),
 * VLCACHE_E_NO_MEMORY; `*out` is then zeroed.
 */
vlcache_status vlci_rgb_squeeze(const uint8_t *rgb, int from_width, int from_height, int resample, int width,
                                int height, vlci_rgb *out);
void vlci_rgb_release(vlci_rgb *rgb);

/** Cuts RGB, whose sides are multiples of the tiles', row by row into tiles `first` and following, and
 * rescales and normalises it as the processor does. Cannot fail. */
void vlci_pixels_cut(const vlci_processor *processor, const vlci_rgb *rgb, int first, vlci_pixels *to);

void vlci_pixels_release(vlci_pixels *pixels);

#endif
