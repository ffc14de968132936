/*
 * test_config.c - folders in the words of transformers 4 and 5, class defaults, and every field that must be
 * refused by name.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "checkpoint/json.h"
#include "models/families.h"
#include "models/llava.h"
#include "support/scratch.h"
#include "support/settings.h"
#include "support/suite.h"

/* What the hub's LLaVA-1.5 folder says. */
static const char hub_config[] =
    "{\"architectures\":[\"LlavaForConditionalGeneration\"],\"ignore_index\":-100,\"image_token_index\":"
    "32000,"
    "\"model_type\":\"llava\",\"pad_token_id\":32001,\"projector_hidden_act\":\"gelu\",\"text_config\":{"
    "\"_name_or_path\":\"lmsys/vicuna-7b-v1.5\",\"architectures\":[\"LlamaForCausalLM\"],"
    "\"max_position_embeddings\":4096,\"model_type\":\"llama\",\"rms_norm_eps\":1e-05,\"torch_dtype\":"
    "\"float16\","
    "\"vocab_size\":32064},\"tie_word_embeddings\":false,\"torch_dtype\":\"float16\",\"vision_config\":{"
    "\"hidden_size\":1024,\"image_size\":336,\"intermediate_size\":4096,\"model_type\":\"clip_vision_model\","
    "\"num_attention_heads\":16,\"num_hidden_layers\":24,\"patch_size\":14,\"projection_dim\":768,"
    "\"vocab_size\":32000},\"vision_feature_layer\":-2,\"vision_feature_select_strategy\":\"default\"}";
static const char hub_images[] =
    "{\"crop_size\":{\"height\":336,\"width\":336},\"do_center_crop\":true,\"do_convert_rgb\":true,"
    "\"do_normalize\":true,\"do_rescale\":true,\"do_resize\":true,\"image_mean\":[0.48145466,0.4578275,0."
    "40821073],"
    "\"image_processor_type\":\"CLIPImageProcessor\",\"image_std\":[0.26862954,0.26130258,0.27577711],"
    "\"processor_class\":\"LlavaProcessor\",\"resample\":3,\"rescale_factor\":0.00392156862745098,"
    "\"size\":{\"shortest_edge\":336}}";
static const char next_config[] =
    "{\"model_type\":\"llava_next\",\"image_token_id\":32000,\"dtype\":\"bfloat16\",\"image_grid_pinpoints\":"
    "[[336,672],[672,336]],\"text_config\":{\"model_type\":\"mistral\",\"max_position_embeddings\":32768,"
    "\"sliding_window\":null,\"vocab_size\":32064,\"rope_parameters\":{\"rope_theta\":1000000.0,\"rope_"
    "type\":"
    "\"default\"}},\"vision_config\":null}";
static const char next_images[] =
    "{\"image_processor\":{\"image_processor_type\":\"LlavaNextImageProcessorFast\",\"do_pad\":true,\"size\":"
    "336,"
    "\"crop_size\":336,\"image_grid_pinpoints\":[[336,672],[672,336]]}}";

/* What the family keeps for itself. */
static const vlci_llava *eyes_of(const vlci_config *config) {
    return config->eyes;
}

START_TEST(hub_llava) {
    vlci_config c;
    scratch_text("generation_config.json", "{\"eos_token_id\":[2,7],\"bos_token_id\":1}");
    ck_assert_msg(settings_load(hub_config, hub_images, &c) == VLCACHE_OK, "%s", vlcache_error_message());
    ck_assert_str_eq(c.family->name, "llava");
    ck_assert_int_eq(eyes_of(&c)->vision.hidden, 1024);
    ck_assert_int_eq(eyes_of(&c)->vision.head_dim, 64);
    ck_assert_int_eq(eyes_of(&c)->vision.run_layers, 23);
    ck_assert(!eyes_of(&c)->keep_class);
    ck_assert_int_eq(eyes_of(&c)->vision.act, VLCI_ACT_QUICK_GELU);
    ck_assert_int_eq(c.text.hidden, 4096);
    ck_assert_int_eq(c.text.layers, 32);
    ck_assert_int_eq(c.text.kv_heads, 32);
    ck_assert_int_eq(c.text.head_dim, 128);
    ck_assert_int_eq(c.text.intermediate, 11008);
    ck_assert_int_eq(c.text.max_positions, 4096);
    ck_assert(c.text.norm_eps == 1e-5f && c.text.rope.theta == 10000.0f);
    ck_assert_int_eq(c.text.rope.kind, VLCI_ROPE_PLAIN);
    ck_assert(!c.text.tied && !c.text.qkv_bias && !c.text.mlp_bias);
    ck_assert_int_eq(eyes_of(&c)->projector_act, VLCI_ACT_GELU);
    ck_assert(eyes_of(&c)->projector_bias);
    ck_assert_int_eq(c.image_token, 32000);
    ck_assert_int_eq(c.bos_token, 1);
    ck_assert_int_eq(c.n_eos_tokens, 2);
    ck_assert_int_eq(c.eos_tokens[1], 7);
    ck_assert_int_eq(c.dtype, VLCACHE_DTYPE_F16);
    ck_assert_str_eq(c.text_model_type, "llama");
    ck_assert_int_eq(eyes_of(&c)->processor.shortest_edge, 336);
    ck_assert_int_eq(eyes_of(&c)->processor.crop_height, 336);
    ck_assert_int_eq(eyes_of(&c)->processor.resample, 3);
    ck_assert(eyes_of(&c)->processor.mean[0] == 0.48145466f && eyes_of(&c)->processor.std[2] == 0.27577711f);
    ck_assert_ptr_null(eyes_of(&c)->pinpoints);
    vlci_config_release(&c);
    vlci_config_release(&c);
}
END_TEST

START_TEST(next_nested) {
    vlci_config c;
    scratch_text("config.json", next_config);
    scratch_text("processor_config.json", next_images);
    ck_assert_msg(vlci_config_load(scratch_folder(), &c) == VLCACHE_OK, "%s", vlcache_error_message());
    ck_assert_str_eq(c.family->name, "llava_next");
    ck_assert_int_eq(eyes_of(&c)->vision.hidden, 1024); /* LlavaNextConfig's own default tower */
    ck_assert_int_eq(eyes_of(&c)->vision.patch_size, 14);
    ck_assert_int_eq(c.text.kv_heads, 8);
    ck_assert_int_eq(c.text.intermediate, 14336);
    ck_assert_int_eq(c.text.max_positions, 32768);
    ck_assert(c.text.rope.theta == 1e6f && c.text.norm_eps == 1e-6f);
    ck_assert_int_eq(c.dtype, VLCACHE_DTYPE_BF16);
    ck_assert_int_eq(c.n_eos_tokens, 1);
    ck_assert_int_eq(c.eos_tokens[0], 2);
    ck_assert_int_eq(eyes_of(&c)->n_pinpoints, 2);
    ck_assert_int_eq(eyes_of(&c)->pinpoints[0][0], 336);
    ck_assert_int_eq(eyes_of(&c)->pinpoints[0][1], 672);
    ck_assert(!eyes_of(&c)->processor.pad_square);
    vlci_config_release(&c);
}
END_TEST

static const settings_fault llava_cases[] = {
    {'c', "model_type", "\"llava_llama\"", VLCACHE_E_UNSUPPORTED,
     "model_type: \"llava_llama\"; llava, llava_next, "},
    {'c', "model_type", "", VLCACHE_E_FORMAT, "model_type: is missing"},
    {'c', "model_type", "3", VLCACHE_E_FORMAT, "model_type: must be a string"},
    {'c', "quantization_config", "{\"bits\":4}", VLCACHE_E_UNSUPPORTED, "quantization_config"},
    {'c', "text_config", "[]", VLCACHE_E_FORMAT, "text_config: must be an object"},
    {'c', "text_config.model_type", "\"phi3\"", VLCACHE_E_UNSUPPORTED, "text_config.model_type"},
    {'c', "text_config.attention_bias", "3", VLCACHE_E_FORMAT, "text_config.attention_bias"},
    {'c', "text_config.num_hidden_layers", "0", VLCACHE_E_FORMAT, "text_config.num_hidden_layers"},
    {'c', "text_config.num_hidden_layers", "1000000", VLCACHE_E_FORMAT, "text_config.num_hidden_layers"},
    {'c', "text_config.hidden_size", "-4", VLCACHE_E_FORMAT, "text_config.hidden_size"},
    {'c', "text_config.hidden_size", "4097", VLCACHE_E_FORMAT, "text_config.num_attention_heads"},
    {'c', "text_config.hidden_size", "\"4096\"", VLCACHE_E_FORMAT,
     "text_config.hidden_size: must be an integer"},
    {'c', "text_config.num_attention_heads", "0", VLCACHE_E_FORMAT, "text_config.num_attention_heads"},
    {'c', "text_config.num_key_value_heads", "5", VLCACHE_E_FORMAT, "text_config.num_key_value_heads"},
    {'c', "text_config.head_dim", "7", VLCACHE_E_FORMAT, "text_config.head_dim"},
    {'c', "text_config.vocab_size", "99999999999", VLCACHE_E_FORMAT, "text_config.vocab_size"},
    {'c', "text_config.hidden_act", "\"relu6\"", VLCACHE_E_UNSUPPORTED, "text_config.hidden_act"},
    {'c', "text_config.rms_norm_eps", "-1", VLCACHE_E_FORMAT, "text_config.rms_norm_eps"},
    {'c', "text_config.rope_theta", "0", VLCACHE_E_FORMAT, "text_config.rope_theta"},
    {'c', "text_config.rope_parameters", "{\"rope_type\":\"proportional\"}", VLCACHE_E_UNSUPPORTED,
     "text_config.rope_parameters.rope_type: \"proportional\""},
    {'c', "text_config.rope_parameters", "{\"rope_type\":\"yarn\"}", VLCACHE_E_FORMAT,
     "text_config.rope_parameters.factor: is missing"},
    {'c', "text_config.rope_scaling", "{\"rope_type\":\"longrope\"}", VLCACHE_E_UNSUPPORTED, "\"longrope\""},
    {'c', "text_config.rope_scaling", "{\"type\":\"linear\"}", VLCACHE_E_FORMAT, "rope_scaling.factor"},
    {'c', "text_config.rope_scaling",
     "{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
     "\"high_freq_factor\":4}",
     VLCACHE_E_FORMAT, "high_freq_factor"},
    {'c', "text_config.partial_rotary_factor", "0.5", VLCACHE_E_UNSUPPORTED, "partial_rotary_factor"},
    {'c', "vision_config.model_type", "\"siglip_vision_model\"", VLCACHE_E_UNSUPPORTED,
     "vision_config.model_type"},
    {'c', "vision_config.num_hidden_layers", "0", VLCACHE_E_FORMAT, "vision_config.num_hidden_layers"},
    {'c', "vision_config.num_attention_heads", "15", VLCACHE_E_FORMAT, "vision_config.num_attention_heads"},
    {'c', "vision_config.patch_size", "0", VLCACHE_E_FORMAT, "vision_config.patch_size"},
    {'c', "vision_config.patch_size", "337", VLCACHE_E_FORMAT, "vision_config.patch_size"},
    {'c', "vision_config.image_size", "1000000", VLCACHE_E_FORMAT, "vision_config.image_size"},
    {'c', "vision_config.image_size", "[336,224]", VLCACHE_E_UNSUPPORTED, "vision_config.image_size"},
    {'c', "vision_config.num_channels", "4", VLCACHE_E_UNSUPPORTED, "vision_config.num_channels"},
    {'c', "vision_feature_layer", "[-2,-5]", VLCACHE_E_UNSUPPORTED, "vision_feature_layer"},
    {'c', "vision_feature_layer", "25", VLCACHE_E_FORMAT, "vision_feature_layer"},
    {'c', "vision_feature_layer", "-26", VLCACHE_E_FORMAT, "vision_feature_layer"},
    {'c', "vision_feature_layer", "\"last\"", VLCACHE_E_FORMAT, "vision_feature_layer"},
    {'c', "vision_feature_select_strategy", "\"cls\"", VLCACHE_E_FORMAT, "vision_feature_select_strategy"},
    {'c', "image_token_index", "32064", VLCACHE_E_FORMAT, "image_token_index"},
    {'c', "torch_dtype", "\"float8_e4m3fn\"", VLCACHE_E_UNSUPPORTED, "dtype"},
    {'c', "eos_token_id", "[]", VLCACHE_E_FORMAT, "eos_token_id"},
    {'c', "eos_token_id", "[2,-1]", VLCACHE_E_FORMAT, "eos_token_id"},
    {'i', "image_processor_type", "\"SiglipImageProcessor\"", VLCACHE_E_UNSUPPORTED, "image_processor_type"},
    {'i', "image_mean", "[0.5,0.5]", VLCACHE_E_FORMAT, "image_mean"},
    {'i', "image_std", "[0.5,0,0.5]", VLCACHE_E_FORMAT, "image_std"},
    {'i', "image_std", "[0.5,null,0.5]", VLCACHE_E_FORMAT, "image_std"},
    {'i', "size", "{\"longest_edge\":336}", VLCACHE_E_UNSUPPORTED, "size"},
    {'i', "size", "{\"height\":336}", VLCACHE_E_FORMAT, "size"},
    {'i', "size", "0", VLCACHE_E_FORMAT, "size"},
    {'i', "crop_size", "224", VLCACHE_E_FORMAT, "crop_size"},
    {'i', "resample", "9", VLCACHE_E_FORMAT, "resample"},
    {'i', "rescale_factor", "0", VLCACHE_E_FORMAT, "rescale_factor"},
    {'i', "do_center_crop", "false", VLCACHE_E_UNSUPPORTED, "do_center_crop"},
    {'i', "do_resize", "1", VLCACHE_E_FORMAT, "do_resize"},
};

START_TEST(refusals) {
    settings_refuse(hub_config, hub_images, &llava_cases[_i]);
}
END_TEST

static void check_fields(const char *file, const char *field, const char *value, const char *hint) {
    const vlcache_error *e = vlcache_last_error();
    ck_assert_ptr_nonnull(strrchr(e->file, '/'));
    ck_assert_str_eq(strrchr(e->file, '/') + 1, file);
    ck_assert_str_eq(e->field, field);
    ck_assert_str_eq(e->value, value);
    ck_assert_str_eq(e->hint, hint);
}

/* What a program can read of such a failure without its prose. */
START_TEST(error_fields) {
    vlci_scope top, inner;
    json_t *root = json_pack("{s:{s:i, s:s, s:f, s:b, s:[i]}}", "text_config", "layers", 0, "type", "gpt",
                             "eps", 0.25, "tied", 1, "list", 3);
    int number = 1;
    const char *text = "";
    float real = 0.0f;
    ck_assert_ptr_nonnull(root);
    top = vlci_scope_of("m/config.json", root);
    ck_assert_int_eq(vlci_json_object(&top, "text_config", &inner), VLCACHE_OK);
    ck_assert_int_eq(vlci_json_int(&inner, "layers", 1, 9, &number), VLCACHE_E_FORMAT);
    check_fields("config.json", "text_config.layers", "0", "must be from 1 to 9");
    ck_assert_int_eq(vlci_json_string(&inner, "tied", &text), VLCACHE_E_FORMAT);
    check_fields("config.json", "text_config.tied", "true", "must be a string");
    ck_assert_int_eq(vlci_json_float(&inner, "eps", 1, 2, &real), VLCACHE_E_FORMAT);
    check_fields("config.json", "text_config.eps", "0.25", "must be from 1 to 2");
    vlci_json_unsupported(&inner, "type", "text model \"%s\"; llama is supported", "gpt");
    check_fields("config.json", "text_config.type", "gpt", "llama is supported");
    vlci_json_bad(&inner, "list", "must hold 3 numbers");
    check_fields("config.json", "text_config.list", "", "must hold 3 numbers");
    vlci_json_bad(&inner, "none", "is missing");
    check_fields("config.json", "text_config.none", "", "is missing");
    json_decref(root);
    vlci_config c;
    ck_assert_int_eq(vlci_config_load("/nonexistent/folder", &c), VLCACHE_E_IO);
    check_fields("config.json", "", "", "");
}
END_TEST

START_TEST(pinpoints) {
    static const struct {
        const char *value, *why;
    } cases[] = {{"[]", "must hold from 1 to 64"},   {"[[336]]", "entry 0"},
                 {"[[336,672],[0,336]]", "entry 1"}, {"[[336,-336]]", "entry 0"},
                 {"[[337,336]]", "multiple of"},     {"[[3360000,336]]", "entry 0"},
                 {"[[\"336\",336]]", "entry 0"},     {"{}", "must be a list"}};
    vlci_config c;
    char *images = settings_changed("{\"size\":336,\"crop_size\":336}", "do_pad", "true");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = settings_changed(next_config, "image_grid_pinpoints", cases[i].value);
        ck_assert_int_eq(settings_load(text, images, &c), VLCACHE_E_FORMAT);
        ck_assert_msg(strstr(vlcache_error_message(), cases[i].why), "%s", vlcache_error_message());
        ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "image_grid_pinpoints"));
        ck_assert_ptr_null(c.eyes);
        free(text);
    }
    char *other = settings_changed(images, "image_grid_pinpoints", "[[336,1008]]");
    ck_assert_int_eq(settings_load(next_config, other, &c), VLCACHE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "differs"));
    free(other);
    free(images);
}
END_TEST

/* Words that mean the same, and values that are honoured. */
START_TEST(variants) {
    vlci_config c;
    char *one =
        settings_changed(hub_config, "text_config.rope_scaling", "{\"type\":\"linear\",\"factor\":2.0}");
    ck_assert_int_eq(settings_load(one, hub_images, &c), VLCACHE_OK);
    ck_assert_int_eq(c.text.rope.kind, VLCI_ROPE_LINEAR);
    ck_assert(c.text.rope.factor == 2);
    vlci_config_release(&c);
    free(one);
    one =
        settings_changed(hub_config, "text_config.rope_parameters",
                         "{\"rope_type\":\"llama3\",\"rope_theta\":500000,\"factor\":8,\"low_freq_factor\":1,"
                         "\"high_freq_factor\":4,\"original_max_position_embeddings\":2048}");
    ck_assert_int_eq(settings_load(one, hub_images, &c), VLCACHE_OK);
    ck_assert_int_eq(c.text.rope.kind, VLCI_ROPE_LLAMA3);
    ck_assert_int_eq(c.text.rope.original_positions, 2048);
    ck_assert(c.text.rope.theta == 500000 && c.text.rope.high_factor == 4);
    vlci_config_release(&c);
    free(one);
    one = settings_changed(hub_config, "vision_feature_layer", "[-1]");
    ck_assert_int_eq(settings_load(one, hub_images, &c), VLCACHE_OK);
    ck_assert_int_eq(eyes_of(&c)->vision.run_layers, 24);
    vlci_config_release(&c);
    free(one);
    one = settings_changed(hub_config, "vision_feature_layer", "0");
    ck_assert_int_eq(settings_load(one, hub_images, &c), VLCACHE_OK);
    ck_assert_int_eq(eyes_of(&c)->vision.run_layers, 0);
    vlci_config_release(&c);
    free(one);
    one = settings_changed(hub_config, "text_config.tie_word_embeddings", "true");
    ck_assert_int_eq(settings_load(one, hub_images, &c), VLCACHE_OK);
    ck_assert(c.text.tied);
    vlci_config_release(&c);
    free(one);
    one = settings_changed(next_config, "text_config.sliding_window", "4096");
    ck_assert_int_eq(settings_load(one, "{\"size\":336,\"crop_size\":336}", &c), VLCACHE_OK);
    ck_assert_int_eq(c.text.max_positions, 32768);
    ck_assert_int_eq(vlci_text_window(&c.text, 0), 4096);
    ck_assert_int_eq(vlci_text_window(&c.text, c.text.layers - 1), 4096);
    vlci_config_release(&c);
    free(one);
    char *images = settings_changed(hub_images, "image_processor_type", "\"LlavaImageProcessorFast\"");
    one = settings_changed(images, "do_pad", "true");
    ck_assert_int_eq(settings_load(hub_config, one, &c), VLCACHE_OK);
    ck_assert(eyes_of(&c)->processor.pad_square);
    ck_assert_int_eq(eyes_of(&c)->processor.background[0], 122);
    vlci_config_release(&c);
    free(one);
    free(images);
}
END_TEST

START_TEST(missing_files) {
    vlci_config c;
    ck_assert_int_eq(vlci_config_load("/nonexistent/folder", &c), VLCACHE_E_IO);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "/nonexistent/folder/config.json"));
    scratch_text("config.json", hub_config);
    ck_assert_int_eq(vlci_config_load(scratch_folder(), &c), VLCACHE_E_IO);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "preprocessor_config.json"));
    static const char *const broken[] = {"",
                                         "{",
                                         "null",
                                         "{\"a\":1,\"a\":2}",
                                         "{\"a\":1e999}",
                                         "\xff",
                                         "[[[[",
                                         "{\"text_config\":{\"x\":NaN}}"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        ck_assert_int_eq(settings_load(broken[i], hub_images, &c), VLCACHE_E_FORMAT);
        ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "config.json"));
        ck_assert_int_eq(settings_load(hub_config, broken[i], &c), VLCACHE_E_FORMAT);
        ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "preprocessor_config.json"));
    }
}
END_TEST

/* A byte order mark, and what Python writes for numbers that are none, in fields that are not used. */
START_TEST(beyond_json) {
    vlci_config c;
    char *text = malloc(sizeof hub_config + 256);
    sprintf(text,
            "\xef\xbb\xbf{\"unused\":[NaN,Infinity,-Infinity,{\"NaN\":\"Infinity \\\" NaN\"},"
            "1000000000000000019884624838656,-1234567890123456789,123456789012345678901.5,1e30],%s",
            hub_config + 1);
    ck_assert_msg(settings_load(text, hub_images, &c) == VLCACHE_OK, "%s", vlcache_error_message());
    ck_assert_int_eq(c.text.hidden, 4096);
    vlci_config_release(&c);
    static const char *const words[] = {"NaN", "Infinity", "-Infinity", "1000000000000000000",
                                        "-1000000000000000019884624838656"};
    for (int i = 0; i < 5; i++) {
        sprintf(text, "{\"multimodal_projector_bias\":%s,%s", words[i], hub_config + 1);
        ck_fails(settings_load(text, hub_images, &c), VLCACHE_E_FORMAT,
                 "multimodal_projector_bias: must be true");
        sprintf(text, "{\"rescale_factor\":%s}", words[i]);
        ck_fails(settings_load(hub_config, text, &c), VLCACHE_E_FORMAT, "rescale_factor: must be a number");
    }
    free(text);
}
END_TEST

/* Folders and files that are not what is read here, each by its name. */
START_TEST(other_folders) {
    vlci_config c;
    char path[512];
    scratch_text("ggml-model.gguf", "GGUF");
    ck_fails(vlci_config_load(scratch_folder(), &c), VLCACHE_E_IO,
             "ggml-model.gguf: GGUF files are not read");
    snprintf(path, sizeof path, "%s/ggml-model.gguf", scratch_folder());
    ck_fails(vlci_config_load(path, &c), VLCACHE_E_IO, "is a file, not a model's folder: GGUF");
    static const char *const originals[] = {"{\"model_type\":\"llava_llama\"}",
                                            "{\"model_type\":\"llava_mistral\"}",
                                            "{\"model_type\":\"llava\",\"mm_vision_tower\":\"openai/clip\"}"};
    for (int i = 0; i < 3; i++)
        ck_fails(settings_load(originals[i], hub_images, &c), VLCACHE_E_UNSUPPORTED,
                 "an original LLaVA checkpoint");
    snprintf(path, sizeof path, "%s/config.json", scratch_folder());
    ck_fails(vlci_config_load(path, &c), VLCACHE_E_IO, "is a file, not a model's folder");
    ck_fails(settings_load("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", hub_images,
                           &c),
             VLCACHE_E_FORMAT, "git lfs pull");
}
END_TEST

static long json_left;

static void *json_alloc(size_t bytes) {
    return json_left-- == 0 ? NULL : malloc(bytes);
}

/* jansson's own memory fails once, at each of its allocations in turn: it may blame the
 * text for it, but no byte of the file is lost. */
START_TEST(memory_of_jansson) {
    static const char text[] =
        "{\"a\":[1,\"x\",{\"long enough to grow \\u00e9\\ud83d\\ude00\\n\":\"a string that is longer than "
        "all that came before it, \xc3\xa9\"}]}";
    json_t *want = NULL, *got = NULL;
    ck_ok(vlci_json_parse("a file", text, sizeof text - 1, &want));
    json_set_alloc_funcs(json_alloc, free);
    int failures = 0, whole = 0;
    for (long at = 0; at < 100; at++) {
        json_left = at;
        vlcache_status status = vlci_json_parse("a file", text, sizeof text - 1, &got);
        ck_assert(!status || status == VLCACHE_E_NO_MEMORY || status == VLCACHE_E_FORMAT);
        ck_assert(status || json_equal(got, want));
        failures += status != VLCACHE_OK;
        whole += status == VLCACHE_OK;
        json_decref(got);
    }
    json_set_alloc_funcs(malloc, free);
    ck_assert_int_ge(failures, 10);
    ck_assert_int_ge(whole, 10);
    json_decref(want);
}
END_TEST

START_TEST(memory) {
    scratch_text("config.json", next_config);
    scratch_text("processor_config.json", next_images);
    bool failed = true;
    for (long at = 0; failed; at++) {
        vlci_config c;
        failing_start(at);
        vlcache_status status = vlci_config_load(scratch_folder(), &c);
        vlci_config_release(&c);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("config");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, NULL, scratch_clean);
    tcase_add_test(cases, hub_llava);
    tcase_add_test(cases, next_nested);
    tcase_add_loop_test(cases, refusals, 0, sizeof llava_cases / sizeof *llava_cases);
    tcase_add_test(cases, error_fields);
    tcase_add_test(cases, pinpoints);
    tcase_add_test(cases, variants);
    tcase_add_test(cases, missing_files);
    tcase_add_test(cases, beyond_json);
    tcase_add_test(cases, other_folders);
    tcase_add_test(cases, memory_of_jansson);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
