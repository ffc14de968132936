/*
 * decode.c - ids back to text: a chain of decoder steps, each of which passes on what has become certain
 * and holds back the rest. Decoding at once is the same chain, flushed.
 */
#include "tokens/decode.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

typedef struct vlci_decode_step step;

/* ---- reading ------------------------------------------------------------------------------------------- */

static vlcache_status read_content(const vlci_scope *scope, const char *key, const char *fallback,
                                   char **out) {
    const char *text = fallback;
    vlcache_status status = vlci_json_string(scope, key, &text);
    if (status) return status;
    if (!text) return vlci_json_bad(scope, key, "is missing");
    *out = vlci_strdup(text);
    return *out ? VLCACHE_OK : vlci_fail_memory("tokenizer decoder");
}

static vlcache_status read_strip(const vlci_scope *scope, step *s) {
    uint32_t code;
    vlcache_status status = read_content(scope, "content", " ", &s->content);
    if (!status) status = vlci_json_int(scope, "start", 0, 1 << 20, &s->start);
    if (!status) status = vlci_json_int(scope, "stop", 0, 1 << 20, &s->stop);
    if (status) return status;
    if (!*s->content || (size_t)vlci_utf8_char(s->content, strlen(s->content), &code) != strlen(s->content))
        return vlci_json_bad(scope, "content", "must be one character");
    if (s->fused && s->stop)
        return vlci_json_unsupported(scope, "stop",
                                     "must be 0 behind a Fuse: the end is not known in a stream");
    return VLCACHE_OK;
}

static vlcache_status read_metaspace(const vlci_scope *scope, step *s) {
    const char *scheme = NULL;
    bool prefix = true;
    vlcache_status status = read_content(scope, "replacement", "\xe2\x96\x81", &s->content);
    if (!status) status = vlci_json_bool(scope, "add_prefix_space", &prefix);
    if (!status) status = vlci_json_string(scope, "prepend_scheme", &scheme);
    if (!status && !*s->content) status = vlci_json_bad(scope, "replacement", "must be one character");
    if (!status) s->keep_first = scheme ? strcmp(scheme, "never") == 0 : !prefix;
    return status ? status : vlci_pattern_make(s->content, false, &s->pattern);
}

static vlcache_status read_step(const vlci_scope *scope, const char *type, step *s) {
    static const struct {
        const char *name;
        vlci_decode_kind kind;
    } kinds[] = {{"Replace", VLCI_DECODE_REPLACE},     {"ByteFallback", VLCI_DECODE_FALLBACK},
                 {"Fuse", VLCI_DECODE_FUSE},           {"Strip", VLCI_DECODE_STRIP},
                 {"Metaspace", VLCI_DECODE_METASPACE}, {"ByteLevel", VLCI_DECODE_BYTES}};
    size_t k = 0, n = sizeof kinds / sizeof *kinds;
    while (k < n && strcmp(type, kinds[k].name) != 0) k++;
    if (k == n)
        return vlci_json_unsupported(scope, "type",
                                     "decoder \"%.64s\"; Sequence, Replace, ByteFallback, Fuse, "
                                     "Strip, Metaspace and ByteLevel are supported",
                                     type);
    vlcache_status status = VLCACHE_OK;
    s->kind = kinds[k].kind;
    if (s->kind == VLCI_DECODE_REPLACE) {
        status = vlci_pattern_read(scope, "pattern", &s->pattern);
        if (!status) status = read_content(scope, "content", NULL, &s->content);
        if (!status && s->fused && !vlci_pattern_is_char(s->pattern))
            status = vlci_json_unsupported(scope, "pattern", "must be one character behind a Fuse");
    }
    if (s->kind == VLCI_DECODE_STRIP) status = read_strip(scope, s);
    if (s->kind == VLCI_DECODE_METASPACE) status = read_metaspace(scope, s);
    if (s->kind == VLCI_DECODE_BYTES && s->fused)
        status = vlci_json_unsupported(scope, "type", "ByteLevel behind a Fuse");
    return status;
}

static vlcache_status read_any(const vlci_scope *scope, int depth, vlci_decoder *out) {
    const char *type = "";
    const json_t *list;
    vlcache_status status = vlci_json_string(scope, "type", &type);
    if (status) return status;
    if (strcmp(type, "Sequence") != 0) {
        if (out->n == VLCI_MAX_STEPS) return vlci_json_unsupported(scope, "type", "more than 32 decoders");
        const step *last = out->n ? &out->step[out->n - 1] : NULL;
        step *s = &out->step[out->n++];
        s->fused = last && (last->fused || last->kind == VLCI_DECODE_FUSE || last->kind == VLCI_DECODE_BYTES);
        return read_step(scope, type, s);
    }
    status = vlci_json_array(scope, "decoders", &list);
    if (!status && depth > 8) status = vlci_json_unsupported(scope, "decoders", "nested too deeply");
    for (size_t i = 0; !status && i < json_array_size(list); i++) {
        vlci_scope child = *scope;
        child.object = json_array_get(list, i);
        if (!json_is_object(child.object)) return vlci_json_bad(scope, "decoders", "must hold objects");
        status = read_any(&child, depth + 1, out);
    }
    return status;
}

vlcache_status vlci_decoder_read(const vlci_scope *root, vlci_decoder *out) {
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "decoder", &scope);
    if (status) return status;
    if (scope.object) return read_any(&scope, 0, out);
    out->n = 1;
    out->step[0].kind = VLCI_DECODE_JOIN;
    return VLCACHE_OK;
}

void vlci_decoder_release(vlci_decoder *decoder) {
    for (int i = 0; i < decoder->n; i++) {
        vlci_free(decoder->step[i].content);
        vlci_pattern_destroy(&decoder->step[i].pattern);
    }
    decoder->n = 0;
}

/* ---- the chain ----------------------------------------------------------------------------------------- */

struct vlci_detokenizer {
    const vlci_decoder *decoder;
    const vlci_vocabulary *vocabulary;
    vlci_string out; /* what became certain, zero-terminated when it is handed out */
    struct held {
        vlci_string bytes;   /* held back */
        vlci_string scratch; /* what is passed on */
        vlci_spans spans;    /* replace: where the pattern stands; kept, so that a token allocates nothing */
        bool started;        /* something came in */
        int cut;             /* strip: characters taken off the start; -1: it has ended */
    } held[VLCI_MAX_STEPS];
};

static vlcache_status feed(vlci_detokenizer *d, int i, const char *token, size_t n);

static vlcache_status feed_replaced(vlci_detokenizer *d, int i, const char *token, size_t n, const char *by) {
    struct held *h = &d->held[i];
    h->scratch.n = 0;
    vlcache_status status =
        vlci_string_add_replaced(&h->scratch, d->decoder->step[i].pattern, token, n, by, &h->spans);
    return status ? status : feed(d, i + 1, h->scratch.data, h->scratch.n);
}

/* A run of byte tokens ends: text if it is UTF-8 as a whole, else one U+FFFD for each byte. */
static vlcache_status end_fallback(vlci_detokenizer *d, int i) {
    struct held *h = &d->held[i];
    size_t at = 0;
    int length = 1;
    vlcache_status status = VLCACHE_OK;
    if (!h->bytes.n) return VLCACHE_OK;
    while (at < h->bytes.n && (length = vlci_utf8_step(h->bytes.data + at, h->bytes.n - at)) > 0)
        at += (size_t)length;
    h->scratch.n = 0;
    if (length > 0) status = vlci_string_add(&h->scratch, h->bytes.data, h->bytes.n);
    for (size_t k = 0; k < h->bytes.n && length <= 0 && !status; k++)
        status = vlci_string_add_char(&h->scratch, 0xfffd);
    h->bytes.n = 0;
    return status ? status : feed(d, i + 1, h->scratch.data, h->scratch.n);
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static vlcache_status feed_fallback(vlci_detokenizer *d, int i, const char *t, size_t n) {
    bool byte = n == 6 && memcmp(t, "<0x", 3) == 0 && t[5] == '>' && hex(t[3]) >= 0 && hex(t[4]) >= 0;
    if (byte && !d->decoder->step[i].fused) {
        char value = (char)(hex(t[3]) * 16 + hex(t[4]));
        return vlci_string_add(&d->held[i].bytes, &value, 1);
    }
    vlcache_status status = end_fallback(d, i);
    return status ? status : feed(d, i + 1, t, n);
}

static vlcache_status feed_strip(vlci_detokenizer *d, int i, const char *token, size_t n) {
    const step *s = &d->decoder->step[i];
    struct held *h = &d->held[i];
    size_t length = strlen(s->content);
    if (!s->fused) h->cut = 0;
    while (h->cut >= 0 && n > 0) {
        bool taken = h->cut < s->start && n >= length && memcmp(token, s->content, length) == 0;
        h->cut = taken ? h->cut + 1 : -1;
        if (taken) token += length, n -= length;
    }
    for (int k = 0; k < s->stop && n >= length && memcmp(token + n - length, s->content, length) == 0; k++)
        n -= length;
    return feed(d, i + 1, token, n);
}

/* Byte level: passes on whole characters and U+FFFD for broken ones, holds back the beginning of one. */
static vlcache_status feed_bytes(vlci_detokenizer *d, int i, const char *token, size_t n) {
    struct held *h = &d->held[i];
    size_t before = h->bytes.n, at, keep;
    uint32_t code;
    vlcache_status status = VLCACHE_OK;
    for (at = 0; at < n && !status;) {
        at += (size_t)vlci_utf8_char(token + at, n - at, &code);
        int byte = vlci_char_to_byte(code);
        if (byte < 0) break;
        char value = (char)byte;
        status = vlci_string_add(&h->bytes, &value, 1);
        if (at == n) before = h->bytes.n;
    }
    if (!status && n && before != h->bytes.n) { /* not byte level after all: as it stands */
        h->bytes.n = before;
        status = vlci_string_add(&h->bytes, token, n);
    }
    if (status) return status;
    for (keep = 0; keep < h->bytes.n;) {
        int length = vlci_utf8_step(h->bytes.data + keep, h->bytes.n - keep);
        if (length == 0) break;
        keep += (size_t)abs(length);
    }
    h->scratch.n = 0;
    if (keep) status = vlci_string_add_lossy(&h->scratch, h->bytes.data, keep);
    if (keep) memmove(h->bytes.data, h->bytes.data + keep, h->bytes.n - keep);
    h->bytes.n -= keep;
    return status ? status : feed(d, i + 1, h->scratch.data, h->scratch.n);
}

/* The end of the line: a C string. A zero byte, which would hide what follows, comes as U+FFFD. */
static vlcache_status put_out(vlci_detokenizer *d, const char *text, size_t n) {
    const char *zero;
    vlcache_status status = VLCACHE_OK;
    while (!status && n && (zero = memchr(text, 0, n))) {
        size_t before = (size_t)(zero - text);
        status = vlci_string_add(&d->out, text, before);
        if (!status) status = vlci_string_add_char(&d->out, 0xfffd);
        text += before + 1;
        n -= before + 1;
    }
    return status ? status : vlci_string_add(&d->out, text, n);
}

static vlcache_status feed(vlci_detokenizer *d, int i, const char *token, size_t n) {
    if (i == d->decoder->n) return put_out(d, token, n);
    const step *s = &d->decoder->step[i];
    bool first = !d->held[i].started || s->fused;
    d->held[i].started = true;
    switch (s->kind) {
    case VLCI_DECODE_JOIN: {
        vlcache_status status = first ? VLCACHE_OK : feed(d, i + 1, " ", 1);
        return status ? status : feed(d, i + 1, token, n);
    }
    case VLCI_DECODE_REPLACE:
        return feed_replaced(d, i, token, n, s->content);
    case VLCI_DECODE_METASPACE:
        return feed_replaced(d, i, token, n, first && !s->keep_first ? "" : " ");
    case VLCI_DECODE_FALLBACK:
        return feed_fallback(d, i, token, n);
    case VLCI_DECODE_FUSE:
        return feed(d, i + 1, token, n);
    case VLCI_DECODE_STRIP:
        return feed_strip(d, i, token, n);
    case VLCI_DECODE_BYTES:
        return feed_bytes(d, i, token, n);
    }
    return VLCACHE_E_INTERNAL;
}

static vlcache_status push(vlci_detokenizer *d, int32_t id) {
    const vlci_vocabulary *v = d->vocabulary;
    if (id < 0 || (size_t)id >= v->size || v->special[id] || !v->content[id]) return VLCACHE_OK;
    return feed(d, 0, v->content[id], strlen(v->content[id]));
}

static vlcache_status flush(vlci_detokenizer *d) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < d->decoder->n && !status; i++) {
        struct held *h = &d->held[i];
        vlci_decode_kind kind = d->decoder->step[i].kind;
        if (kind == VLCI_DECODE_FALLBACK) status = end_fallback(d, i);
        if (kind == VLCI_DECODE_BYTES && h->bytes.n) status = feed(d, i + 1, "\xef\xbf\xbd", 3);
    }
    for (int i = 0; i < d->decoder->n; i++) {
        d->held[i].bytes.n = 0;
        d->held[i].started = false;
        d->held[i].cut = 0;
    }
    return status;
}

static vlcache_status hand_out(vlci_detokenizer *d, vlcache_status status, const char **piece) {
    if (!status) status = vlci_string_add(&d->out, "", 1);
    *piece = status ? "" : d->out.data;
    return status;
}

vlcache_status vlci_decoder_stream(const vlci_decoder *decoder, const vlci_vocabulary *vocabulary,
                                   vlci_detokenizer **out) {
    *out = vlci_calloc(1, sizeof **out);
    if (!*out) return vlci_fail_memory("detokenizer");
    (*out)->decoder = decoder;
    (*out)->vocabulary = vocabulary;
    return VLCACHE_OK;
}

vlcache_status vlci_detokenizer_push(vlci_detokenizer *stream, int32_t id, const char **piece) {
    stream->out.n = 0;
    return hand_out(stream, push(stream, id), piece);
}

vlcache_status vlci_detokenizer_flush(vlci_detokenizer *stream, const char **piece) {
    stream->out.n = 0;
    return hand_out(stream, flush(stream), piece);
}

void vlci_detokenizer_destroy(vlci_detokenizer **stream) {
    if (!stream || !*stream) return;
    for (int i = 0; i < VLCI_MAX_STEPS; i++) {
        vlci_free((*stream)->held[i].bytes.data);
        vlci_free((*stream)->held[i].scratch.data);
        vlci_free((*stream)->held[i].spans.at);
    }
    vlci_free((*stream)->out.data);
    vlci_free(*stream);
    *stream = NULL;
}

vlcache_status vlci_decoder_run(const vlci_decoder *decoder, const vlci_vocabulary *vocabulary,
                                const int32_t *ids, size_t n, char **text) {
    vlci_detokenizer *stream;
    const char *whole;
    *text = NULL;
    vlcache_status status = vlci_decoder_stream(decoder, vocabulary, &stream);
    if (status) return status;
    for (size_t i = 0; i < n && !status; i++) status = push(stream, ids[i]);
    if (!status) status = flush(stream);
    status = hand_out(stream, status, &whole);
    if (!status) {
        *text = stream->out.data;
        stream->out.data = NULL;
    }
    vlci_detokenizer_destroy(&stream);
    return status;
}
