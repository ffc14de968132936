/*
 * read.c - prompt -> layers, observed one by one -> logits.
 *
 * Each layer is observed right after its attention, while q, the row maxima and the log-sum-exps are still
 * there. Where the plan allows it, a layer shrinks before the next one is read.
 */
#include "engine/read.h"

#include <string.h>

#include "core/alloc.h"

/* Parts of one size, rather than a small one at the end. */
int vlci_reading_part(int n) {
    int parts = (n + VLCI_PART_ROWS - 1) / VLCI_PART_ROWS;
    return (n + parts - 1) / parts;
}

/* ---- what happens beside the layers -------------------------------------------------------------------- */

/* Rows of earlier turns that are candidates again; of these, rows that come from the host. */
static int earlier(const vlci_reading *r) {
    return r->recall ? r->past->rows - r->prompt->n : 0;
}

static int recalled(const vlci_reading *r) {
    return r->recall ? vlci_store_rows(r->kv->store) : 0;
}

static vlcache_status enter(void *user, int layer) {
    vlci_reading *r = user;
    vlcache_status status =
        r->by_layer ? vlci_kv_reserve(r->kv, layer, 1, recalled(r) + r->prompt->n) : VLCACHE_OK;
    if (!status && r->recall) status = vlci_recall_bring(r->recall, layer);
    return status ? status : vlci_kv_pool_sync(r->kv->pool);
}

static vlcache_status part(void *user, int layer, const vlci_attention *a, int from, int rows) {
    vlci_reading *r = user;
    vlci_look look = {.a = a,
                      .heads_at = vlci_kv_heads_at(r->kv, layer),
                      .row = 0,
                      .from = earlier(r) + from,
                      .n = rows,
                      .phase = r->phase ? r->phase : r->stream.phase};
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < r->n_plans && !status; i++)
        if (r->plans[i]) status = vlci_compress_observe(r->plans[i], layer, &look);
    return status;
}

/* Lets the device catch up where somebody wants to know, so that the answer is about what is done, and asks.
 */
static vlcache_status ask_to_go_on(vlci_reading *r, int layer) {
    vlcache_device *device = r->text->model->device;
    vlcache_status status = r->wait ? vlci_finish(device) : VLCACHE_OK;
    if (status || !r->watch || r->watch(r->watch_user, layer + 1, r->text->model->config.text.layers))
        return status;
    return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while reading the prompt");
}

/* The next layer comes while this one is computed; what this one is about to lose goes. */
static vlcache_status exchange(vlci_reading *r, int layer) {
    if (!r->recall) return VLCACHE_OK;
    vlcache_status status = vlci_recall_send(r->recall, layer + 1);
    return status || !r->by_layer ? status : vlci_recall_keep(r->recall, layer);
}

static vlcache_status leave(void *user, int layer) {
    vlci_reading *r = user;
    const vlci_text_config *c = &r->text->model->config.text;
    vlci_kv_append(r->kv, layer, 1, r->prompt->n);
    vlci_tap(r->text->model->device, r->stream.x, r->prompt->n, c->hidden, "layer.%d.hidden", layer);
    vlcache_status status = exchange(r, layer);
    if (!status && r->by_layer) status = vlci_compress_read(r->by_layer, layer, r->kv);
    return status ? status : ask_to_go_on(r, layer);
}

/* ---- beginning ----------------------------------------------------------------------------------------- */

static vlcache_status check_ids(const vlci_reading *r, cl_mem features) {
    int vocab = r->text->model->config.text.vocab;
    for (int i = 0; i < r->prompt->n; i++)
        if (r->prompt->ids[i] >= vocab || (r->prompt->ids[i] < 0 && !features))
            return vlci_fail(VLCACHE_E_ARGUMENT, "token %d: id %d, the vocabulary has %d", i,
                             r->prompt->ids[i], vocab);
    return VLCACHE_OK;
}

static vlcache_status write_rows(vlci_reading *r) {
    const vlcache_model *model = r->text->model;
    size_t n = (size_t)r->prompt->n;
    int32_t(*position)[3] = vlci_alloc(n, sizeof *position), next = r->next_position;
    if (!position) return vlci_fail_memory("positions");
    if (r->position) memcpy(position, r->position, n * sizeof *position);
    if (!r->position)
        model->family->positions(&model->config, r->prompt->picture,
                                 r->prompt->n_images + r->prompt->n_videos, r->kv->position, r->prompt->n,
                                 position, &next);
    vlcache_status status = vlci_write(model->device, r->stream.position, 0, position, n * sizeof *position);
    if (!status) status = vlci_write(model->device, r->stream.ids, 0, r->prompt->ids, n * sizeof(cl_int));
    r->next_position = next;
    vlci_free(position);
    return status;
}

/* All rows are of the only sequence. */
static vlcache_status write_sequence(vlci_reading *r, int at_once) {
    vlcache_device *device = r->text->model->device;
    const cl_int start[2] = {0, at_once}, slot = r->kv->slot;
    size_t rows = (size_t)at_once * sizeof(cl_int);
    vlcache_status status = vlci_memory_create(device, rows, "sequences of rows", &r->row_sequence);
    if (!status) status = vlci_fill(device, r->row_sequence, 0, rows, 0);
    if (!status) status = vlci_memory_create(device, sizeof start, "sequence starts", &r->seq_start);
    if (!status) status = vlci_write_later(device, r->seq_start, 0, start, sizeof start);
    if (!status) status = vlci_memory_create(device, sizeof slot, "slot of a sequence", &r->slot);
    return status ? status : vlci_write_later(device, r->slot, 0, &slot, sizeof slot);
}

/* What comes back, and room for what goes: all rows that the host does not have. */
static vlcache_status begin_recall(vlci_reading *r) {
    if (!r->recall) return VLCACHE_OK;
    vlcache_status status = vlci_recall_begin(r->recall, r->kv);
    return status || !r->by_layer ? status : vlci_recall_open(r->recall, r->kv, r->past->rows - recalled(r));
}

static bool needs_phases(const vlci_reading *r) {
    bool coded = false;
    for (size_t i = 0; i < r->n_plans; i++) coded |= r->plans[i] && r->plans[i]->coding;
    return coded && earlier(r);
}

/* Rotations of all rows of the conversation. */
static vlcache_status write_phases(vlci_reading *r) {
    const vlcache_model *model = r->text->model;
    const vlci_text_config *c = &model->config.text;
    size_t n = (size_t)r->past->rows, bytes = n * sizeof *r->past->position;
    cl_mem position = NULL;
    if (!needs_phases(r)) return VLCACHE_OK;
    vlcache_status status = vlci_memory_create(model->device, n * (size_t)c->head_dim * sizeof(cl_float),
                                               "phases of earlier rows", &r->phase);
    if (!status) status = vlci_memory_create(model->device, bytes, "positions of earlier rows", &position);
    if (!status) status = vlci_write(model->device, position, 0, r->past->position, bytes);
    if (!status)
        status = vlci_rope_phase(&model->compute.rope, r->text->inv_freq, r->text->axis, position, r->phase,
                                 r->past->rows, c->head_dim, c->rope.attention_factor);
    vlci_memory_release(model->device, &position);
    return status;
}

vlcache_status vlci_reading_begin(vlci_reading *r, cl_mem features) {
    const vlcache_model *model = r->text->model;
    const vlci_text_config *c = &model->config.text;
    int n = r->prompt->n, at_once = c->prefix_lm ? n : vlci_reading_part(n);
    r->observer[0] = (vlci_observer){.user = r, .enter = enter, .part = part, .leave = leave};
    vlcache_status status = check_ids(r, features);
    if (!status) status = vlci_text_room(r->text, at_once);
    if (!status) status = vlci_stream_create(model, n, &r->stream);
    r->stream.features = (vlci_features){features, 1 + c->deepstack};
    if (!status) status = begin_recall(r);
    if (!status && !r->by_layer) status = vlci_kv_reserve(r->kv, 0, c->layers, recalled(r) + n);
    if (!status) status = write_rows(r);
    if (!status) status = write_sequence(r, at_once);
    if (!status) status = vlci_text_enter(r->text, &r->stream, n);
    if (!status) status = write_phases(r);
    if (!status) vlci_tap(model->device, r->stream.x, n, c->hidden, "embed");
    r->walk = (vlci_walk){.text = r->text,
                          .stream = &r->stream,
                          .kv = &r->kv,
                          .batch = 1,
                          .rows = n,
                          .at_once = at_once,
                          .told = at_once,
                          .row_sequence = r->row_sequence,
                          .seq_start = r->seq_start,
                          .slots = r->slot,
                          .observer = r->observer,
                          .n_observers = 1};
    return status;
}

vlcache_status vlci_reading_go(vlci_reading *r, int64_t *work, bool *done) {
    const vlcache_model *model = r->text->model;
    const vlci_text_config *c = &model->config.text;
    vlcache_status status = vlci_walk_go(&r->walk, work);
    *done = !status && vlci_walk_done(&r->walk);
    if (!*done) return status;
    if (r->recall) status = vlci_recall_end(r->recall);
    if (r->recall && r->by_layer && !status) vlci_recall_close(r->recall);
    r->kv->position = r->next_position;
    r->kv->length += r->prompt->n;
    if (!status) status = vlci_text_logits(r->text, &r->stream, r->prompt->n - 1, 1);
    if (!status) vlci_tap(model->device, r->text->last, 1, c->hidden, "norm");
    if (!status) vlci_tap(model->device, r->text->logits, 1, c->vocab, "logits");
    return status;
}

void vlci_reading_release(vlci_reading *r) {
    if (!r->text) return;
    vlcache_device *device = r->text->model->device;
    vlci_stream_release(r->text->model, &r->stream);
    vlci_memory_release(device, &r->row_sequence);
    vlci_memory_release(device, &r->seq_start);
    vlci_memory_release(device, &r->slot);
    vlci_memory_release(device, &r->phase);
    *r = (vlci_reading){0};
}
