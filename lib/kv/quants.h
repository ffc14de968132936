/**
 * quants.h (internal) - rows that a cache keeps in few bits a number, as they are: keys have a scale and a
 * zero a channel and group of rows, values one a row and group of channels (KIVI, arXiv 2402.02750). Of every
 * head of every layer of one sequence, each with rows of its own number; the rows of one turn. They stand in
 * front of the rows in pages, never change, and are shared by forks and marks.
 *
 *     key(j, d)   = key_zero(j / group, d) + key_scale(j / group, d) code(j, d)
 *     value(j, d) = value_zero(j, d / group) + value_scale(j, d / group) code(j, d)
 */
#ifndef VLCI_KV_QUANTS_H
#define VLCI_KV_QUANTS_H

#include "cl/shared.h"
#include "device/device.h"

struct vlci_kv_pool;

typedef struct vlci_quants {
    vlcache_device *device;    /**< borrowed */
    struct vlci_kv_pool *pool; /**< borrowed: it counts their bytes; NULL: nobody does */
    int references;
    struct vlci_quants *before;                /**< of earlier turns; one reference is this one's */
    const struct vlci_quantised_kernels *read; /**< attention over them (compute/quantised.h); borrowed */
    int layers, kv_heads, head_dim;
    int key_bits, value_bits; /**< of a number: 2, 3, 4 or 8 */
    int group;            /**< rows of keys, channels of values that share a scale: VLCI_QUANT_GROUP_MIN.. */
    bool biased;          /**< rows have biases: centroids are among them */
    int blocks, groups;   /**< of VLCI_CODE_ROWS rows, and of `group` rows, of all heads */
    vlci_quant_head *own; /**< [layers][kv_heads], on the host */
    cl_mem head;          /**< the same on the device */
    cl_mem keys, values;  /**< uint [blocks][VLCI_QUANT_WORDS] */
    cl_mem key_scale;     /**< f16 [groups][2][head_dim]: scales, zeros */
    cl_mem value_scale;   /**< f16 [blocks][vlci_quants_channels()][2][VLCI_CODE_ROWS]: scales, zeros */
    cl_mem bias;          /**< f16 [blocks][VLCI_CODE_ROWS]; NULL: none */
} vlci_quants;

/** Bytes of each part, for one accountant: what is allocated is their sum. */
typedef struct vlci_quants_bytes {
    uint64_t words, scales, biases, tables;
} vlci_quants_bytes;

static inline uint64_t vlci_quants_sum(const vlci_quants_bytes *b) {
    return b->words + b->scales + b->biases + b->tables;
}

/** Groups of channels of a value. */
static inline int vlci_quants_channels(int head_dim, int group) {
    return (head_dim + group - 1) / group;
}

/** What quants of this shape take; its numbers count. */
vlci_quants_bytes vlci_quants_count(const vlci_quants *quants);

/** Blocks and groups of one more head of `rows` rows, whose place is returned: `blocks` and `groups` grow. */
vlci_quant_head vlci_quants_place(vlci_quants *quants, int rows);

/** Quants with the numbers of `shape`, whose heads have rows[..] rows ([layers][kv_heads]), memory for them,
 * and one reference. Errors: VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_UNSUPPORTED (2^31 blocks
 * or more). */
vlcache_status vlci_quants_create(const vlci_quants *shape, const int *rows, vlci_quants **out);

/** The pool counts their bytes from here on, once. */
void vlci_quants_count_in(vlci_quants *quants, struct vlci_kv_pool *pool);

/** One more owner; NULL accepted, and given back. */
vlci_quants *vlci_quants_retain(vlci_quants *quants);

/** Gives up a reference, NULLs; NULL accepted. */
void vlci_quants_release(vlci_quants **quants);

/** Bytes of a list of quants, those of earlier turns included. */
uint64_t vlci_quants_all_bytes(const vlci_quants *quants);

/** Of these, bytes that go when the list does: nobody else has them. */
uint64_t vlci_quants_own_bytes(const vlci_quants *quants);

#endif
