/**
 * decode.h - the decoder of a tokenizer.json: ids -> text, at once or as they come.
 */
#ifndef VLCI_TOKENS_DECODE_H
#define VLCI_TOKENS_DECODE_H

#include "tokens/vocabulary.h"

typedef enum vlci_decode_kind {
    VLCI_DECODE_JOIN, /* no decoder: tokens with blanks between */
    VLCI_DECODE_REPLACE,
    VLCI_DECODE_FALLBACK,
    VLCI_DECODE_FUSE,
    VLCI_DECODE_STRIP,
    VLCI_DECODE_METASPACE,
    VLCI_DECODE_BYTES
} vlci_decode_kind;

typedef struct vlci_decoder {
    int n;
    struct vlci_decode_step {
        vlci_decode_kind kind;
        vlci_pattern *pattern;
        char *content;   /* replace: by what; strip: the character; metaspace: the character for a blank */
        int start, stop; /* strip */
        bool keep_first; /* metaspace: blanks of the first token stay */
        bool fused;      /* what comes in is one token in pieces */
    } step[VLCI_MAX_STEPS];
} vlci_decoder;

vlcache_status vlci_decoder_read(const vlci_scope *root, vlci_decoder *out);
void vlci_decoder_release(vlci_decoder *decoder);

/** The ids' text, special tokens skipped; new memory. */
vlcache_status vlci_decoder_run(const vlci_decoder *decoder, const vlci_vocabulary *vocabulary,
                                const int32_t *ids, size_t n, char **text);

/** Streaming decoder: gives text as soon as it is whole UTF-8; concatenated pieces equal vlci_decoder_run().
 */
typedef struct vlci_detokenizer vlci_detokenizer;
vlcache_status vlci_decoder_stream(const vlci_decoder *decoder, const vlci_vocabulary *vocabulary,
                                   vlci_detokenizer **out);

/** Takes one id; `*piece` (owned by the decoder, valid until the next call, may be "") is the text that
 * became certain. */
vlcache_status vlci_detokenizer_push(vlci_detokenizer *stream, int32_t id, const char **piece);

/** Ends the stream: what was held back, broken UTF-8 as U+FFFD. */
vlcache_status vlci_detokenizer_flush(vlci_detokenizer *stream, const char **piece);

void vlci_detokenizer_destroy(vlci_detokenizer **stream);

#endif
