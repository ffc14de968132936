/**
 * fetch.h (internal) - a small read that nobody waits for until it is wanted: the device writes into memory
 * of the host that is pinned, and goes on.
 */
#ifndef VLCI_DEVICE_FETCH_H
#define VLCI_DEVICE_FETCH_H

#include "device/device.h"

/** One read at a time; all zero but the device at first. */
typedef struct vlci_fetch {
    vlcache_device *device;
    cl_mem pinned;
    void *at; /**< mapped as long as it is held */
    size_t room;
    cl_event done; /**< NULL: nothing is on its way */
    cl_mem from;   /**< what is, as many bytes of it from `offset` on; borrowed */
    size_t offset, bytes;
} vlci_fetch;

/** Enqueues a read behind all there is, in place of one of the same buffer; does nothing while one of another
 * is on its way. Pinned memory is made when it is first needed. Errors: the device's. */
vlcache_status vlci_fetch_begin(vlci_fetch *fetch, cl_mem from, size_t offset, size_t bytes);

/** As vlci_read(), where it is what is on its way: waits for that alone, not for what was enqueued behind. */
vlcache_status vlci_fetch_read(vlci_fetch *fetch, cl_mem from, size_t offset, void *to, size_t bytes);

/** What is on its way from this buffer, which is about to be released, is not wanted any more. */
void vlci_fetch_forget(vlci_fetch *fetch, cl_mem from);

/** Waits and releases; of all zero nothing. */
void vlci_fetch_release(vlci_fetch *fetch);

#endif
