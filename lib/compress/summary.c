/*
 * summary.c - centroids that stand for the rows a head does not keep.
 *
 *     evicted rows -> labels by seeds -> members -> means
 *         -> (nearest mean -> members -> means) x iterations
 *         -> rows and biases
 *
 * Seeds are runs of neighbours ("kmeans"), or rows far from one another ("spread"). In: the rows of some
 * heads, the kept positions, the scores. Out: the centroids' rows in other pages, behind the kept ones, and
 * their logit biases.
 */
#include "compress/summary.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LANES = VLCI_MEAN_LANES, CHUNK = 8, RUN = 64, SLOTS = 4, EACH = 4, CACHE_SHARE = 5, LISTS = 4 };
enum { DEVICE_SHARE = 96 /* of its memory, that scratch may hold between two prompts */ };
/* What a piece of work is worth beside products, in these: as an H100 takes 2 to 3 million of them a
 * microsecond. A pass over the rows; passes of what comes but once, before and behind rounds; what it takes
 * however few rows there are.
 */
enum { PASS = 256, LAST = 2, SPREAD = 4, PIECE = 500000000 };
static const size_t scratch_bytes =
    64u << 20; /* of all heads that are summed up at once, about, or a share of their cache */

/* ---- kernels ------------------------------------------------------------------------------------------- */

static vlcache_status get(vlcache_device *device, const vlci_compress_shape *s, const vlci_summary_kernels *k,
                          const char *name, const vlci_kernel **kernel) {
    char options[128];
    snprintf(options, sizeof options,
             "-DKV_DTYPE=%d -DHEAD_DIM=%d -DPART=%d -DSLOTS=%d -DMEMBERS_GROUP=%zu -DRUN=%d",
             (int)s->kv_dtype, s->head_dim, k->part, k->slots, k->group, k->run);
    return vlci_kernel_get(device, "kmeans.cl", name, options, kernel);
}

/* As large a work-group as there is that the kernel built for it takes. */
static vlcache_status get_members(vlcache_device *device, const vlci_compress_shape *s,
                                  vlci_summary_kernels *k) {
    size_t fits = device->caps.wide_vectors || device->caps.max_group < 64 ? 1
                  : device->caps.max_group < 256                           ? 64
                                                                           : 256;
    vlcache_status status;
    do {
        k->group = fits;
        status = get(device, s, k, "kmeans_members", &k->members);
        if (!status) fits = vlci_group_width(k->members, k->group);
    } while (!status && fits < k->group);
    return status;
}

/* What adds up members. One work-item does for each part of a centroid where groups cannot be as large as
 * several need. */
static vlcache_status get_sums(vlcache_device *device, const vlci_compress_shape *s,
                               vlci_summary_kernels *k) {
    size_t group = (size_t)(s->head_dim / k->part) * (size_t)k->slots;
    vlcache_status status = get(device, s, k, "kmeans_means", &k->means);
    if (!status) status = get(device, s, k, "kmeans_write", &k->write);
    if (status || k->slots == 1 || (k->means->max_group >= group && k->write->max_group >= group))
        return status;
    k->slots = 1;
    return get_sums(device, s, k);
}

/* Dimensions of a centroid that a work-item adds up: on a processor all, so that its members are found once.
 * Evicted rows that one lists: there many, so that they are looked for once. */
vlcache_status vlci_summary_open(vlcache_device *device, const vlci_compress_shape *s, const vlci_recipe *r,
                                 vlci_summary_kernels *k) {
    if (r->centroids == 0.0) return VLCACHE_OK;
    if (s->head_dim % CHUNK)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "compress: summary: head_dim %d: takes multiples of %d",
                         s->head_dim, CHUNK);
    k->part = device->caps.wide_vectors ? s->head_dim : CHUNK;
    k->run = device->caps.wide_vectors ? RUN : 1;
    k->slots = device->caps.wide_vectors || device->caps.max_group < (size_t)(s->head_dim / CHUNK * SLOTS)
                   ? 1
                   : SLOTS;
    vlcache_status status = get_members(device, s, k);
    if (!status) status = get_sums(device, s, k);
    if (!status) status = get(device, s, k, "kmeans_evicted", &k->evicted);
    if (!status && r->iterations) status = vlci_nearest_open(device, s, &k->nearest);
    return status || !r->spread ? status : vlci_spread_open(device, s, &k->spread);
}

/* Whether centroids come in one launch, with their seeds. */
static bool whole(const vlci_heads *h, const vlci_summary_kernels *k, const vlci_recipe *r) {
    return r->spread && !r->iterations && vlci_spread_whole(h, &k->spread);
}

/* ---- scratch ------------------------------------------------------------------------------------------- */

/* Means of one head, in floats. */
static size_t means_stride(const vlci_heads *h, size_t centroids) {
    return (centroids + LANES - 1) / LANES * LANES * (size_t)h->shape.head_dim;
}

/* Lists of a head: evicted rows, labels, two orders of them. */
static size_t head_bytes(const vlci_heads *h, const vlci_summary_kernels *k) {
    size_t means = means_stride(h, (size_t)vlci_groups_centroids(h));
    return (LISTS * (size_t)h->tokens + means + vlci_nearest_laid(h, &k->nearest)) * sizeof(cl_float) +
           vlci_spread_bytes(h, &k->spread);
}

/* What comes once, before the rest or behind it; and seeds with it. */
static double once_worth(double rows) {
    return PIECE + rows * PASS * LAST;
}

/* Of so many rows, products with the seeds of their stretches. */
static double spread_worth(double rows, double tokens, double centroids) {
    double stretches = ceil(tokens / VLCI_STRETCH);
    return PIECE + rows * (SPREAD * PASS + centroids / (stretches > 1.0 ? stretches : 1.0));
}

static double spread_worth_of(const vlci_heads *h) {
    return spread_worth((double)h->tokens * vlci_heads_n(h), h->tokens, vlci_groups_centroids(h));
}

int vlci_summary_layers(const vlci_heads *h, const vlci_summary_kernels *k) {
    size_t all = (size_t)h->layers, heads = (size_t)h->shape.kv_heads;
    size_t layer = heads * head_bytes(h, k);
    size_t cache =
        all * heads * (size_t)h->tokens * 2 * (size_t)h->shape.head_dim * vlci_dtype_bytes(h->shape.kv_dtype);
    size_t most = cache / CACHE_SHARE > scratch_bytes ? cache / CACHE_SHARE : scratch_bytes;
    size_t turns = (all * layer + most - 1) / most;
    double worth = vlci_spread_whole(h, &k->spread) ? spread_worth_of(h) / VLCI_SUMMARY_AT_ONCE : 1.0;
    if (worth > (double)turns) turns = (size_t)ceil(worth);
    return (int)(turns > all ? 1 : (all + turns - 1) / turns);
}

void vlci_summary_release(vlcache_device *device, vlci_summary_room *room) {
    vlci_groups *g = &room->groups;
    cl_mem *memory[] = {&g->evicted, &g->labels, &g->order, &g->starts, &g->means, &g->laid};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(device, memory[i]);
    vlci_spread_release(device, &room->spread);
    *room = (vlci_summary_room){0};
}

/* Bytes of it, about. */
static uint64_t room_bytes(const vlci_summary_room *room) {
    const vlci_groups *g = &room->groups;
    return (g->heads * (LISTS * g->tokens + g->means_stride + g->laid_stride) +
            room->spread.heads * room->spread.stride) *
           sizeof(cl_float);
}

void vlci_summary_lend(vlci_summary_room *spare, vlci_summary_room *room) {
    if (!spare || room->groups.heads) return;
    *room = *spare;
    *spare = (vlci_summary_room){0};
}

void vlci_summary_give_back(vlcache_device *device, vlci_summary_room *room, vlci_summary_room *spare) {
    bool keep = spare && !spare->groups.heads && room->groups.heads &&
                room_bytes(room) <= device->caps.info.global_memory / DEVICE_SHARE;
    if (keep) *spare = *room;
    if (keep)
        *room = (vlci_summary_room){0};
    else
        vlci_summary_release(device, room);
}

/* Where all comes in one launch, rows need no order of their members. */
static vlcache_status make_lists(const vlci_heads *h, bool alone, vlci_groups *g) {
    size_t list = (size_t)vlci_heads_n(h) * (size_t)h->tokens * sizeof(cl_int);
    vlcache_status status = vlci_memory_create(h->device, list, "compression: evicted rows", &g->evicted);
    if (!status) status = vlci_memory_create(h->device, list, "compression: labels", &g->labels);
    if (!status && !alone)
        status = vlci_memory_create(h->device, 2 * list, "compression: members", &g->order);
    return status;
}

/* Whether what there is will do: it may have been another prompt's, of another recipe. */
static bool fits(const vlci_heads *h, const vlci_summary_kernels *k, bool alone, const vlci_groups *g) {
    if ((size_t)vlci_heads_n(h) > g->heads || (size_t)h->tokens > g->tokens) return false;
    if (alone) return true;
    if (!g->means || vlci_nearest_laid(h, &k->nearest) > g->laid_stride) return false;
    return (size_t)vlci_groups_centroids(h) <= g->centroids;
}

/* What members and means are found in. */
static vlcache_status make_means(const vlci_heads *h, const vlci_summary_kernels *k, vlci_groups *g) {
    size_t heads = (size_t)vlci_heads_n(h), centroids = (size_t)vlci_groups_centroids(h);
    g->means_stride = means_stride(h, centroids);
    g->laid_stride = vlci_nearest_laid(h, &k->nearest);
    size_t means = heads * g->means_stride * sizeof(cl_float);
    size_t laid = heads * g->laid_stride * sizeof(cl_float);
    vlcache_status status = vlci_memory_create(h->device, heads * (centroids + 1) * sizeof(cl_int),
                                               "compression: members", &g->starts);
    if (!status) status = vlci_memory_create(h->device, means, "compression: centroids", &g->means);
    if (!status) status = vlci_fill(h->device, g->means, 0, means, 0);
    if (!status && laid)
        status = vlci_memory_create(h->device, laid, "compression: rows as they are read", &g->laid);
    return status;
}

static vlcache_status make_room(const vlci_heads *h, const vlci_summary_kernels *k, bool alone,
                                vlci_summary_room *room) {
    vlci_groups *g = &room->groups;
    if (fits(h, k, alone, g)) return VLCACHE_OK;
    vlci_summary_release(h->device, room);
    vlcache_status status = make_lists(h, alone, g);
    if (!status && !alone) status = make_means(h, k, g);
    if (status) return status;
    g->heads = (size_t)vlci_heads_n(h);
    g->tokens = (size_t)h->tokens;
    g->centroids = (size_t)vlci_groups_centroids(h);
    return VLCACHE_OK;
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

static vlcache_status list_evicted(const vlci_heads *h, const vlci_summary_kernels *k, cl_mem positions,
                                   const vlci_groups *g) {
    size_t runs = ((size_t)vlci_groups_evicted(h) + (size_t)k->run - 1) / (size_t)k->run;
    return VLCI_LAUNCH(h->device, k->evicted, vlci_grid_over(k->evicted, runs, (size_t)vlci_heads_n(h), 1),
                       VLCI_MEM(positions), VLCI_KEEP_OF(h), VLCI_I32(h->tokens), VLCI_MEM(g->evicted),
                       VLCI_MEM(g->labels));
}

/* A work-item for each part of each centroid; or all of a centroid's are a group, which has some centroids.
 */
static vlci_grid centroid_grid(const vlci_heads *h, const vlci_summary_kernels *k,
                               const vlci_kernel *kernel) {
    size_t parts = (size_t)(h->shape.head_dim / k->part), n = (size_t)vlci_groups_centroids(h);
    if (k->slots > 1)
        return VLCI_GRID(1, (n + EACH - 1) / EACH, (size_t)vlci_heads_n(h), parts, (size_t)k->slots, 1);
    size_t along = parts < 8 ? 1 : vlci_group_width(kernel, 8);
    size_t across = vlci_group_width(kernel, 8 * along) / along;
    return VLCI_GRID((parts + along - 1) / along, (n + across - 1) / across, (size_t)vlci_heads_n(h), along,
                     across, 1);
}

/* What sums over members begin with. */
#define MEMBERS_OF(h, g)                                                                                     \
    VLCI_POOL_OF(&(h)->kv, (h)->heads_at), VLCI_KEEP_OF(h), VLCI_I32((h)->tokens), VLCI_MEM((g)->order),     \
        VLCI_MEM((g)->starts), VLCI_U32((g)->centroids + 1), VLCI_MEM((g)->means),                           \
        VLCI_U32((g)->means_stride)

/* spread: labels are those of its seeds, each stretch has its own; NULL: they are not. */
static vlcache_status find_means(const vlci_heads *h, const vlci_summary_kernels *k, const vlci_groups *g,
                                 const vlci_spread_room *spread) {
    size_t parts = spread ? (size_t)vlci_groups_stretches(h) : 1; /* no row at all: one */
    vlcache_status status =
        VLCI_LAUNCH(h->device, k->members,
                    VLCI_GRID(parts ? parts : 1, (size_t)vlci_heads_n(h), 1, k->group, 1, 1), VLCI_KEEP_OF(h),
                    VLCI_I32(h->tokens), VLCI_MEM(g->evicted), VLCI_MEM(g->labels), VLCI_MEM(g->order),
                    VLCI_MEM(g->starts), VLCI_U32(g->centroids + 1), VLCI_MEM(spread ? spread->shares : NULL),
                    VLCI_U32(spread ? spread->shares_stride : 0));
    if (status) return status;
    return VLCI_LAUNCH(h->device, k->means, centroid_grid(h, k, k->means), MEMBERS_OF(h, g));
}

vlcache_status vlci_summary_begin(const vlci_heads *h, const vlci_summary_kernels *k, const vlci_recipe *r,
                                  cl_mem positions, cl_mem score, size_t at, vlci_summary_room *room) {
    const vlci_groups *g = &room->groups;
    bool alone = whole(h, k, r), any = vlci_groups_centroids(h) > 0;
    vlcache_status status = any ? make_room(h, k, alone, room) : VLCACHE_OK;
    room->step = room->steps = 0;
    room->whole = alone;
    room->spreads = r->spread;
    room->score = score;
    room->score_at = at;
    if (status || !any) return status;
    status = list_evicted(h, k, positions, g);
    if (!status && r->spread) status = vlci_spread_begin(h, &k->spread, score, at, g, alone, &room->spread);
    if (status || room->whole) return status;
    if (r->iterations) status = vlci_nearest_begin(h, &k->nearest, g);
    if (!status && r->spread) status = vlci_spread(h, &k->spread, score, at, g, NULL, &room->spread);
    room->steps = 1 + r->iterations;
    return status;
}

/* The means of the seeds' members; means of the members nearest to the means before. */
static vlcache_status step(const vlci_heads *h, const vlci_summary_kernels *k, vlci_summary_room *room) {
    const vlci_groups *g = &room->groups;
    int at = room->step++;
    vlcache_status status = at ? vlci_nearest(h, &k->nearest, g) : VLCACHE_OK;
    return status ? status : find_means(h, k, g, !at && room->spreads ? &room->spread : NULL);
}

/* Products of a row and a centroid that a step takes, and PASS for each time it passes over the rows. */
static double worth(const vlci_heads *h, const vlci_summary_room *room) {
    double centroids = 0.0;
    for (int i = 0; i < vlci_heads_n(h) && room->step; i++)
        centroids += h->own[vlci_heads_first(h) + i].centroids;
    return PIECE + (double)h->tokens * (centroids + LAST * PASS * (double)vlci_heads_n(h));
}

double vlci_summary_begin_worth(const vlci_heads *h, const vlci_summary_kernels *k, const vlci_recipe *r) {
    double spread = r->spread && !whole(h, k, r) ? spread_worth_of(h) : 0.0;
    return spread + once_worth((double)h->tokens * vlci_heads_n(h));
}

double vlci_summary_write_worth(const vlci_heads *h, const vlci_summary_kernels *k, const vlci_recipe *r) {
    return whole(h, k, r) ? spread_worth_of(h) : once_worth((double)h->tokens * vlci_heads_n(h));
}

bool vlci_pace_takes(vlci_pace *pace, double worth) {
    if (pace->begun && worth > pace->left) return false;
    pace->begun = true;
    pace->left -= worth;
    return true;
}

double vlci_summary_worth(const vlci_recipe *r, double rows, double tokens, double centroids) {
    double own = r->spread ? spread_worth(rows, tokens, centroids) : 0.0;
    return own + (3 + r->iterations) * once_worth(rows) + rows * centroids * r->iterations;
}

vlcache_status vlci_summary_go(const vlci_heads *h, const vlci_summary_kernels *k, vlci_summary_room *room,
                               vlci_pace *pace) {
    vlcache_status status = VLCACHE_OK;
    while (!status && room->step < room->steps && vlci_pace_takes(pace, worth(h, room)))
        status = step(h, k, room);
    return status;
}

vlcache_status vlci_summary_write(const vlci_heads *h, const vlci_summary_kernels *k, cl_mem to,
                                  const vlci_summary_room *room) {
    const vlci_groups *g = &room->groups;
    if (!vlci_groups_centroids(h)) return VLCACHE_OK;
    if (!h->kv.bias) return vlci_fail(VLCACHE_E_INTERNAL, "compress: centroids need room for biases");
    if (room->whole) return vlci_spread(h, &k->spread, room->score, room->score_at, g, to, &room->spread);
    return VLCI_LAUNCH(h->device, k->write, centroid_grid(h, k, k->write), MEMBERS_OF(h, g), VLCI_MEM(to));
}
