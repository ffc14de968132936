/*
 * llava.c - the family of LLaVA-1.5: one picture, one square tile.
 *
 *     CLIP tower (an early layer's features, with or without the class token) -> two matrices -> tokens
 *     layout: (class) | patches x patches, row by row
 *
 * llava_next.c shares the tower, the projector and most settings.
 */
#include "models/llava.h"

#include <string.h>

#include "core/alloc.h"
#include "device/tap.h"
#include "models/gather.h"

const vlci_naming vlci_llava_names[] = {
    {{"language_model.model.", "model.language_model.", "language_model.", "model.language_model.model."}},
    {{"language_model.lm_head.", "lm_head.", "model.lm_head."}},
    {{"vision_tower.vision_model.", "vision_tower.", "model.vision_tower.",
      "model.vision_tower.vision_model."}},
    {{"multi_modal_projector.", "model.multi_modal_projector."}},
    {{"image_newline", "model.image_newline"}},
    {{NULL}},
};

/* ---- settings ------------------------------------------------------------------------------------------ */

/* Which features: of which layer, with the class token or without. */
static vlcache_status read_feature(const vlci_scope *root, const vlci_llava_usual *usual, vlci_llava *eyes) {
    const char *strategy = usual->strategy;
    vlcache_status status = vlci_vit_feature_read(root, usual->feature_layer, &eyes->vision);
    if (!status) status = vlci_json_string(root, "vision_feature_select_strategy", &strategy);
    if (status) return status;
    eyes->keep_class = strcmp(strategy, "full") == 0;
    if (!eyes->vision.class_token && !eyes->keep_class)
        return vlci_json_unsupported(root, "vision_feature_select_strategy",
                                     "\"%.64s\"; full is supported: the tower has no class token", strategy);
    eyes->keep_class &= eyes->vision.class_token;
    if (strcmp(strategy, "full") != 0 && strcmp(strategy, "default") != 0)
        return vlci_json_bad(root, "vision_feature_select_strategy", "is \"%.64s\", must be default or full",
                             strategy);
    return VLCACHE_OK;
}

/* The tower's class defaults, or LlavaConfig's where there is no vision_config at all. */
static vlcache_status read_vision(const vlci_scope *root, const vlci_llava_usual *usual, vlci_llava *eyes) {
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "vision_config", &scope);
    if (status) return status;
    eyes->vision = usual->tower->defaults;
    if (!scope.object) {
        if (usual->tower != &vlci_vit_clip) return vlci_json_bad(root, "vision_config", "is missing");
        eyes->vision.hidden = 1024, eyes->vision.layers = 24, eyes->vision.heads = 16;
        eyes->vision.intermediate = 4096, eyes->vision.image_size = 336, eyes->vision.patch_size = 14;
    }
    status = vlci_vit_config_read(&scope, usual->tower, &eyes->vision);
    return status ? status : read_feature(root, usual, eyes);
}

const vlci_llava_usual vlci_llava_usual_clip = {.tower = &vlci_vit_clip,
                                                .feature_layer = -2,
                                                .strategy = "default",
                                                .text = "llama",
                                                .image_token = 32000};

vlcache_status vlci_llava_settings(const vlci_scope *root, const vlci_llava_usual *usual,
                                   vlci_config *config) {
    vlci_llava *eyes = vlci_calloc(1, sizeof *eyes);
    if (!eyes) return vlci_fail_memory("settings of a vision tower");
    config->eyes = eyes;
    eyes->projector_act = VLCI_ACT_GELU;
    eyes->projector_bias = true;
    eyes->processor = (vlci_processor)VLCI_PROCESSOR_CLIP;
    vlcache_status status = read_vision(root, usual, eyes);
    if (!status)
        status = vlci_text_config_read_nested(root, usual->text, &config->text, &config->text_model_type);
    if (!status) status = vlci_hub_activation(root, "projector_hidden_act", &eyes->projector_act);
    if (!status) status = vlci_json_bool(root, "multimodal_projector_bias", &eyes->projector_bias);
    if (!status) status = vlci_config_read_image_token(root, usual->image_token, config);
    return status;
}

/* A picture of any shape must come out as image_size x image_size. */
vlcache_status vlci_llava_check_side(const vlci_scope *scope, const vlci_llava *eyes) {
    const vlci_processor *image = &eyes->processor;
    int side = eyes->vision.image_size;
    if (image->crop && image->crop_height == side && image->crop_width == side) return VLCACHE_OK;
    if (image->crop)
        return vlci_json_bad(scope, "crop_size", "is %d x %d, config.json's vision_config.image_size is %d",
                             image->crop_height, image->crop_width, side);
    if (!image->resize) return vlci_json_unsupported(scope, "do_resize", "false without do_center_crop");
    if (image->shortest_edge && !image->pad_square)
        return vlci_json_unsupported(scope, "do_center_crop", "false with size.shortest_edge");
    if (image->shortest_edge ? image->shortest_edge != side
                             : image->resize_height != side || image->resize_width != side)
        return vlci_json_bad(scope, "size", "does not give config.json's vision_config.image_size %d", side);
    return VLCACHE_OK;
}

/* Which processor; whether its do_pad means padding to a square. */
static vlcache_status read_type(const vlci_scope *scope, vlci_llava *eyes) {
    const char *type = "CLIPImageProcessor";
    bool pad = false;
    vlcache_status status = vlci_processor_type(scope, &type);
    if (status) return status;
    bool clip = vlci_processor_is(type, "CLIPImageProcessor") || strcmp(type, "CLIPFeatureExtractor") == 0;
    if (!clip && !vlci_processor_is(type, "LlavaImageProcessor"))
        return vlci_json_unsupported(scope, "image_processor_type",
                                     "\"%.64s\"; this model type takes CLIPImageProcessor or "
                                     "LlavaImageProcessor",
                                     type);
    status = vlci_json_bool(scope, "do_pad", &pad);
    if (!status && pad && clip)
        return vlci_json_unsupported(scope, "do_pad", "true is supported with LlavaImageProcessor only");
    eyes->processor.pad_square = pad;
    return status;
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlci_scope image;
    vlcache_status status = vlci_llava_settings(&hub->config, &vlci_llava_usual_clip, config);
    vlci_llava *eyes = config->eyes;
    if (!status) status = vlci_hub_image(hub, &image);
    if (!status) status = read_type(&image, eyes);
    if (!status) status = vlci_processor_read(&image, &eyes->processor);
    return status ? status : vlci_llava_check_side(&image, eyes);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

vlcache_status vlci_llava_load(vlci_upload *up, vlci_config *config) {
    vlci_llava *eyes = config->eyes;
    const vlci_projector_config projector = {.prefix = "multi_modal_projector.",
                                             .first = "linear_1",
                                             .second = "linear_2",
                                             .from = eyes->vision.hidden,
                                             .to = config->text.hidden,
                                             .bias = eyes->projector_bias,
                                             .act = eyes->projector_act};
    vlcache_status status = vlci_vit_load(up, &eyes->vision, &eyes->tower);
    return status ? status : vlci_projector_load(up, &projector, &eyes->projector);
}

vlcache_status vlci_llava_load_newline(vlci_upload *up, vlci_config *config) {
    vlci_llava *eyes = config->eyes;
    size_t width = (size_t)config->text.hidden;
    vlcache_status status = vlci_llava_load(up, config);
    return status ? status : vlci_upload_vector(up, "", "image_newline", 1, &width, &eyes->newline);
}

void vlci_llava_release(vlci_config *config) {
    vlci_llava *eyes = config->eyes;
    if (!eyes) return;
    if (eyes->newline) vlci_memory_release(eyes->tower.compute->device, &eyes->newline);
    vlci_projector_release(&eyes->projector);
    vlci_vit_release(&eyes->tower);
    vlci_free(eyes->pinpoints);
    vlci_free(eyes);
    config->eyes = NULL;
}

void vlci_llava_describe(const vlci_config *config, vlcache_model_info *info) {
    const vlci_llava *eyes = config->eyes;
    vlci_vit_describe(&eyes->vision, info);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

vlcache_status vlci_llava_unfit(const vlci_llava *eyes, const char *what, int width, int height) {
    int side = eyes->vision.image_size;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "preprocessor_config.json: %s gives %d x %d pixels, the vision tower takes %d x %d "
                     "(config.json: vision_config.image_size): make the two agree",
                     what, width, height, side, side);
}

int vlci_llava_lay_tile(const vlci_llava *eyes, const vlci_view *view, int width, int height,
                        vlci_picture_layout *out) {
    int n = 0, side = vlci_vit_side(&eyes->vision), patch = eyes->vision.patch_size;
    if (eyes->keep_class) out->source[n++] = 0;
    out->grids[0] = (vlci_layout_grid){.first = n, .rows = side, .columns = side, .stride = side};
    for (int y = 0; y < side; y++) {
        for (int x = 0; x < side; x++, n++) {
            out->source[n] = n;
            vlci_view_cell(view, x * patch, y * patch, patch, width, height, out->cell[n]);
        }
    }
    for (int i = 0; i < out->n; i++) out->entry[i] = -1 - i;
    return n;
}

/* The single tile of CLIPImageProcessor and LlavaImageProcessor. */
static vlcache_status tile_view(const vlci_llava *eyes, int width, int height, vlci_view *view) {
    int side = eyes->vision.image_size;
    vlcache_status status = vlci_view_make(&eyes->processor, width, height, view);
    if (status) return status;
    if (view->columns == side && view->rows == side && view->width >= 1 && view->height >= 1)
        return VLCACHE_OK;
    return vlci_llava_unfit(eyes, eyes->processor.crop ? "crop_size" : "size without a crop", view->columns,
                            view->rows);
}

static vlcache_status layout(const vlci_config *config, int width, int height, vlci_picture_layout *out) {
    const vlci_llava *eyes = config->eyes;
    int side = vlci_vit_side(&eyes->vision), n = side * side + eyes->keep_class;
    vlci_view view;
    *out = (vlci_picture_layout){0};
    vlcache_status status = tile_view(eyes, width, height, &view);
    if (!status) status = vlci_picture_layout_create(n, n, 1, true, out);
    if (status) return status;
    out->tiles = 1;
    vlci_llava_lay_tile(eyes, &view, width, height, out);
    return VLCACHE_OK;
}

static vlcache_status prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out) {
    const vlci_llava *eyes = config->eyes;
    int width, height, side = eyes->vision.image_size;
    vlci_view view;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlcache_status status = tile_view(eyes, width, height, &view);
    if (!status) status = vlci_pixels_create(1, side, side, out);
    if (!status) status = vlci_pixels_fill(&eyes->processor, image, &view, 0, out);
    if (status) vlci_pixels_release(out);
    return status;
}

vlcache_status vlci_llava_look(const vlci_config *config, const vlci_pixels *pixels,
                               const vlci_picture_layout *layout_of, cl_mem *tokens) {
    const vlci_llava *eyes = config->eyes;
    vlcache_device *device = eyes->tower.compute->device;
    cl_mem features = NULL, selected = NULL, projected = NULL;
    int rows = 0, width = config->text.hidden;
    *tokens = NULL;
    vlcache_status status = vlci_vit_run(&eyes->tower, pixels, &features);
    if (!status)
        status = vlci_vit_select(&eyes->tower, features, pixels->tiles, eyes->keep_class, &rows, &selected);
    if (!status) vlci_tap(device, selected, rows, eyes->vision.hidden, "vision.features");
    if (!status) status = vlci_projector_run(&eyes->projector, selected, rows, &projected);
    if (!status) vlci_tap(device, projected, rows, width, "projector.features");
    if (!status)
        status = vlci_gather(eyes->tower.compute, projected, eyes->newline, layout_of->source,
                             layout_of->n_tokens, width, tokens);
    vlci_memory_release(device, &projected);
    vlci_memory_release(device, &selected);
    vlci_memory_release(device, &features);
    return status;
}

int vlci_llava_together(const vlci_config *config) {
    const vlci_llava *eyes = config->eyes;
    int side = vlci_vit_side(&eyes->vision);
    return side * side + eyes->keep_class;
}

const vlci_family vlci_family_llava = {
    .name = "llava",
    .mark = "<image>",
    .names = vlci_llava_names,
    .settings = settings,
    .load = vlci_llava_load,
    .release = vlci_llava_release,
    .describe = vlci_llava_describe,
    .layout = layout,
    .prepare = prepare,
    .look = vlci_llava_look,
    .together = vlci_llava_together,
    .positions = vlci_positions_count,
};
