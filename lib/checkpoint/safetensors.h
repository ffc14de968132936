/**
 * safetensors.h - a checkpoint's weights: model.safetensors, or the shards that model.safetensors.index.json
 * names. A tensor is read when it is asked for, whole or in parts; files are untrusted and checked before
 * use.
 */
#ifndef VLCI_CHECKPOINT_SAFETENSORS_H
#define VLCI_CHECKPOINT_SAFETENSORS_H

#include "core/mapping.h"
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
 * The same by headers alone, data may be missing or too many: vlci_checkpoint_find() and
 * vlci_checkpoint_take() tell names, shapes and dtypes, of a file that is never read; two tensors are the
 * same when dtype and shape are.
 */
vlcache_status vlci_checkpoint_outline(const char *folder, vlci_checkpoint **out);

/** Bytes of the tensors of each vlcache_dtype (AUTO: of types that are not supported), and how many of them
 * lie behind the ends of their files: those of an outline that is not whole. */
void vlci_checkpoint_count(const vlci_checkpoint *checkpoint, uint64_t stored[4], uint64_t *missing);

/** What one part of a model is called: the canonical prefix first, then others that checkpoints have; ends
 * with NULL. */
typedef struct vlci_naming {
    const char *prefix[6];
} vlci_naming;

/** Sets the names that the checkpoint may have for canonical ones: static storage, ends with a naming whose
 * first prefix is NULL. None are known before. */
void vlci_checkpoint_name(vlci_checkpoint *checkpoint, const vlci_naming *names);

/**
 * Finds a tensor by its canonical name, which counts as stored under any of the known prefixes; they are
 * tried in turn. Reads nothing. Returns false when absent, and of NULL, which is no checkpoint.
 */
bool vlci_checkpoint_find(const vlci_checkpoint *checkpoint, const char *name, vlci_weight_view *out);

/**
 * As vlci_checkpoint_find(), but it must be there with exactly this shape (n_dims values follow); it counts
 * as used, and the system is told that it will be read. Errors: VLCACHE_E_FORMAT naming tensor, file, found
 * and expected shape; VLCACHE_E_UNSUPPORTED for other dtypes; VLCACHE_E_IO where the file has changed since
 * it was opened.
 */
vlcache_status vlci_checkpoint_take(vlci_checkpoint *checkpoint, const char *name, int n_dims,
                                    const size_t *dims, vlci_weight_view *out);

/**
 * Reads bytes [at, at + bytes) of a tensor that was taken; several threads may read at the same time. Errors:
 * VLCACHE_E_IO where the file cannot be read or has changed since it was opened, VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_checkpoint_read(const vlci_checkpoint *checkpoint, const vlci_weight_view *view,
                                    size_t at, void *to, size_t bytes);

/**
 * Where a tensor that was taken lies in its file, which is mapped (once for all of its tensors; the caller is
 * one more owner of `*mapping`), and at which byte of it. Errors: VLCACHE_E_UNSUPPORTED
 * where the system does not map it, VLCACHE_E_IO where it has changed since it was opened,
 * VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_checkpoint_map(const vlci_checkpoint *checkpoint, const vlci_weight_view *view,
                                   vlci_mapping **mapping, size_t *at);

/** At which byte of its file a tensor that was taken begins. */
size_t vlci_checkpoint_place(const vlci_checkpoint *checkpoint, const vlci_weight_view *view);

/** As vlci_checkpoint_take(), and its data are read into memory of the checkpoint. Errors: those,
 * and those of vlci_checkpoint_read(). */
vlcache_status vlci_checkpoint_get(vlci_checkpoint *checkpoint, const char *name, int n_dims,
                                   const size_t *dims, vlci_weight_view *out);

/** Says that tensors whose canonical names begin with `prefix` are known and rightly left alone. NULL
 * accepted. */
void vlci_checkpoint_skip(vlci_checkpoint *checkpoint, const char *prefix);

enum { VLCI_UNUSED_NAMED = 4 };

/** How many tensors of the files opened were neither taken nor skipped, those that an index leaves out among
 * them; `text` gets the names of the first VLCI_UNUSED_NAMED, comma-separated. */
size_t vlci_checkpoint_unused(const vlci_checkpoint *checkpoint, char *text, size_t bytes);

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

/** Closes, frees all tensors' data and NULLs; NULL accepted. */
void vlci_checkpoint_close(vlci_checkpoint **checkpoint);

#endif
