/*
 * code_mma.cl - code_project of code.cl on matrix units of NVIDIA's GPUs since sm_80.
 *
 *     z(m, i, j) = q(m, i) . x(m, j)       of all dimensions that have bits, x less its mean
 *
 * A warp has 16 rows and all dimensions, whose first factors it makes as it goes: SLICE dimensions of the row and those that they
 * are turned with, a lane two of each. Second factors are a slice of the basis, in local memory for all warps; the next is on its
 * way meanwhile.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:      rows g, g + 8       elements 2 c, 2 c + 1 of a slice's halves
 *                                                           z: dimensions 8 i + 2 c and the next
 *
 * tf32 has 11 bits: what it leaves of a number is another, so that of x q all but 2^-22 is there:
 * x q = first first + first rest + rest first.
 *
 * Of n rows with D dimensions: 3 n D HEAD_DIM multiply-adds; reads n HEAD_DIM numbers once, and the basis for each ROWS rows;
 * writes n D floats.
 *
 * with: code.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DKV_DTYPE=3
 * ptx: sm_80 -DHEAD_DIM=80 -DKV_DTYPE=1
 * ptx: sm_90 -DHEAD_DIM=64 -DKV_DTYPE=2
 */
enum {
    LANES = VLCI_CODE_MMA_ITEMS,
    ROWS = LANES / 2,
    SLICE = 8,
    SLICES = HALF / SLICE,
    TILES = HEAD_DIM / 8,              /* of dimensions */
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

/* As code_project, of ROWS rows. */
__attribute__((reqd_work_group_size(VLCI_CODE_MMA_ITEMS, 1, 1))) __kernel void
code_project_mma(SOURCE_PARAMS, __global const half *mean, int padded, __global const float *basis, int columns, uint basis_at,
                 __global const vlci_code_matrix *matrix, uint first, int most, __global float *z) {
    __local float4 slices[2][2 * TILES * 32]; /* [half][tile][lane]: a pair, and what tf32 leaves of it */
    __local float means[HEAD_DIM] __attribute__((aligned(16)));
    const int item = (int)get_local_id(0), warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4;
    const int m = (int)get_group_id(1), j0 = (int)get_group_id(0) * ROWS + warp * 16;
    const int dims = VLCI_CODE_DIMS(matrix[first + m].widths);
    mean += ((size_t)first + m) * HEAD_DIM;
    basis += ((size_t)basis_at + m) * columns * HEAD_DIM;
    z += (size_t)m * most * padded;
    const row_t low_row = find_row(SOURCE_PASS, m, min(j0 + g, n - 1));
    const row_t high_row = find_row(SOURCE_PASS, m, min(j0 + g + 8, n - 1));
    float acc[TILES][4];
    float2 coming[EACH];
#pragma unroll
    for (int t = 0; t < TILES; t++) acc[t][0] = acc[t][1] = acc[t][2] = acc[t][3] = 0.0f;
    for (int d = item; d < HEAD_DIM; d += LANES) means[d] = vload_half(d, mean);
#pragma unroll
    for (int t = 0; t < EACH; t++) coming[t] = pair_of_basis(basis, 0, item + t * LANES, dims);
#pragma unroll 1
    for (int s = 0; s < SLICES; s++) {
        __local float4 *here = slices[s % 2];
#pragma unroll
        for (int t = 0; t < EACH; t++) {
            const int e = item + t * LANES, i = e / SLICE;
            const float2 x = coming[t], top = (float2)(first_of(x.x), first_of(x.y));
            if (e < HEAD_DIM * SLICE)
                here[(e % SLICE / 4 * TILES + i / 8) * 32 + i % 8 * 4 + e % 4] = (float4)(top.x, top.y, x.x - top.x, x.y - top.y);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (s + 1 < SLICES)
#pragma unroll
            for (int t = 0; t < EACH; t++) coming[t] = pair_of_basis(basis, s + 1, item + t * LANES, dims);
        uint top[2][4], rest[2][4];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const row_t row = r ? high_row : low_row;
            const int d = s * SLICE + 2 * c;
            float2 low = KV_PAIR(row.at + d), high = KV_PAIR(row.at + HALF + d);
            if (row.turn) {
                const float2 cosine = *(__global const float2 *)(row.turn + d);
                const float2 sine = *(__global const float2 *)(row.turn + HALF + d);
                const float2 was = low;
                low = was * cosine + high * sine;
                high = high * cosine - was * sine;
            }
            low -= *(__local const float2 *)(means + d);
            high -= *(__local const float2 *)(means + HALF + d);
            const float x[4] = {low.x, low.y, high.x, high.y};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float one = j0 + g + 8 * r < n ? x[e] : 0.0f;
                top[e / 2][e % 2 * 2 + r] = as_uint(first_of(one));
                rest[e / 2][e % 2 * 2 + r] = as_uint(one - first_of(one));
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int t = 0; t < TILES; t += 2)
                if (t * 8 < dims) {
                    const float4 a = here[(h * TILES + t) * 32 + lane], b = here[(h * TILES + t + 1) * 32 + lane];
                    PTX_MMA_TF32(acc[t], top[h], as_uint(a.x), as_uint(a.y));
                    PTX_MMA_TF32(acc[t + 1], top[h], as_uint(b.x), as_uint(b.y));
                    PTX_MMA_TF32(acc[t], top[h], as_uint(a.z), as_uint(a.w));
                    PTX_MMA_TF32(acc[t + 1], top[h], as_uint(b.z), as_uint(b.w));
                    PTX_MMA_TF32(acc[t], rest[h], as_uint(a.x), as_uint(a.y));
                    PTX_MMA_TF32(acc[t + 1], rest[h], as_uint(b.x), as_uint(b.y));
                }
    }
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int i = t * 8 + 2 * c + e % 2, j = j0 + g + e / 2 * 8;
            if (i < dims && j < padded) z[(size_t)i * padded + j] = acc[t][e];
        }
}
