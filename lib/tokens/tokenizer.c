/*
 * tokenizer.c - reads tokenizer.json and leads text through its parts: added tokens are cut out of the raw
 * text, the rest is normalized, added tokens that match normalized text are cut out, what is left is
 * pre-tokenized and encoded by BPE.
 * Below: the normalizer.
 */
#include "tokens/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/alloc.h"
#include "tokens/tokenizer_parts.h"

enum { FILE_LIMIT = 256 << 20, MAX_ADDED = 1 << 20 };

vlcache_status vlci_ids_add(vlci_ids *ids, int32_t id) {
    if (ids->n == ids->room) {
        int32_t *grown = vlci_realloc(ids->at, 2 * ids->room + 16, sizeof *grown);
        if (!grown) return vlci_fail_memory("tokens of a text");
        ids->at = grown;
        ids->room = 2 * ids->room + 16;
    }
    ids->at[ids->n++] = id;
    return VLCACHE_OK;
}

/* ---- reading ---------------------------------------------------------------------------------------------
 */

static vlcache_status read_added_token(const vlci_scope *scope, const vlci_tokenizer *tokenizer,
                                       vlci_added_token *token) {
    const char *content = NULL;
    int id = -1;
    vlci_string normal = {0};
    vlcache_status status = vlci_json_string(scope, "content", &content);
    if (!status && (!content || !*content)) status = vlci_json_bad(scope, "content", "is missing or empty");
    if (!status) status = vlci_json_int(scope, "id", 0, VLCI_MAX_TOKEN_ID, &id);
    if (!status && id < 0) status = vlci_json_bad(scope, "id", "is missing");
    if (!status) status = vlci_json_bool(scope, "special", &token->special);
    token->normalized = !token->special;
    if (!status) status = vlci_json_bool(scope, "normalized", &token->normalized);
    if (!status) status = vlci_json_bool(scope, "lstrip", &token->lstrip);
    if (!status) status = vlci_json_bool(scope, "rstrip", &token->rstrip);
    if (!status) status = vlci_json_bool(scope, "single_word", &token->single_word);
    if (status) return status;
    int32_t known = vlci_bpe_id(tokenizer->bpe, content, strlen(content));
    const char *taken = vlci_bpe_token(tokenizer->bpe, (size_t)id);
    if ((known >= 0 && known != id) || (taken && strcmp(taken, content) != 0))
        return vlci_json_bad(scope, "id", "is %d for \"%.64s\", model.vocab says otherwise", id, content);
    token->id = id;
    token->content = vlci_strdup(content);
    if (!token->content) return vlci_fail_memory("added tokens");
    if (token->normalized)
        status = vlci_normalize(&tokenizer->normalizer, content, strlen(content), &normal);
    else
        status = vlci_string_add(&normal, content, strlen(content));
    if (!status) status = vlci_string_add(&normal, "", 1); /* ends it: decoding reads it as a string */
    token->match = normal.data;
    token->n = status ? 0 : normal.n - 1;
    return status;
}

static int longest_first(const void *a, const void *b) {
    const vlci_added_token *x = a, *y = b;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static vlcache_status read_added(const vlci_scope *root, vlci_tokenizer *tokenizer) {
    const json_t *list;
    vlcache_status status = vlci_json_array(root, "added_tokens", &list);
    if (status || !list) return status;
    if (json_array_size(list) > MAX_ADDED) return vlci_json_bad(root, "added_tokens", "holds too many");
    tokenizer->added = vlci_calloc(json_array_size(list), sizeof *tokenizer->added);
    if (!tokenizer->added) return vlci_fail_memory("added tokens");
    for (size_t i = 0; i < json_array_size(list); i++) {
        vlci_scope scope = vlci_scope_of(root->file, json_array_get(list, i));
        strcpy(scope.path, "added_tokens.");
        if (!json_is_object(scope.object)) return vlci_json_bad(root, "added_tokens", "must hold objects");
        vlci_added_token *token = &tokenizer->added[tokenizer->n_added++];
        status = read_added_token(&scope, tokenizer, token);
        if (status) return status;
        if (token->n) tokenizer->starts[token->normalized][(unsigned char)token->match[0]] = true;
    }
    qsort(tokenizer->added, tokenizer->n_added, sizeof *tokenizer->added, longest_first);
    return VLCACHE_OK;
}

/* The content and the mark "special" of every id. */
static vlcache_status list_tokens(const vlci_scope *root, vlci_tokenizer *tokenizer) {
    tokenizer->size = vlci_bpe_size(tokenizer->bpe);
    for (size_t i = 0; i < tokenizer->n_added; i++)
        if ((size_t)tokenizer->added[i].id >= tokenizer->size)
            tokenizer->size = (size_t)tokenizer->added[i].id + 1;
    tokenizer->content = vlci_calloc(tokenizer->size, sizeof *tokenizer->content);
    tokenizer->special = vlci_calloc(tokenizer->size, sizeof *tokenizer->special);
    if (!tokenizer->content || !tokenizer->special) return vlci_fail_memory("tokenizer vocabulary");
    for (size_t i = 0; i < tokenizer->size; i++) tokenizer->content[i] = vlci_bpe_token(tokenizer->bpe, i);
    for (size_t i = 0; i < tokenizer->n_added; i++) {
        const vlci_added_token *token = &tokenizer->added[i];
        const char *taken = tokenizer->content[token->id];
        if (taken && strcmp(taken, token->content) != 0)
            return vlci_json_bad(root, "added_tokens", "\"%.64s\" and \"%.64s\" share the id %d", taken,
                                 token->content, token->id);
        tokenizer->content[token->id] = token->content;
        tokenizer->special[token->id] |= token->special;
    }
    /* decoding starts from the normalized form, as in tokenizers 0.23 */
    for (size_t i = 0; i < tokenizer->n_added; i++)
        if (tokenizer->added[i].n) tokenizer->content[tokenizer->added[i].id] = tokenizer->added[i].match;
    return VLCACHE_OK;
}

/* The ids of one special token of the template. */
static vlcache_status add_template_ids(const vlci_scope *scope, const char *name, vlci_ids *ids) {
    const json_t *list =
        json_object_get(json_object_get(json_object_get(scope->object, "special_tokens"), name), "ids");
    vlcache_status status = VLCACHE_OK;
    if (!json_is_array(list)) return vlci_json_bad(scope, "special_tokens", "has no ids for \"%.64s\"", name);
    for (size_t i = 0; i < json_array_size(list) && !status; i++) {
        json_int_t id = json_integer_value(json_array_get(list, i));
        if (!json_is_integer(json_array_get(list, i)) || id < 0 || id > VLCI_MAX_TOKEN_ID)
            return vlci_json_bad(scope, "special_tokens", "has a wrong id for \"%.64s\"", name);
        status = vlci_ids_add(ids, (int32_t)id);
    }
    return status;
}

static void reverse(int32_t *ids, size_t n) {
    for (size_t i = 0; i < n / 2; i++) {
        int32_t id = ids[i];
        ids[i] = ids[n - 1 - i];
        ids[n - 1 - i] = id;
    }
}

/* "single": what goes before and after the text. Later processors wrap what earlier ones made. */
static vlcache_status read_template(const vlci_scope *scope, vlci_tokenizer *tokenizer) {
    const json_t *list;
    vlci_ids front = {0};
    int texts = 0;
    vlcache_status status = vlci_json_array(scope, "single", &list);
    for (size_t i = 0; i < json_array_size(list) && !status; i++) {
        const json_t *item = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        if (name)
            status = add_template_ids(scope, name, texts ? &tokenizer->after : &front);
        else if (json_object_get(item, "Sequence"))
            texts++;
        else
            status = vlci_json_bad(scope, "single", "must hold SpecialToken and Sequence");
    }
    if (!status && texts != 1) status = vlci_json_unsupported(scope, "single", "must hold one Sequence");
    reverse(front.at, front.n); /* `before` is kept backwards while it is read */
    for (size_t i = 0; i < front.n && !status; i++) status = vlci_ids_add(&tokenizer->before, front.at[i]);
    vlci_free(front.at);
    return status;
}

static vlcache_status read_processor(const vlci_scope *scope, int depth, vlci_tokenizer *tokenizer) {
    const char *type = "";
    const json_t *list;
    vlcache_status status = vlci_json_string(scope, "type", &type);
    if (status || strcmp(type, "ByteLevel") == 0) return status; /* that one only trims offsets */
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(scope, tokenizer);
    if (strcmp(type, "Sequence") != 0)
        return vlci_json_unsupported(
            scope, "type",
            "post-processor \"%.64s\"; Sequence, TemplateProcessing and ByteLevel are "
            "supported",
            type);
    status = vlci_json_array(scope, "processors", &list);
    if (!status && depth > 8) status = vlci_json_unsupported(scope, "processors", "nested too deeply");
    for (size_t i = 0; i < json_array_size(list) && !status; i++) {
        vlci_scope child = *scope;
        child.object = json_array_get(list, i);
        if (!json_is_object(child.object)) return vlci_json_bad(scope, "processors", "must hold objects");
        status = read_processor(&child, depth + 1, tokenizer);
    }
    return status;
}

static vlcache_status read_tokenizer(const vlci_scope *root, vlci_tokenizer *tokenizer) {
    vlci_scope processor;
    vlcache_status status = vlci_bpe_read(root, &tokenizer->bpe);
    if (!status) status = vlci_normalizer_read(root, &tokenizer->normalizer);
    if (!status) status = vlci_pretokenizer_read(root, &tokenizer->pretokenizer);
    if (!status) status = vlci_decoder_read(root, &tokenizer->decoder);
    if (!status) status = read_added(root, tokenizer);
    if (!status) status = list_tokens(root, tokenizer);
    if (!status) status = vlci_json_object(root, "post_processor", &processor);
    if (!status && processor.object) status = read_processor(&processor, 0, tokenizer);
    reverse(tokenizer->before.at, tokenizer->before.n);
    return status;
}

vlcache_status vlci_tokenizer_load(const char *folder, vlci_tokenizer **out) {
    char *path = NULL;
    json_t *root = NULL;
    *out = NULL;
    vlci_tokenizer *tokenizer = vlci_calloc(1, sizeof *tokenizer);
    if (!tokenizer) return vlci_fail_memory("tokenizer");
    vlcache_status status = vlci_path_join(folder, "tokenizer.json", &path);
    if (!status) status = vlci_json_load(path, FILE_LIMIT, &root);
    if (!status) {
        vlci_scope scope = vlci_scope_of(path, root);
        status = read_tokenizer(&scope, tokenizer);
    }
    json_decref(root);
    vlci_free(path);
    if (status) vlci_tokenizer_destroy(&tokenizer);
    *out = tokenizer;
    return status;
}

void vlci_tokenizer_destroy(vlci_tokenizer **handle) {
    if (!handle || !*handle) return;
    vlci_tokenizer *tokenizer = *handle;
    vlci_normalizer_release(&tokenizer->normalizer);
    vlci_pretokenizer_release(&tokenizer->pretokenizer);
    vlci_decoder_release(&tokenizer->decoder);
    vlci_bpe_destroy(&tokenizer->bpe);
    for (size_t i = 0; i < tokenizer->n_added; i++) {
        vlci_free(tokenizer->added[i].content);
        vlci_free(tokenizer->added[i].match);
    }
    vlci_free(tokenizer->added);
    vlci_free(tokenizer->before.at);
    vlci_free(tokenizer->after.at);
    vlci_free(tokenizer->content);
    vlci_free(tokenizer->special);
    vlci_free(tokenizer);
    *handle = NULL;
}

/* ---- encoding --------------------------------------------------------------------------------------------
 */

static bool is_word(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return code == 0x200c || code == 0x200d; /* Join_Control */
    }
}

/* The code point that ends at text[end]; where it begins. */
static size_t char_before(const char *text, size_t end, uint32_t *code) {
    size_t at = end - 1;
    while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
    vlci_utf8_char(text + at, end - at, code);
    return at;
}

static bool stands_alone(const char *text, size_t n, size_t begin, size_t end) {
    uint32_t code;
    if (begin > 0 && (char_before(text, begin, &code), is_word(code))) return false;
    return end >= n || (vlci_utf8_char(text + end, n - end, &code), !is_word(code));
}

/* The longest added token at text[at]. */
static const vlci_added_token *match_at(const vlci_tokenizer *tokenizer, bool normalized, const char *text,
                                        size_t n, size_t at) {
    if (!tokenizer->starts[normalized][(unsigned char)text[at]]) return NULL;
    for (size_t i = 0; i < tokenizer->n_added; i++) {
        const vlci_added_token *token = &tokenizer->added[i];
        if (token->normalized == normalized && token->n && token->n <= n - at &&
            memcmp(text + at, token->match, token->n) == 0)
            return token;
    }
    return NULL;
}

typedef struct encoding {
    const vlci_tokenizer *tokenizer;
    vlci_pieces pieces;
    vlci_ids ids;
} encoding;

typedef vlcache_status part_fn(encoding *e, const char *text, size_t n, bool first);

/* Ids of the added tokens found in text; what lies between them goes to `part`. */
static vlcache_status cut_added(encoding *e, bool normalized, const char *text, size_t n, bool first,
                                part_fn *part) {
    size_t done = 0;
    uint32_t code;
    vlcache_status status = VLCACHE_OK;
    for (size_t at = 0; at < n && !status;) {
        const vlci_added_token *token = match_at(e->tokenizer, normalized, text, n, at);
        if (!token) {
            at++;
            continue;
        }
        size_t begin = at, end = at + token->n;
        at = end; /* the search goes on here even where the token is not taken */
        if (token->single_word && !stands_alone(text, n, begin, end)) continue;
        while (token->lstrip && begin > done) {
            size_t before = char_before(text, begin, &code);
            if (!vlci_is_space(code)) break;
            begin = before;
        }
        while (token->rstrip && end < n) {
            int length = vlci_utf8_char(text + end, n - end, &code);
            if (!vlci_is_space(code)) break;
            end += (size_t)length;
        }
        if (begin > done) status = part(e, text + done, begin - done, first && done == 0);
        if (!status) status = vlci_ids_add(&e->ids, token->id);
        done = end;
        if (at < end) at = end;
    }
    if (!status && done < n) status = part(e, text + done, n - done, first && done == 0);
    return status;
}

static vlcache_status encode_plain(encoding *e, const char *text, size_t n, bool first) {
    vlcache_status status = vlci_pretokenize(&e->tokenizer->pretokenizer, text, n, first, &e->pieces);
    for (size_t i = 0; i < e->pieces.spans.n && !status; i++) {
        vlci_span piece = e->pieces.spans.at[i];
        status = vlci_bpe_encode(e->tokenizer->bpe, e->pieces.text.data + piece.begin,
                                 piece.end - piece.begin, &e->ids);
    }
    return status;
}

static vlcache_status encode_raw(encoding *e, const char *text, size_t n, bool first) {
    vlci_string normal = {0};
    vlcache_status status = vlci_normalize(&e->tokenizer->normalizer, text, n, &normal);
    if (!status) status = cut_added(e, true, normal.data, normal.n, first, encode_plain);
    vlci_free(normal.data);
    return status;
}

vlcache_status vlci_tokenizer_encode(const vlci_tokenizer *tokenizer, const char *text, size_t bytes,
                                     bool add_special, int32_t **ids, size_t *n) {
    encoding e = {.tokenizer = tokenizer};
    vlci_string valid = {0};
    *ids = NULL;
    *n = 0;
    vlcache_status status = vlci_string_add_lossy(&valid, text, bytes);
    for (size_t i = 0; i < tokenizer->before.n && add_special && !status; i++)
        status = vlci_ids_add(&e.ids, tokenizer->before.at[i]);
    if (!status) status = cut_added(&e, false, valid.data, valid.n, true, encode_raw);
    for (size_t i = 0; i < tokenizer->after.n && add_special && !status; i++)
        status = vlci_ids_add(&e.ids, tokenizer->after.at[i]);
    if (!status && !e.ids.at) { /* no ids are still an array */
        status = vlci_ids_add(&e.ids, 0);
        e.ids.n = 0;
    }
    vlci_pieces_release(&e.pieces);
    vlci_free(valid.data);
    if (status) {
        vlci_free(e.ids.at);
        return status;
    }
    *ids = e.ids.at;
    *n = e.ids.n;
    return VLCACHE_OK;
}

int32_t vlci_tokenizer_id(const vlci_tokenizer *tokenizer, const char *content) {
    for (size_t i = 0; i < tokenizer->n_added; i++)
        if (strcmp(tokenizer->added[i].content, content) == 0) return tokenizer->added[i].id;
    return vlci_bpe_id(tokenizer->bpe, content, strlen(content));
}

size_t vlci_tokenizer_size(const vlci_tokenizer *tokenizer) {
    return tokenizer->size;
}

bool vlci_tokenizer_is_special(const vlci_tokenizer *tokenizer, int32_t id) {
    return id >= 0 && (size_t)id < tokenizer->size && tokenizer->special[id];
}

/* ---- normalizer
 * -------------------------------------------------------------------------------------------- */

typedef struct vlci_normal_step step;

static int unicode_form(const char *type) {
    if (strcmp(type, "NFC") == 0) return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    if (strcmp(type, "NFD") == 0) return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (strcmp(type, "NFKC") == 0) return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    if (strcmp(type, "NFKD") == 0) return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
    return 0;
}

static vlcache_status read_content(const vlci_scope *scope, const char *key, char **content) {
    const char *text = NULL;
    vlcache_status status = vlci_json_string(scope, key, &text);
    if (status) return status;
    if (!text) return vlci_json_bad(scope, key, "is missing");
    *content = vlci_strdup(text);
    return *content ? VLCACHE_OK : vlci_fail_memory("tokenizer normalizer");
}

static vlcache_status read_step(const vlci_scope *scope, const char *type, step *s) {
    vlcache_status status = VLCACHE_OK;
    if ((s->form = unicode_form(type)) != 0) {
        s->kind = VLCI_NORMAL_UNICODE;
    } else if (strcmp(type, "Prepend") == 0) {
        s->kind = VLCI_NORMAL_PREPEND;
        status = read_content(scope, "prepend", &s->content);
    } else if (strcmp(type, "Replace") == 0) {
        s->kind = VLCI_NORMAL_REPLACE;
        status = vlci_pattern_read(scope, "pattern", &s->pattern);
        if (!status) status = read_content(scope, "content", &s->content);
    } else if (strcmp(type, "Lowercase") == 0) {
        s->kind = VLCI_NORMAL_LOWERCASE;
    } else if (strcmp(type, "Strip") == 0) {
        s->kind = VLCI_NORMAL_STRIP;
        s->left = s->right = true;
        status = vlci_json_bool(scope, "strip_left", &s->left);
        if (!status) status = vlci_json_bool(scope, "strip_right", &s->right);
    } else {
        status = vlci_json_unsupported(scope, "type",
                                       "normalizer \"%.64s\"; Sequence, Prepend, Replace, NFC, NFD, "
                                       "NFKC, NFKD, Lowercase and Strip are supported",
                                       type);
    }
    return status;
}

static vlcache_status read_any(const vlci_scope *scope, int depth, vlci_normalizer *out) {
    const char *type = "";
    const json_t *list;
    vlcache_status status = vlci_json_string(scope, "type", &type);
    if (status) return status;
    if (strcmp(type, "Sequence") != 0) {
        if (out->n == VLCI_MAX_STEPS) return vlci_json_unsupported(scope, "type", "more than 32 normalizers");
        return read_step(scope, type, &out->step[out->n++]);
    }
    status = vlci_json_array(scope, "normalizers", &list);
    if (!status && depth > 8) status = vlci_json_unsupported(scope, "normalizers", "nested too deeply");
    for (size_t i = 0; !status && i < json_array_size(list); i++) {
        vlci_scope child = *scope;
        child.object = json_array_get(list, i);
        if (!json_is_object(child.object)) return vlci_json_bad(scope, "normalizers", "must hold objects");
        status = read_any(&child, depth + 1, out);
    }
    return status;
}

vlcache_status vlci_normalizer_read(const vlci_scope *root, vlci_normalizer *out) {
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "normalizer", &scope);
    return status || !scope.object ? status : read_any(&scope, 0, out);
}

static vlcache_status replace(const step *s, const char *text, size_t n, vlci_string *out) {
    vlci_spans spans = {0};
    vlcache_status status = vlci_pattern_cut(s->pattern, text, n, &spans);
    for (size_t i = 0; i < spans.n && !status; i++) {
        vlci_span part = spans.at[i];
        status = part.flag ? vlci_string_add(out, s->content, strlen(s->content))
                           : vlci_string_add(out, text + part.begin, part.end - part.begin);
    }
    vlci_free(spans.at);
    return status;
}

static vlcache_status compose(int form, const char *text, size_t n, vlci_string *out) {
    vlcache_status status = VLCACHE_OK;
    size_t ascii = 0;
    while (ascii < n && (unsigned char)text[ascii] < 0x80) ascii++;
    if (ascii == n) return vlci_string_add(out, text, n); /* stands as it is in every form */
    utf8proc_ssize_t count =
        utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, NULL, 0, form);
    if (count < 0) return vlci_fail(VLCACHE_E_UNSUPPORTED, "normalizer: %s", utf8proc_errmsg(count));
    utf8proc_int32_t *codes = vlci_alloc((size_t)count + 1, sizeof *codes);
    if (!codes) return vlci_fail_memory("normalized text");
    count = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, codes, count, form);
    if (count >= 0) count = utf8proc_reencode(codes, count, form);
    status = count < 0 ? vlci_fail(VLCACHE_E_UNSUPPORTED, "normalizer: %s", utf8proc_errmsg(count))
                       : vlci_string_add(out, (const char *)codes, (size_t)count);
    vlci_free(codes);
    return status;
}

static vlcache_status lower(const char *text, size_t n, vlci_string *out) {
    vlcache_status status = VLCACHE_OK;
    uint32_t code;
    for (size_t at = 0; at < n && !status;) {
        at += (size_t)vlci_utf8_char(text + at, n - at, &code);
        status = code == 0x130
                     ? vlci_string_add(out, "i\xcc\x87", 3) /* the one that becomes two characters */
                     : vlci_string_add_char(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
    }
    return status;
}

static vlcache_status strip(const step *s, const char *text, size_t n, vlci_string *out) {
    size_t begin = n, end = 0;
    uint32_t code;
    for (size_t at = 0, length; at < n; at += length) {
        length = (size_t)vlci_utf8_char(text + at, n - at, &code);
        if (vlci_is_space(code)) continue;
        if (begin == n) begin = at;
        end = at + length;
    }
    if (!s->left) begin = 0;
    if (!s->right) end = n;
    return begin < end ? vlci_string_add(out, text + begin, end - begin) : VLCACHE_OK;
}

static vlcache_status apply(const step *s, const char *text, size_t n, vlci_string *out) {
    vlcache_status status;
    switch (s->kind) {
    case VLCI_NORMAL_PREPEND:
        status = n ? vlci_string_add(out, s->content, strlen(s->content)) : VLCACHE_OK;
        return status ? status : vlci_string_add(out, text, n);
    case VLCI_NORMAL_REPLACE:
        return replace(s, text, n, out);
    case VLCI_NORMAL_UNICODE:
        return compose(s->form, text, n, out);
    case VLCI_NORMAL_LOWERCASE:
        return lower(text, n, out);
    case VLCI_NORMAL_STRIP:
        return strip(s, text, n, out);
    }
    return VLCACHE_E_INTERNAL;
}

vlcache_status vlci_normalize(const vlci_normalizer *normalizer, const char *text, size_t n,
                              vlci_string *out) {
    vlci_string now = {0}, next = {0};
    vlcache_status status = vlci_string_add(&now, text, n);
    for (int i = 0; i < normalizer->n && !status; i++) {
        next.n = 0;
        status = apply(&normalizer->step[i], now.data, now.n, &next);
        vlci_string swap = now;
        now = next;
        next = swap;
    }
    if (!status) status = vlci_string_add(out, now.data, now.n);
    vlci_free(now.data);
    vlci_free(next.data);
    return status;
}

void vlci_normalizer_release(vlci_normalizer *normalizer) {
    for (int i = 0; i < normalizer->n; i++) {
        vlci_free(normalizer->step[i].content);
        vlci_pattern_destroy(&normalizer->step[i].pattern);
    }
    normalizer->n = 0;
}
