/*
 * sparsity.cl - adds up score.cl's counts of insignificant entries.
 *
 *     counts(h) (+)= sum over column tiles x of partial(h, x)           exact: 64-bit integers
 *
 * One work-group for each head; `first` is the layer's place in the counts of all layers.
 */
#ifndef SUM_GROUP
#define SUM_GROUP 64
#endif

__kernel __attribute__((reqd_work_group_size(SUM_GROUP, 1, 1))) void
sparsity_sum(__global const uint *partial, int tiles, __global ulong *counts, uint first, int add) {
    __local ulong sums[SUM_GROUP];
    const int lane = get_local_id(0);
    const size_t row = get_group_id(0);
    ulong sum = 0;
    for (int x = lane; x < tiles; x += SUM_GROUP) sum += partial[row * tiles + x];
    sums[lane] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_group = SUM_GROUP / 2; half_group > 0; half_group /= 2) {
        if (lane < half_group) sums[lane] += sums[lane + half_group];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lane == 0) counts[first + row] = add ? counts[first + row] + sums[0] : sums[0];
}
