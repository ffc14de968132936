/*
 * gate.cl - learned gates, one number each, and what is laid side by side: the steps of a tower of tiles and of layers of
 * cross-attention that are no product. G is tanh(gate), or 1 - tanh(gate) with `rest`; without a gate it is 1.
 *
 *     gate_add:   x[r][i] += G y[r][i]        in rows r that see as far as `least`: sees[r] >= least, or all without sees
 *     gate_table: x[r][i] += G table[from + r / each % turn][i]      rows of a table that repeat, or stand for `each` rows
 *     gate_put:   y[r][first + i * step] = x[r][i]                   y's rows are `width` wide
 *
 *     Work-item (i, r). gate_add and gate_table begin at x's row `first`; gate_add's sees with it.
 */
static inline float gate_of(__global const float *gate, int rest) {
    const float g = gate ? tanh(gate[0]) : 1.0f;
    return rest ? 1.0f - g : g;
}

__kernel void gate_add(__global float *x, int first, __global const float *y, __global const float *gate,
                       __global const int *sees, int least, int n) {
    const int i = get_global_id(0), r = get_global_id(1);
    if (sees && sees[first + r] < least) return; /* y may hold anything there */
    x[((size_t)first + r) * n + i] += gate_of(gate, 0) * y[(size_t)r * n + i];
}

__kernel void gate_table(__global float *x, int first, __global const float *table, int from, int each, int turn,
                         __global const float *gate, int rest, int n) {
    const int i = get_global_id(0), r = get_global_id(1);
    const size_t entry = (size_t)from + r / each % turn;
    x[((size_t)first + r) * n + i] += gate_of(gate, rest) * table[entry * n + i];
}

__kernel void gate_put(__global const float *x, __global float *y, int width, int first, int step, int n) {
    const int i = get_global_id(0), r = get_global_id(1);
    y[(size_t)r * width + first + (size_t)i * step] = x[(size_t)r * n + i];
}
