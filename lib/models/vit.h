/**
 * vit.h (internal) - the vision transformer, a block of families: pixels of square tiles to features.
 *
 *     x = [class | patches W + b] + position                                       pre_norm: x = LN(x)
 *     each layer: x += scale1 * out(attention(qkv(LN(x))))      x += scale2 * fc2(act(fc1(LN(x))))
 *     post_norm: x = LN(x)
 *
 * What a tower has of this is said by its configuration, whose kind (CLIP, SigLIP, Idefics', InternViT)
 * brings class defaults and tensor names. Scales are multiplied into out and fc2 when they are loaded:
 * rounded once more to the matrices' dtype, and free afterwards.
 */
#ifndef VLCI_MODELS_VIT_H
#define VLCI_MODELS_VIT_H

#include "checkpoint/hub.h"
#include "models/weight.h"
#include "picture/prepare.h"
#include "vlcache/model.h"

/** Canonical tensor names of a kind, without ".weight" and ".bias"; those of a layer behind
 * "<prefix><layers><number>.". NULL: the kind has no such thing. */
typedef struct vlci_vit_names {
    const char *prefix, *patch, *class_token, *position, *pre_norm, *post_norm, *layers;
    const char *norm1, *q, *k, *v, *q_norm, *k_norm, *out, *scale1, *norm2, *fc1, *fc2, *scale2;
    int batch_dims;        /**< leading 1s of the class token's and the position table's shapes */
    const char *unused[4]; /**< names that checkpoints may hold and no family looks at */
} vlci_vit_names;

typedef struct vlci_vit_config {
    int hidden, layers, heads, head_dim, intermediate;
    int image_size, patch_size; /**< pixels; patches a side = image_size / patch_size */
    float norm_eps;
    vlci_activation act;
    bool class_token, patch_bias, pre_norm, qkv_bias;
    bool post_norm; /**< applied behind the last layer that runs; families set it */
    bool qk_norm;   /**< RMSNorm of q and k over all heads, eps 1e-6 */
    bool rms_norm;  /**< a layer's norms are RMSNorms */
    bool scaled;    /**< layers have scale1 and scale2 */
    int run_layers; /**< encoder layers to run; all of them unless a family asks for an earlier one */
    const vlci_vit_names *names;
} vlci_vit_config;

/** A kind of vision transformer: its classes' defaults, with its names, and what only it says. */
typedef struct vlci_vit_kind {
    const char *model_types[5]; /**< of vision_config, the usual one first; ends with NULL */
    vlci_vit_config defaults;
    vlcache_status (*more)(const vlci_scope *scope, vlci_vit_config *config); /**< may be NULL */
} vlci_vit_kind;

extern const vlci_vit_kind vlci_vit_clip, vlci_vit_siglip, vlci_vit_idefics, vlci_vit_intern;

/** Reads "vision_config" over the values that are there, which begin as kind->defaults. Errors:
 * VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named). */
vlcache_status vlci_vit_config_read(const vlci_scope *scope, const vlci_vit_kind *kind,
                                    vlci_vit_config *config);

/** Reads root's "vision_feature_layer" into run_layers: it counts hidden states, 0 is the embedding, k comes
 * after layer k, -1 is the last; `usual` where it is not said. Errors as vlci_vit_config_read(). */
vlcache_status vlci_vit_feature_read(const vlci_scope *root, int usual, vlci_vit_config *config);

typedef struct vlci_vit_layer {
    vlci_norm norm1, norm2, q_norm, k_norm;
    vlci_matrix qkv;     /**< all zero with qk_norm: then apart */
    vlci_matrix q, k, v; /**< with qk_norm only */
    vlci_matrix out, fc1, fc2;
} vlci_vit_layer;

typedef struct vlci_vit {
    vlci_vit_config config;
    const vlci_compute *compute; /**< borrowed */
    vlci_attention_kernels attention;
    vlci_matrix patch;         /**< [hidden][3 * patch * patch] */
    cl_mem class_embedding;    /**< f32 [hidden]; NULL without a class token */
    cl_mem position_embedding; /**< f32 [class_token + patches][hidden] */
    vlci_norm pre_norm, post_norm;
    vlci_vit_layer *layer; /**< [config.run_layers] */
} vlci_vit;

/** What a model is, of its tower: sides of a tile and of a patch, layers, heads, width. */
void vlci_vit_describe(const vlci_vit_config *config, vlcache_model_info *info);

/** Patches a side. */
int vlci_vit_side(const vlci_vit_config *config);

/** Rows that a tile becomes: its patches, and the class token in front of them where there is one. */
int vlci_vit_rows(const vlci_vit_config *config);

/** Uploads the layers that run. Errors: those of vlci_upload_matrix(); vlci_vit_release() follows. */
vlcache_status vlci_vit_load(vlci_upload *up, const vlci_vit_config *config, vlci_vit *vit);

/** Releases and zeroes; one that is all zero is accepted. */
void vlci_vit_release(vlci_vit *vit);

/** `*features`: new memory, f32 [tiles][vlci_vit_rows()][hidden]. The pixels' tiles are image_size x
 * image_size. Errors: the device's. */
vlcache_status vlci_vit_run(const vlci_vit *vit, const vlci_pixels *pixels, cl_mem *features);

/** The features with or without each tile's class token, f32 [*rows][hidden] in new memory. Errors: the
 * device's, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_vit_select(const vlci_vit *vit, cl_mem features, int tiles, bool keep_class, int *rows,
                               cl_mem *out);

/** Pixel shuffle: squares of factor x factor patches as one row each, f32
 * [tiles * (side / factor)^2][factor^2 * hidden] in new memory; a square's patches row by row, class tokens
 * left out. `factor` divides the side. Errors: the device's, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_vit_shuffle(const vlci_vit *vit, cl_mem features, int tiles, int factor, cl_mem *out);

#endif
