/*
 * attention_coded_mma.cl - attention_coded.cl's work on matrix units of NVIDIA's GPUs since sm_80. Logits come of coded_runs.clh,
 * or where rows are turned one by one (ROWS) of coded_rows.clh.
 *
 *     acc[dim][lane] += codes[dim][row] e^(s-m)        level's offset comes at the end: l times
 *
 * A tile is 16 dimensions of one width; behind the last of a width it is filled up with others that come to nothing. Codes are
 * not converted: f16 takes a number below 1024 for as many times 2^-24, and what is masked out of a word where it stands for a
 * power of two more, which rows of products or weights are multiplied with instead. A weight is two numbers of f16, so that
 * nothing is lost.
 *
 * A warp has CHUNK blocks of 16 rows at a time, or fewer, where a share has not as many for all of them, and QUERIES lanes.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:
 *         codes        of keys: rows 2 g, 2 g + 1                                dimensions 4 c .. 4 c + 3
 *                      of values: dimensions 2 g, 2 g + 1                        rows 4 c .. 4 c + 3
 *         s, m, l      rows 2 g, 2 g + 1 of blocks c / 2, c / 2 + 2              lanes 2 (c % 2) and the next of queries
 *         acc          dimensions 2 g, 2 g + 1                                   columns 2 c and the next: lanes of queries,
 *                                                                                4 + lane what f16 leaves of weights
 *
 * Text is the work of work-groups behind those of the shares, and so are rows in pages, where no other launch sees them: `alone`.
 * The work-group of a piece that is done last merges them all, and what the other launch came to.
 *
 * A work-group runs most of this once and waits for its instructions, too: loops stay loops where nothing is lost.
 *
 * Work: dimension 0 = shares of the blocks, then shares of text, 1 = kv heads * lane groups; of scores kv heads. With MANY, codes
 * of up to so many sequences, each of which has a query row: dimension 0 = all that of each of them, one behind the other.
 *
 * Of n rows of a kv head with D dimensions of keys and values: n D HEAD_DIM / 2 multiply-adds for p, or
 * 2 n D HEAD_DIM for keys; n D 8 for logits of p, and for values; and n (bits of keys and values) / 8 bytes.
 *
 * with: few.clh coded.clh coded_mma.clh coded_runs.clh coded_rows.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DHEADS=4
 * ptx: sm_80 -DHEAD_DIM=64 -DHEADS=2 -DSCORES=1
 * ptx: sm_89 -DHEAD_DIM=80 -DHEADS=1 -DSOFT_CAP=50.0f
 * ptx: sm_80 -DHEAD_DIM=128 -DHEADS=4 -DROWS=1
 * ptx: sm_89 -DHEAD_DIM=80 -DHEADS=1 -DROWS=1 -DSOFT_CAP=50.0f
 * ptx: sm_90a -DHEAD_DIM=128 -DHEADS=4 -DROWS=1 -DWGMMA=1 -DPAGED=1 -DKV_DTYPE=3
 * ptx: sm_90a -DHEAD_DIM=128 -DHEADS=4 -DWGMMA=1 -DPAGED=1 -DKV_DTYPE=3
 * ptx: sm_90a -DHEAD_DIM=128 -DHEADS=4 -DROWS=1 -DWGMMA=1 -DPAGED=1 -DKV_DTYPE=3 -DMANY=32
 * ptx: sm_90a -DHEAD_DIM=128 -DHEADS=4 -DWGMMA=1 -DPAGED=1 -DKV_DTYPE=3 -DMANY=32
 * ptx: sm_80 -DHEAD_DIM=64 -DHEADS=2 -DMANY=32
 * ptx: sm_90a -DHEAD_DIM=80 -DHEADS=1 -DSCORES=1 -DWGMMA=1
 * ptx: sm_80 -DHEAD_DIM=64 -DHEADS=2 -DPAGED=1 -DKV_DTYPE=2
 */
#ifndef SCORES
#define SCORES 0 /* which kernel it is: attention_coded_score, or attention_coded_mma */
#endif
#ifndef MANY
#define MANY 0 /* VLCI_CODED_MANY: codes of how many sequences it takes at most; 0: of one */
#endif

/* Products of four warps together are all of theirs: who has no chunk of its own goes along. */
#if WGMMA
#define LEAD(take) ((int)get_local_id(0) / 32 % 4 * (take))
#else
#define LEAD(take) 0
#endif

#if !SCORES
/* The chunks b, b + step, ... below `until`, keys and values of the first of which are on their way. */
WITH_LOCAL void attend_chunks(share_t *own, const keys_t *keys, const source_t *from, const warp_t *w, int b, int step, int until,
                              __global const float *within, __global const int *pattern, int lane) {
    for (; b < until + LEAD(from->take); b += step) {
        float s[2][4];
        uint halves[CHUNK][2];
        PTX_COPIES_WAIT(1);
        ptx_warp_sync();
        look(w, keys, from, within, pattern, b, lane, s);
        ptx_warp_sync();
        fetch_keys(from, w, b + step, until, lane);
        weigh(own, w->acc, from->v_tiles.all, s, b * BLOCK, min(from->n, min(b + from->take, until) * BLOCK), lane, halves);
        PTX_COPIES_WAIT(1);
        ptx_warp_sync();
        add_values(w->acc, &from->v_tiles, w->v + skew_of(from->v, &from->v_tiles, b), lane, halves);
        ptx_warp_sync();
        fetch_values(from, w, b + step, until, lane);
    }
}

/* ---- all of a piece ---------------------------------------------------------------------------------------------- */

/* Rows in pages, of which CODED_PARAMS knows the layer. */
#if PAGED
#define PAGES_PARAMS                                                                                                 \
    , __global kv_t *k, __global kv_t *v, __global float *bias, __global const vlci_kv_head *heads_of,               \
        __global const int *slots, __global const int *table, int layers, int ahead, uint row_stride
#define PAGES_PASS k, v, bias, heads_of, slots, table, layer, layers, ahead, 0, 0, 0, 0, row_stride
#else
#define PAGES_PARAMS
#endif

/* Each sequence's codes: the buffers that they are parts of, whose order is vlci_codes'; where parts begin that are not the first
 * of one, in units of 16 bytes; and numbers, of its work-groups the first and how many there are. A work-group gives what is its
 * sequence's the names that CODED_PARAMS has: what is chosen is the same for all of it. */
#if MANY /* 32: octal numbers */
#define EIGHT_OF_MANY(X, eight) X(eight##0) X(eight##1) X(eight##2) X(eight##3) X(eight##4) X(eight##5) X(eight##6) X(eight##7)
#define EACH_OF_MANY(X) EIGHT_OF_MANY(X, 00) EIGHT_OF_MANY(X, 01) EIGHT_OF_MANY(X, 02) EIGHT_OF_MANY(X, 03)
#define ONE_MEMORY(i) , __global const uchar *own_##i, __global const uchar *text_##i, __global const uchar *rest_##i
#define ONE_OF(i)     , uint16 of_##i
#define ONE_COUNT(i)  nth_of_many += (uint)get_group_id(0) >= of_##i.se;
#define ONE_TAKE(i)                                                                                                 \
    case i:                                                                                                         \
        own_memory = own_##i, text_memory = text_##i, rest_memory = rest_##i, of = of_##i;                          \
        break;
#define ALL_PARAMS                                                                                                  \
    __global const float *q, uint q_offset, uint q_stride, int heads, int kv_heads, float scale, int layer,         \
        __global float *scratch, __global float *out, __global float *row_max, __global float *row_lse,             \
        int alone PAGES_PARAMS EACH_OF_MANY(ONE_MEMORY) EACH_OF_MANY(ONE_OF)
#define CHOOSE_SEQUENCE                                                                                             \
    __global const uchar *own_memory, *text_memory, *rest_memory;                                                   \
    int nth_of_many = -1;                                                                                           \
    uint16 of;                                                                                                      \
    EACH_OF_MANY(ONE_COUNT)                                                                                         \
    switch (nth_of_many) {                                                                                          \
    default: EACH_OF_MANY(ONE_TAKE)                                                                                 \
    }                                                                                                               \
    __global const vlci_code_matrix *const matrix = (__global const vlci_code_matrix *)own_memory;                  \
    __global const char *const basis = (__global const char *)(own_memory + 16 * (size_t)of.s0);                    \
    __global const float *const factor = (__global const float *)(own_memory + 16 * (size_t)of.s1);                 \
    __global const uint *const words = (__global const uint *)(own_memory + 16 * (size_t)of.s2);                    \
    __global const char *const text = (__global const char *)text_memory;                                           \
    __global const float *const text_scale = (__global const float *)(text_memory + 16 * (size_t)of.s3);            \
    __global const half *const mean = (__global const half *)rest_memory;                                           \
    __global const float *const phase = (__global const float *)(rest_memory + 16 * (size_t)of.s4);                 \
    __global const float *const within = (__global const float *)(rest_memory + 16 * (size_t)of.s5);                \
    __global const int *const pattern = (__global const int *)(rest_memory + 16 * (size_t)of.s6);                   \
    const int rows = 1, n = (int)of.s7, run = (int)of.s8, texts = (int)of.s9, first_row = (int)of.sa;               \
    const int share = (int)of.sb, shares = (int)of.sc, text_share = (int)of.sd, begin = (int)of.se;                 \
    const int groups = (int)of.sf;
#define SEQUENCE_OF(first_row) (first_row)
#else
#define ALL_PARAMS                                                                                                  \
    CODED_PARAMS, __global float *scratch, int share, int shares, int text_share, __global float *out,              \
        __global float *row_max, __global float *row_lse, int alone PAGES_PARAMS
#define CHOOSE_SEQUENCE        const int nth_of_many = 0, begin = 0, groups = (int)get_num_groups(0);
#define SEQUENCE_OF(first_row) 0
#endif

__attribute__((reqd_work_group_size(VLCI_CODED_MMA_ITEMS, 1, 1))) __kernel void attention_coded_mma(ALL_PARAMS) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local float factors[16 * MOST] __attribute__((aligned(16))), middle[HEAD_DIM] __attribute__((aligned(16)));
    __local float queries[QUERIES * PITCH] __attribute__((aligned(16)));
    __local float bases[WARPS * CHUNK * QUERIES] __attribute__((aligned(16)));
    __local float tops[WARPS * HEADS], sums[WARPS * HEADS], some[2 * WARPS], whole[3 * HEADS];
    __local int last, row_of[HEADS];
    __local uint *pool = (__local uint *)smem;
    CHOOSE_SEQUENCE
    const int item = (int)(get_local_id(0) & 511), s_id = (int)get_group_id(0) - begin, warp = item / 32, lane = item % 32;
    const int piece = (int)get_group_id(1), pieces = (int)get_num_groups(1);
    const piece_t p = own_piece(rows, heads, kv_heads);
    const size_t nth = MATRIX_OF(p.kv);
    const vlci_code_matrix own_k = matrix[nth], own_v = matrix[nth + 1];
    __global float *parts = scratch + VLCI_ATTENTION_COUNTERS + (size_t)(begin * pieces + piece * groups) * HEADS * RECORD;
    __global float *own = parts + (size_t)s_id * HEADS * RECORD;
    if (item < HEADS) row_of[item] = row_of_lane(&p, item, first_row, heads); /* divisions are many instructions */
    if (s_id >= shares) {
        const int from = min((s_id - shares) * text_share, texts);
#if PAGED
        kv_view pages = kv_find(PAGES_PASS, SEQUENCE_OF(first_row), p.kv, kv_heads);
        pages.rows = alone && s_id + 1 == groups ? pages.rows + 1 : 0; /* with the new one */
#else
        const kv_view pages = {0};
#endif
        attend_text(&p, q, q_offset, q_stride, first_row, scale, text_of(text, text_scale, nth, texts),
                    text_of(text, text_scale, nth + 1, texts), from, min(from + text_share, texts), &pages, queries, tops, sums,
                    (__local float *)pool, item, own);
    } else {
        float queries_here[EACH];
        ask_queries(queries_here, &p, q, q_offset, q_stride, first_row, item);
#if ROWS
        float4 turns[TURNS]; /* of the first block: they come in the place of a basis as it came */
        const int own_pattern = pattern[s_id * share];
        take_turns(turns, within, own_pattern, item);
#endif
        source_t from = source_of(words, own_k, own_v, n, run, phase);
        const int until = min(from.blocks, (s_id + 1) * share);
        const int vectors = words_of_basis(&from.k_tiles), used = vectors + words_of_raw(&from.k_tiles);
        keys_t keys = {from.k_tiles, (__local uint4 *)pool, (__local uchar *)(pool + vectors), factors, middle, queries, 0.0f,
                       (__local float4 *)(pool + vectors), 0};
        fetch_basis(&keys, own_k, basis, item);
        const int beside = words_beside(&from.k_tiles), warps = warps_of(&from, POOL - used, beside);
        const int each = words_of_warp(&from, beside);
        const warp_t w = warp_of(pool + used + warp * each, bases + warp * CHUNK * QUERIES, &from, beside);
#if ROWS /* chunks take as long as they have blocks: all warps have as many of both */
        const int rounds = over(share + warps * from.take - 1, warps * from.take);
        from.take = over(share + warps * rounds - 1, warps * rounds);
#else
        from.take = min(over(share + warps - 1, warps), from.take);
#endif
        const int first = warp < warps ? s_id * share + warp * from.take : until + LEAD(from.take);
        share_t mine;
#pragma unroll 1
        for (int i = 0; i < from.v_tiles.all && warp < warps; i++) w.acc[i * 32 + lane] = 0.0f;
        mine.m[0] = mine.m[1] = -INFINITY;
        mine.l[0] = mine.l[1] = 0.0f;
#if ROWS
        keys.pattern = own_pattern;
#endif
        take_keys(&keys, &from, &w, first, until, own_k, mean + nth * HEAD_DIM, factor, queries_here, scale, some, item);
#if ROWS
        put_turns(keys.within, turns, item);
#endif
        attend_chunks(&mine, &keys, &from, &w, first, warps * from.take, until, within, pattern, lane);
        barrier(CLK_LOCAL_MEM_FENCE);
        write_share(&mine, w.acc - warp * each / 4, each, warps, &from.v_tiles, tops, sums, whole, item, own);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const begun_t begun = begin_merge((__local float *)pool, row_of, out, row_lse, own_v, mean + (nth + 1) * HEAD_DIM, basis,
                                      factor, alone, item);
    __global uint *counter = (__global uint *)scratch + nth_of_many * pieces + piece;
    if (is_last(counter, groups, &last))
        merge(&p, parts, groups, shares, (__local float *)pool, whole, row_of, out, row_max, row_lse,
              VLCI_CODE_DIMS(own_v.widths), &begun, alone, item);
    PTX_COPIES_WAIT(0);
}

#else
/* ---- what decode looks at ---------------------------------------------------------------------------------------- */

/* As attend_chunks; lse: of lanes 2 (c % 2) and the next of queries, infinite where there is none. */
WITH_LOCAL void score_chunks(const keys_t *keys, const source_t *from, const warp_t *w, int b, int step, int until, int lane,
                             const float lse[2], float part, __global const int *positions, __global float *score) {
    const int g = lane / 4, c = lane % 4;
    for (; b < until + LEAD(from->take); b += step) {
        int was = -1;
        float s[2][4];
        PTX_COPIES_WAIT(0);
        ptx_warp_sync();
        look(w, keys, from, 0, 0, b, lane, s);
        ptx_warp_sync();
        fetch_keys(from, w, b + step, until, lane);
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int e = 0; e < 4; e += 2) {
                float sum = exp(s[j][e] - lse[0]) + exp(s[j][e + 1] - lse[1]);
                sum += ptx_butterfly(sum, 1);
                const int row = (b + 2 * j + c / 2) * BLOCK + 2 * g + e / 2;
                if (c % 2 == 0 && row < min(from->n, min(b + from->take, until) * BLOCK)) score[positions[row]] += part * sum;
            }
    }
}

/* As attention_coded_score. A piece is HEADS lanes of queries, one after another: the same work-item has the same rows of all. */
__attribute__((reqd_work_group_size(VLCI_CODED_MMA_ITEMS, 1, 1))) __kernel void
attention_coded_score(CODED_PARAMS, int share, int shares, __global const float *row_lse, __global const int *positions,
                      __global const int *text_at, float part, __global float *score, uint score_at, int tokens) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    __local float factors[16 * MOST] __attribute__((aligned(16))), middle[HEAD_DIM] __attribute__((aligned(16)));
    __local float queries[QUERIES * PITCH] __attribute__((aligned(16)));
    __local float bases[WARPS * CHUNK * QUERIES] __attribute__((aligned(16)));
    __local uint *pool = (__local uint *)smem;
    __local float some[2 * WARPS];
    const int item = (int)(get_local_id(0) & 511), s_id = (int)get_group_id(0), warp = item / 32, lane = item % 32;
    const int c = lane % 4, group = heads / kv_heads;
    piece_t p = {(int)get_group_id(1), group, 0, group};
    const size_t nth = MATRIX_OF(p.kv);
    row_lse += (size_t)first_row * heads + p.kv * group;
    score += score_at + (size_t)p.kv * tokens;
    if (s_id >= shares) {
        const int j = (s_id - shares) * LANES + item;
        const text_t k_text = text_of(text, text_scale, nth, texts);
        if (j >= texts) return;
        float sum = 0.0f;
        for (int h = 0; h < group; h++) {
            __global const float *row = query_of_lane(&p, h, q, q_offset, q_stride, first_row);
            float8 s = 0.0f;
            for (int d = 0; d < HEAD_DIM; d += 8)
                s += f32_run(row + d) * text_eight(k_text, j, d);
            sum += exp(CAPPED(sum8(s) * scale) - row_lse[h]);
        }
        score[text_at[j]] += part * sum;
        return;
    }
    const vlci_code_matrix k = matrix[nth];
    const vlci_code_matrix none = {0, 0, 0};
    source_t from = source_of(words, k, none, n, run, phase);
    const int until = min(from.blocks, (s_id + 1) * share);
    const int vectors = words_of_basis(&from.k_tiles), used = vectors + words_of_raw(&from.k_tiles);
    const int beside = words_beside(&from.k_tiles), warps = warps_of(&from, POOL - used, beside);
    const warp_t w = warp_of(pool + used + warp * words_of_warp(&from, beside), bases + warp * CHUNK * QUERIES, &from, beside);
    const int first = warp < warps ? s_id * share + warp * from.take : until + LEAD(from.take);
    keys_t keys = {from.k_tiles, (__local uint4 *)pool, (__local uchar *)(pool + vectors), factors, middle, queries, 0.0f, 0, 0};
    for (p.lane = 0; p.lane < group; p.lane += HEADS) {
        p.count = min(group - p.lane, (int)HEADS);
        float lse[2];
#pragma unroll
        for (int u = 0; u < 2; u++) lse[u] = c % 2 * 2 + u < p.count ? row_lse[p.lane + c % 2 * 2 + u] : INFINITY;
        float queries_here[EACH];
        ask_queries(queries_here, &p, q, q_offset, q_stride, first_row, item);
        fetch_basis(&keys, k, basis, item);
        take_keys(&keys, &from, &w, first, until, k, mean + nth * HEAD_DIM, factor, queries_here, scale, some, item);
        score_chunks(&keys, &from, &w, first, warps * from.take, until, lane, lse, part, positions, score);
        barrier(CLK_LOCAL_MEM_FENCE); /* before keys are taken again */
    }
}
#endif
