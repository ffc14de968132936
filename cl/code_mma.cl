/*
 * code_mma.cl - code_project and code_pack of code.cl, code_covariance of code_basis.cl: on matrix units of NVIDIA's GPUs since
 * sm_80.
 *
 *     project          z(m, i, j) = q(m, i) . x(m, j)       of all dimensions that have bits, x less its mean
 *     pack             codes of all rows, where steps are of a sample's z
 *     covariance       parts of sums over j of x x^T
 *
 * project: a warp has a block of 16 rows and every second tile of 8 dimensions, or all where they are few. First factors it
 * makes as it goes: SLICE dimensions of the row and those that they are turned with, a lane two of each. Second factors are a
 * slice of the basis, in local memory for all warps; the next of both is on its way meanwhile.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:      rows g, g + 8       elements 2 c, 2 c + 1 of a slice's halves
 *                                                           z: dimensions 2 c of a tile and the next
 *
 * tf32 has 11 bits: what it leaves of a number is another, so that of x q all but 2^-22 is there:
 * x q = first first + first rest + rest first.
 *
 * Of n rows with D dimensions: 3 n D HEAD_DIM multiply-adds; reads n HEAD_DIM numbers once, and the basis for each BLOCKS blocks;
 * writes n D floats, or codes of them.
 *
 * with: code.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=80 -DKV_DTYPE=1
 * ptx: sm_90 -DHEAD_DIM=64 -DKV_DTYPE=2
 */
enum {
    LANES = VLCI_CODE_MMA_ITEMS,
    SLICE = 8,
    SLICES = HALF / SLICE,
    TILES = HEAD_DIM / 8,                  /* of dimensions */
    SIDES = TILES > 4 ? 2 : 1,             /* warps of a block of rows: every second tile each */
    OWN = TILES / SIDES,
    BLOCKS = LANES / 32 / SIDES,           /* of a work-group */
    AT_ONCE = 4,                           /* tiles, none of whose sums waits for another's */
    EACH = (HEAD_DIM * SLICE + LANES - 1) / LANES /* pairs of a slice of the basis that a work-item brings */
};

#if KV_DTYPE == VLCI_DTYPE_F32
#define KV_PAIR(p) vload2(0, p)
#elif KV_DTYPE == VLCI_DTYPE_F16
#define KV_PAIR(p) (float2)(vload_half(0, p), vload_half(1, p))
#else
#define KV_PAIR(p) pair_of(*(__global const uint *)(p))
PTX_CALL float2 pair_of(uint u) { return (float2)(as_float(u << 16), as_float(u & 0xffff0000u)); }
#endif

/* What tf32 has of x. */
PTX_CALL float first_of(float x) { return as_float(as_uint(x) & 0xffffe000u); }

/* Pair e of a slice: of dimension e / SLICE, elements 2 (e % 4) and the next of the half e % SLICE / 4. */
PTX_CALL float2 pair_of_basis(__global const float *basis, int slice, int e, int dims) {
    const int i = e / SLICE, d = e % SLICE / 4 * HALF + slice * SLICE + e % 4 * 2;
    return i < dims ? *(__global const float2 *)(basis + i * HEAD_DIM + d) : (float2)(0.0f);
}

/* Dimension e of the own tiles' t of a warp's side. */
PTX_CALL int dim_of(int t, int side, int e) { return (t * SIDES + side) * 8 + e; }

/* Of a work-item: rows g and g + 8 of its warp's block, from row j0 on, times the basis: z[t][2 r + e] is row g + 8 r in
 * dimension dim_of(t, side, 2 c + e). means: room for a row's. */
PTX_CALL void project(SOURCE_PARAMS, __global const half *mean, __global const float *basis, int dims, int m, int j0,
                      __local float4 (*slices)[2 * TILES * 32], __local float *means, int side, float (*z)[4]) {
    const int item = (int)get_local_id(0), lane = item % 32, g = lane / 4, c = lane % 4;
    const row_t low_row = find_row(SOURCE_PASS, m, min(j0 + g, n - 1));
    const row_t high_row = find_row(SOURCE_PASS, m, min(j0 + g + 8, n - 1));
    float2 coming[EACH], x_low[2], x_high[2], cosine[2], sine[2];
#pragma unroll
    for (int t = 0; t < OWN; t++) z[t][0] = z[t][1] = z[t][2] = z[t][3] = 0.0f;
    for (int d = item; d < HEAD_DIM; d += LANES) means[d] = vload_half(d, mean);
#pragma unroll
    for (int t = 0; t < EACH; t++) coming[t] = pair_of_basis(basis, 0, item + t * LANES, dims);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const row_t row = r ? high_row : low_row;
        x_low[r] = KV_PAIR(row.at + 2 * c);
        x_high[r] = KV_PAIR(row.at + HALF + 2 * c);
        cosine[r] = row.turn ? *(__global const float2 *)(row.turn + 2 * c) : (float2)(1.0f);
        sine[r] = row.turn ? *(__global const float2 *)(row.turn + HALF + 2 * c) : (float2)(0.0f);
    }
#pragma unroll 1
    for (int s = 0; s < SLICES; s++) {
        __local float4 *here = slices[s % 2];
        uint top[2][4], rest[2][4];
#pragma unroll
        for (int t = 0; t < EACH; t++) {
            const int e = item + t * LANES, i = e / SLICE;
            const float2 x = coming[t], x_top = (float2)(first_of(x.x), first_of(x.y));
            if (e < HEAD_DIM * SLICE)
                here[(e % SLICE / 4 * TILES + i / 8) * 32 + i % 8 * 4 + e % 4] =
                    (float4)(x_top.x, x_top.y, x.x - x_top.x, x.y - x_top.y);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const float2 mean_low = *(__local const float2 *)(means + s * SLICE + 2 * c);
            const float2 mean_high = *(__local const float2 *)(means + HALF + s * SLICE + 2 * c);
            const float2 low = x_low[r] * cosine[r] + x_high[r] * sine[r] - mean_low;
            const float2 high = x_high[r] * cosine[r] - x_low[r] * sine[r] - mean_high;
            const float x[4] = {low.x, low.y, high.x, high.y};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float one = j0 + g + 8 * r < n ? x[e] : 0.0f;
                top[e / 2][e % 2 * 2 + r] = as_uint(first_of(one));
                rest[e / 2][e % 2 * 2 + r] = as_uint(one - first_of(one));
            }
        }
        if (s + 1 < SLICES) { /* the next slice is on its way meanwhile */
            const int d = (s + 1) * SLICE + 2 * c;
#pragma unroll
            for (int t = 0; t < EACH; t++) coming[t] = pair_of_basis(basis, s + 1, item + t * LANES, dims);
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const row_t row = r ? high_row : low_row;
                x_low[r] = KV_PAIR(row.at + d);
                x_high[r] = KV_PAIR(row.at + HALF + d);
                if (row.turn) {
                    cosine[r] = *(__global const float2 *)(row.turn + d);
                    sine[r] = *(__global const float2 *)(row.turn + HALF + d);
                }
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int t = 0; t < OWN; t += AT_ONCE)
                if (dim_of(t, side, 0) < dims) {
                    float4 q[AT_ONCE];
#pragma unroll
                    for (int u = 0; u < AT_ONCE; u++)
                        if (t + u < OWN) q[u] = here[(h * TILES + (t + u) * SIDES + side) * 32 + lane];
#pragma unroll
                    for (int u = 0; u < AT_ONCE; u++)
                        if (t + u < OWN) PTX_MMA_TF32(z[t + u], top[h], as_uint(q[u].x), as_uint(q[u].y));
#pragma unroll
                    for (int u = 0; u < AT_ONCE; u++)
                        if (t + u < OWN) PTX_MMA_TF32(z[t + u], top[h], as_uint(q[u].z), as_uint(q[u].w));
#pragma unroll
                    for (int u = 0; u < AT_ONCE; u++)
                        if (t + u < OWN) PTX_MMA_TF32(z[t + u], rest[h], as_uint(q[u].x), as_uint(q[u].y));
                }
    }
}

/* As code_project, of BLOCKS blocks; of one block of each `stride`, which lie together in z. */
__attribute__((reqd_work_group_size(VLCI_CODE_MMA_ITEMS, 1, 1))) __kernel void
code_project_mma(SOURCE_PARAMS, int stride, __global const half *mean, int padded, __global const float *basis, int columns,
                 uint basis_at, __global const vlci_code_matrix *matrix, uint first, int most, __global float *z) {
    __local float4 slices[2][2 * TILES * 32]; /* [half][tile][lane]: a pair, and what tf32 leaves of it */
    __local float means[HEAD_DIM] __attribute__((aligned(16)));
    const int item = (int)get_local_id(0), warp = item / 32, g = item % 32 / 4, c = item % 4, side = warp % SIDES;
    const int m = (int)get_group_id(1), nth = (int)get_group_id(0) * BLOCKS + warp / SIDES;
    const int j0 = sampled(nth, stride, (n + BLOCK - 1) / BLOCK) * BLOCK, dims = VLCI_CODE_DIMS(matrix[first + m].widths);
    float acc[OWN][4];
    project(SOURCE_PASS, mean + ((size_t)first + m) * HEAD_DIM, basis + ((size_t)basis_at + m) * columns * HEAD_DIM, dims, m, j0,
            slices, means, side, acc);
    z += (size_t)m * most * padded + nth * BLOCK + g;
#pragma unroll
    for (int t = 0; t < OWN; t++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int i = dim_of(t, side, 2 * c + e % 2);
            if (i < dims && nth * BLOCK < padded) z[(size_t)i * padded + e / 2 * 8] = acc[t][e];
        }
}

/* Of 4 numbers in bytes the low bits, side by side. */
PTX_CALL uint fours_of(uint x) {
    const uint y = (x | x >> 4) & 0x00ff00ffu;
    return (y | y >> 8) & 0xffffu;
}
PTX_CALL uint twos_of(uint x) {
    const uint y = (x | x >> 6) & 0x000f000fu;
    return (y | y >> 12) & 0xffu;
}

/* Rows to codes without a z between, where steps are known: a block in bytes, a dimension after another, then in bits. */
__attribute__((reqd_work_group_size(VLCI_CODE_MMA_ITEMS, 1, 1))) __kernel void
code_pack_mma(SOURCE_PARAMS, __global const half *mean, __global const float *basis, int columns, uint basis_at,
              __global const vlci_code_matrix *matrix, uint first, int most, __global const float *steps, __global uint *words) {
    __local float4 slices[2][2 * TILES * 32];
    __local float means[HEAD_DIM] __attribute__((aligned(16))), levels[HEAD_DIM];
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(1), b = (int)get_group_id(0) * BLOCKS + warp / SIDES, side = warp % SIDES;
    const vlci_code_matrix own = matrix[first + m];
    const int dims = VLCI_CODE_DIMS(own.widths);
    __local uchar *codes = (__local uchar *)slices + warp / SIDES * HEAD_DIM * BLOCK;
    float acc[OWN][4];
    project(SOURCE_PASS, mean + ((size_t)first + m) * HEAD_DIM, basis + ((size_t)basis_at + m) * columns * HEAD_DIM, dims, m,
            b * BLOCK, slices, means, side, acc);
    for (int i = item; i < dims; i += LANES) levels[i] = 1.0f / steps[(size_t)m * most + i];
    barrier(CLK_LOCAL_MEM_FENCE); /* slices have been read */
#pragma unroll
    for (int t = 0; t < OWN; t++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int i = dim_of(t, side, 2 * c + e);
            if (i >= dims) continue;
            const float half_levels = (float)(1 << (bits_of(own.widths, i) - 1));
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const float at = floor(acc[t][2 * r + e] * levels[i]);
                codes[i * BLOCK + g + 8 * r] = (uchar)(int)(fmin(fmax(at, -half_levels), half_levels - 1.0f) + half_levels);
            }
        }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (b * BLOCK >= n) return;
    words += own.words + (size_t)b * VLCI_CODE_WORDS(own.widths);
    for (int i = side * 32 + lane; i < dims; i += 32 * SIDES) {
        const uint4 all = *(__local const uint4 *)(codes + i * BLOCK);
        const int bits = bits_of(own.widths, i);
        __global uint *to = words + word_of(own.widths, i);
        if (bits == 8) {
            to[0] = all.x;
            to[1] = all.y;
            to[2] = all.z;
            to[3] = all.w;
        } else if (bits == 4) {
            to[0] = fours_of(all.x) | fours_of(all.y) << 16;
            to[1] = fours_of(all.z) | fours_of(all.w) << 16;
        } else
            to[0] = twos_of(all.x) | twos_of(all.y) << 8 | twos_of(all.z) << 16 | twos_of(all.w) << 24;
    }
}

/* ---- covariance ---------------------------------------------------------------------------------------------- */

/*
 * A work-group has all of a part: a warp DOWN_EACH dimensions by ACROSS_EACH, as code_covariance has it of those with d <= e
 * alone. Both factors are the same rows, TOGETHER of them in local memory, split as above; the next are on their way meanwhile,
 * and where those behind them lie is asked for.
 *
 *     of a lane of a warp:      rows c, c + 4 of 8      dimensions d + g, d + g + 8 by e + g
 *                               C: d + g by e + 2 c and the next
 */
enum {
    TOGETHER = 32,
    PITCH = HEAD_DIM + 8, /* 8 or 24 of 32 banks on: rows c and dimensions g lie in different ones */
    OF_ROW = LANES / TOGETHER, /* work-items that bring a row, 4 dimensions and as many of the other half each */
    DOWN_EACH = 32,
    ACROSS_EACH = 32
};

/* Work-group (share, m) of `share` rows. parts: [m][shares][HEAD_DIM][HEAD_DIM]. */
__attribute__((reqd_work_group_size(VLCI_CODE_MMA_ITEMS, 1, 1))) __kernel void
code_covariance_mma(SOURCE_PARAMS, int stride, __global const half *mean, uint first, int share, __global float *parts) {
    __local float top[TOGETHER * PITCH] __attribute__((aligned(16))), rest[TOGETHER * PITCH] __attribute__((aligned(16)));
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(1), s = (int)get_group_id(0), shares = (int)get_num_groups(0);
    const int from = s * share, until = min(from + share, (n + stride - 1) / stride);
    const int d0 = warp / 4 * DOWN_EACH, e0 = warp % 4 * ACROSS_EACH;
    const bool works = d0 < HEAD_DIM && e0 < HEAD_DIM && d0 < e0 + ACROSS_EACH;
    const int own = item / OF_ROW, d = min(item % OF_ROW * 4, HALF - 4);
    const bool brings = item % OF_ROW * 4 < HALF;
    const float4 mean_low = vloada_half4(0, mean + ((size_t)first + m) * HEAD_DIM + d);
    const float4 mean_high = vloada_half4(0, mean + ((size_t)first + m) * HEAD_DIM + HALF + d);
    float acc[DOWN_EACH / 16][ACROSS_EACH / 8][4];
#pragma unroll
    for (int i = 0; i < DOWN_EACH / 16; i++)
#pragma unroll
        for (int t = 0; t < ACROSS_EACH / 8; t++) acc[i][t][0] = acc[i][t][1] = acc[i][t][2] = acc[i][t][3] = 0.0f;
    row_t row = find_row(SOURCE_PASS, m, sampled(min(from + own, until - 1), stride, n));
    float4 low = KV_FOUR(row.at + d), high = KV_FOUR(row.at + HALF + d), cosine = 1.0f, sine = 0.0f;
    if (row.turn) {
        cosine = *(__global const float4 *)(row.turn + d);
        sine = *(__global const float4 *)(row.turn + HALF + d);
    }
    row = find_row(SOURCE_PASS, m, sampled(min(from + TOGETHER + own, until - 1), stride, n));
#pragma unroll 1
    for (int j0 = from; j0 < until; j0 += TOGETHER) {
        if (brings) {
            const float4 x = low * cosine + high * sine - mean_low, y = high * cosine - low * sine - mean_high;
            const bool there = j0 + own < until;
            const float4 a = there ? x : (float4)(0.0f), b = there ? y : (float4)(0.0f);
            const float4 a_top = as_float4(as_uint4(a) & 0xffffe000u), b_top = as_float4(as_uint4(b) & 0xffffe000u);
            *(__local float4 *)(top + own * PITCH + d) = a_top;
            *(__local float4 *)(top + own * PITCH + HALF + d) = b_top;
            *(__local float4 *)(rest + own * PITCH + d) = a - a_top;
            *(__local float4 *)(rest + own * PITCH + HALF + d) = b - b_top;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        low = KV_FOUR(row.at + d);
        high = KV_FOUR(row.at + HALF + d);
        if (row.turn) {
            cosine = *(__global const float4 *)(row.turn + d);
            sine = *(__global const float4 *)(row.turn + HALF + d);
        }
        row = find_row(SOURCE_PASS, m, sampled(min(j0 + 2 * TOGETHER + own, until - 1), stride, n));
        if (works)
#pragma unroll 2
            for (int k = 0; k < TOGETHER; k += 8) {
                __local const float *near = top + (k + c) * PITCH + g, *far = rest + (k + c) * PITCH + g;
                uint one[DOWN_EACH / 16][4], other[DOWN_EACH / 16][4];
#pragma unroll
                for (int i = 0; i < DOWN_EACH / 16; i++)
#pragma unroll
                    for (int r = 0; r < 4; r++) {
                        const int at = r / 2 * 4 * PITCH + min(d0 + 16 * i + r % 2 * 8, HEAD_DIM - 8);
                        one[i][r] = as_uint(near[at]);
                        other[i][r] = as_uint(far[at]);
                    }
#pragma unroll
                for (int t = 0; t < ACROSS_EACH / 8; t += 2) {
                    uint b[2][4];
#pragma unroll
                    for (int u = 0; u < 2; u++) {
                        const int at = min(e0 + 8 * (t + u), HEAD_DIM - 8);
                        b[u][0] = as_uint(near[at]);
                        b[u][1] = as_uint(near[at + 4 * PITCH]);
                        b[u][2] = as_uint(far[at]);
                        b[u][3] = as_uint(far[at + 4 * PITCH]);
                    }
#pragma unroll
                    for (int p = 0; p < 3; p++) /* none waits for the one before it */
#pragma unroll
                        for (int u = 0; u < 2; u++)
#pragma unroll
                            for (int i = 0; i < DOWN_EACH / 16; i++) {
                                const uint *left = p == 2 ? other[i] : one[i], *right = b[u] + (p == 1 ? 2 : 0);
                                PTX_MMA_TF32(acc[i][t + u], left, right[0], right[1]);
                            }
                }
            }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    parts += ((size_t)m * shares + s) * HEAD_DIM * HEAD_DIM;
#pragma unroll
    for (int i = 0; i < DOWN_EACH / 16; i++)
#pragma unroll
        for (int t = 0; t < ACROSS_EACH / 8; t++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const int to = d0 + 16 * i + 8 * r + g, e = e0 + 8 * t + 2 * c;
                if (works && to < HEAD_DIM && e < HEAD_DIM)
                    *(__global float2 *)(parts + (size_t)to * HEAD_DIM + e) = (float2)(acc[i][t][2 * r], acc[i][t][2 * r + 1]);
            }
}
