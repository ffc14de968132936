/**
 * past.h (internal) - what a conversation's rows are, for who chooses among all of them again: which are
 * visual and how they lie in their pictures, and where each stands.
 */
#ifndef VLCI_ENGINE_PAST_H
#define VLCI_ENGINE_PAST_H

#include "compress/rows.h"
#include "engine/prompt.h"

/** All zero: nothing was said. */
typedef struct vlci_past {
    int32_t (*position)[3]; /**< [rows] */
    int *visual;            /**< [n_visual]: rows of visual tokens, ascending */
    vlci_token_grid *grids; /**< [n_grids]: by rows of the conversation */
    int rows, n_visual, n_grids;
} vlci_past;

/** What to go back to. */
typedef struct vlci_past_mark {
    int rows, n_visual, n_grids;
} vlci_past_mark;

static inline vlci_past_mark vlci_past_here(const vlci_past *past) {
    return (vlci_past_mark){past->rows, past->n_visual, past->n_grids};
}

/** Forgets what was added since. */
void vlci_past_cut(vlci_past *past, vlci_past_mark mark);

/** Adds a prompt, whose first token stands at `position`. Errors: VLCACHE_E_NO_MEMORY; nothing has changed
 * then. */
vlcache_status vlci_past_ask(vlci_past *past, const vlcache_model *model, const vlci_prompt *prompt,
                             int32_t position);

/** Adds decoded rows up to `rows`, the last of which stands before `position`. Errors: as vlci_past_ask(). */
vlcache_status vlci_past_answer(vlci_past *past, int rows, int32_t position);

/**
 * The conversation as a prompt to compress, its last turn being `prompt`, added already, which alone is
 * looked at: text behind any picture of the conversation. `*text_rows`: new memory, which `out` borrows; so
 * it does the past. Errors: VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_past_prompt(const vlci_past *past, const vlci_prompt *prompt, int **text_rows,
                                vlci_compress_prompt *out);

/** A copy in new memory. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_past_copy(const vlci_past *from, vlci_past *out);

void vlci_past_release(vlci_past *past);

#endif
