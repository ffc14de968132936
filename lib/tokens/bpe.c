/*
 * bpe.c - byte pair encoding: the characters of a piece become symbols; of all neighbours that are a known
 * merge the one with the lowest rank (leftmost first) is joined, until none is left. A heap of candidates
 * makes it O(n log n) for a piece of n characters.
 */
#include "tokens/bpe.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

typedef struct merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank;
    int32_t id; /* what they become; -1: empty slot */
} merge;

struct vlci_bpe {
    char *arena;    /* contents of all tokens */
    char **token;   /* of each id, into the arena, NULL for holes */
    size_t size;    /* largest id + 1 */
    int32_t *slots; /* hash table: content -> id, -1 empty */
    size_t n_slots;
    merge *merges; /* hash table */
    size_t n_merges;
    int32_t byte[256]; /* id of "<0xHH>", -1: none */
    int32_t unknown;   /* -1: none */
    bool byte_fallback, fuse_unknown, ignore_merges;
};

static size_t hash_text(const char *text, size_t n) {
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)text[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static size_t hash_pair(uint64_t pair) {
    pair = (pair ^ pair >> 31) * 0x9e3779b97f4a7c15u;
    return (size_t)(pair ^ pair >> 32);
}

static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

int32_t vlci_bpe_id(const vlci_bpe *bpe, const char *content, size_t n) {
    if (memchr(content, 0, n)) return -1; /* no token has a zero byte, nor bytes behind one to compare with */
    for (size_t i = hash_text(content, n) & (bpe->n_slots - 1);; i = (i + 1) & (bpe->n_slots - 1)) {
        int32_t id = bpe->slots[i];
        if (id < 0) return -1;
        if (strncmp(bpe->token[id], content, n) == 0 && bpe->token[id][n] == '\0') return id;
    }
}

const char *vlci_bpe_token(const vlci_bpe *bpe, size_t id) {
    return id < bpe->size ? bpe->token[id] : NULL;
}

size_t vlci_bpe_size(const vlci_bpe *bpe) {
    return bpe->size;
}

static merge *merge_slot(const vlci_bpe *bpe, uint64_t pair) {
    size_t i = hash_pair(pair) & (bpe->n_merges - 1);
    while (bpe->merges[i].id >= 0 && bpe->merges[i].pair != pair) i = (i + 1) & (bpe->n_merges - 1);
    return &bpe->merges[i];
}

static const merge *find_merge(const vlci_bpe *bpe, int32_t left, int32_t right) {
    const merge *found = merge_slot(bpe, (uint64_t)(uint32_t)left << 32 | (uint32_t)right);
    return found->id >= 0 ? found : NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static vlcache_status measure_vocab(const vlci_scope *vocab, size_t *bytes, size_t *size) {
    const char *content;
    json_t *id;
    *bytes = *size = 0;
    json_object_foreach((json_t *)vocab->object, content, id) {
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value > VLCI_MAX_TOKEN_ID)
            return vlci_json_bad(vocab, content, "id must be an integer from 0 to %d", VLCI_MAX_TOKEN_ID);
        *bytes += strlen(content) + 1;
        if ((size_t)value >= *size) *size = (size_t)value + 1;
    }
    return VLCACHE_OK;
}

static vlcache_status read_vocab(const vlci_scope *vocab, vlci_bpe *bpe) {
    const char *content;
    json_t *value;
    size_t bytes, at = 0;
    vlcache_status status = measure_vocab(vocab, &bytes, &bpe->size);
    if (status) return status;
    bpe->n_slots = table_size(json_object_size(vocab->object));
    bpe->arena = vlci_alloc(bytes, 1);
    bpe->token = vlci_calloc(bpe->size, sizeof *bpe->token);
    bpe->slots = vlci_alloc(bpe->n_slots, sizeof *bpe->slots);
    if (!bpe->arena || !bpe->token || !bpe->slots) return vlci_fail_memory("tokenizer vocabulary");
    memset(bpe->slots, 0xff, bpe->n_slots * sizeof *bpe->slots);
    json_object_foreach((json_t *)vocab->object, content, value) {
        size_t n = strlen(content), id = (size_t)json_integer_value(value);
        if (bpe->token[id])
            return vlci_json_bad(vocab, content, "has the id %zu of \"%.64s\"", id, bpe->token[id]);
        bpe->token[id] = memcpy(bpe->arena + at, content, n + 1);
        at += n + 1;
        size_t i = hash_text(content, n) & (bpe->n_slots - 1);
        while (bpe->slots[i] >= 0) i = (i + 1) & (bpe->n_slots - 1);
        bpe->slots[i] = (int32_t)id;
    }
    return VLCACHE_OK;
}

/* "a b" or ["a", "b"]. */
static bool merge_parts(const json_t *entry, const char **left, size_t *n_left, const char **right) {
    if (json_is_array(entry)) {
        *left = json_string_value(json_array_get(entry, 0));
        *right = json_string_value(json_array_get(entry, 1));
        if (json_array_size(entry) != 2 || !*left || !*right) return false;
        *n_left = strlen(*left);
        return true;
    }
    *left = json_string_value(entry);
    const char *blank = *left ? strchr(*left, ' ') : NULL;
    if (!blank || strchr(blank + 1, ' ')) return false;
    *n_left = (size_t)(blank - *left);
    *right = blank + 1;
    return true;
}

static vlcache_status read_merge(const vlci_scope *model, vlci_bpe *bpe, size_t rank, const json_t *entry,
                                 vlci_string *joined) {
    const char *left, *right;
    size_t n_left;
    if (!merge_parts(entry, &left, &n_left, &right))
        return vlci_json_bad(model, "merges", "entry %zu must be two tokens", rank);
    joined->n = 0;
    vlcache_status status = vlci_string_add(joined, left, n_left);
    if (!status) status = vlci_string_add(joined, right, strlen(right));
    if (status) return status;
    int32_t a = vlci_bpe_id(bpe, left, n_left), b = vlci_bpe_id(bpe, right, strlen(right));
    int32_t id = vlci_bpe_id(bpe, joined->data, joined->n);
    if (a < 0 || b < 0 || id < 0)
        return vlci_json_bad(model, "merges", "entry %zu (\"%.*s\" + \"%.64s\"): a token is not in vocab",
                             rank, (int)(n_left < 64 ? n_left : 64), left, right);
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    *merge_slot(bpe, pair) = (merge){pair, (uint32_t)rank, id};
    return VLCACHE_OK;
}

static vlcache_status read_merges(const vlci_scope *model, vlci_bpe *bpe) {
    const json_t *list;
    vlci_string joined = {0};
    vlcache_status status = vlci_json_array(model, "merges", &list);
    if (!status && !list) status = vlci_json_bad(model, "merges", "is missing");
    if (status) return status;
    bpe->n_merges = table_size(json_array_size(list));
    bpe->merges = vlci_alloc(bpe->n_merges, sizeof *bpe->merges);
    if (!bpe->merges) return vlci_fail_memory("tokenizer merges");
    for (size_t i = 0; i < bpe->n_merges; i++) bpe->merges[i].id = -1;
    for (size_t i = 0; i < json_array_size(list) && !status; i++)
        status = read_merge(model, bpe, i, json_array_get(list, i), &joined);
    vlci_free(joined.data);
    return status;
}

static vlcache_status read_options(const vlci_scope *model, vlci_bpe *bpe) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *unknown = NULL;
    vlcache_status status = vlci_json_bool(model, "byte_fallback", &bpe->byte_fallback);
    if (!status) status = vlci_json_bool(model, "fuse_unk", &bpe->fuse_unknown);
    if (!status) status = vlci_json_bool(model, "ignore_merges", &bpe->ignore_merges);
    if (!status) status = vlci_json_string(model, "unk_token", &unknown);
    if (!status && unknown && (bpe->unknown = vlci_bpe_id(bpe, unknown, strlen(unknown))) < 0)
        status = vlci_json_bad(model, "unk_token", "\"%.64s\" is not in vocab", unknown);
    for (int i = 0; i < 2 && !status; i++) {
        const char *affix = "";
        status = vlci_json_string(model, affixes[i], &affix);
        if (!status && *affix) status = vlci_json_unsupported(model, affixes[i], "is not supported");
    }
    if (!status && vlci_json_value(model, "dropout") &&
        json_number_value(vlci_json_value(model, "dropout")) != 0)
        status = vlci_json_unsupported(model, "dropout", "random tokens are not supported");
    return status;
}

vlcache_status vlci_bpe_read(const vlci_scope *root, vlci_bpe **out) {
    vlci_scope model, vocab;
    const char *type = "BPE"; /* files from before the field existed leave it out */
    *out = NULL;
    vlci_bpe *bpe = vlci_calloc(1, sizeof *bpe);
    if (!bpe) return vlci_fail_memory("tokenizer model");
    bpe->unknown = -1;
    vlcache_status status = vlci_json_object(root, "model", &model);
    if (!status && !model.object) status = vlci_json_bad(root, "model", "is missing");
    if (!status) status = vlci_json_string(&model, "type", &type);
    if (!status && strcmp(type, "BPE") != 0)
        status = vlci_json_unsupported(&model, "type", "\"%.64s\"; BPE is supported", type);
    if (!status) status = vlci_json_object(&model, "vocab", &vocab);
    if (!status && !vocab.object) status = vlci_json_bad(&model, "vocab", "is missing");
    if (!status) status = read_vocab(&vocab, bpe);
    if (!status) status = read_merges(&model, bpe);
    if (!status) status = read_options(&model, bpe);
    for (int i = 0; i < 256 && !status; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        bpe->byte[i] = vlci_bpe_id(bpe, name, 6);
    }
    if (status) vlci_bpe_destroy(&bpe);
    *out = bpe;
    return status;
}

void vlci_bpe_destroy(vlci_bpe **bpe) {
    if (!*bpe) return;
    vlci_free((*bpe)->arena);
    vlci_free((*bpe)->token);
    vlci_free((*bpe)->slots);
    vlci_free((*bpe)->merges);
    vlci_free(*bpe);
    *bpe = NULL;
}

/* ---- encoding ------------------------------------------------------------------------------------------ */

/* A piece while it is merged: symbols in a doubly linked list, and a heap of candidate merges. */
typedef struct candidate {
    uint32_t rank;
    int32_t id;
    size_t at;
} candidate;

typedef struct word {
    vlci_ids symbols; /* -1: joined to its left neighbour */
    size_t *previous, *next;
    candidate *heap;
    size_t n_heap;
} word;

static bool before(const candidate *a, const candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

/* The heap has room for every candidate: n - 1 at first, and two more for each of at most n - 1 joins. */
static void heap_add(word *w, candidate c) {
    size_t i = w->n_heap++;
    while (i > 0 && before(&c, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
}

static candidate heap_take(word *w) {
    candidate top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap) break;
        if (child + 1 < w->n_heap && before(&w->heap[child + 1], &w->heap[child])) child++;
        if (!before(&w->heap[child], &last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static void consider(const vlci_bpe *bpe, word *w, size_t left, size_t right) {
    if (left >= w->symbols.n || right >= w->symbols.n) return;
    const merge *found = find_merge(bpe, w->symbols.at[left], w->symbols.at[right]);
    if (found) heap_add(w, (candidate){found->rank, found->id, left});
}

static void join_all(const vlci_bpe *bpe, word *w) {
    size_t n = w->symbols.n;
    int32_t *id = w->symbols.at;
    for (size_t i = 0; i < n; i++) w->previous[i] = i ? i - 1 : SIZE_MAX, w->next[i] = i + 1;
    for (size_t i = 0; i + 1 < n; i++) consider(bpe, w, i, i + 1);
    while (w->n_heap) {
        candidate top = heap_take(w);
        if (id[top.at] < 0 || w->next[top.at] >= n) continue;
        size_t right = w->next[top.at];
        const merge *still = find_merge(bpe, id[top.at], id[right]);
        if (!still || still->id != top.id) continue; /* its symbols were joined elsewhere */
        id[top.at] = top.id;
        id[right] = -1;
        w->next[top.at] = w->next[right];
        if (w->next[right] < n) w->previous[w->next[right]] = top.at;
        consider(bpe, w, w->previous[top.at], top.at);
        consider(bpe, w, top.at, w->next[top.at]);
    }
}

/* One symbol a character; an unknown one becomes its bytes' tokens, or the unknown token. */
static vlcache_status split_symbols(const vlci_bpe *bpe, const char *piece, size_t n, vlci_ids *symbols) {
    vlcache_status status = VLCACHE_OK;
    bool pending = false; /* an unknown token that may yet grow */
    uint32_t code;
    for (size_t at = 0, length; at < n && !status; at += length) {
        length = (size_t)vlci_utf8_char(piece + at, n - at, &code);
        int32_t id = vlci_bpe_id(bpe, piece + at, length);
        bool bytes = id < 0 && bpe->byte_fallback;
        for (size_t i = 0; i < length && bytes; i++) bytes = bpe->byte[(unsigned char)piece[at + i]] >= 0;
        if (id >= 0) {
            if (pending) status = vlci_ids_add(symbols, bpe->unknown);
            pending = false;
            if (!status) status = vlci_ids_add(symbols, id);
        } else if (bytes) {
            for (size_t i = 0; i < length && !status; i++)
                status = vlci_ids_add(symbols, bpe->byte[(unsigned char)piece[at + i]]);
        } else if (bpe->unknown >= 0) {
            if (pending && !bpe->fuse_unknown) status = vlci_ids_add(symbols, bpe->unknown);
            pending = true;
        }
    }
    if (pending && !status) status = vlci_ids_add(symbols, bpe->unknown);
    return status;
}

vlcache_status vlci_bpe_encode(const vlci_bpe *bpe, const char *piece, size_t n, vlci_ids *ids) {
    word w = {0};
    int32_t whole = bpe->ignore_merges ? vlci_bpe_id(bpe, piece, n) : -1;
    if (whole >= 0) return vlci_ids_add(ids, whole);
    vlcache_status status = split_symbols(bpe, piece, n, &w.symbols);
    if (status || w.symbols.n == 0) goto done;
    w.previous = vlci_alloc(w.symbols.n, sizeof *w.previous);
    w.next = vlci_alloc(w.symbols.n, sizeof *w.next);
    w.heap = vlci_alloc(w.symbols.n, 3 * sizeof *w.heap);
    if (!w.previous || !w.next || !w.heap) {
        status = vlci_fail_memory("tokens of a text");
        goto done;
    }
    join_all(bpe, &w);
    for (size_t i = 0; i < w.symbols.n && !status; i++)
        if (w.symbols.at[i] >= 0) status = vlci_ids_add(ids, w.symbols.at[i]);
done:
    vlci_free(w.symbols.at);
    vlci_free(w.previous);
    vlci_free(w.next);
    vlci_free(w.heap);
    return status;
}
