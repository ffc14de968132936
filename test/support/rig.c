/*
 * rig.c - reading and stepping without an engine.
 */
#include "support/rig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support/suite.h"

void rig_create(rig *r, vlcache_model *model, const vlcache_compress_options *options) {
    const vlci_text_config *c = &model->config.text;
    const vlci_kv_shape shape = {c->layers, c->kv_heads, c->head_dim, model->dtype};
    const vlci_compress_shape heads = {c->layers,   c->heads,     c->kv_heads,
                                       c->head_dim, model->dtype, c->attention_cap};
    *r = (rig){.shared = {.model = model}};
    if (options) ck_ok(vlci_policy_read(options, true, &r->recipe));
    ck_ok(vlci_compress_open(model->device, &heads, &r->recipe, &r->shared.compress));
    ck_ok(vlci_kv_pool_create(model->device, &shape, 0, true, &r->shared.pool));
    if (c->crosses) ck_ok(vlci_kv_pool_still(&r->shared.pool, c->crossing));
    ck_ok(vlci_text_create(model, 1, 1, &r->shared.text));
    ck_ok(vlci_step_create(&r->shared.text, 1, &r->shared.step));
    ck_ok(vlci_kv_create(&r->shared.pool, &r->kv));
}

void rig_begin(rig *r, const int32_t *ids, int n, const int *text_rows, int text, cl_mem features) {
    vlci_compress_prompt asked = {.tokens = n, .text = text, .text_rows = text_rows};
    ck_ok(vlci_compress_create(&r->shared.compress, &r->recipe, &asked, NULL, 0, &r->plan));
    free(r->prompt.ids);
    r->prompt = (vlci_prompt){.ids = malloc((size_t)n * sizeof *ids), .n = n};
    memcpy(r->prompt.ids, ids, (size_t)n * sizeof *ids);
    r->reading = (vlci_reading){.text = &r->shared.text,
                                .kv = &r->kv,
                                .prompt = &r->prompt,
                                .plans = &r->plan,
                                .n_plans = 1,
                                .by_layer = r->plan && vlci_compress_by_layer(&r->recipe) ? r->plan : NULL};
    ck_ok(vlci_reading_begin(&r->reading, features));
}

void rig_begin_prompt(rig *r, const vlci_prompt *prompt, cl_mem features) {
    r->reading = (vlci_reading){.text = &r->shared.text, .kv = &r->kv, .prompt = prompt};
    ck_ok(vlci_reading_begin(&r->reading, features));
}

bool rig_layer(rig *r) {
    int64_t work = r->reading.prompt->n;
    bool done;
    ck_ok(vlci_reading_go(&r->reading, &work, &done));
    return !done;
}

void rig_read(rig *r, const int32_t *ids, int n, const int *text_rows, int text, cl_mem features) {
    rig_begin(r, ids, n, text_rows, text, features);
    while (rig_layer(r)) continue;
    if (r->plan && !r->plan->applied && !r->recipe.defer) ck_ok(vlci_compress_all(r->plan, &r->kv));
    vlci_reading_release(&r->reading);
}

void rig_step(rig *r, int32_t token) {
    r->shared.step.kv[0] = &r->kv;
    ck_ok(vlci_kv_reserve(&r->kv, 0, r->shared.pool.shape.layers, 1));
    ck_ok(vlci_step_run(&r->shared.step, &token, 1, 0));
    vlci_step_forget(&r->shared.step); /* the token is the test's, not the one chosen on the device */
}

int32_t rig_best(const rig *r) {
    size_t vocab = (size_t)r->shared.model->config.text.vocab, best = 0;
    float *values = malloc(vocab * sizeof *values);
    suite_download(r->shared.text.logits, values, vocab * sizeof *values);
    for (size_t i = 1; i < vocab; i++)
        if (values[i] > values[best]) best = i;
    free(values);
    return (int32_t)best;
}

void rig_release(rig *r) {
    vlci_compress_destroy(&r->plan);
    vlci_reading_release(&r->reading);
    vlci_kv_release(&r->kv);
    vlci_step_release(&r->shared.step);
    vlci_text_release(&r->shared.text);
    vlci_kv_pool_release(&r->shared.pool);
    free(r->prompt.ids);
    *r = (rig){0};
}
