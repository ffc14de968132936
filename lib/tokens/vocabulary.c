/*
 * vocabulary.c - reads the added tokens of tokenizer.json and of the files beside it, and finds them in text:
 * sorted by what they match, each further byte of the text narrows the range that still fits.
 */
#include "tokens/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/log.h"

enum { FILE_LIMIT = 64 << 20, MAX_ADDED = 1 << 20 };

/* What reading needs at hand. */
typedef struct reader {
    const vlci_scope *root;
    const vlci_bpe *bpe;
    const vlci_normalizer *normalizer;
    vlci_vocabulary *out;
} reader;

/* ---- one token ----------------------------------------------------------------------------------------- */

static vlcache_status read_flags(const vlci_scope *scope, vlci_added_token *token) {
    vlcache_status status = vlci_json_bool(scope, "special", &token->special);
    token->normalized = !token->special;
    if (!status) status = vlci_json_bool(scope, "normalized", &token->normalized);
    if (!status) status = vlci_json_bool(scope, "lstrip", &token->lstrip);
    if (!status) status = vlci_json_bool(scope, "rstrip", &token->rstrip);
    if (!status) status = vlci_json_bool(scope, "single_word", &token->single_word);
    return status;
}

static vlcache_status make_match(const reader *r, vlci_added_token *token) {
    vlci_string normal = {0};
    vlcache_status status;
    size_t n = strlen(token->content);
    if (token->normalized)
        status = vlci_normalize(r->normalizer, token->content, n, &normal);
    else
        status = vlci_string_add(&normal, token->content, n);
    if (!status) status = vlci_string_add(&normal, "", 1); /* ends it: decoding reads it as a string */
    token->match = normal.data;
    token->n = status ? 0 : normal.n - 1;
    return status;
}

static bool looks_like_control(const char *content) {
    size_t n = strlen(content);
    return n > 2 && content[0] == '<' && content[n - 1] == '>';
}

/* Adds a token whose id and flags are read; `key` names it in messages. One that a file beside tokenizer.json
 * numbers otherwise than model.vocab is not taken: the embedding's rows follow the vocabulary. */
static vlcache_status take(const reader *r, const vlci_scope *scope, const char *key, const char *content,
                           vlci_added_token token) {
    vlci_vocabulary *v = r->out;
    int32_t known = vlci_bpe_id(r->bpe, content, strlen(content));
    const char *taken = vlci_bpe_token(r->bpe, (size_t)token.id);
    if (token.beside && known >= 0 && known != token.id) {
        vlci_log(VLCACHE_LOG_WARN, "%s: \"%.64s\" is %d, tokenizer.json says %d: the latter counts",
                 scope->file, content, token.id, known);
        return VLCACHE_OK;
    }
    if ((known >= 0 && known != token.id) || (taken && strcmp(taken, content) != 0))
        return vlci_json_bad(scope, key, "is %d for \"%.64s\", model.vocab says otherwise", token.id,
                             content);
    if (v->n_added == MAX_ADDED) return vlci_json_bad(scope, key, "is one of more than %d", MAX_ADDED);
    if (v->n_added == v->room) {
        vlci_added_token *grown = vlci_realloc(v->added, 2 * v->room + 16, sizeof *grown);
        if (!grown) return vlci_fail_memory("added tokens");
        v->added = grown;
        v->room = 2 * v->room + 16;
    }
    token.control = token.special || looks_like_control(content);
    token.match = NULL;
    token.content = vlci_strdup(content);
    if (!token.content) return vlci_fail_memory("added tokens");
    v->added[v->n_added++] = token;
    return make_match(r, &v->added[v->n_added - 1]);
}

/* ---- the files ----------------------------------------------------------------------------------------- */

static vlcache_status read_own(const reader *r) {
    const json_t *list;
    vlcache_status status = vlci_json_array(r->root, "added_tokens", &list);
    for (size_t i = 0; i < json_array_size(list) && !status; i++) {
        vlci_scope scope = vlci_scope_of(r->root->file, json_array_get(list, i));
        vlci_added_token token = {0};
        const char *content = NULL;
        int id = -1;
        strcpy(scope.path, "added_tokens.");
        if (!json_is_object(scope.object)) return vlci_json_bad(r->root, "added_tokens", "must hold objects");
        status = vlci_json_string(&scope, "content", &content);
        if (!status && (!content || !*content))
            status = vlci_json_bad(&scope, "content", "is missing or empty");
        if (!status) status = vlci_json_int(&scope, "id", 0, VLCI_MAX_TOKEN_ID, &id);
        if (!status && id < 0) status = vlci_json_bad(&scope, "id", "is missing");
        if (!status) status = read_flags(&scope, &token);
        token.id = id;
        if (!status) status = take(r, &scope, "id", content, token);
    }
    return status;
}

/* added_tokens_decoder of tokenizer_config.json: {"32000": {"content": ..., flags}}. */
static vlcache_status read_decoder(const reader *r, const vlci_scope *decoder) {
    const char *key;
    json_t *value;
    vlcache_status status = VLCACHE_OK;
    json_object_foreach((json_t *)decoder->object, key, value) {
        vlci_scope scope;
        vlci_added_token token = {.beside = true};
        const char *content = NULL;
        char *end;
        long id = strtol(key, &end, 10);
        if (*end || end == key || id < 0 || id > VLCI_MAX_TOKEN_ID)
            return vlci_json_bad(decoder, key, "must be an id from 0 to %d", VLCI_MAX_TOKEN_ID);
        status = vlci_json_object(decoder, key, &scope);
        if (!status) status = vlci_json_string(&scope, "content", &content);
        if (!status && (!content || !*content))
            status = vlci_json_bad(&scope, "content", "is missing or empty");
        if (!status) status = read_flags(&scope, &token);
        token.id = (int32_t)id;
        if (!status) status = take(r, decoder, key, content, token);
        if (status) return status;
    }
    return status;
}

/* Puts a special token, as the settings write it, into a set: a text, {"content": text}, or some of them. */
static bool note_special(json_t *set, const json_t *value, int depth) {
    const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    const char *key;
    json_t *one;
    bool good = !text || json_object_set_new(set, text, json_true()) == 0;
    for (size_t i = 0; i < json_array_size(value) && good && depth; i++)
        good = note_special(set, json_array_get(value, i), depth - 1);
    if (json_is_object(value) && !text && depth)
        json_object_foreach((json_t *)value, key, one) good = good && note_special(set, one, depth - 1);
    return good;
}

static bool is_special_key(const char *key) {
    size_t n = strlen(key);
    return (n > 6 && strcmp(key + n - 6, "_token") == 0) || strcmp(key, "additional_special_tokens") == 0 ||
           strcmp(key, "extra_special_tokens") == 0;
}

/* added_tokens.json: {"<image>": 32000}, without flags: special is what the settings call so. */
static vlcache_status read_plain(const reader *r, const vlci_scope *list, const json_t *settings,
                                 const json_t *map) {
    const char *key;
    json_t *value;
    vlcache_status status = VLCACHE_OK;
    json_t *set = json_object();
    bool good = set != NULL;
    const json_t *sources[] = {settings, map};
    for (int i = 0; i < 2; i++)
        json_object_foreach((json_t *)sources[i], key, value) if (good && is_special_key(key)) good =
            note_special(set, value, 2);
    if (!good) status = vlci_fail_memory("special tokens");
    json_object_foreach((json_t *)list->object, key, value) {
        int id = -1;
        if (!status && !*key) status = vlci_json_bad(list, key, "names an empty token");
        if (!status) status = vlci_json_int(list, key, 0, VLCI_MAX_TOKEN_ID, &id);
        if (!status && id < 0) status = vlci_json_bad(list, key, "must be an id");
        if (status) break;
        bool special = json_object_get(set, key) != NULL;
        status =
            take(r, list, key, key,
                 (vlci_added_token){.id = id, .special = special, .normalized = !special, .beside = true});
    }
    json_decref(set);
    return status;
}

/* A JSON file of the folder; `*root` NULL where it is not there. */
static vlcache_status load_beside(const char *folder, const char *name, char **path, json_t **root) {
    vlcache_status status = vlci_path_join(folder, name, path);
    if (status || !vlci_path_exists(*path)) return status;
    return vlci_json_load(*path, FILE_LIMIT, root);
}

static vlcache_status read_beside(const reader *r, const char *folder) {
    char *paths[3] = {NULL};
    json_t *roots[3] = {NULL};
    vlci_scope decoder = {0};
    vlcache_status status = load_beside(folder, "tokenizer_config.json", &paths[0], &roots[0]);
    vlci_scope settings = vlci_scope_of(paths[0], roots[0]);
    if (!status) status = vlci_json_object(&settings, "added_tokens_decoder", &decoder);
    if (!status && decoder.object) {
        status = read_decoder(r, &decoder);
        goto done;
    }
    if (!status) status = load_beside(folder, "added_tokens.json", &paths[1], &roots[1]);
    if (status || !roots[1]) goto done;
    status = load_beside(folder, "special_tokens_map.json", &paths[2], &roots[2]);
    vlci_scope list = vlci_scope_of(paths[1], roots[1]);
    if (!status) status = read_plain(r, &list, roots[0], roots[2]);
done:
    for (int i = 0; i < 3; i++) {
        json_decref(roots[i]);
        vlci_free(paths[i]);
    }
    return status;
}

/* ---- all together -------------------------------------------------------------------------------------- */

static int by_content(const void *a, const void *b) {
    const vlci_added_token *x = a, *y = b;
    int order = strcmp(x->content, y->content);
    if (order) return order;
    return x->beside != y->beside ? x->beside - y->beside : (x->id > y->id) - (x->id < y->id);
}

static int by_id(const void *a, const void *b) {
    const vlci_added_token *x = a, *y = b;
    return x->id != y->id ? (x->id > y->id) - (x->id < y->id) : x->beside - y->beside;
}

/* Raw ones first; by match, the shorter before the longer that it begins; the lowest id of equals. */
static int by_match(const void *a, const void *b) {
    const vlci_added_token *x = a, *y = b;
    if (x->normalized != y->normalized) return x->normalized - y->normalized;
    int order = memcmp(x->match, y->match, x->n < y->n ? x->n : y->n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static void free_token(vlci_added_token *token) {
    vlci_free(token->content);
    vlci_free(token->match);
}

/* Drops what the files beside tokenizer.json say once more. */
static void drop_known(vlci_vocabulary *v) {
    size_t n = 0;
    if (!v->n_added) return;
    qsort(v->added, v->n_added, sizeof *v->added, by_content);
    for (size_t i = 0; i < v->n_added; i++) {
        vlci_added_token *token = &v->added[i];
        const vlci_added_token *last = n ? &v->added[n - 1] : NULL;
        if (last && token->beside && strcmp(last->content, token->content) == 0) {
            if (last->id != token->id)
                vlci_log(VLCACHE_LOG_WARN, "tokenizer.json: \"%.64s\" is %d, a file beside it says %d",
                         token->content, last->id, token->id);
            free_token(token);
        } else {
            v->added[n++] = *token;
        }
    }
    v->n_added = n;
}

static vlcache_status check_ids(const vlci_scope *root, vlci_vocabulary *v) {
    if (v->n_added) qsort(v->added, v->n_added, sizeof *v->added, by_id);
    for (size_t i = 1; i < v->n_added; i++) {
        const vlci_added_token *x = &v->added[i - 1], *y = &v->added[i];
        if (x->id == y->id && strcmp(x->content, y->content) != 0)
            return vlci_json_bad(root, "added_tokens", "\"%.64s\" and \"%.64s\"%s share the id %d",
                                 x->content, y->content, y->beside ? " of a file beside it" : "", x->id);
    }
    return VLCACHE_OK;
}

/* The content and the mark "special" of every id. */
static vlcache_status list_tokens(const vlci_bpe *bpe, vlci_vocabulary *v) {
    v->size = vlci_bpe_size(bpe);
    if (v->n_added && (size_t)v->added[v->n_added - 1].id >= v->size)
        v->size = (size_t)v->added[v->n_added - 1].id + 1;
    v->content = vlci_calloc(v->size, sizeof *v->content);
    v->special = vlci_calloc(v->size, sizeof *v->special);
    if (!v->content || !v->special) return vlci_fail_memory("tokenizer vocabulary");
    for (size_t i = 0; i < v->size; i++) v->content[i] = vlci_bpe_token(bpe, i);
    for (size_t i = 0; i < v->n_added; i++) {
        const vlci_added_token *token = &v->added[i];
        /* decoding starts from the normalized form, as in tokenizers 0.23 */
        v->content[token->id] = token->n ? token->match : token->content;
        v->special[token->id] |= token->special;
    }
    return VLCACHE_OK;
}

static void index_matches(vlci_vocabulary *v) {
    size_t at = 0;
    if (v->n_added) qsort(v->added, v->n_added, sizeof *v->added, by_match);
    for (int normalized = 0; normalized < 2; normalized++) {
        while (at < v->n_added && v->added[at].normalized == normalized && !v->added[at].n) at++;
        for (int byte = 0; byte < 256; byte++) {
            v->first[normalized][byte] = at;
            while (at < v->n_added && v->added[at].normalized == normalized &&
                   (unsigned char)v->added[at].match[0] == byte)
                at++;
        }
        v->first[normalized][256] = at;
    }
}

vlcache_status vlci_vocabulary_read(const char *folder, const vlci_scope *root, const vlci_bpe *bpe,
                                    const vlci_normalizer *normalizer, vlci_vocabulary *out) {
    reader r = {root, bpe, normalizer, out};
    vlcache_status status = read_own(&r);
    if (!status) status = read_beside(&r, folder);
    if (status) return status;
    drop_known(out);
    status = check_ids(root, out);
    if (!status) status = list_tokens(bpe, out);
    if (!status) index_matches(out);
    return status;
}

void vlci_vocabulary_release(vlci_vocabulary *vocabulary) {
    for (size_t i = 0; i < vocabulary->n_added; i++) free_token(&vocabulary->added[i]);
    vlci_free(vocabulary->added);
    vlci_free(vocabulary->content);
    vlci_free(vocabulary->special);
    memset(vocabulary, 0, sizeof *vocabulary);
}

/* ---- finding ------------------------------------------------------------------------------------------- */

/* The first of [low, high), all alike in their first `depth` bytes, whose next byte is at least `byte`. */
static size_t lower_bound(const vlci_added_token *added, size_t low, size_t high, size_t depth, int byte) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int its = depth < added[middle].n ? (unsigned char)added[middle].match[depth] : -1;
        if (its < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const vlci_added_token *vlci_vocabulary_match(const vlci_vocabulary *v, bool normalized, const char *text,
                                              size_t n, size_t control) {
    const unsigned char *from = (const unsigned char *)text;
    size_t low = v->first[normalized][*from], high = v->first[normalized][*from + 1];
    const vlci_added_token *best = NULL;
    for (size_t depth = 1; low < high; depth++) {
        /* those that end here come first, the lowest id in front */
        for (; low < high && v->added[low].n == depth; low++)
            if ((!v->added[low].control || depth <= control) && (!best || best->n < depth))
                best = &v->added[low];
        if (depth >= n) break;
        low = lower_bound(v->added, low, high, depth, from[depth]);
        high = lower_bound(v->added, low, high, depth, from[depth] + 1);
    }
    return best;
}
