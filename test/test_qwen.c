/*
 * test_qwen.c - what Qwen-VL has and other families have not: pictures of any size, orders of patches, towers
 * that go in parts and see several frames, positions that stay behind the rows; talks over them and what
 * VL-Cache keeps of them, against transformers.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "models/model.h"
#include "models/qwen_vl.h"
#include "support/scratch.h"
#include "support/settings.h"
#include "support/suite.h"
#include "support/talk.h"
#include "support/told.h"
#include "vlcache/engine.h"

/* ---- sizes --------------------------------------------------------------------------------------------- */

/* By transformers' smart_resize(). */
static const struct {
    int width, height;
    vlci_area area;
    int to_width, to_height;
} sizes[] = {
    {1, 1, {28, 3136, 1003520}, 56, 56},
    {47, 211, {28, 3136, 12845056}, 56, 224},
    {4000, 30, {28, 3136, 1003520}, 4004, 28},
    {30, 4000, {32, 65536, 16777216}, 32, 4000},
    {42, 42, {28, 1, 1003520}, 56, 56},
    {70, 70, {28, 1, 1003520}, 56, 56},
    {98, 14, {28, 1, 100000}, 28, 28},
    {14, 98, {28, 784, 100000}, 28, 84},
    {13, 13, {28, 784, 100000}, 28, 28},
    {1920, 1080, {28, 3136, 1003520}, 1316, 728},
    {1920, 1080, {32, 65536, 16777216}, 1920, 1088},
    {8000, 8000, {28, 3136, 12845056}, 3584, 3584},
    {65535, 400, {28, 3136, 12845056}, 45864, 280},
    {400, 65535, {28, 3136, 12845056}, 280, 45864},
    {200, 1, {28, 3136, 1003520}, 812, 28},
    {1, 200, {32, 65536, 16777216}, 32, 3648},
    {56, 56, {28, 3136, 3136}, 56, 56},
    {57, 57, {28, 3136, 3136}, 56, 56},
    {84, 57, {28, 3136, 3136}, 56, 28},
    {5, 900, {8, 256, 1920}, 8, 584},
    {900, 5, {8, 256, 1920}, 584, 8},
    {333, 777, {28, 200704, 1003520}, 336, 784},
    {640, 480, {28, 200704, 1003520}, 644, 476},
    {28, 28, {28, 784, 784}, 28, 28},
    {29, 27, {28, 784, 784}, 28, 28},
    {1000, 1000, {28, 1, 784}, 28, 28},
    {3, 2, {28, 268435456, 268435456}, 20076, 13384},
    {1024, 768, {28, 262144, 524288}, 812, 616},
    {224, 224, {56, 3136, 1003520}, 224, 224},
    {100, 140, {40, 1, 268435456}, 80, 160},
};

START_TEST(sizes_that_fit) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int width = 0, height = 0;
        ck_ok(vlci_area_fit(&sizes[i].area, sizes[i].width, sizes[i].height, &width, &height));
        ck_assert_msg(width == sizes[i].to_width && height == sizes[i].to_height,
                      "%d x %d becomes %d x %d, not %d x %d", sizes[i].width, sizes[i].height, width, height,
                      sizes[i].to_width, sizes[i].to_height);
    }
}
END_TEST

START_TEST(sizes_that_do_not) {
    const vlci_area usual = {28, 3136, 1003520}, huge = {28, VLCI_AREA_MAX, VLCI_AREA_MAX};
    int width, height;
    ck_fails(vlci_area_fit(&usual, 201, 1, &width, &height), VLCACHE_E_ARGUMENT, "201 x 1 pixels: one side");
    ck_fails(vlci_area_fit(&usual, 3, 601, &width, &height), VLCACHE_E_ARGUMENT, "more than 200 times");
    ck_fails(vlci_area_fit(&huge, 1, 200, &width, &height), VLCACHE_E_UNSUPPORTED, "sides must be at most");
}
END_TEST

/* ---- orders -------------------------------------------------------------------------------------------- */

/* A patch and what it is sorted by: step, window's row and column, block's, its own. */
typedef struct patch {
    int key[7], place[3];
} patch;

static int by_key(const void *a, const void *b) {
    const patch *x = a, *y = b;
    for (int i = 0; i < 7; i++)
        if (x->key[i] != y->key[i]) return x->key[i] - y->key[i];
    return 0;
}

static patch *sorted(const vlci_qwen_grid *g, int n) {
    patch *all = malloc((size_t)n * sizeof *all);
    for (int i = 0; i < n; i++) {
        int step = i / (g->rows * g->columns), y = i / g->columns % g->rows, x = i % g->columns;
        int side = g->merge * (g->window ? g->window : 1 << 20);
        all[i] = (patch){{step, y / side, x / side, y / g->merge, x / g->merge, y, x}, {step, y, x}};
    }
    qsort(all, (size_t)n, sizeof *all, by_key);
    return all;
}

/* Where step or window changes, another sequence begins. */
static void check_starts(const patch *all, int n, int keys, const int32_t *start, int most) {
    int at = 0;
    for (int i = 0; i < n; i++)
        if (i == 0 || memcmp(all[i].key, all[i - 1].key, (size_t)keys * sizeof(int)) != 0) {
            ck_assert_int_eq(start[at++], i);
            if (at > 1) ck_assert_int_le(i - start[at - 2], most);
        }
    ck_assert_int_eq(start[at], n);
}

START_TEST(orders) {
    static const vlci_qwen_grid grids[] = {{1, 2, 2, 2, 0},  {1, 6, 10, 2, 0}, {2, 4, 6, 2, 0},
                                           {1, 16, 8, 2, 4}, {1, 18, 2, 2, 4}, {3, 10, 14, 2, 3},
                                           {1, 2, 30, 2, 4}, {2, 9, 6, 3, 2},  {1, 5, 4, 1, 2}};
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
        const vlci_qwen_grid *g = &grids[i];
        vlci_qwen_order o;
        int n = g->steps * g->rows * g->columns, block = g->merge * g->merge;
        ck_ok(vlci_qwen_order_create(g, &o));
        ck_assert_int_eq(o.n, n);
        ck_assert_int_eq(o.tokens, n / block);
        patch *all = sorted(g, n);
        for (int r = 0; r < n; r++) ck_assert_mem_eq(o.place[r], all[r].place, sizeof all[r].place);
        for (int t = 0; t < o.tokens; t++) { /* its first patch stands where the token does */
            int columns = g->columns / g->merge, rows = g->rows / g->merge;
            const int32_t *place = o.place[o.block[t] * block];
            ck_assert_int_eq(place[0], t / (rows * columns));
            ck_assert_int_eq(place[1], t / columns % rows * g->merge);
            ck_assert_int_eq(place[2], t % columns * g->merge);
        }
        check_starts(all, n, 1, o.step, n / g->steps);
        ck_assert((o.window != NULL) == (g->window > 0));
        if (o.window) check_starts(all, n, 3, o.window, o.longest);
        free(all);
        vlci_qwen_order_release(&o);
        vlci_qwen_order_release(&o);
    }
}
END_TEST

/* ---- settings ------------------------------------------------------------------------------------------ */

/* Hub folders of their time; text sizes are the classes' own. */
static const char hub2[] =
    "{\"architectures\":[\"Qwen2VLForConditionalGeneration\"],\"bos_token_id\":151643,\"eos_token_id\":"
    "151645,"
    "\"vision_start_token_id\":151652,\"image_token_id\":151655,\"hidden_size\":1536,\"num_attention_heads\":"
    "12,"
    "\"num_key_value_heads\":2,\"num_hidden_layers\":28,\"intermediate_size\":8960,\"model_type\":\"qwen2_"
    "vl\","
    "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,\"sliding_window\":32768,\"use_sliding_window\":false,"
    "\"max_window_layers\":28,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"vision_config\":{"
    "\"depth\":32,\"embed_dim\":1280,\"mlp_ratio\":4,\"num_heads\":16,\"in_chans\":3,\"hidden_size\":1536,"
    "\"patch_size\":14,\"spatial_merge_size\":2,\"spatial_patch_size\":14,\"temporal_patch_size\":2},"
    "\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[16,24,24]},\"vocab_size\":151936}";
static const char hub2_5[] =
    "{\"bos_token_id\":151643,\"eos_token_id\":151645,\"image_token_id\":151655,\"hidden_size\":2048,"
    "\"intermediate_size\":11008,\"max_window_layers\":70,\"model_type\":\"qwen2_5_vl\",\"num_attention_"
    "heads\":16,"
    "\"num_hidden_layers\":36,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,"
    "\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\",\"vision_config\":{\"depth\":32,\"hidden_"
    "act\":"
    "\"silu\",\"hidden_size\":1280,\"intermediate_size\":3420,\"num_heads\":16,\"in_chans\":3,\"out_hidden_"
    "size\":"
    "2048,\"patch_size\":14,\"spatial_merge_size\":2,\"spatial_patch_size\":14,\"window_size\":112,"
    "\"fullatt_block_indexes\":[7,15,23,31],\"tokens_per_second\":2,\"temporal_patch_size\":2},\"rope_"
    "scaling\":{"
    "\"type\":\"mrope\",\"mrope_section\":[16,24,24]},\"vocab_size\":151936}";
static const char images2[] =
    "{\"min_pixels\":3136,\"max_pixels\":12845056,\"patch_size\":14,\"temporal_patch_size\":2,\"merge_size\":"
    "2,"
    "\"image_mean\":[0.48145466,0.4578275,0.40821073],\"image_std\":[0.26862954,0.26130258,0.27577711],"
    "\"image_processor_type\":\"Qwen2VLImageProcessor\",\"processor_class\":\"Qwen2VLProcessor\"}";
static const char hub3[] =
    "{\"image_token_id\":151655,\"model_type\":\"qwen3_vl\",\"text_config\":{\"bos_token_id\":151643,"
    "\"eos_token_id\":151645,\"dtype\":\"bfloat16\",\"head_dim\":128,\"hidden_size\":2560,\"intermediate_"
    "size\":9728,"
    "\"max_position_embeddings\":262144,\"model_type\":\"qwen3_vl_text\",\"num_attention_heads\":32,"
    "\"num_hidden_layers\":36,\"num_key_value_heads\":8,\"rms_norm_eps\":1e-06,\"rope_scaling\":{"
    "\"mrope_interleaved\":true,\"mrope_section\":[24,20,20],\"rope_type\":\"default\"},\"rope_theta\":"
    "5000000,"
    "\"tie_word_embeddings\":true,\"vocab_size\":151936},\"tie_word_embeddings\":true,\"vision_config\":{"
    "\"deepstack_visual_indexes\":[5,11,17],\"depth\":24,\"hidden_act\":\"gelu_pytorch_tanh\",\"hidden_"
    "size\":1024,"
    "\"in_channels\":3,\"intermediate_size\":4096,\"model_type\":\"qwen3_vl\",\"num_heads\":16,"
    "\"num_position_embeddings\":2304,\"out_hidden_size\":2560,\"patch_size\":16,\"spatial_merge_size\":2,"
    "\"temporal_patch_size\":2}}";
static const char images3[] =
    "{\"size\":{\"longest_edge\":16777216,\"shortest_edge\":65536},\"patch_size\":16,\"temporal_patch_size\":"
    "2,"
    "\"merge_size\":2,\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.5,0.5,0.5],\"image_processor_type\":"
    "\"Qwen2VLImageProcessorFast\",\"processor_class\":\"Qwen3VLProcessor\"}";

START_TEST(hub_folders) {
    static const struct {
        const char *config, *images, *family;
        int hidden, head_dim, intermediate, window, side, deep, layers, least, most;
        vlci_activation act;
    } cases[] = {
        {hub2, images2, "qwen2_vl", 1280, 80, 5120, 0, 0, 0, 28, 3136, 12845056, VLCI_ACT_QUICK_GELU},
        {hub2_5, images2, "qwen2_5_vl", 1280, 80, 3420, 4, 0, 0, 36, 3136, 12845056, VLCI_ACT_SILU},
        {hub3, images3, "qwen3_vl", 1024, 64, 4096, 0, 48, 3, 36, 65536, 16777216, VLCI_ACT_GELU_TANH}};
    for (int i = 0; i < 3; i++) {
        vlci_config c;
        ck_ok(settings_load(cases[i].config, cases[i].images, &c));
        const vlci_qwen_vl *eyes = c.eyes;
        ck_assert_str_eq(c.family->name, cases[i].family);
        ck_assert_int_eq(eyes->vision.hidden, cases[i].hidden);
        ck_assert_int_eq(eyes->vision.head_dim, cases[i].head_dim);
        ck_assert_int_eq(eyes->vision.intermediate, cases[i].intermediate);
        ck_assert_int_eq(eyes->vision.window, cases[i].window);
        ck_assert_int_eq(eyes->vision.side, cases[i].side);
        ck_assert_int_eq(eyes->vision.n_deep, cases[i].deep);
        ck_assert_int_eq(c.text.deepstack, cases[i].deep);
        ck_assert_int_eq(eyes->vision.act, cases[i].act);
        ck_assert_int_eq(eyes->vision.out, c.text.hidden);
        ck_assert_int_eq(eyes->area.least, cases[i].least);
        ck_assert_int_eq(eyes->area.most, cases[i].most);
        ck_assert_int_eq(c.text.layers, cases[i].layers);
        ck_assert(c.text.tied && c.image_token == 151655 && c.dtype == VLCACHE_DTYPE_BF16);
        ck_assert(c.n_eos_tokens == 1 && c.eos_tokens[0] == 151645);
        for (int layer = 0; layer < eyes->vision.layers; layer++)
            ck_assert(eyes->vision.whole[layer] == (i == 1 && layer % 8 == 7));
        vlci_config_release(&c);
    }
}
END_TEST

static const struct {
    char family, file; /* 2, 5 (2.5) or 3; c: config, i: images */
    const char *field, *value;
    vlcache_status status;
    const char *why;
} refused[] = {
    {'2', 'c', "vision_config.model_type", "\"qwen3_vl\"", VLCACHE_E_UNSUPPORTED, "qwen2_vl is supported"},
    {'2', 'c', "vision_config.embed_dim", "1281", VLCACHE_E_FORMAT, "vision_config.num_heads: is 16"},
    {'2', 'c', "vision_config.embed_dim", "64", VLCACHE_E_UNSUPPORTED, "makes heads of 4"},
    {'2', 'c', "vision_config.hidden_size", "1280", VLCACHE_E_FORMAT, "gives tokens of 1280"},
    {'2', 'c', "vision_config.mlp_ratio", "0", VLCACHE_E_FORMAT, "vision_config.mlp_ratio"},
    {'2', 'c', "vision_config.mlp_ratio", "1000", VLCACHE_E_FORMAT, "makes a layer of 1280000"},
    {'2', 'c', "vision_config.depth", "0", VLCACHE_E_FORMAT, "vision_config.depth"},
    {'2', 'c', "vision_config.num_heads", "-1", VLCACHE_E_FORMAT, "vision_config.num_heads"},
    {'2', 'c', "vision_config.in_chans", "1", VLCACHE_E_UNSUPPORTED, "vision_config.in_chans: is 1"},
    {'2', 'c', "vision_config.in_channels", "4", VLCACHE_E_UNSUPPORTED, "vision_config.in_channels"},
    {'2', 'c', "vision_config.patch_size", "16", VLCACHE_E_FORMAT, "vision_config.patch_size is 16"},
    {'2', 'c', "vision_config.patch_size", "[14,16]", VLCACHE_E_UNSUPPORTED, "vision_config.patch_size"},
    {'2', 'c', "vision_config.spatial_merge_size", "0", VLCACHE_E_FORMAT, "spatial_merge_size"},
    {'2', 'c', "vision_config.temporal_patch_size", "99", VLCACHE_E_FORMAT, "temporal_patch_size"},
    {'2', 'c', "vision_config.hidden_act", "\"mish\"", VLCACHE_E_UNSUPPORTED, "vision_config.hidden_act"},
    {'2', 'c', "vision_config.rope_parameters", "{\"rope_type\":\"yarn\"}", VLCACHE_E_UNSUPPORTED, "axial"},
    {'2', 'c', "vision_config.rope_parameters", "{\"rope_theta\":0}", VLCACHE_E_FORMAT, "rope_theta"},
    {'2', 'c', "vision_config", "[]", VLCACHE_E_FORMAT, "vision_config: must be an object"},
    {'2', 'c', "image_token_id", "151936", VLCACHE_E_FORMAT, "image_token_id"},
    {'2', 'c', "hidden_size", "-4", VLCACHE_E_FORMAT, "config.json: hidden_size"},
    {'2', 'c', "rope_scaling", "{\"type\":\"mrope\",\"mrope_section\":[1,2]}", VLCACHE_E_FORMAT,
     "mrope_section"},
    {'5', 'c', "vision_config.window_size", "27", VLCACHE_E_FORMAT, "a token has 28 pixels"},
    {'5', 'c', "vision_config.window_size", "0", VLCACHE_E_FORMAT, "vision_config.window_size"},
    {'5', 'c', "vision_config.fullatt_block_indexes", "[32]", VLCACHE_E_FORMAT, "layers from 0 to 31"},
    {'5', 'c', "vision_config.fullatt_block_indexes", "[7,7]", VLCACHE_E_FORMAT, "ascending"},
    {'5', 'c', "vision_config.fullatt_block_indexes", "7", VLCACHE_E_FORMAT, "must be a list"},
    {'5', 'c', "vision_config.out_hidden_size", "3584", VLCACHE_E_FORMAT, "the text model takes 2048"},
    {'3', 'c', "vision_config.num_position_embeddings", "2305", VLCACHE_E_UNSUPPORTED, "a square"},
    {'3', 'c', "vision_config.num_position_embeddings", "0", VLCACHE_E_FORMAT, "num_position_embeddings"},
    {'3', 'c', "vision_config.deepstack_visual_indexes", "[5,24]", VLCACHE_E_FORMAT, "layers from 0 to 23"},
    {'3', 'c', "vision_config.deepstack_visual_indexes", "[\"5\"]", VLCACHE_E_FORMAT, "ascending"},
    {'3', 'c', "vision_config.deepstack_visual_indexes", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]",
     VLCACHE_E_UNSUPPORTED, "names 17 layers"},
    {'3', 'c', "text_config.num_hidden_layers", "2", VLCACHE_E_UNSUPPORTED, "the text model has 2"},
    {'2', 'i', "image_processor_type", "\"CLIPImageProcessor\"", VLCACHE_E_UNSUPPORTED,
     "Qwen2VLImageProcessor"},
    {'2', 'i', "patch_size", "16", VLCACHE_E_FORMAT, "vision_config.patch_size is 14"},
    {'2', 'i', "merge_size", "3", VLCACHE_E_FORMAT, "vision_config.spatial_merge_size is 2"},
    {'2', 'i', "temporal_patch_size", "1", VLCACHE_E_FORMAT, "vision_config.temporal_patch_size is 2"},
    {'2', 'i', "do_resize", "false", VLCACHE_E_UNSUPPORTED, "multiples of 28 pixels"},
    {'2', 'i', "min_pixels", "0", VLCACHE_E_FORMAT, "min_pixels: is 0"},
    {'2', 'i', "max_pixels", "999999999", VLCACHE_E_FORMAT, "max_pixels"},
    {'2', 'i', "max_pixels", "3135", VLCACHE_E_FORMAT, "max_pixels: allows at most 3135 pixels"},
    {'3', 'i', "size", "{\"height\":336,\"width\":336}", VLCACHE_E_UNSUPPORTED, "size: height and width"},
    {'3', 'i', "size", "{\"shortest_edge\":99,\"longest_edge\":98}", VLCACHE_E_FORMAT, "size: allows"},
    {'3', 'i', "size", "336", VLCACHE_E_FORMAT, "size: must be an object"},
    {'3', 'i', "resample", "7", VLCACHE_E_FORMAT, "resample"},
    {'3', 'i', "image_std", "[0.5,0,0.5]", VLCACHE_E_FORMAT, "image_std"},
};

START_TEST(refusals) {
    char family = refused[_i].family;
    const settings_fault fault = {refused[_i].file, refused[_i].field, refused[_i].value, refused[_i].status,
                                  refused[_i].why};
    settings_refuse(family == '2'   ? hub2
                    : family == '5' ? hub2_5
                                    : hub3,
                    family == '3' ? images3 : images2, &fault);
}
END_TEST

/* Words that mean the same. */
START_TEST(spellings) {
    vlci_config c;
    char *images = settings_changed(images3, "size", "{\"min_pixels\":4096,\"max_pixels\":8192}");
    ck_ok(settings_load(hub3, images, &c));
    ck_assert_int_eq(((vlci_qwen_vl *)c.eyes)->area.least, 4096);
    ck_assert_int_eq(((vlci_qwen_vl *)c.eyes)->area.most, 8192);
    vlci_config_release(&c);
    free(images);
    images = settings_changed(images3, "max_pixels", "65537"); /* goes before size */
    ck_ok(settings_load(hub3, images, &c));
    ck_assert_int_eq(((vlci_qwen_vl *)c.eyes)->area.most, 65537);
    vlci_config_release(&c);
    free(images);
    char *config = settings_changed(hub3, "vision_config.hidden_act", "null");
    ck_ok(settings_load(config, images3, &c));
    ck_assert_int_eq(((vlci_qwen_vl *)c.eyes)->vision.act, VLCI_ACT_GELU_TANH);
    vlci_config_release(&c);
    free(config);
    config = settings_changed(hub2_5, "vision_config.model_type", "\"qwen2_5_vl_vision\"");
    ck_ok(settings_load(config, "{}", &c)); /* Qwen2VLImageProcessor's own values */
    ck_assert_int_eq(((vlci_qwen_vl *)c.eyes)->area.least, 56 * 56);
    ck_assert_int_eq(((vlci_qwen_vl *)c.eyes)->area.most, 28 * 28 * 1280);
    vlci_config_release(&c);
    free(config);
}
END_TEST

/* As far as its numbers are taken, a folder may ask for more than a picture can have. */
START_TEST(too_many_patches) {
    vlci_config c;
    vlci_picture_layout layout;
    char *config = settings_changed(hub2, "vision_config.patch_size", "1");
    char *images = settings_changed(images2, "patch_size", "1");
    ck_ok(settings_load(config, images, &c));
    ck_fails(c.family->layout(&c, 3000, 3000, &layout), VLCACHE_E_UNSUPPORTED, "becomes 9000000 patches");
    ck_assert_ptr_null(layout.entry);
    vlci_config_release(&c);
    free(config);
    free(images);
}
END_TEST

START_TEST(memory_of_settings) {
    settings_in_short_memory(hub3, images3);
}
END_TEST

/* ---- models -------------------------------------------------------------------------------------------- */

static const char *const folders[] = {"qwen2_5-vl", "qwen3-vl", "qwen2-vl-hub"};
enum { TOLD = 2, FOLDERS = 3 }; /* with more.json, in all */

static vlcache_model *open_as(int folder, vlcache_dtype dtype, int least, int most) {
    char path[512];
    vlcache_model *model = NULL;
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = dtype;
    options.min_pixels = least;
    options.max_pixels = most;
    snprintf(path, sizeof path, "%s/models/%s", VLCACHE_TEST_DATA, folders[folder]);
    ck_ok(vlcache_model_load(suite_device(), path, &options, &model));
    return model;
}

static vlcache_model *open_model(int folder, int least, int most) {
    return open_as(folder, VLCACHE_DTYPE_F32, least, most);
}

START_TEST(bounds) {
    vlcache_model *model = open_model(0, 0, 1000);
    vlci_config *c = &model->config;
    vlci_picture_layout layout;
    const vlci_area *area = &((vlci_qwen_vl *)c->eyes)->area;
    ck_assert(area->least == 256 && area->most == 1000);
    ck_ok(c->family->layout(c, 640, 480, &layout));
    ck_assert_int_eq(layout.n, 4 * 3); /* 1000 pixels come to 36 x 27 of them, in whole tokens 32 x 24 */
    vlci_picture_layout_release(&layout);
    ck_fails(c->family->layout(c, 5, 1001, &layout), VLCACHE_E_ARGUMENT, "5 x 1001 pixels");
    ck_assert_ptr_null(layout.entry);
    ck_fails(vlci_qwen_vl_bound(c, 1001, 0), VLCACHE_E_ARGUMENT, "min_pixels: is 1001");
    ck_fails(vlci_qwen_vl_bound(c, 0, 255), VLCACHE_E_ARGUMENT, "max_pixels: is 255");
    ck_fails(vlci_qwen_vl_bound(c, -1, 0), VLCACHE_E_ARGUMENT, "min_pixels: is -1");
    ck_fails(vlci_qwen_vl_bound(c, 0, VLCI_AREA_MAX + 1), VLCACHE_E_ARGUMENT, "max_pixels");
    ck_assert(area->least == 256 && area->most == 1000);
    vlcache_model_destroy(&model);
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.max_pixels = 9999;
    ck_fails(vlcache_model_load(suite_device(), VLCACHE_TEST_DATA "/models/next-vicuna", &options, &model),
             VLCACHE_E_UNSUPPORTED, "model: max_pixels: is 9999");
}
END_TEST

/* All sets of features of frames of random pixels; `frame` lists which of four each is. */
static float *look(const vlcache_model *model, const int *frame, int frames, size_t *n) {
    const vlci_qwen_vl *eyes = model->config.eyes;
    enum { WIDTH = 56, HEIGHT = 40 };
    static float data[4][3 * WIDTH * HEIGHT];
    vlci_pixels pixels;
    vlci_qwen_order order;
    cl_mem features = NULL;
    uint64_t state = 9;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 3 * WIDTH * HEIGHT; k++) data[i][k] = suite_random(&state);
    ck_ok(vlci_pixels_create(frames, WIDTH, HEIGHT, &pixels));
    for (int i = 0; i < frames; i++)
        memcpy(pixels.data + (size_t)i * 3 * WIDTH * HEIGHT, data[frame[i]], sizeof data[0]);
    const vlci_qwen_grid grid = vlci_qwen_tower_grid(&eyes->vision, frames, WIDTH, HEIGHT);
    ck_ok(vlci_qwen_order_create(&grid, &order));
    ck_ok(vlci_qwen_tower_run(&eyes->tower, &pixels, &grid, &order, &features));
    *n = (size_t)(1 + eyes->vision.n_deep) * (size_t)order.tokens * (size_t)eyes->vision.out;
    vlci_qwen_order_release(&order);
    vlci_pixels_release(&pixels);
    float *got = malloc(*n * sizeof *got);
    suite_download(features, got, *n * sizeof *got);
    suite_release(features);
    return got;
}

static void assert_close(const char *what, const float *got, const float *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabsf(got[i] - want[i]) <= 2e-5f + 2e-5f * fabsf(want[i]), "%s[%zu]: %g, not %g", what,
                      i, (double)got[i], (double)want[i]);
}

/* However few rows go through the matrices at a time. */
START_TEST(parts) {
    vlcache_model *model = open_model(_i, 0, 0);
    vlci_qwen_tower *tower = &((vlci_qwen_vl *)model->config.eyes)->tower;
    const int frame[] = {0};
    size_t n, m;
    float *whole = look(model, frame, 1, &n);
    static const int rows[] = {4, 36, 44};
    for (int i = 0; i < 3; i++) {
        tower->part = rows[i];
        float *got = look(model, frame, 1, &m);
        ck_assert_uint_eq(n, m);
        assert_close("parts", got, whole, n);
        free(got);
    }
    free(whole);
    vlcache_model_destroy(&model);
}
END_TEST

/* Where matrices read and leave rows of 16 bits, in stripes or tiles: a gate leaves them, too. AMX takes bf16
 * alone. */
START_TEST(short_rows) {
    static const vlcache_dtype dtypes[] = {VLCACHE_DTYPE_F16, VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_BF16};
    bool amx = suite_device()->caps.amx;
    const int frame[] = {0};
    size_t n, m;
    float largest = 0, *want = NULL;
    vlcache_model *model = open_model(_i, 0, 0);
    want = look(model, frame, 1, &n);
    vlcache_model_destroy(&model);
    for (size_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(want[i]));
    suite_set("VLCACHE_GEMM", "matrix");
    for (int dtype = amx; dtype < 3; dtype++) {
        suite_force(dtype == 2 ? "gemm:pairs" : NULL);
        model = open_as(_i, dtypes[dtype], 0, 0);
        const vlci_qwen_tower *tower = &((vlci_qwen_vl *)model->config.eyes)->tower;
        ck_assert_int_eq(tower->layer[0].second.layout, dtype == 2 || amx ? VLCI_PAIRS : VLCI_BLOCKS);
        float *got = look(model, frame, 1, &m);
        ck_assert_uint_eq(n, m);
        for (size_t i = 0; i < n; i++)
            ck_assert_msg(fabsf(got[i] - want[i]) <= (dtype ? 0.03f : 0.004f) * largest, "[%zu]: %g, not %g",
                          i, (double)got[i], (double)want[i]);
        free(got);
        vlcache_model_destroy(&model);
    }
    suite_force(NULL);
    suite_set("VLCACHE_GEMM", NULL);
    free(want);
}
END_TEST

/* Steps in time see themselves alone, and the last frame stands for one that is missing. */
START_TEST(steps) {
    vlcache_model *model = open_model(_i, 0, 0);
    int sets = 1 + model->config.text.deepstack;
    size_t n, one;
    const int all[] = {0, 1, 2, 3}, odd[] = {0, 1, 2}, doubled[] = {0, 1, 2, 2};
    float *both = look(model, all, 4, &n), *first = look(model, all, 2, &one),
          *second = look(model, all + 2, 2, &one);
    ck_assert_uint_eq(n, 2 * one);
    for (int set = 0; set < sets; set++) {
        size_t part = one / (size_t)sets, at = (size_t)set * part;
        assert_close("first step", both + 2 * at, first + at, part);
        assert_close("second step", both + 2 * at + part, second + at, part);
    }
    float *three = look(model, odd, 3, &one), *four = look(model, doubled, 4, &n);
    ck_assert_uint_eq(n, one);
    ck_assert_mem_eq(three, four, n * sizeof *three);
    float *arrays[] = {both, first, second, three, four};
    for (int i = 0; i < 5; i++) free(arrays[i]);
    vlcache_model_destroy(&model);
}
END_TEST

/* ---- positions ----------------------------------------------------------------------------------------- */

/* Text, 2 x 3 tokens, text, 1 x 1, a picture of 4 x 1 right behind it, text. */
START_TEST(positions_behind_rows) {
    vlcache_model *model = open_model(0, 64, 0);
    vlci_config *c = &model->config;
    vlci_picture_layout layout[3];
    static const int side[3][2] = {{24, 16}, {8, 8}, {8, 32}}, row[3] = {2, 9, 10};
    vlci_placed_picture placed[3];
    int32_t position[16][3], next;
    for (int i = 0; i < 3; i++) {
        ck_ok(c->family->layout(c, side[i][0], side[i][1], &layout[i]));
        placed[i] = (vlci_placed_picture){row[i], &layout[i]};
    }
    c->family->positions(c, placed, 3, 100, 16, position, &next);
    static const int want[16][3] = {{100, 100, 100}, {101, 101, 101}, {102, 102, 102}, {102, 102, 103},
                                    {102, 102, 104}, {102, 103, 102}, {102, 103, 103}, {102, 103, 104},
                                    {105, 105, 105}, {106, 106, 106}, {107, 107, 107}, {107, 108, 107},
                                    {107, 109, 107}, {107, 110, 107}, {111, 111, 111}, {112, 112, 112}};
    for (int i = 0; i < 16; i++)
        for (int axis = 0; axis < 3; axis++)
            ck_assert_msg(position[i][axis] == want[i][axis], "row %d, axis %d: %d", i, axis,
                          (int)position[i][axis]);
    ck_assert_int_eq(next, 113); /* 16 rows further in the cache */
    for (int i = 0; i < 3; i++) vlci_picture_layout_release(&layout[i]);
    vlcache_model_destroy(&model);
}
END_TEST

/* ---- talks --------------------------------------------------------------------------------------------- */

/* Three turns with pictures in two of them; from the second on beside a fork. `policy` at a budget of 1. */
static void run_talk(const told *t, const char *policy) {
    vlcache_engine *engine = told_engine(t, 0);
    vlcache_sequence *s = told_add(engine, policy, 1), *fork = NULL;
    const json_t *turns = json_object_get(t->more, "talk");
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
        at = told_queue(t, s, turn, at, (int)tokens->n);
        talk_finish(engine);
        if (fork) told_tokens("fork", fork, tokens);
        const vlcache_answer *a = told_tokens("talk", s, tokens);
        ck_assert_uint_eq((size_t)a->prompt_tokens, ids->n + (k > 0)); /* and the last of the answer before */
        length += (int)ids->n + (int)tokens->n;
        ck_assert_int_eq(a->context_tokens, length);
    }
    vlcache_sequence_destroy(&fork);
    vlcache_sequence_destroy(&s);
    vlcache_engine_destroy(&engine);
}

START_TEST(talks) {
    told t;
    told_open(&t, folders[_i], "talk", 3);
    run_talk(&t, "full");
    run_talk(&t, "vlcache");
    told_close(&t);
}
END_TEST

/* ---- VL-Cache ------------------------------------------------------------------------------------------ */

START_TEST(kept_sets) {
    told t;
    told_open(&t, folders[_i], "kept", 2);
    told_kept_sets(&t, t.model->config.text.layers);
    told_close(&t);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("qwen");
    TCase *host = tcase_create("host"), *device = tcase_create("device");
    tcase_add_checked_fixture(host, NULL, scratch_clean);
    tcase_add_test(host, sizes_that_fit);
    tcase_add_test(host, sizes_that_do_not);
    tcase_add_test(host, orders);
    tcase_add_test(host, hub_folders);
    tcase_add_loop_test(host, refusals, 0, sizeof refused / sizeof *refused);
    tcase_add_test(host, spellings);
    tcase_add_test(host, too_many_patches);
    tcase_add_test(host, memory_of_settings);
    suite_add_tcase(suite, host);
    suite_balance(device);
    tcase_add_test(device, bounds);
    tcase_add_loop_test(device, parts, 0, FOLDERS);
    tcase_add_loop_test(device, short_rows, 0, FOLDERS);
    tcase_add_loop_test(device, steps, 0, FOLDERS);
    tcase_add_test(device, positions_behind_rows);
    tcase_add_loop_test(device, talks, 0, TOLD);
    tcase_add_loop_test(device, kept_sets, 0, TOLD);
    suite_add_tcase(suite, device);
    return suite_run(suite);
}
