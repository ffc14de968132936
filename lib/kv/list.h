/**
 * list.h (internal) - what a sequence holds: a list of pages for each of its heads.
 */
#ifndef VLCI_KV_LIST_H
#define VLCI_KV_LIST_H

#include <stdbool.h>
#include <stdint.h>

struct vlci_kv_pool;
struct vlci_codes;
struct vlci_store;
struct vlci_quants;

/** What a head holds: `pages` of a run of 2^size entries of the table. */
typedef struct vlci_kv_list {
    int first, size, pages, rows;
    bool biased;
} vlci_kv_list;

typedef struct vlci_kv {
    struct vlci_kv_pool *pool;
    int slot;         /**< of its heads on the device; -1: none, as of a mark */
    int32_t position; /**< next logical position */
    int32_t length;   /**< tokens of the conversation, kept or not */
    int held, most;   /**< pages, shared ones included: now, and most since somebody set it */
    bool behind;      /**< the device counts one row a head less than there are: vlci_kv_advance() */
    bool counted;     /**< whoever watches a step has counted its row in each layer, and perhaps dropped it */
    vlci_kv_list *list;         /**< [layers][kv_heads] */
    struct vlci_codes *codes;   /**< rows in few bits, in front of those; NULL: none (kv/codes.h) */
    struct vlci_store *store;   /**< all rows of the conversation, in the host's memory; NULL: not there
                                     (kv/store.h) */
    struct vlci_quants *quants; /**< the same of rows in few bits a number (kv/quants.h) */
    struct vlci_kv *next, *before;
} vlci_kv;

#endif
