/*
 * test_plan.c - a plan applied to a cache: all layers at once and layer by layer come to the same positions
 * and rows, those of the paper; how many pages that takes on the way; heads that share a layer's rows; caches
 * that share pages with others; plans that share scores.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/plan.h"
#include "ref/ref_compress.h"
#include "support/pages.h"

/* What scores are made of. */
typedef enum values { RANDOM, FEW_VALUES, EQUAL, WITH_NANS, KINDS } values;

/* A prompt, what was seen of it, and a cache for it. */
typedef struct world {
    vlci_compress_shape shape;
    int tokens, decoded, lists;
    int32_t past[512]; /* earlier rows of each list */
    float *score;      /* [lists][tokens] */
    double sparsity[64];
    vlci_kv_pool pool;
    vlci_kv kv;
} world;

static double uniform(uint64_t *seed) {
    return 0.5 * ((double)suite_random(seed) + 1.0);
}

static float score_of(values kind, uint64_t *seed) {
    float r = fabsf(suite_random(seed));
    if (kind == FEW_VALUES) return floorf(r * 4.0f);
    if (kind == EQUAL) return 0.5f;
    return kind == WITH_NANS && r < 0.3f ? NAN : r * r;
}

static world *make(vlci_compress_shape shape, int tokens, int past, values kind, uint64_t *seed) {
    world *w = calloc(1, sizeof *w); /* caches know where their pool is */
    w->shape = shape;
    w->tokens = tokens;
    w->lists = shape.layers * shape.kv_heads;
    vlci_kv_shape kv = {shape.layers, shape.kv_heads, shape.head_dim, shape.kv_dtype};
    size_t n = (size_t)w->lists * (size_t)tokens;
    w->score = malloc(n * sizeof *w->score);
    for (size_t i = 0; i < n; i++) w->score[i] = score_of(kind, seed);
    for (int l = 0; l < shape.layers; l++) w->sparsity[l] = 1.0 - 0.999 * pow(uniform(seed), 3.0);
    for (int i = 0; i < w->lists && past; i++) w->past[i] = past + i % 5 * 9;
    ck_ok(vlci_kv_pool_create(suite_device(), &kv, 0, true, &w->pool));
    ck_ok(vlci_kv_create(&w->pool, &w->kv));
    return w;
}

static void release(world *w) {
    vlci_kv_release(&w->kv);
    pages_check_owners(&w->pool);
    ck_assert_int_eq(w->pool.held, 0);
    vlci_kv_pool_release(&w->pool);
    free(w->score);
    free(w);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Of keys or values; the same in every dtype. */
static float value_of(int list, int row, int d, int value) {
    uint32_t hash = (uint32_t)(((list * 8191 + row) * 131 + d) * 2 + value) * 2654435761u;
    return (float)((int)(hash >> 24) - 128) / 64.0f;
}

/* Rows from .. of one list, a page at a time, with no bias, as those that a kernel appends; their values are
 * those of rows `shift` further on. */
static void write_list(world *w, int list, int from, int shift) {
    const vlci_kv_list *at = &w->kv.list[list];
    int dim = w->shape.head_dim;
    size_t row_bytes = (size_t)dim * vlci_dtype_bytes(w->shape.kv_dtype);
    float *rows = malloc((size_t)(VLCI_KV_PAGE * dim) * sizeof *rows);
    for (int row = from, n; row < at->rows; row += n) {
        int in_page = row % VLCI_KV_PAGE;
        size_t page = (size_t)w->pool.table.entry[at->first + row / VLCI_KV_PAGE];
        n = VLCI_KV_PAGE - in_page < at->rows - row ? VLCI_KV_PAGE - in_page : at->rows - row;
        if (w->pool.bias)
            ck_ok(vlci_fill(suite_device(), w->pool.bias,
                            (page * VLCI_KV_PAGE + (size_t)in_page) * sizeof(float),
                            (size_t)n * sizeof(float), 0));
        for (int value = 0; value < 2; value++) {
            for (int i = 0; i < n * dim; i++) rows[i] = value_of(list, row + shift + i / dim, i % dim, value);
            void *stored = suite_store(rows, (size_t)(n * dim), w->shape.kv_dtype);
            ck_ok(vlci_write(suite_device(), value ? w->pool.v : w->pool.k,
                             (page * VLCI_KV_PAGE + (size_t)in_page) * row_bytes, stored,
                             (size_t)n * row_bytes));
            free(stored);
        }
    }
    free(rows);
}

/* As many more rows for every head of these layers; they count. */
static void append(world *w, int layer, int layers, int rows) {
    int heads = w->shape.kv_heads;
    ck_ok(vlci_kv_reserve(&w->kv, layer, layers, rows));
    ck_ok(vlci_kv_pool_sync(&w->pool));
    vlci_kv_append(&w->kv, layer, layers, rows);
    for (int i = layer * heads; i < (layer + layers) * heads; i++)
        write_list(w, i, w->kv.list[i].rows - rows, 0);
}

/* Earlier rows, of another number in each head. */
static void append_past(world *w) {
    int most = 0, heads = w->shape.kv_heads;
    for (int i = 0; i < w->lists; i++)
        if (w->past[i] > most) most = w->past[i];
    if (most) append(w, 0, w->shape.layers, most);
    for (int i = 0; i < w->lists; i++) vlci_kv_cut(&w->kv, i / heads, i % heads, w->past[i]);
}

/* ---- plans --------------------------------------------------------------------------------------------- */

static vlci_recipe recipe_of(const char *allocation, const char *selection, const char *summary,
                             double budget) {
    vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_recipe recipe;
    o.budget = budget;
    ck_ok(vlcache_compress_set(&o, "allocation", allocation));
    ck_ok(vlcache_compress_set(&o, "selection", selection));
    ck_ok(vlcache_compress_set(&o, "summary", summary));
    ck_ok(vlci_policy_read(&o, true, &recipe));
    return recipe;
}

/* What would have been seen: scores, and counts that come to the sparsity of each layer. */
static void show(const world *w, vlci_compress *plan) {
    size_t n = (size_t)(w->shape.layers * w->shape.heads);
    uint64_t *counts = calloc(n, sizeof *counts), entries = vlci_sparsity_entries(&plan->seen->rows, 0);
    for (size_t i = 0; i < n; i++)
        counts[i] = (uint64_t)(w->sparsity[i / (size_t)w->shape.heads] * (double)entries);
    ck_ok(vlci_write(suite_device(), plan->seen->score, 0, w->score,
                     (size_t)w->lists * (size_t)w->tokens * sizeof *w->score));
    if (plan->seen->counts)
        ck_ok(vlci_write(suite_device(), plan->seen->counts, 0, counts, n * sizeof *counts));
    free(counts);
}

static vlci_compress *make_plan(const world *w, const vlci_recipe *recipe, vlci_compress_kernels *kernels) {
    vlci_compress_prompt prompt = {.tokens = w->tokens, .text = w->tokens / 9, .past = w->past};
    vlci_compress *plan = NULL;
    ck_ok(vlci_compress_open(suite_device(), &w->shape, recipe, kernels));
    ck_ok(vlci_compress_create(kernels, recipe, &prompt, NULL, 0, &plan));
    show(w, plan);
    plan->decoded = w->decoded;
    return plan;
}

/* ---- the oracle ---------------------------------------------------------------------------------------- */

static void find_budgets(const world *w, const vlci_compress *plan, ref_rows *rows) {
    const vlci_recipe *r = &plan->recipe;
    double row = 2 * w->shape.head_dim * (double)vlci_dtype_bytes(w->shape.kv_dtype);
    ref_shares how = {.alpha = r->budget * (r->centroids > 0 && r->budget < 1 ? row / (row + 4) : 1),
                      .recent = r->recent,
                      .pyramid = r->allocation == VLCI_ALLOCATE_PYRAMID,
                      .uniform = r->uniform,
                      .centroids = r->centroids,
                      .sinks = r->sinks};
    double sparsity[64], entries = (double)vlci_sparsity_entries(&plan->seen->rows, 0);
    for (int l = 0; l < w->shape.layers; l++) { /* a whole number of entries */
        sparsity[l] = plan->layer[l].sparsity;
        ck_assert_double_eq_tol(sparsity[l], w->sparsity[l], 1.0 / entries);
    }
    ref_budget(&how, sparsity, w->shape.layers, w->tokens, rows);
}

static void find_heads(const world *w, const vlci_compress *plan, int layer, const ref_rows *rows,
                       int *kept) {
    const float *score = w->score + (size_t)(layer * w->shape.kv_heads) * (size_t)w->tokens;
    for (int h = 0; h < w->shape.kv_heads; h++) kept[h] = rows->kept;
    if (plan->recipe.adaptive) ref_adapt(score, w->shape.kv_heads, w->tokens, rows, plan->recipe.floor, kept);
}

static void check_row(const world *w, int list, int from, const float *k, const float *v) {
    for (int d = 0; d < w->shape.head_dim; d++)
        ck_assert_msg(k[d] == value_of(list, from, d, 0) && v[d] == value_of(list, from, d, 1),
                      "list %d: a row is not row %d", list, from);
}

/* Rows of a list: earlier ones, those at `want`, centroids, decoded ones. */
static void check_rows(const world *w, const vlci_kv *kv, int list, const int *want, int kept,
                       int centroids) {
    int dim = w->shape.head_dim, past = w->past[list], heads = w->shape.kv_heads;
    int n = past + kept + centroids + w->decoded;
    float *k = malloc((size_t)((n + 1) * dim) * sizeof *k), *v = malloc((size_t)((n + 1) * dim) * sizeof *v);
    ck_assert_int_eq(kv->list[list].rows, n);
    ck_assert_int_eq(kv->list[list].pages, vlci_kv_pages(n));
    pages_read(kv, list / heads, list % heads, k, v, NULL);
    for (int r = 0; r < n; r++) {
        int from = r < past ? r : r < past + kept ? past + want[r - past] : r - kept - centroids + w->tokens;
        if (r < past + kept || r >= past + kept + centroids)
            check_row(w, list, from, k + r * dim, v + r * dim);
    }
    free(k);
    free(v);
}

static void check(const world *w, vlci_compress *plan, const vlci_kv *kv) {
    ref_rows rows[64];
    int heads = w->shape.kv_heads, kept[64], n;
    int *want = malloc((size_t)w->tokens * sizeof *want), *got = malloc((size_t)w->tokens * sizeof *got);
    find_budgets(w, plan, rows);
    for (int l = 0; l < w->shape.layers; l++) {
        find_heads(w, plan, l, &rows[l], kept);
        ck_assert(plan->layer[l].kept == rows[l].kept && plan->layer[l].centroids == rows[l].centroids);
        for (int h = 0; h < heads; h++) {
            int list = l * heads + h;
            int centroids = w->tokens - kept[h] > rows[l].centroids ? rows[l].centroids : 0;
            ref_topk(w->score + (size_t)list * (size_t)w->tokens, w->tokens, kept[h], rows[l].recent,
                     rows[l].sinks, want);
            ck_ok(vlci_compress_positions(plan, l, h, got, &n));
            ck_assert_msg(n == kept[h], "layer %d head %d: %d kept, expected %d", l, h, n, kept[h]);
            ck_assert_msg(memcmp(got, want, (size_t)n * sizeof *got) == 0, "layer %d head %d", l, h);
            check_rows(w, kv, list, want, n, centroids);
        }
    }
    pages_check_owners(&w->pool);
    free(want);
    free(got);
}

/* ---- at once and by layer ------------------------------------------------------------------------------ */

static void all_at_once(world *w, const vlci_recipe *recipe) {
    vlci_compress_kernels kernels = {0};
    append_past(w);
    append(w, 0, w->shape.layers, w->tokens + w->decoded);
    vlci_compress *plan = make_plan(w, recipe, &kernels);
    ck_ok(vlci_compress_all(plan, &w->kv));
    check(w, plan, &w->kv);
    vlci_compress_destroy(&plan);
    vlci_kv_clear(&w->kv);
}

/* Each layer is read when those before it have shrunk. */
static void by_layer(world *w, const vlci_recipe *recipe) {
    vlci_compress_kernels kernels = {0};
    append_past(w);
    vlci_compress *plan = make_plan(w, recipe, &kernels);
    ck_assert(vlci_compress_by_layer(recipe));
    vlci_kv_pool_watch(&w->pool);
    int earlier = w->pool.held, full = w->shape.kv_heads * w->tokens;
    for (int l = 0; l < w->shape.layers; l++) {
        append(w, l, 1, w->tokens);
        ck_ok(vlci_compress_read(plan, l, &w->kv));
    }
    check(w, plan, &w->kv);
    /* one layer in full, what is kept, 10%; and ends of pages, where there are many of few rows */
    int most = (w->pool.most - earlier) * VLCI_KV_PAGE, kept = 0;
    for (int i = 0; i < w->lists; i++) kept += w->kv.list[i].rows - w->past[i];
    int64_t bound =
        w->shape.kv_heads * (vlci_compress_rows_bound(recipe, w->tokens, w->shape.layers) + w->tokens);
    ck_assert_int_le(most,
                     bound + (w->lists + w->shape.kv_heads) * VLCI_KV_PAGE); /* one layer twice: moved */
    if (w->tokens >= 2048 && !recipe->centroids && !w->past[0])
        ck_assert_msg(most <= 1.1 * (full + kept), "%d rows of pages for %d + %d", most, full, kept);
    vlci_compress_destroy(&plan);
    vlci_kv_clear(&w->kv);
}

/* Layer after layer, and between them a row is decoded: in the end the rows are those of all at once. */
static void in_slices(world *w, const vlci_recipe *recipe) {
    vlci_compress_kernels kernels = {0};
    append_past(w);
    append(w, 0, w->shape.layers, w->tokens + w->decoded);
    vlci_compress *plan = make_plan(w, recipe, &kernels);
    plan->at_once = 1;
    for (int calls = 0; !plan->applied; calls++) {
        ck_assert_int_lt(calls, 100);
        if (calls) {
            ck_ok(vlci_kv_reserve(&w->kv, 0, w->shape.layers, 1));
            ck_ok(vlci_kv_pool_sync(&w->pool));
            vlci_kv_append(&w->kv, 0, w->shape.layers, 1);
            for (int i = 0; i < w->lists; i++) {
                int last = w->kv.list[i].rows - 1;
                write_list(w, i, last, w->past[i] + w->tokens + w->decoded - last);
            }
            w->decoded++;
        }
        ck_ok(vlci_compress_some(plan, &w->kv));
    }
    ck_ok(vlci_compress_settle(plan));
    check(w, plan, &w->kv);
    vlci_compress_destroy(&plan);
    vlci_kv_clear(&w->kv);
}

static const char *const allocations[] = {"sparsity", "uniform", "mixed:0.5", "pyramid"};

static world *random_world(uint64_t *seed, values kind) {
    static const vlcache_dtype dtypes[] = {VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F16, VLCACHE_DTYPE_BF16};
    static const int dims[] = {8, 16, 80};
    int kv_heads = 1 + (int)(3.0 * uniform(seed)),
        tokens = 1 + (int)(uniform(seed) * (suite_reduced() ? 60 : 400));
    vlci_compress_shape shape = {1 + (int)(6.0 * uniform(seed)),
                                 2 * kv_heads,
                                 kv_heads,
                                 dims[(int)(3.0 * uniform(seed))],
                                 dtypes[(int)(3.0 * uniform(seed))],
                                 0};
    int past = uniform(seed) < 0.5 ? 0 : (int)(uniform(seed) * 40.0);
    return make(shape, tokens, past, kind, seed);
}

/* What differs from one run of a loop to the next is the host's: a simulator gets the first and the fourth.
 */
static bool left_out(int run) {
    return suite_reduced() && run % 3;
}

START_TEST(test_by_layer) {
    if (left_out(_i)) return;
    uint64_t seed = 101 + (uint64_t)_i;
    for (int round = 0; round < (suite_reduced() ? 1 : 8); round++) {
        vlci_recipe recipe = recipe_of(allocations[_i], "per-head", "none", 0.02 + 0.5 * uniform(&seed));
        if (round % 3 == 1) recipe.sinks = 4;
        if (round == 5) recipe.budget = 1.0;
        world *w = random_world(&seed, (values)(round % KINDS));
        by_layer(w, &recipe);
        all_at_once(w, &recipe);
        w->decoded = 3;
        all_at_once(w, &recipe);
        in_slices(w, &recipe);
        release(w);
    }
}
END_TEST

/* Pages on the way, in a prompt of 2048 tokens at 10%. */
START_TEST(test_pages_by_layer) {
    uint64_t seed = 7 + (uint64_t)_i;
    vlci_recipe recipe = recipe_of(allocations[_i], "per-head", "none", 0.10);
    for (int round = 0; round < 3 && !suite_reduced(); round++) {
        world *w = make((vlci_compress_shape){10, 2, 2, 8, VLCACHE_DTYPE_BF16, 0}, 2048 + 100 * round, 0,
                        RANDOM, &seed);
        for (int l = 0; l < 10;
             l++) /* densities as they are: a few times apart; falling, rising, at random */
            w->sparsity[l] = 1.0 - 0.05 * (round == 0   ? 10 - l
                                           : round == 1 ? l + 1
                                                        : 1.0 + 9.0 * uniform(&seed));
        by_layer(w, &recipe);
        release(w);
    }
}
END_TEST

/* Even budgets with centroids: by layer the rows are those that come of all at once, to the last bit. */
START_TEST(test_centroids_by_layer) {
    static const char *const summaries[] = {"kmeans:0.5:2", "spread:0.6:1"};
    uint64_t seed = 41;
    vlci_recipe recipe = recipe_of("uniform", "per-head", summaries[_i], 0.2);
    int layers = suite_reduced() ? 2 : 3;
    world *w = make((vlci_compress_shape){layers, 4, 2, 16, VLCACHE_DTYPE_F16, 0}, suite_reduced() ? 24 : 170,
                    7, RANDOM, &seed);
    float *k[2][6], *v[2][6], *bias[2][6];
    for (int layerwise = 0; layerwise < 2; layerwise++) {
        vlci_compress_kernels kernels = {0};
        append_past(w);
        vlci_compress *plan = make_plan(w, &recipe, &kernels);
        if (!layerwise) append(w, 0, layers, w->tokens);
        if (!layerwise) ck_ok(vlci_compress_all(plan, &w->kv));
        for (int l = 0; l < layers && layerwise; l++) {
            append(w, l, 1, w->tokens);
            ck_ok(vlci_compress_read(plan, l, &w->kv));
        }
        check(w, plan, &w->kv);
        for (int i = 0; i < w->lists; i++) {
            size_t rows = (size_t)w->kv.list[i].rows;
            k[layerwise][i] = malloc(rows * 16 * sizeof(float));
            v[layerwise][i] = malloc(rows * 16 * sizeof(float));
            bias[layerwise][i] = malloc(rows * sizeof(float));
            pages_read(&w->kv, i / 2, i % 2, k[layerwise][i], v[layerwise][i], bias[layerwise][i]);
            if (!layerwise) continue;
            ck_assert_mem_eq(k[0][i], k[1][i], rows * 16 * sizeof(float));
            ck_assert_mem_eq(v[0][i], v[1][i], rows * 16 * sizeof(float));
            ck_assert_mem_eq(bias[0][i], bias[1][i], rows * sizeof(float));
            for (int both = 0; both < 2; both++) {
                free(k[both][i]);
                free(v[both][i]);
                free(bias[both][i]);
            }
        }
        vlci_compress_destroy(&plan);
        vlci_kv_clear(&w->kv);
    }
    release(w);
}
END_TEST

/* Everything that rows in few bits are, one part after another: new memory. */
static unsigned char *flatten(const vlci_quants *q, size_t *n) {
    cl_mem parts[] = {q->keys, q->values, q->key_scale, q->value_scale, q->bias};
    unsigned char *all = malloc((size_t)vlci_quants_all_bytes(q));
    *n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t bytes = 0;
        if (!parts[i]) continue;
        ck_assert_int_eq(clGetMemObjectInfo(parts[i], CL_MEM_SIZE, sizeof bytes, &bytes, NULL), CL_SUCCESS);
        suite_download(parts[i], all + *n, bytes);
        *n += bytes;
    }
    return all;
}

/* Rows that are kept go to few bits layer by layer, or when what all keep is known: the same, to the last
 * bit, as all at once; within the budget; and pages hold earlier and decoded rows alone. */
START_TEST(test_quantised) {
    static const char *const ways[][3] = {{"uniform", "per-head", "none"},
                                          {"sparsity", "per-head", "none"},
                                          {"uniform", "adaptive:0.2", "none"},
                                          {"uniform", "per-layer", "spread:0.6:1"},
                                          {"pyramid", "per-head", "none"}};
    uint64_t seed = 43;
    vlci_recipe recipe = recipe_of(ways[_i][0], ways[_i][1], ways[_i][2], 0.2);
    recipe.quantised = true;
    recipe.key_bits = 4;
    recipe.value_bits = 2;
    recipe.run = 32;
    world *w = make((vlci_compress_shape){3, 4, 2, 16, VLCACHE_DTYPE_F16, 0}, suite_reduced() ? 50 : 170, 7,
                    RANDOM, &seed);
    unsigned char *bytes[2];
    size_t n[2];
    for (int layerwise = 0; layerwise < 2; layerwise++) {
        vlci_compress_kernels kernels = {0};
        vlcache_compress_stats stats;
        append_past(w);
        vlci_compress *plan = make_plan(w, &recipe, &kernels);
        ck_assert(vlci_compress_by_layer(&recipe));
        if (!layerwise) append(w, 0, 3, w->tokens);
        if (!layerwise) ck_ok(vlci_compress_all(plan, &w->kv));
        for (int l = 0; l < 3 && layerwise; l++) {
            append(w, l, 1, w->tokens);
            ck_ok(vlci_compress_read(plan, l, &w->kv));
        }
        for (int i = 0; i < w->lists; i++) {
            int kept = plan->now.own[i].kept + plan->now.own[i].centroids;
            ck_assert_int_eq(w->kv.list[i].rows, w->past[i]);
            ck_assert_int_eq(w->kv.quants->own[i].rows, kept);
        }
        vlci_compress_stats(plan, &stats);
        ck_assert_uint_eq(stats.bytes_kept, vlci_kv_few_bytes(&w->kv));
        ck_assert_double_le(stats.budget_kept, 0.2);
        bytes[layerwise] = flatten(w->kv.quants, &n[layerwise]);
        vlci_compress_destroy(&plan);
        vlci_kv_clear(&w->kv);
    }
    ck_assert_uint_eq(n[0], n[1]);
    ck_assert_mem_eq(bytes[0], bytes[1], n[0]);
    free(bytes[0]);
    free(bytes[1]);
    release(w);
}
END_TEST

/* More layers than can be summed up at once: each keeps its own positions. */
START_TEST(test_layers_in_turns) {
    uint64_t seed = 43;
    vlci_compress_kernels kernels = {0};
    vlci_recipe recipe = recipe_of("sparsity", "per-head", "kmeans:0.5:0", 0.005);
    world *w = make((vlci_compress_shape){34, 2, 2, 8, VLCACHE_DTYPE_BF16, 0}, 70000, 0, RANDOM, &seed);
    int *want = malloc(70000 * sizeof *want), *got = malloc(70000 * sizeof *got), n;
    if (!suite_reduced()) {
        ck_ok(vlci_kv_reserve(&w->kv, 0, 34, w->tokens));
        vlci_kv_append(&w->kv, 0, 34, w->tokens); /* whatever they hold */
        vlci_compress *plan = make_plan(w, &recipe, &kernels);
        ck_ok(vlci_compress_all(plan, &w->kv));
        vlci_heads h = {.layers = 34, .tokens = 70000, .own = plan->now.own, .shape = kernels.shape};
        ck_assert_int_lt(vlci_summary_layers(&h, &kernels.summary), 34);
        ck_assert(!plan->room.groups.means); /* scratch is given back */
        for (int i = 0; i < w->lists; i++) {
            const vlcache_compress_layer *layer = &plan->layer[i / 2];
            ck_ok(vlci_compress_positions(plan, i / 2, i % 2, got, &n));
            ck_assert_int_eq(n, layer->kept);
            ref_topk(w->score + (size_t)i * 70000, 70000, n, layer->recent, 0, want);
            ck_assert_msg(memcmp(got, want, (size_t)n * sizeof *got) == 0, "layer %d", i / 2);
        }
        vlci_compress_destroy(&plan);
    }
    free(want);
    free(got);
    release(w);
}
END_TEST

/* Where budgets do not depend on them, counts are read behind the last layer: nothing waits for those of one
 * before. */
START_TEST(test_counts_at_last) {
    uint64_t seed = 47, late[3 * 4] = {0};
    vlci_recipe recipe = recipe_of("uniform", "per-head", "none", 0.2);
    vlci_compress_kernels kernels = {0};
    world *w = make((vlci_compress_shape){3, 4, 2, 16, VLCACHE_DTYPE_F32, 0}, 40, 0, RANDOM, &seed);
    vlci_compress *plan = make_plan(w, &recipe, &kernels);
    for (int l = 0; l < 3; l++) {
        append(w, l, 1, w->tokens);
        if (l == 2) ck_ok(vlci_write(suite_device(), plan->seen->counts, 0, late, sizeof late));
        ck_ok(vlci_compress_read(plan, l, &w->kv));
    }
    for (int l = 0; l < 3; l++) ck_assert_double_eq(plan->layer[l].sparsity, 0.0);
    vlci_compress_destroy(&plan);
    vlci_kv_clear(&w->kv);
    release(w);
}
END_TEST

/* ---- heads that share ---------------------------------------------------------------------------------- */

START_TEST(test_adaptive) {
    if (suite_reduced() && _i % 5) return;
    static const char *const selections[] = {"adaptive", "adaptive:0", "adaptive:1", "adaptive:0.7"};
    uint64_t seed = 61 + (uint64_t)_i;
    for (int round = 0; round < (suite_reduced() ? 2 : 8); round++) {
        const char *selection = selections[round % 4];
        vlci_recipe recipe = recipe_of(allocations[round % 3], selection,
                                       _i < KINDS ? "none" : "kmeans:0.4:1", 0.05 + 0.6 * uniform(&seed));
        world *w = random_world(&seed, (values)(_i % KINDS));
        if (vlci_compress_by_layer(&recipe)) by_layer(w, &recipe);
        w->decoded = round % 2 ? 2 : 0;
        all_at_once(w, &recipe);
        if (round % 3 == 1) in_slices(w, &recipe);
        release(w);
    }
}
END_TEST

/* ---- pages that others hold ---------------------------------------------------------------------------- */

static void check_untouched(const world *w, const vlci_kv *kv) {
    int heads = w->shape.kv_heads, dim = w->shape.head_dim;
    for (int i = 0; i < w->lists; i++) {
        int rows = w->past[i] + w->tokens;
        float *k = malloc((size_t)(rows * dim) * sizeof *k), *v = malloc((size_t)(rows * dim) * sizeof *v);
        ck_assert_int_eq(pages_read(kv, i / heads, i % heads, k, v, NULL), rows);
        for (int r = 0; r < rows; r++) check_row(w, i, r, k + r * dim, v + r * dim);
        free(k);
        free(v);
    }
}

/* A fork's pages, and a mark's, are left as they are; without room for others nothing changes. */
START_TEST(test_shared_pages) {
    if (left_out(_i)) return;
    uint64_t seed = 71;
    vlci_recipe recipe = recipe_of(allocations[_i % 2], "per-head", "none", 0.3);
    vlci_compress_kernels kernels = {0};
    world *w = make((vlci_compress_shape){2, 2, 2, 16, VLCACHE_DTYPE_F32, 0}, 90, 21, RANDOM, &seed);
    vlci_kv other = {0};
    append_past(w);
    append(w, 0, 2, w->tokens);
    ck_ok(_i < 2 ? vlci_kv_fork(&w->kv, &other) : vlci_kv_mark(&w->kv, &other));
    ck_ok(vlci_kv_pool_shrink(&w->pool, 0));
    w->pool.elastic = false;
    vlci_compress *plan = make_plan(w, &recipe, &kernels);
    ck_fails(vlci_compress_all(plan, &w->kv), VLCACHE_E_DEVICE_MEMORY, "pages are needed");
    check_untouched(w, &w->kv);
    pages_check_owners(&w->pool);
    w->pool.elastic = true;
    ck_ok(vlci_compress_all(plan, &w->kv));
    check(w, plan, &w->kv);
    check_untouched(w, &other);
    vlci_compress_destroy(&plan);
    vlci_kv_release(&other);
    release(w);
}
END_TEST

/* By layer, where the earlier turn's rows are another's too. */
START_TEST(test_shared_past) {
    if (suite_reduced() && _i) return;
    uint64_t seed = 73;
    vlci_recipe recipe = recipe_of(allocations[_i], "per-head", "none", 0.3);
    vlci_compress_kernels kernels = {0};
    world *w = make((vlci_compress_shape){3, 2, 2, 16, VLCACHE_DTYPE_BF16, 0}, 77, 21, RANDOM, &seed);
    vlci_kv mark = {0};
    append_past(w);
    ck_ok(vlci_kv_mark(&w->kv, &mark));
    vlci_compress *plan = make_plan(w, &recipe, &kernels);
    for (int l = 0; l < 3; l++) {
        append(w, l, 1, w->tokens);
        ck_ok(vlci_compress_read(plan, l, &w->kv));
    }
    check(w, plan, &w->kv);
    vlci_kv_go_back(&w->kv, &mark);
    w->tokens = 0;
    check_untouched(w, &w->kv);
    vlci_compress_destroy(&plan);
    release(w);
}
END_TEST

/* ---- plans --------------------------------------------------------------------------------------------- */

static vlci_recipe recipe_named(const char *policy) {
    vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_recipe recipe;
    o.policy = policy;
    ck_ok(vlci_policy_read(&o, true, &recipe));
    return recipe;
}

START_TEST(test_create) {
    vlci_recipe r = recipe_named("vlcache");
    vlci_compress_shape shape = {2, 4, 2, 16, VLCACHE_DTYPE_F32, 0}, bad = shape;
    vlci_compress_prompt prompt = {.tokens = 10, .text = 11};
    vlci_compress_kernels kernels = {0};
    vlci_compress *plan = NULL;
    int positions[10], n;
    bad.kv_heads = 3;
    ck_fails(vlci_compress_open(suite_device(), &bad, &r, &kernels), VLCACHE_E_ARGUMENT, "3 kv heads");
    ck_ok(vlci_compress_open(suite_device(), &shape, &r, &kernels));
    ck_fails(vlci_compress_create(&kernels, &r, &prompt, NULL, 0, &plan), VLCACHE_E_ARGUMENT,
             "11 tokens of text");
    ck_assert_ptr_null(plan);
    prompt.text = 3;
    ck_ok(vlci_compress_create(&kernels, &r, &prompt, NULL, 0, &plan));
    ck_fails(vlci_compress_positions(plan, 1, 0, positions, &n), VLCACHE_E_INTERNAL,
             "layer 1 was not compacted");
    vlci_compress_destroy(&plan);
    ck_assert_ptr_null(plan);
    vlci_compress_destroy(&plan);
    r = recipe_named("full");
    ck_ok(vlci_compress_open(suite_device(), &shape, &r, &kernels));
    ck_ok(vlci_compress_create(&kernels, &r, &prompt, NULL, 0, &plan));
    ck_assert_ptr_null(plan);
}
END_TEST

/* Layers shrink as they are read where no decoded token is waited for, and no centroid or share of a head
 * depends on budgets that are not known yet. */
START_TEST(test_when) {
    static const struct {
        const char *allocation, *selection, *summary;
        bool by_layer;
    } cases[] = {{"sparsity", "per-head", "none", true},      {"uniform", "per-head", "none", true},
                 {"mixed:0.3", "per-layer", "none", true},    {"pyramid", "per-head", "none", true},
                 {"uniform", "per-head", "kmeans:0.5", true}, {"sparsity", "per-head", "kmeans:0.5", false},
                 {"pyramid", "adaptive", "none", true},       {"sparsity", "adaptive", "none", false},
                 {"mixed:1", "adaptive", "spread:0.5", true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vlci_recipe r = recipe_of(cases[i].allocation, cases[i].selection, cases[i].summary, 0.1);
        ck_assert_int_eq(vlci_compress_by_layer(&r), cases[i].by_layer);
        r.defer = 1;
        ck_assert(!vlci_compress_by_layer(&r));
    }
    vlci_recipe all = recipe_named("full"), some = recipe_named("centroids"), few = recipe_named("vlcache+");
    ck_assert(!vlci_compress_by_layer(&all) && !vlci_compress_by_layer(&some));
    ck_assert(few.defer && vlci_compress_by_layer(&few)); /* held in more bits meanwhile */
    few.budget = 1.0;
    ck_assert(!vlci_compress_by_layer(&few));
}
END_TEST

static int listed(const vlci_compress *plan, int flag) {
    const vlci_rows *rows = &plan->seen->rows;
    int n = 0;
    for (int i = 0; i < rows->n; i++) n += (rows->entry[i] & flag) != 0;
    return n;
}

/* Plans that look at the same rows share what they see, and one of them looks; sinks and recent tokens need
 * to see nothing; another threshold counts other entries. */
START_TEST(test_shared) {
    static const char *const names[] = {"vlcache", "h2o",    "vlcache", "streamingllm",
                                        "h2o",     "snapkv", "vlcache", "snapkv"};
    static const bool looks[] = {true, true, false, false, false, true, true, false};
    vlci_compress_shape shape = {2, 4, 2, 16, VLCACHE_DTYPE_F32, 0};
    vlci_compress_prompt prompt = {.tokens = 100, .text = 5};
    vlci_compress_kernels kernels = {0};
    vlci_compress *plans[8];
    for (size_t i = 0; i < 8; i++) {
        vlci_recipe r = recipe_named(names[i]);
        r.budget = 0.05 * (double)(i + 1);
        if (i > 5) r.threshold = 0.02;
        ck_ok(vlci_compress_open(suite_device(), &shape, &r, &kernels));
        ck_ok(vlci_compress_create(&kernels, &r, &prompt, plans, i, &plans[i]));
        ck_assert_int_eq(plans[i]->looks, looks[i]);
    }
    ck_assert_ptr_eq(plans[0]->seen, plans[2]->seen);
    ck_assert_ptr_eq(plans[1]->seen, plans[4]->seen);
    ck_assert_ptr_ne(plans[0]->seen, plans[1]->seen);
    ck_assert_ptr_ne(plans[0]->seen, plans[5]->seen);
    ck_assert_ptr_ne(plans[0]->seen, plans[6]->seen);
    ck_assert_ptr_eq(plans[5]->seen, plans[7]->seen); /* nothing is counted */
    ck_assert_ptr_null(plans[3]->seen);
    ck_assert_int_eq(listed(plans[0], VLCI_ROW_SCORED), 5);
    ck_assert_int_eq(listed(plans[1], VLCI_ROW_SCORED), 100);
    ck_assert_int_eq(listed(plans[1], VLCI_ROW_COUNTED), 5);
    ck_assert_int_eq(listed(plans[5], VLCI_ROW_SCORED), 32);
    ck_assert(!plans[5]->seen->counted && !plans[5]->seen->counts);
    for (size_t i = 0; i < 8; i++) vlci_compress_destroy(&plans[i]);
}
END_TEST

static void read_scores(const vlci_compress *plan, float *out) {
    ck_ok(vlci_read(suite_device(), plan->seen->score, 0, out, 2 * 2 * 30 * sizeof *out));
}

/* A token that is decoded is seen by a plan of its own scores: those it shared stay as they were. */
START_TEST(test_deferred) {
    enum { DIM = 16, TOKENS = 30 };
    uint64_t seed = 81;
    static float before[2 * 2 * TOKENS], after[2 * 2 * TOKENS], own[2 * 2 * TOKENS], q[4 * DIM];
    const float stats[4] = {1, 1, 1, 1};
    vlci_compress_kernels kernels = {0};
    vlci_recipe deferred = recipe_of("uniform", "per-head", "none", 0.1), at_once = deferred;
    deferred.defer = 1;
    deferred.defer_weight = 3.0;
    world *w = make((vlci_compress_shape){2, 4, 2, DIM, VLCACHE_DTYPE_F32, 0}, TOKENS, 0, RANDOM, &seed);
    vlci_compress_prompt prompt = {.tokens = TOKENS, .text = TOKENS / 9};
    vlci_compress *first = make_plan(w, &at_once, &kernels), *second = NULL;
    ck_ok(vlci_compress_create(&kernels, &deferred, &prompt, &first, 1, &second));
    ck_assert_ptr_eq(first->seen, second->seen);
    read_scores(first, before);
    append(w, 0, 2, TOKENS + 1);
    ck_ok(vlci_kv_pool_sync(&w->pool));
    for (int i = 0; i < 4 * DIM; i++) q[i] = suite_random(&seed);
    cl_mem query = suite_upload(q, sizeof q), row = suite_upload(stats, sizeof stats);
    for (int l = 0; l < 2; l++) {
        vlci_attention a = {.kv = vlci_kv_layer(&w->kv, l), .q = query, .q_stride = 4 * DIM, .scale = 0.25f};
        a.row_max = a.row_lse = row;
        ck_assert_int_eq(second->decoded, 0);
        vlci_look look = {&a, vlci_kv_heads_at(&w->kv, l), 0, 0, 1, NULL};
        ck_ok(vlci_compress_observe_decode(second, l, &look));
    }
    ck_assert_int_eq(second->decoded, 1);
    ck_assert_ptr_ne(first->seen, second->seen);
    read_scores(first, after);
    read_scores(second, own);
    ck_assert_mem_eq(before, after, sizeof before);
    for (int i = 0; i < 2 * 2 * TOKENS; i++) ck_assert_float_gt(own[i], before[i]);
    suite_release(query);
    suite_release(row);
    vlci_compress_destroy(&first);
    vlci_compress_destroy(&second);
    release(w);
}
END_TEST

START_TEST(test_stats) {
    static const char *const summaries[] = {"none", "kmeans:0.5:0"};
    uint64_t seed = 91, rows = 0, biased = 0;
    vlcache_compress_stats stats;
    vlci_compress_kernels kernels = {0};
    vlci_recipe recipe = recipe_of("sparsity", _i ? "adaptive" : "per-head", summaries[_i], 0.2);
    world *w = make((vlci_compress_shape){3, 4, 2, 16, VLCACHE_DTYPE_F16, 0}, 90, 7, RANDOM, &seed);
    append_past(w);
    append(w, 0, 3, w->tokens + 2);
    w->decoded = 2;
    vlci_compress *plan = make_plan(w, &recipe, &kernels);
    ck_ok(vlci_compress_all(plan, &w->kv));
    vlci_compress_stats(plan, &stats);
    for (int i = 0; i < w->lists; i++) {
        rows += (uint64_t)(w->kv.list[i].rows - w->past[i] - 2);
        if (plan->now.own[i].centroids) biased += (uint64_t)(w->kv.list[i].rows - w->past[i] - 2);
    }
    ck_assert(stats.layers == 3 && stats.kv_heads == 2 && stats.tokens == 90 && stats.deferred == 2);
    ck_assert(!stats.fallback && stats.tau == 10);
    ck_assert_double_eq(stats.budget_asked, 0.2);
    ck_assert_double_eq_tol(stats.budget_kept, (double)(rows * 64 + biased * 4) / (90.0 * 6.0 * 64), 1e-12);
    ck_assert_uint_eq(stats.bytes_full, 90 * 6 * 16 * 2 * 2);
    ck_assert_uint_eq(stats.bytes_kept, rows * 16 * 2 * 2 + biased * 4);
    vlci_compress_destroy(&plan);
    vlci_compress_prompt prompt = {.tokens = 90};
    ck_ok(vlci_compress_create(&kernels, &recipe, &prompt, NULL, 0, &plan));
    vlci_compress_stats(plan, &stats);
    ck_assert(stats.fallback && stats.tau == 32);
    vlci_compress_destroy(&plan);
    release(w);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("plan");
    TCase *all = tcase_create("plan");
    if (suite_reduced()) /* in a simulator work-groups take minutes: the suites of these kernels have them */
        setenv("VLCACHE_VARIANT", "spread:wide,nearest:wide,topk:single", 1);
    tcase_add_loop_test(all, test_by_layer, 0, 4);
    tcase_add_loop_test(all, test_pages_by_layer, 0, 4);
    tcase_add_loop_test(all, test_centroids_by_layer, 0, 2);
    tcase_add_loop_test(all, test_quantised, 0, 5);
    tcase_add_test(all, test_layers_in_turns);
    tcase_add_test(all, test_counts_at_last);
    tcase_add_loop_test(all, test_adaptive, 0, 2 * KINDS);
    tcase_add_loop_test(all, test_shared_pages, 0, 4);
    tcase_add_loop_test(all, test_shared_past, 0, 4);
    tcase_add_test(all, test_create);
    tcase_add_test(all, test_when);
    tcase_add_test(all, test_shared);
    tcase_add_test(all, test_deferred);
    tcase_add_loop_test(all, test_stats, 0, 2);
    suite_balance(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
