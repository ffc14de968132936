/**
 * code.h (internal) - the rows of a layer -> their means, bases and energies, and then their codes: what
 * cl/code_basis.cl and cl/code.cl do, launched. With a metric, values count as the layer's output product
 * hears them.
 *
 *     for each layer:   vlci_code_measure(k, &heads, &rows, &room, &measured);
 *     energies -> bits -> codes, with their matrices and phases;   vlci_code_round(k, &measured, codes);
 *     for each layer:   vlci_code_write(k, &heads, &rows, &room, &measured, codes);
 */
#ifndef VLCI_COMPRESS_CODE_H
#define VLCI_COMPRESS_CODE_H

#include "compress/heads.h"
#include "compute/coded.h"

/**
 * The ladder; VLCACHE_VARIANT=code:RUNG forces a rung:
 *
 *     mma     group, but covariances, bases and codes on matrix units: NVIDIA since sm_80, head_dim to 128
 *     group   a work-group for a tile of a covariance, a basis, a block of rows: GPUs
 *     wide    a work-item for each: processors with wide vectors, and anything else
 */
extern const vlci_ladder vlci_code_ladder;

typedef struct vlci_code_kernels {
    const vlci_kernel *mean, *mean_sum, *covariance, *sum, *basis, *round, *project, *step, *pack, *narrow;
    const vlci_kernel *text;
    const vlci_kernel *steps_mma, *pack_mma, *covariance_mma, *basis_mma; /**< on matrix units; NULL: not */
    const vlci_kernel *heard_mma, *behind_mma;
    const vlci_kernel *basis_few;   /**< the same of no more than VLCI_CODE_BASIS_FEW() columns */
    const vlci_kernel *basis_alone; /**< the same of no more matrices than there are units; or NULL */
    const vlci_kernel *phases, *alike, *queries, *attended;
    const vlci_kernel *heard, *behind;
    const vlci_kernel *votes, *text_keep;
    size_t group;       /**< work-items of a work-group */
    size_t basis_group; /**< of one that finds a basis */
} vlci_code_kernels;

/** Chooses the rung and builds its kernels. Errors: those of vlci_few_check(), VLCACHE_E_ARGUMENT
 * (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_code_open(vlcache_device *device, const vlci_compress_shape *shape,
                              vlci_code_kernels *out);

/** Rows of a prompt, in every head: which are visual, and coded, which are text. */
typedef struct vlci_code_rows {
    int n, run;       /**< visual ones; run: whole blocks */
    int texts;        /**< the others */
    cl_mem positions; /**< int [n]: in the prompt, ascending */
    cl_mem text_at;   /**< int [texts]: the same of the others */
    cl_mem phase;     /**< f32 [runs][head_dim]: of the runs' middle rows */
} vlci_code_rows;

/** Scratch on the device for some layers; zero to begin with. */
typedef struct vlci_code_room {
    cl_mem parts, covariance, next, q, z, steps;
    size_t shares;   /**< of all matrices together that parts has room for */
    size_t matrices; /**< that there is room to measure for */
    int columns;     /**< of a matrix, with that */
    size_t dims;     /**< of all of them together that steps has room for */
    size_t values;   /**< that z has room for */
} vlci_code_room;

/** What is measured, of all layers. */
typedef struct vlci_code_measured {
    int columns;    /**< basis vectors of a matrix */
    cl_mem mean;    /**< f16 [layers * kv_heads * 2][head_dim] */
    bool one_layer; /**< basis: only of the layer that was measured last */
    cl_mem metric;  /**< of values (compress/metric.h), borrowed; NULL: all directions count alike */
    cl_mem basis;   /**< f32 [layers * kv_heads * 2][columns][head_dim], by falling energy: what rows are
                       projected on */
    cl_mem back;    /**< the same, what they are made of again; NULL: the basis, without a metric */
    cl_mem energy, total; /**< f32 [..][columns], and [..]: the variances along them, and of all dimensions */
    cl_mem numbers;       /**< f32: what the host reads of all that, side by side */
} vlci_code_measured;

/** Scratch of both kinds between two prompts: what a driver takes to make memory, and to let go of it, is as
 * much as half of what happens in it. */
typedef struct vlci_code_spare {
    vlci_code_room room;
    vlci_code_measured measured;
} vlci_code_spare;

/** Memory for what is measured, that of `spare` where it is the same; NULL: none is. metric: borrowed, or
 * NULL. Errors: VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_code_begin(vlcache_device *device, const vlci_compress_shape *shape, int columns,
                               bool one_layer, cl_mem metric, vlci_code_spare *spare,
                               vlci_code_measured *out);
void vlci_code_end(vlcache_device *device, vlci_code_measured *measured);

/** Layers that are best measured at once: as many as scratch of some size has room for. */
int vlci_code_layers(const vlci_code_kernels *k, const vlci_compress_shape *shape);

/** Enqueues means, covariances and bases of the heads of some layers. Errors: VLCACHE_E_DEVICE_MEMORY, the
 * device's. */
vlcache_status vlci_code_measure(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                 vlci_code_room *room, const vlci_code_measured *measured);

/** Enqueues means and bases of some layers as they are kept. codes->matrix is there. Errors: the device's. */
vlcache_status vlci_code_round(const vlci_code_kernels *k, const vlci_heads *h,
                               const vlci_code_measured *measured, const vlci_codes *codes);

/** Layers that are best written at once: as many as scratch of some size has room for. */
int vlci_code_write_layers(const vlci_code_kernels *k, const vlci_compress_shape *shape,
                           const vlci_code_rows *rows, int most);

/** Enqueues the steps and codes of the heads of some layers, of whose matrices none has more than `most`
 * dimensions. Errors: as vlci_code_measure(). */
vlcache_status vlci_code_write(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                               int most, vlci_code_room *room, const vlci_code_measured *measured,
                               const vlci_codes *codes);

/** Enqueues the codes of some layers once more, in fewer bits than `held` has, for the first of its
 * dimensions of each matrix: no more than `most`. Errors: as vlci_code_measure(). */
vlcache_status vlci_code_narrow(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                int most, vlci_code_room *room, const vlci_codes *held,
                                const vlci_codes *codes);

/** Enqueues the text of some layers that `codes` has: of what `held` has the rows at `kept`, int
 * [codes->texts]. Errors: the device's. */
vlcache_status vlci_code_keep_text(const vlci_code_kernels *k, const vlci_heads *h, cl_mem kept,
                                   const vlci_codes *held, const vlci_codes *codes);

void vlci_code_room_release(vlcache_device *device, vlci_code_room *room);

/** `room` becomes what `spare` has. spare: NULL: nothing stays. */
void vlci_code_lend(vlci_code_spare *spare, vlci_code_room *room);

/** Both go to `spare`, where it is empty and they are no large part of the device's memory, or are released.
 */
void vlci_code_give_back(vlcache_device *device, const vlci_compress_shape *shape, vlci_code_room *room,
                         vlci_code_measured *measured, vlci_code_spare *spare);

void vlci_code_spare_release(vlcache_device *device, vlci_code_spare *spare);

#endif
