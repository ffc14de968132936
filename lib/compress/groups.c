/*
 * groups.c - the rows of some heads that are not kept: how many there are.
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
