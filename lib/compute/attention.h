/**
 * attention.h (internal) - attention over cached rows, for prefill, decode and the vision tower. Never N x N.
 *
 * Rows of queries: [rows][heads * head_dim] f32, sequences one after another (ragged batch). Keys and values:
 * element (sequence b, kv head h, row j, d) at b * seq_stride + h * head_stride + j * row_stride + d,
 * elements of the KV dtype. Query i of sequence b and kv head h sees rows j <= past[b * kv_heads + h] + i
 * when causal, else all past[b * kv_heads + h] + (rows of b) rows. past NULL: zeros.
 *
 * The ladders; VLCACHE_VARIANT=attention:RUNG forces a rung:
 *
 *     prefill  wide        a work-item for 32 rows, 16 in a vector: processors with wide vectors
 *     decode   split       a work-group for a share of the keys
 *              split_wide  a work-item for a share of the keys: processors with wide vectors
 *     both     rows        a work-item for each query row and head: runs anywhere
 */
#ifndef VLCI_COMPUTE_ATTENTION_H
#define VLCI_COMPUTE_ATTENTION_H

#include "device/ladder.h"

extern const vlci_ladder vlci_attention_prefill_ladder, vlci_attention_decode_ladder;

typedef struct vlci_attention {
    int batch; /**< sequences */
    int heads, kv_heads, head_dim;
    bool causal;
    float scale; /**< 1 / sqrt(head_dim) */
    vlcache_dtype kv_dtype;
    size_t k_offset, v_offset;                  /**< first element in k and v */
    size_t seq_stride, head_stride, row_stride; /**< elements */
    size_t q_stride;                            /**< elements between query rows */
    size_t q_offset;                            /**< first element in q */
    int max_rows;                               /**< most query rows of any sequence */
    cl_mem q, k, v, out;                        /**< out: [rows][heads * head_dim] f32 */
    cl_mem seq_start;                           /**< int[batch + 1]: first query row of each sequence */
    cl_mem past;                                /**< int[batch * kv_heads], or NULL */
    int past_offset;                            /**< first element of `past` */
    cl_mem bias;                                /**< f32 [batch][kv_heads][bias_stride] or NULL: added to the
                                                   scaled logits of each cached row, for all its queries */
    size_t bias_stride;                         /**< at least the longest row count */
    int max_keys;   /**< no query sees more rows than this; 0: not known, and keys are not divided */
    cl_mem scratch; /**< vlci_attention_scratch_bytes(), or NULL: keys are not divided */
    cl_mem row_max,
        row_lse; /**< f32 [rows][heads] or NULL: each row's largest logit and log-sum-exp of its logits */
} vlci_attention;

/** Bytes of `scratch` for decode with these shapes, whatever the number of cached rows; may be 0. */
size_t vlci_attention_scratch_bytes(const vlcache_device *device, int batch, int heads, int kv_heads,
                                    int head_dim);

/**
 * Enqueues attention for any number of query rows: the whole prompt, or one row a sequence in decode. Errors:
 * VLCACHE_E_UNSUPPORTED (a shape no rung takes), the device's.
 */
vlcache_status vlci_attention_run(vlcache_device *device, const vlci_attention *a);

#endif
