/**
 * bpe.h - the model of a tokenizer.json: a piece of text -> ids, by byte pair encoding.
 */
#ifndef VLCI_TOKENS_BPE_H
#define VLCI_TOKENS_BPE_H

#include "tokens/strings.h"

typedef struct vlci_bpe vlci_bpe;

vlcache_status vlci_bpe_read(const vlci_scope *root, vlci_bpe **out);
vlcache_status vlci_bpe_encode(const vlci_bpe *bpe, const char *piece, size_t n, vlci_ids *ids);
int32_t vlci_bpe_id(const vlci_bpe *bpe, const char *content, size_t n);
/** Content of an id, NULL when there is none. */
const char *vlci_bpe_token(const vlci_bpe *bpe, size_t id);
/** Largest id + 1. */
size_t vlci_bpe_size(const vlci_bpe *bpe);
void vlci_bpe_destroy(vlci_bpe **bpe);

#endif
