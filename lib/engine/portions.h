/**
 * portions.h (internal) - a turn whose videos are read in parts, the cache compressed behind each: no more
 * than one part is there in full, however long a video is.
 *
 *     rows of the prompt:   text, first frames | next frames | ... | last frames, text
 *     each part:            look -> read -> hear the question -> compress, as a turn of its own behind those
 *                           before
 *
 * K parts share what the budget leaves of one: each keeps budget / K of its rows, and as many more as there
 * is text in front of the videos or behind them. A single part is the turn that it would be without.
 * So that parts keep what is asked about, the question's rows go through behind each, as decoded ones do
 * before a deferred compression, and are taken out again.
 */
#ifndef VLCI_ENGINE_PORTIONS_H
#define VLCI_ENGINE_PORTIONS_H

#include "compress/plan.h"
#include "engine/prompt.h"

/** Rows row .. row + n - 1 of the prompt. */
typedef struct vlci_portion {
    int row, n;
    int text; /**< of these, outside of pictures and videos */
    vlci_look_range look;
} vlci_portion;

typedef struct vlci_portions {
    const vlci_prompt *whole; /**< borrowed */
    vlci_portion *part;       /**< [n] */
    int n, at;                /**< parts; the one that is read */
    int longest;              /**< rows of the longest part */
    int question;             /**< first row of the text behind all that is seen */
    int32_t (*position)[3];   /**< [whole->n] */
    int32_t next;             /**< position behind all */
    vlci_recipe recipe;       /**< of this part; its budget is this part's */
    double budget;            /**< of one part alone */
    vlci_prompt prompt;       /**< this part, as a prompt: ids, where, after_at and grids its own */
    int lists;                /**< layers * kv heads */
    int32_t **kept;           /**< [lists]: positions that earlier parts kept, each [rows[i]] */
    int *rows, *room;
    vlcache_compress_layer *layer; /**< [layers]: sums over earlier parts */
    vlcache_compress_stats stats;  /**< the same */
    uint64_t peak;                 /**< most bytes that the parts held */
} vlci_portions;

/**
 * Cuts a prompt into parts of `frames` frames of its videos each, the first position at `start`. `*out` stays
 * NULL where that is one part. Errors: VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_portions_create(const vlcache_model *model, const vlci_prompt *prompt,
                                    const vlci_recipe *recipe, int frames, int32_t start,
                                    vlci_portions **out);

/** The part that is read now as a prompt and a recipe, in `portions->prompt` and `portions->recipe`. Errors:
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_portions_begin(vlci_portions *portions);

/** Where a row behind the part that is read now comes. */
int32_t vlci_portions_behind(const vlci_portions *portions);

/** Rows that all heads of all layers keep at most, all parts together. */
int64_t vlci_portions_rows_bound(const vlci_portions *portions, int layers);

/** The part's plan has been applied to the cache: notes what it kept and goes on to the next part; of the
 * last part nothing is noted. Blocks. Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_portions_note(vlci_portions *portions, vlci_compress *plan);

/** What all parts kept, the last of which is the plan's (NULL: nothing is compressed). */
void vlci_portions_stats(const vlci_portions *portions, const vlci_compress *plan,
                         vlcache_compress_stats *out);
vlcache_compress_layer vlci_portions_layer(const vlci_portions *portions, const vlcache_compress_layer *last,
                                           int layer);

/** Positions that a head of a layer kept, ascending; `*n` holds how many of the last part stand in `out`
 * already, and is the number of all afterwards. `out` has room for all rows. */
void vlci_portions_positions(const vlci_portions *portions, int list, int *out, int *n);

/** Releases and NULLs; NULL accepted. */
void vlci_portions_destroy(vlci_portions **portions);

#endif
