/**
 * rotary.h (internal) - the settings of rotary positions (RoPE), and the numbers that they come to: an
 * inverse frequency for each pair of elements of a head, and which of the three numbers of a position turns
 * it.
 */
#ifndef VLCI_MODELS_ROTARY_H
#define VLCI_MODELS_ROTARY_H

#include "checkpoint/json.h"

typedef enum vlci_rope_kind {
    VLCI_ROPE_PLAIN,
    VLCI_ROPE_LINEAR,
    VLCI_ROPE_LLAMA3,
    VLCI_ROPE_YARN
} vlci_rope_kind;

/** How a model's frequencies are scaled. "dynamic" scaling changes nothing below max_position_embeddings,
 * beyond which no context goes: it is plain here. */
typedef struct vlci_rotary {
    float theta;
    vlci_rope_kind kind;
    float factor;                  /**< linear, llama3, yarn */
    float low_factor, high_factor; /**< llama3 */
    int original_positions;        /**< llama3, yarn */
    float beta_fast, beta_slow;    /**< yarn: turns within original_positions between which it blends */
    bool exact_range;              /**< yarn: the bounds of the blend are not rounded to whole pairs */
    float attention_factor;        /**< of cosines and sines: 1 but in yarn */
    int section[3];                /**< M-RoPE: pairs that turn by time, height and width; 0: no M-RoPE */
    bool interleaved;              /**< M-RoPE: height and width take every third pair, not a stretch */
} vlci_rotary;

/**
 * Reads rope_theta, rope_scaling (4.x) and rope_parameters (5.x) of a text model over what its class has in
 * `*rope`; a class with M-RoPE says so by its sections. `*max_positions`: max_position_embeddings, which yarn
 * enlarges to what it is for. Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named).
 */
vlcache_status vlci_rotary_read(const vlci_scope *scope, int head_dim, int *max_positions, vlci_rotary *rope);

/** Inverse frequencies and axes of the head_dim / 2 pairs of a head. */
void vlci_rotary_fill(const vlci_rotary *rope, int head_dim, float *inv_freq, int32_t *axis);

#endif
