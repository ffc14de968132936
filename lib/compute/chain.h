/**
 * chain.h (internal) - what stands between the attention of one layer and that of the next, for few rows of
 * many sequences, in one launch: out, norm, gate and up, down, norm, and q, k and v of the next layer. Where
 * caches are short, attention begins it, and it goes on through some layers.
 *
 *     wgmma   cl/chain_wgmma.cl, and of the fewest rows cl/chain_blocks.cl: weights in bf16
 *     apart   none: a launch for each
 */
#ifndef VLCI_COMPUTE_CHAIN_H
#define VLCI_COMPUTE_CHAIN_H

#include "compute/attention.h"
#include "compute/matrix.h"

extern const vlci_ladder vlci_chain_ladder;

/** Any number of threads may run it. */
typedef struct vlci_chain vlci_chain;

/** A launch over `rows` rows: x += out(attended), x += down(act(gate(RMS(x))) * up(RMS(x))), y = qkv(RMS(x)).
 */
typedef struct vlci_links {
    const vlci_matrix *out, *gate_up, *down;
    const vlci_matrix *qkv;       /**< NULL: the launch ends before it */
    const vlci_norm *norm, *next; /**< in front of gate_up, and of qkv */
    float eps;
    int rows;
    cl_mem attended; /**< in the form that vlci_chain_reads() tells */
    cl_mem x;        /**< f32 [rows][hidden], from element x_offset on */
    size_t x_offset;
    cl_mem gated;              /**< scratch: vlci_operand_bytes() */
    cl_mem y;                  /**< f32 [rows][qkv->n] */
    const vlci_append *append; /**< NULL: y is all there is; else it goes on as vlci_rope_append() says, but
                                  for k and v, which y need not get */
} vlci_links;

/** Opens it where the device and the shape allow; else `*out` is NULL. deepest: the largest k. Errors: those
 * of vlci_rung() and vlci_memory_create(). */
vlcache_status vlci_chain_open(vlcache_device *device, int hidden, int deepest, vlci_activation act,
                               const vlci_attention_shape *shape, vlci_chain **out);

/** Bytes of the device's memory that it holds; NULL: 0. */
uint64_t vlci_chain_bytes(const vlci_chain *chain);

/** Whether one launch may do it; `attended` and what is behind it need not be set. chain NULL: no. */
bool vlci_chain_takes(const vlci_chain *chain, const vlci_links *links);

/** What rows of attention it reads: f32, or of more rows stripes. */
vlci_form vlci_chain_reads(int rows);

/** Whether it may append heads of its head_dim. */
bool vlci_chain_appends(const vlci_chain *chain);

/** Whether a launch over `rows` rows may begin with this attention, of many short caches, of which row_max
 * and row_lse are left alone; what is behind it must append, or be the last. */
bool vlci_chain_attends(const vlci_chain *chain, const vlci_attention *attention, int rows);

/** Whether a launch over `links` that begins with attention may go on with those of the next layer. */
bool vlci_chain_goes_on(const vlci_links *links, const vlci_links *next);

/** Enqueues what vlci_chain_takes(). `attention`: NULL where `attended` is there; else what
 * vlci_chain_attends(), whose q is y and which leaves `attended`; then links[0 .. n - 1] may be those of up
 * to VLCI_CHAIN_LAYERS layers, each of which goes on with the next: all is as the first says but weights.
 * Errors: those of vlci_kernel_get_ptx() and vlci_rope_args(), the device's. */
vlcache_status vlci_chain_run(vlci_chain *chain, const vlci_links *links, int n,
                              const vlci_attention *attention);

/** NULLs the handle; NULL: nothing to do. */
void vlci_chain_close(vlci_chain **chain);

#endif
