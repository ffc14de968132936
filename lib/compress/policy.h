/**
 * policy.h - from the options that a caller gives to a recipe, in which every axis has a value.
 */
#ifndef VLCI_COMPRESS_POLICY_H
#define VLCI_COMPRESS_POLICY_H

#include "vlcache/compress.h"

typedef enum vlci_allocation {
    VLCI_ALLOCATE_MIXED,
    VLCI_ALLOCATE_PYRAMID,
    VLCI_ALLOCATE_LAYERS,
    VLCI_ALLOCATE_HEADS
} vlci_allocation;
typedef enum vlci_scoring {
    VLCI_SCORE_NONE,
    VLCI_SCORE_POST_VISION,
    VLCI_SCORE_ACCUMULATED,
    VLCI_SCORE_WINDOW
} vlci_scoring;
typedef enum vlci_pooling { VLCI_POOL_NONE, VLCI_POOL_LINE, VLCI_POOL_GRID } vlci_pooling;

typedef enum vlci_candidates {
    VLCI_CANDIDATES_ALL,
    VLCI_CANDIDATES_VISUAL,
    VLCI_CANDIDATES_TEXT
} vlci_candidates;

/** Options with every axis filled in, as numbers. No strings but static ones. */
typedef struct vlci_recipe {
    const char *policy;
    bool compresses; /**< false: "full"; of what is below only the threshold counts, for probes */
    double budget, threshold;
    double recent; /**< share of the rows kept; less than 0: none is (a plan's own, of tokens aside) */
    int sinks;
    vlci_allocation allocation;
    double uniform; /**< of a mixed allocation: 1 uniform, 0 by sparsity */
    vlci_scoring scoring;
    int window;
    bool per_head;
    bool adaptive; /**< of per_head: a layer's budget is shared over its kv heads by where the best scores
                      fall (Ada-KV, arXiv 2407.11550) */
    double floor;  /**< of adaptive: share of an even part that every head keeps at least, 0..1 */
    vlci_pooling pooling;
    int pool_rows, pool_columns;
    int defer; /**< decoded tokens before compression; 0: none */
    double defer_weight;
    double centroids; /**< share of a layer's rows; 0: none */
    bool spread;      /**< seeds lie far from one another instead of side by side */
    int iterations;
    bool coded;       /**< rows are kept in few bits, the same in every head */
    double voted;     /**< of coded: the share of the candidates that is kept; 0: every row */
    bool votes_yield; /**< nobody asked for votes: where no row is of a picture, or layers are coded as they
                         are read, all rows are kept */
    bool text_yields; /**< of coded: nobody said which rows there are to be, nor their bits: text goes as far
                         as it leaves codes too little of the budget */
    double least; /**< share of its rows that a layer keeps at least where budgets are measured; 0: 0.01 */
    bool strict;  /**< there layers keep no more than the budget together, which least may not exceed */
    double bits;  /**< of a coded row and kv head; 0: as the budget has it */
    int run; /**< coded rows that are rotated together, 1: each for itself; of quantised ones: rows of keys,
                channels of values that share a scale */
    int run_by_layer; /**< what run is where layers are coded as they are read; 0: the same */
    bool quantised;   /**< rows that are kept are stored in few bits a number; the budget is one of bytes */
    int key_bits, value_bits;
    int age; /**< of quantised: decoded rows, in blocks of that many, that go to few bits when as many younger
                ones are there; 0: they stay as they are */
    vlci_candidates candidates;
    int n_shares; /**< of an allocation by layers: of the model's layers; by heads: of its kv heads in all of
                     them */
    double shares[VLCACHE_SHARES_MOST];
} vlci_recipe;

/** Whether budgets depend on the sparsity that the prompt shows. */
static inline bool vlci_policy_measures(const vlci_recipe *r) {
    return r->allocation == VLCI_ALLOCATE_MIXED && r->uniform < 1.0 && r->budget < 1.0;
}

/** Reads options, every axis that is not given from the policy's row. few: whether the model's rows can be
 * stored in few bits. Errors: those of vlcache_compress_check(). */
vlcache_status vlci_policy_read(const vlcache_compress_options *options, bool few, vlci_recipe *out);

/** Why options come to another policy than they name, as a failure is told (vlcache_last_error()). */
void vlci_policy_explain(const vlcache_compress_options *options, bool few);

#endif
