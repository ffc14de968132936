/*
 * ref_quants.c - codes, scales and zeros -> numbers, one after another.
 */
#include "ref/ref_quants.h"

#include <math.h>
#include <stdlib.h>

#include "support/suite.h"

static void *take(cl_mem memory, size_t bytes) {
    void *data = malloc(bytes + 1);
    ck_assert_ptr_nonnull(data);
    if (bytes) suite_download(memory, data, bytes);
    return data;
}

static double half_value(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    if (exponent == 31) value = fraction ? NAN : INFINITY;
    return h >> 15 ? -value : value;
}

static int channels_of(const vlci_quants *k) {
    return (k->head_dim + k->group - 1) / k->group;
}

/* Words of a block of 16 rows. */
static size_t words_of(int bits, int dim) {
    return (size_t)(16 * bits * dim) / 32;
}

ref_quants ref_quants_read(const vlci_quants *k) {
    size_t blocks = (size_t)k->blocks, dim = (size_t)k->head_dim, channels = (size_t)channels_of(k);
    return (ref_quants){
        .quants = k,
        .words = {take(k->keys, blocks * words_of(k->key_bits, k->head_dim) * sizeof(uint32_t)),
                  take(k->values, blocks * words_of(k->value_bits, k->head_dim) * sizeof(uint32_t))},
        .scale = {take(k->key_scale, (size_t)k->groups * 2 * dim * sizeof(uint16_t)),
                  take(k->value_scale, blocks * channels * 2 * 16 * sizeof(uint16_t))},
        .bias = take(k->bias, k->bias ? blocks * 16 * sizeof(uint16_t) : 0)};
}

/* `bits` bits of row r, dimension d of a block whose rows' bits of a dimension stand together. */
static int bits_at(const uint32_t *block, int bits, int d, int r) {
    size_t bit = (size_t)(16 * bits) * (size_t)d + (size_t)(bits * r);
    return (int)(block[bit / 32] >> bit % 32 & ((1u << bits) - 1u));
}

static int code_at(const uint32_t *block, int bits, int dim, int d, int r) {
    if (bits != 3) return bits_at(block, bits, d, r);
    return bits_at(block, 2, d, r) | bits_at(block + dim, 1, d, r) << 2;
}

ref_quant ref_quants_number(const ref_quants *q, int which, int head, int row, int d) {
    const vlci_quants *k = q->quants;
    vlci_quant_head own = k->own[head];
    int bits = which ? k->value_bits : k->key_bits, dim = k->head_dim;
    size_t block = (size_t)(own.block + row / 16);
    const uint32_t *words = q->words[which] + block * words_of(bits, dim);
    const uint16_t *scale = q->scale[which];
    size_t at = which ? (block * (size_t)channels_of(k) + (size_t)(d / k->group)) * 32 + (size_t)(row % 16)
                      : (size_t)(own.group + row / k->group) * 2 * (size_t)dim + (size_t)d;
    return (ref_quant){code_at(words, bits, dim, d, row % 16),
                       half_value(scale[at + (size_t)(which ? 16 : dim)]), half_value(scale[at])};
}

double ref_quants_value(const ref_quants *q, int which, int head, int row, int d) {
    ref_quant n = ref_quants_number(q, which, head, row, d);
    return n.zero + n.scale * n.code;
}

double ref_quants_bias(const ref_quants *q, int head, int row) {
    if (!q->quants->bias) return 0.0;
    return half_value(q->bias[(size_t)(q->quants->own[head].block + row / 16) * 16 + (size_t)(row % 16)]);
}

void ref_quants_release(ref_quants *q) {
    free(q->words[0]);
    free(q->words[1]);
    free(q->scale[0]);
    free(q->scale[1]);
    free(q->bias);
}
