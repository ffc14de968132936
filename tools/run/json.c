/*
 * json.c - what a turn gave, as one JSON object on one line.
 *
 * Built whole before anything is printed. Numbers are finite: what was not measured is null.
 */
#include "run/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/devices.h"
#include "common/exit.h"
#include "common/kept.h"
#include "common/policy.h"

static json_t *real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *whole(uint64_t value) {
    return json_integer((json_int_t)value);
}

static json_t *tokens_json(const vlcache_answer *a) {
    json_t *list = json_array();
    for (int i = 0; i < a->n_tokens; i++) json_array_append_new(list, json_integer(a->tokens[i]));
    return list;
}

static json_t *prompt_json(const vlcache_answer *a) {
    return json_pack("{s:i, s:i, s:i}", "tokens", a->prompt_tokens, "visual", a->visual_tokens, "post_vision",
                     a->post_vision_tokens);
}

/* Name and budget as asked, and every axis as it is in force; storage as this turn had it. */
static json_t *policy_json(const vlcache_compress_options *o, const vlcache_answer *a) {
    json_t *object = json_pack("{s:s, s:o, s:o, s:o}", "name", o->policy, "budget", real(o->budget),
                               "threshold", real(o->threshold), "recent", real(o->recent));
    if (object) policy_tell(o, object); /* what is no policy was refused before it was asked with */
    json_t *storage = object ? policy_storage(o, &a->compress) : NULL;
    if (storage) json_object_set_new(object, "storage", storage);
    return object;
}

static json_t *layer_json(const vlcache_compress_layer *layer, int kv_heads) {
    json_t *rows = json_array();
    for (int h = 0; h < kv_heads; h++) json_array_append_new(rows, json_integer(layer->kept));
    json_t *object = json_pack("{s:o, s:o, s:o, s:i}", "sparsity", real(layer->sparsity), "budget",
                               real(layer->budget), "kept", rows, "centroids", layer->centroids);
    if (object && layer->coded) json_object_set_new(object, "coded", json_integer(layer->coded));
    return object;
}

static vlcache_status layers_json(const vlcache_session *session, const vlcache_answer *a, json_t *list) {
    vlcache_status status = VLCACHE_OK;
    for (int l = 0; l < a->compress.layers && !status; l++) {
        vlcache_compress_layer layer;
        status = vlcache_session_layer(session, l, &layer);
        if (!status) json_array_append_new(list, layer_json(&layer, a->compress.kv_heads));
    }
    return status;
}

static json_t *bytes_json(const vlcache_answer *a) {
    const vlcache_compress_stats *c = &a->compress;
    json_t *object = json_pack("{s:o, s:o, s:o, s:o, s:o}", "full", whole(c->bytes_full), "kept",
                               whole(c->bytes_kept), "peak", whole(a->kv_bytes_peak), "now",
                               whole(a->kv_bytes), "page_ends", whole(a->page_ends));
    if (!object || c->bits == 0.0) return object;
    json_object_set_new(object, "coded",
                        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "bits", real(c->bits), "codes",
                                  whole(c->bytes_codes), "text", whole(c->bytes_text), "bases",
                                  whole(c->bytes_bases), "means", whole(c->bytes_means), "tables",
                                  whole(c->bytes_tables), "scales", whole(c->bytes_scales), "biases",
                                  whole(c->bytes_biases)));
    return object;
}

static json_t *recall_json(const vlcache_recall_stats *r) {
    return json_pack("{s:i, s:b, s:o, s:o, s:o, s:o}", "tokens", r->tokens, "saves", r->saves, "host_bytes",
                     whole(r->host_bytes), "upload_bytes", whole(r->upload_bytes), "upload_ms",
                     real(r->upload_ms), "staging_bytes", whole(r->staging_bytes));
}

static json_t *timings_json(double load_ms, const vlcache_timings *t) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "load", real(load_ms), "build",
                     real(t->build), "image", real(t->image), "vision", real(t->vision), "prefill",
                     real(t->prefill), "compress", real(t->compress), "decode", real(t->decode), "per_token",
                     real(t->per_token));
}

static json_t *logits_json(const vlcache_answer *a) {
    json_t *list = json_array();
    for (int i = 0; i < a->n_first_logits; i++)
        json_array_append_new(list, json_pack("{s:i, s:o}", "token", (int)a->first_logits[i].token, "logit",
                                              real((double)a->first_logits[i].logit)));
    return list;
}

static json_t *device_json(const vlcache_device *device) {
    vlcache_device_info info;
    vlcache_device_describe(device, &info);
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "index", info.index, "type",
                     device_type_name(info.type), "name", info.name, "platform", info.platform, "vendor",
                     info.vendor, "driver", info.driver, "version", info.version, "memory",
                     whole(info.global_memory));
}

static json_t *kept_json(const kept *k) {
    json_t *layers = json_array();
    for (int l = 0; l < k->layers; l++) {
        json_t *heads = json_array();
        for (int i = l * k->heads; i < (l + 1) * k->heads; i++) {
            json_t *positions = json_array();
            for (size_t p = 0; p < k->n[i]; p++)
                json_array_append_new(positions, json_integer(k->positions[k->first[i] + p]));
            json_array_append_new(heads, positions);
        }
        json_array_append_new(layers, heads);
    }
    return layers;
}

static json_t *weights_json(const vlcache_model *model) {
    vlcache_model_info info;
    vlcache_model_describe(model, &info);
    return json_pack("{s:o, s:o}", "bytes", whole(info.weight_bytes), "mapped", whole(info.mapped_bytes));
}

/* All but the kept positions; NULL when memory runs out. Takes `layers`. */
static json_t *answer_json(const run *r, const vlcache_answer *a, json_t *layers) {
    return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "text", a->text,
                     "tokens", tokens_json(a), "finish_reason", vlcache_finish_name(a->finish), "prompt",
                     prompt_json(a), "policy", policy_json(&r->options.compress, a), "layers", layers,
                     "budget_kept", real(a->compress.budget_kept), "weights", weights_json(r->model),
                     "kv_bytes", bytes_json(a), "timings_ms", timings_json(r->load_ms, &a->timings),
                     "first_logits", logits_json(a), "device", device_json(r->device));
}

static int add_kept(run *r, const vlcache_answer *a, json_t *object) {
    kept k = {0};
    int code = kept_read(r->session, a, &k, &r->console);
    if (!code && json_object_set_new(object, "kept", kept_json(&k)))
        code = console_fail(&r->console, EXIT_MEMORY, "--dump-kept: out of host memory");
    kept_release(&k);
    return code;
}

/* Frames of videos, where there are any. */
static int add_frames(run *r, json_t *object) {
    vlcache_seen_frame f;
    json_t *list = r->videos.n ? json_array() : NULL;
    for (int i = 0; list && !vlcache_session_frame(r->session, i, &f); i++)
        json_array_append_new(list, json_pack("{s:i, s:i, s:o}", "video", f.video, "frame", f.frame, "second",
                                              real(f.seconds)));
    if (r->videos.n && json_object_set_new(object, "frames", list))
        return console_fail(&r->console, EXIT_MEMORY, "--json: out of host memory");
    return EXIT_OK;
}

static int print(console *c, const json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (!text) return console_fail(c, EXIT_MEMORY, "--json: out of host memory");
    console_print(c, "%s\n", text);
    free(text);
    return console_check_output(c);
}

int json_print(run *r, const vlcache_answer *answer) {
    int code = EXIT_OK;
    json_t *layers = json_array(), *object = NULL;
    vlcache_status status = layers_json(r->session, answer, layers);
    if (status) {
        code = console_fail_status(&r->console, status);
        json_decref(layers);
        goto done;
    }
    object = answer_json(r, answer, layers);
    if (!object)
        code =
            console_fail(&r->console, EXIT_MEMORY, "--json: out of host memory, or a text that is not UTF-8");
    if (!code) code = add_frames(r, object);
    if (!code && answer->recall.host_bytes &&
        json_object_set_new(object, "recall", recall_json(&answer->recall)))
        code = console_fail(&r->console, EXIT_MEMORY, "--json: out of host memory");
    if (!code && r->options.dump_kept) code = add_kept(r, answer, object);
    if (!code) code = print(&r->console, object);
done:
    json_decref(object);
    return code;
}
