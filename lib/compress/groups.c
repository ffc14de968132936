/*
 * groups.c - the rows of some heads that are not kept: how many there are, and of stretches.
 */
#include "compress/groups.h"

int vlci_groups_centroids(const vlci_heads *h) {
    int most = 0;
    for (int i = 0; i < vlci_heads_n(h); i++)
        if (h->own[vlci_heads_first(h) + i].centroids > most)
            most = h->own[vlci_heads_first(h) + i].centroids;
    return most;
}

int vlci_groups_evicted(const vlci_heads *h) {
    int least = h->tokens;
    for (int i = 0; i < vlci_heads_n(h); i++)
        if (h->own[vlci_heads_first(h) + i].kept < least) least = h->own[vlci_heads_first(h) + i].kept;
    return h->tokens - least;
}

/* Rows of a head that are not kept, where it has centroids for them. */
static int summed(const vlci_heads *h, const vlci_keep *own) {
    return own->centroids ? h->tokens - own->kept : 0;
}

int vlci_groups_stretches(const vlci_heads *h) {
    int most = 0;
    for (int i = 0; i < vlci_heads_n(h); i++) {
        const vlci_keep *own = &h->own[vlci_heads_first(h) + i];
        int stretches = VLCI_STRETCHES(summed(h, own), own->centroids);
        if (stretches > most) most = stretches;
    }
    return most;
}

bool vlci_groups_stretches_short(const vlci_heads *h) {
    bool all = true;
    for (int i = 0; i < vlci_heads_n(h); i++) {
        const vlci_keep *own = &h->own[vlci_heads_first(h) + i];
        all &= (int64_t)own->centroids * VLCI_STRETCH >= summed(h, own);
    }
    return all;
}
