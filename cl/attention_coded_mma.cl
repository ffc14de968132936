/*
 * attention_coded_mma.cl - attention_coded.cl's work on matrix units of NVIDIA's GPUs since sm_80, where rows are turned one by
 * one: attention_runs_mma.cl where those of a run are turned alike.
 *
 * A warp takes a block of 16 rows at a time by itself, and makes their keys again in registers: a query that were turned back for
 * each row would be projected as often.
 *
 *     key[16 x HEAD_DIM]   = mean + (factor level)[16 x dims] basis[dims x HEAD_DIM], turned by what its row has beyond its run's
 *                            first
 *     s[row][lane]         = key . t,  t = R(-phase of the run) scale q                 in f32
 *     acc[dim][lane]      += codes[dim][row] e^(s-m)                                    level's offset comes at the end: l times
 *
 * Basis vectors and codes are numbers of 8 bits, which f16 has exactly; what stands beside them is two numbers of f16 each, so
 * that nothing is lost. Factors are brought near 1 by a power of two, since f16 has small numbers only coarsely.
 * Text is the work of work-groups behind those of the shares; the work-group of a piece that is done last merges them all,
 * and the rows in pages.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:      rows of keys g, g + 8       dimensions 8 i + 2 c and the next
 *                                                           dimensions of values g + 8 i    lanes of queries 2 c and the next
 *
 * Work: dimension 0 = shares of the blocks, then shares of text, 1 = kv heads * lane groups.
 *
 * with: few.clh coded.clh coded_mma.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DHEADS=4
 * ptx: sm_80 -DHEAD_DIM=64 -DHEADS=2
 * ptx: sm_89 -DHEAD_DIM=80 -DHEADS=1 -DSOFT_CAP=50.0f
 * ptx: sm_90 -DHEAD_DIM=128 -DHEADS=4
 */
enum {
    TOGETHER = HEAD_DIM % 32 ? 2 : 4,     /* of TILES */
    QUARTERS = HEAD_DIM / 4,
    POOL = HEAD_DIM * HEAD_DIM / 2 + 1024 /* words: a basis of all dimensions and a bit; blocks where it is smaller */
};

/* ---- a head's keys ---------------------------------------------------------------------------------------------- */

/* What a work-group has of them in local memory, vectors at the beginning of a pool. */
typedef struct {
    __local uint2 *vectors;  /* f16 [steps of 16 dims][TILES][lane]: as a product takes its second factor */
    __local float2 *factors; /* of a dimension: what a code is multiplied with, and what is added to that */
    __local uint2 *places;   /* of a dimension: where its words begin in a block, and its bits */
    __local float *mean;     /* [HEAD_DIM] */
    int dims;
    float back; /* what undoes the power of two that all of them have been multiplied with */
} keys_t;

/* Where lane's pair of numbers stands among the 32 of a tile, so that writers, too, meet different banks. */
PTX_CALL int swizzled(int tile, int lane) { return lane ^ (tile & 7) << 2; }

WITH_LOCAL void take_keys(keys_t *to, vlci_code_matrix k, __global const half *mean, __global const char *basis,
                          __global const float *factor, __local float *some, int item) {
    to->dims = VLCI_CODE_DIMS(k.widths);
    const int padded = (to->dims + 15) / 16 * 16; /* at most HEAD_DIM, and that at most LANES */
    const float own = item < to->dims ? factor[k.dim + item] : 0.0f, offset = offset_of(k.widths, item);
    const float most = largest(some, fabs(own * offset), item);
    const int power = most > 0.0f ? min(max(129 - (int)(as_uint(most) >> 23 & 255), -100), 100) : 0; /* to 4 .. 8 */
    const float up = as_float((uint)(127 + power) << 23);
    to->back = as_float((uint)(127 - power) << 23);
    if (item < padded) {
        to->factors[item] = own * up * (float2)(1.0f, offset);
        to->places[item] = place_of(k.widths, min(item, to->dims - 1));
    }
    for (int d = item; d < HEAD_DIM; d += LANES) to->mean[d] = up * vload_half(d, mean);
    __local uint *words = (__local uint *)to->vectors;
#pragma unroll 2
    for (int e = item; e < padded / 2 * QUARTERS; e += LANES) { /* 4 elements of two vectors: 8 pairs of these side by side */
        const int i = e / (8 * QUARTERS) * 16 + e % 8 * 2, d = e / 8 % QUARTERS * 4;
        __global const char *from = basis + ((size_t)k.dim + i) * HEAD_DIM + d;
        uint one = 0x80808080u, two = one; /* bytes + 128 */
        if (i < to->dims) one ^= *(__global const uint *)from;
        if (i + 1 < to->dims) two ^= *(__global const uint *)(from + HEAD_DIM);
        __local uint *at = words + (i / 16 * TILES + d / 8) * 64 + i % 16 / 8;
#pragma unroll
        for (int u = 0; u < 4; u++) {
            const uint pair = (ptx_pick(one, two, 0x0400u + 0x0101u * u) & 0x00ff00ffu) | 0x64006400u;
            at[2 * swizzled(d / 8, (d % 8 + u) * 4 + i % 8 / 2)] = ptx_sub_f16x2(pair, 0x64806480u);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* What the basis leaves of a pool, a part for each warp. */
PTX_CALL __local uint *room_of(__local uint *pool, int dims, int warp, int *words) {
    const int used = (dims + 15) / 16 * 16 * (HEAD_DIM / 2);
    *words = (POOL - used) / WARPS;
    return pool + used + warp * *words;
}

/* Words of a block: fetched, or where they lie. `fetched` is known where this is compiled. */
typedef struct {
    int fetched;
    __local const uint *copy;
    __global const uint *there;
} block_t;
PTX_CALL uint word_of(const block_t *b, uint i) { return b->fetched ? b->copy[i] : b->there[i]; }

/* Codes of a dimension of rows g and g + 8 of a block. */
PTX_CALL uint2 codes_of(const block_t *b, uint2 place, int g) {
    const uint low = (uint)g * place.y, high = low + 8 * place.y, mask = (1u << place.y) - 1;
    return (uint2)(word_of(b, place.x + low / 32) >> low % 32 & mask, word_of(b, place.x + high / 32) >> high % 32 & mask);
}

/* The keys of a block, rows g in [0] and [1], g + 8 in [2] and [3]; `within`: what they are turned by. */
PTX_CALL void make_keys(const keys_t *k, const block_t *block, __global const float *within, int lane,
                             float acc[TILES][4]) {
    const int g = lane / 4, c = lane % 4;
#pragma unroll
    for (int n = 0; n < TILES; n++) {
        acc[n][0] = acc[n][2] = k->mean[n * 8 + 2 * c];
        acc[n][1] = acc[n][3] = k->mean[n * 8 + 2 * c + 1];
    }
    for (int step = 0; step * 16 < k->dims; step++) {
        float x[2][4]; /* row g, row g + 8: of dimensions 2 c, 2 c + 1, 2 c + 8, 2 c + 9 */
        uint first[4], rest[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int i = step * 16 + 2 * c + e % 2 + e / 2 * 8;
            const float2 factor = k->factors[i];
            const uint2 code = codes_of(block, k->places[i], g);
            x[0][e] = ptx_fma((float)code.x, factor.x, factor.y);
            x[1][e] = ptx_fma((float)code.y, factor.x, factor.y);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) ptx_split_f16(x[e % 2][e / 2 * 2], x[e % 2][e / 2 * 2 + 1], &first[e], &rest[e]);
#pragma unroll
        for (int n = 0; n < TILES; n += TOGETHER) { /* products that do not wait for one another */
            uint2 b[TOGETHER];
#pragma unroll
            for (int u = 0; u < TOGETHER; u++) b[u] = k->vectors[(step * TILES + n + u) * 32 + swizzled(n + u, lane)];
#pragma unroll
            for (int u = 0; u < TOGETHER; u++) PTX_MMA_F16(acc[n + u], first, b[u].x, b[u].y);
#pragma unroll
            for (int u = 0; u < TOGETHER; u++) PTX_MMA_F16(acc[n + u], rest, b[u].x, b[u].y);
        }
    }
#pragma unroll
    for (int n = 0; n < TILES / 2; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int at = (n * 8 + 2 * c + e % 2) * VLCI_CODE_RUN_MIN + g + e / 2 * 8;
            const float cosine = within[at], sine = within[HALF * VLCI_CODE_RUN_MIN + at];
            const float low = acc[n][e], high = acc[TILES / 2 + n][e];
            acc[n][e] = low * cosine - high * sine;
            acc[TILES / 2 + n][e] = high * cosine + low * sine;
        }
}

/* t of HEADS queries, of a warp: [HEADS][HEAD_DIM]; from the first of them on, the last again where there are fewer. copy: of
 * what they are turned by, where that is fetched: known where this is compiled. */
WITH_LOCAL void turn_back(__local float *t, const piece_t *p, __global const float *q, uint q_offset, uint q_stride,
                          int first_row, __global const float *turn, __local const float *copy, float scale, int lane,
                          int fetched) {
    ptx_warp_sync();
#pragma unroll 8
    for (int e = lane; e < HEADS * HALF; e += 32) {
        __global const float *row = query_of(p, e / HALF, q, q_offset, q_stride, first_row);
        const int d = e % HALF;
        const float c = (fetched ? copy[d] : turn[d]) * scale, s = (fetched ? copy[HALF + d] : turn[HALF + d]) * scale;
        const float low = row[d], high = row[HALF + d];
        t[e / HALF * HEAD_DIM + d] = low * c + high * s;
        t[e / HALF * HEAD_DIM + HALF + d] = high * c - low * s;
    }
    ptx_warp_sync();
}

/* s of rows g and g + 8 for each lane of queries. */
WITH_LOCAL void dot(__local const float *t, float keys[TILES][4], float back, int lane, float s[HEADS][2]) {
    const int c = lane % 4;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        float low = 0.0f, high = 0.0f;
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            const float2 x = *(__local const float2 *)(t + h * HEAD_DIM + n * 8 + 2 * c);
            low = ptx_fma(x.y, keys[n][1], ptx_fma(x.x, keys[n][0], low));
            high = ptx_fma(x.y, keys[n][3], ptx_fma(x.x, keys[n][2], high));
        }
        low += ptx_butterfly(low, 1);
        high += ptx_butterfly(high, 1);
        low = back * (low + ptx_butterfly(low, 2));
        high = back * (high + ptx_butterfly(high, 2));
        s[h][0] = CAPPED(low);
        s[h][1] = CAPPED(high);
    }
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Codes of a dimension as f16, of rows 2 c and 2 c + 1, and of those 8 further. */
PTX_CALL uint2 pairs_of(const block_t *b, uint2 place, int c) {
    const uint low = (uint)(2 * c) * place.y, high = low + 8 * place.y, mask = (1u << place.y) - 1;
    const uint x = word_of(b, place.x + low / 32) >> low % 32, y = word_of(b, place.x + high / 32) >> high % 32;
    const uint a = (x & mask) | (x >> place.y & mask) << 16, e = (y & mask) | (y >> place.y & mask) << 16;
    /* 1024 + code, less 1024 */
    return (uint2)(ptx_sub_f16x2(a | 0x64006400, 0x64006400), ptx_sub_f16x2(e | 0x64006400, 0x64006400));
}

/* ---- all of a piece ---------------------------------------------------------------------------------------------- */

/* What a warp has of a share, for each lane of queries. */
typedef struct {
    float acc[STEPS][4], m[HEADS], l[HEADS];
} share_t;

/* A block of keys, of values, and what its run is turned by: they are on their way. */
PTX_CALL void fetch_block(__local uint *to, __global const uint *k, int k_words, __global const uint *v, int v_words,
                          __global const float *phase, int b, int lane) {
    fetch(to, k + (size_t)b * k_words, k_words, lane);
    fetch(to + k_words, v + (size_t)b * v_words, v_words, lane);
    fetch(to + k_words + v_words, (__global const uint *)phase + (size_t)b * HEAD_DIM, HEAD_DIM, lane);
}

/* The blocks b, b + WARPS, ... below `until`, of keys and of values, in words and where they begin; v: widths of values. A block
 * is a run. `ahead`: whether `here` has room for two blocks of both, the first of which is on its way; known where this is
 * compiled. */
WITH_LOCAL void attend_blocks(share_t *own, const keys_t *keys, uint v, const piece_t *p, __global const float *q, uint q_offset,
                              uint q_stride, int first_row, float scale, __global const uint *k_blocks, int k_words,
                              __global const uint *v_blocks, int v_words, __global const float *phase,
                              __global const float *within, __global const int *pattern, int n, int b, int until,
                              __local uint *here, __local float *t, __local float *weigh, int lane, int ahead) {
    const int g = lane / 4, c = lane % 4, all = k_words + v_words + HEAD_DIM, v_dims = VLCI_CODE_DIMS(v);
    for (int stage = 0; b < until; b += WARPS, stage ^= 1) {
        const int next = b + WARPS;
        const block_t k_block = {ahead, here + stage * all, k_blocks + (size_t)b * k_words};
        const block_t v_block = {ahead, k_block.copy + k_words, v_blocks + (size_t)b * v_words};
        const int turned = pattern[b];
        if (ahead && next < until)
            fetch_block(here + (stage ^ 1) * all, k_blocks, k_words, v_blocks, v_words, phase, next, lane);
        PTX_COPIES_COMMIT();
        PTX_COPIES_WAIT(1);
        ptx_warp_sync();
        float key[TILES][4], s[HEADS][2], keep[HEADS];
        turn_back(t, p, q, q_offset, q_stride, first_row, phase + (size_t)b * HEAD_DIM,
                  (__local const float *)(v_block.copy + v_words), scale, lane, ahead);
        make_keys(keys, &k_block, within + (size_t)turned * HEAD_DIM * VLCI_CODE_RUN_MIN, lane, key);
        dot(t, key, keys->back, lane, s);
        int moves = 0;
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            if (b * BLOCK + g >= n) s[h][0] = -INFINITY;
            if (b * BLOCK + g + 8 >= n) s[h][1] = -INFINITY;
            float top = fmax(s[h][0], s[h][1]);
            top = fmax(top, ptx_butterfly(top, 4));
            top = fmax(top, ptx_butterfly(top, 8));
            top = fmax(own->m[h], fmax(top, ptx_butterfly(top, 16)));
            keep[h] = weight(own->m[h], top);
            moves |= keep[h] != 1.0f;
            own->m[h] = top;
            s[h][0] = weight(s[h][0], top);
            s[h][1] = weight(s[h][1], top);
            own->l[h] = own->l[h] * keep[h] + s[h][0] + s[h][1];
            if (c == h) {
                weigh[h * BLOCK + g] = s[h][0];
                weigh[h * BLOCK + g + 8] = s[h][1];
            }
        }
        if (moves) {
            float low = 1.0f, high = 1.0f;
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                if (h == 2 * c) low = keep[h];
                if (h == 2 * c + 1) high = keep[h];
            }
#pragma unroll
            for (int i = 0; i < STEPS; i++) {
                own->acc[i][0] *= low;
                own->acc[i][2] *= low;
                own->acc[i][1] *= high;
                own->acc[i][3] *= high;
            }
        }
        ptx_warp_sync();
        uint first[2] = {0, 0}, rest[2] = {0, 0};
        if (g < HEADS) {
            const float2 x = *(__local const float2 *)(weigh + g * BLOCK + 2 * c);
            const float2 y = *(__local const float2 *)(weigh + g * BLOCK + 2 * c + 8);
            ptx_split_f16(x.x, x.y, &first[0], &rest[0]);
            ptx_split_f16(y.x, y.y, &first[1], &rest[1]);
        }
#pragma unroll
        for (int i = 0; i < STEPS; i += 2)
            if (i * 16 < v_dims) {
                uint a[2][4];
#pragma unroll
                for (int u = 0; u < 2; u++) {
                    const int d = (i + u) * 16 + g;
                    const uint2 low = pairs_of(&v_block, place_of(v, min(d, v_dims - 1)), c);
                    const uint2 high = pairs_of(&v_block, place_of(v, min(d + 8, v_dims - 1)), c);
                    a[u][0] = low.x;
                    a[u][1] = high.x;
                    a[u][2] = low.y;
                    a[u][3] = high.y;
                }
                PTX_MMA_F16(own->acc[i], a[0], first[0], first[1]);
                if (i + 1 < STEPS) PTX_MMA_F16(own->acc[i + 1 < STEPS ? i + 1 : i], a[1], first[0], first[1]);
                PTX_MMA_F16(own->acc[i], a[0], rest[0], rest[1]);
                if (i + 1 < STEPS) PTX_MMA_F16(own->acc[i + 1 < STEPS ? i + 1 : i], a[1], rest[0], rest[1]);
            }
        ptx_warp_sync(); /* these blocks and weights are no longer read */
    }
}

__attribute__((reqd_work_group_size(VLCI_CODED_MMA_ITEMS, 1, 1))) __kernel void
attention_coded_mma(CODED_PARAMS, __global float *scratch, int share, int shares, int text_share, __global float *out,
                    __global float *row_max, __global float *row_lse) {
    enum { TURNED = WARPS * HEADS * HEAD_DIM, WEIGHTS = 2 * HEADS * VLCI_CODED_SHARES };
    enum { ROOM = TURNED > WEIGHTS ? TURNED : WEIGHTS };
    __local uint pool[POOL] __attribute__((aligned(16)));
    __local float2 factors[HEAD_DIM];
    __local uint2 places[HEAD_DIM];
    __local float means[HEAD_DIM], tops[WARPS * HEADS], sums[WARPS * HEADS], some[3 * HEADS > WARPS ? 3 * HEADS : WARPS];
    __local float room[ROOM] __attribute__((aligned(16))), weights[WARPS * HEADS * BLOCK] __attribute__((aligned(16)));
    __local int last;
    const int item = (int)get_local_id(0), s_id = (int)get_group_id(0), warp = item / 32, lane = item % 32;
    const int g = lane / 4, c = lane % 4;
    const piece_t p = find_piece(rows, heads, kv_heads);
    const size_t nth = MATRIX_OF(p.kv);
    const vlci_code_matrix v = matrix[nth + 1];
    const int v_dims = VLCI_CODE_DIMS(v.widths);
    __global float *parts = scratch + VLCI_ATTENTION_COUNTERS + (size_t)get_group_id(1) * get_num_groups(0) * HEADS * RECORD;
    __global float *own = parts + (size_t)s_id * HEADS * RECORD;
    if (s_id >= shares) {
        const int from = (s_id - shares) * text_share;
        __global const char *bytes = text + nth * texts * HEAD_DIM;
        attend_text(&p, q, q_offset, q_stride, first_row, scale, bytes, bytes + (size_t)texts * HEAD_DIM,
                    text_scale + nth * texts, text_scale + (nth + 1) * texts, from, min(from + text_share, texts), room, some,
                    item, own);
    } else {
        const vlci_code_matrix k = matrix[nth];
        const int k_words = VLCI_CODE_WORDS(k.widths), v_words = VLCI_CODE_WORDS(v.widths);
        const int blocks = (n + BLOCK - 1) / BLOCK, until = min(blocks, (s_id + 1) * share);
        __local float *t = room + warp * HEADS * HEAD_DIM, *weigh = weights + warp * HEADS * BLOCK;
        keys_t keys = {(__local uint2 *)pool, factors, places, means};
        share_t mine;
        int words_here;
#pragma unroll
        for (int i = 0; i < STEPS; i++) mine.acc[i][0] = mine.acc[i][1] = mine.acc[i][2] = mine.acc[i][3] = 0.0f;
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            mine.m[h] = -INFINITY;
            mine.l[h] = 0.0f;
        }
        __global const uint *k_blocks = words + k.words, *v_blocks = words + v.words;
        __local uint *here = room_of(pool, VLCI_CODE_DIMS(k.widths), warp, &words_here);
        const int ahead = 2 * (k_words + v_words + HEAD_DIM) <= words_here, first_block = s_id * share + warp;
        if (ahead && first_block < until) /* one block ahead of what is computed */
            fetch_block(here, k_blocks, k_words, v_blocks, v_words, phase, first_block, lane);
        PTX_COPIES_COMMIT();
        take_keys(&keys, k, mean + nth * HEAD_DIM, basis, factor, some, item);
        if (ahead)
            attend_blocks(&mine, &keys, v.widths, &p, q, q_offset, q_stride, first_row, scale, k_blocks, k_words, v_blocks,
                          v_words, phase, within, pattern, n, first_block, until, here, t, weigh, lane, 1);
        else
            attend_blocks(&mine, &keys, v.widths, &p, q, q_offset, q_stride, first_row, scale, k_blocks, k_words, v_blocks,
                          v_words, phase, within, pattern, n, first_block, until, here, t, weigh, lane, 0);
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            mine.l[h] += ptx_butterfly(mine.l[h], 4);
            mine.l[h] += ptx_butterfly(mine.l[h], 8);
            mine.l[h] += ptx_butterfly(mine.l[h], 16);
            if (lane == 0) {
                tops[warp * HEADS + h] = mine.m[h];
                sums[warp * HEADS + h] = mine.l[h];
            }
        }
        ptx_warp_sync();
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (2 * c + e % 2 < HEADS) t[(2 * c + e % 2) * HEAD_DIM + i * 16 + g + e / 2 * 8] = mine.acc[i][e];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int e = item; e < HEADS * HEAD_DIM; e += LANES) {
            const int h = e / HEAD_DIM, i = e % HEAD_DIM;
            float most = -INFINITY, all = 0.0f, sum = 0.0f;
            for (int w = 0; w < WARPS; w++) most = fmax(most, tops[w * HEADS + h]);
            for (int w = 0; w < WARPS; w++) {
                const float part = weight(tops[w * HEADS + h], most);
                all += part * sums[w * HEADS + h];
                sum += part * room[(w * HEADS + h) * HEAD_DIM + i];
            }
            own[h * RECORD + i] = i < v_dims ? sum + offset_of(v.widths, i) * all : 0.0f;
            if (i == 0) {
                own[h * RECORD + HEAD_DIM] = most;
                own[h * RECORD + HEAD_DIM + 1] = all;
            }
        }
    }
    if (ptx_is_last((__global uint *)scratch, get_group_id(1), get_num_groups(0), &last))
        merge(&p, parts, shares, room, (__local float *)pool, some, out, row_max, row_lse, first_row, heads, v,
              mean + (nth + 1) * HEAD_DIM, basis, factor, item);
}
