/**
 * safetensors.h - a checkpoint's weights, mapped into memory: model.safetensors, or the shards that
 * model.safetensors.index.json names. Nothing is copied; files are untrusted and checked before use.
 */
#ifndef VLCI_CHECKPOINT_SAFETENSORS_H
#define VLCI_CHECKPOINT_SAFETENSORS_H

#include "core/status.h"

enum { VLCI_TENSOR_MAX_DIMS = 8 };

/** One tensor of a mapped file; `data` is little-endian, row-major, valid while the checkpoint is open. */
typedef struct vlci_weight_view {
    const char *name;
    vlcache_dtype
        dtype; /**< F32, F16 or BF16; other dtypes are an error only when such a tensor is asked for */
    int n_dims;
    size_t dim[VLCI_TENSOR_MAX_DIMS];
    const void *data;
    size_t bytes;
    const char *file; /**< for messages */
} vlci_weight_view;

typedef struct vlci_checkpoint vlci_checkpoint;

/** Opens the folder's weights. Errors: VLCACHE_E_IO, VLCACHE_E_FORMAT (file, tensor and reason),
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_checkpoint_open(const char *folder, vlci_checkpoint **out);

/**
 * Finds a tensor by its Hugging Face name under any of the known prefix schemes: `name` is the canonical form
 * ("language_model.model.layers.0.self_attn.q_proj.weight", "vision_tower.vision_model.encoder.layers.0...",
 * "multi_modal_projector.linear_1.weight", "language_model.lm_head.weight", "image_newline"); the schemes of
 * hub checkpoints and of transformers 5 ("model.language_model.layers...", "lm_head.weight",
 * "model.vision_tower...", "model.multi_modal_projector...", with and without "vision_model.") are tried in
 * turn. Returns false when absent.
 */
bool vlci_checkpoint_find(const vlci_checkpoint *checkpoint, const char *name, vlci_weight_view *out);

/**
 * As vlci_checkpoint_find(), but it must be there with exactly this shape (n_dims values follow).
 * Errors: VLCACHE_E_FORMAT naming tensor, file, found and expected shape; VLCACHE_E_UNSUPPORTED for other
 * dtypes.
 */
vlcache_status vlci_checkpoint_get(const vlci_checkpoint *checkpoint, const char *name, int n_dims,
                                   const size_t *dims, vlci_weight_view *out);

/** Tells the system that a tensor's pages are not needed any more (they can be read again from the file). */
void vlci_checkpoint_drop(const vlci_weight_view *view);

/** Sum of all tensor bytes. */
uint64_t vlci_checkpoint_bytes(const vlci_checkpoint *checkpoint);

/** Unmaps and NULLs; NULL accepted. */
void vlci_checkpoint_close(vlci_checkpoint **checkpoint);

#endif
