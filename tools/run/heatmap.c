/*
 * heatmap.c - how many (layer, kv head) pairs keep each visual token, drawn over the token's part of the
 * picture.
 *
 *     count(token) = | { (l, h) : position of token in kept(l, h) } |        painted by relief.c
 */
#include "run/heatmap.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/canvas.h"
#include "common/exit.h"
#include "common/kept.h"
#include "common/legend.h"
#include "common/outfile.h"
#include "common/relief.h"

enum { MIN_WIDTH = 672, MAX_SIDE = 2048 };
static const colour ground = {18, 18, 24};

/* One heat map: the canvas, and where the picture lies on it. */
typedef struct sheet {
    canvas canvas;
    int x, width, height; /* of the drawn picture */
    float scale;
} sheet;

/* ---- counts ------------------------------------------------------------------------------------------- */

/* New memory: for each of the tokens that are kept or not, how many pairs keep it. */
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

/* New memory: the tokens that show one picture. */
static relief_cell *make_cells(const run *r, const vlcache_answer *a, int image, const int *counts,
                               size_t *n) {
    relief_cell *cells = calloc((size_t)a->visual_tokens + 1, sizeof *cells);
    *n = 0;
    for (int i = 0; i < a->visual_tokens && cells; i++) {
        vlcache_visual_token t;
        if (vlcache_session_visual(r->session, i, &t)) break;
        if (t.image == image && t.position >= 0 && t.position < a->compress.tokens)
            cells[(*n)++] = (relief_cell){t.x0, t.y0, t.x1, t.y1, counts[t.position]};
    }
    return cells;
}

/* ---- drawing ------------------------------------------------------------------------------------------ */

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
    if (!canvas_make(&s->canvas, sheet_width, s->height + LEGEND_HEIGHT, ground)) return false;
    return canvas_picture(&s->canvas, s->x, 0, s->width, s->height, vlcache_image_pixels(image), width,
                          height);
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

static int write_png(const canvas *drawn, const char *path, console *c) {
    outfile file = {.fd = -1};
    size_t bytes = 0;
    uint8_t *png;
    vlcache_status status = vlcache_image_encode_png(drawn->rgb, drawn->width, drawn->height, &png, &bytes);
    int code = status ? console_fail_status(c, status) : EXIT_OK;
    if (!code) code = outfile_open(&file, "--heatmap", path, c);
    if (!code) fwrite(png, 1, bytes, file.file);
    int closed = outfile_close(&file, !code, c);
    vlcache_free(png);
    return code ? code : closed;
}

/* Drawn over `shown`, picture `image` of the prompt. */
static int write_sheet(run *r, const vlcache_answer *a, int image, const vlcache_image *shown,
                       const int *counts, const char *path) {
    sheet s = {0};
    char note[96];
    size_t n;
    int code = EXIT_OK, total = a->compress.layers * a->compress.kv_heads;
    relief_cell *cells = make_cells(r, a, image, counts, &n);
    relief_place place = {.total = total};
    bool good = cells && sheet_make(&s, shown);
    place.x = s.x, place.width = s.width, place.height = s.height, place.scale = s.scale;
    if (!good || !relief_paint(&s.canvas, &place, cells, n)) {
        code = console_fail(&r->console, EXIT_MEMORY, "--heatmap: out of host memory");
        goto done;
    }
    snprintf(note, sizeof note, "Kept by how many of %d (layer, KV head) pairs", total);
    legend_draw(&s.canvas, total, note);
    code = write_png(&s.canvas, path, &r->console);
done:
    canvas_release(&s.canvas);
    free(cells);
    return code;
}

/* A picture, or behind those a frame that was seen, which is decoded once more. */
static int write_one(run *r, const vlcache_answer *a, int image, const int *counts, const char *path) {
    int n_pictures = (int)r->pictures.n;
    vlcache_seen_frame f;
    vlcache_image *frame = NULL;
    if (image < n_pictures) return write_sheet(r, a, image, r->pictures.items[image], counts, path);
    vlcache_status status = vlcache_session_frame(r->session, image - n_pictures, &f);
    if (!status) status = vlcache_video_frame(r->videos.items[f.video], f.frame, &frame);
    int code =
        status ? console_fail_status(&r->console, status) : write_sheet(r, a, image, frame, counts, path);
    vlcache_image_destroy(&frame);
    return code;
}

/* Pictures of the prompt and frames of its videos. */
static size_t count_shown(const run *r) {
    vlcache_seen_frame f;
    size_t n = r->pictures.n;
    for (int i = 0; r->videos.n && !vlcache_session_frame(r->session, i, &f); i++) n++;
    return n;
}

/* The picture that is drawn over is not drawn onto. */
static int check_name(run *r, const char *name) {
    for (int i = 0; i < r->options.n_images; i++)
        if (outfile_replaces(name, r->options.images[i]))
            return console_fail(&r->console, EXIT_USAGE,
                                "--heatmap %s: is the picture itself: name another file", name);
    for (int i = 0; i < r->options.n_videos; i++)
        if (outfile_replaces(name, r->options.videos[i].path))
            return console_fail(&r->console, EXIT_USAGE,
                                "--heatmap %s: is the video itself: name another file", name);
    return EXIT_OK;
}

static int check_stream(run *r, const char *path, size_t n) {
    if (n < 2 || !outfile_is_stream(path)) return EXIT_OK;
    return console_fail(&r->console, EXIT_USAGE,
                        "--heatmap %s: takes one picture, and there are %zu: name a file", path, n);
}

/* Before hours are spent: of videos, whose frames are not known yet, the first. */
int heatmap_check(run *r, const char *path) {
    size_t n = r->pictures.n + 2 * r->videos.n;
    int code = check_stream(r, path, n);
    for (size_t i = 0; i < n && !code; i++) {
        char *name = file_name(path, i, n);
        if (!name) return console_fail(&r->console, EXIT_MEMORY, "--heatmap: out of host memory");
        code = check_name(r, name);
        if (!code) code = outfile_check("--heatmap", name, &r->console);
        free(name);
    }
    return code;
}

int heatmap_write(run *r, const vlcache_answer *answer, const char *path) {
    kept k = {0};
    int *counts = NULL, code = EXIT_OK;
    size_t n = count_shown(r);
    code = check_stream(r, path, n);
    if (!code) code = kept_read(r->session, answer, &k, &r->console);
    if (!code) counts = count_positions(&k, answer->compress.tokens);
    for (size_t i = 0; i < n && !code; i++) {
        char *name = counts ? file_name(path, i, n) : NULL;
        if (name) code = check_name(r, name);
        if (!code)
            code = name ? write_one(r, answer, (int)i, counts, name)
                        : console_fail(&r->console, EXIT_MEMORY, "--heatmap: out of host memory");
        free(name);
    }
    free(counts);
    kept_release(&k);
    return code;
}
