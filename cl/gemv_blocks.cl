/*
 * gemv_blocks.cl - y = act(norm(x) W^T + bias) (+ y) for few rows of x (decode), W in blocks: it is read once, for all rows.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])              r < m <= ROWS, c < n
 *   GATED: y[r][c] = act(gate[r][c]) * up[r][c]                 c < n / 2, W = [gate | up], n / 2 a multiple of 64
 *   with `norm`, x is RMSNorm(x): sum_k x[k] norm[k] W[c][k] / sqrt(mean_k x[k]^2 + eps), all in the one pass
 *   APPEND: y is [q | k | v] and goes on into the cache (rope.clh): q alone comes to lie in y, rotated
 *
 * A work-group computes 16 sums of each row of x: of 16 neighbouring columns, of 8 and of those they gate, or of 8 and of
 * those they are rotated with, half a head further. 64 work-items read 8 + 8 rows of a block, 16 bytes of each; the
 * work-group's strips of 64 take every STRIPS-th block, BATCH of them at a time, whose weights are all on their way before
 * the first is needed. Then the partial sums meet in local memory:
 *
 *   strip 0: block 0, STRIPS, ..     row of the block: item / 8 % 8, and + 8     run of 8 k: item % 8, swizzled
 *   strip 1: block 1, ..
 *
 * Rows of x beyond m repeat the last one and are not stored.
 *
 * with: rope.clh
 *
 * build: -DROWS=1 -DGATED=0 -DALIGNED=1
 * build: -DROWS=2 -DAPPEND=1 -DALIGNED=1
 * build: -DROWS=8 -DGATED=1 -DALIGNED=0 -DLANES=128
 */
#ifndef ROWS
#define ROWS 1 /* of x that a kernel is built for: a power of two up to VLCI_GEMV_ROWS_MAX */
#endif
#ifndef LANES
#define LANES VLCI_GEMV_BLOCK_LANES /* work-items of a work-group: a multiple of 64 */
#endif
#ifndef GATED
#define GATED 0
#endif
#ifndef APPEND
#define APPEND 0 /* 1: heads of whole runs of 16 */
#endif
#ifndef ALIGNED
#define ALIGNED 0 /* 1: k and x_offset are multiples of 8 */
#endif
#ifndef PASSING
#define PASSING 0 /* 1: inline PTX works; weights, which are read once, leave the nearest cache to x */
#endif
#ifndef ASKING
#define ASKING 0 /* 1: inline PTX of sm_90 works; what the next launch reads first is asked for ahead */
#endif
#ifndef BATCH
#define BATCH 2 /* blocks of a strip at a time; more of them take registers that other work-groups need */
#endif
#define STRIPS (LANES / 64)
#define PARTS  (8 * STRIPS)  /* partial sums of one output */
#define OWN    (GATED ? 8 : 16) /* columns of a work-group */
#if APPEND
#define APPEND_PARAMS , ROPE_PARAMS
#else
#define APPEND_PARAMS
#endif
#define SUMS   (16 * ROWS)   /* outputs, [0 or 1][row of x][8]; behind them, the squares of ROWS rows */

/* 8 neighbours of a row of W, as they lie. */
#if PASSING
static inline uint4 w_fetch(__global const w_t *p) {
    uint4 u;
    __asm__ volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(u.x), "=r"(u.y), "=r"(u.z), "=r"(u.w) : "l"(p));
    return u;
}
#else
static inline uint4 w_fetch(__global const w_t *p) { return *(__global const uint4 *)p; }
#endif
#if W_DTYPE == VLCI_DTYPE_F16
static inline float8 w_wide(uint4 u) { return vload_half8(0, (const half *)&u); }
#else
static inline float8 w_wide(uint4 u) { return bf16_run(u); }
#endif

/* What the next launch reads first, in pieces: it comes nearer while the last work-groups of this launch, and what lies between
 * both, leave memory idle. */
static inline void ask(__global const w_t *next, uint pieces) {
#if ASKING
    for (uint i = get_local_id(0) * get_num_groups(0) + get_group_id(0); i < pieces; i += LANES * get_num_groups(0))
        __asm__ volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(next + (size_t)i * (VLCI_GEMV_PIECE / 2)),
                         "r"(VLCI_GEMV_PIECE));
#endif
}

/* 8 of a row's k numbers from i on, zeros behind the last. */
static inline float8 x_run(__global const float *x, uint i, uint k) {
#if ALIGNED
    return f32_run(x + i);
#else
    float v[8];
    for (uint j = 0; j < 8; j++) v[j] = i + j < k ? x[i + j] : 0.0f;
    return vload8(0, v);
#endif
}

/* Where row c of W begins, c a multiple of 8. */
static inline size_t w_row(uint c, uint depth) { return ((size_t)(c / 64) * depth * 64 + c % 64) * 64; }

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void
gemv_blocks(__global const w_t *restrict w, __global const float *restrict add, __global const float *restrict x,
            uint x_offset, __global float *restrict y, uint y_offset, uint m, uint n, uint length, int act, int accumulate,
            __global const float *restrict norm, float eps, __global const w_t *next, uint pieces APPEND_PARAMS) {
    __local float partial[(SUMS + ROWS) * (PARTS + 1)];
    const uint lane = get_local_id(0), row = lane / 8 % 8, place = lane % 8, strip = lane / 64, run = place ^ row;
    const uint columns = GATED ? n / 2 : n, depth = (length + 63) / 64, group = get_group_id(0);
#if APPEND
    const uint half_dim = n / (heads + 2 * kv_heads) / 2, head = group / (half_dim / 8), first = group % (half_dim / 8) * 8;
    const uint column = head * half_dim * 2 + first, second = column + half_dim;
#else
    const uint column = group * OWN, second = column + (GATED ? columns : 8);
#endif
    __global const w_t *from = w + w_row(column, depth) + row * 64 + place * 8;
    const size_t other = w_row(second, depth) - w_row(column, depth); /* from a run to the second one */
    float4 acc[2][ROWS];
    float squares[ROWS];
    for (uint r = 0; r < ROWS; r++) {
        for (uint g = 0; g < 2; g++) acc[g][r] = 0.0f;
        squares[r] = 0.0f;
    }
    x += x_offset;
    for (uint d = strip; d < depth; d += BATCH * STRIPS) {
        uint4 fetched[BATCH][2];
#pragma unroll
        for (uint b = 0; b < BATCH; b++) {
            __global const w_t *at = from + (size_t)min(d + b * STRIPS, depth - 1) * 4096; /* beyond: it is not taken */
            fetched[b][0] = w_fetch(at);
            fetched[b][1] = w_fetch(at + other);
        }
#pragma unroll
        for (uint b = 0; b < BATCH; b++) {
            const uint i = (d + b * STRIPS) * 64 + run * 8;
            if (i >= length) continue;
            const float8 wide[2] = {w_wide(fetched[b][0]), w_wide(fetched[b][1])};
            const float8 scale = norm ? x_run(norm, i, length) : (float8)(1.0f);
#pragma unroll
            for (uint r = 0; r < ROWS; r++) {
                float8 v = x_run(x + (size_t)min(r, m - 1) * length, i, length);
                if (norm) {
                    const float4 s = v.lo * v.lo + v.hi * v.hi;
                    squares[r] += (s.x + s.y) + (s.z + s.w);
                    v *= scale;
                }
#pragma unroll
                for (uint g = 0; g < 2; g++) acc[g][r] += wide[g].lo * v.lo + wide[g].hi * v.hi;
            }
        }
    }
    ask(next, pieces);
    const uint part = strip * 8 + place;
    for (uint r = 0; r < ROWS; r++) {
        for (uint g = 0; g < 2; g++)
            partial[((g * ROWS + r) * 8 + row) * (PARTS + 1) + part] =
                (acc[g][r].x + acc[g][r].y) + (acc[g][r].z + acc[g][r].w);
        if (row == 0) partial[(SUMS + r) * (PARTS + 1) + part] = squares[r];
    }
    const uint outputs = norm ? SUMS + ROWS : SUMS;
    for (uint reach = PARTS / 2; reach; reach /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint i = lane; i < outputs * reach; i += LANES) {
            __local float *at = partial + i / reach * (PARTS + 1) + i % reach;
            at[0] += at[reach];
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint i = lane; i < (APPEND ? 8 : OWN) * ROWS; i += LANES) {
        const uint r = i / 8 % ROWS, c = column + i / (8 * ROWS) * 8 + i % 8;
        if (r >= m || c >= columns) continue;
        const float scale = norm ? 1.0f / sqrt(partial[(SUMS + r) * (PARTS + 1)] / (float)length + eps) : 1.0f;
        const float sum = partial[i * (PARTS + 1)] * scale;
        __global float *at = y + (size_t)y_offset + (size_t)r * columns;
#if APPEND
        const float more = partial[(8 * ROWS + i) * (PARTS + 1)] * scale;
        rope_put(add ? sum + add[c] : sum, add ? more + add[c + half_dim] : more, at, first + i % 8, head, r, half_dim,
                 ROPE_PASS);
#elif GATED
        at[c] = activate(sum, act) * (partial[(8 * ROWS + i) * (PARTS + 1)] * scale);
#else
        put(sum, at, add, c, act, accumulate);
#endif
    }
}
