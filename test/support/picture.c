/*
 * picture.c - golden files and the picture drawn by rule.
 */
#include "support/picture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t *golden_read(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s: missing", path);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(*bytes + 1);
    ck_assert_uint_eq(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

int32_t golden_take(const uint8_t **p) {
    int32_t value;
    memcpy(&value, *p, 4);
    *p += 4;
    return value;
}

vlcache_image *golden_picture(int width, int height) {
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3), *p = rgb;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            for (int c = 0; c < 3; c++) {
                uint32_t h = (uint32_t)x * 73856093u ^ (uint32_t)y * 19349663u ^ (uint32_t)c * 83492791u;
                h = (h ^ h >> 13) * 1274126177u;
                *p++ = (uint8_t)((x / 8 + y / 8) & 1 ? h >> 16 : (uint32_t)(x * 5 + y * 3 + c * 40));
            }
        }
    }
    vlcache_image *image = NULL;
    ck_assert_int_eq(vlcache_image_from_rgb(rgb, width, height, 0, &image), VLCACHE_OK);
    free(rgb);
    return image;
}
