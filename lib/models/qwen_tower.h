/**
 * qwen_tower.h (internal) - the vision transformers of Qwen2-VL, Qwen2.5-VL and Qwen3-VL, a block of
 * families: pixels of any size to one row for each merge x merge patches.
 *
 *     pixels --convolution--> rows of patches (+ table of positions) --layers--> rows --merger--> tokens
 *                                                                   layers k --merger k--> DeepStack features
 *
 * q and k are rotated by row and column of their patch. A layer's attention sees a window, or all patches of
 * a step in time.
 */
#ifndef VLCI_MODELS_QWEN_TOWER_H
#define VLCI_MODELS_QWEN_TOWER_H

#include "checkpoint/hub.h"
#include "models/qwen_grid.h"
#include "models/weight.h"
#include "picture/prepare.h"

enum { VLCI_QWEN_DEEP_MAX = 16 };

/** In what the towers differ, besides numbers; tensors' names go behind "visual." or a layer's prefix. */
typedef struct vlci_qwen_form {
    bool rms;              /**< norms of the layers and of the merger: RMSNorm, else LayerNorm */
    bool patch_bias;       /**< of the convolution */
    const char *mlp[3];    /**< first, second; or gate, second, up: then the activation gates */
    const char *merger[3]; /**< norm (a patch), first, second */
    const char *deep[4];   /**< DeepStack's: prefix, in front of which one, norm (of all patches of a token),
                                first, second */
} vlci_qwen_form;

typedef struct vlci_qwen_tower_config {
    const vlci_qwen_form *form;
    int hidden, layers, heads, head_dim, intermediate;
    int out;                /**< width of tokens: the text model's */
    int patch, merge, step; /**< pixels of a patch, patches of a token a side; frames of a step */
    int window;             /**< tokens a side of a window; 0: every layer sees all */
    int side;               /**< of the table of positions; 0: there is none */
    float theta;
    vlci_activation act;
    int deep[VLCI_QWEN_DEEP_MAX], n_deep; /**< layers behind which DeepStack's features are taken; ascend */
    bool whole[VLCI_MAX_LAYERS];          /**< layers that see all although there are windows */
} vlci_qwen_tower_config;

/** norm, two matrices with an erf GELU between. */
typedef struct vlci_qwen_merger {
    vlci_norm norm;
    vlci_matrix first, second;
} vlci_qwen_merger;

typedef struct vlci_qwen_layer {
    vlci_norm norm1, norm2;
    vlci_matrix qkv, out, first, second; /**< first: [gate | up] where the MLP is gated */
} vlci_qwen_layer;

typedef struct vlci_qwen_tower {
    vlci_qwen_tower_config config;
    int part;                    /**< rows that go through a matrix at a time: whole tokens */
    const vlci_compute *compute; /**< borrowed */
    vlci_attention_kernels attention;
    vlci_rope_kernels rope;
    vlci_act_kernels gate,
        gate_short[4];      /**< of a gated MLP; y in 16 bits by vlcache_dtype, where it occurs */
    vlci_matrix patch;      /**< [hidden][3 * step * patch^2] */
    cl_mem table;           /**< f32 [side^2][hidden], or NULL */
    cl_mem inv_freq, axis;  /**< f32 and int [head_dim / 2]: rows first, then columns */
    vlci_qwen_layer *layer; /**< [config.layers] */
    vlci_qwen_merger merger, deep[VLCI_QWEN_DEEP_MAX];
} vlci_qwen_tower;

/** Uploads "visual.". Errors: those of vlci_upload_matrix(), vlci_attention_open() and the device's;
 * vlci_qwen_tower_release() follows. */
vlcache_status vlci_qwen_tower_load(vlci_upload *up, const vlci_qwen_tower_config *config,
                                    vlci_qwen_tower *out);

/** Releases and zeroes; one that is all zero is accepted. */
void vlci_qwen_tower_release(vlci_qwen_tower *tower);

/** The grid of a picture's pixels, whose sides are multiples of patch * merge. */
vlci_qwen_grid vlci_qwen_tower_grid(const vlci_qwen_tower_config *config, int frames, int width, int height);

/**
 * `*features`: new memory, f32 [1 + config.n_deep][order->tokens][out]: the tokens in the tower's order
 * (order->block), then DeepStack's features, alike. Frames are the pixels' tiles, the grid's that of
 * vlci_qwen_tower_grid(). Errors: the device's, VLCACHE_E_UNSUPPORTED (more than kernels can address).
 */
vlcache_status vlci_qwen_tower_run(const vlci_qwen_tower *tower, const vlci_pixels *pixels,
                                   const vlci_qwen_grid *grid, const vlci_qwen_order *order,
                                   cl_mem *features);

#endif
