/*
 * act.cl - the gated activation of the text model's MLP, from the fused product [gate | up] of each row.
 *
 *     y[r][i] = act(x[r][i]) * x[r][n + i]        x [rows][2n], y [rows][n]; work-item (i, r)
 */
__kernel void gated_act(__global const float *x, __global float *y, int n, int act) {
    int i = get_global_id(0);
    size_t r = get_global_id(1);
    y[r * n + i] = activate(x[r * 2 * n + i], act) * x[r * 2 * n + n + i];
}
