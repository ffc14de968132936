/**
 * gram.h (internal) - products of the candidates of a round among themselves.
 */
#ifndef VLCI_COMPRESS_GRAM_H
#define VLCI_COMPRESS_GRAM_H

#include "compress/groups.h"
#include "device/ladder.h"

extern const vlci_ladder vlci_gram_ladder;

typedef struct vlci_gram_kernels {
    const vlci_kernel *gram;
    size_t group; /**< work-items of a tile */
} vlci_gram_kernels;

/** For devices that take work-groups of VLCI_GRAM_TILE. Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT),
 * VLCACHE_E_BUILD. */
vlcache_status vlci_gram_open(vlcache_device *device, const vlci_compress_shape *shape,
                              vlci_gram_kernels *kernels);

/** Candidates of a head that there is room for, where there are up to `most`: whole tiles. */
size_t vlci_gram_room(size_t most);

/** Enqueues the products of a round: list: int [heads][most], evicted rows of each head; products: f32
 * [heads][most][most]; most: of vlci_gram_room(). */
vlcache_status vlci_gram(const vlci_heads *heads, const vlci_gram_kernels *kernels, const vlci_groups *groups,
                         cl_mem list, cl_mem products, size_t most, int round);

#endif
