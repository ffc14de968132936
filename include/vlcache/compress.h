/**
 * compress.h - how much of the KV cache is kept after prefill, which rows, and what was kept: VL-Cache (arXiv
 * 2410.23317), the policies it is compared with, and the axes that all of them are made of.
 *
 *     budget of each layer      score of each token      scores seen together     what is chosen
 *     allocation          ->    scoring, defer     ->    selection, pooling  ->   recent + sinks + the best,
 *                                                                                 summary of the others
 */
#ifndef VLCACHE_COMPRESS_H
#define VLCACHE_COMPRESS_H

#include "common.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The policies, with their axes as defined below:
 *
 *     vlcache       sparsity, post-vision (arXiv 2410.23317)
 *     vlcache+      uniform, post-vision, grid:1x5, defer 4:4, spread:0.75: our own
 *     full          everything is kept
 *     streamingllm  uniform, sink+recent, 4 sinks (arXiv 2309.17453)
 *     h2o           uniform, accumulated (arXiv 2306.14048)
 *     snapkv        uniform, window:32, 1d:7 (arXiv 2404.14469)
 *     pyramidkv     pyramid, window:8, 1d:7 (arXiv 2406.02069)
 */

/** For vlcache_compress_options.sinks: as the policy has it. */
#define VLCACHE_AS_POLICY (-1)

/*
 * Post-vision rows. They are the tau text rows of a prompt that follow any of its pictures: all that is no
 * visual token, from the first visual one on (the row ends of a picture in tiles are visual tokens: they
 * belong to it). With pictures in one block before the question, as chat templates put them, that is all the
 * text behind the first, line ends between pictures included; where text stands between pictures ("First:
 * <image> Second: <image> Which ...?") " Second: " is among them, although such a row sees only the pictures
 * before it. So a question scores wherever it follows a picture; in front of all pictures it does not. A
 * prompt without text behind a picture has no post-vision row, and its last 32 rows, most often visual ones,
 * stand for them. Only rows of the new turn are meant, and a turn without a picture is not compressed.
 */

/**
 * How a session compresses its KV cache; start from VLCACHE_COMPRESS_OPTIONS_INIT. A policy is a row of a
 * table that gives each axis a value; an axis that is not NULL here replaces the row's. Strings are borrowed
 * for the call that they are given to, except that a session copies what it needs.
 *
 * N: new tokens of the prompt. tau: its post-vision rows, the text behind any picture (where there is none,
 * the last 32 rows, or all of fewer).
 * L: layers. A(t, h, j): attention that row t of the prompt pays, in query head h, to token j. Rows of
 * earlier turns are kept as they are.
 */
typedef struct vlcache_compress_options {
    size_t size;        /**< sizeof(vlcache_compress_options) */
    const char *policy; /**< a name that vlcache_policy_name() lists; NULL: "vlcache". "full" keeps everything
                             and takes no axes */
    double budget;      /**< alpha: share of the whole cache to keep, above 0, at most 1; 0.10 */
    double threshold;   /**< p: an attention entry below p times its row's maximum is insignificant; 0..1;
                             0.01 */
    double recent;      /**< share of a layer's rows that are the last tokens of the prompt, at least one;
                             with "sink+recent" all that are no sinks; 0.10 */
    int sinks;          /**< first tokens of the prompt that are always kept (StreamingLLM, arXiv 2309.17453);
                             VLCACHE_AS_POLICY */
    /**
     * Share beta(l) of the N tokens that layer l keeps; 1 everywhere when the budget is 1. NULL or
     * "uniform"        alpha
     * "sparsity"       clip(density(l) / sum of densities * alpha * L, 0.01, 1), density = 1 - sparsity of
     *                  the tau rows (VL-Cache, step 2)
     * "pyramid"        falls evenly from layer 0 to the last, whose share is alpha / 20 (PyramidKV, arXiv
     *                  2406.02069, beta = 20; no layer above 1)
     * "mixed[:SHARE]"  SHARE of uniform + (1 - SHARE) of sparsity, 0..1; 0.8 (EffiVLM-Bench, arXiv
     *                  2506.00479)
     */
    const char *allocation;
    /**
     * What a token is scored by: the sum over the query heads of its kv head and over rows t of A. NULL or
     * "post-vision"    the tau rows (VL-Cache, step 3)
     * "accumulated"    all N rows (H2O, arXiv 2306.14048)
     * "window:W"       the last W rows (SnapKV, arXiv 2404.14469; PyramidKV)
     * "sink+recent"    nothing: sinks and the last tokens (StreamingLLM)
     */
    const char *scoring;
    /** "per-head": each kv head keeps its own set; "per-layer": one set, scores summed over kv heads; NULL */
    const char *selection;
    /**
     * Scores of neighbours seen together: each becomes the largest of a window around it. NULL or
     * "none"
     * "1d:W"           W tokens in the order of the prompt, W odd (SnapKV: maximum pooling)
     * "grid:HxW"       H rows of W patches of the token's own picture, or of its tile grid (anyres), both
     *                  odd; text, class and end-of-row tokens stay as they are
     */
    const char *pooling;
    /**
     * When: "none" once the prompt is read; "D[:WEIGHT]" after D decoded tokens, whose attention to the
     * prompt is added to the scores, WEIGHT times (4). Decoded rows themselves are always kept. NULL
     */
    const char *defer;
    /**
     * Rows that stand for those not kept, out of the same budget: centroids of the rotated keys of the
     * evicted rows, for each kv head; mean key, mean value, and log(count) added to the logit. SHARE of a
     * layer's rows are centroids, above 0 and below 1; ITERATIONS of k-means, up to 100. NULL or
     * "none"
     * "kmeans:SHARE[:ITERATIONS]"  from runs of neighbours in the prompt; 3
     * "spread:SHARE[:ITERATIONS]"  from seeds far from one another (farthest-first traversal), the squared
     *                              distance weighted by 1 + score / mean score, so that what is unlike all
     *                              else, or much attended to, has a centroid of its own; 0
     */
    const char *summary;
} vlcache_compress_options;
#define VLCACHE_COMPRESS_OPTIONS_INIT                                                                        \
    {                                                                                                        \
        sizeof(vlcache_compress_options), "vlcache", 0.10, 0.01, 0.10, VLCACHE_AS_POLICY, NULL, NULL, NULL,  \
            NULL, NULL, NULL                                                                                 \
    }

/** One layer of one compressed prompt. */
typedef struct vlcache_compress_layer {
    double sparsity; /**< share of insignificant causal entries in the tau rows, mean over query heads; NaN
                          where the policy has no need to measure it */
    double budget;   /**< beta(l): share of the N tokens that this layer may keep rows for */
    int kept;        /**< tokens kept in each kv head, as they were */
    int recent;      /**< of these, the last tokens of the prompt, always kept */
    int sinks;       /**< of these, the first tokens of the prompt, always kept */
    int centroids;   /**< rows that stand for the others: kept + centroids = n(l) */
} vlcache_compress_layer;

/** A whole compressed prompt (one sequence). Bytes are of keys and values, all layers, without spare room. */
typedef struct vlcache_compress_stats {
    int layers, kv_heads;
    int tokens;          /**< N: new tokens of the prompt */
    int tau;             /**< text tokens behind any picture, or what stands for them */
    bool fallback;       /**< no text follows any picture: tau is the last rows (at most 32) instead */
    int deferred;        /**< tokens that were decoded before compression */
    double budget_asked; /**< alpha */
    double budget_kept;  /**< sum of n(l) over L * N: rounding and clipping move it from alpha */
    uint64_t bytes_full; /**< of the prompt's rows before compression */
    uint64_t bytes_kept; /**< of the rows kept and the centroids with their biases */
    uint64_t bytes_peak; /**< most device memory held by the library on this device so far */
} vlcache_compress_stats;

/**
 * Checks options: known policy, ranges, axes and whether they go together, size. Does not block. Errors:
 * VLCACHE_E_ARGUMENT (field, value and what it may be; an unknown policy's message lists the names).
 */
VLCACHE_API vlcache_status vlcache_compress_check(const vlcache_compress_options *options);

/**
 * Checks options and fills `*out` with what they come to: every axis the policy's where it was NULL (strings
 * static, or those of `options`), the policy's sinks. With "full" axes stay NULL. Errors: as
 * vlcache_compress_check().
 */
VLCACHE_API vlcache_status vlcache_compress_resolve(const vlcache_compress_options *options,
                                                    vlcache_compress_options *out);

/** Name of policy `index` from 0 (static storage), NULL past the last. */
VLCACHE_API const char *vlcache_policy_name(size_t index);

#ifdef __cplusplus
}
#endif
#endif
