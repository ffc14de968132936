/*
 * code_mma.cl - code_project and code_pack of code.cl, code_covariance of code_basis.cl: on matrix units of NVIDIA's GPUs since
 * sm_80.
 *
 *     project          z(m, i, j) = q(m, i) . x(m, j)       of all dimensions that have bits, x less its mean
 *     pack             codes of all rows, where steps are of a sample's z
 *     covariance       parts of sums over j of x x^T
 *
 * project: a work-group has the basis of a matrix in local memory, and ROUNDS times AT_ONCE rows, of which a warp takes a block
 * of 16: no warp waits for another. First factors it makes as it goes, SLICE dimensions of a half of the row and those that they
 * are turned with, a lane four of each: which of the dimensions stands where in a product is all one, as long as both factors
 * agree.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:      rows g, g + 8       elements 4 c .. 4 c + 3 of a slice's halves
 *                                                           z: dimensions 2 c of a tile of 8 and the next
 *
 * tf32 has 11 bits, to which both factors are rounded: what codes of 8 bits at most are cut from is 2^-11 of a row's length off
 * at most, and 2^-15 as a rule; covariances are sums over so many rows that it is less.
 *
 * Of n rows with D dimensions: n D HEAD_DIM multiply-adds; reads n HEAD_DIM numbers once, or twice, and the basis for each
 * ROUNDS AT_ONCE rows; writes n D floats, or codes of them.
 *
 * with: code.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=80 -DKV_DTYPE=1
 * ptx: sm_90 -DHEAD_DIM=64 -DKV_DTYPE=2
 */
enum {
    TILES = HEAD_DIM / 8,                  /* of dimensions */
    WARPS = VLCI_CODE_PACK_ITEMS / 32,
    SLICE = 16,
    SLICES = (HALF + SLICE - 1) / SLICE,
    SIDE = SLICE * SLICES,                 /* of a half, zero behind it */
    PITCH_OF = VLCI_CODE_PACK_PITCH(HEAD_DIM) /* floats from a dimension of the basis to the next: half of the banks on */
};

/* x as if it were not known: else what is made of it is kept in registers from round to round. */
#define FRESH(x) __asm__ volatile("" : "+r"(x))

/* Rounded to what tf32 has; what is no number stays none, which an addition to its bits would lose. */
PTX_CALL uint nearest_of(float x) {
    uint r;
    __asm__ volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}
PTX_CALL uint4 nearest_of4(float4 x) { return (uint4)(nearest_of(x.x), nearest_of(x.y), nearest_of(x.z), nearest_of(x.w)); }

/* The basis and the mean of a matrix; dimensions that have no bits are zero. Barrier behind. */
PTX_CALL void take_basis(__global const float *basis, __global const half *mean, int dims, __local uint *q,
                         __local float *means) {
    enum { FOURS = 2 * SIDE / 4 };
    const int item = (int)get_local_id(0), whole = (dims + 7) / 8 * 8;
    for (int e = item; e < whole * FOURS; e += VLCI_CODE_PACK_ITEMS) {
        const int i = e / FOURS, at = e % FOURS * 4, d = at % SIDE;
        float4 x = 0.0f;
        if (i < dims && d < HALF) x = *(__global const float4 *)(basis + i * HEAD_DIM + at / SIDE * HALF + d);
        *(__local uint4 *)(q + i * PITCH_OF + at) = nearest_of4(x);
    }
    for (int d = item; d < HEAD_DIM; d += VLCI_CODE_PACK_ITEMS) means[d] = vload_half(d, mean);
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* Rows g and g + 8 of the block that begins at row j0 times the basis: z[t][2 r + e] is row g + 8 r in dimension
 * 8 t + 2 c + e. */
PTX_CALL void project(SOURCE_PARAMS, int j0, int m, __local const uint *q, __local const float *means, int dims,
                      float (*z)[4]) {
    const int lane = (int)get_local_id(0) % 32, g = lane / 4, c = lane % 4;
    const row_t row[2] = {find_row(SOURCE_PASS, m, min(j0 + g, n - 1)), find_row(SOURCE_PASS, m, min(j0 + g + 8, n - 1))};
#pragma unroll
    for (int t = 0; t < TILES; t++) z[t][0] = z[t][1] = z[t][2] = z[t][3] = 0.0f;
#pragma unroll 1
    for (int s = 0; s < SLICES; s++) {
        const int d = s * SLICE + 4 * c;
        const bool inside = HALF % SLICE == 0 || d < HALF;
        uint x[2][2][4]; /* [half][pair of elements]: a first factor */
        const float4 mean_low = inside ? *(__local const float4 *)(means + d) : (float4)(0.0f);
        const float4 mean_high = inside ? *(__local const float4 *)(means + HALF + d) : (float4)(0.0f);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float4 low = 0.0f, high = 0.0f;
            if (inside) {
                low = KV_FOUR(row[r].at + d);
                high = KV_FOUR(row[r].at + HALF + d);
            }
            if (row[r].turn && inside) {
                const float4 cosine = *(__global const float4 *)(row[r].turn + d), was = low;
                const float4 sine = *(__global const float4 *)(row[r].turn + HALF + d);
                low = was * cosine + high * sine;
                high = high * cosine - was * sine;
            }
            low -= mean_low;
            high -= mean_high;
            x[0][0][r] = nearest_of(low.x);
            x[0][0][2 + r] = nearest_of(low.y);
            x[0][1][r] = nearest_of(low.z);
            x[0][1][2 + r] = nearest_of(low.w);
            x[1][0][r] = nearest_of(high.x);
            x[1][0][2 + r] = nearest_of(high.y);
            x[1][1][r] = nearest_of(high.z);
            x[1][1][2 + r] = nearest_of(high.w);
        }
#pragma unroll
        for (int t = 0; t < TILES; t += 2)
            if (8 * t < dims) {
                uint4 b[2][2];
#pragma unroll
                for (int u = 0; u < 4; u++)
                    b[u / 2][u % 2] = *(__local const uint4 *)(q + (8 * (t + u % 2) + g) * PITCH_OF + u / 2 * SIDE + d);
#pragma unroll
                for (int h = 0; h < 2; h++) {
#pragma unroll
                    for (int u = 0; u < 2; u++) PTX_MMA_TF32(z[t + u], x[h][0], b[h][u].x, b[h][u].y);
#pragma unroll
                    for (int u = 0; u < 2; u++) PTX_MMA_TF32(z[t + u], x[h][1], b[h][u].z, b[h][u].w);
                }
            }
    }
}

/* As code_project, of ROUNDS times as many blocks as there are warps; of one block of each `stride`, which lie together in z.
 * smem: VLCI_CODE_PACK_BYTES(HEAD_DIM). */
__attribute__((reqd_work_group_size(VLCI_CODE_PACK_ITEMS, 1, 1))) __kernel void
code_project_mma(SOURCE_PARAMS, int stride, __global const half *mean, int padded, __global const float *basis, int columns,
                 uint basis_at, __global const vlci_code_matrix *matrix, uint first, int most, __global float *z) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float *means = (__local float *)smem;
    __local uint *q = (__local uint *)(means + 2 * HEAD_DIM);
    const int item = (int)get_local_id(0), warp = item / 32, g = item % 32 / 4, c = item % 4;
    const int m = (int)get_group_id(1), blocks = (n + BLOCK - 1) / BLOCK;
    const int dims = VLCI_CODE_DIMS(matrix[first + m].widths);
    take_basis(basis + ((size_t)basis_at + m) * columns * HEAD_DIM, mean + ((size_t)first + m) * HEAD_DIM, dims, q, means);
    z += (size_t)m * most * padded;
#pragma unroll 1
    for (int round = 0; round < VLCI_CODE_PACK_ROUNDS; round++) {
        const int nth = ((int)get_group_id(0) * VLCI_CODE_PACK_ROUNDS + round) * WARPS + warp;
        const int j0 = sampled(nth, stride, blocks) * BLOCK;
        float acc[TILES][4];
        if (nth * BLOCK >= padded) return;
        project(SOURCE_PASS, j0, m, q, means, dims, acc);
        int i0 = 2 * c;
        FRESH(i0);
        uint to = (uint)(i0 * padded + nth * BLOCK + g);
#pragma unroll
        for (int t = 0; t < TILES; t++, to += 8 * padded)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (8 * t + i0 + e % 2 < dims)
                    z[to + e % 2 * padded + e / 2 * 8] = j0 + g + e / 2 * 8 < n ? acc[t][e] : 0.0f;
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

/* Rows to codes without a z between, where steps are known: of a warp's blocks and tiles in bytes, a dimension after another,
 * then in bits. smem: VLCI_CODE_PACK_BYTES(HEAD_DIM). */
__attribute__((reqd_work_group_size(VLCI_CODE_PACK_ITEMS, 1, 1))) __kernel void
code_pack_mma(SOURCE_PARAMS, __global const half *mean, __global const float *basis, int columns, uint basis_at,
              __global const vlci_code_matrix *matrix, uint first, int most, __global const float *steps, __global uint *words) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float *means = (__local float *)smem, *levels = means + HEAD_DIM;
    __local uint *q = (__local uint *)(means + 2 * HEAD_DIM);
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(1);
    const vlci_code_matrix own = matrix[first + m];
    const int dims = VLCI_CODE_DIMS(own.widths), each = VLCI_CODE_WORDS(own.widths);
    __local uchar *codes = (__local uchar *)(q + HEAD_DIM * PITCH_OF) + warp * HEAD_DIM * BLOCK;
    for (int i = item; i < dims; i += VLCI_CODE_PACK_ITEMS) levels[i] = 1.0f / steps[(size_t)m * most + i];
    take_basis(basis + ((size_t)basis_at + m) * columns * HEAD_DIM, mean + ((size_t)first + m) * HEAD_DIM, dims, q, means);
    words += own.words;
#pragma unroll 1
    for (int round = 0; round < VLCI_CODE_PACK_ROUNDS; round++) {
        const int b = ((int)get_group_id(0) * VLCI_CODE_PACK_ROUNDS + round) * WARPS + warp;
        float acc[TILES][4];
        if (b * BLOCK >= n) return;
        project(SOURCE_PASS, b * BLOCK, m, q, means, dims, acc);
        ptx_warp_sync(); /* codes have been read */
        int i0 = 2 * c;
        FRESH(i0);
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int i = 8 * t + i0 + e;
                if (i >= dims) continue;
                const float half_levels = (float)(1 << (bits_of(own.widths, i) - 1)), one = levels[i];
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const float level = b * BLOCK + g + 8 * r < n ? floor(acc[t][2 * r + e] * one) : 0.0f;
                    codes[i * BLOCK + g + 8 * r] =
                        (uchar)(int)(fmin(fmax(level, -half_levels), half_levels - 1.0f) + half_levels);
                }
            }
        ptx_warp_sync();
        for (int i = lane; i < dims; i += 32) {
            const uint4 all = *(__local const uint4 *)(codes + i * BLOCK);
            const int bits = bits_of(own.widths, i);
            __global uint *to = words + (size_t)b * each + word_of(own.widths, i);
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
    OF_ROW = VLCI_CODE_MMA_ITEMS / TOGETHER, /* work-items that bring a row, 4 dimensions and as many of the other half each */
    DOWN_EACH = 32,
    ACROSS_EACH = 32
};

/* Work-group (share, m) of `share` rows. parts: [m][shares][HEAD_DIM][HEAD_DIM]. */
__attribute__((reqd_work_group_size(VLCI_CODE_MMA_ITEMS, 1, 1))) __kernel void
code_covariance_mma(SOURCE_PARAMS, int stride, __global const half *mean, uint first, int share, __global float *parts) {
    __local uint top[TOGETHER * PITCH] __attribute__((aligned(16)));
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
            *(__local uint4 *)(top + own * PITCH + d) = nearest_of4(a);
            *(__local uint4 *)(top + own * PITCH + HALF + d) = nearest_of4(b);
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
                __local const uint *near = top + (k + c) * PITCH + g;
                uint one[DOWN_EACH / 16][4];
#pragma unroll
                for (int i = 0; i < DOWN_EACH / 16; i++)
#pragma unroll
                    for (int r = 0; r < 4; r++) {
                        const int at = r / 2 * 4 * PITCH + min(d0 + 16 * i + r % 2 * 8, HEAD_DIM - 8);
                        one[i][r] = near[at];
                    }
#pragma unroll
                for (int t = 0; t < ACROSS_EACH / 8; t += 2) {
                    uint b[2][2];
#pragma unroll
                    for (int u = 0; u < 2; u++) {
                        const int at = min(e0 + 8 * (t + u), HEAD_DIM - 8);
                        b[u][0] = near[at];
                        b[u][1] = near[at + 4 * PITCH];
                    }
#pragma unroll
                    for (int u = 0; u < 2; u++) /* none waits for the one before it */
#pragma unroll
                        for (int i = 0; i < DOWN_EACH / 16; i++) PTX_MMA_TF32(acc[i][t + u], one[i], b[u][0], b[u][1]);
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
