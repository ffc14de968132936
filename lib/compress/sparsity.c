/*
 * sparsity.c - how sparse the attention of the post-vision rows is.
 *
 *     sparsity(l) = mean over heads of  insignificant causal entries / causal entries,  over the tau rows
 *
 * In: the counts of column tiles from the score pass. Out: exact counts of each head, and on the host their
 * mean.
 */
#include <stdio.h>

#include "compress/compress.h"

enum { FALLBACK_ROWS = 32 };

int vlci_sparsity_rows(int tokens, int text, bool *fallback) {
    *fallback = text == 0;
    if (text > 0) return text;
    return tokens < FALLBACK_ROWS ? tokens : FALLBACK_ROWS;
}

uint64_t vlci_sparsity_entries(const vlci_rows *rows, int sequence) {
    uint64_t entries = 0;
    for (int i = rows->start[sequence]; i < rows->start[sequence + 1]; i++)
        if (rows->entry[i] & VLCI_ROW_COUNTED) entries += (uint64_t)(rows->entry[i] >> VLCI_ROW_SHIFT) + 1;
    return entries;
}

double vlci_sparsity_mean(const uint64_t *counts, int heads, uint64_t entries) {
    double sum = 0.0;
    for (int h = 0; h < heads; h++) sum += (double)counts[h] / (double)entries;
    return sum / heads;
}

vlcache_status vlci_sparsity_sum(vlci_scores *s, int layer, int tiles) {
    const vlci_kernel *kernel = NULL;
    size_t rows = (size_t)s->shape.batch * (size_t)s->shape.heads;
    size_t group = 64, fits = 64;
    vlcache_status status = VLCACHE_OK;
    do { /* smaller, until the kernel built for a group takes it */
        char options[48];
        group = fits;
        snprintf(options, sizeof options, "-DSUM_GROUP=%zu", group);
        status = vlci_kernel_get(s->device, "sparsity.cl", "sparsity_sum", options, &kernel);
        if (!status) fits = vlci_group_width(kernel, group);
    } while (!status && fits < group);
    if (status) return status;
    return VLCI_LAUNCH(s->device, kernel, VLCI_GRID(rows, 1, 1, group, 1, 1), VLCI_MEM(s->partial),
                       VLCI_I32(tiles), VLCI_MEM(s->counts), VLCI_U32((size_t)layer * rows));
}
