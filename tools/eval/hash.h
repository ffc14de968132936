/**
 * hash.h - a fast 64-bit hash of contents, as fast as memory is read: it tells files apart, not friend from
 * foe.
 */
#ifndef EVAL_HASH_H
#define EVAL_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct hashing {
    uint64_t lane[4];
    uint8_t rest[32]; /* what is no whole stripe yet */
    uint64_t bytes;
} hashing;

void hash_begin(hashing *h);
void hash_add(hashing *h, const void *bytes, size_t n);
uint64_t hash_end(const hashing *h);

/** All at once. */
uint64_t hash_of(const void *bytes, size_t n);

#endif
