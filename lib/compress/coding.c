/*
 * coding.c - what a plan sees of a prompt -> how much each head's rows matter -> bits -> codes.
 *
 *     a(h)        = sum over the coded rows j of score(h, j)^2
 *     weight_V(h) = a                                error of the values, where attention goes
 *     weight_K(h) = a total_V(h) mean q^2 / d        error of the logits times what the values differ by
 *     E           = energy weight, tempered by the matrix's total (bits.h)
 *
 * With a metric (metric.h) values differ, and their errors count, as the layer's output product hears them.
 *
 * In: queries and phases of the prompt, scores, rows in pages. Out: codes, and which rows stay as they are.
 */
#include "compress/coding.h"

#include <math.h>
#include <string.h>

#include "compress/bits.h"
#include "compress/spectrum.h"
#include "compress/vote.h"
#include "core/alloc.h"

/* QUERIES: rows of a part of the prompt whose queries are looked at. COLUMNS of a basis suffice for
 * COLUMNS * COLUMN_BITS a row and head, keys and values together; beyond, as many more. */
enum { QUERIES = 32, COLUMNS = 32, COLUMN_BITS = 5 };

/* ENDS: rows of a prompt without a picture that are text at most, one in ENDS_FIRST of them at its beginning;
 * they take no more than half of the budget. */
enum { ENDS = 20, ENDS_FIRST = 5 };

/* LAST: rows of text that an answer goes on from; only decoded tokens would vote for them. */
enum { LAST = 8 };

/* Codes get a sixteenth of the budget at least where text may yield. */
enum { CODES_LEAST = 16 };

/* Bits that rows are held with until all layers are known: 8 of the first quarter of the columns, 2 of the
 * last. A dimension that has more in the end is rare, and has no more. */
static int held_bits(int columns, int column) {
    return column < columns / 4 ? 8 : column < columns - columns / 4 ? 4 : 2;
}

static size_t n_heads(const vlci_coding *c) {
    return (size_t)c->shape.layers * (size_t)c->shape.kv_heads;
}

static double row_bytes(const vlci_coding *c) {
    return 2.0 * c->shape.head_dim * (double)vlci_dtype_bytes(c->shape.kv_dtype);
}

static double budget_bytes(const vlci_coding *c) {
    return c->budget * c->tokens * (double)n_heads(c) * row_bytes(c);
}

/* Of a row of text in a head, keys and values. */
static double text_bytes(const vlci_coding *c) {
    int dim = c->shape.head_dim;
    return 2.0 * (double)(vlci_codes_text_bytes(dim) + vlci_codes_scale_bytes(dim));
}

vlcache_status vlci_coding_open(vlcache_device *device, const vlci_compress_shape *s,
                                vlci_coding_kernels *out) {
    const vlci_attention_shape attention = {.heads = s->heads,
                                            .kv_heads = s->kv_heads,
                                            .head_dim = s->head_dim,
                                            .kv_dtype = s->kv_dtype,
                                            .rounded = s->kv_dtype,
                                            .cap = s->cap};
    vlcache_status status = vlci_code_open(device, s, &out->code);
    return status ? status : vlci_coded_open(device, &attention, &out->attention);
}

/* ---- creation ------------------------------------------------------------------------------------------ */

/* Rows of a prompt without a picture that are text: the first ones, which much attention rests on whatever is
 * asked, and the last, which go on in what is told. */
typedef struct ends {
    int first, last;
} ends;

static ends find_ends(const vlci_coding *c, const vlci_compress_prompt *p) {
    double most = c->bits > 0.0 ? ENDS : c->budget / 2 * c->tokens * row_bytes(c) / text_bytes(c);
    int n = c->tokens / 2 < ENDS ? c->tokens / 2 : ENDS;
    if (most < n) n = (int)most;
    return p->visual || p->text ? (ends){0, 0} : (ends){n / ENDS_FIRST, n - n / ENDS_FIRST};
}

/* Whether row `row` is coded; `next`: as vlci_rows_visual() has it. */
static bool is_coded(const vlci_compress_prompt *p, const ends *text, int row, int *next) {
    bool visual = vlci_rows_visual(p, row, next);
    return visual && row >= text->first && row < p->tokens - text->last;
}

/* Rows of a run: a power of two, so that tiles of rows are whole runs or parts of one. */
static int fit_run(int run, int n) {
    int whole = VLCI_CODE_RUN_MIN;
    if (run == 1) return run;
    while (whole < n && whole < run) whole *= 2;
    return whole;
}

/* Where some will go, what each is turned by is kept till it is known which. */
static vlcache_status list_rows(vlci_coding *c, const vlci_compress_prompt *p) {
    int n = 0, text = 0, next = 0;
    const ends at = find_ends(c, p);
    int *visual = vlci_alloc(2 * (size_t)p->tokens, sizeof *visual);
    vlcache_status status = visual ? VLCACHE_OK : vlci_fail_memory("coded rows");
    int *others = visual ? visual + p->tokens : NULL;
    for (int row = 0; row < p->tokens && !status; row++)
        if (is_coded(p, &at, row, &next))
            visual[n++] = row;
        else
            others[text++] = row;
    size_t bytes = (size_t)n * sizeof *visual, more = (size_t)text * sizeof *others;
    c->rows.n = n;
    c->rows.texts = text;
    c->rows.run = c->voted > 0.0 ? 1 : fit_run(c->run, n);
    size_t phases = (size_t)vlci_codes_runs(n, c->rows.run) * (size_t)c->shape.head_dim * sizeof(cl_float);
    if (!status) status = vlci_memory_create(c->device, bytes, "coding: positions", &c->rows.positions);
    if (!status) status = vlci_write_later(c->device, c->rows.positions, 0, visual, bytes);
    if (!status) status = vlci_memory_create(c->device, more, "coding: positions", &c->rows.text_at);
    if (!status) status = vlci_write_later(c->device, c->rows.text_at, 0, others, more);
    if (!status) status = vlci_memory_create(c->device, phases, "coding: phases", &c->rows.phase);
    if (c->voted > 0.0 || c->yields)
        c->listed = visual;
    else
        vlci_free(visual);
    return status;
}

/* Of each head: what it may spend, where that is given, and what it does. */
static vlcache_status make_shares(vlci_coding *c, const vlci_recipe *recipe) {
    double sum = 0.0;
    c->spent = vlci_calloc(n_heads(c), sizeof *c->spent);
    if (!c->spent) return vlci_fail_memory("bits of heads");
    if (recipe->allocation != VLCI_ALLOCATE_HEADS) return VLCACHE_OK;
    c->shares = vlci_alloc(n_heads(c), sizeof *c->shares);
    if (!c->shares) return vlci_fail_memory("bits of heads");
    for (size_t h = 0; h < n_heads(c); h++) sum += recipe->shares[h];
    for (size_t h = 0; h < n_heads(c); h++) c->shares[h] = recipe->shares[h] / sum;
    return VLCACHE_OK;
}

vlcache_status vlci_coding_create(vlcache_device *device, const vlci_coding_kernels *kernels,
                                  const vlci_compress_shape *shape, const vlci_recipe *recipe,
                                  const vlci_compress_prompt *prompt, vlci_coding **out) {
    vlci_coding *c = vlci_calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return vlci_fail_memory("coded rows");
    c->device = device;
    c->kernels = kernels;
    c->shape = *shape;
    c->bits = recipe->bits;
    c->budget = recipe->budget;
    c->tokens = prompt->tokens;
    c->voted = recipe->voted;
    c->last = recipe->defer > 0 ? 0 : LAST;
    c->of_kind[0] = recipe->candidates != VLCI_CANDIDATES_VISUAL;
    c->of_kind[1] = recipe->candidates != VLCI_CANDIDATES_TEXT;
    c->yields = recipe->text_yields && prompt->visual;
    c->run = recipe->run;
    c->n_queries = vlci_calloc((size_t)shape->layers, sizeof *c->n_queries);
    vlcache_status status = c->n_queries ? VLCACHE_OK : vlci_fail_memory("coded rows");
    if (!status)
        status = vlci_memory_create(device, n_heads(c) * sizeof(cl_float), "coding: queries", &c->queries);
    if (!status) status = make_shares(c, recipe);
    if (!status) status = list_rows(c, prompt);
    if (status)
        vlci_coding_destroy(&c);
    else if (c->rows.n == 0) /* nothing to code */
        vlci_coding_destroy(&c);
    else
        *out = c;
    return status;
}

static void forget_numbers(vlci_coding *c) {
    vlci_free(c->numbers);
    vlci_free(c->bits_of);
    c->numbers = NULL;
    c->bits_of = NULL;
}

void vlci_coding_destroy(vlci_coding **coding) {
    vlci_coding *c = *coding;
    if (!c) return;
    vlci_code_give_back(c->device, &c->shape, &c->room, &c->measured, NULL);
    vlci_memory_release(c->device, &c->rows.positions);
    vlci_memory_release(c->device, &c->rows.text_at);
    vlci_memory_release(c->device, &c->text_kept);
    vlci_memory_release(c->device, &c->rows.phase);
    vlci_memory_release(c->device, &c->queries);
    vlci_phases_release(c->device, &c->phases);
    forget_numbers(c);
    vlci_codes_release(&c->codes);
    vlci_codes_release(&c->held);
    vlci_free(c->n_queries);
    vlci_free(c->listed);
    vlci_free(c->shares);
    vlci_free(c->spent);
    vlci_free(c);
    *coding = NULL;
}

/* ---- looking ------------------------------------------------------------------------------------------- */

/* Entries from .. until - 1 of the list of rows. */
static vlcache_status add_queries(vlci_coding *c, int layer, const vlci_look *look, const vlci_scores *seen,
                                  int from, int until) {
    const vlci_attention *a = look->a;
    size_t heads = (size_t)c->shape.kv_heads;
    int group = c->shape.heads / c->shape.kv_heads, add = c->n_queries[layer] > 0;
    const vlci_kernel *k = c->kernels->code.queries;
    if (from >= until) return VLCACHE_OK;
    c->n_queries[layer] += (int64_t)(until - from) * group;
    return VLCI_LAUNCH(c->device, k, VLCI_GRID(heads, 1, 1, c->kernels->code.group, 1, 1), VLCI_MEM(a->q),
                       VLCI_U32(a->q_offset), VLCI_U32(a->q_stride), VLCI_U32(0),
                       VLCI_I32(look->row - look->from), VLCI_MEM(seen->rows_on), VLCI_I32(from),
                       VLCI_I32(until), VLCI_I32(group), VLCI_MEM(c->queries),
                       VLCI_U32((size_t)layer * heads), VLCI_I32(add));
}

/* Those that are held, from .. until - 1 of each layer, of all layers. */
static vlcache_status add_held(vlci_coding *c, const vlci_looks *looks, int from, int until, bool add) {
    size_t heads = (size_t)c->shape.kv_heads, layers = (size_t)c->shape.layers;
    size_t row = (size_t)c->shape.heads * (size_t)c->shape.head_dim;
    int group = c->shape.heads / c->shape.kv_heads;
    const vlci_kernel *k = c->kernels->code.queries;
    if (from >= until) return VLCACHE_OK;
    for (size_t l = 0; l < layers; l++) c->n_queries[l] += (int64_t)(until - from) * group;
    return VLCI_LAUNCH(c->device, k, VLCI_GRID(heads, layers, 1, c->kernels->code.group, 1, 1),
                       VLCI_MEM(looks->q), VLCI_U32(0), VLCI_U32(row), VLCI_U32((size_t)looks->room * row),
                       VLCI_I32(0), VLCI_MEM(NULL), VLCI_I32(from), VLCI_I32(until), VLCI_I32(group),
                       VLCI_MEM(c->queries), VLCI_U32(0), VLCI_I32(add));
}

/* The prompt's, and those of decoded rows, as looks.h has them. */
static vlcache_status take_held(vlci_coding *c, const vlci_scores *seen) {
    int n = seen->rows.n, from = n > QUERIES ? n - QUERIES : 0;
    if (!c->together || !seen->looks.lse) return VLCACHE_OK;
    c->together = false;
    vlcache_status status = add_held(c, &seen->looks, from, n, false);
    return status ? status : add_held(c, &seen->looks, n + 1, n + 1 + seen->held, true);
}

static vlcache_status take_phases(vlci_coding *c, const vlci_look *look) {
    const vlci_kernel *k = c->kernels->code.phases;
    size_t runs = (size_t)vlci_codes_runs(c->rows.n, c->rows.run);
    c->phased = true;
    return VLCI_LAUNCH(c->device, k, vlci_grid_over(k, (size_t)c->shape.head_dim, runs, 1),
                       VLCI_MEM(look->phase), VLCI_MEM(c->rows.positions), VLCI_I32(c->rows.n),
                       VLCI_I32(c->rows.run), VLCI_MEM(c->rows.phase));
}

vlcache_status vlci_coding_observe(vlci_coding *c, int layer, const vlci_look *look,
                                   const vlci_scores *seen) {
    int from = vlci_rows_from(&seen->rows, look->from);
    int until = vlci_rows_from(&seen->rows, look->from + look->n);
    vlcache_status status = c->phased ? VLCACHE_OK : take_phases(c, look);
    c->together = seen->references == 1 && vlci_scores_holds(seen, false);
    return status || c->together
               ? status
               : add_queries(c, layer, look, seen, from > until - QUERIES ? from : until - QUERIES, until);
}

vlcache_status vlci_coding_observe_decode(vlci_coding *c, int layer, const vlci_look *look,
                                          const vlci_scores *seen) {
    return c->together ? VLCACHE_OK : add_queries(c, layer, look, seen, seen->rows.n, seen->rows.n + 1);
}

vlcache_status vlci_coding_score_decode(vlci_coding *c, int layer, const vlci_look *look, double weight,
                                        const vlci_scores *seen) {
    const vlci_coded_sight sight = {.positions = c->rows.positions,
                                    .text_at = c->rows.text_at,
                                    .tokens = c->tokens,
                                    .score = seen->score};
    return vlci_coded_score(c->held, layer, look->a, look->row - look->from, weight, &sight);
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

/* Rows that codes have room for. */
static int padded(const vlci_coding *c) {
    return (c->rows.n + VLCI_CODE_ROWS - 1) / VLCI_CODE_ROWS * VLCI_CODE_ROWS;
}

static vlci_codes shape_of(const vlci_coding *c) {
    int run = c->rows.run == 1 ? VLCI_CODE_RUN_MIN : c->rows.run;
    return (vlci_codes){.device = c->device,
                        .pool = c->pool,
                        .read = &c->kernels->attention,
                        .layers = c->shape.layers,
                        .kv_heads = c->shape.kv_heads,
                        .head_dim = c->shape.head_dim,
                        .rows = c->rows.n,
                        .texts = c->rows.texts,
                        .run = run,
                        .runs = vlci_codes_runs(c->rows.n, run),
                        .patterns = c->phases.n};
}

/* Text rows that are kept of `texts`: all, where codes have room beside them and beside `visual` visual ones'
 * tables, as far as these are known, or half of what there is room for, one at least. */
static int fit_text(const vlci_coding *c, int visual, int texts) {
    vlci_codes empty = shape_of(c);
    empty.texts = 0;
    empty.runs = vlci_codes_runs(visual, empty.run);
    vlci_codes_bytes fixed = vlci_codes_count(&empty);
    double all = budget_bytes(c), left = all - (double)vlci_codes_sum(&fixed);
    double row = text_bytes(c) * (double)n_heads(c);
    if (!c->yields || texts < 1 || texts * row <= left - all / CODES_LEAST) return texts;
    double half = fmax(left / (2 * row), 1.0);
    return half < texts ? (int)half : texts;
}

static vlcache_status read_votes(const vlci_coding *c, const vlci_scores *seen, float *out) {
    const vlci_kernel *k = c->kernels->code.votes;
    size_t bytes = (size_t)c->tokens * sizeof *out;
    cl_mem votes = NULL;
    vlcache_status status = vlci_memory_create(c->device, bytes, "coding: votes", &votes);
    if (!status)
        status = VLCI_LAUNCH(c->device, k, vlci_grid_over(k, (size_t)c->tokens, 1, 1), VLCI_MEM(seen->score),
                             VLCI_I32((int)n_heads(c)), VLCI_I32(c->tokens), VLCI_MEM(votes));
    if (!status) status = vlci_read(c->device, votes, 0, out, bytes);
    vlci_memory_release(c->device, &votes);
    for (int j = 0; j < c->tokens && !status; j++)
        if (!isfinite(out[j]))
            status = vlci_fail(VLCACHE_E_UNSUPPORTED,
                               "compress: selection: rows whose scores are not finite cannot be chosen");
    return status;
}

/* What the visual rows at `chosen` of those that there were are turned by. */
static vlcache_status choose_phases(vlci_coding *c, const int *chosen, int n) {
    const vlci_kernel *k = c->kernels->code.phases;
    size_t dim = (size_t)c->shape.head_dim, row = dim * sizeof(cl_float);
    int run = fit_run(c->run, n), runs = vlci_codes_runs(n, run);
    cl_mem phase = NULL, at = NULL;
    vlcache_status status = vlci_memory_create(c->device, (size_t)runs * row, "coding: phases", &phase);
    if (!status)
        status = vlci_memory_create(c->device, (size_t)n * sizeof *chosen, "coding: chosen rows", &at);
    if (!status) status = vlci_write_later(c->device, at, 0, chosen, (size_t)n * sizeof *chosen);
    if (!status)
        status = VLCI_LAUNCH(c->device, k, vlci_grid_over(k, dim, (size_t)runs, 1), VLCI_MEM(c->rows.phase),
                             VLCI_MEM(at), VLCI_I32(n), VLCI_I32(run), VLCI_MEM(phase));
    vlci_memory_release(c->device, &at);
    vlci_memory_release(c->device, &c->rows.phase);
    c->rows.phase = phase;
    c->rows.run = run;
    return status;
}

/* Which of the text rows that are held are kept. */
static vlcache_status keep_text(vlci_coding *c, const int *chosen, int n) {
    size_t bytes = (size_t)n * sizeof *chosen;
    vlcache_status status = vlci_memory_create(c->device, bytes, "coding: text that is kept", &c->text_kept);
    return status ? status : vlci_write_later(c->device, c->text_kept, 0, chosen, bytes);
}

/* Of a kind: `n` rows at `rows` become a share of them, those that are chosen, on the device at `positions`.
 */
static vlcache_status choose_kind(vlci_coding *c, const float *votes, bool visual, double share, int *rows,
                                  int *n, cl_mem positions) {
    int unit = visual && c->run == 1 ? VLCI_CODE_RUN_MIN : 1, kept = 0;
    int *chosen = vlci_alloc((size_t)*n + 1, sizeof *chosen);
    vlcache_status status = chosen ? VLCACHE_OK : vlci_fail_memory("chosen rows");
    if (!status) status = vlci_vote_choose(votes, rows, *n, unit, share, visual ? 0 : c->last, chosen, &kept);
    if (!status && visual) status = choose_phases(c, chosen, kept);
    if (!status && !visual && c->held) status = keep_text(c, chosen, kept);
    for (int i = 0; i < kept && !status; i++) rows[i] = rows[chosen[i]];
    if (!status && kept)
        status = vlci_write_later(c->device, positions, 0, rows, (size_t)kept * sizeof *rows);
    if (!status) *n = kept;
    vlci_free(chosen);
    return status;
}

/* Of both kinds, or only of the text where half of both would not do. */
vlcache_status vlci_coding_choose(vlci_coding *c, const vlci_scores *seen) {
    if (c->voted == 0.0) return VLCACHE_OK;
    int visual = (int)(c->voted * c->rows.n), text = (int)(c->voted * c->rows.texts);
    if (c->of_kind[0] && fit_text(c, visual, text) < text) c->of_kind[1] = false;
    float *votes = vlci_alloc((size_t)c->tokens, sizeof *votes);
    const double share[2] = {c->of_kind[0] ? c->voted : 1.0, c->of_kind[1] ? c->voted : 1.0};
    vlcache_status status = votes ? read_votes(c, seen, votes) : vlci_fail_memory("votes of rows");
    if (!status) status = choose_kind(c, votes, true, share[1], c->listed, &c->rows.n, c->rows.positions);
    if (!status)
        status =
            choose_kind(c, votes, false, share[0], c->listed + c->tokens, &c->rows.texts, c->rows.text_at);
    vlci_free(votes);
    return status;
}

/* Fewer text rows, those that are looked at most, where they would leave codes too little. */
static vlcache_status cut_text(vlci_coding *c, const vlci_scores *seen) {
    int all = c->rows.texts, kept = fit_text(c, c->rows.n, all);
    if (kept == all) return VLCACHE_OK;
    float *votes = vlci_alloc((size_t)c->tokens, sizeof *votes);
    vlcache_status status = votes ? read_votes(c, seen, votes) : vlci_fail_memory("votes of rows");
    if (!status)
        status = choose_kind(c, votes, false, (double)kept / all, c->listed + c->tokens, &c->rows.texts,
                             c->rows.text_at);
    vlci_free(votes);
    return status;
}

void vlci_coding_positions(const vlci_coding *c, int *out) {
    const int *visual = c->listed, *text = c->listed ? c->listed + c->tokens : NULL;
    for (int i = 0, v = 0, t = 0; i < vlci_coding_kept(c); i++) {
        bool first = visual && v < c->rows.n && (t == c->rows.texts || visual[v] < text[t]);
        out[i] = !visual ? i : first ? visual[v++] : text[t++];
    }
}

/* ---- bits ---------------------------------------------------------------------------------------------- */

/* Bits of a row in all heads together that the budget leaves, and what each dimension costs beside: its
 * vector and step. Where bits are given, they alone count. */
static double most_bits(const vlci_coding *c, double *basis) {
    double heads = (double)n_heads(c), rows = padded(c);
    vlci_codes empty = shape_of(c);
    vlci_codes_bytes fixed = vlci_codes_count(&empty);
    double left = budget_bytes(c) - (double)vlci_codes_sum(&fixed);
    *basis = c->bits > 0.0 ? 0.0 : 8.0 * (c->shape.head_dim + (double)sizeof(cl_float)) / rows;
    return c->bits > 0.0 ? c->bits * heads : left > 0.0 ? 8.0 * left / rows : 0.0;
}

/* Columns of the bases: whole vectors of 16. */
static int count_columns(const vlci_coding *c) {
    vlci_coding fit = *c; /* with the text that will be left */
    fit.rows.texts = fit_text(c, c->rows.n, c->rows.texts);
    double basis, bits = most_bits(&fit, &basis) / (double)n_heads(c);
    int dim = c->shape.head_dim, columns = 16 * (int)ceil(bits / (16 * COLUMN_BITS));
    if (columns < COLUMNS) columns = COLUMNS;
    return columns < dim ? columns : dim;
}

int vlci_coding_layers(const vlci_coding *c) {
    return vlci_code_layers(&c->kernels->code, &c->shape);
}

static vlcache_status measure(vlci_coding *c, const vlci_heads *layers, bool one_layer) {
    vlcache_status status = VLCACHE_OK;
    if (!c->measured.basis) {
        vlci_code_lend(c->kernels->spare, &c->room);
        status = vlci_code_begin(c->device, &c->shape, count_columns(c), one_layer, c->kernels->metric,
                                 c->kernels->spare, &c->measured);
    }
    return status ? status : vlci_code_measure(&c->kernels->code, layers, &c->rows, &c->room, &c->measured);
}

vlcache_status vlci_coding_measure(vlci_coding *c, const vlci_heads *layers) {
    return measure(c, layers, false);
}

/* What came of measuring, on the host. */
typedef struct numbers {
    float *attended, *queries, *total, *energy; /* [heads], [heads], [matrices], [matrices][columns] */
} numbers;

/* As they stand side by side. */
static numbers numbers_of(const vlci_coding *c) {
    size_t heads = n_heads(c);
    return (numbers){c->numbers, c->numbers + heads, c->numbers + 2 * heads, c->numbers + 4 * heads};
}

/* They come to stand side by side: one read is waited for. */
static vlcache_status gather_numbers(vlci_coding *c, const vlci_scores *seen) {
    const vlci_kernel *k = c->kernels->code.attended;
    const vlci_code_measured *m = &c->measured;
    size_t n = n_heads(c), heads = n * sizeof(cl_float);
    vlcache_status status =
        VLCI_LAUNCH(c->device, k, VLCI_GRID(n, 1, 1, c->kernels->code.group, 1, 1), VLCI_MEM(seen->score),
                    VLCI_I32(c->tokens), VLCI_MEM(c->rows.positions), VLCI_I32(c->rows.n),
                    VLCI_MEM(m->numbers));
    if (!status) status = vlci_copy(c->device, c->queries, 0, m->numbers, heads, heads);
    if (!status) status = vlci_copy(c->device, m->total, 0, m->numbers, 2 * heads, 2 * heads);
    return status ? status
                  : vlci_copy(c->device, m->energy, 0, m->numbers, 4 * heads, 2 * heads * (size_t)m->columns);
}

static vlcache_status read_numbers(vlci_coding *c) {
    size_t heads = n_heads(c), matrices = 2 * heads * (size_t)c->measured.columns, n = 4 * heads + matrices;
    forget_numbers(c);
    c->numbers = vlci_alloc(n, sizeof *c->numbers);
    c->bits_of = vlci_alloc(matrices, sizeof *c->bits_of);
    return c->numbers && c->bits_of
               ? vlci_read(c->device, c->measured.numbers, 0, c->numbers, n * sizeof *c->numbers)
               : vlci_fail_memory("bits of coded rows");
}

static vlcache_status check_finite(const vlci_coding *c, const numbers *n) {
    int kv_heads = c->shape.kv_heads;
    for (int m = 0; m < 2 * (int)n_heads(c); m++)
        if (!isfinite(n->total[m]) || !isfinite(n->attended[m / 2]) || !isfinite(n->queries[m / 2]))
            return vlci_fail(
                VLCACHE_E_UNSUPPORTED,
                "compress: storage: layer %d, kv head %d: %s that are not finite cannot be coded",
                m / 2 / kv_heads, m / 2 % kv_heads, m % 2 ? "values" : "keys");
    return VLCACHE_OK;
}

/* Energies in the unit of all; where no row was attended to, heads count alike. */
static void weigh(const vlci_coding *c, const numbers *n, double *energy) {
    int columns = c->measured.columns, heads = (int)n_heads(c);
    double most = 0.0, dim = c->shape.head_dim;
    for (int h = 0; h < heads; h++) most = fmax(most, (double)n->attended[h]);
    for (int h = 0; h < heads; h++) {
        double a = most > 0.0 ? n->attended[h] / most : 1.0;
        int64_t rows = c->n_queries[h / c->shape.kv_heads];
        double q2 = rows ? n->queries[h] / ((double)rows * dim) : 1.0;
        const double weight[2] = {a * n->total[2 * h + 1] * q2 / dim, a};
        for (int m = 2 * h; m < 2 * h + 2; m++)
            vlci_bits_temper(n->energy + (size_t)m * (size_t)columns, columns, n->total[m], weight[m % 2],
                             energy + (size_t)m * (size_t)columns);
    }
}

/* Where everything of each matrix stands, from the bits of its dimensions; totals to `shape`. */
static vlcache_status place(vlci_coding *c, const uint8_t *bits, vlci_codes *shape, vlci_code_matrix *out) {
    int columns = c->measured.columns, blocks = padded(c) / VLCI_CODE_ROWS;
    for (size_t m = 0; m < 2 * n_heads(c); m++) {
        int n[9] = {0};
        for (int i = 0; i < columns; i++) n[bits[m * (size_t)columns + (size_t)i]]++;
        out[m] = (vlci_code_matrix){VLCI_CODE_WIDTHS(n[8], n[4], n[2]), (vlci_u32)shape->dims,
                                    (vlci_u32)shape->n_words};
        shape->dims += n[8] + n[4] + n[2];
        shape->n_words += (size_t)blocks * (size_t)VLCI_CODE_WORDS(out[m].widths);
        c->bits_used += (uint64_t)(8 * n[8] + 4 * n[4] + 2 * n[2]);
        if (n[8] + n[4] + n[2] > c->most) c->most = n[8] + n[4] + n[2];
        if (shape->n_words > UINT32_MAX)
            return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: storage: codes of more than 2^32 words");
    }
    return VLCACHE_OK;
}

/* Codes with room for these bits. */
static vlcache_status make_codes(vlci_coding *c, const uint8_t *bits, vlci_codes **out) {
    size_t n = 2 * n_heads(c);
    vlci_codes shape = shape_of(c);
    bool narrows = c->held != NULL; /* *out may be c->held */
    vlci_code_matrix *matrix = vlci_alloc(n, sizeof *matrix);
    vlcache_status status = matrix ? VLCACHE_OK : vlci_fail_memory("bits of coded rows");
    c->bits_used = 0;
    c->most = 0;
    if (!status) status = place(c, bits, &shape, matrix);
    if (!status) status = narrows ? vlci_codes_narrow(&shape, c->held, out) : vlci_codes_create(&shape, out);
    if (!status) status = vlci_write_later(c->device, (*out)->matrix, 0, matrix, n * sizeof *matrix);
    if (!status && c->phases.n)
        status = vlci_phases_write(&c->phases, *out);
    else if (!status && !narrows)
        status = vlci_copy(c->device, c->rows.phase, 0, (*out)->phase, 0,
                           (size_t)shape.runs * (size_t)shape.head_dim * sizeof(cl_float));
    if (!status) c->bytes = vlci_codes_count(*out);
    vlci_free(matrix);
    return status;
}

/* No more than rows are held with. */
static void cap(const vlci_coding *c, uint8_t *bits) {
    int columns = c->measured.columns;
    for (size_t i = 0; i < 2 * n_heads(c) * (size_t)columns; i++) {
        int most = held_bits(columns, (int)(i % (size_t)columns));
        if (bits[i] > most) bits[i] = (uint8_t)most;
    }
}

/* What a head's dimensions take. */
static double spent_by(const vlci_bits *share, const uint8_t *bits, size_t head) {
    const uint8_t *own = bits + 2 * head * (size_t)share->dims;
    double sum = 0.0;
    for (int i = 0; i < 2 * share->dims; i++) sum += own[i] ? own[i] + share->basis : 0.0;
    return sum;
}

/* Over all heads as they are measured, or over each its own share, and what those before it have left. */
static vlcache_status share_out(const vlci_coding *c, const vlci_bits *all, uint8_t *bits) {
    double left = 0.0;
    if (!c->shares) return vlci_bits_share(all, bits);
    vlcache_status status = VLCACHE_OK;
    for (size_t h = 0; h < n_heads(c) && !status; h++) {
        size_t at = 2 * h * (size_t)all->dims;
        vlci_bits own = *all;
        own.matrices = 2;
        own.energy = all->energy + at;
        own.most = all->most * c->shares[h] + left;
        status = vlci_bits_share(&own, bits + at);
        left = own.most - spent_by(all, bits, h);
    }
    return status;
}

static vlcache_status round_all(vlci_coding *c) {
    const vlci_heads all = {.device = c->device, .shape = c->shape, .layers = c->shape.layers};
    return vlci_code_round(&c->kernels->code, &all, &c->measured, c->codes);
}

/* Bits of all dimensions. */
static vlcache_status find_bits(vlci_coding *c, const numbers *read) {
    vlci_bits share = {.matrices = 2 * (int)n_heads(c), .dims = c->measured.columns};
    double *energy = vlci_alloc(2 * n_heads(c) * (size_t)share.dims, sizeof *energy);
    vlcache_status status = energy ? check_finite(c, read) : vlci_fail_memory("bits of coded rows");
    if (!status) {
        weigh(c, read, energy);
        share.energy = energy;
        share.most = most_bits(c, &share.basis);
        status = share_out(c, &share, c->bits_of);
    }
    if (!status && c->held) cap(c, c->bits_of);
    vlci_free(energy);
    return status;
}

/* Of rows that are turned one by one, once. */
static vlcache_status find_phases(vlci_coding *c) {
    if (c->rows.run > 1 || c->phases.n) return VLCACHE_OK;
    return vlci_phases_find(c->device, &c->kernels->code, c->rows.phase, c->rows.n, c->shape.head_dim,
                            &c->phases);
}

vlcache_status vlci_coding_ask(vlci_coding *c, const vlci_scores *seen) {
    vlcache_status status = take_held(c, seen);
    if (!status) status = gather_numbers(c, seen);
    if (!status) status = find_phases(c);
    return status ? status : read_numbers(c);
}

vlcache_status vlci_coding_share(vlci_coding *c, const vlci_scores *seen) {
    vlcache_status status = vlci_coding_asked(c) ? VLCACHE_OK : vlci_coding_ask(c, seen);
    const numbers read = numbers_of(c);
    if (!status) status = cut_text(c, seen);
    if (!status) status = find_bits(c, &read);
    if (!status) status = make_codes(c, c->bits_of, &c->codes);
    return status || c->held ? status : round_all(c);
}

/* What became of it. */
static void tell(const vlci_coding *c, vlcache_compress_layer *layer) {
    const numbers read = numbers_of(c);
    const vlci_spectrum spectrum = {c->shape.kv_heads, c->measured.columns, read.energy, read.total,
                                    c->bits_of};
    vlci_bits share = {.dims = c->measured.columns};
    most_bits(c, &share.basis);
    for (size_t h = 0; h < n_heads(c); h++) c->spent[h] = spent_by(&share, c->bits_of, h);
    for (int l = 0; l < c->shape.layers && layer; l++) vlci_spectrum_layer(&spectrum, l, &layer[l]);
}

/* ---- most that it comes to ----------------------------------------------------------------------------- */

/* Of rows that are held: the bits of a matrix, and all of its columns. */
static uint64_t held_bytes(const vlci_coding *c) {
    vlci_codes all = shape_of(c);
    int columns = count_columns(c), bits = 0;
    for (int i = 0; i < columns; i++) bits += held_bits(columns, i);
    all.dims = 2 * (int)n_heads(c) * columns;
    all.n_words = 2 * n_heads(c) * (size_t)padded(c) / VLCI_CODE_ROWS * (size_t)(bits * VLCI_CODE_ROWS / 32);
    vlci_codes_bytes bytes = vlci_codes_count(&all);
    return vlci_codes_sum(&bytes);
}

/* Where bits are given: codes, and vectors of at least two bits each. */
static double given_bytes(const vlci_coding *c) {
    double dim = c->shape.head_dim, bits = fmin(c->bits, 16.0 * dim),
           vectors = fmin(c->bits / 2.0, 2.0 * dim);
    return (double)n_heads(c) * (padded(c) * bits / 8.0 + vectors * (dim + (double)sizeof(cl_float)));
}

uint64_t vlci_coding_bound(const vlci_compress_shape *shape, const vlci_recipe *r, int tokens, int visual,
                           bool by_layer) {
    static const vlci_coding_kernels none;
    vlci_coding c = {.kernels = &none,
                     .shape = *shape,
                     .bits = r->bits,
                     .budget = r->budget,
                     .tokens = tokens,
                     .voted = r->voted};
    const ends text = find_ends(&c, &(vlci_compress_prompt){.tokens = tokens});
    c.rows.texts = visual ? tokens - visual : text.first + text.last;
    c.rows.n = tokens - c.rows.texts;
    c.rows.run = c.voted > 0.0 && r->run > 1 ? VLCI_CODE_RUN_MIN : fit_run(r->run, c.rows.n);
    c.yields = r->text_yields && visual;
    if (c.rows.run == 1) c.phases.n = vlci_codes_runs(c.rows.n, VLCI_CODE_RUN_MIN); /* all may differ */
    vlci_codes fixed = shape_of(&c);
    fixed.texts = fit_text(&c, c.rows.n, c.rows.texts);
    vlci_codes_bytes bytes = vlci_codes_count(&fixed);
    double most = (double)vlci_codes_sum(&bytes);
    most = c.bits > 0.0 ? most + given_bytes(&c) : fmax(most, budget_bytes(&c));
    return (uint64_t)ceil(most) + (by_layer ? held_bytes(&c) : 0);
}

/* ---- codes --------------------------------------------------------------------------------------------- */

int vlci_coding_write_layers(const vlci_coding *c) {
    return c->held ? c->shape.layers
                   : vlci_code_write_layers(&c->kernels->code, &c->shape, &c->rows, c->most);
}

vlcache_status vlci_coding_write(vlci_coding *c, const vlci_heads *layers) {
    const vlci_code_kernels *k = &c->kernels->code;
    vlcache_status status =
        c->text_kept ? vlci_code_keep_text(k, layers, c->text_kept, c->held, c->codes) : VLCACHE_OK;
    if (status) return status;
    return c->held ? vlci_code_narrow(k, layers, &c->rows, c->most, &c->room, c->held, c->codes)
                   : vlci_code_write(k, layers, &c->rows, c->most, &c->room, &c->measured, c->codes);
}

/* Codes of as many bits for every matrix. */
static vlcache_status make_held(vlci_coding *c) {
    size_t n = 2 * n_heads(c) * (size_t)c->measured.columns;
    uint8_t *bits = vlci_alloc(n, sizeof *bits);
    if (!bits) return vlci_fail_memory("bits of coded rows");
    for (size_t i = 0; i < n; i++)
        bits[i] = (uint8_t)held_bits(c->measured.columns, (int)(i % (size_t)c->measured.columns));
    vlcache_status status = make_codes(c, bits, &c->held);
    vlci_free(bits);
    return status;
}

vlcache_status vlci_coding_hold(vlci_coding *c, const vlci_heads *layer) {
    const vlci_code_kernels *k = &c->kernels->code;
    vlcache_status status = measure(c, layer, true);
    if (!status && !c->held) status = find_phases(c);
    if (!status && !c->held) status = make_held(c);
    if (!status) status = vlci_code_round(k, layer, &c->measured, c->held);
    return status ? status : vlci_code_write(k, layer, &c->rows, c->most, &c->room, &c->measured, c->held);
}

vlci_codes *vlci_coding_lend(vlci_coding *c, vlci_codes *before) {
    c->held->before = before;
    return vlci_codes_retain(c->held);
}

vlci_codes *vlci_coding_finish(vlci_coding *c, vlci_codes *before, vlcache_compress_layer *layer) {
    vlci_codes *codes = c->codes;
    tell(c, layer);
    forget_numbers(c);
    codes->before = before;
    if (c->held && before == c->held) { /* which was lent: what stood before it stays */
        codes->before = c->held->before;
        c->held->before = NULL;
        vlci_codes_release(&before);
    }
    c->codes = NULL;
    c->gone = c->held ? c->held->counted : 0;
    vlci_codes_release(&c->held);
    vlci_code_give_back(c->device, &c->shape, &c->room, &c->measured, c->kernels->spare);
    return codes;
}

double vlci_coding_bits(const vlci_coding *c) {
    return (double)c->bits_used / (double)n_heads(c);
}
