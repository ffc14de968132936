/*
 * letters.c - normalised texts, their equality and their edit distance
 *
 *     d(i, 0) = i,  d(0, j) = j
 *     d(i, j) = min(d(i-1, j) + 1, d(i, j-1) + 1, d(i-1, j-1) + [a_i != b_j])
 */
#include "eval/letters.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

bool letters_is_space(int32_t c) {
    if ((c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85) return true;
    if (c < 0x80) return false;
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

/* The code point at `text`, and how many bytes it takes. */
static int32_t next_letter(const char *text, size_t left, size_t *bytes) {
    utf8proc_int32_t c = -1;
    utf8proc_ssize_t taken = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)left, &c);
    *bytes = taken > 0 ? (size_t)taken : 1;
    return taken > 0 ? c : (int32_t)(unsigned char)*text;
}

bool letters_of(const char *text, letters *out) {
    size_t left = strlen(text), bytes;
    bool gap = false;
    out->n = out->given = 0;
    out->at = malloc((left + 1) * sizeof *out->at);
    for (; left && out->at; text += bytes, left -= bytes) {
        int32_t c = next_letter(text, left, &bytes);
        out->given++;
        if (letters_is_space(c)) {
            gap = out->n > 0;
            continue;
        }
        if (gap) out->at[out->n++] = ' ';
        gap = false;
        out->at[out->n++] = utf8proc_tolower(c);
    }
    return out->at != NULL;
}

void letters_release(letters *l) {
    free(l->at);
    *l = (letters){NULL, 0, 0};
}

bool letters_equal(const letters *a, const letters *b) {
    return a->n == b->n && memcmp(a->at, b->at, a->n * sizeof *a->at) == 0;
}

bool letters_contain(const letters *whole, const letters *part) {
    for (size_t i = 0; i + part->n <= whole->n; i++)
        if (memcmp(whole->at + i, part->at, part->n * sizeof *part->at) == 0) return true;
    return false;
}

size_t letters_distance(const letters *a, const letters *b) {
    size_t *row = malloc((b->n + 1) * sizeof *row);
    if (!row) return SIZE_MAX;
    for (size_t j = 0; j <= b->n; j++) row[j] = j;
    for (size_t i = 1; i <= a->n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b->n; j++) {
            size_t best = diagonal + (a->at[i - 1] != b->at[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    size_t distance = row[b->n];
    free(row);
    return distance;
}
