/*
 * heatmap.c - how many (layer, kv head) pairs keep each visual token, drawn over the token's part of the
 * picture.
 *
 *     count(token) = | { (l, h) : position of token in kept(l, h) } |
 *     pixel        = mix(light(picture), colour(count))     where it is kept
 *                    dim(light(picture))                    where it is dropped, or not looked at
 */
#include "run/heatmap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run/canvas.h"
#include "run/exit.h"
#include "run/kept.h"
#include "run/legend.h"

enum { MIN_WIDTH = 672, MAX_SCALED_HEIGHT = 4096, UNSEEN = -1 };
static const colour ground = {18, 18, 24};

/* One heat map: where the picture lies on the canvas, and the count of each of its pixels. */
typedef struct sheet {
    canvas canvas;
    int x, width, height; /* of the drawn picture */
    float scale;
    int *counts; /* [height][width], UNSEEN where no token looks */
} sheet;

/* ---- counts ---------------------------------------------------------------------------------------------
 */

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

/* Where several tokens look (LLaVA-NeXT sees the picture whole and in tiles), the most kept one counts. */
static void mark(const sheet *s, const vlcache_visual_token *t, int count) {
    int x0 = clamp(t->x0 * s->scale, s->width), x1 = clamp(t->x1 * s->scale, s->width);
    int y0 = clamp(t->y0 * s->scale, s->height), y1 = clamp(t->y1 * s->scale, s->height);
    for (int y = y0; y < y1; y++) {
        int *row = s->counts + (size_t)y * (size_t)s->width;
        for (int x = x0; x < x1; x++)
            if (row[x] < count) row[x] = count;
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

/* ---- drawing --------------------------------------------------------------------------------------------
 */

/* A kept pixel takes the hue of its count and keeps the picture's light, so that text stays legible; the rest
 * is dimmed, and grey where no token looks. */
static void paint_pixel(uint8_t *rgb, int count, int total) {
    float light = 0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2];
    colour c = count > 0 ? legend_colour(count, total) : (colour){0, 0, 0};
    const uint8_t hue[3] = {c.r, c.g, c.b};
    for (int k = 0; k < 3; k++) {
        float lit = hue[k] * (0.30f + 0.70f * light / 255.0f), grey = light + 0.35f * (rgb[k] - light);
        float out = count > 0 ? 0.85f * lit + 0.15f * rgb[k] : count == 0 ? 0.26f * grey : 0.14f * light;
        rgb[k] = (uint8_t)lrintf(out);
    }
}

static void paint(sheet *s, int total) {
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < s->width; x++)
            paint_pixel(canvas_at(&s->canvas, s->x + x, y), s->counts[(size_t)y * (size_t)s->width + x],
                        total);
}

/* Small pictures are drawn larger, so that cells and legend can be read; a tall strip stays within reason. */
static bool sheet_make(sheet *s, const vlcache_image *image) {
    int width, height;
    vlcache_image_size(image, &width, &height);
    s->scale = width < MIN_WIDTH ? (float)MIN_WIDTH / (float)width : 1.0f;
    if (s->scale > 1.0f && (float)height * s->scale > MAX_SCALED_HEIGHT)
        s->scale = fmaxf(1.0f, (float)MAX_SCALED_HEIGHT / (float)height);
    s->width = (int)fmaxf(1.0f, rintf((float)width * s->scale));
    s->height = (int)fmaxf(1.0f, rintf((float)height * s->scale));
    int sheet_width = s->width > MIN_WIDTH ? s->width : MIN_WIDTH;
    s->x = (sheet_width - s->width) / 2;
    size_t pixels = (size_t)s->width * (size_t)s->height;
    s->counts = malloc(pixels * sizeof *s->counts);
    if (!s->counts || !canvas_make(&s->canvas, sheet_width, s->height + LEGEND_HEIGHT, ground)) return false;
    for (size_t i = 0; i < pixels; i++) s->counts[i] = UNSEEN;
    canvas_picture(&s->canvas, s->x, 0, s->width, s->height, vlcache_image_pixels(image), width, height);
    return true;
}

static void sheet_release(sheet *s) {
    canvas_release(&s->canvas);
    free(s->counts);
}

/* ---- files ----------------------------------------------------------------------------------------------
 */

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
