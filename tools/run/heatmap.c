/*
 * heatmap.c - how many (layer, kv head) pairs keep each visual token, drawn over the token's part of the
 * picture.
 *
 *     count(token) = | { (l, h) : position of token in kept(l, h) } |
 *     pixel        = colour(count) * (0.62 + 0.38 mean + 1.10 (light - mean))    where it is kept
 *                    dim(picture)                                            where it is dropped
 *                    nearly black                                            where no token looks
 *
 * light is the picture's, mean that of the token's part: what the picture shows stands out as relief, on a
 * colour that can be told in dark parts as well.
 */
#include "run/heatmap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/kept.h"
#include "run/canvas.h"
#include "run/legend.h"

enum { MIN_WIDTH = 672, MAX_SIDE = 2048, UNSEEN = -1 };
static const colour ground = {18, 18, 24};

/* What the token that shows a pixel says of it. */
typedef struct shown {
    int count; /* UNSEEN where there is none */
    float mean;
} shown;

/* One heat map: the canvas, and where the picture lies on it. */
typedef struct sheet {
    canvas canvas;
    int x, width, height; /* of the drawn picture */
    float scale;
    shown *shown; /* [height][width] */
} sheet;

/* ---- counts ------------------------------------------------------------------------------------------- */

/* New memory: for each position of the prompt, how many pairs keep it. */
static int *count_positions(const kept *k, int tokens) {
    int *counts = calloc((size_t)tokens + 1, sizeof *counts);
    if (!counts) return NULL;
    for (int i = 0; i < k->layers * k->heads; i++)
        for (size_t p = 0; p < k->n[i]; p++) {
            int32_t position = k->positions[k->first[i] + p];
            if (position >= 0 && position < tokens) counts[position]++;
        }
    return counts;
}

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
        for (int x = x0; x < x1; x++) sum += (double)light_of(canvas_at(&s->canvas, s->x + x, y));
    return (float)(sum / ((double)(x1 - x0) * (y1 - y0)));
}

/* Where several tokens look (LLaVA-NeXT sees the picture whole and in tiles), the most kept one counts. */
static void mark(const sheet *s, const vlcache_visual_token *t, int count) {
    int x0 = clamp(t->x0 * s->scale, s->width), x1 = clamp(t->x1 * s->scale, s->width);
    int y0 = clamp(t->y0 * s->scale, s->height), y1 = clamp(t->y1 * s->scale, s->height);
    if (x0 >= x1 || y0 >= y1) return;
    shown token = {count, mean_light(s, x0, y0, x1, y1)};
    for (int y = y0; y < y1; y++) {
        shown *row = s->shown + (size_t)y * (size_t)s->width;
        for (int x = x0; x < x1; x++)
            if (row[x].count < count) row[x] = token;
    }
}

static vlcache_status mark_all(const sheet *s, const run *r, const vlcache_answer *a, int image,
                               const int *counts) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < a->visual_tokens && !status; i++) {
        vlcache_visual_token token;
        status = vlcache_session_visual(r->session, i, &token);
        bool ours =
            !status && token.image == image && token.position >= 0 && token.position < a->prompt_tokens;
        if (ours) mark(s, &token, counts[token.position]);
    }
    return status;
}

/* ---- drawing ------------------------------------------------------------------------------------------ */

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

static void paint(sheet *s, int total) {
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < s->width; x++) {
            const shown *token = &s->shown[(size_t)y * (size_t)s->width + (size_t)x];
            uint8_t *rgb = canvas_at(&s->canvas, s->x + x, y);
            if (token->count > 0)
                paint_kept(rgb, legend_colour(token->count, total), light_of(rgb), token->mean);
            else
                paint_dropped(rgb, light_of(rgb), token->count == 0);
        }
}

/* A small picture is drawn larger, so that its cells can be read; none is drawn longer than MAX_SIDE. */
static float choose_scale(int width, int height) {
    float longest = (float)(width > height ? width : height), scale = (float)MIN_WIDTH / (float)width;
    if (longest > MAX_SIDE) return MAX_SIDE / longest;
    return scale <= 1.0f ? 1.0f : fminf(scale, MAX_SIDE / longest);
}

static bool sheet_make(sheet *s, const vlcache_image *image) {
    int width, height;
    vlcache_image_size(image, &width, &height);
    s->scale = choose_scale(width, height);
    s->width = (int)fmaxf(1.0f, rintf((float)width * s->scale));
    s->height = (int)fmaxf(1.0f, rintf((float)height * s->scale));
    int sheet_width = s->width > MIN_WIDTH ? s->width : MIN_WIDTH;
    s->x = (sheet_width - s->width) / 2;
    size_t pixels = (size_t)s->width * (size_t)s->height;
    s->shown = malloc(pixels * sizeof *s->shown);
    if (!s->shown || !canvas_make(&s->canvas, sheet_width, s->height + LEGEND_HEIGHT, ground)) return false;
    for (size_t i = 0; i < pixels; i++) s->shown[i].count = UNSEEN;
    return canvas_picture(&s->canvas, s->x, 0, s->width, s->height, vlcache_image_pixels(image), width,
                          height);
}

static void sheet_release(sheet *s) {
    canvas_release(&s->canvas);
    free(s->shown);
}

/* ---- files -------------------------------------------------------------------------------------------- */

/* PATH, or its stem, -1, -2 ... and its ending. New memory. */
static char *file_name(const char *path, size_t i, size_t n) {
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    size_t stem = dot && (!slash || dot > slash + 1) && dot != path ? (size_t)(dot - path) : strlen(path);
    size_t room = strlen(path) + 24;
    char *name = malloc(room);
    if (name && n == 1) snprintf(name, room, "%s", path);
    if (name && n > 1) snprintf(name, room, "%.*s-%zu%s", (int)stem, path, i + 1, path + stem);
    return name;
}

static int write_one(run *r, const vlcache_answer *a, int image, const int *counts, const char *path) {
    sheet s = {0};
    char note[96];
    int code = EXIT_OK, total = a->compress.layers * a->compress.kv_heads;
    if (!sheet_make(&s, r->pictures.items[image])) {
        code = console_fail(&r->console, EXIT_MEMORY, "--heatmap: out of host memory");
        goto done;
    }
    vlcache_status status = mark_all(&s, r, a, image, counts);
    snprintf(note, sizeof note, "Kept by how many of %d (layer, KV head) pairs", total);
    paint(&s, total);
    legend_draw(&s.canvas, total, note);
    if (!status) status = vlcache_image_write_png(path, s.canvas.rgb, s.canvas.width, s.canvas.height);
    if (status) code = console_fail_status(&r->console, status);
done:
    sheet_release(&s);
    return code;
}

int heatmap_write(run *r, const vlcache_answer *answer, const char *path) {
    kept k = {0};
    int *counts = NULL, code = kept_read(r->session, answer, &k, &r->console);
    if (!code) counts = count_positions(&k, answer->prompt_tokens);
    for (size_t i = 0; i < r->pictures.n && !code; i++) {
        char *name = counts ? file_name(path, i, r->pictures.n) : NULL;
        code = name ? write_one(r, answer, (int)i, counts, name)
                    : console_fail(&r->console, EXIT_MEMORY, "--heatmap: out of host memory");
        free(name);
    }
    free(counts);
    kept_release(&k);
    return code;
}
