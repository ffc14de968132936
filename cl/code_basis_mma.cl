/*
 * code_basis_mma.cl - code_basis, code_heard and code_behind of code_basis.cl on matrix units of NVIDIA's GPUs since sm_80.
 *
 *     heard        a warp has 16 columns of C by all of U, twice
 *     behind       a warp has 16 columns of a basis by half of U, or of its inverse
 *
 * basis: the same iteration, 16 columns of the basis at a time:
 *
 *     multiply     q^T <- q^T C, tiles of 16 columns by a warp's own columns of C, which are read once
 *     factor       a tile is made orthonormal within itself by a warp, a column after another
 *     update       of a tile's columns what those of a finished one say off: y^T <- y^T - (y^T q) q^T
 *
 * Warp 0 updates the next tile and makes it orthonormal, while the others update those behind: a barrier a tile.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:      first factors    columns g, g + 8 of a tile by 8 of their numbers
 *                                                           sums             columns g, g + 8 by numbers 2 c, 2 c + 1
 *
 * q lies in local memory, a column after another, PITCH apart, so that lanes meet different banks whichever way they read.
 * Factors are split in two that tf32 has, of whose products the least is left out: 2^-22.
 *
 * Of k columns: 12 k HEAD_DIM^2 multiply-adds for products with C, 12 k^2 HEAD_DIM for the rest, in 4 k steps of a warp, one
 * after another.
 *
 * with: code.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=80 -DKV_DTYPE=1
 * ptx: sm_90 -DHEAD_DIM=64 -DKV_DTYPE=2
 */
#ifndef BASIS_ITEMS
#define BASIS_ITEMS VLCI_CODE_BASIS_ITEMS /* of a work-group; VLCI_CODE_BASIS_ALONE where a unit has no other */
#endif
#define LEAST 1e-6f
enum {
    LANES = BASIS_ITEMS,
    WARPS = LANES / 32,
    TILE = 16,             /* columns */
    EIGHT = HEAD_DIM / 8,  /* steps of a column's numbers */
    SOME = (EIGHT + WARPS - 1) / WARPS, /* of them a warp's own */
    AT_ONCE = 4,           /* tiles */
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

/* sums [n][4] += a b, of b as it is stored. */
PTX_CALL void add_products(float (*sum)[4], const uint *top, const uint *rest, float (*b)[2], int n) {
#pragma unroll
    for (int t = 0; t < n; t++) {
        uint b_top[2], b_rest[2];
        split(b[t][0], &b_top[0], &b_rest[0]);
        split(b[t][1], &b_top[1], &b_rest[1]);
        multiply_add(sum[t], top, rest, b_top, b_rest);
    }
}

/* sums [u][t] = tile u ^T C of as many tiles, 4 at most, by the warp's own columns of C, 8 of each t. */
PTX_CALL void times_covariance(__global const float *covariance, __local const float *tile, int tiles, int warp, int g, int c,
                               float (*sum)[SOME][4]) {
    __global const float *row = covariance + c * HEAD_DIM + g;
    float b[SOME][2];
    int at[SOME]; /* beyond the last of its columns a warp does again what it has done */
#pragma unroll
    for (int t = 0; t < SOME; t++) {
        at[t] = 8 * min(warp * SOME + t, EIGHT - 1);
        b[t][0] = row[at[t]];
        b[t][1] = row[4 * HEAD_DIM + at[t]];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) sum[u][t][0] = sum[u][t][1] = sum[u][t][2] = sum[u][t][3] = 0.0f;
    }
#pragma unroll 1
    for (int s = 0; s < EIGHT; s++) {
        uint b_top[SOME][2], b_rest[SOME][2];
        row += s < EIGHT - 1 ? 8 * HEAD_DIM : 0;
#pragma unroll
        for (int t = 0; t < SOME; t++) {
            split(b[t][0], &b_top[t][0], &b_rest[t][0]);
            split(b[t][1], &b_top[t][1], &b_rest[t][1]);
            b[t][0] = row[at[t]];
            b[t][1] = row[4 * HEAD_DIM + at[t]];
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            uint top[4], rest[4];
            if (u >= tiles) continue;
            take_tile(tile + u * TILE * PITCH, s, g, c, top, rest);
#pragma unroll
            for (int t = 0; t < SOME; t++) PTX_MMA_TF32(sum[u][t], top, b_top[t][0], b_top[t][1]);
#pragma unroll
            for (int t = 0; t < SOME; t++) PTX_MMA_TF32(sum[u][t], top, b_rest[t][0], b_rest[t][1]);
#pragma unroll
            for (int t = 0; t < SOME; t++) PTX_MMA_TF32(sum[u][t], rest, b_top[t][0], b_top[t][1]);
        }
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

/* squares: sums over all warps' columns of C, which stand in parts [WARPS][columns]. Barriers before and behind. */
PTX_CALL void add_parts(__local const float *parts, int columns, __local float *squares) {
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int k = (int)get_local_id(0); k < columns; k += LANES) {
        float all = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) all += parts[w * columns + k];
        squares[k] = all;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* q^T <- q^T C; squares: of its columns. */
PTX_CALL void multiply(__global const float *covariance, __local float *q, int columns, __local float *squares,
                       __local float *parts, int warp, int g, int c) {
    for (int k = 0; k < columns; k += AT_ONCE * TILE) {
        const int tiles = min((int)AT_ONCE, (columns - k) / TILE);
        float sum[AT_ONCE][SOME][4];
        times_covariance(covariance, q + k * PITCH, tiles, warp, g, c, sum);
        barrier(CLK_LOCAL_MEM_FENCE); /* all have read these columns */
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            __local float *to = q + (k + u * TILE + g) * PITCH + warp * SOME * 8 + 2 * c;
            float2 all = 0.0f;
            if (u >= tiles) continue;
#pragma unroll
            for (int t = 0; t < SOME; t++) {
                if (WARPS * SOME > EIGHT && warp * SOME + t >= EIGHT) continue;
                *(__local float2 *)(to + 8 * t) = (float2)(sum[u][t][0], sum[u][t][1]);
                *(__local float2 *)(to + 8 * PITCH + 8 * t) = (float2)(sum[u][t][2], sum[u][t][3]);
                all += (float2)(sum[u][t][0] * sum[u][t][0] + sum[u][t][1] * sum[u][t][1],
                                sum[u][t][2] * sum[u][t][2] + sum[u][t][3] * sum[u][t][3]);
            }
            all = over_column(all);
            if (c) continue;
            parts[warp * columns + k + u * TILE + g] = all.x;
            parts[warp * columns + k + u * TILE + g + 8] = all.y;
        }
    }
    add_parts(parts, columns, squares);
}

/* squares: q^T C q, of each column with itself alone. */
PTX_CALL void energies(__global const float *covariance, __local const float *q, int columns, __local float *squares,
                       __local float *parts, int warp, int g, int c) {
    for (int k = 0; k < columns; k += AT_ONCE * TILE) {
        const int tiles = min((int)AT_ONCE, (columns - k) / TILE);
        float sum[AT_ONCE][SOME][4];
        times_covariance(covariance, q + k * PITCH, tiles, warp, g, c, sum);
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            __local const float *by = q + (k + u * TILE + g) * PITCH + warp * SOME * 8 + 2 * c;
            float2 all = 0.0f;
            if (u >= tiles) continue;
#pragma unroll
            for (int t = 0; t < SOME; t++) {
                if (WARPS * SOME > EIGHT && warp * SOME + t >= EIGHT) continue;
                const float2 low = *(__local const float2 *)(by + 8 * t);
                const float2 high = *(__local const float2 *)(by + 8 * PITCH + 8 * t);
                all += (float2)(sum[u][t][0] * low.x + sum[u][t][1] * low.y, sum[u][t][2] * high.x + sum[u][t][3] * high.y);
            }
            all = over_column(all);
            if (c) continue;
            parts[warp * columns + k + u * TILE + g] = all.x;
            parts[warp * columns + k + u * TILE + g + 8] = all.y;
        }
    }
    add_parts(parts, columns, squares);
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
    const bool some = left > fmax(least * square, 1e-36f);
    const float by = some ? ptx_inverse(left) : 0.0f, one = some ? ptx_inverse_root(left) : 0.0f;
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
__attribute__((reqd_work_group_size(BASIS_ITEMS, 1, 1))) __kernel void
code_basis_mma(__global const float *covariance, int columns, __global float *basis, uint basis_at, __global float *energy,
               __global float *total, uint first) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float *q = (__local float *)smem, *squares = q + columns * PITCH, *parts = squares + columns;
    __local float4 *shown = (__local float4 *)(parts + WARPS * columns); /* two columns; in the end places */
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
        if (round < 3)
            multiply(covariance, q, columns, squares, parts, warp, g, c);
        else {
            for (int t = warp; t < tiles; t += WARPS) find_squares(q + t * TILE * PITCH, squares + t * TILE, lane);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
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
    energies(covariance, q, columns, squares, parts, warp, g, c);
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

enum { DOWN_U = HEAD_DIM / TILE, WIDE = HEAD_DIM + 8 };

/* sums [u][t] = rows 16 u .. 16 u + 15 of U by 16 columns of what is in local memory. */
PTX_CALL void times_metric(__global const float *metric, __local const float *from, int g, int c, float (*sum)[2][4]) {
#pragma unroll
    for (int u = 0; u < DOWN_U; u++)
#pragma unroll
        for (int t = 0; t < 2; t++) sum[u][t][0] = sum[u][t][1] = sum[u][t][2] = sum[u][t][3] = 0.0f;
#pragma unroll 1
    for (int k = 0; k < HEAD_DIM; k += 8) {
        uint b_top[2][2], b_rest[2][2];
#pragma unroll
        for (int t = 0; t < 4; t++)
            split(from[(k + t % 2 * 4 + c) * WIDE + t / 2 * 8 + g], &b_top[t / 2][t % 2], &b_rest[t / 2][t % 2]);
#pragma unroll
        for (int u = 0; u < DOWN_U; u++) {
            uint top[4], rest[4];
            if (u * TILE > k) continue; /* U is 0 left of its diagonal */
#pragma unroll
            for (int e = 0; e < 4; e++) split(metric[(u * TILE + e % 2 * 8) * HEAD_DIM + k + e / 2 * 4], &top[e], &rest[e]);
#pragma unroll
            for (int t = 0; t < 2; t++) multiply_add(sum[u][t], top, rest, b_top[t], b_rest[t]);
        }
    }
}

/* Work-group (head), of which a warp has 16 columns: C of the values of a head becomes U C U^T. In local memory is C, then U C,
 * turned. smem: VLCI_CODE_HEARD_BYTES(HEAD_DIM). */
__attribute__((reqd_work_group_size(VLCI_CODE_HEARD_ITEMS, 1, 1))) __kernel void
code_heard_mma(__global float *covariance, __global const float *metric, uint metric_at) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float *at = (__local float *)smem;
    const int item = (int)get_local_id(0), lane = item % 32, g = lane / 4, c = lane % 4, head = (int)get_group_id(0);
    const int e0 = item / 32 * TILE;
    const bool works = e0 < HEAD_DIM;
    float sum[DOWN_U][2][4];
    covariance += (size_t)(2 * head + 1) * HEAD_DIM * HEAD_DIM;
    metric += (((size_t)metric_at + head) * HEAD_DIM + g) * HEAD_DIM + c;
#pragma unroll 4
    for (int i = item * 4; i < HEAD_DIM * HEAD_DIM; i += VLCI_CODE_HEARD_ITEMS * 4)
        *(__local float4 *)(at + i / HEAD_DIM * WIDE + i % HEAD_DIM) = *(__global const float4 *)(covariance + i);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (works) times_metric(metric, at + e0, g, c, sum);
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
    for (int i = 0; i < 8 * DOWN_U && works; i++)
        at[(e0 + 8 * (i / 4 % 2) + 2 * c + i % 2) * WIDE + i / 8 * TILE + i / 2 % 2 * 8 + g] = sum[i / 8][i / 4 % 2][i % 4];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (!works) return;
    times_metric(metric, at + e0, g, c, sum);
#pragma unroll
    for (int u = 0; u < DOWN_U; u++)
#pragma unroll
        for (int t = 0; t < 2; t++)
#pragma unroll
            for (int r = 0; r < 2; r++)
                *(__global float2 *)(covariance + (size_t)(u * TILE + 8 * r + g) * HEAD_DIM + e0 + 8 * t + 2 * c) =
                    (float2)(sum[u][t][2 * r], sum[u][t][2 * r + 1]);
}

/* Work-group (16 columns, m): as code_behind, half of a matrix a warp. */
__attribute__((reqd_work_group_size(VLCI_CODE_BASIS_ITEMS, 1, 1))) __kernel void
code_behind_mma(__global float *basis, int columns, uint basis_at, __global const float *metric, uint metric_at, uint inverse_at,
                __global float *back) {
    enum { SOME = EIGHT / 2 };
    __local float tile[TILE * PITCH] __attribute__((aligned(16)));
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(1), inverse = warp / 2, e0 = warp % 2 * SOME * 8;
    const size_t at = (((size_t)basis_at + m) * columns + get_group_id(0) * TILE) * HEAD_DIM;
    basis += at;
    back += at;
    for (int i = item * 4; i < TILE * HEAD_DIM; i += VLCI_CODE_BASIS_ITEMS * 4) {
        const float4 x = *(__global const float4 *)(basis + i);
        *(__local float4 *)(tile + i / HEAD_DIM * PITCH + i % HEAD_DIM) = x;
        if (m % 2 == 0) *(__global float4 *)(back + i) = x;
    }
    if (m % 2 == 0) return; /* all of a work-group: before any barrier */
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE); /* the basis is written again */
    metric += ((size_t)metric_at + m / 2) * HEAD_DIM * HEAD_DIM + (inverse ? inverse_at : 0) + c * HEAD_DIM + e0 + g;
    float sum[SOME][4];
#pragma unroll
    for (int t = 0; t < SOME; t++) sum[t][0] = sum[t][1] = sum[t][2] = sum[t][3] = 0.0f;
    const int from = inverse ? e0 / 8 : 0, until = inverse ? EIGHT : e0 / 8 + SOME; /* what lies beyond is 0 */
#pragma unroll 2
    for (int s = from; s < until; s++) {
        float b[SOME][2];
        uint top[4], rest[4];
#pragma unroll
        for (int t = 0; t < SOME; t++) {
            b[t][0] = metric[s * 8 * HEAD_DIM + 8 * t];
            b[t][1] = metric[(s * 8 + 4) * HEAD_DIM + 8 * t];
        }
        take_tile(tile, s, g, c, top, rest);
        add_products(sum, top, rest, b, SOME);
    }
    __global float *to = (inverse ? back : basis) + g * HEAD_DIM + e0 + 2 * c;
#pragma unroll
    for (int t = 0; t < SOME; t++) {
        *(__global float2 *)(to + 8 * t) = (float2)(sum[t][0], sum[t][1]);
        *(__global float2 *)(to + 8 * HEAD_DIM + 8 * t) = (float2)(sum[t][2], sum[t][3]);
    }
}
