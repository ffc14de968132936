/**
 * normalize.h - the normalizer of a tokenizer.json: what happens to text before it is cut.
 */
#ifndef VLCI_TOKENS_NORMALIZE_H
#define VLCI_TOKENS_NORMALIZE_H

#include "tokens/strings.h"

typedef enum vlci_normal_kind {
    VLCI_NORMAL_PREPEND,
    VLCI_NORMAL_REPLACE,
    VLCI_NORMAL_UNICODE,
    VLCI_NORMAL_LOWERCASE,
    VLCI_NORMAL_STRIP
} vlci_normal_kind;

typedef struct vlci_normalizer {
    int n;
    struct vlci_normal_step {
        vlci_normal_kind kind;
        char *content; /* prepend, replace */
        vlci_pattern *pattern;
        int form; /* utf8proc options */
        bool left, right;
    } step[VLCI_MAX_STEPS];
} vlci_normalizer;

vlcache_status vlci_normalizer_read(const vlci_scope *root, vlci_normalizer *out);
vlcache_status vlci_normalize(const vlci_normalizer *normalizer, const char *text, size_t n,
                              vlci_string *out);
void vlci_normalizer_release(vlci_normalizer *normalizer);

#endif
