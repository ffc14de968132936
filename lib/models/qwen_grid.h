/**
 * qwen_grid.h (internal) - the patches of pictures of any size, in the order in which Qwen's towers have
 * them.
 *
 * A grid is steps x rows x columns patches (time, height, width; one step for a picture). Blocks of merge x
 * merge patches become a token each and stay together, patch by patch in reading order. Blocks go in reading
 * order; where a tower looks through windows, window by window, each in reading order, those at the right and
 * lower edges smaller. A step's patches lie together either way.
 *
 *     merge 2, window 2:    blocks  0 1 | 4    patches of a block  0 1
 *                                   2 3 | 5                        2 3
 *                                   ----+--
 *                                   6 7 | 8
 */
#ifndef VLCI_MODELS_QWEN_GRID_H
#define VLCI_MODELS_QWEN_GRID_H

#include "core/status.h"

/** Patches; rows and columns are multiples of `merge`. */
typedef struct vlci_qwen_grid {
    int steps, rows, columns;
    int merge;  /**< patches a side of a block */
    int window; /**< blocks a side of a window; 0: none */
} vlci_qwen_grid;

typedef struct vlci_qwen_order {
    int n;               /**< patches: rows of the tower */
    int tokens;          /**< blocks: n / merge^2 */
    int32_t (*place)[3]; /**< [n]: step, row and column of the patch that row r is */
    int32_t *block;      /**< [tokens]: which of the tower's blocks a token is, tokens in reading order */
    int32_t *step;       /**< [steps + 1]: first row of each step */
    int steps;
    int32_t *window;      /**< [windows + 1]: first row of each window; NULL where there are none */
    int windows, longest; /**< their number, most rows of one */
} vlci_qwen_order;

/** Errors: VLCACHE_E_NO_MEMORY, `*out` is then zeroed. Release with vlci_qwen_order_release(). */
vlcache_status vlci_qwen_order_create(const vlci_qwen_grid *grid, vlci_qwen_order *out);

void vlci_qwen_order_release(vlci_qwen_order *order);

#endif
