/*
 * picture.c - pixels -> PNG, JPEG -> the shorter one -> base64. Pages of few colours are shorter as PNG,
 * heat maps as JPEG.
 */
#include "eval/report/picture.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

enum { JPEG_QUALITY = 82 };

/* Bytes that grow. */
typedef struct pile {
    unsigned char *bytes;
    size_t n, room;
    bool failed;
} pile;

static void add(void *context, void *data, int size) {
    pile *p = context;
    size_t needed = p->n + (size_t)size;
    if (needed > p->room) {
        unsigned char *more = realloc(p->bytes, 2 * needed);
        p->failed = p->failed || !more;
        if (!more) return;
        p->bytes = more;
        p->room = 2 * needed;
    }
    memcpy(p->bytes + p->n, data, (size_t)size);
    p->n = needed;
}

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
    pile png = {0}, jpeg = {0};
    char *uri = NULL;
    bool have_png = stbi_write_png_to_func(add, &png, width, height, 3, rgb, 3 * width) && !png.failed;
    bool have_jpeg = stbi_write_jpg_to_func(add, &jpeg, width, height, 3, rgb, JPEG_QUALITY) && !jpeg.failed;
    if (have_png && (!have_jpeg || png.n <= jpeg.n))
        uri = base64("data:image/png;base64,", png.bytes, png.n);
    else if (have_jpeg)
        uri = base64("data:image/jpeg;base64,", jpeg.bytes, jpeg.n);
    free(png.bytes);
    free(jpeg.bytes);
    return uri;
}
