/**
 * entries.h (internal) - the entries of a picture's layout as they are written one after the other: text and
 * runs of visual tokens in turn.
 */
#ifndef VLCI_MODELS_ENTRIES_H
#define VLCI_MODELS_ENTRIES_H

#include "models/family.h"
#include "tokens/tokenizer.h"

/** Starts as {.tokenizer, .mark}, the rest zero. */
typedef struct vlci_entries {
    const vlci_tokenizer *tokenizer; /**< borrowed; NULL (random weights): each text is one row of id 0 */
    const char *mark;                /**< the family's: a token on either side of each text */
    int32_t *at;                     /**< [n], owned */
    int n, room, n_tokens;
} vlci_entries;

/** Writes the ids of a text that stands between control tokens: as in "<image>\n<image>", without a beginning
 * of its own. Errors: those of vlci_entries_tokens() and vlci_tokenizer_encode(). */
vlcache_status vlci_entries_text(vlci_entries *entries, const char *text);

/** Writes n visual tokens, and returns the entry of the first in `*first` (may be NULL). Errors:
 * VLCACHE_E_CONTEXT_FULL (more rows than any text model takes), VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_entries_tokens(vlci_entries *entries, int64_t n, int *first);

/** Makes the layout of what has been written: its entries, room for the rest. Errors:
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_entries_end(const vlci_entries *entries, int n_grids, bool sources,
                                vlci_picture_layout *out);

/** Frees and zeroes. */
void vlci_entries_release(vlci_entries *entries);

#endif
