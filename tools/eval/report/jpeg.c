/*
 * jpeg.c - baseline JPEG: colours at half the resolution, one Huffman code for all three components.
 *
 *     RGB -> Y, Cb, Cr -> 16 x 16 pixels: four blocks of Y, one of Cb, one of Cr
 *     block -> cosine transform -> / table -> zigzag -> runs of zeros -> Huffman
 *
 * All memory is asked for before anything is written: a block takes at most 63 coefficients of 26 bits and
 * one of 20, each byte of which may need a zero behind it. Reference: ITU-T T.81; tables from its annex K.
 */
#include "eval/report/jpeg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 8, CELLS = 64, UNIT = 16, BLOCK_BYTES = 416, HEAD_BYTES = 1024 };

static const uint8_t zigzag[CELLS] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,
                                      12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                      35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
                                      58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* Quantization at quality 50, row by row: of light, of colours. */
static const uint8_t coarse[2][CELLS] = {
    {16, 11,  10,  16, 24, 40, 51, 61, 12,  12,  14,  19,  26, 58, 60, 55,  14,  13,  16,  24, 40, 57,
     69, 56,  14,  17, 22, 29, 51, 87, 80,  62,  18,  22,  37, 56, 68, 109, 103, 77,  24,  35, 55, 64,
     81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98,  112, 100, 103, 99},
    {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99,
     99, 99, 47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
     99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99}};

/* How many codes there are of each length from 1 to 16, and what they stand for. */
static const uint8_t dc_lengths[16] = {0, 1, 5, 1, 1, 1, 1, 1, 1},
                     dc_values[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint8_t ac_lengths[16] = {0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125};
static const uint8_t ac_values[] = {
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22,
    0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33,
    0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34,
    0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55,
    0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76,
    0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5,
    0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4,
    0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1,
    0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa};

/* The code of each value. */
typedef struct code {
    uint16_t word[256];
    uint8_t length[256];
} code;

typedef struct writer {
    uint8_t *at;
    uint32_t hold;
    unsigned count;
    uint8_t table[2][CELLS];
    float cosine[BLOCK][BLOCK]; /* [frequency][place] */
    code dc, ac;
    int last[3]; /* of each component: the mean of the block before */
} writer;

/* ---- bits --------------------------------------------------------------------------------------------- */

/* Most significant first; a byte of ones is followed by one of zeros. */
static void put_bits(writer *w, uint32_t value, unsigned count) {
    w->hold = w->hold << count | (value & ((1u << count) - 1u));
    for (w->count += count; w->count >= 8; w->count -= 8) {
        *w->at = (uint8_t)(w->hold >> (w->count - 8));
        if (*w->at++ == 0xff) *w->at++ = 0;
    }
    w->hold &= (1u << w->count) - 1u;
}

static void put_value(writer *w, const code *c, unsigned value) {
    put_bits(w, c->word[value], c->length[value]);
}

static void make_code(code *c, const uint8_t lengths[16], const uint8_t *values) {
    unsigned word = 0;
    for (unsigned length = 1; length <= 16; length++, word <<= 1)
        for (unsigned i = 0; i < lengths[length - 1]; i++, word++, values++) {
            c->word[*values] = (uint16_t)word;
            c->length[*values] = (uint8_t)length;
        }
}

/* Bits that a number takes; negative ones are written as their complement. */
static unsigned size_of(int number) {
    unsigned size = 0;
    for (unsigned rest = (unsigned)abs(number); rest; rest >>= 1) size++;
    return size;
}

static void put_number(writer *w, int number, unsigned size) {
    put_bits(w, (uint32_t)(number < 0 ? number + (1 << size) - 1 : number), size);
}

/* ---- a block ------------------------------------------------------------------------------------------ */

static void transform(const writer *w, const float in[CELLS], float out[CELLS]) {
    float rows[CELLS];
    for (int y = 0; y < BLOCK; y++)
        for (int u = 0; u < BLOCK; u++) {
            float sum = 0.0f;
            for (int x = 0; x < BLOCK; x++) sum += in[y * BLOCK + x] * w->cosine[u][x];
            rows[y * BLOCK + u] = sum;
        }
    for (int v = 0; v < BLOCK; v++)
        for (int u = 0; u < BLOCK; u++) {
            float sum = 0.0f;
            for (int y = 0; y < BLOCK; y++) sum += rows[y * BLOCK + u] * w->cosine[v][y];
            out[v * BLOCK + u] = sum;
        }
}

static void put_block(writer *w, const float in[CELLS], int component) {
    float out[CELLS];
    int number[CELLS], end = CELLS - 1;
    transform(w, in, out);
    for (int i = 0; i < CELLS; i++)
        number[i] = (int)lrintf(out[zigzag[i]] / (float)w->table[component > 0][zigzag[i]]);
    int mean = number[0] - w->last[component];
    w->last[component] = number[0];
    put_value(w, &w->dc, size_of(mean));
    put_number(w, mean, size_of(mean));
    while (end && !number[end]) end--;
    for (int i = 1, zeros = 0; i <= end; i++) {
        for (zeros = 0; !number[i]; i++) zeros++;
        for (; zeros > 15; zeros -= 16) put_value(w, &w->ac, 0xf0);
        unsigned size = size_of(number[i]);
        put_value(w, &w->ac, (unsigned)zeros << 4 | size);
        put_number(w, number[i], size);
    }
    if (end < CELLS - 1) put_value(w, &w->ac, 0);
}

/* ---- pixels ------------------------------------------------------------------------------------------- */

/* The last column and row are repeated to the end of the unit. */
static void read_unit(const uint8_t *rgb, int width, int height, int x0, int y0, float unit[3][UNIT * UNIT]) {
    for (int i = 0; i < UNIT * UNIT; i++) {
        int x = x0 + i % UNIT < width ? x0 + i % UNIT : width - 1;
        int y = y0 + i / UNIT < height ? y0 + i / UNIT : height - 1;
        const uint8_t *p = rgb + ((size_t)y * (size_t)width + (size_t)x) * 3;
        float r = p[0], g = p[1], b = p[2];
        unit[0][i] = 0.299f * r + 0.587f * g + 0.114f * b - 128.0f;
        unit[1][i] = -0.168736f * r - 0.331264f * g + 0.5f * b;
        unit[2][i] = 0.5f * r - 0.418688f * g - 0.081312f * b;
    }
}

static void put_unit(writer *w, float unit[3][UNIT * UNIT]) {
    float block[CELLS];
    for (int k = 0; k < 4; k++) {
        const float *from = unit[0] + k / 2 * BLOCK * UNIT + k % 2 * BLOCK;
        for (int i = 0; i < CELLS; i++) block[i] = from[i / BLOCK * UNIT + i % BLOCK];
        put_block(w, block, 0);
    }
    for (int component = 1; component < 3; component++) {
        for (int i = 0; i < CELLS; i++) {
            const float *p = unit[component] + i / BLOCK * 2 * UNIT + i % BLOCK * 2;
            block[i] = 0.25f * (p[0] + p[1] + p[UNIT] + p[UNIT + 1]);
        }
        put_block(w, block, component);
    }
}

/* ---- the file ----------------------------------------------------------------------------------------- */

static void put_bytes(writer *w, const void *bytes, size_t n) {
    memcpy(w->at, bytes, n);
    w->at += n;
}

static void put_tables(writer *w) {
    for (int t = 0; t < 2; t++) {
        const uint8_t head[] = {0xff, 0xdb, 0, 3 + CELLS, (uint8_t)t};
        put_bytes(w, head, sizeof head);
        for (int i = 0; i < CELLS; i++) *w->at++ = w->table[t][zigzag[i]];
    }
}

static void put_huffman(writer *w, int kind, const uint8_t lengths[16], const uint8_t *values, size_t n) {
    const uint8_t head[] = {0xff, 0xc4, 0, (uint8_t)(19 + n), (uint8_t)(kind << 4)};
    put_bytes(w, head, sizeof head);
    put_bytes(w, lengths, 16);
    put_bytes(w, values, n);
}

static void put_head(writer *w, int width, int height) {
    static const uint8_t start[] = {0xff, 0xd8, 0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F',
                                    0,    1,    1,    0,    0, 1,  0,   1,   0,   0};
    static const uint8_t scan[] = {0xff, 0xda, 0, 12, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0};
    const uint8_t frame[] = {0xff,
                             0xc0,
                             0,
                             17,
                             8,
                             (uint8_t)(height >> 8),
                             (uint8_t)height,
                             (uint8_t)(width >> 8),
                             (uint8_t)width,
                             3,
                             1,
                             0x22,
                             0,
                             2,
                             0x11,
                             1,
                             3,
                             0x11,
                             1};
    put_bytes(w, start, sizeof start);
    put_tables(w);
    put_bytes(w, frame, sizeof frame);
    put_huffman(w, 0, dc_lengths, dc_values, sizeof dc_values);
    put_huffman(w, 1, ac_lengths, ac_values, sizeof ac_values);
    put_bytes(w, scan, sizeof scan);
}

static void prepare(writer *w, int quality) {
    int scale = 200 - 2 * quality;
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < CELLS; i++) {
            int step = (coarse[t][i] * scale + 50) / 100;
            w->table[t][i] = (uint8_t)(step < 1 ? 1 : step);
        }
    for (int u = 0; u < BLOCK; u++)
        for (int x = 0; x < BLOCK; x++)
            w->cosine[u][x] = (u ? 0.5f : 0.35355339f) * cosf((float)((2 * x + 1) * u) * 0.19634954f);
    make_code(&w->dc, dc_lengths, dc_values);
    make_code(&w->ac, ac_lengths, ac_values);
}

uint8_t *jpeg_encode(const uint8_t *rgb, int width, int height, int quality, size_t *bytes) {
    float unit[3][UNIT * UNIT];
    size_t units = (size_t)((width + UNIT - 1) / UNIT) * (size_t)((height + UNIT - 1) / UNIT);
    uint8_t *out = malloc(units * 6 * BLOCK_BYTES + HEAD_BYTES);
    writer w = {.at = out};
    if (!out) return NULL;
    prepare(&w, quality);
    put_head(&w, width, height);
    for (int y = 0; y < height; y += UNIT)
        for (int x = 0; x < width; x += UNIT) {
            read_unit(rgb, width, height, x, y, unit);
            put_unit(&w, unit);
        }
    put_bits(&w, 0x7f, (8 - w.count) % 8);
    put_bytes(&w, "\xff\xd9", 2);
    *bytes = (size_t)(w.at - out);
    return out;
}
