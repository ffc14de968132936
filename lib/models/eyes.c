/*
 * eyes.c - pixels -> vision transformer -> squares of patches -> projector -> visual tokens.
 */
#include "models/eyes.h"

#include "core/alloc.h"
#include "device/tap.h"

vlcache_status vlci_eyes_create(size_t bytes, vlci_config *config) {
    config->eyes = vlci_calloc(1, bytes);
    return config->eyes ? VLCACHE_OK : vlci_fail_memory("settings of a vision tower");
}

vlcache_status vlci_eyes_check_squeezed(const vlci_scope *scope, const vlci_eyes *eyes) {
    const vlci_processor *image = &eyes->processor;
    int side = eyes->vision.image_size;
    if (image->crop) return vlci_json_unsupported(scope, "do_center_crop", "only false is supported");
    if (!image->resize) return vlci_json_unsupported(scope, "do_resize", "only true is supported");
    if (image->shortest_edge || image->resize_width != side || image->resize_height != side)
        return vlci_json_unsupported(scope, "size",
                                     "only height and width of config.json's vision_config.image_size %d are "
                                     "supported",
                                     side);
    return VLCACHE_OK;
}

vlcache_status vlci_eyes_load(vlci_upload *up, const vlci_projector_config *projector, vlci_eyes *eyes) {
    vlcache_status status = vlci_vit_load(up, &eyes->vision, &eyes->tower);
    return status ? status : vlci_projector_load(up, projector, &eyes->projector);
}

void vlci_eyes_release(vlci_config *config) {
    vlci_eyes *eyes = config->eyes;
    if (!eyes) return;
    vlci_projector_release(&eyes->projector);
    vlci_vit_release(&eyes->tower);
    vlci_free(eyes);
    config->eyes = NULL;
}

void vlci_eyes_describe(const vlci_config *config, vlcache_model_info *info) {
    const vlci_eyes *eyes = config->eyes;
    vlci_vit_describe(&eyes->vision, info);
}

vlcache_status vlci_eyes_look(const vlci_config *config, const vlci_pixels *pixels, int factor,
                              const vlci_picture_layout *layout, cl_mem *tokens) {
    const vlci_eyes *eyes = config->eyes;
    vlcache_device *device = eyes->tower.compute->device;
    bool patches = factor == 1 && !eyes->vision.class_token;
    cl_mem features = NULL, squares = NULL;
    *tokens = NULL;
    vlcache_status status = vlci_vit_run(&eyes->tower, pixels, &features);
    if (!status)
        vlci_tap(device, features, pixels->tiles * vlci_vit_rows(&eyes->vision), eyes->vision.hidden,
                 "vision.features");
    if (!status && !patches)
        status = vlci_vit_shuffle(&eyes->tower, features, pixels->tiles, factor, &squares);
    if (!status)
        status = vlci_projector_run(&eyes->projector, patches ? features : squares, layout->n_tokens, tokens);
    if (!status) vlci_tap(device, *tokens, layout->n_tokens, config->text.hidden, "projector.features");
    vlci_memory_release(device, &squares);
    vlci_memory_release(device, &features);
    return status;
}

int vlci_eyes_together(const vlci_config *config) {
    (void)config;
    return 0;
}
