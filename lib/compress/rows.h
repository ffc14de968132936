/**
 * rows.h (internal) - which rows of a prompt are looked at, and what each is looked at for.
 */
#ifndef VLCI_COMPRESS_ROWS_H
#define VLCI_COMPRESS_ROWS_H

#include "cl/shared.h"
#include "compress/policy.h"
#include "core/status.h"

/** A prompt; borrowed for the call. */
typedef struct vlci_compress_prompt {
    int tokens;           /**< N */
    int first;            /**< rows before it are candidates, but were read in earlier turns: they are not
                               looked at */
    int rows;             /**< that may look at them; 0: the tokens themselves */
    const int *kv_layers; /**< [layers of the plan]: which layer of the cache each is, where the tokens lie in
                               still layers: aside of the rows that look at them. NULL: they are its rows */
    int text;             /**< of these, post-vision rows: text behind any picture */
    const int *text_rows; /**< which those are, ascending; NULL: the last */
    const int32_t *past;  /**< cache rows before the prompt [layers][kv_heads]; NULL: none */
    const int *visual;    /**< [n_visual]: visual tokens, ascending; NULL: all but the post-vision rows */
    int n_visual;
    const vlci_token_grid *grids; /**< disjoint */
    int n_grids;
    bool together; /**< all layers are there in full until the plan chooses: they may be looked at then */
} vlci_compress_prompt;

/** Rows that look at the tokens: from row `first` on. */
static inline int vlci_rows_looking(const vlci_compress_prompt *prompt) {
    return (prompt->rows ? prompt->rows : prompt->tokens) - prompt->first;
}

/** Entries VLCI_ROW(row, what), rows ascending. */
typedef struct vlci_rows {
    int n;
    int32_t *entry;
} vlci_rows;

/** tau of a prompt of which `tokens` rows are looked at, `text` of them post-vision; `*fallback` when there
 * are none and the last rows stand for them. */
int vlci_rows_tau(int tokens, int text, bool *fallback);

/** The rows of a prompt that a recipe looks at, or a copy, in new memory. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_rows_create(const vlci_recipe *recipe, const vlci_compress_prompt *prompt,
                                vlci_rows *out);
vlcache_status vlci_rows_copy(const vlci_rows *from, vlci_rows *out);
bool vlci_rows_equal(const vlci_rows *a, const vlci_rows *b);

/** Index of the first entry of a row that is at least `row`; n: none is. */
int vlci_rows_from(const vlci_rows *rows, int row);

/** Whether a token is visual, asked of all of them in order; `*next`: 0 for the first, then left alone. */
bool vlci_rows_visual(const vlci_compress_prompt *prompt, int row, int *next);

void vlci_rows_release(vlci_rows *rows);

#endif
