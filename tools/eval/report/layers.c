/*
 * layers.c - one number of each record, put together.
 */
#include "eval/report/layers.h"
#include "common/memory.h"

#include <math.h>
#include <stdlib.h>

/* Where a number stands in a record: root[layer], or the mean over all layers. */
typedef const json_t *(*finder)(const json_t *record, const void *what);

typedef struct of_sparsity {
    const char *when;
    double threshold;
} of_sparsity;

typedef struct of_hit {
    const char *which;
    size_t variant;
} of_hit;

enum { ALL_LAYERS = -1 };

static const json_t *find_sparsity(const json_t *record, const void *what) {
    const of_sparsity *s = what;
    char key[32];
    if (!json_integer_value(json_object_get(record, "steps"))) return NULL; /* both or neither */
    snprintf(key, sizeof key, "%g", s->threshold);
    return json_object_get(json_object_get(record, s->when), key);
}

static const json_t *find_hit(const json_t *record, const void *what) {
    const of_hit *h = what;
    return json_object_get(json_array_get(json_object_get(record, "runs"), h->variant), h->which);
}

static const json_t *find_prefill(const json_t *record, const void *what) {
    const of_sparsity *s = what;
    char key[32];
    snprintf(key, sizeof key, "%g", s->threshold);
    return json_object_get(json_object_get(record, s->when), key);
}

static double number_of(const json_t *layers, int layer) {
    double sum = 0.0;
    size_t n = json_array_size(layers);
    if (!n || (layer != ALL_LAYERS && (size_t)layer >= n)) return NAN;
    if (layer != ALL_LAYERS) return json_number_value(json_array_get(layers, (size_t)layer));
    for (size_t l = 0; l < n; l++) sum += json_number_value(json_array_get(layers, l));
    return sum / (double)n;
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between neighbours. */
static double quantile(const double *sorted, size_t n, double q) {
    double at = q * (double)(n - 1);
    size_t low = (size_t)at;
    return low + 1 < n ? sorted[low] + (at - (double)low) * (sorted[low + 1] - sorted[low]) : sorted[low];
}

static spread spread_of(const results *r, finder find, const void *what, int layer) {
    spread s = {NAN, NAN, NAN, 0};
    double sum = 0.0, *values = memory_take(r->n + 1, sizeof *values);
    for (size_t i = 0; i < r->n; i++) {
        double value = number_of(find(r->records[i], what), layer);
        if (isnan(value)) continue;
        values[s.n++] = value;
        sum += value;
    }
    if (s.n) {
        qsort(values, s.n, sizeof *values, compare_numbers);
        s.mean = sum / (double)s.n;
        s.low = quantile(values, s.n, 0.25);
        s.high = quantile(values, s.n, 0.75);
    }
    free(values);
    return s;
}

size_t layers_count(const results *r) {
    for (size_t i = 0; i < r->n; i++) {
        const json_t *run = json_array_get(json_object_get(r->records[i], "runs"), 0);
        if (run) return json_array_size(json_object_get(run, "layers"));
    }
    return 0;
}

spread layers_sparsity(const results *r, const char *when, double threshold, size_t layer) {
    return spread_of(r, find_sparsity, &(of_sparsity){when, threshold}, (int)layer);
}

spread layers_sparsity_of_all(const results *r, const char *when, double threshold) {
    return spread_of(r, find_sparsity, &(of_sparsity){when, threshold}, ALL_LAYERS);
}

spread layers_hit(const results *r, const char *which, size_t variant, size_t layer) {
    return spread_of(r, find_hit, &(of_hit){which, variant}, (int)layer);
}

spread layers_hit_of_all(const results *r, const char *which, size_t variant) {
    return spread_of(r, find_hit, &(of_hit){which, variant}, ALL_LAYERS);
}

spread layers_sparsity_any(const results *r, double threshold, size_t layer) {
    return spread_of(r, find_prefill, &(of_sparsity){"sparsity", threshold}, (int)layer);
}

/* [[keys, values] of each layer]: the pair of one layer is as the layers of a list. */
typedef struct of_coded {
    const char *what;
    size_t variant, layer;
} of_coded;

static const json_t *find_coded(const json_t *record, const void *what) {
    const of_coded *c = what;
    const json_t *run = json_array_get(json_object_get(record, "runs"), c->variant);
    return json_array_get(json_object_get(run, c->what), c->layer);
}

spread layers_coded(const results *r, const char *what, size_t variant, size_t layer, int kind) {
    return spread_of(r, find_coded, &(of_coded){what, variant, layer}, kind);
}

size_t layers_steps(const results *r) {
    size_t steps = 0;
    for (size_t i = 0; i < r->n; i++)
        steps += (size_t)json_integer_value(json_object_get(r->records[i], "steps"));
    return steps;
}
