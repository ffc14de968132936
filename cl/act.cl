/*
 * act.cl - the gated activation of the text model's MLP, from the fused product [gate | up] of each row.
 *
 *     y[r][i] = act(x[r][i]) * x[r][n + i]        x [rows][2n], y [rows][n]; work-item (i, r)
 *
 * ACT is known to the compiler, so that one kind of activation becomes one stretch of vector code.
 *
 * build: -DACT=1
 * build: -DACT=3
 */
#ifndef ACT
#define ACT VLCI_ACT_SILU
#endif

__kernel void gated_act(__global const float *x, __global float *y, int n) {
    int i = get_global_id(0);
    size_t r = get_global_id(1);
    y[r * n + i] = activate(x[r * 2 * n + i], ACT) * x[r * 2 * n + n + i];
}
