/**
 * compress.h (internal) - from the prefill's attention to a smaller cache.
 *
 *     vlci_policy_read(options, &recipe);
 *     vlci_compress_create(device, &recipe, &shape, &prompt, &plan);
 *     for each layer:  vlci_attention_run(device, &a);  vlci_compress_observe(plan, layer, &a);
 *     recipe.defer times, for each layer of a decode step:  ...  vlci_compress_observe_decode(plan, layer,
 * &a); vlci_compress_plan(plan);                  waits where budgets depend on counts, and reads those for
 * each layer:  make k and v of past + rows + room;  vlci_compress_layer(plan, layer, &a, &to); release the
 * full ones;  vlci_compress_destroy(&plan);
 *
 * Where the cache already holds rows (a second turn), those stay as they are, count in the softmax, and are
 * neither candidates nor counted entries: only the N new rows are. With an empty cache that is the paper
 * exactly.
 */
#ifndef VLCI_COMPRESS_COMPRESS_H
#define VLCI_COMPRESS_COMPRESS_H

#include "compute/attention.h"
#include "vlcache/compress.h"

extern const vlci_ladder vlci_score_ladder, vlci_topk_ladder, vlci_spread_ladder;

/* ---- policy.c: a policy is a row of a table ---------------------------------------------------------------
 */

typedef enum vlci_allocation { VLCI_ALLOCATE_MIXED, VLCI_ALLOCATE_PYRAMID } vlci_allocation;
typedef enum vlci_scoring {
    VLCI_SCORE_NONE,
    VLCI_SCORE_POST_VISION,
    VLCI_SCORE_ACCUMULATED,
    VLCI_SCORE_WINDOW
} vlci_scoring;
typedef enum vlci_pooling { VLCI_POOL_NONE, VLCI_POOL_LINE, VLCI_POOL_GRID } vlci_pooling;

/** Options with every axis filled in, as numbers. No strings but static ones. */
typedef struct vlci_recipe {
    const char *policy;
    bool compresses; /**< false: "full"; of what is below only the threshold counts, for probes */
    double budget, threshold, recent;
    int sinks;
    vlci_allocation allocation;
    double uniform; /**< of a mixed allocation: 1 uniform, 0 by sparsity */
    vlci_scoring scoring;
    int window;
    bool per_head;
    vlci_pooling pooling;
    int pool_rows, pool_columns;
    int defer; /**< decoded tokens before compression; 0: none */
    double defer_weight;
    double centroids; /**< share of a layer's rows; 0: none */
    bool spread;      /**< seeds lie far from one another instead of side by side */
    int iterations;
} vlci_recipe;

/** Errors: those of vlcache_compress_check(). */
vlcache_status vlci_policy_read(const vlcache_compress_options *options, vlci_recipe *out);

/* ---- a prompt ---------------------------------------------------------------------------------------------
 */

typedef struct vlci_compress_shape {
    int layers, batch, heads, kv_heads, head_dim;
    vlcache_dtype kv_dtype;
} vlci_compress_shape;

/** Visual tokens that lie as their patches do: token (y, x) at first + y * stride + x of the prompt. */
typedef struct vlci_token_grid {
    int32_t sequence, first, rows, columns, stride;
} vlci_token_grid;

/** A batch of prompts; borrowed for the call. */
typedef struct vlci_compress_prompt {
    const int *tokens;    /**< N of each sequence [batch] */
    const int *text;      /**< of these, post-vision rows: text behind any picture [batch] */
    const int *text_rows; /**< which those are, ascending, text[0] of the first sequence, then the next's;
                             NULL: the last text[b] of each */
    const int32_t *past;  /**< cache rows before the prompt [layers][batch][kv_heads]; NULL: none */
    const vlci_token_grid *grids; /**< disjoint */
    int n_grids;
} vlci_compress_prompt;

/* ---- rows.c: which rows are looked at ---------------------------------------------------------------------
 */

/** An entry of a list of rows, as the kernels read it: a row of the walk, and what it is for. */
enum { VLCI_ROW_SCORED = 1, VLCI_ROW_COUNTED = 2, VLCI_ROW_SHIFT = 2 };
#define VLCI_ROW(row, flags) ((row) << VLCI_ROW_SHIFT | (flags))

/** Rows of each sequence, ascending: the entries of sequence b are those from start[b] to start[b + 1]. */
typedef struct vlci_rows {
    int *start;     /**< [batch + 1] */
    int32_t *entry; /**< [start[batch]] */
} vlci_rows;

/** The rows of a prompt that a recipe looks at, or a copy, in new memory. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_rows_create(const vlci_recipe *recipe, const vlci_compress_prompt *prompt, int batch,
                                vlci_rows *out);
vlcache_status vlci_rows_copy(const vlci_rows *from, int batch, vlci_rows *out);
bool vlci_rows_equal(const vlci_rows *a, const vlci_rows *b, int batch);
void vlci_rows_release(vlci_rows *rows);

/* ---- score.c: what rows attend to, layer by layer ---------------------------------------------------------
 */

/** What was seen of one prefill. Plans of a comparison that look at the same rows share one. */
typedef struct vlci_scores {
    vlcache_device *device; /**< borrowed */
    vlci_compress_shape shape;
    int references;
    int max_tokens, max_rows; /**< max_rows: most rows that any sequence has looked at */
    int reach;                /**< rows that a walk needs to hold them all */
    int *tokens;              /**< N [batch] */
    vlci_rows rows;
    bool scores_rows, counts_rows; /**< whether any row does */
    double threshold;
    int observed; /**< layers so far */
    cl_mem tokens_on;
    cl_mem rows_on;   /**< the entries, and one more for each sequence: its row in decode */
    cl_mem starts_on; /**< int[2][batch + 1]: where the entries of each sequence begin, the prompt's and
                         decode's */
    cl_mem before_on; /**< int[layers][batch][kv_heads]: cache rows before the prompt */
    cl_mem partial;   /**< uint[batch][heads][row blocks][tiles]: counts of one layer */
    cl_mem sums;      /**< f32 [row blocks][batch][kv_heads][max_tokens] of one layer, where needed */
    cl_mem counts;    /**< ulong[layers][batch][heads] */
    cl_mem *score;    /**< [layers]: f32 [batch][kv_heads][max_tokens] */
} vlci_scores;

/** Room for what the rows see; they are copied. */
vlcache_status vlci_scores_create(vlcache_device *device, const vlci_compress_shape *shape,
                                  const vlci_compress_prompt *prompt, const vlci_rows *rows, double threshold,
                                  vlci_scores **out);

/** A copy of the scores seen so far that more can be added to; shares nothing. */
vlcache_status vlci_scores_copy(const vlci_scores *from, vlci_scores **out);

/** Enqueues a layer: scores = what the rows looked at attend to, and their counts. */
vlcache_status vlci_scores_observe(vlci_scores *scores, int layer, const vlci_attention *a);

/** Enqueues a layer: scores += weight * what the one row of each sequence, decoded after the prompt, attends
 * to. */
vlcache_status vlci_scores_observe_decode(vlci_scores *scores, int layer, const vlci_attention *a,
                                          double weight);

/** Gives up one reference, NULLs; NULL accepted. */
void vlci_scores_release(vlci_scores **scores);

/* ---- plan.c: the plan of one prefill ----------------------------------------------------------------------
 */

typedef struct vlci_compress {
    vlcache_device *device; /**< borrowed */
    vlci_recipe recipe;
    vlci_compress_shape shape;
    vlci_scores *seen; /**< shared or own; NULL with scoring "sink+recent" and uniform budgets */
    int max_tokens;
    int *tokens, *tau; /**< [batch] */
    bool *fallback;    /**< [batch] */
    int32_t *before;   /**< cache rows before the prompt [layers][batch][kv_heads] */
    int n_grids;
    int decoded;                   /**< tokens decoded since the prompt */
    vlcache_compress_layer *layer; /**< [layers][batch], filled by vlci_compress_plan() */
    bool planned;
    cl_mem tokens_on, before_on, grids_on;   /**< int[batch], int[layers][batch][kv_heads], int[n_grids][5] */
    cl_mem kept_on, recent_on, centroids_on; /**< int[layers][batch], after vlci_compress_plan() */
    cl_mem merged, pooled;         /**< f32 [batch][kv_heads][max_tokens] of one layer, where needed */
    cl_mem evicted, labels, means; /**< of one layer: int[batch][kv_heads][max_tokens] twice, f32 */
    cl_mem distances;              /**< f32, to the nearest seed, or the scratch that a rung finds them in */
    cl_mem *kept; /**< [layers]: int [batch][kv_heads][vlci_compress_kept_rows()], once chosen */
} vlci_compress;

/**
 * Prepares one prefill (no text behind any picture: the last 32 rows stand for it, and the statistics say
 * so). Looks at the prompt through the scores of one of the `n_others` plans for the same prompt where it
 * can. `*out` stays NULL, with VLCACHE_OK, when the policy never compresses. Errors: VLCACHE_E_ARGUMENT,
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_compress_create(vlcache_device *device, const vlci_recipe *recipe,
                                    const vlci_compress_shape *shape, const vlci_compress_prompt *prompt,
                                    vlci_compress *const *others, size_t n_others, vlci_compress **out);

/**
 * Enqueues sparsity counts and scores of a layer, after its prefill attention `a`: rotated q, K, row_max,
 * row_lse, seq_start, past, strides. The walk holds the whole prompt. Layers come in order; one that shared
 * scores have seen already costs nothing. Does not block.
 */
vlcache_status vlci_compress_observe(vlci_compress *plan, int layer, const vlci_attention *a);

/** The same for one decoded row of each sequence, added with the recipe's weight. After the last layer the
 * token counts as decoded. */
vlcache_status vlci_compress_observe_decode(vlci_compress *plan, int layer, const vlci_attention *a);

/** Computes every layer's budget: waits for the counts where it depends on them. */
vlcache_status vlci_compress_plan(vlci_compress *plan);

/** Of a layer's new tokens: kept ones of one sequence, and the most of any; with centroids and decoded rows,
 * the rows that the layer will hold of them (the capacity to allocate, plus past and room). */
int vlci_compress_kept(const vlci_compress *plan, int layer, int sequence);
int vlci_compress_kept_rows(const vlci_compress *plan, int layer);
int vlci_compress_rows(const vlci_compress *plan, int layer, int sequence);
int vlci_compress_most_rows(const vlci_compress *plan, int layer);

/** Where compacted rows go: element (b, h, j, d) as in vlci_attention. Capacity in rows of each (b, h). */
typedef struct vlci_compact_to {
    cl_mem k, v;
    cl_mem bias; /**< f32 [batch][kv_heads][capacity]; may be NULL without centroids and earlier biases */
    size_t k_offset, v_offset, seq_stride, head_stride, row_stride;
    int capacity;
} vlci_compact_to;

/**
 * Enqueues the choice and the copy of one layer: rows before the prompt, the kept ones, ascending, centroids,
 * decoded rows. `a`: K, V and strides of the full cache; `bias` and `bias_capacity` of its earlier rows
 * (NULL: none). The new length of head (b, h) is its rows before the prompt + vlci_compress_rows(plan, layer,
 * b). Does not block; the old buffers may be released at once (OpenCL keeps them until the copy is done).
 */
vlcache_status vlci_compress_layer(vlci_compress *plan, int layer, const vlci_attention *a, cl_mem bias,
                                   int bias_capacity, const vlci_compact_to *to);

/** Builds the kernels that vlci_compress_layer() will launch, so that no answer halts for it midway. */
vlcache_status vlci_compress_build(vlci_compress *plan);

/** Positions kept (ascending, from the prompt's first token) by a head of a compacted layer; blocks. kept()
 * values. */
vlcache_status vlci_compress_positions(vlci_compress *plan, int layer, int sequence, int kv_head, int *out);

/** Totals of one sequence, after vlci_compress_plan(). */
void vlci_compress_stats(const vlci_compress *plan, int sequence, vlcache_compress_stats *out);

/** Releases and NULLs; NULL accepted. */
void vlci_compress_destroy(vlci_compress **plan);

/* ---- the steps, each tested alone -------------------------------------------------------------------------
 */

/** sparsity.c: tau of a prompt with `text` post-vision rows, `*fallback` when there are none. */
int vlci_sparsity_rows(int tokens, int text, bool *fallback);
/** Causal entries of the counted rows of a sequence. */
uint64_t vlci_sparsity_entries(const vlci_rows *rows, int sequence);
/** Mean over heads of count / entries. */
double vlci_sparsity_mean(const uint64_t *counts, int heads, uint64_t entries);
/** Enqueues the sums of `tiles` partial counts for each head into the counts of a layer. */
vlcache_status vlci_sparsity_sum(vlci_scores *scores, int layer, int tiles);

/** budget.c: beta, kept, recent, sinks and centroids of each layer (of its sparsity where the allocation
 * needs it); entries `stride` apart. Rounds halves up, as C's round() does for what is not negative. When no
 * layer has any density the budget is shared evenly. A budget of 1 keeps every row of every layer: the clip
 * of step 2 would take rows from sparse layers that no other could use. */
void vlci_budget_share(const vlci_recipe *recipe, int tokens, int layers, int stride,
                       vlcache_compress_layer *layer);

/** pool.c: the scores that a layer's tokens are chosen by; `*out` is `score` itself where nothing is pooled.
 */
vlcache_status vlci_pool_build(const vlci_compress *plan);
vlcache_status vlci_pool(vlci_compress *plan, cl_mem score, cl_mem *out);

/** summary.c: writes a layer's centroids and their biases behind the kept rows, whose positions are chosen.
 * score: what they were chosen by, f32 [batch][kv_heads][max_tokens]; NULL: none. */
vlcache_status vlci_summary_build(vlci_compress *plan);
vlcache_status vlci_summary(vlci_compress *plan, int layer, cl_mem score, const vlci_attention *a,
                            const vlci_compact_to *to);

/** topk.c: for each (b, h): the recent[b] last of tokens[b], the first `sinks` and the best-scored others,
 * kept[b] in all, ascending, into out[(b * kv_heads + h) * rows]; ties: the lower position; NaN scores last.
 * tokens: int[batch] on the device; kept and recent too, from element `first` on. score: f32
 * [batch][kv_heads][stride], or NULL: sinks only. */
vlcache_status vlci_topk_build(vlcache_device *device);
vlcache_status vlci_topk(vlcache_device *device, cl_mem score, int batch, int kv_heads, int stride,
                         cl_mem tokens, cl_mem kept, cl_mem recent, int first, int sinks, cl_mem out,
                         int rows);

#endif
