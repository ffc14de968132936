/*
 * code.cl - rows of kv heads -> codes: turned into a basis of their own, their first principal axes, and cut to few bits.
 *
 *     rows         x(m, j) = R(-ref(run of j)) key, or value     matrix m = 2 kv (keys), 2 kv + 1 (values), of some layers
 *     mean         mean(m) = mean over j, as f16, which is taken off all rows below
 *     covariance   C(m) = sum over j of x x^T / n       both of a sample where rows are many: one row of each `stride`
 *     heard        C(m) of values becomes U C U^T: how they differ as the layer's output product hears them (metric.h)
 *     basis        q(m, 0), q(m, 1), ...: the first columns of C's eigenvectors, by falling q^T C q, which is their energy
 *     behind       of values that are heard q becomes U^T q, which rows are projected on, and back = U^-1 q, which they are made
 *                  of again; else both are q
 *     round        basis = q, or back, in 8 bits, scale = max |q| / 127      of the dimensions that have bits
 *     project      z(m, i, j) = q(m, i) . x(m, j)
 *     step         of 9 ranges f max |z|: the step 2 f max |z| / 2^bits of least squared error; factor = scale step
 *     pack         code = clamp(floor(z / step), -2^(bits-1), 2^(bits-1) - 1) + 2^(bits-1)
 *     narrow       fewer bits of codes that are held: z = factor level of these, basis as it is
 *     text         of a row in 8 bits: scale = max |row| / 127
 *     phases       of the runs' middle rows
 *     queries      sum over listed rows and the query heads of a group of |q|^2
 *     attended     sum over the coded rows of score^2
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
 * are rounding, are zero. A matrix has a work-group; its columns lie side by side, [HEAD_DIM][columns], in local memory where
 * it has room for them.
 *
 * project: a work-group has VLCI_CODE_PROJECTED rows by as many dimensions, a work-item 8 by 4 of them; or a block of rows in
 * local memory by 4 dimensions where it is a whole core.
 *
 * No sum uses atomics: each has one order.
 *
 * Bytes and operations, of a matrix of n rows with D dimensions that have b bits in sum: mean reads n HEAD_DIM numbers as they
 * are stored; covariance the same once for each tile, and does n HEAD_DIM^2 / 2 multiply-adds and half of a tile's more; basis
 * 4 columns HEAD_DIM^2 for its products, 4 columns^2 HEAD_DIM for the rest; project reads n HEAD_DIM numbers, does
 * n HEAD_DIM D multiply-adds and writes n D floats; step reads these twice, pack once, and writes n b / 8 bytes.
 *
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=128 -DCODE_LOCAL=0
 * build: -DHEAD_DIM=64 -DCODE_GROUP=1 -DCODE_LOCAL=0
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 16, at most VLCI_CODE_DIM_MAX */
#endif
#ifndef CODE_GROUP
#define CODE_GROUP VLCI_CODE_ITEMS /* work-items of a work-group; 1 where one is a whole core */
#endif
#ifndef CODE_LOCAL
#define CODE_LOCAL 1 /* whether basis has its columns in local memory */
#endif
#define LEAST 1e-6f
enum {
    HALF = HEAD_DIM / 2,
    EIGHTS = HALF / 8,
    PARTS = HEAD_DIM / 16,
    BLOCK = VLCI_CODE_ROWS,
    TILE = VLCI_CODE_TILE
};

static inline float sum16(float16 x) { return sum8(x.lo + HIGH8(float8, x)); }
static inline float max16(float16 x) {
    const float8 y = fmax(x.lo, HIGH8(float8, x));
    const float4 z = fmax(y.lo, y.hi);
    return fmax(fmax(z.x, z.y), fmax(z.z, z.w));
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

#define SOURCE_PARAMS                                                                                                \
    KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, __global const int *positions, int n, int run,     \
        __global const float *phase
#define SOURCE_PASS KV_POOL_PASS, keep, keep_at, positions, n, run, phase

/* Row j of matrix m as it is stored; what it is turned by: NULL for values. */
typedef struct {
    __global const kv_t *at;
    __global const float *turn;
} row_t;

static inline row_t find_row(SOURCE_PARAMS, int m, int j) {
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const size_t at = kv_at(&rows, keep[keep_at + m / 2].before + positions[j]);
    row_t row = {(m % 2 ? rows.v : rows.k) + at, m % 2 ? 0 : phase + (size_t)(j / run) * HEAD_DIM};
    return row;
}

/* The row that stands for stride j .. stride (j + 1) - 1: at changing places of them, since rows are lines of pictures. */
static inline int sampled(int j, int stride, int n) {
    return min(j * stride + (int)(((uint)j * 2654435761u >> 16) % (uint)stride), n - 1);
}

/* Elements d .. d + 7 of x(m, j), and those HALF further on. */
static inline void load_turned(const row_t *row, int d, float8 *low, float8 *high) {
    const float8 a = KV_LOAD8(row->at, d), b = KV_LOAD8(row->at, HALF + d);
    *low = a;
    *high = b;
    if (row->turn) {
        const float8 c = vload8(0, row->turn + d), s = vload8(0, row->turn + HALF + d);
        *low = a * c + b * s;
        *high = b * c - a * s;
    }
}

/* Work-items that have a row together, and rows at a time. */
enum { ACROSS = CODE_GROUP < EIGHTS ? CODE_GROUP : EIGHTS, DOWN = CODE_GROUP / ACROSS };

/* Rows j0 .. j0 + BLOCK - 1 of the sample less their mean, zero from `until` on. A barrier behind. */
WITH_LOCAL void take_rows(SOURCE_PARAMS, int stride, int m, int j0, int until, __global const half *mean, __local float *tile,
                          int lane) {
    for (int r = lane / ACROSS; r < BLOCK && lane < ACROSS * DOWN; r += DOWN) {
        const bool there = j0 + r < until;
        const row_t row = find_row(SOURCE_PASS, m, sampled(there ? j0 + r : j0, stride, n));
        for (int d = lane % ACROSS * 8; d < HALF; d += ACROSS * 8) {
            float8 low, high;
            load_turned(&row, d, &low, &high);
            low -= vload_half8(0, mean + d);
            high -= vload_half8(0, mean + HALF + d);
            vstore8(there ? low : (float8)(0.0f), 0, tile + r * HEAD_DIM + d);
            vstore8(there ? high : (float8)(0.0f), 0, tile + r * HEAD_DIM + HALF + d);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* ---- mean ---------------------------------------------------------------------------------------------------- */

/* A work-group for matrix m; `mean` from matrix `first` on. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_mean(SOURCE_PARAMS, int stride, __global half *mean, uint first) {
    enum { EACH = EIGHTS / ACROSS }; /* 8 dimensions and as many of the other half, of a work-item */
    __local float sums[DOWN * HEAD_DIM];
    const int lane = get_local_id(0), m = get_group_id(0), d0 = lane % ACROSS * EACH * 8, taken = (n + stride - 1) / stride;
    float8 low[EACH], high[EACH];
    for (int i = 0; i < EACH; i++) low[i] = high[i] = 0.0f;
    for (int j = lane / ACROSS; j < taken && lane < ACROSS * DOWN; j += DOWN) {
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
    for (int d = lane; d < HEAD_DIM; d += CODE_GROUP) {
        float all = 0.0f;
        for (int i = 0; i < DOWN; i++) all += sums[i * HEAD_DIM + d];
        vstore_half_rte(to_f16_range(all / (float)taken), d, mean + ((size_t)first + m) * HEAD_DIM);
    }
}

/* ---- covariance ---------------------------------------------------------------------------------------------- */

/* Work-group (tile, share, m) of `share` rows. parts: [m][shares][HEAD_DIM][HEAD_DIM]. */
KEEP_WIDE __kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_covariance(SOURCE_PARAMS, int stride, __global const half *mean, uint first, int share, __global float *parts) {
    __local float tile[BLOCK * HEAD_DIM];
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
                const float8 left = vload8(0, tile + r * HEAD_DIM + d);
                const float4 right = vload4(0, tile + r * HEAD_DIM + e);
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
    for (int t = 0; t < 8 && there; t++) vstore4(sum[t], 0, parts + (size_t)(d + t) * HEAD_DIM + e);
#endif
}

/* Work-item (e / 8, d, m). */
__kernel void code_covariance_sum(__global const float *parts, int shares, int n, __global float *covariance) {
    const int e = 8 * get_global_id(0), d = get_global_id(1), m = get_global_id(2);
    if (e >= HEAD_DIM) return;
    parts += (size_t)m * shares * HEAD_DIM * HEAD_DIM;
    union {
        float8 all;
        float at[8];
    } sum;
    sum.all = 0.0f;
    for (int s = 0; s < shares; s++, parts += HEAD_DIM * HEAD_DIM)
        if (e >= d)
            sum.all += vload8(0, parts + (size_t)d * HEAD_DIM + e);
        else
            for (int t = 0; t < 8; t++)
                sum.at[t] += parts[(size_t)min(d, e + t) * HEAD_DIM + max(d, e + t)];
    vstore8(sum.all / (float)n, 0, covariance + ((size_t)m * HEAD_DIM + d) * HEAD_DIM + e);
}

/* ---- basis --------------------------------------------------------------------------------------------------- */

/* Number i of the noise that iteration begins with, in [-1, 1). */
static inline float noise(uint i) {
    i = (i ^ (i >> 16)) * 0x7feb352du;
    i = (i ^ (i >> 15)) * 0x846ca68bu;
    i ^= i >> 16;
    return (float)(i >> 8) * 0x1p-23f - 1.0f;
}

/* Columns that a work-item has at a time. */
#if CODE_GROUP == 1
typedef float16 some_t;
enum { SOME = 16 };
#define SOME_LOAD(p)     vload16(0, p)
#define SOME_STORE(x, p) vstore16(x, 0, p)
#else
typedef float some_t;
enum { SOME = 1 };
#define SOME_LOAD(p)     (*(p))
#define SOME_STORE(x, p) (*(p) = (x))
#endif
#if CODE_LOCAL
#define COLUMN __local
#define FENCE  CLK_LOCAL_MEM_FENCE
#else
#define COLUMN __global
#define FENCE  (CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#endif

/* A work-item's columns, first, first + stride, .., and its dimensions of them; those beyond the last have none. */
typedef struct {
    int columns, first, stride, from, until, segment, segments;
} place_t;

static inline place_t find_place(int columns, int lane) {
    place_t p;
    p.columns = columns;
    p.segments = max(1, CODE_GROUP / columns);
    while (HEAD_DIM % (8 * p.segments)) p.segments--; /* whole eights of dimensions */
    const int lanes = CODE_GROUP / p.segments, each = HEAD_DIM / p.segments;
    p.segment = lane / lanes;
    p.first = p.segment < p.segments ? lane % lanes * SOME : columns;
    p.stride = lanes * SOME;
    p.from = p.segment * each;
    p.until = p.from + each;
    return p;
}

/* to = C q. A barrier behind. */
WITH_LOCAL void multiply(__global const float *covariance, COLUMN const float *q, __global float *to, const place_t *p) {
    for (int c = p->first; c < p->columns; c += p->stride)
        for (int d = p->from; d < p->until; d += 8) {
            some_t sum[8];
#pragma unroll
            for (int t = 0; t < 8; t++) sum[t] = 0.0f;
            for (int e = 0; e < HEAD_DIM; e++) { /* C is symmetric: its column is its row */
                __global const float *row = covariance + (size_t)e * HEAD_DIM + d;
                const some_t x = SOME_LOAD(q + e * p->columns + c);
#pragma unroll
                for (int t = 0; t < 8; t++) sum[t] += row[t] * x;
            }
#pragma unroll
            for (int t = 0; t < 8; t++) SOME_STORE(sum[t], to + (d + t) * p->columns + c);
        }
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
}

/* Sums over all dimensions of a's column k, or each column where k < 0, times b's columns from that of k on: dots[columns],
 * from parts of the segments. */
WITH_LOCAL void dot_columns(COLUMN const float *a, COLUMN const float *b, int k, __local float *parts, const place_t *p) {
    for (int c = p->first; c < p->columns; c += p->stride) {
        some_t even = 0.0f, odd = 0.0f;
        if (c + SOME <= k) continue;
        for (int d = p->from; d < p->until; d += 2) {
            COLUMN const float *one = a + d * p->columns, *two = one + p->columns;
            even += (k < 0 ? SOME_LOAD(one + c) : one[k]) * SOME_LOAD(b + d * p->columns + c);
            odd += (k < 0 ? SOME_LOAD(two + c) : two[k]) * SOME_LOAD(b + (d + 1) * p->columns + c);
        }
        SOME_STORE(even + odd, parts + p->segment * p->columns + c);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

static inline some_t whole(__local const float *parts, const place_t *p, int c) {
    some_t sum = SOME_LOAD(parts + c);
    for (int s = 1; s < p->segments; s++) sum += SOME_LOAD(parts + s * p->columns + c);
    return sum;
}
static inline float whole_of(__local const float *parts, const place_t *p, int k) {
    float sum = parts[k];
    for (int s = 1; s < p->segments; s++) sum += parts[s * p->columns + k];
    return sum;
}

/* Takes off each column what those before it say. A column of which no more than `least` times its square is left is zero. */
WITH_LOCAL void orthonormal(COLUMN float *q, float least, __local float *parts, __local float *squares, __local float *factor,
                            const place_t *p, int lane) {
    dot_columns(q, q, -1, parts, p);
    for (int k = lane; k < p->columns; k += CODE_GROUP) squares[k] = whole_of(parts, p, k);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = 0; k < p->columns; k++) {
        dot_columns(q, q, k, parts, p);
        const float left = whole_of(parts, p, k), by = left > least * squares[k] ? 1.0f / left : 0.0f;
        if (lane == 0) factor[k] = left > least * squares[k] ? rsqrt(left) : 0.0f;
        for (int c = p->first; c < p->columns && by > 0.0f; c += p->stride) {
            if (c + SOME <= k + 1) continue;
            some_t off = whole(parts, p, c) * by;
#if CODE_GROUP == 1
            const int16 column = c + (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            off = select(off, (float16)(0.0f), column <= k);
#endif
            for (int d = p->from; d < p->until; d++) {
                COLUMN float *row = q + d * p->columns;
                SOME_STORE(SOME_LOAD(row + c) - off * row[k], row + c);
            }
        }
        barrier(FENCE);
    }
    for (int c = p->first; c < p->columns; c += p->stride)
        for (int d = p->from; d < p->until; d++) {
            COLUMN float *at = q + d * p->columns + c;
            const some_t scale = SOME_LOAD(factor + c);
            SOME_STORE(SOME_LOAD(at) * scale, at);
        }
    barrier(FENCE);
}

/* next: [m][HEAD_DIM][columns], scratch; q: the same, where it is not local. basis: [..][columns][HEAD_DIM] from matrix
 * basis_at on, energy: [..][columns], total: [..], the trace of C, both from matrix `first` on. */
KEEP_WIDE __kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_basis(__global const float *covariance, COLUMN float *q, __global float *next, int columns, __global float *basis,
           uint basis_at, __global float *energy, __global float *total, uint first) {
    __local float parts[HEAD_DIM > CODE_GROUP ? HEAD_DIM : CODE_GROUP], squares[HEAD_DIM], factor[HEAD_DIM];
    const int lane = get_local_id(0), m = get_group_id(0);
    const place_t p = find_place(columns, lane);
#if !CODE_LOCAL
    q += (size_t)m * columns * HEAD_DIM;
#endif
    covariance += (size_t)m * HEAD_DIM * HEAD_DIM;
    next += (size_t)m * columns * HEAD_DIM;
    basis += ((size_t)basis_at + m) * columns * HEAD_DIM;
    energy += ((size_t)first + m) * columns;
    for (int d = 0; d < HEAD_DIM; d++)
        for (int k = lane; k < columns; k += CODE_GROUP) q[d * columns + k] = noise((uint)(k * HEAD_DIM + d) + 1u);
    barrier(FENCE);
    for (int round = 0; round < 3; round++) {
        multiply(covariance, q, next, &p);
        for (int i = lane * SOME; i < columns * HEAD_DIM; i += CODE_GROUP * SOME) SOME_STORE(SOME_LOAD(next + i), q + i);
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE); /* next is written again */
        orthonormal(q, 1e-12f, parts, squares, factor, &p, lane);
    }
    orthonormal(q, 0.25f, parts, squares, factor, &p, lane);
    multiply(covariance, q, next, &p);
    for (int k = lane * SOME; k < columns; k += CODE_GROUP * SOME) {
        some_t sum = 0.0f;
        for (int d = 0; d < HEAD_DIM; d++) sum += SOME_LOAD(q + d * columns + k) * SOME_LOAD(next + d * columns + k);
        SOME_STORE(fmax(sum, (some_t)(0.0f)), squares + k);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float top = 0.0f;
    for (int k = 0; k < columns; k++) top = fmax(top, squares[k]);
    for (int k = lane; k < columns; k += CODE_GROUP) {
        int place = 0;
        for (int c = 0; c < columns; c++)
            place += (squares[c] > squares[k]) | ((squares[c] == squares[k]) & (c < k));
        energy[place] = squares[k] < LEAST * top ? 0.0f : squares[k];
        for (int d = 0; d < HEAD_DIM; d++) basis[(size_t)place * HEAD_DIM + d] = q[d * columns + k];
    }
    float trace = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) trace += covariance[(size_t)d * HEAD_DIM + d];
    if (lane == 0) total[first + m] = trace;
}

/* ---- values as they are heard ---------------------------------------------------------------------------------- */

/* Work-item (e / 8, d, head): of the values of a head, `to` = (U from)^T; both [m][HEAD_DIM][HEAD_DIM]; metric: from that of the
 * first head on. Twice, a symmetric matrix C comes to U C U^T. */
__kernel void code_heard(__global const float *from, __global const float *metric, uint metric_at, __global float *to) {
    const int e = 8 * get_global_id(0), d = get_global_id(1), head = get_global_id(2);
    if (e >= HEAD_DIM) return;
    const size_t m = (size_t)(2 * head + 1) * HEAD_DIM * HEAD_DIM;
    metric += (((size_t)metric_at + head) * HEAD_DIM + d) * HEAD_DIM;
    from += m + e;
    union {
        float8 all;
        float at[8];
    } sum;
    sum.all = 0.0f;
    for (int k = d; k < HEAD_DIM; k++) sum.all += metric[k] * vload8(0, from + (size_t)k * HEAD_DIM);
    for (int t = 0; t < 8; t++) to[m + (size_t)(e + t) * HEAD_DIM + d] = sum.at[t];
}

/* Work-item (i, m): column i of a basis, which becomes what rows are projected on; back: what they are made of again, by
 * substitution from the last row on. */
KEEP_WIDE __kernel void code_behind(__global float *basis, int columns, uint basis_at, __global const float *metric,
                                    uint metric_at, __global float *back) {
    const int i = get_global_id(0), m = get_global_id(1);
    if (i >= columns) return;
    const size_t at = (((size_t)basis_at + m) * columns + i) * HEAD_DIM;
    float16 on[PARTS];
    union {
        float16 part[PARTS];
        float at[HEAD_DIM];
    } x;
    basis += at;
    back += at;
    metric += ((size_t)metric_at + m / 2) * HEAD_DIM * HEAD_DIM;
    for (int p = 0; p < PARTS; p++) on[p] = x.part[p] = m % 2 ? 0.0f : vload16(p, basis);
    for (int d = HEAD_DIM - 1; d >= 0 && m % 2; d--) {
        __global const float *row = metric + (size_t)d * HEAD_DIM;
        const float q = basis[d];
        float16 sum = 0.0f;
        for (int p = 0; p < PARTS; p++) { /* U is 0 left of its diagonal, and x not yet known there */
            const float16 u = vload16(p, row);
            on[p] += q * u;
            sum += u * x.part[p];
        }
        x.at[d] = (q - sum16(sum)) / row[d];
    }
    for (int p = 0; p < PARTS; p++) {
        vstore16(on[p], p, basis);
        vstore16(x.part[p], p, back);
    }
}

/* ---- codes --------------------------------------------------------------------------------------------------- */

/* Work-item (i, m): dimension i of matrix first + m, whose basis is basis_at + m. factor: the scale alone. */
__kernel void code_round(__global const float *basis, int columns, uint basis_at, __global const vlci_code_matrix *matrix,
                         uint first, __global char *rounded, __global float *factor) {
    const int i = get_global_id(0), m = get_global_id(1);
    const vlci_code_matrix own = matrix[first + m];
    if (i >= VLCI_CODE_DIMS(own.widths)) return;
    basis += (((size_t)basis_at + m) * columns + i) * HEAD_DIM;
    rounded += ((size_t)own.dim + i) * HEAD_DIM;
    float16 top = 0.0f;
    for (int p = 0; p < PARTS; p++) top = fmax(top, fabs(vload16(p, basis)));
    const float scale = fmax(max16(top) / 127.0f, 1e-9f);
    for (int p = 0; p < PARTS; p++) vstore16(convert_char16_sat_rte(vload16(p, basis) / scale), p, rounded);
    factor[own.dim + i] = scale;
}

#if CODE_GROUP == 1
enum { PROJECTED = BLOCK };
#else
enum { PROJECTED = VLCI_CODE_PROJECTED };

static inline void put4(__local float *to, int pitch, float4 x) {
    to[0] = x.x;
    to[pitch] = x.y;
    to[2 * pitch] = x.z;
    to[3 * pitch] = x.w;
}
#endif

/* Work-group (rows, m): matrix m of those that the rows are of, first + m of all. z: [m][most][padded], zero beyond n. */
KEEP_WIDE __kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_project(SOURCE_PARAMS, __global const half *mean, int padded, __global const float *basis, int columns, uint basis_at,
             __global const vlci_code_matrix *matrix, uint first, int most, __global float *z) {
    const int lane = get_local_id(0), m = get_group_id(1), j0 = get_group_id(0) * PROJECTED;
    const int dims = VLCI_CODE_DIMS(matrix[first + m].widths);
    mean += ((size_t)first + m) * HEAD_DIM;
    basis += ((size_t)basis_at + m) * columns * HEAD_DIM;
    z += (size_t)m * most * padded + j0;
#if CODE_GROUP == 1
    __local float tile[BLOCK * HEAD_DIM];
    take_rows(SOURCE_PASS, 1, m, j0, n, mean, tile, lane);
    float16 across[HEAD_DIM]; /* a dimension of all rows */
    for (int d = 0; d < HEAD_DIM; d++) {
        union {
            float16 all;
            float row[BLOCK];
        } one;
        for (int r = 0; r < BLOCK; r++) one.row[r] = tile[r * HEAD_DIM + d];
        across[d] = one.all;
    }
    for (int i = 0; i < dims; i += 4) {
        float16 sum[4];
#pragma unroll
        for (int u = 0; u < 4; u++) sum[u] = 0.0f;
        for (int d = 0; d < HEAD_DIM; d++)
#pragma unroll
            for (int u = 0; u < 4; u++) sum[u] += basis[min(i + u, dims - 1) * HEAD_DIM + d] * across[d];
#pragma unroll
        for (int u = 0; u < 4; u++) vstore16(sum[u], 0, z + (size_t)min(i + u, dims - 1) * padded);
    }
#else
    /* 8 rows by 4 dimensions a work-item; 8 elements of rows and the 8 that they are turned with at a time */
    enum { SLICE = 16, PITCH = PROJECTED + 4 };
    __local float x[SLICE * PITCH] __attribute__((aligned(16))), q[SLICE * PITCH] __attribute__((aligned(16)));
    const int r0 = lane % 8 * 8, i0 = lane / 8 * 4, own = lane / 2, part = lane % 2 * 4, j = j0 + own;
    const row_t row = find_row(SOURCE_PASS, m, min(j, n - 1));
    for (int i = 0; i < dims; i += PROJECTED) {
        const bool there = i + i0 < dims && j0 + r0 < padded;
        float8 sum[4];
        for (int u = 0; u < 4; u++) sum[u] = 0.0f;
        __global const float *vector = basis + (size_t)min(i + own, dims - 1) * HEAD_DIM;
        for (int d = part; d < HALF; d += 8) {
            float4 low = KV_LOAD4(row.at, d), high = KV_LOAD4(row.at, HALF + d);
            if (row.turn) {
                const float4 c = vload4(0, row.turn + d), s = vload4(0, row.turn + HALF + d), was = low;
                low = was * c + high * s;
                high = high * c - was * s;
            }
            low = j < n ? low - vload_half4(0, mean + d) : (float4)(0.0f);
            high = j < n ? high - vload_half4(0, mean + HALF + d) : (float4)(0.0f);
            const float4 q_low = vload4(0, vector + d), q_high = vload4(0, vector + HALF + d);
            barrier(CLK_LOCAL_MEM_FENCE);
            put4(x + part * PITCH + own, PITCH, low);
            put4(x + (8 + part) * PITCH + own, PITCH, high);
            put4(q + part * PITCH + own, PITCH, q_low);
            put4(q + (8 + part) * PITCH + own, PITCH, q_high);
            barrier(CLK_LOCAL_MEM_FENCE);
            if (there)
#pragma unroll
                for (int k = 0; k < SLICE; k++) {
                    __local const float4 *at = (__local const float4 *)(x + k * PITCH + r0);
                    const float4 a = at[0], b = at[1];
                    const float4 c = *(__local const float4 *)(q + k * PITCH + i0);
                    const float8 rows = (float8)(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w); /* (a, b) breaks Oclgrind 21.10 */
                    sum[0] += c.x * rows;
                    sum[1] += c.y * rows;
                    sum[2] += c.z * rows;
                    sum[3] += c.w * rows;
                }
        }
        for (int u = 0; u < 4 && there && i + i0 + u < dims; u++)
            vstore8(sum[u], 0, z + (size_t)(i + i0 + u) * padded + r0);
    }
#endif
}

static inline int bits_of(uint widths, int i) {
    return i < VLCI_CODE_EIGHTS(widths) ? 8 : i < VLCI_CODE_EIGHTS(widths) + VLCI_CODE_FOURS(widths) ? 4 : 2;
}

/* The first word of dimension i in a block. */
static inline int word_of(uint widths, int i) {
    const int eights = VLCI_CODE_EIGHTS(widths), fours = VLCI_CODE_FOURS(widths);
    return 4 * min(i, eights) + 2 * clamp(i - eights, 0, fours) + max(i - eights - fours, 0);
}

/* Codes of 16 values, signed; `levels`: of them in a unit. */
static inline float16 cut(float16 z, float levels, float half_levels) {
    return clamp(floor(z * levels), -half_levels, half_levels - 1.0f);
}

/* Of a range, so far: a number where registers are few. */
#if CODE_GROUP == 1
typedef float16 error_t;
#define ERROR_OF(x)  (x)
#define ERROR_SUM(x) sum16(x)
#else
typedef float error_t;
#define ERROR_OF(x)  sum16(x)
#define ERROR_SUM(x) (x)
#endif

/* A work-group for dimension i of matrix first + m: steps [m][most], and factor times them. held, held_factor: of the codes
 * that z was made of, whose steps stay where they have as many bits; NULL: of none. */
KEEP_WIDE __kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_step(__global const float *z, int n, int padded, int most, __global const vlci_code_matrix *matrix, uint first,
          __global float *steps, __global float *factor, __global const vlci_code_matrix *held,
          __global const float *held_factor) {
    __local float parts[CODE_GROUP * VLCI_CODE_STEPS];
    const float fractions[VLCI_CODE_STEPS] = {1.0f, 0.85f, 0.7f, 0.55f, 0.42f, 0.32f, 0.24f, 0.18f, 0.13f};
    const int16 nth = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int lane = get_local_id(0), i = get_group_id(0), m = get_group_id(1);
    const vlci_code_matrix own = matrix[first + m];
    const float half_levels = (float)(1 << (bits_of(own.widths, i) - 1));
    if (i >= VLCI_CODE_DIMS(own.widths)) return; /* all of a work-group: before any barrier */
    if (held && bits_of(held[first + m].widths, i) == bits_of(own.widths, i)) {
        const float step = held_factor[held[first + m].dim + i];
        if (lane == 0) {
            steps[(size_t)m * most + i] = step;
            factor[own.dim + i] = step;
        }
        return;
    }
    float16 large = 0.0f;
    z += ((size_t)m * most + i) * padded;
    for (int b = lane; b < padded / BLOCK; b += CODE_GROUP) large = fmax(large, fabs(vload16(b, z)));
    parts[lane] = max16(large);
    barrier(CLK_LOCAL_MEM_FENCE);
    float top = 1e-9f;
    for (int l = 0; l < CODE_GROUP; l++) top = fmax(top, parts[l]);
    barrier(CLK_LOCAL_MEM_FENCE);
    error_t errors[VLCI_CODE_STEPS];
    float step_of[VLCI_CODE_STEPS], levels_of[VLCI_CODE_STEPS];
#pragma unroll
    for (int f = 0; f < VLCI_CODE_STEPS; f++) {
        step_of[f] = top * fractions[f] / half_levels;
        levels_of[f] = 1.0f / step_of[f];
        errors[f] = 0.0f;
    }
    for (int b = lane; b < padded / BLOCK; b += CODE_GROUP) {
        const float16 value = vload16(b, z);
#pragma unroll
        for (int f = 0; f < VLCI_CODE_STEPS; f++) {
            const float16 miss = (cut(value, levels_of[f], half_levels) + 0.5f) * step_of[f] - value;
            errors[f] += ERROR_OF(select((float16)(0.0f), miss * miss, nth < (int16)(n - BLOCK * b)));
        }
    }
#pragma unroll
    for (int f = 0; f < VLCI_CODE_STEPS; f++) parts[f * CODE_GROUP + lane] = ERROR_SUM(errors[f]);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int f = lane; f < VLCI_CODE_STEPS; f += CODE_GROUP) {
        float error = 0.0f;
        for (int l = 0; l < CODE_GROUP; l++) error += parts[f * CODE_GROUP + l];
        parts[f * CODE_GROUP] = error;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane) return;
    int best = 0;
    for (int f = 1; f < VLCI_CODE_STEPS; f++)
        if (parts[f * CODE_GROUP] < parts[best * CODE_GROUP]) best = f;
    const float step = top * fractions[best] / half_levels;
    steps[(size_t)m * most + i] = step;
    factor[own.dim + i] *= step;
}

/* Work-item (block, i, m). */
__kernel void code_pack(__global const float *z, int padded, int most, __global const vlci_code_matrix *matrix, uint first,
                        __global const float *steps, __global uint *words) {
    const int b = get_global_id(0), i = get_global_id(1), m = get_global_id(2);
    const vlci_code_matrix own = matrix[first + m];
    if (b >= padded / BLOCK || i >= VLCI_CODE_DIMS(own.widths)) return;
    const int bits = bits_of(own.widths, i), at = word_of(own.widths, i);
    const float half_levels = (float)(1 << (bits - 1));
    const float levels = 1.0f / steps[(size_t)m * most + i];
    uint code[BLOCK];
    vstore16(convert_uint16(cut(vload16(b, z + ((size_t)m * most + i) * padded), levels, half_levels) + half_levels), 0, code);
    __global uint *to = words + own.words + (size_t)b * VLCI_CODE_WORDS(own.widths) + at;
    for (int w = 0; w < bits / 2; w++) {
        uint word = 0;
        for (int r = 0; r < 32 / bits; r++) word |= code[w * (32 / bits) + r] << (r * bits);
        to[w] = word;
    }
}

/* ---- fewer bits ------------------------------------------------------------------------------------------------ */

/* Work-item (i, m): the basis of dimension i of matrix first + m, of those that it is held with; factor: 1, the unit of z. */
__kernel void code_narrow(__global const vlci_code_matrix *held, __global const char *held_basis,
                          __global const vlci_code_matrix *matrix, uint first, __global char *basis, __global float *factor) {
    const int i = get_global_id(0), m = get_global_id(1);
    const vlci_code_matrix from = held[first + m], own = matrix[first + m];
    if (i >= VLCI_CODE_DIMS(own.widths)) return;
    for (int p = 0; p < PARTS; p++)
        vstore16(vload16(p, held_basis + ((size_t)from.dim + i) * HEAD_DIM), p, basis + ((size_t)own.dim + i) * HEAD_DIM);
    factor[own.dim + i] = 1.0f;
}

/* Work-item (block, i, m): z [m][most][padded] of the codes that are held, zero beyond n. */
__kernel void code_unpack(__global const vlci_code_matrix *held, __global const uint *words, __global const float *held_factor,
                          int n, int padded, int most, __global const vlci_code_matrix *matrix, uint first,
                          __global float *z) {
    const int b = get_global_id(0), i = get_global_id(1), m = get_global_id(2);
    if (b >= padded / BLOCK || i >= VLCI_CODE_DIMS(matrix[first + m].widths)) return;
    const vlci_code_matrix from = held[first + m];
    const int bits = bits_of(from.widths, i);
    const float factor = held_factor[from.dim + i], half_levels = (float)(1 << (bits - 1));
    words += from.words + (size_t)b * VLCI_CODE_WORDS(from.widths) + word_of(from.widths, i);
    z += ((size_t)m * most + i) * padded + (size_t)b * BLOCK;
    for (int r0 = 0; r0 < BLOCK; r0 += 4) {
        const uint four = words[r0 * bits / 32] >> (r0 * bits % 32), mask = (1u << bits) - 1u; /* 4 rows never part */
        const float4 code = convert_float4((uint4)(four, four >> bits, four >> 2 * bits, four >> 3 * bits) & mask);
        const int4 row = b * BLOCK + r0 + (int4)(0, 1, 2, 3);
        vstore4(select((float4)(0.0f), (code + 0.5f - half_levels) * factor, row < (int4)(n)), r0 / 4, z);
    }
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

/* Work-item (j, m): text [matrix][n][HEAD_DIM], scale [matrix][n], from matrix `first` on. */
__kernel void code_text(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, __global const int *positions, int n,
                        __global char *text, __global float *scale, uint first) {
    const int j = get_global_id(0), m = get_global_id(1);
    if (j >= n) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const size_t at = kv_at(&rows, keep[keep_at + m / 2].before + positions[j]), to = ((size_t)first + m) * n + j;
    __global const kv_t *row = (m % 2 ? rows.v : rows.k) + at;
    float16 top = 0.0f;
    for (int p = 0; p < PARTS; p++) top = fmax(top, fabs(KV_LOAD16(row, 16 * p)));
    const float unit = fmax(max16(top) / 127.0f, 1e-9f);
    for (int p = 0; p < PARTS; p++)
        vstore16(convert_char16_sat_rte(KV_LOAD16(row, 16 * p) / unit), p, text + to * HEAD_DIM);
    scale[to] = unit;
}

/* ---- what is seen of the text ---------------------------------------------------------------------------------- */

/* Work-item (d, run): of the run's middle row, of the phases of a prompt's rows. */
__kernel void code_phases(__global const float *from, __global const int *positions, int n, int run, __global float *phase) {
    const int d = get_global_id(0), r = get_global_id(1), first = r * run, middle = first + min(run, n - first) / 2;
    if (d < HEAD_DIM) phase[(size_t)r * HEAD_DIM + d] = from[(size_t)positions[middle] * HEAD_DIM + d];
}

/* The sum of what a work-group's work-items have, in their order: in work-item 0. */
WITH_LOCAL float sum_of_all(float own, __local float *parts, int lane) {
    parts[lane] = own;
    barrier(CLK_LOCAL_MEM_FENCE);
    float all = 0.0f;
    for (int l = 0; l < CODE_GROUP && lane == 0; l++) all += parts[l];
    return all;
}

/* Work-group kv: sums of entries from .. until - 1 of the list of rows (VLCI_ROW), row `row` of which is query q_row + row. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_queries(__global const float *q, uint q_offset, uint q_stride, int q_row, __global const int *listed, int from, int until,
             int group, __global float *sums, uint sums_at, int add) {
    __local float parts[CODE_GROUP];
    const int kv = get_group_id(0), lane = get_local_id(0), wide = group * PARTS;
    float16 sum = 0.0f;
    q += q_offset + (size_t)kv * group * HEAD_DIM;
    for (int i = lane; i < (until - from) * wide; i += CODE_GROUP) {
        const int row = q_row + (listed[from + i / wide] >> VLCI_ROW_SHIFT);
        const float16 some = vload16(i % wide, q + (size_t)row * q_stride);
        sum += some * some;
    }
    const float all = sum_of_all(sum16(sum), parts, lane);
    if (lane == 0) sums[sums_at + kv] = add ? sums[sums_at + kv] + all : all;
}

/* Work-group h: a head, of all layers. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_attended(__global const float *score, int tokens, __global const int *positions, int n, __global float *sums) {
    __local float parts[CODE_GROUP];
    const int h = get_group_id(0), lane = get_local_id(0);
    float sum = 0.0f;
    for (int j = lane; j < n; j += CODE_GROUP) {
        const float s = score[(size_t)h * tokens + positions[j]];
        sum += s * s;
    }
    const float all = sum_of_all(sum, parts, lane);
    if (lane == 0) sums[h] = all;
}
