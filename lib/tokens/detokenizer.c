/*
 * detokenizer.c - ids back to text: a chain of decoder steps, each of which passes on what has become certain
 * and holds back the rest. Decoding at once is the same chain, flushed. Below: strings, UTF-8 and patterns.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "tokens/strings.h"
#include "tokens/tokenizer_parts.h"

typedef struct vlci_decode_step step;

/* ---- reading ---------------------------------------------------------------------------------------------
 */

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

/* ---- the chain -------------------------------------------------------------------------------------------
 */

struct vlci_detokenizer {
    const vlci_tokenizer *tokenizer;
    vlci_string out; /* what became certain, zero-terminated when it is handed out */
    struct held {
        vlci_string bytes;   /* held back */
        vlci_string scratch; /* what is passed on */
        bool started;        /* something came in */
        int cut;             /* strip: characters taken off the start; -1: it has ended */
    } held[VLCI_MAX_STEPS];
};

static vlcache_status feed(vlci_detokenizer *d, int i, const char *token, size_t n);

static vlcache_status feed_replaced(vlci_detokenizer *d, int i, const char *token, size_t n, const char *by) {
    const step *s = &d->tokenizer->decoder.step[i];
    struct held *h = &d->held[i];
    vlci_spans spans = {0};
    h->scratch.n = 0;
    vlcache_status status = vlci_pattern_cut(s->pattern, token, n, &spans);
    for (size_t k = 0; k < spans.n && !status; k++) {
        vlci_span part = spans.at[k];
        status = part.flag ? vlci_string_add(&h->scratch, by, strlen(by))
                           : vlci_string_add(&h->scratch, token + part.begin, part.end - part.begin);
    }
    vlci_free(spans.at);
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
    if (byte && !d->tokenizer->decoder.step[i].fused) {
        char value = (char)(hex(t[3]) * 16 + hex(t[4]));
        return vlci_string_add(&d->held[i].bytes, &value, 1);
    }
    vlcache_status status = end_fallback(d, i);
    return status ? status : feed(d, i + 1, t, n);
}

static vlcache_status feed_strip(vlci_detokenizer *d, int i, const char *token, size_t n) {
    const step *s = &d->tokenizer->decoder.step[i];
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

static vlcache_status feed(vlci_detokenizer *d, int i, const char *token, size_t n) {
    if (i == d->tokenizer->decoder.n) return vlci_string_add(&d->out, token, n);
    const step *s = &d->tokenizer->decoder.step[i];
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
    const vlci_tokenizer *t = d->tokenizer;
    if (id < 0 || (size_t)id >= t->size || t->special[id] || !t->content[id]) return VLCACHE_OK;
    return feed(d, 0, t->content[id], strlen(t->content[id]));
}

static vlcache_status flush(vlci_detokenizer *d) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < d->tokenizer->decoder.n && !status; i++) {
        struct held *h = &d->held[i];
        vlci_decode_kind kind = d->tokenizer->decoder.step[i].kind;
        if (kind == VLCI_DECODE_FALLBACK) status = end_fallback(d, i);
        if (kind == VLCI_DECODE_BYTES && h->bytes.n) status = feed(d, i + 1, "\xef\xbf\xbd", 3);
    }
    for (int i = 0; i < d->tokenizer->decoder.n; i++) {
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

vlcache_status vlci_detokenizer_create(const vlci_tokenizer *tokenizer, vlci_detokenizer **out) {
    *out = vlci_calloc(1, sizeof **out);
    if (!*out) return vlci_fail_memory("detokenizer");
    (*out)->tokenizer = tokenizer;
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
    }
    vlci_free((*stream)->out.data);
    vlci_free(*stream);
    *stream = NULL;
}

vlcache_status vlci_tokenizer_decode(const vlci_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                     char **text) {
    vlci_detokenizer *stream;
    const char *whole;
    *text = NULL;
    vlcache_status status = vlci_detokenizer_create(tokenizer, &stream);
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

/* ---- text
 * -------------------------------------------------------------------------------------------------- */

vlcache_status vlci_string_add(vlci_string *text, const char *data, size_t n) {
    if (n > SIZE_MAX / 4 - text->n) return vlci_fail_memory("text");
    if (!text->data || text->n + n > text->room) {
        size_t room = 2 * (text->n + n) + 16;
        char *grown = vlci_realloc(text->data, room, 1);
        if (!grown) return vlci_fail_memory("text");
        text->data = grown;
        text->room = room;
    }
    if (n) memcpy(text->data + text->n, data, n);
    text->n += n;
    return VLCACHE_OK;
}

vlcache_status vlci_string_add_char(vlci_string *text, uint32_t code) {
    char b[4];
    if (code < 0x80) return b[0] = (char)code, vlci_string_add(text, b, 1);
    if (code < 0x800) {
        b[0] = (char)(0xc0 | code >> 6);
        b[1] = (char)(0x80 | (code & 63));
        return vlci_string_add(text, b, 2);
    }
    if (code < 0x10000) {
        b[0] = (char)(0xe0 | code >> 12);
        b[1] = (char)(0x80 | (code >> 6 & 63));
        b[2] = (char)(0x80 | (code & 63));
        return vlci_string_add(text, b, 3);
    }
    b[0] = (char)(0xf0 | code >> 18);
    b[1] = (char)(0x80 | (code >> 12 & 63));
    b[2] = (char)(0x80 | (code >> 6 & 63));
    b[3] = (char)(0x80 | (code & 63));
    return vlci_string_add(text, b, 4);
}

int vlci_utf8_step(const char *data, size_t n) {
    const unsigned char *s = (const unsigned char *)data;
    unsigned low = 0x80, high = 0xbf;
    int rest;
    if (s[0] < 0x80) return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        rest = 1;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        rest = 2;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        rest = 3;
    else
        return -1;
    if (s[0] == 0xe0) low = 0xa0;
    if (s[0] == 0xed) high = 0x9f;
    if (s[0] == 0xf0) low = 0x90;
    if (s[0] == 0xf4) high = 0x8f;
    for (int i = 1; i <= rest; i++, low = 0x80, high = 0xbf) {
        if ((size_t)i >= n) return 0;
        if (s[i] < low || s[i] > high) return -i;
    }
    return rest + 1;
}

int vlci_utf8_char(const char *data, size_t n, uint32_t *code) {
    const unsigned char *s = (const unsigned char *)data;
    int length = vlci_utf8_step(data, n);
    if (length <= 0) return *code = 0xfffd, 1;
    *code = length == 1 ? s[0] : s[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) *code = *code << 6 | (s[i] & 63);
    return length;
}

vlcache_status vlci_string_add_lossy(vlci_string *text, const char *data, size_t n) {
    vlcache_status status = VLCACHE_OK;
    size_t good = 0, at = 0; /* [good, at) is valid and not copied yet */
    while (at < n && !status) {
        int length = vlci_utf8_step(data + at, n - at);
        if (length > 0) {
            at += (size_t)length;
            continue;
        }
        status = vlci_string_add(text, data + good, at - good);
        if (!status) status = vlci_string_add_char(text, 0xfffd);
        at = length ? at + (size_t)-length : n;
        good = at;
    }
    return status ? status : vlci_string_add(text, data + good, at - good);
}

bool vlci_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

vlcache_status vlci_spans_add(vlci_spans *spans, size_t begin, size_t end, bool flag) {
    if (spans->n == spans->room) {
        vlci_span *grown = vlci_realloc(spans->at, 2 * spans->room + 16, sizeof *grown);
        if (!grown) return vlci_fail_memory("pieces of a text");
        spans->at = grown;
        spans->room = 2 * spans->room + 16;
    }
    spans->at[spans->n++] = (vlci_span){begin, end, flag};
    return VLCACHE_OK;
}

struct vlci_pattern {
    char *literal;
    size_t n;
    pcre2_general_context *memory;
    pcre2_code *code; /* NULL: literal */
};

static void *regex_alloc(PCRE2_SIZE bytes, void *user) {
    (void)user;
    return vlci_alloc(bytes, 1);
}

static void regex_free(void *block, void *user) {
    (void)user;
    vlci_free(block);
}

/* "\s" and "\S" spelled out; all else as it stands. */
static vlcache_status spell_out(const char *text, vlci_string *out) {
    static const char spaces[] =
        "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
        "\\x{202f}\\x{205f}\\x{3000}";
    bool class = false;
    vlcache_status status = VLCACHE_OK;
    for (const char *c = text; *c && !status; c++) {
        bool blank = c[0] == '\\' && c[1] == 's', solid = c[0] == '\\' && c[1] == 'S' && !class;
        if (blank || solid) {
            if (!class) status = vlci_string_add(out, solid ? "[^" : "[", solid ? 2 : 1);
            if (!status) status = vlci_string_add(out, spaces, sizeof spaces - 1);
            if (!status && !class) status = vlci_string_add(out, "]", 1);
            c++;
        } else if (c[0] == '\\' && c[1]) {
            status = vlci_string_add(out, c++, 2);
        } else {
            if (*c == '[') class = true;
            if (*c == ']') class = false;
            status = vlci_string_add(out, c, 1);
        }
    }
    return status;
}

static vlcache_status compile(vlci_pattern *pattern, const char *text) {
    vlci_string spelled = {0};
    pcre2_compile_context *context = NULL;
    int error = 0;
    PCRE2_SIZE at = 0;
    vlcache_status status = spell_out(text, &spelled);
    if (status) goto done;
    status = vlci_fail_memory("regular expression");
    pattern->memory = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    if (!pattern->memory || !(context = pcre2_compile_context_create(pattern->memory))) goto done;
    pattern->code = pcre2_compile((PCRE2_SPTR)spelled.data, spelled.n,
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &at, context);
    if (!pattern->code && error == PCRE2_ERROR_HEAP_FAILED) goto done;
    status = VLCACHE_OK;
    if (pattern->code) {
        pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); /* where it cannot, matching is only slower */
    } else {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(error, why, sizeof why);
        status = vlci_fail(VLCACHE_E_UNSUPPORTED, "regular expression \"%.300s\": %s", text, (char *)why);
    }
done:
    pcre2_compile_context_free(context);
    vlci_free(spelled.data);
    return status;
}

vlcache_status vlci_pattern_make(const char *text, bool regex, vlci_pattern **out) {
    *out = NULL;
    vlci_pattern *pattern = vlci_calloc(1, sizeof *pattern);
    if (!pattern) return vlci_fail_memory("pattern");
    vlcache_status status = VLCACHE_OK;
    pattern->n = strlen(text);
    pattern->literal = vlci_strdup(text);
    if (!pattern->literal) status = vlci_fail_memory("pattern");
    if (!status && regex) status = compile(pattern, text);
    if (status) vlci_pattern_destroy(&pattern);
    *out = pattern;
    return status;
}

void vlci_pattern_destroy(vlci_pattern **pattern) {
    if (!*pattern) return;
    pcre2_code_free((*pattern)->code);
    pcre2_general_context_free((*pattern)->memory);
    vlci_free((*pattern)->literal);
    vlci_free(*pattern);
    *pattern = NULL;
}

vlcache_status vlci_pattern_read(const vlci_scope *scope, const char *key, vlci_pattern **out) {
    vlci_scope pattern;
    const char *literal = NULL, *regex = NULL;
    *out = NULL;
    vlcache_status status = vlci_json_object(scope, key, &pattern);
    if (!status) status = vlci_json_string(&pattern, "String", &literal);
    if (!status) status = vlci_json_string(&pattern, "Regex", &regex);
    if (status) return status;
    const char *text = regex ? regex : literal;
    if (!text || !*text) return vlci_json_bad(scope, key, "must hold a String or a Regex that is not empty");
    status = vlci_pattern_make(text, regex != NULL, out);
    return status ? vlci_fail_context(status, "%s: %s%s", scope->file, scope->path, key) : VLCACHE_OK;
}

bool vlci_pattern_is_char(const vlci_pattern *pattern) {
    uint32_t code;
    return !pattern->code && (size_t)vlci_utf8_char(pattern->literal, pattern->n, &code) == pattern->n;
}

/* The next match at or after `from`; *begin is n where there is none. */
static vlcache_status find(const vlci_pattern *pattern, pcre2_match_data *data, pcre2_match_context *limits,
                           const char *text, size_t n, size_t from, size_t *begin, size_t *end) {
    *begin = *end = n;
    if (!pattern->code) {
        const char *at = memmem(text + from, n - from, pattern->literal, pattern->n);
        if (at) *begin = (size_t)(at - text), *end = *begin + pattern->n;
        return VLCACHE_OK;
    }
    int got = pcre2_match(pattern->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, data, limits);
    if (got == PCRE2_ERROR_JIT_STACKLIMIT)
        got = pcre2_match(pattern->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                          limits);
    if (got == PCRE2_ERROR_NOMATCH) return VLCACHE_OK;
    if (got == PCRE2_ERROR_NOMEMORY || got == PCRE2_ERROR_HEAPLIMIT)
        return vlci_fail_memory("pattern matching");
    if (got < 0)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "regular expression \"%.300s\": gave up on a text (error %d)",
                         pattern->literal, got);
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(data);
    *begin = bounds[0];
    *end = bounds[1];
    return VLCACHE_OK;
}

static vlcache_status cut(const vlci_pattern *pattern, pcre2_match_data *data, pcre2_match_context *limits,
                          const char *text, size_t n, vlci_spans *spans) {
    size_t done = 0, from = 0, begin, end;
    vlcache_status status = VLCACHE_OK;
    while (from < n && !status) {
        status = find(pattern, data, limits, text, n, from, &begin, &end);
        if (status || begin >= n) break;
        if (end <= begin) { /* an empty match cuts nothing here: step over one character */
            uint32_t code;
            from = begin + (size_t)vlci_utf8_char(text + begin, n - begin, &code);
            continue;
        }
        if (begin > done) status = vlci_spans_add(spans, done, begin, false);
        if (!status) status = vlci_spans_add(spans, begin, end, true);
        done = from = end;
    }
    if (!status && done < n) status = vlci_spans_add(spans, done, n, false);
    return status;
}

vlcache_status vlci_pattern_cut(const vlci_pattern *pattern, const char *text, size_t n, vlci_spans *spans) {
    pcre2_match_data *data = NULL;
    pcre2_match_context *limits = NULL;
    vlcache_status status;
    if (pattern->code) {
        data = pcre2_match_data_create(1, pattern->memory);
        limits = pcre2_match_context_create(pattern->memory);
        if (!data || !limits) {
            status = vlci_fail_memory("pattern matching");
            goto done;
        }
        pcre2_set_match_limit(limits, 1u << 30); /* a megabyte of blanks is slow, not wrong */
        pcre2_set_heap_limit(limits, 1u << 20);  /* in KiB */
    }
    status = cut(pattern, data, limits, text, n, spans);
done:
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    return status;
}
