/*
 * gemm_wgmma.cl - y = act(x W^T + bias) (+ y) on Hopper's matrix units; W and x of 16 bits, sums in f32.
 *
 *   y[r][c] = act(sum_k x[r][k] W[c][k] + bias[c])      r < m, c < n
 *
 * W lies in blocks, x in stripes (shared.h). The roles are swapped: W is wgmma's a (64 of its rows an instruction) and
 * the rows of x its n, so that a ragged m wastes little and the tile of rows can be chosen to fill the device:
 *
 *            stripes of x: TOKENS rows x 64           a work-group, 384 work-items, walks over tiles:
 *            +---------------------------+              warpgroups 0, 1   BLOCKS * 64 columns of y each
 *   blocks   | warpgroup 0: BLOCKS x 64  |              warpgroup 2       one lane brings STAGES stages of W and x
 *   of W     +---------------------------+                                by bulk copies, as far ahead as there is room
 *            | warpgroup 1: BLOCKS x 64  |
 *            +---------------------------+
 *
 * OUT 0: y is f32 rows. 1: y is stripes of 16 bits, what the next product reads. 2: gated, stripes: W is [gate | up],
 * BLOCKS is 2, and y[r][c] = act(gate[r][c]) * up[r][c], c < n / 2, the n / 2 a multiple of 64.
 * Tiles go in bands of BAND tiles of rows down all of W, so that what runs at once shares both in the cache.
 *
 * SHARED, for few rows, where reading W is all the work: `split` work-groups share a tile, each with a part of its steps of
 * 64 k, so that more units read. Each leaves its sums in `parts`, behind counters of tiles; the last of them to be done adds
 * them up in their order, and stores.
 *
 * ptx: sm_90a -DW_DTYPE=3 -DTOKENS=64 -DBLOCKS=1 -DSTAGES=8 -DOUT=0 -DACT=0 -DSHARED=1
 * ptx: sm_90a -DW_DTYPE=2 -DTOKENS=32 -DBLOCKS=2 -DSTAGES=6 -DOUT=2 -DACT=1 -DSHARED=1
 * ptx: sm_90a -DW_DTYPE=3 -DTOKENS=256 -DBLOCKS=1 -DSTAGES=4 -DOUT=0 -DACT=0
 * ptx: sm_90a -DW_DTYPE=2 -DTOKENS=152 -DBLOCKS=1 -DSTAGES=6 -DOUT=1 -DACT=4
 * ptx: sm_90a -DW_DTYPE=3 -DTOKENS=88 -DBLOCKS=2 -DSTAGES=4 -DOUT=2 -DACT=1
 * ptx: sm_90a -DW_DTYPE=3 -DTOKENS=128 -DBLOCKS=2 -DSTAGES=4 -DOUT=2 -DACT=1
 */
#ifndef TOKENS
#define TOKENS 128 /* rows of x of a tile: a multiple of 16, at most 256 / BLOCKS */
#endif
#ifndef BLOCKS
#define BLOCKS 1 /* of W, of a warpgroup */
#endif
#ifndef STAGES
#define STAGES 4 /* of 64 k, on their way or in use */
#endif
#ifndef OUT
#define OUT 0
#endif
#ifndef ACT
#define ACT VLCI_ACT_NONE
#endif
#ifndef SHARED
#define SHARED 0
#endif
#if W_DTYPE == VLCI_DTYPE_F16
#define TYPE       "f16"
#define PAIR(a, b) ptx_f16x2(to_f16_range(a), to_f16_range(b))
#else
#define TYPE       "bf16"
#define PAIR(a, b) ptx_bf16x2(a, b)
#endif

enum {
    BAND = 8,
    SIDE = 2 * BLOCKS,                                 /* blocks of W of a tile */
    X_BYTES = (TOKENS * 128 + 1023) / 1024 * 1024,
    STAGE = SIDE * 8192 + X_BYTES,
    WIDE = OUT == 2 ? 1 : BLOCKS,                      /* blocks of columns that a warpgroup stores */
    PASS = 32 / WIDE,                                  /* rows of y of a pass through local memory */
    PASS_ROW = WIDE * 128 + 16,                        /* bytes of one */
    PASS_BYTES = PASS * PASS_ROW,
    PASSES = (TOKENS + PASS - 1) / PASS,
    AT_OUT = STAGES * STAGE,                           /* two buffers of a pass for each warpgroup */
    AT_BARRIERS = AT_OUT + (OUT ? 4 * PASS_BYTES : 0)  /* full and empty, of each stage: VLCI_WGMMA_LOCAL in all */
};

/* What a work-group does next: steps from .. until - 1 of a tile. */
typedef struct {
    uint piece, tile, from, until;
} piece_t;
#if SHARED
#define SHARED_PARAMS , __global float *parts, uint split
#define SPLIT         split
#define BRING_WEIGHTS ptx_bulk_copy_once /* no other tile of rows reads them */
#else
#define SHARED_PARAMS
#define SPLIT         1
#define BRING_WEIGHTS ptx_bulk_copy
#endif
PTX_CALL piece_t piece_of(uint i, uint depth, uint split) {
    const uint share = (depth + split - 1) / split;
    piece_t p;
    p.piece = i;
    p.tile = i / split;
    p.from = (i - p.tile * split) * share;
    p.until = min(depth, p.from + share);
    return p;
}

/* Tile i: which rows of x, which columns of y. */
typedef struct {
    uint rows, columns;
} tile_t;
PTX_CALL tile_t tile_of(uint i, uint row_tiles, uint column_tiles) {
    const uint per = BAND * column_tiles, band = i / per, in = i - band * per, width = min((uint)BAND, row_tiles - band * BAND);
    tile_t t;
    t.columns = in / width;
    t.rows = band * BAND + in - t.columns * width;
    return t;
}

#if SHARED
#define PART (BLOCKS * TOKENS / 8) /* vectors of 4 sums of a work-item */

/* Where the sums of piece i of a warpgroup's columns are left. */
PTX_CALL __global float *part_of(__global float *parts, uint i) {
    const uint item = ptx_item();
    return parts + VLCI_GEMM_SHARED_COUNTERS + ((size_t)(2 * i + (item >> 7)) * (PART * 128) + (item & 127)) * 4;
}

/* Adds pieces i .. i + n - 1, all of which are on their way before the first is needed. */
#define ADD_PARTS(n)                                                                                                 \
    {                                                                                                                \
        float4 v[n][PART];                                                                                           \
        _Pragma("unroll") for (uint e = 0; e < (n); e++) {                                                           \
            __global const float *from = part_of(parts, i + e);                                                      \
            _Pragma("unroll") for (uint j = 0; j < PART; j++) v[e][j] = ptx_load_fresh(from + j * 512);              \
        }                                                                                                            \
        _Pragma("unroll") for (uint e = 0; e < (n); e++) _Pragma("unroll") for (uint j = 0; j < PART; j++) {         \
            float *d = j < TOKENS / 8 ? d0 + 4 * j : d1 + 4 * (j - TOKENS / 8);                                      \
            d[0] += v[e][j].x;                                                                                       \
            d[1] += v[e][j].y;                                                                                       \
            d[2] += v[e][j].z;                                                                                       \
            d[3] += v[e][j].w;                                                                                       \
        }                                                                                                            \
    }

/* Whether this work-group is the last to be done with its tile; then d is the sum of all parts. */
PTX_CALL int gather_parts(float *d0, float *d1, __global float *parts, const piece_t *p, uint depth, uint split) {
    const uint share = (depth + split - 1) / split, there = (depth + share - 1) / share, group = ptx_item() >> 7;
    __global float4 *own = (__global float4 *)part_of(parts, p->piece);
    int is_last = 0;
#pragma unroll
    for (uint j = 0; j < PART; j++) {
        const float *d = j < TOKENS / 8 ? d0 + 4 * j : d1 + 4 * (j - TOKENS / 8);
        own[j * 128] = (float4)(d[0], d[1], d[2], d[3]);
    }
    ptx_sync(1 + group, 128);
    if ((ptx_item() & 127) == 0) {
        __global uint *counter = (__global uint *)parts + 2 * p->tile + group;
        is_last = ptx_count(counter) == there - 1;
        if (is_last) *counter = 0;
    }
    if (!ptx_sync_any(1 + group, 128, is_last)) return 0;
#pragma unroll
    for (uint j = 0; j < TOKENS / 2; j++) d0[j] = d1[j] = 0.0f;
    uint i = p->tile * split;
    const uint end = i + there;
#if PART <= 8
    for (; i + 1 < end; i += 2) ADD_PARTS(2)
#endif
    for (; i < end; i++) ADD_PARTS(1)
    return 1;
}
#endif

#if OUT == 0
/* Of 8 rows of x, a lane holds columns lane / 4 and + 8, rows 2 (lane % 4) and + 1. What is added to is read for 32 rows before
 * the first of them is stored, or each store would wait for a read. */
PTX_CALL void store_rows(const float *d, __global float *y, __global const float *bias, uint row, uint column, uint m,
                         uint n, uint accumulate) {
    const uint lane = ptx_lane(), c = column + (lane >> 2);
    const float b0 = bias && c < n ? bias[c] : 0.0f, b1 = bias && c + 8 < n ? bias[c + 8] : 0.0f;
    row += 2 * (lane & 3);
    y += (size_t)row * n + c;
#pragma unroll
    for (uint first = 0; first < TOKENS / 8; first += 4) {
        float was[16];
#pragma unroll
        for (uint i = 0; i < 16; i++) { /* which of 4 times 8 rows, which column, which row */
            const uint j = first + i / 4, r = 8 * j + (i & 1), right = (i & 2) * 4;
            was[i] = 0.0f;
            if (j < TOKENS / 8 && accumulate && row + r < m && c + right < n) was[i] = y[(size_t)r * n + right];
        }
#pragma unroll
        for (uint i = 0; i < 16; i++) {
            const uint j = first + i / 4, r = 8 * j + (i & 1), right = (i & 2) * 4;
            if (j < TOKENS / 8 && row + r < m && c + right < n)
                y[(size_t)r * n + right] = was[i] + activate(d[4 * j + (i & 3)] + (right ? b1 : b0), ACT);
        }
    }
}
#else
/*
 * PASS rows at a time, transposed by stmatrix into [row][column] and stored as runs of 16 bytes. value(b, i): number i of the
 * warpgroup's columns b, activated.
 */
#if OUT == 2
#define VALUE(b, i) (activate(d0[i], ACT) * d1[i])
#elif BLOCKS == 2
#define VALUE(b, i) activate(((b) ? d1[i] : d0[i]) + ((i) & 2 ? bias_high[b] : bias_low[b]), ACT)
#else
#define VALUE(b, i) activate(d0[i] + ((i) & 2 ? bias_high[b] : bias_low[b]), ACT)
#endif
#define VALUES(b, i) PAIR(VALUE(b, i), VALUE(b, (i) + 1))
#endif

__attribute__((reqd_work_group_size(384, 1, 1))) __kernel void
gemm_wgmma(__global const uchar *restrict w, __global const float *restrict bias, __global const uchar *restrict x,
           __global uchar *restrict y, uint y_offset, uint m, uint n, uint k, uint accumulate SHARED_PARAMS) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    const uint at = (uint)smem, full = at + AT_BARRIERS, empty = full + 8 * STAGES, item = ptx_item();
    const uint columns = OUT == 2 ? n / 2 : n, depth = (k + 63) / 64, blocks = (n + 63) / 64;
    const uint row_tiles = (m + TOKENS - 1) / TOKENS, width = OUT == 2 ? 128 : SIDE * 64;
    const uint column_tiles = (columns + width - 1) / width, tiles = row_tiles * column_tiles;
    const uint pieces = tiles * SPLIT;
    if (item == 0) {
        for (uint s = 0; s < STAGES; s++) {
            ptx_barrier_init(full + 8 * s, 1);
            ptx_barrier_init(empty + 8 * s, 8); /* a lane of each warp that reads */
        }
        __asm__ volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __asm__ volatile("bar.sync 0;" ::: "memory");

    if (item >= 256) { /* ---- brings ---- */
        if (item > 256) return;
        const uint x_rows = (uint)VLCI_STRIPE_ROWS(m);
        uint stage = 0, phase = 1;
        for (uint i = ptx_group(); i < pieces; i += ptx_groups()) {
            const piece_t p = piece_of(i, depth, SPLIT);
            const tile_t t = tile_of(p.tile, row_tiles, column_tiles);
#if OUT == 2 /* gate, up; gate, up */
            const uint first = t.columns * 2, ups = columns / 64, there = min(2u, ups - first) * 2;
#define BLOCK_OF(b) (first + (b) / 2 + ((b) & 1) * ups)
#else
            const uint first = t.columns * SIDE, there = min((uint)SIDE, blocks - first);
#define BLOCK_OF(b) (first + (b))
#endif
            for (uint d = p.from; d < p.until; d++) {
                const uint to = at + stage * STAGE;
                ptx_barrier_wait(empty + 8 * stage, phase);
                ptx_barrier_expect(full + 8 * stage, there * 8192 + TOKENS * 128);
                ptx_bulk_copy(to + SIDE * 8192, x + ((size_t)d * x_rows + t.rows * TOKENS) * 128, TOKENS * 128, full + 8 * stage);
                for (uint b = 0; b < there; b++)
                    BRING_WEIGHTS(to + b * 8192, w + ((size_t)BLOCK_OF(b) * depth + d) * 8192, 8192, full + 8 * stage);
                if (++stage == STAGES) {
                    stage = 0;
                    phase ^= 1;
                }
            }
        }
        return;
    }
    /* ---- multiplies ---- */
    const uint group = item >> 7, lane = item & 31, warp = item >> 5 & 3;
    uint stage = 0, phase = 0;
#if OUT
    uint flip = 0;
#endif
    for (uint i = ptx_group(); i < pieces; i += ptx_groups()) {
        const piece_t p = piece_of(i, depth, SPLIT);
        const tile_t t = tile_of(p.tile, row_tiles, column_tiles);
        if (p.from >= p.until) continue; /* depth ended before */
        float d0[TOKENS / 2];
#if BLOCKS == 2
        float d1[TOKENS / 2];
#endif
#pragma unroll
        for (uint j = 0; j < TOKENS / 2; j++) {
            d0[j] = 0.0f;
#if BLOCKS == 2
            d1[j] = 0.0f;
#endif
        }
        uint before = 0;
        for (uint d = p.from; d < p.until; d++) {
            const uint from = at + stage * STAGE;
            const ulong a = PTX_TILE_ROWS(from + group * (BLOCKS * 8192)), b = PTX_TILE_ROWS(from + SIDE * 8192);
            ptx_barrier_wait(full + 8 * stage, phase);
            PTX_WGMMA_FENCE();
#pragma unroll
            for (uint j = 0; j < 4; j++) { /* 16 k are 32 bytes further */
                PTX_WGMMA(TYPE, TOKENS, d0, a + 2 * j, b + 2 * j);
#if BLOCKS == 2
                PTX_WGMMA(TYPE, TOKENS, d1, a + 512 + 2 * j, b + 2 * j);
#endif
            }
            PTX_WGMMA_COMMIT();
            PTX_WGMMA_WAIT(1);
            if (d > p.from && lane == 0) ptx_barrier_arrive(empty + 8 * before); /* the stage before is read */
            before = stage;
            if (++stage == STAGES) {
                stage = 0;
                phase ^= 1;
            }
        }
        PTX_WGMMA_WAIT(0);
        if (lane == 0) ptx_barrier_arrive(empty + 8 * before);
#pragma unroll
        for (uint j = 0; j < TOKENS / 2; j++) {
            PTX_KEEP(d0[j]);
#if BLOCKS == 2
            PTX_KEEP(d1[j]);
#endif
        }
#if SHARED
#if BLOCKS == 1
        float d1[TOKENS / 2];
#endif
        if (p.until - p.from < depth && !gather_parts(d0, d1, parts, &p, depth, SPLIT)) continue;
#endif
        const uint row = t.rows * TOKENS, column = (t.columns * 2 + group) * (WIDE * 64);
#if OUT == 0
        __global float *to = (__global float *)y + y_offset;
        store_rows(d0, to, bias, row, column + warp * 16, m, n, accumulate);
#if BLOCKS == 2
        store_rows(d1, to, bias, row, column + 64 + warp * 16, m, n, accumulate);
#endif
#else
        const uint y_rows = (uint)VLCI_STRIPE_ROWS(m), buffers = at + AT_OUT + group * 2 * PASS_BYTES;
#if OUT == 1
        float bias_low[WIDE], bias_high[WIDE];
#pragma unroll
        for (uint b = 0; b < WIDE; b++) {
            const uint c = column + b * 64 + warp * 16 + (lane >> 2);
            bias_low[b] = bias && c < n ? bias[c] : 0.0f;
            bias_high[b] = bias && c + 8 < n ? bias[c + 8] : 0.0f;
        }
#endif
        /* lanes 0-7 address columns 0-7 of rows 0-7, 8-15 columns 8-15 of them, 16-31 the same of rows 8-15 */
        const uint put_at = ((lane >> 4) * 8 + (lane & 7)) * PASS_ROW + warp * 32 + (lane >> 3 & 1) * 16;
#pragma unroll
        for (uint pass = 0; pass < PASSES; pass++) {
            const uint buffer = buffers + ((pass ^ flip) & 1) * PASS_BYTES;
#pragma unroll
            for (uint h = 0; h < PASS / 16; h++)
#pragma unroll
                for (uint b = 0; b < WIDE; b++) {
                    const uint j = 4 * (pass * (PASS / 8) + h * 2), to = buffer + put_at + h * 16 * PASS_ROW + b * 128;
                    if (2 * j + 8 < TOKENS)
                        __asm__ volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to),
                                         "r"(VALUES(b, j)), "r"(VALUES(b, j + 2)), "r"(VALUES(b, j + 4)),
                                         "r"(VALUES(b, j + 6))
                                         : "memory");
                    else if (2 * j < TOKENS) /* the last 8 rows */
                        __asm__ volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(to),
                                         "r"(VALUES(b, j)), "r"(VALUES(b, j + 2))
                                         : "memory");
                }
            __asm__ volatile("bar.sync %0, 128;" ::"r"(1 + group) : "memory");
#pragma unroll
            for (uint q = item & 127; q < PASS * WIDE * 8; q += 128) {
                const uint r = q / (WIDE * 8), run = q % (WIDE * 8), c = column + run * 8, of = pass * PASS + r;
                uint v0, v1, v2, v3;
                __asm__ volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                                 : "=r"(v0), "=r"(v1), "=r"(v2), "=r"(v3)
                                 : "r"(buffer + r * PASS_ROW + run * 16)
                                 : "memory");
                if (of < TOKENS && row + of < m && c < (columns + 63) / 64 * 64)
                    *(__global uint4 *)(y + 2 * VLCI_STRIPE_AT(row + of, c, y_rows)) = (uint4)(v0, v1, v2, v3);
            }
        }
        flip ^= PASSES & 1; /* an odd number of passes: the next tile begins in the other buffer */
#endif
    }
}
