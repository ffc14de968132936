/*
 * code_mma.cl - steps and codes of code.cl on matrix units of NVIDIA's GPUs since sm_80.
 *
 *     steps            of a sample's z(m, i, j) = q(m, i) . x(m, j), x less its mean; where all rows are in it, their codes
 *     pack             codes of all rows, where steps are known
 *
 * A warp has a block of 16 rows at a time, turned and centred in its registers, and the basis, TILE dimensions at a time, comes
 * from local memory as products want it: first factors are dimensions, so that what a lane has in the end are 4 rows of a
 * dimension. No warp waits for another.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:      loads rows 4 (g / 2) + g % 2 and 2 behind it: elements 4 c ..
 *                                                           4 c + 3 of a slice's halves
 *                                                           z: dimensions g, g + 8 of a tile by rows 4 c .. 4 c + 3
 *
 * Which element stands where in a product is all one, as long as both factors agree.
 *
 * steps: a work-group has all dimensions of a matrix that its local memory has room for, whose z stay there as halves: rows are
 * read once, or twice where dimensions are many. Then a warp has a dimension: its range, step and codes. pack: a block's words
 * are made as it is projected, without another look at local memory.
 *
 * tf32 has 11 bits, halves have as many: what codes of 8 bits at most are cut from is 2^-10 of a row's length off at most, and
 * 2^-14 as a rule.
 *
 * Of n rows with D dimensions: n D HEAD_DIM multiply-adds, and n times 4 operations for each range that is tried of a dimension
 * of 2 bits, 7 of one of 4; reads n HEAD_DIM numbers, for keys twice as many floats to turn them by, which all heads share, and
 * the basis for each work-group; writes codes.
 *
 * with: code.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=80 -DKV_DTYPE=1
 * ptx: sm_90 -DHEAD_DIM=64 -DKV_DTYPE=2
 */
enum {
    TILE = 16, /* dimensions */
    WARPS = VLCI_CODE_PACK_ITEMS / 32,
    SLICE = 16,
    SLICES = (HALF + SLICE - 1) / SLICE,
    SIDE = SLICE * SLICES, /* of a half, zero behind it */
    PRODUCTS = 4 * SLICES  /* of a tile: 8 elements each */
};

/* a b + c, rounded down. */
PTX_CALL float fma_down(float a, float b, float c) {
    float r;
    __asm__("fma.rm.f32 %0, %1, %2, %3;" : "=f"(r) : "f"(a), "f"(b), "f"(c));
    return r;
}

/* A power of two, by which what varies as much is about a sixteenth: halves lose 2^-12, and have room for 2^20 times that. */
PTX_CALL float unit_of(float energy) { return as_float((uint)(123 + (127 - (int)(as_uint(energy) >> 23)) / 2) << 23); }

/* `tiles` tiles of a basis from dimension `from` on, product by product as a lane takes them; zero from `dims` on. energy: of
 * dimensions, which are in units of their own then; or NULL. */
PTX_CALL void take_basis(__global const float *basis, int from, int dims, int tiles, __global const float *energy,
                         __local uint4 *q) {
    for (int e = (int)get_local_id(0); e < tiles * PRODUCTS / 2 * 32; e += VLCI_CODE_PACK_ITEMS) {
        const int lane = e % 32, pair = e / 32 % (PRODUCTS / 2), i = from + e / 32 / (PRODUCTS / 2) * TILE + lane / 4;
        const int d = pair / 2 * SLICE + lane % 4 * 4;
        __global const float *at = basis + (size_t)i * HEAD_DIM + pair % 2 * HALF + d;
        const bool inside = HALF % SLICE == 0 || d < HALF;
        float4 a = inside && i < dims ? *(__global const float4 *)at : (float4)(0.0f);
        float4 b = inside && i + 8 < dims ? *(__global const float4 *)(at + 8 * HEAD_DIM) : (float4)(0.0f);
        if (energy) {
            a *= unit_of(energy[min(i, dims - 1)]);
            b *= unit_of(energy[min(i + 8, dims - 1)]);
        }
        const uint4 x = ptx_tf32x4(a), y = ptx_tf32x4(b);
        __local uint4 *to = q + e / 32 * 64 + lane;
        to[0] = (uint4)(x.x, y.x, x.y, y.y);
        to[32] = (uint4)(x.z, y.z, x.w, y.w);
    }
}

PTX_CALL void take_means(__global const half *mean, __local float *means) {
    for (int e = (int)get_local_id(0); e < 2 * SIDE; e += VLCI_CODE_PACK_ITEMS)
        means[e] = e % SIDE < HALF ? vload_half(e / SIDE * HALF + e % SIDE, mean) : 0.0f;
}

/* Where the rows of the block from j0 on lie that a lane has; behind the last row, that one again. */
#define BLOCK_PARAMS                                                                                                 \
    const kv_view *rows, int before, __global const int *positions, int n, int run, __global const float *phase
#define BLOCK_PASS &rows, before, positions, n, run, phase
PTX_CALL void find_block(BLOCK_PARAMS, int j0, int m, row_t *row) {
    const int g = (int)get_local_id(0) % 32 / 4, j = j0 + g / 2 * 4 + g % 2;
#pragma unroll
    for (int u = 0; u < 2; u++) row[u] = find_row_in(rows, before, positions, run, phase, m, min(j + 2 * u, n - 1));
}

/* To what tf32 has, as products leave out the bits behind it; rows that are no numbers are refused, whatever their codes. */
PTX_CALL uint rounded(float x) { return as_uint(x) + 0x1000u; }

/* A block of rows as second factors: of each product of rows that are 2 apart. */
PTX_CALL void take_block(const row_t *row, bool turned, __local const float *means, uint (*x)[2][2]) {
    const int c = (int)get_local_id(0) % 4;
#pragma unroll
    for (int u = 0; u < 2; u++)
#pragma unroll
        for (int s = 0; s < SLICES; s++) {
            const int d = s * SLICE + 4 * c, at = HALF % SLICE == 0 || d < HALF ? d : 0; /* beyond, the basis is zero */
            float4 low = KV_FOUR(row[u].at + at), high = KV_FOUR(row[u].at + HALF + at);
            if (turned) {
                const float4 cosine = *(__global const float4 *)(row[u].turn + at), was = low;
                const float4 sine = *(__global const float4 *)(row[u].turn + HALF + at);
                low = was * cosine + high * sine;
                high = high * cosine - was * sine;
            }
            low -= *(__local const float4 *)(means + d);
            high -= *(__local const float4 *)(means + SIDE + d);
            x[4 * s][u][0] = rounded(low.x);
            x[4 * s][u][1] = rounded(low.y);
            x[4 * s + 1][u][0] = rounded(low.z);
            x[4 * s + 1][u][1] = rounded(low.w);
            x[4 * s + 2][u][0] = rounded(high.x);
            x[4 * s + 2][u][1] = rounded(high.y);
            x[4 * s + 3][u][0] = rounded(high.z);
            x[4 * s + 3][u][1] = rounded(high.w);
        }
}

/* z of a tile: rows 4 c .. 4 c + 3 of dimensions g, and g + 8. */
PTX_CALL void project(__local const uint4 *q, uint (*x)[2][2], float4 *low, float4 *high) {
    const int lane = (int)get_local_id(0) % 32;
    float sum[2][4] = {{0.0f, 0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.0f, 0.0f}};
#pragma unroll
    for (int p = 0; p < PRODUCTS; p++) {
        const uint4 own = q[p * 32 + lane];
        const uint a[4] = {own.x, own.y, own.z, own.w};
#pragma unroll
        for (int u = 0; u < 2; u++) PTX_MMA_TF32(sum[u], a, x[p][u][0], x[p][u][1]);
    }
    *low = (float4)(sum[0][0], sum[0][1], sum[1][0], sum[1][1]);
    *high = (float4)(sum[0][2], sum[0][3], sum[1][2], sum[1][3]);
}

/* 1.5 2^23: to what is added to it, rounded down, its last bits are the integer. */
#define INTEGERS 0x4b400000u

/* How a dimension is cut: levels of a unit as a float's bits, bits, its first word in a block, 2^bits - 1. */
PTX_CALL uint4 how_of(float step, uint widths, int i) {
    const uint bits = (uint)bits_of(widths, i);
    return (uint4)(as_uint(1.0f / step), bits, (uint)word_of(widths, i), (1u << bits) - 1u);
}

PTX_CALL uint code_of(float z, uint4 how) {
    const float level = fma_down(z, as_float(how.x), as_float(INTEGERS + (how.w + 1u) / 2u));
    return as_uint(ptx_min(ptx_max(level, as_float(INTEGERS)), as_float(INTEGERS + how.w))) & how.w;
}

/* Codes of rows 4 c .. 4 c + 3 of a block in a dimension, which lanes beside one another make words of; there: of a dimension
 * that has bits. */
PTX_CALL void put_codes(float4 z, uint4 how, bool there, int c, __global uint *block) {
    const uint bits = how.y, at = 4u * bits * (uint)c;
    uint some = code_of(z.x, how) | code_of(z.y, how) << bits | code_of(z.z, how) << 2u * bits | code_of(z.w, how) << 3u * bits;
    some <<= at % 32u;
    const uint other = ptx_butterfly_uint(some, 1);
    if (bits < 8) some |= other;
    const uint others = ptx_butterfly_uint(some, 2);
    if (bits < 4) some |= others;
    if (there && at % 32u == 0) block[how.z + at / 32u] = some;
}

/* The larger of each of two halves; no larger than a half can be, either way. */
PTX_CALL uint larger_of(uint a, uint b) {
    uint r;
    __asm__("max.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
PTX_CALL uint within_range(uint x) {
    uint r;
    __asm__("min.f16x2 %0, %1, %2;" : "=r"(r) : "r"(x), "r"(0x7bff7bffu));
    return larger_of(r, 0xfbfffbffu);
}

/* The largest of a dimension's z in local memory, of `rows` rows, whole blocks: a warp's work. */
PTX_CALL float largest(__local const ushort *z, int rows) {
    const int lane = (int)get_local_id(0) % 32;
    uint4 most = 0;
    for (int t = lane; t < rows / 8; t += 32) {
        const uint4 x = *(__local const uint4 *)(z + 8 * t) & 0x7fff7fffu;
        most = (uint4)(larger_of(most.x, x.x), larger_of(most.y, x.y), larger_of(most.z, x.z), larger_of(most.w, x.w));
    }
    const float2 two = ptx_f16_floats(larger_of(larger_of(most.x, most.y), larger_of(most.z, most.w)));
    float top = ptx_max(two.x, two.y);
    for (uint b = 16; b; b /= 2) top = ptx_max(top, ptx_butterfly(top, b));
    return top;
}

/* What the first `tried` fractions miss of a value whose largest is 1: errors += miss^4. Of two bits levels are known without a
 * division: they lie half a step from a step, on either side. */
PTX_CALL void add_misses(float value, float half_levels, int tried, float *errors) {
    const float fractions[VLCI_CODE_STEPS] = {1.0f, 0.85f, 0.7f, 0.55f, 0.42f, 0.32f, 0.24f, 0.18f, 0.13f};
    const float a = fabs(value), zero = as_float(INTEGERS);
#pragma unroll
    for (int f = 0; f < tried; f++) {
        const float step = fractions[f] / half_levels;
        float miss;
        if (half_levels == 2.0f)
            miss = fabs(a - step) - 0.5f * step;
        else
            miss = (ptx_min(fma_down(a, half_levels / fractions[f], zero), zero + (half_levels - 1.0f)) - zero) * step +
                   (0.5f * step - a);
        const float two = miss * miss;
        errors[f] += two * two;
    }
}

/* The fraction of least error of a dimension's z, of n rows whose largest is 1 / unit, of the first `tried`: a warp's work. */
PTX_CALL float find_fraction(__local const ushort *z, int n, float unit, float half_levels, int tried) {
    const float fractions[VLCI_CODE_STEPS] = {1.0f, 0.85f, 0.7f, 0.55f, 0.42f, 0.32f, 0.24f, 0.18f, 0.13f};
    const int lane = (int)get_local_id(0) % 32;
    float errors[VLCI_CODE_STEPS], best, fraction = 1.0f;
#pragma unroll
    for (int f = 0; f < tried; f++) errors[f] = 0.0f;
#pragma unroll 1
    for (int t = lane; t < n / 8; t += 32) {
        const uint4 x = *(__local const uint4 *)(z + 8 * t);
        const float2 a = ptx_f16_floats(x.x), b = ptx_f16_floats(x.y);
        const float2 c = ptx_f16_floats(x.z), d = ptx_f16_floats(x.w);
        add_misses(a.x * unit, half_levels, tried, errors);
        add_misses(a.y * unit, half_levels, tried, errors);
        add_misses(b.x * unit, half_levels, tried, errors);
        add_misses(b.y * unit, half_levels, tried, errors);
        add_misses(c.x * unit, half_levels, tried, errors);
        add_misses(c.y * unit, half_levels, tried, errors);
        add_misses(d.x * unit, half_levels, tried, errors);
        add_misses(d.y * unit, half_levels, tried, errors);
    }
    if (lane < n % 8) add_misses(ptx_f16_floats(z[n / 8 * 8 + lane]).x * unit, half_levels, tried, errors);
#pragma unroll
    for (int f = 0; f < tried; f++) {
        for (uint b = 16; b; b /= 2) errors[f] += ptx_butterfly(errors[f], b);
        if (f && errors[f] >= best) continue;
        best = errors[f];
        fraction = fractions[f];
    }
    return fraction;
}

/*
 * As code_step has it, of as many ranges as may be the best: of a range f the largest value, which is 1, misses
 * 1 - f (1 - 1 / (2 half_levels)), of the whole range none more than 1 / (2 half_levels). So of so few rows as a sample has that
 * is the best of 8 bits, and of 4 bits none below 0.7 is: 2064 / 16^4 < (1 - 0.55 15 / 16)^4.
 */
PTX_CALL float choose_fraction(__local const ushort *z, int n, float unit, int bits) {
    if (bits == 8) return 1.0f;
    return bits == 4 ? find_fraction(z, n, unit, 8.0f, 3) : find_fraction(z, n, unit, 2.0f, VLCI_CODE_STEPS);
}

/* Codes of n rows, the first of them in the lowest bits; levels: of a unit. `bits` is known where it is called. */
PTX_CALL uint word_of_rows(const float *z, int n, float levels, int bits) {
    const float least = as_float(INTEGERS), most = as_float(INTEGERS + (1u << bits) - 1u);
    const float middle = as_float(INTEGERS + (1u << (bits - 1)));
    uint word = 0, over = 0;
#pragma unroll
    for (int r = n - 1; r >= 0; r--) {
        word = (word << bits) + as_uint(ptx_min(ptx_max(fma_down(z[r], levels, middle), least), most));
        over = (over << bits) + INTEGERS;
    }
    return word - over;
}

/* A block of rows of a dimension, z in local memory, to its words. */
PTX_CALL void put_block(__local const ushort *z, float levels, int bits, __global uint *to) {
    float x[BLOCK];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const uint4 some = *(__local const uint4 *)(z + 8 * h);
        const float2 a = ptx_f16_floats(some.x), b = ptx_f16_floats(some.y);
        const float2 c = ptx_f16_floats(some.z), d = ptx_f16_floats(some.w);
        x[8 * h] = a.x;
        x[8 * h + 1] = a.y;
        x[8 * h + 2] = b.x;
        x[8 * h + 3] = b.y;
        x[8 * h + 4] = c.x;
        x[8 * h + 5] = c.y;
        x[8 * h + 6] = d.x;
        x[8 * h + 7] = d.y;
    }
    if (bits == 2)
        to[0] = word_of_rows(x, 16, levels, 2);
    else if (bits == 4) {
        to[0] = word_of_rows(x, 8, levels, 4);
        to[1] = word_of_rows(x + 8, 8, levels, 4);
    } else
#pragma unroll
        for (int w = 0; w < 4; w++) to[w] = word_of_rows(x + 4 * w, 4, levels, 8);
}

/* z of a block of rows that have been taken, in `tiles` tiles, as halves: [own][pitch]. */
PTX_CALL void put_z(__local const uint4 *q, int tiles, int own, int pitch, uint (*x)[2][2], __local ushort *z) {
    const int lane = (int)get_local_id(0) % 32, g = lane / 4, c = lane % 4;
#pragma unroll 1
    for (int u = 0; u < tiles; u++) {
        const int i = u * TILE + g;
        __local ushort *to = z + i * pitch + 4 * c;
        float4 low, high;
        project(q + u * PRODUCTS * 32, x, &low, &high);
        const uint2 a = (uint2)(within_range(ptx_f16x2(low.x, low.y)), within_range(ptx_f16x2(low.z, low.w)));
        const uint2 b = (uint2)(within_range(ptx_f16x2(high.x, high.y)), within_range(ptx_f16x2(high.z, high.w)));
        if (i < own) *(__local uint2 *)to = a;
        if (i + 8 < own) *(__local uint2 *)(to + 8 * pitch) = b;
    }
}

/* z of a sample: one block of each `stride`, in turns with the other warps; turned: rows of keys. */
PTX_CALL void find_z(BLOCK_PARAMS, int stride, int m, bool turned, __local const float *means, __local const uint4 *q, int tiles,
                     int own, int pitch, __local ushort *z) {
    const int warp = (int)get_local_id(0) / 32, blocks = (n + BLOCK - 1) / BLOCK, taken = (blocks + stride - 1) / stride;
    row_t row[2];
    find_block(rows, before, positions, n, run, phase, sampled(min(warp, taken - 1), stride, blocks) * BLOCK, m, row);
#pragma unroll 1
    for (int t = warp; t < taken; t += WARPS) {
        uint x[PRODUCTS][2][2];
        const int next = sampled(min(t + WARPS, taken - 1), stride, blocks);
        take_block(row, turned, means, x);
        find_block(rows, before, positions, n, run, phase, next * BLOCK, m, row);
        put_z(q, tiles, own, pitch, x, z + t * BLOCK);
    }
}

/* Work-group (part, m): steps, and factor times them, of `room` dimensions of matrix first + m at most: of one block of each
 * `stride`; where that is 1 their codes, too. z in local memory are halves, `pitch` from a dimension to the next, in units of
 * their own; a warp has a dimension at a time. smem: VLCI_CODE_STEPS_BYTES(HEAD_DIM), and 2 pitch room. */
__attribute__((reqd_work_group_size(VLCI_CODE_PACK_ITEMS, 1, 1))) __kernel void
code_steps_mma(SOURCE_PARAMS, int stride, __global const half *mean, __global const float *basis, int columns, uint basis_at,
               __global const float *energy, __global const vlci_code_matrix *matrix, uint first, int most, int room, int pitch,
               __global float *steps, __global float *factor, __global uint *words) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float *means = (__local float *)smem;
    __local uint4 *q = (__local uint4 *)(means + 2 * SIDE);
    __local ushort *z = (__local ushort *)(q + VLCI_CODE_STEPS_DIMS / TILE * PRODUCTS * 32);
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, m = (int)get_group_id(1);
    const int blocks = (n + BLOCK - 1) / BLOCK, taken = (blocks + stride - 1) / stride;
    const vlci_code_matrix of = matrix[first + m];
    const int dims = VLCI_CODE_DIMS(of.widths), each = VLCI_CODE_WORDS(of.widths), parts = (dims + room - 1) / room;
    const int own_most = parts ? min(((dims + parts - 1) / parts + 7) / 8 * 8, room) : 0, from = (int)get_group_id(0) * own_most;
    const int own = min(own_most, dims - from), tiles = (own + TILE - 1) / TILE;
    if (own <= 0) return; /* all of a work-group: before any barrier */
    energy += ((size_t)first + m) * columns;
    take_basis(basis + ((size_t)basis_at + m) * columns * HEAD_DIM, from, dims, tiles, energy, q);
    take_means(mean + ((size_t)first + m) * HEAD_DIM, means);
    barrier(CLK_LOCAL_MEM_FENCE);
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const int before = keep[keep_at + m / 2].before;
    if (m % 2)
        find_z(BLOCK_PASS, stride, 1, false, means, q, tiles, own, pitch, z);
    else
        find_z(BLOCK_PASS, stride, 0, true, means, q, tiles, own, pitch, z);
    barrier(CLK_LOCAL_MEM_FENCE);
    const int valid = taken * BLOCK - max(sampled(taken - 1, stride, blocks) * BLOCK + BLOCK - n, 0);
    words += of.words;
#pragma unroll 1
    for (int i = warp; i < own; i += WARPS) {
        __local const ushort *at = z + i * pitch;
        const int bits = bits_of(of.widths, from + i), word = word_of(of.widths, from + i);
        const float unit = unit_of(energy[from + i]), top = fmax(largest(at, taken * BLOCK), 1e-9f * unit);
        const float step = top * choose_fraction(at, valid, 1.0f / top, bits) / (float)(1 << (bits - 1));
        if (lane == 0) {
            steps[(size_t)m * most + from + i] = step / unit;
            factor[of.dim + from + i] *= step / unit;
        }
        if (stride == 1)
            for (int b = lane; b < blocks; b += 32) put_block(at + b * BLOCK, 1.0f / step, bits, words + (size_t)b * each + word);
    }
}

/* Work-group (part, m): codes of matrix first + m, of one block of so many for each warp.
 * smem: VLCI_CODE_PACK_BYTES(HEAD_DIM). */
__attribute__((reqd_work_group_size(VLCI_CODE_PACK_ITEMS, 1, 1))) __kernel void
code_pack_mma(SOURCE_PARAMS, __global const half *mean, __global const float *basis, int columns, uint basis_at,
              __global const vlci_code_matrix *matrix, uint first, int most, __global const float *steps, __global uint *words) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local uint4 *how = (__local uint4 *)smem, *q = how + (HEAD_DIM + TILE - 1) / TILE * TILE;
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(1), blocks = (n + BLOCK - 1) / BLOCK;
    const vlci_code_matrix of = matrix[first + m];
    const int dims = VLCI_CODE_DIMS(of.widths), each = VLCI_CODE_WORDS(of.widths), tiles = (dims + TILE - 1) / TILE;
    __local float *means = (__local float *)(q + (HEAD_DIM + TILE - 1) / TILE * PRODUCTS * 32);
    for (int i = item; i < tiles * TILE; i += VLCI_CODE_PACK_ITEMS)
        how[i] = i < dims ? how_of(steps[(size_t)m * most + i], of.widths, i) : (uint4)(0, 2, 0, 3);
    take_basis(basis + ((size_t)basis_at + m) * columns * HEAD_DIM, 0, dims, tiles, NULL, q);
    take_means(mean + ((size_t)first + m) * HEAD_DIM, means);
    barrier(CLK_LOCAL_MEM_FENCE);
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const int before = keep[keep_at + m / 2].before;
#pragma unroll 1
    for (int b = (int)get_group_id(0) * WARPS + warp; b < blocks; b += (int)get_num_groups(0) * WARPS) {
        uint x[PRODUCTS][2][2];
        __global uint *to = words + of.words + (size_t)b * each;
        row_t row[2];
        find_block(BLOCK_PASS, b * BLOCK, m, row);
        if (m % 2)
            take_block(row, false, means, x);
        else
            take_block(row, true, means, x);
#pragma unroll 1
        for (int t = 0; t < tiles; t++) {
            float4 low, high;
            project(q + t * PRODUCTS * 32, x, &low, &high);
            put_codes(low, how[t * TILE + g], t * TILE + g < dims, c, to);
            put_codes(high, how[t * TILE + g + 8], t * TILE + g + 8 < dims, c, to);
        }
    }
}
