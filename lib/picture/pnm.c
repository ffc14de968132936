/*
 * pnm.c - the Netpbm family: "P5 width height maxval" and samples, in text (P1, P2, P3) or in bytes (P4, P5,
 * P6; two bytes a sample, most significant first, above maxval 255).
 *
 *     rgb = round(255 * sample / maxval);    bitmaps: 1 is black
 */
#include "picture/pnm.h"

typedef struct reader {
    const uint8_t *file;
    size_t bytes, at;
} reader;

static bool is_space(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Skips white space and "# ..." comments. */
static void skip_blank(reader *r) {
    while (r->at < r->bytes) {
        uint8_t c = r->file[r->at];
        if (c == '#') {
            while (r->at < r->bytes && r->file[r->at] != '\n' && r->file[r->at] != '\r') r->at++;
        } else if (is_space(c)) {
            r->at++;
        } else {
            return;
        }
    }
}

/* A decimal number of at most `limit`; false for none, or a larger one. */
static bool read_number(reader *r, uint32_t limit, uint32_t *out) {
    skip_blank(r);
    uint64_t value = 0;
    size_t start = r->at;
    for (; r->at < r->bytes && r->file[r->at] >= '0' && r->file[r->at] <= '9'; r->at++) {
        value = value * 10 + (r->file[r->at] - '0');
        if (value > limit) return false;
    }
    *out = (uint32_t)value;
    return r->at > start;
}

vlcache_status vlci_pnm_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out) {
    reader r = {file, bytes, 2};
    out->kind = VLCI_CONTAINER_PNM;
    out->form = (char)file[1];
    out->maxval = 1;
    if (!read_number(&r, UINT32_MAX, &out->width) || !read_number(&r, UINT32_MAX, &out->height))
        return vlci_fail(VLCACHE_E_FORMAT, "%s: PNM header: width and height are not two decimal numbers",
                         name);
    bool bitmap = out->form == '1' || out->form == '4';
    if (!bitmap && (!read_number(&r, 65535, &out->maxval) || out->maxval == 0))
        return vlci_fail(VLCACHE_E_FORMAT, "%s: PNM header: maxval is not a number in 1..65535", name);
    if (r.at >= bytes || !is_space(file[r.at]))
        return vlci_fail(VLCACHE_E_FORMAT, "%s: PNM header: no white space before the samples", name);
    out->pixels_at = r.at + 1;
    return VLCACHE_OK;
}

static uint8_t scale(uint32_t sample, uint32_t maxval) {
    return (uint8_t)((sample * 255u + maxval / 2) / maxval);
}

/* One sample of a text form; bitmaps may write their digits without white space. */
static bool read_text(reader *r, const vlci_container *header, uint8_t *out) {
    uint32_t value;
    if (header->form == '1') {
        skip_blank(r);
        if (r->at >= r->bytes || (r->file[r->at] != '0' && r->file[r->at] != '1')) return false;
        *out = r->file[r->at++] == '0' ? 255 : 0;
        return true;
    }
    if (!read_number(r, header->maxval, &value)) return false;
    *out = scale(value, header->maxval);
    return true;
}

/* One sample of P5 or P6; values above maxval, which the format forbids, count as maxval. */
static bool read_binary(reader *r, const vlci_container *header, uint8_t *out) {
    size_t size = header->maxval > 255 ? 2 : 1;
    if (r->bytes - r->at < size) return false;
    const uint8_t *p = r->file + r->at;
    uint32_t value = size == 2 ? (uint32_t)p[0] << 8 | p[1] : p[0];
    r->at += size;
    *out = scale(value < header->maxval ? value : header->maxval, header->maxval);
    return true;
}

/* One pixel of P4 in column x: eight a byte, most significant first, each row from a new byte. */
static bool read_bit(reader *r, uint32_t x, uint32_t width, uint8_t *out) {
    if (r->at >= r->bytes) return false;
    *out = r->file[r->at] >> (7 - x % 8) & 1 ? 0 : 255;
    if (x % 8 == 7 || x == width - 1) r->at++;
    return true;
}

vlcache_status vlci_pnm_decode(const uint8_t *file, size_t bytes, const char *name,
                               const vlci_container *header, uint8_t *rgb) {
    reader r = {file, bytes, header->pixels_at};
    int channels = header->form == '3' || header->form == '6' ? 3 : 1;
    bool text = header->form <= '3';
    for (uint32_t y = 0; y < header->height; y++) {
        for (uint32_t x = 0; x < header->width; x++, rgb += 3) {
            for (int c = 0; c < channels; c++) {
                bool good = text                  ? read_text(&r, header, rgb + c)
                            : header->form == '4' ? read_bit(&r, x, header->width, rgb)
                                                  : read_binary(&r, header, rgb + c);
                if (!good)
                    return vlci_fail(VLCACHE_E_FORMAT,
                                     "%s: PNM samples end or are malformed at row %u of %u: the file is "
                                     "truncated or damaged",
                                     name, y, header->height);
            }
            if (channels == 1) rgb[1] = rgb[2] = rgb[0];
        }
    }
    return VLCACHE_OK;
}
