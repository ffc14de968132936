/*
 * embed.cl - rows by index: token embeddings with visual tokens among them, and the order of visual tokens.
 *
 *     embed:     y[r] = scale table[ids[r]] for ids[r] >= 0, else features[-1 - ids[r]]
 *     embed_add: y[r] += features[-1 - ids[r]] for ids[r] < 0: a further set of features (DeepStack)
 *     gather:    y[r] = x[source[r]] for source[r] >= 0, else other
 *     blend:     y[r] = sum of source[r].weight[i] x[source[r].from[i]], else other
 *
 *     work-item (i, r) takes element i of row r. A row of features is sets * k numbers: set 0 for embed, then the others. LAYOUT: how the table lies (shared.h).
 *
 * build: -DLAYOUT=0
 * build: -DLAYOUT=1
 * build: -DLAYOUT=2
 * build: -DLAYOUT=3
 */

__kernel void embed(__global const w_t *table, __global const float *features, __global const int *ids,
                    __global float *y, int k, int sets, float scale) {
    int i = get_global_id(0), r = get_global_id(1), id = ids[r];
    size_t to = (size_t)r * k + i;
    if (id < 0)
        y[to] = features[(size_t)(-1 - id) * sets * k + i];
    else
        y[to] = W_LOAD(table, W_AT(id, i, k)) * scale;
}

__kernel void embed_add(__global const float *features, __global const int *ids, int first, __global float *y, int k,
                        int sets, int set) {
    const int i = get_global_id(0), r = first + get_global_id(1), id = ids[r];
    if (id < 0) y[(size_t)r * k + i] += features[((size_t)(-1 - id) * sets + set) * k + i];
}

__kernel void gather(__global const float *x, __global const float *other, __global const int *source,
                     __global float *y, int n) {
    int i = get_global_id(0), r = get_global_id(1), from = source[r];
    y[(size_t)r * n + i] = from < 0 ? other[i] : x[(size_t)from * n + i];
}

__kernel void blend(__global const float *x, __global const float *other, __global const vlci_blend *source,
                    __global float *y, int n) {
    int i = get_global_id(0), r = get_global_id(1);
    __global const vlci_blend *b = &source[r];
    float sum = 0.0f;
    for (int k = 0; k < 4 && b->from[0] >= 0; k++)
        if (b->weight[k] != 0.0f) sum += b->weight[k] * x[(size_t)b->from[k] * n + i];
    y[(size_t)r * n + i] = b->from[0] < 0 ? other[i] : sum;
}
