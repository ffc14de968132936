/*
 * code.cl - rows of a layer's kv heads -> codes: centred, turned into a basis of their own, and cut to few bits.
 *
 *     rows         x(m, j) = R(-ref(run of j)) key, or value       matrix m = 2 kv (keys), 2 kv + 1 (values), of a layer
 *     centre       mean(m) = mean over j, as f16                   x -= mean
 *     covariance   C(m) = sum over j of x x^T / n
 *     basis        q(m, 0), q(m, 1), ...: the first columns of C's eigenvectors, by falling q^T C q, which is their energy
 *     round        basis = q in 8 bits, scale = max |q| / 127      of the dimensions that have bits
 *     project      z(m, i, j) = q(m, i) . x(m, j)
 *     step         of 9 ranges f max |z|: the step 2 f max |z| / 2^bits of least squared error; factor = scale step
 *     pack         code = clamp(floor(z / step), -2^(bits-1), 2^(bits-1) - 1) + 2^(bits-1)
 *     text         of a row in 8 bits: scale = max |row| / 127
 *     phases       of the runs' middle rows
 *     queries      sum over listed rows and the query heads of a group of |q|^2
 *     attended     sum over the coded rows of score^2
 *
 * basis is orthogonal iteration: columns of noise, three times multiplied with C and made orthonormal (Gram-Schmidt, each
 * column twice); a column that depends on those before it is zero. Energies below a millionth of the largest, which are
 * rounding, are zero. A matrix has a work-group.
 *
 * No sum uses atomics: each has one order.
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=64 -DCODE_GROUP=1
 */
#ifndef HEAD_DIM
#define HEAD_DIM 64 /* a multiple of 16, at most VLCI_CODE_DIM_MAX */
#endif
#ifndef CODE_GROUP
#define CODE_GROUP 64 /* work-items of a work-group of centre, basis and step; 1 where one is a whole core */
#endif
#define LEAST 1e-6f
enum { HALF = HEAD_DIM / 2, PARTS = HEAD_DIM / 16, TALL = 4 /* rows of C that a work-item of covariance has */ };

static inline float sum16(float16 x) { return sum8(x.lo + HIGH8(float8, x)); }

/* ---- statistics ---------------------------------------------------------------------------------------------- */

/* Work-item (d, j, m) takes elements d and d + HEAD_DIM / 2. */
__kernel void code_rows(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, __global const int *positions, int n,
                        int run, __global const float *phase, __global float *x) {
    const int d = get_global_id(0), j = get_global_id(1), m = get_global_id(2);
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const size_t at = kv_at(&rows, keep[keep_at + m / 2].before + positions[j]) + d;
    __global float *to = x + ((size_t)m * n + j) * HEAD_DIM + d;
    if (m % 2) {
        to[0] = KV_LOAD(rows.v, at);
        to[HALF] = KV_LOAD(rows.v, at + HALF);
    } else {
        __global const float *turn = phase + (size_t)(j / run) * HEAD_DIM + d;
        const float low = KV_LOAD(rows.k, at), high = KV_LOAD(rows.k, at + HALF), c = turn[0], s = turn[HALF];
        to[0] = low * c + high * s;
        to[HALF] = high * c - low * s;
    }
}

/* A work-group for 16 dimensions of m. What is taken off is the mean as it is kept. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void code_centre(__global float *x, int n, __global half *mean,
                                                                                  uint mean_at) {
    __local float sums[CODE_GROUP * 16];
    const int lane = get_local_id(0), d = 16 * get_group_id(0), m = get_group_id(1);
    float16 sum = 0.0f;
    x += (size_t)m * n * HEAD_DIM + d;
    mean += (size_t)mean_at + (size_t)m * HEAD_DIM + d;
    for (int j = lane; j < n; j += CODE_GROUP) sum += vload16(0, x + (size_t)j * HEAD_DIM);
    vstore16(sum, lane, sums);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lane; i < 16; i += CODE_GROUP) {
        float all = 0.0f;
        for (int l = 0; l < CODE_GROUP; l++) all += sums[16 * l + i];
        vstore_half_rte(to_f16_range(all / (float)n), i, mean);
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
    const float16 kept = vload_half16(0, mean);
    for (int j = lane; j < n; j += CODE_GROUP)
        vstore16(vload16(0, x + (size_t)j * HEAD_DIM) - kept, 0, x + (size_t)j * HEAD_DIM);
}

/* Work-item (e / 16, d / TALL, m); below the diagonal C is what it is above. */
__kernel void code_covariance(__global const float *x, int n, __global float *covariance) {
    const int e = 16 * get_global_id(0), d = TALL * get_global_id(1), m = get_global_id(2);
    if (e + 15 < d) return;
    float16 sum[TALL];
    x += (size_t)m * n * HEAD_DIM;
    covariance += (size_t)m * HEAD_DIM * HEAD_DIM;
#pragma unroll
    for (int t = 0; t < TALL; t++) sum[t] = 0.0f;
    for (int j = 0; j < n; j++) {
        const float16 row = vload16(0, x + (size_t)j * HEAD_DIM + e);
#pragma unroll
        for (int t = 0; t < TALL; t++) sum[t] += x[(size_t)j * HEAD_DIM + d + t] * row;
    }
#pragma unroll
    for (int t = 0; t < TALL; t++) {
        vstore16(sum[t] / (float)n, 0, covariance + (size_t)(d + t) * HEAD_DIM + e);
        for (int i = 0; i < 16 && d + t < e; i++)
            covariance[(size_t)(e + i) * HEAD_DIM + d + t] = covariance[(size_t)(d + t) * HEAD_DIM + e + i];
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

static inline float dot_column(__global const float *a, __global const float *b) {
    float16 sum = 0.0f;
    for (int p = 0; p < PARTS; p++) sum += vload16(p, a) * vload16(p, b);
    return sum16(sum);
}

/* to = C from, of `columns` columns, each HEAD_DIM neighbours. */
static inline void multiply(__global const float *covariance, __global const float *from, __global float *to, int columns,
                            int lane) {
    for (int i = lane; i < columns * PARTS; i += CODE_GROUP) {
        const int column = i / PARTS, part = i % PARTS;
        float16 sum = 0.0f;
        for (int e = 0; e < HEAD_DIM; e++)
            sum += from[(size_t)column * HEAD_DIM + e] * vload16(part, covariance + (size_t)e * HEAD_DIM);
        vstore16(sum, part, to + (size_t)column * HEAD_DIM);
    }
    barrier(CLK_GLOBAL_MEM_FENCE);
}

/* Takes off column k what the columns before it say. */
WITH_LOCAL void project_off(__global float *q, int k, __local float *share, int lane) {
    __global float *own = q + (size_t)k * HEAD_DIM;
    for (int c = lane; c < k; c += CODE_GROUP) share[c] = dot_column(q + (size_t)c * HEAD_DIM, own);
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    for (int p = lane; p < PARTS; p += CODE_GROUP) {
        float16 sum = vload16(p, own);
        for (int c = 0; c < k; c++) sum -= share[c] * vload16(p, q + (size_t)c * HEAD_DIM);
        vstore16(sum, p, own);
    }
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
}

/* What is left of a column that depends on others is rounding: the second time most of it goes, too. */
WITH_LOCAL void orthonormal(__global float *q, int columns, __local float *share, int lane) {
    for (int k = 0; k < columns; k++) {
        __global float *own = q + (size_t)k * HEAD_DIM;
        const float whole = dot_column(own, own);
        barrier(CLK_GLOBAL_MEM_FENCE);
        project_off(q, k, share, lane);
        const float once = dot_column(own, own);
        barrier(CLK_GLOBAL_MEM_FENCE);
        project_off(q, k, share, lane);
        const float left = dot_column(own, own);
        const float factor = left > 0.25f * once && left > 1e-12f * whole ? rsqrt(left) : 0.0f;
        barrier(CLK_GLOBAL_MEM_FENCE);
        for (int p = lane; p < PARTS; p += CODE_GROUP)
            vstore16(factor > 0.0f ? vload16(p, own) * factor : 0.0f, p, own);
        barrier(CLK_GLOBAL_MEM_FENCE);
    }
}

/* q: [m][2][columns][HEAD_DIM], scratch. basis: [..][columns][HEAD_DIM], energy: [..][columns], total: [..], the trace of C,
 * all from matrix `first` on. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_basis(__global const float *covariance, __global float *q, int columns, __global float *basis, __global float *energy,
           __global float *total, uint first) {
    __local float share[HEAD_DIM];
    const int lane = get_local_id(0), m = get_group_id(0);
    __global float *now = q + (size_t)m * 2 * columns * HEAD_DIM, *next = now + (size_t)columns * HEAD_DIM;
    covariance += (size_t)m * HEAD_DIM * HEAD_DIM;
    basis += ((size_t)first + m) * columns * HEAD_DIM;
    energy += ((size_t)first + m) * columns;
    for (int i = lane; i < columns * HEAD_DIM; i += CODE_GROUP) now[i] = noise((uint)i + 1u);
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (int round = 0; round < 3; round++) {
        multiply(covariance, now, next, columns, lane);
        orthonormal(next, columns, share, lane);
        __global float *other = now;
        now = next;
        next = other;
    }
    multiply(covariance, now, next, columns, lane);
    for (int k = lane; k < columns; k += CODE_GROUP)
        share[k] = fmax(dot_column(now + (size_t)k * HEAD_DIM, next + (size_t)k * HEAD_DIM), 0.0f);
    barrier(CLK_LOCAL_MEM_FENCE);
    float top = 0.0f;
    for (int k = 0; k < columns; k++) top = fmax(top, share[k]);
    for (int k = lane; k < columns; k += CODE_GROUP) {
        int place = 0;
        for (int c = 0; c < columns; c++) place += (share[c] > share[k]) | ((share[c] == share[k]) & (c < k));
        energy[place] = share[k] < LEAST * top ? 0.0f : share[k];
        for (int p = 0; p < PARTS; p++)
            vstore16(vload16(p, now + (size_t)k * HEAD_DIM), p, basis + (size_t)place * HEAD_DIM);
    }
    float trace = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) trace += covariance[(size_t)d * HEAD_DIM + d];
    if (lane == 0) total[first + m] = trace;
}

/* ---- codes --------------------------------------------------------------------------------------------------- */

/* Work-item (i, m): dimension i of matrix first + m. factor: the scale alone. */
__kernel void code_round(__global const float *basis, int columns, uint first, __global const vlci_code_matrix *matrix,
                         __global char *rounded, __global float *factor) {
    const int i = get_global_id(0), m = get_global_id(1);
    const vlci_code_matrix own = matrix[first + m];
    if (i >= VLCI_CODE_DIMS(own.widths)) return;
    basis += (((size_t)first + m) * columns + i) * HEAD_DIM;
    rounded += ((size_t)own.dim + i) * HEAD_DIM;
    float top = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) top = fmax(top, fabs(basis[d]));
    const float scale = fmax(top / 127.0f, 1e-9f);
    for (int d = 0; d < HEAD_DIM; d++) rounded[d] = convert_char_sat_rte(basis[d] / scale);
    factor[own.dim + i] = scale;
}

/* Work-item (j, m). z: [m][most][padded], zero beyond n. */
__kernel void code_project(__global const float *x, int n, int padded, __global const float *basis, int columns, uint first,
                           __global const vlci_code_matrix *matrix, int most, __global float *z) {
    const int j = get_global_id(0), m = get_global_id(1);
    if (j >= padded) return;
    const int dims = VLCI_CODE_DIMS(matrix[first + m].widths);
    float16 row[PARTS];
#pragma unroll
    for (int p = 0; p < PARTS; p++) row[p] = 0.0f;
    if (j < n)
        for (int p = 0; p < PARTS; p++) row[p] = vload16(p, x + ((size_t)m * n + j) * HEAD_DIM);
    basis += ((size_t)first + m) * columns * HEAD_DIM;
    for (int i = 0; i < dims; i++) {
        float16 sum = 0.0f;
#pragma unroll
        for (int p = 0; p < PARTS; p++) sum += row[p] * vload16(p, basis + (size_t)i * HEAD_DIM);
        z[((size_t)m * most + i) * padded + j] = sum16(sum);
    }
}

static inline int bits_of(uint widths, int i) {
    return i < VLCI_CODE_EIGHTS(widths) ? 8 : i < VLCI_CODE_EIGHTS(widths) + VLCI_CODE_FOURS(widths) ? 4 : 2;
}

/* Codes of 16 values, signed. */
static inline float16 cut(float16 z, float step, float half_levels) {
    return clamp(floor(z / step), -half_levels, half_levels - 1.0f);
}

/* A work-group for dimension i of matrix first + m: steps [m][most], and factor times them. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_step(__global const float *z, int n, int padded, int most, __global const vlci_code_matrix *matrix, uint first,
          __global float *steps, __global float *factor) {
    __local float parts[CODE_GROUP * VLCI_CODE_STEPS];
    const float fractions[VLCI_CODE_STEPS] = {1.0f, 0.85f, 0.7f, 0.55f, 0.42f, 0.32f, 0.24f, 0.18f, 0.13f};
    const int16 nth = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int lane = get_local_id(0), i = get_group_id(0), m = get_group_id(1);
    const vlci_code_matrix own = matrix[first + m];
    const float half_levels = (float)(1 << (bits_of(own.widths, i) - 1));
    const bool there = i < VLCI_CODE_DIMS(own.widths);
    float top = 0.0f;
    z += ((size_t)m * most + i) * padded;
    for (int b = lane; b < padded / 16 && there; b += CODE_GROUP) {
        const float16 large = fabs(vload16(b, z));
        const float8 eight = fmax(large.lo, HIGH8(float8, large));
        const float4 four = fmax(eight.lo, eight.hi);
        top = fmax(top, fmax(fmax(four.x, four.y), fmax(four.z, four.w)));
    }
    parts[lane] = top;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int l = 0; l < CODE_GROUP; l++) top = fmax(top, parts[l]);
    top = fmax(top, 1e-9f);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int f = 0; f < VLCI_CODE_STEPS; f++) {
        const float step = top * fractions[f] / half_levels;
        float16 error = 0.0f;
        for (int b = lane; b < padded / 16 && there; b += CODE_GROUP) {
            const float16 value = vload16(b, z), miss = (cut(value, step, half_levels) + 0.5f) * step - value;
            error += select((float16)(0.0f), miss * miss, nth < (int16)(n - 16 * b));
        }
        parts[lane * VLCI_CODE_STEPS + f] = sum16(error);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane || !there) return;
    float least = INFINITY, step = 0.0f;
    for (int f = 0; f < VLCI_CODE_STEPS; f++) {
        float error = 0.0f;
        for (int l = 0; l < CODE_GROUP; l++) error += parts[l * VLCI_CODE_STEPS + f];
        if (error < least) {
            least = error;
            step = top * fractions[f] / half_levels;
        }
    }
    steps[(size_t)m * most + i] = step;
    factor[own.dim + i] *= step;
}

/* Work-item (block, i, m). */
__kernel void code_pack(__global const float *z, int padded, int most, __global const vlci_code_matrix *matrix, uint first,
                        __global const float *steps, __global uint *words) {
    const int b = get_global_id(0), i = get_global_id(1), m = get_global_id(2);
    const vlci_code_matrix own = matrix[first + m];
    if (b >= padded / VLCI_CODE_ROWS || i >= VLCI_CODE_DIMS(own.widths)) return;
    const int bits = bits_of(own.widths, i), eights = VLCI_CODE_EIGHTS(own.widths), fours = VLCI_CODE_FOURS(own.widths);
    const int at = 4 * min(i, eights) + 2 * clamp(i - eights, 0, fours) + max(i - eights - fours, 0);
    const float half_levels = (float)(1 << (bits - 1));
    const float step = steps[(size_t)m * most + i];
    uint code[VLCI_CODE_ROWS];
    vstore16(convert_uint16(cut(vload16(b, z + ((size_t)m * most + i) * padded), step, half_levels) + half_levels), 0, code);
    __global uint *to = words + own.words + (size_t)b * VLCI_CODE_WORDS(own.widths) + at;
    for (int w = 0; w < bits / 2; w++) {
        uint word = 0;
        for (int r = 0; r < 32 / bits; r++) word |= code[w * (32 / bits) + r] << (r * bits);
        to[w] = word;
    }
}

/* Work-item (j, m): text [matrix][n][HEAD_DIM], scale [matrix][n], from matrix `first` on. */
__kernel void code_text(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, __global const int *positions, int n,
                        __global char *text, __global float *scale, uint first) {
    const int j = get_global_id(0), m = get_global_id(1);
    if (j >= n) return;
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const size_t at = kv_at(&rows, keep[keep_at + m / 2].before + positions[j]), to = ((size_t)first + m) * n + j;
    __global const kv_t *row = (m % 2 ? rows.v : rows.k) + at;
    float top = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) top = fmax(top, fabs(KV_LOAD(row, d)));
    const float unit = fmax(top / 127.0f, 1e-9f);
    for (int d = 0; d < HEAD_DIM; d++) text[to * HEAD_DIM + d] = convert_char_sat_rte(KV_LOAD(row, d) / unit);
    scale[to] = unit;
}

/* ---- what is seen of the text ---------------------------------------------------------------------------------- */

/* Work-item (d, run): of the run's middle row, of the phases of a prompt's rows. */
__kernel void code_phases(__global const float *from, __global const int *positions, int n, int run, __global float *phase) {
    const int d = get_global_id(0), r = get_global_id(1), first = r * run, middle = first + min(run, n - first) / 2;
    if (d < HEAD_DIM) phase[(size_t)r * HEAD_DIM + d] = from[(size_t)positions[middle] * HEAD_DIM + d];
}

/* Work-item kv: sums of entries from .. until - 1 of the list of rows (VLCI_ROW), row `row` of which is query q_row + row. */
__kernel void code_queries(__global const float *q, uint q_offset, uint q_stride, int q_row, __global const int *listed,
                           int from, int until, int group, __global float *sums, uint sums_at, int add) {
    const int kv = get_global_id(0);
    float sum = 0.0f;
    for (int t = from; t < until; t++)
        for (int h = kv * group; h < (kv + 1) * group; h++) {
            __global const float *row =
                q + q_offset + (size_t)(q_row + (listed[t] >> VLCI_ROW_SHIFT)) * q_stride + (size_t)h * HEAD_DIM;
            sum += dot_column(row, row);
        }
    sums[sums_at + kv] = add ? sums[sums_at + kv] + sum : sum;
}

/* Work-item: a head, of all layers. */
__kernel void code_attended(__global const float *score, int tokens, __global const int *positions, int n, int heads,
                            __global float *sums) {
    const int h = get_global_id(0);
    if (h >= heads) return;
    float sum = 0.0f;
    for (int j = 0; j < n; j++) {
        const float s = score[(size_t)h * tokens + positions[j]];
        sum += s * s;
    }
    sums[h] = sum;
}
