/*
 * code.cl - rows of kv heads -> codes: turned into a basis of their own (code_basis.cl), and cut to few bits.
 *
 *     round        basis = q, or back, in 8 bits, scale = max |q| / 127      of the dimensions that have bits
 *     project      z(m, i, j) = q(m, i) . x(m, j)       x less its mean; matrix m as in code.clh
 *     step         of 9 ranges f max |z|: the step 2 f max |z| / 2^bits of least sum of miss^4; factor = scale step; of a sample
 *                  where rows are many: one block of each `stride`. Squares cut off the few rows that stand out, which may be
 *                  those that are looked for; higher powers lose more of all others than they gain
 *     pack         code = clamp(floor(z / step), -2^(bits-1), 2^(bits-1) - 1) + 2^(bits-1)
 *     narrow       fewer bits of codes that are held: z = factor level of these, basis as it is
 *     text         of a row in 4 bits: unit = max |group| / 8, up to the next of 16 bits
 *     phases       of the runs' middle rows
 *     alike        which runs' rows are turned alike from their first on
 *     queries      sum over listed rows and the query heads of a group of |q|^2
 *     attended     sum over the coded rows of score^2
 *     votes        sum over the heads of all layers of score
 *
 * project: a work-group has VLCI_CODE_PROJECTED rows by as many dimensions, a work-item 8 by 4 of them; or a block of rows in
 * local memory by 4 dimensions where it is a whole core. code_mma.cl does the same on matrix units.
 *
 * No sum uses atomics: each has one order.
 *
 * Bytes and operations, of a matrix of n rows with D dimensions that have b bits in sum: project reads n HEAD_DIM numbers, does
 * n HEAD_DIM D multiply-adds and writes n D floats; step reads these twice, pack once, and writes n b / 8 bytes. Of codes that
 * are held both read these instead.
 *
 * with: code.clh
 * build: -DHEAD_DIM=64
 * build: -DHEAD_DIM=128
 * build: -DHEAD_DIM=64 -DCODE_GROUP=1
 */

/* ---- codes --------------------------------------------------------------------------------------------------- */

#if CODE_GROUP == 1
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
#else
/* Work-group (CODE_GROUP / PARTS dimensions, m): the same, a work-item 16 numbers. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_round(__global const float *basis, int columns, uint basis_at, __global const vlci_code_matrix *matrix, uint first,
           __global char *rounded, __global float *factor) {
    __local float tops[CODE_GROUP];
    const int lane = get_local_id(0), m = get_group_id(1), p = lane % PARTS;
    const int i = get_group_id(0) * (CODE_GROUP / PARTS) + lane / PARTS;
    const vlci_code_matrix own = matrix[first + m];
    const bool there = lane < CODE_GROUP / PARTS * PARTS && i < VLCI_CODE_DIMS(own.widths);
    float16 x = 0.0f;
    if (there) x = vload16(p, basis + (((size_t)basis_at + m) * columns + i) * HEAD_DIM);
    tops[lane] = max16(fabs(x));
    barrier(CLK_LOCAL_MEM_FENCE);
    if (!there) return;
    float top = 0.0f;
#pragma unroll
    for (int other = 0; other < PARTS; other++) top = fmax(top, tops[lane - p + other]);
    const float scale = fmax(top / 127.0f, 1e-9f);
    vstore16(convert_char16_sat_rte(x / scale), p, rounded + ((size_t)own.dim + i) * HEAD_DIM);
    if (p == 0) factor[own.dim + i] = scale;
}
#endif

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
    __local float tile[BLOCK * HEAD_DIM] __attribute__((aligned(64)));
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
            float4 low = KV_FOUR(row.at + d), high = KV_FOUR(row.at + HALF + d);
            if (row.turn) {
                const float4 c = *(__global const float4 *)(row.turn + d), was = low;
                const float4 s = *(__global const float4 *)(row.turn + HALF + d);
                low = was * c + high * s;
                high = high * c - was * s;
            }
            low = j < n ? low - vloada_half4(0, mean + d) : (float4)(0.0f);
            high = j < n ? high - vloada_half4(0, mean + HALF + d) : (float4)(0.0f);
            const float4 q_low = *(__global const float4 *)(vector + d), q_high = *(__global const float4 *)(vector + HALF + d);
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
            *(__global float8 *)(z + (size_t)(i + i0 + u) * padded + r0) = sum[u];
    }
#endif
}

/* Codes of 16 values, signed; `levels`: of them in a unit. */
static inline float16 cut(float16 z, float levels, float half_levels) {
    return clamp(floor(z * levels), -half_levels, half_levels - 1.0f);
}

/* Where the values of a dimension are: z, or where that is NULL the codes that are held of them. */
typedef struct {
    __global const float *z;
    __global const uint *words; /* of a block, each of which has so many words */
    int bits, each;
    float factor;
} values_t;

static inline values_t find_values(__global const float *z, int padded, int most, __global const vlci_code_matrix *held,
                                   __global const uint *held_words, __global const float *held_factor, int m, int i,
                                   uint first) {
    values_t v = {0, 0, 0, 0, 0.0f};
    if (held) {
        const vlci_code_matrix from = held[first + m];
        v.bits = bits_of(from.widths, i);
        v.each = VLCI_CODE_WORDS(from.widths);
        v.words = held_words + from.words + word_of(from.widths, i);
        v.factor = held_factor[from.dim + i];
    } else
        v.z = z + ((size_t)m * most + i) * padded;
    return v;
}

/* Those of block b. */
static inline float16 take(const values_t *v, int b) {
    if (v->z) return *(__global const float16 *)(v->z + (size_t)b * BLOCK);
    __global const uint *at = v->words + (size_t)b * v->each;
    if (v->bits == 8) return (convert_float16(as_uchar16(vload4(0, at))) - 127.5f) * v->factor;
    const uint step = (uint)v->bits, x = at[0], y = v->bits == 4 ? at[1] : x >> 16, mask = (1u << step) - 1u;
    const uint16 nth = (uint16)(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    const uint16 pair = (uint16)(x, x, x, x, x, x, x, x, y, y, y, y, y, y, y, y);
    return (convert_float16(pair >> nth * step & mask) + 0.5f - (float)(1 << (v->bits - 1))) * v->factor;
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

/* What says where values are: z, [m][most][padded], or the codes that are held of them; NULL: none. */
#define VALUES_PARAMS                                                                                                \
    __global const float *z, int padded, int most, __global const vlci_code_matrix *held, __global const uint *held_words, \
        __global const float *held_factor
#define VALUES_PASS z, padded, most, held, held_words, held_factor

/* Of n lists of what all work-items have, one after another, the first becomes the largest, or the sum: of every eighth, then
 * of these. Barriers behind. */
WITH_LOCAL void fold(__local float *parts, int n, int lane, bool largest) {
    enum { SOME = CODE_GROUP < 8 ? CODE_GROUP : 8 };
    for (int e = lane; e < n * SOME; e += CODE_GROUP) {
        __local float *at = parts + e / SOME * CODE_GROUP + e % SOME;
        float all = at[0];
        for (int i = SOME; i < CODE_GROUP; i += SOME) all = largest ? fmax(all, at[i]) : all + at[i];
        at[0] = all;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int f = lane; f < n; f += CODE_GROUP) {
        __local float *at = parts + f * CODE_GROUP;
        float all = at[0];
        for (int i = 1; i < SOME; i++) all = largest ? fmax(all, at[i]) : all + at[i];
        at[0] = all;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* A work-group for dimension i of matrix first + m: steps [m][most], and factor times them; of codes that are held steps stay
 * where there are as many bits. Of n rows one block of each `stride` counts. */
KEEP_WIDE __kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_step(VALUES_PARAMS, int n, int stride, __global const vlci_code_matrix *matrix, uint first, __global float *steps,
          __global float *factor) {
    __local float parts[CODE_GROUP * VLCI_CODE_STEPS];
    const float fractions[VLCI_CODE_STEPS] = {1.0f, 0.85f, 0.7f, 0.55f, 0.42f, 0.32f, 0.24f, 0.18f, 0.13f};
    const int16 nth = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const int lane = get_local_id(0), i = get_group_id(0), m = get_group_id(1);
    const int blocks = (n + BLOCK - 1) / BLOCK, taken = (blocks + stride - 1) / stride;
    const vlci_code_matrix own = matrix[first + m];
    const float half_levels = (float)(1 << (bits_of(own.widths, i) - 1));
    if (i >= VLCI_CODE_DIMS(own.widths)) return; /* all of a work-group: before any barrier */
    const values_t values = find_values(VALUES_PASS, m, i, first);
    if (held && values.bits == bits_of(own.widths, i)) {
        if (lane == 0) {
            steps[(size_t)m * most + i] = values.factor;
            factor[own.dim + i] = values.factor;
        }
        return;
    }
    float16 large = 0.0f;
    for (int t = lane; t < taken; t += CODE_GROUP)
        large = fmax(large, fabs(take(&values, sampled(t, stride, blocks))));
    parts[lane] = max16(large);
    barrier(CLK_LOCAL_MEM_FENCE);
    fold(parts, 1, lane, true);
    const float top = fmax(parts[0], 1e-9f), unit = 1.0f / top;
    barrier(CLK_LOCAL_MEM_FENCE);
    error_t errors[VLCI_CODE_STEPS];
    float step_of[VLCI_CODE_STEPS], levels_of[VLCI_CODE_STEPS];
#pragma unroll
    for (int f = 0; f < VLCI_CODE_STEPS; f++) {
        step_of[f] = fractions[f] / half_levels;
        levels_of[f] = half_levels / fractions[f];
        errors[f] = 0.0f;
    }
    for (int t = lane; t < taken; t += CODE_GROUP) {
        const int b = sampled(t, stride, blocks);
        const float16 value = take(&values, b) * unit;
#pragma unroll
        for (int f = 0; f < VLCI_CODE_STEPS; f++) {
            const float16 miss = (cut(value, levels_of[f], half_levels) + 0.5f) * step_of[f] - value, two = miss * miss;
            errors[f] += ERROR_OF(select((float16)(0.0f), two * two, nth < (int16)(n - BLOCK * b)));
        }
    }
#pragma unroll
    for (int f = 0; f < VLCI_CODE_STEPS; f++) parts[f * CODE_GROUP + lane] = ERROR_SUM(errors[f]);
    barrier(CLK_LOCAL_MEM_FENCE);
    fold(parts, VLCI_CODE_STEPS, lane, false);
    if (lane) return;
    int best = 0;
    for (int f = 1; f < VLCI_CODE_STEPS; f++)
        if (parts[f * CODE_GROUP] < parts[best * CODE_GROUP]) best = f;
    const float step = top * fractions[best] / half_levels;
    steps[(size_t)m * most + i] = step;
    factor[own.dim + i] *= step;
}

/* Work-item (i of most of a block, m): neighbours write neighbouring words. */
__kernel void code_pack(VALUES_PARAMS, __global const vlci_code_matrix *matrix, uint first, __global const float *steps,
                        __global uint *words) {
    const int b = get_global_id(0) / most, i = get_global_id(0) % most, m = get_global_id(1);
    const vlci_code_matrix own = matrix[first + m];
    if (b >= padded / BLOCK || i >= VLCI_CODE_DIMS(own.widths)) return;
    const int bits = bits_of(own.widths, i), at = word_of(own.widths, i);
    const float half_levels = (float)(1 << (bits - 1));
    const float levels = 1.0f / steps[(size_t)m * most + i];
    const values_t values = find_values(VALUES_PASS, m, i, first);
    __global uint *to = words + own.words + (size_t)b * VLCI_CODE_WORDS(own.widths) + at;
    if (values.bits == bits) { /* codes stay as they are */
        for (int w = 0; w < bits / 2; w++) to[w] = values.words[(size_t)b * values.each + w];
        return;
    }
    uint code[BLOCK];
    vstore16(convert_uint16(cut(take(&values, b), levels, half_levels) + half_levels), 0, code);
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

/* ---- text ------------------------------------------------------------------------------------------------------ */

/* 8 numbers below 16. */
static inline uint nibbles(uint8 x) {
    const uint8 y = x << (uint8)(0, 4, 8, 12, 16, 20, 24, 28);
    const uint4 z = y.lo | y.hi;
    return (z.x | z.y) | (z.z | z.w);
}

/* Work-item (unit of row j, m): text [matrix][n][HEAD_DIM / 8], unit [matrix][n][VLCI_TEXT_UNITS(HEAD_DIM)], from matrix `first`
 * on. */
__kernel void code_text(KV_POOL_PARAMS, __global const vlci_keep *keep, uint keep_at, __global const int *positions, int n,
                        __global uint *text, __global ushort *unit, uint first) {
    enum { UNITS = VLCI_TEXT_UNITS(HEAD_DIM), EACH = VLCI_TEXT_GROUP / 8 };
    const int j = get_global_id(0) / UNITS, u = get_global_id(0) % UNITS, m = get_global_id(1);
    if (j >= n) return;
    const int eights = min((int)EACH, HEAD_DIM / 8 - u * EACH);
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const size_t at = kv_at(&rows, keep[keep_at + m / 2].before + positions[j]), to = ((size_t)first + m) * n + j;
    __global const kv_t *row = (m % 2 ? rows.v : rows.k) + at + u * VLCI_TEXT_GROUP;
    float8 x[EACH], top = 0.0f;
#pragma unroll
    for (int p = 0; p < EACH; p++) {
        x[p] = 0.0f;
        if (p < eights) x[p] = KV_RUN(row + 8 * p);
        top = fmax(top, fabs(x[p]));
    }
    const uint rounded = (as_uint(fmax(max8(top) / 8.0f, 1e-9f)) + 0xffffu) >> 16; /* up: nothing is cut off */
    const float one = as_float(rounded << 16);
    unit[to * UNITS + u] = (ushort)rounded;
    text += to * (HEAD_DIM / 8) + u * EACH;
#pragma unroll
    for (int p = 0; p < EACH; p++)
        if (p < eights) text[p] = nibbles(convert_uint8(clamp(floor(x[p] / one), -8.0f, 7.0f) + 8.0f));
}

/* Work-item (unit of row j, m): row j of `n` is row kept[j] of `before`, laid out as code_text lays it. */
__kernel void code_text_keep(__global const int *kept, int n, int before, __global const uint *from, __global const ushort *units,
                             __global uint *text, __global ushort *unit, uint first) {
    enum { UNITS = VLCI_TEXT_UNITS(HEAD_DIM), EACH = VLCI_TEXT_GROUP / 8 };
    const int j = get_global_id(0) / UNITS, u = get_global_id(0) % UNITS, m = get_global_id(1);
    if (j >= n) return;
    const int eights = min((int)EACH, HEAD_DIM / 8 - u * EACH);
    const size_t at = ((size_t)first + m) * before + kept[j], to = ((size_t)first + m) * n + j;
    unit[to * UNITS + u] = units[at * UNITS + u];
    for (int p = 0; p < eights; p++) text[to * (HEAD_DIM / 8) + u * EACH + p] = from[at * (HEAD_DIM / 8) + u * EACH + p];
}

/* ---- what is seen of the text ---------------------------------------------------------------------------------- */

/* Work-item (d, run): of the run's middle row, of the phases of a prompt's rows. */
__kernel void code_phases(__global const float *from, __global const int *positions, int n, int run, __global float *phase) {
    const int d = get_global_id(0), r = get_global_id(1), first = r * run, middle = first + min(run, n - first) / 2;
    if (d < HEAD_DIM) phase[(size_t)r * HEAD_DIM + d] = from[(size_t)positions[middle] * HEAD_DIM + d];
}

/* What row `at` has beyond row `first`, of pair d; rows behind the last stand still. */
static inline float2 beyond(__global const float *phase, int first, int at, int n, int d) {
    if (at >= n) return (float2)(1.0f, 0.0f);
    __global const float *a = phase + (size_t)first * HEAD_DIM, *b = phase + (size_t)at * HEAD_DIM;
    return (float2)(b[d] * a[d] + b[HALF + d] * a[HALF + d], b[HALF + d] * a[d] - b[d] * a[HALF + d]);
}

/* The sum of what a work-group's work-items have, in one order: in work-item 0. */
WITH_LOCAL float sum_of_all(float own, __local float *parts, int lane) {
    parts[lane] = own;
    barrier(CLK_LOCAL_MEM_FENCE);
    fold(parts, 1, lane, false);
    return parts[0];
}

/* Work-group r: whether its run's rows have the same beyond its first as those of run `as`, up to `most`; phase [n][HEAD_DIM],
 * first: of the runs' first rows. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_alike(__global const float *phase, int n, int as, float most, __global int *alike, __global float *first) {
    __local float parts[CODE_GROUP];
    const int lane = get_local_id(0), r = get_group_id(0), own = r * BLOCK, other = as * BLOCK;
    float misses = 0.0f;
    for (int e = lane; e < min((int)BLOCK, n - own) * HALF; e += CODE_GROUP) {
        const float2 x = beyond(phase, own, own + e / HALF, n, e % HALF), y = beyond(phase, other, other + e / HALF, n, e % HALF);
        const float2 miss = fabs(x - y);
        misses += miss.x > most || miss.y > most ? 1.0f : 0.0f;
    }
    for (int d = lane; d < HEAD_DIM; d += CODE_GROUP) first[(size_t)r * HEAD_DIM + d] = phase[(size_t)own * HEAD_DIM + d];
    const float all = sum_of_all(misses, parts, lane);
    if (lane == 0) alike[r] = all == 0.0f;
}

/* Work-group (kv, layer): sums of entries from .. until - 1 of the list of rows (VLCI_ROW), row `row` of which is query q_row +
 * row; listed NULL: of queries from .. until - 1. A layer's queries lie q_layer behind those of the one before it. */
__kernel __attribute__((reqd_work_group_size(CODE_GROUP, 1, 1))) void
code_queries(__global const float *q, uint q_offset, uint q_stride, uint q_layer, int q_row, __global const int *listed, int from,
             int until, int group, __global float *sums, uint sums_at, int add) {
    __local float parts[CODE_GROUP];
    const int kv = get_group_id(0), lane = get_local_id(0), wide = group * PARTS;
    float16 sum = 0.0f;
    q += q_offset + (size_t)get_group_id(1) * q_layer + (size_t)kv * group * HEAD_DIM;
    sums += sums_at + (size_t)get_group_id(1) * get_num_groups(0);
    for (int i = lane; i < (until - from) * wide; i += CODE_GROUP) {
        const int at = from + i / wide, row = listed ? q_row + (listed[at] >> VLCI_ROW_SHIFT) : at;
        const float16 some = vload16(i % wide, q + (size_t)row * q_stride);
        sum += some * some;
    }
    const float all = sum_of_all(sum16(sum), parts, lane);
    if (lane == 0) sums[kv] = add ? sums[kv] + all : all;
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

/* Work-item j: a row of the prompt; scores of `heads` heads, of all layers. */
__kernel void code_votes(__global const float *score, int heads, int tokens, __global float *votes) {
    const int j = get_global_id(0);
    if (j >= tokens) return;
    float sum = 0.0f;
    for (int h = 0; h < heads; h++) sum += score[(size_t)h * tokens + j];
    votes[j] = sum;
}
