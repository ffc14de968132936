/*
 * qwen_vl.c - the families of Qwen-VL: pictures of any size, a token for each merge x merge patches.
 *
 *     layout:    rows x columns tokens, nothing else (the marks around a picture are the template's)
 *     positions: of a token (start + time, start + row, start + column); the row behind a picture, or behind
 *                a video, goes on at start + max(rows, columns), so that positions of text stay below the
 *                number of rows, though the time of a video may be further
 */
#include "models/qwen_vl.h"

#include <string.h>

#include "core/alloc.h"
#include "device/tap.h"
#include "models/gather.h"

const vlci_naming vlci_qwen_vl_names[] = {
    {{"language_model.model.", "model.language_model.", "model."}},
    {{"language_model.lm_head.", "lm_head."}},
    {{"visual.", "model.visual."}},
    {{NULL}},
};

/* ---- settings: the tower ------------------------------------------------------------------------------- */

/* "qwen2_vl", as old files have it, or "qwen2_vl_vision". */
static vlcache_status check_type(const vlci_scope *vision, const char *type) {
    const char *said = type;
    vlcache_status status = vlci_json_string(vision, "model_type", &said);
    size_t n = strlen(type);
    if (status || (strncmp(said, type, n) == 0 && (!said[n] || strcmp(said + n, "_vision") == 0)))
        return status;
    return vlci_json_unsupported(vision, "model_type", "vision model \"%.64s\"; %s is supported", said, type);
}

static vlcache_status read_channels(const vlci_scope *vision) {
    static const char *const names[] = {"in_channels", "in_chans"};
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        int channels = 3;
        status = vlci_json_int(vision, names[i], 1, VLCI_MAX_WIDTH, &channels);
        if (!status && channels != 3)
            status = vlci_json_unsupported(vision, names[i], "is %d; 3 (RGB) is supported", channels);
    }
    return status;
}

static vlcache_status read_rope(const vlci_scope *vision, vlci_qwen_tower_config *c) {
    vlci_scope rope;
    const char *type = "axial";
    vlcache_status status = vlci_json_object(vision, "rope_parameters", &rope);
    if (!status) status = vlci_json_float(&rope, "rope_theta", 1, 1e12, &c->theta);
    if (!status) status = vlci_json_string(&rope, "rope_type", &type);
    if (!status && strcmp(type, "axial") != 0)
        status = vlci_json_unsupported(&rope, "rope_type", "\"%.64s\"; axial is supported", type);
    return status;
}

/* What all three write in the same words. */
static vlcache_status read_vision(const vlci_scope *vision, vlci_qwen_tower_config *c) {
    vlcache_status status = vlci_json_int(vision, "depth", 1, VLCI_MAX_LAYERS, &c->layers);
    if (!status) status = vlci_json_int(vision, "num_heads", 1, VLCI_MAX_HEADS, &c->heads);
    if (!status) status = vlci_json_int(vision, "hidden_size", 1, VLCI_MAX_WIDTH, &c->hidden);
    if (!status) status = vlci_json_int(vision, "intermediate_size", 1, VLCI_MAX_WIDTH, &c->intermediate);
    if (!status) status = vlci_json_int(vision, "out_hidden_size", 1, VLCI_MAX_WIDTH, &c->out);
    if (!status) status = vlci_hub_side(vision, "patch_size", 256, &c->patch);
    if (!status) status = vlci_json_int(vision, "spatial_merge_size", 1, 16, &c->merge);
    if (!status) status = vlci_hub_side(vision, "temporal_patch_size", 16, &c->step);
    if (!status) status = vlci_hub_activation(vision, "hidden_act", &c->act);
    if (!status) status = read_channels(vision);
    return status ? status : read_rope(vision, c);
}

/* Attention reads heads of 8 elements at a time. */
static vlcache_status check_vision(const vlci_scope *vision, const vlci_config *config,
                                   vlci_qwen_tower_config *c) {
    if (c->hidden % c->heads)
        return vlci_json_bad(vision, "num_heads", "is %d, which does not divide the width %d", c->heads,
                             c->hidden);
    c->head_dim = c->hidden / c->heads;
    if (c->head_dim % 8)
        return vlci_json_unsupported(vision, "num_heads",
                                     "is %d, which makes heads of %d; multiples of 8 are supported", c->heads,
                                     c->head_dim);
    if (c->out != config->text.hidden)
        return vlci_json_bad(vision, "out_hidden_size", "gives tokens of %d, the text model takes %d", c->out,
                             config->text.hidden);
    if (c->n_deep > config->text.layers)
        return vlci_json_unsupported(vision, "deepstack_visual_indexes",
                                     "names %d layers, the text model has %d to take their features",
                                     c->n_deep, config->text.layers);
    return VLCACHE_OK;
}

/* ---- settings: pictures -------------------------------------------------------------------------------- */

/* A size of the processor's that must be the tower's; `usual` is its class's. */
static vlcache_status read_same(const vlci_scope *image, const char *key, int usual, const char *other,
                                int wanted) {
    int value = usual;
    vlcache_status status = vlci_json_int(image, key, 1, VLCI_MAX_WIDTH, &value);
    if (status || value == wanted) return status;
    return vlci_json_bad(image, key, "is %d, config.json's vision_config.%s is %d", value, other, wanted);
}

static vlcache_status check_processor_type(const vlci_scope *image) {
    const char *type = "Qwen2VLImageProcessor";
    vlcache_status status = vlci_processor_type(image, &type);
    if (status || vlci_processor_is(type, "Qwen2VLImageProcessor") ||
        vlci_processor_is(type, "Qwen2_5_VLImageProcessor"))
        return status;
    return vlci_json_unsupported(image, "image_processor_type",
                                 "\"%.64s\"; this model type takes Qwen2VLImageProcessor", type);
}

static vlcache_status read_pictures(const vlci_scope *image, vlci_qwen_vl *eyes) {
    const vlci_qwen_tower_config *c = &eyes->vision;
    vlcache_status status = check_processor_type(image);
    if (!status) status = read_same(image, "patch_size", 14, "patch_size", c->patch);
    if (!status) status = read_same(image, "merge_size", 2, "spatial_merge_size", c->merge);
    if (!status) status = read_same(image, "temporal_patch_size", 2, "temporal_patch_size", c->step);
    if (!status) status = vlci_processor_read_values(image, &eyes->processor);
    if (!status && !eyes->processor.resize)
        status = vlci_json_unsupported(image, "do_resize", "false; the tower takes multiples of %d pixels",
                                       eyes->area.factor);
    return status ? status : vlci_area_read(image, &eyes->area);
}

/* ---- settings ------------------------------------------------------------------------------------------ */

/* Old folders have the text model's settings in the root. */
static vlcache_status read_text(const vlci_scope *root, const char *type, vlci_config *config) {
    if (vlci_json_value(root, "text_config"))
        return vlci_text_config_read_nested(root, type, &config->text, &config->text_model_type);
    return vlci_text_config_read(root, type, &config->text, &config->text_model_type);
}

vlcache_status vlci_qwen_vl_settings(vlci_hub *hub, const char *type, const vlci_qwen_tower_config *usual,
                                     vlcache_status (*more)(const vlci_scope *vision,
                                                            vlci_qwen_tower_config *config),
                                     vlci_config *config) {
    vlci_scope vision, image;
    vlci_qwen_vl *eyes = vlci_calloc(1, sizeof *eyes);
    if (!eyes) return vlci_fail_memory("settings of a vision tower");
    config->eyes = eyes;
    eyes->vision = *usual;
    eyes->processor = (vlci_processor)VLCI_PROCESSOR_CLIP;
    eyes->area = (vlci_area){.least = 56 * 56, .most = 28 * 28 * 1280};
    vlcache_status status = read_text(&hub->config, type, config);
    if (!status) status = vlci_json_object(&hub->config, "vision_config", &vision);
    if (!status) status = check_type(&vision, type);
    if (!status) status = read_vision(&vision, &eyes->vision);
    if (!status && more) status = more(&vision, &eyes->vision);
    if (!status) status = check_vision(&vision, config, &eyes->vision);
    if (!status) status = vlci_config_read_image_token(&hub->config, 151655, config);
    eyes->area.factor = eyes->vision.patch * eyes->vision.merge;
    config->text.deepstack = eyes->vision.n_deep;
    if (!status) status = vlci_hub_image(hub, &image);
    return status ? status : read_pictures(&image, eyes);
}

/* The same bounds for each frame of a video, as far as they are given. */
static void bound_frames(vlci_qwen_vl *eyes, int least, int most) {
    vlci_area *area = &eyes->clip.area;
    if (least) area->least = least;
    if (most) area->most = most;
    if (area->least > area->most && most) area->least = most;
    if (area->least > area->most) area->most = area->least;
    eyes->clip.by_frame = least || most;
}

vlcache_status vlci_qwen_vl_bound(vlci_config *config, int least, int most) {
    vlci_area *area = &((vlci_qwen_vl *)config->eyes)->area;
    int low = least ? least : area->least, high = most ? most : area->most;
    if (low < 1 || low > VLCI_AREA_MAX || high < 1 || high > VLCI_AREA_MAX) {
        bool bad = low < 1 || low > VLCI_AREA_MAX;
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, bad ? "model.min_pixels" : "model.max_pixels",
                           VLCI_VALUE("%d", bad ? low : high),
                           "must be from 1 to %d, or 0 for the model's own", VLCI_AREA_MAX);
    }
    if (low > high)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, most ? "model.max_pixels" : "model.min_pixels",
                           VLCI_VALUE("%d", most ? most : least),
                           "pictures would have at least %d pixels and at most %d: give the other bound, too",
                           low, high);
    area->least = low;
    area->most = high;
    bound_frames(config->eyes, least, most);
    return VLCACHE_OK;
}

/* ---- weights ------------------------------------------------------------------------------------------- */

vlcache_status vlci_qwen_vl_load(vlci_upload *up, vlci_config *config) {
    vlci_qwen_vl *eyes = config->eyes;
    vlci_checkpoint_skip(up->checkpoint, "visual.rotary_pos_emb.");
    return vlci_qwen_tower_load(up, &eyes->vision, &eyes->tower);
}

void vlci_qwen_vl_release(vlci_config *config) {
    vlci_qwen_vl *eyes = config->eyes;
    if (!eyes) return;
    vlci_qwen_tower_release(&eyes->tower);
    vlci_free(eyes);
    config->eyes = NULL;
}

void vlci_qwen_vl_describe(const vlci_config *config, vlcache_model_info *info) {
    const vlci_qwen_vl *eyes = config->eyes;
    info->patch_side = eyes->vision.patch;
    info->tower_layers = eyes->vision.layers;
    info->tower_heads = eyes->vision.heads;
    info->tower_hidden = eyes->vision.hidden;
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

enum { MOST_PATCHES = 1 << 21 }; /* of a picture: more than any checkpoint asks for */

/* The whole picture, resized to what the tower takes. */
static vlcache_status fit(const vlci_qwen_vl *eyes, int width, int height, vlci_view *view) {
    vlcache_status status = vlci_view_sides(width, height);
    int patch = eyes->vision.patch;
    *view = (vlci_view){.canvas_width = width, .canvas_height = height};
    if (!status) status = vlci_area_fit(&eyes->area, width, height, &view->width, &view->height);
    if (status) return status;
    int64_t patches = (int64_t)(view->width / patch) * (view->height / patch);
    if (patches > MOST_PATCHES)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "picture of %d x %d pixels: becomes %lld patches of config.json's "
                         "vision_config.patch_size %d, at most %d are taken: give smaller max_pixels",
                         width, height, (long long)patches, patch, MOST_PATCHES);
    view->columns = view->width;
    view->rows = view->height;
    return VLCACHE_OK;
}

void vlci_qwen_vl_lay_step(const vlci_qwen_vl *eyes, const vlci_qwen_grid *grid, const int32_t *block,
                           const vlci_view *view, int step, int first, vlci_picture_layout *out) {
    int rows = grid->rows / grid->merge, columns = grid->columns / grid->merge, side = eyes->area.factor;
    int per_step = rows * columns, token = step * per_step;
    out->grids[step] =
        (vlci_layout_grid){.first = first, .rows = rows, .columns = columns, .stride = columns};
    for (int i = 0; i < per_step; i++) {
        out->entry[first + i] = -1 - (token + i);
        out->source[token + i] = token + block[i];
        vlci_view_cell(view, i % columns * side, i / columns * side, side, view->canvas_width,
                       view->canvas_height, out->cell[token + i]);
    }
}

vlcache_status vlci_qwen_vl_layout(const vlci_config *config, int width, int height,
                                   vlci_picture_layout *out) {
    const vlci_qwen_vl *eyes = config->eyes;
    vlci_view view;
    vlci_qwen_order order = {0};
    *out = (vlci_picture_layout){0};
    vlcache_status status = fit(eyes, width, height, &view);
    if (status) return status;
    const vlci_qwen_grid grid = vlci_qwen_tower_grid(&eyes->vision, 1, view.width, view.height);
    status = vlci_qwen_order_create(&grid, &order);
    if (!status) status = vlci_picture_layout_create(order.tokens, order.tokens, 1, true, out);
    if (!status) vlci_qwen_vl_lay_step(eyes, &grid, order.block, &view, 0, 0, out);
    out->tiles = !status;
    vlci_qwen_order_release(&order);
    return status;
}

vlcache_status vlci_qwen_vl_prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out) {
    const vlci_qwen_vl *eyes = config->eyes;
    int width, height;
    vlci_view view;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlcache_status status = fit(eyes, width, height, &view);
    if (!status) status = vlci_pixels_create(1, view.width, view.height, out);
    if (!status) status = vlci_pixels_fill(&eyes->processor, image, &view, 0, out);
    if (status) vlci_pixels_release(out);
    return status;
}

/* A token's sets of features beside each other, tokens in the layout's order. */
static vlcache_status arrange(const vlci_qwen_vl *eyes, cl_mem features, const vlci_picture_layout *layout,
                              cl_mem *tokens) {
    int n = layout->n_tokens, sets = 1 + eyes->vision.n_deep;
    int32_t *source = vlci_alloc((size_t)n * sizeof *source, (size_t)sets);
    if (!source) return vlci_fail_memory("row index");
    for (int i = 0; i < n; i++)
        for (int set = 0; set < sets; set++) source[i * sets + set] = set * n + layout->source[i];
    vlcache_status status =
        vlci_gather(eyes->tower.compute, features, NULL, source, n * sets, eyes->vision.out, tokens);
    vlci_free(source);
    return status;
}

vlcache_status vlci_qwen_vl_look(const vlci_config *config, const vlci_pixels *pixels,
                                 const vlci_picture_layout *layout, cl_mem *tokens) {
    const vlci_qwen_vl *eyes = config->eyes;
    vlcache_device *device = eyes->tower.compute->device;
    cl_mem features = NULL;
    const vlci_qwen_grid grid =
        vlci_qwen_tower_grid(&eyes->vision, pixels->tiles, pixels->width, pixels->height);
    vlci_qwen_order order = {0};
    *tokens = NULL;
    vlcache_status status = vlci_qwen_order_create(&grid, &order);
    if (!status) status = vlci_qwen_tower_run(&eyes->tower, pixels, &grid, &order, &features);
    if (!status) vlci_tap(device, features, order.tokens, eyes->vision.out, "projector.features");
    if (!status) status = arrange(eyes, features, layout, tokens);
    vlci_memory_release(device, &features);
    vlci_qwen_order_release(&order);
    return status;
}

/* ---- positions ----------------------------------------------------------------------------------------- */

/* Grids `from` and following that stand row to row: steps of a video, or one picture. */
static int adjoining(const vlci_picture_layout *layout, int from) {
    int to = from + 1;
    for (; to < layout->n_grids; to++) {
        const vlci_layout_grid *g = &layout->grids[to - 1];
        if (g->first + g->rows * g->columns != layout->grids[to].first) break;
    }
    return to;
}

/* `steps` grids from `g` on, the first row at `at`; returns where the row behind them comes. */
static int32_t position_steps(const vlci_layout_grid *g, int steps, float pace, int32_t at,
                              int32_t (*position)[3]) {
    int32_t longest = g->rows > g->columns ? g->rows : g->columns;
    for (int step = 0; step < steps; step++) {
        for (int i = 0; i < g[step].rows * g[step].columns; i++) {
            int32_t *to = position[g[step].first + i];
            to[0] = at + (int32_t)((float)step * (pace > 0 ? pace : 1));
            to[1] = at + i / g[step].columns;
            to[2] = at + i % g[step].columns;
        }
    }
    return at + longest;
}

/* A picture's rows: grids, and text between those of a video. */
static int32_t position_picture(const vlci_placed_picture *picture, int32_t at, int32_t (*position)[3]) {
    const vlci_picture_layout *layout = picture->layout;
    position += picture->row;
    for (int row = 0, grid = 0; row < layout->n;) {
        if (grid < layout->n_grids && layout->grids[grid].first == row) {
            int end = adjoining(layout, grid);
            const vlci_layout_grid *last = &layout->grids[end - 1];
            at = position_steps(&layout->grids[grid], end - grid, layout->pace, at, position);
            row = last->first + last->rows * last->columns;
            grid = end;
            continue;
        }
        for (int axis = 0; axis < 3; axis++) position[row][axis] = at;
        row++, at++;
    }
    return at;
}

void vlci_qwen_vl_positions(const vlci_config *config, const vlci_placed_picture *pictures, size_t n_pictures,
                            int32_t start, int n, int32_t (*position)[3], int32_t *next) {
    int32_t at = start;
    size_t picture = 0;
    (void)config;
    for (int row = 0; row < n;) {
        if (picture < n_pictures && row == pictures[picture].row) {
            at = position_picture(&pictures[picture], at, position);
            row += pictures[picture++].layout->n;
            continue;
        }
        for (int axis = 0; axis < 3; axis++) position[row][axis] = at;
        row++, at++;
    }
    *next = at;
}
