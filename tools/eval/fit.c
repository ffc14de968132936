/*
 * fit.c - from the study of single layers to a share for each.
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

int fit_write(const outcome *o, const options *how, console *c) {
    outfile file = {.fd = -1};
    size_t n = how->studies.n_layers;
    double *shares = calloc(n + 1, sizeof *shares);
    bool good = shares && fit_shares(o->scores, &how->studies, how->seed, shares, NULL);
    if (!good) {
        free(shares);
        return console_fail(c, EXIT_MEMORY, "--fit: out of host memory");
    }
    int code = outfile_open(&file, "--fit", how->fit, c);
    for (size_t l = 0; l < n && !code; l++) fprintf(file.file, "%s%.4f", l ? "," : "layers:", shares[l]);
    if (!code) fputc('\n', file.file);
    int closed = outfile_close(&file, !code, c);
    free(shares);
    return code ? code : closed;
}
