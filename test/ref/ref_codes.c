/*
 * ref_codes.c - codes -> rows, one number after another.
 */
#include "ref/ref_codes.h"

#include <math.h>
#include <stdlib.h>

#include "support/suite.h"

static void *take(cl_mem memory, size_t bytes) {
    void *data = malloc(bytes + 1);
    ck_assert_ptr_nonnull(data);
    if (bytes) suite_download(memory, data, bytes);
    return data;
}

static float half_value(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return (float)(h >> 15 ? -value : value);
}

/* 32 numbers of a text row have a unit: the upper half of a float. */
static size_t units_of(int dim) {
    return ((size_t)dim + 31) / 32;
}

static double upper_half(uint16_t bits) {
    int exponent = bits >> 7 & 255, fraction = bits & 127;
    return ldexp(exponent ? 128 + fraction : fraction, (exponent ? exponent : 1) - 134);
}

ref_codes ref_codes_read(const vlci_codes *k) {
    size_t n = 2 * (size_t)k->layers * (size_t)k->kv_heads, dim = (size_t)k->head_dim, dims = (size_t)k->dims;
    size_t texts = n * (size_t)k->texts;
    ref_codes c = {.codes = k,
                   .matrix = take(k->matrix, n * sizeof *c.matrix),
                   .mean = malloc(n * dim * sizeof *c.mean),
                   .basis = take(k->basis, dims * dim),
                   .text = take(k->text, texts * dim / 2),
                   .factor = take(k->factor, dims * sizeof *c.factor),
                   .scale = take(k->scale, 2 * texts * units_of(k->head_dim)),
                   .phase = take(k->phase, (size_t)k->runs * dim * sizeof *c.phase),
                   .words = take(k->words, k->n_words * sizeof *c.words)};
    c.within = take(k->within, (size_t)k->patterns * dim * 16 * sizeof *c.within);
    c.pattern = take(k->pattern, k->patterns ? (size_t)k->runs * sizeof *c.pattern : 0);
    uint16_t *mean = take(k->mean, n * dim * sizeof *mean);
    ck_assert_ptr_nonnull(c.mean);
    for (size_t i = 0; i < n * dim; i++) c.mean[i] = half_value(mean[i]);
    free(mean);
    return c;
}

int ref_codes_bits(const ref_codes *c, int matrix, int i) {
    vlci_u32 w = c->matrix[matrix].widths;
    int eights = (int)(w & 1023), fours = (int)(w >> 10 & 1023), twos = (int)(w >> 20);
    if (i < eights) return 8;
    if (i < eights + fours) return 4;
    return i < eights + fours + twos ? 2 : 0;
}

int ref_codes_code(const ref_codes *c, int matrix, int i, int row) {
    int before = 0, all = 0, bits = ref_codes_bits(c, matrix, i);
    for (int k = 0; k < c->codes->head_dim; k++) {
        if (k < i) before += ref_codes_bits(c, matrix, k) / 2;
        all += ref_codes_bits(c, matrix, k) / 2;
    }
    size_t block = c->matrix[matrix].words + (size_t)(row / 16) * (size_t)all + (size_t)before;
    int bit = row % 16 * bits;
    return (int)(c->words[block + (size_t)(bit / 32)] >> bit % 32 & ((1u << bits) - 1u));
}

/* Turns a row by what its phase is beyond its run's first. */
static void turn_within(const ref_codes *c, int row, double *out) {
    int dim = c->codes->head_dim, half = dim / 2;
    const float *within = c->within + (size_t)c->pattern[row / 16] * (size_t)(16 * dim) + row % 16;
    for (int d = 0; d < half; d++) {
        double low = out[d], high = out[half + d], cosine = within[16 * d], sine = within[16 * (half + d)];
        out[d] = low * cosine - high * sine;
        out[half + d] = high * cosine + low * sine;
    }
}

void ref_codes_row(const ref_codes *c, int matrix, int row, double *out) {
    int dim = c->codes->head_dim, half = dim / 2;
    const float *phase = c->phase + (size_t)(row / c->codes->run) * (size_t)dim;
    for (int d = 0; d < dim; d++) out[d] = c->mean[matrix * dim + d];
    for (int i = 0, bits; i < dim && (bits = ref_codes_bits(c, matrix, i)); i++) {
        size_t at = c->matrix[matrix].dim + (size_t)i;
        double level = ref_codes_code(c, matrix, i, row) + 0.5 - (1 << (bits - 1));
        for (int d = 0; d < dim; d++)
            out[d] += level * c->factor[at] * c->basis[at * (size_t)dim + (size_t)d];
    }
    if (matrix % 2 == 0 && c->codes->patterns) turn_within(c, row, out);
    for (int d = 0; d < half && matrix % 2 == 0; d++) {
        double low = out[d], high = out[half + d], cosine = phase[d], sine = phase[half + d];
        out[d] = low * cosine - high * sine;
        out[half + d] = high * cosine + low * sine;
    }
}

void ref_codes_text(const ref_codes *c, int matrix, int row, double *out) {
    size_t at = (size_t)matrix * (size_t)c->codes->texts + (size_t)row, dim = (size_t)c->codes->head_dim;
    const uint32_t *words = c->text + at * dim / 8;
    const uint16_t *units = c->scale + at * units_of(c->codes->head_dim);
    for (size_t d = 0; d < dim; d++)
        out[d] = upper_half(units[d / 32]) * ((int)(words[d / 8] >> d % 8 * 4 & 15) - 7.5);
}

void ref_codes_release(ref_codes *c) {
    free(c->matrix);
    free(c->mean);
    free(c->basis);
    free(c->text);
    free(c->factor);
    free(c->scale);
    free(c->phase);
    free(c->within);
    free(c->pattern);
    free(c->words);
}
