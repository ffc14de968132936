/*
 * speed.c - a line for each policy, number of sequences, prompt and depth.
 */
#include "bench/speed.h"

#include <stdio.h>

#include "bench/result.h"
#include "common/exit.h"
#include "common/memory.h"
#include "common/printable.h"

#define SPREAD(key, title, format)                                                                           \
    {key, title, format}, {key "_min", NULL, format}, {                                                      \
        key "_max", NULL, format                                                                             \
    }
#define MIB (1024.0 * 1024.0)

static const column columns[] = {
    {"policy", "policy", NULL},
    {"sequences", "sequences", "%.0f"},
    {"prompt_tokens", "prompt", "%.0f"},
    {"pictures", NULL, "%.0f"},
    {"depth", "depth", "%.0f"},
    SPREAD("first_ms", "first ms", "%.1f"),
    {"image_ms", NULL, "%.2f"},
    {"vision_ms", "vision", "%.1f"},
    SPREAD("prefill_ms", "prefill", "%.1f"),
    {"compress_ms", "compress", "%.2f"},
    {"prefill_tokens_per_s", "prefill tokens/s", "%.0f"},
    {"prefill_flops", NULL, "%.4g"},
    {"prefill_share", "of product", "%.2f"},
    SPREAD("token_ms", "ms a token", "%.3f"),
    {"worst_ms", "worst", "%.2f"},
    {"late_compress_ms", NULL, "%.2f"},
    SPREAD("tokens_per_s", "tokens/s", "%.0f"),
    {"times", "times", "%.2f"},
    {"decode_bytes_per_s", NULL, "%.4g"},
    {"decode_bytes_share", "of copy", "%.2f"},
    {"decode_flops", NULL, "%.4g"},
    {"decode_flops_share", NULL, "%.2f"},
    {"host_ms", "host ms", "%.3f"},
    {"whole_ms", NULL, "%.1f"},
    {"build_ms", NULL, "%.1f"},
    {"kv_mib", "KV MiB", "%.2f"},
    {"peak_mib", "peak MiB", "%.0f"},
    {NULL, NULL, NULL},
};

static void share(table *t, double value) {
    if (value > 0)
        table_number(t, value);
    else
        table_none(t);
}

/* What takes no time was not measured: answers of one token have no step. */
static void time_spread(table *t, double value, const spread *s) {
    if (value > 0) {
        table_spread(t, value, s->low, s->high);
    } else {
        for (int i = 0; i < 3; i++) table_none(t);
    }
}

static void tell_prefill(table *t, const result *r) {
    const timing *m = &r->median;
    table_spread(t, m->first, r->first.low, r->first.high);
    table_number(t, m->image);
    table_number(t, m->vision);
    table_spread(t, m->prefill, r->prefill.low, r->prefill.high);
    table_number(t, m->compress);
    table_number(t, r->read_rate);
    table_number(t, r->prefill_flops);
    share(t, r->prefill_share);
}

/* `one`: the rate that "times" compares with. */
static void tell_decode(table *t, const result *r, double one) {
    const timing *m = &r->median;
    time_spread(t, m->token, &r->token);
    share(t, m->worst);
    table_number(t, m->late);
    time_spread(t, m->rate, &r->rate);
    share(t, one > 0 ? m->rate / one : 0);
    share(t, r->decode_bytes);
    share(t, r->decode_bytes_share);
    share(t, r->decode_flops);
    share(t, r->decode_flops_share);
    share(t, m->host);
}

static void tell(table *t, const result *r, double one) {
    const timing *m = &r->median;
    table_text(t, r->setup.policy->label);
    table_number(t, r->setup.sequences);
    table_number(t, m->prompt);
    table_number(t, m->pictures);
    table_number(t, r->setup.depth);
    tell_prefill(t, r);
    tell_decode(t, r, one);
    table_number(t, m->whole);
    table_number(t, m->build);
    table_number(t, (double)m->kv_bytes / MIB);
    table_number(t, (double)m->peak_bytes / MIB);
    table_end_row(t);
}

json_t *speed_head(const bench *b) {
    const vlcache_model_info *i = &b->info;
    json_t *model = NULL, *head;
    vlcache_device_info d = b->device_info; /* whose texts are made fit for JSON */
    char geometry[256];
    snprintf(geometry, sizeof geometry, "%s", b->options.geometry ? b->options.geometry : "");
    if (b->model)
        model =
            json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:f}", "family",
                      i->family, "geometry", printable_utf8(geometry), "dtype", vlcache_dtype_name(i->dtype),
                      "layers", i->layers, "hidden", i->hidden, "heads", i->heads, "kv_heads", i->kv_heads,
                      "head_dim", i->head_dim, "intermediate", i->intermediate, "vocabulary", i->vocabulary,
                      "weight_bytes", (json_int_t)i->weight_bytes, "mapped_bytes",
                      (json_int_t)i->mapped_bytes, "load_s", b->load_seconds);
    head = json_pack("{s:s, s:s, s:s, s:f, s:f, s:o*}", "vlcache", vlcache_version(), "device",
                     printable_utf8(d.name), "driver", printable_utf8(d.driver), "copy_bytes_per_s",
                     b->ceiling.copy, "product_flops", b->ceiling.product, "model", model);
    if (!head) memory_out();
    return head;
}

/* All numbers of sequences of a policy, prompt and depth: the first is what the others are held against. */
static int tell_sequences(bench *b, table *t, const policy_spec *policy, int prompt, int depth) {
    const options *o = &b->options;
    double one = 0;
    int code = EXIT_OK;
    for (int i = 0; i < o->sequences.n && !code; i++) {
        const setup s = {policy, o->sequences.at[i], prompt, depth, o->tokens, false};
        result r;
        code = result_measure(b, &s, NULL, &r);
        if (code) break;
        if (one == 0) one = r.median.rate;
        tell(t, &r, one);
    }
    return code;
}

int speed_tell(bench *b) {
    const options *o = &b->options;
    int code = EXIT_OK, lengths = o->lengths.n ? o->lengths.n : 1;
    table t = table_begin(columns, o->format, speed_head(b), &b->console);
    for (int d = 0; d < o->depths.n && !code; d++)
        for (int p = 0; p < lengths && !code; p++)
            for (size_t i = 0; i < o->policies.n && !code; i++)
                code = tell_sequences(b, &t, &o->policies.items[i], o->lengths.n ? o->lengths.at[p] : 0,
                                      o->depths.at[d]);
    table_end(&t);
    return code;
}
