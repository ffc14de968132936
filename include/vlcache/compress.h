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
 *     vlcache+      uniform, post-vision, defer 4:4, coded: every visual row kept, in few bits: our own; of
 *                   budgets below 0.05 a part of the rows, in more bits: see storage "coded"
 *     centroids     uniform, post-vision, grid:1x5, defer 4:4, spread:0.75: our own, of rows as they are
 *     full          everything is kept
 *     streamingllm  uniform, sink+recent, 4 sinks (arXiv 2309.17453)
 *     h2o           uniform, accumulated (arXiv 2306.14048)
 *     snapkv        uniform, window:32, 1d:7 (arXiv 2404.14469)
 *     pyramidkv     pyramid, window:8, 1d:7 (arXiv 2406.02069)
 *
 * "vlcache+" is "centroids" where rows cannot be coded: of a model whose head_dim is no multiple of 16 up to
 * 256, or whose pictures lie beside the prompt (vlcache_policy_of() tells), and with axes or numbers that do
 * not go together with storage "coded", as pooling "grid:1x5" or storage "bits:4/2".
 */

/** Of a number: as the policy has it. Of an axis: its own value _AS_POLICY, which is 0. */
#define VLCACHE_AS_POLICY (-1)

/*
 * Models whose pictures lie beside the prompt (vlcache_model_info.cross_layers: Llama 3.2 Vision). Their
 * layers of cross-attention hold the rows of the pictures that the conversation's last text sees, and those
 * are what is compressed: N counts them, L those layers, and sparsity, budgets and kept positions (from the
 * picture's first row) are of them alone. Post-vision rows are the text behind the prompt's last picture,
 * without any its mark; each sees all N. None of N is recent. Layers of self-attention see no picture and are
 * kept whole; a turn without a picture compresses nothing. Scoring sink+recent and storage other than exact
 * are refused.
 */

/*
 * Post-vision rows. They are the tau text rows of a prompt that follow any of its pictures: all from the
 * first visual one on that is neither a visual token nor a picture's own mark (the row ends of a picture in
 * tiles, which are visual tokens, names of tiles, times between a video's frames: none of them asks
 * anything). With pictures in one block before the question, as chat templates put them, that is all the
 * text behind the first, line ends between pictures included; where text stands between pictures ("First:
 * <image> Second: <image> Which ...?") " Second: " is among them, although such a row sees only the pictures
 * before it. So a question scores wherever it follows a picture; in front of all pictures it does not. A
 * prompt without text behind a picture has no post-vision row, and its last 32 rows, most often visual ones,
 * stand for them. Only rows of the new turn are meant, and a turn without a picture is not compressed; but
 * with a text model alone every turn is, by its last 32 rows, and with recall every turn of a conversation
 * that has seen a picture, by its text.
 *
 * Where a prompt's rows all see each other (PaliGemma), A has no causal mask in the prompt, and counts and
 * scores are of all N entries of a row.
 */

/*
 * The axes. Behind each value stand its text, as vlcache_compress_set() reads it, and the numbers that it
 * takes; those are fields beside the axis.
 *
 * N: new tokens of the prompt. tau: its post-vision rows, the text behind any picture (where there is none,
 * the last 32 rows, or all of fewer). L: layers. A(t, h, j): attention that row t of the prompt pays, in
 * query head h, to token j. Rows of earlier turns are kept as they are; with recall (engine.h) they are there
 * again, and N counts them.
 */

/** Share beta(l) of the N tokens that layer l keeps; 1 everywhere when the budget is 1. */
typedef enum vlcache_allocation {
    VLCACHE_ALLOCATION_AS_POLICY, /**< what the policy's row has; so for each axis below */
    VLCACHE_ALLOCATION_UNIFORM,   /**< "uniform": alpha */
    VLCACHE_ALLOCATION_SPARSITY,  /**< "sparsity": clip(density(l) / sum of densities * alpha * L, 0.01, 1),
                                       density = 1 - sparsity of the tau rows (VL-Cache, step 2) */
    VLCACHE_ALLOCATION_PYRAMID,   /**< "pyramid": falls evenly from layer 0 to the last, whose share is
                                       alpha / 20 (PyramidKV, arXiv 2406.02069, beta = 20; no layer above
                                       1) */
    VLCACHE_ALLOCATION_MIXED,     /**< "mixed[:UNIFORM]": UNIFORM of uniform + (1 - UNIFORM) of sparsity
                                       (EffiVLM-Bench, arXiv 2506.00479) */
    VLCACHE_ALLOCATION_LAYERS,    /**< "layers:S,S,...": SHARES that somebody chose or fitted, one a layer:
                                       min(1, c s(l)), c such that the mean is alpha */
    VLCACHE_ALLOCATION_HEADS,     /**< "heads:S,S,...": SHARES of the bits, one for each kv head of each
                                       layer, heads of a layer beside each other; of storage "coded" alone,
                                       see there */
} vlcache_allocation;

/** Most layers, or kv heads of all layers, that can be given shares one by one (40 layers of 40 kv heads are
 * 1,600), and how many of them stand in `shares`: the others in `more_shares`. */
#define VLCACHE_SHARES_MOST  2048
#define VLCACHE_SHARES_FIRST 448

/** What a token is scored by: the sum over the query heads of its kv head and over rows t of A. */
typedef enum vlcache_scoring {
    VLCACHE_SCORING_AS_POLICY,
    VLCACHE_SCORING_POST_VISION, /**< "post-vision": the tau rows (VL-Cache, step 3) */
    VLCACHE_SCORING_ACCUMULATED, /**< "accumulated": all N rows (H2O, arXiv 2306.14048) */
    VLCACHE_SCORING_WINDOW,      /**< "window:WINDOW": the last WINDOW rows (SnapKV, arXiv 2404.14469;
                                      PyramidKV) */
    VLCACHE_SCORING_SINK_RECENT, /**< "sink+recent": nothing, only sinks and the last tokens are kept
                                      (StreamingLLM, arXiv 2309.17453): no pooling, no defer */
} vlcache_scoring;

/** Which kv heads choose together. */
typedef enum vlcache_selection {
    VLCACHE_SELECTION_AS_POLICY,
    VLCACHE_SELECTION_PER_HEAD,   /**< "per-head": each kv head keeps its own set, all of one size */
    VLCACHE_SELECTION_PER_LAYER,  /**< "per-layer": one set, scores summed over kv heads */
    VLCACHE_SELECTION_ADAPTIVE,   /**< "adaptive[:FLOOR]": each kv head keeps its own set, of its own size:
                                       a layer's budget is shared over its kv heads by where the best scores
                                       fall, and each keeps at least FLOOR of an even share (Ada-KV, arXiv
                                       2407.11550); not with scoring "sink+recent" */
    VLCACHE_SELECTION_PER_PROMPT, /**< "per-prompt:SHARE": all kv heads of all layers keep one set, SHARE of
                                       the rows, those with the largest sum of scores; of storage "coded"
                                       alone, see there */
} vlcache_selection;

/** Scores of neighbours seen together: each becomes the largest of a window around it. */
typedef enum vlcache_pooling {
    VLCACHE_POOLING_AS_POLICY,
    VLCACHE_POOLING_NONE, /**< "none" */
    VLCACHE_POOLING_LINE, /**< "1d:COLUMNS": that many tokens in the order of the prompt (SnapKV: maximum
                               pooling) */
    VLCACHE_POOLING_GRID, /**< "grid:ROWSxCOLUMNS": a window of patches of the token's own picture, or of its
                               tile grid (anyres); text, class and end-of-row tokens stay as they are */
} vlcache_pooling;

/**
 * Rows that stand for those not kept, out of the same budget: centroids of the rotated keys of the evicted
 * rows, for each kv head; mean key, mean value, and log(count) added to the logit.
 */
typedef enum vlcache_summary {
    VLCACHE_SUMMARY_AS_POLICY,
    VLCACHE_SUMMARY_NONE,   /**< "none" */
    VLCACHE_SUMMARY_KMEANS, /**< "kmeans:CENTROIDS[:ITERATIONS]": from runs of neighbours in the prompt */
    VLCACHE_SUMMARY_SPREAD, /**< "spread:CENTROIDS[:ITERATIONS]": from seeds far from one another
                                 (farthest-first traversal), the squared distance weighted by 1 + score /
                                 mean score, so that what is unlike all else, or much attended to, has a
                                 centroid of its own */
} vlcache_summary;

/**
 * Which rows of the prompt may go. The others are all kept, in every head, whatever their scores; recent rows
 * and sinks that are among them are not kept twice. The budget is then the share of the candidates that
 * stays, and the other rows come on top of it: vlcache_compress_stats.budget_kept is what all of them take.
 * With "visual" the conversation's words stay as they were and only pictures shrink.
 */
typedef enum vlcache_candidates {
    VLCACHE_CANDIDATES_AS_POLICY, /**< all, with every policy */
    VLCACHE_CANDIDATES_ALL,       /**< "all" */
    VLCACHE_CANDIDATES_VISUAL,    /**< "visual": visual tokens, as defined above */
    VLCACHE_CANDIDATES_TEXT,      /**< "text": all that are none. Both go with scores only, and with storage
                                       "exact" or selection "per-prompt" ("text" also where "vlcache+" lets
                                       text go by itself: storage "coded"); not with models whose pictures lie
                                       beside the prompt */
} vlcache_candidates;

/**
 * How rows are stored. Coded ones are never brought back: attention reads them as they are.
 *
 * Each kv head has a basis of its own for its keys and one for its values, made from the prompt's rows; bits
 * go to the dimensions of all heads and layers together, where they take off most error of what the text
 * attends to. All visual rows of a prompt are coded, in every head, and its text rows have 4 bits a number,
 * of a prompt without a picture up to 4 rows at its beginning and 16 at its end, as far as half of the
 * budget has room for them; decoded rows stay as they are, and so does all of the prompt at a budget of 1
 * when no BITS are given. For head_dim in multiples of 16 up to 256. Errors of values count as the layer's
 * output product hears them.
 *
 * With allocation "heads" each kv head has a share of the bits, its basis vectors among them, that somebody
 * chose or fitted, and the measure says only which of its own dimensions have them; what a head has no use
 * for goes to the next.
 *
 * With selection "per-prompt:SHARE" not all of these rows are coded, and what the budget does not spend on
 * the others are bits of those that are: SHARE of the visual rows and of the text rows (candidates "visual"
 * or "text": of these alone), whose scores, summed over the heads of all layers, are largest; with domain
 * "pre" visual rows 16 neighbours at a time, which have tables of phases in common. Which they are is known
 * when all layers are, so that the whole cache is there until then. A row of text takes as many bytes as
 * several visual ones: at a few percent of the bytes text is most of what is kept. An answer that needs all
 * of a picture needs all of its rows: then let text alone go.
 *
 * Policy "vlcache+" does so by itself where a budget is too small for all rows: below 0.025 as with
 * "per-prompt:0.5", from there to below 0.05, with deferral alone, as with "per-prompt:0.25" and candidates
 * "text". Without deferral the last 8 rows of text are among those that are kept. Not where
 * selection, candidates, allocation "heads" or BITS are given ("per-head" keeps all rows), not with text
 * models, and not where layers are coded as they are read, which comes next: there all rows are kept. Where
 * the text of a prompt with a picture would then leave codes less than a sixteenth of the budget, as much of
 * it goes, at any budget, also where layers are coded as they are read: the picture's rows are all kept, and
 * text has half of what means and tables leave, those rows that are looked at most, one at least. So no more
 * bytes are taken than asked for, but of prompts whose means and tables alone are more: in the shipped model
 * of some forty rows at 3%, with few heads of few dimensions of a hundred at 10%.
 *
 * Where the prompt's rows come to more than a small part of the device's memory, and with recall (engine.h)
 * unless "vlcache+" drops rows, layers are coded as they are read, in 8 and 4 bits,
 * and once more, in the bits they are to have, when all layers (and the tokens of `defer`) have been seen: at
 * the peak one layer is there in full, and the others in a quarter of that or less.
 */
typedef enum vlcache_storage {
    VLCACHE_STORAGE_AS_POLICY,
    VLCACHE_STORAGE_EXACT, /**< "exact": as they were computed */
    VLCACHE_STORAGE_CODED, /**< "coded[:BITS][:DOMAIN]": BITS of a visual row and kv head, keys and values
                                together; without them, as many as the budget, in bytes, has room for.
                                DOMAIN: "pre": keys have none of their rotary phase, which takes fewest
                                bits, and most work: decode makes each of them again, in registers, to turn
                                the query by its position. It is what is taken where none is given, but
                                where layers are coded as they are read, which takes blk:16; "blk:RUN": keys
                              keep their phase relative to the middle of their run of RUN rows; "rotated": the
                              whole of it. Heads keep the same rows, so it goes with allocation "uniform" or
                              "heads", pooling "none", summary "none", and selection "per-head", all rows, or
                              "per-prompt"; scores say where bits go */
    VLCACHE_STORAGE_BITS, /**< "bits:K/V[:RUN[:AGE]]": the rows that are kept, centroids among them, at K bits
                             a number of keys and V of values, 2, 3, 4 or 8: keys with a scale and a zero for
                               each channel and RUN rows, values for each row and RUN channels (KIVI, arXiv
                               2402.02750). The budget is a share of the bytes, scales included, so that more
                               rows are kept than exact ones would be: all of them, where it has room.
                               Goes with all other axes. Decoded rows stay as they are, or follow in blocks
                               of AGE; at a budget of 1 all rows of the prompt stay. For head_dim in multiples
                             of 16 up to 256 */
} vlcache_storage;

/** A run of all rows: DOMAIN "rotated". */
#define VLCACHE_RUN_ALL (1 << 20)
/** A run of one row: DOMAIN "pre". */
#define VLCACHE_RUN_ROW 1

/**
 * How a session compresses its KV cache; start from VLCACHE_COMPRESS_OPTIONS_INIT. A policy is a row of a
 * table that gives each axis a value; an axis or a number that is not "as the policy" here replaces the
 * row's. A number is refused where the axis, as it comes out, has no use for it; where neither options nor
 * policy say it, it is the usual one below ("usually"), or has to be given. Strings are borrowed for the call
 * that they are given to: a session copies what it needs.
 */
typedef struct vlcache_compress_options {
    size_t size;        /**< sizeof(vlcache_compress_options); see common.h */
    const char *policy; /**< a name that vlcache_policy_name() lists; NULL: "vlcache". "full" keeps everything
                             and takes no axes */
    double budget;    /**< alpha: share of the whole cache's bytes to keep, biases and all that few bits need
                           included, rounded to whole rows; above 0, at most 1; 0.10 */
    double threshold; /**< p: an attention entry below p times its row's maximum is insignificant; 0..1;
                           0.01 */
    double recent;    /**< share of a layer's rows that are the last tokens of the prompt, at least one;
                           with scoring "sink+recent" all that are no sinks; 0..1; 0.10 */
    int sinks;        /**< first tokens of the prompt that are always kept (StreamingLLM, arXiv 2309.17453);
                           0..1048576; VLCACHE_AS_POLICY */

    vlcache_allocation allocation; /**< VLCACHE_ALLOCATION_AS_POLICY */
    double uniform;                /**< of "mixed": share of uniform, 0..1; VLCACHE_AS_POLICY, usually 0.8 */
    vlcache_scoring scoring;       /**< VLCACHE_SCORING_AS_POLICY */
    int window;                    /**< of "window": rows, 1..1048576; VLCACHE_AS_POLICY */
    vlcache_selection selection;   /**< VLCACHE_SELECTION_AS_POLICY */
    double floor;                  /**< of "adaptive": share of an even part of the layer's budget that every
                                        kv head keeps at least, 0..1; VLCACHE_AS_POLICY, usually 0.2 */
    vlcache_pooling pooling;       /**< VLCACHE_POOLING_AS_POLICY */
    int pool_rows;                 /**< of "grid": odd, 1..255; VLCACHE_AS_POLICY */
    int pool_columns;              /**< of "1d" and "grid": odd, 1..255; VLCACHE_AS_POLICY */
    int defer;           /**< 0, "none": compress once the prompt is read; else, "DEFER[:WEIGHT]", after that
                              many decoded tokens, 1..65536, whose attention to the prompt is added to the
                              scores; decoded rows themselves are always kept; VLCACHE_AS_POLICY */
    double defer_weight; /**< of `defer`: how many times it is added, 0..1000000; VLCACHE_AS_POLICY, usually
                              4 */
    vlcache_summary summary; /**< VLCACHE_SUMMARY_AS_POLICY */
    int iterations;   /**< of "kmeans" and "spread": of k-means, 0..100; VLCACHE_AS_POLICY, usually 3 for
                           "kmeans" and 0 for "spread" */
    double centroids; /**< of "kmeans" and "spread": share of a layer's rows that are centroids, above 0
                           and below 1; VLCACHE_AS_POLICY */
    vlcache_storage storage; /**< VLCACHE_STORAGE_AS_POLICY */
    int run; /**< of "coded": rows of a run, VLCACHE_RUN_ROW or a power of two from 16 to VLCACHE_RUN_ALL; of
                "bits": rows of keys and channels of values that share a scale, from 16 to 1024; 0: the
                policy's, or of "coded" as its storage has it, of "bits" 64 */
    double bits; /**< of "coded": of a row and kv head, 1..4096; 0: the policy's, or as the budget has it */
    int key_bits, value_bits; /**< of "bits": of a number, 2, 3, 4 or 8; 0: the policy's, or 4 and 2 */
    int age; /**< of "bits": decoded rows go to few bits too, in blocks of `age`, once as many younger ones
                  are there: 16..65536; 0: the policy's, or never: they stay exact */
    vlcache_candidates candidates; /**< VLCACHE_CANDIDATES_AS_POLICY */
    int n_shares; /**< of "layers": as many as the model has layers, of "heads" as it has kv heads in all
                     layers, 1..VLCACHE_SHARES_MOST; 0: none given */
    double shares[VLCACHE_SHARES_FIRST]; /**< 0..1000, to six decimals, not all 0; only their proportions
                                              count */
    double share; /**< of "per-prompt": of the rows that are coded, above 0, at most 1; 0: none given */
    double more_shares[VLCACHE_SHARES_MOST - VLCACHE_SHARES_FIRST]; /**< those behind `shares` */
    size_t strict; /**< 1: the 0.01 that allocation "sparsity" (and "mixed", of that part) gives a layer at
                        least adds nothing to the budget: what is above it is scaled down until the mean is
                        alpha, and of an alpha below 0.01 each layer keeps alpha. 0: as published */
} vlcache_compress_options;
#define VLCACHE_COMPRESS_OPTIONS_INIT                                                                        \
    {                                                                                                        \
        sizeof(vlcache_compress_options), "vlcache", 0.10, 0.01, 0.10, VLCACHE_AS_POLICY,                    \
            VLCACHE_ALLOCATION_AS_POLICY, VLCACHE_AS_POLICY, VLCACHE_SCORING_AS_POLICY, VLCACHE_AS_POLICY,   \
            VLCACHE_SELECTION_AS_POLICY, VLCACHE_AS_POLICY, VLCACHE_POOLING_AS_POLICY, VLCACHE_AS_POLICY,    \
            VLCACHE_AS_POLICY, VLCACHE_AS_POLICY, VLCACHE_AS_POLICY, VLCACHE_SUMMARY_AS_POLICY,              \
            VLCACHE_AS_POLICY, VLCACHE_AS_POLICY, VLCACHE_STORAGE_AS_POLICY, 0, 0, 0, 0, 0,                  \
            VLCACHE_CANDIDATES_AS_POLICY, 0, {0}, 0.0, {0}, 0                                                \
    }

/** One layer of one compressed prompt. */
typedef struct vlcache_compress_layer {
    double sparsity; /**< share of insignificant causal entries in the tau rows, mean over query heads; NaN
                          where the policy has no need to measure it */
    double budget;   /**< beta(l): share of the N tokens (or of the candidates) that this layer may keep rows
                          for */
    int kept;        /**< tokens kept in each kv head, as they were, or coded; with selection "adaptive" the
                          mean over kv heads */
    int recent;      /**< of these, the last tokens of the prompt, always kept */
    int sinks;       /**< of these, the first tokens of the prompt, always kept */
    int centroids;   /**< rows that stand for the others: kept + centroids = n(l), and what is no candidate
                          beside it */
    int coded;       /**< of kept: in few bits, with storage "coded" or "bits" all or none */
    double dims[2];  /**< of coded rows: how many dimensions hold 90% of the variance of keys and of values,
                          mean over kv heads, as far as the basis goes: of its last one where it holds less;
                          0: not coded */
    double bits[2];  /**< bits of a coded row, keys and values, mean over kv heads */
} vlcache_compress_layer;

/** A whole compressed prompt (one sequence). Bytes are of keys and values, all layers, without spare room in
 * pages. */
typedef struct vlcache_compress_stats {
    int layers, kv_heads;
    int tokens;          /**< N: tokens that were chosen among */
    int tau;             /**< text tokens behind any picture, or what stands for them */
    bool fallback;       /**< no text follows any picture: tau is the last rows (at most 32) instead */
    int deferred;        /**< tokens that were decoded before compression */
    double budget_asked; /**< alpha */
    double budget_kept;  /**< bytes_kept over bytes_full: rounding and clipping move it from alpha, and so do
                              rows that are no candidates */
    uint64_t bytes_full; /**< of the prompt's rows before compression */
    uint64_t bytes_kept; /**< of the rows kept, the centroids with their biases, and rows in few bits with all
                            that reading them needs */
    uint64_t bytes_peak; /**< most device memory held by the library on this device so far, weights in mapped
                            files aside */
    double bits;         /**< of a coded visual, or quantised, row and kv head, on average; 0: none is */
    uint64_t bytes_codes;  /**< of bytes_kept: coded visual, or quantised, rows, */
    uint64_t bytes_text;   /**< text rows in few bits a number with their scales, */
    uint64_t bytes_bases;  /**< basis vectors with their steps, */
    uint64_t bytes_means;  /**< means, */
    uint64_t bytes_tables; /**< where all of it stands, with phases of runs, */
    uint64_t bytes_scales; /**< of storage "bits": scales and zeros, */
    uint64_t bytes_biases; /**< and biases of rows where centroids are among them */
    int run;               /**< of coded rows: vlcache_compress_options.run as this turn had it; 0: none is */
} vlcache_compress_stats;

/**
 * Checks options: size, known policy, ranges, axes and whether they go together. Does not block. Errors:
 * VLCACHE_E_ARGUMENT; vlcache_last_error() has field ("compress.budget"), value and what it may be (of a
 * policy, the names).
 */
VLCACHE_API vlcache_status vlcache_compress_check(const vlcache_compress_options *options);

/**
 * Checks options and fills `*out` with what they come to: every axis and number the policy's or the usual one
 * where it was not given, and the name of the policy (static storage). With "full" axes stay as they are, and
 * a number that an axis has no use for stays VLCACHE_AS_POLICY: what comes out may go in again. `out->size`
 * says how much there is room for, as for options that go in; what the struct has beyond this library's is
 * zeroed. Errors: as vlcache_compress_check().
 */
VLCACHE_API vlcache_status vlcache_compress_resolve(const vlcache_compress_options *options,
                                                    vlcache_compress_options *out);

/**
 * Sets one of the axes "allocation", "scoring", "selection", "pooling", "defer", "summary", "storage" and
 * "candidates", with its numbers, from its text, as the axes above say it: "mixed:0.8", "layers:1,0.5,2",
 * "heads:1,2", "window:32", "adaptive:0.2", "per-prompt:0.5", "grid:1x5", "4:4", "spread:0.75",
 * "coded:80:blk:32", "bits:4/2:64". Shares and weights are digits, with a point or without, in every locale;
 * one that the text leaves out is the usual one. NULL text: as the policy has it. What does not go together
 * is found by vlcache_compress_check(). `options` stay as they are on failure. Errors: VLCACHE_E_ARGUMENT
 * (NULL options or axis, no such axis, options too small to hold it, or a text that is none of its values;
 * field "compress.pooling", value, what it may be).
 */
VLCACHE_API vlcache_status vlcache_compress_set(vlcache_compress_options *options, const char *axis,
                                                const char *text);

/** Room for the text of any axis, the zero behind it included. */
enum { VLCACHE_AXIS_BYTES = 27648 };

/**
 * What options come to on one of these axes, as text, in the one spelling that vlcache_compress_set() reads
 * back as the same; "" with policy "full". Errors: VLCACHE_E_ARGUMENT (NULL axis or text, no such axis), and
 * as vlcache_compress_check().
 */
VLCACHE_API vlcache_status vlcache_compress_get(const vlcache_compress_options *options, const char *axis,
                                                char text[VLCACHE_AXIS_BYTES]);

/** Name of policy `index` from 0 (static storage), NULL past the last. */
VLCACHE_API const char *vlcache_policy_name(size_t index);

#ifdef __cplusplus
}
#endif
#endif
