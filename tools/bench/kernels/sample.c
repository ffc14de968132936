/*
 * sample.c - the next token of some rows of logits: the largest, and a draw of what top-p leaves.
 *
 *     error: 0 or 1 of the largest; of a draw, how far its number in [0, 1) is from the interval of the id
 *            that came of it, where the kept ids' probabilities stand side by side
 */
#include "compute/sample.h"

#include <math.h>
#include <stdlib.h>

#include "bench/kernels/trial.h"
#include "common/memory.h"
#include "compute/random.h"

enum { SAMPLES = 3, MOST_ROWS = 64 };
#define TEMPERATURE 0.8f
#define TOP_P       0.95f
#define TOLERANCE   1e-4 /* ids next to the cut may be on either side of it */

typedef struct sample_work {
    trials *t;
    int rows, n;
    char name[2][64];
    cl_mem logits, draws, out;
    float u[MOST_ROWS];
    vlci_sample_kernels kernels;
} sample_work;

static vlcache_status make(void *work) {
    sample_work *w = work;
    const vlci_sampling how = {.temperature = TEMPERATURE, .top_p = TOP_P};
    size_t floats = (size_t)w->rows * (size_t)w->n;
    vlci_draw draws[MOST_ROWS];
    vlcache_status status = vlci_memory_create(w->t->device, floats * sizeof(float), "logits", &w->logits);
    if (!status) status = vlci_random_floats(w->t->device, w->logits, floats, 81, 0.0f, 8.0f);
    for (int r = 0; r < w->rows && !status; r++) {
        w->u[r] = (float)((r * 29 + 11) % MOST_ROWS) / MOST_ROWS;
        status = vlci_sample_draw(&how, w->u[r], &draws[r]);
    }
    if (!status) status = trial_bytes(w->t, draws, (size_t)w->rows * sizeof *draws, &w->draws);
    return status ? status : trial_poisoned(w->t, (size_t)w->rows, &w->out);
}

static vlcache_status open_kernels(void *work) {
    sample_work *w = work;
    return vlci_sample_open(w->t->device, &w->kernels);
}

static vlcache_status launch_argmax(void *work) {
    const sample_work *w = work;
    return vlci_argmax_run(&w->kernels, w->logits, w->rows, w->n, w->out);
}

static vlcache_status launch_draw(void *work) {
    const sample_work *w = work;
    return vlci_sample_run(&w->kernels, w->logits, w->rows, w->n, w->draws, w->out);
}

/* ---- the error ----------------------------------------------------------------------------------------- */

static int falling(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a < b) - (a > b);
}

static double weight_of(float x, float most) {
    return exp(((double)x - (double)most) / (double)TEMPERATURE);
}

/* The least logit that top-p keeps; `*most`: the largest. */
static float cut_of(const float *x, size_t n, float *most) {
    float *sorted = memory_take(n, sizeof *sorted);
    double all = 0, sum = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) sorted[i] = x[i];
    qsort(sorted, n, sizeof *sorted, falling);
    *most = sorted[0];
    for (size_t i = 0; i < n; i++) all += weight_of(sorted[i], *most);
    while (kept < n && sum < (double)TOP_P * all) sum += weight_of(sorted[kept++], *most);
    float cut = sorted[kept - 1];
    free(sorted);
    return cut;
}

static double draw_off(const float *x, size_t n, double u, int id) {
    float most, cut = cut_of(x, n, &most);
    double all = 0, low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        double w = x[i] >= cut ? weight_of(x[i], most) : 0;
        all += w;
        if ((int)i < id) low += w;
        if ((int)i <= id) high += w;
    }
    return fmax(0, fmax(low / all - u, u - high / all));
}

static double argmax_off(const float *x, size_t n, int id) {
    for (size_t i = 0; i < n; i++)
        if (x[i] > x[id] || (x[i] == x[id] && (int)i < id)) return 1;
    return 0;
}

static vlcache_status check(sample_work *w, trial_launch *launch, double *error) {
    size_t n = (size_t)w->n;
    float *x = memory_take(n, sizeof *x);
    vlcache_status status = vlci_fill(w->t->device, w->out, 0, (size_t)w->rows * sizeof(cl_int), 0xffffffffu);
    if (!status) status = launch(w);
    for (size_t i = 0; i < SAMPLES && !status; i++) {
        size_t row = trial_sample(i, SAMPLES, (size_t)w->rows);
        cl_int id = -1;
        status = vlci_read(w->t->device, w->logits, row * n * sizeof *x, x, n * sizeof *x);
        if (!status) status = vlci_read(w->t->device, w->out, row * sizeof id, &id, sizeof id);
        double off = id < 0 || id >= w->n      ? NAN
                     : launch == launch_argmax ? argmax_off(x, n, id)
                                               : draw_off(x, n, (double)w->u[row], id);
        *error = trial_worse(off, *error);
    }
    free(x);
    return status;
}

static vlcache_status check_argmax(void *work, double *error) {
    return check(work, launch_argmax, error);
}

static vlcache_status check_draw(void *work, double *error) {
    return check(work, launch_draw, error);
}

/* ---- rungs --------------------------------------------------------------------------------------------- */

static vlcache_status try_rows(trials *t, int rows, int n) {
    sample_work w = {.t = t, .rows = rows, .n = n};
    trial_case cases[] = {{.what = {.tolerance = 0}, .check = check_argmax, .launch = launch_argmax},
                          {.what = {.tolerance = TOLERANCE}, .check = check_draw, .launch = launch_draw}};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        trial_case *c = &cases[i];
        snprintf(w.name[i], sizeof w.name[i], "%s of %d rows of %d", i ? "draws" : "largest", rows, n);
        c->what.kernel = "sample";
        c->what.shape = w.name[i];
        c->what.bytes = true;
        c->what.amount = 4.0 * rows * n;
        c->work = &w;
        c->make = make;
        c->open = open_kernels;
        status = trial_ladder(t, &vlci_sample_ladder, c);
        TRIAL_RELEASE(t, &w.logits, &w.draws, &w.out);
    }
    return status;
}

vlcache_status sample_trials(trials *t) {
    if (t->b->options.quick) return try_rows(t, 3, 300);
    static const int vocabularies[] = {32000, 152064};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        status = try_rows(t, 1, vocabularies[i]);
        if (!status) status = try_rows(t, MOST_ROWS, vocabularies[i]);
    }
    return status;
}
