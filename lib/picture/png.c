/*
 * png.c - rows, each filtered the way that leaves the smallest numbers, deflated with the fixed Huffman code.
 *
 *     signature | IHDR | IDAT: zlib(filter(rows)) | IEND        each chunk {length, type, body, CRC}
 *
 * All memory is asked for before anything is written. References: W3C PNG (third edition), RFC 1950, RFC
 * 1951.
 */
#include "picture/png.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

enum { MIN_MATCH = 3, MAX_MATCH = 258, WINDOW = 32768, HASH_BITS = 15, DEPTH = 24, FILTERS = 5 };

/* Where in the data three bytes stood before: `first` of each hash, `before` of each place in the window; one
 * more than the place, 0: none. */
typedef struct places {
    uint32_t first[1 << HASH_BITS], before[WINDOW];
} places;

typedef struct bits {
    uint8_t *out;
    size_t used;
    uint64_t hold;
    unsigned count;
} bits;

/* ---- deflate ------------------------------------------------------------------------------------------ */

static void put(bits *b, uint32_t value, unsigned count) {
    b->hold |= (uint64_t)value << b->count;
    for (b->count += count; b->count >= 8; b->count -= 8, b->hold >>= 8) b->out[b->used++] = (uint8_t)b->hold;
}

/* Huffman codes go most significant bit first. */
static void put_code(bits *b, uint32_t code, unsigned count) {
    uint32_t reversed = 0;
    for (unsigned i = 0; i < count; i++) reversed |= (code >> i & 1u) << (count - 1 - i);
    put(b, reversed, count);
}

/* A byte, the end (256) or a length (RFC 1951, 3.2.6). */
static void put_symbol(bits *b, uint32_t symbol) {
    if (symbol < 144)
        put_code(b, 0x30 + symbol, 8);
    else if (symbol < 256)
        put_code(b, 0x190 + symbol - 144, 9);
    else if (symbol < 280)
        put_code(b, symbol - 256, 7);
    else
        put_code(b, 0xc0 + symbol - 280, 8);
}

/* Steps of a ladder that double every 1 << fine of them: which step, and what is left (RFC 1951, 3.2.5). */
static uint32_t step_of(uint32_t value, unsigned fine, unsigned *extra, uint32_t *rest) {
    *extra = 0;
    while (value >> *extra >= 2u << fine) ++*extra;
    *rest = value & ((1u << *extra) - 1);
    return (*extra << fine) + (value >> *extra);
}

static void put_match(bits *b, uint32_t length, uint32_t distance) {
    unsigned extra = 0;
    uint32_t rest = 0;
    put_symbol(b, length == MAX_MATCH ? 285 : 257 + step_of(length - MIN_MATCH, 2, &extra, &rest));
    if (length < MAX_MATCH) put(b, rest, extra);
    put_code(b, step_of(distance - 1, 1, &extra, &rest), 5);
    put(b, rest, extra);
}

static uint32_t hash_of(const uint8_t *p) {
    return ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16) * 2654435761u >> (32 - HASH_BITS);
}

static void remember(places *p, const uint8_t *data, size_t at) {
    uint32_t *first = &p->first[hash_of(data + at)];
    p->before[at % WINDOW] = *first;
    *first = (uint32_t)at + 1;
}

/* The longest run before `at` that begins like what stands there; 0: none of three bytes. */
static uint32_t find_match(const places *p, const uint8_t *data, size_t bytes, size_t at,
                           uint32_t *distance) {
    uint32_t best = 0, limit = bytes - at < MAX_MATCH ? (uint32_t)(bytes - at) : MAX_MATCH;
    if (limit < MIN_MATCH) return 0;
    uint32_t place = p->first[hash_of(data + at)];
    for (int i = 0; i < DEPTH && place && at + 1 - place <= WINDOW && best < limit; i++) {
        const uint8_t *before = data + place - 1;
        uint32_t n = 0;
        while (n < limit && before[n] == data[at + n]) n++;
        if (n > best) {
            best = n;
            *distance = (uint32_t)(at + 1 - place);
        }
        uint32_t next = p->before[(place - 1) % WINDOW];
        place = next < place ? next : 0; /* a place that was overwritten since */
    }
    return best >= MIN_MATCH ? best : 0;
}

static void deflate(bits *b, const uint8_t *data, size_t bytes, places *p) {
    put(b, 3, 3); /* one block, the last, fixed code */
    for (size_t at = 0; at < bytes;) {
        uint32_t distance = 0, length = find_match(p, data, bytes, at, &distance);
        if (length)
            put_match(b, length, distance);
        else
            put_symbol(b, data[at]);
        for (size_t end = at + (length ? length : 1); at < end; at++)
            if (bytes - at >= MIN_MATCH) remember(p, data, at);
    }
    put_symbol(b, 256);
    put(b, 0, (8 - b->count % 8) % 8);
}

/* ---- rows --------------------------------------------------------------------------------------------- */

static int paeth(int a, int b, int c) {
    int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

static int foretold(int filter, int left, int up, int corner) {
    const int by[FILTERS] = {0, left, up, (left + up) / 2, paeth(left, up, corner)};
    return by[filter];
}

/* Writes the row filtered; how far its bytes are from 0. */
static size_t filter_row(uint8_t *out, const uint8_t *row, const uint8_t *above, size_t bytes, int filter) {
    size_t sum = 0;
    *out++ = (uint8_t)filter;
    for (size_t i = 0; i < bytes; i++) {
        int left = i >= 3 ? row[i - 3] : 0, up = above ? above[i] : 0;
        int corner = above && i >= 3 ? above[i - 3] : 0;
        out[i] = (uint8_t)(row[i] - foretold(filter, left, up, corner));
        sum += out[i] < 128 ? out[i] : 256u - out[i];
    }
    return sum;
}

static void filter_rows(uint8_t *out, const uint8_t *rgb, size_t row, int height) {
    for (int y = 0; y < height; y++, rgb += row, out += row + 1) {
        const uint8_t *above = y ? rgb - row : NULL;
        size_t least = SIZE_MAX;
        int best = 0;
        for (int filter = 0; filter < FILTERS; filter++) {
            size_t sum = filter_row(out, rgb, above, row, filter);
            if (sum < least) best = filter;
            if (sum < least) least = sum;
        }
        filter_row(out, rgb, above, row, best);
    }
}

/* ---- the file ----------------------------------------------------------------------------------------- */

uint32_t vlci_png_crc(const uint8_t *data, size_t bytes) {
    /* Half a byte at a time: the 16 remainders of the polynomial 0xEDB88320. */
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

static uint32_t adler32_of(const uint8_t *data, size_t bytes) {
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < bytes; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void store32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Closes a chunk whose body stands 8 bytes behind `p` already; returns what follows it. */
static uint8_t *close_chunk(uint8_t *p, const char *type, size_t length) {
    store32(p, (uint32_t)length);
    memcpy(p + 4, type, 4);
    store32(p + 8 + length, vlci_png_crc(p + 4, length + 4));
    return p + 12 + length;
}

static size_t write_file(uint8_t *out, const uint8_t *rows, size_t bytes, int width, int height, places *p) {
    memcpy(out, "\x89PNG\r\n\x1a\n", 8);
    uint8_t *chunk = out + 8;
    store32(chunk + 8, (uint32_t)width);
    store32(chunk + 12, (uint32_t)height);
    memcpy(chunk + 16, "\x08\x02\0\0\0", 5); /* 8 bits, RGB, deflate, a filter for each row, not interlaced */
    chunk = close_chunk(chunk, "IHDR", 13);
    bits b = {.out = chunk + 8};
    put(&b, 0x0178, 16); /* zlib: deflate, a window of 32 KiB, check bits */
    deflate(&b, rows, bytes, p);
    store32(b.out + b.used, adler32_of(rows, bytes));
    chunk = close_chunk(chunk, "IDAT", b.used + 4);
    return (size_t)(close_chunk(chunk, "IEND", 0) - out);
}

uint8_t *vlci_png_encode(const uint8_t *rgb, int width, int height, size_t *bytes) {
    size_t row = (size_t)width * 3, all = (row + 1) * (size_t)height;
    uint8_t *rows = vlci_alloc(all, 1), *out = NULL;
    places *p = vlci_calloc(1, sizeof *p);
    if (rows && p) out = vlci_alloc(all + all / 8 + 128, 1); /* at most 9 bits for a byte */
    if (out) {
        filter_rows(rows, rgb, row, height);
        *bytes = write_file(out, rows, all, width, height, p);
    }
    vlci_free(rows);
    vlci_free(p);
    return out;
}
