/*
 * prepare.c - a picture as a vision tower wants it: resized, cut into tiles, normalised.
 *
 *     CLIPImageProcessor: resize (short side or fixed size) -> centre crop -> v * factor -> (v - mean) / std
 *     where do_pad asks for it, behind padding to a square with the background
 *
 * The arithmetic is that of transformers' PIL processors (5.17), 8 bits after the resize; its torchvision
 * ones use the same filters on 8-bit tensors and differ by at most a rounding step here and there. Where an
 * odd margin is padded they also put the spare pixel on the other side; the PIL placement is followed.
 */
#include "picture/prepare.h"

#include <limits.h>
#include <string.h>

#include "core/alloc.h"
#include "picture/format.h"
#include "picture/resample.h"

/* ---- views --------------------------------------------------------------------------------------------- */

vlcache_status vlci_view_sides(int width, int height) {
    if (width >= 1 && height >= 1 && width <= VLCI_IMAGE_MAX_SIDE && height <= VLCI_IMAGE_MAX_SIDE)
        return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_ARGUMENT, "picture of %d x %d pixels: sides must be 1..%d", width, height,
                     VLCI_IMAGE_MAX_SIDE);
}

/* Floor of (a - b) / 2. */
static int half_margin(int a, int b) {
    int d = a - b;
    return d >= 0 ? d / 2 : -((1 - d) / 2);
}

/* Scaled size by the short side: the long one is cut to a whole number, as transformers does. */
static vlcache_status scale_short_side(vlci_view *v, int edge) {
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

vlcache_status vlci_view_make(const vlci_processor *processor, int width, int height, vlci_view *v) {
    int longest = width > height ? width : height;
    bool pad = processor->pad_square;
    vlcache_status status = vlci_view_sides(width, height);
    if (status) return status;
    *v = (vlci_view){.canvas_width = pad ? longest : width, .canvas_height = pad ? longest : height};
    v->left = (v->canvas_width - width) / 2;
    v->top = (v->canvas_height - height) / 2;
    v->width = v->canvas_width;
    v->height = v->canvas_height;
    if (processor->resize && processor->shortest_edge > 0) {
        if ((status = scale_short_side(v, processor->shortest_edge))) return status;
    } else if (processor->resize) {
        v->width = processor->resize_width;
        v->height = processor->resize_height;
    }
    v->columns = processor->crop ? processor->crop_width : v->width;
    v->rows = processor->crop ? processor->crop_height : v->height;
    v->x = half_margin(v->width, v->columns);
    v->y = half_margin(v->height, v->rows);
    return VLCACHE_OK;
}

vlci_view vlci_view_squeeze(int width, int height, int columns, int rows) {
    return (vlci_view){.canvas_width = width,
                       .canvas_height = height,
                       .width = columns,
                       .height = rows,
                       .columns = columns,
                       .rows = rows};
}

static float clamp(double value, int limit) {
    return (float)(value < 0.0 ? 0.0 : value > limit ? (double)limit : value);
}

void vlci_view_area(const vlci_view *v, const double area[4], int width, int height, float cell[4]) {
    double across = (double)v->canvas_width / v->width, down = (double)v->canvas_height / v->height;
    cell[0] = clamp((area[0] + v->x) * across - v->left, width);
    cell[1] = clamp((area[1] + v->y) * down - v->top, height);
    cell[2] = clamp((area[2] + v->x) * across - v->left, width);
    cell[3] = clamp((area[3] + v->y) * down - v->top, height);
}

void vlci_view_cell(const vlci_view *v, int x, int y, int size, int width, int height, float cell[4]) {
    vlci_view_area(v, (const double[4]){x, y, x + size, y + size}, width, height, cell);
}

/* ---- pixels -------------------------------------------------------------------------------------------- */

/* Renders a view to rows x columns RGB triples; `out` is zeroed. */
static vlcache_status render(const vlci_processor *processor, const vlcache_image *image, const vlci_view *v,
                             uint8_t *out) {
    vlci_canvas canvas = {
        vlcache_image_pixels(image), 0, 0, v->left, v->top, v->canvas_width, v->canvas_height, {0}};
    vlcache_image_size(image, &canvas.picture_width, &canvas.picture_height);
    for (int c = 0; c < 3; c++) canvas.background[c] = (uint8_t)processor->background[c];
    int x0 = v->x > 0 ? v->x : 0, x1 = v->x + v->columns < v->width ? v->x + v->columns : v->width;
    int y0 = v->y > 0 ? v->y : 0, y1 = v->y + v->rows < v->height ? v->y + v->rows : v->height;
    vlci_window window = {v->width, v->height, x0, y0, x1 - x0, y1 - y0};
    size_t stride = (size_t)v->columns * 3;
    uint8_t *at = out + (size_t)(y0 - v->y) * stride + (size_t)(x0 - v->x) * 3;
    return vlci_resample(&canvas, (vlci_filter)processor->resample, &window, at, stride);
}

/* What each 8-bit value of each channel becomes. */
static void value_table(const vlci_processor *how, float table[3][256]) {
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            float value = how->rescale ? (float)(v * (double)how->rescale_factor) : (float)v;
            table[c][v] = how->normalize ? (value - how->mean[c]) / how->std[c] : value;
        }
    }
}

/* One tile of the pixels' size at (x, y) of `columns` wide RGB rows, as three planes. */
static void planes(const uint8_t *rgb, int columns, int x, int y, float table[3][256], const vlci_pixels *to,
                   float *out) {
    size_t plane = (size_t)to->width * (size_t)to->height;
    for (int r = 0; r < to->height; r++) {
        const uint8_t *p = rgb + ((size_t)(y + r) * (size_t)columns + (size_t)x) * 3;
        for (int i = 0; i < to->width; i++, p += 3, out++)
            for (int c = 0; c < 3; c++) out[c * plane] = table[c][p[c]];
    }
}

vlcache_status vlci_pixels_create(int tiles, int width, int height, vlci_pixels *out) {
    size_t tile = 3 * (size_t)width * (size_t)height;
    *out = (vlci_pixels){.tiles = tiles, .width = width, .height = height};
    out->data = vlci_alloc((size_t)tiles * sizeof(float), tile);
    if (out->data) return VLCACHE_OK;
    *out = (vlci_pixels){0};
    return vlci_fail_memory("prepared picture");
}

vlcache_status vlci_pixels_join(const vlci_pixels *parts, int n, vlci_pixels *out) {
    int tiles = 0;
    *out = (vlci_pixels){0};
    for (int i = 0; i < n; i++) {
        tiles += parts[i].tiles;
        if (parts[i].width != parts->width || parts[i].height != parts->height)
            return vlci_fail(VLCACHE_E_INTERNAL, "pictures together: tiles of %d x %d and %d x %d pixels",
                             parts->width, parts->height, parts[i].width, parts[i].height);
    }
    vlcache_status status = vlci_pixels_create(tiles, parts->width, parts->height, out);
    float *to = out->data;
    for (int i = 0; i < n && !status; i++) {
        size_t values = (size_t)parts[i].tiles * 3 * (size_t)parts->width * (size_t)parts->height;
        memcpy(to, parts[i].data, values * sizeof *to);
        to += values;
    }
    return status;
}

void vlci_pixels_cut(const vlci_processor *processor, const vlci_rgb *rgb, int first, vlci_pixels *to) {
    float table[3][256];
    size_t tile = 3 * (size_t)to->width * (size_t)to->height;
    float *out = to->data + (size_t)first * tile;
    value_table(processor, table);
    for (int y = 0; y < rgb->height; y += to->height)
        for (int x = 0; x < rgb->width; x += to->width, out += tile)
            planes(rgb->data, rgb->width, x, y, table, to, out);
}

vlcache_status vlci_pixels_fill(const vlci_processor *processor, const vlcache_image *image,
                                const vlci_view *v, int first, vlci_pixels *to) {
    vlci_rgb rgb = {v->columns, v->rows, vlci_calloc((size_t)v->columns * 3, (size_t)v->rows)};
    if (!rgb.data) return vlci_fail_memory("prepared picture");
    vlcache_status status = render(processor, image, v, rgb.data);
    if (!status) vlci_pixels_cut(processor, &rgb, first, to);
    vlci_rgb_release(&rgb);
    return status;
}

vlcache_status vlci_rgb_squeeze(const uint8_t *rgb, int from_width, int from_height, int resample, int width,
                                int height, vlci_rgb *out) {
    const vlci_canvas canvas = {rgb, from_width, from_height, 0, 0, from_width, from_height, {0}};
    const vlci_window all = {width, height, 0, 0, width, height};
    *out = (vlci_rgb){width, height, vlci_alloc((size_t)width * 3, (size_t)height)};
    if (!out->data) return vlci_fail_memory("prepared picture");
    vlcache_status status = vlci_resample(&canvas, (vlci_filter)resample, &all, out->data, (size_t)width * 3);
    if (status) vlci_rgb_release(out);
    return status;
}

void vlci_rgb_release(vlci_rgb *rgb) {
    vlci_free(rgb->data);
    *rgb = (vlci_rgb){0};
}

void vlci_pixels_release(vlci_pixels *pixels) {
    if (!pixels) return;
    vlci_free(pixels->data);
    *pixels = (vlci_pixels){0};
}
