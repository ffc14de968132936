/*
 * kinds.c - the kinds of text models: a row for each class of transformers, with its defaults, and how the
 * fields of their files are read.
 */
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "models/decoder.h"

/* Which biases a file may ask for, and which windows. */
enum {
    ATTENTION_BIAS = 1, /* "attention_bias": of q, k, v and the output */
    MLP_BIAS = 2,
    WINDOW_ALL = 4,  /* "sliding_window", of all layers where it is not null */
    WINDOW_LATE = 8, /* "use_sliding_window", of the layers from max_window_layers on, or by layer_types */
    GELU_MEANS_TANH = 16,
    OWN_HEAD_DIM = 32, /* the class has a default; else it is hidden / heads */
    WINDOW_OTHER = 64, /* "sliding_window", of every other layer from the first on, or by layer_types */
    CAPS = 128,        /* "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar" */
    ACT_IN_FULL = 256  /* "hidden_activation", whatever "hidden_act" says */
};

typedef struct text_kind {
    const char *name; /* "qwen2_vl" also stands for "qwen2_vl_text" */
    int may;
    int late; /* max_window_layers */
    vlci_text_config usual;
} text_kind;

#define USUAL       .layers = 32, .heads = 32, .hidden = 4096, .norm_eps = 1e-6f, .act = VLCI_ACT_SILU
#define BOS_1_EOS_2 .bos = 1, .eos = 2
#define NO_ENDS     .bos = -1, .eos = -1

/* What Qwen2-VL and Qwen2.5-VL leave out. */
#define QWEN2_VL                                                                                             \
    .layers = 80, .heads = 64, .hidden = 8192, .norm_eps = 1e-5f, .act = VLCI_ACT_SILU, .bos = 151643,       \
    .eos = 151645, .vocab = 152064, .intermediate = 29568, .max_positions = 32768, .kv_heads = 8,            \
    .qkv_bias = true, .window = 4096, .rope = {.theta = 1e6f, .section = {16, 24, 24}}

/* LlamaConfig, MistralConfig, ... 0 kv_heads: as many as heads. */
static const text_kind kinds[] = {
    {.name = "llama",
     .may = ATTENTION_BIAS | MLP_BIAS,
     .usual = {USUAL, BOS_1_EOS_2, .vocab = 32000, .intermediate = 11008, .max_positions = 2048,
               .rope = {.theta = 10000}}},
    {.name = "mistral",
     .may = WINDOW_ALL,
     .usual = {USUAL, BOS_1_EOS_2, .vocab = 32000, .intermediate = 14336, .max_positions = 131072,
               .kv_heads = 8, .window = 4096, .rope = {.theta = 10000}}},
    {.name = "qwen2",
     .may = WINDOW_LATE,
     .late = 28,
     .usual = {USUAL, NO_ENDS, .vocab = 151936, .intermediate = 22016, .max_positions = 32768, .kv_heads = 32,
               .qkv_bias = true, .window = 4096, .rope = {.theta = 10000}}},
    {.name = "qwen3",
     .may = ATTENTION_BIAS | WINDOW_LATE | OWN_HEAD_DIM,
     .late = 28,
     .usual = {USUAL, NO_ENDS, .vocab = 151936, .intermediate = 22016, .max_positions = 32768, .kv_heads = 32,
               .head_dim = 128, .head_norm = true, .window = 4096, .rope = {.theta = 10000}}},
    {.name = "gemma",
     .may = ATTENTION_BIAS | GELU_MEANS_TANH | OWN_HEAD_DIM,
     .usual = {.layers = 28,
               .heads = 16,
               .hidden = 3072,
               .norm_eps = 1e-6f,
               .act = VLCI_ACT_GELU_TANH,
               .bos = 2,
               .eos = 1,
               .vocab = 256000,
               .intermediate = 24576,
               .max_positions = 8192,
               .kv_heads = 16,
               .head_dim = 256,
               .tied = true,
               .norm_plus_one = true,
               .embed_scaled = true,
               .rope = {.theta = 10000}}},
    {.name = "gemma2",
     .may = ATTENTION_BIAS | OWN_HEAD_DIM | WINDOW_OTHER | CAPS | ACT_IN_FULL,
     .usual = {.layers = 26,
               .heads = 8,
               .hidden = 2304,
               .norm_eps = 1e-6f,
               .act = VLCI_ACT_GELU_TANH,
               .bos = 2,
               .eos = 1,
               .vocab = 256000,
               .intermediate = 9216,
               .max_positions = 8192,
               .kv_heads = 4,
               .head_dim = 256,
               .tied = true,
               .norm_plus_one = true,
               .post_norms = true,
               .attention_cap = 50,
               .logit_cap = 30,
               .query_scale = 1.0f / 16,
               .embed_scaled = true,
               .window = 4096,
               .rope = {.theta = 10000}}},
    {.name = "qwen2_vl", .may = WINDOW_LATE, .late = 80, .usual = {QWEN2_VL}},
    {.name = "qwen2_5_vl", .may = WINDOW_LATE, .late = 80, .usual = {QWEN2_VL}},
    {.name = "qwen3_vl",
     .may = ATTENTION_BIAS | OWN_HEAD_DIM,
     .usual = {USUAL, NO_ENDS, .vocab = 151936, .intermediate = 22016, .max_positions = 128000,
               .kv_heads = 32, .head_dim = 128, .head_norm = true,
               .rope = {.theta = 500000, .section = {24, 20, 20}, .interleaved = true}}},
    {.name = "mllama_text_model",
     .usual = {.layers = 40,
               .heads = 32,
               .hidden = 4096,
               .norm_eps = 1e-5f,
               .act = VLCI_ACT_SILU,
               .bos = 128000,
               .eos = 128001,
               .vocab = 128256,
               .intermediate = 14336,
               .max_positions = 131072,
               .kv_heads = 8,
               .rope = {.theta = 500000}}},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static const text_kind *find(const char *type) {
    size_t n = strlen(type);
    if (n > 5 && strcmp(type + n - 5, "_text") == 0) n -= 5;
    for (int i = 0; i < N_KINDS; i++)
        if (strlen(kinds[i].name) == n && memcmp(kinds[i].name, type, n) == 0) return &kinds[i];
    return NULL;
}

/* ---- the fields ---------------------------------------------------------------------------------------- */

static vlcache_status read_sizes(const vlci_scope *scope, vlci_text_config *text) {
    vlcache_status status = vlci_json_int(scope, "hidden_size", 1, VLCI_MAX_WIDTH, &text->hidden);
    if (!status) status = vlci_json_int(scope, "intermediate_size", 1, VLCI_MAX_WIDTH, &text->intermediate);
    if (!status) status = vlci_json_int(scope, "num_hidden_layers", 1, VLCI_MAX_LAYERS, &text->layers);
    if (!status) status = vlci_json_int(scope, "num_attention_heads", 1, VLCI_MAX_HEADS, &text->heads);
    if (!status) status = vlci_json_int(scope, "vocab_size", 1, VLCI_MAX_IDS, &text->vocab);
    if (!status)
        status = vlci_json_int(scope, "max_position_embeddings", 1, VLCI_MAX_IDS, &text->max_positions);
    if (!status) status = vlci_json_float(scope, "rms_norm_eps", 0, 1, &text->norm_eps);
    return status;
}

/* Gemma's first files say "gelu" and mean its approximation. */
static vlcache_status read_activation(const vlci_scope *scope, const text_kind *kind,
                                      vlci_text_config *text) {
    const char *key = kind->may & ACT_IN_FULL ? "hidden_activation" : "hidden_act";
    vlcache_status status = vlci_hub_activation(scope, key, &text->act);
    if (!status && kind->may & GELU_MEANS_TANH && text->act == VLCI_ACT_GELU) text->act = VLCI_ACT_GELU_TANH;
    return status;
}

static vlcache_status read_heads(const vlci_scope *scope, const text_kind *kind, vlci_text_config *text) {
    const json_t *said = scope->object ? json_object_get(scope->object, "num_key_value_heads") : NULL;
    if (said || !text->kv_heads) text->kv_heads = text->heads; /* a null means: as many as heads */
    vlcache_status status = vlci_json_int(scope, "num_key_value_heads", 1, VLCI_MAX_HEADS, &text->kv_heads);
    if (!status && text->heads % text->kv_heads != 0)
        status = vlci_json_bad(scope, "num_key_value_heads", "is %d, which does not divide %d heads",
                               text->kv_heads, text->heads);
    if (!status) status = vlci_json_int(scope, "head_dim", 2, 1024, &text->head_dim);
    if (status) return status;
    if (!text->head_dim && !(kind->may & OWN_HEAD_DIM)) {
        status = vlci_hub_heads(scope, text->hidden, text->heads);
        text->head_dim = text->hidden / text->heads;
    }
    if (!status && (text->head_dim < 2 || text->head_dim % 2 != 0))
        status = vlci_json_bad(scope, "head_dim", "is %d, RoPE needs an even number", text->head_dim);
    return status;
}

/* A bias that the class has not, or has always, is not to be asked for otherwise. */
static vlcache_status read_biases(const vlci_scope *scope, const text_kind *kind, vlci_text_config *text) {
    bool attention = text->qkv_bias, mlp = false;
    vlcache_status status = vlci_json_bool(scope, "attention_bias", &attention);
    if (!status) status = vlci_json_bool(scope, "mlp_bias", &mlp);
    if (status) return status;
    bool bad = !(kind->may & ATTENTION_BIAS) && attention != text->qkv_bias;
    if (bad || (mlp && !(kind->may & MLP_BIAS)))
        return vlci_json_unsupported(scope, bad ? "attention_bias" : "mlp_bias",
                                     "%s; a %s model has %s such bias", !bad || attention ? "true" : "false",
                                     kind->name, !bad || attention ? "no" : "always");
    if (kind->may & ATTENTION_BIAS) text->qkv_bias = text->out_bias = attention;
    text->mlp_bias = mlp;
    return VLCACHE_OK;
}

static void set_window(vlci_text_config *text, int layer) {
    text->windowed[layer / 32] |= (uint32_t)1 << (layer % 32);
}

/* "layer_types": a name for each layer. */
static vlcache_status read_layer_types(const vlci_scope *scope, const json_t *list, vlci_text_config *text) {
    if (json_array_size(list) != (size_t)text->layers)
        return vlci_json_bad(scope, "layer_types", "names %zu layers, num_hidden_layers is %d",
                             json_array_size(list), text->layers);
    for (int i = 0; i < text->layers; i++) {
        const char *type = json_string_value(json_array_get(list, (size_t)i));
        bool windowed = type && strcmp(type, "sliding_attention") == 0;
        if (!windowed && !(type && strcmp(type, "full_attention") == 0))
            return vlci_json_unsupported(scope, "layer_types",
                                         "\"%.64s\"; full_attention and sliding_attention are supported",
                                         type ? type : "no text");
        if (windowed && !text->window)
            return vlci_json_bad(scope, "layer_types",
                                 "has layers of sliding_attention, but there is no window");
        if (windowed) set_window(text, i);
    }
    return VLCACHE_OK;
}

/* Which layers see only the last rows. */
static vlcache_status read_window(const vlci_scope *scope, const text_kind *kind, vlci_text_config *text) {
    const json_t *types, *said = scope->object ? json_object_get(scope->object, "sliding_window") : NULL;
    bool always = kind->may & (WINDOW_ALL | WINDOW_OTHER), used = always;
    int late = always ? 0 : kind->late, step = kind->may & WINDOW_OTHER ? 2 : 1;
    vlcache_status status = vlci_json_array(scope, "layer_types", &types);
    if (!status && !always) status = vlci_json_bool(scope, "use_sliding_window", &used);
    if (!status && used && !always && !(kind->may & WINDOW_LATE))
        return vlci_json_unsupported(scope, "use_sliding_window", "true; a %s model has no window",
                                     kind->name);
    if (status) return status;
    if (!used || json_is_null(said)) text->window = 0;
    if (text->window) status = vlci_json_int(scope, "sliding_window", 1, VLCI_MAX_IDS, &text->window);
    if (!status && kind->may & WINDOW_LATE)
        status = vlci_json_int(scope, "max_window_layers", 0, VLCI_MAX_IDS, &late);
    if (status || types) return status ? status : read_layer_types(scope, types, text);
    for (int i = late; i < text->layers && text->window; i += step) set_window(text, i);
    return VLCACHE_OK;
}

/* A cap above 0; a null: none. */
static vlcache_status read_cap(const vlci_scope *scope, const char *key, float *cap) {
    if (scope->object && json_is_null(json_object_get(scope->object, key))) *cap = 0;
    return vlci_json_float(scope, key, 1e-3, 1e6, cap);
}

static vlcache_status read_caps(const vlci_scope *scope, const text_kind *kind, vlci_text_config *text) {
    float of_query = 256;
    if (!(kind->may & CAPS)) return VLCACHE_OK;
    vlcache_status status = read_cap(scope, "attn_logit_softcapping", &text->attention_cap);
    if (!status) status = read_cap(scope, "final_logit_softcapping", &text->logit_cap);
    if (!status) status = vlci_json_float(scope, "query_pre_attn_scalar", 1e-3, 1e6, &of_query);
    text->query_scale = 1.0f / sqrtf(of_query);
    return status;
}

/* Prompts whose rows see each other are a family's business: it sets prefix_lm. */
static vlcache_status check_direction(const vlci_scope *scope, const vlci_text_config *text) {
    bool both = false;
    vlcache_status status = vlci_json_bool(scope, "use_bidirectional_attention", &both);
    if (status || !both || !text->flat) return status;
    return vlci_json_unsupported(scope, "use_bidirectional_attention", "true; a text model alone is causal");
}

static vlcache_status read_all(const vlci_scope *scope, const text_kind *kind, vlci_text_config *text) {
    *text = kind->usual;
    text->flat = !*scope->path;
    vlcache_status status = read_sizes(scope, text);
    if (!status) status = read_activation(scope, kind, text);
    if (!status) status = read_heads(scope, kind, text);
    if (!status) status = vlci_rotary_read(scope, text->head_dim, &text->max_positions, &text->rope);
    if (!status) status = read_biases(scope, kind, text);
    if (!status) status = read_window(scope, kind, text);
    if (!status) status = read_caps(scope, kind, text);
    if (!status) status = check_direction(scope, text);
    if (!status) status = vlci_json_bool(scope, "tie_word_embeddings", &text->tied);
    return status ? status : vlci_hub_unquantised(scope);
}

vlcache_status vlci_text_config_read(const vlci_scope *scope, const char *usual, vlci_text_config *text,
                                     char **model_type) {
    const char *type = usual;
    *model_type = NULL;
    vlcache_status status = vlci_json_string(scope, "model_type", &type);
    if (status) return status;
    const text_kind *kind = find(type);
    if (!kind)
        return vlci_json_unsupported(
            scope, "model_type",
            "text model \"%.64s\"; llama, mistral, qwen2, qwen3, gemma, gemma2 and the text "
            "models of qwen2_vl, qwen2_5_vl, qwen3_vl and mllama are supported",
            type);
    *model_type = vlci_strdup(type);
    return *model_type ? read_all(scope, kind, text) : vlci_fail_memory("name of the text model");
}

vlcache_status vlci_text_config_read_nested(const vlci_scope *root, const char *usual, vlci_text_config *text,
                                            char **model_type) {
    vlci_scope scope;
    bool tied = false;
    *model_type = NULL;
    vlcache_status status = vlci_json_object(root, "text_config", &scope);
    if (!status) status = vlci_text_config_read(&scope, usual, text, model_type);
    if (!status) status = vlci_json_bool(root, "tie_word_embeddings", &tied);
    if (!status) text->tied |= tied;
    return status;
}
