/*
 * anyres.c - the settings, the geometry and the pixels of pictures cut into tiles.
 *
 *     tiles: the whole picture squeezed to side x side;
 *            then the picture fitted into the best pinpoint, centred on black,
 *            cut into side x side tiles, row by row
 *
 * What shows nothing but padding is left out of the layout: transformers' unpad_image().
 */
#include "models/anyres.h"

#include <math.h>

#include "core/alloc.h"
#include "picture/format.h"

enum { MAX_PINPOINTS = 64 };

/* ---- settings ------------------------------------------------------------------------------------------ */

static vlcache_status read_pinpoints(const vlci_scope *scope, const char *key, const json_t *list,
                                     vlci_llava *eyes) {
    int side = eyes->vision.image_size;
    size_t n = json_array_size(list);
    if (n < 1 || n > MAX_PINPOINTS)
        return vlci_json_bad(scope, key, "holds %zu sizes, must hold from 1 to %d", n, MAX_PINPOINTS);
    eyes->pinpoints = vlci_alloc(n, sizeof *eyes->pinpoints);
    if (!eyes->pinpoints) return vlci_fail_memory("grid pinpoints");
    eyes->n_pinpoints = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        for (size_t k = 0; k < 2; k++) {
            json_int_t value = json_integer_value(json_array_get(pair, k));
            if (json_array_size(pair) != 2 || value < 1 || value > 64 * side || value % side != 0)
                return vlci_json_bad(scope, key,
                                     "entry %zu must be [height, width], each a multiple of "
                                     "vision_config.image_size %d from %d to %d",
                                     i, side, side, 64 * side);
            eyes->pinpoints[i][k] = (int)value;
        }
    }
    return VLCACHE_OK;
}

/* The five shapes of LLaVA-1.6. */
static json_t *classic(void) {
    return json_loads("[[336,672],[672,336],[672,672],[1008,336],[336,1008]]", 0, NULL);
}

/* LLaVA-OneVision's: up to six tiles of 384 pixels a side. */
static json_t *six(void) {
    json_t *list = json_array();
    for (int i = 0; list && i < 36; i++)
        if (json_array_append_new(list, json_pack("[i,i]", (i / 6 + 1) * 384, (i % 6 + 1) * 384)))
            json_decref(list), list = NULL;
    return list;
}

vlcache_status vlci_anyres_read(const vlci_scope *scope, const vlci_scope *root, bool six_by_six,
                                vlci_llava *eyes) {
    static const char key[] = "image_grid_pinpoints";
    const json_t *cut, *arranged;
    json_t *fallback = NULL;
    vlcache_status status = vlci_json_array(scope, key, &cut);
    if (!status) status = vlci_json_array(root, key, &arranged);
    if (status) return status;
    if (cut && arranged && !json_equal(cut, arranged))
        return vlci_json_bad(scope, key, "differs from that of config.json");
    if (!cut && !arranged && !(fallback = six_by_six ? six() : classic()))
        return vlci_fail_memory("grid pinpoints");
    const json_t *list = cut ? cut : arranged ? arranged : fallback;
    status = read_pinpoints(cut || !arranged ? scope : root, key, list, eyes);
    json_decref(fallback);
    return status;
}

/* ---- geometry ------------------------------------------------------------------------------------------ */

/* The pinpoint that shows most of the picture's pixels and, among equals, wastes least. */
static const int *best_pinpoint(const vlci_llava *eyes, int width, int height) {
    const int *best = NULL;
    int64_t most = 0, least_waste = INT64_MAX;
    for (int i = 0; i < eyes->n_pinpoints; i++) {
        const int *point = eyes->pinpoints[i]; // {height, width}
        double scale = fmin((double)point[1] / width, (double)point[0] / height);
        int64_t shown = (int64_t)(width * scale) * (int64_t)(height * scale), all = (int64_t)width * height;
        if (shown > all) shown = all;
        int64_t waste = (int64_t)point[0] * point[1] - shown;
        if (shown < most || (shown == most && waste >= least_waste)) continue;
        most = shown;
        least_waste = waste;
        best = point;
    }
    return best;
}

/* Largest size of the picture's shape inside the pinpoint: the free side is rounded up. */
static void fit_inside(vlci_view *v, int width, int height) {
    double across = (double)v->columns / width, down = (double)v->rows / height;
    if (across < down) {
        int rows = (int)ceil(height * across);
        v->width = v->columns;
        v->height = rows < v->rows ? rows : v->rows;
    } else {
        int columns = (int)ceil(width * down);
        v->height = v->rows;
        v->width = columns < v->columns ? columns : v->columns;
    }
}

/* Patches to drop at both ends of an axis of `size` patches, of which the picture covers `covered`. Python's
 * int(round(covered, 7)); covered is a fraction with a denominator below 2^16, so nothing falls in between.
 */
static int unpad_margin(int size, double covered) {
    return (size - (int)floor(covered + 5e-8)) / 2;
}

/* The grid's patches without its padding. */
static void unpad(vlci_anyres *g, int width, int height) {
    int columns = g->patches * (g->grid.columns / g->side), rows = g->patches * (g->grid.rows / g->side);
    g->left = g->top = 0;
    if ((double)width / height > (double)columns / rows) {
        g->top = unpad_margin(rows, height * ((double)columns / width));
    } else {
        g->left = unpad_margin(columns, width * ((double)rows / height));
    }
    g->columns = columns - 2 * g->left;
    g->rows = rows - 2 * g->top;
}

static vlcache_status check_processor(const vlci_llava *eyes) {
    const vlci_processor *image = &eyes->processor;
    int side = eyes->vision.image_size;
    int width = image->shortest_edge > 0 ? image->shortest_edge : image->resize_width;
    int height = image->shortest_edge > 0 ? image->shortest_edge : image->resize_height;
    if (width != side || height != side) return vlci_llava_unfit(eyes, "size", width, height);
    if (image->crop && (image->crop_width != side || image->crop_height != side))
        return vlci_llava_unfit(eyes, "crop_size", image->crop_width, image->crop_height);
    return VLCACHE_OK;
}

static vlcache_status find_pinpoint(const vlci_llava *eyes, int width, int height, const int **point) {
    int side = eyes->vision.image_size;
    const int *p = *point = best_pinpoint(eyes, width, height);
    if (!p)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "config.json: image_grid_pinpoints is empty: list {height, width} pairs");
    if (p[0] < side || p[1] < side || p[0] % side || p[1] % side || p[0] > VLCI_IMAGE_MAX_SIDE ||
        p[1] > VLCI_IMAGE_MAX_SIDE)
        return vlci_llava_unfit(eyes, "a pinpoint that is no multiple of the tile", p[1], p[0]);
    return VLCACHE_OK;
}

vlcache_status vlci_anyres_make(const vlci_llava *eyes, int width, int height, vlci_anyres *g) {
    const int *point = NULL;
    int side = eyes->vision.image_size;
    *g = (vlci_anyres){.side = side, .patches = vlci_vit_side(&eyes->vision)};
    vlcache_status status = vlci_view_sides(width, height);
    if (!status) status = check_processor(eyes);
    if (!status) status = find_pinpoint(eyes, width, height, &point);
    if (status) return status;
    g->whole = (vlci_view){.canvas_width = width,
                           .canvas_height = height,
                           .width = side,
                           .height = side,
                           .columns = side,
                           .rows = side};
    g->grid = g->whole;
    g->grid.columns = point[1];
    g->grid.rows = point[0];
    fit_inside(&g->grid, width, height);
    g->grid.x = -((g->grid.columns - g->grid.width) / 2);
    g->grid.y = -((g->grid.rows - g->grid.height) / 2);
    g->tiles = 1 + (g->grid.rows / side) * (g->grid.columns / side);
    unpad(g, width, height);
    return VLCACHE_OK;
}

/* ---- pixels -------------------------------------------------------------------------------------------- */

vlcache_status vlci_anyres_prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out) {
    const vlci_llava *eyes = config->eyes;
    int width, height;
    vlci_anyres g;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlcache_status status = vlci_anyres_make(eyes, width, height, &g);
    if (!status) status = vlci_pixels_create(g.tiles, g.side, g.side, out);
    if (!status) status = vlci_pixels_fill(&eyes->processor, image, &g.whole, 0, out);
    if (!status) status = vlci_pixels_fill(&eyes->processor, image, &g.grid, 1, out);
    if (status) vlci_pixels_release(out);
    return status;
}
