/**
 * chain_dot.h (internal) - what stands between the attention of one layer and that of the next, for one row,
 * in one launch on a processor: cl/chain_dot.cl, weights in bf16 in rows or pairs.
 *
 *     dot     products of pairs of bf16, where gemv_dot does them: by the processor's own, or plain
 *     apart   none: a launch for each product
 */
#ifndef VLCI_COMPUTE_CHAIN_DOT_H
#define VLCI_COMPUTE_CHAIN_DOT_H

#include "compute/attention.h"
#include "compute/chain.h"

extern const vlci_ladder vlci_chain_dot_ladder;

/** Any number of threads may run it. */
typedef struct vlci_chain_dot vlci_chain_dot;

/** Opens it where the rung is "dot" and `dot` is not none; else `*out` is NULL. Attention of `shape` goes
 * with it where that is plain: vlci_chain_dot_attends(). Errors: those of vlci_rung(), vlci_kernel_get() and
 * vlci_memory_create(). */
vlcache_status vlci_chain_dot_open(vlcache_device *device, vlci_dot dot, vlci_layout layout,
                                   vlci_activation act, const vlci_attention_shape *shape,
                                   vlci_chain_dot **out);

/** Bytes of the device's memory that it holds; NULL: 0. */
uint64_t vlci_chain_dot_bytes(const vlci_chain_dot *chain);

/** Whether one launch may do it; `attended` and what is behind it need not be set. chain NULL: no. */
bool vlci_chain_dot_takes(const vlci_chain_dot *chain, const vlci_links *links);

/** Whether attention over the rows that are there, in front of it, may be in the same launch; row_max and
 * row_lse are not written then. */
bool vlci_chain_dot_attends(const vlci_chain_dot *chain, const vlci_attention *a);

/** Enqueues what vlci_chain_dot_takes(): attended and gated are f32. `a`: NULL, or attention that
 * vlci_chain_dot_attends(), whose q is links->y, whose out is links->attended, and whose view is that of
 * links->append a layer before, where there is one. Errors: those of vlci_rope_args(), the device's. */
vlcache_status vlci_chain_dot_run(const vlci_chain_dot *chain, const vlci_links *links,
                                  const vlci_attention *a);

/** NULLs the handle; NULL: nothing to do. */
void vlci_chain_dot_close(vlci_chain_dot **chain);

#endif
