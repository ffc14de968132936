/**
 * clip.h (internal) - the CLIP vision transformer, a block of families: pixels of square tiles to features.
 */
#ifndef VLCI_MODELS_CLIP_H
#define VLCI_MODELS_CLIP_H

#include "checkpoint/hub.h"
#include "models/weight.h"
#include "picture/prepare.h"

typedef struct vlci_clip_config {
    int hidden, layers, heads, head_dim, intermediate;
    int image_size, patch_size; /**< pixels; patches a side = image_size / patch_size */
    float norm_eps;
    vlci_activation act;
    int run_layers; /**< encoder layers to run; all of them unless a family asks for an earlier one */
} vlci_clip_config;

/** CLIPVisionConfig's own values. */
#define VLCI_CLIP_DEFAULTS                                                                                   \
    {                                                                                                        \
        .hidden = 768, .layers = 12, .heads = 12, .intermediate = 3072, .image_size = 224, .patch_size = 32, \
        .norm_eps = 1e-5f, .act = VLCI_ACT_QUICK_GELU                                                        \
    }

typedef struct vlci_clip_layer {
    vlci_norm norm1, norm2;
    vlci_matrix qkv, out, fc1, fc2;
} vlci_clip_layer;

typedef struct vlci_clip {
    vlci_clip_config config;
    const vlci_compute *compute; /**< borrowed */
    vlci_attention_kernels attention;
    vlci_matrix patch;         /**< [hidden][3 * patch * patch] */
    cl_mem class_embedding;    /**< f32 [hidden] */
    cl_mem position_embedding; /**< f32 [1 + patches][hidden] */
    vlci_norm pre_norm;
    vlci_clip_layer *layer; /**< [config.run_layers] */
} vlci_clip;

/** Canonical beginning of its tensors' names. */
#define VLCI_CLIP_PREFIX "vision_tower.vision_model."

/** Reads "vision_config" over the values that are there. Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED
 * (file and field named). */
vlcache_status vlci_clip_config_read(const vlci_scope *scope, vlci_clip_config *config);

/** Patches a side. */
int vlci_clip_side(const vlci_clip_config *config);

/** Uploads the layers that run. Errors: those of vlci_upload_matrix(); vlci_clip_release() follows. */
vlcache_status vlci_clip_load(vlci_upload *up, const vlci_clip_config *config, vlci_clip *clip);

/** Releases and zeroes; one that is all zero is accepted. */
void vlci_clip_release(vlci_clip *clip);

/** `*features`: new memory, f32 [tiles][1 + patches][hidden], class token first. The pixels' tiles are
 * image_size x image_size. Errors: the device's. */
vlcache_status vlci_clip_run(const vlci_clip *clip, const vlci_pixels *pixels, cl_mem *features);

/** The features with or without each tile's class token, f32 [*rows][hidden] in new memory. Errors: the
 * device's, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_clip_select(const vlci_clip *clip, cl_mem features, int tiles, bool keep_class, int *rows,
                                cl_mem *out);

#endif
