/**
 * plan.h (internal) - from a prompt's attention to a smaller cache: made before the prompt is read, fed while
 * it is, and then applied to the cache of its sequence.
 *
 *     vlci_compress_open(device, &shape, &recipe, &kernels);       when a model or a policy is opened
 *     vlci_compress_create(&kernels, &recipe, &prompt, others, n, &plan);
 *     for each layer and part of the prompt:   attention;  vlci_compress_observe(plan, layer, &look);
 *     either, after each layer (where vlci_compress_by_layer()):
 *                                              vlci_compress_read(plan, layer, kv);
 *     or, when all is read:
 *         recipe.defer times, for each layer of a step:
 *                                              vlci_compress_observe_decode(plan, layer, &look);
 *         at once:                             vlci_compress_all(plan, kv);
 *         or between tokens, till plan->applied:  vlci_compress_some(plan, kv);
 *
 * Where the cache already holds rows (a second turn), those stay as they are, count in the softmax, and are
 * neither candidates nor counted entries: only the N new rows are. With an empty cache that is the paper
 * exactly. With recall all rows of the conversation are there again, and all are candidates: it is one
 * prompt, of which only the last turn is looked at (vlci_compress_prompt.first).
 *
 * Tokens aside (vlci_compress_prompt.kv_layers): a picture that layers of cross-attention look at. The plan's
 * layers are those alone, its tokens the rows that they hold, and what follows is the text's; all text rows
 * see all tokens, none of which is recent. Layers that hold rows of the text are left alone.
 *
 * By layer: a layer shrinks as soon as it is read, so that no more than one layer is there in full. Budgets
 * that depend on the sparsity of all layers are bounded from above by those of the layers read so far
 * (densities only add up), and shrink with each layer; the rows that a smaller budget keeps are among those
 * of a larger one, so that what stays in the end is the published set. To shrink is to move most of what
 * stays: earlier layers do when those read hold an eighth more than alpha * L * N rows, which is what all of
 * them keep, and behind the last.
 *
 * Again: with recall, layers that cannot shrink as they are read (tokens are still to be decoded that say
 * what stays, or budgets depend on all layers and what goes is needed for centroids) need not be there until
 * they can: each is dropped once it is observed, by the prompt's rows or by a decoded one, and comes back
 * from the host for the next token; behind the last each shrinks before the next comes. What stays is what
 * stays where all are there.
 *
 * Coded rows by layer: a layer's rows are held in more bits than they will have as soon as it is read
 * (vlci_coding_hold()), decoded tokens look at these, and bits are shared out over all layers at once in the
 * end, as without: what is there is one layer in full and the others in a quarter of their bytes or less.
 *
 * Between tokens bits are shared out one token later than what they are shared out by is there: by the host,
 * while the device is at that token.
 */
#ifndef VLCI_COMPRESS_PLAN_H
#define VLCI_COMPRESS_PLAN_H

#include "compress/budget.h"
#include "compress/coding.h"
#include "compress/compact.h"
#include "compress/pool.h"
#include "compress/quantise.h"
#include "compress/score.h"
#include "compress/summary.h"
#include "compress/topk.h"
#include "kv/cache.h"

/** All that compressing launches. */
typedef struct vlci_compress_kernels {
    vlcache_device *device;
    vlci_compress_shape shape;
    vlci_score_kernels score;
    vlci_pool_kernels pool;
    vlci_topk_kernels topk;
    vlci_compact_kernels compact;
    vlci_summary_kernels summary;
    vlci_coding_kernels coding;
    vlci_quantise_kernels quantise;
    vlci_summary_room *spare; /**< the engine's, between two prompts; NULL: no scratch stays */
} vlci_compress_kernels;

/** Adds what a recipe needs to kernels that are zero or were opened for others, for the same device and
 * shape. Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT; a shape that is none), VLCACHE_E_UNSUPPORTED,
 * VLCACHE_E_BUILD. */
vlcache_status vlci_compress_open(vlcache_device *device, const vlci_compress_shape *shape,
                                  const vlci_recipe *recipe, vlci_compress_kernels *kernels);

/** Budgets, kept positions: of now, and of before they shrank. */
typedef struct vlci_kept {
    vlci_keep *own;   /**< [layers * kv_heads] */
    cl_mem keep;      /**< the same on the device */
    cl_mem positions; /**< int: of head i from own[i].first on */
    size_t positions_room;
} vlci_kept;

typedef struct vlci_compress {
    const vlci_compress_kernels *kernels; /**< borrowed */
    vlci_recipe recipe;
    vlci_scores *seen; /**< shared or own; NULL with scoring "sink+recent" and even budgets */
    bool looks;        /**< the plan that feeds `seen` while the prompt is read */
    int tokens, tau;
    int *kv_layers; /**< [layers]: of the cache, of tokens aside; NULL: they are the same */
    bool fallback;
    int n_grids;
    cl_mem grids;
    int n_spared;                  /**< tokens that are no candidates */
    cl_mem spared;                 /**< uchar [tokens]: not 0 where one is none; NULL: all are candidates */
    int read;                      /**< layers that are compressed; by layer, those that are read */
    int decoded;                   /**< tokens that were observed since the prompt */
    int behind;                    /**< rows behind the prompt's, in layers that are being compressed */
    double at_once;                /**< products of rows and centroids of a vlci_compress_some() */
    int summing;                   /**< layers whose centroids are being searched for; 0: none */
    bool applied;                  /**< the cache is compressed */
    double measured;               /**< vlci_clock_ms() when counts were last there; 0: they never were */
    bool unmeasured;               /**< sparsity has still to be read */
    vlcache_compress_layer *layer; /**< [layers]; kept: the mean over heads where they differ */
    vlci_kept now, before;
    cl_mem to; /**< vlci_kv_head: heads that are being filled */
    vlci_pooled pooled;
    vlci_summary_room room;
    vlci_coding *coding;         /**< of rows that are stored in few bits; NULL: none are */
    vlci_quantising *quantising; /**< of rows in few bits a number; NULL: none are, or not yet */
} vlci_compress;

/**
 * Prepares one prompt (no text behind any picture: the last 32 rows stand for it, and the statistics say so).
 * Looks at the prompt through the scores of one of the `n_others` plans for the same prompt where it can.
 * `*out` stays NULL, with VLCACHE_OK, when the policy never compresses. Errors: VLCACHE_E_ARGUMENT,
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_compress_create(const vlci_compress_kernels *kernels, const vlci_recipe *recipe,
                                    const vlci_compress_prompt *prompt, vlci_compress *const *others,
                                    size_t n_others, vlci_compress **out);

/** Enqueues sparsity counts and scores of a layer, after the attention of a part of the prompt. Shared scores
 * are fed by one of their plans only. Does not block. */
vlcache_status vlci_compress_observe(vlci_compress *plan, int layer, const vlci_look *look);

/** All of a layer is observed of a prompt that shrinks by layer, or at once behind the last: what that waits
 * for is on its way from here on. Does not block. */
vlcache_status vlci_compress_ask(vlci_compress *plan, int layer, bool by_layer);

/** The same for one decoded row, added with the recipe's weight. After the last layer the token counts as
 * decoded. */
vlcache_status vlci_compress_observe_decode(vlci_compress *plan, int layer, const vlci_look *look);

/** Whether layers shrink as they are read: nothing is waited for, and what goes is not needed later. */
bool vlci_compress_by_layer(const vlci_recipe *recipe);

/** Rows that a head of a layer keeps at most while a prompt of `tokens` is read by layer, all layers
 * together: what it takes beyond one layer in full. */
int64_t vlci_compress_rows_bound(const vlci_recipe *recipe, int tokens, int layers);

/** Layer `layer` of the prompt has been read, and its rows count in `kv`: it shrinks, and earlier ones with
 * it. Of recipes that do not shrink by layer, and have no codes: it has come back, after all layers were
 * observed and tokens decoded, whose rows stand behind the prompt's; it shrinks alone. Blocks where budgets
 * depend on counts, and after the last layer, whose statistics tell of all. Errors: the device's,
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_compress_read(vlci_compress *plan, int layer, vlci_kv *kv);

/** Where rows are coded, and layers come back: before vlci_compress_read(), what bits are shared out by has
 * to come of each of them, one by one. Blocks in the first and behind the last. Errors: as those of it. */
vlcache_status vlci_compress_measure(vlci_compress *plan, int layer, vlci_kv *kv);

/** Whether something goes, or is stored in few bits. */
static inline bool vlci_compress_shrinks(const vlci_recipe *r) {
    return r->compresses && (r->budget < 1.0 || vlci_coding_wanted(r));
}

/** Compresses every layer that is not yet; further rows may stand behind the prompt and what was observed.
 * Blocks where budgets depend on counts. */
vlcache_status vlci_compress_all(vlci_compress *plan, vlci_kv *kv);

/** The same as far as one step of decode can wait for it: a search for centroids goes on where it was, in the
 * rows that are still all there; all else, and short prompts, are done at once. */
vlcache_status vlci_compress_some(vlci_compress *plan, vlci_kv *kv);

/** Once the cache is compressed: what the prompt was looked at with goes. */
void vlci_compress_tidy(vlci_compress *plan);

/** Behind vlci_compress_some(), once the cache is compressed: what is only told of it. Blocks. */
vlcache_status vlci_compress_settle(vlci_compress *plan);

/** Calls of vlci_compress_some() that a prompt of so many tokens takes, at most where budgets are even. */
int vlci_compress_calls(const vlci_compress_shape *shape, const vlci_recipe *recipe, int tokens);

/** Kept positions (from the prompt's first token) of a head of a compressed cache, ascending, those of coded
 * rows among them; how many, in `*n`. `out` has room for N. Blocks. */
vlcache_status vlci_compress_positions(vlci_compress *plan, int layer, int kv_head, int *out, int *n);

/** Totals. */
void vlci_compress_stats(const vlci_compress *plan, vlcache_compress_stats *out);

/** Releases and NULLs; NULL accepted. */
void vlci_compress_destroy(vlci_compress **plan);

#endif
