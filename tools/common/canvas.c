/*
 * canvas.c - rectangles, scaled pictures, and text in the letters of stb_easy_font.
 */
#include "common/canvas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <stb/stb_easy_font.h>

enum { MAX_TEXT = 96, QUAD_BYTES = 64, QUADS_A_LETTER = 20 };

bool canvas_make(canvas *c, int width, int height, colour ground) {
    *c = (canvas){width, height, malloc((size_t)width * (size_t)height * 3)};
    if (c->rgb) canvas_fill(c, 0, 0, width, height, ground);
    return c->rgb != NULL;
}

void canvas_release(canvas *c) {
    free(c->rgb);
    *c = (canvas){0, 0, NULL};
}

void canvas_fill(canvas *c, int x, int y, int w, int h, colour ink) {
    int x1 = x + w < c->width ? x + w : c->width, y1 = y + h < c->height ? y + h : c->height;
    for (int row = y < 0 ? 0 : y; row < y1; row++)
        for (int column = x < 0 ? 0 : x; column < x1; column++) {
            uint8_t *at = canvas_at(c, column, row);
            at[0] = ink.r;
            at[1] = ink.g;
            at[2] = ink.b;
        }
}

/* Where pixel `i` of `to` looks in `from` pixels: the left one of two, and the share of the right one. */
static int source(int i, int from, int to, float *share) {
    float at = ((float)i + 0.5f) * (float)from / (float)to - 0.5f;
    if (at < 0) at = 0;
    if (at > (float)(from - 1)) at = (float)(from - 1);
    int left = (int)at < from - 1 ? (int)at : from > 1 ? from - 2 : 0;
    *share = at - (float)left;
    return left;
}

static void draw_bilinear(canvas *c, int x, int y, int w, int h, const uint8_t *rgb, int width, int height) {
    size_t right = width > 1 ? 3 : 0, below = height > 1 ? (size_t)width * 3 : 0;
    for (int row = 0; row < h; row++) {
        float v, u;
        int top = source(row, height, h, &v);
        for (int column = 0; column < w; column++) {
            int left = source(column, width, w, &u);
            const uint8_t *p = rgb + ((size_t)top * (size_t)width + (size_t)left) * 3;
            uint8_t *out = canvas_at(c, x + column, y + row);
            for (int k = 0; k < 3; k++) {
                float upper = (float)p[k] + u * (float)(p[k + right] - p[k]);
                float lower = (float)p[k + below] + u * (float)(p[k + below + right] - p[k + below]);
                out[k] = (uint8_t)lrintf(upper + v * (lower - upper));
            }
        }
    }
}

/* New memory: a picture of half the sides, each pixel the mean of four; a last odd row or column is left out.
 */
static uint8_t *halve(const uint8_t *rgb, int width, int height) {
    size_t row = (size_t)width * 3, w = (size_t)width / 2, h = (size_t)height / 2;
    uint8_t *half = malloc(w * h * 3);
    for (size_t y = 0; y < h && half; y++)
        for (size_t i = 0; i < w * 3; i++) {
            const uint8_t *p = rgb + 2 * y * row + i / 3 * 6 + i % 3;
            half[y * w * 3 + i] = (uint8_t)((p[0] + p[3] + p[row] + p[row + 3] + 2) / 4);
        }
    return half;
}

/* Bilinear sampling skips pixels where it shrinks by more than two: means come first. */
bool canvas_picture(canvas *c, int x, int y, int w, int h, const uint8_t *rgb, int width, int height) {
    uint8_t *owned = NULL;
    while (width >= 2 * w && height >= 2 * h) {
        uint8_t *half = halve(rgb, width, height);
        free(owned);
        if (!half) return false;
        rgb = owned = half;
        width /= 2;
        height /= 2;
    }
    draw_bilinear(c, x, y, w, h, rgb, width, height);
    free(owned);
    return true;
}

/* The letters come as axis-aligned rectangles, four vertices of 16 bytes each: x and y of the first are the
 * upper left corner, of the third the lower right one. */
int canvas_text(canvas *c, int x, int y, int size, const char *text, colour ink) {
    char letters[MAX_TEXT];
    _Alignas(16) char quads[MAX_TEXT * QUADS_A_LETTER * QUAD_BYTES];
    size_t length = strnlen(text, MAX_TEXT - 1);
    memcpy(letters, text, length);
    letters[length] = 0;
    int n = stb_easy_font_print(0, 0, letters, NULL, quads, sizeof quads);
    for (int i = 0; i < n; i++) {
        float corner[2], opposite[2];
        memcpy(corner, quads + (size_t)i * QUAD_BYTES, sizeof corner);
        memcpy(opposite, quads + (size_t)i * QUAD_BYTES + 32, sizeof opposite);
        canvas_fill(c, x + (int)corner[0] * size, y + (int)corner[1] * size,
                    (int)(opposite[0] - corner[0]) * size, (int)(opposite[1] - corner[1]) * size, ink);
    }
    return canvas_text_width(size, letters);
}

int canvas_text_width(int size, const char *text) {
    char letters[MAX_TEXT];
    size_t length = strnlen(text, MAX_TEXT - 1);
    memcpy(letters, text, length);
    letters[length] = 0;
    return stb_easy_font_width(letters) * size;
}
