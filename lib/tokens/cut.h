/**
 * cut.h - the pre-tokenizer of a tokenizer.json: text -> pieces.
 */
#ifndef VLCI_TOKENS_CUT_H
#define VLCI_TOKENS_CUT_H

#include "tokens/strings.h"

typedef enum vlci_behaviour {
    VLCI_SPLIT_ISOLATED,
    VLCI_SPLIT_REMOVED,
    VLCI_SPLIT_PREVIOUS,
    VLCI_SPLIT_NEXT,
    VLCI_SPLIT_CONTIGUOUS
} vlci_behaviour;

typedef struct vlci_pretokenizer {
    int n;
    struct vlci_cut_step {
        char *replacement; /* metaspace: stands for a blank */
        char *prefix;      /* put in front where the text does not begin with it */
        bool prefix_first; /* only at the start of the input */
        vlci_pattern *pattern;
        vlci_behaviour behaviour;
        bool invert;
        bool bytes; /* byte level: bytes become visible characters */
    } step[VLCI_MAX_STEPS];
} vlci_pretokenizer;

/** Pieces of a text: `at` cuts up `text`, flag: stands at the start of the input. */
typedef struct vlci_pieces {
    vlci_string text;
    vlci_spans spans;
} vlci_pieces;

vlcache_status vlci_pretokenizer_read(const vlci_scope *root, vlci_pretokenizer *out);
vlcache_status vlci_pretokenize(const vlci_pretokenizer *pretokenizer, const char *text, size_t n, bool first,
                                vlci_pieces *out);
void vlci_pretokenizer_release(vlci_pretokenizer *pretokenizer);
void vlci_pieces_release(vlci_pieces *pieces);

#endif
