/*
 * again.c - recall where layers cannot shrink as they are read: each leaves the device, and comes back from
 * the host for every token that is decoded before it can.
 *
 *     prompt:         layer read, scored -> host, dropped                          (read.c)
 *     each token:     layer <- host;  attention, scored;  its row -> host;  dropped
 *     the last one:   layer <- host;  attention, scored;  its row -> host;  shrinks
 *
 * So one layer is there in full at a time, beside those that have shrunk; tokens and scores are those of the
 * full cache. Where rows are coded bits are shared out over all layers: one token more measures them, as
 * where all are there, and a pass codes them. Passes without a token also where there is none, or no more.
 */
#include "core/clock.h"
#include "engine/sequence.h"

static int last_layer(const vlcache_sequence *s) {
    return s->shared->pool.shape.layers - 1;
}

/* All layers are on their way, one by one; `more` rows will stand behind those that come. */
static vlcache_status begin(vlcache_sequence *s, int more) {
    int rows = vlci_store_rows(s->kv.store) + more;
    vlcache_status status = vlci_recall_begin(&s->recall, &s->kv, more ? s->recipe.defer + 1 : 0);
    return status ? status : vlci_kv_reserve(&s->kv, 0, 1, rows);
}

/* There is room for as many rows as before: those of the layer before are gone. */
static vlcache_status bring(vlcache_sequence *s, int layer, int more) {
    vlcache_status status = vlci_kv_reserve(&s->kv, layer, 1, vlci_store_rows(s->kv.store) + more);
    if (!status) status = vlci_recall_bring(&s->recall, layer);
    return status ? status : vlci_kv_pool_sync(s->kv.pool);
}

/* What came before has been waited for: vlci_recall_keep(). */
static vlcache_status shrink(vlcache_sequence *s, int layer) {
    double start = vlci_clock_ms();
    vlcache_status status = vlci_compress_read(vlci_sequence_plan(s), layer, &s->kv);
    if (!status && layer == last_layer(s)) status = vlci_recall_end(&s->recall);
    if (!status) status = vlci_finish(s->shared->model->device);
    start = vlci_clock_ms() - start;
    s->answer.timings.compress += start;
    s->late += start;
    return status;
}

/* ---- tokens before ------------------------------------------------------------------------------------- */

/* Room on the host comes first: what the turn alone is refused. */
vlcache_status vlci_again_begin(vlcache_sequence *s) {
    vlcache_status status = vlci_recall_open(&s->recall, &s->kv, 1);
    const vlci_compress *plan = vlci_sequence_plan(s);
    s->shrinks = plan->decoded + !plan->coding == s->recipe.defer;
    return status ? status : begin(s, 1);
}

static vlcache_status enter(void *user, int layer) {
    return bring(user, layer, 1);
}

static vlcache_status leave(void *user, int layer) {
    vlcache_sequence *s = user;
    vlci_kv_append(&s->kv, layer, 1, 1);
    vlcache_status status = vlci_recall_send(&s->recall, layer + 1);
    if (!status) status = vlci_recall_keep(&s->recall, layer);
    if (status) return status;
    bool measures = s->shrinks && vlci_sequence_plan(s)->coding;
    if (measures) status = vlci_compress_measure(vlci_sequence_plan(s), layer, &s->kv);
    if (s->shrinks && !measures)
        status = shrink(s, layer);
    else
        vlci_kv_cut_layer(&s->kv, layer);
    if (layer < last_layer(s) || status) return status;
    vlci_recall_close(&s->recall);
    s->kv.counted = true;
    return status;
}

vlci_observer vlci_again_observer(vlcache_sequence *s) {
    bool looks = vlci_sequence_plan(s)->decoded < s->recipe.defer;
    return (
        vlci_observer){.user = s, .enter = enter, .part = looks ? vlci_turn_observe : NULL, .leave = leave};
}

/* ---- without one --------------------------------------------------------------------------------------- */

/* What is done to a layer that is there. */
typedef vlcache_status step(vlci_compress *plan, int layer, vlci_kv *kv);

static vlcache_status pass(vlcache_sequence *s, step *of_layer, bool drops) {
    vlcache_status status = begin(s, 0);
    for (int layer = 0; layer <= last_layer(s) && !status; layer++) {
        status = bring(s, layer, 0);
        if (!status) status = vlci_recall_send(&s->recall, layer + 1);
        if (!status) status = of_layer(vlci_sequence_plan(s), layer, &s->kv);
        if (!status && drops) vlci_kv_cut_layer(&s->kv, layer);
    }
    return status;
}

bool vlci_again_measures(const vlcache_sequence *s) {
    const vlci_compress *plan = vlci_sequence_plan(s);
    return vlci_turn_again(s) && plan->coding && !vlci_coding_asked(plan->coding);
}

vlcache_status vlci_again_all(vlcache_sequence *s) {
    vlcache_status status = vlci_again_measures(s) ? pass(s, vlci_compress_measure, true) : VLCACHE_OK;
    if (!status) status = pass(s, vlci_compress_read, false);
    return status ? status : vlci_recall_end(&s->recall);
}
