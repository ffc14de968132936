/*
 * plan.c - the plan of one prompt: which rows are looked at, what each layer may keep, and the order of the
 * steps.
 */
#include "compress/plan.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"

/* Of the rows that all layers keep: what those read may hold before all of them shrink. */
#define SLACK 1.125

static const vlci_compress_shape *shape_of(const vlci_compress *p) {
    return &p->kernels->shape;
}

static int n_heads(const vlci_compress *p) {
    return shape_of(p)->layers * shape_of(p)->kv_heads;
}

static vlcache_device *device_of(const vlci_compress *p) {
    return p->kernels->device;
}

/* The layer of the cache that is the plan's layer. */
static int kv_layer(const vlci_compress *p, int layer) {
    return p->kv_layers ? p->kv_layers[layer] : layer;
}

/* The other way round; -1: the plan is not about it. */
static int own_layer(const vlci_compress *p, int layer) {
    if (!p->kv_layers) return layer;
    for (int l = 0; l < shape_of(p)->layers; l++)
        if (p->kv_layers[l] == layer) return l;
    return -1;
}

/* Rows that stand behind the prompt's tokens in a head. */
static int rows_behind(const vlci_compress *p) {
    return p->kv_layers ? 0 : p->behind;
}

/* ---- kernels ------------------------------------------------------------------------------------------- */

static vlcache_status check_shape(const vlci_compress_shape *s) {
    if (s->layers < 1 || s->kv_heads < 1 || s->head_dim < 1 || s->heads < s->kv_heads ||
        s->heads % s->kv_heads)
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: shape: %d layers, %d heads over %d kv heads of %d",
                         s->layers, s->heads, s->kv_heads, s->head_dim);
    return VLCACHE_OK;
}

static vlcache_status check_shares(const vlci_compress_shape *s, const vlci_recipe *r) {
    bool heads = r->allocation == VLCI_ALLOCATE_HEADS;
    int n = heads ? s->layers * s->kv_heads : s->layers;
    if (!r->compresses || (r->allocation != VLCI_ALLOCATE_LAYERS && !heads) || r->n_shares == n)
        return VLCACHE_OK;
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.n_shares", VLCI_VALUE("%d", r->n_shares),
                       "must be %d, a share for each %slayer of this model", n,
                       heads ? "kv head of each " : "");
}

vlcache_status vlci_compress_open(vlcache_device *device, const vlci_compress_shape *shape,
                                  const vlci_recipe *recipe, vlci_compress_kernels *k) {
    vlcache_status status = check_shape(shape);
    if (!status) status = check_shares(shape, recipe);
    if (status) return status;
    k->device = device;
    k->shape = *shape;
    status = vlci_score_open(device, shape, &k->score);
    if (status || !recipe->compresses) return status; /* probes look at full caches too */
    status = vlci_pool_open(device, recipe, &k->pool);
    if (!status) status = vlci_topk_open(device, &k->topk);
    if (!status) status = vlci_compact_open(device, shape, &k->compact);
    if (!status && recipe->coded) status = vlci_coding_open(device, shape, &k->coding);
    if (!status && recipe->coded && recipe->run == VLCACHE_RUN_ROW)
        status = vlci_coded_open_rows(&k->coding.attention);
    if (!status && recipe->coded && recipe->run == VLCACHE_RUN_ROW && !recipe->run_by_layer)
        status = vlci_coded_open_scores(&k->coding.attention);
    if (!status && recipe->quantised) status = vlci_quantise_open(device, shape, recipe, &k->quantise);
    return status ? status : vlci_summary_open(device, shape, recipe, &k->summary);
}

/* ---- creation ------------------------------------------------------------------------------------------ */

static bool same(const vlci_scores *s, const vlci_rows *rows, double threshold) {
    return s && vlci_rows_equal(&s->rows, rows) && (!s->counted || s->threshold == threshold);
}

static vlcache_status find_scores(vlci_compress *p, const vlci_compress_prompt *prompt,
                                  vlci_compress *const *others, size_t n_others) {
    double threshold = p->recipe.threshold;
    int decoded = p->recipe.scoring == VLCI_SCORE_NONE ? 0 : VLCI_ROW_SCORED;
    int behind = p->recipe.defer > 0 ? p->recipe.defer : 0;
    vlci_rows rows;
    vlcache_status status = vlci_rows_create(&p->recipe, prompt, &rows);
    if (status) return status;
    for (size_t i = 0; i < n_others && !p->seen; i++)
        if (others[i] && same(others[i]->seen, &rows, threshold)) p->seen = others[i]->seen;
    p->looks = !p->seen && rows.n;
    if (p->seen)
        p->seen->references++;
    else if (rows.n)
        status = vlci_scores_create(device_of(p), &p->kernels->score, shape_of(p), prompt, &rows, decoded,
                                    behind, threshold, &p->seen);
    vlci_rows_release(&rows);
    return status;
}

static vlcache_status create_kept(vlci_compress *p, const int32_t *past, vlci_kept *out) {
    size_t n = (size_t)n_heads(p), bytes = n * sizeof *out->own;
    out->own = vlci_calloc(n, sizeof *out->own);
    if (!out->own) return vlci_fail_memory("compression plan");
    for (size_t i = 0; i < n && past; i++) out->own[i].before = past[i];
    vlcache_status status =
        vlci_memory_create(device_of(p), bytes, "compression: what heads keep", &out->keep);
    if (!status) status = vlci_write_later(device_of(p), out->keep, 0, out->own, bytes);
    return status;
}

/* All rows that are kept are coded, or none is. */
static void keep_all(vlci_compress *p) {
    int coded = p->coding ? vlci_coding_kept(p->coding) : 0, heads = shape_of(p)->kv_heads;
    for (int l = 0; l < shape_of(p)->layers; l++) {
        vlcache_compress_layer *at = &p->layer[l];
        at->budget = p->recipe.budget;
        at->kept = p->coding ? coded : p->tokens;
        at->coded = coded;
        for (int h = 0; h < heads; h++) p->now.own[l * heads + h].kept = p->coding ? 0 : p->tokens;
    }
}

static size_t row_bytes(const vlci_compress_shape *s) {
    return 2 * (size_t)s->head_dim * vlci_dtype_bytes(s->kv_dtype);
}

/* Budgets of the first `layers` layers, as far as they are known then. Heads that do not share theirs evenly
 * keep as many rows together: positions find their places before any is chosen. */
static void share_layers(vlci_compress *p, int layers) {
    int heads = shape_of(p)->kv_heads;
    if (p->recipe.coded) {
        keep_all(p);
        return;
    }
    if (vlci_quantise_wanted(&p->recipe))
        vlci_quantise_budget(&p->recipe, shape_of(p), p->tokens, layers, p->layer);
    else {
        vlci_recipe rows = vlci_budget_rows(&p->recipe, row_bytes(shape_of(p)));
        vlci_budget_share(&rows, p->tokens, p->n_spared, layers, shape_of(p)->layers, p->layer);
    }
    for (int l = 0; l < layers; l++) vlci_budget_even(&p->layer[l], heads, p->now.own + l * heads);
}

/* Whether compressing takes long: centroids are searched for. */
static bool sums_up(const vlci_recipe *r) {
    return vlci_compress_shrinks(r) && r->centroids > 0.0 && !r->coded && !r->quantised;
}

int vlci_compress_calls(const vlci_compress_shape *s, const vlci_recipe *r, int tokens) {
    double rows = (double)s->layers * s->kv_heads * tokens;
    if (!sums_up(r)) return vlci_coding_wanted(r) ? 2 : 1;
    double calls =
        vlci_summary_worth(r, rows, tokens, r->budget * r->centroids * tokens) / VLCI_SUMMARY_AT_ONCE;
    return calls > 1 ? (int)ceil(2 * calls)
                     : 1; /* what one and the next enqueue is more than VLCI_SUMMARY_AT_ONCE */
}

static vlcache_status create_aside(vlci_compress *p, const int *kv_layers) {
    size_t n = (size_t)shape_of(p)->layers;
    if (!kv_layers) return VLCACHE_OK;
    p->recipe.recent = -1;
    p->kv_layers = vlci_alloc(n, sizeof *p->kv_layers);
    if (!p->kv_layers) return vlci_fail_memory("compression plan");
    memcpy(p->kv_layers, kv_layers, n * sizeof *p->kv_layers);
    return VLCACHE_OK;
}

/* Which tokens are no candidates. */
static vlcache_status create_spared(vlci_compress *p, const vlci_compress_prompt *prompt) {
    size_t n = (size_t)p->tokens;
    bool of_visual = p->recipe.candidates == VLCI_CANDIDATES_TEXT;
    if (p->recipe.candidates == VLCI_CANDIDATES_ALL) return VLCACHE_OK;
    uint8_t *spared = vlci_alloc(n, 1);
    if (!spared) return vlci_fail_memory("compression plan");
    for (int row = 0, next = 0; row < p->tokens; row++) {
        spared[row] = vlci_rows_visual(prompt, row, &next) == of_visual;
        p->n_spared += spared[row];
    }
    vlcache_status status = vlci_memory_create(device_of(p), n, "compression: candidates", &p->spared);
    if (!status) status = vlci_write_later(device_of(p), p->spared, 0, spared, n);
    vlci_free(spared);
    return status;
}

/* Room for n positions, and for as many as may come to be kept; what there was is lost. */
static vlcache_status make_positions(const vlci_compress *p, size_t n, vlci_kept *kept) {
    bool all = p->recipe.candidates != VLCI_CANDIDATES_ALL;
    size_t bound = (size_t)vlci_compress_rows_bound(&p->recipe, p->tokens, shape_of(p)->layers) *
                   (size_t)shape_of(p)->kv_heads;
    if (kept->positions && n <= kept->positions_room) return VLCACHE_OK;
    if (n < bound && !all && !p->recipe.coded) n = bound;
    vlci_memory_release(device_of(p), &kept->positions);
    kept->positions_room = 0;
    vlcache_status status =
        vlci_memory_create(device_of(p), n * sizeof(cl_int), "compression: kept positions", &kept->positions);
    if (!status) kept->positions_room = n;
    return status;
}

static vlcache_status create(vlci_compress *p, const vlci_compress_prompt *prompt) {
    size_t n_grids = p->recipe.pooling == VLCI_POOL_GRID ? (size_t)prompt->n_grids : 0;
    size_t grids = n_grids * sizeof *prompt->grids, to = (size_t)n_heads(p) * sizeof(vlci_kv_head);
    p->tokens = prompt->tokens;
    p->tau = vlci_rows_tau(vlci_rows_looking(prompt), prompt->text, &p->fallback);
    p->n_grids = (int)n_grids;
    p->at_once = VLCI_SUMMARY_AT_ONCE;
    p->layer = vlci_calloc((size_t)shape_of(p)->layers, sizeof *p->layer);
    vlcache_status status = p->layer ? VLCACHE_OK : vlci_fail_memory("compression plan");
    if (!status) status = create_aside(p, prompt->kv_layers);
    if (!status) status = create_spared(p, prompt);
    if (!status) status = create_kept(p, prompt->past, &p->now);
    if (!status) status = create_kept(p, prompt->past, &p->before);
    if (!status && !vlci_policy_measures(&p->recipe)) share_layers(p, shape_of(p)->layers);
    if (!status) status = vlci_memory_create(device_of(p), to, "compression: heads", &p->to);
    if (!status) status = vlci_memory_create(device_of(p), grids, "compression: token grids", &p->grids);
    if (!status) status = vlci_write_later(device_of(p), p->grids, 0, prompt->grids, grids);
    if (!status) status = make_positions(p, 1, &p->now); /* and drivers allocate what is first used */
    return status ? status : vlci_fill(device_of(p), p->now.positions, 0, sizeof(cl_int), 0);
}

vlcache_status vlci_compress_create(const vlci_compress_kernels *kernels, const vlci_recipe *recipe,
                                    const vlci_compress_prompt *prompt, vlci_compress *const *others,
                                    size_t n_others, vlci_compress **out) {
    *out = NULL;
    if (!recipe->compresses) return VLCACHE_OK;
    int rows = vlci_rows_looking(prompt);
    if (prompt->tokens < 1 || prompt->text < 0 || prompt->text > rows)
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: %d tokens of text behind a picture in a prompt of %d",
                         prompt->text, rows);
    vlci_compress *p = vlci_calloc(1, sizeof *p);
    if (!p) return vlci_fail_memory("compression plan");
    p->kernels = kernels;
    p->recipe = *recipe;
    vlcache_status status = create(p, prompt);
    if (!status) status = find_scores(p, prompt, others, n_others);
    if (!status && vlci_coding_wanted(recipe))
        status = vlci_coding_create(device_of(p), &kernels->coding, shape_of(p), recipe, prompt, &p->coding);
    if (status)
        vlci_compress_destroy(&p);
    else
        *out = p;
    return status;
}

static void release_kept(vlcache_device *device, vlci_kept *kept) {
    vlci_free(kept->own);
    vlci_memory_release(device, &kept->keep);
    vlci_memory_release(device, &kept->positions);
}

void vlci_compress_destroy(vlci_compress **plan) {
    if (!plan || !*plan) return;
    vlci_compress *p = *plan;
    release_kept(device_of(p), &p->now);
    release_kept(device_of(p), &p->before);
    vlci_memory_release(device_of(p), &p->to);
    vlci_memory_release(device_of(p), &p->grids);
    vlci_memory_release(device_of(p), &p->spared);
    vlci_pooled_release(device_of(p), &p->pooled);
    vlci_summary_give_back(device_of(p), &p->room, p->kernels->spare);
    vlci_scores_release(&p->seen);
    vlci_coding_destroy(&p->coding);
    vlci_quantising_destroy(&p->quantising);
    vlci_free(p->layer);
    vlci_free(p->kv_layers);
    vlci_free(p);
    *plan = NULL;
}

/* ---- looking ------------------------------------------------------------------------------------------- */

/* Rows that are held look at all layers, of which the first begins at entry `heads_at`. */
static vlcache_status settle(vlci_compress *p, const vlci_kv_view *kv, size_t heads_at) {
    return p->seen ? vlci_scores_settle(p->seen, kv, heads_at) : VLCACHE_OK;
}

/* As soon as all are there, behind the last layer, so that the device need not wait for the host. */
static vlcache_status settle_last(vlci_compress *p, int layer, const vlci_look *look, bool last) {
    int layers = shape_of(p)->layers;
    if (!last || layer < layers - 1 || !p->seen || p->seen->references > 1) return VLCACHE_OK;
    return settle(p, &look->a->kv, look->heads_at - (size_t)layer * (size_t)shape_of(p)->kv_heads);
}

vlcache_status vlci_compress_observe(vlci_compress *p, int of_kv, const vlci_look *look) {
    int layer = own_layer(p, of_kv);
    if (layer < 0) return VLCACHE_OK;
    vlcache_status status = p->looks ? vlci_scores_observe(p->seen, layer, look) : VLCACHE_OK;
    if (!status && p->coding) status = vlci_coding_observe(p->coding, layer, look, p->seen);
    bool last = p->seen && !p->seen->behind &&
                vlci_rows_from(&p->seen->rows, look->from + look->n) == p->seen->rows.n;
    return status ? status : settle_last(p, layer, look, last);
}

vlcache_status vlci_compress_ask(vlci_compress *p, int of_kv, bool by_layer) {
    int layer = own_layer(p, of_kv), all = shape_of(p)->layers;
    bool each = by_layer && vlci_policy_measures(&p->recipe);
    if (!p->seen || p->recipe.defer || layer < 0 || (!each && layer < all - 1)) return VLCACHE_OK;
    return vlci_scores_ask(p->seen, each ? layer : 0, each ? 1 : all);
}

/* Scores that others look at too are left to them. */
static vlcache_status own_scores(vlci_compress *p) {
    vlci_scores *copy = NULL;
    if (!p->seen || p->seen->references == 1) return VLCACHE_OK;
    vlcache_status status = vlci_scores_copy(p->seen, &copy);
    if (status) return status;
    vlci_scores_release(&p->seen);
    p->seen = copy;
    return VLCACHE_OK;
}

vlcache_status vlci_compress_observe_decode(vlci_compress *p, int of_kv, const vlci_look *look) {
    int layer = own_layer(p, of_kv);
    if (layer < 0) return VLCACHE_OK;
    bool alone = p->seen && p->seen->references == 1 && vlci_scores_holds(p->seen, true);
    vlcache_status status = alone ? VLCACHE_OK : settle(p, &look->a->kv, look->heads_at);
    if (!status) status = own_scores(p);
    if (!status && p->coding && p->coding->held)
        status = vlci_coding_score_decode(p->coding, layer, look, p->recipe.defer_weight, p->seen);
    else if (!status && p->seen)
        status = vlci_scores_observe_decode(p->seen, layer, look, p->recipe.defer_weight, true);
    if (!status && p->coding) status = vlci_coding_observe_decode(p->coding, layer, look, p->seen);
    if (!status && layer == shape_of(p)->layers - 1) p->decoded++;
    return status ? status : settle_last(p, layer, look, p->decoded == p->recipe.defer);
}

/* ---- budgets ------------------------------------------------------------------------------------------- */

bool vlci_compress_by_layer(const vlci_recipe *r) {
    if (!r->compresses) return false;
    if (r->coded) /* layers are held in more bits until bits are shared out; which rows is known then, too */
        return vlci_coding_wanted(r) && (r->voted == 0.0 || r->votes_yield);
    if (r->defer) return false;
    return !vlci_policy_measures(r) || (r->centroids == 0.0 && !r->adaptive);
}

int64_t vlci_compress_rows_bound(const vlci_recipe *r, int tokens, int layers) {
    double share = r->budget * layers;
    if (vlci_policy_measures(r)) /* the clip of step 2 gives at most its least to sparse ones */
        share = fmax(share + vlci_budget_least(r) * layers, share * SLACK);
    if (share > layers || r->candidates != VLCI_CANDIDATES_ALL) share = layers; /* perhaps none may go */
    return (int64_t)ceil(share * tokens) + layers;
}

/* Sparsity of layers from .. until - 1, where it is counted. */
static vlcache_status measure(vlci_compress *p, int from, int until) {
    int heads = shape_of(p)->heads;
    for (int l = from; l < until; l++) p->layer[l].sparsity = (double)NAN;
    if (!p->seen || !p->seen->counted || from == until) return VLCACHE_OK;
    uint64_t *counts = vlci_alloc((size_t)(until - from) * (size_t)heads, sizeof *counts);
    if (!counts) return vlci_fail_memory("compression counts");
    uint64_t entries = vlci_sparsity_entries(&p->seen->rows, p->seen->whole ? p->tokens : 0);
    vlcache_status status = vlci_scores_counts(p->seen, from, until - from, counts);
    p->measured = vlci_clock_ms();
    for (int l = from; l < until && !status; l++)
        p->layer[l].sparsity =
            vlci_sparsity_mean(counts + (size_t)(l - from) * (size_t)heads, heads, entries);
    vlci_free(counts);
    return status;
}

/* Adaptive budgets of the heads of some layers look at the scores. */
static vlcache_status adapt_heads(vlci_compress *p, const vlci_heads *h, cl_mem score, size_t at) {
    int heads = shape_of(p)->kv_heads;
    size_t n = (size_t)heads * (size_t)p->tokens;
    if (!p->recipe.adaptive || !score) return VLCACHE_OK;
    float *values = vlci_alloc(n, sizeof *values);
    vlcache_status status = values ? VLCACHE_OK : vlci_fail_memory("scores of a layer");
    for (int l = h->layer; l < h->layer + h->layers && !status; l++) {
        size_t from = (at + (size_t)(l - h->layer) * n) * sizeof *values;
        status = vlci_read(device_of(p), score, from, values, n * sizeof *values);
        if (!status)
            status = vlci_budget_adapt(&p->layer[l], p->recipe.floor, p->tokens, values, heads,
                                       p->now.own + l * heads);
    }
    vlci_free(values);
    return status;
}

/* Positions of all heads stand one after another. */
static vlcache_status place_positions(vlci_compress *p) {
    size_t n = 0;
    for (int i = 0; i < n_heads(p); i++) {
        p->now.own[i].first = (vlci_i32)n;
        n += (size_t)p->now.own[i].kept;
    }
    vlcache_status status = make_positions(p, n, &p->now);
    size_t bytes = (size_t)n_heads(p) * sizeof *p->now.own;
    return status ? status : vlci_write_later(device_of(p), p->now.keep, 0, p->now.own, bytes);
}

/* ---- choosing and moving ------------------------------------------------------------------------------- */

static vlci_heads heads_of(vlci_compress *p, const vlci_kv *kv, int layer, int layers) {
    return (vlci_heads){.device = device_of(p),
                        .shape = *shape_of(p),
                        .layer = layer,
                        .layers = layers,
                        .tokens = p->tokens,
                        .own = p->now.own,
                        .keep = p->now.keep,
                        .kv = vlci_kv_layer(kv, kv_layer(p, layer)),
                        .heads_at = vlci_kv_heads_at(kv, kv_layer(p, layer))};
}

/* Where rows are coded no other is kept, else all are. */
static vlcache_status choose_all(vlci_compress *p, const vlci_heads *h) {
    vlcache_status status = place_positions(p);
    int *all = vlci_alloc((size_t)p->tokens, sizeof *all);
    if (!status && !all) status = vlci_fail_memory("kept positions");
    for (int i = 0; i < p->tokens && !status; i++) all[i] = i;
    for (int i = 0; i < vlci_heads_n(h) && !status; i++) {
        const vlci_keep *own = &p->now.own[vlci_heads_first(h) + i];
        status = vlci_write_later(device_of(p), p->now.positions, (size_t)own->first * sizeof *all, all,
                                  (size_t)own->kept * sizeof *all);
    }
    vlci_free(all);
    return status;
}

/* Budgets of the heads, then their positions. `*score`, `*at`: what candidates were chosen by. */
static vlcache_status choose(vlci_compress *p, vlci_heads *h, cl_mem *score, size_t *at) {
    if (p->recipe.coded) return choose_all(p, h);
    *score = p->seen ? p->seen->score : NULL;
    *at = (size_t)h->layer * (size_t)shape_of(p)->kv_heads * (size_t)p->tokens;
    vlcache_status status =
        vlci_pool(h, &p->kernels->pool, &p->recipe, p->grids, p->n_grids, &p->pooled, score, at);
    cl_mem best = *score;
    size_t best_at = *at;
    if (!status) status = vlci_pool_spare(h, &p->kernels->pool, p->spared, &p->pooled, &best, &best_at);
    if (!status) status = adapt_heads(p, h, best, best_at);
    if (!status) status = place_positions(p);
    return status ? status : vlci_topk(h, &p->kernels->topk, best, best_at, p->now.positions);
}

static vlci_stay stay_of(const vlci_compress *p) {
    return (vlci_stay){p->now.positions, p->before.keep,
                       p->before.positions ? p->before.positions : p->now.positions, rows_behind(p)};
}

/* Within the pages that there are. */
static vlcache_status squeeze(vlci_compress *p, vlci_heads *h, vlci_kv *kv) {
    const vlci_stay stay = stay_of(p);
    return vlci_compact_within(h, &p->kernels->compact, &stay, kv);
}

/* Into other pages, with centroids where they have been searched for. */
static vlcache_status move(vlci_compress *p, vlci_heads *h, vlci_kv *kv) {
    const vlci_compress_kernels *k = p->kernels;
    const vlci_stay stay = stay_of(p);
    vlci_kv_next next;
    vlcache_status status = vlci_compact_into(h, &k->compact, &stay, kv_layer(p, h->layer), p->to, kv, &next);
    if (status) return status;
    if (p->recipe.centroids > 0.0) status = vlci_summary_write(h, &k->summary, p->to, &p->room);
    if (status)
        vlci_kv_next_release(kv, &next);
    else
        vlci_kv_replaced(kv, &next);
    return status;
}

/* The search for centroids of `layers` layers begins. */
static vlcache_status begin_sum(vlci_compress *p, vlci_heads *h) {
    cl_mem score = NULL;
    size_t at = 0;
    vlcache_status status = choose(p, h, &score, &at);
    vlci_summary_lend(p->kernels->spare, &p->room);
    if (!status)
        status =
            vlci_summary_begin(h, &p->kernels->summary, &p->recipe, p->now.positions, score, at, &p->room);
    if (!status) p->summing = h->layers;
    return status;
}

/* It goes on, as far as `pace` does; these layers shrink once it is over, `*done`. What fails begins anew. */
static vlcache_status sum_up(vlci_compress *p, vlci_kv *kv, int layer, int layers, vlci_pace *pace,
                             bool *done) {
    vlcache_status status = vlci_kv_pool_sync(kv->pool);
    vlci_heads h = heads_of(p, kv, layer, layers);
    const vlci_summary_kernels *k = &p->kernels->summary;
    double ends = vlci_summary_write_worth(&h, k, &p->recipe);
    bool several = vlci_compress_calls(shape_of(p), &p->recipe, p->tokens) > 1;
    *done = false;
    if (!status && !p->summing) { /* of several pieces alone: its token may be one that is looked at */
        if (!vlci_pace_takes(pace, several ? p->at_once : vlci_summary_begin_worth(&h, k, &p->recipe)))
            return VLCACHE_OK;
        status = begin_sum(p, &h);
    }
    if (!status) status = vlci_summary_go(&h, k, &p->room, pace);
    if (!status && (p->room.step < p->room.steps || !vlci_pace_takes(pace, ends))) return VLCACHE_OK;
    if (!status) status = move(p, &h, kv);
    p->summing = 0;
    *done = !status;
    return status;
}

/* What is stored in few bits becomes the cache's, and scratch, a share of the cache, goes where it came from.
 */
static vlcache_status hand_over(vlci_compress *p, vlci_kv *kv) {
    vlcache_status status = VLCACHE_OK;
    if (p->coding) kv->codes = vlci_coding_finish(p->coding, kv->codes, p->layer);
    if (p->quantising) status = vlci_quantising_finish(p->quantising, kv->quants, &kv->quants);
    vlci_summary_give_back(device_of(p), &p->room, p->kernels->spare);
    p->applied = !status;
    return status;
}

/* Statistics of all layers. */
static vlcache_status measure_rows(vlci_compress *p, const vlci_kv *kv) {
    int layers = shape_of(p)->layers, at_once = vlci_coding_layers(p->coding);
    p->coding->pool = kv->pool;
    vlcache_status status = vlci_kv_pool_sync(kv->pool);
    for (int l = 0; l < layers && !status; l += at_once) {
        vlci_heads h = heads_of(p, kv, l, layers - l < at_once ? layers - l : at_once);
        status = vlci_coding_measure(p->coding, &h);
    }
    return status ? status : vlci_coding_ask(p->coding, p->seen);
}

/* Which decides how much of the text is kept. */
static vlcache_status share_bits(vlci_compress *p) {
    vlcache_status status = vlci_coding_share(p->coding, p->seen);
    if (!status) keep_all(p);
    return status;
}

/* What is held of all layers, once bits are shared out. */
static vlcache_status narrow(vlci_compress *p, vlci_kv *kv) {
    vlcache_status status = share_bits(p);
    vlci_heads h = heads_of(p, kv, 0, shape_of(p)->layers);
    if (!status) status = vlci_coding_write(p->coding, &h);
    return status ? status : hand_over(p, kv);
}

/* Layers of these that shrink together. */
static int turn_of(const vlci_compress *p, const vlci_heads *h) {
    if (p->kv_layers || (p->coding && p->coding->held)) return 1;
    if (p->coding) return vlci_coding_write_layers(p->coding);
    return p->recipe.centroids > 0.0 ? vlci_summary_layers(h, &p->kernels->summary) : h->layers;
}

/* Layers whose budgets are known shrink, where anything does. */
static vlcache_status shrink(vlci_compress *p, vlci_kv *kv, int layer, int layers) {
    if (!vlci_compress_shrinks(&p->recipe)) return VLCACHE_OK;
    vlcache_status status = vlci_kv_pool_sync(kv->pool);
    vlci_heads h = heads_of(p, kv, layer, layers);
    bool in_place =
        !p->kv_layers && p->recipe.centroids == 0.0 && !vlci_kv_shared(kv, layer, layers, p->now.own);
    int at_once = turn_of(p, &h);
    vlci_pace whole = {.left = INFINITY};
    bool done;
    for (int l = layer; l < layer + layers && !status; l += at_once) {
        int n = layer + layers - l < at_once ? layer + layers - l : at_once;
        cl_mem score = NULL;
        size_t at = 0;
        h = heads_of(p, kv, l, n);
        if (p->coding && !p->coding->held) status = vlci_coding_write(p->coding, &h);
        if (!status && p->recipe.centroids > 0.0)
            status = sum_up(p, kv, l, n, &whole, &done);
        else {
            if (!status) status = choose(p, &h, &score, &at);
            if (!status) status = in_place ? squeeze(p, &h, kv) : move(p, &h, kv);
        }
    }
    return status;
}

/* The same of those whose centroids are searched for, as far as it may take. */
static vlcache_status shrink_some(vlci_compress *p, vlci_kv *kv, double allowance) {
    int all = shape_of(p)->layers;
    vlci_pace pace = {.left = allowance};
    vlcache_status status = VLCACHE_OK;
    for (bool more = true; more && !status; more &= p->read < all) {
        vlci_heads h = heads_of(p, kv, 0, all);
        int turn = turn_of(p, &h), n = p->summing ? p->summing : all - p->read < turn ? all - p->read : turn;
        status = sum_up(p, kv, p->read, n, &pace, &more);
        if (more) p->read += n;
    }
    return status;
}

/* Rows that are kept in some layers, to few bits each, once it is known how many each head keeps. */
static vlcache_status store(vlci_compress *p, vlci_kv *kv, int layer, int layers) {
    vlcache_status status = vlci_kv_pool_sync(kv->pool);
    if (!status && !p->quantising)
        status = vlci_quantising_create(device_of(p), &p->kernels->quantise, shape_of(p), &p->recipe,
                                        p->now.own, &p->quantising);
    if (!status) vlci_quants_count_in(p->quantising->quants, kv->pool);
    vlci_heads h = heads_of(p, kv, layer, layers);
    if (!status) status = vlci_quantising_write(p->quantising, &h);
    if (!status)
        status = vlci_quantising_drop(p->quantising, &p->kernels->compact, &h, rows_behind(p),
                                      p->now.positions, p->to, kv);
    for (int l = layer; l < layer + layers; l++) p->layer[l].coded = p->layer[l].kept;
    return status;
}

/* What is kept now is what there is when budgets shrink again. */
static void turn_over(vlci_compress *p) {
    vlci_kept now = p->now;
    p->now = p->before;
    p->before = now;
    memcpy(p->now.own, p->before.own, (size_t)n_heads(p) * sizeof *p->now.own);
}

/* Budgets of the layers read, the last of which is `layer`. Returns the first that shrinks to its own: all
 * move what they keep then, so that as long as there is room the last one does alone. */
static int share_read(vlci_compress *p, int layer) {
    int layers = shape_of(p)->layers, heads = shape_of(p)->kv_heads, earlier = layer * heads;
    int64_t rows = 0;
    if (layer) turn_over(p);
    share_layers(p, layer + 1);
    for (int i = 0; i < earlier; i += heads) rows += p->before.own[i].kept;
    rows += p->now.own[earlier].kept;
    if (!layer || layer == layers - 1 || p->recipe.candidates != VLCI_CANDIDATES_ALL ||
        (double)rows > SLACK * p->recipe.budget * layers * p->tokens)
        return 0;
    memcpy(p->before.own + earlier, p->now.own + earlier, (size_t)heads * sizeof *p->now.own);
    vlci_kept before = p->now;
    p->now = p->before;
    p->before = before;
    return layer;
}

/* Rows that stand behind the prompt's in the next layer. */
static int count_behind(const vlci_compress *p, const vlci_kv *kv) {
    return vlci_kv_list_of(kv, kv_layer(p, p->read), 0)->rows - p->tokens -
           p->now.own[p->read * shape_of(p)->kv_heads].before;
}

/* Where bits are shared out at once, no token is decoded on what is held. */
static vlcache_status read_coded(vlci_compress *p, int layer, vlci_kv *kv) {
    bool last = layer == shape_of(p)->layers - 1;
    p->coding->pool = kv->pool;
    share_layers(p, shape_of(p)->layers);
    vlcache_status status = vlci_kv_pool_sync(kv->pool);
    vlci_heads h = heads_of(p, kv, layer, 1);
    if (!status) status = vlci_coding_hold(p->coding, &h);
    if (!status) status = shrink(p, kv, layer, 1);
    p->read = layer + 1;
    if (status || !last) return status;
    status = measure(p, 0, layer + 1);
    if (!status && !p->recipe.defer) return narrow(p, kv);
    if (!status) kv->codes = vlci_coding_lend(p->coding, kv->codes);
    return status;
}

/* Rows that have been measured, in all layers, and come back. */
static vlcache_status code(vlci_compress *p, int layer, vlci_kv *kv) {
    vlcache_status status = layer ? VLCACHE_OK : share_bits(p);
    p->behind = count_behind(p, kv);
    if (!status) status = shrink(p, kv, layer, 1);
    p->read = layer + 1;
    return status || p->read < shape_of(p)->layers ? status : hand_over(p, kv);
}

vlcache_status vlci_compress_read(vlci_compress *p, int layer, vlci_kv *kv) {
    if (p->coding) return vlci_coding_asked(p->coding) ? code(p, layer, kv) : read_coded(p, layer, kv);
    int all = shape_of(p)->layers, first = layer;
    bool again = !vlci_compress_by_layer(&p->recipe), begins = again && layer == 0; /* all have been seen */
    bool measures = vlci_policy_measures(&p->recipe) && !again;
    vlcache_status status = VLCACHE_OK; /* where budgets do not depend on them, counts are not waited for */
    if (measures || begins || (!again && layer == all - 1))
        status = measure(p, measures ? layer : 0, begins ? all : layer + 1);
    if (status) return status;
    if (begins) share_layers(p, all);
    p->behind = count_behind(p, kv);
    p->read = layer + 1;
    if (measures) first = share_read(p, layer);
    status = shrink(p, kv, first, layer + 1 - first);
    bool known = !measures && !p->recipe.adaptive, last = layer == all - 1; /* what each head keeps */
    if (!status && vlci_quantise_wanted(&p->recipe) && (known || last))
        status = store(p, kv, known ? layer : 0, known ? 1 : all);
    return status || !last ? status : hand_over(p, kv);
}

/* What all layers may keep. Between tokens counts are not waited for where budgets do not depend on them. */
static vlcache_status prepare(vlci_compress *p, const vlci_kv *kv, bool some) {
    int layers = shape_of(p)->layers;
    p->unmeasured = some && (sums_up(&p->recipe) || p->coding) && !vlci_policy_measures(&p->recipe);
    vlcache_status status = vlci_kv_pool_sync(kv->pool);
    vlci_heads all = heads_of(p, kv, 0, layers);
    if (!status) status = settle(p, &all.kv, all.heads_at);
    if (!status && !p->unmeasured) status = measure(p, 0, layers);
    if (!status && p->coding) status = vlci_coding_choose(p->coding, p->seen);
    if (status) return status;
    share_layers(p, layers);
    return VLCACHE_OK;
}

vlcache_status vlci_compress_measure(vlci_compress *p, int layer, vlci_kv *kv) {
    p->coding->pool = kv->pool;
    vlcache_status status = layer ? vlci_kv_pool_sync(kv->pool) : prepare(p, kv, false);
    vlci_heads h = heads_of(p, kv, layer, 1);
    if (!status) status = vlci_coding_measure(p->coding, &h);
    return status || layer < shape_of(p)->layers - 1 ? status : vlci_coding_ask(p->coding, p->seen);
}

/* Layers in which the whole prompt is still there. */
static vlcache_status go(vlci_compress *p, vlci_kv *kv, bool some) {
    int all = shape_of(p)->layers;
    bool asked = p->coding && vlci_coding_asked(p->coding);
    vlci_kv_catch_up(kv);
    if (p->coding && p->coding->held)
        return some && !asked ? vlci_coding_ask(p->coding, p->seen) : narrow(p, kv);
    bool begun = p->read || p->summing || asked;
    vlcache_status status = begun ? VLCACHE_OK : prepare(p, kv, some);
    if (!status && !begun && p->coding) status = measure_rows(p, kv);
    if (status || (some && p->coding && !asked)) return status;
    if (p->coding) status = share_bits(p);
    if (status) return status;
    p->behind = count_behind(p, kv);
    if (sums_up(&p->recipe)) {
        status = shrink_some(p, kv, some ? p->at_once : INFINITY);
        if (status || p->read < all) return status;
    } else {
        status = shrink(p, kv, p->read, all - p->read);
        if (status) return status;
        p->read = all;
    }
    if (vlci_quantise_wanted(&p->recipe)) status = store(p, kv, 0, all);
    return status ? status : hand_over(p, kv);
}

vlcache_status vlci_compress_all(vlci_compress *p, vlci_kv *kv) {
    return go(p, kv, false);
}

vlcache_status vlci_compress_some(vlci_compress *p, vlci_kv *kv) {
    return go(p, kv, true);
}

void vlci_compress_tidy(vlci_compress *p) {
    if (p->applied && p->seen && p->seen->references == 1)
        vlci_looks_give_back(device_of(p), &p->seen->looks, p->kernels->score.spare);
}

vlcache_status vlci_compress_settle(vlci_compress *p) {
    bool measures = p->unmeasured;
    p->unmeasured = false;
    return measures ? measure(p, 0, shape_of(p)->layers) : VLCACHE_OK;
}
