/**
 * quantise.h (internal) - a plan's part that stores the rows it keeps, centroids among them, in few bits a
 * number: how many rows a budget in bytes has room for, and then their codes.
 */
#ifndef VLCI_COMPRESS_QUANTISE_H
#define VLCI_COMPRESS_QUANTISE_H

#include "compress/compact.h"
#include "compress/policy.h"
#include "compute/quantised.h"
#include "kv/cache.h"

typedef struct vlci_quantise_kernels {
    const vlci_kernel *keys, *ranges, *values;
    vlci_quantised_kernels attention; /**< what quants are read by */
} vlci_quantise_kernels;

/** Adds what a recipe needs to kernels that are zero or were opened for others. Errors: those of
 * vlci_quantised_open(). */
vlcache_status vlci_quantise_open(vlcache_device *device, const vlci_compress_shape *shape,
                                  const vlci_recipe *recipe, vlci_quantise_kernels *out);

/** Whether anything is quantised: a budget of the whole cache needs it not. */
static inline bool vlci_quantise_wanted(const vlci_recipe *r) {
    return r->quantised && r->budget < 1.0;
}

/** The recipe whose budget is a share of rows, not bytes: never fewer than vlci_quantise_budget() shares
 * out. As it is where nothing is quantised. */
vlci_recipe vlci_quantise_rows(const vlci_recipe *recipe, int head_dim, vlcache_dtype dtype);

/**
 * vlci_budget_share() of a recipe whose budget is one of bytes: as many rows as the budget has room for once
 * they are quantised, tables and biases included, and never more, but for the row that each layer keeps at
 * least. `layers` below shape->layers: no fewer rows than once all are known.
 */
void vlci_quantise_budget(const vlci_recipe *recipe, const vlci_compress_shape *shape, int tokens, int layers,
                          vlcache_compress_layer *layer);

/** Most bytes that quants of a prompt of `tokens` rows come to. */
uint64_t vlci_quantise_bound(const vlci_recipe *recipe, const vlci_compress_shape *shape, int tokens);

/** The same of rows that age, of `rows` (2 * recipe->age or more) that each head comes to have. */
uint64_t vlci_quantise_aging_bound(const vlci_recipe *recipe, const vlci_compress_shape *shape, int rows);

typedef struct vlci_quantising {
    vlcache_device *device;               /**< borrowed */
    const vlci_quantise_kernels *kernels; /**< borrowed */
    vlci_compress_shape shape;
    bool biased;
    vlci_quants *quants; /**< NULL once handed over */
    vlci_quants_bytes bytes;
    int key_bits, value_bits;
    vlci_keep *none;   /**< [layers * kv_heads]: what heads keep in pages: nothing of the prompt */
    cl_mem keep, held; /**< the same on the device; and what is in pages before: kept + centroids as kept */
    cl_mem bad;        /**< int [layers * kv_heads * 2]: keys, values that no f16 comes near */
} vlci_quantising;

/** Room for the rows that `own` ([layers * kv_heads]) keeps. Errors: VLCACHE_E_NO_MEMORY,
 * VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_UNSUPPORTED. */
vlcache_status vlci_quantising_create(vlcache_device *device, const vlci_quantise_kernels *kernels,
                                      const vlci_compress_shape *shape, const vlci_recipe *recipe,
                                      const vlci_keep *own, vlci_quantising **out);

/** Enqueues the codes of the rows that these heads keep, which are in pages behind earlier ones. Errors: the
 * device's. */
vlcache_status vlci_quantising_write(vlci_quantising *quantising, const vlci_heads *heads);

/** Takes those rows out of the pages of `layers` layers: earlier and decoded ones are left. `positions`: any
 * memory of ints; `to`: vlci_kv_head of all heads. Errors: the device's, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_quantising_drop(vlci_quantising *quantising, const vlci_compact_kernels *compact,
                                    const vlci_heads *heads, int decoded, cl_mem positions, cl_mem to,
                                    vlci_kv *kv);

/** Hands the quants over, in front of `before`, whose reference they take. Blocks. Errors:
 * VLCACHE_E_UNSUPPORTED (rows that are not finite, or beyond f16), the device's; `before` stays the caller's
 * then. */
vlcache_status vlci_quantising_finish(vlci_quantising *quantising, vlci_quants *before, vlci_quants **out);

/** Whether vlci_quantise_aged() moves some rows. */
bool vlci_quantise_ages(const vlci_compress_shape *shape, const vlci_recipe *recipe, const vlci_kv *kv);

/**
 * Where all heads of a cache hold at least twice recipe->age rows in pages, as many each: the oldest of them,
 * in whole blocks of that many, go to few bits, in front of kv->quants, until fewer than twice as many are
 * left. Blocks when it does. Errors: those of vlci_quantising_create(), _drop() and _finish().
 */
vlcache_status vlci_quantise_aged(const vlci_quantise_kernels *kernels, const vlci_compact_kernels *compact,
                                  const vlci_compress_shape *shape, const vlci_recipe *recipe, vlci_kv *kv);

/** Releases and NULLs; NULL accepted. */
void vlci_quantising_destroy(vlci_quantising **quantising);

#endif
