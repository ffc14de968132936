/**
 * cache.h (internal) - the KV cache of one sequence. How many rows each (layer, kv head) holds is one thing,
 * the logical position of the next token another: compaction changes the first, never the second.
 *
 *     vlci_kv_reserve(&kv, 0, layers, n);    pages for n more rows
 *     view = vlci_kv_layer(&kv, layer);      kernels append rows
 *     vlci_kv_append(&kv, 0, layers, n);     now they count
 *
 * Still layers (vlci_kv_pool_still()) are passed over by what reserves, appends and counts rows of the text:
 * they hold what vlci_kv_refill() has made room for.
 */
#ifndef VLCI_KV_CACHE_H
#define VLCI_KV_CACHE_H

#include "kv/codes.h"
#include "kv/pool.h"
#include "kv/quants.h"
#include "kv/store.h"
#include "kv/view.h"

/** An empty cache. `out` stays where it is until it is released. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_kv_create(vlci_kv_pool *pool, vlci_kv *out);

/** Pages that vlci_kv_reserve() would take. */
int vlci_kv_reserve_pages(const vlci_kv *kv, int layer, int layers, int rows);

/** The same once there is a mark, which shares all pages with rows: those that are written to are copied. */
int vlci_kv_marked_pages(const vlci_kv *kv, int layer, int layers, int rows);

/**
 * Room for `rows` more rows in every head of `layers` layers from `layer` on; a page that is shared and would
 * be written to is copied. On failure the cache holds what it held, some heads perhaps more room. Errors:
 * VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_kv_reserve(vlci_kv *kv, int layer, int layers, int rows);

/** Rows that every head has room for beyond those it holds. */
int vlci_kv_room(const vlci_kv *kv);

/** Counts rows that were appended to every head of these layers. Positions are the caller's. */
void vlci_kv_append(vlci_kv *kv, int layer, int layers, int rows);

/** Whether still layers hold something. */
bool vlci_kv_is_filled(const vlci_kv *kv);

/** Pages that vlci_kv_refill() of `layers` layers takes. */
int vlci_kv_refill_pages(const vlci_kv *kv, int layers, int rows);

/**
 * Rows of a still layer: what it holds is forgotten, and each of its heads holds `rows` rows from now on, to
 * be written by kernels behind the next vlci_kv_pool_sync(). Errors: as vlci_kv_reserve(); the layer may hold
 * less then.
 */
vlcache_status vlci_kv_refill(vlci_kv *kv, int layer, int rows);

/** As vlci_kv_append() of one row to all, where the device counts it itself with the next vlci_kv_advance().
 */
void vlci_kv_append_behind(vlci_kv *kv);

/** What vlci_kv_append_behind() has counted reaches the device with the next vlci_kv_pool_sync(). */
void vlci_kv_catch_up(vlci_kv *kv);

/**
 * Between two steps of the same sequences: the device counts the rows of the step before, and takes its
 * tokens as input. tokens, ids: int[n]; row_position: int[n][3]; slots: int[n], the slots of kv[0..n-1].
 * Errors: the device's.
 */
vlcache_status vlci_kv_advance(vlci_kv *const *kv, int n, cl_mem tokens, cl_mem ids, cl_mem row_position,
                               cl_mem slots);

/** What kernels are told of a layer, `slots` and `ahead` excepted; good until the pool changes. */
vlci_kv_view vlci_kv_layer(const vlci_kv *kv, int layer);

/** First entry of `heads` of a layer of this sequence. */
static inline size_t vlci_kv_heads_at(const vlci_kv *kv, int layer) {
    return ((size_t)kv->slot * (size_t)kv->pool->shape.layers + (size_t)layer) *
           (size_t)kv->pool->shape.kv_heads;
}

static inline vlci_kv_list *vlci_kv_list_of(const vlci_kv *kv, int layer, int kv_head) {
    return &kv->list[layer * kv->pool->shape.kv_heads + kv_head];
}

/** Bytes of the pages that a cache holds: keys, values, and the biases of heads that have some; and of its
 * rows in few bits. */
uint64_t vlci_kv_bytes(const vlci_kv *kv);

/** Of these, bytes of rows in few bits. */
uint64_t vlci_kv_few_bytes(const vlci_kv *kv);

/** Pages, and bytes of rows in few bits, that vlci_kv_drop() gives back: no fork has them. */
int vlci_kv_own_pages(const vlci_kv *kv);
uint64_t vlci_kv_own_few(const vlci_kv *kv);

/** Of vlci_kv_bytes(): what no row is in, at the ends of pages and in whole ones. */
uint64_t vlci_kv_end_bytes(const vlci_kv *kv);

/** Most rows that a head of a layer holds. */
int vlci_kv_most_rows(const vlci_kv *kv, int layer);

/** Rows that all heads of a layer hold together. */
int64_t vlci_kv_all_rows(const vlci_kv *kv, int layer);

/** Another cache that holds the same rows at the same positions, in the same pages until one of both changes.
 * Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_kv_fork(const vlci_kv *kv, vlci_kv *out);

/** As a fork, without a place on the device: what to go back to. */
vlcache_status vlci_kv_mark(const vlci_kv *kv, vlci_kv *out);

/** `kv` holds what `mark` holds, which is released. Cannot fail. */
void vlci_kv_go_back(vlci_kv *kv, vlci_kv *mark);

/** Whether rows of these layers behind the first keep[..].before of each head are in pages that others own
 * too; `keep`: of all heads. */
bool vlci_kv_shared(const vlci_kv *kv, int layer, int layers, const vlci_keep *keep);

/** Head `head`, counted from the first of `layer` on, has only `rows` rows any more; pages behind them are
 * given back. */
void vlci_kv_cut(vlci_kv *kv, int layer, int head, int rows);

/** No head of a layer has any. */
void vlci_kv_cut_layer(vlci_kv *kv, int layer);

/**
 * Lists that are to take the place of those of some layers: head i of them holds rows[i] rows, the first
 * keep[i] of which are rows it has already, and stay in their pages as far as these are full of them.
 * vlci_kv_replace() writes their heads, so that kernels can fill them from the rows there are, to `to`
 * (vlci_kv_head [layers * kv_heads]); vlci_kv_replaced() puts them in place and gives the old pages back:
 * kernels enqueued before still find what they need. The pool must not be shrunk in between: it knows nothing
 * of these lists.
 */
typedef struct vlci_kv_next {
    int layer, layers;
    vlci_kv_list *list; /**< [layers * kv_heads] */
} vlci_kv_next;

/** Pages that a replacement takes while the old ones are there too. */
int vlci_kv_replace_pages(const vlci_kv *kv, int heads, const int *rows, const int *keep);

/** Errors: VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_NO_MEMORY; the cache is as it was then. */
vlcache_status vlci_kv_replace(vlci_kv *kv, int layer, int layers, const int *rows, const int *keep,
                               bool biased, cl_mem to, vlci_kv_next *out);
void vlci_kv_replaced(vlci_kv *kv, vlci_kv_next *next);

/** Gives a replacement up. */
void vlci_kv_next_release(vlci_kv *kv, vlci_kv_next *next);

/** Drops what the device has of the rows; the store, which has all of them, and positions stay. */
void vlci_kv_drop(vlci_kv *kv);

/** Forgets all rows; position 0. */
void vlci_kv_clear(vlci_kv *kv);

void vlci_kv_release(vlci_kv *kv);

#endif
