/**
 * score.h (internal) - what the rows that are looked at attend to: scores of tokens, and counts of
 * insignificant entries.
 *
 * One object for a prompt, fed layer by layer, part by part of the prompt, and then by decoded rows;
 * together, rows are held until all layers are there, and then one launch scores all of them. Plans of a
 * comparison that look at the same rows share one.
 */
#ifndef VLCI_COMPRESS_SCORE_H
#define VLCI_COMPRESS_SCORE_H

#include "compress/looks.h"
#include "compress/rows.h"
#include "compress/sparsity.h"
#include "compute/attention.h"
#include "device/fetch.h"

extern const vlci_ladder vlci_score_ladder;

/** A kernel of the pass, and how it cuts its work. */
typedef struct vlci_score_kernel {
    const vlci_kernel *kernel; /**< NULL: there is none */
    int columns, rows;         /**< of a work-group; of a block of rows */
    size_t items;              /**< of a work-group */
} vlci_score_kernel;

typedef struct vlci_score_kernels {
    int rung;               /**< of score.c */
    vlci_score_kernel any;  /**< for rows of any kind */
    vlci_score_kernel many; /**< for many rows of which none is counted, where the rung has another */
    const vlci_kernel *sum, *hold;
    vlci_sparsity_kernels sparsity;
    vlci_looks *spare; /**< the engine's, between two prompts; NULL: none stays */
    vlci_fetch *fetch; /**< the engine's, for counts that are asked for early; NULL: none are */
} vlci_score_kernels;

/** Chooses the rung and builds its kernels. Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_score_open(vlcache_device *device, const vlci_compress_shape *shape,
                               vlci_score_kernels *out);

typedef struct vlci_scores {
    vlcache_device *device;            /**< borrowed */
    const vlci_score_kernels *kernels; /**< borrowed */
    vlci_compress_shape shape;
    int references;
    int tokens; /**< N */
    vlci_rows rows;
    int decoded;  /**< what a decoded row is looked at for: VLCI_ROW_... */
    bool counted; /**< whether any row is */
    bool whole;   /**< its rows see all of the prompt, as attention was that looked: not causal */
    double threshold;
    bool *begun;    /**< [layers]: something was seen */
    bool *tallied;  /**< [layers]: something was counted */
    cl_mem rows_on; /**< the entries, one more, of a decoded row, and those of decoded rows that are held */
    cl_mem before;  /**< vlci_keep [layers][kv_heads], of which only `before` counts */
    cl_mem partial, sums; /**< scratch, and its bytes */
    size_t partial_bytes, sums_bytes;
    cl_mem counts;      /**< ulong [layers][heads]; NULL where nothing is counted */
    cl_mem score;       /**< f32 [layers][kv_heads][N] */
    vlci_looks looks;   /**< rows that are held, in the order of the list */
    bool settled;       /**< they have been scored: no more are held */
    int behind;         /**< decoded rows that may be held */
    int held;           /**< of these, so many are, in all layers */
    double held_weight; /**< theirs */
} vlci_scores;

/** Room for what the rows see; they are copied. `decoded`: what decoded rows are looked at for. Together
 * where prompt->together says so and the rows are few, up to `behind` decoded ones among them. Errors:
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_scores_create(vlcache_device *device, const vlci_score_kernels *kernels,
                                  const vlci_compress_shape *shape, const vlci_compress_prompt *prompt,
                                  const vlci_rows *rows, int decoded, int behind, double threshold,
                                  vlci_scores **out);

/** A copy of what was seen so far, all of it settled, to which more can be added; shares nothing. */
vlcache_status vlci_scores_copy(const vlci_scores *from, vlci_scores **out);

/** Enqueues a layer: scores += what the listed rows among `look` attend to, and their counts. */
vlcache_status vlci_scores_observe(vlci_scores *scores, int layer, const vlci_look *look);

/** Enqueues a layer: scores = (scores +) weight * what one decoded row attends to. */
vlcache_status vlci_scores_observe_decode(vlci_scores *scores, int layer, const vlci_look *look,
                                          double weight, bool add);

/** Counts of these layers are on their way, once all is enqueued that is seen of them: vlci_scores_counts()
 * of the same waits for no more than that. Errors: the device's. */
vlcache_status vlci_scores_ask(const vlci_scores *scores, int layer, int layers);

/** Whether prompt rows, or the next decoded row, are held rather than scored when they are observed. */
bool vlci_scores_holds(const vlci_scores *scores, bool decoded);

/** Enqueues what was held, where anything was and has not been scored yet: the prompt's keys are in `kv`, of
 * layer 0 from entry `heads_at` on, the others' behind them. */
vlcache_status vlci_scores_settle(vlci_scores *scores, const vlci_kv_view *kv, size_t heads_at);

/** Counts of some layers, [layers][heads]; blocks. */
vlcache_status vlci_scores_counts(const vlci_scores *scores, int layer, int layers, uint64_t *out);

/** Gives up one reference, NULLs; NULL accepted. */
void vlci_scores_release(vlci_scores **scores);

#endif
