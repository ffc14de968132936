/*
 * attention_quantised.cl - softmax(scale q k^T) v over rows in few bits a number, which are never brought back
 * (lib/kv/quants.h says what they are), and what comes of it together with the attention over the rows in pages.
 *
 * Lanes, shares, partial results: few.clh.
 *
 *     for each group of rows:   u(d) = scale q(d) key_scale(d)          c = scale q . key_zero
 *     for each row:             s = c + sum over d of u(d) code_K(d), and bias      w = e^(s-m)
 *                               acc(d) += w value_scale(d / group) code_V(d)     zeros(d / group) += w value_zero(d / group)
 *
 *     merge:   out_Q = (acc + zeros) / l          out, row_max, row_lse = those of the rows in pages and these together
 *
 * attention_quantised: a share of the groups of rows is a work-group's. Its ITEMS work-items are dimensions, then rows, then
 * dimensions again. A tile is ITEMS rows: groups are powers of two.
 * attention_quantised_wide: a share is a work-item's, for processors: a block of 16 rows is a vector. Loops over dimensions
 * stay loops: unrolled, they take compilers seconds and make nothing faster.
 *
 * Work: dimension 0 = shares of the groups, 1 = kv heads * lane groups.
 *
 * with: few.clh
 * build: -DHEAD_DIM=64 -DHEADS=2
 * build: -DHEAD_DIM=128 -DHEADS=4 -DKEY_BITS=3 -DVALUE_BITS=3
 * build: -DHEAD_DIM=128 -DHEADS=4 -DKEY_BITS=8 -DVALUE_BITS=4 -DWIDE=1
 * build: -DHEAD_DIM=256 -DHEADS=1 -DKEY_BITS=3 -DVALUE_BITS=3 -DWIDE=1 -DSOFT_CAP=50.0f
 */
#ifndef KEY_BITS
#define KEY_BITS 4 /* of a number: 8, 4, 3 or 2 */
#endif
#ifndef VALUE_BITS
#define VALUE_BITS 2
#endif
enum {
    K_WORDS = VLCI_QUANT_WORDS(KEY_BITS, HEAD_DIM), /* of a block */
    V_WORDS = VLCI_QUANT_WORDS(VALUE_BITS, HEAD_DIM)
};

/* What all kernels are told: queries, and the quants of a sequence. */
#define QUANT_PARAMS                                                                                                  \
    __global const float *q, uint q_offset, uint q_stride, int first_row, int rows, int heads, int kv_heads, float scale, \
        __global const vlci_quant_head *head, __global const uint *keys, __global const uint *values,                \
        __global const half *key_scale, __global const half *value_scale, __global const half *bias, int group,      \
        int layer

#if !WIDE
/* ---- a work-group for a share ---------------------------------------------------------------------------------- */

/* Code of dimension d of row r of a block. */
static inline float code_at(__global const uint *block, int bits, int d, int r) {
    const int low = bits == 3 ? 2 : bits, bit = r * low;
    uint code = block[d * (low / 2) + bit / 32] >> (bit % 32) & ((1u << low) - 1u);
    if (bits == 3) code |= ((uint)((__global const ushort *)(block + HEAD_DIM))[d] >> r & 1u) << 2;
    return (float)code;
}

__attribute__((reqd_work_group_size(ITEMS, 1, 1))) __kernel void attention_quantised(QUANT_PARAMS, __global float *parts,
                                                                                     int share) {
    enum { GROUPS = ITEMS / VLCI_QUANT_GROUP_MIN };
    __local float u[GROUPS * HEADS * HEAD_DIM], base[GROUPS * HEADS], weights[HEADS * ITEMS], some[HEADS * FEW];
    const int item = (int)get_local_id(0), channels = (HEAD_DIM + group - 1) / group;
    const piece_t p = find_piece(rows, heads, kv_heads);
    const vlci_quant_head own = head[layer * kv_heads + p.kv];
    const int from = (int)get_group_id(0) * share * group, until = min(own.rows, from + share * group);
    state_t state;
    const int side = begin_share(&state, HEAD_DIM);
    for (int j0 = from; j0 < until; j0 += ITEMS) { /* a tile: ITEMS rows, of several groups or of a part of one */
        const int last = min(j0 + (int)ITEMS, until), mine = min(j0 + item, last - 1);
        const int groups = j0 % group == 0 ? (last - j0 + group - 1) / group : 0;
        __global const half *unit = key_scale + ((size_t)own.group + j0 / group) * 2 * HEAD_DIM;
        for (int e = item; e < groups * HEADS * HEAD_DIM; e += ITEMS) { /* u of the groups that begin here */
            const int g = e / (HEADS * HEAD_DIM), t = e / HEAD_DIM % HEADS, d = e % HEAD_DIM;
            u[e] = scale * query_of(&p, t, q, q_offset, q_stride, first_row)[d] * vload_half(g * 2 * HEAD_DIM + d, unit);
        }
        for (int e = item; e < groups * HEADS; e += ITEMS) {
            __global const float *row = query_of(&p, e % HEADS, q, q_offset, q_stride, first_row);
            float sum = 0.0f;
            for (int d = 0; d < HEAD_DIM; d++) sum += row[d] * vload_half((e / HEADS * 2 + 1) * HEAD_DIM + d, unit);
            base[e] = scale * sum;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        float s[HEADS];
        const int g = group < ITEMS ? (mine - j0) / group : 0;
        const size_t block = (size_t)own.block + mine / BLOCK;
        const float extra = bias ? vload_half(block * BLOCK + mine % BLOCK, bias) : 0.0f;
        for (int t = 0; t < HEADS; t++) s[t] = base[g * HEADS + t];
        for (int d = 0; d < HEAD_DIM; d++) {
            const float code = code_at(keys + block * K_WORDS, KEY_BITS, d, mine % BLOCK);
            for (int t = 0; t < HEADS; t++) s[t] += u[(g * HEADS + t) * HEAD_DIM + d] * code;
        }
        for (int t = 0; t < HEADS; t++) s[t] = j0 + item < last ? CAPPED(s[t]) + extra : -INFINITY;
        weigh_tile(weights, some, &state, s, item);
        for (int row = item / side; row < last - j0; row += ITEMS / side) {
            const size_t b = (size_t)own.block + (j0 + row) / BLOCK;
            const int r = (j0 + row) % BLOCK;
            for (int i = 0; i < MORE; i++) {
                const int d = i * ITEMS + item % side;
                if (d >= HEAD_DIM) continue;
                __global const half *at = value_scale + (b * channels + d / group) * 2 * BLOCK + r;
                const float x = vload_half(0, at) * code_at(values + b * V_WORDS, VALUE_BITS, d, r) + vload_half(BLOCK, at);
                for (int t = 0; t < HEADS; t++) state.acc[t * MORE + i] += weights[t * ITEMS + row] * x;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    parts += VLCI_ATTENTION_COUNTERS + (get_group_id(1) * get_num_groups(0) + get_group_id(0)) * HEADS * RECORD;
    write_parts(weights, some, &state, item, side, HEAD_DIM, parts);
}

#else
/* ---- a work-item for a share ----------------------------------------------------------------------------------- */

/* The two low bits of the codes of a dimension of a block, and codes of three. */
static inline uint16 low_of(uint word) {
    return ((uint16)(word) >> (uint16)(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)) & 3u;
}
static inline float16 threes_of(uint word, uint third) {
    const uint16 nth = (uint16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return convert_float16(low_of(word) | (((uint16)(third) >> nth) & 1u) << 2);
}

/* Codes of dimension d of a block, of 8, 4, 3 or 2 bits. */
#define CODES_8(block, d)    eights_of((block) + 4 * (d))
#define CODES_4(block, d)    fours_of((block) + 2 * (d))
#define CODES_3(block, d)    threes_of((block)[d], ((__global const ushort *)((block) + HEAD_DIM))[d])
#define CODES_2(block, d)    convert_float16(low_of((block)[d]))
#define CODES_OF_(bits)      CODES_##bits
#define CODES_OF(bits)       CODES_OF_(bits)
#define KEY_CODES(block, d)  CODES_OF(KEY_BITS)(block, d)
#define VALUE_CODES(block, d) CODES_OF(VALUE_BITS)(block, d)

/* u of a lane; returns c. */
static inline float project(__global const float *q, float scale, __global const half *unit, float *u) {
    float16 sum = 0.0f;
    for (int e = 0; e < PARTS; e++) {
        const float16 x = scale * vload16(e, q);
        vstore16(x * vload_half16(e, unit), e, u);
        sum += x * vload_half16(PARTS + e, unit);
    }
    return sum16(sum);
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
attention_quantised_wide(QUANT_PARAMS, __global float *parts, int share) {
    const int channels = (HEAD_DIM + group - 1) / group;
    const piece_t p = find_piece(rows, heads, kv_heads);
    const vlci_quant_head own = head[layer * kv_heads + p.kv];
    const int from = (int)get_group_id(0) * share * group, until = min(own.rows, from + share * group);
    float u[HEADS][HEAD_DIM], base[HEADS], m[HEADS], l[HEADS], zeros[HEADS][PARTS];
    float16 acc[HEADS][HEAD_DIM], s[HEADS], w[HEADS];
    for (int t = 0; t < HEADS; t++) {
#pragma unroll 1
        for (int d = 0; d < HEAD_DIM; d++) acc[t][d] = 0.0f;
        for (int c = 0; c < PARTS; c++) zeros[t][c] = 0.0f;
        m[t] = -INFINITY;
        l[t] = 0.0f;
    }
    for (int j = from; j < until; j += BLOCK) {
        const size_t block = (size_t)own.block + j / BLOCK;
        if (j % group == 0)
            for (int t = 0; t < HEADS; t++)
                base[t] = project(query_of(&p, t, q, q_offset, q_stride, first_row), scale,
                                  key_scale + ((size_t)own.group + j / group) * 2 * HEAD_DIM, u[t]);
        const float16 extra = bias ? vload_half16(block, bias) : 0.0f;
#pragma unroll
        for (int t = 0; t < HEADS; t++) s[t] = base[t];
        __global const uint *at = keys + block * K_WORDS;
#pragma unroll 1
        for (int d = 0; d < HEAD_DIM; d++) {
            const float16 codes = KEY_CODES(at, d);
#pragma unroll
            for (int t = 0; t < HEADS; t++) s[t] += u[t][d] * codes;
        }
#pragma unroll
        for (int t = 0; t < HEADS; t++) {
            s[t] = CAPPED(s[t]) + extra;
            const float keep = weigh_block(&s[t], until - j, &m[t], &l[t]);
            if (keep != 1.0f) {
#pragma unroll 1
                for (int d = 0; d < HEAD_DIM; d++) acc[t][d] *= keep;
                for (int c = 0; c < PARTS; c++) zeros[t][c] *= keep;
            }
        }
        at = values + block * V_WORDS;
        for (int c = 0; c < channels; c++) {
            const float16 unit = vload_half16((block * channels + c) * 2, value_scale);
            const float16 zero = vload_half16((block * channels + c) * 2 + 1, value_scale);
#pragma unroll
            for (int t = 0; t < HEADS; t++) {
                w[t] = s[t] * unit;
                zeros[t][c] += sum16(s[t] * zero);
            }
#pragma unroll 1
            for (int d = c * group; d < min((c + 1) * group, (int)HEAD_DIM); d++) {
                const float16 codes = VALUE_CODES(at, d);
#pragma unroll
                for (int t = 0; t < HEADS; t++) acc[t][d] += w[t] * codes;
            }
        }
    }
    parts += VLCI_ATTENTION_COUNTERS + (get_group_id(1) * get_num_groups(0) + get_group_id(0)) * HEADS * RECORD;
    for (int t = 0; t < HEADS; t++, parts += RECORD) {
#pragma unroll 1
        for (int d = 0; d < HEAD_DIM; d++) parts[d] = sum16(acc[t][d]) + zeros[t][d / group];
        parts[HEAD_DIM] = m[t];
        parts[HEAD_DIM + 1] = l[t];
    }
}

#endif
/* ---- shares, and rows in pages, together ----------------------------------------------------------------------- */

/* A work-group for a lane: dimension 0 = HEADS, 1 = kv heads * lane groups. */
__kernel void attention_quantised_merge(__global const float *parts, int shares, __global float *out, __global float *row_max,
                                        __global float *row_lse, int first_row, int rows, int heads, int kv_heads) {
    const int item = (int)get_local_id(0), items = (int)get_local_size(0), t = (int)get_group_id(0);
    const piece_t p = find_piece(rows, heads, kv_heads);
    if (t >= p.count) return; /* all of a work-group: before any barrier */
    const size_t row = lane_of(&p, t, first_row, heads);
    float m = -INFINITY, l = 0.0f;
    parts += VLCI_ATTENTION_COUNTERS + (get_group_id(1) * shares * HEADS + t) * RECORD;
    for (int s = 0; s < shares; s++) m = fmax(m, parts[(size_t)s * HEADS * RECORD + HEAD_DIM]);
    for (int s = 0; s < shares; s++) {
        __global const float *part = parts + (size_t)s * HEADS * RECORD;
        l += weight(part[HEAD_DIM], m) * part[HEAD_DIM + 1];
    }
    const float lse = l > 0.0f ? m + log(l) : -INFINITY, other = row_lse[row], top = fmax(lse, other);
    const float own_share = weight(lse, top), other_share = weight(other, top), all = own_share + other_share;
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    for (int d = 4 * item; d < HEAD_DIM; d += 4 * items) {
        __global float *to = out + row * HEAD_DIM + d;
        float4 sum = 0.0f;
        for (int s = 0; s < shares; s++) {
            __global const float *part = parts + (size_t)s * HEADS * RECORD;
            sum += weight(part[HEAD_DIM], m) * vload4(0, part + d);
        }
        if (own_share > 0.0f) sum *= own_share / l;
        vstore4((sum + other_share * vload4(0, to)) / all, 0, to);
    }
    if (item == 0) {
        row_lse[row] = top + log(all);
        row_max[row] = fmax(row_max[row], m);
    }
}
