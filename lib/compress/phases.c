/*
 * phases.c - e^(i phase(j)) = e^(i phase(first of j's run)) e^(i within(pattern of the run, j)), for each
 * pair of dimensions; runs whose rows all have the same within have one pattern.
 */
#include "compress/phases.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"

enum { RUN = VLCI_CODE_RUN_MIN };
#define SAME 1e-3f

/* What row j has beyond row `first`: to within[..][r]; rows behind the last stand still. */
static void write_row(const float *first, const float *row, int dim, int r, float *within) {
    int half = dim / 2;
    for (int d = 0; d < half; d++) {
        float c = first[d], s = first[half + d];
        within[d * RUN + r] = row ? row[d] * c + row[half + d] * s : 1.0f;
        within[(half + d) * RUN + r] = row ? row[half + d] * c - row[d] * s : 0.0f;
    }
}

static bool same(const float *a, const float *b, int dim, int rows) {
    for (int d = 0; d < dim; d++)
        for (int r = 0; r < rows; r++)
            if (fabsf(a[d * RUN + r] - b[d * RUN + r]) > SAME) return false;
    return true;
}

/* The pattern of a run of some rows, which stands behind those there are: one of them, or one more. */
static int place(vlci_phases *p, int rows) {
    size_t each = (size_t)p->head_dim * RUN;
    const float *own = p->within + (size_t)p->n * each;
    for (int i = 0; i < p->n; i++)
        if (same(p->within + (size_t)i * each, own, p->head_dim, rows)) return i;
    return p->n++;
}

static void find(vlci_phases *p, const float *phase, int rows) {
    size_t dim = (size_t)p->head_dim;
    for (int run = 0; run < p->runs; run++) {
        const float *first = phase + (size_t)run * RUN * dim;
        int n = rows - run * RUN < RUN ? rows - run * RUN : RUN;
        float *own = p->within + (size_t)p->n * dim * RUN;
        memcpy(p->first + (size_t)run * dim, first, dim * sizeof *first);
        for (int r = 0; r < RUN; r++)
            write_row(first, r < n ? first + (size_t)r * dim : NULL, p->head_dim, r, own);
        p->pattern[run] = place(p, n);
    }
}

vlcache_status vlci_phases_find(vlcache_device *device, cl_mem phase, int rows, int head_dim,
                                vlci_phases *out) {
    int runs = vlci_codes_runs(rows, RUN);
    size_t n = (size_t)rows * (size_t)head_dim, firsts = (size_t)runs * (size_t)head_dim;
    float *all = vlci_alloc(n, sizeof *all);
    *out = (vlci_phases){.runs = runs, .head_dim = head_dim};
    out->first = vlci_alloc(firsts, sizeof *out->first);
    out->within = vlci_alloc(firsts * RUN, sizeof *out->within);
    out->pattern = vlci_alloc((size_t)runs, sizeof *out->pattern);
    vlcache_status status = all && out->first && out->within && out->pattern
                                ? vlci_read(device, phase, 0, all, n * sizeof *all)
                                : vlci_fail_memory("phases of coded rows");
    if (!status) find(out, all, rows);
    vlci_free(all);
    if (status) vlci_phases_release(out);
    return status;
}

vlcache_status vlci_phases_write(const vlci_phases *p, const vlci_codes *codes) {
    size_t dim = (size_t)p->head_dim, runs = (size_t)p->runs;
    vlcache_status status =
        vlci_write_later(codes->device, codes->phase, 0, p->first, runs * dim * sizeof *p->first);
    if (!status)
        status = vlci_write_later(codes->device, codes->within, 0, p->within,
                                  (size_t)p->n * dim * RUN * sizeof *p->within);
    return status ? status
                  : vlci_write_later(codes->device, codes->pattern, 0, p->pattern, runs * sizeof *p->pattern);
}

void vlci_phases_release(vlci_phases *p) {
    vlci_free(p->first);
    vlci_free(p->within);
    vlci_free(p->pattern);
    *p = (vlci_phases){0};
}
