/*
 * chain_wgmma.cl - what stands between one attention and the next, of few rows, in one launch on Hopper's matrix units: each
 * unit asks for the weights of a product while the one before it is still being added up, and norms cost no launch. With ATTENDS
 * of many sequences with short caches, attention too, and so several layers at a time.
 *
 *   ATTEND    a = attention of q              with ATTENDS, as attend.clh says, but for how pages come
 *   OUT       x += a Wo^T + bias              z = x weight, squares of x          a: what attention leaves
 *   GATE_UP   gated = act(s z Wg^T) * (s z Wu^T)                                  s = 1 / sqrt(mean x^2 + eps) of each row
 *   DOWN      x += gated Wd^T + bias          z = x weight of the next norm, squares of x
 *   QKV       qkv = s z W^T + bias            with ROPE it goes on as rope.clh says
 *
 * a, z, gated are stripes of bf16, W lies in blocks (shared.h), x and qkv are f32 rows. A launch runs the stages from `from` to
 * `until` - 1, counted through its layers. The roles are those of gemm_wgmma.cl: W is wgmma's a, the rows are its n. Work-groups,
 * no more of them than run at once, walk over pieces of tiles; a lane of the third warpgroup brings both operands, W ahead of a
 * stage's beginning and the rows behind it, two of its warps find s, the other two warpgroups multiply:
 *
 *   GATE_UP   tiles of 2 x (64 of gate | 64 of up), a warpgroup has 64 of both; steps of 64 k
 *   others    tiles of 128 of W's rows, a warpgroup has 64 of them; steps of 128 k, whose halves go to sums of their own
 *
 * Of a stage but GATE_UP, `split` work-groups share a tile, each with a part of its steps. They leave their sums in `parts`,
 * and each warpgroup adds up its share of the rows: it looks at their places until none holds NOT_YET any more, and leaves that
 * there for the stage, or the launch, behind. Of each stage one counter, `done`, says how many warpgroups are through.
 *
 * ptx: sm_90a -DW_DTYPE=3 -DKV_DTYPE=3 -DTOKENS=64 -DSTAGES=4 -DACT=1 -DROPE=1
 * ptx: sm_90a -DW_DTYPE=3 -DKV_DTYPE=3 -DTOKENS=32 -DSTAGES=5 -DACT=3 -DROPE=0
 * ptx: sm_90a -DW_DTYPE=3 -DKV_DTYPE=3 -DROPE=1 -DATTENDS=1 -DLAYERS=4 -DHEAD_DIM=128 -DHEADS=8 -DMMA=1 -DLANES=64 -DFORM=1
 * with: rope.clh attend.clh chain.clh
 */
#ifndef TOKENS
#define TOKENS 64 /* rows at most: 16, 32 or 64 */
#endif
#ifndef STAGES
#define STAGES 4 /* steps that are on their way or in use */
#endif
#ifndef FLIGHT
#define FLIGHT 2 /* of them on their way, at most: more would only queue, and some units get more than others */
#endif
#ifndef PACE
#define PACE 1 /* the same, while a stage waits for the one before: what that still exchanges would queue behind them */
#endif
#ifndef ACT
#define ACT VLCI_ACT_SILU
#endif
#ifndef ROPE
#define ROPE 0 /* 1: heads of 128, which go into the cache */
#endif

#ifndef ATTENDS
#define ATTENDS 0 /* 1: a launch may begin with attention; with ROPE, STAGES of 4 or more and TOKENS of 64 */
#endif

enum {
    W_BYTES = 4 * 8192, X_BYTES = TOKENS * 128,        /* of a step: 4 blocks, 64 k of x, or twice that */
    STAGE = W_BYTES + 2 * X_BYTES,
    UNITS = TOKENS / 8,                                /* of 8 rows */
    GATED_ROW = 128 + 16,                              /* bytes of a row of 64 gated columns on their way out */
    AT_GATED = STAGES * STAGE,                         /* of each warpgroup */
    AT_SCALE = AT_GATED + 2 * TOKENS * GATED_ROW,      /* s of each row */
    AT_SQUARES = AT_SCALE + TOKENS * 4,                /* of a unit's rows, of each warp and block, of each warpgroup */
    AT_PLACES = AT_SQUARES + 2 * 4 * 2 * 8 * 4,        /* of each row, in the cache; of two layers, as they are found ahead */
    AT_BARRIERS = AT_PLACES + 2 * TOKENS * 8,              /* full and empty, of each stage, begun, calm */
    AT_PAGES = AT_BARRIERS + (2 * STAGES + 2) * 8,     /* full, of two pages of each of 8 warps */
    AT_ATTENDED = AT_PAGES + 128,                      /* this work-group's attention is done */
    TOGETHER = 8,                                      /* the barrier of all that multiply */
    SCALED = 3                                         /* the barrier behind which s is there */
};
#define NOT_YET 0xffffffffu /* in the place of a sum that is still to come: a NaN, and none that an addition leaves */

#define CHAIN_PARAMS                                                                                                 \
    ALL_LAYERS, __global const uchar *attended, __global float *x, uint x_offset, __global uchar *z, __global uchar *gated,  \
        __global float *qkv, __global float *parts, uint m, uint hidden, uint attended_width, uint inner, uint n_qkv, \
        uint splits, float eps, uint from, uint until
#define ATTEND_PARAMS float attend_scale, uint q_stride, int causal, int batch, int lane_groups

/* A product, and how it is cut. */
typedef struct {
    __global const uchar *w, *x;
    uint n, depth, tiles, split, pieces;
} stage_t;

#define STAGE_OF(s, t)                                                                                               \
    {                                                                                                                \
        t.w = WEIGHTS_OF(s);                                                                                         \
        t.x = s == OUT ? attended : s == DOWN ? gated : z;                                                           \
        t.n = s == GATE_UP ? 2 * inner : s == QKV ? n_qkv : hidden;                                                  \
        t.depth = s == GATE_UP ? hidden / 64 : (s == OUT ? attended_width : s == DOWN ? inner : hidden) / 128;       \
        t.tiles = s == GATE_UP ? (inner + 127) / 128 : (t.n + 127) / 128;                                            \
        t.split = splits >> 8 * (s - OUT) & 255;                                                                            \
        t.pieces = t.tiles * t.split;                                                                                \
    }

/* Piece i: steps from .. until - 1 of a tile. */
typedef struct {
    uint tile, nth, from, until;
} piece_t;
PTX_CALL piece_t piece_of(const stage_t *t, uint i) {
    const uint share = (t->depth + t->split - 1) / t->split;
    piece_t p;
    p.tile = i / t->split;
    p.nth = i - p.tile * t->split;
    p.from = p.nth * share;
    p.until = min(t->depth, p.from + share);
    return p;
}

/* Asks for W's part of step d of a tile, and says how much of x is to come. */
PTX_CALL void bring_weights(const stage_t *t, uint gated, uint tile, uint d, uint x_bytes, uint to, uint full) {
    if (gated) { /* gate, up; gate, up */
        const uint ups = t->n / 128, there = min(2u, ups - 2 * tile);
        ptx_barrier_expect(full, there * 2 * 8192 + x_bytes);
        for (uint b = 0; b < 2 * there; b++)
            ptx_bulk_copy_once(to + b * 8192, t->w + ((size_t)(2 * tile + b / 2 + (b & 1) * ups) * t->depth + d) * 8192, 8192,
                               full);
        return;
    }
    const uint there = min(2u, t->n / 64 - 2 * tile);
    ptx_barrier_expect(full, there * 2 * 8192 + x_bytes);
    for (uint b = 0; b < there; b++)
        ptx_bulk_copy_once(to + b * 16384, t->w + ((size_t)(2 * tile + b) * t->depth + d) * 16384, 16384, full);
}

/* The rows' part. */
PTX_CALL void bring_rows(const stage_t *t, uint gated, uint x_rows, uint d, uint to, uint full) {
    __global const uchar *from = t->x + (size_t)(gated ? d : 2 * d) * x_rows * 128;
    ptx_bulk_copy(to + W_BYTES, from, X_BYTES, full);
    if (!gated) ptx_bulk_copy(to + W_BYTES + X_BYTES, from + (size_t)x_rows * 128, X_BYTES, full);
}

PTX_CALL void put_sums(__global float *to, float a, float b, float c, float d) {
    __asm__ volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}
PTX_CALL float4 look_at_sums(__global const float *at) {
    float4 r;
    __asm__ volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(r.x), "=f"(r.y), "=f"(r.z), "=f"(r.w)
                     : "l"(at)
                     : "memory");
    return r;
}
PTX_CALL int have_come(float4 v) {
    const uint4 b = as_uint4(v);
    return max(max(b.x, b.y), max(b.z, b.w)) != NOT_YET;
}

/* Sums of piece i: [2 blocks][UNITS][128][4]. */
PTX_CALL __global float *part_of(__global float *parts, uint i) {
    return parts + VLCI_CHAIN_COUNTERS + ((size_t)i * (2 * UNITS * 128) + (ptx_item() & 127)) * 4;
}

/* Two neighbours of a row go out as one number: of rows r and r + 1, of which this lane has column c, an even lane takes the
 * first with what the lane beside it has of column c + 1, an odd one the other. */
PTX_CALL void put_pair(__global uchar *to, float first, float second, uint r, uint c, uint m) {
    const uint odd = ptx_lane() >> 2 & 1;
    const float other = ptx_butterfly(odd ? first : second, 4);
    const uint pair = odd ? ptx_bf16x2(other, second) : ptx_bf16x2(first, other);
    if (r + odd < m) *(__global uint *)(to + 2 * VLCI_STRIPE_AT(r + odd, c - odd, (uint)VLCI_STRIPE_ROWS(m))) = pair;
}

#if ATTENDS
/* A warp's pages: two are on their way or in use, keys in front of values. */
typedef struct {
    uint at, full, turn; /* where they come to, what counts them, how many have been read */
} pages_t;
enum { PAGE_BYTES = PAGE * HEAD_DIM * 2 };

/* Asks for the page that is read `nth` from now on. */
PTX_CALL void ask_page(const attend_t *p, uint page, const pages_t *w, uint nth) {
    const uint slot = (w->turn + nth) & 1, to = w->at + slot * (2 * PAGE_BYTES), full = w->full + 8 * slot;
    if (ptx_lane()) return;
    ptx_barrier_expect(full, 2 * PAGE_BYTES);
    ptx_bulk_copy_once(to, (__global const uchar *)p->rows.k + (ulong)page * PAGE_BYTES, PAGE_BYTES, full);
    ptx_bulk_copy_once(to + PAGE_BYTES, (__global const uchar *)p->rows.v + (ulong)page * PAGE_BYTES, PAGE_BYTES, full);
}

/* attend(), of pages in local memory, of which `asked` are on their way. */
PTX_CALL void attend_pages(const attend_t *p, __global const float *q, float scale, uint q_stride, int item, uint barrier,
                           __local float4 *room, __local float4 *queries, __local float2 *stats, pages_t *w, int asked) {
    const int warp = item / 32, g = item % 32 / 4, c = item % 4;
    int j = p->from + warp * PAGE;
    float8 x[EACH];
    fetch_queries(p, q, scale, 0, q_stride, item, x);
#pragma unroll
    for (int k = 0; k < 2; k++)
        if (k >= asked && j + k * WARPS * PAGE < p->to) ask_page(p, page_of(&p->rows, j + k * WARPS * PAGE), w, k);
    put_queries(x, item, queries);
    ptx_sync(barrier, LANES);
    float acc[HALVES][8][4];
    sofar_t sofar = {-INFINITY, 0.0f};
    const int visible = g < p->count ? sees(p, g) : 0;
    clear(acc);
#pragma unroll 1
    for (; j < p->to; j += WARPS * PAGE, w->turn++) {
        const int n = min((int)PAGE, p->to - j), far = j + 2 * WARPS * PAGE;
        const uint coming = far < p->to ? page_of(&p->rows, far) : 0;
        const uint at = w->at + (w->turn & 1) * (2 * PAGE_BYTES);
        uint4 k4[RUNS], v4[RUNS];
        float s[4], bias[4];
        uint a[4];
        load_biases(p, p->rows.bias ? page_of(&p->rows, j) : 0, n, c, bias);
        ptx_barrier_wait(w->full + 8 * (w->turn & 1), w->turn >> 1 & 1);
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int u = 0; u < QUADS; u++) k4[u * 2 + i] = run_at(at + (g + 8 * i) * (HEAD_DIM * 2) + c * 16 + u * 64);
        add_logits(k4, queries, g, c, s);
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int h = 0; h < HALVES; h++) {
                const int key = 2 * c + i % 2 + i / 2 * 8;
                v4[h * 4 + i] = run_at(at + PAGE_BYTES + key * (HEAD_DIM * 2) + g * 16 + h * 128);
                if (key >= n) v4[h * 4 + i] = (uint4)(0u); /* whatever is there */
            }
        weigh(s, bias, j, n, visible, c, &sofar, acc, a);
        add_values(v4, a, acc);
        ptx_warp_sync();
        if (far < p->to) ask_page(p, coming, w, 2);
    }
    put_share(p, &sofar, acc, warp, g, c, room, stats);
    ptx_sync(barrier, LANES);
}

/* All pieces of attention, a team of LANES multiplying work-items to each: its queries and sums are where a step's rows will be,
 * its pages where W will. Pages without new rows come while the stage before is still at work: that is over when `counter`, where
 * there is one, says so. */
PTX_CALL void attend_all(__local uchar *smem, __global uint *counter, pages_t *w, __global const float *q, __global float *out,
                         uint m, ROPE_PARAMS, ATTEND_PARAMS) {
    const uint whole = ptx_item(), item = whole % LANES, team = whole / LANES, teams = 256 / LANES, groups = ptx_groups();
    __local float4 *room = (__local float4 *)(smem + team * STAGE + W_BYTES), *queries = room + ROOM;
    __local float2 *stats = (__local float2 *)(queries + HEADS * QUERY);
    const int ys = kv_heads * lane_groups, pieces = ys * batch;
    int asked = 0;
    ptx_sync(TOGETHER, 256);
    for (int i = (int)(ptx_group() + team * groups), first = 1; first || i < pieces; i += (int)(groups * teams), first = 0) {
        attend_t p;
        p.count = 0;
        if (i < pieces) {
            const int b = quotient(i, ys);
            p = find_piece(seq_start, heads, kv_heads, causal, 0, b, i - b * ys, ys, 0, 1, KV_PASS);
        }
        if (first) {
            for (int k = 0, j = p.from + (int)(item / 32) * PAGE; k < 2 && p.count > 0; k++, j += WARPS * PAGE)
                if (j + PAGE <= p.rows.rows) {
                    ask_page(&p, page_of(&p.rows, j), w, k);
                    asked = k + 1;
                }
            if (counter) {
                if ((whole & 127) == 0) wait_until(counter, 2 * groups);
                ptx_sync(1 + (whole >> 7), 128);
            }
            proxy_fence_all();
        }
        if (p.count > 0) {
            attend_pages(&p, q, attend_scale, q_stride, (int)item, 4 + team, room, queries, stats, w, asked);
#pragma unroll 1
            for (int v = (int)item; v < p.count * (HEAD_DIM / 4); v += LANES) {
                const int t = v / (HEAD_DIM / 4), d = v % (HEAD_DIM / 4) * 4;
                const share_t all = share_of(t, d, room, stats);
                leave(&p, t, d, &all, out, 0, 0, heads, (int)m);
            }
        }
        asked = 0;
    }
    PTX_PROXY_FENCE(); /* bulk copies go where it was */
}
#endif

__attribute__((reqd_work_group_size(384, 1, 1))) __kernel void
chain_wgmma(CHAIN_PARAMS
#if ROPE
            , ROPE_PARAMS
#endif
#if ATTENDS
            , ATTEND_PARAMS
#endif
) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local float *scale = (__local float *)(smem + AT_SCALE), *square_of = (__local float *)(smem + AT_SQUARES);
#if ROPE
    __local ulong *place_of = (__local ulong *)(smem + AT_PLACES);
#endif
    const uint at = (uint)smem, full = at + AT_BARRIERS, empty = full + 8 * STAGES, begun = empty + 8 * STAGES, calm = begun + 8;
    const uint item = ptx_item();
    const uint own = ptx_group(), groups = ptx_groups(), x_rows = (uint)VLCI_STRIPE_ROWS(m);
    __global uint *done = (__global uint *)parts;
    __global float *squares = parts + VLCI_CHAIN_COUNTERS + (size_t)groups * (2 * UNITS * 128 * 4); /* [hidden / 64][TOKENS] */
    if (item == 0) {
        for (uint s = 0; s < STAGES; s++) {
            ptx_barrier_init(full + 8 * s, 1);
            ptx_barrier_init(empty + 8 * s, 8); /* a lane of each warp that reads */
        }
        ptx_barrier_init(begun, 1);
#if ATTENDS
        for (uint w = 0; w < 16; w++) ptx_barrier_init(at + AT_PAGES + 8 * w, 1);
        ptx_barrier_init(at + AT_ATTENDED, 2);
#endif
        for (uint c = 0; c < PACE; c++) ptx_barrier_init(calm + 8 * c, 1);
        __asm__ volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __asm__ volatile("bar.sync 0;" ::: "memory");
    stage_t t;
#if ROPE
    const int first_layer = layer; /* q, k and v of layer `nth` go into the cache of so many layers further */
#endif

    if (item >= 288) { /* ---- finds s ---- */
        if (item >= 352) return;
        uint parity = 0;
        for (uint g = from; g < until; g++) {
            const uint nth = g / STEPS, s = g % STEPS;
            if (s == ATTEND) continue;
            STAGE_OF(s, t)
            if (own >= t.pieces) continue;
            const uint r = item - 288;
#if ROPE
            const int head = (int)piece_of(&t, own).tile, layer = first_layer + (int)nth;
            if (s == QKV && r < m && head >= heads)
                place_of[nth % 2 * TOKENS + r] = (ulong)rope_place(head, (int)r, 1, ROPE_PASS);
#endif
            if (g > from) {
                ptx_barrier_wait(begun, parity);
                parity ^= 1;
            }
            if (s != GATE_UP && s != QKV) continue;
            if (r < TOKENS) {
                float sum = 0.0f;
                for (uint b = 0; b < hidden / 64; b += 8) {
                    float v[8];
#pragma unroll
                    for (uint i = 0; i < 8; i++)
                        v[i] = b + i < hidden / 64 ? ptx_load_fresh_one(squares + (b + i) * TOKENS + r) : 0.0f;
                    sum += ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
                }
                scale[r] = 1.0f / sqrt(sum / (float)hidden + eps);
            }
            ptx_arrive(SCALED, 64 + 256);
        }
        return;
    }
    if (item >= 256) { /* ---- brings ---- */
        if (item > 256) return;
        uint stage = 0, parity = 1, sent = 0, ahead = 0; /* steps of which W came ahead of x */
        for (uint g = from; g < until; g++) {
            const uint nth = g / STEPS, s = g % STEPS;
            if (s == ATTEND) {
                ptx_barrier_wait(at + AT_ATTENDED, nth & 1); /* pages are where W will be */
                continue;
            }
            STAGE_OF(s, t)
            const uint wide = s == GATE_UP, x_bytes = wide ? X_BYTES : 2 * X_BYTES;
            uint behind = g > from; /* whether what x comes from may still be on its way */
            for (uint i = own; i < t.pieces; i += groups) {
                const piece_t p = piece_of(&t, i);
                const uint early = behind ? min((uint)STAGES, p.until - p.from) : 0, first = stage;
                for (uint d = p.from; d < p.until; d++, sent++) {
                    const uint to = at + stage * STAGE;
                    ptx_barrier_wait(empty + 8 * stage, parity);
                    if (d - p.from < early) {
                        if (ahead >= PACE) ptx_barrier_wait(calm + 8 * (ahead % PACE), ahead / PACE + 1 & 1);
                        bring_weights(&t, wide, p.tile, d, 0, to, calm + 8 * (ahead++ % PACE));
                    } else {
                        if (sent >= FLIGHT)
                            ptx_barrier_wait(full + 8 * (stage >= FLIGHT ? stage - FLIGHT : stage + STAGES - FLIGHT),
                                             stage >= FLIGHT ? parity ^ 1 : parity);
                        bring_weights(&t, wide, p.tile, d, x_bytes, to, full + 8 * stage);
                        bring_rows(&t, wide, x_rows, d, to, full + 8 * stage);
                    }
                    if (++stage == STAGES) {
                        stage = 0;
                        parity ^= 1;
                    }
                    if (d - p.from + 1 != early) continue;
                    wait_until(done + (g - 1) * VLCI_CHAIN_LINE, 2 * groups);
                    ptx_barrier_arrive(begun);
                    proxy_fence_all();
                    for (uint e = 0; e < early; e++) {
                        const uint late = first + e < STAGES ? first + e : first + e - STAGES, early_nth = ahead - early + e;
                        if (e + PACE >= early) ptx_barrier_wait(calm + 8 * (early_nth % PACE), early_nth / PACE & 1);
                        ptx_barrier_expect(full + 8 * late, x_bytes);
                        bring_rows(&t, wide, x_rows, p.from + e, at + late * STAGE, full + 8 * late);
                    }
                }
                behind = 0;
            }
        }
        return;
    }
    /* ---- multiplies ---- */
    uint stage = 0, parity = 0;
#if ATTENDS
    const uint nth_warp = ptx_item() / 32;
    pages_t pages = {at + nth_warp / 2 * STAGE + nth_warp % 2 * (W_BYTES / 2), at + AT_PAGES + nth_warp * 16, 0};
#endif
    for (uint g = from; g < until; g++) {
        const uint nth = g / STEPS, s = g % STEPS;
#if ATTENDS
        if (s == ATTEND) {
            const uint item = ptx_item(), group = item >> 7;
            const int layer = first_layer - 1 + (int)nth;
            attend_all(smem, g > from ? done + (g - 1) * VLCI_CHAIN_LINE : 0, &pages, qkv, (__global float *)attended, m,
                       ROPE_PASS, attend_scale, q_stride, causal, batch, lane_groups);
            ptx_sync(1 + group, 128);
            if ((item & 127) == 0) {
                ptx_barrier_arrive(at + AT_ATTENDED);
                if (ptx_count(done + g * VLCI_CHAIN_LINE) == 2 * groups - 1 && g > from) done[(g - 1) * VLCI_CHAIN_LINE] = 0;
            }
            continue;
        }
#endif
        const uint item = ptx_item(), group = item >> 7, lane = item & 31, warp = item >> 5 & 3; /* anew: nothing stays */
        STAGE_OF(s, t)
        const uint apart = s == GATE_UP ? 0 : X_BYTES / 16; /* how much further what d1 takes of x begins */
        for (uint i = own; i < t.pieces; i += groups) {
            const piece_t p = piece_of(&t, i);
            float d0[TOKENS / 2], d1[TOKENS / 2];
#pragma unroll
            for (uint j = 0; j < TOKENS / 2; j++) d0[j] = d1[j] = 0.0f;
            /* Of a unit of 8 rows a lane has columns lane / 4 and + 8 of a warp's 16, rows 2 (lane % 4) and + 1. */
            const uint down = 2 * (lane & 3), across = warp * 16 + (lane >> 2), column = p.tile * 128 + across;
            const uint sharers = 2 * t.split, share = 2 * p.nth + group, per = (UNITS + sharers - 1) / sharers;
            uint before = 0;
            for (uint d = p.from; d < p.until; d++) {
                const uint of = at + stage * STAGE;
                const ulong a = PTX_TILE_ROWS(of + group * 16384), b = PTX_TILE_ROWS(of + W_BYTES);
                ptx_barrier_wait(full + 8 * stage, parity);
                PTX_WGMMA_FENCE();
#pragma unroll
                for (uint j = 0; j < 4; j++) { /* 16 k are 32 bytes further */
                    PTX_WGMMA("bf16", TOKENS, d0, a + 2 * j, b + 2 * j);
                    PTX_WGMMA("bf16", TOKENS, d1, a + 512 + 2 * j, b + apart + 2 * j);
                }
                PTX_WGMMA_COMMIT();
                PTX_WGMMA_WAIT(1);
                if (d > p.from && lane == 0) ptx_barrier_arrive(empty + 8 * before); /* the stage before is read */
                before = stage;
                if (++stage == STAGES) {
                    stage = 0;
                    parity ^= 1;
                }
            }
            PTX_WGMMA_WAIT(0);
            if (lane == 0) ptx_barrier_arrive(empty + 8 * before);
#pragma unroll
            for (uint j = 0; j < TOKENS / 2; j++) {
                PTX_KEEP(d0[j]);
                PTX_KEEP(d1[j]);
            }
            if ((s == GATE_UP || s == QKV) && i == own) ptx_sync(SCALED, 64 + 256);
            if (s == GATE_UP) { /* rows of 64 columns, by way of local memory */
                const uint column = (p.tile * 2 + group) * 64, buffer = at + AT_GATED + group * (TOKENS * GATED_ROW);
                const uint put_at = ((lane >> 4) * 8 + (lane & 7)) * GATED_ROW + warp * 32 + (lane >> 3 & 1) * 16;
                if (i > own) ptx_sync(1 + group, 128); /* the tile before has gone out */
#pragma unroll
                for (uint h = 0; h < TOKENS / 16; h++) {
                    uint pair[4];
#pragma unroll
                    for (uint j = 0; j < 4; j++) { /* of 8 rows two columns each */
                        const uint e = 8 * h + 2 * j, r = 16 * h + 8 * (j >> 1) + down;
                        const float s0 = scale[r], s1 = scale[r + 1];
                        pair[j] = ptx_bf16x2(activate(d0[e] * s0, ACT) * (d1[e] * s0),
                                             activate(d0[e + 1] * s1, ACT) * (d1[e + 1] * s1));
                    }
                    __asm__ volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                                         buffer + put_at + h * 16 * GATED_ROW),
                                     "r"(pair[0]), "r"(pair[1]), "r"(pair[2]), "r"(pair[3])
                                     : "memory");
                }
                ptx_sync(1 + group, 128);
#pragma unroll
                for (uint q = item & 127; q < TOKENS * 8; q += 128) {
                    const uint r = q / 8, c = column + q % 8 * 8;
                    uint4 v;
                    __asm__ volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                                     : "r"(buffer + r * GATED_ROW + q % 8 * 16)
                                     : "memory");
                    if (r < m && c < inner) *(__global uint4 *)(gated + 2 * VLCI_STRIPE_AT(r, c, x_rows)) = v;
                }
                continue;
            }
            __global float *left = part_of(parts, i) + group * (UNITS * 512);
#pragma unroll
            for (uint j = 0; j < UNITS; j++)
                if (8 * j < m)
                    put_sums(left + j * 512, d0[4 * j] + d1[4 * j], d0[4 * j + 1] + d1[4 * j + 1], d0[4 * j + 2] + d1[4 * j + 2],
                             d0[4 * j + 3] + d1[4 * j + 3]);
            /* x of the first unit (of QKV what q and k are turned by), the norm's weight, bias: on their way while sums come */
            float was[8], times[4], plus[4];
            __global const float *bias_of = BIAS_OF(s);
            __global const float *by = s == OUT ? OF(weight) : OF(next_weight);
#pragma unroll
            for (uint j = 0; j < 4; j++) {
                const uint c = column + (j & 1) * 8 + (j & 2) * 32;
                times[j] = s != QKV && c < hidden ? ptx_load_fresh_one(by + c) : 0.0f;
                plus[j] = bias_of && c < t.n ? ptx_load_fresh_one(bias_of + c) : 0.0f;
            }
#pragma unroll
            for (uint j = 0; j < 8; j++) {
                const uint row = 8 * share * per + down + (j & 1), c = column + (j & 2) * 4 + (j & 4) * 16;
                was[j] = 0.0f;
                if (s != QKV && row < m && c < hidden) was[j] = ptx_load_fresh_one(x + x_offset + (size_t)row * hidden + c);
#if ROPE
                if (s == QKV && phase && row < m)
                    was[j] = ptx_load_fresh_one(phase + ((size_t)phase_row + row) * 128 + c - p.tile * 128);
#endif
            }
            for (uint u = share * per; u < min((m + 7) / 8, (share + 1) * per); u++) {
                float4 all[2] = {(float4)(0.0f), (float4)(0.0f)}; /* of each block */
                for (uint first = 0; first < sharers; first += 8) {
                    __global float *of = part_of(parts, i - p.nth) + (first * UNITS + u) * 512;
                    float4 part[8];
#pragma unroll
                    for (uint e = 0; e < 8; e++) part[e] = (float4)(0.0f); /* what is not set would live on from a stage before */
                    uint missing = (1u << min(8u, sharers - first)) - 1, spins = 0;
                    do {
                        if (++spins > PATIENCE) __asm__ volatile("trap;");
#pragma unroll
                        for (uint e = 0; e < 8; e++)
                            if (missing >> e & 1) part[e] = look_at_sums(of + e * (UNITS * 512));
#pragma unroll
                        for (uint e = 0; e < 8; e++)
                            if (missing >> e & 1 && have_come(part[e])) missing ^= 1u << e;
                    } while (missing);
                    const float not_yet = as_float(NOT_YET);
#pragma unroll
                    for (uint e = 0; e < 8; e++)
                        if (first + e < sharers) {
                            all[e & 1] += part[e];
                            put_sums(of + e * (UNITS * 512), not_yet, not_yet, not_yet, not_yet);
                        }
                }
                const uint r = 8 * u + down;
                const float sum[2][4] = {{all[0].x, all[0].y, all[0].z, all[0].w}, {all[1].x, all[1].y, all[1].z, all[1].w}};
                if (s == QKV) {
#pragma unroll
                    for (uint j = 0; j < 4; j++) {
                        const uint row = r + (j & 1), c = column + (j & 2) * 4;
                        if (row >= m || c >= t.n) continue;
                        const float by = scale[row];
                        float low = sum[0][j] * by + plus[j >> 1], high = sum[1][j] * by + plus[2 + (j >> 1)];
#if ROPE
                        const uint d = across + (j & 2) * 4;
                        if (phase && (int)p.tile < heads + kv_heads) {
                            __global const float *turn = phase + ((size_t)phase_row + row) * 128 + d;
                            const float cosine = u == share * per ? was[j] : ptx_load_fresh_one(turn);
                            const float sine = u == share * per ? was[4 + j] : ptx_load_fresh_one(turn + 64), old = low;
                            low = old * cosine - high * sine;
                            high = high * cosine + old * sine;
                        }
                        if ((int)p.tile < heads) {
                            qkv[(size_t)row * t.n + c] = low;
                            qkv[(size_t)row * t.n + c + 64] = high;
                        } else {
                            __global kv_t *to = (__global kv_t *)place_of[nth % 2 * TOKENS + row];
                            KV_STORE(low, to, d);
                            KV_STORE(high, to, d + 64);
                        }
#else
                        qkv[(size_t)row * t.n + c] = low;
                        if (c + 64 < t.n) qkv[(size_t)row * t.n + c + 64] = high;
#endif
                    }
                    continue;
                }
#pragma unroll
                for (uint b = 0; b < 2; b++) {
                    const uint c = column + 64 * b;
                    float now[4], square[2] = {0.0f, 0.0f};
#pragma unroll
                    for (uint j = 0; j < 4; j++) {
                        const uint row = r + (j & 1), of = c + (j & 2) * 4;
                        now[j] = 0.0f;
                        if (row >= m || of >= hidden) continue;
                        __global float *to = x + x_offset + (size_t)row * hidden + of;
                        now[j] = u == share * per ? was[4 * b + j] : ptx_load_fresh_one(to);
                        now[j] = now[j] + sum[b][j] + plus[2 * b + (j >> 1)];
                        *to = now[j];
                        square[j & 1] += now[j] * now[j];
                    }
                    if (c >= hidden) continue; /* of all of the warpgroup */
                    put_pair(z, now[0] * times[2 * b], now[1] * times[2 * b], r, c, m);
                    put_pair(z, now[2] * times[2 * b + 1], now[3] * times[2 * b + 1], r, c + 8, m);
#pragma unroll
                    for (uint j = 0; j < 2; j++) {
                        square[j] += ptx_butterfly(square[j], 4);
                        square[j] += ptx_butterfly(square[j], 8);
                        square[j] += ptx_butterfly(square[j], 16);
                        if (lane < 4) square_of[((group * 4 + warp) * 2 + b) * 8 + down + j] = square[j];
                    }
                }
                ptx_sync(1 + group, 128);
                if ((item & 127) < 16) {
                    const uint b = item >> 3 & 1, row = item & 7, block = p.tile * 2 + b;
                    __local const float *of = square_of + (group * 8 + b) * 8 + row;
                    if (block < hidden / 64) squares[block * TOKENS + 8 * u + row] = (of[0] + of[16]) + (of[32] + of[48]);
                }
                if (u + 1 < (share + 1) * per) ptx_sync(1 + group, 128);
            }
        }
        ptx_sync(1 + group, 128);
        if ((item & 127) == 0 && ptx_count(done + g * VLCI_CHAIN_LINE) == 2 * groups - 1) {
            if (g > from) done[(g - 1) * VLCI_CHAIN_LINE] = 0; /* nobody looks at it any more */
            if (g + 1 == until) done[g * VLCI_CHAIN_LINE] = 0;
        }
    }
}
