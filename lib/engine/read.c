/*
 * read.c - prompt -> layers, observed one by one -> logits.
 *
 * Each layer is observed right after its attention, while q, the row maxima and the log-sum-exps are still
 * there. Where the plan allows it, a layer shrinks before the next one is read.
 */
#include "engine/read.h"

#include <string.h>

#include "core/alloc.h"
#include "models/crossing.h"

/* Rows of pictures at a time that are worth having more room for than the text needs. */
enum { PICTURE_ROWS = 512 };

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
    r->shown = -1;
    vlcache_status status =
        r->singly ? vlci_kv_reserve(r->kv, layer, 1, recalled(r) + r->prompt->n) : VLCACHE_OK;
    if (!status && r->recall) status = vlci_recall_bring(r->recall, layer);
    return status ? status : vlci_kv_pool_sync(r->kv->pool);
}

/* Rows of the features that a sight sees: its pictures' tokens, or all there is. */
static int sight_rows(const vlci_prompt *prompt, const vlci_sight *sight) {
    int rows = sight->n ? 0 : prompt->features;
    for (int i = 0; i < sight->n; i++) rows += prompt->layout[sight->first + i].n_tokens;
    return rows;
}

int vlci_reading_most_seen(const vlci_prompt *prompt, bool kept) {
    int most = 0;
    for (int i = 0; i < prompt->n_sights; i++) {
        int rows = kept && !prompt->sights[i].n ? 0 : sight_rows(prompt, &prompt->sights[i]);
        if (rows > most) most = rows;
    }
    return most;
}

/* Keys and values of a sight's pictures, in place of what the layer holds. */
static vlcache_status fill(vlci_reading *r, int layer, const vlci_sight *sight) {
    int rows = sight_rows(r->prompt, sight), at = 0;
    vlcache_status status = vlci_kv_refill(r->kv, layer, rows);
    if (!status) status = vlci_kv_pool_sync(r->kv->pool);
    vlci_crossing_rows pictures = {.features = r->stream.features.data,
                                   .n = rows,
                                   .until = rows,
                                   .at_once = r->at_once,
                                   .row_sequence = r->row_sequence,
                                   .seq_start = r->seq_start,
                                   .kv = vlci_kv_layer(r->kv, layer)};
    pictures.kv.slots = r->slot;
    if (!sight->n) return status ? status : vlci_crossing_append(r->text, layer, &pictures);
    for (int i = sight->first; i < sight->first + sight->n && !status; i++) {
        pictures.first = vlci_prompt_features_at(r->prompt, i);
        pictures.n = r->prompt->layout[i].n_tokens;
        pictures.until = rows - at;
        at += pictures.n;
        status = vlci_crossing_append(r->text, layer, &pictures);
    }
    return status;
}

/* Whether what a layer holds, all there is, begins with the rows of this sight. */
static bool begins_with(const vlci_reading *r, const vlci_sight *sight) {
    return r->shown == 0 && !r->prompt->sights[0].n && !r->kept && sight->first == 0 && sight->n == 1;
}

/* What the rows of this sight see, in the layer's cache. */
static vlcache_status show(vlci_reading *r, int layer, int which) {
    const vlci_sight *sight = &r->prompt->sights[which];
    vlcache_status status = VLCACHE_OK;
    if (sight->n == 0 && r->kept) return status; /* what was there before */
    if (!begins_with(r, sight)) return fill(r, layer, sight);
    for (int h = 0; h < r->kv->pool->shape.kv_heads; h++)
        vlci_kv_cut(r->kv, layer, h, sight_rows(r->prompt, sight));
    return vlci_kv_pool_sync(r->kv->pool);
}

static vlcache_status before(void *user, int layer, int from) {
    vlci_reading *r = user;
    int which = 0;
    if (!r->prompt->n_sights) return VLCACHE_OK;
    while (r->prompt->sights[which].until <= from) which++;
    if (r->shown == which) return VLCACHE_OK;
    vlcache_status status = show(r, layer, which);
    r->shown = which;
    return status;
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
    if (r->prompt->n_sights && r->shown != r->prompt->n_sights - 1)
        return status; /* pictures that go again */
    for (size_t i = 0; i < r->n_plans && !status; i++)
        if (r->plans[i]) status = vlci_compress_observe(r->plans[i], layer, &look);
    if (!status && r->n_plans == 1 && r->plans[0] && from + rows == r->prompt->n)
        status = vlci_compress_ask(r->plans[0], layer, r->by_layer != NULL);
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
    return status || !r->singly ? status : vlci_recall_keep(r->recall, layer);
}

static vlcache_status leave(void *user, int layer) {
    vlci_reading *r = user;
    const vlci_text_config *c = &r->text->model->config.text;
    vlci_kv_append(r->kv, layer, 1, r->prompt->n);
    vlci_tap(r->text->model->device, r->stream.x, r->prompt->n, c->hidden, "layer.%d.hidden", layer);
    vlcache_status status = exchange(r, layer);
    if (!status && r->by_layer) status = vlci_compress_read(r->by_layer, layer, r->kv);
    if (!status && r->singly && !r->by_layer) vlci_kv_cut_layer(r->kv, layer);
    return status ? status : ask_to_go_on(r, layer);
}

/* ---- beginning ----------------------------------------------------------------------------------------- */

static vlcache_status check_ids(const vlci_reading *r, cl_mem features) {
    int vocab = vlci_text_ids(&r->text->model->config.text);
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

/* How far each row sees. */
static vlcache_status write_sees(vlci_reading *r) {
    size_t n = (size_t)r->prompt->n;
    const vlci_sight *front = r->prompt->sights;
    int32_t *sees = vlci_alloc(n, sizeof *sees);
    if (!sees) return vlci_fail_memory("what rows see");
    for (size_t i = 0; i < n; i++) sees[i] = r->kept || front ? VLCI_SEES_ITS_OWN : VLCI_SEES_NONE;
    for (int i = 0; front && !front->n && !r->kept && i < front->until; i++) sees[i] = VLCI_SEES_SOME;
    vlcache_status status = vlci_write(r->text->model->device, r->stream.sees, 0, sees, n * sizeof *sees);
    vlci_free(sees);
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
    vlcache_status status = vlci_recall_begin(r->recall, r->kv, 0);
    return status || !r->singly ? status : vlci_recall_open(r->recall, r->kv, r->past->rows - recalled(r));
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
    cl_mem position = NULL;
    if (!needs_phases(r)) return VLCACHE_OK;
    size_t n = (size_t)r->past->rows, bytes = n * sizeof *r->past->position;
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
    int room = at_once;
    if (c->crosses && r->prompt->features > room) /* rows of pictures go through the same activations */
        room = r->prompt->features < PICTURE_ROWS ? r->prompt->features
               : room < PICTURE_ROWS              ? PICTURE_ROWS
                                                  : room;
    r->at_once = room;
    r->kept = vlci_kv_is_filled(r->kv);
    r->observer[0] =
        (vlci_observer){.user = r, .enter = enter, .before = before, .part = part, .leave = leave};
    vlci_kv_catch_up(r->kv); /* where the answer before has left room, nothing else tells the device */
    vlcache_status status = check_ids(r, features);
    if (!status) status = vlci_text_room(r->text, room);
    if (!status) status = vlci_stream_create(model, n, &r->stream);
    r->stream.features = (vlci_features){features, 1 + c->deepstack};
    if (!status) status = begin_recall(r);
    if (!status && !r->singly) status = vlci_kv_reserve(r->kv, 0, c->layers, recalled(r) + n);
    if (!status) status = write_rows(r);
    if (!status && c->crosses) status = write_sees(r);
    if (!status) status = write_sequence(r, room);
    if (!status) status = vlci_text_enter(r->text, &r->stream, n);
    if (!status) status = write_phases(r);
    if (!status) vlci_tap(model->device, r->stream.x, n, c->hidden, "embed");
    r->walk = (vlci_walk){.text = r->text,
                          .stream = &r->stream,
                          .kv = &r->kv,
                          .batch = 1,
                          .rows = n,
                          .at_once = at_once,
                          .told = room,
                          .ends = r->prompt->ends,
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
    if (r->recall && r->singly && !status) vlci_recall_close(r->recall);
    r->kv->position = r->next_position;
    r->kv->length += r->prompt->n;
    if (!status) status = vlci_text_logits(r->text, &r->stream, r->prompt->n - 1, 1);
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
