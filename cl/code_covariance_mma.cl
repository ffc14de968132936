/*
 * code_covariance_mma.cl - code_covariance of code_basis.cl on matrix units of NVIDIA's GPUs since sm_80.
 *
 *     parts of sums over j of x x^T; of one part what code_covariance_sum makes of it, and the mean, which nobody has found
 *     then: rows are first taken less that of the first TOGETHER, m0
 *
 *         C = sum x' x'^T / n - s e^T - e s^T + e e^T       x' = x + mean - m0, s their mean, e = mean - m0; mean is rounded
 *
 * A work-group has all of a part: a warp EACH dimensions by as many, as code_covariance has it of those with d <= e alone. Both
 * factors are the same rows, TOGETHER of them in local memory, rounded to tf32, which has 11 bits: sums are over so many rows
 * that it is less. The next rows are on their way meanwhile, and go to the other half.
 *
 *     of a lane of a warp:      rows c, c + 4 of 8      dimensions d + 2 g, d + 2 g + 1 by e + g, as registers of a product lie
 *                               C: d + 2 g, d + 2 g + 1 by e + 2 c, e + 2 c + 1
 *
 * Of n rows: n HEAD_DIM^2 / 2 multiply-adds and half of a tile's more; reads n HEAD_DIM numbers once, and for keys twice as many
 * floats to turn them by, which all heads share; writes HEAD_DIM^2 floats.
 *
 * with: code.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=80 -DKV_DTYPE=1
 * ptx: sm_90 -DHEAD_DIM=64 -DKV_DTYPE=2
 */
enum {
    OF_ROW = 8, /* work-items that bring a row, 8 dimensions and as many of the other half each */
    TOGETHER = VLCI_CODE_MMA_ITEMS / OF_ROW,
    PITCH = HEAD_DIM + 8, /* 8 or 24 of 32 banks on: rows c and dimensions g lie in different ones */
    EACH = 32
};

#define ONE 0x3f800000u
/* Of a tile on the diagonal what mirrors the rest is not wanted: there sums of x stand, of 16 dimensions each. */
#define ALONG(i, t) (d0 == e0 && (i) == 1 && (t) < 2)
#define OF(one, r)  (ALONG(i, t) ? one[t & 1][r] : one[i][r])

/* 8 numbers of a row as they are stored, and as floats. */
#if KV_DTYPE == VLCI_DTYPE_F32
typedef float8 eight_t;
#define EIGHT_AT(p) f32_run(p)
PTX_CALL float8 floats_of(float8 v) { return v; }
#else
typedef uint4 eight_t;
#define EIGHT_AT(p) (*(__global const uint4 *)(p))
PTX_CALL float2 two_of(uint v) {
#if KV_DTYPE == VLCI_DTYPE_F16
    return ptx_f16_floats(v);
#else
    return (float2)(as_float(v << 16), as_float(v & 0xffff0000u));
#endif
}
PTX_CALL float8 floats_of(uint4 v) {
    const float2 a = two_of(v.x), b = two_of(v.y), c = two_of(v.z), d = two_of(v.w);
    return (float8)(a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y);
}
#endif

PTX_CALL void put_eight(__local uint *to, float8 x) {
    *(__local uint4 *)to = ptx_tf32x4((float4)(x.s0, x.s1, x.s2, x.s3));
    *(__local uint4 *)(to + 4) = ptx_tf32x4((float4)(x.s4, x.s5, x.s6, x.s7));
}

/* Work-group (share, m) of `share` rows. parts: [m][shares][HEAD_DIM][HEAD_DIM]; of one share what code_covariance_sum makes of
 * it, at once, and the mean is written: whole: rows of the sample then, else 0. */
__attribute__((reqd_work_group_size(VLCI_CODE_MMA_ITEMS, 1, 1))) __kernel void
code_covariance_mma(SOURCE_PARAMS, int stride, __global half *mean, uint first, int share, int whole,
                    __global float *parts) {
    __local uint tile[2 * TOGETHER * PITCH] __attribute__((aligned(16)));
    __local float means[HEAD_DIM] __attribute__((aligned(16)));
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(1), s = (int)get_group_id(0), shares = (int)get_num_groups(0);
    const int from = s * share, until = min(from + share, (n + stride - 1) / stride);
    int down = 0, across = warp; /* tiles with d <= e, row by row */
    for (int left = (HEAD_DIM + EACH - 1) / EACH; across >= left && left; left--, down++) across -= left;
    const int d0 = down * EACH, e0 = (down + across) * EACH;
    const bool works = d0 < HEAD_DIM && e0 < HEAD_DIM, brings = item % OF_ROW * 8 < HALF;
    const int own = item / OF_ROW, d = min(item % OF_ROW * 8, HALF - 8);
    float acc[EACH / 16][EACH / 8][4];
    mean += ((size_t)first + m) * HEAD_DIM;
    for (int e = item; e < HEAD_DIM; e += VLCI_CODE_MMA_ITEMS) means[e] = whole ? 0.0f : vload_half(e, mean);
#pragma unroll
    for (int i = 0; i < EACH / 16; i++)
#pragma unroll
        for (int t = 0; t < EACH / 8; t++) acc[i][t][0] = acc[i][t][1] = acc[i][t][2] = acc[i][t][3] = 0.0f;
    const kv_view rows = kv_nth(KV_POOL_PASS, m / 2);
    const int before = keep[keep_at + m / 2].before;
#define ROW(j) find_row_in(&rows, before, positions, run, phase, m, sampled(min(j, until - 1), stride, n))
    row_t row = ROW(from + own);
    eight_t low = EIGHT_AT(row.at + d), high = EIGHT_AT(row.at + HALF + d);
    float8 cosine = 1.0f, sine = 0.0f;
    if (row.turn) {
        cosine = f32_run(row.turn + d);
        sine = f32_run(row.turn + HALF + d);
    }
    row = ROW(from + TOGETHER + own);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (whole) {
        const float8 x = floats_of(low), y = floats_of(high);
        __local float *sums = (__local float *)tile;
        if (brings) {
            *(__local float8 *)(sums + own * PITCH + d) = x * cosine + y * sine;
            *(__local float8 *)(sums + own * PITCH + HALF + d) = y * cosine - x * sine;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        const int rows_n = min((int)TOGETHER, until - from);
        for (int e = item; e < HEAD_DIM; e += VLCI_CODE_MMA_ITEMS) {
            float sum = 0.0f;
            for (int r = 0; r < rows_n; r++) sum += sums[r * PITCH + e];
            means[e] = sum / (float)rows_n;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
#pragma unroll 1
    for (int j0 = from, half_at = 0; j0 < until; j0 += TOGETHER, half_at = TOGETHER * PITCH - half_at) {
        if (brings) {
            const float8 x = floats_of(low), y = floats_of(high), zero = 0.0f;
            const float8 a = x * cosine + y * sine - *(__local const float8 *)(means + d);
            const float8 b = y * cosine - x * sine - *(__local const float8 *)(means + HALF + d);
            const bool there = j0 + own < until;
            put_eight(tile + half_at + own * PITCH + d, there ? a : zero);
            put_eight(tile + half_at + own * PITCH + HALF + d, there ? b : zero);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        low = EIGHT_AT(row.at + d);
        high = EIGHT_AT(row.at + HALF + d);
        if (row.turn) {
            cosine = f32_run(row.turn + d);
            sine = f32_run(row.turn + HALF + d);
        }
        row = ROW(j0 + 2 * TOGETHER + own);
        if (works)
#pragma unroll 1
            for (int k = 0; k < TOGETHER; k += 8) {
                __local const uint *near = tile + half_at + (k + c) * PITCH;
                uint one[EACH / 16][4], two[EACH / 8][2];
#pragma unroll
                for (int i = 0; i < EACH / 16; i++) {
                    __local const uint *at = near + min(d0 + 16 * i, HEAD_DIM - 16) + 2 * g;
                    const uint2 a = *(__local const uint2 *)at, b = *(__local const uint2 *)(at + 4 * PITCH);
                    one[i][0] = a.x;
                    one[i][1] = a.y;
                    one[i][2] = b.x;
                    one[i][3] = b.y;
                }
#pragma unroll
                for (int t = 0; t < EACH / 8; t++) {
                    __local const uint *at = near + min(e0 + 8 * t, HEAD_DIM - 8) + g;
                    two[t][0] = at[0];
                    two[t][1] = at[4 * PITCH];
                }
#pragma unroll
                for (int t = 0; t < EACH / 8; t++)
#pragma unroll
                    for (int i = 0; i < EACH / 16; i++) {
                        const uint a[4] = {OF(one, 0), OF(one, 1), OF(one, 2), OF(one, 3)};
                        PTX_MMA_TF32(acc[i][t], a, ALONG(i, t) ? ONE : two[t][0], ALONG(i, t) ? ONE : two[t][1]);
                    }
            }
    }
    __local float *more = (__local float *)tile, *less = more + HEAD_DIM; /* s, e */
    barrier(CLK_LOCAL_MEM_FENCE);
    if (whole) {
        if (works && d0 == e0 && !c)
#pragma unroll
            for (int i = 0; i < EACH / 16; i++) {
                const int to = min(d0 + 16 * i, HEAD_DIM - 16) + 2 * g;
                more[to] = acc[1][i][0] / (float)whole;
                more[to + 1] = acc[1][i][2] / (float)whole;
            }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int e = item; e < HEAD_DIM; e += VLCI_CODE_MMA_ITEMS) {
            const uint rounded = ptx_f16x2(to_f16_range(means[e] + more[e]), 0.0f);
            ((__global ushort *)mean)[e] = (ushort)rounded;
            less[e] = ptx_f16_floats(rounded).x - means[e];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (!works) return;
    parts += ((size_t)m * shares + s) * HEAD_DIM * HEAD_DIM;
    const float by = whole ? 1.0f / (float)whole : 1.0f;
#pragma unroll
    for (int n_of = 0; n_of < EACH / 16 * (EACH / 8); n_of++) {
        const int i = n_of / (EACH / 8), t = n_of % (EACH / 8), to = d0 + 16 * i + 2 * g, e = e0 + 8 * t + 2 * c;
        float4 sum = by * (float4)(acc[i][t][0], acc[i][t][1], acc[i][t][2], acc[i][t][3]);
        if (to >= HEAD_DIM || e >= HEAD_DIM || ALONG(i, t)) continue;
        if (whole) {
            const float2 s_to = *(__local const float2 *)(more + to), s_e = *(__local const float2 *)(more + e);
            const float2 e_to = *(__local const float2 *)(less + to), e_e = *(__local const float2 *)(less + e);
            sum -= s_to.xxyy * e_e.xyxy + e_to.xxyy * (s_e.xyxy - e_e.xyxy);
        }
        *(__global float2 *)(parts + (size_t)to * HEAD_DIM + e) = sum.xy;
        *(__global float2 *)(parts + (size_t)(to + 1) * HEAD_DIM + e) = sum.zw;
        if (!whole || (d0 == e0 && (i || t < 2))) continue;
        *(__global float2 *)(parts + (size_t)e * HEAD_DIM + to) = sum.xz;
        *(__global float2 *)(parts + (size_t)(e + 1) * HEAD_DIM + to) = sum.yw;
    }
}
