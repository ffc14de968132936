/*
 * tokenizer.c - reads tokenizer.json and leads text through its parts: added tokens are cut out of the raw
 * text, the rest is normalized, added tokens that match normalized text are cut out, what is left is
 * pre-tokenized and encoded by BPE.
 *
 * Where a user's words begin and end is marked by two characters that the text does not hold while it is
 * normalized, so that they are found again behind it.
 */
#include "tokens/tokenizer.h"

#include <string.h>
#include <utf8proc.h>

#include "core/alloc.h"
#include "tokens/cut.h"

enum { FILE_LIMIT = 256 << 20 };

struct vlci_tokenizer {
    vlci_normalizer normalizer;
    vlci_pretokenizer pretokenizer;
    vlci_decoder decoder;
    vlci_bpe *bpe;
    vlci_vocabulary vocabulary;
    vlci_ids before, after; /* post-processor */
};

/* ---- reading ------------------------------------------------------------------------------------------- */

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

static vlcache_status read_tokenizer(const char *folder, const vlci_scope *root, vlci_tokenizer *tokenizer) {
    vlci_scope processor;
    vlcache_status status = vlci_bpe_read(root, &tokenizer->bpe);
    if (!status) status = vlci_normalizer_read(root, &tokenizer->normalizer);
    if (!status) status = vlci_pretokenizer_read(root, &tokenizer->pretokenizer);
    if (!status) status = vlci_decoder_read(root, &tokenizer->decoder);
    if (!status)
        status = vlci_vocabulary_read(folder, root, tokenizer->bpe, &tokenizer->normalizer,
                                      &tokenizer->vocabulary);
    if (!status) status = vlci_json_object(root, "post_processor", &processor);
    if (!status && processor.object) status = read_processor(&processor, 0, tokenizer);
    reverse(tokenizer->before.at, tokenizer->before.n);
    return status;
}

/* Folders from before tokenizer.json: named, with the way out. */
static vlcache_status check_file(const char *folder, const char *path) {
    static const char *const older[] = {"tokenizer.model", "vocab.json"};
    char name[256];
    if (vlci_path_exists(path)) return VLCACHE_OK;
    for (int i = 0; i < 2; i++)
        if (vlci_folder_has(folder, older[i], name))
            return vlci_fail(VLCACHE_E_IO,
                             "%s: is missing; %.200s alone is not read: make it (in Python: "
                             "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)) or take the "
                             "Hugging Face conversion",
                             path, name);
    return VLCACHE_OK;
}

vlcache_status vlci_tokenizer_load(const char *folder, vlci_tokenizer **out) {
    char *path = NULL;
    json_t *root = NULL;
    *out = NULL;
    vlci_tokenizer *tokenizer = vlci_calloc(1, sizeof *tokenizer);
    if (!tokenizer) return vlci_fail_memory("tokenizer");
    vlcache_status status = vlci_path_join(folder, "tokenizer.json", &path);
    if (!status) status = check_file(folder, path);
    if (!status) status = vlci_json_load(path, FILE_LIMIT, &root);
    if (!status) {
        vlci_scope scope = vlci_scope_of(path, root);
        status = read_tokenizer(folder, &scope, tokenizer);
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
    vlci_vocabulary_release(&tokenizer->vocabulary);
    vlci_bpe_destroy(&tokenizer->bpe);
    vlci_free(tokenizer->before.at);
    vlci_free(tokenizer->after.at);
    vlci_free(tokenizer);
    *handle = NULL;
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

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

/* A text on its way to ids. */
typedef struct encoding {
    const vlci_tokenizer *tokenizer;
    uint32_t open, close; /* characters around a user's words while they are normalized; 0: there are none */
    vlci_pieces pieces;
    vlci_ids ids;
} encoding;

/* A stretch of it; `plain`: where the user's words are, in order. */
typedef vlcache_status part_fn(encoding *e, const char *text, size_t n, const vlci_spans *plain, bool first);

/* How long a control token may be at `at`, which is none of a user's words; *k: the words at `at` or behind.
 */
static size_t control_room(const vlci_spans *plain, size_t *k, size_t n, size_t at) {
    while (*k < plain->n && plain->at[*k].end <= at) ++*k;
    if (*k == plain->n) return n - at;
    return plain->at[*k].begin > at ? plain->at[*k].begin - at : 0;
}

/* Hands on text[begin, end), what lies between added tokens, unless that is nothing. */
static vlcache_status hand_on(encoding *e, const char *text, size_t begin, size_t end,
                              const vlci_spans *plain, bool first, part_fn *part) {
    vlci_spans within = {0};
    vlcache_status status = VLCACHE_OK;
    if (begin >= end) return VLCACHE_OK;
    for (size_t i = 0; i < plain->n && !status; i++) {
        size_t from = plain->at[i].begin > begin ? plain->at[i].begin : begin;
        size_t to = plain->at[i].end < end ? plain->at[i].end : end;
        if (from < to) status = vlci_spans_add(&within, from - begin, to - begin, true);
    }
    if (!status) status = part(e, text + begin, end - begin, &within, first && begin == 0);
    vlci_free(within.at);
    return status;
}

/* Ids of the added tokens found in text; what lies between them goes to `part`. */
static vlcache_status cut_added(encoding *e, bool normalized, const char *text, size_t n,
                                const vlci_spans *plain, bool first, part_fn *part) {
    size_t done = 0, k = 0;
    uint32_t code;
    vlcache_status status = VLCACHE_OK;
    for (size_t at = 0; at < n && !status;) {
        const vlci_added_token *token =
            vlci_vocabulary_match(&e->tokenizer->vocabulary, normalized, text + at, n - at,
                                  control_room(plain, &k, n, at));
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
        status = hand_on(e, text, done, begin, plain, first, part);
        if (!status) status = vlci_ids_add(&e->ids, token->id);
        done = end;
        if (at < end) at = end;
    }
    return status ? status : hand_on(e, text, done, n, plain, first, part);
}

static vlcache_status encode_plain(encoding *e, const char *text, size_t n, const vlci_spans *plain,
                                   bool first) {
    (void)plain; /* no token is parsed any more */
    vlcache_status status = vlci_pretokenize(&e->tokenizer->pretokenizer, text, n, first, &e->pieces);
    for (size_t i = 0; i < e->pieces.spans.n && !status; i++) {
        vlci_span piece = e->pieces.spans.at[i];
        status = vlci_bpe_encode(e->tokenizer->bpe, e->pieces.text.data + piece.begin,
                                 piece.end - piece.begin, &e->ids);
    }
    return status;
}

/* The text with a mark where each of the user's words begins and ends. */
static vlcache_status put_marks(const encoding *e, const char *text, size_t n, const vlci_spans *plain,
                                vlci_string *out) {
    size_t done = 0;
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < plain->n && !status; i++) {
        vlci_span words = plain->at[i];
        status = vlci_string_add(out, text + done, words.begin - done);
        if (!status) status = vlci_string_add_char(out, e->open);
        if (!status) status = vlci_string_add(out, text + words.begin, words.end - words.begin);
        if (!status) status = vlci_string_add_char(out, e->close);
        done = words.end;
    }
    return status ? status : vlci_string_add(out, text + done, n - done);
}

/* Takes the marks out again, in place; where they were is where the words are now. */
static vlcache_status take_marks(const encoding *e, vlci_string *text, vlci_spans *plain) {
    size_t n = 0, begin = 0;
    uint32_t code;
    vlcache_status status = VLCACHE_OK;
    for (size_t at = 0, length; at < text->n && !status; at += length) {
        length = (size_t)vlci_utf8_char(text->data + at, text->n - at, &code);
        if (code == e->open) {
            begin = n;
        } else if (code == e->close) {
            if (begin < n) status = vlci_spans_add(plain, begin, n, true);
        } else {
            memmove(text->data + n, text->data + at, length);
            n += length;
        }
    }
    text->n = n;
    return status;
}

static vlcache_status encode_raw(encoding *e, const char *text, size_t n, const vlci_spans *plain,
                                 bool first) {
    vlci_string marked = {0}, normal = {0};
    vlci_spans words = {0};
    vlcache_status status = VLCACHE_OK;
    if (plain->n) status = put_marks(e, text, n, plain, &marked);
    if (!status)
        status = vlci_normalize(&e->tokenizer->normalizer, plain->n ? marked.data : text,
                                plain->n ? marked.n : n, &normal);
    if (!status && plain->n) status = take_marks(e, &normal, &words);
    if (!status) status = cut_added(e, true, normal.data, normal.n, &words, first, encode_plain);
    vlci_free(words.at);
    vlci_free(marked.data);
    vlci_free(normal.data);
    return status;
}

/* Two noncharacters (U+FDD0..U+FDEF) that no part holds, where one of them is plain. */
static vlcache_status choose_marks(encoding *e, const vlci_text_part *parts, size_t n_parts) {
    bool any = false, seen[32] = {false};
    for (size_t i = 0; i < n_parts; i++) {
        any |= parts[i].plain && parts[i].bytes;
        for (size_t at = 0; at + 2 < parts[i].bytes; at++) {
            const unsigned char *c = (const unsigned char *)parts[i].text + at;
            if (c[0] == 0xef && c[1] == 0xb7 && c[2] >= 0x90 && c[2] < 0xb0) seen[c[2] - 0x90] = true;
        }
    }
    for (uint32_t i = 0; i < 32 && any && !e->close; i++) {
        if (seen[i]) continue;
        if (e->open)
            e->close = 0xfdd0 + i;
        else
            e->open = 0xfdd0 + i;
    }
    if (!any || e->close) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "the text holds nearly all of U+FDD0 to U+FDEF, which are no characters");
}

/* The parts in a row as valid UTF-8, and where the plain ones are. */
static vlcache_status join_parts(const vlci_text_part *parts, size_t n_parts, vlci_string *out,
                                 vlci_spans *plain) {
    vlcache_status status = vlci_string_add(out, "", 0);
    for (size_t i = 0; i < n_parts && !status; i++) {
        size_t begin = out->n;
        status = vlci_string_add_lossy(out, parts[i].text, parts[i].bytes);
        if (!status && parts[i].plain && begin < out->n) status = vlci_spans_add(plain, begin, out->n, true);
    }
    return status;
}

vlcache_status vlci_tokenizer_encode_parts(const vlci_tokenizer *tokenizer, const vlci_text_part *parts,
                                           size_t n_parts, bool add_special, int32_t **ids, size_t *n) {
    encoding e = {.tokenizer = tokenizer};
    vlci_string valid = {0};
    vlci_spans plain = {0};
    *ids = NULL;
    *n = 0;
    vlcache_status status = choose_marks(&e, parts, n_parts);
    if (!status) status = join_parts(parts, n_parts, &valid, &plain);
    for (size_t i = 0; i < tokenizer->before.n && add_special && !status; i++)
        status = vlci_ids_add(&e.ids, tokenizer->before.at[i]);
    if (!status) status = cut_added(&e, false, valid.data, valid.n, &plain, true, encode_raw);
    for (size_t i = 0; i < tokenizer->after.n && add_special && !status; i++)
        status = vlci_ids_add(&e.ids, tokenizer->after.at[i]);
    if (!status && !e.ids.at) { /* no ids are still an array */
        status = vlci_ids_add(&e.ids, 0);
        e.ids.n = 0;
    }
    vlci_pieces_release(&e.pieces);
    vlci_free(plain.at);
    vlci_free(valid.data);
    if (status) {
        vlci_free(e.ids.at);
        return status;
    }
    *ids = e.ids.at;
    *n = e.ids.n;
    return VLCACHE_OK;
}

vlcache_status vlci_tokenizer_encode(const vlci_tokenizer *tokenizer, const char *text, size_t bytes,
                                     bool add_special, int32_t **ids, size_t *n) {
    vlci_text_part whole = {text, bytes, false};
    return vlci_tokenizer_encode_parts(tokenizer, &whole, 1, add_special, ids, n);
}

/* ---- ids ----------------------------------------------------------------------------------------------- */

int32_t vlci_tokenizer_id(const vlci_tokenizer *tokenizer, const char *content) {
    const vlci_vocabulary *v = &tokenizer->vocabulary;
    for (size_t i = 0; i < v->n_added; i++)
        if (strcmp(v->added[i].content, content) == 0) return v->added[i].id;
    return vlci_bpe_id(tokenizer->bpe, content, strlen(content));
}

size_t vlci_tokenizer_size(const vlci_tokenizer *tokenizer) {
    return tokenizer->vocabulary.size;
}

bool vlci_tokenizer_is_special(const vlci_tokenizer *tokenizer, int32_t id) {
    const vlci_vocabulary *v = &tokenizer->vocabulary;
    return id >= 0 && (size_t)id < v->size && v->special[id];
}

vlcache_status vlci_tokenizer_decode(const vlci_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                     char **text) {
    return vlci_decoder_run(&tokenizer->decoder, &tokenizer->vocabulary, ids, n, text);
}

vlcache_status vlci_detokenizer_create(const vlci_tokenizer *tokenizer, vlci_detokenizer **out) {
    return vlci_decoder_stream(&tokenizer->decoder, &tokenizer->vocabulary, out);
}
