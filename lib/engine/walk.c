/*
 * walk.c - rows through the layers, part by part, and who looks on.
 */
#include "engine/walk.h"

#include "models/crossing.h"

static bool crosses(const vlci_walk *w) {
    return vlci_text_crosses(&w->text->model->config.text, w->layer);
}

/* Most rows that a query of this part sees: those before it and the part's own, of which a layer of
 * cross-attention has none. */
static int most_keys(const vlci_walk *w, int rows) {
    int most = 0;
    for (int b = 0; b < w->batch; b++) {
        int keys = vlci_kv_most_rows(w->kv[b], w->layer);
        if (keys > most) most = keys;
    }
    return crosses(w) ? most : most + (w->batch == 1 ? w->row + rows : 1);
}

static int mean_keys(const vlci_walk *w) {
    int64_t all = 0;
    for (int b = 0; b < w->batch; b++) all += vlci_kv_all_rows(w->kv[b], w->layer);
    return (int)(all / (w->batch * w->kv[0]->pool->shape.kv_heads));
}

/* The parts of a prompt stand behind one another; the rows of several sequences are one each. */
static vlci_text_rows next_part(const vlci_walk *w, int rows) {
    vlci_text_rows part = {.stream = w->stream,
                           .first = w->row,
                           .rows = rows,
                           .batch = w->batch,
                           .row_sequence = w->row_sequence,
                           .seq_start = w->seq_start,
                           .max_rows = w->batch == 1 ? rows : 1,
                           .max_keys = most_keys(w, rows),
                           .mean_keys = w->batch > 1 ? mean_keys(w) : 0,
                           .kv = vlci_kv_layer(w->kv[0], w->layer),
                           .sequences = w->kv,
                           .unwatched = !w->n_observers && rows == w->rows};
    part.kv.slots = w->slots;
    part.kv.ahead = crosses(w) ? -part.max_rows : w->row;
    return part;
}

/* Where sequences start, for a part of another size than the one before. */
static vlcache_status tell_rows(vlci_walk *w, int rows) {
    const cl_int start[2] = {0, rows};
    if (w->batch > 1 || rows == w->told) return VLCACHE_OK;
    w->told = rows;
    return vlci_write_later(w->text->model->device, w->seq_start, 0, start, sizeof start);
}

/* Of a part's attention. */
static vlcache_status tell_observers(void *user, int layer, const vlci_attention *a) {
    const vlci_walk *w = user;
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < w->n_observers && !status; i++) {
        const vlci_observer *o = &w->observer[i];
        if (o->part) status = o->part(o->user, layer, a, w->row, w->part);
    }
    return status;
}

/* n: layers that it went through. */
static vlcache_status run_part(vlci_walk *w, int rows, int *n) {
    vlcache_status status = tell_rows(w, rows);
    *n = 1;
    if (status) return status;
    w->part = rows;
    vlci_text_rows part = next_part(w, rows);
    if (!part.max_keys) return VLCACHE_OK; /* there is no picture */
    if (!crosses(w)) {
        part.attended = tell_observers;
        part.user = w;
        return vlci_text_layers_run(w->text, w->layer, &part, n);
    }
    status = vlci_crossing_run(w->text, w->layer, &part);
    const vlci_attention attention = vlci_text_attention(w->text, w->layer, &part);
    return status ? status : tell_observers(w, w->layer, &attention);
}

static vlcache_status enter(vlci_walk *w) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < w->n_observers && !status; i++)
        if (w->observer[i].enter) status = w->observer[i].enter(w->observer[i].user, w->layer);
    return status;
}

static vlcache_status leave(vlci_walk *w) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < w->n_observers && !status; i++)
        if (w->observer[i].leave) status = w->observer[i].leave(w->observer[i].user, w->layer);
    return status;
}

/* Before a part that looks at pictures. */
static vlcache_status before(vlci_walk *w) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; crosses(w) && i < w->n_observers && !status; i++)
        if (w->observer[i].before) status = w->observer[i].before(w->observer[i].user, w->layer, w->row);
    return status;
}

/* Rows of the next part. */
static int part_rows(const vlci_walk *w) {
    const int *end = w->ends;
    int rows = w->rows - w->row < w->at_once ? w->rows - w->row : w->at_once;
    if (!end || !crosses(w)) return rows;
    while (*end <= w->row) end++;
    return *end - w->row < rows ? *end - w->row : rows;
}

vlcache_status vlci_walk_go(vlci_walk *w, int64_t *work) {
    vlcache_status status = VLCACHE_OK;
    while (!status && !vlci_walk_done(w) && *work > 0) {
        int rows = part_rows(w), layers;
        if (w->row == 0) status = enter(w);
        if (!status) status = before(w);
        if (!status) status = run_part(w, rows, &layers);
        if (status) break;
        *work -= (int64_t)rows * layers;
        w->row += rows;
        if (w->row < w->rows) continue;
        status = leave(w);
        w->layer += layers;
        w->row = 0;
    }
    return status;
}
