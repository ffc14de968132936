/**
 * bulk.h (internal) - large writes to the device, made in place and without waiting.
 *
 *     vlci_bulk bulk = {.device = device};
 *     status = vlci_bulk_begin(&bulk, buffer, offset, bytes, &at);
 *     ...write all of `at`, by any threads...
 *     status = vlci_bulk_end(&bulk), or vlci_bulk_abandon(&bulk) where that failed
 *     if (!status) status = vlci_bulk_settle(&bulk);
 *     vlci_bulk_release(&bulk);
 */
#ifndef VLCI_DEVICE_BULK_H
#define VLCI_DEVICE_BULK_H

#include "device/device.h"

/** Pinned memory of the host. */
typedef struct vlci_stretch {
    cl_mem memory;
    void *at; /**< mapped as long as it is held */
    size_t bytes;
    cl_event sent; /**< NULL: the device reads nothing of it */
} vlci_stretch;

/** Large writes one after another; all zero but the device at first. */
typedef struct vlci_bulk {
    vlcache_device *device;
    vlci_stretch stretches[2]; /**< where host and device have a memory each */
    int turn;
    cl_mem to; /**< what is being written */
    size_t offset, bytes;
    void *mapped; /**< where they have one memory: what is being written, NULL: nothing */
} vlci_bulk;

/**
 * Where `bytes` are to be written that the buffer `to` gets at `offset` with vlci_bulk_end(); what was there
 * is lost. Waits for the write before the last. Twice the most bytes of a write are held in the host's
 * memory, where the device has its own. Errors: the device's, VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_bulk_begin(vlci_bulk *bulk, cl_mem to, size_t offset, size_t bytes, void **at);

/**
 * Says that `bytes` of what vlci_bulk_begin() gave are about to be written, by any thread: where host and
 * device have one memory, their pages come in one call of the system (Linux 5.14) and not by a fault each,
 * which takes a third longer. A hint.
 */
void vlci_bulk_populate(const vlci_bulk *bulk, void *at, size_t bytes);

/** Sends what vlci_bulk_begin() gave room for; what is enqueued later finds it. Errors: the device's. */
vlcache_status vlci_bulk_end(vlci_bulk *bulk);

/** Gives up what was begun instead, while the buffer is still held: it has anything then. */
void vlci_bulk_abandon(vlci_bulk *bulk);

/** Waits for what was sent: whether the device has all of it is known then. Errors: the device's. */
vlcache_status vlci_bulk_settle(vlci_bulk *bulk);

/** Waits as well, and releases; of all zero nothing. */
void vlci_bulk_release(vlci_bulk *bulk);

#endif
