/**
 * table.h (internal) - lists of pages, side by side in one array of numbers, on the host and on the device.
 *
 * A list has a run of entries whose length is a power of two. Runs that are given back serve again for lists
 * of their size. What changes on the host reaches the device with the next vlci_kv_table_sync(): few entries
 * far apart one by one, else all between the first and the last.
 */
#ifndef VLCI_KV_TABLE_H
#define VLCI_KV_TABLE_H

#include "device/device.h"

enum { VLCI_KV_RUN_SIZES = 31, VLCI_KV_SCATTERED = 4096 };

typedef struct vlci_kv_table {
    vlcache_device *device;
    int32_t *entry;                  /**< [room] pages; of a free run, the first is the next free run's */
    int room, used;                  /**< entries there are; that have ever been part of a run */
    int free_run[VLCI_KV_RUN_SIZES]; /**< first entry of a free run of 2^i entries; -1: none */
    int changed_from, changed_until; /**< among which are the entries that the device does not have yet */
    int32_t *scattered;              /**< [VLCI_KV_SCATTERED]: those, some of them perhaps several times */
    int n_scattered;                 /**< how many; more than there is room for: all of them changed */
    int32_t *pair;                   /**< [VLCI_KV_SCATTERED][2]: entries on their way, and their pages */
    cl_mem pairs_on;
    const vlci_kernel *put;
    cl_mem on; /**< int [room_on] */
    int room_on;
} vlci_kv_table;

/** Builds its kernel. Errors: VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_BUILD. */
vlcache_status vlci_kv_table_create(vlcache_device *device, vlci_kv_table *out);

/** The smallest i with 2^i >= entries. */
int vlci_kv_run_size(int entries);

/** A run of 2^size entries: `*first` is where it begins. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_kv_run_take(vlci_kv_table *table, int size, int *first);

/** Gives a run back. */
void vlci_kv_run_give(vlci_kv_table *table, int size, int first);

/** No run is taken any more, and there is as much room as before: all lists are to take theirs anew.
 * `*before`: the entries that there were, the caller's to free. Errors: VLCACHE_E_NO_MEMORY; nothing has
 * changed then. */
vlcache_status vlci_kv_table_renew(vlci_kv_table *table, int32_t **before);

/** Entry `at` becomes `page`. */
void vlci_kv_table_set(vlci_kv_table *table, int at, int32_t page);

/** Enqueues what has changed. Errors: the device's. */
vlcache_status vlci_kv_table_sync(vlci_kv_table *table);

void vlci_kv_table_release(vlci_kv_table *table);

#endif
