/*
 * ref_compress.c - the oracle: everything written out, nothing clever.
 */
#include "ref/ref_compress.h"

#include <math.h>
#include <stdlib.h>

void ref_logits(const float *q, const float *k, size_t stride, int n, int head_dim, double scale,
                double *out) {
    for (int j = 0; j < n; j++) {
        double sum = 0.0;
        for (int d = 0; d < head_dim; d++) sum += (double)q[d] * (double)k[(size_t)j * stride + (size_t)d];
        out[j] = sum * scale;
    }
}

void ref_row(const double *logit, int n, double *max, double *lse) {
    double sum = 0.0;
    *max = -INFINITY;
    for (int j = 0; j < n; j++) *max = fmax(*max, logit[j]);
    for (int j = 0; j < n; j++) sum += exp(logit[j] - *max);
    *lse = *max + log(sum);
}

static int rounded(double part, int whole, int low, int high) {
    double n = floor(part * whole + 0.5);
    return n < low ? low : n > high ? high : (int)n;
}

static double beta_of(const ref_shares *how, const double *sparsity, int layers, int layer) {
    double total = 0.0;
    if (how->alpha == 1.0) return 1.0;
    if (how->pyramid) { /* an arithmetic sequence of mean alpha */
        double last = how->alpha / 20.0, first = 2.0 * how->alpha - last;
        if (layers == 1) return how->alpha;
        if (first > 1.0) {
            first = 1.0;
            last = 2.0 * how->alpha - 1.0;
        }
        return first - (first - last) / (layers - 1) * layer;
    }
    for (int l = 0; l < layers; l++) total += 1.0 - sparsity[l];
    double adaptive = (total > 0.0 ? (1.0 - sparsity[layer]) / total : 1.0 / layers) * how->alpha * layers;
    adaptive = fmin(fmax(adaptive, 0.01), 1.0);
    return how->uniform == 1.0 ? how->alpha : how->uniform * how->alpha + (1.0 - how->uniform) * adaptive;
}

void ref_budget(const ref_shares *how, const double *sparsity, int layers, int tokens, ref_rows *out) {
    for (int l = 0; l < layers; l++) {
        ref_rows *r = &out[l];
        r->beta = beta_of(how, sparsity, layers, l);
        int n = rounded(r->beta, tokens, 1, tokens);
        r->recent = rounded(how->recent, n, 1, n);
        r->centroids = n == tokens ? 0 : rounded(how->centroids, n, 0, n - r->recent);
        r->kept = n - r->centroids;
        if (how->sink_recent) {
            r->recent = r->kept - how->sinks;
            if (r->recent < 1) r->recent = 1;
        }
        r->sinks = how->sinks;
        if (r->sinks > r->kept - r->recent) r->sinks = r->kept - r->recent;
    }
}

typedef struct entry {
    float score;
    int position;
} entry;

static int better_first(const void *left, const void *right) {
    const entry *a = left, *b = right;
    bool nan_a = isnan(a->score), nan_b = isnan(b->score);
    if (nan_a != nan_b) return nan_a ? 1 : -1;
    if (!nan_a && a->score != b->score) return a->score > b->score ? -1 : 1;
    return a->position - b->position;
}

static int ascending(const void *left, const void *right) {
    return *(const int *)left - *(const int *)right;
}

void ref_topk(const float *score, int tokens, int kept, int recent, int sinks, int *out) {
    int older = tokens - recent, wanted = kept - recent, first = sinks < wanted ? sinks : wanted;
    entry *entries = malloc(((size_t)older + 1) * sizeof *entries);
    if (!entries) abort();
    for (int j = 0; j < first; j++) out[j] = j;
    for (int j = first; j < older; j++) entries[j] = (entry){score ? score[j] : 0.0f, j};
    qsort(entries + first, (size_t)(older - first), sizeof *entries, better_first);
    for (int i = first; i < wanted; i++) out[i] = entries[i].position;
    qsort(out, (size_t)wanted, sizeof *out, ascending);
    for (int i = 0; i < recent; i++) out[kept - recent + i] = older + i;
    free(entries);
}

/* Whether a is the better score; equal ones and NaNs are not. */
static bool better(float a, float b) {
    return isnan(b) ? !isnan(a) : a > b;
}

/* Takes the best token not taken yet of heads from .. until - 1; returns its head. */
static int take_best(const float *score, bool *taken, int tokens, int from, int until) {
    int best = -1;
    for (int i = from * tokens; i < until * tokens; i++)
        if (!taken[i] && (best < 0 || better(score[i], score[best]))) best = i;
    if (best < 0) abort();
    taken[best] = true;
    return best / tokens;
}

void ref_adapt(const float *score, int heads, int tokens, const ref_rows *layer, double floor, int *kept) {
    bool *taken = calloc((size_t)(heads * tokens), sizeof *taken);
    int left = heads * layer->kept;
    if (!taken) abort();
    for (int h = 0; h < heads; h++) {
        for (int j = 0; j < tokens; j++)
            taken[h * tokens + j] = j < layer->sinks || j >= tokens - layer->recent;
        kept[h] = layer->sinks + layer->recent;
        while (kept[h] < rounded(floor, layer->kept, 0, layer->kept)) {
            take_best(score, taken, tokens, h, h + 1);
            kept[h]++;
        }
        left -= kept[h];
    }
    for (; left > 0; left--) kept[take_best(score, taken, tokens, 0, heads)]++;
    free(taken);
}

void ref_pool_line(const float *score, int tokens, int width, float *out) {
    for (int j = 0; j < tokens; j++) {
        out[j] = score[j];
        for (int i = 0; i < tokens; i++)
            if (abs(i - j) <= width / 2 && score[i] > out[j]) out[j] = score[i];
    }
}

void ref_pool_grid(const float *score, int first, int rows, int columns, int stride, int height, int width,
                   float *out) {
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++)
            for (int v = 0; v < rows; v++)
                for (int u = 0; u < columns; u++) {
                    float other = score[first + v * stride + u], *own = &out[first + y * stride + x];
                    if (abs(v - y) <= height / 2 && abs(u - x) <= width / 2 && other > *own) *own = other;
                }
}

static double apart(const float *a, const float *b, int head_dim) {
    double sum = 0.0;
    for (int d = 0; d < head_dim; d++) sum += pow((double)a[d] - (double)b[d], 2.0);
    return sum;
}

/* The row of the largest weight times distance; ties: the lower. */
static int largest(const double *weight, const double *distance, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (weight[i] * distance[i] > weight[best] * distance[best]) best = i;
    return best;
}

/* One stretch: label from `first` on. */
static void spread(const float *rows, const float *score, double scale, int n, int head_dim, int first,
                   int seeds, int *label) {
    double *weight = malloc(2 * (size_t)n * sizeof *weight), *distance = weight + n;
    if (!weight) abort();
    for (int i = 0; i < n; i++) {
        weight[i] = scale > 0.0 ? 1.0 + (double)score[i] * scale : 1.0;
        distance[i] = 1.0;
    }
    for (int s = 0; s < seeds; s++) {
        const float *seed = rows + (size_t)largest(weight, distance, n) * (size_t)head_dim;
        for (int i = 0; i < n; i++) {
            double d = apart(rows + (size_t)i * (size_t)head_dim, seed, head_dim);
            if (s && d >= distance[i]) continue;
            distance[i] = d;
            label[i] = first + s;
        }
    }
    free(weight);
}

/* The first row of stretch p, of so many. */
static int first_row(int n, int p, int stretches) {
    return (int)((int64_t)n * p / stretches);
}

/* What changes from row to row in rows from .. until - 1, of so many, where it is looked at more, the more.
 */
static double change_of(const float *rows, const float *score, double scale, int head_dim, int from,
                        int until) {
    double sum = 0.0;
    for (int i = from > 0 ? from : 1; i < until; i++)
        sum +=
            (1.0 + (scale > 0.0 ? scale * (double)score[i] : 0.0)) *
            apart(rows + (size_t)i * (size_t)head_dim, rows + (size_t)(i - 1) * (size_t)head_dim, head_dim);
    return sum;
}

/* What a stretch of so many rows counts, whose share of all changes is given, less than 0: there are none. */
static double share_of(double change, double much, int n, int rows) {
    double part = change < 0.0 ? rows : fmin(n * change, 4.0 * rows);
    return (1.0 - much) * rows + much * part;
}

void ref_spread(const float *rows, const float *score, int n, int head_dim, int seeds, int *label) {
    int stretches = (n + 383) / 384 < seeds ? (n + 383) / 384 : seeds, first = 0;
    double sum = 0.0, all = 0.0, before = 0.0, *share = calloc((size_t)stretches + 1, sizeof *share);
    double much = seeds ? 0.95 * fmin(1.0, fmax(0.0, ((double)n / seeds - 1.0) / 3.0)) : 0.0;
    if (!share) abort();
    for (int i = 0; score && i < n; i++) sum += (double)score[i];
    double scale = sum > 0.0 ? n / sum : 0.0, changes = change_of(rows, score, scale, head_dim, 0, n);
    for (int p = 0; p < stretches; p++) {
        int from = first_row(n, p, stretches), until = first_row(n, p + 1, stretches);
        double change = change_of(rows, score, scale, head_dim, from, until);
        share[p] = share_of(changes > 0.0 ? change / changes : -1.0, much, n, until - from);
        all += share[p];
    }
    for (int p = 0; p < stretches; p++) {
        int from = first_row(n, p, stretches), until = first_row(n, p + 1, stretches);
        before += share[p];
        int last = p + 1 + (int)((seeds - stretches) * (before / all) + 0.01);
        if (p + 1 == stretches) last = seeds;
        spread(rows + (size_t)from * (size_t)head_dim, score ? score + from : NULL, scale, until - from,
               head_dim, first, last - first, label + from);
        first = last;
    }
    free(share);
}
