/*
 * phases.c - e^(i phase(j)) = e^(i phase(first of j's run)) e^(i within(pattern of the run, j)), for each
 * pair of dimensions; runs whose rows all have the same within have one pattern.
 *
 * The device compares: all runs with the first that has no pattern yet, until each has one. What the host
 * reads are a word a run for each pattern, and one run's rows.
 */
#include "compress/phases.h"

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

/* The pattern of run `run`; rows: room for its phases. */
static vlcache_status write_pattern(vlcache_device *device, cl_mem phase, int n_rows, int run, vlci_phases *p,
                                    float *rows) {
    size_t dim = (size_t)p->head_dim, row = dim * sizeof *rows;
    int n = n_rows - run * RUN < RUN ? n_rows - run * RUN : RUN;
    float *own = p->within + (size_t)p->n * dim * RUN;
    vlcache_status status = vlci_read(device, phase, (size_t)run * RUN * row, rows, (size_t)n * row);
    for (int r = 0; r < RUN && !status; r++)
        write_row(rows, r < n ? rows + (size_t)r * dim : NULL, p->head_dim, r, own);
    return status;
}

/* A pattern for each run; alike: room for an int a run here and there. */
static vlcache_status find(vlcache_device *device, const vlci_code_kernels *k, cl_mem phase, int n_rows,
                           cl_mem alike, cl_int *same, float *rows, vlci_phases *p) {
    vlcache_status status = VLCACHE_OK;
    size_t bytes = (size_t)p->runs * sizeof *same;
    for (int run = 0; run < p->runs; run++) p->pattern[run] = -1;
    for (int next = 0; next < p->runs && !status;) {
        status = VLCI_LAUNCH(device, k->alike, VLCI_GRID((size_t)p->runs, 1, 1, k->group, 1, 1),
                             VLCI_MEM(phase), VLCI_I32(n_rows), VLCI_I32(next), VLCI_F32(SAME),
                             VLCI_MEM(alike), VLCI_MEM(p->first));
        if (!status) status = vlci_read(device, alike, 0, same, bytes);
        if (!status) status = write_pattern(device, phase, n_rows, next, p, rows);
        if (status) break;
        p->pattern[next] = p->n;
        for (int run = next; run < p->runs; run++)
            if (p->pattern[run] < 0 && same[run]) p->pattern[run] = p->n;
        p->n++;
        while (next < p->runs && p->pattern[next] >= 0) next++;
    }
    return status;
}

vlcache_status vlci_phases_find(vlcache_device *device, const vlci_code_kernels *kernels, cl_mem phase,
                                int rows, int head_dim, vlci_phases *out) {
    int runs = vlci_codes_runs(rows, RUN);
    size_t firsts = (size_t)runs * (size_t)head_dim;
    cl_mem alike = NULL;
    cl_int *same = vlci_alloc((size_t)runs, sizeof *same);
    float *some = vlci_alloc((size_t)head_dim * RUN, sizeof *some);
    *out = (vlci_phases){.runs = runs, .head_dim = head_dim};
    out->within = vlci_alloc(firsts * RUN, sizeof *out->within);
    out->pattern = vlci_alloc((size_t)runs, sizeof *out->pattern);
    vlcache_status status =
        same && some && out->within && out->pattern
            ? vlci_memory_create(device, (size_t)runs * sizeof *same, "coding: runs alike", &alike)
            : vlci_fail_memory("phases of coded rows");
    if (!status)
        status = vlci_memory_create(device, firsts * sizeof(cl_float), "coding: phases of runs", &out->first);
    if (!status) status = find(device, kernels, phase, rows, alike, same, some, out);
    vlci_memory_release(device, &alike);
    vlci_free(some);
    vlci_free(same);
    if (status) vlci_phases_release(device, out);
    return status;
}

vlcache_status vlci_phases_write(const vlci_phases *p, const vlci_codes *codes) {
    size_t dim = (size_t)p->head_dim, runs = (size_t)p->runs;
    vlcache_status status =
        vlci_copy(codes->device, p->first, 0, codes->phase, 0, runs * dim * sizeof(cl_float));
    if (!status)
        status = vlci_write_later(codes->device, codes->within, 0, p->within,
                                  (size_t)p->n * dim * RUN * sizeof *p->within);
    return status ? status
                  : vlci_write_later(codes->device, codes->pattern, 0, p->pattern, runs * sizeof *p->pattern);
}

void vlci_phases_release(vlcache_device *device, vlci_phases *p) {
    vlci_memory_release(device, &p->first);
    vlci_free(p->within);
    vlci_free(p->pattern);
    *p = (vlci_phases){0};
}
