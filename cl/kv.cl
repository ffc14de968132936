/*
 * kv.cl - what the pool of pages does on the device: count rows, copy pages, move to another pool.
 *
 *     kv_advance   the chosen tokens become the input, positions and lengths count the row that the step before appended:
 *                  ids[b] = tokens[b]    row_position[b] += 1 (all three)    heads of slots[b]: rows += grows (NULL: 1)
 *     kv_put       table[pairs[2 i]] = pairs[2 i + 1], i < n: each entry once
 *     kv_copy      page pairs[2 i + 1] = page pairs[2 i], keys, values and biases: before a shared page is written to
 *     kv_move      page i of the new pool = page source[i] of the old one
 *     kv_fetch     out[keys, values][head][i] = row (rows of the head) - n + i of each head of a layer: its last n rows
 *     kv_place     row i of each head of a layer = in[keys, values][head][i], i < n
 *
 * Pages are copied as 32-bit words; a page of VLCI_KV_PAGE rows is always a multiple of them. Pages are moved, and rows fetched
 * and placed, as runs of words.
 *
 * build: -DROW_RUN=1
 * build: -DROW_RUN=4
 */
#ifndef ROW_RUN
#define ROW_RUN 1 /* words that a work-item moves together: 4 where rows are whole runs of 16 bytes */
#endif
#if ROW_RUN == 4
typedef uint4 run_t;
#else
typedef uint run_t;
#endif

__kernel void kv_advance(__global const int *tokens, __global int *ids, __global int *row_position, int batch,
                         __global const int *slots, __global vlci_kv_head *heads_of, int heads, __global const int *grows) {
    const int i = get_global_id(0), b = get_global_id(1);
    if (i >= heads) return;
    heads_of[(size_t)slots[b] * heads + i].rows += grows ? grows[i] : 1;
    if (i == 0) ids[b] = tokens[b];
    if (i == 0)
        for (int axis = 0; axis < 3; axis++) row_position[3 * b + axis] += 1;
}

__kernel void kv_put(__global int *table, __global const int *pairs, int n) {
    const int i = get_global_id(0);
    if (i < n) table[pairs[2 * i]] = pairs[2 * i + 1];
}

__kernel void kv_copy(__global uint *k, __global uint *v, __global float *bias, __global const int *pairs, uint words) {
    const uint i = get_global_id(0), from = pairs[2 * get_global_id(1)], to = pairs[2 * get_global_id(1) + 1];
    if (i < words) {
        k[(size_t)to * words + i] = k[(size_t)from * words + i];
        v[(size_t)to * words + i] = v[(size_t)from * words + i];
    }
    if (bias && i < VLCI_KV_PAGE) bias[(size_t)to * VLCI_KV_PAGE + i] = bias[(size_t)from * VLCI_KV_PAGE + i];
}

__kernel void kv_move(__global const run_t *from, __global run_t *to, __global const int *source, uint runs) {
    const uint i = get_global_id(0), page = get_global_id(1);
    if (i < runs) to[(size_t)page * runs + i] = from[(size_t)source[page] * runs + i];
}

/* Run `at` of a head's row among the runs of a plane. */
static size_t run_of(__global const vlci_kv_head *head, __global const int *table, uint runs, int row, uint at) {
    const size_t page = (size_t)table[head->first + row / VLCI_KV_PAGE];
    return (page * VLCI_KV_PAGE + (size_t)(row % VLCI_KV_PAGE)) * runs + at;
}

__kernel void kv_fetch(__global const run_t *k, __global const run_t *v, __global const vlci_kv_head *heads_of, uint heads_at,
                       __global const int *table, uint runs, int n, __global run_t *out) {
    const uint i = get_global_id(0), head = get_global_id(1), plane = get_global_id(2), all = (uint)n * runs;
    if (i >= all) return;
    __global const vlci_kv_head *own = heads_of + heads_at + head;
    const size_t at = run_of(own, table, runs, own->rows - n + (int)(i / runs), i % runs);
    out[((size_t)plane * get_global_size(1) + head) * all + i] = plane ? v[at] : k[at];
}

__kernel void kv_place(__global run_t *k, __global run_t *v, __global const vlci_kv_head *heads_of, uint heads_at,
                       __global const int *table, uint runs, int n, __global const run_t *in) {
    const uint i = get_global_id(0), head = get_global_id(1), plane = get_global_id(2), all = (uint)n * runs;
    if (i >= all) return;
    const size_t at = run_of(heads_of + heads_at + head, table, runs, (int)(i / runs), i % runs);
    const run_t run = in[((size_t)plane * get_global_size(1) + head) * all + i];
    if (plane)
        v[at] = run;
    else
        k[at] = run;
}
