/**
 * canvas.h - a small RGB picture to draw on.
 */
#ifndef COMMON_CANVAS_H
#define COMMON_CANVAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct colour {
    uint8_t r, g, b;
} colour;

typedef struct canvas {
    int width, height;
    uint8_t *rgb; /* tightly packed rows */
} canvas;

/** All of one colour. False when memory runs out; canvas_release() in any case. */
bool canvas_make(canvas *c, int width, int height, colour ground);

void canvas_release(canvas *c);

/** Draws `rgb` (width x height) scaled to w x h, its upper left corner at (x, y). False when memory runs out.
 */
bool canvas_picture(canvas *c, int x, int y, int w, int h, const uint8_t *rgb, int width, int height);

/** Fills a rectangle; what lies outside is left out. */
void canvas_fill(canvas *c, int x, int y, int w, int h, colour ink);

/** Writes ASCII text, its upper left corner at (x, y), 9 * size high; returns its width. */
int canvas_text(canvas *c, int x, int y, int size, const char *text, colour ink);

/** Width of such a text. */
int canvas_text_width(int size, const char *text);

/** The pixel at (x, y), which must lie inside. */
static inline uint8_t *canvas_at(const canvas *c, int x, int y) {
    return c->rgb + ((size_t)y * (size_t)c->width + (size_t)x) * 3;
}

#endif
