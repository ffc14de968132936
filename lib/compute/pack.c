/*
 * pack.c - a band of 32 rows into panels or blocks.
 *
 *     panel:  32 rows of k  -->  [k][32], a transposition: 8 x 8 elements at a time
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
    else
        pack_blocks(from, row, depth, to);
}
