/*
 * webp.c - WebP through libwebp.
 *
 *     "RIFF" size "WEBP", chunks {type, length, body, a byte to make it even}      (little-endian)
 */
#include "picture/webp.h"

#ifdef VLCI_WITH_WEBP
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "core/alloc.h"
#include "picture/exif.h"

static uint32_t little32(const uint8_t *p) {
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static vlcache_status truncated(const char *name, size_t bytes) {
    return vlci_fail(
        VLCACHE_E_FORMAT,
        "%s: the file ends inside the WebP chunks after %zu bytes: it is truncated; copy it again", name,
        bytes);
}

/* Chunks up to the end that RIFF names, which must be there. */
static vlcache_status walk(const uint8_t *file, size_t bytes, const char *name, vlci_container *out) {
    if (bytes < 12 || little32(file + 4) > bytes - 8) return truncated(name, bytes);
    size_t end = (size_t)little32(file + 4) + 8;
    for (size_t at = 12; at + 8 <= end;) {
        size_t length = little32(file + at + 4);
        const uint8_t *body = file + at + 8;
        if (length > end - at - 8) return truncated(name, bytes);
        if (memcmp(file + at, "EXIF", 4) == 0) {
            size_t head = length > 6 && memcmp(body, "Exif\0\0", 6) == 0 ? 6 : 0;
            out->orientation = vlci_exif_orientation(body + head, length - head);
        }
        at += 8 + length + (length & 1);
    }
    return VLCACHE_OK;
}

static vlcache_status failure(const char *name, VP8StatusCode code) {
    static const char *const why[] = {
        "",          "out of memory", "invalid parameter", "damaged data", "unsupported feature",
        "suspended", "aborted",       "data are missing"};
    if (code == VP8_STATUS_OUT_OF_MEMORY) return vlci_fail_memory("picture's decoding");
    return vlci_fail(
        VLCACHE_E_FORMAT,
        "%s: WebP cannot be decoded (%s): save the picture again as an ordinary PNG or JPEG file", name,
        (size_t)code < sizeof why / sizeof *why ? why[code] : "unknown error");
}

vlcache_status vlci_webp_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out) {
    WebPBitstreamFeatures features;
    out->kind = VLCI_CONTAINER_WEBP;
    vlcache_status status = walk(file, bytes, name, out);
    if (status) return status;
    VP8StatusCode code = WebPGetFeatures(file, bytes, &features);
    if (code) return failure(name, code);
    out->width = (uint32_t)features.width;
    out->height = (uint32_t)features.height;
    out->alpha = features.has_alpha;
    out->animated = features.has_animation;
    return VLCACHE_OK;
}

static vlcache_status decode_first_frame(const uint8_t *file, size_t bytes, const char *name,
                                         const vlci_container *header, uint8_t *rgb) {
    WebPData data = {file, bytes};
    WebPAnimDecoderOptions options;
    uint8_t *rgba = NULL;
    int milliseconds = 0;
    if (!WebPAnimDecoderOptionsInit(&options))
        return vlci_fail(VLCACHE_E_INTERNAL, "libwebp: another version");
    options.color_mode = MODE_RGBA;
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, &options);
    vlcache_status status = VLCACHE_OK;
    if (!decoder || !WebPAnimDecoderGetNext(decoder, &rgba, &milliseconds))
        status = failure(name, VP8_STATUS_BITSTREAM_ERROR);
    else
        vlci_compose_on_white(rgba, (size_t)header->width * header->height, rgb);
    WebPAnimDecoderDelete(decoder);
    return status;
}

vlcache_status vlci_webp_decode(const uint8_t *file, size_t bytes, const char *name,
                                const vlci_container *header, uint8_t *rgb) {
    WebPDecoderConfig config;
    size_t pixels = (size_t)header->width * header->height, channels = header->alpha ? 4 : 3;
    if (header->animated) return decode_first_frame(file, bytes, name, header, rgb);
    if (!WebPInitDecoderConfig(&config)) return vlci_fail(VLCACHE_E_INTERNAL, "libwebp: another version");
    uint8_t *rgba = header->alpha ? vlci_alloc(pixels, 4) : NULL;
    if (header->alpha && !rgba) return vlci_fail_memory("picture's decoding");
    config.output.colorspace = header->alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = header->alpha ? rgba : rgb;
    config.output.u.RGBA.stride = (int)(header->width * channels);
    config.output.u.RGBA.size = pixels * channels;
    VP8StatusCode code = WebPDecode(file, bytes, &config);
    if (!code && header->alpha) vlci_compose_on_white(rgba, pixels, rgb);
    WebPFreeDecBuffer(&config.output);
    vlci_free(rgba);
    return code ? failure(name, code) : VLCACHE_OK;
}
#else
vlcache_status vlci_webp_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out) {
    (void)file, (void)bytes, (void)out;
    return vlci_fail(
        VLCACHE_E_UNSUPPORTED,
        "%s: is a WebP picture, which this build does not read: build with libwebp-dev installed, or "
        "save it as PNG or JPEG",
        name);
}

vlcache_status vlci_webp_decode(const uint8_t *file, size_t bytes, const char *name,
                                const vlci_container *header, uint8_t *rgb) {
    (void)header, (void)rgb;
    return vlci_webp_header(file, bytes, name, NULL);
}
#endif
