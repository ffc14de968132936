/*
 * code_basis.cl - rows of kv heads -> bases of their own: their first principal axes, and what lies along each.
 *
 *     mean         sums over shares of the rows
 *     mean_sum     mean(m) = mean over j, as f16, which is taken off all rows below       matrix m as in code.clh
 *     covariance   C(m) = sum over j of x x^T / n       both of a sample where rows are many: one row of each `stride`
 *     heard        C(m) of values becomes U C U^T: how they differ as the layer's output product hears them (metric.h)
 *     basis        q(m, 0), q(m, 1), ...: the first columns of C's eigenvectors, by falling q^T C q, which is their energy
 *     behind       of values that are heard q becomes U^T q, which rows are projected on, and back = U^-1 q, which they are made
 *                  of again; else both are q
 *
 * covariance: a share of the rows is a work-group's, BLOCK at a time, turned and centred in local memory. Work-groups of
 * several work-items have a tile of C of TILE x TILE each, work-items 8 x 4 of it in registers:
 *
 *          e -> 16 work-items x 4
 *     d    +----+----+----+             a part: [HEAD_DIM][HEAD_DIM], of which only tiles with d <= e are written;
 *     |    |8x4 |    |    |             code_covariance_sum adds parts, and mirrors them
 *     v 8  +----+----+----+
 *
 * basis is orthogonal iteration: columns of noise, three times multiplied with C and made orthonormal (modified Gram-Schmidt;
 * the last time twice); a column that depends on those before it is zero. Energies below a millionth of the largest, which
 * are rounding, are zero. A matrix has a work-group. Where a work-item is a whole core it has 16 columns at a time; else it has
 * a part of a column in registers:
 *
 *     work-item = part * LANES + column         a step, of column k: its work-items show it to all, each takes its part of the
 *                                               product with its own, and what all parts of it say off
 *
 * No sum uses atomics: each has one order.
 *
 * Bytes and operations, of a matrix of n rows: mean reads n HEAD_DIM numbers as they are stored; covariance the same once for
 * each tile, and does n HEAD_DIM^2 / 2 multiply-adds and half of a tile's more; basis 4 columns HEAD_DIM^2 for its products,
 * 4 columns^2 HEAD_DIM for the rest, in 4 columns steps one after another.
 *
 * with: code.clh
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=128 -DCODE_GROUP=1024
 * build: -DHEAD_DIM=64 -DCODE_GROUP=1
 */
#define LEAST 1e-6f
enum { TILE = VLCI_CODE_TILE };

/* ---- mean ---------------------------------------------------------------------------------------------------- */

/* Work-group (m, share), of `share` rows. parts: [m][shares][HEAD_DIM]. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_mean(SOURCE_PARAMS, int stride, int share, __global float *parts) {
    enum { EACH = EIGHTS / ACROSS }; /* 8 dimensions and as many of the other half, of a work-item */
    __local float sums[DOWN * HEAD_DIM];
    const int lane = get_local_id(0), m = get_group_id(0), d0 = lane % ACROSS * EACH * 8;
    const int from = get_group_id(1) * share, until = min(from + share, (n + stride - 1) / stride);
    float8 low[EACH], high[EACH];
    for (int i = 0; i < EACH; i++) low[i] = high[i] = 0.0f;
#if CODE_GROUP > 1
#pragma unroll 4 /* where a row is takes three reads, one after another */
#endif
    for (int j = from + lane / ACROSS; j < until && lane < ACROSS * DOWN; j += DOWN) {
        const row_t row = find_row(SOURCE_PASS, m, sampled(j, stride, n));
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            float8 a, b;
            load_turned(&row, d0 + 8 * i, &a, &b);
            low[i] += a;
            high[i] += b;
        }
    }
    for (int i = 0; i < EACH && lane < ACROSS * DOWN; i++) {
        vstore8(low[i], 0, sums + lane / ACROSS * HEAD_DIM + d0 + 8 * i);
        vstore8(high[i], 0, sums + lane / ACROSS * HEAD_DIM + HALF + d0 + 8 * i);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    parts += ((size_t)m * get_num_groups(1) + get_group_id(1)) * HEAD_DIM;
    for (int d = lane; d < HEAD_DIM; d += CODE_GROUP) {
        float all = 0.0f;
        for (int i = 0; i < DOWN; i++) all += sums[i * HEAD_DIM + d];
        parts[d] = all;
    }
}

/* Work-item (d, m), of n rows; `mean` from matrix `first` on. */
__kernel void code_mean_sum(__global const float *parts, int shares, int n, __global half *mean, uint first) {
    const int d = get_global_id(0), m = get_global_id(1);
    if (d >= HEAD_DIM) return;
    float all = 0.0f;
    for (int s = 0; s < shares; s++) all += parts[((size_t)m * shares + s) * HEAD_DIM + d];
    vstore_half_rte(to_f16_range(all / (float)n), d, mean + ((size_t)first + m) * HEAD_DIM);
}

/* ---- covariance ---------------------------------------------------------------------------------------------- */

/* Work-group (tile, share, m) of `share` rows. parts: [m][shares][HEAD_DIM][HEAD_DIM]. */
KEEP_WIDE __kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_covariance(SOURCE_PARAMS, int stride, __global const half *mean, uint first, int share, __global float *parts) {
    __local float tile[BLOCK * HEAD_DIM] __attribute__((aligned(64)));
    const int lane = get_local_id(0), m = get_group_id(2);
    const int from = get_group_id(1) * share, until = min(from + share, (n + stride - 1) / stride);
    mean += ((size_t)first + m) * HEAD_DIM;
    parts += ((size_t)m * get_num_groups(1) + get_group_id(1)) * HEAD_DIM * HEAD_DIM;
#if CODE_GROUP == 1
    for (int j0 = from; j0 < until; j0 += BLOCK) {
        take_rows(SOURCE_PASS, stride, m, j0, until, mean, tile, lane);
        for (int d = 0; d < HEAD_DIM; d += 8)
            for (int e = d / 16 * 16; e < HEAD_DIM; e += 16) {
                float16 sum[8];
#pragma unroll
                for (int t = 0; t < 8; t++) sum[t] = j0 == from ? 0.0f : vload16(0, parts + (size_t)(d + t) * HEAD_DIM + e);
                for (int r = 0; r < BLOCK; r++) {
                    const float16 row = vload16(0, tile + r * HEAD_DIM + e);
#pragma unroll
                    for (int t = 0; t < 8; t++) sum[t] += tile[r * HEAD_DIM + d + t] * row;
                }
#pragma unroll
                for (int t = 0; t < 8; t++) vstore16(sum[t], 0, parts + (size_t)(d + t) * HEAD_DIM + e);
            }
    }
#else
    int down = 0, across = get_group_id(0); /* tiles with d <= e, row by row */
    for (int left = (HEAD_DIM + TILE - 1) / TILE; across >= left; left--, down++) across -= left;
    const int d = down * TILE + lane / 16 * 8, e = (down + across) * TILE + lane % 16 * 4;
    const bool there = d < HEAD_DIM && e < HEAD_DIM;
    float4 sum[8];
    for (int t = 0; t < 8; t++) sum[t] = 0.0f;
    for (int j0 = from; j0 < until; j0 += BLOCK) {
        take_rows(SOURCE_PASS, stride, m, j0, until, mean, tile, lane);
        if (there)
            for (int r = 0; r < BLOCK; r++) {
                const float8 left = *(__local const float8 *)(tile + r * HEAD_DIM + d);
                const float4 right = *(__local const float4 *)(tile + r * HEAD_DIM + e);
                sum[0] += left.s0 * right;
                sum[1] += left.s1 * right;
                sum[2] += left.s2 * right;
                sum[3] += left.s3 * right;
                sum[4] += left.s4 * right;
                sum[5] += left.s5 * right;
                sum[6] += left.s6 * right;
                sum[7] += left.s7 * right;
            }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    for (int t = 0; t < 8 && there; t++) *(__global float4 *)(parts + (size_t)(d + t) * HEAD_DIM + e) = sum[t];
#endif
}

/* Work-item (8 numbers, m), and those that mirror them: neighbours have rows beside one another. */
__kernel void code_covariance_sum(__global const float *parts, int shares, int n, __global float *covariance) {
    const int d = get_global_id(0) % HEAD_DIM, e = get_global_id(0) / HEAD_DIM * 8, m = get_global_id(1);
    if (e >= HEAD_DIM || e + 7 < d) return;
    parts += (size_t)m * shares * HEAD_DIM * HEAD_DIM + (size_t)d * HEAD_DIM + e;
    covariance += (size_t)m * HEAD_DIM * HEAD_DIM;
    union {
        float8 all;
        float at[8];
    } sum;
    sum.all = 0.0f;
#pragma unroll 4
    for (int s = 0; s < shares; s++) sum.all += f32_run(parts + (size_t)s * HEAD_DIM * HEAD_DIM);
    sum.all /= (float)n;
    if (e >= d) vstore8(sum.all, 0, covariance + (size_t)d * HEAD_DIM + e);
    for (int t = 0; t < 8; t++) {
        if (e < d && e + t >= d) covariance[(size_t)d * HEAD_DIM + e + t] = sum.at[t];
        if (e + t > d) covariance[(size_t)(e + t) * HEAD_DIM + d] = sum.at[t];
    }
}

/* ---- basis --------------------------------------------------------------------------------------------------- */

/* Number i of the noise that iteration begins with, in [-1, 1). */
static inline float noise(uint i) {
    i = (i ^ (i >> 16)) * 0x7feb352du;
    i = (i ^ (i >> 15)) * 0x846ca68bu;
    i ^= i >> 16;
    return (float)(i >> 8) * 0x1p-23f - 1.0f;
}

#if CODE_GROUP == 1
/* A work-item has a whole matrix: 16 columns at a time, which lie side by side. */

/* to = C q. */
static inline void multiply(__global const float *covariance, __global const float *q, __global float *to, int columns) {
    for (int c = 0; c < columns; c += 16)
        for (int d = 0; d < HEAD_DIM; d += 8) {
            float16 sum[8];
#pragma unroll
            for (int t = 0; t < 8; t++) sum[t] = 0.0f;
            for (int e = 0; e < HEAD_DIM; e++) { /* C is symmetric: its column is its row */
                __global const float *row = covariance + (size_t)e * HEAD_DIM + d;
                const float16 x = vload16(0, q + e * columns + c);
#pragma unroll
                for (int t = 0; t < 8; t++) sum[t] += row[t] * x;
            }
#pragma unroll
            for (int t = 0; t < 8; t++) vstore16(sum[t], 0, to + (d + t) * columns + c);
        }
}

/* Sums over all dimensions of a's column k, or each column where k < 0, times b's columns from that of k on: dots[columns]. */
WITH_LOCAL void dot_columns(__global const float *a, __global const float *b, int k, __local float *dots, int columns) {
    for (int c = 0; c < columns; c += 16) {
        float16 even = 0.0f, odd = 0.0f;
        if (c + 16 <= k) continue;
        for (int d = 0; d < HEAD_DIM; d += 2) {
            __global const float *one = a + d * columns, *two = one + columns;
            even += (k < 0 ? vload16(0, one + c) : one[k]) * vload16(0, b + d * columns + c);
            odd += (k < 0 ? vload16(0, two + c) : two[k]) * vload16(0, b + (d + 1) * columns + c);
        }
        vstore16(even + odd, 0, dots + c);
    }
}

/* Takes off each column what those before it say. A column of which no more than `least` times its square is left is zero. */
WITH_LOCAL void orthonormal(__global float *q, float least, __local float *dots, __local float *squares,
                               __local float *factor, int columns) {
    dot_columns(q, q, -1, squares, columns);
    for (int k = 0; k < columns; k++) {
        dot_columns(q, q, k, dots, columns);
        const float left = dots[k], by = left > least * squares[k] ? 1.0f / left : 0.0f;
        factor[k] = left > least * squares[k] ? rsqrt(left) : 0.0f;
        for (int c = 0; c < columns && by > 0.0f; c += 16) {
            if (c + 16 <= k + 1) continue;
            const int16 column = c + (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            const float16 off = select(vload16(0, dots + c) * by, (float16)(0.0f), column <= k);
            for (int d = 0; d < HEAD_DIM; d++) {
                __global float *row = q + d * columns;
                vstore16(vload16(0, row + c) - off * row[k], 0, row + c);
            }
        }
    }
    for (int c = 0; c < columns; c += 16)
        for (int d = 0; d < HEAD_DIM; d++)
            vstore16(vload16(0, q + d * columns + c) * vload16(0, factor + c), 0, q + d * columns + c);
}

/* q: the basis, and squares: the energies, both in no order. */
WITH_LOCAL void iterate(__global const float *covariance, __global float *q, __global float *next, __local float *dots,
                           __local float *squares, __local float *factor, int columns) {
    for (int d = 0; d < HEAD_DIM; d++)
        for (int k = 0; k < columns; k++) q[d * columns + k] = noise((uint)(k * HEAD_DIM + d) + 1u);
    for (int round = 0; round < 3; round++) {
        multiply(covariance, q, next, columns);
        for (int i = 0; i < columns * HEAD_DIM; i += 16) vstore16(vload16(0, next + i), 0, q + i);
        orthonormal(q, 1e-12f, dots, squares, factor, columns);
    }
    orthonormal(q, 0.25f, dots, squares, factor, columns);
    multiply(covariance, q, next, columns);
    for (int k = 0; k < columns; k += 16) {
        float16 sum = 0.0f;
        for (int d = 0; d < HEAD_DIM; d++) sum += vload16(0, q + d * columns + k) * vload16(0, next + d * columns + k);
        vstore16(fmax(sum, (float16)(0.0f)), 0, squares + k);
    }
}
#else
/* A work-item has a part of one column, in registers. */
enum {
    LANES = HEAD_DIM,
    FIT = CODE_GROUP / LANES, /* at least 1 */
    SEGMENTS = FIT >= 8 && HEAD_DIM % 32 == 0 ? 8 : FIT >= 4 ? 4 : FIT >= 2 ? 2 : 1,
    SIDE = HEAD_DIM / SEGMENTS,
    FOURS = SIDE / 4
};
typedef struct {
    int columns, column, segment;
    __local float *shown, *parts, *squares; /* two columns; [SEGMENTS][LANES]; [LANES] */
} place_t;

static inline int has_any(const place_t *p) { return p->segment < SEGMENTS && p->column < p->columns; }

/* The sum of all parts of a column. */
WITH_LOCAL float whole(const place_t *p, int column) {
    float sum = p->parts[column];
#pragma unroll
    for (int s = 1; s < SEGMENTS; s++) sum += p->parts[s * LANES + column];
    return sum;
}

WITH_LOCAL void show(const place_t *p, const float4 *x, int k) {
    if (p->column != k || !has_any(p)) return;
#pragma unroll
    for (int t = 0; t < FOURS; t++) *(__local float4 *)(p->shown + k % 2 * HEAD_DIM + p->segment * SIDE + 4 * t) = x[t];
}

/* squares: of what each column's own parts of a and b make. Barriers before and behind. */
WITH_LOCAL void square(const place_t *p, const float4 *a, const float4 *b) {
    float4 sum = 0.0f;
#pragma unroll
    for (int t = 0; t < FOURS; t++) sum += a[t] * b[t];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (has_any(p)) p->parts[p->segment * LANES + p->column] = (sum.x + sum.y) + (sum.z + sum.w);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (has_any(p) && p->segment == 0) p->squares[p->column] = whole(p, p->column);
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* q = x, x = C q. Barriers before what is read, and before what is written. */
WITH_LOCAL void multiply(const place_t *p, __global const float *covariance, __global float *q, float4 *x) {
    const int from = p->segment * SIDE;
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    if (has_any(p))
#pragma unroll
        for (int t = 0; t < FOURS; t++) {
            __global float *to = q + (from + 4 * t) * p->columns + p->column;
            to[0] = x[t].x;
            to[p->columns] = x[t].y;
            to[2 * p->columns] = x[t].z;
            to[3 * p->columns] = x[t].w;
        }
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    if (!has_any(p)) return;
#pragma unroll
    for (int t = 0; t < FOURS; t++) x[t] = 0.0f;
#pragma unroll 4
    for (int e = 0; e < HEAD_DIM; e++) { /* C is symmetric: its column is its row */
        const float own = q[e * p->columns + p->column];
#pragma unroll
        for (int t = 0; t < FOURS; t++)
            x[t] += own * *(__global const float4 *)(covariance + (size_t)e * HEAD_DIM + from + 4 * t);
    }
}

/* Takes off each column what those before it say. A column of which no more than `least` times its square is left is zero. */
WITH_LOCAL void orthonormal(const place_t *p, float4 *x, float least) {
    float scale = 0.0f;
    square(p, x, x);
    show(p, x, 0);
    for (int k = 0; k < p->columns; k++) {
        float4 other[FOURS], sum = 0.0f;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (has_any(p) && p->column >= k) {
#pragma unroll
            for (int t = 0; t < FOURS; t++) {
                other[t] = *(__local const float4 *)(p->shown + k % 2 * HEAD_DIM + p->segment * SIDE + 4 * t);
                sum += other[t] * x[t];
            }
            p->parts[p->segment * LANES + p->column] = (sum.x + sum.y) + (sum.z + sum.w);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (has_any(p) && p->column >= k) {
            const float left = whole(p, k), by = left > least * p->squares[k] ? 1.0f / left : 0.0f;
            if (p->column == k)
                scale = by > 0.0f ? rsqrt(left) : 0.0f;
            else if (by > 0.0f) {
                const float off = whole(p, p->column) * by;
#pragma unroll
                for (int t = 0; t < FOURS; t++) x[t] -= off * other[t];
            }
            show(p, x, k + 1);
        }
    }
#pragma unroll
    for (int t = 0; t < FOURS; t++) x[t] *= scale;
}

static inline float4 noise4(uint i) { return (float4)(noise(i), noise(i + 1), noise(i + 2), noise(i + 3)); }

/* q: the basis, and squares: the energies, both in no order. Barriers behind. */
WITH_LOCAL void iterate(const place_t *p, __global const float *covariance, __global float *q) {
    float4 x[FOURS], y[FOURS];
    const uint first = (uint)(p->column * HEAD_DIM + p->segment * SIDE) + 1u;
#pragma unroll
    for (int t = 0; t < FOURS; t++)
        x[t] = has_any(p) ? noise4(first + 4 * (uint)t) : (float4)(0.0f);
    for (int round = 0; round < 3; round++) {
        multiply(p, covariance, q, x);
        orthonormal(p, x, 1e-12f);
    }
    orthonormal(p, x, 0.25f);
#pragma unroll
    for (int t = 0; t < FOURS; t++) y[t] = x[t];
    multiply(p, covariance, q, y);
    square(p, x, y);
}
#endif

/* next: [m][HEAD_DIM][columns], scratch, and q the same; next: only where a work-item is a whole core. basis:
 * [..][columns][HEAD_DIM] from matrix basis_at on, energy: [..][columns], total: [..], the trace of C, both from matrix `first`
 * on. */
KEEP_WIDE __kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_basis(__global const float *covariance, __global float *q, __global float *next, int columns, __global float *basis,
           uint basis_at, __global float *energy, __global float *total, uint first) {
    const int lane = get_local_id(0), m = get_group_id(0);
    __local float squares[HEAD_DIM];
    q += (size_t)m * columns * HEAD_DIM;
    covariance += (size_t)m * HEAD_DIM * HEAD_DIM;
    basis += ((size_t)basis_at + m) * columns * HEAD_DIM;
    energy += ((size_t)first + m) * columns;
#if CODE_GROUP == 1
    __local float dots[HEAD_DIM], factor[HEAD_DIM];
    iterate(covariance, q, next + (size_t)m * columns * HEAD_DIM, dots, squares, factor, columns);
#else
    __local float shown[2 * HEAD_DIM] __attribute__((aligned(16))), parts[SEGMENTS * LANES];
    const place_t p = {columns, lane % LANES, lane / LANES, shown, parts, squares};
    iterate(&p, covariance, q);
#endif
    float top = 0.0f;
    for (int k = 0; k < columns; k++) top = fmax(top, squares[k]);
    for (int k = lane; k < columns; k += CODE_GROUP) {
        const float own = fmax(squares[k], 0.0f);
        int place = 0;
        for (int c = 0; c < columns; c++) {
            const float other = fmax(squares[c], 0.0f);
            place += (other > own) | ((other == own) & (c < k));
        }
        energy[place] = own < LEAST * top ? 0.0f : own;
        for (int d = 0; d < HEAD_DIM; d++) basis[(size_t)place * HEAD_DIM + d] = q[d * columns + k];
    }
    float trace = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) trace += covariance[(size_t)d * HEAD_DIM + d];
    if (lane == 0) total[first + m] = trace;
}

/* ---- values as they are heard ---------------------------------------------------------------------------------- */

#if CODE_GROUP > 1
/* Work-group (d / 8, head): of the values of a head, `to` = (U from)^T; both [m][HEAD_DIM][HEAD_DIM]; metric: from that of the
 * first head on. Twice, a symmetric matrix C comes to U C U^T. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_heard(__global const float *from, __global const float *metric, uint metric_at, __global float *to) {
    enum { SOME = 8, WIDE = HEAD_DIM / 8 };
    __local float turned[HEAD_DIM * (SOME + 1)];
    const int lane = get_local_id(0), first = get_group_id(0) * SOME, head = get_group_id(1);
    const size_t m = (size_t)(2 * head + 1) * HEAD_DIM * HEAD_DIM;
    metric += ((size_t)metric_at + head) * HEAD_DIM * HEAD_DIM;
    for (int i = lane; i < SOME * WIDE; i += CODE_GROUP) {
        const int d = first + i / WIDE, e = i % WIDE * 8;
        union {
            float8 all;
            float at[8];
        } sum;
        sum.all = 0.0f;
#pragma unroll 8
        for (int k = first; k < HEAD_DIM; k++) /* U is 0 left of its diagonal */
            sum.all += metric[(size_t)d * HEAD_DIM + k] * f32_run(from + m + (size_t)k * HEAD_DIM + e);
        for (int t = 0; t < 8; t++) turned[(e + t) * (SOME + 1) + d - first] = sum.at[t];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lane; i < SOME * HEAD_DIM; i += CODE_GROUP)
        to[m + (size_t)(i / SOME) * HEAD_DIM + first + i % SOME] = turned[i / SOME * (SOME + 1) + i % SOME];
}
#else
/* Work-item (8 numbers, head): the same. */
__kernel void code_heard(__global const float *from, __global const float *metric, uint metric_at, __global float *to) {
    const int e = get_global_id(0) % (HEAD_DIM / 8) * 8, d = get_global_id(0) / (HEAD_DIM / 8), head = get_global_id(1);
    if (d >= HEAD_DIM) return;
    const size_t m = (size_t)(2 * head + 1) * HEAD_DIM * HEAD_DIM;
    metric += (((size_t)metric_at + head) * HEAD_DIM + d) * HEAD_DIM;
    from += m + e;
    union {
        float8 all;
        float at[8];
    } sum;
    sum.all = 0.0f;
    for (int k = d; k < HEAD_DIM; k++) sum.all += metric[k] * f32_run(from + (size_t)k * HEAD_DIM);
    for (int t = 0; t < 8; t++) to[m + (size_t)(e + t) * HEAD_DIM + d] = sum.at[t];
}
#endif

#if CODE_GROUP > 1
/* Work-group (8 columns of a basis, m), which become what rows are projected on; back: what they are made of again. Of U^-1 the
 * transpose is there, `inverse_at` floats behind U. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_behind(__global float *basis, int columns, uint basis_at, __global const float *metric, uint metric_at, uint inverse_at,
            __global float *back) {
    enum { SOME = 8 };
    __local float q[SOME * HEAD_DIM] __attribute__((aligned(32)));
    const int lane = get_local_id(0), m = get_group_id(1), first = get_group_id(0) * SOME, some = min((int)SOME, columns - first);
    const size_t at = (((size_t)basis_at + m) * columns + first) * HEAD_DIM;
    basis += at;
    back += at;
    metric += ((size_t)metric_at + m / 2) * HEAD_DIM * HEAD_DIM;
    for (int i = lane; i < SOME * HEAD_DIM; i += CODE_GROUP) {
        const float x = i < some * HEAD_DIM ? basis[i] : 0.0f;
        q[i % HEAD_DIM * SOME + i / HEAD_DIM] = x;
        if (m % 2 == 0 && i < some * HEAD_DIM) back[i] = x;
    }
    if (m % 2 == 0) return; /* all of a work-group: before any barrier */
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE); /* the basis is written again */
    for (int i = lane; i < 2 * HEAD_DIM; i += CODE_GROUP) {
        const int e = i % HEAD_DIM;
        __global const float *u = metric + (i < HEAD_DIM ? 0 : inverse_at) + e;
        __global float *to = (i < HEAD_DIM ? basis : back) + e;
        union {
            float8 all;
            float at[8];
        } x;
        x.all = 0.0f;
#pragma unroll 4
        for (int k = 0; k < HEAD_DIM; k++) x.all += u[(size_t)k * HEAD_DIM] * *(__local const float8 *)(q + k * SOME);
        for (int c = 0; c < some; c++) to[(size_t)c * HEAD_DIM] = x.at[c];
    }
}
#else
/* Work-item (i, m): column i of a basis, which becomes what rows are projected on; back: what they are made of again. Of U^-1 the
 * transpose is there, `inverse_at` floats behind U. */
KEEP_WIDE __kernel void code_behind(__global float *basis, int columns, uint basis_at, __global const float *metric,
                                    uint metric_at, uint inverse_at, __global float *back) {
    const int i = get_global_id(0), m = get_global_id(1);
    if (i >= columns) return;
    const size_t at = (((size_t)basis_at + m) * columns + i) * HEAD_DIM;
    float16 on[PARTS], x[PARTS];
    basis += at;
    back += at;
    metric += ((size_t)metric_at + m / 2) * HEAD_DIM * HEAD_DIM;
    for (int p = 0; p < PARTS; p++) on[p] = x[p] = m % 2 ? 0.0f : vload16(p, basis);
    for (int d = 0; d < HEAD_DIM && m % 2; d++) {
        __global const float *row = metric + (size_t)d * HEAD_DIM;
        const float q = basis[d];
        for (int p = d / 16; p < PARTS; p++) on[p] += q * vload16(p, row); /* U is 0 left of its diagonal */
        for (int p = 0; p <= d / 16; p++) x[p] += q * vload16(p, row + inverse_at);
    }
    for (int p = 0; p < PARTS; p++) {
        vstore16(on[p], p, basis);
        vstore16(x[p], p, back);
    }
}
#endif
