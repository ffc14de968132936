/*
 * act.cl - the gated activation of the text model's MLP, from the fused product [gate | up] of each row.
 *
 *     y[r][i] = act(x[r][i]) * x[r][n + i]        x [rows][2n], y [rows][n] f32, or in another FORM (common.clh); work-item (i, r)
 *
 * ACT is known to the compiler, so that one kind of activation becomes one stretch of vector code.
 *
 * build: -DACT=1
 * build: -DACT=3 -DFORM=1 -DW_DTYPE=3
 * build: -DACT=3 -DFORM=2 -DW_DTYPE=3
 */
#ifndef ACT
#define ACT VLCI_ACT_SILU
#endif

__kernel void gated_act(__global const float *x, __global void *y, int n) {
    const int i = get_global_id(0), r = get_global_id(1), m = get_global_size(1);
    __global const float *gate = x + (size_t)r * 2 * n;
    A_PUT(i < n ? activate(gate[i], ACT) * gate[n + i] : 0.0f, y, m, n, r, i);
}
