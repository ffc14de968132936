/*
 * spread.c - seeds of centroids that lie far from one another.
 *
 *     first seed -> nearest -> (candidates: the farthest rows -> seeds among them -> nearest) x rounds
 *
 * In: evicted rows of some heads, the scores that rows were chosen by. Out: seeds, as the means, and labels.
 * Eight rounds, each one launch a step for all heads: cl/spread.cl. Two rungs of what happens among
 * candidates: "group", a work-group for each kv head, over the products of its candidates, and "wide", one
 * work-item over their keys, where that is a vector unit.
 */
#include "compress/spread.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

enum { LANES = VLCI_MEAN_LANES };

/* ---- kernels ------------------------------------------------------------------------------------------- */

static const char *const rungs[] = {"group", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= VLCI_GRAM_TILE;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "group") ? "wide" : "group";
}

const vlci_ladder vlci_spread_ladder = {"spread", "compression", rungs, rung_fits, choose};

/* Work-items that walk the candidates of a head. */
static size_t pick_group(const vlci_spread_kernels *k) {
    return k->group < VLCI_SPREAD_GROUP ? k->group : VLCI_SPREAD_GROUP;
}

/* Both kernels, for k->group work-items; `*fits`: as many as they take. */
static vlcache_status get(vlcache_device *device, const vlci_compress_shape *s, vlci_spread_kernels *k,
                          size_t *fits) {
    const char *file = k->group > 1 ? "spread.cl" : "spread_wide.cl";
    char options[96];
    int n = snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d", (int)s->kv_dtype, s->head_dim);
    if (k->group > 1) snprintf(options + n, sizeof options - (size_t)n, " -DSPREAD_GROUP=%zu", k->group);
    vlcache_status status = vlci_kernel_get(device, file, "spread_begin", options, &k->begin);
    if (!status) status = vlci_kernel_get(device, file, "spread_pick", options, &k->pick);
    if (status) return status;
    size_t begin = vlci_group_width(k->begin, k->group), walks = pick_group(k);
    size_t pick = vlci_group_width(k->pick, walks);
    *fits = pick < walks && pick < begin ? pick : begin;
    return VLCACHE_OK;
}

/* As large a work-group as there is that the kernels built for it take; of fewer than 16, the wide rung. */
vlcache_status vlci_spread_open(vlcache_device *device, const vlci_compress_shape *s,
                                vlci_spread_kernels *k) {
    const char *rung;
    vlcache_status status = vlci_rung(device, &vlci_spread_ladder, choose(device), &rung);
    size_t fits = status || strcmp(rung, "wide") == 0 ? 1 : device->caps.max_group >= 256 ? 256 : 64;
    if (status) return status;
    do {
        k->group = fits < 16 ? 1 : fits;
        status = get(device, s, k, &fits);
    } while (!status && fits < k->group);
    if (!status && k->group > 1) status = vlci_gram_open(device, s, &k->gram);
    return status ? status : vlci_topk_open(device, &k->topk);
}

/* ---- scratch ------------------------------------------------------------------------------------------- */

static int min(int a, int b) {
    return a < b ? a : b;
}

/* Rows among which a head with c centroids looks for the seeds of a round. */
static int candidates(int c, int evicted, int round) {
    return min(evicted,
               VLCI_SPREAD_CANDIDATES(VLCI_SPREAD_UNTIL(c, round) - VLCI_SPREAD_UNTIL(c, round - 1)));
}

/* The most of any round, of heads with up to c centroids: lists are as long. */
static size_t most_candidates(const vlci_spread_kernels *k, int c) {
    size_t most = c < 2 ? 0 : (size_t)VLCI_SPREAD_CANDIDATES(min((c + 6) / 8, VLCI_SPREAD_SEEDS));
    return k->group > 1 ? vlci_gram_room(most) : most;
}

static size_t list_bytes(size_t most) {
    return most * sizeof(cl_int);
}

/* What the walk reads of a head: products of its candidates, or their keys side by side. */
static size_t walk_bytes(const vlci_heads *h, const vlci_spread_kernels *k, size_t most) {
    if (k->group > 1) return most * most * sizeof(cl_float);
    return (most + LANES - 1) / LANES * LANES * (size_t)h->shape.head_dim * sizeof(cl_float);
}

size_t vlci_spread_bytes(const vlci_heads *h, const vlci_spread_kernels *k, int centroids) {
    size_t most = most_candidates(k, centroids);
    return list_bytes(most) + walk_bytes(h, k, most);
}

void vlci_spread_release(vlcache_device *device, vlci_spread_room *room) {
    cl_mem *memory[] = {&room->rounds, &room->list, &room->walk};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(device, memory[i]);
    *room = (vlci_spread_room){0};
}

static vlcache_status make_room(const vlci_heads *h, const vlci_spread_kernels *k, size_t rounds,
                                vlci_spread_room *room) {
    size_t heads = (size_t)vlci_heads_n(h), most = most_candidates(k, vlci_groups_centroids(h));
    if (heads <= room->heads && rounds <= room->rounds_n && most <= room->most) return VLCACHE_OK;
    vlci_spread_release(h->device, room);
    vlcache_status status = vlci_memory_create(h->device, rounds * heads * sizeof(vlci_keep),
                                               "compression: rounds of seeds", &room->rounds);
    if (!status)
        status =
            vlci_memory_create(h->device, heads * list_bytes(most), "compression: candidates", &room->list);
    if (!status)
        status = vlci_memory_create(h->device, heads * walk_bytes(h, k, most),
                                    "compression: products of candidates", &room->walk);
    if (!status) *room = (vlci_spread_room){room->rounds, room->list, room->walk, heads, rounds, most};
    return status;
}

/* ---- the rounds ---------------------------------------------------------------------------------------- */

int vlci_spread_rounds(const vlci_heads *h) {
    int rounds = 0;
    for (int i = 0; i < vlci_heads_n(h); i++) {
        int own = VLCI_SPREAD_ROUNDS(h->own[vlci_heads_first(h) + i].centroids);
        if (own > rounds) rounds = own;
    }
    return rounds;
}

/* Candidates are what heads keep by `far`, as they keep rows by scores: all rounds are told at once. */
static vlcache_status write_rounds(const vlci_heads *h, int rounds, const vlci_spread_room *room) {
    int heads = vlci_heads_n(h);
    size_t n = (size_t)rounds * (size_t)heads;
    vlci_keep *keep = vlci_calloc(n, sizeof *keep);
    if (!keep) return vlci_fail_memory("rounds of seeds");
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < heads; i++) {
            const vlci_keep *own = &h->own[vlci_heads_first(h) + i];
            keep[r * heads + i].kept = candidates(own->centroids, h->tokens - own->kept, r);
            keep[r * heads + i].first = i * (int)room->most;
        }
    vlcache_status status = vlci_write_later(h->device, room->rounds, 0, keep, n * sizeof *keep);
    vlci_free(keep);
    return status;
}

/* Rows of largest `far` of a round, ascending. */
static vlcache_status find_candidates(const vlci_heads *h, const vlci_spread_kernels *k, int round,
                                      const vlci_groups *g, const vlci_spread_room *room) {
    vlci_heads as_kept = *h;
    as_kept.layer = round * h->layers;
    as_kept.keep = room->rounds;
    return vlci_topk(&as_kept, &k->topk, g->far, 0, room->list);
}

static vlcache_status pick(const vlci_heads *h, const vlci_spread_kernels *k, int round, const vlci_groups *g,
                           const vlci_spread_room *room) {
    vlcache_status status = VLCACHE_OK;
    if (k->group > 1) status = vlci_gram(h, &k->gram, g, room->list, room->walk, room->most, round);
    if (status) return status;
    return VLCI_LAUNCH(h->device, k->pick, VLCI_GRID((size_t)vlci_heads_n(h), 1, 1, pick_group(k), 1, 1),
                       VLCI_EVICTED_OF(h, g), VLCI_MEM(g->means), VLCI_U32(g->means_stride),
                       VLCI_MEM(g->weights), VLCI_MEM(g->far), VLCI_MEM(room->list), VLCI_MEM(room->walk),
                       VLCI_I32(room->most), VLCI_I32(round), VLCI_MEM(g->seeds), VLCI_U32(g->centroids));
}

vlcache_status vlci_spread_begin(const vlci_heads *h, const vlci_spread_kernels *k,
                                 const vlci_nearest_kernels *nearest, cl_mem score, size_t at,
                                 const vlci_groups *g, vlci_spread_room *room) {
    int rounds = vlci_spread_rounds(h);
    vlcache_status status = make_room(h, k, (size_t)rounds, room);
    if (!status) status = write_rounds(h, rounds, room);
    if (!status)
        status = VLCI_LAUNCH(h->device, k->begin, VLCI_GRID((size_t)vlci_heads_n(h), 1, 1, k->group, 1, 1),
                             VLCI_EVICTED_OF(h, g), VLCI_MEM(g->means), VLCI_U32(g->means_stride),
                             VLCI_MEM(score), VLCI_U32(at), VLCI_MEM(g->weights), VLCI_MEM(g->far),
                             VLCI_MEM(g->seeds), VLCI_U32(g->centroids));
    return status ? status : vlci_nearest(h, nearest, g, VLCI_SPREAD_FIRST, true);
}

vlcache_status vlci_spread_round(const vlci_heads *h, const vlci_spread_kernels *k,
                                 const vlci_nearest_kernels *nearest, int round, const vlci_groups *g,
                                 const vlci_spread_room *room) {
    vlcache_status status = find_candidates(h, k, round, g, room);
    if (!status) status = pick(h, k, round, g, room);
    return status ? status : vlci_nearest(h, nearest, g, round, true);
}
