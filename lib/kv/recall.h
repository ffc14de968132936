/**
 * recall.h (internal) - rows between a cache's pages and its store in the host's memory: what compression is
 * about to take goes there, and a later turn has all of it back, layer by layer.
 *
 *     vlci_recall_begin(&recall, kv, 0);                    layer 0 is on its way
 *     for each layer:   vlci_kv_reserve();  vlci_recall_bring(&recall, layer);   its rows are in pages
 *                       ...enqueue what computes it...
 *                       vlci_recall_send(&recall, layer + 1);                    meanwhile
 *     vlci_recall_end(&recall);
 *
 *     vlci_recall_open(&recall, kv);                        room for what the store does not have yet
 *     for each layer:   vlci_recall_keep(&recall, layer);   the last rows of each of its heads
 *     vlci_recall_close(&recall);                           now they are in the store
 *
 * The device holds one layer of the store beside the pages while it comes back, and one of the new rows while
 * they go.
 */
#ifndef VLCI_KV_RECALL_H
#define VLCI_KV_RECALL_H

#include "core/team.h"
#include "device/feed.h"
#include "kv/cache.h"
#include "kv/store.h"

typedef struct vlci_recall {
    vlci_kv *kv;       /**< borrowed */
    vlci_feed feed;    /**< of the store's rows; not open where there are none */
    vlci_team *team;   /**< copies them to where the device reads them; NULL: they are few */
    vlci_store *fresh; /**< rows on their way to the store; NULL: none are */
    cl_mem leaving;    /**< a layer of them */
    size_t room, most; /**< bytes of that; most on the device, with what comes back, since it was zero */
    uint64_t limit;    /**< most bytes of a store; 0: none. The caller's */
    uint64_t bytes;    /**< brought back */
    double ms;         /**< that took, beside computing: copies of the host and of the device */
} vlci_recall;

/** The first layer of the store, if `kv` has one, is sent. Where all layers are brought again and again, each
 * time begins so, and the last alone ends: there may be `more` rows by then. Errors: VLCACHE_E_DEVICE_MEMORY,
 * VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_recall_begin(vlci_recall *recall, vlci_kv *kv, int more);

/** Enqueues that a layer's rows, sent last, come into its pages, and counts them: its heads hold no row yet,
 * and have room. Errors: the device's. */
vlcache_status vlci_recall_bring(vlci_recall *recall, int layer);

/** Sends a layer, where there is one; blocks until the one before has been brought. Errors: the device's. */
vlcache_status vlci_recall_send(vlci_recall *recall, int layer);

/** All layers have been brought: memory goes, numbers stay. Errors: the device's. */
vlcache_status vlci_recall_end(vlci_recall *recall);

/** Room in the host's memory for the `rows` last rows of each head, which its store does not have. Errors:
 * VLCACHE_E_NO_MEMORY (also where the store would exceed the limit), VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_recall_open(vlci_recall *recall, vlci_kv *kv, int rows);

/** Copies those of a layer; blocks. Errors: the device's. */
vlcache_status vlci_recall_keep(vlci_recall *recall, int layer);

/** All layers are copied: the rows belong to the store. Cannot fail. */
void vlci_recall_close(vlci_recall *recall);

/** Open, each layer, close. */
vlcache_status vlci_recall_keep_all(vlci_recall *recall, vlci_kv *kv, int rows);

/** Gives up what is under way, and zeroes the numbers; of all zero nothing. */
void vlci_recall_release(vlci_recall *recall);

#endif
