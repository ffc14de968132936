/**
 * decoder.h (internal) - the block that text models are made of: Llama and Mistral transformers, their
 * settings and the weights of a layer. Matrices are fused where one product serves several: q, k, v; gate,
 * up.
 */
#ifndef VLCI_MODELS_DECODER_H
#define VLCI_MODELS_DECODER_H

#include "checkpoint/hub.h"
#include "models/weight.h"

typedef enum vlci_rope_kind { VLCI_ROPE_PLAIN, VLCI_ROPE_LINEAR, VLCI_ROPE_LLAMA3 } vlci_rope_kind;

typedef struct vlci_text_config {
    int hidden, layers, heads, kv_heads, head_dim, intermediate, vocab;
    int max_positions; /**< max_position_embeddings, or the sliding window where that is smaller */
    float norm_eps;
    float rope_theta;
    vlci_rope_kind rope_kind;
    float rope_factor, rope_low_factor, rope_high_factor; /**< linear: factor; llama3: all and the next */
    int rope_original_positions;
    vlci_activation act;
    bool tied; /**< lm_head is the embedding; loading unsets it where the checkpoint stores another head */
    bool qkv_bias, out_bias, mlp_bias;
} vlci_text_config;

typedef struct vlci_text_layer {
    vlci_norm norm1, norm2;
    vlci_matrix qkv, out, gate_up, down;
} vlci_text_layer;

/** Reads "text_config" of config.json over its class's defaults; `*model_type`: "llama" or "mistral", new
 * memory, NULL when it comes to none. Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named),
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_text_config_read(const vlci_scope *root, vlci_text_config *text, char **model_type);

/** Uploads a layer whose tensors' names begin with `prefix`. Errors: those of vlci_upload_matrix(); what is
 * there already stays, to be released. */
vlcache_status vlci_text_layer_load(vlci_upload *up, const vlci_text_config *config, const char *prefix,
                                    vlci_text_layer *layer);

/** Releases a layer's memory and zeroes it. */
void vlci_text_layer_release(vlcache_device *device, vlci_text_layer *layer);

#endif
