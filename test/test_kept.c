/*
 * test_kept.c - from attention to kept positions, every policy: the whole chain (scores, sparsity, budgets,
 * pooling, choice) against the same chain written out in double, on attention that is random, equal
 * everywhere, one spike, or full of ties; all layers at once and layer by layer; and what must hold whatever
 * the attention is.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/plan.h"
#include "ref/ref_compress.h"
#include "support/pages.h"

enum { LAYERS = 2, HEADS = 4, KV = 2, GROUP = HEADS / KV, DIM = 16, DECODED = 4, LONGEST = 200 };
enum { ROOM = LONGEST + DECODED, FALLBACK = 32, BUDGETS = 6 };
static const double threshold = 0.01, recent = 0.10;
static const double budgets[BUDGETS] = {0.01, 0.05, 0.1, 0.4, 0.9, 1.0};

/* What each policy is said to do, and some that are made of its axes. */
typedef struct policy {
    const char *name, *allocation, *selection, *pooling, *defer, *summary; /* NULL: the policy's own */
    enum { LAST_ROWS, EVERY_ROW, POST_VISION, NO_ROW } looks;
    int window; /* LAST_ROWS */
    bool pyramid, joint;
    double uniform;
    int line, grid_rows, grid_columns; /* pooling; 0: none */
    int sinks, decoded;
    double weight, centroids, floor;
    bool adaptive;
} policy;

static const policy policies[] = {
    {.name = "vlcache", .looks = POST_VISION},
    {.name = "streamingllm", .looks = NO_ROW, .uniform = 1.0, .sinks = 4},
    {.name = "h2o", .looks = EVERY_ROW, .uniform = 1.0},
    {.name = "snapkv", .looks = LAST_ROWS, .window = 32, .uniform = 1.0, .line = 7},
    {.name = "pyramidkv", .looks = LAST_ROWS, .window = 8, .pyramid = true, .line = 7},
    {.name = "vlcache",
     .allocation = "uniform",
     .pooling = "grid:1x5",
     .defer = "4:4",
     .summary = "kmeans:0.25",
     .looks = POST_VISION,
     .uniform = 1.0,
     .grid_rows = 1,
     .grid_columns = 5,
     .decoded = 4,
     .weight = 4.0,
     .centroids = 0.25},
    {.name = "vlcache",
     .allocation = "mixed:0.5",
     .selection = "per-layer",
     .pooling = "grid:3x3",
     .looks = POST_VISION,
     .joint = true,
     .uniform = 0.5,
     .grid_rows = 3,
     .grid_columns = 3},
    {.name = "vlcache", .selection = "adaptive", .looks = POST_VISION, .adaptive = true, .floor = 0.2},
    {.name = "snapkv",
     .selection = "adaptive:0.5",
     .summary = "spread:0.5",
     .looks = LAST_ROWS,
     .window = 32,
     .uniform = 1.0,
     .line = 7,
     .centroids = 0.5,
     .adaptive = true,
     .floor = 0.5},
};
enum { POLICIES = sizeof policies / sizeof *policies };

/* ---- a scene: queries and keys of a prompt and of the tokens decoded after it -------------------------- */

typedef enum scene_kind { RANDOM, EQUAL, SPIKE, TIES, KINDS } scene_kind;
static const char *const kind_names[KINDS] = {"random", "equal", "one spike", "ties"};

typedef struct scene {
    scene_kind kind;
    int n, text, rows;      /* text behind any picture; rows: prompt and decoded */
    int text_rows[LONGEST]; /* where that stands */
    bool post_vision[ROOM]; /* those, or what stands for them */
    double entries;         /* causal ones of these */
    vlci_token_grid grid;
    bool has_grid;
    float q[LAYERS][ROOM * HEADS * DIM], k[LAYERS][KV * ROOM * DIM];
    float max[LAYERS][ROOM * HEADS], lse[LAYERS][ROOM * HEADS];
    double share[LAYERS][HEADS][ROOM][LONGEST]; /* attention of each row to each token of the prompt */
    double sparsity[LAYERS], unsure[LAYERS];    /* unsure: what entries near the threshold may add to it */
} scene;

static float key_of(scene_kind kind, int j, int n, int d, uint64_t *seed) {
    float r = suite_random(seed);
    if (kind == SPIKE) return (j == n / 3 ? 1.0f : -1.0f) + 0.01f * r;
    if (kind == TIES) return (float)((j % 3 + 1) * (d % 5 - 2)) / 4.0f;
    return r;
}

static float query_of(scene_kind kind, int layer, uint64_t *seed) {
    float r = suite_random(seed);
    if (kind == EQUAL) return 0.0f;
    if (kind == SPIKE) return 2.0f + 0.1f * r;
    return (layer ? 2.0f : 10.0f) * r; /* the second layer is the denser one */
}

/* Two tokens, a picture of 7 columns, each row ended by a token, and the text; where some of that stands
 * between two pictures, a second picture as long. */
static void place(scene *s, int between, int behind) {
    int rows = (s->n - between - behind - 2) / (between ? 16 : 8), first = 2 + 8 * rows;
    s->has_grid = rows > 0;
    s->grid = (vlci_token_grid){.first = 2, .rows = rows, .columns = 7, .stride = 8};
    for (int i = 0; i < s->n; i++) {
        bool text = (i >= first && i < first + between) || i >= s->n - behind;
        if (text) s->text_rows[s->text++] = i;
        s->post_vision[i] = text || (between + behind == 0 && i >= s->n - FALLBACK);
        if (s->post_vision[i]) s->entries += HEADS * (i + 1.0);
    }
}

/* Row i of one head: its share of attention, row statistics, and its entries below the threshold. */
static void attend(scene *s, int layer, int h, int i) {
    double logit[ROOM], max, lse;
    bool counted = s->post_vision[i];
    ref_logits(s->q[layer] + (i * HEADS + h) * DIM, s->k[layer] + h / GROUP * s->rows * DIM, DIM, i + 1, DIM,
               1.0 / sqrt(DIM), logit);
    ref_row(logit, i + 1, &max, &lse);
    s->max[layer][i * HEADS + h] = (float)max;
    s->lse[layer][i * HEADS + h] = (float)lse;
    for (int j = 0; j <= i && j < s->n; j++) {
        double margin = logit[j] - max - log(threshold);
        s->share[layer][h][i][j] = exp(logit[j] - lse);
        if (counted) s->sparsity[layer] += (margin < 0.0) / s->entries;
        if (counted) s->unsure[layer] += (fabs(margin) < 1e-4) / s->entries;
    }
}

static scene *make_scene(scene_kind kind, int n, int between, int text) {
    scene *s = calloc(1, sizeof *s);
    uint64_t seed = (uint64_t)(n * 31 + text * 7) + kind;
    ck_assert_ptr_nonnull(s);
    s->kind = kind;
    s->n = n;
    s->rows = n + DECODED;
    place(s, between, text);
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < s->rows * HEADS * DIM; i++) s->q[l][i] = query_of(kind, l, &seed);
        for (int i = 0; i < KV * s->rows * DIM; i++)
            s->k[l][i] = key_of(kind, i / DIM % s->rows, n, i % DIM, &seed);
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < s->rows; i++) attend(s, l, h, i);
    }
    return s;
}

/* ---- the reference ------------------------------------------------------------------------------------- */

static bool scored(const policy *p, const scene *s, int row) {
    return p->looks == EVERY_ROW || (p->looks == LAST_ROWS ? row >= s->n - p->window : s->post_vision[row]);
}

/* What one kv head is scored by, before pooling. */
static void score_head(const policy *p, const scene *s, int layer, int kv, double *score) {
    for (int h = kv * GROUP; h < (kv + 1) * GROUP; h++) {
        for (int i = 0; i < s->n; i++)
            for (int j = 0; j <= i && scored(p, s, i); j++) score[j] += s->share[layer][h][i][j];
        for (int i = s->n; i < s->n + p->decoded; i++)
            for (int j = 0; j < s->n; j++) score[j] += p->weight * s->share[layer][h][i][j];
    }
}

static void score_tokens(const policy *p, const scene *s, int layer, int kv, float *out) {
    double score[LONGEST] = {0.0};
    float raw[LONGEST];
    for (int each = 0; each < KV; each++)
        if (p->joint || each == kv) score_head(p, s, layer, each, score);
    for (int j = 0; j < s->n; j++) out[j] = raw[j] = (float)score[j];
    if (p->line) ref_pool_line(raw, s->n, p->line, out);
    if (p->grid_rows && s->has_grid)
        ref_pool_grid(raw, s->grid.first, s->grid.rows, s->grid.columns, s->grid.stride, p->grid_rows,
                      p->grid_columns, out);
}

static int descending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* The score of the last token chosen between sinks and recent ones; whether another score is so near that
 * floats cannot tell them apart. */
static bool ambiguous(const float *score, const ref_rows *r, int n, float *last) {
    float sorted[LONGEST];
    int wanted = r->kept - r->recent - r->sinks, others = n - r->recent - r->sinks;
    if (wanted < 1 || wanted == others) return false;
    memcpy(sorted, score + r->sinks, (size_t)others * sizeof *sorted);
    qsort(sorted, (size_t)others, sizeof *sorted, descending);
    *last = sorted[wanted - 1];
    for (int i = 0; i < others; i++)
        if (sorted[i] != *last && fabsf(sorted[i] - *last) <= 1e-5f * *last) return true;
    return false;
}

/* ---- checks -------------------------------------------------------------------------------------------- */

/* Of any choice: ascending positions of the prompt, its first and last ones among them. */
static void check_any(const scene *s, const ref_rows *r, const int *got) {
    for (int i = 0; i < r->kept; i++) {
        ck_assert(got[i] >= 0 && got[i] < s->n);
        if (i) ck_assert_int_gt(got[i], got[i - 1]);
        if (i < r->sinks) ck_assert_int_eq(got[i], i);
        if (i >= r->kept - r->recent) ck_assert_int_eq(got[i], s->n - r->kept + i);
    }
}

static bool is_kept(const int *got, int kept, int position) {
    for (int i = 0; i < kept; i++)
        if (got[i] == position) return true;
    return false;
}

static void check_exactly(const policy *p, const scene *s, int layer, int kv, double budget,
                          const ref_rows *r, const float *score, const int *got) {
    int want[LONGEST];
    ref_topk(p->looks == NO_ROW ? NULL : score, s->n, r->kept, r->recent, r->sinks, want);
    for (int i = 0; i < r->kept; i++)
        ck_assert_msg(got[i] == want[i],
                      "%s at %g, %s, %d tokens, %d of text: layer %d head %d place %d: %d, "
                      "expected %d",
                      p->name, budget, kind_names[s->kind], s->n, s->text, layer, kv, i, got[i], want[i]);
}

static void check_head(const policy *p, const scene *s, int layer, int kv, double budget, const ref_rows *r,
                       const int *got) {
    float score[LONGEST], last = 0.0f;
    check_any(s, r, got);
    score_tokens(p, s, layer, kv, score);
    if (!ambiguous(score, r, s->n, &last)) {
        check_exactly(p, s, layer, kv, budget, r, score, got);
        return;
    }
    for (int j = r->sinks; j < s->n - r->recent; j++)
        if (fabsf(score[j] - last) > 1e-5f * last) ck_assert(is_kept(got, r->kept, j) == (score[j] > last));
}

/* Heads that share a layer's rows: by the scores as the device has them, so that ties are its own. */
static void check_adaptive(const policy *p, const scene *s, const vlci_compress *plan, int layer, int kv,
                           double budget, const ref_rows *r, const int *got, int n) {
    float raw[KV * LONGEST], score[KV * LONGEST];
    size_t row = (size_t)s->n * sizeof *raw;
    int kept[KV];
    ck_ok(vlci_read(suite_device(), plan->seen->score, (size_t)(layer * KV) * row, raw, KV * row));
    memcpy(score, raw, KV * row);
    for (int h = 0; h < KV && p->line; h++) ref_pool_line(raw + h * s->n, s->n, p->line, score + h * s->n);
    ref_adapt(score, KV, s->n, r, p->floor, kept);
    ck_assert_int_eq(n, kept[kv]);
    ref_rows own = *r;
    own.kept = n;
    check_any(s, &own, got);
    check_exactly(p, s, layer, kv, budget, &own, score + kv * s->n, got);
}

static void check_rows(const policy *p, const scene *s, const vlci_compress *plan, double budget,
                       ref_rows rows[LAYERS]) {
    double sparsity[LAYERS], row = 2 * DIM * sizeof(float), bias = p->centroids > 0 && budget < 1 ? 4 : 0;
    ref_shares how = {.alpha = budget * row / (row + bias), /* a budget of bytes */
                      .recent = recent,
                      .pyramid = p->pyramid,
                      .uniform = p->uniform,
                      .centroids = p->centroids,
                      .sinks = p->sinks,
                      .sink_recent = p->looks == NO_ROW};
    int all = 0;
    for (int l = 0; l < LAYERS; l++) {
        sparsity[l] = plan->layer[l].sparsity; /* entries near the threshold may fall on either side */
        if (!isnan(sparsity[l])) ck_assert_double_eq_tol(sparsity[l], s->sparsity[l], s->unsure[l] + 1e-12);
        ck_assert(!isnan(sparsity[l]) || p->uniform == 1.0 || p->pyramid);
    }
    ref_budget(&how, sparsity, LAYERS, s->n, rows);
    for (int l = 0; l < LAYERS; l++) {
        const vlcache_compress_layer *at = &plan->layer[l];
        ck_assert(at->kept == rows[l].kept && at->recent == rows[l].recent && at->sinks == rows[l].sinks &&
                  at->centroids == rows[l].centroids);
        ck_assert(at->recent >= 1 && at->kept + at->centroids <= s->n);
        all += at->kept + at->centroids;
    }
    /* rounding gives a layer half a row at most, its floor a hundredth, and one row there always is */
    ck_assert_double_le(all, LAYERS * (fmax(1.0, (budget + 0.01) * s->n) + 0.5));
    if (budget == 1.0) ck_assert_int_eq(all, LAYERS * s->n);
}

/* ---- the library --------------------------------------------------------------------------------------- */

/* The cache once the prompt is read, and when tokens have been decoded; queries and row statistics of both.
 */
typedef struct device_scene {
    pages *p;
    cl_mem q[LAYERS], max[LAYERS], lse[LAYERS];
} device_scene;

static void upload(const scene *s, device_scene *d) {
    vlci_kv_shape shape = {LAYERS, KV, DIM, VLCACHE_DTYPE_F32};
    size_t row = HEADS * sizeof(float), rows = (size_t)s->rows, at = 0;
    int lists[2 * LAYERS * KV];
    float *k = malloc(2 * sizeof s->k);
    for (int i = 0; i < 2 * LAYERS * KV; i++) {
        lists[i] = i < LAYERS * KV ? s->n : s->rows;
        size_t n = (size_t)(lists[i] * DIM);
        memcpy(k + at, s->k[i / KV % LAYERS] + i % KV * s->rows * DIM, n * sizeof *k);
        at += n;
    }
    d->p = pages_create(&shape, 2, &(pages_rows){.rows = lists, .k = k, .v = k},
                        2 * LAYERS * KV * vlci_kv_pages(s->rows));
    free(k);
    for (int l = 0; l < LAYERS; l++) {
        d->q[l] = suite_upload(s->q[l], rows * row * DIM);
        d->max[l] = suite_upload(s->max[l], rows * row);
        d->lse[l] = suite_upload(s->lse[l], rows * row);
    }
}

static void release(device_scene *d) {
    for (int l = 0; l < LAYERS; l++) {
        suite_release(d->q[l]);
        suite_release(d->max[l]);
        suite_release(d->lse[l]);
    }
    pages_destroy(d->p);
}

/* Attention of all rows of a walk: the prompt's, and behind them those of the decoded tokens. */
static vlci_attention attention_of(const device_scene *d, int layer, int sequence) {
    vlci_attention a = {.batch = 1,
                        .causal = true,
                        .scale = 0.25f,
                        .kv = vlci_kv_layer(&d->p->kv[sequence], layer),
                        .q_stride = HEADS * DIM,
                        .q = d->q[layer],
                        .row_max = d->max[layer],
                        .row_lse = d->lse[layer]};
    return a;
}

static vlci_recipe recipe_of(const policy *p, double budget) {
    vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_recipe recipe;
    o.policy = p->name;
    o.budget = budget;
    o.threshold = threshold;
    o.recent = recent;
    ck_ok(vlcache_compress_set(&o, "allocation", p->allocation));
    ck_ok(vlcache_compress_set(&o, "selection", p->selection));
    ck_ok(vlcache_compress_set(&o, "pooling", p->pooling));
    ck_ok(vlcache_compress_set(&o, "defer", p->defer));
    ck_ok(vlcache_compress_set(&o, "summary", p->summary));
    ck_ok(vlci_policy_read(&o, true, &recipe));
    return recipe;
}

static vlci_compress *make_plan(const policy *p, const scene *s, vlci_compress_kernels *kernels,
                                double budget, vlci_compress **others, size_t n) {
    vlci_compress_shape shape = {LAYERS, HEADS, KV, DIM, VLCACHE_DTYPE_F32, 0};
    vlci_compress_prompt prompt = {.tokens = s->n,
                                   .text = s->text,
                                   .text_rows = s->text_rows,
                                   .grids = &s->grid,
                                   .n_grids = s->has_grid};
    vlci_recipe recipe = recipe_of(p, budget);
    vlci_compress *plan = NULL;
    ck_ok(vlci_compress_open(suite_device(), &shape, &recipe, kernels));
    ck_ok(vlci_compress_create(kernels, &recipe, &prompt, others, n, &plan));
    return plan;
}

/* The prompt in two parts, then the decoded tokens. */
static void observe(const policy *p, const scene *s, const device_scene *d, vlci_compress *plan) {
    int half = s->n / 2;
    for (int l = 0; l < LAYERS; l++) {
        vlci_attention a = attention_of(d, l, 0);
        size_t at = vlci_kv_heads_at(&d->p->kv[0], l);
        vlci_look first = {&a, at, 0, 0, half, NULL}, second = {&a, at, half, half, s->n - half, NULL};
        ck_ok(vlci_compress_observe(plan, l, &first));
        ck_ok(vlci_compress_observe(plan, l, &second));
    }
    for (int row = s->n; row < s->n + p->decoded; row++)
        for (int l = 0; l < LAYERS; l++) {
            vlci_attention a = attention_of(d, l, 1);
            vlci_look look = {&a, vlci_kv_heads_at(&d->p->kv[1], l), row, 0, 1, NULL};
            ck_ok(vlci_compress_observe_decode(plan, l, &look));
        }
}

/* What was kept, and rows in the cache, which is as small. */
static void check_kept(const policy *p, const scene *s, vlci_compress *plan, const vlci_kv *kv,
                       double budget) {
    ref_rows rows[LAYERS];
    int got[LONGEST], other[LONGEST], n;
    check_rows(p, s, plan, budget, rows);
    for (int l = 0; l < LAYERS; l++) {
        int all = 0;
        for (int h = 0; h < KV; h++) {
            const vlci_keep *own = &plan->now.own[l * KV + h];
            ck_ok(vlci_compress_positions(plan, l, h, got, &n));
            all += n;
            ck_assert_int_eq(vlci_kv_list_of(kv, l, h)->rows, n + own->centroids + p->decoded);
            if (p->adaptive)
                check_adaptive(p, s, plan, l, h, budget, &rows[l], got, n);
            else {
                ck_assert_int_eq(n, rows[l].kept);
                check_head(p, s, l, h, budget, &rows[l], got);
            }
            if (h == 0) memcpy(other, got, sizeof other);
            if (p->joint || p->looks == NO_ROW)
                ck_assert_mem_eq(got, other, (size_t)rows[l].kept * sizeof *got);
        }
        ck_assert_int_eq(all, KV * rows[l].kept);
    }
}

/* Applied to a fork of the cache: at once, or by layer. */
static void check_plan(const policy *p, const scene *s, const device_scene *d, vlci_compress *plan,
                       double budget, bool by_layer) {
    vlci_kv fork = {0};
    ck_ok(vlci_kv_fork(&d->p->kv[p->decoded ? 1 : 0], &fork));
    if (!by_layer) ck_ok(vlci_compress_all(plan, &fork));
    for (int l = 0; l < LAYERS && by_layer; l++) ck_ok(vlci_compress_read(plan, l, &fork));
    check_kept(p, s, plan, &fork, budget);
    vlci_kv_release(&fork);
}

/* All budgets at once, as a comparison has them: they look through the same scores, until tokens are decoded;
 * more budget takes no row from a layer. */
static void try_policy(const policy *p, const scene *s, const device_scene *d) {
    vlci_compress *plans[BUDGETS] = {NULL}, *again = NULL;
    vlci_compress_kernels kernels = {0};
    int before[LAYERS] = {0};
    for (size_t i = 0; i < BUDGETS; i++) {
        plans[i] = make_plan(p, s, &kernels, budgets[i], plans, i);
        ck_assert(plans[i]->seen == plans[0]->seen && plans[i]->looks == (i == 0 && plans[0]->seen));
    }
    for (size_t i = 0; i < BUDGETS; i++) {
        bool by_layer = vlci_compress_by_layer(&plans[i]->recipe);
        observe(p, s, d, plans[i]);
        if (by_layer) again = make_plan(p, s, &kernels, budgets[i], plans, i + 1);
        check_plan(p, s, d, plans[i], budgets[i], false);
        if (by_layer) check_plan(p, s, d, again, budgets[i], true);
        for (int l = 0; l < LAYERS; l++) {
            int rows = plans[i]->layer[l].kept + plans[i]->layer[l].centroids;
            ck_assert_int_ge(rows, before[l]);
            before[l] = rows;
        }
        vlci_compress_destroy(&again);
    }
    for (size_t i = 0; i < BUDGETS; i++) vlci_compress_destroy(&plans[i]);
}

static void try_scene(scene_kind kind, int n, int between, int text) {
    device_scene d;
    scene *s = make_scene(kind, n, between, text);
    upload(s, &d);
    for (size_t i = 0; i < POLICIES; i++) try_policy(&policies[i], s, &d);
    release(&d);
    free(s);
}

static const struct {
    int tokens, between, text; /* no text: the last rows stand for it; all: every row is text */
} sizes[] = {{1, 0, 0},        {1, 0, 1},        {2, 0, 1},          {5, 0, 0},
             {37, 0, 37},      {90, 0, 0},       {90, 0, 11},        {90, 0, 1},
             {90, 9, 4},       {90, 5, 0}, /* ends with a picture */
             {LONGEST, 0, 20}, {LONGEST, 7, 20}, {LONGEST, 150, 12}, {LONGEST, 0, LONGEST}};

START_TEST(every_policy_keeps_what_the_reference_keeps) {
    int step = suite_reduced() ? 4 : 1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i += (size_t)step) {
        if (suite_reduced() && sizes[i].tokens == LONGEST) continue;
        try_scene((scene_kind)_i, sizes[i].tokens, sizes[i].between, sizes[i].text);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kept");
    TCase *all = tcase_create("kept");
    tcase_add_loop_test(all, every_policy_keeps_what_the_reference_keeps, 0, KINDS);
    suite_balance(all);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
