/**
 * pool.h (internal) - KV memory as pages that many sequences share.
 *
 * A page holds VLCI_KV_PAGE rows of keys and as many of values, of one kv head of one layer of one sequence:
 * lists of pages may differ in length by layer and head. A page has as many owners as lists hold it
 * (sequences that were forked, marks to go back to); one with several is never written to, but copied first.
 * What its last owner gives back serves anyone at once: all work goes through one queue, in order.
 *
 * A pool of a fixed size never allocates after it was made (biases excepted: they come with the first row
 * that has one). An elastic one grows when pages are short and shrinks when it is told to, so that a single
 * conversation takes what it needs; with several sequences it grows by an eighth of what is held beyond that,
 * and keeps up to a quarter.
 */
#ifndef VLCI_KV_POOL_H
#define VLCI_KV_POOL_H

#include "cl/shared.h"
#include "kv/list.h"
#include "kv/table.h"

/** Of every sequence of a pool. */
typedef struct vlci_kv_shape {
    int layers, kv_heads, head_dim;
    vlcache_dtype dtype;
} vlci_kv_shape;

enum { VLCI_KV_STILL = 32 /* words of a bit for each layer */ };

typedef struct vlci_kv_pool {
    vlcache_device *device;
    vlci_kv_shape shape;
    bool elastic;
    uint32_t still[VLCI_KV_STILL]; /**< a bit for each layer that does not grow with the text: layers of
                                        cross-attention, which hold what vlci_kv_refill() gives them */
    int pages, held, most;         /**< there are; have an owner; most that had, since vlci_kv_pool_watch() */
    uint64_t few; /**< bytes of rows in few bits of its caches (kv/codes.h, quants.h), beside the pages */
    uint64_t most_bytes; /**< most that keys, values, biases and those rows took on the device, since then */
    cl_mem k, v;         /**< [pages][VLCI_KV_PAGE][head_dim] */
    cl_mem bias;         /**< f32 [pages][VLCI_KV_PAGE]; NULL until a row needs one */
    uint32_t *owners;    /**< [pages] */
    int32_t *spare;      /**< [pages]: the first pages - held have no owner; taken from the end */
    vlci_kv_table table;
    vlci_kv_head *head; /**< [slots][layers][kv_heads], as the device is to have them */
    cl_mem heads;       /**< the same there, of the first slots_on slots */
    cl_mem grows; /**< int [layers][kv_heads]: rows that a step adds, 0 of still layers; NULL: 1 of all */
    int32_t *free_slot; /**< [slots]: the first n_free_slots are free */
    int slots, slots_on, n_free_slots;
    int changed_from, changed_until; /**< slots that the device does not have yet */
    int32_t *pair;                   /**< pages to copy before they are written to: from, to */
    int pairs, pairs_room;
    bool given; /**< pages were given back since the first of the pairs: one of them may be taken again */
    cl_mem pairs_on;
    size_t pairs_bytes;
    vlci_kv *first; /**< every cache of this pool, linked */
    const vlci_kernel *advance, *copy, *move;
    const vlci_kernel *fetch, *place; /**< move rows as runs of `run` words, as move does pages */
    size_t run;
} vlci_kv_pool;

/** Bytes of a page: keys, values, and biases where asked for. */
uint64_t vlci_kv_page_bytes(const vlci_kv_shape *shape, bool biases);

/** Pages that `rows` rows of one head take. */
static inline int vlci_kv_pages(int rows) {
    return (rows + VLCI_KV_PAGE - 1) / VLCI_KV_PAGE;
}

/**
 * A pool of `pages` pages, or an elastic one that begins with that many (which may be 0). Builds its kernels.
 * Errors: VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_BUILD.
 */
vlcache_status vlci_kv_pool_create(vlcache_device *device, const vlci_kv_shape *shape, int pages,
                                   bool elastic, vlci_kv_pool *out);

/** Makes layers of an empty pool still, a bit for each in VLCI_KV_STILL words. Errors: VLCACHE_E_NO_MEMORY,
 * the device's. */
vlcache_status vlci_kv_pool_still(vlci_kv_pool *pool, const uint32_t *layers);

static inline bool vlci_kv_is_still(const vlci_kv_pool *pool, int layer) {
    return pool->still[layer / 32] >> (layer % 32) & 1;
}

/** Makes sure that `pages` pages have no owner. Errors: VLCACHE_E_DEVICE_MEMORY (fixed and full, or no
 * memory). */
vlcache_status vlci_kv_pool_need(vlci_kv_pool *pool, int pages);

/** An elastic pool gives back what is beyond `spare` pages without an owner; pages are renumbered. Else
 * nothing. Errors: as vlci_kv_pool_need(); the pool is as it was then. */
vlcache_status vlci_kv_pool_shrink(vlci_kv_pool *pool, int spare);

/** Makes room for biases, all zero, where there is none yet. Errors: VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_kv_pool_bias(vlci_kv_pool *pool);

/** A page without owner gets its first. There must be one. */
int32_t vlci_kv_page_take(vlci_kv_pool *pool);
void vlci_kv_page_share(vlci_kv_pool *pool, int32_t page);
void vlci_kv_page_give(vlci_kv_pool *pool, int32_t page);

/** Page `from` is to be copied to page `to` before the next kernel runs: vlci_kv_pool_sync() does. Errors:
 * VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_kv_page_copy(vlci_kv_pool *pool, int32_t from, int32_t to);

/** A place for a sequence's heads on the device. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_kv_slot_take(vlci_kv_pool *pool, int *slot);
void vlci_kv_slot_give(vlci_kv_pool *pool, int slot);

/** Enqueues what has changed on the host: lists, heads, copies of pages. Errors: the device's. */
vlcache_status vlci_kv_pool_sync(vlci_kv_pool *pool);

/** Begins new peaks at what is held now. */
void vlci_kv_pool_watch(vlci_kv_pool *pool);

/** Rows in few bits take so many bytes more, or fewer. */
void vlci_kv_pool_count(vlci_kv_pool *pool, int64_t bytes);

/** Bytes of keys, values and biases on the device now. */
uint64_t vlci_kv_pool_bytes(const vlci_kv_pool *pool);

/** Pages that so many bytes of rows in few bits count as, of a budget that is one for both. */
static inline int64_t vlci_kv_pages_of(const vlci_kv_pool *pool, uint64_t bytes) {
    uint64_t page = vlci_kv_page_bytes(&pool->shape, false);
    return (int64_t)((bytes + page - 1) / page);
}

/** Rows that are there; those in pages of several owners once for each of their lists but not for marks. */
uint64_t vlci_kv_pool_rows(const vlci_kv_pool *pool);

/** All caches of the pool must be released already. */
void vlci_kv_pool_release(vlci_kv_pool *pool);

#endif
