/**
 * weight.h (internal) - from an open checkpoint to the device: matrices in the layout and dtype that the
 * device's matrix product wants, vectors as f32. What is read of a tensor goes into the device's memory, or
 * a bounded stretch of the host's, at once: the host never holds a matrix.
 */
#ifndef VLCI_MODELS_WEIGHT_H
#define VLCI_MODELS_WEIGHT_H

#include "checkpoint/safetensors.h"
#include "compute/compute.h"
#include "compute/dtype.h"
#include "compute/pack.h"
#include "compute/random.h"
#include "core/team.h"
#include "device/bulk.h"

/** One upload of a checkpoint: where it goes, and how far it is. Without a device tensors are looked for,
 * with their shapes and dtypes, and counted; nothing is read, and no memory is taken: matrices have their n,
 * k and dtype. */
typedef struct vlci_upload {
    vlcache_device *device; /**< NULL: see above */
    vlci_compute *compute;  /**< what will run them: products with a dtype are opened when it first occurs */
    vlci_checkpoint *checkpoint; /**< NULL: there is none, and weights are made (random.c) */
    vlcache_dtype dtype; /**< of matrices; AUTO: each as it is stored, f32 where a matrix's parts differ;
                              never AUTO without a checkpoint */
    bool no_mmap;        /**< nothing stays in its file */
    vlcache_progress_fn progress;
    void *progress_user;
    uint64_t done, total;  /**< bytes of the checkpoint */
    uint64_t device_bytes; /**< held so far; without a device: what would be, but for padding */
    uint64_t mapped_bytes; /**< of these, in mapped files; without a device: what would be on a processor that
                              reads rows */
    uint64_t largest;      /**< bytes of the largest matrix of them */
    uint64_t piece;        /**< bytes of the largest that is one memory: of what is mapped, a part is */
    size_t slab_bytes;     /**< of the host's memory that is filled at a time, about; 0: 64 MiB */
    vlci_team *team;       /**< what follows is made when it is first needed, and zero at first */
    vlci_bulk bulk;
    char *scratch; /**< of the team's members */
    size_t scratch_bytes;
} vlci_upload;

/**
 * Ends what uploads needed, once the device has what was sent to it; checkpoint and device stay. `status`:
 * what came of them, which is returned unless sending fails now. Errors: the device's.
 */
vlcache_status vlci_upload_end(vlci_upload *up, vlcache_status status);

/** Counts a matrix that takes `bytes`. */
void vlci_upload_count(vlci_upload *up, uint64_t bytes);

/** One part of a matrix that is stored as several tensors (q, k and v): rows [n][k]. */
typedef struct vlci_part {
    const char *name; /**< without the prefix, ".weight" and ".bias" */
    int n;
} vlci_part;

/** The parts and how many they are: VLCI_PARTS({"q_proj", 64}, {"k_proj", 16}). */
#define VLCI_PARTS(...)                                                                                      \
    (const vlci_part[]){__VA_ARGS__}, sizeof((const vlci_part[]){__VA_ARGS__}) / sizeof(vlci_part)

/**
 * Uploads the parts, whose names begin with `prefix`, one below the other as one matrix [sum n][k]; with
 * `bias`, the parts' biases as one f32 vector. Errors: those of vlci_checkpoint_get() and of the device,
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_CANCELLED.
 */
vlcache_status vlci_upload_matrix(vlci_upload *up, const char *prefix, const vlci_part *parts, size_t n_parts,
                                  int k, bool bias, vlci_matrix *out);

/** As vlci_upload_matrix(), with row i (and its bias) times element i of the vector "<prefix><scale>"; NULL:
 * not scaled. A made matrix is not scaled. */
vlcache_status vlci_upload_scaled(vlci_upload *up, const char *prefix, const vlci_part *parts, size_t n_parts,
                                  int k, bool bias, const char *scale, vlci_matrix *out);

/** Uploads "<prefix><name>.weight" of exactly these dims as a matrix [n][k] of as many elements (a
 * convolution's kernel); with `bias`, its bias of n. Errors as vlci_upload_matrix(). */
vlcache_status vlci_upload_kernel(vlci_upload *up, const char *prefix, const char *name, int n_dims,
                                  const size_t *dims, int n, int k, bool bias, vlci_matrix *out);

/** Uploads a tensor of exactly these dims as f32. Errors as vlci_upload_matrix(). */
vlcache_status vlci_upload_vector(vlci_upload *up, const char *prefix, const char *name, int n_dims,
                                  const size_t *dims, cl_mem *out);

/** Uploads "weight" and, where the norm has one, "bias" of n values. Errors as vlci_upload_matrix(). */
vlcache_status vlci_upload_norm(vlci_upload *up, const char *prefix, const char *name, int n, bool bias,
                                vlci_norm *out);

/** Uploads "weight" of n values, `plus` added to each. Errors as vlci_upload_matrix(). */
vlcache_status vlci_upload_rms_norm(vlci_upload *up, const char *prefix, const char *name, int n, float plus,
                                    vlci_norm *out);

/**
 * What takes the place of the above where there is no checkpoint: a matrix of that name in the form that its
 * products want, and a vector, f32; both random and the same each time. Errors: those of vlci_linear_open(),
 * vlci_random_matrix() and the device's.
 */
vlcache_status vlci_make_matrix(vlci_upload *up, const char *prefix, const char *name, int n, int k,
                                bool bias, vlci_matrix *out);
vlcache_status vlci_make_vector(vlci_upload *up, const char *prefix, const char *name, size_t n, cl_mem *out);

/** Release memory and zero what held it. */
void vlci_matrix_release(vlcache_device *device, vlci_matrix *matrix);
void vlci_norm_release(vlcache_device *device, vlci_norm *norm);

#endif
