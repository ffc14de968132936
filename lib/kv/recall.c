/*
 * recall.c - rows of a layer: pages -> host, before compression takes them; host -> pages, for a later turn.
 *
 *     store -> feed.to [keys, values][kv_heads][rows]  -> pages      one layer ahead of what is computed
 *     pages -> leaving   [keys, values][kv_heads][rows]  -> store
 */
#include "kv/recall.h"

#include "core/clock.h"

static const vlci_kv_shape *shape_of(const vlci_recall *r) {
    return &r->kv->pool->shape;
}

static size_t row_bytes(const vlci_recall *r) {
    return (size_t)shape_of(r)->head_dim * vlci_dtype_bytes(shape_of(r)->dtype);
}

/* Runs of a row, as kernels move it. */
static size_t runs(const vlci_recall *r) {
    return row_bytes(r) / sizeof(cl_uint) / r->kv->pool->run;
}

/* What the device holds beside the pages. */
static void note_most(vlci_recall *r) {
    size_t now = r->feed.bytes + r->room;
    if (now > r->most) r->most = now;
}

/* ---- to the device ------------------------------------------------------------------------------------- */

/* MEMBERS copy rows of a layer, where they are MANY bytes: the bus takes what several threads read in memory.
 */
enum { MEMBERS = 8, MANY = 1 << 18 };

/* Room for all rows of a layer, and `more`: the first of some passes has made it for the next. */
static vlcache_status make_room(vlci_recall *r, int more) {
    const vlci_store *store = r->kv->store;
    size_t bytes = vlci_store_gathered_bytes(store);
    if (r->feed.device && r->feed.bytes >= bytes) return VLCACHE_OK;
    vlcache_status status = vlci_recall_end(r);
    if (status) return status;
    bytes += bytes / (size_t)store->all * (size_t)more;
    status = vlci_feed_open(r->kv->pool->device, bytes, "recalled rows of a layer", &r->feed);
    note_most(r);
    int members = vlci_processors() < MEMBERS ? vlci_processors() : MEMBERS;
    if (!status && bytes >= MANY && members > 1) status = vlci_team_create(members, &r->team);
    return status;
}

/* A layer's rows, on their way to `to`. */
typedef struct gathering {
    const vlci_store *store;
    int layer;
    unsigned char *to;
} gathering;

static vlcache_status gather_plane(void *user, size_t plane, int member) {
    const gathering *g = user;
    (void)member;
    vlci_store_gather(g->store, g->layer, plane, g->to);
    return VLCACHE_OK;
}

static vlcache_status gather(const vlci_recall *r, int layer, void *to) {
    gathering g = {r->kv->store, layer, to};
    size_t planes = vlci_store_planes(g.store);
    if (r->team) return vlci_team_run(r->team, planes, gather_plane, &g);
    for (size_t i = 0; i < planes; i++) vlci_store_gather(g.store, layer, i, to);
    return VLCACHE_OK;
}

vlcache_status vlci_recall_begin(vlci_recall *r, vlci_kv *kv, int more) {
    r->kv = kv;
    if (!vlci_store_rows(kv->store)) return VLCACHE_OK;
    vlcache_status status = make_room(r, more);
    return status ? status : vlci_recall_send(r, 0);
}

vlcache_status vlci_recall_send(vlci_recall *r, int layer) {
    void *at;
    if (!r->feed.device || layer >= shape_of(r)->layers) return VLCACHE_OK;
    vlcache_status status = vlci_feed_begin(&r->feed, vlci_store_gathered_bytes(r->kv->store), &at);
    if (status) return status;
    double start = vlci_clock_ms();
    status = gather(r, layer, at);
    r->ms += vlci_clock_ms() - start;
    return status ? status : vlci_feed_send(&r->feed);
}

vlcache_status vlci_recall_bring(vlci_recall *r, int layer) {
    vlci_kv_pool *p = r->kv->pool;
    if (!r->feed.device) return VLCACHE_OK;
    size_t heads = (size_t)p->shape.kv_heads, rows = (size_t)r->kv->store->all;
    vlci_grid grid = vlci_grid_over(p->place, rows * runs(r), heads, 2);
    vlcache_status status = vlci_kv_pool_sync(p);
    if (!status) status = vlci_feed_await(&r->feed);
    if (!status)
        status = VLCI_LAUNCH(p->device, p->place, grid, VLCI_MEM(p->k), VLCI_MEM(p->v), VLCI_MEM(p->heads),
                             VLCI_U32(vlci_kv_heads_at(r->kv, layer)), VLCI_MEM(p->table.on),
                             VLCI_U32(runs(r)), VLCI_I32(rows), VLCI_MEM(r->feed.to));
    if (!status) status = vlci_feed_used(&r->feed);
    if (!status) vlci_kv_append(r->kv, layer, 1, (int)rows);
    return status;
}

vlcache_status vlci_recall_end(vlci_recall *r) {
    vlcache_status status = r->feed.device ? vlci_feed_settle(&r->feed) : VLCACHE_OK;
    r->bytes += r->feed.bytes_sent;
    r->ms += r->feed.sent_ms;
    vlci_feed_release(&r->feed);
    vlci_team_destroy(&r->team);
    return status;
}

/* ---- to the host --------------------------------------------------------------------------------------- */

static void drop_leaving(vlci_recall *r) {
    if (r->leaving) vlci_memory_release(r->kv->pool->device, &r->leaving);
    r->room = 0;
}

/* Rows of every head of all layers. */
static uint64_t bytes_of(const vlci_recall *r, int rows) {
    const vlci_kv_shape *s = shape_of(r);
    return 2 * (uint64_t)s->layers * (uint64_t)s->kv_heads * (uint64_t)rows * row_bytes(r);
}

static vlcache_status check_limit(const vlci_recall *r, int rows) {
    uint64_t all = bytes_of(r, vlci_store_rows(r->kv->store) + rows);
    if (!r->limit || all <= r->limit) return VLCACHE_OK;
    return vlci_fail(
        VLCACHE_E_NO_MEMORY,
        "recall: the conversation would take %llu bytes of the host's memory, session.recall_bytes "
        "allows %llu: give more, clear the conversation, or go on without recall",
        (unsigned long long)all, (unsigned long long)r->limit);
}

vlcache_status vlci_recall_open(vlci_recall *r, vlci_kv *kv, int rows) {
    r->kv = kv;
    vlcache_status status = check_limit(r, rows);
    if (status) return status;
    status = vlci_store_create(shape_of(r), rows, kv->store, &r->fresh);
    if (status) return status;
    size_t bytes = vlci_store_layer_bytes(r->fresh);
    status = vlci_memory_create(kv->pool->device, bytes, "rows on their way to the host", &r->leaving);
    if (!status) r->room = bytes;
    note_most(r);
    return status;
}

vlcache_status vlci_recall_keep(vlci_recall *r, int layer) {
    vlci_kv_pool *p = r->kv->pool;
    size_t heads = (size_t)p->shape.kv_heads, rows = (size_t)r->fresh->rows;
    vlci_grid grid = vlci_grid_over(p->fetch, rows * runs(r), heads, 2);
    vlci_kv_catch_up(r->kv);
    vlcache_status status = vlci_kv_pool_sync(p);
    if (!status)
        status = VLCI_LAUNCH(p->device, p->fetch, grid, VLCI_MEM(p->k), VLCI_MEM(p->v), VLCI_MEM(p->heads),
                             VLCI_U32(vlci_kv_heads_at(r->kv, layer)), VLCI_MEM(p->table.on),
                             VLCI_U32(runs(r)), VLCI_I32(rows), VLCI_MEM(r->leaving));
    return status ? status
                  : vlci_read(p->device, r->leaving, 0, vlci_store_layer(r->fresh, layer),
                              vlci_store_layer_bytes(r->fresh));
}

void vlci_recall_close(vlci_recall *r) {
    drop_leaving(r);
    vlci_store_release(&r->kv->store); /* the fresh one holds it */
    r->kv->store = r->fresh;
    r->fresh = NULL;
}

vlcache_status vlci_recall_keep_all(vlci_recall *r, vlci_kv *kv, int rows) {
    vlcache_status status = vlci_recall_open(r, kv, rows);
    for (int layer = 0; layer < kv->pool->shape.layers && !status; layer++)
        status = vlci_recall_keep(r, layer);
    if (!status) vlci_recall_close(r);
    return status;
}

void vlci_recall_release(vlci_recall *r) {
    vlci_feed_release(&r->feed);
    vlci_team_destroy(&r->team);
    drop_leaving(r);
    vlci_store_release(&r->fresh);
    *r = (vlci_recall){0};
}
