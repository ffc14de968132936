/**
 * model.h (internal) - what a loaded model holds. Matrices are fused where one product serves several: q, k,
 * v; gate, up.
 */
#ifndef VLCI_MODELS_MODEL_H
#define VLCI_MODELS_MODEL_H

#include "compute/ops.h"
#include "models/weight.h"
#include "tokens/chat.h"
#include "tokens/tokenizer.h"
#include "vlcache/model.h"

typedef struct vlci_vision_layer {
    vlci_norm norm1, norm2;
    vlci_matrix qkv, out, fc1, fc2;
} vlci_vision_layer;

typedef struct vlci_text_layer {
    vlci_norm norm1, norm2;
    vlci_matrix qkv, out, gate_up, down;
} vlci_text_layer;

struct vlcache_model {
    vlcache_device *device;
    vlci_config config;
    vlci_tokenizer *tokenizer;
    const vlci_chat_template *chat; /**< as the checkpoint has it */
    vlcache_dtype dtype;
    vlci_layout layout;
    uint64_t weight_bytes;
    int references;

    vlci_matrix patch;         /**< [hidden][3 * patch * patch] */
    cl_mem class_embedding;    /**< f32 [hidden] */
    cl_mem position_embedding; /**< f32 [1 + patches][hidden] */
    vlci_norm pre_norm;
    vlci_vision_layer *vision; /**< config.vision.run_layers */
    vlci_matrix projector1, projector2;
    cl_mem image_newline;  /**< f32 [text hidden], llava_next only */
    vlci_matrix embedding; /**< [vocab][hidden] */
    vlci_text_layer *text; /**< config.text.layers */
    vlci_norm final_norm;
    vlci_matrix head; /**< [vocab][hidden]; all zero when tied: use the embedding */
};

/** One more owner; vlcache_model_destroy() gives it up. */
vlcache_model *vlci_model_retain(vlcache_model *model);

#endif
