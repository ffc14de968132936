/**
 * bits.h (internal) - how many bits each dimension of coded rows has: water-filling over all matrices at
 * once.
 *
 *     left over of a dimension's energy:   0 bits 1    2 bits .1175    4 bits .009497    8 bits .00008
 *
 * The next bits go where they take off most energy for what they cost.
 */
#ifndef VLCI_COMPRESS_BITS_H
#define VLCI_COMPRESS_BITS_H

#include "core/status.h"

typedef struct vlci_bits {
    int matrices, dims;   /**< of all; of each, in whose order no energy rises */
    const double *energy; /**< [matrices][dims], weighted: one unit for all */
    double basis;         /**< what a dimension costs beside its own bits, in bits of a row */
    double most;          /**< bits of a row, of all matrices together */
} vlci_bits;

/**
 * out [matrices][dims]: 0, 2, 4 or 8, where no dimension has more than one before it in its matrix. A step
 * that costs more than is left is not taken, a cheaper one of less use may be. Equal uses: the lower matrix,
 * then the lower dimension. Energies of 0 get none. Errors: VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_bits_share(const vlci_bits *bits, uint8_t *out);

/**
 * Energies of a matrix in the unit of all: energy[i] * weight, tempered by the fourth root of the matrix's
 * total, so that no matrix takes what all need: E total^(1/4) / total.
 */
void vlci_bits_temper(const float *energy, int n, double total, double weight, double *out);

#endif
