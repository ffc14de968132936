/*
 * fit.c - from the study of single layers to a share for each; from that of spectra to one for each head.
 */
#include "eval/fit.h"

#include <math.h>
#include <stdlib.h>

#include "common/exit.h"
#include "common/outfile.h"
#include "eval/bootstrap.h"

bool fit_shares(const scores *s, const studies *t, uint64_t seed, double *shares, double *gain) {
    sheet all;
    double mean = 0.0;
    bool good = bootstrap_pool(s, seed, &all);
    for (size_t l = 0; l < t->n_layers && good; l++) {
        double more = all.cells[t->all_but[l]].score.mean - all.cells[t->even].score.mean;
        if (gain) gain[l] = more;
        shares[l] = fmax(more, 0.0);
        mean += shares[l] / (double)t->n_layers;
    }
    for (size_t l = 0; l < t->n_layers && good; l++)
        shares[l] = mean > 0.0 ? 0.5 + 0.5 * shares[l] / mean : 1.0;
    sheet_release(&all);
    return good;
}

/* What each head had of a question's bits, added. False: the record has no such bits. */
static bool add_heads(const json_t *heads, double *sums, size_t n) {
    const json_t *one;
    double all = 0.0;
    size_t i;
    json_array_foreach(heads, i, one) all += json_number_value(one);
    if (all <= 0.0 || json_array_size(heads) != n) return false;
    json_array_foreach(heads, i, one) sums[i] += json_number_value(one) / all;
    return true;
}

bool fit_heads(const results *r, const studies *t, double **out, size_t *n) {
    size_t questions = 0;
    double *sums = NULL;
    *out = NULL;
    *n = 0;
    for (size_t i = 0; i < r->n; i++) {
        const json_t *run = json_array_get(json_object_get(r->records[i], "runs"), t->coded);
        const json_t *heads = json_object_get(run, "heads");
        if (!sums && json_array_size(heads)) {
            *n = json_array_size(heads);
            sums = calloc(*n, sizeof *sums);
            if (!sums) return false;
        }
        questions += sums && add_heads(heads, sums, *n);
    }
    for (size_t i = 0; i < *n && questions; i++) sums[i] *= (double)*n / (double)questions;
    if (questions) {
        *out = sums;
        return true;
    }
    free(sums);
    *n = 0;
    return true;
}

static void put(FILE *file, const char *word, const double *shares, size_t n) {
    for (size_t i = 0; i < n; i++) fprintf(file, "%s%.4f", i ? "," : word, shares[i]);
    if (n) fputc('\n', file);
}

int fit_write(const outcome *o, const options *how, console *c) {
    outfile file = {.fd = -1};
    size_t n = how->studies.n_layers, n_heads = 0;
    bool spectra = how->studies.which & STUDY_SPECTRUM;
    double *shares = calloc(n + 1, sizeof *shares), *heads = NULL;
    bool good = shares && (!n || fit_shares(o->scores, &how->studies, how->seed, shares, NULL)) &&
                (!spectra || fit_heads(o->results, &how->studies, &heads, &n_heads));
    int code = good ? EXIT_OK : console_fail(c, EXIT_MEMORY, "--fit: out of host memory");
    if (!code && !n && !n_heads)
        code = console_fail(c, EXIT_USAGE,
                            "--fit: the results have no bits of heads: an earlier version wrote them, or no "
                            "question has rows to code");
    if (!code && n_heads > VLCACHE_SHARES_MOST)
        code = console_fail(c, EXIT_USAGE,
                            "--fit: the model has %zu kv heads in its layers, at most %d can have shares of "
                            "their own (compress.n_shares): fit layers alone, --study layers",
                            n_heads, VLCACHE_SHARES_MOST);
    if (!code) code = outfile_open(&file, "--fit", how->fit, c);
    if (!code) {
        put(file.file, "layers:", shares, n);
        put(file.file, "heads:", heads, n_heads);
    }
    int closed = outfile_close(&file, !code, c);
    free(shares);
    free(heads);
    return code ? code : closed;
}
