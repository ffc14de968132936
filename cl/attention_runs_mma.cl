/*
 * attention_runs_mma.cl - attention_coded.cl's work on matrix units of NVIDIA's GPUs since sm_80, where a run's rows are turned
 * alike: attention_coded_mma.cl where each has a turn of its own.
 *
 * No key is made again. A query is turned back by the phase of a run and projected on the basis, and that is multiplied with
 * codes as they are:
 *
 *     t = R(-phase of the run) q                       p[i] = factor[i] basis[i] . t
 *     s[row] = scale (t . (mean + sum of factor offset basis) + p . codes[row])
 *     acc[dim][lane] += codes[dim][row] e^(s-m)        level's offset comes at the end: l times
 *
 * A warp has CHUNK blocks of 16 rows at a time, and QUERIES lanes: t of each block and lane are the 16 rows of a product, and so
 * is p. Of the logits of a block's rows with all 16 those of its own QUERIES are taken; more of them than are needed cost less
 * than products that are not full.
 *
 *     of a lane of a warp, g = lane / 4, c = lane % 4:
 *         t, p, s      rows g, g + 8: lane g % 4 of queries, blocks g / 4, g / 4 + 2      columns 2 c and the next
 *         codes        of keys: row g of the block, of values: dimensions g, g + 8
 *         acc          dimensions g, g + 8     columns 2 c and the next: lanes of queries, 4 + lane what f16 leaves of weights
 *
 * Basis vectors and codes are numbers of 8 bits, which f16 has exactly; what stands beside them is two numbers of f16 each, so
 * that nothing is lost. Queries and factors are brought below 1 by powers of two, since f16 has small numbers only coarsely and
 * large ones not at all: |p| < 2 / 3 |t| |basis[i]| < 11000.
 *
 * Codes of 16 dimensions of one width are unpacked by bytes: 1024 + code is f16's 0x6400 | code. Where widths meet each
 * dimension has its own shift.
 *
 * Text is the work of work-groups behind those of the shares; the work-group of a piece that is done last merges them all,
 * and the rows in pages.
 *
 * Work: dimension 0 = shares of the blocks, then shares of text, 1 = kv heads * lane groups; of scores kv heads.
 *
 * Of n rows of a kv head with D dimensions of keys and values: n D HEAD_DIM / 2 multiply-adds for p, n D 16 for logits, n D 8
 * for values, a quarter or half of them needed; and n (bits of keys and values) / 8 bytes.
 *
 * with: few.clh coded.clh coded_mma.clh
 * ptx: sm_80 -DHEAD_DIM=128 -DHEADS=4
 * ptx: sm_80 -DHEAD_DIM=64 -DHEADS=2 -DSCORES=1
 * ptx: sm_89 -DHEAD_DIM=80 -DHEADS=1 -DSOFT_CAP=50.0f
 */
#ifndef SCORES
#define SCORES 0 /* which kernel it is: attention_coded_score, or attention_runs_mma */
#endif
#ifndef POOL_BYTES
#define POOL_BYTES VLCI_RUNS_POOL_LEAST(HEAD_DIM) /* that smem comes to have */
#endif
enum {
    CHUNK = VLCI_CODED_CHUNK,
    QUERIES = 4,
    PITCH = HEAD_DIM + 8, /* of queries and phases: their rows begin at different banks */
    POOL = POOL_BYTES / 4 /* words: a basis, then codes and phases as far as there is room */
};

/* ---- a head's keys ---------------------------------------------------------------------------------------------- */

/* What a work-group has of them in local memory, vectors at the beginning of a pool. */
typedef struct {
    __local uint2 *vectors;  /* f16 [tiles of 8 dims][STEPS][lane]: as a product takes its second factor, low and high halves */
    __local float *factors;  /* of a dimension, 0 beyond the last */
    __local float *middle;   /* [HEAD_DIM]: what t is multiplied with for codes of 0 */
    __local float *queries;  /* [QUERIES][PITCH] */
    __local uint *k_places, *v_places; /* of a dimension: where its words begin in a block, times 16, and its bits */
    int dims;
    float back; /* scale, and what undoes powers of two */
} keys_t;

/* Where lane's pair of vectors stands among the 32 of a tile and step, so that writers, too, meet different banks. */
PTX_CALL int swizzled(int step, int lane) { return lane ^ (step & 7) << 2; }

/* A power of two that brings x below 1, and what undoes it. */
PTX_CALL float up_to_one(float x, float *back) {
    const int power = x > 0.0f ? min(max(126 - (int)(as_uint(x) >> 23 & 255), -100), 100) : 0;
    *back = as_float((uint)(127 - power) << 23);
    return as_float((uint)(127 + power) << 23);
}

/* room: QUERIES * HEAD_DIM floats. */
WITH_LOCAL void take_keys(keys_t *to, vlci_code_matrix k, uint v, __global const half *mean, __global const char *basis,
                          __global const float *factor, const piece_t *p, __global const float *q, uint q_offset,
                          uint q_stride, int first_row, float scale, __local float *room, __local float *some, int item) {
    enum { QUARTERS = HEAD_DIM / 4 };
    to->dims = VLCI_CODE_DIMS(k.widths);
    const int padded = (to->dims + 15) / 16 * 16, v_dims = VLCI_CODE_DIMS(v);
    const float own = item < to->dims ? factor[k.dim + item] : 0.0f, offset = offset_of(k.widths, item);
    float large = 0.0f, q_back, k_back;
    for (int e = item; e < QUERIES * HEAD_DIM; e += LANES) {
        const float x = query_of(p, e / HEAD_DIM, q, q_offset, q_stride, first_row)[e % HEAD_DIM];
        to->queries[e / HEAD_DIM * PITCH + e % HEAD_DIM] = x;
        large = fmax(large, fabs(x));
    }
    const float q_up = up_to_one(largest(some, large, item), &q_back);
    const float k_up = up_to_one(largest(some, fabs(own * offset), item), &k_back);
    to->back = scale * q_back * k_back;
    for (int e = item; e < QUERIES * HEAD_DIM; e += LANES) to->queries[e / HEAD_DIM * PITCH + e % HEAD_DIM] *= q_up;
    if (item < HEAD_DIM) {
        to->factors[item] = own * k_up;
        const uint2 k_place = place_of(k.widths, max(min(item, to->dims - 1), 0));
        const uint2 v_place = place_of(v, max(min(item, v_dims - 1), 0));
        to->k_places[item] = k_place.x * 16 + k_place.y;
        to->v_places[item] = v_place.x * 16 + v_place.y;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    /* 4 elements of a vector each; where LANES is a multiple of those of a vector, always the same 4 */
    float4 sum = 0.0f;
    __local uint *words = (__local uint *)to->vectors;
#pragma unroll 4
    for (int e = item; e < padded * QUARTERS; e += LANES) {
        const int i = e / QUARTERS, d = e % QUARTERS * 4, high = d >= HALF, step = d % HALF / 8, c = d % 8 / 2;
        uint four = 0x80808080u; /* bytes + 128 */
        if (i < to->dims) four = *(__global const uint *)(basis + ((size_t)k.dim + i) * HEAD_DIM + d) ^ 0x80808080u;
        const uint first = ptx_sub_f16x2(ptx_pick(four, 0x64646464u, 0x4140u), 0x64806480u);
        const uint next = ptx_sub_f16x2(ptx_pick(four, 0x64646464u, 0x4342u), 0x64806480u);
        __local uint *at = words + (i / 8 * STEPS + step) * 64 + high;
        at[2 * swizzled(step, i % 8 * 4 + c)] = first;
        at[2 * swizzled(step, i % 8 * 4 + c + 1)] = next;
    }
    if (item < LANES / QUARTERS * QUARTERS) {
        for (int i = item / QUARTERS; i < to->dims; i += LANES / QUARTERS) {
            const float part = to->factors[i] * offset_of(k.widths, i);
            sum += part * convert_float4(*(__global const char4 *)(basis + ((size_t)k.dim + i) * HEAD_DIM + item % QUARTERS * 4));
        }
        *(__local float4 *)(room + item * 4) = sum;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int d = item; d < HEAD_DIM; d += LANES) {
        float all = k_up * vload_half(d, mean);
        for (int part = 0; part < LANES / QUARTERS; part++) all += room[part * HEAD_DIM + d];
        to->middle[d] = all;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* ---- codes ------------------------------------------------------------------------------------------------------- */

/* Blocks of a matrix, `stride` words each, in local memory where they are fetched: known where this is compiled. */
typedef struct {
    int fetched, stride, most; /* most: the last one's number */
    __local const uint *copy;
    __global const uint *there;
} blocks_t;
PTX_CALL uint word_at(const blocks_t *b, int i) { return b->fetched ? b->copy[i] : b->there[i]; }
PTX_CALL blocks_t block_of(const blocks_t *b, int r) {
    const blocks_t one = {b->fetched, b->stride, 0, b->copy + r * b->stride, b->there + (size_t)min(r, b->most) * b->stride};
    return one;
}

/* Of a matrix, as a lane reads it: widths, and where what it needs first of each begins in a block. */
typedef struct {
    int eights, fours, dims; /* dimensions up to the end of each width */
    int eight, four, two;
    __local const uint *places;
} lane_t;

PTX_CALL lane_t lane_of_keys(uint widths, __local const uint *places, int g, int c) {
    const int eights = VLCI_CODE_EIGHTS(widths), fours = VLCI_CODE_FOURS(widths);
    const lane_t l = {eights,        eights + fours, VLCI_CODE_DIMS(widths),
                      8 * c + g / 4, 2 * eights + 4 * c, 3 * eights + fours + 2 * c, places};
    return l;
}
PTX_CALL lane_t lane_of_values(uint widths, __local const uint *places, int g, int c) {
    const int eights = VLCI_CODE_EIGHTS(widths), fours = VLCI_CODE_FOURS(widths);
    const lane_t l = {eights, eights + fours, VLCI_CODE_DIMS(widths), 4 * g + c / 2, 2 * eights + 2 * g, 3 * eights + fours + g,
                      places};
    return l;
}

/* The width that dimensions first .. first + 15 all have; 0: they have several, or are not all there. */
PTX_CALL int width_of(const lane_t *l, int first) {
    const int end = first + 16;
    if (end <= l->eights) return 8;
    if (first >= l->eights && end <= l->fours) return 4;
    return first >= l->fours && end <= l->dims ? 2 : 0;
}

/* 1024 + a code, less 1024, in both halves */
#define CODES_OF(x, mask) ptx_sub_f16x2(((x) & (mask)) | 0x64006400u, 0x64006400u)

/* Codes of two rows, `bits` apart from the first's, of a dimension that stands as `place` says. */
PTX_CALL uint2 rows_of(const blocks_t *b, uint place, uint row, uint more) {
    const uint bits = place % 16, low = row * bits, high = low + more * bits, mask = (1u << bits) - 1u;
    return (uint2)(word_at(b, place / 16 + low / 32) >> low % 32 & mask, word_at(b, place / 16 + high / 32) >> high % 32 & mask);
}

/* Codes of dimensions first + 2 c and the next of rows g (.x) and g + 8 (.y); `width` as width_of() says of a step of them. */
PTX_CALL uint2 pair_of_keys(const blocks_t *b, const lane_t *l, int width, int first, int g, int c) {
    if (width == 8) { /* bytes g % 4, of both */
        const int at = l->eight + 4 * first;
        const uint which = (uint)(g % 4) * 0x0101u + 0x0400u;
        return (uint2)(CODES_OF(ptx_pick(word_at(b, at), word_at(b, at + 4), which), 0x00ff00ffu),
                       CODES_OF(ptx_pick(word_at(b, at + 2), word_at(b, at + 6), which), 0x00ff00ffu));
    }
    if (width == 4) {
        const int at = l->four + 2 * first;
        const uint which = g < 4 ? 0x5410u : 0x7632u, shift = (uint)g % 4 * 4;
        return (uint2)(CODES_OF(ptx_pick(word_at(b, at), word_at(b, at + 2), which) >> shift, 0x000f000fu),
                       CODES_OF(ptx_pick(word_at(b, at + 1), word_at(b, at + 3), which) >> shift, 0x000f000fu));
    }
    if (width == 2) {
        const uint x = word_at(b, l->two + first), y = word_at(b, l->two + first + 1);
        return (uint2)(CODES_OF(ptx_pick(x, y, 0x5410u) >> 2 * g, 0x00030003u),
                       CODES_OF(ptx_pick(x, y, 0x7632u) >> 2 * g, 0x00030003u));
    }
    const uint2 x = rows_of(b, l->places[first + 2 * c], g, 8), y = rows_of(b, l->places[first + 2 * c + 1], g, 8);
    return (uint2)(CODES_OF(x.x | y.x << 16, 0x00ff00ffu), CODES_OF(x.y | y.y << 16, 0x00ff00ffu));
}

/* Codes of dimension first + g of rows 2 c and 2 c + 1 (.x), and of those 8 further (.y). */
PTX_CALL uint2 pair_of_values(const blocks_t *b, const lane_t *l, int width, int first, int g, int c) {
    if (width == 8) { /* bytes 2 (c % 2) and the next, 0x64 behind each */
        const int at = l->eight + 4 * first;
        const uint which = 0x4140u + (uint)(c % 2) * 0x0202u;
        return (uint2)(ptx_sub_f16x2(ptx_pick(word_at(b, at), 0x64646464u, which), 0x64006400u),
                       ptx_sub_f16x2(ptx_pick(word_at(b, at + 2), 0x64646464u, which), 0x64006400u));
    }
    if (width == 4) { /* byte c twice; of the upper one 16 times the code */
        const int at = l->four + 2 * first;
        const uint which = (uint)c * 0x1111u;
        const uint x = (ptx_pick(word_at(b, at), 0, which) & 0x00f0000fu) | 0x64006400u;
        const uint y = (ptx_pick(word_at(b, at + 1), 0, which) & 0x00f0000fu) | 0x64006400u;
        return (uint2)(ptx_fma_f16x2(x, 0x2c003c00u, 0xd400e400u), ptx_fma_f16x2(y, 0x2c003c00u, 0xd400e400u));
    }
    if (width == 2) { /* the same, 4 times the code */
        const uint x = word_at(b, l->two + first) >> 4 * c;
        return (uint2)(ptx_fma_f16x2((ptx_pick(x, 0, 0x0000u) & 0x000c0003u) | 0x64006400u, 0x34003c00u, 0xdc00e400u),
                       ptx_fma_f16x2((ptx_pick(x, 0, 0x2222u) & 0x000c0003u) | 0x64006400u, 0x34003c00u, 0xdc00e400u));
    }
    const uint place = l->places[first + g];
    const uint2 x = rows_of(b, place, 2 * c, 8), y = rows_of(b, place, 2 * c + 1, 8);
    return (uint2)(CODES_OF(x.x | y.x << 16, 0x00ff00ffu), CODES_OF(x.y | y.y << 16, 0x00ff00ffu));
}

/* ---- a chunk ----------------------------------------------------------------------------------------------------- */

/* p of rows g and g + 8, two numbers of f16, and what codes of 0 come to. */
typedef struct {
    uint first[STEPS][4], rest[STEPS][4];
    float low, high;
} projected_t;

/* What rows g and g + 8 are turned by, each as blocks are: fetched, or where it lies. */
typedef struct {
    int fetched;
    __local const float *copy[2];
    __global const float *there[2];
} turns_t;
PTX_CALL float2 turn_of(const turns_t *t, int r, int at) {
    return t->fetched ? *(__local const float2 *)(t->copy[r] + at) : *(__global const float2 *)(t->there[r] + at);
}

WITH_LOCAL void project(projected_t *to, const keys_t *k, const turns_t *turns, int lane) {
    const int g = lane / 4, c = lane % 4;
    float acc[2 * STEPS][4];
#pragma unroll
    for (int n = 0; n < 2 * STEPS; n++) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0.0f;
    to->low = to->high = 0.0f;
    __local const float *q = k->queries + g % 4 * PITCH + 2 * c, *middle = k->middle + 2 * c;
#pragma unroll 2
    for (int step = 0; step < STEPS; step++) {
        const float2 low = *(__local const float2 *)(q + step * 8), high = *(__local const float2 *)(q + HALF + step * 8);
        const float2 m = *(__local const float2 *)(middle + step * 8), o = *(__local const float2 *)(middle + HALF + step * 8);
        uint first[4], rest[4];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int at = step * 8 + 2 * c;
            const float2 cosine = turn_of(turns, r, at), sine = turn_of(turns, r, HALF + at);
            const float2 x = low * cosine + high * sine, y = high * cosine - low * sine;
            const float part = ptx_fma(x.x, m.x, ptx_fma(x.y, m.y, ptx_fma(y.x, o.x, y.y * o.y)));
            ptx_split_f16(x.x, x.y, &first[r], &rest[r]);
            ptx_split_f16(y.x, y.y, &first[2 + r], &rest[2 + r]);
            if (r) to->high += part; else to->low += part;
        }
        __local const uint2 *vectors = k->vectors + step * 32 + swizzled(step, lane);
#pragma unroll
        for (int n = 0; n < 2 * STEPS; n += 2)
            if (n * 8 < k->dims) {
                const uint2 a = vectors[n * STEPS * 32], b = vectors[(n + 1) * STEPS * 32];
                PTX_MMA_F16(acc[n], first, a.x, a.y);
                PTX_MMA_F16(acc[n + 1], first, b.x, b.y);
                PTX_MMA_F16(acc[n], rest, a.x, a.y);
                PTX_MMA_F16(acc[n + 1], rest, b.x, b.y);
            }
    }
    to->low += ptx_butterfly(to->low, 1);
    to->low += ptx_butterfly(to->low, 2);
    to->high += ptx_butterfly(to->high, 1);
    to->high += ptx_butterfly(to->high, 2);
#pragma unroll
    for (int n = 0; n < 2 * STEPS; n++) { /* of all dimensions: what was there before need not be kept meanwhile */
        const float2 f = *(__local const float2 *)(k->factors + n * 8 + 2 * c);
        ptx_split_f16(acc[n][0] * f.x, acc[n][1] * f.y, &to->first[n / 2][n % 2 * 2], &to->rest[n / 2][n % 2 * 2]);
        ptx_split_f16(acc[n][2] * f.x, acc[n][3] * f.y, &to->first[n / 2][n % 2 * 2 + 1], &to->rest[n / 2][n % 2 * 2 + 1]);
    }
}

/* Logits of this lane's row with rows 2 c, 2 c + 1, 2 c + 8, 2 c + 9 of blocks g / 4 [0] and g / 4 + 2 [1]. */
WITH_LOCAL void multiply(const projected_t *p, const keys_t *k, uint widths, const blocks_t *blocks, int lane, float s[2][4]) {
    const int g = lane / 4, c = lane % 4;
    const lane_t own = lane_of_keys(widths, k->k_places, g, c);
#pragma unroll 1
    for (int r = 0; r < CHUNK; r++) {
        const blocks_t block = block_of(blocks, r);
        float acc[2][4];
#pragma unroll
        for (int e = 0; e < 4; e++) acc[0][e] = acc[1][e] = 0.0f;
#pragma unroll
        for (int step = 0; step < STEPS; step++)
            if (step * 16 < k->dims) {
                const int width = width_of(&own, step * 16);
                const uint2 a = pair_of_keys(&block, &own, width, step * 16, g, c);
                const uint2 b = pair_of_keys(&block, &own, width, step * 16 + 8, g, c);
                PTX_MMA_F16(acc[0], p->first[step], a.x, b.x);
                PTX_MMA_F16(acc[1], p->first[step], a.y, b.y);
                PTX_MMA_F16(acc[0], p->rest[step], a.x, b.x);
                PTX_MMA_F16(acc[1], p->rest[step], a.y, b.y);
            }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (r == g / 4) s[0][e] = acc[e / 2][e % 2];
            if (r == g / 4 + 2) s[1][e] = acc[e / 2][2 + e % 2];
        }
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        s[0][e] = CAPPED(k->back * (s[0][e] + p->low));
        s[1][e] = CAPPED(k->back * (s[1][e] + p->high));
    }
}

/* What a warp has of a share: m and l of lane g % 4 of queries, l of this lane's own rows. */
typedef struct {
    float acc[STEPS][4], m, l;
} share_t;

/* Logits of rows `row` .. of the chunk become weights, of which `halves` has what products of values take as their second factor:
 * of block r [r][..]. */
WITH_LOCAL void weigh(share_t *own, float s[2][4], int row, int n, int lane, uint halves[CHUNK][2]) {
    const int g = lane / 4, c = lane % 4;
    float top = own->m;
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            if (row + (g / 4 + 2 * b) * BLOCK + 2 * c + e % 2 + e / 2 * 8 >= n) s[b][e] = -INFINITY;
            top = fmax(top, s[b][e]);
        }
    top = fmax(top, ptx_butterfly(top, 1));
    top = fmax(top, ptx_butterfly(top, 2));
    top = fmax(top, ptx_butterfly(top, 16));
    const float keep = weight(own->m, top);
    own->m = top;
    own->l *= keep;
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[b][e] = weight(s[b][e], top);
            own->l += s[b][e];
        }
    if (ptx_any(keep != 1.0f)) {
        const float low = ptx_from(keep, 2 * c % 4 * 4), high = ptx_from(keep, (2 * c + 1) % 4 * 4);
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            own->acc[i][0] *= low;
            own->acc[i][2] *= low;
            own->acc[i][1] *= high;
            own->acc[i][3] *= high;
        }
    }
#pragma unroll
    for (int b = 0; b < 2; b++)
#pragma unroll
        for (int e = 0; e < 2; e++) { /* of the blocks 2 b and 2 b + 1, each half of the lanes has one: they change */
            uint first, rest;
            ptx_split_f16(s[b][2 * e], s[b][2 * e + 1], &first, &rest);
            const uint other = ptx_butterfly_uint(g < 4 ? rest : first, 16);
            halves[2 * b][e] = g < 4 ? first : other;
            halves[2 * b + 1][e] = g < 4 ? other : rest;
        }
}

WITH_LOCAL void add_values(share_t *own, uint widths, __local const uint *places, const blocks_t *blocks, int lane,
                           uint halves[CHUNK][2]) {
    const int g = lane / 4, c = lane % 4;
    const lane_t at = lane_of_values(widths, places, g, c);
#pragma unroll 1
    for (int r = 0; r < CHUNK; r++) {
        const blocks_t block = block_of(blocks, r);
        const uint low = r == 0 ? halves[0][0] : r == 1 ? halves[1][0] : r == 2 ? halves[2][0] : halves[3][0];
        const uint high = r == 0 ? halves[0][1] : r == 1 ? halves[1][1] : r == 2 ? halves[2][1] : halves[3][1];
#pragma unroll
        for (int i = 0; i < STEPS; i++)
            if (i * 16 < at.dims) {
                const int width = width_of(&at, i * 16);
                const uint2 x = pair_of_values(&block, &at, width, i * 16, g, c);
                const uint2 y = pair_of_values(&block, &at, width, i * 16 + 8, g, c);
                uint a[4] = {x.x, y.x, x.y, y.y};
                PTX_MMA_F16(own->acc[i], a, low, high);
            }
    }
}

/* What it takes to read a share's chunks: keys, and with values these. */
typedef struct {
    __global const uint *k, *v; /* the first block of all */
    __local uint *copy;         /* of two chunks: keys, values, phases of each */
    uint k_widths, v_widths;
    int k_words, v_words, blocks, n, run;
    __global const float *phase;
} source_t;

/* Words of a chunk; phases begin at a multiple of 16 bytes. */
PTX_CALL int codes_of_chunk(const source_t *from) { return (CHUNK * (from->k_words + from->v_words) + 3) / 4 * 4; }
PTX_CALL int words_of_chunk(const source_t *from) { return codes_of_chunk(from) + CHUNK * PITCH; }

/* The run of block b, or the last one. */
PTX_CALL int run_of(const source_t *from, int b) { return min(b * BLOCK, from->n - 1) / from->run; }

/* CHUNK blocks from `b` on, as many as there are, to a stage: they are on their way. */
WITH_LOCAL void fetch_chunk(const source_t *from, int b, int stage, int lane) {
    __local uint *to = from->copy + stage * words_of_chunk(from), *phases = to + codes_of_chunk(from);
    const int some = min((int)CHUNK, from->blocks - b);
    fetch(to, from->k + (size_t)b * from->k_words, some * from->k_words, lane);
    fetch(to + CHUNK * from->k_words, from->v + (size_t)b * from->v_words, some * from->v_words, lane);
    for (int e = lane; e < CHUNK * HEAD_DIM / 4; e += 32) {
        const int r = e / (HEAD_DIM / 4), d = e % (HEAD_DIM / 4) * 4;
        __global const float *turn = from->phase + (size_t)run_of(from, b + r) * HEAD_DIM + d;
        ptx_copy16((uint)(phases + r * PITCH + d), (__global const uchar *)turn, 16);
    }
}

/* A chunk, fetched or not. */
typedef struct {
    blocks_t k, v;
    turns_t turns;
} chunk_t;

PTX_CALL chunk_t chunk_of(const source_t *from, int b, int stage, int lane, int fetched) {
    __local uint *copy = from->copy + stage * words_of_chunk(from);
    __local const float *phases = (__local const float *)(copy + codes_of_chunk(from)) + lane / 16 * PITCH;
    const int most = from->blocks - 1 - b, low = run_of(from, b + lane / 16), high = run_of(from, b + lane / 16 + 2);
    const chunk_t c = {{fetched, from->k_words, most, copy, from->k + (size_t)b * from->k_words},
                       {fetched, from->v_words, most, copy + CHUNK * from->k_words, from->v + (size_t)b * from->v_words},
                       {fetched,
                        {phases, phases + 2 * PITCH},
                        {from->phase + (size_t)low * HEAD_DIM, from->phase + (size_t)high * HEAD_DIM}}};
    return c;
}

/* With one chunk on its way: that is there, and the next, if there is one, is on its way. */
WITH_LOCAL void step_on(const source_t *from, int next, int until, int stage, int lane) {
    if (next < until) fetch_chunk(from, next, stage ^ 1, lane);
    PTX_COPIES_COMMIT();
    PTX_COPIES_WAIT(1);
    ptx_warp_sync();
}

#if !SCORES
/* The chunks b, b + WARPS CHUNK, ... below `until`; `fetched`: whether there is room for two, the first of which is on its way;
 * known where this is compiled. */
WITH_LOCAL void attend_chunks(share_t *own, const keys_t *keys, const source_t *from, int b, int until, int lane, int fetched) {
    int was = -1;
    projected_t p;
    for (int stage = 0; b < until; b += WARPS * CHUNK, stage ^= 1) {
        const int first = run_of(from, b), end = run_of(from, b + CHUNK - 1);
        const chunk_t chunk = chunk_of(from, b, stage, lane, fetched);
        float s[2][4];
        uint halves[CHUNK][2];
        if (fetched) step_on(from, b + WARPS * CHUNK, until, stage, lane);
        if (first != was || end != was) project(&p, keys, &chunk.turns, lane);
        was = first == end ? first : -1;
        multiply(&p, keys, from->k_widths, &chunk.k, lane, s);
        weigh(own, s, b * BLOCK, from->n, lane, halves);
        add_values(own, from->v_widths, keys->v_places, &chunk.v, lane, halves);
        if (fetched) ptx_warp_sync(); /* this stage is written again */
    }
}

/* ---- all of a piece ---------------------------------------------------------------------------------------------- */

/* What the warps have of a share, together: a record for each lane of queries. room: WARPS * HEADS * HEAD_DIM floats; tops, sums:
 * WARPS * HEADS. Barriers before and behind. */
WITH_LOCAL void write_share(share_t *mine, uint v, __local float *room, __local float *tops, __local float *sums, int item,
                            __global float *parts) {
    const int warp = item / 32, lane = item % 32, g = lane / 4, c = lane % 4, dims = VLCI_CODE_DIMS(v);
    mine->l += ptx_butterfly(mine->l, 1);
    mine->l += ptx_butterfly(mine->l, 2);
    mine->l += ptx_butterfly(mine->l, 16);
    if (c == 0 && g < HEADS) {
        tops[warp * HEADS + g] = mine->m;
        sums[warp * HEADS + g] = mine->l;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
    for (int i = 0; i < STEPS; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float sum = mine->acc[i][e] + ptx_butterfly(mine->acc[i][e], 2);
            if (c < 2 && 2 * c + e % 2 < HEADS) room[(warp * HEADS + 2 * c + e % 2) * HEAD_DIM + i * 16 + g + e / 2 * 8] = sum;
        }
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
        parts[h * RECORD + i] = i < dims ? sum + offset_of(v, i) * all : 0.0f;
        if (i == 0) {
            parts[h * RECORD + HEAD_DIM] = most;
            parts[h * RECORD + HEAD_DIM + 1] = all;
        }
    }
}

__attribute__((reqd_work_group_size(VLCI_CODED_MMA_ITEMS, 1, 1))) __kernel void
attention_runs_mma(CODED_PARAMS, __global float *scratch, int share, int shares, int text_share, __global float *out,
                   __global float *row_max, __global float *row_lse) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float factors[HEAD_DIM] __attribute__((aligned(16))), middle[HEAD_DIM] __attribute__((aligned(16)));
    __local float queries[QUERIES * PITCH] __attribute__((aligned(16)));
    __local uint k_places[HEAD_DIM], v_places[HEAD_DIM];
    __local float tops[WARPS * HEADS], sums[WARPS * HEADS], some[3 * HEADS > WARPS ? 3 * HEADS : WARPS];
    __local float room[2 * HEADS * VLCI_CODED_SHARES] __attribute__((aligned(16)));
    __local int last;
    __local uint *pool = (__local uint *)smem;
    const int item = (int)get_local_id(0), s_id = (int)get_group_id(0), warp = item / 32, lane = item % 32;
    const piece_t p = find_piece(rows, heads, kv_heads);
    const size_t nth = MATRIX_OF(p.kv);
    const vlci_code_matrix v = matrix[nth + 1];
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
        const int padded = (VLCI_CODE_DIMS(k.widths) + 15) / 16 * 16 * (HEAD_DIM / 2), blocks = (n + BLOCK - 1) / BLOCK;
        const int each = (POOL - padded) / WARPS / 4 * 4;
        const int first = s_id * share + warp * CHUNK, until = min(blocks, (s_id + 1) * share);
        const source_t from = {words + k.words, words + v.words, pool + padded + warp * each, k.widths, v.widths,
                               VLCI_CODE_WORDS(k.widths), VLCI_CODE_WORDS(v.widths), blocks, n, run, phase};
        const int fetched = 2 * words_of_chunk(&from) <= each;
        keys_t keys = {(__local uint2 *)pool, factors, middle, queries, k_places, v_places, 0, 0.0f};
        share_t mine;
#pragma unroll
        for (int i = 0; i < STEPS; i++) mine.acc[i][0] = mine.acc[i][1] = mine.acc[i][2] = mine.acc[i][3] = 0.0f;
        mine.m = -INFINITY;
        mine.l = 0.0f;
        if (fetched && first < until) fetch_chunk(&from, first, 0, lane);
        PTX_COPIES_COMMIT();
        take_keys(&keys, k, v.widths, mean + nth * HEAD_DIM, basis, factor, &p, q, q_offset, q_stride, first_row, scale, room,
                  some, item);
        if (fetched)
            attend_chunks(&mine, &keys, &from, first, until, lane, 1);
        else
            attend_chunks(&mine, &keys, &from, first, until, lane, 0);
        barrier(CLK_LOCAL_MEM_FENCE);
        write_share(&mine, v.widths, (__local float *)pool, tops, sums, item, own);
    }
    if (ptx_is_last((__global uint *)scratch, get_group_id(1), get_num_groups(0), &last))
        merge(&p, parts, shares, room, (__local float *)pool, some, out, row_max, row_lse, first_row, heads, v,
              mean + (nth + 1) * HEAD_DIM, basis, factor, item);
}

#else
/* ---- what decode looks at ---------------------------------------------------------------------------------------- */

/* As attend_chunks; lse: of lane g % 4 of queries, infinite where there is none. */
WITH_LOCAL void score_chunks(const keys_t *keys, const source_t *from, int b, int until, int lane, float lse, float part,
                             __global const int *positions, __global float *score, int fetched) {
    const int g = lane / 4, c = lane % 4;
    for (int stage = 0; b < until; b += WARPS * CHUNK, stage ^= 1) {
        const chunk_t chunk = chunk_of(from, b, stage, lane, fetched);
        projected_t t;
        float s[2][4];
        if (fetched) step_on(from, b + WARPS * CHUNK, until, stage, lane);
        project(&t, keys, &chunk.turns, lane);
        multiply(&t, keys, from->k_widths, &chunk.k, lane, s);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            float sum = exp(s[e / 4][e % 4] - lse);
            sum += ptx_butterfly(sum, 4);
            sum += ptx_butterfly(sum, 8);
            const int row = (b + g / 4 + e / 4 * 2) * BLOCK + 2 * c + e % 2 + e % 4 / 2 * 8;
            if (g % 4 == 0 && row < from->n) score[positions[row]] += part * sum;
        }
        if (fetched) ptx_warp_sync(); /* this stage is written again */
    }
}

/* As attention_coded_score. A piece is HEADS lanes of queries, one after another: the same work-item has the same rows of all. */
__attribute__((reqd_work_group_size(VLCI_CODED_MMA_ITEMS, 1, 1))) __kernel void
attention_coded_score(CODED_PARAMS, int share, int shares, __global const float *row_lse, __global const int *positions,
                      __global const int *text_at, float part, __global float *score, uint score_at, int tokens) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(16)));
    __local float factors[HEAD_DIM] __attribute__((aligned(16))), middle[HEAD_DIM] __attribute__((aligned(16)));
    __local float queries[QUERIES * PITCH] __attribute__((aligned(16)));
    __local uint k_places[HEAD_DIM], v_places[HEAD_DIM];
    __local uint *pool = (__local uint *)smem;
    __local float some[WARPS], room[QUERIES * VLCI_CODED_MMA_ITEMS] __attribute__((aligned(16)));
    const int item = (int)get_local_id(0), s_id = (int)get_group_id(0), warp = item / 32, lane = item % 32;
    const int g = lane / 4, group = heads / kv_heads;
    piece_t p = {(int)get_group_id(1), group, 0, group};
    const size_t nth = MATRIX_OF(p.kv);
    row_lse += (size_t)first_row * heads + p.kv * group;
    score += score_at + (size_t)p.kv * tokens;
    if (s_id >= shares) {
        const int j = (s_id - shares) * LANES + item;
        if (j >= texts) return;
        float sum = 0.0f;
        for (int h = 0; h < group; h++) {
            __global const float *row = query_of(&p, h, q, q_offset, q_stride, first_row);
            float8 s = 0.0f;
            for (int d = 0; d < HEAD_DIM; d += 8)
                s += f32_run(row + d) * convert_float8(*(__global const char8 *)(text + (nth * texts + j) * HEAD_DIM + d));
            sum += exp(CAPPED(sum8(s) * scale * text_scale[nth * texts + j]) - row_lse[h]);
        }
        score[text_at[j]] += part * sum;
        return;
    }
    const vlci_code_matrix k = matrix[nth];
    const int padded = (VLCI_CODE_DIMS(k.widths) + 15) / 16 * 16 * (HEAD_DIM / 2), blocks = (n + BLOCK - 1) / BLOCK;
    const int each = (POOL - padded) / WARPS / 4 * 4;
    const int first = s_id * share + warp * CHUNK, until = min(blocks, (s_id + 1) * share);
    const source_t from = {words + k.words, words, pool + padded + warp * each, k.widths, 0, VLCI_CODE_WORDS(k.widths), 0,
                           blocks,          n,     run,                         phase};
    keys_t keys = {(__local uint2 *)pool, factors, middle, queries, k_places, v_places, 0, 0.0f};
    for (p.lane = 0; p.lane < group; p.lane += HEADS) {
        p.count = min(group - p.lane, (int)HEADS);
        const float lse = g % 4 < p.count ? row_lse[p.lane + g % 4] : INFINITY;
        const int fetched = 2 * words_of_chunk(&from) <= each;
        if (fetched && first < until) fetch_chunk(&from, first, 0, lane);
        PTX_COPIES_COMMIT();
        take_keys(&keys, k, 0, mean + nth * HEAD_DIM, basis, factor, &p, q, q_offset, q_stride, first_row, scale, room, some,
                  item);
        if (fetched)
            score_chunks(&keys, &from, first, until, lane, lse, part, positions, score, 1);
        else
            score_chunks(&keys, &from, first, until, lane, lse, part, positions, score, 0);
        barrier(CLK_LOCAL_MEM_FENCE); /* before keys are taken again */
    }
}
#endif
