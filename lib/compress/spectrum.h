/**
 * spectrum.h (internal) - how many dimensions coded rows vary in, and how many bits those have.
 */
#ifndef VLCI_COMPRESS_SPECTRUM_H
#define VLCI_COMPRESS_SPECTRUM_H

#include <stdint.h>

#include "vlcache/compress.h"

/** What was measured of all matrices: two for each kv head of each layer, keys and values. */
typedef struct vlci_spectrum {
    int kv_heads, columns; /**< of each matrix, by falling energy */
    const float *energy;   /**< [layers * kv_heads * 2][columns] */
    const float *total;    /**< [layers * kv_heads * 2]: the variance of all dimensions */
    const uint8_t *bits;   /**< [layers * kv_heads * 2][columns] */
} vlci_spectrum;

/** Fewest of n energies that come to 90% of the total; n where they do not. */
int vlci_spectrum_dims(const float *energy, int n, double total);

/** Fills dims and bits of a layer. */
void vlci_spectrum_layer(const vlci_spectrum *spectrum, int index, vlcache_compress_layer *layer);

#endif
