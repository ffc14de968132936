/**
 * looks.h (internal) - what the listed rows of a prompt look with, kept of all layers: queries, maxima and
 * log-sum-exps of their attention. Where all of the prompt's keys stay until it is chosen among them, all
 * layers are scored at once then.
 */
#ifndef VLCI_COMPRESS_LOOKS_H
#define VLCI_COMPRESS_LOOKS_H

#include "compress/heads.h"
#include "compute/attention.h"

/** A part of the prompt in a walk whose attention has just run. */
typedef struct vlci_look {
    const vlci_attention *a;
    size_t heads_at; /**< first entry of a->kv.heads of this layer of the sequence */
    int row;         /**< of the walk: the part's first */
    int from, n;     /**< rows of the prompt: from, from + 1, ...; a decoded row: 0, 1 */
    cl_mem phase;    /**< f32 [tokens][head_dim]: rotations of the prompt's rows; NULL with a decoded one */
} vlci_look;

typedef struct vlci_looks {
    int room;        /**< rows of a layer; 0: none are kept. Memory comes with the first of them */
    size_t rows;     /**< that there is memory for, of all layers */
    cl_mem q;        /**< f32 [layers][room][heads][head_dim] */
    cl_mem max, lse; /**< f32 [layers][room][heads] */
    float scale;     /**< of their logits */
} vlci_looks;

/** Enqueues: rows entry .. entry + n - 1 of a list, which are in `look`, to their places in a layer. */
vlcache_status vlci_looks_hold(vlcache_device *device, const vlci_compress_shape *shape,
                               const vlci_kernel *kernel, int layer, const vlci_look *look, cl_mem list,
                               int entry, int n, vlci_looks *spare, vlci_looks *looks);

/** NULLs. */
void vlci_looks_release(vlcache_device *device, vlci_looks *looks);

/** The same, but where `spare` is empty their memory goes there: a driver takes as long to let go of it as
 * for half of a short prompt's scores. spare: NULL: nothing stays. */
void vlci_looks_give_back(vlcache_device *device, vlci_looks *looks, vlci_looks *spare);

#endif
