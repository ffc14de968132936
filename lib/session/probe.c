/*
 * probe.c - what the full cache attends to in decode, to hold kept sets against.
 *
 *     rank(s, l, kv, j)   = how many tokens of the prompt kv head kv attends to more than to j, in step s
 *     hit(s, l)           = mean over kv heads of  |{ j kept : rank(j) < k }| / k,    k = tokens kept
 *     sparsity(l)         = mean over steps and query heads of  |{ j : A(j) < p * max A }| / N
 *
 * In: the attention of decoded rows, through the kernels that score prompts. Out: figures for research; they
 * cost a second decode and host memory.
 */
#include "session/probe.h"

#include <math.h>
#include <stdlib.h>

#include "core/alloc.h"

/* Counts under one threshold. */
typedef struct watch {
    double threshold;
    vlci_scores *scores;
    uint64_t *insignificant; /* [layers], sums over steps and query heads */
} watch;

struct vlci_probe {
    vlci_compress_shape shape;
    int tokens, steps, room;
    int32_t **rank; /* [steps]: [layers][kv_heads][tokens] */
    watch *watches; /* one for each threshold; the first ranks too */
    size_t n_watches;
    float *score;     /* [kv_heads][tokens] of one layer */
    uint64_t *counts; /* [layers][heads] */
    void *sorted;     /* [tokens] */
};

typedef struct entry {
    float score;
    int32_t position;
} entry;

/* ---- creation ------------------------------------------------------------------------------------------ */

static vlcache_status add_watch(vlci_probe *p, vlcache_device *device, const vlci_compress_prompt *prompt,
                                double threshold) {
    int start[] = {0, 1}; /* the only row of a step */
    int32_t only = VLCI_ROW(0, VLCI_ROW_SCORED | VLCI_ROW_COUNTED);
    for (size_t i = 0; i < p->n_watches; i++)
        if (p->watches[i].threshold == threshold) return VLCACHE_OK;
    watch *w = &p->watches[p->n_watches++];
    w->threshold = threshold;
    w->insignificant = vlci_calloc((size_t)p->shape.layers, sizeof *w->insignificant);
    if (!w->insignificant) return vlci_fail_memory("probe");
    return vlci_scores_create(device, &p->shape, prompt, &(vlci_rows){start, &only}, threshold, &w->scores);
}

static vlcache_status create_host(vlci_probe *p, size_t n) {
    size_t tokens = (size_t)p->tokens, layers = (size_t)p->shape.layers;
    p->watches = vlci_calloc(n, sizeof *p->watches);
    p->score = vlci_alloc((size_t)p->shape.kv_heads * tokens, sizeof *p->score);
    p->counts = vlci_alloc(layers * (size_t)p->shape.heads, sizeof *p->counts);
    p->sorted = vlci_alloc(tokens, sizeof(entry));
    return p->watches && p->score && p->counts && p->sorted ? VLCACHE_OK : vlci_fail_memory("probe");
}

vlcache_status vlci_probe_create(vlci_text *text, const vlci_kv *kv, const vlci_probe_options *options,
                                 vlci_probe **out) {
    const vlci_text_config *c = &text->model->config.text;
    vlci_compress_prompt prompt = {.tokens = &options->tokens, .past = options->before};
    *out = NULL;
    vlci_probe *p = vlci_calloc(1, sizeof *p);
    if (!p) return vlci_fail_memory("probe");
    p->tokens = options->tokens;
    p->shape = (vlci_compress_shape){.layers = c->layers,
                                     .batch = 1,
                                     .heads = c->heads,
                                     .kv_heads = c->kv_heads,
                                     .head_dim = c->head_dim,
                                     .kv_dtype = kv->dtype};
    vlcache_status status = create_host(p, options->n);
    for (size_t i = 0; i < options->n && !status; i++)
        status = add_watch(p, text->device, &prompt, options->recipes[i].threshold);
    if (status)
        vlci_probe_destroy(&p);
    else
        *out = p;
    return status;
}

void vlci_probe_destroy(vlci_probe **handle) {
    if (!handle || !*handle) return;
    vlci_probe *p = *handle;
    *handle = NULL;
    for (int s = 0; s < p->steps; s++) vlci_free(p->rank[s]);
    for (size_t i = 0; i < p->n_watches; i++) {
        vlci_scores_release(&p->watches[i].scores);
        vlci_free(p->watches[i].insignificant);
    }
    vlci_free(p->rank);
    vlci_free(p->watches);
    vlci_free(p->score);
    vlci_free(p->counts);
    vlci_free(p->sorted);
    vlci_free(p);
}

/* ---- a step -------------------------------------------------------------------------------------------- */

static int better_first(const void *left, const void *right) {
    const entry *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->position - b->position;
}

static void rank_head(vlci_probe *p, const float *score, int32_t *rank) {
    entry *sorted = p->sorted;
    for (int32_t j = 0; j < p->tokens; j++) sorted[j] = (entry){score[j], j};
    qsort(sorted, (size_t)p->tokens, sizeof *sorted, better_first);
    for (int32_t i = 0; i < p->tokens; i++) rank[sorted[i].position] = i;
}

static vlcache_status rank_layer(vlci_probe *p, vlcache_device *device, int layer, int32_t *rank) {
    size_t heads = (size_t)p->shape.kv_heads, n = (size_t)p->tokens;
    vlcache_status status =
        vlci_read(device, p->watches[0].scores->score[layer], 0, p->score, heads * n * sizeof *p->score);
    for (size_t h = 0; h < heads && !status; h++)
        rank_head(p, p->score + h * n, rank + ((size_t)layer * heads + h) * n);
    return status;
}

static vlcache_status count(vlci_probe *p, vlcache_device *device, watch *w) {
    size_t heads = (size_t)p->shape.heads, n = (size_t)p->shape.layers * heads;
    vlcache_status status = vlci_read(device, w->scores->counts, 0, p->counts, n * sizeof *p->counts);
    for (size_t i = 0; i < n && !status; i++) w->insignificant[i / heads] += p->counts[i];
    return status;
}

static vlcache_status make_room(vlci_probe *p) {
    size_t n = (size_t)p->shape.layers * (size_t)p->shape.kv_heads * (size_t)p->tokens;
    if (p->steps == p->room) {
        int room = p->room ? 2 * p->room : 16;
        int32_t **more = vlci_realloc(p->rank, (size_t)room, sizeof *more);
        if (!more) return vlci_fail_memory("probe");
        p->rank = more;
        p->room = room;
    }
    p->rank[p->steps] = vlci_alloc(n, sizeof **p->rank);
    return p->rank[p->steps] ? VLCACHE_OK : vlci_fail_memory("probe: ranks of a step");
}

vlcache_status vlci_probe_step(vlci_probe *p, vlci_text *text, vlci_kv *kv, int32_t token) {
    const int one = 1;
    vlcache_status status = make_room(p);
    if (status) return status;
    int32_t *rank = p->rank[p->steps++];
    status = vlci_text_begin(text, kv, &token, &one, NULL);
    for (int l = 0; l < kv->layers && !status; l++) {
        status = vlci_text_layer_run(text, kv, l);
        vlci_attention a = vlci_text_attention(text, kv, l);
        for (size_t i = 0; i < p->n_watches && !status; i++)
            status = vlci_scores_observe(p->watches[i].scores, l, &a);
        if (!status) status = rank_layer(p, text->device, l, rank);
    }
    for (size_t i = 0; i < p->n_watches && !status; i++) status = count(p, text->device, &p->watches[i]);
    return status ? status : vlci_text_end(text, kv);
}

/* ---- a variant ----------------------------------------------------------------------------------------- */

static double sparsity(const vlci_probe *p, double threshold, int layer) {
    double entries = (double)p->steps * p->shape.heads * p->tokens;
    for (size_t i = 0; i < p->n_watches; i++)
        if (p->watches[i].threshold == threshold) return (double)p->watches[i].insignificant[layer] / entries;
    return (double)NAN;
}

/* Of k kept tokens of a head, those that are among the k most attended to. */
static int hits(const vlci_probe *p, int step, int layer, int head, const int *kept, int k) {
    const int32_t *rank = p->rank[step] + (layer * p->shape.kv_heads + head) * (size_t)p->tokens;
    int n = 0;
    for (int i = 0; i < k; i++) n += rank[kept[i]] < k;
    return n;
}

static vlcache_status add_head(const vlci_probe *p, vlci_compress *plan, int layer, int head, int *kept,
                               vlcache_probe_layer *out) {
    int k = vlci_compress_kept(plan, layer, 0);
    double share = 1.0 / k / p->shape.kv_heads;
    vlcache_status status = vlci_compress_positions(plan, layer, 0, head, kept);
    for (int s = 0; s < p->steps && !status; s++) {
        double hit = share * hits(p, s, layer, head, kept, k);
        if (s == 0) out->hit_first += hit;
        out->hit_all += hit / p->steps;
    }
    return status;
}

vlcache_status vlci_probe_layer(const vlci_probe *p, vlci_compress *plan, double threshold, int layer,
                                vlcache_probe_layer *out) {
    *out = (vlcache_probe_layer){p->steps, (double)NAN, (double)NAN, (double)NAN};
    if (!p->steps) return VLCACHE_OK;
    out->sparsity = sparsity(p, threshold, layer);
    out->hit_first = out->hit_all = plan ? 0.0 : 1.0;
    if (!plan) return VLCACHE_OK;
    vlcache_status status = VLCACHE_OK;
    int *kept = vlci_alloc((size_t)p->tokens, sizeof *kept);
    if (!kept) return vlci_fail_memory("kept positions");
    for (int h = 0; h < p->shape.kv_heads && !status; h++) status = add_head(p, plan, layer, h, kept, out);
    vlci_free(kept);
    return status;
}
