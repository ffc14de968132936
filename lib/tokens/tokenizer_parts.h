/**
 * tokenizer_parts.h - the rooms of a tokenizer, in the order text flows through them: added tokens ->
 * normalizer -> pre-tokenizer -> BPE -> post-processor; and back: ids -> tokens -> decoder.
 */
#ifndef VLCI_TOKENS_TOKENIZER_PARTS_H
#define VLCI_TOKENS_TOKENIZER_PARTS_H

#include "tokens/strings.h"
#include "tokens/tokenizer.h"

enum { VLCI_MAX_STEPS = 32, VLCI_MAX_TOKEN_ID = (1 << 24) - 1 };

/** Ids that grow. */
typedef struct vlci_ids {
    int32_t *at;
    size_t n, room;
} vlci_ids;

vlcache_status vlci_ids_add(vlci_ids *ids, int32_t id);

/* ---- normalizer ---- */
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

/* ---- pre-tokenizer ---- */
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

/** The visible character of a byte, and back (-1: none), as GPT-2 maps them. */
uint32_t vlci_byte_to_char(unsigned char byte);
int vlci_char_to_byte(uint32_t code);

/* ---- model ---- */
typedef struct vlci_bpe vlci_bpe;

vlcache_status vlci_bpe_read(const vlci_scope *root, vlci_bpe **out);
vlcache_status vlci_bpe_encode(const vlci_bpe *bpe, const char *piece, size_t n, vlci_ids *ids);
int32_t vlci_bpe_id(const vlci_bpe *bpe, const char *content, size_t n);
/** Content of an id, NULL when there is none. */
const char *vlci_bpe_token(const vlci_bpe *bpe, size_t id);
/** Largest id + 1. */
size_t vlci_bpe_size(const vlci_bpe *bpe);
void vlci_bpe_destroy(vlci_bpe **bpe);

/* ---- decoder ---- */
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

/* ---- the whole ---- */
typedef struct vlci_added_token {
    char *content; /* as written */
    char *match;   /* as it stands in normalized text, where it is matched there */
    size_t n;      /* bytes of match */
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
} vlci_added_token;

struct vlci_tokenizer {
    vlci_normalizer normalizer;
    vlci_pretokenizer pretokenizer;
    vlci_decoder decoder;
    vlci_bpe *bpe;
    vlci_added_token *added; /* longest match first */
    size_t n_added;
    unsigned char starts[2][256]; /* whether an added token begins with that byte, [normalized] */
    vlci_ids before, after;       /* post-processor */
    size_t size;
    const char **content; /* of each id, NULL for holes; borrowed */
    bool *special;
};

#endif
