/**
 * view.h (internal) - where the keys and values of one layer lie, as every kernel that touches them is told:
 * the arguments that KV_PARAMS of cl/kv.clh declares.
 *
 * Paged: rows lie in pages of a pool (`table` is not NULL). Head kv of sequence b is the entry
 * (slots[b] * layers + layer) * kv_heads + kv of `heads`; row j of it is row j % VLCI_KV_PAGE of page
 * table[first + j / VLCI_KV_PAGE].
 * Dense: element (b, kv, row j, d) stands at b * seq_stride + kv * head_stride + j * row_stride + d, which is
 * how the towers of pictures have them. With `slots`, sequences of any lengths lie one behind the other, and
 * b begins at row slots[b] instead.
 */
#ifndef VLCI_KV_VIEW_H
#define VLCI_KV_VIEW_H

#include "cl/shared.h"
#include "device/device.h"

typedef struct vlci_kv_view {
    vlcache_dtype dtype;
    cl_mem k, v;
    cl_mem bias;       /**< f32, a number for each row of the pool, added to its logits; NULL: none has any */
    cl_mem heads;      /**< vlci_kv_head [slots][layers][kv_heads] */
    cl_mem slots;      /**< int[batch]; dense: first rows, or NULL for seq_stride */
    cl_mem table;      /**< int: pages; NULL: dense */
    int layer, layers; /**< this one, of how many */
    int ahead; /**< rows of each head beyond what `heads` says: earlier rows of a prompt that is being read;
                  or minus the query rows, where those have none of their own. Dense: keys less queries */
    size_t k_offset, v_offset;                  /**< dense: first element */
    size_t seq_stride, head_stride, row_stride; /**< elements; paged: row_stride is head_dim */
} vlci_kv_view;

enum { VLCI_KV_ARGS = 14 };

/** The arguments, in the order of KV_PARAMS. Errors: VLCACHE_E_UNSUPPORTED (an offset or stride beyond 32
 * bits). */
vlcache_status vlci_kv_args(const vlci_kv_view *view, vlci_arg out[VLCI_KV_ARGS]);

#endif
