/*
 * config_image.c - preprocessor_config.json, or "image_processor" in processor_config.json: what
 * CLIPImageProcessor, LlavaImageProcessor and LlavaNextImageProcessor are told to do, and whether that gives
 * what the vision tower takes.
 */
#include "checkpoint/config_image.h"

#include <string.h>

#include "core/alloc.h"

enum { FILE_LIMIT = 16 << 20, MAX_SIDE = 1 << 15, MAX_PINPOINTS = 64 };

/* {"shortest_edge"}, {"height", "width"}, one integer or [height, width]. *edge is 0 where both sides are
 * given. */
static vlcache_status read_size(const vlci_scope *scope, const char *key, bool square, int *edge, int *height,
                                int *width) {
    const json_t *value = vlci_json_value(scope, key);
    vlci_scope size;
    vlcache_status status = VLCACHE_OK;
    if (!value) return VLCACHE_OK;
    if (json_is_array(value)) {
        json_int_t h = json_integer_value(json_array_get(value, 0)),
                   w = json_integer_value(json_array_get(value, 1));
        if (json_array_size(value) != 2 || h < 1 || w < 1 || h > MAX_SIDE || w > MAX_SIDE)
            return vlci_json_bad(scope, key, "must be [height, width], each from 1 to %d", MAX_SIDE);
        *edge = 0, *height = (int)h, *width = (int)w;
        return VLCACHE_OK;
    }
    *edge = *height = *width = 0;
    if (json_is_integer(value)) {
        status = vlci_json_int(scope, key, 1, MAX_SIDE, edge);
        if (square) *height = *width = *edge, *edge = 0;
        return status;
    }
    status = vlci_json_object(scope, key, &size);
    if (!status) status = vlci_json_int(&size, "shortest_edge", 1, MAX_SIDE, edge);
    if (!status) status = vlci_json_int(&size, "height", 1, MAX_SIDE, height);
    if (!status) status = vlci_json_int(&size, "width", 1, MAX_SIDE, width);
    if (status) return status;
    if (vlci_json_value(&size, "longest_edge") || vlci_json_value(&size, "max_height"))
        return vlci_json_unsupported(scope, key, "only shortest_edge, or height and width, are supported");
    if (*edge ? *height || *width : !*height || !*width)
        return vlci_json_bad(scope, key, "must hold shortest_edge, or height and width");
    return VLCACHE_OK;
}

static vlcache_status read_channels(const vlci_scope *scope, const char *key, bool divisor, float value[3]) {
    const json_t *list = vlci_json_value(scope, key);
    if (!list) return VLCACHE_OK;
    if (!json_is_number(list) && json_array_size(list) != 3)
        return vlci_json_bad(scope, key, "must hold 3 numbers");
    for (size_t i = 0; i < 3; i++) {
        const json_t *item = json_is_array(list) ? json_array_get(list, i) : list;
        double number = json_number_value(item);
        if (!json_is_number(item)) return vlci_json_bad(scope, key, "must hold 3 numbers");
        if (number < -1e6 || number > 1e6 || (divisor && number < 1e-6))
            return vlci_json_bad(scope, key, "%g is out of range", number);
        value[i] = (float)number;
    }
    return VLCACHE_OK;
}

static bool is_processor(const char *type, const char *base) {
    size_t length = strlen(base);
    if (strncmp(type, base, length) != 0) return false;
    type += length;
    return !*type || strcmp(type, "Fast") == 0 || strcmp(type, "Pil") == 0;
}

/* Which processor; whether its do_pad means padding to a square. */
static vlcache_status read_type(const vlci_scope *scope, vlci_family family, vlci_image_config *image) {
    const char *type = NULL;
    bool pad = false, next = family == VLCI_LLAVA_NEXT;
    vlcache_status status = vlci_json_string(scope, "feature_extractor_type", &type);
    if (!status) status = vlci_json_string(scope, "image_processor_type", &type);
    if (status) return status;
    if (!type) type = next ? "LlavaNextImageProcessor" : "CLIPImageProcessor";
    bool clip = is_processor(type, "CLIPImageProcessor") || strcmp(type, "CLIPFeatureExtractor") == 0;
    bool llava = is_processor(type, "LlavaImageProcessor");
    if (next ? !is_processor(type, "LlavaNextImageProcessor") : !clip && !llava)
        return vlci_json_unsupported(
            scope, "image_processor_type", "\"%.64s\"; this model type takes %s", type,
            next ? "LlavaNextImageProcessor" : "CLIPImageProcessor or LlavaImageProcessor");
    if (next) return VLCACHE_OK; /* its do_pad is about batches */
    status = vlci_json_bool(scope, "do_pad", &pad);
    if (!status && pad && clip)
        return vlci_json_unsupported(scope, "do_pad", "true is supported with LlavaImageProcessor only");
    image->pad_square = pad;
    return status;
}

static vlcache_status read_steps(const vlci_scope *scope, vlci_image_config *image) {
    int edge = 0;
    vlcache_status status = vlci_json_bool(scope, "do_resize", &image->resize);
    if (!status)
        status = read_size(scope, "size", false, &image->shortest_edge, &image->resize_height,
                           &image->resize_width);
    if (!status) status = vlci_json_int(scope, "resample", 0, 5, &image->resample);
    if (!status) status = vlci_json_bool(scope, "do_center_crop", &image->crop);
    if (!status) status = read_size(scope, "crop_size", true, &edge, &image->crop_height, &image->crop_width);
    if (!status && edge) status = vlci_json_bad(scope, "crop_size", "must hold height and width");
    if (!status) status = vlci_json_bool(scope, "do_rescale", &image->rescale);
    if (!status) status = vlci_json_float(scope, "rescale_factor", 1e-9, 1e6, &image->rescale_factor);
    if (!status) status = vlci_json_bool(scope, "do_normalize", &image->normalize);
    if (!status) status = read_channels(scope, "image_mean", false, image->mean);
    if (!status) status = read_channels(scope, "image_std", true, image->std);
    for (int i = 0; i < 3; i++) image->background[i] = (int)((double)image->mean[i] * 255);
    return status;
}

/* A picture of any shape must come out as image_size x image_size. */
static vlcache_status check_side(const vlci_scope *scope, const vlci_image_config *image, int side) {
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

static vlcache_status read_pinpoints(const vlci_scope *scope, const char *key, const json_t *list, int side,
                                     vlci_image_config *image) {
    size_t n = json_array_size(list);
    if (n < 1 || n > MAX_PINPOINTS)
        return vlci_json_bad(scope, key, "holds %zu sizes, must hold from 1 to %d", n, MAX_PINPOINTS);
    image->pinpoints = vlci_alloc(n, sizeof *image->pinpoints);
    if (!image->pinpoints) return vlci_fail_memory("grid pinpoints");
    image->n_pinpoints = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(list, i);
        for (size_t k = 0; k < 2; k++) {
            json_int_t value = json_integer_value(json_array_get(pair, k));
            if (json_array_size(pair) != 2 || value < 1 || value > 64 * side || value % side != 0)
                return vlci_json_bad(scope, key,
                                     "entry %zu must be [height, width], each a multiple of "
                                     "vision_config.image_size %d from %d to %d",
                                     i, side, side, 64 * side);
            image->pinpoints[i][k] = (int)value;
        }
    }
    return VLCACHE_OK;
}

/* The processor cuts by its own list, the model arranges by its: they must agree. */
static vlcache_status read_grid(const vlci_scope *scope, const vlci_scope *root, vlci_config *config) {
    static const char key[] = "image_grid_pinpoints",
                      classic[] = "[[336,672],[672,336],[672,672],[1008,336],[336,1008]]";
    const json_t *cut, *arranged;
    json_t *fallback = NULL;
    vlcache_status status = vlci_json_array(scope, key, &cut);
    if (!status) status = vlci_json_array(root, key, &arranged);
    if (status) return status;
    if (cut && arranged && !json_equal(cut, arranged))
        return vlci_json_bad(scope, key, "differs from that of config.json");
    if (!cut && !arranged && !(fallback = json_loads(classic, 0, NULL)))
        return vlci_fail_memory("grid pinpoints");
    const json_t *list = cut ? cut : arranged ? arranged : fallback;
    status =
        read_pinpoints(cut || !arranged ? scope : root, key, list, config->vision.image_size, &config->image);
    json_decref(fallback);
    return status;
}

static vlcache_status read_processor(const vlci_scope *scope, const vlci_scope *root, vlci_config *config) {
    vlci_image_config *image = &config->image;
    *image = (vlci_image_config){.resize = true,
                                 .shortest_edge = 224,
                                 .resample = 3,
                                 .crop = true,
                                 .crop_width = 224,
                                 .crop_height = 224,
                                 .rescale = true,
                                 .normalize = true,
                                 .rescale_factor = 1 / 255.0f,
                                 .mean = {0.48145466f, 0.4578275f, 0.40821073f},
                                 .std = {0.26862954f, 0.26130258f, 0.27577711f}};
    vlcache_status status = read_type(scope, config->family, image);
    if (!status) status = read_steps(scope, image);
    if (!status) status = check_side(scope, image, config->vision.image_size);
    if (!status && config->family == VLCI_LLAVA_NEXT) status = read_grid(scope, root, config);
    return status;
}

vlcache_status vlci_config_read_image(const char *folder, const vlci_scope *root, vlci_config *config) {
    char *own = NULL, *joint = NULL;
    json_t *file = NULL;
    vlci_scope scope = {0};
    vlcache_status status = vlci_path_join(folder, "preprocessor_config.json", &own);
    if (!status) status = vlci_path_join(folder, "processor_config.json", &joint);
    if (!status && vlci_path_exists(joint)) {
        status = vlci_json_load(joint, FILE_LIMIT, &file);
        vlci_scope whole = vlci_scope_of(joint, file);
        if (!status) status = vlci_json_object(&whole, "image_processor", &scope);
    }
    if (!status && !scope.object) {
        json_decref(file);
        file = NULL;
        status = vlci_json_load(own, FILE_LIMIT, &file);
        scope = vlci_scope_of(own, file);
    }
    if (!status) status = read_processor(&scope, root, config);
    json_decref(file);
    vlci_free(own);
    vlci_free(joint);
    return status;
}
