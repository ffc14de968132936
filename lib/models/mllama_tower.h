/**
 * mllama_tower.h (internal) - the vision transformer of Llama 3.2 Vision: the tiles of a picture, which see
 * each other, to the states that layers of cross-attention look at.
 *
 *     x = [class | patches W + G1 shape's tile] + (1 - G) position + G shape's tile and position      LN
 *     padding: rows of zeros behind each tile up to a multiple of 8, and tiles that the picture has not
 *     local layers -> LN -> + G2 shape's tile -> global layers, whose two sums are gated (G = tanh of a gate)
 *     out = [x | outputs of some local layers, column by column]
 *
 * All tiles of a picture are one sequence. Only padding does not see padding; it is seen by all others, so
 * that a tile which is not there counts. Which table entries a picture takes says its shape: rows x columns.
 */
#ifndef VLCI_MODELS_MLLAMA_TOWER_H
#define VLCI_MODELS_MLLAMA_TOWER_H

#include "checkpoint/hub.h"
#include "models/weight.h"
#include "picture/prepare.h"

enum { VLCI_MLLAMA_TAKEN_MAX = 64 };

typedef struct vlci_mllama_tower_config {
    int hidden, layers, global_layers, heads, head_dim, intermediate;
    int image_size, patch_size; /**< pixels; patches a side = image_size / patch_size */
    int tiles;                  /**< that a picture has at most; always as many go through */
    int shapes;                 /**< of pictures: entries of the tables, but for number 0 */
    float norm_eps;
    vlci_activation act;
    int taken[VLCI_MLLAMA_TAKEN_MAX], n_taken; /**< local layers whose outputs are part of the states */
} vlci_mllama_tower_config;

typedef struct vlci_mllama_layer {
    vlci_norm norm1, norm2;
    vlci_matrix qkv, out, fc1, fc2;
    cl_mem attend_gate, think_gate; /**< f32 [1] of global layers; NULL of local ones */
} vlci_mllama_layer;

typedef struct vlci_mllama_tower {
    vlci_mllama_tower_config config;
    const vlci_compute *compute; /**< borrowed */
    vlci_attention_kernels attention;
    vlci_gate_kernels gate;
    vlci_matrix patch;                  /**< [hidden][3 * patch * patch] */
    cl_mem class_embedding;             /**< f32 [hidden] */
    cl_mem position;                    /**< f32 [1 + patches][hidden], times 1 - G */
    cl_mem position_gate, positions;    /**< f32 [1]; [1 + shapes][tiles * (1 + patches) * hidden] */
    cl_mem before_gate, before;         /**< f32 [1]; [1 + shapes][tiles * hidden] */
    cl_mem behind_gate, behind;         /**< the same behind the local layers */
    vlci_norm norm_before, norm_behind; /**< of the local layers */
    vlci_mllama_layer *layer;           /**< [layers + global_layers]: the local ones first */
} vlci_mllama_tower;

/** Patches a side. */
int vlci_mllama_side(const vlci_mllama_tower_config *config);

/** Rows that a tile becomes: its class token, and its patches row by row. */
int vlci_mllama_rows(const vlci_mllama_tower_config *config);

/** Numbers of a state. */
int vlci_mllama_width(const vlci_mllama_tower_config *config);

/** Uploads "vision_model.". Errors: those of vlci_upload_matrix(), vlci_attention_open() and the device's;
 * vlci_mllama_tower_release() follows. */
vlcache_status vlci_mllama_tower_load(vlci_upload *up, const vlci_mllama_tower_config *config,
                                      vlci_mllama_tower *out);

/** Releases and zeroes; one that is all zero is accepted. */
void vlci_mllama_tower_release(vlci_mllama_tower *tower);

/** `*states`: new memory, f32 [config.tiles][vlci_mllama_rows()][vlci_mllama_width()]: of the pixels' tiles,
 * which are at most so many, and behind them of those that are not there. `shape`: the picture's, from 1 on.
 * Errors: the device's. */
vlcache_status vlci_mllama_tower_run(const vlci_mllama_tower *tower, const vlci_pixels *pixels, int shape,
                                     cl_mem *states);

#endif
