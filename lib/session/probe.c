/*
 * probe.c - what the full cache attends to in decode, to hold kept sets against.
 *
 *     rank(s, l, kv, j)   = how many tokens of the prompt kv head kv attends to more than to j, in step s
 *     hit(s, l)           = mean over kv heads of  |{ j kept : rank(j) < k }| / k,    k = tokens kept
 *     sparsity(l)         = mean over steps and query heads of  |{ j : A(j) < p * max A }| / N
 *
 * In: the attention of decoded rows, through the kernels that score prompts, of the answer and of those of
 * later turns; sparsity is the first's. Out: figures for research; they cost a second decode and host memory.
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
    const vlci_compress_kernels *kernels; /* borrowed */
    vlci_compress_shape shape;
    const vlci_kv *kv; /* that the steps run on */
    int tokens, steps, room;
    int *begin; /* [turns]: the first step of each */
    size_t turns;
    int32_t **rank; /* [steps]: [layers][kv_heads][tokens] */
    watch *watches; /* one for each threshold; the first ranks too */
    size_t n_watches;
    float *score;             /* [kv_heads][tokens] of one layer */
    uint64_t *counts;         /* [layers][heads] */
    vlci_probe_entry *sorted; /* [tokens] */
};

/* ---- creation ------------------------------------------------------------------------------------------ */

static vlcache_status add_watch(vlci_probe *p, const vlci_compress_prompt *prompt, double threshold) {
    const vlci_rows none = {0}; /* decoded rows are looked at only */
    for (size_t i = 0; i < p->n_watches; i++)
        if (p->watches[i].threshold == threshold) return VLCACHE_OK;
    watch *w = &p->watches[p->n_watches++];
    w->threshold = threshold;
    w->insignificant = vlci_calloc((size_t)p->shape.layers, sizeof *w->insignificant);
    if (!w->insignificant) return vlci_fail_memory("probe");
    return vlci_scores_create(p->kernels->device, &p->kernels->score, &p->shape, prompt, &none,
                              VLCI_ROW_SCORED | VLCI_ROW_COUNTED, 0, threshold, &w->scores);
}

static vlcache_status create_host(vlci_probe *p, size_t n, size_t turns) {
    size_t tokens = (size_t)p->tokens, layers = (size_t)p->shape.layers;
    p->watches = vlci_calloc(n, sizeof *p->watches);
    p->score = vlci_alloc((size_t)p->shape.kv_heads * tokens, sizeof *p->score);
    p->counts = vlci_alloc(layers * (size_t)p->shape.heads, sizeof *p->counts);
    p->sorted = vlci_alloc(tokens, sizeof *p->sorted);
    p->begin = vlci_calloc(turns, sizeof *p->begin);
    return p->watches && p->score && p->counts && p->sorted && p->begin ? VLCACHE_OK
                                                                        : vlci_fail_memory("probe");
}

vlcache_status vlci_probe_create(const vlci_compress_kernels *kernels, const vlci_probe_options *options,
                                 vlci_probe **out) {
    vlci_compress_prompt prompt = {.tokens = options->tokens, .past = options->before};
    *out = NULL;
    vlci_probe *p = vlci_calloc(1, sizeof *p);
    if (!p) return vlci_fail_memory("probe");
    p->kernels = kernels;
    p->shape = kernels->shape;
    p->tokens = options->tokens;
    p->turns = 1;
    vlcache_status status = create_host(p, options->n, options->turns);
    for (size_t i = 0; i < options->n && !status; i++)
        status = add_watch(p, &prompt, options->recipes[i].threshold);
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
    vlci_free(p->begin);
    vlci_free(p->rank);
    vlci_free(p->watches);
    vlci_free(p->score);
    vlci_free(p->counts);
    vlci_free(p->sorted);
    vlci_free(p);
}

/* ---- a step -------------------------------------------------------------------------------------------- */

static int better_first(const void *left, const void *right) {
    const vlci_probe_entry *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->position - b->position;
}

void vlci_probe_rank(const float *score, int n, vlci_probe_entry *sorted, int32_t *rank) {
    for (int32_t j = 0; j < n; j++) sorted[j] = (vlci_probe_entry){score[j], j};
    qsort(sorted, (size_t)n, sizeof *sorted, better_first);
    for (int32_t i = 0; i < n; i++) rank[sorted[i].position] = i;
}

static vlcache_status rank_layer(vlci_probe *p, int layer, int32_t *rank) {
    size_t heads = (size_t)p->shape.kv_heads, n = (size_t)p->tokens, floats = heads * n;
    vlcache_status status =
        vlci_read(p->kernels->device, p->watches[0].scores->score, (size_t)layer * floats * sizeof *p->score,
                  p->score, floats * sizeof *p->score);
    for (size_t h = 0; h < heads && !status; h++)
        vlci_probe_rank(p->score + h * n, p->tokens, p->sorted, rank + ((size_t)layer * heads + h) * n);
    return status;
}

static vlcache_status count(vlci_probe *p, watch *w) {
    size_t heads = (size_t)p->shape.heads, n = (size_t)p->shape.layers * heads;
    vlcache_status status = vlci_scores_counts(w->scores, 0, p->shape.layers, p->counts);
    for (size_t i = 0; i < n && !status; i++) w->insignificant[i / heads] += p->counts[i];
    return status;
}

/* Room for the ranks of another step. */
static vlcache_status add_step(vlci_probe *p) {
    size_t n = (size_t)p->shape.layers * (size_t)p->shape.kv_heads * (size_t)p->tokens;
    if (p->steps == p->room) {
        int room = p->room ? 2 * p->room : 16;
        int32_t **more = vlci_realloc(p->rank, (size_t)room, sizeof *more);
        if (!more) return vlci_fail_memory("probe");
        p->rank = more;
        p->room = room;
    }
    p->rank[p->steps] = vlci_alloc(n, sizeof **p->rank);
    if (!p->rank[p->steps]) return vlci_fail_memory("probe: ranks of a step");
    p->steps++;
    return VLCACHE_OK;
}

/* What every threshold sees of a layer, and the ranks of the first, which is all that later turns tell. */
static vlcache_status observe(void *user, int layer, const vlci_attention *a, int from, int rows) {
    vlci_probe *p = user;
    vlci_look look = {.a = a, .heads_at = vlci_kv_heads_at(p->kv, layer), .n = 1};
    vlcache_status status = layer ? VLCACHE_OK : add_step(p);
    size_t n = p->turns > 1 ? 1 : p->n_watches;
    (void)from, (void)rows;
    for (size_t i = 0; i < n && !status; i++)
        status = vlci_scores_observe_decode(p->watches[i].scores, layer, &look, 1.0, false);
    if (!status) status = rank_layer(p, layer, p->rank[p->steps - 1]);
    bool last = p->turns == 1 && layer == p->shape.layers - 1;
    for (size_t i = 0; i < n && last && !status; i++) status = count(p, &p->watches[i]);
    return status;
}

vlci_observer vlci_probe_observer(vlci_probe *p, const vlci_kv *kv) {
    p->kv = kv;
    return (vlci_observer){.user = p, .part = observe};
}

void vlci_probe_turn(vlci_probe *p) {
    p->begin[p->turns++] = p->steps;
}

/* ---- a variant ----------------------------------------------------------------------------------------- */

/* The steps of a turn. */
typedef struct span {
    int begin, n;
} span;

static span span_of(const vlci_probe *p, size_t turn) {
    int end = turn + 1 < p->turns ? p->begin[turn + 1] : p->steps;
    return (span){p->begin[turn], end - p->begin[turn]};
}

static double sparsity(const vlci_probe *p, double threshold, int layer, int steps) {
    double entries = (double)steps * p->shape.heads * p->tokens;
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

/* Which tenth a step is in, and how many steps that has. */
static int tenth_of(int step, int steps) {
    return (int)((int64_t)step * VLCACHE_TENTHS / steps);
}

static int tenth_steps(int tenth, int steps) {
    int n = 0;
    for (int s = 0; s < steps; s++) n += tenth_of(s, steps) == tenth;
    return n;
}

/* Sums to means; all is known where everything is kept. */
static void finish_tenths(int steps, bool kept_all, vlcache_probe_layer *out) {
    for (int t = 0; t < VLCACHE_TENTHS; t++) {
        int n = tenth_steps(t, steps);
        out->hit_tenth[t] = !n ? (double)NAN : kept_all ? 1.0 : out->hit_tenth[t] / n;
    }
}

static vlcache_status add_head(const vlci_probe *p, vlci_compress *plan, int layer, int head, span steps,
                               int *kept, vlcache_probe_layer *out) {
    int k = 0;
    vlcache_status status = vlci_compress_positions(plan, layer, head, kept, &k);
    double share = 1.0 / k / p->shape.kv_heads;
    for (int s = 0; s < steps.n && !status; s++) {
        double hit = share * hits(p, steps.begin + s, layer, head, kept, k);
        if (s == 0) out->hit_first += hit;
        out->hit_all += hit / steps.n;
        out->hit_tenth[tenth_of(s, steps.n)] += hit;
    }
    return status;
}

vlcache_status vlci_probe_layer(const vlci_probe *p, vlci_compress *plan, double threshold, int layer,
                                size_t turn, vlcache_probe_layer *out) {
    if (turn >= p->turns)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "turn", VLCI_VALUE("%zu", turn),
                           "must be below %zu, the turns that were looked at", p->turns);
    span steps = span_of(p, turn);
    *out = (vlcache_probe_layer){
        .steps = steps.n, .sparsity = (double)NAN, .hit_first = (double)NAN, .hit_all = (double)NAN};
    for (int t = 0; t < VLCACHE_TENTHS && !steps.n; t++) out->hit_tenth[t] = (double)NAN;
    if (!steps.n) return VLCACHE_OK;
    if (!turn) out->sparsity = sparsity(p, threshold, layer, steps.n);
    out->hit_first = out->hit_all = plan ? 0.0 : 1.0;
    if (!plan) {
        finish_tenths(steps.n, true, out);
        return VLCACHE_OK;
    }
    vlcache_status status = VLCACHE_OK;
    int *kept = vlci_alloc((size_t)p->tokens, sizeof *kept);
    if (!kept) return vlci_fail_memory("kept positions");
    for (int h = 0; h < p->shape.kv_heads && !status; h++)
        status = add_head(p, plan, layer, h, steps, kept, out);
    finish_tenths(steps.n, false, out);
    vlci_free(kept);
    return status;
}
