/*
 * sparsity.c - how sparse the attention of the post-vision rows is.
 *
 *     sparsity(l) = mean over heads of  insignificant causal entries / causal entries,  over the tau rows
 *                   (where a prompt's rows see all of it: of all N entries of a row)
 *
 * In: the counts of column tiles from the score pass. Out: exact counts of each head, and on the host their
 * mean.
 */
#include "compress/sparsity.h"

#include <stdio.h>

uint64_t vlci_sparsity_entries(const vlci_rows *rows, int whole) {
    uint64_t entries = 0;
    for (int i = 0; i < rows->n; i++)
        if (rows->entry[i] & VLCI_ROW_COUNTED)
            entries += whole ? (uint64_t)whole : (uint64_t)(rows->entry[i] >> VLCI_ROW_SHIFT) + 1;
    return entries;
}

double vlci_sparsity_mean(const uint64_t *counts, int heads, uint64_t entries) {
    double sum = 0.0;
    for (int h = 0; h < heads; h++) sum += (double)counts[h] / (double)entries;
    return sum / heads;
}

/* Smaller groups, until the kernel built for one takes it. */
vlcache_status vlci_sparsity_open(vlcache_device *device, vlci_sparsity_kernels *out) {
    size_t fits = 64;
    vlcache_status status = VLCACHE_OK;
    do {
        char options[48];
        out->group = fits;
        snprintf(options, sizeof options, "-DSUM_GROUP=%zu", out->group);
        status = vlci_kernel_get(device, "sparsity.cl", "sparsity_sum", options, &out->sum);
        if (!status) fits = vlci_group_width(out->sum, out->group);
    } while (!status && fits < out->group);
    return status;
}

vlcache_status vlci_sparsity_sum(vlcache_device *device, const vlci_sparsity_kernels *kernels, cl_mem partial,
                                 int tiles, cl_mem counts, int first, int heads, bool add) {
    return VLCI_LAUNCH(device, kernels->sum, VLCI_GRID((size_t)heads, 1, 1, kernels->group, 1, 1),
                       VLCI_MEM(partial), VLCI_I32(tiles), VLCI_MEM(counts), VLCI_U32(first), VLCI_I32(add));
}
