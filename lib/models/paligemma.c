/*
 * paligemma.c - the family of PaliGemma 1 and 2: one square tile a picture, and a prompt that sees all of
 * itself.
 *
 *     SigLIP's tower with its last norm -> one matrix -> visual tokens, row by row
 *     prompt: a mark for each picture, <bos>, the question, a newline; positions count from 1
 */
#include "models/paligemma.h"

#include <string.h>

#include "models/eyes.h"
#include "models/llava.h"
#include "picture/prepare.h"

/* ---- settings ------------------------------------------------------------------------------------------ */

static vlcache_status read_vision(const vlci_scope *root, const vlci_config *config, vlci_eyes *eyes) {
    vlci_scope scope;
    int width = config->text.hidden;
    vlcache_status status = vlci_json_object(root, "vision_config", &scope);
    eyes->vision = vlci_vit_siglip.defaults;
    if (!status) status = vlci_vit_config_read(&scope, &vlci_vit_siglip, &eyes->vision);
    eyes->vision.post_norm = true;
    if (!status) status = vlci_json_int(root, "projection_dim", 1, VLCI_MAX_WIDTH, &width);
    if (!status && width != config->text.hidden)
        status = vlci_json_bad(root, "projection_dim", "is %d, text_config.hidden_size is %d", width,
                               config->text.hidden);
    return status;
}

static vlcache_status read_processor(const vlci_scope *scope, vlci_eyes *eyes) {
    vlcache_status status = vlci_processor_expect(scope, "SiglipImageProcessor");
    if (!status) status = vlci_processor_read(scope, &eyes->processor);
    return status ? status : vlci_eyes_check_squeezed(scope, eyes);
}

/* A prompt that sees all of itself is not seen through a window (Gemma 2's): the context ends where one would
 * hide its first row. */
static void end_with_window(vlci_text_config *text) {
    if (text->window && text->window < text->max_positions) text->max_positions = text->window;
    text->window = 0;
    memset(text->windowed, 0, sizeof text->windowed);
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    static const vlci_processor values = {VLCI_PROCESSOR_HALVES, .resample = 3, .resize_width = 224,
                                          .resize_height = 224};
    vlci_scope image;
    vlcache_status status = vlci_eyes_create(sizeof(vlci_eyes), config);
    if (status) return status;
    vlci_eyes *eyes = config->eyes;
    eyes->processor = values;
    status = vlci_text_config_read_nested(&hub->config, "gemma", &config->text, &config->text_model_type);
    config->text.prefix_lm = true;
    if (!status) end_with_window(&config->text);
    if (!status) status = read_vision(&hub->config, config, eyes);
    if (!status) status = vlci_config_read_image_token(&hub->config, 256000, config);
    if (!status) status = vlci_hub_image(hub, &image);
    return status ? status : read_processor(&image, eyes);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static vlcache_status load(vlci_upload *up, vlci_config *config) {
    vlci_eyes *eyes = config->eyes;
    const vlci_projector_config projector = {.prefix = "multi_modal_projector.",
                                             .first = "linear",
                                             .from = eyes->vision.hidden,
                                             .to = config->text.hidden,
                                             .bias = true};
    return vlci_eyes_load(up, &projector, eyes);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

static vlcache_status layout(const vlci_config *config, int width, int height, vlci_picture_layout *out) {
    const vlci_eyes *eyes = config->eyes;
    const vlci_layout_square square = {.side = vlci_vit_side(&eyes->vision), .size = eyes->vision.patch_size};
    int tile = eyes->vision.image_size, n = square.side * square.side;
    vlci_view view = vlci_view_squeeze(width, height, tile, tile);
    *out = (vlci_picture_layout){0};
    vlcache_status status = vlci_view_sides(width, height);
    if (!status) status = vlci_picture_layout_create(n, n, 1, false, out);
    if (status) return status;
    out->tiles = 1;
    for (int i = 0; i < n; i++) out->entry[i] = -1 - i;
    vlci_picture_layout_square(out, 0, &square, &view, width, height);
    return VLCACHE_OK;
}

static vlcache_status prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out) {
    const vlci_eyes *eyes = config->eyes;
    int width, height, tile = eyes->vision.image_size;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlci_view view = vlci_view_squeeze(width, height, tile, tile);
    vlcache_status status = vlci_pixels_create(1, tile, tile, out);
    if (!status) status = vlci_pixels_fill(&eyes->processor, image, &view, 0, out);
    if (status) vlci_pixels_release(out);
    return status;
}

static vlcache_status look(const vlci_config *config, const vlci_pixels *pixels,
                           const vlci_picture_layout *layout_of, cl_mem *tokens) {
    return vlci_eyes_look(config, pixels, 1, layout_of, tokens);
}

/* From 1: what begins at 0 begins one later, and so does all that follows. */
static void positions(const vlci_config *config, const vlci_placed_picture *pictures, size_t n_pictures,
                      int32_t start, int n, int32_t (*position)[3], int32_t *next) {
    vlci_positions_count(config, pictures, n_pictures, start ? start : 1, n, position, next);
}

const vlci_family vlci_family_paligemma = {
    .name = "paligemma",
    .mark = "<image>",
    .names = vlci_llava_names,
    .settings = settings,
    .load = load,
    .release = vlci_eyes_release,
    .describe = vlci_eyes_describe,
    .layout = layout,
    .prepare = prepare,
    .look = look,
    .together = vlci_eyes_together,
    .positions = positions,
};
