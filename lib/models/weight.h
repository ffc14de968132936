/**
 * weight.h (internal) - from a mapped checkpoint to the device: matrices in the layout and dtype that the
 * device's matrix product wants, vectors as f32. Rows travel through a small staging buffer, so weights are
 * never held twice on the host.
 */
#ifndef VLCI_MODELS_WEIGHT_H
#define VLCI_MODELS_WEIGHT_H

#include "checkpoint/safetensors.h"
#include "compute/linear.h"

/** One upload of a checkpoint: where it goes, and how far it is. */
typedef struct vlci_upload {
    vlcache_device *device;
    const vlci_checkpoint *checkpoint;
    vlcache_dtype dtype; /**< of matrices */
    vlci_layout layout;  /**< of matrices */
    vlcache_progress_fn progress;
    void *progress_user;
    uint64_t done, total;  /**< bytes of the checkpoint */
    uint64_t device_bytes; /**< allocated so far */
} vlci_upload;

/** One part of a matrix that is stored as several tensors (q, k and v): rows [n][k]. */
typedef struct vlci_part {
    const char *name; /**< without ".weight" or ".bias" */
    int n;
} vlci_part;

/**
 * Uploads the parts one below the other as one matrix [sum n][k]; with `bias`, the parts' biases as one f32
 * vector. Errors: those of vlci_checkpoint_get() and of the device, VLCACHE_E_NO_MEMORY, VLCACHE_E_CANCELLED.
 */
vlcache_status vlci_upload_matrix(vlci_upload *up, const vlci_part *parts, int n_parts, int k, bool bias,
                                  vlci_matrix *out);

/** Uploads a found tensor of n * k elements as a matrix, whatever its own shape. Errors as
 * vlci_upload_matrix(). */
vlcache_status vlci_upload_view(vlci_upload *up, const vlci_weight_view *view, int n, int k,
                                vlci_matrix *out);

/** Uploads a tensor of exactly these dims as f32. Errors as vlci_upload_matrix(). */
vlcache_status vlci_upload_vector(vlci_upload *up, const char *name, int n_dims, const size_t *dims,
                                  cl_mem *out);

/** Releases a matrix's memory and zeroes it. */
void vlci_matrix_release(vlcache_device *device, vlci_matrix *matrix);

/** Widens `n` stored elements to f32, and narrows them (round to nearest, ties to even). */
void vlci_widen(const void *from, vlcache_dtype dtype, float *to, size_t n);
void vlci_narrow(const float *from, void *to, vlcache_dtype dtype, size_t n);

#endif
