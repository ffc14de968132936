/*
 * hash.c - XXH64 with seed 0, as its specification says.
 *
 *     lane i of 4:  x = rotate(x + word * P2, 31) * P1        for each stripe of 4 words
 *     all lanes -> one number, the rest word by word, then mixed until every bit depends on every other
 */
#include "eval/hash.h"

#include <string.h>

#define P1 0x9e3779b185ebca87u
#define P2 0xc2b2ae3d27d4eb4fu
#define P3 0x165667b19e3779f9u
#define P4 0x85ebca77c2b2ae63u
#define P5 0x27d4eb2f165667c5u
enum { STRIPE = 32 };

static uint64_t rotate(uint64_t x, int by) {
    return x << by | x >> (64 - by);
}

/* Little-endian, on any machine. */
static uint64_t load(const uint8_t *at, size_t n) {
    uint64_t word = 0;
    for (size_t i = 0; i < n; i++) word |= (uint64_t)at[i] << (8 * i);
    return word;
}

static uint64_t step(uint64_t lane, uint64_t word) {
    return rotate(lane + word * P2, 31) * P1;
}

static void take_stripe(hashing *h, const uint8_t *at) {
    for (size_t i = 0; i < 4; i++) h->lane[i] = step(h->lane[i], load(at + 8 * i, 8));
}

void hash_begin(hashing *h) {
    *h = (hashing){.lane = {P1 + P2, P2, 0, 0 - P1}};
}

void hash_add(hashing *h, const void *bytes, size_t n) {
    const uint8_t *at = bytes;
    size_t held = (size_t)(h->bytes % STRIPE), missing = STRIPE - held;
    h->bytes += n;
    if (held && n >= missing) {
        memcpy(h->rest + held, at, missing);
        take_stripe(h, h->rest);
        at += missing;
        n -= missing;
        held = 0;
    }
    for (; !held && n >= STRIPE; at += STRIPE, n -= STRIPE) take_stripe(h, at);
    if (n) memcpy(h->rest + held, at, n);
}

static uint64_t join_lanes(const hashing *h) {
    static const int turns[4] = {1, 7, 12, 18};
    uint64_t x = 0;
    if (h->bytes < STRIPE) return P5;
    for (size_t i = 0; i < 4; i++) x += rotate(h->lane[i], turns[i]);
    for (size_t i = 0; i < 4; i++) x = (x ^ step(0, h->lane[i])) * P1 + P4;
    return x;
}

uint64_t hash_end(const hashing *h) {
    uint64_t x = join_lanes(h) + h->bytes;
    const uint8_t *at = h->rest, *end = at + h->bytes % STRIPE;
    for (; end - at >= 8; at += 8) x = rotate(x ^ step(0, load(at, 8)), 27) * P1 + P4;
    for (; end - at >= 4; at += 4) x = rotate(x ^ load(at, 4) * P1, 23) * P2 + P3;
    for (; at < end; at++) x = rotate(x ^ *at * P5, 11) * P1;
    x = (x ^ x >> 33) * P2;
    x = (x ^ x >> 29) * P3;
    return x ^ x >> 32;
}

uint64_t hash_of(const void *bytes, size_t n) {
    hashing h;
    hash_begin(&h);
    hash_add(&h, bytes, n);
    return hash_end(&h);
}
