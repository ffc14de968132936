/*
 * container.c - walks JPEG segments, PNG chunks, GIF blocks and the BMP header from the first byte to the
 * last, so that the decoder behind only ever sees whole files of a known size.
 *
 *     JPEG  SOI, segments {FF, marker, length}, SOS + entropy-coded bytes, ..., EOI    (ITU-T T.81)
 *     PNG   signature, chunks {length, type, body, CRC}, ..., IEND                     (W3C PNG, 3rd ed.)
 *     GIF   screen, colour table, extensions, first image with its sub-blocks          (GIF89a)
 *     BMP   file header, DIB header, palette, rows                                     (Windows GDI)
 *
 * The decoder itself fills what a cut file lacks with zeros and says nothing; that is why this room exists.
 */
#include "picture/container.h"

#include <string.h>

#include "checkpoint/json.h"
#include "picture/exif.h"
#include "picture/heif.h"
#include "picture/png.h"
#include "picture/pnm.h"
#include "picture/webp.h"
#include "vlcache/image.h"

/* A progressive JPEG may ask for any number of passes over all its blocks; real ones have about ten. */
enum { MAX_SCANS = 100 };

typedef struct file {
    const uint8_t *data;
    size_t bytes;
    const char *name;
} file;

static uint32_t big16(const uint8_t *p) {
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t big32(const uint8_t *p) {
    return big16(p) << 16 | big16(p + 2);
}

static uint32_t little16(const uint8_t *p) {
    return (uint32_t)p[1] << 8 | p[0];
}

static uint32_t little32(const uint8_t *p) {
    return little16(p + 2) << 16 | little16(p);
}

static vlcache_status truncated(const file *f, const char *where) {
    return vlci_fail_file(VLCACHE_E_FORMAT, f->name, "it is truncated; copy it again",
                          "the file ends inside %s after %zu bytes", where, f->bytes);
}

static vlcache_status malformed(const file *f, const char *what) {
    return vlci_fail_file(VLCACHE_E_FORMAT, f->name, "save the picture again as an ordinary PNG or JPEG file",
                          "%s", what);
}

/* ---- JPEG ---------------------------------------------------------------------------------------------- */

/* What the scans so far have brought: of each component the coefficients (bits 0..63) that are exact. */
typedef struct jpeg_scans {
    int n;
    uint8_t id[4];
    uint64_t exact[4];
} jpeg_scans;

/* A scan header: components, then the first and last coefficient and how many of their bits are still to
 * come.
 */
static void jpeg_scan(const uint8_t *body, size_t length, int components, jpeg_scans *scans) {
    size_t n = length ? body[0] : 0;
    scans->n++;
    if (length < 2 * n + 4) return; /* the decoder refuses it */
    unsigned from = body[2 * n + 1], to = body[2 * n + 2], left = body[2 * n + 3] & 15;
    if (left || from > to || to > 63) return;
    uint64_t band = (to == 63 ? UINT64_MAX : ((uint64_t)1 << (to + 1)) - 1) & ~(((uint64_t)1 << from) - 1);
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < components; c++)
            if (scans->id[c] == body[1 + 2 * i]) scans->exact[c] |= band;
}

static bool jpeg_is_complete(const jpeg_scans *scans, int components) {
    bool all = scans->n > 0;
    for (int c = 0; c < components; c++) all = all && scans->exact[c] == UINT64_MAX;
    return all;
}

static vlcache_status jpeg_frame(const file *f, const uint8_t *body, size_t length, int marker,
                                 jpeg_scans *scans, vlci_container *out) {
    if (marker > 0xC2)
        return malformed(f, "lossless, hierarchical or arithmetic-coded JPEG is not supported");
    if (out->width) return malformed(f, "JPEG with two frame headers");
    if (length < 6) return malformed(f, "JPEG frame header is too short");
    if (body[0] != 8) return malformed(f, "JPEG with other than 8 bits a sample is not supported");
    out->height = big16(body + 1);
    out->width = big16(body + 3);
    if (!out->width || !out->height) return malformed(f, "JPEG frame header says width or height 0");
    if (body[5] != 1 && body[5] != 3 && body[5] != 4)
        return malformed(f, "JPEG has neither 1, 3 nor 4 colour components");
    out->components = body[5];
    for (size_t c = 0; c < body[5] && 8 + 3 * c < length; c++) scans->id[c] = body[6 + 3 * c];
    return VLCACHE_OK;
}

/* Offset of the next marker after the entropy-coded bytes at `at`, or the file's size. */
static size_t jpeg_skip_entropy(const file *f, size_t at) {
    while (at + 1 < f->bytes) {
        const uint8_t *mark = memchr(f->data + at, 0xFF, f->bytes - 1 - at);
        if (!mark) return f->bytes;
        at = (size_t)(mark - f->data);
        uint8_t next = mark[1];
        if (next == 0xFF) {
            at += 1;
        } else if (next == 0 || (next >= 0xD0 && next <= 0xD7)) {
            at += 2;
        } else {
            return at;
        }
    }
    return f->bytes;
}

/* Huffman tables: {class and slot, 16 counts, as many values}, at most 256 values each (T.81, B.2.4.2). The
 * decoder trusts the counts. */
static vlcache_status jpeg_huffman(const file *f, const uint8_t *body, size_t length) {
    while (length > 0) {
        size_t values = 0;
        for (size_t i = 1; i <= 16 && i < length; i++) values += body[i];
        if (length < 17 || values > 256 || values > length - 17)
            return malformed(f, "JPEG Huffman table does not fit its segment");
        body += 17 + values;
        length -= 17 + values;
    }
    return VLCACHE_OK;
}

static bool is_frame(int marker) {
    return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

/* One segment of known length; `at` stands on its length field. */
static vlcache_status jpeg_segment(const file *f, int marker, size_t *at, jpeg_scans *scans,
                                   vlci_container *out) {
    if (f->bytes - *at < 2) return truncated(f, "a JPEG segment");
    size_t length = big16(f->data + *at);
    if (length < 2) return malformed(f, "JPEG segment length is below 2");
    if (length > f->bytes - *at) return truncated(f, "a JPEG segment");
    const uint8_t *body = f->data + *at + 2;
    *at += length;
    length -= 2;
    if (marker == 0xC4) return jpeg_huffman(f, body, length);
    if (is_frame(marker)) return jpeg_frame(f, body, length, marker, scans, out);
    if (marker == 0xDA) jpeg_scan(body, length, out->components, scans);
    if (marker == 0xE1 && length > 6 && memcmp(body, "Exif\0\0", 6) == 0)
        out->orientation = vlci_exif_orientation(body + 6, length - 6);
    if (marker == 0xEE && length >= 12 && memcmp(body, "Adobe", 5) == 0) out->adobe = true;
    return VLCACHE_OK;
}

static vlcache_status jpeg_end(const file *f, const jpeg_scans *scans, const vlci_container *c) {
    if (!scans->n) return malformed(f, "JPEG ends without any picture data");
    if (c->components == 4 && !c->adobe)
        return malformed(f, "JPEG has four colour components and no Adobe marker to say which");
    return VLCACHE_OK;
}

static vlcache_status read_jpeg(const file *f, vlci_container *out) {
    vlcache_status status = VLCACHE_OK;
    jpeg_scans scans = {0};
    size_t at = 2;
    while (at + 1 < f->bytes) {
        if (f->data[at] != 0xFF) return malformed(f, "JPEG has bytes that belong to no segment");
        int marker = f->data[++at];
        if (marker == 0xFF) continue; // fill byte
        at++;
        if (marker == 0xD9) return jpeg_end(f, &scans, out);
        if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) continue;
        if ((status = jpeg_segment(f, marker, &at, &scans, out))) return status;
        if (marker != 0xDA) continue;
        if (!out->width) return malformed(f, "JPEG picture data precedes the frame header");
        if (scans.n > MAX_SCANS) return malformed(f, "JPEG has more than 100 scans");
        at = jpeg_skip_entropy(f, at);
        out->open_ended = at == f->bytes;
    }
    if (!out->open_ended || !jpeg_is_complete(&scans, out->components)) return truncated(f, "the JPEG data");
    return jpeg_end(f, &scans, out);
}

/* ---- PNG ----------------------------------------------------------------------------------------------- */

static vlcache_status png_chunk(const file *f, const uint8_t *type, size_t length, bool first,
                                vlci_container *out) {
    const uint8_t *body = type + 4;
    bool header = memcmp(type, "IHDR", 4) == 0;
    if (header != first) return malformed(f, "PNG does not have exactly one IHDR chunk, in front");
    if (header) {
        if (length != 13) return malformed(f, "PNG header chunk is not 13 bytes long");
        out->width = big32(body);
        out->height = big32(body + 4);
    }
    if (memcmp(type, "eXIf", 4) == 0) out->orientation = vlci_exif_orientation(body, length);
    return VLCACHE_OK;
}

static vlcache_status read_png(const file *f, vlci_container *out) {
    vlcache_status status = VLCACHE_OK;
    bool data = false;
    for (size_t at = 8; f->bytes - at >= 12;) {
        size_t length = big32(f->data + at);
        const uint8_t *type = f->data + at + 4;
        if (length > f->bytes - at - 12) return truncated(f, "a PNG chunk");
        if (vlci_png_crc(type, length + 4) != big32(type + 4 + length))
            return vlci_fail(VLCACHE_E_FORMAT,
                             "%s: PNG chunk at byte %zu has a wrong CRC: the file is damaged; copy it again",
                             f->name, at);
        // Apple's CgBI goes in front of IHDR and makes the rest another format.
        if ((status = png_chunk(f, type, length, at == 8, out))) return status;
        data = data || memcmp(type, "IDAT", 4) == 0;
        if (memcmp(type, "IEND", 4) == 0)
            return data ? VLCACHE_OK : malformed(f, "PNG ends without any picture data");
        at += length + 12;
    }
    return truncated(f, "the PNG chunks");
}

/* ---- GIF ----------------------------------------------------------------------------------------------- */

/* Steps over {length, bytes} sub-blocks to behind the closing zero; false at the end of the file. */
static bool gif_skip_blocks(const file *f, size_t *at) {
    while (*at < f->bytes) {
        size_t length = f->data[(*at)++];
        if (length == 0) return true;
        if (length > f->bytes - *at) return false;
        *at += length;
    }
    return false;
}

static size_t gif_table_bytes(uint8_t flags) {
    return flags & 0x80 ? (size_t)6 << (flags & 7) : 0;
}

static vlcache_status read_gif(const file *f, vlci_container *out) {
    if (f->bytes < 13) return truncated(f, "the GIF header");
    out->width = little16(f->data + 6);
    out->height = little16(f->data + 8);
    size_t at = 13 + gif_table_bytes(f->data[10]);
    while (at < f->bytes) {
        uint8_t tag = f->data[at++];
        if (tag == 0x3B) return malformed(f, "GIF has no frame");
        if (tag == 0x21) {
            at++;
            if (!gif_skip_blocks(f, &at)) break;
            continue;
        }
        if (tag != 0x2C) return malformed(f, "GIF has an unknown block");
        if (f->bytes - at < 10) break;
        if (!little16(f->data + at + 4) || !little16(f->data + at + 6))
            return malformed(f, "GIF's first frame has width or height 0");
        at += 9 + gif_table_bytes(f->data[at + 8]) + 1; // descriptor, local colours, LZW code size
        return gif_skip_blocks(f, &at) ? VLCACHE_OK : truncated(f, "the GIF's first frame");
    }
    return truncated(f, "the GIF blocks");
}

/* ---- BMP ----------------------------------------------------------------------------------------------- */

static vlcache_status read_bmp(const file *f, vlci_container *out) {
    if (f->bytes < 30) return truncated(f, "the BMP header");
    uint32_t pixels = little32(f->data + 10), header = little32(f->data + 14), compression = 0;
    if (header != 12 && header < 40) return malformed(f, "BMP has an unknown header");
    if (header > f->bytes - 14) return truncated(f, "the BMP header");
    const uint8_t *dib = f->data + 14;
    out->width = header == 12 ? little16(dib + 4) : little32(dib + 4);
    out->height = header == 12 ? little16(dib + 6) : little32(dib + 8);
    if (header > 12 && out->height > INT32_MAX)
        out->height = 0u - out->height; // negative: rows run downwards
    uint32_t bits = header == 12 ? little16(dib + 10) : little16(dib + 14);
    if (header > 12) compression = little32(dib + 16);
    if (compression != 0 && compression != 3) return malformed(f, "compressed BMP is not supported");
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32)
        return malformed(f, "BMP bits a pixel are none of 1, 4, 8, 16, 24, 32");
    if (pixels < 14 + header || pixels > f->bytes)
        return malformed(f, "BMP pixel offset lies outside the file");
    if (out->width > VLCI_IMAGE_MAX_SIDE || out->height > VLCI_IMAGE_MAX_SIDE)
        return VLCACHE_OK; // refused next
    uint64_t row = ((uint64_t)out->width * bits + 31) / 32 * 4;
    if (row * out->height > f->bytes - pixels) return truncated(f, "the BMP rows");
    return VLCACHE_OK;
}

/* ---- others -------------------------------------------------------------------------------------------- */

/* Formats that are none of ours, by name; NULL: unknown. */
static const char *foreign_kind(const uint8_t *data, size_t bytes) {
    static const struct {
        const char *kind, *magic;
        size_t at, bytes;
    } kinds[] = {
        {"TIFF", "II*\0", 0, 4},
        {"TIFF", "MM\0*", 0, 4},
        {"BigTIFF", "II+\0", 0, 4},
        {"BigTIFF", "MM\0+", 0, 4},
        {"JPEG XL", "\xFF\x0A", 0, 2},
        {"JPEG XL", "JXL \r\n", 4, 6},
        {"JPEG 2000", "jP  \r\n", 4, 6},
        {"JPEG 2000", "\xFF\x4F\xFF\x51", 0, 4},
        {"Photoshop", "8BPS", 0, 4},
        {"OpenEXR", "v/1\x01", 0, 4},
        {"Radiance HDR", "#?RADIANCE", 0, 10},
        {"icon", "\0\0\1\0", 0, 4},
        {"QOI", "qoif", 0, 4},
        {"SVG", "<svg", 0, 4},
        {"PDF", "%PDF-", 0, 5},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (bytes >= kinds[i].at + kinds[i].bytes &&
            memcmp(data + kinds[i].at, kinds[i].magic, kinds[i].bytes) == 0)
            return kinds[i].kind;
    return NULL;
}

static vlcache_status refuse_foreign(const file *f) {
    static const char again[] = "save the picture as PNG or JPEG";
    const char *kind = foreign_kind(f->data, f->bytes);
    if (kind) return vlci_fail_file(VLCACHE_E_UNSUPPORTED, f->name, again, "%s is not read", kind);
    if (vlci_is_lfs_pointer(f->data, f->bytes)) return vlci_fail_lfs_pointer(f->name);
    return vlci_fail_file(VLCACHE_E_FORMAT, f->name, again,
                          "not a picture that is read here (%s; told by content, not by name)",
                          vlcache_image_formats());
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static vlcache_status check_size(const file *f, const vlci_container *c) {
    uint64_t pixels = (uint64_t)c->width * c->height;
    if (pixels == 0)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: header says %u x %u pixels: nothing to see", f->name,
                         c->width, c->height);
    if (c->width > VLCI_IMAGE_MAX_SIDE || c->height > VLCI_IMAGE_MAX_SIDE ||
        pixels > VLCACHE_IMAGE_MAX_PIXELS)
        return vlci_fail(
            VLCACHE_E_FORMAT,
            "%s: header says %u x %u pixels, at most %u a side and %u in all are read: scale it down",
            f->name, c->width, c->height, VLCI_IMAGE_MAX_SIDE, VLCACHE_IMAGE_MAX_PIXELS);
    return VLCACHE_OK;
}

static bool starts(const file *f, const char *magic, size_t bytes) {
    return f->bytes >= bytes && memcmp(f->data, magic, bytes) == 0;
}

vlcache_status vlci_container_read(const uint8_t *data, size_t bytes, const char *name, vlci_container *out) {
    file f = {data, bytes, name};
    vlcache_status status;
    *out = (vlci_container){.orientation = 1};
    if (bytes == 0) return vlci_fail(VLCACHE_E_FORMAT, "%s: the file is empty", name);
    if (starts(&f, "\xFF\xD8\xFF", 3)) {
        out->kind = VLCI_CONTAINER_JPEG;
        status = read_jpeg(&f, out);
    } else if (starts(&f, "\x89PNG\r\n\x1A\n", 8)) {
        out->kind = VLCI_CONTAINER_PNG;
        status = read_png(&f, out);
    } else if (starts(&f, "GIF87a", 6) || starts(&f, "GIF89a", 6)) {
        out->kind = VLCI_CONTAINER_GIF;
        status = read_gif(&f, out);
    } else if (starts(&f, "BM", 2)) {
        out->kind = VLCI_CONTAINER_BMP;
        status = read_bmp(&f, out);
    } else if (bytes > 2 && data[0] == 'P' && data[1] >= '1' && data[1] <= '6') {
        status = vlci_pnm_header(data, bytes, name, out);
    } else if (bytes >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0) {
        status = vlci_webp_header(data, bytes, name, out);
    } else if (vlci_heif_kind(data, bytes)) {
        status = vlci_heif_header(data, bytes, name, out);
    } else {
        status = refuse_foreign(&f);
    }
    return status ? status : check_size(&f, out);
}
