/**
 * anyres.h (internal) - pictures of any resolution in tiles, as LLaVA-NeXT and LLaVA-OneVision cut them: the
 * whole picture, then the picture fitted into the best of some sizes and cut.
 */
#ifndef VLCI_MODELS_ANYRES_H
#define VLCI_MODELS_ANYRES_H

#include "models/llava.h"

/** `whole` is tile 0; `grid` is cut into grid.rows / side x grid.columns / side more, of which the patches
 * from (left, top) on, rows x columns, show the picture. */
typedef struct vlci_anyres {
    int side, patches; /**< pixels; patches a side */
    vlci_view whole, grid;
    int tiles, left, top, rows, columns;
} vlci_anyres;

/** Reads "image_grid_pinpoints" of the processor, by which it cuts, and of config.json, by which the model
 * arranges: they must agree. Where neither is there: LLaVA-1.6's, or six_by_six tiles of 384 pixels. Errors:
 * VLCACHE_E_FORMAT (file and field named), VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_anyres_read(const vlci_scope *scope, const vlci_scope *root, bool six_by_six,
                                vlci_llava *eyes);

/** Errors: VLCACHE_E_ARGUMENT (sides), VLCACHE_E_UNSUPPORTED (the settings do not give tiles). */
vlcache_status vlci_anyres_make(const vlci_llava *eyes, int width, int height, vlci_anyres *out);

/** vlci_family.prepare() of both families. */
vlcache_status vlci_anyres_prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out);

/** Row of the projected features, tile by tile, that patch (row, column) of the grid is. */
static inline int vlci_anyres_source(const vlci_anyres *g, int class_rows, int row, int column) {
    int p = g->patches, tile = 1 + row / p * (g->grid.columns / g->side) + column / p;
    return tile * (p * p + class_rows) + class_rows + row % p * p + column % p;
}

#endif
