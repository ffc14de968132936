/*
 * llava_onevision.c - the family of LLaVA-OneVision: one picture in tiles, several without, or a video.
 *
 *     alone:  anyres.c's tiles
 *             layout: patches x patches | rows x (columns + newline), the grid shrunk where it is large
 *     beside others: padded to a square with the background, one tile
 *             layout: patches x patches | newline
 *     video:  each frame squeezed to one tile
 *             layout: half x half | half x half | ... | newline, each grid shrunk to half its sides
 *
 * SigLIP, the last layer's features without a norm -> two matrices. A grid of more patches than 1.1^2 times
 * those of `most` tiles is shrunk bilinearly to about those (no antialiasing, corners not aligned): a visual
 * token is a blend of four.
 *
 * Which pictures share a prompt is asked of each turn alone: what an earlier one showed stays as it was seen.
 */
#include "models/llava_onevision.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "device/tap.h"
#include "models/anyres.h"
#include "models/gather.h"
#include "vlcache/video.h"

/* ---- settings ------------------------------------------------------------------------------------------ */

static const vlci_llava_usual usual = {.tower = &vlci_vit_siglip,
                                       .feature_layer = -1,
                                       .strategy = "full",
                                       .text = "qwen2",
                                       .image_token = 151646};

/* "anyres_max_9": patches of how many tiles. */
static vlcache_status read_most(const vlci_scope *root, vlci_llava *eyes) {
    const char *ratio = "anyres_max_9";
    int most = 0, end = 0;
    vlcache_status status = vlci_json_string(root, "vision_aspect_ratio", &ratio);
    if (status) return status;
    if (sscanf(ratio, "anyres_max_%4d%n", &most, &end) != 1 || ratio[end] || most < 1)
        return vlci_json_unsupported(root, "vision_aspect_ratio",
                                     "\"%.64s\"; anyres_max_9 and the like are "
                                     "supported",
                                     ratio);
    eyes->most = most;
    return VLCACHE_OK;
}

static vlcache_status read_videos(vlci_hub *hub, vlci_config *config) {
    vlci_llava *eyes = config->eyes;
    vlci_scope video;
    vlcache_status status = vlci_config_read_video_token(&hub->config, 151647, config);
    if (!status) status = vlci_hub_video(hub, &video);
    eyes->choice = (vlci_clip_choice){.frames = 32, .least = 1, .most = VLCACHE_VIDEO_MAX_FRAMES, .step = 1};
    if (status) return status;
    return vlci_clip_read_squares(&video, eyes->vision.image_size, &eyes->frames, &eyes->choice, config);
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlci_scope image;
    vlcache_status status = vlci_llava_settings(&hub->config, &usual, config);
    vlci_llava *eyes = config->eyes;
    if (status) return status;
    eyes->processor.crop = false;
    eyes->processor.shortest_edge = 0;
    eyes->processor.resize_width = eyes->processor.resize_height = 384;
    status = read_most(&hub->config, eyes);
    if (!status) status = vlci_hub_image(hub, &image);
    if (!status)
        status =
            vlci_processor_expect(&image, "LlavaOnevisionImageProcessor"); /* whose do_pad is about batches */
    if (!status) status = vlci_processor_read(&image, &eyes->processor);
    if (!status && eyes->processor.shortest_edge)
        status = vlci_json_unsupported(&image, "size", "only height and width are supported");
    if (!status) status = vlci_llava_check_side(&image, eyes);
    if (!status) status = vlci_anyres_read(&image, &hub->config, true, eyes);
    return status ? status : read_videos(hub, config);
}

/* ---- blends -------------------------------------------------------------------------------------------- */

enum { BLEND = sizeof(vlci_blend) / sizeof(int32_t) }; /* of a layout's sources */

static void put_blend(vlci_picture_layout *out, int token, const vlci_blend *blend) {
    memcpy(out->source + (size_t)token * BLEND, blend, sizeof *blend);
}

static void put_newline(vlci_picture_layout *out, int token) {
    put_blend(out, token, &(vlci_blend){.from = {-1, -1, -1, -1}});
}

/* A layout whose sources are blends, and whose entries are all visual. */
static vlcache_status layout_create(int n, int n_grids, vlci_picture_layout *out) {
    vlcache_status status = vlci_picture_layout_create(n, n, n_grids, false, out);
    if (!status && !(out->source = vlci_calloc((size_t)n, sizeof(vlci_blend)))) {
        vlci_picture_layout_release(out);
        status = vlci_fail_memory("layout of a picture's tokens");
    }
    for (int i = 0; !status && i < n; i++) out->entry[i] = -1 - i;
    return status;
}

/* The first tile, which shows the whole picture. */
static void lay_whole(const vlci_llava *eyes, const vlci_view *view, int width, int height,
                      vlci_picture_layout *out) {
    const vlci_layout_square square = {.side = vlci_vit_side(&eyes->vision), .size = eyes->vision.patch_size};
    vlci_picture_layout_square(out, 0, &square, view, width, height);
    for (int i = 0; i < square.side * square.side; i++)
        put_blend(out, i, &(vlci_blend){.from = {i}, .weight = {1}});
}

/* ---- one picture --------------------------------------------------------------------------------------- */

/* The tokens that the grid becomes. */
typedef struct shrunk {
    int rows, columns;
} shrunk;

/* Python's a // b of positive numbers, which looks at the remainder and not at a rounded quotient. */
static int floor_ratio(double a, double b) {
    double quotient = (a - fmod(a, b)) / b, whole = floor(quotient);
    return (int)(quotient - whole > 0.5 ? whole + 1 : whole);
}

static shrunk shrink(const vlci_llava *eyes, const vlci_anyres *g) {
    double tile = (double)g->patches * g->patches;
    double ratio = sqrt((double)g->rows * g->columns / (eyes->most * tile));
    if (ratio <= 1.1) return (shrunk){g->rows, g->columns};
    return (shrunk){floor_ratio(g->rows, ratio), floor_ratio(g->columns, ratio)};
}

/* Where entry `at` of `to` falls among `from`: between low and high, and how far towards high. */
typedef struct place {
    int low, high;
    float part;
} place;

static place place_of(int at, int from, int to) {
    double source = ((double)from / to) * (at + 0.5) - 0.5;
    if (source < 0) source = 0;
    int low = (int)source < from - 1 ? (int)source : from - 1;
    return (place){low, low + (low < from - 1), (float)(source - low)};
}

static vlci_blend blend_of(const vlci_anyres *g, place y, place x) {
    const int rows[2] = {g->top + y.low, g->top + y.high}, columns[2] = {g->left + x.low, g->left + x.high};
    const float down[2] = {1 - y.part, y.part}, across[2] = {1 - x.part, x.part};
    vlci_blend blend;
    for (int i = 0; i < 4; i++) {
        blend.from[i] = vlci_anyres_source(g, 0, rows[i / 2], columns[i % 2]);
        blend.weight[i] = down[i / 2] * across[i % 2];
    }
    return blend;
}

/* Pixel of the grid's view where patch `at` of its rows or columns begins; a fraction for a part of one. */
static double pixel_of(const vlci_llava *eyes, const vlci_anyres *g, double at) {
    int tile = (int)(at / g->patches);
    return tile * (double)g->side + (at - (double)tile * g->patches) * eyes->vision.patch_size;
}

static void show_token(const vlci_llava *eyes, const vlci_anyres *g, const shrunk *to, int row, int column,
                       int width, int height, float cell[4]) {
    double down = (double)g->rows / to->rows, across = (double)g->columns / to->columns;
    const double area[4] = {pixel_of(eyes, g, g->left + column * across),
                            pixel_of(eyes, g, g->top + row * down),
                            pixel_of(eyes, g, g->left + (column + 1) * across),
                            pixel_of(eyes, g, g->top + (row + 1) * down)};
    vlci_view_area(&g->grid, area, width, height, cell);
}

/* Tokens n and following, as grid 1. */
static void lay_grid(const vlci_llava *eyes, const vlci_anyres *g, const shrunk *to, int n, int width,
                     int height, vlci_picture_layout *out) {
    if (out->n_grids > 1) out->grids[1] = (vlci_layout_grid){n, to->rows, to->columns, to->columns + 1};
    for (int r = 0; r < to->rows; r++) {
        for (int c = 0; c < to->columns; c++, n++) {
            vlci_blend blend =
                blend_of(g, place_of(r, g->rows, to->rows), place_of(c, g->columns, to->columns));
            put_blend(out, n, &blend);
            show_token(eyes, g, to, r, c, width, height, out->cell[n]);
        }
        put_newline(out, n++);
    }
}

static vlcache_status layout(const vlci_config *config, int width, int height, vlci_picture_layout *out) {
    const vlci_llava *eyes = config->eyes;
    vlci_anyres g;
    *out = (vlci_picture_layout){0};
    vlcache_status status = vlci_anyres_make(eyes, width, height, &g);
    if (status) return status;
    shrunk to = shrink(eyes, &g);
    int whole = g.patches * g.patches;
    int64_t tokens = whole + (int64_t)to.rows * (to.columns + 1);
    if (tokens * g.tiles > INT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "config.json: image_grid_pinpoints makes %lld tokens of a picture",
                         (long long)tokens);
    status = layout_create((int)tokens, to.rows && to.columns ? 2 : 1, out);
    if (status) return status;
    out->tiles = g.tiles;
    lay_whole(eyes, &g.whole, width, height, out);
    lay_grid(eyes, &g, &to, whole, width, height, out);
    return VLCACHE_OK;
}

/* ---- one of several ------------------------------------------------------------------------------------ */

static vlcache_status square_view(const vlci_llava *eyes, int width, int height, vlci_processor *processor,
                                  vlci_view *view) {
    *processor = eyes->processor;
    processor->pad_square = true;
    return vlci_view_make(processor, width, height, view);
}

static vlcache_status layout_several(const vlci_config *config, int width, int height,
                                     vlci_picture_layout *out) {
    const vlci_llava *eyes = config->eyes;
    int side = vlci_vit_side(&eyes->vision);
    vlci_processor processor;
    vlci_view view;
    *out = (vlci_picture_layout){0};
    vlcache_status status = square_view(eyes, width, height, &processor, &view);
    if (!status) status = layout_create(side * side + 1, 1, out);
    if (status) return status;
    out->tiles = 1;
    lay_whole(eyes, &view, width, height, out);
    put_newline(out, side * side);
    return VLCACHE_OK;
}

static vlcache_status prepare_several(const vlci_config *config, const vlcache_image *image,
                                      vlci_pixels *out) {
    const vlci_llava *eyes = config->eyes;
    int width, height, side = eyes->vision.image_size;
    vlci_processor processor;
    vlci_view view;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlcache_status status = square_view(eyes, width, height, &processor, &view);
    if (!status) status = vlci_pixels_create(1, side, side, out);
    if (!status) status = vlci_pixels_fill(&processor, image, &view, 0, out);
    if (status) vlci_pixels_release(out);
    return status;
}

/* ---- the look ------------------------------------------------------------------------------------------ */

static vlcache_status arrange(const vlci_config *config, cl_mem projected,
                              const vlci_picture_layout *layout_of, cl_mem *tokens) {
    const vlci_llava *eyes = config->eyes;
    size_t n = (size_t)layout_of->n_tokens;
    vlci_blend *blends = vlci_alloc(n, sizeof *blends);
    if (!blends) return vlci_fail_memory("row index");
    memcpy(blends, layout_of->source, n * sizeof *blends);
    vlcache_status status = vlci_gather_blends(eyes->tower.compute, projected, eyes->newline, blends,
                                               layout_of->n_tokens, config->text.hidden, tokens);
    vlci_free(blends);
    return status;
}

static vlcache_status look(const vlci_config *config, const vlci_pixels *pixels,
                           const vlci_picture_layout *layout_of, cl_mem *tokens) {
    const vlci_llava *eyes = config->eyes;
    vlcache_device *device = eyes->tower.compute->device;
    cl_mem features = NULL, projected = NULL;
    int rows = pixels->tiles * vlci_vit_rows(&eyes->vision);
    *tokens = NULL;
    vlcache_status status = vlci_vit_run(&eyes->tower, pixels, &features);
    if (!status) vlci_tap(device, features, rows, eyes->vision.hidden, "vision.features");
    if (!status) status = vlci_projector_run(&eyes->projector, features, rows, &projected);
    if (!status) vlci_tap(device, projected, rows, config->text.hidden, "projector.features");
    if (!status) status = arrange(config, projected, layout_of, tokens);
    vlci_memory_release(device, &projected);
    vlci_memory_release(device, &features);
    return status;
}

/* ---- videos -------------------------------------------------------------------------------------------- */

enum { MOST_ROWS = 1 << 24 }; /* of a video */

static vlcache_status choose(const vlci_config *config, const vlci_clip_asked *asked, vlci_clip *clip) {
    return vlci_clip_choose(&((const vlci_llava *)config->eyes)->choice, asked, clip);
}

static int at_once(const vlci_config *config, const vlci_clip *clip) {
    (void)clip;
    return vlci_clip_at_once(vlci_vit_rows(&((const vlci_llava *)config->eyes)->vision));
}

/* Tokens a side of a frame. */
static int half_of(const vlci_llava *eyes) {
    return (vlci_vit_side(&eyes->vision) + 1) / 2;
}

/* Token `at` of a frame, the rows of which begin at `first`. */
static vlci_blend frame_blend(const vlci_llava *eyes, int at, int first) {
    int side = vlci_vit_side(&eyes->vision), half = half_of(eyes);
    const place y = place_of(at / half, side, half), x = place_of(at % half, side, half);
    const int rows[2] = {y.low, y.high}, columns[2] = {x.low, x.high};
    const float down[2] = {1 - y.part, y.part}, across[2] = {1 - x.part, x.part};
    vlci_blend blend;
    for (int i = 0; i < 4; i++) {
        blend.from[i] = first + rows[i / 2] * side + columns[i % 2];
        blend.weight[i] = down[i / 2] * across[i % 2];
    }
    return blend;
}

static void lay_frame(const vlci_llava *eyes, const vlci_clip *clip, const vlci_view *view, int frame,
                      vlci_picture_layout *out) {
    int half = half_of(eyes), first = frame * half * half;
    double size = (double)vlci_vit_side(&eyes->vision) / half * eyes->vision.patch_size;
    out->grids[frame] = (vlci_layout_grid){first, half, half, half};
    for (int i = 0; i < half * half; i++) {
        const double x = i % half * size, y = i / half * size, area[4] = {x, y, x + size, y + size};
        vlci_view_area(view, area, clip->width, clip->height, out->cell[first + i]);
    }
}

static vlcache_status layout_video(const vlci_config *config, const vlci_clip *clip,
                                   vlci_picture_layout *out) {
    const vlci_llava *eyes = config->eyes;
    int64_t tokens = (int64_t)clip->n * half_of(eyes) * half_of(eyes) + 1;
    vlci_view view;
    *out = (vlci_picture_layout){0};
    if (tokens > MOST_ROWS)
        return vlci_fail(VLCACHE_E_CONTEXT_FULL, "a video of %d frames gives %lld rows", clip->n,
                         (long long)tokens);
    vlcache_status status = vlci_view_make(&eyes->frames, clip->width, clip->height, &view);
    if (!status) status = vlci_picture_layout_create((int)tokens, (int)tokens, clip->n, false, out);
    if (status) return status;
    for (int i = 0; i < (int)tokens; i++) out->entry[i] = -1 - i;
    for (int i = 0; i < clip->n; i++) lay_frame(eyes, clip, &view, i, out);
    out->tiles = clip->n;
    return VLCACHE_OK;
}

static vlcache_status prepare_frames(const vlci_config *config, const vlci_clip *clip,
                                     vlcache_image *const *frames, int n, vlci_pixels *out) {
    const vlci_llava *eyes = config->eyes;
    vlci_view view;
    *out = (vlci_pixels){0};
    vlcache_status status = vlci_view_make(&eyes->frames, clip->width, clip->height, &view);
    return status ? status : vlci_clip_prepare(&eyes->frames, &view, frames, n, out);
}

/* The newline stands behind the last frame. */
static vlcache_status look_at_frames(const vlci_config *config, const vlci_clip *clip,
                                     const vlci_picture_layout *whole, const vlci_pixels *pixels, int first,
                                     cl_mem *tokens, int *n_tokens) {
    const vlci_llava *eyes = config->eyes;
    int n = pixels->tiles, frame = half_of(eyes) * half_of(eyes), rows = vlci_vit_rows(&eyes->vision);
    vlci_picture_layout part;
    (void)whole;
    *tokens = NULL;
    *n_tokens = n * frame + (first + n == clip->n);
    vlcache_status status = layout_create(*n_tokens, 0, &part);
    if (status) return status;
    for (int i = 0; i < n * frame; i++) {
        vlci_blend blend = frame_blend(eyes, i % frame, i / frame * rows);
        put_blend(&part, i, &blend);
    }
    if (*n_tokens > n * frame) put_newline(&part, n * frame);
    status = look(config, pixels, &part, tokens);
    vlci_picture_layout_release(&part);
    return status;
}

static const vlci_watching watching = {
    .mark = "<video>",
    .choose = choose,
    .layout = layout_video,
    .at_once = at_once,
    .prepare = prepare_frames,
    .look = look_at_frames,
};

#define ONEVISION                                                                                            \
    .name = "llava_onevision", .mark = "<image>", .names = vlci_llava_names, .settings = settings,           \
    .load = vlci_llava_load_newline, .release = vlci_llava_release, .describe = vlci_llava_describe,         \
    .look = look, .positions = vlci_positions_count, .videos = &watching

static const vlci_family several = {ONEVISION, .layout = layout_several, .prepare = prepare_several};

const vlci_family vlci_family_llava_onevision = {ONEVISION, .layout = layout, .prepare = vlci_anyres_prepare,
                                                 .several = &several};
