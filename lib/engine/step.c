/*
 * step.c - logits -> tokens -> one row of each sequence through the layers -> logits.
 *
 * The chosen tokens stay on the device for the next step of the same sequences, which has begun when the host
 * reads their ids, to stream them and to know the end.
 */
#include "engine/step.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "device/tap.h"

static vlcache_device *device_of(const vlci_step *s) {
    return s->text->model->device;
}

/* ---- creation ------------------------------------------------------------------------------------------ */

static vlcache_status create_host(vlci_step *s) {
    size_t n = (size_t)s->batch;
    s->draw = vlci_calloc(n, sizeof *s->draw);
    s->row = vlci_calloc(5 * n + 1, sizeof *s->row);
    s->before = vlci_calloc(n, sizeof *s->before);
    s->kv = vlci_calloc(n, sizeof *s->kv);
    s->observer = vlci_calloc(n, sizeof *s->observer);
    bool made = s->draw && s->row && s->before && s->kv && s->observer;
    return made ? VLCACHE_OK : vlci_fail_memory("steps of decode");
}

static vlcache_status create_device(vlci_step *s) {
    size_t n = (size_t)s->batch, iota = (n + 1) * sizeof(cl_int);
    vlcache_status status = vlci_memory_create(device_of(s), iota, "sequence starts", &s->iota);
    for (size_t i = 0; i <= n; i++) s->row[i] = (int32_t)i;
    if (!status) status = vlci_write(device_of(s), s->iota, 0, s->row, iota);
    if (!status) status = vlci_memory_create(device_of(s), n * sizeof(cl_int), "slots", &s->slots);
    if (!status) status = vlci_memory_create(device_of(s), n * sizeof(cl_int), "chosen tokens", &s->chosen);
    if (!status) status = vlci_memory_create(device_of(s), n * sizeof *s->draw, "draws", &s->draws);
    return status;
}

vlcache_status vlci_step_create(vlci_text *text, int batch, vlci_step *out) {
    *out = (vlci_step){.text = text, .batch = batch};
    vlcache_status status = create_host(out);
    if (!status) status = create_device(out);
    if (!status) status = vlci_stream_create(text->model, batch, &out->stream);
    if (status) vlci_step_release(out);
    return status;
}

void vlci_step_release(vlci_step *s) {
    if (!s->text) return;
    cl_mem *all[] = {&s->iota, &s->slots, &s->chosen, &s->draws};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) vlci_memory_release(device_of(s), all[i]);
    vlci_stream_release(s->text->model, &s->stream);
    vlci_free(s->draw);
    vlci_free(s->row);
    vlci_free(s->before);
    vlci_free(s->kv);
    vlci_free(s->observer);
    *s = (vlci_step){0};
}

/* ---- a step -------------------------------------------------------------------------------------------- */

/* Whether these are the sequences of the step before. */
static bool are_same(const vlci_step *s, int n) {
    return n == s->n_before && !memcmp(s->kv, s->before, (size_t)n * sizeof *s->kv);
}

/* Whether the device knows all that has changed since that step but the tokens themselves. */
static bool goes_on(const vlci_step *s, int n) {
    if (!are_same(s, n)) return false;
    for (int i = 0; i < n; i++)
        if (!s->kv[i]->behind) return false;
    return true;
}

/* The tokens that were chosen become the input, and the device counts the rows of the step before. */
static vlcache_status enter_chosen(vlci_step *s, int n) {
    vlcache_status status = vlci_kv_advance(s->kv, n, s->chosen, s->stream.ids, s->stream.position, s->slots);
    if (!status) status = vlci_text_enter(s->text, &s->stream, n);
    s->entered = !status;
    return status;
}

/* Tokens, positions and slots from the host. */
static vlcache_status write_rows(vlci_step *s, const int32_t *tokens, int n) {
    size_t bytes = (size_t)n * sizeof(cl_int);
    int32_t *position = s->row, *slot = s->row + 3 * n, *sees = slot + n;
    for (int i = 0; i < n; i++) {
        for (int axis = 0; axis < 3; axis++) position[3 * i + axis] = s->kv[i]->position;
        slot[i] = s->kv[i]->slot;
        sees[i] = vlci_kv_is_filled(s->kv[i]) ? VLCI_SEES_ITS_OWN : VLCI_SEES_NONE;
        vlci_kv_catch_up(s->kv[i]);
    }
    vlcache_status status = vlci_write_later(device_of(s), s->stream.ids, 0, tokens, bytes);
    if (!status) status = vlci_write_later(device_of(s), s->stream.position, 0, position, 3 * bytes);
    if (!status && s->stream.sees) status = vlci_write_later(device_of(s), s->stream.sees, 0, sees, bytes);
    return status ? status : vlci_write_later(device_of(s), s->slots, 0, slot, bytes);
}

/* Counts the rows, and what the next step is compared with. */
static void count_rows(vlci_step *s, int n) {
    for (int i = 0; i < n; i++) {
        if (!s->kv[i]->counted) vlci_kv_append_behind(s->kv[i]);
        s->kv[i]->counted = false;
        s->kv[i]->position++;
        s->kv[i]->length++;
        s->before[i] = s->kv[i];
    }
    s->n_before = n;
}

vlcache_status vlci_step_run(vlci_step *s, const int32_t *tokens, int n, int n_observers) {
    const vlci_text_config *c = &s->text->model->config.text;
    vlci_walk walk = {.text = s->text,
                      .stream = &s->stream,
                      .kv = s->kv,
                      .batch = n,
                      .rows = n,
                      .at_once = n,
                      .told = n,
                      .row_sequence = s->iota,
                      .seq_start = s->iota,
                      .slots = s->slots,
                      .observer = s->observer,
                      .n_observers = n_observers};
    int64_t work = INT64_MAX;
    bool entered = s->entered && are_same(s, n);
    vlcache_status status = VLCACHE_OK;
    if (!entered && goes_on(s, n)) {
        status = enter_chosen(s, n);
    } else if (!entered) {
        status = write_rows(s, tokens, n);
        if (!status) status = vlci_text_enter(s->text, &s->stream, n);
    }
    vlci_step_forget(s);
    if (!status) status = vlci_kv_pool_sync(s->kv[0]->pool);
    if (!status) status = vlci_walk_go(&walk, &work);
    if (!status) status = vlci_text_logits(s->text, &s->stream, 0, n);
    if (!status) vlci_tap(device_of(s), s->text->logits, n, c->vocab, "logits");
    if (!status) count_rows(s, n);
    return status;
}

void vlci_step_forget(vlci_step *s) {
    s->n_before = 0;
    s->entered = false;
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

/* SplitMix64 (Steele, Lea, Flood 2014): the upper 24 bits as a float in [0, 1). */
static float next_draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (float)((z ^ (z >> 31)) >> 40) * 0x1p-24f;
}

static vlcache_status draw(vlci_step *s, vlci_choice *const *choices, int n) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n && !status; i++) {
        bool drawn = choices[i]->how.temperature > 0;
        status =
            vlci_sample_draw(&choices[i]->how, drawn ? next_draw(&choices[i]->random) : 0.0f, &s->draw[i]);
    }
    return status ? status
                  : vlci_write_later(device_of(s), s->draws, 0, s->draw, (size_t)n * sizeof *s->draw);
}

vlcache_status vlci_step_draw(vlci_step *s, vlci_choice *const *choices, int n) {
    const vlci_sample_kernels *k = &s->text->model->compute.sample;
    int vocab = s->text->model->config.text.vocab;
    bool drawn = false;
    for (int i = 0; i < n; i++) drawn |= choices[i]->how.temperature > 0;
    vlcache_status status = drawn ? draw(s, choices, n) : VLCACHE_OK;
    if (status) return status;
    status = drawn ? vlci_sample_run(k, s->text->logits, n, vocab, s->draws, s->chosen)
                   : vlci_argmax_run(k, s->text->logits, n, vocab, s->chosen);
    return status || !goes_on(s, n) ? status : enter_chosen(s, n);
}

vlcache_status vlci_step_drawn(vlci_step *s, int n, int32_t *tokens) {
    return vlci_read(device_of(s), s->chosen, 0, tokens, (size_t)n * sizeof *tokens);
}

vlcache_status vlci_step_check(const vlci_step *s, int32_t token) {
    if (token >= 0) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_UNSUPPORTED,
                     "the model's logits are not numbers: its weights are damaged, or what comes of them "
                     "outgrows %s (dtype f32 has room)",
                     vlcache_dtype_name(s->text->model->dtype));
}

void vlci_step_insert(vlcache_logit *best, int n, int *found, vlcache_logit one) {
    int at = *found < n ? (*found)++ : n;
    while (at > 0 && best[at - 1].logit < one.logit) {
        if (at < n) best[at] = best[at - 1];
        at--;
    }
    if (at < n) best[at] = one;
}

vlcache_status vlci_step_best(const vlci_step *s, int n, vlcache_logit *best, int *found) {
    size_t vocab = (size_t)s->text->model->config.text.vocab;
    *found = 0;
    float *logits = vlci_alloc(vocab, sizeof *logits);
    if (!logits) return vlci_fail_memory("logits");
    vlcache_status status = vlci_read(device_of(s), s->text->logits, 0, logits, vocab * sizeof *logits);
    for (size_t i = 0; !status && i < vocab; i++)
        if (!isnan(logits[i])) vlci_step_insert(best, n, found, (vlcache_logit){(int32_t)i, logits[i]});
    vlci_free(logits);
    return status;
}
