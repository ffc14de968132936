/*
 * align.c - Levenshtein's table, walked back from its end
 *
 *     cost(i, j) = fewest edits from the first i letters of the reference to the first j of the answer
 *     back       where letters are equal and cost(i, j) = cost(i - 1, j - 1), letter i stands in its place
 */
#include "eval/align.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eval/letters.h"

enum { MOST_CELLS = 1 << 27, PIECE_LEAST = 4, PIECE_MOST = 64, ROUNDS = 4 };

static uint32_t least(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t two = a < b ? a : b;
    return two < c ? two : c;
}

static void fill(const letters *from, const letters *to, uint32_t *cost) {
    size_t width = to->n + 1;
    for (size_t j = 0; j <= to->n; j++) cost[j] = (uint32_t)j;
    for (size_t i = 1; i <= from->n; i++) {
        uint32_t *row = cost + i * width, *above = row - width;
        row[0] = (uint32_t)i;
        for (size_t j = 1; j <= to->n; j++)
            row[j] = least(above[j - 1] + (from->at[i - 1] != to->at[j - 1]), above[j] + 1, row[j - 1] + 1);
    }
}

/* Counts letters that stay into the tenths that they lie in. */
static void walk_back(const letters *from, const letters *to, const uint32_t *cost,
                      double parts[ALIGN_PARTS]) {
    size_t i = from->n, j = to->n, width = to->n + 1;
    while (i && j) {
        const uint32_t *here = cost + i * width + j;
        bool same = from->at[i - 1] == to->at[j - 1];
        if (here[0] == here[-(ptrdiff_t)width - 1] + !same) {
            parts[(i - 1) * ALIGN_PARTS / from->n] += same;
            i--;
            j--;
        } else if (here[0] == here[-(ptrdiff_t)width] + 1) {
            i--;
        } else {
            j--;
        }
    }
}

static void to_shares(size_t n, double parts[ALIGN_PARTS]) {
    size_t of[ALIGN_PARTS] = {0};
    for (size_t i = 0; i < n; i++) of[i * ALIGN_PARTS / n]++;
    for (int p = 0; p < ALIGN_PARTS; p++) parts[p] = of[p] ? parts[p] / (double)of[p] : NAN;
}

bool align_parts(const char *answer, const char *reference, double parts[ALIGN_PARTS]) {
    letters from = {NULL, 0, 0}, to = {NULL, 0, 0};
    uint32_t *cost = NULL;
    memset(parts, 0, ALIGN_PARTS * sizeof *parts);
    bool good =
        letters_of(reference, &from) && letters_of(answer, &to) && (from.n + 1) <= MOST_CELLS / (to.n + 1);
    if (good) cost = malloc((from.n + 1) * (to.n + 1) * sizeof *cost);
    good = good && cost;
    if (good) {
        fill(&from, &to, cost);
        walk_back(&from, &to, cost, parts);
        to_shares(from.n, parts);
    }
    free(cost);
    letters_release(&from);
    letters_release(&to);
    return good;
}

bool align_loops(const char *text) {
    size_t n = strlen(text);
    for (size_t piece = PIECE_LEAST; piece <= PIECE_MOST && piece * ROUNDS <= n; piece++) {
        size_t same = 0; /* bytes that equal those a piece before */
        for (size_t i = piece; i < n; i++) {
            same = text[i] == text[i - piece] ? same + 1 : 0;
            if (same == piece * (ROUNDS - 1)) return true;
        }
    }
    return false;
}
