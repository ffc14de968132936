/**
 * feed.h (internal) - a buffer that is written again and again while the device computes: writes go through
 * a queue of their own, and the device's queue waits for them only where it is told to.
 *
 *     vlci_feed_open(device, bytes, "what", &feed);
 *     vlci_feed_begin(&feed, bytes, &at);     once the device has used what was written before
 *     ...write `at`...
 *     vlci_feed_send(&feed);                  goes on beside what the device computes
 *     vlci_feed_await(&feed);                 what is enqueued from here on finds feed.to written
 *     ...enqueue what reads feed.to...
 *     vlci_feed_used(&feed);                  feed.to may be written again behind that
 */
#ifndef VLCI_DEVICE_FEED_H
#define VLCI_DEVICE_FEED_H

#include "device/device.h"

typedef struct vlci_feed {
    vlcache_device *device; /**< borrowed; NULL: not open */
    cl_command_queue queue; /**< of its own */
    cl_mem to;              /**< what is written */
    cl_mem pinned;          /**< memory of the host that the device reads; NULL where both have one memory */
    void *at;               /**< mapped: all of `pinned` as long as it is open, or `to` from begin to send */
    size_t bytes, sending;  /**< of `to`; of the write at hand */
    cl_event sent, used;    /**< of the last write, and of what has read it; NULL: none is waited for */
    uint64_t bytes_sent;    /**< in all */
    double sent_ms;         /**< that the device took to copy them; where both have one memory 0 */
} vlci_feed;

/** Errors: VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_NO_MEMORY, the device's. Release on success only. */
vlcache_status vlci_feed_open(vlcache_device *device, size_t bytes, const char *what, vlci_feed *out);

/** Where `bytes` are to be written, of which there are 1 to feed->bytes. Blocks until what was sent before
 * has been used. Errors: the device's. */
vlcache_status vlci_feed_begin(vlci_feed *feed, size_t bytes, void **at);

/** Sends what vlci_feed_begin() gave room for; does not block. Errors: the device's. */
vlcache_status vlci_feed_send(vlci_feed *feed);

/** The device's queue waits for what was sent. Errors: the device's. */
vlcache_status vlci_feed_await(vlci_feed *feed);

/** What is in the device's queue by now is all that reads what was sent. Errors: the device's. */
vlcache_status vlci_feed_used(vlci_feed *feed);

/** Waits for the last write: bytes_sent and sent_ms speak of all then. Errors: the device's. */
vlcache_status vlci_feed_settle(vlci_feed *feed);

/** Waits for what is under way, and releases; of all zero nothing. */
void vlci_feed_release(vlci_feed *feed);

#endif
