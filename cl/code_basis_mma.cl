/*
 * code_basis_mma.cl - code_basis and code_heard of code_basis.cl on matrix units of NVIDIA's GPUs since sm_80.
 *
 *     heard        a warp has 16 rows of U by all of C
 *
 * basis: the same iteration, 16 columns of the basis at a time:
 *
 *     multiply     q^T <- q^T C, a tile of 16 columns a warp
 *     factor       a tile is made orthonormal within itself by a warp, a column after another
 *     update       of a tile's columns what those of a finished one say off: y^T <- y^T - (y^T q) q^T
 *
 * Warp 0 updates the next tile and makes it orthonormal, while the others update those behind: a barrier a tile.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:      first factors    columns g, g + 8 of a tile by 8 of their numbers
 *                                                           sums             columns g, g + 8 by numbers 2 c, 2 c + 1
 *
 * q lies in local memory, a column after another, PITCH apart, so that lanes meet different banks whichever way they read.
 * Products are those of code_mma.cl: all but 2^-22.
 *
 * Of k columns: 12 k HEAD_DIM^2 multiply-adds for products with C, 12 k^2 HEAD_DIM for the rest, in 4 k steps of a warp, one
 * after another.
 *
 * with: code.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=80 -DKV_DTYPE=1
 * ptx: sm_90 -DHEAD_DIM=64 -DKV_DTYPE=2
 */
#define LEAST 1e-6f
enum {
    LANES = VLCI_CODE_BASIS_ITEMS,
    WARPS = LANES / 32,
    TILE = 16,             /* columns */
    EIGHT = HEAD_DIM / 8,  /* steps of a column's numbers */
    PITCH = VLCI_CODE_BASIS_PITCH(HEAD_DIM)
};

PTX_CALL float first_of(float x) { return as_float(as_uint(x) & 0xffffe000u); }

/* A number as two that tf32 has. */
PTX_CALL void split(float x, uint *top, uint *rest) {
    *top = as_uint(first_of(x));
    *rest = as_uint(x - first_of(x));
}

/* sum += a b, each in two. */
PTX_CALL void multiply_add(float *sum, const uint *a_top, const uint *a_rest, const uint *b_top, const uint *b_rest) {
    PTX_MMA_TF32(sum, a_top, b_top[0], b_top[1]);
    PTX_MMA_TF32(sum, a_top, b_rest[0], b_rest[1]);
    PTX_MMA_TF32(sum, a_rest, b_top[0], b_top[1]);
}

/* Numbers 8 s + c, 8 s + c + 4 of a tile's columns. */
PTX_CALL void take_tile(__local const float *tile, int s, int g, int c, uint *top, uint *rest) {
    __local const float *at = tile + g * PITCH + 8 * s + c;
    split(at[0], top, rest);
    split(at[8 * PITCH], top + 1, rest + 1);
    split(at[4], top + 2, rest + 2);
    split(at[8 * PITCH + 4], top + 3, rest + 3);
}

/* sums [EIGHT][4] += a b, of b as it is stored. */
PTX_CALL void add_products(float (*sum)[4], const uint *top, const uint *rest, float (*b)[2]) {
#pragma unroll
    for (int t = 0; t < EIGHT; t++) {
        uint b_top[2], b_rest[2];
        split(b[t][0], &b_top[0], &b_rest[0]);
        split(b[t][1], &b_top[1], &b_rest[1]);
        multiply_add(sum[t], top, rest, b_top, b_rest);
    }
}

/* sum = tile^T C, sums [EIGHT][4]. */
PTX_CALL void times_covariance(__global const float *covariance, __local const float *tile, int g, int c, float (*sum)[4]) {
#pragma unroll
    for (int t = 0; t < EIGHT; t++) sum[t][0] = sum[t][1] = sum[t][2] = sum[t][3] = 0.0f;
#pragma unroll 1
    for (int s = 0; s < EIGHT; s++) {
        __global const float *row = covariance + (8 * s + c) * HEAD_DIM + g;
        float b[EIGHT][2];
        uint top[4], rest[4];
#pragma unroll
        for (int t = 0; t < EIGHT; t++) {
            b[t][0] = row[8 * t];
            b[t][1] = row[4 * HEAD_DIM + 8 * t];
        }
        take_tile(tile, s, g, c, top, rest);
        add_products(sum, top, rest, b);
    }
}

/* What the lanes of a column have, added up: of column g, and of g + 8. */
PTX_CALL float2 over_column(float2 x) {
    x += (float2)(ptx_butterfly(x.x, 1), ptx_butterfly(x.y, 1));
    return x + (float2)(ptx_butterfly(x.x, 2), ptx_butterfly(x.y, 2));
}

PTX_CALL float over_warp(float x) {
#pragma unroll
    for (uint b = 16; b; b /= 2) x += ptx_butterfly(x, b);
    return x;
}

/* tile^T <- tile^T C; squares: of its columns. */
PTX_CALL void multiply(__global const float *covariance, __local float *tile, __local float *squares, int g, int c) {
    float sum[EIGHT][4];
    float2 all = 0.0f;
    times_covariance(covariance, tile, g, c, sum);
    ptx_warp_sync();
#pragma unroll
    for (int t = 0; t < EIGHT; t++) {
        *(__local float2 *)(tile + g * PITCH + 8 * t + 2 * c) = (float2)(sum[t][0], sum[t][1]);
        *(__local float2 *)(tile + (g + 8) * PITCH + 8 * t + 2 * c) = (float2)(sum[t][2], sum[t][3]);
        all += (float2)(sum[t][0] * sum[t][0] + sum[t][1] * sum[t][1], sum[t][2] * sum[t][2] + sum[t][3] * sum[t][3]);
    }
    all = over_column(all);
    if (c) return;
    squares[g] = all.x;
    squares[g + 8] = all.y;
}

/* squares: tile^T C tile, of each column with itself alone. */
PTX_CALL void energies(__global const float *covariance, __local const float *tile, __local float *squares, int g, int c) {
    float sum[EIGHT][4];
    float2 all = 0.0f;
    times_covariance(covariance, tile, g, c, sum);
#pragma unroll
    for (int t = 0; t < EIGHT; t++) {
        const float2 low = *(__local const float2 *)(tile + g * PITCH + 8 * t + 2 * c);
        const float2 high = *(__local const float2 *)(tile + (g + 8) * PITCH + 8 * t + 2 * c);
        all += (float2)(sum[t][0] * low.x + sum[t][1] * low.y, sum[t][2] * high.x + sum[t][3] * high.y);
    }
    all = over_column(all);
    if (c) return;
    squares[g] = all.x;
    squares[g + 8] = all.y;
}

/*
 * A tile's columns are made orthonormal, one after another, by a warp:
 *
 *     lane = 8 r + p:      columns r, r + 4, r + 8, r + 12, of each numbers 4 p + 32 t .. 4 p + 32 t + 3
 */
enum { FOURTHS = 4, PARTS_OF = (HEAD_DIM + 31) / 32 };

/* The sum over the lanes of the same columns. */
PTX_CALL float over_parts(float x) {
    x += ptx_butterfly(x, 1);
    x += ptx_butterfly(x, 2);
    return x + ptx_butterfly(x, 4);
}

PTX_CALL float dot_parts(const float4 *a, const float4 *b) {
    float4 sum = 0.0f;
#pragma unroll
    for (int t = 0; t < PARTS_OF; t++) sum += a[t] * b[t];
    return (sum.x + sum.y) + (sum.z + sum.w);
}

/* Column k, which those before it have been taken off, is made one long, and taken off those behind it; zero, where no more than
 * `least` times its square is left. shown: room for a column. */
PTX_CALL void factor_one(float4 (*x)[PARTS_OF], int k, float square, float least, __local float4 *shown, int lane) {
    const int r = lane / 8, p = lane % 8, own = k / 4;
    float4 now[PARTS_OF];
    float dots[FOURTHS];
#pragma unroll
    for (int t = 0; t < PARTS_OF; t++)
        if (r == k % 4) shown[8 * t + p] = x[own][t];
    ptx_warp_sync();
#pragma unroll
    for (int t = 0; t < PARTS_OF; t++) now[t] = shown[8 * t + p];
    float left = dot_parts(now, now);
#pragma unroll
    for (int i = 0; i < FOURTHS; i++)
        if (i >= own) dots[i] = over_parts(dot_parts(now, x[i]));
    left = over_parts(left);
    const float by = left > least * square ? 1.0f / left : 0.0f, one = by > 0.0f ? rsqrt(left) : 0.0f;
#pragma unroll
    for (int i = 0; i < FOURTHS; i++) {
        const float off = i > own || r > k % 4 ? dots[i] * by : 0.0f;
        if (i >= own)
#pragma unroll
            for (int t = 0; t < PARTS_OF; t++) x[i][t] -= off * now[t];
    }
#pragma unroll
    for (int t = 0; t < PARTS_OF; t++) x[own][t] *= r == k % 4 ? one : 1.0f;
}

PTX_CALL void factor(__local float *tile, __local const float *squares, float least, __local float4 *shown, int lane) {
    const int r = lane / 8, p = lane % 8;
    float4 x[FOURTHS][PARTS_OF];
#pragma unroll
    for (int i = 0; i < FOURTHS; i++)
#pragma unroll
        for (int t = 0; t < PARTS_OF; t++) {
            const int d = 4 * p + 32 * t;
            x[i][t] = d < HEAD_DIM ? *(__local const float4 *)(tile + (4 * i + r) * PITCH + d) : (float4)(0.0f);
        }
#define FACTOR(k) /* not a loop: k is a constant wherever x stands in registers */                                   \
    factor_one(x, k, squares[k], least, shown + k % 2 * 8 * PARTS_OF, lane)
    FACTOR(0);
    FACTOR(1);
    FACTOR(2);
    FACTOR(3);
    FACTOR(4);
    FACTOR(5);
    FACTOR(6);
    FACTOR(7);
    FACTOR(8);
    FACTOR(9);
    FACTOR(10);
    FACTOR(11);
    FACTOR(12);
    FACTOR(13);
    FACTOR(14);
    FACTOR(15);
#pragma unroll
    for (int i = 0; i < FOURTHS; i++)
#pragma unroll
        for (int t = 0; t < PARTS_OF; t++) {
            const int d = 4 * p + 32 * t;
            if (d < HEAD_DIM) *(__local float4 *)(tile + (4 * i + r) * PITCH + d) = x[i][t];
        }
}

PTX_CALL void find_squares(__local const float *tile, __local float *squares, int lane) {
    for (int j = 0; j < TILE; j++) {
        const float4 x = 4 * lane < HEAD_DIM ? *(__local const float4 *)(tile + j * PITCH + 4 * lane) : (float4)(0.0f);
        const float sum = over_warp((x.x * x.x + x.y * x.y) + (x.z * x.z + x.w * x.w));
        if (lane == 0) squares[j] = sum;
    }
}

/* Takes off a tile's columns what those of `done`, which are orthonormal, say. */
PTX_CALL void update(__local float *tile, __local const float *done, int g, int c) {
    float said[3][2][4];
    uint top[2][4], rest[2][4];
#pragma unroll
    for (int p = 0; p < 3; p++)
#pragma unroll
        for (int u = 0; u < 2; u++) said[p][u][0] = said[p][u][1] = said[p][u][2] = said[p][u][3] = 0.0f;
#pragma unroll 4
    for (int s = 0; s < EIGHT; s++) {
        uint a_top[4], a_rest[4];
        take_tile(tile, s, g, c, a_top, a_rest);
#pragma unroll
        for (int u = 0; u < 2; u++) {
            __local const float *at = done + (8 * u + g) * PITCH + 8 * s + c;
            uint b_top[2], b_rest[2];
            split(at[0], &b_top[0], &b_rest[0]);
            split(at[4], &b_top[1], &b_rest[1]);
            PTX_MMA_TF32(said[0][u], a_top, b_top[0], b_top[1]);
            PTX_MMA_TF32(said[1][u], a_top, b_rest[0], b_rest[1]);
            PTX_MMA_TF32(said[2][u], a_rest, b_top[0], b_top[1]);
        }
    }
#pragma unroll
    for (int u = 0; u < 2; u++)
#pragma unroll
        for (int e = 0; e < 4; e++) { /* column g + 8 (e / 2) by 8 u + 2 c + e % 2 of done: what a first factor has so as well */
            const float off = -(said[0][u][e] + (said[1][u][e] + said[2][u][e]));
            split(off, &top[u][e % 2 * 2 + e / 2], &rest[u][e % 2 * 2 + e / 2]);
        }
#pragma unroll 4
    for (int t = 0; t < EIGHT; t++) {
        __local float2 *low = (__local float2 *)(tile + g * PITCH + 8 * t + 2 * c);
        __local float2 *high = (__local float2 *)(tile + (g + 8) * PITCH + 8 * t + 2 * c);
        const float2 a = *low, b = *high;
        float sum[4] = {a.x, a.y, b.x, b.y};
#pragma unroll
        for (int u = 0; u < 2; u++) {
            __local const float *at = done + (8 * u + 2 * c) * PITCH + 8 * t + g;
            uint b_top[2], b_rest[2];
            split(at[0], &b_top[0], &b_rest[0]);
            split(at[PITCH], &b_top[1], &b_rest[1]);
            multiply_add(sum, top[u], rest[u], b_top, b_rest);
        }
        *low = (float2)(sum[0], sum[1]);
        *high = (float2)(sum[2], sum[3]);
    }
}

/* As noise of code_basis.cl. */
PTX_CALL float noise(uint i) {
    i = (i ^ (i >> 16)) * 0x7feb352du;
    i = (i ^ (i >> 15)) * 0x846ca68bu;
    i ^= i >> 16;
    return (float)(i >> 8) * 0x1p-23f - 1.0f;
}

/* As code_basis; columns: whole tiles. smem: VLCI_CODE_BASIS_BYTES(HEAD_DIM, columns). */
__attribute__((reqd_work_group_size(VLCI_CODE_BASIS_ITEMS, 1, 1))) __kernel void
code_basis_mma(__global const float *covariance, int columns, __global float *basis, uint basis_at, __global float *energy,
               __global float *total, uint first) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float *q = (__local float *)smem, *squares = q + columns * PITCH;
    __local float4 *shown = (__local float4 *)(squares + columns); /* two columns; in the end places */
    __local int *places = (__local int *)shown;
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(0), tiles = columns / TILE;
    covariance += (size_t)m * HEAD_DIM * HEAD_DIM;
    basis += ((size_t)basis_at + m) * columns * HEAD_DIM;
    energy += ((size_t)first + m) * columns;
    for (int i = item; i < columns * HEAD_DIM; i += LANES) q[i / HEAD_DIM * PITCH + i % HEAD_DIM] = noise((uint)i + 1u);
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll 1
    for (int round = 0; round < 4; round++) {
        const float least = round < 3 ? 1e-12f : 0.25f;
        for (int t = warp; t < tiles; t += WARPS)
            if (round < 3)
                multiply(covariance, q + t * TILE * PITCH, squares + t * TILE, g, c);
            else
                find_squares(q + t * TILE * PITCH, squares + t * TILE, lane);
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll 1
        for (int done = -1; done < tiles - 1; done++) { /* warp 0 is a tile ahead */
            for (int t = done + 1 + warp; t < tiles; t += warp ? WARPS - 1 : tiles) {
                if (done >= 0) update(q + t * TILE * PITCH, q + done * TILE * PITCH, g, c);
                ptx_warp_sync();
                if (warp == 0) factor(q + t * TILE * PITCH, squares + t * TILE, least, shown, lane);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    }
    for (int t = warp; t < tiles; t += WARPS) energies(covariance, q + t * TILE * PITCH, squares + t * TILE, g, c);
    barrier(CLK_LOCAL_MEM_FENCE);
    float top = 0.0f;
    for (int k = 0; k < columns; k++) top = fmax(top, squares[k]);
    for (int k = item; k < columns; k += LANES) {
        const float own = fmax(squares[k], 0.0f);
        int place = 0;
        for (int i = 0; i < columns; i++) {
            const float other = fmax(squares[i], 0.0f);
            place += (other > own) | ((other == own) & (i < k));
        }
        energy[place] = own < LEAST * top ? 0.0f : own;
        places[k] = place;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = item; i < columns * HEAD_DIM; i += LANES) {
        const int k = i / HEAD_DIM, d = i % HEAD_DIM;
        basis[(size_t)places[k] * HEAD_DIM + d] = q[k * PITCH + d];
    }
    if (warp) return;
    float trace = 0.0f;
    for (int d = lane; d < HEAD_DIM; d += 32) trace += covariance[(size_t)d * HEAD_DIM + d];
    trace = over_warp(trace);
    if (lane == 0) total[first + m] = trace;
}

/* Work-group (rows of U, 16 for each warp, head): as code_heard. */
__attribute__((reqd_work_group_size(VLCI_CODE_BASIS_ITEMS, 1, 1))) __kernel void
code_heard_mma(__global const float *from, __global const float *metric, uint metric_at, __global float *to) {
    const int item = (int)get_local_id(0), lane = item % 32, g = lane / 4, c = lane % 4, head = (int)get_group_id(1);
    const int d0 = ((int)get_group_id(0) * WARPS + item / 32) * TILE;
    float sum[EIGHT][4];
    if (d0 >= HEAD_DIM) return;
    from += (size_t)(2 * head + 1) * HEAD_DIM * HEAD_DIM + c * HEAD_DIM + g;
    to += (size_t)(2 * head + 1) * HEAD_DIM * HEAD_DIM + d0 + g;
    metric += (((size_t)metric_at + head) * HEAD_DIM + d0 + g) * HEAD_DIM + c;
#pragma unroll
    for (int t = 0; t < EIGHT; t++) sum[t][0] = sum[t][1] = sum[t][2] = sum[t][3] = 0.0f;
#pragma unroll 1
    for (int k = d0; k < HEAD_DIM; k += 8) { /* U is 0 left of its diagonal */
        float b[EIGHT][2];
        uint top[4], rest[4];
#pragma unroll
        for (int t = 0; t < EIGHT; t++) {
            b[t][0] = from[k * HEAD_DIM + 8 * t];
            b[t][1] = from[(k + 4) * HEAD_DIM + 8 * t];
        }
#pragma unroll
        for (int e = 0; e < 4; e++) split(metric[e % 2 * 8 * HEAD_DIM + k + e / 2 * 4], &top[e], &rest[e]);
        add_products(sum, top, rest, b);
    }
#pragma unroll
    for (int t = 0; t < EIGHT; t++)
#pragma unroll
        for (int e = 0; e < 4; e++) to[(size_t)(8 * t + 2 * c + e % 2) * HEAD_DIM + e / 2 * 8] = sum[t][e];
}
