/*
 * shared.h - what host and kernels agree on: constants, and structs that travel between them. Compiled as C
 * ("cl/shared.h") and as OpenCL C (in front of every program, before common.clh). A section for each noun.
 *
 * Numbers that #if must know, or that options bring (-DW_DTYPE=3), are macros; the rest may be enums.
 */
#ifndef VLCI_CL_SHARED_H
#define VLCI_CL_SHARED_H

/* Types of the same width on both sides, for structs in buffers. */
#if defined(__OPENCL_C_VERSION__) || defined(__OPENCL_VERSION__)
typedef int vlci_i32;
typedef uint vlci_u32;
typedef ulong vlci_u64;
typedef float vlci_f32;
#else
#include <stddef.h>
#include <stdint.h>
typedef int32_t vlci_i32;
typedef uint32_t vlci_u32;
typedef uint64_t vlci_u64;
typedef float vlci_f32;
#endif

/* ---- dtypes: vlcache_dtype, as W_DTYPE and KV_DTYPE name one (asserted in lib/device/tensor.c) --------- */

#define VLCI_DTYPE_F32  1
#define VLCI_DTYPE_F16  2
#define VLCI_DTYPE_BF16 3

/* ---- matrix units through PTX ---------------------------------------------------------------------------
 */

#define VLCI_PTX_LOCAL                                                                                       \
    1024 /* bytes that a kernel declares of its local array, before lib/device/ptx.c enlarges it */

/* ---- act ----------------------------------------------------------------------------------------------- */

typedef enum vlci_activation {
    VLCI_ACT_NONE,
    VLCI_ACT_SILU,
    VLCI_ACT_GELU,
    VLCI_ACT_GELU_TANH,
    VLCI_ACT_QUICK_GELU
} vlci_activation;

/* ---- linear -------------------------------------------------------------------------------------------- */

/* How weights lie: vlci_layout. Rows: element (n, k) is the n * depth + k-th. */
#define VLCI_LAYOUT_ROWS   0
#define VLCI_LAYOUT_PANELS 1
#define VLCI_LAYOUT_BLOCKS 2
#define VLCI_LAYOUT_PAIRS  3

/* How rows of activations lie: vlci_form. Floats: f32, one row after another. */
#define VLCI_FORM_FLOATS  0
#define VLCI_FORM_STRIPES 1
#define VLCI_FORM_TILES   2

/* Weights in panels of 32 of their rows: element (n, k) of a matrix [..][depth] is the VLCI_PANEL_AT-th; the
 * last panel is padded with zeros. */
#define VLCI_PANEL 32
#define VLCI_PANEL_AT(n, k, depth)                                                                           \
    (((size_t)((n) / VLCI_PANEL) * (size_t)(depth) + (size_t)(k)) * VLCI_PANEL + (size_t)((n) % VLCI_PANEL))

/*
 * Weights of 16 bits in blocks of 64 of their rows by 64 elements: a row of a block is 128 bytes, whose runs
 * of 8 elements lie swizzled, run c of row r in place c ^ (r & 7), as matrix units read them. Element (n, k)
 * is the VLCI_BLOCK_AT-th; blocks are whole, padded with zeros.
 */
#define VLCI_BLOCK             64
#define VLCI_BLOCKS(n)         (((size_t)(n) + VLCI_BLOCK - 1) / VLCI_BLOCK)
#define VLCI_BLOCK_RUN(row, k) (((((k) / 8) ^ (row)) & 7) * 8 + (k) % 8)
#define VLCI_BLOCK_AT(n, k, depth)                                                                           \
    ((((size_t)((n) / VLCI_BLOCK) * VLCI_BLOCKS(depth) + (size_t)((k) / VLCI_BLOCK)) * VLCI_BLOCK +          \
      (size_t)((n) % VLCI_BLOCK)) *                                                                          \
         VLCI_BLOCK +                                                                                        \
     (size_t)VLCI_BLOCK_RUN(n, k))

/*
 * Rows of x for such weights in stripes of 64 elements: [stripe][VLCI_STRIPE_ROWS(m)][64] of 16 bits,
 * swizzled alike. A tile of any number of rows is one stretch of memory; what lies beyond the last row is
 * read, and not used.
 */
#define VLCI_STRIPE_ROWS(m) (((size_t)(m) + 255) / 256 * 256 + 256)
#define VLCI_STRIPE_AT(m, k, rows)                                                                           \
    (((size_t)((k) / VLCI_BLOCK) * (rows) + (size_t)(m)) * VLCI_BLOCK + (size_t)VLCI_BLOCK_RUN(m, k))

/*
 * Weights of 16 bits in panels of 32 of their rows, in which two neighbours along k lie side by side, as AMX
 * multiplies: [panel][k / 32][half of the panel][16 pairs][16 rows][2]. Panels are whole, and padded with
 * zeros to a multiple of 32 of k.
 */
#define VLCI_TILE     32
#define VLCI_TILES(n) (((size_t)(n) + VLCI_TILE - 1) / VLCI_TILE)
#define VLCI_PAIR_AT(n, k, depth)                                                                            \
    ((((size_t)((n) / VLCI_TILE) * VLCI_TILES(depth) + (size_t)((k) / VLCI_TILE)) * 2 +                      \
      (size_t)((n) % VLCI_TILE / 16)) *                                                                      \
         512 +                                                                                               \
     (size_t)((k) % VLCI_TILE / 2 * 32 + (n) % 16 * 2 + (k) % 2))

/* Rows of x for such weights in tiles of 32 rows by 32 elements: [row / 32][k / 32][32][32] of 16 bits, zeros
 * behind k; what lies beyond the last row is read, and not used. */
#define VLCI_TILE_AT(m, k, depth)                                                                            \
    ((((size_t)((m) / VLCI_TILE) * VLCI_TILES(depth) + (size_t)((k) / VLCI_TILE)) * VLCI_TILE +              \
      (size_t)((m) % VLCI_TILE)) *                                                                           \
         VLCI_TILE +                                                                                         \
     (size_t)((k) % VLCI_TILE))

/* Bytes of weights that are asked for at a time, ahead of the launch that reads them: of blocks whole ones.
 */
#define VLCI_GEMV_PIECE 4096

/* Rows of x that the matrix-vector kernels take; work-items of a work-group, and the columns it computes. */
#define VLCI_GEMV_ROWS_MAX                  8
#define VLCI_GEMV_LANES                     64
#define VLCI_GEMV_COLUMNS                   2
#define VLCI_GEMV_BLOCK_LANES               256 /* of gemv_blocks: a multiple of 64 */
#define VLCI_GEMV_DOT_MOST                  128 /* most columns of a work-item of gemv_dot */
#define VLCI_GEMV_LOCAL_FLOATS(rows, lanes) ((VLCI_GEMV_COLUMNS + 1) * (rows) * (lanes))

/* gemm_wgmma, SHARED: counters, two for each tile, where parts of sums begin; most rows of x. */
#define VLCI_GEMM_SHARED_COUNTERS 8192
#define VLCI_GEMM_SHARED_ROWS     64

/* chain_wgmma: a counter for each stage, LINE apart, where sums begin. */
#define VLCI_CHAIN_LINE     32
#define VLCI_CHAIN_COUNTERS (VLCI_CHAIN_LAYERS * VLCI_CHAIN_STAGES * VLCI_CHAIN_LINE)
#define VLCI_CHAIN_ROWS     64 /* most rows */
#define VLCI_CHAIN_STAGES   5  /* of a layer */
#define VLCI_CHAIN_LAYERS   4  /* most layers of a launch */
#define VLCI_CHAIN_SHARERS  8  /* most work-groups of a tile */

/* chain_blocks: most rows, blocks of k of a step; floats that attention takes in place of rows of x. */
#define VLCI_CHAIN_FEW_ROWS   2
#define VLCI_CHAIN_FEW_BLOCKS 8
#define VLCI_CHAIN_FEW_ROOM   10240

/* chain_dot.cl: counters, LINE apart: in each stage one of each of n work-items and one of what is done. */
#define VLCI_CHAIN_DOT_LINE        16
#define VLCI_CHAIN_DOT_STAGES      6
#define VLCI_CHAIN_DOT_COUNTERS(n) ((VLCI_CHAIN_DOT_STAGES * ((n) + 1) + 1) * VLCI_CHAIN_DOT_LINE)
#define VLCI_CHAIN_DOT_DEPTH       16384 /* most k */

/* Side of gemm_large's tiles, and its work-items. */
#define VLCI_GEMM_LARGE 128

/* Most tiles of a work-item of gemm_wide: below each other, and strips of W side by side. */
#define VLCI_GEMM_WIDE_DOWN   8
#define VLCI_GEMM_WIDE_ACROSS 4

/* Rows of a tile of gemm_dot; most tiles of a work-item, below each other, and strips of W side by side. With
 * the processor's own instruction they lie in its caches; without, on a GPU, in private memory, which a
 * driver holds for every work-item that can be there at once: few. */
#define VLCI_GEMM_DOT_ROWS        12
#define VLCI_GEMM_DOT_DOWN(own)   ((own) ? 16 : 2)
#define VLCI_GEMM_DOT_ACROSS(own) ((own) ? 8 : 2)

/* Most tiles of 32 x 32 outputs of a work-item of gemm_amx: below each other, and side by side; likewise. */
#define VLCI_GEMM_AMX_DOWN(own)   ((own) ? 9 : 2)
#define VLCI_GEMM_AMX_ACROSS(own) ((own) ? 2 : 1)

/* Local memory of gemm_tile: two operands, k-major, each row of it padded by one. */
#define VLCI_GEMM_TILE_ROW(tile)             ((tile) + 1)
#define VLCI_GEMM_LOCAL_FLOATS(tile_k, tile) (2 * (tile_k)*VLCI_GEMM_TILE_ROW(tile))

/* ---- kv ------------------------------------------------------------------------------------------------ */

#define VLCI_KV_PAGE                                                                                         \
    16 /* rows of a page: a power of two; attention's blocks of 8, 16 and 32 keys divide it or are           \
          divided by it */

/* A kv head of one layer and sequence: the rows it holds and where its list of pages stands in the table. */
typedef struct vlci_kv_head {
    vlci_i32 rows, first;
    vlci_i32 biased; /* 1: some rows have a bias on their logits */
    vlci_i32 unused;
} vlci_kv_head;

/* ---- attention ----------------------------------------------------------------------------------------- */

/* attention_split: work-items of a work-group, keys that it takes at a time; floats of a lane's partial
 * result; local memory for `heads` lanes that go together. */
#define VLCI_ATTENTION_LANES            128
#define VLCI_ATTENTION_SPAN             64
#define VLCI_ATTENTION_RECORD(head_dim) ((head_dim) + 4) /* a multiple of 16 bytes */
#define VLCI_ATTENTION_COUNTERS         4096             /* of pieces, where partial results begin */
#define VLCI_ATTENTION_DOTS(lanes, heads, head_dim)                                                          \
    (VLCI_ATTENTION_SPAN * ((head_dim) / 8 + 1) > (lanes)*8                                                  \
         ? VLCI_ATTENTION_SPAN * (heads) * ((head_dim) / 8 + 1)                                              \
         : (lanes) * (heads)*8)
#define VLCI_ATTENTION_LOCAL_FLOATS(lanes, heads, head_dim)                                                  \
    (size_t)(VLCI_ATTENTION_DOTS(lanes, heads, head_dim) + (heads) * (VLCI_ATTENTION_SPAN + 1) + (lanes))
#define VLCI_ATTENTION_WIDE_SPAN  256 /* keys of the shortest share of attention_split_wide */
#define VLCI_ATTENTION_WIDE_TILES 4   /* of 16 lanes, of a work-item of attention_wide */
#define VLCI_ATTENTION_WIDE_LANES (16 * VLCI_ATTENTION_WIDE_TILES)

/* Most tiles of 32 lanes of a work-item of attention_amx: their q and sums are 240 KiB, fewer where they may
 * meet a GPU's private memory. */
#define VLCI_ATTENTION_AMX_TILES(own, head_dim)                                                              \
    (((own) ? 40 : 8) / (((head_dim) + VLCI_TILE - 1) / VLCI_TILE))

/* attention_tile: work-items of a work-group, query rows of heads that it takes together; local memory that
 * Q and K, V, and parts of maxima and sums have in turn; with the weights of 64 keys, all of it. */
#define VLCI_ATTENTION_TILE_ITEMS       128
#define VLCI_ATTENTION_TILE_LANES       64
#define VLCI_ATTENTION_TILE_QK(keys)    (16 * ((keys) + VLCI_ATTENTION_TILE_LANES + 8))
#define VLCI_ATTENTION_TILE_V(head_dim) (((head_dim) + 15) / 16 * 256)
#define VLCI_ATTENTION_TILE_SHARED(keys, head_dim)                                                           \
    (VLCI_ATTENTION_TILE_QK(keys) > VLCI_ATTENTION_TILE_V(head_dim) ? VLCI_ATTENTION_TILE_QK(keys)           \
                                                                    : VLCI_ATTENTION_TILE_V(head_dim))
#define VLCI_ATTENTION_TILE_LOCAL_FLOATS(keys, head_dim)                                                     \
    (size_t)(VLCI_ATTENTION_TILE_SHARED(keys, head_dim) + 64 * (VLCI_ATTENTION_TILE_LANES + 4))

/* attention_wgmma: work-items of a work-group, query rows of heads of a piece of its work, buffers of each of
 * q, k and v; local memory. */
#define VLCI_ATTENTION_WGMMA_ITEMS   384
#define VLCI_ATTENTION_WGMMA_LANES   128
#define VLCI_ATTENTION_WGMMA_BUFFERS 2
#define VLCI_ATTENTION_WGMMA_LOCAL(head_dim)                                                                 \
    ((size_t)VLCI_ATTENTION_WGMMA_BUFFERS * (3 * 128 * 128 * (((size_t)(head_dim) + 63) / 64) + 6 * 8))

/* ---- compression --------------------------------------------------------------------------------------- */

/* An entry of a list of rows: a row of the prompt, and what it is looked at for. */
#define VLCI_ROW_SCORED     1
#define VLCI_ROW_COUNTED    2
#define VLCI_ROW_SHIFT      2
#define VLCI_ROW(row, what) ((row) << VLCI_ROW_SHIFT | (what))

#define VLCI_SCORE_COLUMNS      64  /* columns of a work-group of score.cl */
#define VLCI_SCORE_WIDE_COLUMNS 16  /* of a work-item of score_wide.cl */
#define VLCI_SCORE_MMA_COLUMNS  128 /* of a tile of score_mma.cl */
#define VLCI_SCORE_MMA_ITEMS    256
#define VLCI_SCORE_MMA_TILES    8   /* of a work-group, at most */
#define VLCI_SCORE_MMA_PAIRS    128 /* of a row and a head, at a time */
#define VLCI_SCORE_MMA_LOCAL(head_dim, group)                                                                \
    (VLCI_SCORE_MMA_PAIRS * (((head_dim) <= 64 ? 128 : 256) + 24) +                                          \
     VLCI_SCORE_MMA_TILES * VLCI_SCORE_MMA_COLUMNS * 4 + (group)*4)
#define VLCI_SCORE_ROWS 128 /* rows of any of them */
/* score_wgmma.cl: columns of a work-group, pairs of a row and a head at a time, and of a block of rows. */
#define VLCI_SCORE_WGMMA_COLUMNS 512
#define VLCI_SCORE_WGMMA_ITEMS   384
#define VLCI_SCORE_WGMMA_PAIRS   128
#define VLCI_SCORE_WGMMA_BUFFERS 2
#define VLCI_SCORE_WGMMA_LEAST   512
#define VLCI_SCORE_WGMMA_MOST    2048
#define VLCI_SCORE_WGMMA_LOCAL(head_dim)                                                                     \
    (((size_t)(head_dim) + 63) / 64 * 128 *                                                                  \
         (VLCI_SCORE_WGMMA_COLUMNS + VLCI_SCORE_WGMMA_BUFFERS * VLCI_SCORE_WGMMA_PAIRS) +                    \
     VLCI_SCORE_WGMMA_BUFFERS * (8 * VLCI_SCORE_WGMMA_PAIRS + 32) + 16 * VLCI_SCORE_WGMMA_PAIRS)
#define VLCI_MEAN_LANES        16  /* centroids whose means lie side by side */
#define VLCI_NEAREST_ROWS      128 /* rows of a work-group of nearest.cl, and its work-items */
#define VLCI_NEAREST_GROUP     64
#define VLCI_NEAREST_WIDE_ROWS 32 /* rows of a work-item of nearest_wide.cl */

/*
 * Seeds of the n evicted rows of a head with c centroids are looked for in stretches of neighbours
 * (spread.cl): stretch p of so many has rows VLCI_STRETCH_AT(n, p, stretches) .. VLCI_STRETCH_AT(n, p + 1,
 * stretches) - 1, and a share of the centroids (stretch.cl).
 */
#define VLCI_STRETCH 384 /* rows, at most, where that leaves each a centroid */
#define VLCI_STRETCHES(n, c)                                                                                 \
    (((n) + VLCI_STRETCH - 1) / VLCI_STRETCH < (c) ? ((n) + VLCI_STRETCH - 1) / VLCI_STRETCH : (c))
#define VLCI_STRETCH_AT(all, p, stretches)                                                                   \
    ((vlci_i32)((vlci_u64)(all) * (vlci_u32)(p) / (vlci_u32)(stretches)))
#define VLCI_SPREAD_MMA_GROUP 256 /* of a stretch, a warp for 48 rows, in spread_mma.cl */
/* Bytes of local memory there: rows, two of each warp, five numbers of each row, and some others. */
#define VLCI_SPREAD_MMA_LOCAL(head_dim)                                                                      \
    ((VLCI_STRETCH + VLCI_STRETCH / 24) * (head_dim)*2 + VLCI_STRETCH * 20 + 1024)
/* Stretches of a head that wait for one another, at most: lanes of a warp. */
#define VLCI_SPREAD_TOGETHER  32
#define VLCI_SPREAD_LEAST     0x1p-17f /* of a squared norm: less is rounding of matrix units */
#define VLCI_SPREAD_WIDE_MORE 3        /* numbers of a row beside its key in spread_wide.cl's scratch */

/* What a kv head of a layer keeps of a prompt; `before`: its rows of earlier turns; `first`: of its
 * positions, among those of all heads. kept + centroids = n, recent and sinks are among kept. */
typedef struct vlci_keep {
    vlci_i32 kept, recent, sinks, centroids, before, first;
    vlci_i32 unused[2];
} vlci_keep;

/* Visual tokens that lie as their patches do: token (y, x) at first + y * stride + x of the prompt. */
typedef struct vlci_token_grid {
    vlci_i32 first, rows, columns, stride;
} vlci_token_grid;

/* ---- embed --------------------------------------------------------------------------------------------- */

/* A row made of four: the sum of weight[i] times row from[i]; a weight of 0 reads nothing. from[0] < 0:
 * another row stands for all. */
typedef struct vlci_blend {
    vlci_i32 from[4];
    vlci_f32 weight[4];
} vlci_blend;

/* ---- codes --------------------------------------------------------------------------------------------- */

/*
 * Coded rows lie in blocks of VLCI_CODE_ROWS, dimension after dimension: those of 8 bits come first, then
 * those of 4, then those of 2, so that a dimension of b bits takes b / 2 words of a block and nothing is
 * padded but the last block. Row r of a word's dimension is its bits r b .. r b + b - 1, modulo 32, from the
 * lowest. A run is as many rows as are rotated together: whole blocks.
 */
#define VLCI_CODE_ROWS             16
#define VLCI_CODE_RUN_MIN          16
#define VLCI_CODE_RUN_MAX          (1 << 20)
#define VLCI_CODE_DIM_MAX          256 /* of a head */
#define VLCI_CODE_STEPS            9 /* fractions of a dimension's largest value that are tried as its range */
#define VLCI_CODE_ITEMS            128 /* of a work-group of code.cl, where it has several */
#define VLCI_CODE_PROJECTED        64  /* rows, and dimensions, of a work-group of several at a time */
#define VLCI_CODE_BASIS_ITEMS      128 /* of a work-group of code_basis_mma.cl */
#define VLCI_CODE_BASIS_ALONE      256 /* the same, where a unit has no other */
#define VLCI_CODE_HEARD_ITEMS      256 /* the same, of a head's values as they are heard */
#define VLCI_CODE_HEARD_BYTES(dim) (4 * (dim) * ((dim) + 8))
#define VLCI_CODE_MMA_ITEMS        320 /* of one of code_covariance_mma.cl: a warp for each tile of it */
#define VLCI_CODE_MMA_DIM_MAX      128 /* of a head: registers of code_mma.cl */
#define VLCI_CODE_PACK_ITEMS       512 /* of a work-group of it that projects */
#define VLCI_CODE_PACK_TILE(dim)                                                                             \
    (16 * 32 * (((dim) / 2 + 15) / 16 * 4)) /* bytes of 16 dimensions of a basis */
/* Of local memory: how dimensions are cut, the basis, the mean. */
#define VLCI_CODE_PACK_BYTES(dim)                                                                            \
    (((dim) + 15) / 16 * (256 + VLCI_CODE_PACK_TILE(dim)) + 8 * (((dim) / 2 + 15) / 16 * 16))
/* The same of as many dimensions as a work-group has steps of at most, without what rows have along them. */
#define VLCI_CODE_STEPS_DIMS 64
#define VLCI_CODE_STEPS_BYTES(dim)                                                                           \
    (VLCI_CODE_STEPS_DIMS / 16 * VLCI_CODE_PACK_TILE(dim) + 8 * (((dim) / 2 + 15) / 16 * 16))
#define VLCI_CODE_BASIS_PITCH(dim) ((dim) + 4) /* floats from a column of code_basis_mma.cl to the next */
/* Columns: with no more, a unit has a group more. */
#define VLCI_CODE_BASIS_FEW(dim) ((dim)*3 / 4 / 16 * 16)
/* Of local memory: columns, a number each, of each warp another, and two columns more. */
#define VLCI_CODE_BASIS_BYTES(dim, columns, items)                                                           \
    (4 * ((columns) * (VLCI_CODE_BASIS_PITCH(dim) + 1 + (items) / 32) + 64 * (((dim) + 31) / 32)))
#define VLCI_CODE_SAMPLE 2048 /* rows that means and covariances are of, where there are more */
#define VLCI_CODE_TILE   64   /* side of a work-group's tile of a covariance: 8 x 16 work-items of 8 x 4 */

/* How many dimensions of a matrix have 8, 4 and 2 bits, in one number. */
#define VLCI_CODE_WIDTHS(eights, fours, twos)                                                                \
    ((vlci_u32)(eights) | (vlci_u32)(fours) << 10 | (vlci_u32)(twos) << 20)
#define VLCI_CODE_EIGHTS(widths) ((int)((widths)&1023))
#define VLCI_CODE_FOURS(widths)  ((int)((widths) >> 10 & 1023))
#define VLCI_CODE_TWOS(widths)   ((int)((widths) >> 20 & 1023))
#define VLCI_CODE_DIMS(widths)   (VLCI_CODE_EIGHTS(widths) + VLCI_CODE_FOURS(widths) + VLCI_CODE_TWOS(widths))
/* Words of a block. */
#define VLCI_CODE_WORDS(widths)                                                                              \
    (4 * VLCI_CODE_EIGHTS(widths) + 2 * VLCI_CODE_FOURS(widths) + VLCI_CODE_TWOS(widths))

/* The keys (2 h) or values (2 h + 1) of kv head h, of all layers. */
typedef struct vlci_code_matrix {
    vlci_u32 widths;
    vlci_u32 dim;   /* its first dimension among those of all */
    vlci_u32 words; /* where its blocks begin */
} vlci_code_matrix;

/*
 * A row of text in 4 bits: 16 numbers are two words, as those of a dimension of a block, number = (nibble +
 * 1/2 - 8) unit. Each VLCI_TEXT_GROUP numbers have a unit, the upper half of a float.
 */
#define VLCI_TEXT_GROUP      32
#define VLCI_TEXT_UNITS(dim) (((dim) + VLCI_TEXT_GROUP - 1) / VLCI_TEXT_GROUP)

/* attention_coded: work-items of a work-group, and rows that it takes at a time. */
#define VLCI_CODED_ITEMS 64

/* attention_coded_mma: work-items of a work-group, one of which a unit has room for, and the most of them
 * that share a piece of work; blocks that a warp takes at a time; tiles of 16 dimensions of one width; whose
 * codes a launch takes at most, where it takes those of several sequences. */
#define VLCI_CODED_MMA_ITEMS       384
#define VLCI_CODED_SHARES          256
#define VLCI_CODED_CHUNK           4
#define VLCI_CODED_TILES(head_dim) ((head_dim) / 16 + 2)
#define VLCI_CODED_MANY            32

/* Bytes of local memory that it needs at least: for text; for rows in pages, too; for a basis and for one
 * warp, or for four where they multiply together, whatever their codes, where a run's rows are turned alike,
 * and one by one; and what else it has. */
#define VLCI_CODED_TEXT_POOL            (128 * (VLCI_CODED_MMA_ITEMS + 4))
#define VLCI_CODED_PAGES_POOL(head_dim) (VLCI_CODED_MMA_ITEMS / 2 * (4 * (head_dim) + 48))
#define VLCI_CODED_WARP(head_dim)                                                                            \
    (4 * (VLCI_CODED_CHUNK * ((head_dim) + 8) + 12 * (head_dim) + 12 + 128 * VLCI_CODED_TILES(head_dim)))
#define VLCI_CODED_RAW(head_dim) ((head_dim) * ((head_dim) + 16))
#define VLCI_RUNS_POOL(head_dim)                                                                             \
    (VLCI_CODED_TILES(head_dim) * (head_dim)*32 + VLCI_CODED_RAW(head_dim) + VLCI_CODED_WARP(head_dim))
#define VLCI_RUNS_TOGETHER_POOL(head_dim) (VLCI_RUNS_POOL(head_dim) + 3 * VLCI_CODED_WARP(head_dim))
#define VLCI_ROWS_POOL(head_dim)                                                                             \
    (VLCI_CODED_TILES(head_dim) * (head_dim)*64 + VLCI_CODED_RAW(head_dim) + VLCI_CODED_WARP(head_dim))
#define VLCI_ROWS_TOGETHER_POOL(head_dim)                                                                    \
    ((VLCI_CODED_TILES(head_dim) + 3) / 4 * (head_dim)*256 + VLCI_CODED_RAW(head_dim) +                      \
     4 * VLCI_CODED_WARP(head_dim))
#define VLCI_CODED_BESIDE 8192

/* ---- quantised rows --------------------------------------------------------------------------------------
 */

/*
 * Quantised rows lie in blocks of VLCI_CODE_ROWS as well, dimension after dimension, each of the same bits:
 * 8, 4 and 2 as those of codes. 3 bits are 2 and 1: a word of the lower two for each dimension of the block,
 * then, for each, half a word of the third.
 */
#define VLCI_QUANT_WORDS(bits, dim) ((bits) == 3 ? (dim) + (dim) / 2 : (bits) / 2 * (dim))
#define VLCI_QUANT_GROUP_MIN        16 /* rows of keys, channels of values that share a scale: a power of two */
#define VLCI_QUANT_GROUP_MAX        1024

/* The rows of a kv head of a layer: how many, its first block, its first group of rows, of all heads. */
typedef struct vlci_quant_head {
    vlci_i32 rows, block, group, unused;
} vlci_quant_head;

/* ---- norm ---------------------------------------------------------------------------------------------- */

#define VLCI_NORM_LANES 256 /* work-items a row; 1 on processors */
#define VLCI_NORM_HELD  8   /* vectors of 4 of a row that one of several may keep */

/* ---- sample -------------------------------------------------------------------------------------------- */

#define VLCI_LOGITS_MAX (1 << 23) /* of a row: weights of up to 2^40 are summed in 64 bits */

/* How one row's token is chosen. */
typedef struct vlci_draw {
    vlci_f32 scale; /* log2(e) / temperature; below 0: the largest is taken */
    vlci_i32 top_k; /* 0: all */
    vlci_u32 share; /* top_p in units of 2^-32; 0: all */
    vlci_f32 u;     /* the draw, in [0, 1) */
} vlci_draw;

#endif
