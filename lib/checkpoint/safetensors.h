/**
 * safetensors.h - a checkpoint's weights: model.safetensors, or the shards that model.safetensors.index.json
 * names. A tensor is read when it is asked for; files are untrusted and checked before use.
 */
#ifndef VLCI_CHECKPOINT_SAFETENSORS_H
#define VLCI_CHECKPOINT_SAFETENSORS_H

#include "core/status.h"

enum { VLCI_TENSOR_MAX_DIMS = 8 };

/** One tensor; `data` is little-endian, row-major. */
typedef struct vlci_weight_view {
    const char *name;
    vlcache_dtype
        dtype; /**< F32, F16 or BF16; other dtypes are an error only when such a tensor is asked for */
    int n_dims;
    size_t dim[VLCI_TENSOR_MAX_DIMS];
    const void *data; /**< from vlci_checkpoint_get() until vlci_checkpoint_drop() or the checkpoint is
                         closed; NULL from vlci_checkpoint_find() */
    size_t bytes;
    const char *file; /**< for messages */
    void *owner;      /**< the checkpoint's own */
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
 * turn. Reads nothing. Returns false when absent.
 */
bool vlci_checkpoint_find(const vlci_checkpoint *checkpoint, const char *name, vlci_weight_view *out);

/**
 * As vlci_checkpoint_find(), but it must be there with exactly this shape (n_dims values follow), and its
 * data are read into memory of the checkpoint. Errors: VLCACHE_E_FORMAT naming tensor, file, found and
 * expected shape; VLCACHE_E_UNSUPPORTED for other dtypes; VLCACHE_E_IO where the file cannot be read or has
 * changed since it was opened; VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_checkpoint_get(const vlci_checkpoint *checkpoint, const char *name, int n_dims,
                                   const size_t *dims, vlci_weight_view *out);

/** Frees a tensor's data; vlci_checkpoint_get() reads them again. */
void vlci_checkpoint_drop(const vlci_weight_view *view);

/** Sum of all tensor bytes. */
uint64_t vlci_checkpoint_bytes(const vlci_checkpoint *checkpoint);

/**
 * Whether two tensors, named as for vlci_checkpoint_find(), are there with one dtype, one shape and the same
 * bytes: a stored output matrix that is the embedding once more. Errors: VLCACHE_E_IO, VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_checkpoint_same(const vlci_checkpoint *checkpoint, const char *a, const char *b,
                                    bool *same);

/** Number of tensors that vlci_checkpoint_get() has not given; the first `capacity` names, in order,
 * borrowed.
 */
size_t vlci_checkpoint_unused(const vlci_checkpoint *checkpoint, const char **names, size_t capacity);

/** Closes, frees all tensors' data and NULLs; NULL accepted. */
void vlci_checkpoint_close(vlci_checkpoint **checkpoint);

#endif
