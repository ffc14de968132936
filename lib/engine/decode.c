/*
 * decode.c - logits -> token -> one row through the text model -> logits.
 *
 * The chosen token stays on the device for the next step; the host only reads its id, to stream it and to
 * know the end.
 */
#include "engine/decode.h"

#include <math.h>

#include "core/alloc.h"

vlcache_status vlci_decode_create(vlci_text *text, vlci_kv *kv, const vlci_sampling *how, uint64_t seed,
                                  vlci_decode *out) {
    *out = (vlci_decode){.text = text, .kv = kv, .how = *how, .random = seed};
    vlcache_status status = vlci_memory_create(text->device, sizeof(int32_t), "chosen token", &out->chosen);
    if (!status) status = vlci_memory_create(text->device, sizeof(float), "random draw", &out->draw);
    if (status) vlci_decode_release(out);
    return status;
}

/* SplitMix64 (Steele, Lea, Flood 2014): the upper 24 bits as a float in [0, 1). */
static float next_draw(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (float)((z ^ (z >> 31)) >> 40) * 0x1p-24f;
}

vlcache_status vlci_decode_choose(vlci_decode *d, int32_t *token) {
    vlcache_device *device = d->text->device;
    int vocab = d->text->model->config.text.vocab;
    vlcache_status status = VLCACHE_OK;
    if (d->how.temperature > 0) {
        float u = next_draw(&d->random);
        status = vlci_write(device, d->draw, 0, &u, sizeof u);
        if (!status) status = vlci_sample(device, d->text->logits, 1, vocab, &d->how, d->draw, d->chosen);
    } else {
        status = vlci_argmax(device, d->text->logits, 1, vocab, d->chosen);
    }
    return status ? status : vlci_read(device, d->chosen, 0, token, sizeof *token);
}

vlcache_status vlci_decode_step(vlci_decode *d, int32_t token) {
    const int one = 1;
    vlcache_status status = d->rolling ? vlci_text_step(d->text, d->kv, d->chosen)
                                       : vlci_text_run(d->text, d->kv, &token, &one, NULL);
    d->rolling = !status;
    return status;
}

/* Puts one logit where it belongs among the best so far. */
static void insert(vlcache_logit *best, int n, int *found, vlcache_logit one) {
    int at = *found < n ? (*found)++ : n;
    while (at > 0 && best[at - 1].logit < one.logit) {
        if (at < n) best[at] = best[at - 1];
        at--;
    }
    if (at < n) best[at] = one;
}

vlcache_status vlci_decode_best(const vlci_decode *d, int n, vlcache_logit *best, int *found) {
    size_t vocab = (size_t)d->text->model->config.text.vocab;
    *found = 0;
    float *logits = vlci_alloc(vocab, sizeof *logits);
    if (!logits) return vlci_fail_memory("logits");
    vlcache_status status = vlci_read(d->text->device, d->text->logits, 0, logits, vocab * sizeof *logits);
    for (size_t i = 0; !status && i < vocab; i++)
        if (!isnan(logits[i])) insert(best, n, found, (vlcache_logit){(int32_t)i, logits[i]});
    vlci_free(logits);
    return status;
}

void vlci_decode_release(vlci_decode *d) {
    if (!d->text) return;
    vlci_memory_release(d->text->device, &d->chosen);
    vlci_memory_release(d->text->device, &d->draw);
    *d = (vlci_decode){0};
}
