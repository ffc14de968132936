/*
 * attention_coded.cl - softmax(scale q k^T) v over rows in few bits, which are never brought back (lib/kv/codes.h says what
 * they are), and what comes of it together with the attention over the rows in pages.
 *
 * Lanes, shares, partial results: few.clh.
 *
 *     for each run:   t = R(-ref) scale q         u(i) = factor_K(i) basis_K(i) . t        c = t . mean_K
 *     for each row:   s = c + sum over i of u(i) level_K(i)        acc(i) += e^(s-m) level_V(i)
 *
 *     ROWS: for each run      t = R(-phase of its first row) scale q
 *           for each row      s = R(-within) t . (mean_K + sum over i of factor_K(i) level_K(i) basis_K(i)): the key is made
 *                             again, in registers, HEAD_DIM times as much work as there are dimensions in u, for all lanes
 *
 *     text, a share of its own, in 4 bits:     s = scale q . key_j                     acc += e^(s-m) value_j
 *
 *     merge:   out_C = (l_runs mean_V + sum over i of factor_V(i) basis_V(i) acc(i) + acc of text) / l
 *              out, row_max, row_lse = those of the rows in pages and these together
 *
 * attention_coded: a share of the runs is a work-group's. Its ITEMS work-items are dimensions, then rows, then dimensions
 * again. A tile is ITEMS rows: runs are powers of two.
 * attention_coded_wide: a share is a work-item's, for processors: a block of 16 rows is a vector.
 *
 * Work: dimension 0 = shares of the runs, and one for text where there is some, 1 = kv heads * lane groups.
 *
 * with: few.clh coded.clh
 * build: -DHEAD_DIM=64 -DHEADS=2
 * build: -DHEAD_DIM=128 -DHEADS=4 -DWIDE=1
 * build: -DHEAD_DIM=256 -DHEADS=1 -DSOFT_CAP=50.0f
 * build: -DHEAD_DIM=64 -DHEADS=2 -DROWS=1
 * build: -DHEAD_DIM=128 -DHEADS=4 -DWIDE=1 -DROWS=1 -DSCORES=0
 */
#if !WIDE
/* ---- a work-group for a share ---------------------------------------------------------------------------------- */

/* Level of dimension i of row r of a block of words. */
static inline float level_at(__global const uint *block, uint widths, int i, int r) {
    const int eights = VLCI_CODE_EIGHTS(widths), fours = VLCI_CODE_FOURS(widths);
    if (i < eights) return (float)(block[4 * i + r / 4] >> (r % 4 * 8) & 255u) - 127.5f;
    if (i < eights + fours) return (float)(block[2 * (eights + i) + r / 8] >> (r % 8 * 4) & 15u) - 7.5f;
    return (float)(block[3 * eights + fours + i] >> (2 * r) & 3u) - 1.5f;
}

#if ROWS
/* s of row r of a block, for each lane; t: [lane][HEAD_DIM], turned back to the run's first row. */
WITH_LOCAL void dot_row(__global const uint *block, vlci_code_matrix k, __global const half *mean, __global const char *basis,
                        __global const float *factor, __global const float *within, int r, __local const float *t, float *s) {
    enum { SOME = 8 };
    for (int lane = 0; lane < HEADS; lane++) s[lane] = 0.0f;
    for (int d0 = 0; d0 < HALF; d0 += SOME) {
        float low[SOME], high[SOME];
        for (int d = 0; d < SOME; d++) {
            low[d] = vload_half(d0 + d, mean);
            high[d] = vload_half(HALF + d0 + d, mean);
        }
        for (int i = 0; i < VLCI_CODE_DIMS(k.widths); i++) {
            const float level = level_at(block, k.widths, i, r) * factor[k.dim + i];
            __global const char *vector = basis + ((size_t)k.dim + i) * HEAD_DIM + d0;
            for (int d = 0; d < SOME; d++) {
                low[d] += level * (float)vector[d];
                high[d] += level * (float)vector[HALF + d];
            }
        }
        for (int d = 0; d < SOME; d++) {
            const float c = within[(d0 + d) * BLOCK + r], w = within[(HALF + d0 + d) * BLOCK + r];
            const float x = low[d] * c - high[d] * w, y = high[d] * c + low[d] * w;
            for (int lane = 0; lane < HEADS; lane++)
                s[lane] += t[lane * HEAD_DIM + d0 + d] * x + t[lane * HEAD_DIM + HALF + d0 + d] * y;
        }
    }
}
#endif

__attribute__((reqd_work_group_size(ITEMS, 1, 1))) __kernel void attention_coded(CODED_PARAMS, __global float *parts,
                                                                                 int share, int shares) {
    enum { RUNS = ITEMS / VLCI_CODE_RUN_MIN };
    __local float turn[HEADS * HEAD_DIM], u[RUNS * HEADS * HEAD_DIM], base[RUNS * HEADS], weights[HEADS * ITEMS];
    __local float some[HEADS * FEW];
    const int item = (int)get_local_id(0), s_id = (int)get_group_id(0), is_text = s_id >= shares;
    const piece_t p = find_piece(rows, heads, kv_heads);
    const size_t nth = MATRIX_OF(p.kv);
    const vlci_code_matrix k = matrix[nth], v = matrix[nth + 1];
    const int k_dims = VLCI_CODE_DIMS(k.widths), k_words = VLCI_CODE_WORDS(k.widths), v_words = VLCI_CODE_WORDS(v.widths);
    const int v_dims = is_text ? HEAD_DIM : VLCI_CODE_DIMS(v.widths);
    const int from = is_text ? 0 : s_id * share * run, until = is_text ? texts : min(n, from + share * run);
    const text_t k_text = text_of(text, text_scale, nth, texts), v_text = text_of(text, text_scale, nth + 1, texts);
    state_t state;
    const int side = begin_share(&state, v_dims);
    for (int j0 = from; j0 < until; j0 += ITEMS) { /* a tile: ITEMS rows, of several runs or of a part of one */
        const int last = min(j0 + (int)ITEMS, until), own = min(j0 + item, last - 1);
        const int runs = is_text ? j0 == from : j0 == from || j0 % run == 0 ? (last - j0 + run - 1) / run : 0;
        for (int r = 0; r < runs; r++) { /* u and c of the runs that begin here; of text t alone */
            for (int e = item; e < HEADS * HEAD_DIM; e += ITEMS) {
                __global const float *row = query_of(&p, e / HEAD_DIM, q, q_offset, q_stride, first_row);
                turn[e] = is_text ? scale * row[e % HEAD_DIM]
                                  : turned(row, phase + (size_t)(j0 / run + r) * HEAD_DIM, scale, e % HEAD_DIM);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
#if ROWS
            for (int e = item; e < HEADS * HEAD_DIM && !is_text; e += ITEMS) u[r * HEADS * HEAD_DIM + e] = turn[e];
#else
            for (int e = item; e < HEADS * (k_dims + 1) && !is_text; e += ITEMS) {
                const int i = e / HEADS, t = e % HEADS;
                float sum = 0.0f;
                if (i < k_dims) {
                    __global const char *row = basis + ((size_t)k.dim + i) * HEAD_DIM;
                    for (int d = 0; d < HEAD_DIM; d++) sum += turn[t * HEAD_DIM + d] * (float)row[d];
                    u[(r * HEADS + t) * HEAD_DIM + i] = sum * factor[k.dim + i];
                } else {
                    for (int d = 0; d < HEAD_DIM; d++) sum += turn[t * HEAD_DIM + d] * vload_half(nth * HEAD_DIM + d, mean);
                    base[r * HEADS + t] = sum;
                }
            }
#endif
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        float s[HEADS];
        if (is_text) {
            for (int t = 0; t < HEADS; t++) s[t] = 0.0f;
            for (int d = 0; d < HEAD_DIM; d += 8) {
                const float8 row = text_eight(k_text, own, d);
                for (int t = 0; t < HEADS; t++) s[t] += sum8(vload8(0, turn + t * HEAD_DIM + d) * row);
            }
        } else {
            const int r = run < ITEMS ? (own - j0) / run : 0;
            __global const uint *block = words + k.words + (size_t)(own / BLOCK) * k_words;
#if ROWS
            dot_row(block, k, mean + nth * HEAD_DIM, basis, factor,
                    within + (size_t)pattern[own / run] * HEAD_DIM * VLCI_CODE_RUN_MIN, own % BLOCK,
                    u + r * HEADS * HEAD_DIM, s);
#else
            for (int t = 0; t < HEADS; t++) s[t] = base[r * HEADS + t];
            for (int i = 0; i < k_dims; i++) {
                const float level = level_at(block, k.widths, i, own % BLOCK);
                for (int t = 0; t < HEADS; t++) s[t] += u[(r * HEADS + t) * HEAD_DIM + i] * level;
            }
#endif
        }
        for (int t = 0; t < HEADS; t++) s[t] = j0 + item < last ? CAPPED(s[t]) : -INFINITY;
        weigh_tile(weights, some, &state, s, item);
        for (int row = item / side; row < last - j0; row += ITEMS / side) {
            __global const uint *block = words + v.words + (size_t)((j0 + row) / BLOCK) * v_words;
            for (int i = 0; i < MORE; i++) {
                const int d = i * ITEMS + item % side;
                if (d >= v_dims) continue;
                const float value = is_text ? text_one(v_text, j0 + row, d) : level_at(block, v.widths, d, (j0 + row) % BLOCK);
                for (int t = 0; t < HEADS; t++) state.acc[t * MORE + i] += weights[t * ITEMS + row] * value;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    parts += VLCI_ATTENTION_COUNTERS + (get_group_id(1) * get_num_groups(0) + get_group_id(0)) * HEADS * RECORD;
    write_parts(weights, some, &state, item, side, v_dims, parts);
}

#else
/* ---- a work-item for a share ----------------------------------------------------------------------------------- */

typedef union {
    float16 all[PARTS];
    float d[HEAD_DIM];
} row_t;

/* Codes of a dimension of a block, of 2 bits. */
static inline float16 twos_of(__global const uint *at) {
    const uint16 shift = (uint16)(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return convert_float16(((uint16)(at[0]) >> shift) & 3u);
}

/* Does what `use` says with the codes of each dimension i of a block. */
#define FOR_CODES(block, widths, use)                                                                                 \
    do {                                                                                                              \
        __global const uint *at = (block);                                                                            \
        const int eights = VLCI_CODE_EIGHTS(widths), fours = eights + VLCI_CODE_FOURS(widths),                        \
                  twos = fours + VLCI_CODE_TWOS(widths);                                                              \
        int i = 0;                                                                                                    \
        for (; i < eights; i++, at += 4) {                                                                            \
            const float16 codes = eights_of(at);                                                                      \
            use;                                                                                                      \
        }                                                                                                             \
        for (; i < fours; i++, at += 2) {                                                                             \
            const float16 codes = fours_of(at);                                                                       \
            use;                                                                                                      \
        }                                                                                                             \
        for (; i < twos; i++, at += 1) {                                                                              \
            const float16 codes = twos_of(at);                                                                        \
            use;                                                                                                      \
        }                                                                                                             \
    } while (0)

/* t of a lane: scale times the query, turned back to a run's first row. */
static inline void turn_back(__global const float *q, __global const float *turn, float scale, float *t) {
    for (int d = 0; d < HALF; d += 8) {
        const float8 c = vload8(0, turn + d), s = vload8(0, turn + HALF + d);
        const float8 low = vload8(0, q + d) * scale, high = vload8(0, q + HALF + d) * scale;
        vstore8(low * c + high * s, 0, t + d);
        vstore8(high * c - low * s, 0, t + HALF + d);
    }
}

/* u of a lane, and c with what codes lack of their levels. */
static inline float project(__global const float *q, __global const float *turn, float scale, vlci_code_matrix k,
                            __global const half *mean, __global const char *basis, __global const float *factor, float *u) {
    row_t t;
    float16 sum = 0.0f;
    turn_back(q, turn, scale, t.d);
    for (int e = 0; e < PARTS; e++) sum += t.all[e] * vload_half16(e, mean);
    float base = sum16(sum);
    basis += (size_t)k.dim * HEAD_DIM;
    for (int i = 0; i < VLCI_CODE_DIMS(k.widths); i++, basis += HEAD_DIM) {
        sum = 0.0f;
        for (int e = 0; e < PARTS; e++) sum += t.all[e] * convert_float16(vload16(e, basis));
        u[i] = sum16(sum) * factor[k.dim + i];
        base += u[i] * offset_of(k.widths, i);
    }
    return base;
}

#if ROWS
/* Elements of keys that are made side by side: sums that do not wait for one another, in registers. */
#ifdef __AVX512F__
enum { SOME = 4 };
#else
enum { SOME = 2 };
#endif

/* Keys as numbers: element d of vector i times its factor, to vectors[d * dims + i]. */
static inline void take_vectors(vlci_code_matrix k, __global const char *basis, __global const float *factor, float *vectors) {
    const int dims = VLCI_CODE_DIMS(k.widths);
    basis += (size_t)k.dim * HEAD_DIM;
    for (int i = 0; i < dims; i++)
        for (int d = 0; d < HEAD_DIM; d++) vectors[d * dims + i] = factor[k.dim + i] * (float)basis[(size_t)i * HEAD_DIM + d];
}

/* s of the 16 rows of a block, for each lane; t: [lane][HEAD_DIM], turned back to the run's first row. */
static inline void dot_block(__global const uint *block, vlci_code_matrix k, __global const half *mean, const float *vectors,
                             __global const float *within, const float *t, float16 *s) {
    const int dims = VLCI_CODE_DIMS(k.widths);
    float16 level[HEAD_DIM];
    FOR_CODES(block, k.widths, level[i] = codes + offset_of(k.widths, i));
    for (int lane = 0; lane < HEADS; lane++) s[lane] = 0.0f;
#pragma unroll 1
    for (int d0 = 0; d0 < HALF; d0 += SOME) {
        float16 low[SOME], high[SOME];
#pragma unroll
        for (int d = 0; d < SOME; d++) {
            low[d] = vload_half(d0 + d, mean);
            high[d] = vload_half(HALF + d0 + d, mean);
        }
#pragma unroll 1
        for (int i = 0; i < dims; i++)
#pragma unroll
            for (int d = 0; d < SOME; d++) {
                low[d] += vectors[(d0 + d) * dims + i] * level[i];
                high[d] += vectors[(HALF + d0 + d) * dims + i] * level[i];
            }
#pragma unroll
        for (int d = 0; d < SOME; d++) {
            const float16 c = vload16(d0 + d, within), w = vload16(HALF + d0 + d, within);
            const float16 x = low[d] * c - high[d] * w, y = high[d] * c + low[d] * w;
#pragma unroll
            for (int lane = 0; lane < HEADS; lane++)
                s[lane] += t[lane * HEAD_DIM + d0 + d] * x + t[lane * HEAD_DIM + HALF + d0 + d] * y;
        }
    }
}
#endif

/* Part e of row j. */
static inline float16 text_part(text_t t, int j, int e) {
    const uint unit = t.units[(size_t)j * VLCI_TEXT_UNITS(HEAD_DIM) + e * 16 / VLCI_TEXT_GROUP];
    return (fours_of(t.words + (size_t)j * (HEAD_DIM / 8) + 2 * e) - 7.5f) * as_float(unit << 16);
}

static inline float text_dot(__global const float *q, text_t t, int j) {
    float16 sum = 0.0f;
    for (int e = 0; e < PARTS; e++) sum += vload16(e, q) * text_part(t, j, e);
    return sum16(sum);
}

/* Text rows of one lane. */
static inline void attend_text_wide(__global const float *q, float scale, text_t k, text_t v, int texts,
                                    __global float *part) {
    row_t acc;
    float m = -INFINITY, l = 0.0f;
    for (int e = 0; e < PARTS; e++) acc.all[e] = 0.0f;
    for (int j = 0; j < texts; j += BLOCK) {
        const int some = min((int)BLOCK, texts - j);
        union {
            float16 all;
            float row[BLOCK];
        } s;
        s.all = 0.0f;
        for (int r = 0; r < some; r++) s.row[r] = text_dot(q, k, j + r) * scale;
        s.all = CAPPED(s.all);
        const float keep = weigh_block(&s.all, some, &m, &l);
        for (int e = 0; e < PARTS; e++) {
            float16 sum = acc.all[e] * keep;
            for (int r = 0; r < some; r++) sum += s.row[r] * text_part(v, j + r, e);
            acc.all[e] = sum;
        }
    }
    for (int e = 0; e < PARTS; e++) vstore16(acc.all[e], e, part);
    part[HEAD_DIM] = m;
    part[HEAD_DIM + 1] = l;
}

KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
attention_coded_wide(CODED_PARAMS, __global float *parts, int share, int shares) {
    const piece_t p = find_piece(rows, heads, kv_heads);
    const size_t nth = MATRIX_OF(p.kv);
    const vlci_code_matrix k = matrix[nth], v = matrix[nth + 1];
    const int k_words = VLCI_CODE_WORDS(k.widths), v_words = VLCI_CODE_WORDS(v.widths), v_dims = VLCI_CODE_DIMS(v.widths);
    const int first = (int)get_group_id(0) * share, runs = (n + run - 1) / run;
    parts += VLCI_ATTENTION_COUNTERS + (get_group_id(1) * get_num_groups(0) + get_group_id(0)) * HEADS * RECORD;
    if ((int)get_group_id(0) >= shares) {
        const text_t k_text = text_of(text, text_scale, nth, texts), v_text = text_of(text, text_scale, nth + 1, texts);
        for (int t = 0; t < HEADS; t++)
            attend_text_wide(query_of(&p, t, q, q_offset, q_stride, first_row), scale, k_text, v_text, texts, parts + t * RECORD);
        return;
    }
    float u[HEADS][HEAD_DIM], base[HEADS], m[HEADS], l[HEADS];
    float16 acc[HEADS][HEAD_DIM], s[HEADS];
    for (int t = 0; t < HEADS; t++) {
        for (int i = 0; i < v_dims; i++) acc[t][i] = 0.0f;
        m[t] = -INFINITY;
        l[t] = 0.0f;
    }
#if ROWS
    float vectors[HEAD_DIM * HEAD_DIM];
    take_vectors(k, basis, factor, vectors);
#endif
    for (int r = first; r < min(first + share, runs); r++) {
#if ROWS
        for (int t = 0; t < HEADS; t++)
            turn_back(query_of(&p, t, q, q_offset, q_stride, first_row), phase + (size_t)r * HEAD_DIM, scale, u[t]);
#else
#pragma unroll
        for (int t = 0; t < HEADS; t++)
            base[t] = project(query_of(&p, t, q, q_offset, q_stride, first_row), phase + (size_t)r * HEAD_DIM, scale, k,
                              mean + nth * HEAD_DIM, basis, factor, u[t]);
#endif
        for (int j = r * run; j < min((r + 1) * run, n); j += BLOCK) {
#if ROWS
            dot_block(words + k.words + (size_t)(j / BLOCK) * k_words, k, mean + nth * HEAD_DIM, vectors,
                      within + (size_t)pattern[r] * HEAD_DIM * VLCI_CODE_RUN_MIN, u[0], s);
#else
#pragma unroll
            for (int t = 0; t < HEADS; t++) s[t] = base[t];
            FOR_CODES(words + k.words + (size_t)(j / BLOCK) * k_words, k.widths,
                      for (int t = 0; t < HEADS; t++) s[t] += u[t][i] * codes);
#endif
#pragma unroll
            for (int t = 0; t < HEADS; t++) {
                s[t] = CAPPED(s[t]);
                const float keep = weigh_block(&s[t], n - j, &m[t], &l[t]);
                if (keep != 1.0f)
                    for (int i = 0; i < v_dims; i++) acc[t][i] *= keep;
            }
            FOR_CODES(words + v.words + (size_t)(j / BLOCK) * v_words, v.widths,
                      for (int t = 0; t < HEADS; t++) acc[t][i] += s[t] * codes);
        }
    }
    for (int t = 0; t < HEADS; t++, parts += RECORD) {
        for (int i = 0; i < v_dims; i++) parts[i] = sum16(acc[t][i]) + offset_of(v.widths, i) * l[t];
        parts[HEAD_DIM] = m[t];
        parts[HEAD_DIM + 1] = l[t];
    }
}

#endif

#ifndef SCORES
#define SCORES 1 /* whether what scores is built as well: of ROWS only where layers are coded as they are read */
#endif
#if SCORES
/* ---- what decode looks at -------------------------------------------------------------------------------------- */

/*
 * Of query row first_row: score[kv][positions of the coded rows] += weight times the attention that the heads of kv pay them.
 * Work: a work-group of ITEMS, or 1, for each run, and one for text where there is some; dimension 1 = kv heads.
 * ROWS: as many heads at a time as there are lanes.
 */
#if WIDE
KEEP_WIDE __attribute__((reqd_work_group_size(1, 1, 1)))
#else
__attribute__((reqd_work_group_size(ITEMS, 1, 1)))
#endif
__kernel void attention_coded_score(CODED_PARAMS, __global const float *row_lse, __global const int *positions,
                                    __global const int *text_at, float part, __global float *score, uint score_at,
                                    int tokens) {
    const int kv = (int)get_group_id(1), group = heads / kv_heads, r = (int)get_group_id(0), runs = (n + run - 1) / run;
    const int from = r < runs ? r * run : 0, until = r < runs ? min(from + run, n) : texts;
    const size_t at = MATRIX_OF(kv);
    const vlci_code_matrix k = matrix[at];
    __global const float *turn = phase + (size_t)r * HEAD_DIM;
    q += q_offset + (size_t)first_row * q_stride + (size_t)kv * group * HEAD_DIM;
    row_lse += (size_t)first_row * heads + kv * group;
    const text_t k_text = text_of(text, text_scale, at, texts);
    score += score_at + (size_t)kv * tokens;
#if ROWS
    __global const uint *block = words + k.words + (size_t)r * VLCI_CODE_WORDS(k.widths); /* a run is one */
    __global const float *beyond = within + (r < runs ? (size_t)pattern[r] * HEAD_DIM * VLCI_CODE_RUN_MIN : 0);
#endif
#if WIDE
    if (r >= runs) {
        for (int h = 0; h < group; h++, q += HEAD_DIM)
            for (int j = 0; j < until; j++)
                score[text_at[j]] += part * exp(CAPPED(text_dot(q, k_text, j) * scale) - row_lse[h]);
        return;
    }
#if ROWS
    float vectors[HEAD_DIM * HEAD_DIM], t[HEADS * HEAD_DIM];
    take_vectors(k, basis, factor, vectors);
    for (int h0 = 0; h0 < group; h0 += HEADS) {
        union {
            float16 all[HEADS];
            float row[HEADS * BLOCK];
        } s;
        for (int lane = 0; lane < HEADS; lane++)
            turn_back(q + min(h0 + lane, group - 1) * HEAD_DIM, turn, scale, t + lane * HEAD_DIM);
        dot_block(block, k, mean + at * HEAD_DIM, vectors, beyond, t, s.all);
        for (int lane = 0; lane < HEADS && h0 + lane < group; lane++) {
            s.all[lane] = part * exp(CAPPED(s.all[lane]) - row_lse[h0 + lane]);
            for (int j = from; j < until; j++) score[positions[j]] += s.row[lane * BLOCK + j - from];
        }
    }
#else
    float u[HEAD_DIM];
    for (int h = 0; h < group; h++, q += HEAD_DIM) {
        const float base = project(q, turn, scale, k, mean + at * HEAD_DIM, basis, factor, u);
        for (int j = from; j < until; j += BLOCK) {
            union {
                float16 all;
                float row[BLOCK];
            } s;
            s.all = base;
            FOR_CODES(words + k.words + (size_t)(j / BLOCK) * VLCI_CODE_WORDS(k.widths), k.widths, s.all += u[i] * codes);
            s.all = part * exp(CAPPED(s.all) - row_lse[h]);
            for (int i = 0; i < BLOCK && j + i < until; i++) score[positions[j + i]] += s.row[i];
        }
    }
#endif
#elif ROWS
    __local float t[HEADS * HEAD_DIM];
    const int item = (int)get_local_id(0);
    for (int h0 = 0; h0 < group; h0 += HEADS) {
        for (int e = item; e < HEADS * HEAD_DIM; e += ITEMS) {
            __global const float *row = q + min(h0 + e / HEAD_DIM, group - 1) * HEAD_DIM;
            t[e] = r < runs ? turned(row, turn, scale, e % HEAD_DIM) : scale * row[e % HEAD_DIM];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = from + item; j < until; j += ITEMS) {
            float s[HEADS];
            for (int lane = 0; lane < HEADS; lane++) s[lane] = 0.0f;
            if (r < runs) dot_row(block, k, mean + at * HEAD_DIM, basis, factor, beyond, j - from, t, s);
            for (int d = 0; d < HEAD_DIM && r >= runs; d += 8) {
                const float8 row = text_eight(k_text, j, d);
                for (int lane = 0; lane < HEADS; lane++) s[lane] += sum8(vload8(0, t + lane * HEAD_DIM + d) * row);
            }
            __global float *to = score + (r < runs ? positions[j] : text_at[j]);
            for (int lane = 0; lane < HEADS && h0 + lane < group; lane++)
                *to += part * exp(CAPPED(s[lane]) - row_lse[h0 + lane]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
#else
    __local float t[HEAD_DIM], u[HEAD_DIM + 1];
    const int item = (int)get_local_id(0), dims = VLCI_CODE_DIMS(k.widths);
    for (int h = 0; h < group; h++, q += HEAD_DIM) {
        for (int d = item; d < HEAD_DIM; d += ITEMS) t[d] = r < runs ? turned(q, turn, scale, d) : scale * q[d];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = item; i <= dims && r < runs; i += ITEMS) {
            __global const char *row = basis + ((size_t)k.dim + i) * HEAD_DIM;
            float sum = 0.0f;
            for (int d = 0; d < HEAD_DIM; d++) sum += t[d] * (i < dims ? (float)row[d] : vload_half(at * HEAD_DIM + d, mean));
            u[i] = i < dims ? sum * factor[k.dim + i] : sum;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int j = from + item; j < until; j += ITEMS) {
            float s = r < runs ? u[dims] : 0.0f;
            if (r < runs) {
                __global const uint *block = words + k.words + (size_t)(j / BLOCK) * VLCI_CODE_WORDS(k.widths);
                for (int i = 0; i < dims; i++) s += u[i] * level_at(block, k.widths, i, j % BLOCK);
            } else {
                for (int d = 0; d < HEAD_DIM; d += 8) s += sum8(vload8(0, t + d) * text_eight(k_text, j, d));
            }
            score[r < runs ? positions[j] : text_at[j]] += part * exp(CAPPED(s) - row_lse[h]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
#endif
}
#endif

/* ---- shares, and rows in pages, together ----------------------------------------------------------------------- */

#if WIDE
typedef float16 dims_t; /* dimensions that a work-item of merge has at a time */
#define DIMS               16
#define DIMS_LOAD(p)       vload16(0, p)
#define DIMS_STORE(x, p)   vstore16(x, 0, p)
#define DIMS_OF_BYTES(p)   convert_float16(vload16(0, p))
#define DIMS_OF_HALVES(p)  vload_half16(0, p)
#else
typedef float dims_t;
#define DIMS              1
#define DIMS_LOAD(p)      (*(p))
#define DIMS_STORE(x, p)  (*(p) = (x))
#define DIMS_OF_BYTES(p)  ((float)*(p))
#define DIMS_OF_HALVES(p) vload_half(0, p)
#endif

/* A work-group for a lane: dimension 0 = HEADS, 1 = kv heads * lane groups. */
__kernel void attention_coded_merge(__global const float *parts, int shares, int text, __global float *out,
                                    __global float *row_max, __global float *row_lse, int first_row, int rows, int heads,
                                    int kv_heads, __global const vlci_code_matrix *matrix, __global const half *mean,
                                    __global const char *basis, __global const float *factor, int layer) {
    __local float a[HEAD_DIM];
    const int item = (int)get_local_id(0), items = (int)get_local_size(0), t = (int)get_group_id(0);
    const piece_t p = find_piece(rows, heads, kv_heads);
    const size_t nth = MATRIX_OF(p.kv);
    if (t >= p.count) return; /* all of a work-group: before any barrier */
    const size_t row = lane_of(&p, t, first_row, heads);
    const vlci_code_matrix v = matrix[nth + 1];
    const int dims = VLCI_CODE_DIMS(v.widths);
    float m = -INFINITY, runs = 0.0f, l = 0.0f; /* runs: what l has of them */
    parts += VLCI_ATTENTION_COUNTERS + (get_group_id(1) * (shares + text) * HEADS + t) * RECORD;
    for (int s = 0; s < shares + text; s++) m = fmax(m, parts[(size_t)s * HEADS * RECORD + HEAD_DIM]);
    for (int s = 0; s < shares + text; s++) {
        __global const float *part = parts + (size_t)s * HEADS * RECORD;
        l += weight(part[HEAD_DIM], m) * part[HEAD_DIM + 1];
        if (s == shares - 1) runs = l;
    }
    for (int i = item; i < dims; i += items) {
        float sum = 0.0f;
        for (int s = 0; s < shares; s++) {
            __global const float *part = parts + (size_t)s * HEADS * RECORD;
            sum += weight(part[HEAD_DIM], m) * part[i];
        }
        a[i] = sum / l * factor[v.dim + i];
    }
    parts += (size_t)shares * HEADS * RECORD;
    const float text_share = text ? weight(parts[HEAD_DIM], m) / l : 0.0f;
    const float lse = m + log(l), other = row_lse[row], top = fmax(lse, other);
    const float own_share = weight(lse, top), other_share = weight(other, top), all = own_share + other_share;
    barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
    basis += (size_t)v.dim * HEAD_DIM;
    for (int d = item * DIMS; d < HEAD_DIM; d += items * DIMS) {
        __global float *to = out + row * HEAD_DIM + d;
        dims_t sum = runs / l * DIMS_OF_HALVES(mean + (nth + 1) * HEAD_DIM + d);
        if (text) sum += text_share * DIMS_LOAD(parts + d);
        for (int i = 0; i < dims; i++) sum += a[i] * DIMS_OF_BYTES(basis + (size_t)i * HEAD_DIM + d);
        DIMS_STORE((own_share * sum + other_share * DIMS_LOAD(to)) / all, to);
    }
    if (item == 0) {
        row_lse[row] = top + log(all);
        row_max[row] = fmax(row_max[row], m);
    }
}
