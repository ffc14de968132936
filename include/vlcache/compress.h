/**
 * compress.h - how much of the KV cache is kept after prefill, and what was kept: VL-Cache (arXiv
 * 2410.23317).
 */
#ifndef VLCACHE_COMPRESS_H
#define VLCACHE_COMPRESS_H

#include "common.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How a session compresses its KV cache; start from VLCACHE_COMPRESS_OPTIONS_INIT. */
typedef struct vlcache_compress_options {
    size_t size; /**< sizeof(vlcache_compress_options) */
    const char
        *policy;   /**< "vlcache" (default when NULL) or "full" (keeps everything, reads nothing below) */
    double budget; /**< alpha: share of the whole cache to keep, above 0, at most 1; 0.10 */
    double
        threshold; /**< p: an attention entry below p times its row's maximum is insignificant; 0..1; 0.01 */
    double recent; /**< share of a layer's kept rows that are the last of the prompt, at least one; 0.10 */
    bool per_head; /**< each kv head keeps its own set (true), or one set a layer, scores summed over heads */
} vlcache_compress_options;
#define VLCACHE_COMPRESS_OPTIONS_INIT                                                                        \
    { sizeof(vlcache_compress_options), "vlcache", 0.10, 0.01, 0.10, true }

/** One layer of one compressed prompt. */
typedef struct vlcache_compress_layer {
    double sparsity; /**< share of insignificant causal entries in the tau rows, mean over query heads */
    double budget;   /**< beta(l): share of the N tokens this layer may keep, after clipping to [0.01, 1] */
    int kept;        /**< n(l): tokens kept in each kv head */
    int recent;      /**< of these, the last tokens of the prompt, always kept */
} vlcache_compress_layer;

/** A whole compressed prompt (one sequence). Bytes are of keys and values, all layers, without spare room. */
typedef struct vlcache_compress_stats {
    int layers, kv_heads;
    int tokens;    /**< N: new tokens of the prompt */
    int tau;       /**< prompt rows that were looked at */
    bool fallback; /**< no token follows the last visual one: tau is the last rows (at most 32) instead */
    double budget_asked; /**< alpha */
    double budget_kept;  /**< sum of n(l) over L * N: rounding and clipping move it from alpha */
    uint64_t bytes_full; /**< of the prompt's rows before compression */
    uint64_t bytes_kept; /**< of the rows kept */
    uint64_t bytes_peak; /**< most device memory held by the library on this device so far */
} vlcache_compress_stats;

/**
 * Checks options: known policy, ranges, size. Does not block. Errors: VLCACHE_E_ARGUMENT (field, value and
 * range; an unknown policy's message lists the names).
 */
VLCACHE_API vlcache_status vlcache_compress_check(const vlcache_compress_options *options);

/** Name of policy `index` from 0 (static storage), NULL past the last. */
VLCACHE_API const char *vlcache_policy_name(size_t index);

#ifdef __cplusplus
}
#endif
#endif
