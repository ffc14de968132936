/**
 * pack.h (internal) - rows of weights into the order that a matrix product reads, on the host.
 */
#ifndef VLCI_COMPUTE_PACK_H
#define VLCI_COMPUTE_PACK_H

#include "compute/matrix.h"

/** Rows that are packed at a time: a panel, half the rows of a block. */
enum { VLCI_BAND = VLCI_PANEL };

/**
 * Packs rows [row, row + VLCI_BAND) of a matrix [..][k] in panels, pairs or blocks: `from` has them one after
 * another, zeros where the matrix has none; `to` is where the matrix begins. `row` is a multiple of
 * VLCI_BAND. What pads k in pairs and blocks is set to zero. Bands may be packed at the same time.
 */
void vlci_pack(const void *from, int row, int k, vlcache_dtype dtype, vlci_layout layout, void *to);

#endif
