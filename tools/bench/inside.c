/*
 * inside.c - looks into models and devices.
 */
#include "bench/inside.h"

#include "device/device.h"
#include "models/model.h"

vlcache_status inside_picture_tokens(const vlcache_model *model, const vlcache_image *image, size_t n,
                                     int *tokens) {
    int width, height;
    vlci_picture_layout layout;
    *tokens = 0;
    if (!model->config.eyes)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "--image: the model (%s) is a text model, it sees no pictures", model->family->name);
    vlcache_image_size(image, &width, &height);
    vlcache_status status =
        vlci_family_among(model->family, n)->layout(&model->config, width, height, &layout);
    *tokens = layout.n;
    if (!status) vlci_picture_layout_release(&layout);
    return status;
}

int inside_picture_token(const vlcache_model *model) {
    return model->config.image_token;
}

uint64_t inside_memory_now(const vlcache_device *device) {
    return vlci_memory_now(device) + vlci_memory_mapped(device);
}

uint64_t inside_memory_peak(const vlcache_device *device) {
    return vlci_memory_peak(device) + vlci_memory_mapped(device);
}

void inside_peak_restart(vlcache_device *device) {
    vlci_memory_restart(device);
}
