/*
 * prepare.c - a picture as the vision tower wants it, and where its features go in the prompt.
 *
 *     CLIPImageProcessor       resize (short side or fixed size) -> centre crop -> v * factor -> (v - mean) /
 * std LlavaImageProcessor      the same, behind padding to a square with the background where do_pad is set
 *     LlavaNextImageProcessor  "anyres": the whole picture squeezed to side x side, then the picture fitted
 *                              into the best pinpoint, centred on black, and cut into side x side tiles
 *
 * The arithmetic is that of transformers' PIL processors (5.17), 8 bits after the resize; its torchvision
 * ones use the same filters on 8-bit tensors and differ by at most a rounding step here and there. Where an
 * odd margin is padded they also put the spare pixel on the other side; the PIL placement is followed.
 *
 * Features of a llava_next picture (transformers' pack_image_features): the whole picture's patches, then the
 * tiles' patches as one grid without the rows and columns that only show padding, a newline after each row.
 */
#include "picture/image.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "picture/container.h"
#include "picture/resample.h"

/* One resize: the picture on a canvas, the canvas scaled to width x height, and a side x side (or larger)
 * output rectangle that starts at (x, y) of the result, outside of which it is black. */
typedef struct view {
    int canvas_width, canvas_height, left, top; /* the picture's place on the canvas */
    int width, height;                          /* the scaled canvas */
    int x, y;                                   /* output origin on the scaled canvas, may be negative */
    int columns, rows;                          /* output size */
} view;

/* Both families: `whole` is tile 0; llava_next adds `grid`, cut into grid.rows/side x grid.columns/side
 * tiles. */
typedef struct geometry {
    int side, patches; /* pixels; patches a side */
    view whole, grid;
    bool anyres;
} geometry;

/* Floor of (a - b) / 2. */
static int half_margin(int a, int b) {
    int d = a - b;
    return d >= 0 ? d / 2 : -((1 - d) / 2);
}

/* ---- geometry ------------------------------------------------------------------------------------------ */

static vlcache_status unsupported_size(const vlci_config *config, const char *what, int width, int height) {
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "preprocessor_config.json: %s gives %d x %d pixels, the vision tower takes %d x %d "
                     "(config.json: vision_config.image_size): make the two agree",
                     what, width, height, config->vision.image_size, config->vision.image_size);
}

/* Scaled size by the short side: the long one is cut to a whole number, as transformers does. */
static vlcache_status scale_short_side(view *v, int edge) {
    int64_t small = v->canvas_width, large = v->canvas_height;
    bool tall = small <= large;
    if (!tall) small = v->canvas_height, large = v->canvas_width;
    int64_t length = edge * large / small;
    if (length > INT_MAX / 4)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "preprocessor_config.json: size.shortest_edge %d makes the long side %lld pixels",
                         edge, (long long)length);
    v->width = tall ? edge : (int)length;
    v->height = tall ? (int)length : edge;
    return VLCACHE_OK;
}

/* The single tile of CLIPImageProcessor and LlavaImageProcessor. */
static vlcache_status view_llava(const vlci_config *config, int width, int height, view *v) {
    const vlci_image_config *image = &config->image;
    int side = config->vision.image_size;
    int longest = width > height ? width : height;
    vlcache_status status = VLCACHE_OK;
    *v = (view){.canvas_width = image->pad_square ? longest : width,
                .canvas_height = image->pad_square ? longest : height};
    v->left = (v->canvas_width - width) / 2;
    v->top = (v->canvas_height - height) / 2;
    v->width = v->canvas_width;
    v->height = v->canvas_height;
    if (image->resize && image->shortest_edge > 0) {
        if ((status = scale_short_side(v, image->shortest_edge))) return status;
    } else if (image->resize) {
        v->width = image->resize_width;
        v->height = image->resize_height;
    }
    v->columns = image->crop ? image->crop_width : v->width;
    v->rows = image->crop ? image->crop_height : v->height;
    if (v->columns != side || v->rows != side || v->width < 1 || v->height < 1)
        return unsupported_size(config, image->crop ? "crop_size" : "size without a crop", v->columns,
                                v->rows);
    v->x = half_margin(v->width, v->columns);
    v->y = half_margin(v->height, v->rows);
    return VLCACHE_OK;
}

/* The pinpoint that shows most of the picture's pixels and, among equals, wastes least. */
static const int *best_pinpoint(const vlci_image_config *image, int width, int height) {
    const int *best = NULL;
    int64_t most = 0, least_waste = INT64_MAX;
    for (int i = 0; i < image->n_pinpoints; i++) {
        const int *point = image->pinpoints[i]; // {height, width}
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
static void fit_inside(view *v, int width, int height) {
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

static vlcache_status view_anyres(const vlci_config *config, int width, int height, view *whole, view *grid) {
    const vlci_image_config *image = &config->image;
    int side = config->vision.image_size;
    int edge_width = image->shortest_edge > 0 ? image->shortest_edge : image->resize_width;
    int edge_height = image->shortest_edge > 0 ? image->shortest_edge : image->resize_height;
    if (edge_width != side || edge_height != side)
        return unsupported_size(config, "size", edge_width, edge_height);
    if (image->crop && (image->crop_width != side || image->crop_height != side))
        return unsupported_size(config, "crop_size", image->crop_width, image->crop_height);
    const int *point = best_pinpoint(image, width, height);
    if (!point)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "config.json: image_grid_pinpoints is empty: list {height, width} pairs");
    if (point[0] < side || point[1] < side || point[0] % side || point[1] % side ||
        point[0] > VLCI_IMAGE_MAX_SIDE || point[1] > VLCI_IMAGE_MAX_SIDE)
        return unsupported_size(config, "a pinpoint that is no multiple of the tile", point[1], point[0]);
    *whole = (view){.canvas_width = width,
                    .canvas_height = height,
                    .width = side,
                    .height = side,
                    .columns = side,
                    .rows = side};
    *grid = *whole;
    grid->columns = point[1];
    grid->rows = point[0];
    fit_inside(grid, width, height);
    grid->x = -((grid->columns - grid->width) / 2);
    grid->y = -((grid->rows - grid->height) / 2);
    return VLCACHE_OK;
}

static vlcache_status geometry_make(const vlci_config *config, int width, int height, geometry *g) {
    int side = config->vision.image_size, patch = config->vision.patch_size;
    *g = (geometry){.side = side, .anyres = config->family == VLCI_LLAVA_NEXT};
    if (width < 1 || height < 1 || width > VLCI_IMAGE_MAX_SIDE || height > VLCI_IMAGE_MAX_SIDE)
        return vlci_fail(VLCACHE_E_ARGUMENT, "picture of %d x %d pixels: sides must be 1..%d", width, height,
                         VLCI_IMAGE_MAX_SIDE);
    if (patch < 1 || side < patch || side > VLCI_IMAGE_MAX_SIDE)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "config.json: image_size %d, patch_size %d: must be 1 <= patch_size <= image_size",
                         side, patch);
    g->patches = side / patch;
    return g->anyres ? view_anyres(config, width, height, &g->whole, &g->grid)
                     : view_llava(config, width, height, &g->whole);
}

static int tiles_of(const geometry *g) {
    return g->anyres ? 1 + (g->grid.rows / g->side) * (g->grid.columns / g->side) : 1;
}

/* ---- plan ---------------------------------------------------------------------------------------------- */

static float clamp(double value, int limit) {
    return (float)(value < 0.0 ? 0.0 : value > limit ? (double)limit : value);
}

/* The source rectangle of output pixels x..x+size, y..y+size of a view. */
static void cell_set(float cell[4], const view *v, int x, int y, int size, int width, int height) {
    double across = (double)v->canvas_width / v->width, down = (double)v->canvas_height / v->height;
    cell[0] = clamp((x + v->x) * across - v->left, width);
    cell[1] = clamp((y + v->y) * down - v->top, height);
    cell[2] = clamp((x + size + v->x) * across - v->left, width);
    cell[3] = clamp((y + size + v->y) * down - v->top, height);
}

/* Tokens of tile 0; returns how many. */
static int plan_whole(vlci_image_plan *plan, const geometry *g, int patch, bool class_token, int width,
                      int height) {
    int n = 0;
    if (class_token) plan->source[n++] = 0;
    for (int y = 0; y < g->patches; y++) {
        for (int x = 0; x < g->patches; x++, n++) {
            plan->source[n] = n;
            cell_set(plan->cell[n], &g->whole, x * patch, y * patch, patch, width, height);
        }
    }
    return n;
}

/* Patches to drop at both ends of an axis of `size` patches, of which the picture covers `covered`. Python's
 * int(round(covered, 7)); covered is a fraction with a denominator below 2^16, so nothing falls in between.
 */
static int unpad_margin(int size, double covered) {
    return (size - (int)floor(covered + 5e-8)) / 2;
}

/* The grid without its padding; (left, top) is its first patch. */
static void plan_grid_size(vlci_image_plan *plan, const geometry *g, int width, int height, int *left,
                           int *top) {
    int columns = g->patches * (g->grid.columns / g->side), rows = g->patches * (g->grid.rows / g->side);
    *left = *top = 0;
    if ((double)width / height > (double)columns / rows) {
        *top = unpad_margin(rows, height * ((double)columns / width));
    } else {
        *left = unpad_margin(columns, width * ((double)rows / height));
    }
    plan->grid_columns = columns - 2 * *left;
    plan->grid_rows = rows - 2 * *top;
}

static void plan_grid(vlci_image_plan *plan, int n, const geometry *g, const vlci_config *config, int width,
                      int height, int left, int top) {
    int p = g->patches, patch = config->vision.patch_size, across = g->grid.columns / g->side;
    int class_rows = config->vision.keep_class ? 1 : 0, tile_rows = p * p + class_rows;
    for (int r = top; r < top + plan->grid_rows; r++) {
        for (int c = left; c < left + plan->grid_columns; c++, n++) {
            int tile = 1 + r / p * across + c / p;
            plan->source[n] = tile * tile_rows + class_rows + r % p * p + c % p;
            cell_set(plan->cell[n], &g->grid, c / p * g->side + c % p * patch,
                     r / p * g->side + r % p * patch, patch, width, height);
        }
        plan->source[n++] = -1;
    }
}

vlcache_status vlci_image_plan_make(const vlci_config *config, int width, int height, vlci_image_plan *out) {
    *out = (vlci_image_plan){0};
    geometry g;
    vlcache_status status = geometry_make(config, width, height, &g);
    if (status) return status;
    int left = 0, top = 0;
    bool class_token = config->vision.keep_class;
    int64_t tokens = (int64_t)g.patches * g.patches + class_token;
    out->tiles = tiles_of(&g);
    out->grid_rows = out->grid_columns = g.patches;
    if (g.anyres) {
        plan_grid_size(out, &g, width, height, &left, &top);
        tokens += (int64_t)out->grid_rows * (out->grid_columns + 1);
    }
    if (tokens * out->tiles > INT32_MAX) {
        *out = (vlci_image_plan){0};
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "config.json: image_grid_pinpoints makes %lld tokens of a picture",
                         (long long)tokens);
    }
    out->source = vlci_calloc((size_t)tokens, sizeof *out->source);
    out->cell = vlci_calloc((size_t)tokens, sizeof *out->cell);
    if (!out->source || !out->cell) {
        vlci_image_plan_release(out);
        return vlci_fail_memory("plan of a picture's tokens");
    }
    out->n_tokens = (int)tokens;
    int n = plan_whole(out, &g, config->vision.patch_size, class_token, width, height);
    if (g.anyres) plan_grid(out, n, &g, config, width, height, left, top);
    return VLCACHE_OK;
}

void vlci_image_plan_release(vlci_image_plan *plan) {
    if (!plan) return;
    vlci_free(plan->source);
    vlci_free(plan->cell);
    *plan = (vlci_image_plan){0};
}

/* ---- pixels -------------------------------------------------------------------------------------------- */

/* Renders a view to rows x columns RGB triples; `out` is zeroed. */
static vlcache_status render(const vlci_config *config, const vlcache_image *image, const view *v,
                             uint8_t *out) {
    vlci_canvas canvas = {
        vlcache_image_pixels(image), 0, 0, v->left, v->top, v->canvas_width, v->canvas_height, {0}};
    vlcache_image_size(image, &canvas.picture_width, &canvas.picture_height);
    for (int c = 0; c < 3; c++) canvas.background[c] = (uint8_t)config->image.background[c];
    int x0 = v->x > 0 ? v->x : 0, x1 = v->x + v->columns < v->width ? v->x + v->columns : v->width;
    int y0 = v->y > 0 ? v->y : 0, y1 = v->y + v->rows < v->height ? v->y + v->rows : v->height;
    vlci_window window = {v->width, v->height, x0, y0, x1 - x0, y1 - y0};
    size_t stride = (size_t)v->columns * 3;
    uint8_t *at = out + (size_t)(y0 - v->y) * stride + (size_t)(x0 - v->x) * 3;
    return vlci_resample(&canvas, (vlci_filter)config->image.resample, &window, at, stride);
}

/* What each 8-bit value of each channel becomes. */
static void value_table(const vlci_image_config *image, float table[3][256]) {
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            float value = image->rescale ? (float)(v * (double)image->rescale_factor) : (float)v;
            table[c][v] = image->normalize ? (value - image->mean[c]) / image->std[c] : value;
        }
    }
}

/* One side x side tile at (x, y) of `columns` wide RGB rows to three planes. */
static void planes(const uint8_t *rgb, int columns, int x, int y, int side, float table[3][256], float *out) {
    size_t plane = (size_t)side * (size_t)side;
    for (int r = 0; r < side; r++) {
        const uint8_t *p = rgb + ((size_t)(y + r) * (size_t)columns + (size_t)x) * 3;
        for (int i = 0; i < side; i++, p += 3, out++)
            for (int c = 0; c < 3; c++) out[c * plane] = table[c][p[c]];
    }
}

/* Renders a view and cuts it into tiles, row by row. */
static vlcache_status tile_view(const vlci_config *config, const vlcache_image *image, const view *v,
                                int side, float *out) {
    float table[3][256];
    uint8_t *rgb = vlci_calloc((size_t)v->columns * 3, (size_t)v->rows);
    if (!rgb) return vlci_fail_memory("prepared picture");
    vlcache_status status = render(config, image, v, rgb);
    value_table(&config->image, table);
    for (int y = 0; !status && y < v->rows; y += side)
        for (int x = 0; x < v->columns; x += side, out += (size_t)3 * (size_t)side * (size_t)side)
            planes(rgb, v->columns, x, y, side, table, out);
    vlci_free(rgb);
    return status;
}

vlcache_status vlci_image_prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out) {
    *out = (vlci_pixels){0};
    int width, height;
    geometry g;
    vlcache_image_size(image, &width, &height);
    vlcache_status status = geometry_make(config, width, height, &g);
    if (status) return status;
    size_t tile = (size_t)3 * (size_t)g.side * (size_t)g.side;
    out->tiles = tiles_of(&g);
    out->side = g.side;
    out->data = vlci_alloc((size_t)out->tiles * sizeof(float), tile);
    status = out->data ? tile_view(config, image, &g.whole, g.side, out->data)
                       : vlci_fail_memory("prepared picture");
    if (!status && g.anyres) status = tile_view(config, image, &g.grid, g.side, out->data + tile);
    if (status) vlci_pixels_release(out);
    return status;
}

void vlci_pixels_release(vlci_pixels *pixels) {
    if (!pixels) return;
    vlci_free(pixels->data);
    *pixels = (vlci_pixels){0};
}
