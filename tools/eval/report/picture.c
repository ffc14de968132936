/*
 * picture.c - pixels -> PNG, JPEG -> the shorter one -> base64. Pages of few colours are shorter as PNG,
 * heat maps as JPEG.
 */
#include "eval/report/picture.h"

#include <stdlib.h>
#include <string.h>

#include "eval/report/jpeg.h"
#include "vlcache/image.h"

enum { JPEG_QUALITY = 82 };

static char *base64(const char *head, const unsigned char *bytes, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc(strlen(head) + (n + 2) / 3 * 4 + 1), *at = text;
    if (!text) return NULL;
    at = stpcpy(at, head);
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t three = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0u) |
                         (left > 2 ? bytes[i + 2] : 0u);
        *at++ = digits[three >> 18];
        *at++ = digits[three >> 12 & 63];
        *at++ = left > 1 ? digits[three >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[three & 63] : '=';
    }
    *at = 0;
    return text;
}

char *picture_uri(const uint8_t *rgb, int width, int height) {
    size_t png_bytes = 0, jpeg_bytes = 0;
    uint8_t *png = NULL;
    vlcache_image_encode_png(rgb, width, height, &png, &png_bytes);
    uint8_t *jpeg = jpeg_encode(rgb, width, height, JPEG_QUALITY, &jpeg_bytes);
    char *uri = NULL; /* of both or of none: the same pictures always give the same bytes */
    if (png && jpeg && png_bytes <= jpeg_bytes)
        uri = base64("data:image/png;base64,", png, png_bytes);
    else if (png && jpeg)
        uri = base64("data:image/jpeg;base64,", jpeg, jpeg_bytes);
    vlcache_free(png);
    free(jpeg);
    return uri;
}
