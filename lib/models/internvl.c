/*
 * internvl.c - the family of InternVL, as transformers has it ("-hf"): the picture in a grid of tiles of the
 * nearest shape, then whole.
 *
 *     tiles:  the picture squeezed to columns x rows tiles, row by row;
 *             then, where they are several, squeezed to one more
 *             layout: <img> tokens ... </img>
 *     video:  each frame squeezed to a tile
 *             layout: Frame1: <img> tokens </img> \n Frame2: ...
 *
 * InternViT without its class token -> squares of patches (pixel shuffle) -> LN, two matrices.
 */
#include "models/internvl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "models/clip.h"
#include "models/config.h"
#include "models/entries.h"
#include "models/eyes.h"
#include "picture/prepare.h"
#include "vlcache/video.h"

enum { MOST_TILES = 1024 };

/* What config->eyes points to. */
typedef struct internvl {
    vlci_eyes all;
    int factor; /* patches a side of what becomes one visual token */
    vlci_activation projector_act;
    int least, most; /* tiles of the grid */
    vlci_processor frames;
    vlci_clip_choice choice;
} internvl;

static const vlci_naming names[] = {
    {{"language_model.model.", "model.language_model.", "model.language_model.model."}},
    {{"language_model.lm_head.", "lm_head.", "model.lm_head."}},
    {{"vision_tower.", "model.vision_tower."}},
    {{"multi_modal_projector.", "model.multi_modal_projector."}},
    {{NULL}},
};

/* ---- settings ------------------------------------------------------------------------------------------ */

/* 0.5: two patches a side become one. */
static vlcache_status read_ratio(const vlci_scope *root, internvl *eyes) {
    float ratio = 0.5f;
    int side = vlci_vit_side(&eyes->all.vision);
    vlcache_status status = vlci_json_float(root, "downsample_ratio", 1e-3, 1, &ratio);
    if (status) return status;
    eyes->factor = (int)lroundf(1 / ratio);
    if (fabsf((float)eyes->factor * ratio - 1) > 1e-4f)
        return vlci_json_unsupported(root, "downsample_ratio", "is %g; one in a whole number is supported",
                                     (double)ratio);
    if (side % eyes->factor)
        return vlci_json_bad(root, "downsample_ratio",
                             "is %g, which does not divide the %d patches of a side", (double)ratio, side);
    return VLCACHE_OK;
}

static vlcache_status read_vision(const vlci_scope *root, internvl *eyes) {
    const char *strategy = "default";
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "vision_config", &scope);
    eyes->all.vision = vlci_vit_intern.defaults;
    if (!status) status = vlci_vit_config_read(&scope, &vlci_vit_intern, &eyes->all.vision);
    if (!status) status = vlci_vit_feature_read(root, -1, &eyes->all.vision);
    if (!status) status = vlci_json_string(root, "vision_feature_select_strategy", &strategy);
    if (!status && strcmp(strategy, "default") != 0)
        status = vlci_json_unsupported(root, "vision_feature_select_strategy",
                                       "\"%.64s\"; default is supported", strategy);
    if (!status && eyes->all.vision.run_layers < eyes->all.vision.layers) eyes->all.vision.post_norm = false;
    if (!status) status = vlci_hub_activation(root, "projector_hidden_act", &eyes->projector_act);
    return status ? status : read_ratio(root, eyes);
}

/* "crop_to_patches" is not looked at: InternVL's processor says true, whatever the file says. */
static vlcache_status read_processor(const vlci_scope *scope, internvl *eyes) {
    vlcache_status status = vlci_processor_expect(scope, "GotOcr2ImageProcessor");
    if (!status) status = vlci_processor_read(scope, &eyes->all.processor);
    if (!status) status = vlci_json_int(scope, "min_patches", 1, MOST_TILES, &eyes->least);
    if (!status) status = vlci_json_int(scope, "max_patches", 1, MOST_TILES, &eyes->most);
    if (status) return status;
    if (eyes->least > eyes->most)
        return vlci_json_bad(scope, "min_patches", "is %d, max_patches is %d", eyes->least, eyes->most);
    return vlci_eyes_check_squeezed(scope, &eyes->all);
}

/* Whether frames stand in the middle of their parts. */
static vlcache_status read_shift(const vlci_scope *scope, bool *middle) {
    const json_t *value = vlci_json_value(scope, "initial_shift");
    if (value && !json_is_boolean(value))
        return vlci_json_unsupported(scope, "initial_shift", "only true and false are supported");
    if (value) *middle = json_is_true(value);
    return VLCACHE_OK;
}

static vlcache_status read_videos(vlci_hub *hub, vlci_config *config) {
    internvl *eyes = config->eyes;
    vlci_scope video;
    vlcache_status status = vlci_hub_video(hub, &video);
    config->video_token = VLCI_TOKEN_OF_MARK;
    eyes->choice = (vlci_clip_choice){
        .frames = 8, .least = 1, .most = VLCACHE_VIDEO_MAX_FRAMES, .step = 1, .middle = true};
    if (!status)
        status =
            vlci_clip_read_squares(&video, eyes->all.vision.image_size, &eyes->frames, &eyes->choice, config);
    return status ? status : read_shift(&video, &eyes->choice.middle);
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlci_scope image;
    vlci_processor values = VLCI_PROCESSOR_CLIP;
    vlcache_status status = vlci_eyes_create(sizeof(internvl), config);
    if (status) return status;
    internvl *eyes = config->eyes;
    values.crop = false;
    values.shortest_edge = 0, values.resize_width = values.resize_height = 384;
    *eyes = (internvl){.all.processor = values, .projector_act = VLCI_ACT_GELU, .least = 1, .most = 12};
    status = read_vision(&hub->config, eyes);
    if (!status)
        status = vlci_text_config_read_nested(&hub->config, "qwen2", &config->text, &config->text_model_type);
    if (!status && !vlci_json_value(&hub->config, "tie_word_embeddings"))
        config->text.tied = true; /* InternVLConfig's own; where a head is stored, that one counts */
    if (!status) status = vlci_config_read_image_token(&hub->config, 151667, config);
    if (!status) status = vlci_hub_image(hub, &image);
    if (!status) status = read_processor(&image, eyes);
    return status ? status : read_videos(hub, config);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static vlcache_status load(vlci_upload *up, vlci_config *config) {
    internvl *eyes = config->eyes;
    const vlci_projector_config projector = {.prefix = "multi_modal_projector.",
                                             .norm = "layer_norm",
                                             .norm_eps = 1e-5f,
                                             .first = "linear_1",
                                             .second = "linear_2",
                                             .from = eyes->all.vision.hidden * eyes->factor * eyes->factor,
                                             .to = config->text.hidden,
                                             .bias = true,
                                             .act = eyes->projector_act};
    return vlci_eyes_load(up, &projector, &eyes->all);
}

/* ---- geometry ------------------------------------------------------------------------------------------ */

typedef struct geometry {
    int rows, columns;
    int tiles; /* the whole picture among them */
} geometry;

/* Takes a grid where its shape is nearer to the picture's than that of the one before; of equals the larger
 * one, as long as the picture is larger than half of its pixels. */
static void consider(const internvl *eyes, int width, int height, int columns, int rows, double *least,
                     geometry *g) {
    double off = fabs((double)width / height - (double)columns / rows), side = eyes->all.vision.image_size;
    bool large = (double)width * height > 0.5 * side * side * columns * rows;
    if (off > *least || (off == *least && !large)) return;
    *least = off;
    g->columns = columns;
    g->rows = rows;
}

static vlcache_status geometry_make(const internvl *eyes, int width, int height, geometry *g) {
    double least = INFINITY;
    *g = (geometry){1, 1, 1};
    vlcache_status status = vlci_view_sides(width, height);
    if (status || eyes->most == 1) return status;
    for (int area = eyes->least; area <= eyes->most; area++)
        for (int columns = 1; columns <= area; columns++)
            if (area % columns == 0) consider(eyes, width, height, columns, area / columns, &least, g);
    g->tiles = g->rows * g->columns;
    if (g->tiles > 1) g->tiles++;
    return VLCACHE_OK;
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

static vlci_view grid_view(const internvl *eyes, const geometry *g, int width, int height) {
    int side = eyes->all.vision.image_size;
    return vlci_view_squeeze(width, height, g->columns * side, g->rows * side);
}

static vlci_view whole_view(const internvl *eyes, int width, int height) {
    return vlci_view_squeeze(width, height, eyes->all.vision.image_size, eyes->all.vision.image_size);
}

/* Grids and cells: the tiles', then those of the whole picture; `first`: entry of the first token. */
static void show_tiles(const internvl *eyes, const geometry *g, int first, int width, int height,
                       vlci_picture_layout *out) {
    int tile = eyes->all.vision.image_size, n = g->rows * g->columns;
    vlci_view grid = grid_view(eyes, g, width, height), whole = whole_view(eyes, width, height);
    vlci_layout_square square = {.side = vlci_vit_side(&eyes->all.vision) / eyes->factor,
                                 .size = eyes->all.vision.patch_size * eyes->factor};
    for (int i = 0; i < g->tiles; i++) {
        square.token = i * square.side * square.side;
        square.entry = first + square.token;
        square.x = i < n ? i % g->columns * tile : 0;
        square.y = i < n ? i / g->columns * tile : 0;
        vlci_picture_layout_square(out, i, &square, i < n ? &grid : &whole, width, height);
    }
    out->tiles = g->tiles;
}

static vlcache_status layout(const vlci_config *config, int width, int height, vlci_picture_layout *out) {
    const internvl *eyes = config->eyes;
    int side = vlci_vit_side(&eyes->all.vision) / eyes->factor, first = 0;
    vlci_entries entries = {.tokenizer = config->tokenizer, .mark = config->family->mark};
    geometry g;
    *out = (vlci_picture_layout){0};
    vlcache_status status = geometry_make(eyes, width, height, &g);
    if (!status) status = vlci_entries_text(&entries, "<img>");
    if (!status) status = vlci_entries_tokens(&entries, (int64_t)g.tiles * side * side, &first);
    if (!status) status = vlci_entries_text(&entries, "</img>");
    if (!status) status = vlci_entries_end(&entries, g.tiles, false, out);
    if (!status) show_tiles(eyes, &g, first, width, height, out);
    vlci_entries_release(&entries);
    return status;
}

static vlcache_status prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out) {
    const internvl *eyes = config->eyes;
    int width, height, side = eyes->all.vision.image_size;
    geometry g;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlcache_status status = geometry_make(eyes, width, height, &g);
    if (!status) status = vlci_pixels_create(g.tiles, side, side, out);
    vlci_view grid = grid_view(eyes, &g, width, height), whole = whole_view(eyes, width, height);
    if (!status) status = vlci_pixels_fill(&eyes->all.processor, image, &grid, 0, out);
    if (!status && g.tiles > 1)
        status = vlci_pixels_fill(&eyes->all.processor, image, &whole, g.tiles - 1, out);
    if (status) vlci_pixels_release(out);
    return status;
}

static vlcache_status look(const vlci_config *config, const vlci_pixels *pixels,
                           const vlci_picture_layout *layout_of, cl_mem *tokens) {
    const internvl *eyes = config->eyes;
    return vlci_eyes_look(config, pixels, eyes->factor, layout_of, tokens);
}

/* ---- videos -------------------------------------------------------------------------------------------- */

static vlcache_status choose(const vlci_config *config, const vlci_clip_asked *asked, vlci_clip *clip) {
    return vlci_clip_choose(&((const internvl *)config->eyes)->choice, asked, clip);
}

static int at_once(const vlci_config *config, const vlci_clip *clip) {
    (void)clip;
    return vlci_clip_at_once(vlci_vit_rows(&((const internvl *)config->eyes)->all.vision));
}

/* "</img>\nFrame2: <img>" and the tokens behind it; first[frame] is the entry of the first. */
static vlcache_status put_frames(const vlci_clip *clip, int tokens, vlci_entries *e, int *first) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < clip->n && !status; i++) {
        char text[64];
        snprintf(text, sizeof text, "%sFrame%d: <img>", i ? "</img>\n" : "", i + 1);
        status = vlci_entries_text(e, text);
        if (!status) status = vlci_entries_tokens(e, tokens, &first[i]);
    }
    return status ? status : vlci_entries_text(e, "</img>");
}

static vlcache_status layout_video(const vlci_config *config, const vlci_clip *clip,
                                   vlci_picture_layout *out) {
    const internvl *eyes = config->eyes;
    const vlci_layout_square square = {.side = vlci_vit_side(&eyes->all.vision) / eyes->factor,
                                       .size = eyes->all.vision.patch_size * eyes->factor};
    const vlci_view view = whole_view(eyes, clip->width, clip->height);
    return vlci_clip_layout(config, clip, square, &view, put_frames, out);
}

static vlcache_status prepare_frames(const vlci_config *config, const vlci_clip *clip,
                                     vlcache_image *const *frames, int n, vlci_pixels *out) {
    const internvl *eyes = config->eyes;
    const vlci_view view = whole_view(eyes, clip->width, clip->height);
    return vlci_clip_prepare(&eyes->frames, &view, frames, n, out);
}

static vlcache_status look_at_frames(const vlci_config *config, const vlci_clip *clip,
                                     const vlci_picture_layout *whole, const vlci_pixels *pixels, int first,
                                     cl_mem *tokens, int *n_tokens) {
    (void)first;
    *n_tokens = whole->n_tokens / clip->n * pixels->tiles;
    const vlci_picture_layout part = {.n_tokens = *n_tokens};
    return look(config, pixels, &part, tokens);
}

static const vlci_watching watching = {
    .mark = "<video>",
    .choose = choose,
    .layout = layout_video,
    .at_once = at_once,
    .prepare = prepare_frames,
    .look = look_at_frames,
};

const vlci_family vlci_family_internvl = {
    .name = "internvl",
    .mark = "<IMG_CONTEXT>",
    .names = names,
    .settings = settings,
    .load = load,
    .release = vlci_eyes_release,
    .describe = vlci_eyes_describe,
    .layout = layout,
    .prepare = prepare,
    .look = look,
    .together = vlci_eyes_together,
    .positions = vlci_positions_count,
    .videos = &watching,
};
