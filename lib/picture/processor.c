/*
 * processor.c - preprocessor_config.json, or "image_processor" in processor_config.json: the steps that an
 * image processor is told to take.
 */
#include "picture/processor.h"

#include <string.h>

enum { MAX_SIDE = 1 << 15 };

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

bool vlci_processor_is(const char *type, const char *base) {
    size_t length = strlen(base);
    if (strncmp(type, base, length) != 0) return false;
    type += length;
    return !*type || strcmp(type, "Fast") == 0 || strcmp(type, "Pil") == 0;
}

vlcache_status vlci_processor_type(const vlci_scope *scope, const char **type) {
    vlcache_status status = vlci_json_string(scope, "feature_extractor_type", type);
    return status ? status : vlci_json_string(scope, "image_processor_type", type);
}

vlcache_status vlci_processor_expect(const vlci_scope *scope, const char *base) {
    const char *type = base;
    vlcache_status status = vlci_processor_type(scope, &type);
    if (status || vlci_processor_is(type, base)) return status;
    return vlci_json_unsupported(scope, "image_processor_type", "\"%.64s\"; this model type takes %s", type,
                                 base);
}

vlcache_status vlci_processor_read_values(const vlci_scope *scope, vlci_processor *image) {
    vlcache_status status = vlci_json_bool(scope, "do_resize", &image->resize);
    if (!status) status = vlci_json_int(scope, "resample", 0, 5, &image->resample);
    if (!status) status = vlci_json_bool(scope, "do_rescale", &image->rescale);
    if (!status) status = vlci_json_float(scope, "rescale_factor", 1e-9, 1e6, &image->rescale_factor);
    if (!status) status = vlci_json_bool(scope, "do_normalize", &image->normalize);
    if (!status) status = read_channels(scope, "image_mean", false, image->mean);
    if (!status) status = read_channels(scope, "image_std", true, image->std);
    for (int i = 0; i < 3; i++) image->background[i] = (int)((double)image->mean[i] * 255);
    return status;
}

vlcache_status vlci_processor_read(const vlci_scope *scope, vlci_processor *image) {
    int edge = 0;
    vlcache_status status = vlci_processor_read_values(scope, image);
    if (!status)
        status = read_size(scope, "size", false, &image->shortest_edge, &image->resize_height,
                           &image->resize_width);
    if (!status) status = vlci_json_bool(scope, "do_center_crop", &image->crop);
    if (!status) status = read_size(scope, "crop_size", true, &edge, &image->crop_height, &image->crop_width);
    if (!status && edge) status = vlci_json_bad(scope, "crop_size", "must hold height and width");
    return status;
}
