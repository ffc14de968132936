/*
 * test_kinds.c - settings of text models: the defaults of every class, fields that are honoured, fields that
 * are refused, by name; which axis of a position each pair of a head turns by.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "support/suite.h"

/* {"model_type": "TYPE", FIELDS}. */
static vlcache_status load(const char *type, const char *fields, vlci_config *out) {
    char text[2048];
    snprintf(text, sizeof text, "{\"model_type\":\"%s\"%s%s}", type, *fields ? "," : "", fields);
    return vlci_config_load_alone(text, out);
}

static vlci_text_config read(const char *type, const char *fields) {
    vlci_config c;
    ck_assert_msg(load(type, fields, &c) == VLCACHE_OK, "%s", vlcache_error_message());
    ck_assert_str_eq(c.text_model_type, type);
    ck_assert_ptr_null(c.eyes);
    vlci_text_config text = c.text;
    vlci_config_release(&c);
    return text;
}

/* ---- the classes of transformers 5.24 ------------------------------------------------------------------ */

START_TEST(defaults) {
    static const struct {
        const char *type;
        int hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, positions, bos, eos;
        bool tied, qkv_bias, head_norm, gemma;
    } all[] = {
        {"llama", 4096, 32, 32, 32, 128, 11008, 32000, 2048, 1, 2, 0, 0, 0, 0},
        {"mistral", 4096, 32, 32, 8, 128, 14336, 32000, 131072, 1, 2, 0, 0, 0, 0},
        {"qwen2", 4096, 32, 32, 32, 128, 22016, 151936, 32768, -1, -1, 0, 1, 0, 0},
        {"qwen3", 4096, 32, 32, 32, 128, 22016, 151936, 32768, -1, -1, 0, 0, 1, 0},
        {"gemma", 3072, 28, 16, 16, 256, 24576, 256000, 8192, 2, 1, 1, 0, 0, 1},
        {"gemma2", 2304, 26, 8, 4, 256, 9216, 256000, 8192, 2, 1, 1, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        vlci_text_config c = read(all[i].type, "");
        const int got[] = {c.hidden,       c.layers, c.heads,         c.kv_heads, c.head_dim,
                           c.intermediate, c.vocab,  c.max_positions, c.bos,      c.eos};
        ck_assert_mem_eq(got, &all[i].hidden, sizeof got);
        ck_assert(c.tied == all[i].tied && c.qkv_bias == all[i].qkv_bias && c.head_norm == all[i].head_norm);
        ck_assert(c.norm_plus_one == all[i].gemma && c.embed_scaled == all[i].gemma && c.flat);
        ck_assert(c.act == (all[i].gemma ? VLCI_ACT_GELU_TANH : VLCI_ACT_SILU) && c.norm_eps == 1e-6f);
        ck_assert(!c.out_bias && !c.mlp_bias && !c.prefix_lm && !c.deepstack && c.rope.theta == 10000.0f);
        ck_assert_int_eq(vlci_text_window(&c, 31), strcmp(all[i].type, "mistral") ? 0 : 4096);
        bool capped = strcmp(all[i].type, "gemma2") == 0;
        ck_assert(c.post_norms == capped && c.attention_cap == (capped ? 50.0f : 0.0f));
        ck_assert(c.logit_cap == (capped ? 30.0f : 0.0f) && c.query_scale == (capped ? 0.0625f : 0.0f));
    }
}
END_TEST

static vlci_text_config read_nested(const char *type, const char *fields) {
    char text[1024];
    vlci_text_config c;
    char *said;
    json_t *root;
    snprintf(text, sizeof text, "{\"text_config\":{\"model_type\":\"%s\"%s%s},\"tie_word_embeddings\":true}",
             type, *fields ? "," : "", fields);
    ck_ok(vlci_json_parse("config.json", text, strlen(text), &root));
    vlci_scope scope = vlci_scope_of("config.json", root);
    ck_assert_msg(vlci_text_config_read_nested(&scope, "llama", &c, &said) == VLCACHE_OK, "%s",
                  vlcache_error_message());
    ck_assert_str_eq(said, type);
    ck_assert(!c.flat && c.tied);
    json_decref(root);
    free(said);
    return c;
}

/* The text models of Qwen-VL families, under both of their names. */
START_TEST(text_models_of_families) {
    static const char *const names[] = {"qwen2_vl_text", "qwen2_5_vl_text", "qwen2_vl", "qwen2_5_vl"};
    for (int i = 0; i < 4; i++) {
        vlci_text_config c = read_nested(names[i], "");
        ck_assert(c.hidden == 8192 && c.layers == 80 && c.kv_heads == 8 && c.qkv_bias && !c.out_bias);
        ck_assert(c.rope.theta == 1e6f && c.rope.section[0] == 16 && c.rope.section[2] == 24);
        ck_assert(!c.rope.interleaved && c.bos == 151643 && c.eos == 151645 && c.norm_eps == 1e-5f);
    }
    vlci_text_config c = read_nested("qwen3_vl_text", "\"attention_bias\":true");
    ck_assert(c.head_norm && c.head_dim == 128 && c.qkv_bias && c.out_bias && c.rope.interleaved);
    ck_assert(c.max_positions == 128000 && c.rope.theta == 500000.0f);
    c = read_nested("gemma_text", "\"hidden_act\":\"gelu\"");
    ck_assert(c.act == VLCI_ACT_GELU_TANH);
}
END_TEST

/* ---- what is honoured ---------------------------------------------------------------------------------- */

static void check_windows(const char *type, const char *fields, const int *want, int layers) {
    vlci_text_config c = read(type, fields);
    ck_assert_int_eq(c.layers, layers);
    for (int i = 0; i < layers; i++) ck_assert_int_eq(vlci_text_window(&c, i), want[i]);
}

START_TEST(windows) {
    check_windows("mistral", "\"num_hidden_layers\":3,\"sliding_window\":7", (const int[]){7, 7, 7}, 3);
    check_windows("mistral", "\"num_hidden_layers\":2,\"sliding_window\":null", (const int[]){0, 0}, 2);
    check_windows("qwen2", "\"num_hidden_layers\":2,\"sliding_window\":9,\"max_window_layers\":0",
                  (const int[]){0, 0}, 2);
    check_windows("qwen2",
                  "\"num_hidden_layers\":3,\"use_sliding_window\":true,\"sliding_window\":9,"
                  "\"max_window_layers\":2",
                  (const int[]){0, 0, 9}, 3);
    check_windows("qwen3",
                  "\"num_hidden_layers\":2,\"use_sliding_window\":true,\"sliding_window\":9,"
                  "\"layer_types\":[\"sliding_attention\",\"full_attention\"]",
                  (const int[]){9, 0}, 2);
    check_windows("gemma2", "\"num_hidden_layers\":4", (const int[]){4096, 0, 4096, 0}, 4);
    check_windows("gemma2", "\"num_hidden_layers\":2,\"sliding_window\":null", (const int[]){0, 0}, 2);
    check_windows("gemma2",
                  "\"num_hidden_layers\":2,\"sliding_window\":9,"
                  "\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
                  (const int[]){0, 9}, 2);
    check_windows("llama", "\"num_hidden_layers\":1,\"layer_types\":[\"full_attention\"]", (const int[]){0},
                  1);
}
END_TEST

START_TEST(caps) {
    vlci_text_config c = read("gemma2",
                              "\"attn_logit_softcapping\":null,\"final_logit_softcapping\":7.5,"
                              "\"query_pre_attn_scalar\":144,\"hidden_act\":\"relu\","
                              "\"hidden_activation\":\"gelu\"");
    ck_assert(c.attention_cap == 0 && c.logit_cap == 7.5f && c.query_scale == 1.0f / 12);
    ck_assert(c.act == VLCI_ACT_GELU);
    c = read("gemma", "\"final_logit_softcapping\":7.5"); /* which the class does not know */
    ck_assert(c.logit_cap == 0);
}
END_TEST

START_TEST(rotations) {
    vlci_text_config c = read("qwen2",
                              "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,"
                              "\"original_max_position_embeddings\":32768}");
    ck_assert(c.rope.kind == VLCI_ROPE_YARN && c.max_positions == 131072 && c.rope.beta_fast == 32);
    ck_assert_double_eq_tol((double)c.rope.attention_factor, 1.138629436, 1e-6); /* 0.1 ln 4 + 1 */
    c = read("llama",
             "\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"attention_factor\":1.5,"
             "\"truncate\":false,\"rope_theta\":5e5}");
    ck_assert(c.rope.attention_factor == 1.5f && c.rope.exact_range && c.rope.theta == 5e5f);
    ck_assert(c.max_positions == 4096 && c.rope.original_positions == 2048);
    c = read("llama", "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":8}");
    ck_assert(c.rope.kind == VLCI_ROPE_PLAIN && c.max_positions == 2048);
}
END_TEST

START_TEST(axes) {
    static const int32_t stretches[] = {0, 0, 1, 1, 1, 2, 2, 2}, mixed[] = {0, 1, 2, 0, 1, 2, 0, 1};
    float inv_freq[8];
    int32_t axis[8];
    vlci_rotary r = {.theta = 10000, .attention_factor = 1, .section = {2, 3, 3}};
    vlci_rotary_fill(&r, 16, inv_freq, axis);
    ck_assert_mem_eq(axis, stretches, sizeof axis);
    ck_assert(inv_freq[0] == 1.0f && inv_freq[4] == 0.01f);
    r = (vlci_rotary){.theta = 10000, .attention_factor = 1, .section = {3, 3, 2}, .interleaved = true};
    vlci_rotary_fill(&r, 16, inv_freq, axis);
    ck_assert_mem_eq(axis, mixed, sizeof axis);
    r.section[1] = 1; /* height ends early: time goes on in its places */
    vlci_rotary_fill(&r, 16, inv_freq, axis);
    ck_assert(axis[1] == 1 && axis[4] == 0 && axis[7] == 0 && axis[5] == 2);
}
END_TEST

/* ---- what is refused ----------------------------------------------------------------------------------- */

typedef struct refusal {
    const char *type, *fields;
    vlcache_status status;
    const char *why;
} refusal;

static const refusal refused[] = {
    {"mistral", "\"attention_bias\":true", VLCACHE_E_UNSUPPORTED,
     "attention_bias: true; a mistral model has no"},
    {"mistral", "\"sliding_window\":0", VLCACHE_E_FORMAT, "sliding_window"},
    {"qwen2", "\"attention_bias\":false", VLCACHE_E_UNSUPPORTED,
     "attention_bias: false; a qwen2 model has always"},
    {"qwen2", "\"mlp_bias\":true", VLCACHE_E_UNSUPPORTED, "mlp_bias: true; a qwen2 model has no"},
    {"gemma", "\"use_sliding_window\":true", VLCACHE_E_UNSUPPORTED, "use_sliding_window"},
    {"qwen2", "\"use_sliding_window\":1", VLCACHE_E_FORMAT, "use_sliding_window"},
    {"qwen2", "\"use_sliding_window\":true,\"max_window_layers\":-1", VLCACHE_E_FORMAT, "max_window_layers"},
    {"qwen2", "\"layer_types\":[\"full_attention\"]", VLCACHE_E_FORMAT, "layer_types: names 1 layers"},
    {"llama", "\"num_hidden_layers\":1,\"layer_types\":[\"linear_attention\"]", VLCACHE_E_UNSUPPORTED,
     "layer_types: \"linear_attention\""},
    {"llama", "\"num_hidden_layers\":1,\"layer_types\":[7]", VLCACHE_E_UNSUPPORTED, "layer_types"},
    {"qwen2", "\"num_hidden_layers\":1,\"layer_types\":[\"sliding_attention\"]", VLCACHE_E_FORMAT,
     "layer_types: has layers of sliding_attention"},
    {"llama", "\"layer_types\":3", VLCACHE_E_FORMAT, "layer_types"},
    {"gemma", "\"use_bidirectional_attention\":true", VLCACHE_E_UNSUPPORTED,
     "use_bidirectional_attention: true"},
    {"gemma", "\"head_dim\":15", VLCACHE_E_FORMAT, "head_dim: is 15"},
    {"gemma", "\"hidden_act\":\"relu\"", VLCACHE_E_UNSUPPORTED, "hidden_act: activation \"relu\""},
    {"qwen3", "\"num_key_value_heads\":5", VLCACHE_E_FORMAT, "num_key_value_heads: is 5"},
    {"qwen3", "\"num_attention_heads\":16", VLCACHE_E_FORMAT, "num_key_value_heads: is 32"},
    {"qwen2", "\"hidden_size\":4100", VLCACHE_E_FORMAT, "num_attention_heads"},
    {"qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"beta_fast\":1}", VLCACHE_E_FORMAT,
     "rope_scaling.beta_fast"},
    {"qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":0}", VLCACHE_E_FORMAT, "rope_scaling.factor"},
    {"qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"attention_factor\":\"1\"}",
     VLCACHE_E_FORMAT, "rope_scaling.attention_factor"},
    {"qwen2", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"truncate\":0}", VLCACHE_E_FORMAT,
     "rope_scaling.truncate"},
    {"qwen2", "\"rope_scaling\":{\"type\":\"longrope\",\"factor\":2}", VLCACHE_E_UNSUPPORTED,
     "rope_scaling.rope_type: \"longrope\""},
    {"llama", "\"rope_parameters\":{\"full_attention\":{}}", VLCACHE_E_UNSUPPORTED,
     "rope_parameters.full_attention"},
    {"llama", "\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8}", VLCACHE_E_FORMAT, "low_freq_factor"},
    {"llama", "\"rope_parameters\":{\"rope_theta\":null,\"rope_type\":7}", VLCACHE_E_FORMAT, "rope_type"},
    {"gemma2", "\"attn_logit_softcapping\":0", VLCACHE_E_FORMAT, "attn_logit_softcapping"},
    {"gemma2", "\"final_logit_softcapping\":\"30\"", VLCACHE_E_FORMAT, "final_logit_softcapping"},
    {"gemma2", "\"query_pre_attn_scalar\":-1", VLCACHE_E_FORMAT, "query_pre_attn_scalar"},
    {"gemma2", "\"hidden_activation\":\"relu\"", VLCACHE_E_UNSUPPORTED,
     "hidden_activation: activation \"relu\""},
    {"gemma2", "\"sliding_window\":0", VLCACHE_E_FORMAT, "sliding_window"},
    {"gemma3_text", "", VLCACHE_E_UNSUPPORTED, "model_type: \"gemma3_text\""},
};

START_TEST(refusals) {
    const refusal *r = &refused[_i];
    vlci_config c;
    vlcache_status status = load(r->type, r->fields, &c);
    ck_assert_msg(status == r->status && strstr(vlcache_error_message(), r->why), "%s %s: %d, %s", r->type,
                  r->fields, status, vlcache_error_message());
    ck_assert_ptr_null(c.text_model_type);
}
END_TEST

/* M-RoPE's fields, which text models alone do not have. */
START_TEST(bad_sections) {
    static const char *const bad[][2] = {
        {"\"mrope_section\":[16,24]", "mrope_section: holds 2"},
        {"\"mrope_section\":[16,24,\"24\"]", "mrope_section: entry 2"},
        {"\"mrope_section\":[0,32,32]", "mrope_section: entry 0"},
        {"\"mrope_section\":[16,24,23]", "mrope_section: comes to 63"},
        {"\"mrope_section\":64", "mrope_section"},
        {"\"mrope_interleaved\":true", "mrope_interleaved: true"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256], *said = NULL;
        vlci_text_config c;
        json_t *root;
        snprintf(text, sizeof text, "{\"rope_scaling\":{\"type\":\"mrope\",%s}}", bad[i][0]);
        ck_ok(vlci_json_parse("config.json", text, strlen(text), &root));
        vlci_scope scope = vlci_scope_of("config.json", root);
        vlcache_status status = vlci_text_config_read(&scope, "qwen2_vl_text", &c, &said);
        ck_assert_msg(status && strstr(vlcache_error_message(), bad[i][1]), "%s: %s", bad[i][0],
                      vlcache_error_message());
        json_decref(root);
        free(said);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("kinds");
    TCase *all = tcase_create("kinds");
    tcase_add_test(all, defaults);
    tcase_add_test(all, text_models_of_families);
    tcase_add_test(all, windows);
    tcase_add_test(all, caps);
    tcase_add_test(all, rotations);
    tcase_add_test(all, axes);
    tcase_add_loop_test(all, refusals, 0, sizeof refused / sizeof *refused);
    tcase_add_test(all, bad_sections);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
