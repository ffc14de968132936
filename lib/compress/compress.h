/**
 * compress/compress.h (internal) - from the prefill's attention to a smaller cache.
 *
 *     vlci_compress_create(device, options, &shape, tokens, text, &plan);
 *     for each layer:  vlci_attention_run(device, &a);  vlci_compress_observe(plan, layer, &a);
 *     vlci_compress_plan(plan);                              the only wait: reads L * batch * heads counts
 *     for each layer:  make k and v of max kept + room rows; vlci_compress_layer(plan, layer, &a, &to);
 * release the full ones vlci_compress_destroy(&plan);
 *
 * Where the cache already holds rows (a second turn), those stay as they are, count in the softmax, and are
 * neither candidates nor counted entries: only the N new rows, the last of the cache, are. With an empty
 * cache that is the paper exactly.
 */
#ifndef VLCI_COMPRESS_COMPRESS_H
#define VLCI_COMPRESS_COMPRESS_H

#include "attention.h"
#include "vlcache/compress.h"

/* ---- policy.c: a policy is a row of a table ---------------------------------------------------------------
 */

typedef enum vlci_allocation { VLCI_ALLOCATE_ALL, VLCI_ALLOCATE_SPARSITY } vlci_allocation;
typedef enum vlci_scoring { VLCI_SCORE_NONE, VLCI_SCORE_POST_VISION } vlci_scoring;
typedef enum vlci_pooling { VLCI_POOL_NONE } vlci_pooling;
typedef enum vlci_when { VLCI_WHEN_NEVER, VLCI_WHEN_PREFILL } vlci_when;

typedef struct vlci_policy {
    const char *name;
    vlci_allocation allocation;
    vlci_scoring scoring;
    vlci_pooling pooling;
    vlci_when when;
} vlci_policy;

/** The policy of that name (NULL: "vlcache"). Errors: VLCACHE_E_ARGUMENT, the message lists the names. */
vlcache_status vlci_policy_find(const char *name, const vlci_policy **out);

/* ---- the plan of one prefill ------------------------------------------------------------------------------
 */

typedef struct vlci_compress_shape {
    int layers, batch, heads, kv_heads, head_dim;
    vlcache_dtype kv_dtype;
} vlci_compress_shape;

typedef struct vlci_compress {
    vlcache_device *device; /**< borrowed */
    const vlci_policy *policy;
    vlcache_compress_options options;
    vlci_compress_shape shape;
    int max_tokens, max_tau;
    int *tokens, *tau;             /**< [batch] */
    bool *fallback;                /**< [batch] */
    vlcache_compress_layer *layer; /**< [layers][batch], filled by vlci_compress_plan() */
    bool planned;
    cl_mem tokens_on, tau_on;  /**< int[batch] on the device */
    cl_mem kept_on, recent_on; /**< int[layers][batch], after vlci_compress_plan() */
    cl_mem partial;            /**< uint[batch][heads][tiles]: counts of one layer's column tiles */
    cl_mem counts;             /**< ulong[layers][batch][heads] */
    cl_mem *score; /**< [layers]: f32 [batch][kv_heads][max_tokens], until the layer is compacted */
    cl_mem *kept;  /**< [layers]: int [batch][kv_heads][vlci_compress_rows()], after it */
} vlci_compress;

/**
 * Prepares one prefill of `batch` prompts of tokens[b] new tokens, text[b] of them after the last visual one
 * (0: the last 32 rows are looked at, and the statistics say so). `*out` stays NULL, with VLCACHE_OK, when
 * the policy never compresses. Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_compress_create(vlcache_device *device, const vlcache_compress_options *options,
                                    const vlci_compress_shape *shape, const int *tokens, const int *text,
                                    vlci_compress **out);

/**
 * Enqueues sparsity counts and scores of a layer, after its prefill attention `a`: rotated q, K, row_max,
 * row_lse, seq_start, past, strides. A prefill in chunks calls it with the last chunk, which must hold the
 * tau rows: the candidates are the last N of the past + rows that the last query sees. Does not block.
 */
vlcache_status vlci_compress_observe(vlci_compress *plan, int layer, const vlci_attention *a);

/** Waits, reads the counts, computes every layer's budget. */
vlcache_status vlci_compress_plan(vlci_compress *plan);

/** Rows kept of a layer's new tokens: of one sequence, and the most of any (the capacity to allocate, plus
 * past and room). */
int vlci_compress_kept(const vlci_compress *plan, int layer, int sequence);
int vlci_compress_rows(const vlci_compress *plan, int layer);

/** Where compacted rows go: element (b, h, j, d) as in vlci_attention. Capacity in rows of each (b, h). */
typedef struct vlci_compact_to {
    cl_mem k, v;
    size_t k_offset, v_offset, seq_stride, head_stride, row_stride;
    int capacity;
} vlci_compact_to;

/**
 * Enqueues the choice and the copy of one layer: rows before the prompt first, then the kept ones, ascending.
 * `a` as in vlci_compress_observe(). The new length of head (b, h) is its rows before the prompt +
 * vlci_compress_kept(plan, layer, b). Does not block; the old buffers may be released at once (OpenCL keeps
 * them until the copy is done).
 */
vlcache_status vlci_compress_layer(vlci_compress *plan, int layer, const vlci_attention *a,
                                   const vlci_compact_to *to);

/** Positions kept (ascending, from the prompt's first token) by a head of a compacted layer; blocks. kept()
 * values. */
vlcache_status vlci_compress_positions(vlci_compress *plan, int layer, int sequence, int kv_head, int *out);

/** Totals of one sequence, after vlci_compress_plan(). */
void vlci_compress_stats(const vlci_compress *plan, int sequence, vlcache_compress_stats *out);

/** Releases and NULLs; NULL accepted. */
void vlci_compress_destroy(vlci_compress **plan);

/* ---- the steps, each tested alone -------------------------------------------------------------------------
 */

/** sparsity.c: rows to look at, `*fallback` when text is 0. */
int vlci_sparsity_rows(int tokens, int text, bool *fallback);
/** Causal entries of the last tau rows of n. */
uint64_t vlci_sparsity_entries(int n, int tau);
/** Mean over heads of count / entries. */
double vlci_sparsity_mean(const uint64_t *counts, int heads, uint64_t entries);
/** Enqueues the sums of plan->partial into plan->counts of a layer. */
vlcache_status vlci_sparsity_sum(vlci_compress *plan, int layer);

/** budget.c: beta, n and recent of each layer from its sparsity; entries `stride` apart. Rounds halves up, as
 * C's round() does for what is not negative. When no layer has any density the budget is shared evenly. A
 * budget of 1 keeps every row of every layer: the clip of step 2 would take rows from sparse layers that no
 * other could use. */
void vlci_budget_share(const vlcache_compress_options *options, int tokens, int layers, int stride,
                       vlcache_compress_layer *layer);

/** score.c: tiles of columns that a layer's counts come in. */
int vlci_score_tiles(int tokens);

/** topk.c: for each (b, h): the recent[b] last of tokens[b] and the kept[b] - recent[b] best-scored others,
 * ascending, into out[(b * kv_heads + h) * rows]; ties: the lower position; NaN scores last. tokens:
 * int[batch] on the device; kept and recent too, from element `first` on. score: f32
 * [batch][kv_heads][stride]. per_head false: head 0's for all.
 */
vlcache_status vlci_topk(vlcache_device *device, cl_mem score, int batch, int kv_heads, int stride,
                         bool per_head, cl_mem tokens, cl_mem kept, cl_mem recent, int first, cl_mem out,
                         int rows);

#endif
