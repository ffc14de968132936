/*
 * relief.c - counts as colours, with the picture as relief on them.
 *
 *     pixel        = colour(count) * (0.62 + 0.38 mean + 1.10 (light - mean))    where it is kept
 *                    dim(picture)                                            where it is dropped
 *                    nearly black                                            where no token looks
 *
 * light is the picture's, mean that of the token's part: what the picture shows stands out as relief, on a
 * colour that can be told in dark parts as well.
 */
#include "common/relief.h"

#include <math.h>
#include <stdlib.h>

#include "common/legend.h"

enum { UNSEEN = -1 };

/* What the token that shows a pixel says of it. */
typedef struct shown {
    int count; /* UNSEEN where there is none */
    float mean;
} shown;

typedef struct sheet {
    canvas *canvas;
    relief_place at;
    shown *shown; /* [height][width] */
} sheet;

static int clamp(float value, int most) {
    int whole = (int)lrintf(value);
    return whole < 0 ? 0 : whole > most ? most : whole;
}

static float light_of(const uint8_t *rgb) {
    return (0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2]) / 255.0f;
}

static float mean_light(const sheet *s, int x0, int y0, int x1, int y1) {
    double sum = 0.0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) sum += (double)light_of(canvas_at(s->canvas, s->at.x + x, y));
    return (float)(sum / ((double)(x1 - x0) * (y1 - y0)));
}

/* Where several tokens look (LLaVA-NeXT sees the picture whole and in tiles), the most kept one counts. */
static void mark(const sheet *s, const relief_cell *t) {
    int x0 = clamp(t->x0 * s->at.scale, s->at.width), x1 = clamp(t->x1 * s->at.scale, s->at.width);
    int y0 = clamp(t->y0 * s->at.scale, s->at.height), y1 = clamp(t->y1 * s->at.scale, s->at.height);
    if (x0 >= x1 || y0 >= y1) return;
    shown token = {t->count, mean_light(s, x0, y0, x1, y1)};
    for (int y = y0; y < y1; y++) {
        shown *row = s->shown + (size_t)y * (size_t)s->at.width;
        for (int x = x0; x < x1; x++)
            if (row[x].count < t->count) row[x] = token;
    }
}

static void paint_kept(uint8_t *rgb, colour ink, float light, float mean) {
    const uint8_t hue[3] = {ink.r, ink.g, ink.b};
    float relief = 0.62f + 0.38f * mean + 1.10f * (light - mean);
    float share = fmaxf(relief, 0.08f), white = fminf(fmaxf(relief - 1.0f, 0.0f), 1.0f);
    for (int k = 0; k < 3; k++) {
        float out = hue[k] * fminf(share, 1.0f);
        rgb[k] = (uint8_t)lrintf(out + white * (255.0f - out));
    }
}

static void paint_dropped(uint8_t *rgb, float light, bool seen) {
    for (int k = 0; k < 3; k++) {
        float grey = 255.0f * light, pale = grey + 0.35f * (rgb[k] - grey);
        rgb[k] = (uint8_t)lrintf(seen ? 0.22f * pale : 0.08f * grey);
    }
}

static void paint(const sheet *s) {
    for (int y = 0; y < s->at.height; y++)
        for (int x = 0; x < s->at.width; x++) {
            const shown *token = &s->shown[(size_t)y * (size_t)s->at.width + (size_t)x];
            uint8_t *rgb = canvas_at(s->canvas, s->at.x + x, y);
            if (token->count > 0)
                paint_kept(rgb, legend_colour(token->count, s->at.total), light_of(rgb), token->mean);
            else
                paint_dropped(rgb, light_of(rgb), token->count == 0);
        }
}

bool relief_paint(canvas *c, const relief_place *place, const relief_cell *cells, size_t n) {
    size_t pixels = (size_t)place->width * (size_t)place->height;
    sheet s = {c, *place, malloc((pixels + 1) * sizeof *s.shown)};
    if (!s.shown) return false;
    for (size_t i = 0; i < pixels; i++) s.shown[i] = (shown){.count = UNSEEN};
    for (size_t i = 0; i < n; i++) mark(&s, &cells[i]);
    paint(&s);
    free(s.shown);
    return true;
}
