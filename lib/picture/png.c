/*
 * png.c - writes RGB rows as a PNG: each row filtered by its left and upper neighbours (Paeth), the lot
 * deflated with the fixed Huffman code and a one-probe match finder. Small rather than tight: heat maps and
 * screenshots shrink well, and no table or window outlives the call.
 *
 *     signature | IHDR | IDAT: zlib(filter(rows)) | IEND        each chunk {length, type, body, CRC}
 *
 * References: W3C PNG (third edition), RFC 1950, RFC 1951.
 */
#include "picture/png.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

enum { MIN_MATCH = 3, MAX_MATCH = 258, WINDOW = 32768, HASH_BITS = 14 };

uint32_t vlci_png_crc(const uint8_t *data, size_t bytes) {
    // Half a byte at a time: the 16 remainders of the polynomial 0xEDB88320.
    static const uint32_t step[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                      0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                      0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ step[crc & 15];
        crc = crc >> 4 ^ step[crc & 15];
    }
    return ~crc;
}

static uint32_t adler32(const uint8_t *data, size_t bytes) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < bytes; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

/* ---- deflate ------------------------------------------------------------------------------------------- */

typedef struct bits {
    uint8_t *out;
    size_t used;
    uint64_t hold;
    unsigned count;
} bits;

static void put(bits *b, uint32_t value, unsigned count) {
    b->hold |= (uint64_t)value << b->count;
    for (b->count += count; b->count >= 8; b->count -= 8, b->hold >>= 8) b->out[b->used++] = (uint8_t)b->hold;
}

/* Huffman codes go most significant bit first. */
static void put_code(bits *b, uint32_t code, unsigned count) {
    uint32_t reversed = 0;
    for (unsigned i = 0; i < count; i++) reversed |= (code >> i & 1) << (count - 1 - i);
    put(b, reversed, count);
}

/* A literal byte, the end (256) or a length symbol in the fixed code (RFC 1951, 3.2.6). */
static void put_symbol(bits *b, uint32_t symbol) {
    if (symbol < 144) {
        put_code(b, 0x30 + symbol, 8);
    } else if (symbol < 256) {
        put_code(b, 0x190 + symbol - 144, 9);
    } else if (symbol < 280) {
        put_code(b, symbol - 256, 7);
    } else {
        put_code(b, 0xC0 + symbol - 280, 8);
    }
}

/* `value` counted from 0 in a ladder whose steps double every `1 << fine` symbols (RFC 1951, 3.2.5). */
static uint32_t ladder(uint32_t value, unsigned fine, unsigned *extra, uint32_t *rest) {
    *extra = 0;
    while (value >> *extra >= 2u << fine) ++*extra;
    *rest = value & ((1u << *extra) - 1);
    return (*extra << fine) + (value >> *extra);
}

static void put_match(bits *b, uint32_t length, uint32_t distance) {
    unsigned extra;
    uint32_t rest;
    if (length == MAX_MATCH) {
        put_symbol(b, 285);
    } else {
        uint32_t symbol = 257 + ladder(length - MIN_MATCH, 2, &extra, &rest);
        put_symbol(b, symbol);
        put(b, rest, extra);
    }
    put_code(b, ladder(distance - 1, 1, &extra, &rest), 5);
    put(b, rest, extra);
}

static uint32_t hash3(const uint8_t *p) {
    uint32_t v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    return v * 2654435761u >> (32 - HASH_BITS);
}

/* Length of the common run of data[at..] and data[before..], up to MAX_MATCH. */
static uint32_t match_length(const uint8_t *data, size_t bytes, size_t before, size_t at) {
    uint32_t n = 0, limit = bytes - at < MAX_MATCH ? (uint32_t)(bytes - at) : MAX_MATCH;
    while (n < limit && data[before + n] == data[at + n]) n++;
    return n;
}

/* `last` holds, for each hash, one more than the last position seen; all 0 at the start. */
static void deflate(bits *b, const uint8_t *data, size_t bytes, size_t *last) {
    put(b, 3, 3); // one block, the last, fixed code
    for (size_t at = 0; at < bytes;) {
        uint32_t length = 0;
        size_t before = 0;
        if (bytes - at >= MIN_MATCH) {
            size_t *slot = last + hash3(data + at);
            before = *slot;
            *slot = at + 1;
            if (before && at + 1 - before <= WINDOW) length = match_length(data, bytes, before - 1, at);
        }
        if (length >= MIN_MATCH) {
            put_match(b, length, (uint32_t)(at + 1 - before));
            at += length;
        } else {
            put_symbol(b, data[at++]);
        }
    }
    put_symbol(b, 256);
    put(b, 0, (8 - b->count % 8) % 8);
}

/* ---- PNG ----------------------------------------------------------------------------------------------- */

static int paeth(int a, int b, int c) {
    int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

static void filter_rows(uint8_t *out, const uint8_t *rgb, size_t row, int height) {
    for (int y = 0; y < height; y++, rgb += row) {
        *out++ = 4;
        for (size_t i = 0; i < row; i++) {
            int left = i >= 3 ? rgb[i - 3] : 0;
            int up = y ? rgb[i - row] : 0;
            int corner = y && i >= 3 ? rgb[i - row - 3] : 0;
            *out++ = (uint8_t)(rgb[i] - paeth(left, up, corner));
        }
    }
}

static void store32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Closes a chunk whose body of `length` bytes already stands 8 bytes behind `p`; returns what follows it. */
static uint8_t *close_chunk(uint8_t *p, const char *type, size_t length) {
    store32(p, (uint32_t)length);
    memcpy(p + 4, type, 4);
    store32(p + 8 + length, vlci_png_crc(p + 4, length + 4));
    return p + 12 + length;
}

static size_t write_file(uint8_t *out, const uint8_t *raw, size_t bytes, int width, int height,
                         size_t *last) {
    memcpy(out, "\x89PNG\r\n\x1A\n", 8);
    uint8_t *p = out + 8;
    store32(p + 8, (uint32_t)width);
    store32(p + 12, (uint32_t)height);
    memcpy(p + 16, "\x08\x02\0\0\0", 5); // 8 bits, RGB, deflate, adaptive filters, not interlaced
    p = close_chunk(p, "IHDR", 13);
    bits b = {.out = p + 8};
    put(&b, 0x0178, 16); // zlib: deflate, 32 KiB window, check bits
    deflate(&b, raw, bytes, last);
    store32(b.out + b.used, adler32(raw, bytes));
    p = close_chunk(p, "IDAT", b.used + 4);
    p = close_chunk(p, "IEND", 0);
    return (size_t)(p - out);
}

uint8_t *vlci_png_encode(const uint8_t *rgb, int width, int height, size_t *bytes) {
    size_t row = (size_t)width * 3, raw_bytes = (row + 1) * (size_t)height;
    uint8_t *out = NULL, *raw = vlci_alloc(raw_bytes, 1);
    size_t *last = vlci_calloc((size_t)1 << HASH_BITS, sizeof *last);
    // The fixed code spends at most 9 bits on a byte, and a match less than that for each byte it stands for.
    if (raw && last) out = vlci_alloc(raw_bytes + raw_bytes / 8 + 128, 1);
    if (out) {
        filter_rows(raw, rgb, row, height);
        *bytes = write_file(out, raw, raw_bytes, width, height, last);
    }
    vlci_free(last);
    vlci_free(raw);
    return out;
}
