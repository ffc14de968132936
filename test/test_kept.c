/*
 * test_kept.c - from attention to kept positions, every policy: the whole chain (scores, sparsity, budgets,
 * pooling, choice) against the same chain written out in double, on attention that is random, equal
 * everywhere, one spike, or full of ties; and what must hold whatever the attention is.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/compress.h"
#include "ref/ref_compress.h"
#include "support/suite.h"

enum { LAYERS = 2, HEADS = 4, KV = 2, GROUP = HEADS / KV, DIM = 16, DECODED = 4, LONGEST = 200 };
enum { ROOM = LONGEST + DECODED, FALLBACK = 32, BUDGETS = 6 };
static const double threshold = 0.01, recent = 0.10;
static const double budgets[BUDGETS] = {0.01, 0.05, 0.1, 0.4, 0.9, 1.0};

/* What each policy is said to do, and two that are made of its axes. */
typedef struct policy {
    const char *name, *allocation, *selection, *pooling, *defer, *summary; /* NULL: the policy's own */
    enum { LAST_ROWS, EVERY_ROW, POST_VISION, NO_ROW } looks;
    int window; /* LAST_ROWS */
    bool pyramid, joint;
    double uniform;
    int line, grid_rows, grid_columns; /* pooling; 0: none */
    int sinks, decoded;
    double weight, centroids;
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
};
enum { POLICIES = sizeof policies / sizeof *policies };

/* ---- a scene: queries and keys of a prompt and of the tokens decoded after it -----------------------------
 */

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

/* ---- the reference ----------------------------------------------------------------------------------------
 */

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

/* ---- checks -----------------------------------------------------------------------------------------------
 */

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

static void check_head(const policy *p, const scene *s, int layer, int kv, double budget, const ref_rows *r,
                       const int *got) {
    float score[LONGEST], last = 0.0f;
    int want[LONGEST];
    check_any(s, r, got);
    score_tokens(p, s, layer, kv, score);
    if (ambiguous(score, r, s->n, &last)) {
        for (int j = r->sinks; j < s->n - r->recent; j++)
            if (fabsf(score[j] - last) > 1e-5f * last)
                ck_assert(is_kept(got, r->kept, j) == (score[j] > last));
        return;
    }
    ref_topk(p->looks == NO_ROW ? NULL : score, s->n, r->kept, r->recent, r->sinks, want);
    for (int i = 0; i < r->kept; i++)
        ck_assert_msg(got[i] == want[i],
                      "%s at %g, %s, %d tokens, %d of text: layer %d head %d place %d: %d, "
                      "expected %d",
                      p->name, budget, kind_names[s->kind], s->n, s->text, layer, kv, i, got[i], want[i]);
}

static void check_rows(const policy *p, const scene *s, const vlci_compress *plan, double budget,
                       ref_rows rows[LAYERS]) {
    double sparsity[LAYERS];
    ref_shares how = {.alpha = budget,
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

/* ---- the library ------------------------------------------------------------------------------------------
 */

/* The buffers of one layer. */
typedef struct buffers {
    cl_mem q, k, max, lse, start, past, row_max[DECODED], row_lse[DECODED], one, later[DECODED];
} buffers;

static void upload(const scene *s, int layer, buffers *b) {
    int start[] = {0, s->n}, one[] = {0, 1}, past[KV] = {0};
    size_t row = HEADS * sizeof(float);
    b->q = suite_upload(s->q[layer], (size_t)(s->rows * HEADS * DIM) * sizeof(float));
    b->k = suite_upload(s->k[layer], (size_t)(KV * s->rows * DIM) * sizeof(float));
    b->max = suite_upload(s->max[layer], (size_t)s->n * row);
    b->lse = suite_upload(s->lse[layer], (size_t)s->n * row);
    b->start = suite_upload(start, sizeof start);
    b->one = suite_upload(one, sizeof one);
    b->past = suite_upload(past, sizeof past);
    for (int d = 0; d < DECODED; d++) {
        for (int kv = 0; kv < KV; kv++) past[kv] = s->n + d;
        b->later[d] = suite_upload(past, sizeof past);
        b->row_max[d] = suite_upload(s->max[layer] + (s->n + d) * HEADS, row);
        b->row_lse[d] = suite_upload(s->lse[layer] + (s->n + d) * HEADS, row);
    }
}

static void release(buffers *b) {
    cl_mem *all = (cl_mem *)b;
    for (size_t i = 0; i < sizeof *b / sizeof *all; i++) suite_release(all[i]);
}

/* Attention of the prompt (decoded < 0), or of one token after it. */
static vlci_attention attention_of(const scene *s, const buffers *b, int decoded) {
    vlci_attention a = {.batch = 1,
                        .heads = HEADS,
                        .kv_heads = KV,
                        .head_dim = DIM,
                        .causal = true,
                        .scale = 0.25f,
                        .kv_dtype = VLCACHE_DTYPE_F32,
                        .row_stride = DIM,
                        .q_stride = HEADS * DIM,
                        .max_rows = decoded < 0 ? s->n : 1,
                        .q = b->q,
                        .k = b->k,
                        .v = b->k};
    a.head_stride = a.seq_stride = (size_t)(s->rows * DIM);
    a.seq_stride *= KV;
    a.q_offset = decoded < 0 ? 0 : (size_t)((s->n + decoded) * HEADS * DIM);
    a.seq_start = decoded < 0 ? b->start : b->one;
    a.past = decoded < 0 ? b->past : b->later[decoded];
    a.row_max = decoded < 0 ? b->max : b->row_max[decoded];
    a.row_lse = decoded < 0 ? b->lse : b->row_lse[decoded];
    return a;
}

static vlci_compress *make_plan(const policy *p, const scene *s, double budget, vlci_compress **others,
                                size_t n) {
    vlcache_compress_options o = VLCACHE_COMPRESS_OPTIONS_INIT;
    vlci_compress_shape shape = {LAYERS, 1, HEADS, KV, DIM, VLCACHE_DTYPE_F32};
    vlci_compress_prompt prompt = {.tokens = &s->n,
                                   .text = &s->text,
                                   .text_rows = s->text_rows,
                                   .grids = &s->grid,
                                   .n_grids = s->has_grid};
    vlci_recipe recipe;
    vlci_compress *plan = NULL;
    o.policy = p->name;
    o.budget = budget;
    o.threshold = threshold;
    o.recent = recent;
    ck_ok(vlcache_compress_set(&o, "allocation", p->allocation));
    ck_ok(vlcache_compress_set(&o, "selection", p->selection));
    ck_ok(vlcache_compress_set(&o, "pooling", p->pooling));
    ck_ok(vlcache_compress_set(&o, "defer", p->defer));
    ck_ok(vlcache_compress_set(&o, "summary", p->summary));
    ck_ok(vlci_policy_read(&o, &recipe));
    ck_ok(vlci_compress_create(suite_device(), &recipe, &shape, &prompt, others, n, &plan));
    return plan;
}

static void observe(const policy *p, const scene *s, const buffers b[LAYERS], vlci_compress *plan) {
    for (int l = 0; l < LAYERS; l++) {
        vlci_attention a = attention_of(s, &b[l], -1);
        ck_ok(vlci_compress_observe(plan, l, &a));
    }
    for (int d = 0; d < p->decoded; d++)
        for (int l = 0; l < LAYERS; l++) {
            vlci_attention a = attention_of(s, &b[l], d);
            ck_ok(vlci_compress_observe_decode(plan, l, &a));
        }
}

static void compact(const scene *s, const buffers *b, vlci_compress *plan, int layer) {
    size_t bytes = (size_t)(KV * ROOM * DIM) * sizeof(float);
    vlci_attention a = attention_of(s, b, -1);
    vlci_compact_to to = {
        .row_stride = DIM, .head_stride = ROOM * DIM, .seq_stride = KV * ROOM * DIM, .capacity = ROOM};
    to.k = suite_poison(bytes);
    to.v = suite_poison(bytes);
    to.bias = suite_poison(KV * ROOM * sizeof(float));
    ck_ok(vlci_compress_layer(plan, layer, &a, NULL, 0, &to));
    suite_release(to.k);
    suite_release(to.v);
    suite_release(to.bias);
}

static void check_plan(const policy *p, const scene *s, const buffers b[LAYERS], vlci_compress *plan,
                       double budget) {
    ref_rows rows[LAYERS];
    int got[LONGEST], other[LONGEST];
    ck_ok(vlci_compress_plan(plan));
    check_rows(p, s, plan, budget, rows);
    for (int l = 0; l < LAYERS; l++) {
        compact(s, &b[l], plan, l);
        for (int kv = 0; kv < KV; kv++) {
            ck_ok(vlci_compress_positions(plan, l, 0, kv, got));
            check_head(p, s, l, kv, budget, &rows[l], got);
            if (kv == 0) memcpy(other, got, sizeof other);
            if (p->joint || p->looks == NO_ROW)
                ck_assert_mem_eq(got, other, (size_t)rows[l].kept * sizeof *got);
        }
    }
}

/* All budgets at once, as a comparison has them; more budget takes no row from a layer. */
static void try_policy(const policy *p, const scene *s, const buffers b[LAYERS]) {
    vlci_compress *plans[BUDGETS] = {NULL};
    int before[LAYERS] = {0};
    for (size_t i = 0; i < BUDGETS; i++) plans[i] = make_plan(p, s, budgets[i], plans, i);
    for (size_t i = 0; i < BUDGETS; i++) {
        observe(p, s, b, plans[i]);
        check_plan(p, s, b, plans[i], budgets[i]);
        for (int l = 0; l < LAYERS; l++) {
            int rows = vlci_compress_rows(plans[i], l, 0) - p->decoded;
            ck_assert_int_ge(rows, before[l]);
            before[l] = rows;
        }
    }
    for (size_t i = 0; i < BUDGETS; i++) vlci_compress_destroy(&plans[i]);
}

static void try_scene(scene_kind kind, int n, int between, int text) {
    buffers b[LAYERS];
    scene *s = make_scene(kind, n, between, text);
    uint64_t held = vlci_memory_now(suite_device());
    for (int l = 0; l < LAYERS; l++) upload(s, l, &b[l]);
    for (size_t i = 0; i < POLICIES; i++) try_policy(&policies[i], s, b);
    for (int l = 0; l < LAYERS; l++) release(&b[l]);
    ck_assert_uint_eq(vlci_memory_now(suite_device()), held);
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
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
