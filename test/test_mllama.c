/*
 * test_mllama.c - what Llama 3.2 Vision has and other families have not: canvases of tiles, settings of gates
 * and of layers of cross-attention, pictures that stand beside the prompt's rows; talks over them and what
 * VL-Cache keeps of them, against transformers.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/prompt.h"
#include "models/crossing.h"
#include "models/families.h"
#include "support/pages.h"
#include "support/rig.h"
#include "support/scratch.h"
#include "support/settings.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/told.h"
#include "vlcache/session.h"

/* ---- settings ------------------------------------------------------------------------------------------ */

/* meta-llama/Llama-3.2-11B-Vision-Instruct, as it is written on the hub. */
static const char hub[] =
    "{\"architectures\":[\"MllamaForConditionalGeneration\"],\"image_token_index\":128256,\"model_type\":"
    "\"mllama\",\"text_config\":{\"bos_token_id\":128000,\"cross_attention_layers\":[3,8,13,18,23,28,33,38],"
    "\"dropout\":0,\"eos_token_id\":[128001,128008,128009],\"hidden_act\":\"silu\",\"hidden_size\":4096,"
    "\"intermediate_size\":14336,\"max_position_embeddings\":131072,\"model_type\":\"mllama_text_model\","
    "\"num_attention_heads\":32,\"num_hidden_layers\":40,\"num_key_value_heads\":8,\"pad_token_id\":128004,"
    "\"rms_norm_eps\":1e-05,\"rope_scaling\":{\"factor\":8.0,\"high_freq_factor\":4.0,\"low_freq_factor\":"
    "1.0,\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},\"rope_theta\":500000.0,"
    "\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\",\"vocab_size\":128256},\"torch_dtype\":"
    "\"bfloat16\",\"vision_config\":{\"attention_heads\":16,\"hidden_act\":\"gelu\",\"hidden_size\":1280,"
    "\"image_size\":560,\"intermediate_layers_indices\":[3,7,15,23,30],\"intermediate_size\":5120,"
    "\"max_num_tiles\":4,\"model_type\":\"mllama_vision_model\",\"norm_eps\":1e-05,\"num_channels\":3,"
    "\"num_global_layers\":8,\"num_hidden_layers\":32,\"patch_size\":14,\"supported_aspect_ratios\":[[1,1],"
    "[1,2],[1,3],[1,4],[2,1],[2,2],[3,1],[4,1]],\"vision_output_dim\":7680}}";
static const char images[] =
    "{\"do_convert_rgb\":true,\"do_normalize\":true,\"do_pad\":true,\"do_rescale\":true,\"do_resize\":true,"
    "\"image_mean\":[0.48145466,0.4578275,0.40821073],\"image_processor_type\":\"MllamaImageProcessor\","
    "\"image_std\":[0.26862954,0.26130258,0.27577711],\"max_image_tiles\":4,\"resample\":2,"
    "\"rescale_factor\":0.00392156862745098,\"size\":{\"height\":560,\"width\":560}}";

START_TEST(hub_folder) {
    vlci_config c;
    vlcache_model_info info = {0};
    ck_ok(settings_load(hub, images, &c));
    ck_assert_str_eq(c.family->name, "mllama");
    ck_assert_int_eq(c.image_token, 128256);
    ck_assert_int_eq(c.text.crosses, 8);
    ck_assert_int_eq(vlci_text_ids(&c.text), 128264);
    for (int layer = 0; layer < 40; layer++) ck_assert(vlci_text_crosses(&c.text, layer) == (layer % 5 == 3));
    ck_assert(c.dtype == VLCACHE_DTYPE_BF16 && !c.text.tied && c.n_eos_tokens == 3);
    c.family->describe(&c, &info);
    ck_assert_int_eq(info.image_side, 560);
    ck_assert_int_eq(info.tower_layers, 40);
    vlci_config_release(&c);
}
END_TEST

static const settings_fault refused[] = {
    {'c', "vision_config.model_type", "\"clip_vision_model\"", VLCACHE_E_UNSUPPORTED,
     "mllama_vision_model is supported"},
    {'c', "vision_config.hidden_size", "0", VLCACHE_E_FORMAT, "vision_config.hidden_size"},
    {'c', "vision_config.hidden_size", "1288", VLCACHE_E_FORMAT, "vision_config.attention_heads: is 16"},
    {'c', "vision_config.hidden_size", "1296", VLCACHE_E_FORMAT, "vision_config.vision_output_dim: is 7680"},
    {'c', "vision_config.vision_output_dim", "7681", VLCACHE_E_FORMAT, "gives 7680"},
    {'c', "vision_config.attention_heads", "-1", VLCACHE_E_FORMAT, "vision_config.attention_heads"},
    {'c', "vision_config.hidden_act", "\"mish\"", VLCACHE_E_UNSUPPORTED, "vision_config.hidden_act"},
    {'c', "vision_config.image_size", "[560,561]", VLCACHE_E_UNSUPPORTED, "vision_config.image_size"},
    {'c', "vision_config.patch_size", "561", VLCACHE_E_FORMAT, "vision_config.patch_size: is 561"},
    {'c', "vision_config.num_channels", "1", VLCACHE_E_UNSUPPORTED, "vision_config.num_channels: is 1"},
    {'c', "vision_config.max_num_tiles", "0", VLCACHE_E_FORMAT, "vision_config.max_num_tiles"},
    {'c', "vision_config.max_num_tiles", "65", VLCACHE_E_FORMAT, "vision_config.max_num_tiles"},
    {'c', "vision_config.max_num_tiles", "3", VLCACHE_E_UNSUPPORTED, "vision_config.supported_aspect_ratios"},
    {'c', "vision_config.supported_aspect_ratios", "[[1,1]]", VLCACHE_E_UNSUPPORTED, "must list all shapes"},
    {'c', "vision_config.supported_aspect_ratios", "[[1,1],[2,1],[1,2],[1,3],[1,4],[2,2],[3,1],[4,1]]",
     VLCACHE_E_UNSUPPORTED, "must list all shapes"},
    {'c', "vision_config.supported_aspect_ratios", "7", VLCACHE_E_FORMAT, "must be a list"},
    {'c', "vision_config.num_global_layers", "-1", VLCACHE_E_FORMAT, "vision_config.num_global_layers"},
    {'c', "vision_config.num_hidden_layers", "30", VLCACHE_E_FORMAT, "layers from 0 to 29"},
    {'c', "vision_config.intermediate_layers_indices", "[7,3]", VLCACHE_E_FORMAT, "ascending"},
    {'c', "vision_config.intermediate_layers_indices", "[-1]", VLCACHE_E_FORMAT, "layers from 0 to 31"},
    {'c', "vision_config.norm_eps", "2", VLCACHE_E_FORMAT, "vision_config.norm_eps"},
    {'c', "vision_config", "[]", VLCACHE_E_FORMAT, "vision_config: must be an object"},
    {'c', "text_config.cross_attention_layers", "[40]", VLCACHE_E_FORMAT, "layers from 0 to 39"},
    {'c', "text_config.cross_attention_layers", "[3,3]", VLCACHE_E_FORMAT, "ascending"},
    {'c', "text_config.cross_attention_layers", "[]", VLCACHE_E_FORMAT, "names none of 40 layers"},
    {'c', "text_config.cross_attention_layers", "3", VLCACHE_E_FORMAT, "must be a list"},
    {'c', "text_config.num_attention_heads", "30", VLCACHE_E_FORMAT, "num_key_value_heads: is 8"},
    {'c', "text_config.tie_word_embeddings", "true", VLCACHE_E_UNSUPPORTED, "tie_word_embeddings: true"},
    {'c', "text_config.model_type", "\"t5\"", VLCACHE_E_UNSUPPORTED, "text_config.model_type"},
    {'c', "image_token_index", "128264", VLCACHE_E_FORMAT, "image_token_index"},
    {'c', "quantization_config", "{}", VLCACHE_E_UNSUPPORTED, "quantization_config"},
    {'i', "image_processor_type", "\"CLIPImageProcessor\"", VLCACHE_E_UNSUPPORTED, "MllamaImageProcessor"},
    {'i', "max_image_tiles", "2", VLCACHE_E_FORMAT, "max_image_tiles: is 2"},
    {'i', "max_image_tiles", "0", VLCACHE_E_FORMAT, "max_image_tiles: is 0"},
    {'i', "size", "{\"height\":448,\"width\":448}", VLCACHE_E_UNSUPPORTED, "image_size 560"},
    {'i', "size", "{\"shortest_edge\":560}", VLCACHE_E_UNSUPPORTED, "image_size 560"},
    {'i', "do_pad", "false", VLCACHE_E_UNSUPPORTED, "do_pad: only true"},
    {'i', "do_resize", "false", VLCACHE_E_UNSUPPORTED, "do_resize: only true"},
    {'i', "do_center_crop", "true", VLCACHE_E_UNSUPPORTED, "do_center_crop: only false"},
    {'i', "resample", "7", VLCACHE_E_FORMAT, "resample"},
    {'i', "image_std", "[0.5,0,0.5]", VLCACHE_E_FORMAT, "image_std"},
};

START_TEST(refusals) {
    settings_refuse(hub, images, &refused[_i]);
}
END_TEST

/* What files leave out, and words that mean the same. */
START_TEST(spellings) {
    vlci_config c;
    static const char *const absent[] = {"vision_config.supported_aspect_ratios",
                                         "vision_config.vision_output_dim",
                                         "vision_config.intermediate_layers_indices", "image_token_index",
                                         "text_config.cross_attention_layers"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        char *config = settings_changed(hub, absent[i], "");
        ck_ok(settings_load(config, images, &c));
        ck_assert(c.image_token == 128256 && c.text.crosses == 8);
        vlci_config_release(&c);
        free(config);
    }
    char *fast = settings_changed(images, "image_processor_type", "\"MllamaImageProcessorFast\"");
    ck_ok(settings_load(hub, fast, &c));
    vlci_config_release(&c);
    free(fast);
    char *few = settings_changed(hub, "text_config.num_hidden_layers", "38"),
         *none = settings_changed(few, "text_config.cross_attention_layers", "");
    ck_fails(settings_load(none, images, &c), VLCACHE_E_FORMAT, "cross_attention_layers: is missing");
    free(few);
    free(none);
}
END_TEST

/* By transformers' get_optimal_tiled_canvas() and get_image_size_fit_to_canvas(). */
static const struct {
    int side, tiles, width, height, rows, columns, shape, to_width, to_height;
} canvases[] = {
    {560, 4, 640, 480, 1, 2, 2, 640, 480},   {560, 4, 1920, 1080, 2, 2, 6, 1120, 630},
    {560, 4, 560, 560, 1, 1, 1, 560, 560},   {560, 4, 47, 211, 1, 1, 1, 124, 560},
    {560, 4, 1, 1, 1, 1, 1, 560, 560},       {560, 4, 4000, 30, 1, 4, 4, 2240, 16},
    {560, 4, 30, 4000, 4, 1, 8, 16, 2240},   {560, 4, 3024, 4032, 2, 2, 6, 840, 1120},
    {560, 4, 1000, 999, 2, 2, 6, 1000, 999}, {560, 4, 65535, 2, 1, 4, 4, 2240, 1},
    {560, 4, 777, 2331, 3, 1, 7, 560, 1680}, {560, 4, 1120, 1120, 2, 2, 6, 1120, 1120},
    {560, 4, 561, 560, 1, 2, 2, 561, 560},   {560, 4, 2240, 560, 1, 4, 4, 2240, 560},
    {560, 4, 560, 1680, 3, 1, 7, 560, 1680}, {28, 2, 640, 480, 1, 2, 2, 37, 28},
    {28, 2, 1920, 1080, 1, 2, 2, 49, 28},    {28, 2, 560, 560, 1, 1, 1, 28, 28},
    {28, 2, 47, 211, 2, 1, 3, 12, 56},       {28, 2, 1, 1, 1, 1, 1, 28, 28},
    {28, 2, 4000, 30, 1, 2, 2, 56, 1},       {28, 2, 30, 4000, 2, 1, 3, 1, 56},
    {28, 2, 3024, 4032, 2, 1, 3, 28, 37},    {28, 2, 1000, 999, 1, 2, 2, 28, 28},
    {28, 2, 65535, 2, 1, 2, 2, 56, 1},       {28, 2, 777, 2331, 2, 1, 3, 18, 56},
    {28, 2, 1120, 1120, 1, 1, 1, 28, 28},    {28, 2, 561, 560, 1, 2, 2, 28, 28},
    {28, 2, 2240, 560, 1, 2, 2, 56, 14},     {28, 2, 560, 1680, 2, 1, 3, 18, 56},
    {100, 6, 640, 480, 2, 3, 9, 266, 200},   {100, 6, 1920, 1080, 2, 3, 9, 300, 168},
    {100, 6, 560, 560, 2, 2, 8, 200, 200},   {100, 6, 47, 211, 3, 1, 10, 47, 211},
    {100, 6, 1, 1, 1, 1, 1, 100, 100},       {100, 6, 4000, 30, 1, 6, 6, 600, 4},
    {100, 6, 30, 4000, 6, 1, 14, 4, 600},    {100, 6, 3024, 4032, 3, 2, 11, 200, 266},
    {100, 6, 1000, 999, 2, 3, 9, 200, 200},  {100, 6, 65535, 2, 1, 6, 6, 600, 1},
    {100, 6, 777, 2331, 3, 1, 10, 100, 300}, {100, 6, 1120, 1120, 2, 2, 8, 200, 200},
    {100, 6, 561, 560, 2, 3, 9, 200, 200},   {100, 6, 2240, 560, 1, 4, 4, 400, 100},
    {100, 6, 560, 1680, 3, 1, 10, 100, 300},
};

static float smaller(double a, int b) {
    return a < b ? (float)a : (float)b;
}

/* A cell tells how a picture was scaled. */
START_TEST(canvases_of_pictures) {
    for (size_t i = 0; i < sizeof canvases / sizeof *canvases; i++) {
        vlci_config c;
        vlci_picture_layout l;
        char text[64], shapes[2048] = "[", *config = settings_changed(hub, "vision_config.patch_size", "14"),
                       *next;
        int side = canvases[i].side, most = canvases[i].tiles, patch = side % 14 ? 20 : 14;
        for (int rows = 1; rows <= most; rows++)
            for (int columns = 1; columns <= most / rows; columns++)
                snprintf(shapes + strlen(shapes), sizeof shapes - strlen(shapes), "%s[%d,%d]",
                         strlen(shapes) > 1 ? "," : "", rows, columns);
        strcat(shapes, "]");
        const char *const fields[] = {"vision_config.image_size", "vision_config.patch_size",
                                      "vision_config.max_num_tiles"};
        const int values[] = {side, patch, most};
        for (int k = 0; k < 3; k++) {
            snprintf(text, sizeof text, "%d", values[k]);
            next = settings_changed(config, fields[k], text);
            free(config);
            config = next;
        }
        next = settings_changed(config, "vision_config.supported_aspect_ratios", shapes);
        snprintf(text, sizeof text, "{\"max_image_tiles\":%d,\"size\":{\"height\":%d,\"width\":%d}}", most,
                 side, side);
        ck_ok(settings_load(next, text, &c));
        free(config);
        free(next);
        int width = canvases[i].width, height = canvases[i].height,
            per_tile = side / patch * (side / patch) + 1;
        ck_ok(c.family->layout(&c, width, height, &l));
        ck_assert_int_eq(l.tiles, canvases[i].rows * canvases[i].columns);
        ck_assert_int_eq(l.source[0], canvases[i].shape);
        ck_assert(l.aside && l.n == 1 && l.entry[0] == 128256);
        ck_assert_int_eq(l.n_tokens, l.tiles * per_tile);
        ck_assert_int_eq(l.n_tokens + l.n_unseen, most * per_tile);
        ck_assert(l.cell[0][2] == 0 && l.cell[0][3] == 0); /* a class token */
        ck_assert_float_eq_tol(l.cell[1][2], smaller((double)patch * width / canvases[i].to_width, width),
                               1e-3f);
        ck_assert_float_eq_tol(l.cell[1][3], smaller((double)patch * height / canvases[i].to_height, height),
                               1e-3f);
        vlci_picture_layout_release(&l);
        vlci_config_release(&c);
    }
}
END_TEST

START_TEST(memory_of_settings) {
    settings_in_short_memory(hub, images);
}
END_TEST

/* ---- models -------------------------------------------------------------------------------------------- */

enum { STEPS = 12 };

static const char folder[] = "mllama-hub";

/* ---- prompts ------------------------------------------------------------------------------------------- */

/* What the template makes of a question and a picture is what transformers' processor makes of it. */
START_TEST(template) {
    told t;
    vlci_prompt prompt;
    told_open(&t, folder, "wide", 1);
    const tap *want = taps_find(&t.taps, "prompt.ids");
    const vlci_turn turn = {.chat = t.model->chat, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.text = "What is shown in this picture?";
    asked.images = (const vlcache_image *const *)t.image;
    asked.n_images = 1;
    ck_ok(vlci_prompt_create(t.model, &asked, &turn, &prompt));
    ck_assert_uint_eq((size_t)prompt.n, want->n);
    ck_assert_mem_eq(prompt.ids, want->i32, want->n * sizeof *want->i32);
    ck_assert_int_eq(prompt.n_sights, 2);
    ck_assert_int_eq(prompt.sights[0].until, prompt.picture[0].row);
    ck_assert_int_eq(prompt.sighted, prompt.visual);
    for (int i = 0; i < prompt.visual; i++) ck_assert_int_eq(prompt.where[i].position, i);
    vlci_prompt_release(&prompt);
    told_close(&t);
}
END_TEST

/* Rows of a layer's heads, new memory: [kv_heads][rows][2 * head_dim], keys and values. */
static float *rows_of(const vlci_kv *kv, int layer, int rows) {
    const vlci_kv_shape *shape = &kv->pool->shape;
    size_t n = (size_t)rows * (size_t)shape->head_dim;
    float *all = malloc(2 * n * (size_t)shape->kv_heads * sizeof *all);
    for (int h = 0; h < shape->kv_heads; h++) {
        float *k = all + 2 * n * (size_t)h;
        ck_assert_int_eq(pages_read(kv, layer, h, k, k + n, NULL), rows);
    }
    return all;
}

/* A picture's keys and values are the same however many rows go at a time, in whatever room. */
START_TEST(parts_of_pictures) {
    enum { LAYER = 1, AT_ONCE = 7 };
    told t;
    rig r;
    vlci_prompt prompt;
    vlcache_timings timings = {0};
    cl_mem features = NULL;
    told_open(&t, folder, "wide", 1);
    const vlci_turn turn = {.chat = t.model->chat, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.text = "Why?";
    asked.images = (const vlcache_image *const *)t.image;
    asked.n_images = 1;
    ck_ok(vlci_prompt_create(t.model, &asked, &turn, &prompt));
    ck_ok(vlci_prompt_look(t.model, &asked, &prompt, NULL, NULL, &timings, &features));
    rig_create(&r, t.model, NULL);
    rig_begin_prompt(&r, &prompt, features);
    while (rig_layer(&r)) continue;
    float *whole = rows_of(&r.kv, LAYER, prompt.sighted);
    const cl_int zeros[AT_ONCE] = {0};
    vlci_crossing_rows rows = {.features = features,
                               .n = prompt.sighted,
                               .until = prompt.sighted,
                               .at_once = AT_ONCE,
                               .row_sequence = suite_upload(zeros, sizeof zeros),
                               .seq_start = suite_upload(zeros, 2 * sizeof *zeros)};
    ck_ok(vlci_kv_refill(&r.kv, LAYER, prompt.sighted));
    ck_ok(vlci_kv_pool_sync(&r.shared.pool));
    rows.kv = vlci_kv_layer(&r.kv, LAYER);
    rows.kv.slots = suite_upload(&r.kv.slot, sizeof r.kv.slot);
    ck_ok(vlci_crossing_append(&r.shared.text, LAYER, &rows));
    float *parts = rows_of(&r.kv, LAYER, prompt.sighted);
    size_t n =
        (size_t)prompt.sighted * (size_t)(2 * t.model->config.text.kv_heads * t.model->config.text.head_dim);
    for (size_t i = 0; i < n; i++) ck_assert_float_eq_tol(parts[i], whole[i], 1e-5f);
    cl_mem memory[] = {rows.row_sequence, rows.seq_start, rows.kv.slots, features};
    for (int i = 0; i < 4; i++) suite_release(memory[i]);
    free(whole);
    free(parts);
    rig_release(&r);
    vlci_prompt_release(&prompt);
    told_close(&t);
}
END_TEST

/* A model of the folder's geometry answers ids; the mark has no id that may be given. */
START_TEST(random_weights) {
    char path[600];
    vlcache_model *model = NULL;
    vlcache_session *session = NULL;
    vlcache_image *image = NULL;
    const vlcache_answer *a = NULL;
    int32_t ids[] = {1, VLCACHE_TOKEN_IMAGE, 2, 3};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = VLCACHE_DTYPE_F32;
    snprintf(path, sizeof path, "%s/models/mllama-hub/config.json", VLCACHE_TEST_DATA);
    json_t *config = json_load_file(path, 0, NULL);
    json_object_set_new(config, "image_processor",
                        json_pack("{s:{s:i,s:i}}", "size", "height", 28, "width", 28));
    char *text = json_dumps(config, 0);
    ck_ok(vlcache_model_create_random(suite_device(), text, &options, &model));
    json_decref(config);
    free(text);
    ck_ok(vlcache_session_create(model, NULL, &session));
    snprintf(path, sizeof path, "%s/models/%s/golden/tall.0.png", VLCACHE_TEST_DATA, folder);
    ck_ok(vlcache_image_load(path, &image));
    const vlcache_image *const pictures[] = {image};
    prompt.tokens = ids;
    prompt.n_tokens = 4;
    prompt.images = pictures;
    prompt.n_images = 1;
    generate.max_tokens = 5;
    ck_ok(vlcache_session_ask(session, &prompt, &generate, &a));
    ck_assert(a->n_tokens == 5 && a->visual_tokens == 4 * 17 && a->prompt_tokens == 4);
    ck_assert(a->compressed && a->compress.tau == 2);
    ids[2] = model->config.text.vocab;
    ck_fails(vlcache_session_ask(session, &prompt, &generate, &a), VLCACHE_E_ARGUMENT, "tokens[2]: is 307");
    vlcache_image_destroy(&image);
    vlcache_session_destroy(&session);
    vlcache_model_destroy(&model);
}
END_TEST

/* ---- talks --------------------------------------------------------------------------------------------- */

/* Three turns; from the second on beside a fork and a conversation that never sees a picture, all in one
 * batch. */
static void run_talk(const told *t, const char *name, const char *policy, uint64_t bytes) {
    vlcache_engine *engine = told_engine(t, bytes);
    vlcache_sequence *s = told_add(engine, policy, 1), *fork = NULL, *blind = told_add(engine, policy, 1);
    const json_t *turns = json_object_get(t->more, name), *late = json_object_get(t->more, "late");
    int at = 0, length = 0;
    for (size_t k = 0; k < json_array_size(turns); k++) {
        const json_t *turn = json_array_get(turns, k);
        const tap *ids = taps_findf(&t->taps, "talk.%d.ids", (int)k);
        const tap *tokens = taps_findf(&t->taps, "talk.%d.tokens", (int)k);
        if (k == 1) {
            ck_ok(vlcache_sequence_fork(s, &fork));
            told_cancel(t, engine, s, turn, at);
        }
        if (fork) told_queue(t, fork, turn, at, (int)tokens->n);
        if (k == 0) told_queue(t, blind, json_array_get(late, 0), 0, 2 * STEPS);
        at = told_queue(t, s, turn, at, (int)tokens->n);
        talk_finish(engine);
        length += (int)ids->n + (int)tokens->n;
        const vlcache_answer *a = told_tokens(name, s, tokens);
        ck_assert_uint_eq((size_t)a->prompt_tokens, ids->n + (k > 0)); /* and the last of the answer before */
        ck_assert_int_eq(a->context_tokens, length);
        if (fork) told_tokens("fork", fork, tokens);
    }
    vlcache_sequence_destroy(&fork);
    vlcache_sequence_destroy(&blind);
    vlcache_sequence_destroy(&s);
    vlcache_engine_memory memory;
    vlcache_engine_memory_of(engine, &memory);
    ck_assert_uint_eq(memory.held, 0);
    vlcache_engine_destroy(&engine);
}

START_TEST(talks) {
    static const struct {
        const char *name;
        int images;
    } all[] = {{"talk", 2}, {"late", 2}};
    told t;
    told_open(&t, folder, all[_i].name, all[_i].images);
    run_talk(&t, all[_i].name, "full", 0);
    run_talk(&t, all[_i].name, "full", 1 << 21);
    run_talk(&t, all[_i].name, "vlcache", 0);
    told_close(&t);
}
END_TEST

/* An answer without pictures is the same beside one that has them; the fork of a compressed picture answers
 * alike, and what was compressed is not compressed again by a turn of text. */
START_TEST(forks_of_compressed_pictures) {
    told t;
    told_open(&t, folder, "talk", 2);
    vlcache_engine *engine = told_engine(&t, 0);
    vlcache_sequence *s = told_add(engine, "vlcache", 0.3), *fork = NULL;
    const json_t *turns = json_object_get(t.more, "talk");
    const vlcache_answer *a = NULL, *b = NULL;
    told_queue(&t, s, json_array_get(turns, 0), 0, STEPS);
    talk_finish(engine);
    ck_ok(vlcache_sequence_answer(s, &a));
    ck_assert(a->compressed && a->compress.layers == 2);
    ck_assert_int_eq(a->compress.tokens, a->visual_tokens);
    ck_ok(vlcache_sequence_fork(s, &fork));
    for (int k = 1; k < 3; k++) {
        told_queue(&t, s, json_array_get(turns, (size_t)k), 1, STEPS);
        told_queue(&t, fork, json_array_get(turns, (size_t)k), 1, STEPS);
        talk_finish(engine);
        ck_ok(vlcache_sequence_answer(s, &a));
        ck_ok(vlcache_sequence_answer(fork, &b));
        ck_assert(a->compressed == (k == 2));
        talk_same(a, b);
    }
    vlcache_engine_destroy(&engine);
    told_close(&t);
}
END_TEST

/* ---- VL-Cache ------------------------------------------------------------------------------------------ */

START_TEST(kept_sets) {
    told t;
    told_open(&t, folder, "kept", 1);
    told_kept_sets(&t, t.model->config.text.crosses);
    told_close(&t);
}
END_TEST

/* All but the one that goes by what is recent, which is refused by name, as coded rows are; "vlcache+" is
 * what stands for it where rows cannot be coded. */
START_TEST(policies) {
    told t;
    const json_t *entry;
    told_open(&t, folder, "kept", 1);
    entry = json_object_get(t.more, "kept");
    vlcache_engine *engine = told_engine(&t, 0);
    for (int i = 0; vlcache_policy_name(i); i++) {
        const char *policy = vlcache_policy_name(i);
        const vlcache_answer *a = NULL;
        vlcache_sequence *s = NULL;
        vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
        vlcache_sequence_options options = VLCACHE_SEQUENCE_OPTIONS_INIT;
        compress.policy = policy;
        compress.budget = 0.3;
        options.compress = &compress;
        const char *comes_to = strcmp(policy, "vlcache+") == 0 ? "centroids" : policy;
        ck_assert_str_eq(vlcache_policy_of(t.model, &compress), comes_to);
        if (strcmp(policy, "vlcache+") == 0) {
            ck_ok(vlcache_compress_set(&compress, "storage", "coded"));
            ck_fails(vlcache_engine_add(engine, &options, &s), VLCACHE_E_UNSUPPORTED,
                     "layers of cross-attention");
            ck_ok(vlcache_compress_set(&compress, "storage", NULL));
        }
        if (strcmp(policy, "streamingllm") == 0) {
            ck_fails(vlcache_engine_add(engine, &options, &s), VLCACHE_E_UNSUPPORTED,
                     "layers of cross-attention");
            continue;
        }
        ck_ok(vlcache_engine_add(engine, &options, &s));
        told_queue(&t, s, entry, 0, 8);
        talk_finish(engine);
        ck_ok(vlcache_sequence_answer(s, &a));
        double most = strcmp(policy, "full") == 0 ? 1 : 0.33;
        ck_assert_msg(a->compress.budget_kept <= most && a->compress.budget_kept >= 0.25, "%s: %g", policy,
                      a->compress.budget_kept);
        ck_assert_int_eq(a->compress.layers, 2);
        vlcache_sequence_destroy(&s);
    }
    vlcache_engine_destroy(&engine);
    told_close(&t);
}
END_TEST

static bool count_variant(void *user, size_t variant, const vlcache_answer *a) {
    told *t = user;
    const tap *tokens = taps_find(&t->taps, "vlcache.40.tokens");
    ck_assert_int_eq(a->compress.layers, 2);
    ck_assert_int_eq(a->compress.tokens, a->visual_tokens);
    if (variant == 1) ck_assert_mem_eq(a->tokens, tokens->i32, (size_t)a->n_tokens * sizeof *a->tokens);
    t->n_images = (int)variant + 2; /* told_open()'s picture, and a variant each */
    return true;
}

/* Variants over one reading answer as each alone does; a later turn does not know of them. */
START_TEST(comparisons) {
    told t;
    vlcache_session *session = NULL;
    const vlcache_answer *a = NULL;
    vlcache_compress_options variants[2] = {VLCACHE_COMPRESS_OPTIONS_INIT, VLCACHE_COMPRESS_OPTIONS_INIT};
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    told_open(&t, folder, "kept", 1);
    prompt.text = json_string_value(json_object_get(json_object_get(t.more, "kept"), "prompt"));
    prompt.raw = true;
    prompt.images = (const vlcache_image *const *)t.image;
    prompt.n_images = 1;
    generate.max_tokens = 24;
    generate.min_tokens = 24;
    variants[0].policy = "full";
    variants[1].policy = "vlcache";
    variants[1].budget = 0.4;
    ck_ok(vlcache_session_create(t.model, NULL, &session));
    ck_ok(vlcache_session_compare(session, &prompt, &generate, variants, 2, count_variant, &t));
    ck_assert_int_eq(t.n_images, 3);
    t.n_images = 1;
    generate.probe = true;
    ck_fails(vlcache_session_compare(session, &prompt, &generate, variants, 2, count_variant, &t),
             VLCACHE_E_UNSUPPORTED, "probe: is true");
    generate.probe = false;
    prompt = (vlcache_prompt)VLCACHE_PROMPT_INIT;
    prompt.text = "Hello?";
    ck_ok(vlcache_session_ask(session, &prompt, &generate, &a)); /* without a picture: none is left */
    ck_assert(!a->compressed && a->visual_tokens == 0 && a->context_tokens == a->prompt_tokens + 24);
    vlcache_session_destroy(&session);
    told_close(&t);
}
END_TEST

/* ---- memory that fails --------------------------------------------------------------------------------- */

/* Whatever allocation of the host fails while a prompt is laid out, nothing leaks. */
START_TEST(memory_of_prompts) {
    told t;
    bool failed = true;
    told_open(&t, folder, "late", 2);
    const json_t *turn = json_array_get(json_object_get(t.more, "late"), 1);
    const vlci_turn place = {.chat = t.model->chat, .open = -1};
    vlcache_prompt asked = VLCACHE_PROMPT_INIT;
    asked.text = json_string_value(json_object_get(turn, "prompt"));
    asked.raw = true;
    asked.images = (const vlcache_image *const *)t.image;
    asked.n_images = 2;
    for (long at = 0; failed; at++) {
        vlci_prompt prompt;
        failing_start(at);
        vlcache_status status = vlci_prompt_create(t.model, &asked, &place, &prompt);
        if (!status) {
            ck_assert_int_eq(prompt.n_sights, 3);
            ck_assert_int_eq(prompt.sights[2].first, 0);
            ck_assert_int_eq(prompt.sights[2].n, 2);
            vlci_prompt_release(&prompt);
        }
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
    told_close(&t);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("mllama");
    TCase *host = tcase_create("host"), *device = tcase_create("device");
    tcase_add_checked_fixture(host, NULL, scratch_clean);
    tcase_add_test(host, hub_folder);
    tcase_add_loop_test(host, refusals, 0, sizeof refused / sizeof *refused);
    tcase_add_test(host, spellings);
    tcase_add_test(host, canvases_of_pictures);
    tcase_add_test(host, memory_of_settings);
    suite_add_tcase(suite, host);
    suite_balance(device);
    tcase_add_test(device, template);
    tcase_add_test(device, parts_of_pictures);
    tcase_add_test(device, random_weights);
    tcase_add_loop_test(device, talks, 0, 2);
    tcase_add_test(device, forks_of_compressed_pictures);
    tcase_add_test(device, kept_sets);
    tcase_add_test(device, policies);
    tcase_add_test(device, comparisons);
    tcase_add_test(device, memory_of_prompts);
    suite_add_tcase(suite, device);
    return suite_run(suite);
}
