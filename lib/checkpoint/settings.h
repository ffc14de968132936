/**
 * settings.h (internal) - what a checkpoint says of its model, as numbers.
 */
#ifndef VLCI_CHECKPOINT_SETTINGS_H
#define VLCI_CHECKPOINT_SETTINGS_H

#include "compute/act.h"
#include "core/status.h"

typedef enum vlci_family { VLCI_LLAVA, VLCI_LLAVA_NEXT } vlci_family;

/** CLIP vision transformer. */
typedef struct vlci_vision_config {
    int hidden, layers, heads, head_dim, intermediate;
    int image_size, patch_size; /**< pixels; patches a side = image_size / patch_size */
    float norm_eps;
    vlci_activation act;
    int run_layers; /**< encoder layers to run for the asked feature layer (-2 -> layers - 1; 0 -> embeddings)
                     */
    bool keep_class; /**< select strategy "full": the class token stays in front of the patches */
} vlci_vision_config;

typedef enum vlci_rope_kind { VLCI_ROPE_PLAIN, VLCI_ROPE_LINEAR, VLCI_ROPE_LLAMA3 } vlci_rope_kind;

/** Llama or Mistral text transformer. */
typedef struct vlci_text_config {
    int hidden, layers, heads, kv_heads, head_dim, intermediate, vocab;
    int max_positions; /**< max_position_embeddings, or the sliding window where that is smaller */
    float norm_eps;
    float rope_theta;
    vlci_rope_kind rope_kind;
    float rope_factor, rope_low_factor, rope_high_factor; /**< linear: factor; llama3: all and the next */
    int rope_original_positions;
    vlci_activation act;
    bool tied; /**< lm_head is the embedding */
    bool qkv_bias, out_bias, mlp_bias;
} vlci_text_config;

/** How preprocessor_config.json asks pictures to be prepared. */
typedef struct vlci_image_config {
    bool resize;
    int shortest_edge; /**< > 0: keep the ratio; else resize to resize_width x resize_height */
    int resize_width, resize_height;
    int resample; /**< PIL's number: 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box, 5 hamming */
    bool crop;
    int crop_width, crop_height;
    bool rescale, normalize;
    float rescale_factor; /**< 1/255 */
    float mean[3], std[3];
    bool pad_square; /**< do_pad of LlavaImageProcessor: pad to a square with the background first */
    int background[3];
    int (*pinpoints)[2]; /**< llava_next: {height, width} candidates, owned; NULL for llava */
    int n_pinpoints;
} vlci_image_config;

/** A model folder's configuration. Owned by the caller's struct; vlci_config_release() frees what it points
 * to. */
typedef struct vlci_config {
    vlci_family family;
    vlci_vision_config vision;
    vlci_text_config text;
    vlci_image_config image;
    vlci_activation projector_act;
    bool projector_bias;
    int image_token; /**< id of <image> */
    int bos_token;   /**< -1: none */
    int *eos_tokens; /**< generation_config.json, else config.json; owned */
    int n_eos_tokens;
    vlcache_dtype dtype;   /**< dtype / torch_dtype; AUTO when absent */
    char *text_model_type; /**< "llama" or "mistral", owned */
} vlci_config;

#endif
