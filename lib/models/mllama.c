/*
 * mllama.c - the family of Llama 3.2 Vision: a picture on a canvas of tiles, which is no row of the prompt
 * but what some layers of the text model look at.
 *
 *     picture -> fitted into the canvas of the nearest size, black right of it and below -> tiles
 *     tower: all tiles at once, as many as there may be -> states -> one matrix -> rows of cross-attention
 *     prompt: one <|image|> a picture, an ordinary row; it and what follows sees the picture, up to the next
 */
#include "models/mllama.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "device/tap.h"
#include "models/config.h"
#include "models/mllama_tower.h"
#include "models/projector.h"
#include "picture/prepare.h"

/* MORE_IDS: rows of the embedding behind the vocabulary's; MOST_ROWS: of all tiles of a picture. */
enum { MOST_TILES = 64, MORE_IDS = 8, MOST_ROWS = 1 << 21 };

/* What config->eyes points to. */
typedef struct mllama {
    vlci_mllama_tower_config vision;
    vlci_processor processor;
    vlci_mllama_tower tower; /* from here on: loaded */
    vlci_projector projector;
} mllama;

static const vlci_naming names[] = {
    {{"language_model.model.", "model.language_model.", "model.language_model.model."}},
    {{"language_model.lm_head.", "lm_head.", "model.lm_head."}},
    {{"vision_model.", "model.vision_model."}},
    {{"multi_modal_projector.", "model.multi_modal_projector."}},
    {{NULL}},
};

/* ---- settings: the tower ------------------------------------------------------------------------------- */

/* MllamaVisionConfig's own values. */
static const vlci_mllama_tower_config usual_vision = {.hidden = 1280,
                                                      .layers = 32,
                                                      .global_layers = 8,
                                                      .heads = 16,
                                                      .intermediate = 5120,
                                                      .image_size = 448,
                                                      .patch_size = 14,
                                                      .tiles = 4,
                                                      .norm_eps = 1e-5f,
                                                      .act = VLCI_ACT_GELU,
                                                      .taken = {3, 7, 15, 23, 30},
                                                      .n_taken = 5};

/* Shapes of at most `tiles` tiles: number 1 + i is the i-th of these, rows first. */
static int count_shapes(int tiles) {
    int n = 0;
    for (int rows = 1; rows <= tiles; rows++) n += tiles / rows;
    return n;
}

/* "supported_aspect_ratios" lists what the processor makes of max_num_tiles, in its order. */
static vlcache_status read_shapes(const vlci_scope *scope, vlci_mllama_tower_config *c) {
    const json_t *list;
    vlcache_status status = vlci_json_array(scope, "supported_aspect_ratios", &list);
    size_t at = 0;
    bool same = true;
    c->shapes = count_shapes(c->tiles);
    if (status || (!list && c->tiles == 4)) return status;
    for (int rows = 1; rows <= c->tiles; rows++)
        for (int columns = 1; columns <= c->tiles / rows; columns++, at++) {
            const json_t *one = json_array_get(list, at);
            same &= json_array_size(one) == 2 && json_integer_value(json_array_get(one, 0)) == rows &&
                    json_integer_value(json_array_get(one, 1)) == columns;
        }
    if (same && json_array_size(list) == at) return VLCACHE_OK;
    return vlci_json_unsupported(scope, "supported_aspect_ratios",
                                 "must list all shapes of at most max_num_tiles %d tiles: [1, 1], [1, 2], ..",
                                 c->tiles);
}

static vlcache_status read_sizes(const vlci_scope *scope, vlci_mllama_tower_config *c) {
    int channels = 3;
    vlcache_status status = vlci_json_int(scope, "hidden_size", 1, VLCI_MAX_WIDTH, &c->hidden);
    if (!status) status = vlci_json_int(scope, "intermediate_size", 1, VLCI_MAX_WIDTH, &c->intermediate);
    if (!status) status = vlci_json_int(scope, "num_hidden_layers", 1, VLCI_MAX_LAYERS, &c->layers);
    if (!status) status = vlci_json_int(scope, "num_global_layers", 0, VLCI_MAX_LAYERS, &c->global_layers);
    if (!status) status = vlci_json_int(scope, "num_attention_heads", 1, VLCI_MAX_HEADS, &c->heads);
    if (!status) status = vlci_json_int(scope, "attention_heads", 1, VLCI_MAX_HEADS, &c->heads);
    if (!status) status = vlci_hub_side(scope, "image_size", 4096, &c->image_size);
    if (!status) status = vlci_hub_side(scope, "patch_size", 1024, &c->patch_size);
    if (!status) status = vlci_json_int(scope, "max_num_tiles", 1, MOST_TILES, &c->tiles);
    if (!status) status = vlci_json_int(scope, "num_channels", 1, VLCI_MAX_IDS, &channels);
    if (!status && channels != 3)
        status = vlci_json_unsupported(scope, "num_channels", "is %d; 3 (RGB) is supported", channels);
    return status;
}

static vlcache_status check_sizes(const vlci_scope *scope, const vlci_mllama_tower_config *c) {
    if (c->hidden % c->heads)
        return vlci_json_bad(scope, "attention_heads", "is %d, which does not divide hidden_size %d",
                             c->heads, c->hidden);
    if (c->patch_size > c->image_size)
        return vlci_json_bad(scope, "patch_size", "is %d, larger than image_size %d", c->patch_size,
                             c->image_size);
    if (vlci_mllama_rows(c) > MOST_ROWS / c->tiles)
        return vlci_json_unsupported(scope, "patch_size", "is %d: %d tiles come to more than %d patches",
                                     c->patch_size, c->tiles, MOST_ROWS);
    return VLCACHE_OK;
}

static vlcache_status read_vision(const vlci_scope *root, vlci_mllama_tower_config *c) {
    const char *type = "mllama_vision_model";
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "vision_config", &scope);
    *c = usual_vision;
    if (!status) status = vlci_json_string(&scope, "model_type", &type);
    if (!status && strcmp(type, "mllama_vision_model") != 0)
        status = vlci_json_unsupported(&scope, "model_type",
                                       "vision model \"%.64s\"; mllama_vision_model is supported", type);
    if (!status) status = read_sizes(&scope, c);
    if (!status) status = check_sizes(&scope, c);
    if (!status) status = read_shapes(&scope, c);
    if (!status) status = vlci_json_float(&scope, "norm_eps", 0, 1, &c->norm_eps);
    if (!status) status = vlci_hub_activation(&scope, "hidden_act", &c->act);
    if (!status)
        status = vlci_hub_layers(&scope, "intermediate_layers_indices", c->layers, VLCI_MLLAMA_TAKEN_MAX,
                                 c->taken, &c->n_taken);
    if (!status && c->n_taken && c->taken[c->n_taken - 1] >= c->layers)
        status = vlci_json_bad(&scope, "intermediate_layers_indices",
                               "is missing, and the default %d is not below num_hidden_layers %d",
                               c->taken[c->n_taken - 1], c->layers);
    c->head_dim = c->hidden / c->heads;
    int width = 7680;
    if (!status) status = vlci_json_int(&scope, "vision_output_dim", 1, VLCI_MAX_WIDTH, &width);
    if (!status && width != vlci_mllama_width(c))
        status = vlci_json_bad(&scope, "vision_output_dim",
                               "is %d; hidden_size %d, once and for each of %d intermediate layers, gives %d",
                               width, c->hidden, c->n_taken, vlci_mllama_width(c));
    return status;
}

/* ---- settings: text and processor ---------------------------------------------------------------------- */

/* Which layers are of cross-attention. */
static vlcache_status read_crossing(const vlci_scope *root, vlci_text_config *text) {
    static const int usual[] = {3, 8, 13, 18, 23, 28, 33, 38};
    int list[VLCI_MAX_LAYERS], n = sizeof usual / sizeof *usual;
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "text_config", &scope);
    memcpy(list, usual, sizeof usual);
    if (!status)
        status = vlci_hub_layers(&scope, "cross_attention_layers", text->layers, VLCI_MAX_LAYERS, list, &n);
    if (status) return status;
    if (!n || list[n - 1] >= text->layers)
        return vlci_json_bad(&scope, "cross_attention_layers",
                             n ? "is missing, and the default 38 is not below num_hidden_layers %d"
                               : "names none of %d layers: the model would not see its pictures",
                             text->layers);
    for (int i = 0; i < n; i++) text->crossing[list[i] / 32] |= (uint32_t)1 << (list[i] % 32);
    text->crosses = n;
    return VLCACHE_OK;
}

static vlcache_status read_text(const vlci_scope *root, vlci_config *config) {
    vlcache_status status =
        vlci_text_config_read_nested(root, "mllama_text_model", &config->text, &config->text_model_type);
    config->text.more_ids = MORE_IDS;
    if (!status && config->text.tied)
        status = vlci_json_unsupported(root, "tie_word_embeddings",
                                       "true; an embedding of %d more rows than the vocabulary is no head",
                                       MORE_IDS);
    if (!status) status = read_crossing(root, &config->text);
    return status ? status : vlci_config_read_image_token(root, 128256, config);
}

static vlcache_status check_processor(const vlci_scope *scope, const mllama *eyes, bool pad, int tiles) {
    const vlci_processor *image = &eyes->processor;
    int side = eyes->vision.image_size;
    if (image->crop) return vlci_json_unsupported(scope, "do_center_crop", "only false is supported");
    if (!image->resize) return vlci_json_unsupported(scope, "do_resize", "only true is supported");
    if (!pad) return vlci_json_unsupported(scope, "do_pad", "only true is supported");
    if (image->shortest_edge || image->resize_width != side || image->resize_height != side)
        return vlci_json_unsupported(scope, "size",
                                     "only height and width of config.json's vision_config.image_size %d are "
                                     "supported",
                                     side);
    if (tiles != eyes->vision.tiles)
        return vlci_json_bad(scope, "max_image_tiles", "is %d, config.json's vision_config.max_num_tiles %d",
                             tiles, eyes->vision.tiles);
    return VLCACHE_OK;
}

static vlcache_status read_processor(const vlci_scope *scope, mllama *eyes) {
    const char *type = "MllamaImageProcessor";
    int tiles = 4;
    bool pad = true;
    vlcache_status status = vlci_processor_type(scope, &type);
    if (!status && !vlci_processor_is(type, "MllamaImageProcessor"))
        status = vlci_json_unsupported(scope, "image_processor_type",
                                       "\"%.64s\"; this model type takes MllamaImageProcessor", type);
    if (!status) status = vlci_processor_read(scope, &eyes->processor);
    if (!status) status = vlci_json_bool(scope, "do_pad", &pad);
    if (!status) status = vlci_json_int(scope, "max_image_tiles", 1, MOST_TILES, &tiles);
    return status ? status : check_processor(scope, eyes, pad, tiles);
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    static const vlci_processor values = {VLCI_PROCESSOR_HALVES, .resample = 2, .resize_width = 224,
                                          .resize_height = 224};
    vlci_scope image;
    mllama *eyes = vlci_calloc(1, sizeof *eyes);
    if (!eyes) return vlci_fail_memory("settings of a vision tower");
    config->eyes = eyes;
    eyes->processor = values;
    vlcache_status status = read_text(&hub->config, config);
    if (!status) status = read_vision(&hub->config, &eyes->vision);
    if (!status) status = vlci_hub_image(hub, &image);
    return status ? status : read_processor(&image, eyes);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static vlcache_status load(vlci_upload *up, vlci_config *config) {
    mllama *eyes = config->eyes;
    const vlci_projector_config projector = {.prefix = "",
                                             .first = "multi_modal_projector",
                                             .from = vlci_mllama_width(&eyes->vision),
                                             .to = config->text.hidden,
                                             .bias = true};
    vlcache_status status = vlci_mllama_tower_load(up, &eyes->vision, &eyes->tower);
    return status ? status : vlci_projector_load(up, &projector, &eyes->projector);
}

static void release(vlci_config *config) {
    mllama *eyes = config->eyes;
    if (!eyes) return;
    vlci_projector_release(&eyes->projector);
    vlci_mllama_tower_release(&eyes->tower);
    vlci_free(eyes);
    config->eyes = NULL;
}

static void describe(const vlci_config *config, vlcache_model_info *info) {
    const vlci_mllama_tower_config *vision = &((const mllama *)config->eyes)->vision;
    info->image_side = vision->image_size;
    info->patch_side = vision->patch_size;
    info->tower_layers = vision->layers + vision->global_layers;
    info->tower_heads = vision->heads;
    info->tower_hidden = vision->hidden;
}

/* ---- geometry ------------------------------------------------------------------------------------------ */

typedef struct geometry {
    int rows, columns, shape; /* tiles of the canvas; number of their shape, from 1 on */
    vlci_view view;
} geometry;

/* How much a picture grows so that it just fits into rows x columns tiles. */
static double growth(int side, int rows, int columns, int width, int height) {
    double down = (double)(rows * side) / height, across = (double)(columns * side) / width;
    return across > down ? down : across;
}

/* Whether a canvas goes before the best so far: the least that is no shrinking, else the most; of equals the
 * smaller canvas, and of these the first. */
static bool goes_before(double scale, int area, double best, int best_area) {
    if (scale == best) return area < best_area;
    if (scale >= 1) return best < 1 || scale < best;
    return best < 1 && scale > best;
}

static void choose_canvas(const mllama *eyes, int width, int height, geometry *g) {
    int most = eyes->vision.tiles, shape = 0;
    double best = 0;
    for (int rows = 1; rows <= most; rows++)
        for (int columns = 1; columns <= most / rows; columns++) {
            double scale = growth(eyes->vision.image_size, rows, columns, width, height);
            shape++;
            if (!goes_before(scale, rows * columns, best, g->rows * g->columns)) continue;
            best = scale;
            g->rows = rows, g->columns = columns, g->shape = shape;
        }
}

static int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

/* A side that goes with the other, which was scaled: cut to a whole number, at least 1. */
static int follow(int side, double scale, int most) {
    double length = floor(side * scale);
    return length < 1 ? 1 : length > most ? most : (int)length;
}

/* The picture in the canvas's upper left corner, no side shorter than a tile where the ratio lets it. */
static void fit(const mllama *eyes, int width, int height, geometry *g) {
    int side = eyes->vision.image_size;
    int wide = clamp(width, side, g->columns * side), high = clamp(height, side, g->rows * side);
    double across = (double)wide / width, down = (double)high / height;
    int fitted_width = across < down ? wide : follow(width, down, wide);
    int fitted_height = across < down ? follow(height, across, high) : high;
    g->view = vlci_view_squeeze(width, height, fitted_width, fitted_height);
    g->view.columns = g->columns * side;
    g->view.rows = g->rows * side;
}

static vlcache_status geometry_make(const mllama *eyes, int width, int height, geometry *g) {
    *g = (geometry){.rows = 1, .columns = 1, .shape = 1};
    vlcache_status status = vlci_view_sides(width, height);
    if (status) return status;
    choose_canvas(eyes, width, height, g);
    fit(eyes, width, height, g);
    return VLCACHE_OK;
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

/* Grids and cells of the tiles' patches; class tokens show nothing. */
static void show_tiles(const mllama *eyes, const geometry *g, int width, int height,
                       vlci_picture_layout *out) {
    int side = eyes->vision.image_size, per_tile = vlci_mllama_rows(&eyes->vision);
    vlci_layout_square square = {.side = vlci_mllama_side(&eyes->vision), .size = eyes->vision.patch_size};
    for (int i = 0; i < out->tiles; i++) {
        square.entry = square.token = i * per_tile + 1;
        square.x = i % g->columns * side;
        square.y = i / g->columns * side;
        vlci_picture_layout_square(out, i, &square, &g->view, width, height);
    }
}

/* One row of text; the tokens are none. source[0] is the picture's shape. */
static vlcache_status layout(const vlci_config *config, int width, int height, vlci_picture_layout *out) {
    const mllama *eyes = config->eyes;
    int per_tile = vlci_mllama_rows(&eyes->vision);
    geometry g;
    *out = (vlci_picture_layout){0};
    vlcache_status status = geometry_make(eyes, width, height, &g);
    int tiles = g.rows * g.columns;
    if (!status) status = vlci_picture_layout_create(1, tiles * per_tile, tiles, true, out);
    if (status) return status;
    out->tiles = tiles;
    out->aside = true;
    out->n_unseen = (eyes->vision.tiles - tiles) * per_tile;
    out->entry[0] = config->image_token;
    out->source[0] = g.shape;
    show_tiles(eyes, &g, width, height, out);
    return VLCACHE_OK;
}

static vlcache_status prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out) {
    const mllama *eyes = config->eyes;
    int width, height, side = eyes->vision.image_size;
    geometry g;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlcache_status status = geometry_make(eyes, width, height, &g);
    if (!status) status = vlci_pixels_create(g.rows * g.columns, side, side, out);
    if (!status) status = vlci_pixels_fill(&eyes->processor, image, &g.view, 0, out);
    if (status) vlci_pixels_release(out);
    return status;
}

static vlcache_status look(const vlci_config *config, const vlci_pixels *pixels,
                           const vlci_picture_layout *layout_of, cl_mem *tokens) {
    const mllama *eyes = config->eyes;
    vlcache_device *device = eyes->tower.compute->device;
    int n = layout_of->n_tokens + layout_of->n_unseen;
    cl_mem states = NULL;
    *tokens = NULL;
    vlcache_status status = vlci_mllama_tower_run(&eyes->tower, pixels, layout_of->source[0], &states);
    if (!status) vlci_tap(device, states, n, vlci_mllama_width(&eyes->vision), "vision.features");
    if (!status) status = vlci_projector_run(&eyes->projector, states, n, tokens);
    if (!status) vlci_tap(device, *tokens, n, config->text.hidden, "projector.features");
    vlci_memory_release(device, &states);
    return status;
}

const vlci_family vlci_family_mllama = {
    .name = "mllama",
    .mark = "<|image|>",
    .names = names,
    .settings = settings,
    .load = load,
    .release = release,
    .describe = describe,
    .layout = layout,
    .prepare = prepare,
    .look = look,
    .positions = vlci_positions_count,
};
