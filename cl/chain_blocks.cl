/*
 * chain_blocks.cl - what stands between one attention and the next, of one row or two, in one launch: what gemv_blocks does
 * product by product. Weights come to local memory all the while, those of the next product while the last one's sums are
 * still on their way, so that memory is never idle. With ATTENDS attention, too, and so several layers at a time.
 *
 *   ATTEND    a = attention of q                          with ATTENDS, as attend.clh says
 *   OUT       x += a Wo^T + bias                          a: what attention leaves
 *   GATE_UP   gated = act(s z Wg^T) * (s z Wu^T)          z = x weight, s = 1 / sqrt(mean x^2 + eps)
 *   DOWN      x += gated Wd^T + bias
 *   QKV       qkv = s z W^T + bias                        with ROPE it goes on as rope.clh says
 *
 * All rows are f32; W of bf16 lies in blocks (shared.h). A launch runs the stages from `from` to `until` - 1, counted through
 * its layers. Work-groups, no more of them than run at once, walk over units of 16 of W's rows: 8 neighbours and the next 8, or
 * those that they gate or are turned with. A unit's steps are of BLOCKS blocks of k, of which 1 KB each is read:
 *
 *   8 warps    multiply: 4 have the first 8 rows, 4 the others, 2 blocks of a step each; a lane a run of 8 k and 4 rows
 *   1 warp     brings W, FLIGHT steps at a time: more would only queue, and what others wait for behind them
 *   1 warp     ends units: adds up what warps leave in `parts`, which has room for two units
 *
 * A stage begins with rows of x, once `done`, which counts the work-groups that are through with the one before, is whole. All
 * that multiply attend, to one of `shares` of the rows of a piece at a time; what the pieces' shares leave is in `scratch`.
 *
 * ptx: sm_90a -DW_DTYPE=3 -DKV_DTYPE=3 -DROWS=1 -DSTAGES=10 -DACT=1 -DROPE=1
 * ptx: sm_90a -DW_DTYPE=3 -DKV_DTYPE=2 -DROWS=2 -DROOM_X=32768 -DSTAGES=6 -DACT=3 -DROPE=0
 * ptx: sm_90a -DW_DTYPE=3 -DKV_DTYPE=3 -DSTAGES=10 -DROPE=1 -DATTENDS=1 -DLAYERS=4 -DHEAD_DIM=128 -DHEADS=8 -DMMA=1 -DLANES=256
 * with: rope.clh attend.clh chain.clh
 */
#ifndef ROWS
#define ROWS 1 /* at most: 1 or 2 */
#endif
#ifndef ROOM_X
#define ROOM_X 16384 /* floats: rows of the deepest product, or rows and the weight of a norm; VLCI_CHAIN_FEW_ROOM at least */
#endif
#ifndef STAGES
#define STAGES 10 /* steps that are on their way or in use */
#endif
#ifndef FLIGHT
#define FLIGHT 3 /* steps on their way, at most */
#endif
#ifndef ACT
#define ACT VLCI_ACT_SILU
#endif
#ifndef ROPE
#define ROPE 0 /* 1: heads go into the cache */
#endif
#ifndef ATTENDS
#define ATTENDS 0 /* 1: a launch may begin with attention; with ROPE, MMA and LANES of all that multiply */
#endif

enum {
    CREW = 8,
    ITEMS = 32 * CREW,                                   /* that multiply */
    BLOCKS = VLCI_CHAIN_FEW_BLOCKS,
    HALF = BLOCKS * 1024,                                /* bytes: 8 rows of a step */
    AT_X = STAGES * 2 * HALF,                            /* rows of x, behind them the norm's weight */
    AT_PARTS = AT_X + ROOM_X * 4,                        /* of two units, [CREW][ROWS][8] */
    AT_SQUARES = AT_PARTS + 2 * CREW * ROWS * 8 * 4,     /* [ROWS][CREW] */
    AT_BARRIERS = AT_SQUARES + ROWS * CREW * 4,          /* full and empty, of each stage; ready and free, of two units; come */
    AT_LAST = AT_BARRIERS + (2 * STAGES + 5) * 8,        /* whether a share is the last of its piece */
    TOGETHER = 1                                         /* the barrier of all that multiply */
};

/* A product. */
typedef struct {
    __global const uchar *w;
    __global const float *x;
    uint n, k, depth, units;
} stage_t;

#define STAGE_OF(s, t)                                                                                               \
    {                                                                                                                \
        t.w = WEIGHTS_OF(s);                                                                                         \
        t.x = s == OUT ? attended : s == DOWN ? gated : x + x_offset;                                                \
        t.n = s == GATE_UP ? 2 * inner : s == QKV ? n_qkv : hidden;                                                  \
        t.k = s == OUT ? attended_width : s == DOWN ? inner : hidden;                                                \
        t.depth = t.k / 64;                                                                                          \
        t.units = t.n / 16;                                                                                          \
    }

/* Where the first 8 rows of unit i begin, and the other 8: half_dim is half a head, where these are turned. */
PTX_CALL uint2 rows_of(uint s, const stage_t *t, uint half_dim, uint i) {
    if (s == GATE_UP) return (uint2)(8 * i, 8 * i + t->n / 2);
    if (s != QKV || !half_dim) return (uint2)(16 * i, 16 * i + 8);
    const uint each = half_dim / 8, head = i / each, first = (i - head * each) * 8 + head * 2 * half_dim;
    return (uint2)(first, first + half_dim);
}

/* Where row c lies, a multiple of 8: 8 rows are 1 KB of a block. */
PTX_CALL size_t w_at(uint c, uint depth) { return ((size_t)(c / 64) * depth * 64 + c % 64) * 128; }

/* This work-group is through with stage g. The last of them clears what nobody looks at any more. */
PTX_CALL void count_through(__global uint *done, uint g, uint from, uint until, uint groups) {
    if (ptx_count(done + g * VLCI_CHAIN_LINE) != groups - 1) return;
    if (g > from) done[(g - 1) * VLCI_CHAIN_LINE] = 0;
    if (g + 1 == until) done[g * VLCI_CHAIN_LINE] = 0;
}

/* A sum of each of 8 rows, of 4 of which lanes with the same bit 3 have parts; row: of this lane. */
PTX_CALL float rows_sum(const float *of, uint lane, uint *row) {
    const uint odd = lane & 1, second = lane >> 1 & 1;
    const float a = (odd ? of[2] : of[0]) + ptx_butterfly(odd ? of[0] : of[2], 1);
    const float b = (odd ? of[3] : of[1]) + ptx_butterfly(odd ? of[1] : of[3], 1);
    float sum = (second ? b : a) + ptx_butterfly(second ? a : b, 2);
    sum += ptx_butterfly(sum, 4);
    *row = (lane >> 3 & 1) * 4 + odd * 2 + second;
    return sum + ptx_butterfly(sum, 16);
}

#if ATTENDS
/* Share i of all: of which piece, and which of it. Heads have rows of their own number, and divide them by pages. */
typedef struct {
    int piece, nth;
    attend_t of;
} share_of_all_t;
PTX_CALL share_of_all_t find_share(int i, int shares, int lane_groups, int causal, ROPE_PARAMS) {
    const int ys = kv_heads * lane_groups;
    share_of_all_t s;
    s.piece = i / shares;
    s.nth = i - s.piece * shares;
    const int b = s.piece / ys;
    s.of = find_piece(seq_start, heads, kv_heads, causal, 0, b, s.piece - b * ys, ys, 0, 1, KV_PASS);
    const int pages = (s.of.to + PAGE - 1) / PAGE, each = (pages + shares - 1) / shares;
    s.of.from = s.nth * each * PAGE;
    s.of.to = min(s.of.to, s.of.from + each * PAGE);
    return s;
}
#endif

__attribute__((reqd_work_group_size(320, 1, 1))) __kernel void
chain_blocks(ALL_LAYERS, __global const float *attended, __global float *x, uint x_offset, __global float *gated,
             __global float *qkv, __global uint *done, uint m, uint hidden, uint attended_width, uint inner, uint n_qkv,
             float eps, uint from, uint until
#if ROPE
             , ROPE_PARAMS
#endif
#if ATTENDS
             , float attend_scale, int causal, int batch, int lane_groups, int shares, __global float *scratch
#endif
) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local float *rows = (__local float *)(smem + AT_X), *parts = (__local float *)(smem + AT_PARTS);
    __local float *squares = (__local float *)(smem + AT_SQUARES);
    const uint at = (uint)smem, full = at + AT_BARRIERS, empty = full + 8 * STAGES;
    const uint ready = empty + 8 * STAGES, free = ready + 16, come = free + 16;
    const uint item = ptx_item(), lane = item & 31, warp = item >> 5, own = ptx_group(), groups = ptx_groups();
#if ROPE
    const uint half_dim = n_qkv / (uint)(heads + 2 * kv_heads) / 2;
    const int first_layer = layer; /* q, k and v of layer `nth` go into the cache of so many layers further */
#else
    const uint half_dim = 0;
#endif
    stage_t t;
    if (item == 0) {
        for (uint s = 0; s < STAGES; s++) {
            ptx_barrier_init(full + 8 * s, 1);
            ptx_barrier_init(empty + 8 * s, CREW);
        }
        for (uint b = 0; b < 2; b++) {
            ptx_barrier_init(ready + 8 * b, CREW);
            ptx_barrier_init(free + 8 * b, 1);
        }
        ptx_barrier_init(come, 1);
        __asm__ volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    PTX_TOGETHER();

    if (warp == CREW) { /* ---- brings ---- */
        uint sent = 0;
        for (uint g = from; g < until; g++) {
            const uint nth = g / STEPS, s = g % STEPS;
            if (s == ATTEND) continue;
            STAGE_OF(s, t)
            for (uint i = own; i < t.units; i += groups) {
                const uint2 c = rows_of(s, &t, half_dim, i);
                __global const uchar *w = t.w + w_at(lane < BLOCKS ? c.x : c.y, t.depth) + (size_t)(lane % BLOCKS) * 8192;
                for (uint d = 0; d < t.depth; d += BLOCKS, sent++) {
                    const uint stage = sent % STAGES, there = min((uint)BLOCKS, t.depth - d), before = sent - FLIGHT;
                    if (sent >= STAGES) ptx_barrier_wait(empty + 8 * stage, (sent / STAGES + 1) & 1);
                    if (sent >= FLIGHT) ptx_barrier_wait(full + 8 * (before % STAGES), (before / STAGES) & 1);
                    if (lane == 0) ptx_barrier_expect(full + 8 * stage, there * 2048);
                    ptx_warp_sync();
                    if (lane < 2 * BLOCKS && lane % BLOCKS < there)
                        ptx_bulk_copy_once(at + stage * (2 * HALF) + lane * 1024, w + (size_t)d * 8192, 1024, full + 8 * stage);
                }
            }
        }
        return;
    }
    if (warp > CREW) { /* ---- ends units ---- */
        uint ended = 0;
        const uint r = lane >> 4, late = lane >> 3 & 1, nth_row = lane & 7, row = min(r, (uint)(ROWS - 1));
        for (uint g = from; g < until; g++) {
            const uint nth = g / STEPS, s = g % STEPS;
            if (s == ATTEND) continue;
            STAGE_OF(s, t)
            __global const float *bias_of = s == GATE_UP ? 0 : BIAS_OF(s);
            for (uint i = own; i < t.units; i += groups, ended++) {
                /* What is not of this unit's sums is on its way before they are there. x is what this lane left, if anyone. */
                const uint2 begin = rows_of(s, &t, half_dim, i);
                const uint c = (late ? begin.y : begin.x) + nth_row, b = ended & 1;
                __global float *to = x + x_offset + (size_t)row * hidden + c;
                const float plus = bias_of ? ptx_load_fresh_one(bias_of + c) : 0.0f;
                const float was = s == OUT || s == DOWN ? ptx_load_fresh_one(to) : 0.0f;
#if ROPE
                const int layer = first_layer + (int)nth;
                const int head = s == QKV ? (int)(begin.x / (2 * half_dim)) : 0, d = (int)c - head * 2 * (int)half_dim;
                const int turns = s == QKV && phase && head < heads + kv_heads && row < m;
                __global const float *turn = phase + ((size_t)phase_row + row) * 2 * half_dim + (late ? d - (int)half_dim : d);
                const float cosine = turns ? ptx_load_fresh_one(turn) : 1.0f;
                const float sine = turns ? ptx_load_fresh_one(turn + half_dim) : 0.0f;
                __global kv_t *place = 0;
                if (s == QKV && head >= heads && r < m) place = rope_place(head, (int)r, d == 0, ROPE_PASS);
#endif
                ptx_barrier_wait(ready + 8 * b, ended >> 1 & 1);
                float sum = 0.0f;
#pragma unroll
                for (uint w = 0; w < CREW / 2; w++)
                    sum += parts[((b * CREW + late * (CREW / 2) + w) * ROWS + row) * 8 + nth_row];
                if (s == GATE_UP || s == QKV) {
                    float square = 0.0f;
#pragma unroll
                    for (uint w = 0; w < CREW; w++) square += squares[row * CREW + w];
                    sum *= 1.0f / sqrt(square / (float)hidden + eps);
                }
                ptx_warp_sync();
                if (lane == 0) ptx_barrier_arrive(free + 8 * b);
                sum += plus;
                const float other = ptx_butterfly(sum, 8);
                if (r < m && s == GATE_UP && !late) gated[(size_t)r * inner + c] = activate(sum, ACT) * other;
                if (r < m && (s == OUT || s == DOWN)) *to = was + sum;
#if ROPE
                if (turns) sum = late ? sum * cosine + other * sine : sum * cosine - other * sine;
                if (place)
                    KV_STORE(sum, place, d);
                else
#endif
                    if (r < m && s == QKV) qkv[(size_t)r * n_qkv + c] = sum;
            }
            ptx_warp_sync();
            if (lane == 0) count_through(done, g, from, until, groups);
        }
        return;
    }
    /* ---- multiplies ---- */
    uint stage = 0, parity = 0, made = 0, begun = 0;
    for (uint g = from; g < until; g++) {
        const uint nth = g / STEPS, s = g % STEPS, item = ptx_item(), lane = item & 31, warp = item >> 5; /* anew: none stay */
#if ATTENDS
        if (s == ATTEND) {
            const int layer = first_layer - 1 + (int)nth;
            __local float4 *room = (__local float4 *)rows, *queries = room + ROOM;
            __local float2 *stats = (__local float2 *)(queries + HEADS * QUERY);
            for (int i = (int)own, first = 1; i < kv_heads * lane_groups * batch * shares; i += (int)groups, first = 0) {
                const share_of_all_t p = find_share(i, shares, lane_groups, causal, ROPE_PASS);
                if (first) {
                    if (item == 0 && g > from) wait_until(done + (g - 1) * VLCI_CHAIN_LINE, groups);
                    ptx_sync(TOGETHER, ITEMS);
                }
                attend(&p.of, qkv, attend_scale, 0, n_qkv, row_stride, (int)item, TOGETHER, room, queries, stats);
                end_share(&p.of, p.nth, shares, (__global uint *)scratch + p.piece,
                          scratch + VLCI_ATTENTION_COUNTERS + (size_t)p.piece * shares * (HEADS * RECORD), (int)item, TOGETHER,
                          room, stats, (__local int *)(smem + AT_LAST), (__global float *)attended, 0, 0, heads, (int)m);
            }
            ptx_sync(TOGETHER, ITEMS);
            if (item == 0) count_through(done, g, from, until, groups);
            continue;
        }
#endif
        STAGE_OF(s, t)
        if (own >= t.units) continue;
        __global const float *weight = s == GATE_UP ? OF(weight) : s == QKV ? OF(next_weight) : 0;
        proxy_fence_all(); /* bulk copies go where it was */
        ptx_sync(TOGETHER, ITEMS);
        if (item == 0) {
            ptx_barrier_expect(come, (weight ? m + 1 : m) * t.k * 4);
            if (weight) ptx_bulk_copy((uint)(rows + m * t.k), (__global const uchar *)weight, t.k * 4, come);
            if (g > from) wait_until(done + (g - 1) * VLCI_CHAIN_LINE, groups);
            proxy_fence_all();
            ptx_bulk_copy((uint)rows, (__global const uchar *)t.x, m * t.k * 4, come);
        }
        ptx_warp_sync();
        ptx_barrier_wait(come, begun++ & 1);
        if (weight) { /* x becomes z */
            for (uint r = 0; r < m; r++) {
                float square = 0.0f;
                for (uint i = item; i < t.k / 4; i += ITEMS) {
                    __local float4 *here = (__local float4 *)(rows + r * t.k) + i;
                    const float4 v = *here;
                    square += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
                    *here = v * ((__local float4 *)(rows + m * t.k))[i];
                }
#pragma unroll
                for (uint bit = 16; bit; bit /= 2) square += ptx_butterfly(square, bit);
                if (lane == 0) squares[r * CREW + warp] = square;
            }
            ptx_sync(TOGETHER, ITEMS);
        }
        const uint second = warp >> 2, block_of = (warp & 3) * 2 + (lane >> 4), first_row = (lane >> 3 & 1) * 4, run = lane & 7;
        for (uint i = own; i < t.units; i += groups, made++) {
            float4 acc[ROWS][4];
#pragma unroll
            for (uint r = 0; r < ROWS; r++) acc[r][0] = acc[r][1] = acc[r][2] = acc[r][3] = 0.0f;
            for (uint d = 0; d < t.depth; d += BLOCKS) {
                const uint block = d + block_of, of = at + stage * (2 * HALF) + second * HALF + block_of * 1024 + first_row * 128;
                ptx_barrier_wait(full + 8 * stage, parity);
                if (block < t.depth) {
                    float4 v[ROWS][2];
                    uint4 w[4];
#pragma unroll
                    for (uint r = 0; r < ROWS; r++) {
                        __local const float4 *p = (__local const float4 *)(rows + min(r, m - 1) * t.k + block * 64 + run * 8);
                        v[r][0] = p[0];
                        v[r][1] = p[1];
                    }
#pragma unroll
                    for (uint j = 0; j < 4; j++) w[j] = run_at(of + j * 128 + (run ^ (first_row + j)) * 16);
#pragma unroll
                    for (uint j = 0; j < 4; j++) {
                        const float8 wide = bf16_run(w[j]);
#pragma unroll
                        for (uint r = 0; r < ROWS; r++) {
                            acc[r][j] += wide.lo * v[r][0];
                            acc[r][j] += wide.hi * v[r][1];
                        }
                    }
                }
                ptx_warp_sync();
                if (lane == 0) ptx_barrier_arrive(empty + 8 * stage);
                if (++stage == STAGES) {
                    stage = 0;
                    parity ^= 1;
                }
            }
            const uint b = made & 1;
            if (made >= 2) ptx_barrier_wait(free + 8 * b, (made >> 1) + 1 & 1);
#pragma unroll
            for (uint r = 0; r < ROWS; r++) {
                uint row;
                float each[4];
#pragma unroll
                for (uint j = 0; j < 4; j++) each[j] = (acc[r][j].x + acc[r][j].y) + (acc[r][j].z + acc[r][j].w);
                const float sum = rows_sum(each, lane, &row);
                if (!(lane & 20)) parts[((b * CREW + warp) * ROWS + r) * 8 + row] = sum;
            }
            ptx_warp_sync();
            if (lane == 0) ptx_barrier_arrive(ready + 8 * b);
        }
    }
}
