/**
 * image.h (internal) - a picture as the vision tower wants it: resized, cropped, padded, normalised as the
 * processor named in preprocessor_config.json does it, and the order in which its features become visual
 * tokens.
 */
#ifndef VLCI_PICTURE_IMAGE_H
#define VLCI_PICTURE_IMAGE_H

#include "checkpoint/config.h"
#include "vlcache/image.h"

/** Shape: tiles x 3 x side x side, f32, host memory, owned. llava: one tile. llava_next: the whole picture
 * first, then the grid's tiles row by row. */
typedef struct vlci_pixels {
    int tiles, side;
    float *data;
} vlci_pixels;

/**
 * Where each visual token of the prompt comes from, in prompt order.
 * source[i] >= 0: row source[i] of the projected features, tile-major [tile][patch row][patch column] (with
 * the class token first in each tile where the config keeps it); -1: the learned image_newline row. For the
 * heat map and for pooling, the token's cell in the picture: x0,y0,x1,y1 in the source picture's pixels (all
 * 0 for newlines and class tokens).
 */
typedef struct vlci_image_plan {
    int n_tokens;
    int32_t *source;             /**< n_tokens, owned */
    float (*cell)[4];            /**< n_tokens, owned */
    int tiles;                   /**< as in vlci_pixels */
    int grid_rows, grid_columns; /**< llava_next: the unpadded grid; llava: patches a side */
} vlci_image_plan;

/**
 * Plans a picture of width x height: needs no pixels. Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_UNSUPPORTED (the
 * preprocessor's sizes do not give what the vision tower takes), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_image_plan_make(const vlci_config *config, int width, int height, vlci_image_plan *out);

/**
 * Prepares the pixels. Equal, before mean and std, to Hugging Face's PIL processors to the bit; its
 * torchvision ones resize with the same filters and differ by a rounding step (1/255) here and there. Errors:
 * as for the plan.
 */
vlcache_status vlci_image_prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out);

void vlci_image_plan_release(vlci_image_plan *plan);
void vlci_pixels_release(vlci_pixels *pixels);

#endif
