/*
 * pack.c - a band of 32 rows into panels, pairs or blocks.
 *
 *     panel:  32 rows of k  -->  [k][32], a transposition: 8 x 8 elements at a time
 *     pairs:  32 rows of k  -->  [k / 32][2][16][16] words of two elements, the same: 4 x 4 words at a time
 *     blocks: 32 rows of k  -->  half of each block of 64 x 64: runs of 8 elements, swizzled
 *
 * Elements are moved as they are: 16 or 32 bits.
 */
#include "compute/pack.h"

#include <string.h>

/* ---- panels -------------------------------------------------------------------------------------------- */

typedef uint16_t run __attribute__((vector_size(16)));

#if defined(__clang__)
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (run){__VA_ARGS__})
#endif
#define LOW(a, b)  PICK(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) PICK(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

/* Rows i and i + 4 are interleaved, three times: element (i, j) goes to (j, i). `rows` and `depth` are
 * elements from one row to the next. */
static void turn_8x8(const uint16_t *from, size_t rows, uint16_t *to, size_t depth) {
    run a[8], b[8];
    for (int i = 0; i < 8; i++) memcpy(&a[i], from + (size_t)i * rows, sizeof(run));
    for (int i = 0; i < 4; i++) b[2 * i] = LOW(a[i], a[i + 4]), b[2 * i + 1] = HIGH(a[i], a[i + 4]);
    for (int i = 0; i < 4; i++) a[2 * i] = LOW(b[i], b[i + 4]), a[2 * i + 1] = HIGH(b[i], b[i + 4]);
    for (int i = 0; i < 4; i++) b[2 * i] = LOW(a[i], a[i + 4]), b[2 * i + 1] = HIGH(a[i], a[i + 4]);
    for (int i = 0; i < 8; i++) memcpy(to + (size_t)i * depth, &b[i], sizeof(run));
}

/* 32 columns at a time: whole lines of the cache of 8 rows, which is what it holds of rows that lie a power
 * of two apart. */
static size_t turn_halves(const uint16_t *from, size_t k, uint16_t *panel) {
    size_t whole = k / 8 * 8;
    for (size_t first = 0; first < whole; first += 32)
        for (size_t row = 0; row < VLCI_PANEL; row += 8)
            for (size_t i = first; i < whole && i < first + 32; i += 8)
                turn_8x8(from + row * k + i, k, panel + i * VLCI_PANEL + row, VLCI_PANEL);
    return whole;
}

static void pack_panel(const void *from, size_t k, size_t element, void *panel) {
    const uint16_t *halves = from;
    const uint32_t *words = from;
    if (element == 2)
        for (size_t i = turn_halves(from, k, panel); i < k; i++)
            for (size_t row = 0; row < VLCI_PANEL; row++)
                ((uint16_t *)panel)[i * VLCI_PANEL + row] = halves[row * k + i];
    else
        for (size_t i = 0; i < k; i++)
            for (size_t row = 0; row < VLCI_PANEL; row++)
                ((uint32_t *)panel)[i * VLCI_PANEL + row] = words[row * k + i];
}

/* ---- pairs --------------------------------------------------------------------------------------------- */

typedef uint32_t words __attribute__((vector_size(16)));

#if defined(__clang__)
#define PICK_WORDS(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK_WORDS(a, b, ...) __builtin_shuffle(a, b, (words){__VA_ARGS__})
#endif
#define LOW_WORDS(a, b)  PICK_WORDS(a, b, 0, 4, 1, 5)
#define HIGH_WORDS(a, b) PICK_WORDS(a, b, 2, 6, 3, 7)

/* 4 rows of 8 elements: word (i, j) goes to (j, i) of rows of 16 words. */
static void turn_4x4(const uint16_t *from, size_t row, uint16_t *to) {
    words a[4], b[4];
    for (int i = 0; i < 4; i++) memcpy(&a[i], from + (size_t)i * row, sizeof(words));
    for (int i = 0; i < 2; i++)
        b[2 * i] = LOW_WORDS(a[i], a[i + 2]), b[2 * i + 1] = HIGH_WORDS(a[i], a[i + 2]);
    for (int i = 0; i < 2; i++)
        a[2 * i] = LOW_WORDS(b[i], b[i + 2]), a[2 * i + 1] = HIGH_WORDS(b[i], b[i + 2]);
    for (int i = 0; i < 4; i++) memcpy(to + (size_t)i * 32, &a[i], sizeof(words));
}

static void pack_pairs(const uint16_t *from, size_t k, uint16_t *to) {
    size_t whole = k / 8 * 8;
    for (size_t first = 0; first < whole; first += 32) /* whole lines of the cache, as above */
        for (size_t row = 0; row < VLCI_TILE; row += 4)
            for (size_t i = first; i < whole && i < first + 32; i += 8)
                turn_4x4(from + row * k + i, k, to + VLCI_PAIR_AT(row, i, k));
    for (size_t i = whole; i < VLCI_TILES(k) * VLCI_TILE; i++)
        for (size_t row = 0; row < VLCI_TILE; row++)
            to[VLCI_PAIR_AT(row, i, k)] = i < k ? from[row * k + i] : 0;
}

/* ---- blocks -------------------------------------------------------------------------------------------- */

/* `n` elements of a row, up to 64, to a row of a block: run c to place c ^ (row & 7). */
static void pack_block_row(const uint16_t *from, size_t n, int row, uint16_t *to) {
    if (n < VLCI_BLOCK) memset(to, 0, VLCI_BLOCK * sizeof *to);
    for (size_t run_at = 0; run_at < n; run_at += 8) {
        uint16_t *place = to + VLCI_BLOCK_RUN(row, (int)run_at);
        if (n - run_at >= 8)
            memcpy(place, from + run_at, 8 * sizeof *to);
        else
            memcpy(place, from + run_at, (n - run_at) * sizeof *to);
    }
}

static void pack_blocks(const uint16_t *from, int row, size_t k, uint16_t *to) {
    for (size_t at = 0; at < k; at += VLCI_BLOCK) {
        size_t n = k - at < VLCI_BLOCK ? k - at : VLCI_BLOCK;
        uint16_t *block = to + (VLCI_BLOCK_AT(row, (int)at, k) & ~(size_t)(VLCI_BLOCK - 1));
        for (int i = 0; i < VLCI_BAND; i++)
            pack_block_row(from + (size_t)i * k + at, n, row + i, block + (size_t)i * VLCI_BLOCK);
    }
}

void vlci_pack(const void *from, int row, int k, vlcache_dtype dtype, vlci_layout layout, void *to) {
    size_t element = vlci_dtype_bytes(dtype), depth = (size_t)k;
    if (layout == VLCI_PANELS)
        pack_panel(from, depth, element, (char *)to + (size_t)row * depth * element);
    else if (layout == VLCI_PAIRS)
        pack_pairs(from, depth, (uint16_t *)to + VLCI_PAIR_AT(row, 0, depth));
    else
        pack_blocks(from, row, depth, to);
}
