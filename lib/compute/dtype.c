/*
 * dtype.c - f16 and bf16 to f32 and back, without a branch an element: loops of a fixed length, which the
 * compiler turns into vectors.
 */
#include "compute/dtype.h"

#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

static float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* The exponent's bias is set right by a product, which makes subnormals normal as well. */
static uint32_t f16_to_f32(uint32_t h) {
    uint32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0;
    return as_bits(as_float((h & 0x7fffu) << 13) * 0x1p112f) | special | (h & 0x8000u) << 16;
}

static uint32_t bf16_to_f32(uint32_t h) {
    return h << 16;
}

static uint32_t f32_to_f16(uint32_t bits) {
    uint32_t sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t normal = (size + 0xfffu + (size >> 13 & 1u) - 0x38000000u) >> 13;
    uint32_t tiny = as_bits(as_float(size) + 0.5f) - 0x3f000000u; /* the sum's last bit is 2^-24 */
    uint32_t huge = size > 0x7f800000u ? 0x7e00u : 0x7c00u;       /* NaN; what rounds beyond the largest */
    uint32_t most = size >= 0x477ff000u ? huge : normal;
    return sign | (size < 0x38800000u ? tiny : most);
}

static uint32_t f32_to_bf16(uint32_t bits) {
    uint32_t nan = bits >> 16 | 64u, rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    return (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
}

/* `n` elements by a function of one, LANES at a time. */
#define DEFINE_BULK(name, from_type, to_type, convert)                                                       \
    static void name(const void *from, void *to, size_t n) {                                                 \
        from_type in[LANES] = {0};                                                                           \
        to_type out[LANES];                                                                                  \
        for (size_t at = 0; at < n; at += LANES) {                                                           \
            size_t take = n - at < LANES ? n - at : LANES;                                                   \
            if (take == LANES)                                                                               \
                memcpy(in, (const char *)from + at * sizeof *in, sizeof in);                                 \
            else                                                                                             \
                memcpy(in, (const char *)from + at * sizeof *in, take * sizeof *in);                         \
            for (int i = 0; i < LANES; i++) out[i] = (to_type)convert(in[i]);                                \
            if (take == LANES)                                                                               \
                memcpy((char *)to + at * sizeof *out, out, sizeof out);                                      \
            else                                                                                             \
                memcpy((char *)to + at * sizeof *out, out, take * sizeof *out);                              \
        }                                                                                                    \
    }
DEFINE_BULK(widen_f16, uint16_t, uint32_t, f16_to_f32)
DEFINE_BULK(widen_bf16, uint16_t, uint32_t, bf16_to_f32)
DEFINE_BULK(narrow_f16, uint32_t, uint16_t, f32_to_f16)
DEFINE_BULK(narrow_bf16, uint32_t, uint16_t, f32_to_bf16)

void vlci_widen(const void *from, vlcache_dtype dtype, float *to, size_t n) {
    if (dtype == VLCACHE_DTYPE_F32)
        memcpy(to, from, n * 4);
    else if (dtype == VLCACHE_DTYPE_F16)
        widen_f16(from, to, n);
    else
        widen_bf16(from, to, n);
}

void vlci_narrow(const float *from, void *to, vlcache_dtype dtype, size_t n) {
    if (dtype == VLCACHE_DTYPE_F32)
        memcpy(to, from, n * 4);
    else if (dtype == VLCACHE_DTYPE_F16)
        narrow_f16(from, to, n);
    else
        narrow_bf16(from, to, n);
}

static size_t element_bytes(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F32 ? 4 : 2;
}

void vlci_convert(const void *from, vlcache_dtype from_dtype, void *to, vlcache_dtype to_dtype, size_t n) {
    enum { BLOCK = 512 };
    float wide[BLOCK];
    size_t in = element_bytes(from_dtype), out = element_bytes(to_dtype);
    if (from_dtype == to_dtype) memcpy(to, from, n * in);
    for (size_t at = 0; from_dtype != to_dtype && at < n; at += BLOCK) {
        size_t take = n - at < BLOCK ? n - at : BLOCK;
        vlci_widen((const char *)from + at * in, from_dtype, wide, take);
        vlci_narrow(wide, (char *)to + at * out, to_dtype, take);
    }
}
