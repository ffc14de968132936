/**
 * metric.h (internal) - what errors of values count for: they go through a layer's output product, which
 * hears some of their directions better than others.
 *
 *     M(layer, kv head) = sum over the query heads of its group of W_o^T W_o      [head_dim][head_dim]
 *                       = U^T U,     U upper triangular
 *
 * so that |U x| is how much a value x is heard, up to the attention that it gets. It is of a model, not of a
 * prompt: no budget counts it.
 */
#ifndef VLCI_COMPRESS_METRIC_H
#define VLCI_COMPRESS_METRIC_H

#include "compress/heads.h"
#include "compute/matrix.h"

/**
 * Finds U of all heads, layer by layer; blocks. `out`: [shape->layers] output products, [any][heads *
 * head_dim], whatever their dtypes and layouts; biases do not count. `*metric`: f32
 * [2][layers][kv_heads][head_dim] [head_dim], zeros below the diagonal, then of each U^-T, zeros above it;
 * the caller's; NULL after an error.
 * Directions that nothing hears count for a millionth of the mean. Errors: VLCACHE_E_ARGUMENT (a product of
 * another width), VLCACHE_E_UNSUPPORTED (weights that are not finite), VLCACHE_E_NO_MEMORY,
 * VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_BUILD, the device's.
 */
vlcache_status vlci_metric_create(vlcache_device *device, const vlci_compress_shape *shape,
                                  const vlci_matrix *const *out, cl_mem *metric);

#endif
