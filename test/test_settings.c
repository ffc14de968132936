/*
 * test_settings.c - families with towers like CLIP's: what their released folders say, what that comes to for
 * pictures of many sizes, and every field of theirs that is refused by name. test_config.c has LLaVA.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "picture/prepare.h"
#include "support/scratch.h"
#include "support/settings.h"
#include "support/suite.h"

/* Folders of the hub in the words that matter, and visual tokens that transformers 5.24 counts of a picture.
 */
typedef struct folder {
    const char *family, *config, *images;
    int size[11][3]; /* width, height, visual tokens */
} folder;

enum { SMOLVLM, SMOLVLM_256M, IDEFICS3, ONEVISION, INTERNVL, PALIGEMMA, N_FOLDERS };

static const folder folders[] = {
    [SMOLVLM] =
        {"smolvlm",
         "{\"model_type\":\"smolvlm\",\"image_token_id\":49190,\"scale_factor\":3,\"torch_dtype\":"
         "\"bfloat16\","
         "\"tie_word_embeddings\":false,\"text_config\":{\"model_type\":\"llama\",\"hidden_size\":2048,"
         "\"intermediate_size\":8192,\"num_attention_heads\":32,\"num_hidden_layers\":24,"
         "\"max_position_embeddings\":8192,\"rms_norm_eps\":1e-05,\"rope_theta\":130000,\"vocab_size\":49280}"
         ","
         "\"vision_config\":{\"model_type\":\"smolvlm_vision\",\"hidden_size\":1152,\"image_size\":384,"
         "\"intermediate_size\":4304,\"max_image_size\":{\"longest_edge\":384},\"num_attention_heads\":16,"
         "\"num_hidden_layers\":27,\"patch_size\":14,\"size\":{\"longest_edge\":1920},"
         "\"tie_word_embeddings\":false,\"use_base_siglip\":false}}",
         "{\"image_processor_type\":\"SmolVLMImageProcessor\",\"do_convert_rgb\":true,"
         "\"do_image_splitting\":true,\"do_normalize\":true,\"do_pad\":true,\"do_rescale\":true,\"do_"
         "resize\":true,"
         "\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.5,0.5,0.5],\"max_image_size\":{\"longest_edge\":384},"
         "\"processor_class\":\"SmolVLMProcessor\",\"resample\":1,\"rescale_factor\":0.00392156862745098,"
         "\"size\":{\"longest_edge\":1536},\"video_sampling\":{\"fps\":1,\"max_frames\":64}}",
         {{640, 480, 1053},
          {1920, 1080, 1053},
          {384, 384, 1377},
          {47, 211, 405},
          {1, 1, 1377},
          {4000, 30, 405},
          {30, 4000, 405},
          {3024, 4032, 1053},
          {1000, 999, 1377},
          {65535, 2, 405},
          {777, 2331, 729}}},
    [SMOLVLM_256M] =
        {"idefics3",
         "{\"model_type\":\"idefics3\",\"image_token_id\":49190,\"scale_factor\":4,"
         "\"torch_dtype\":\"bfloat16\",\"text_config\":{\"model_type\":\"llama\",\"hidden_size\":576,"
         "\"head_dim\":64,\"intermediate_size\":1536,\"num_attention_heads\":9,\"num_key_value_heads\":3,"
         "\"num_hidden_layers\":30,\"rms_norm_eps\":1e-05,\"vocab_size\":49280},"
         "\"vision_config\":{\"model_type\":\"idefics3\",\"hidden_size\":768,\"image_size\":512,"
         "\"intermediate_size\":3072,\"num_attention_heads\":12,\"num_hidden_layers\":12,"
         "\"patch_size\":16}}",
         "{\"image_processor_type\":\"Idefics3ImageProcessor\",\"max_image_size\":{\"longest_edge\":512},"
         "\"size\":{\"longest_edge\":2048},\"resample\":1}",
         {{640, 480, 832},
          {1920, 1080, 832},
          {384, 384, 1088},
          {47, 211, 320},
          {1, 1, 1088},
          {4000, 30, 320},
          {30, 4000, 320},
          {3024, 4032, 832},
          {1000, 999, 1088},
          {65535, 2, 320},
          {777, 2331, 576}}},
    [IDEFICS3] =
        {"idefics3",
         "{\"model_type\":\"idefics3\",\"image_token_id\":128257,\"scale_factor\":2,\"text_config\":{"
         "\"model_type\":\"llama\",\"num_key_value_heads\":8,\"intermediate_size\":14336,"
         "\"rms_norm_eps\":1e-05,\"vocab_size\":128259},\"vision_config\":{\"hidden_size\":1152,"
         "\"intermediate_size\":4304,\"image_size\":364,\"model_type\":\"idefics3\","
         "\"num_hidden_layers\":27,\"patch_size\":14}}",
         "{\"image_processor_type\":\"Idefics3ImageProcessor\"}",
         {{640, 480, 2197},
          {1920, 1080, 2197},
          {384, 384, 2873},
          {47, 211, 845},
          {1, 1, 2873},
          {4000, 30, 845},
          {30, 4000, 845},
          {3024, 4032, 2197},
          {1000, 999, 2873},
          {65535, 2, 845},
          {777, 2331, 1521}}},
    [ONEVISION] =
        {"llava_onevision",
         "{\"model_type\":\"llava_onevision\",\"image_token_index\":151646,\"video_token_index\":151647,"
         "\"projector_hidden_act\":\"gelu\",\"torch_dtype\":\"float16\",\"use_image_newline_parameter\":true,"
         "\"vision_aspect_ratio\":\"anyres_max_9\",\"vision_feature_layer\":-1,"
         "\"vision_feature_select_strategy\":\"full\",\"text_config\":{\"model_type\":\"qwen2\","
         "\"hidden_size\":3584,\"intermediate_size\":18944,\"max_window_layers\":28,"
         "\"num_attention_heads\":28,\"num_hidden_layers\":28,\"num_key_value_heads\":4,"
         "\"rope_theta\":1000000.0,\"vocab_size\":152000},\"vision_config\":{\"hidden_size\":1152,"
         "\"image_size\":384,\"intermediate_size\":4304,\"model_type\":\"siglip_vision_model\","
         "\"num_attention_heads\":16,\"num_hidden_layers\":26,\"patch_size\":14,\"vision_use_head\":false}}",
         "{\"image_processor_type\":\"LlavaOnevisionImageProcessor\",\"do_pad\":true,"
         "\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.5,0.5,0.5],\"resample\":3,"
         "\"size\":{\"height\":384,\"width\":384}}",
         {{640, 480, 2929},
          {1920, 1080, 7269},
          {384, 384, 1485},
          {47, 211, 945},
          {1, 1, 1485},
          {4000, 30, 892},
          {30, 4000, 1053},
          {3024, 4032, 7332},
          {1000, 999, 7371},
          {65535, 2, 757},
          {777, 2331, 7309}}},
    [INTERNVL] =
        {"internvl",
         "{\"model_type\":\"internvl\",\"image_token_id\":151667,\"image_seq_length\":256,"
         "\"downsample_ratio\":0.5,\"projector_hidden_act\":\"gelu\",\"vision_feature_layer\":-1,"
         "\"vision_feature_select_strategy\":\"default\",\"text_config\":{\"model_type\":\"qwen2\","
         "\"hidden_size\":1536,\"intermediate_size\":8960,\"num_attention_heads\":12,"
         "\"num_hidden_layers\":28,\"num_key_value_heads\":2,\"rope_scaling\":{\"factor\":2.0,\"rope_type\":"
         "\"dynamic\",\"type\":\"dynamic\"},\"rope_theta\":1000000.0,"
         "\"vocab_size\":151674},\"vision_config\":{\"model_type\":\"internvl_vision\","
         "\"attention_bias\":true,\"hidden_size\":1024,\"image_size\":[448,448],\"intermediate_size\":4096,"
         "\"layer_norm_eps\":1e-06,\"norm_type\":\"layer_norm\",\"num_attention_heads\":16,"
         "\"num_hidden_layers\":24,\"patch_size\":[14,14],\"use_absolute_position_embeddings\":true,"
         "\"use_mask_token\":false,\"use_mean_pooling\":true,\"use_qk_norm\":false}}",
         "{\"image_processor_type\":\"GotOcr2ImageProcessorFast\",\"crop_size\":null,"
         "\"crop_to_patches\":false,\"do_center_crop\":null,\"image_mean\":[0.485,0.456,0.406],"
         "\"image_std\":[0.229,0.224,0.225],\"max_patches\":12,\"min_patches\":1,\"resample\":3,"
         "\"size\":{\"height\":448,\"width\":448}}",
         {{640, 480, 3328},
          {1920, 1080, 2304},
          {384, 384, 256},
          {47, 211, 1536},
          {1, 1, 256},
          {4000, 30, 3328},
          {30, 4000, 3328},
          {3024, 4032, 3328},
          {1000, 999, 2560},
          {65535, 2, 3328},
          {777, 2331, 3328}}},
    [PALIGEMMA] =
        {"paligemma",
         "{\"model_type\":\"paligemma\",\"hidden_size\":2048,\"image_token_index\":257152,"
         "\"projection_dim\":2048,\"bos_token_id\":2,\"eos_token_id\":1,\"torch_dtype\":\"float32\","
         "\"vocab_size\":257216,\"text_config\":{\"hidden_size\":2048,\"intermediate_size\":16384,"
         "\"model_type\":\"gemma\",\"num_attention_heads\":8,\"num_hidden_layers\":18,"
         "\"num_image_tokens\":1024,\"num_key_value_heads\":1,\"vocab_size\":257216},"
         "\"vision_config\":{\"hidden_size\":1152,\"image_size\":448,\"intermediate_size\":4304,"
         "\"model_type\":\"siglip_vision_model\",\"num_attention_heads\":16,\"num_hidden_layers\":27,"
         "\"num_image_tokens\":1024,\"patch_size\":14,\"projection_dim\":2048,"
         "\"projector_hidden_act\":\"gelu_fast\",\"vision_use_head\":false}}",
         "{\"image_processor_type\":\"SiglipImageProcessor\",\"image_seq_length\":1024,\"resample\":3,"
         "\"do_convert_rgb\":null,\"size\":{\"height\":448,\"width\":448}}",
         {{640, 480, 1024}, {1, 1, 1024}, {65535, 2, 1024}}},
};

/* ---- what folders come to ---- */

/* Cells lie in the picture; those of each grid, or of the grids that are its tiles, cover all of it once. */
static double covered(const vlci_picture_layout *l) {
    double area = 0;
    for (int i = 0; i < l->n_tokens; i++)
        area += ((double)l->cell[i][2] - l->cell[i][0]) * ((double)l->cell[i][3] - l->cell[i][1]);
    return area;
}

START_TEST(visual_tokens) {
    const folder *f = &folders[_i];
    vlci_config c;
    ck_ok(settings_load(f->config, f->images, &c));
    ck_assert_str_eq(c.family->name, f->family);
    for (int i = 0; i < 11 && f->size[i][0]; i++) {
        int width = f->size[i][0], height = f->size[i][1];
        vlci_picture_layout l;
        ck_ok(c.family->layout(&c, width, height, &l));
        ck_assert_msg(l.n_tokens == f->size[i][2], "%s, %d x %d: %d visual tokens, not %d", f->family, width,
                      height, l.n_tokens, f->size[i][2]);
        int views = l.tiles > 1 ? 2 : 1; /* in tiles, and whole */
        double share = covered(&l) / ((double)width * height * views);
        /* patches leave a margin of their tile out; OneVision also rows that show a sliver of the picture */
        ck_assert_msg(share > 0.8 && share < 1.0 + 1e-3, "%s, %d x %d: %g", f->family, width, height, share);
        vlci_picture_layout_release(&l);
    }
    vlci_config_release(&c);
}
END_TEST

/* A prompt of several: no tiles. */
START_TEST(several_pictures) {
    vlci_config c;
    vlci_picture_layout l;
    ck_ok(settings_load(folders[ONEVISION].config, folders[ONEVISION].images, &c));
    ck_assert_ptr_eq(vlci_family_among(c.family, 1), c.family);
    const vlci_family *several = vlci_family_among(c.family, 2);
    ck_ok(several->layout(&c, 4000, 30, &l));
    ck_assert_int_eq(l.n_tokens, 27 * 27 + 1);
    ck_assert_int_eq(l.tiles, 1);
    ck_assert_int_eq(l.n_grids, 1);
    vlci_picture_layout_release(&l);
    vlci_config_release(&c);
    ck_ok(settings_load(folders[INTERNVL].config, folders[INTERNVL].images, &c));
    ck_assert_ptr_eq(vlci_family_among(c.family, 2), c.family);
    vlci_config_release(&c);
}
END_TEST

/* Text settings that come from the family's classes and not from the folder. */
START_TEST(text_models) {
    static const char *const types[] = {"llama", "llama", "llama", "qwen2", "qwen2", "gemma"};
    static const int tokens[] = {49190, 49190, 128257, 151646, 151667, 257152};
    for (int i = 0; i < N_FOLDERS; i++) {
        vlci_config c;
        vlcache_model_info info = {0};
        ck_ok(settings_load(folders[i].config, folders[i].images, &c));
        ck_assert_str_eq(c.text_model_type, types[i]);
        ck_assert_int_eq(c.image_token, tokens[i]);
        ck_assert_int_eq(c.text.prefix_lm, i == PALIGEMMA);
        ck_assert_int_eq(c.text.tied, i == PALIGEMMA || i == INTERNVL);
        c.family->describe(&c, &info);
        ck_assert_int_eq(info.patch_side, i == SMOLVLM_256M ? 16 : 14);
        vlci_config_release(&c);
    }
}
END_TEST

/* PaliGemma's rows count from 1, in the first turn and on. */
START_TEST(positions_from_one) {
    int32_t position[3][3], next = 0;
    const vlci_family *family = vlci_family_find("paligemma");
    family->positions(NULL, NULL, 0, 0, 3, position, &next);
    ck_assert_int_eq(position[0][0], 1);
    ck_assert_int_eq(position[2][2], 3);
    ck_assert_int_eq(next, 4);
    family->positions(NULL, NULL, 0, next, 2, position, &next);
    ck_assert_int_eq(position[0][1], 4);
    ck_assert_int_eq(next, 6);
}
END_TEST

/* ---- what is refused ---- */

static const struct {
    int folder;
    char file; /* c: config, i: images */
    const char *field, *value;
    vlcache_status status;
    const char *why;
} refusals[] = {
    {SMOLVLM, 'c', "scale_factor", "4", VLCACHE_E_FORMAT, "scale_factor: is 4, which does not divide the 27"},
    {SMOLVLM, 'c', "scale_factor", "0", VLCACHE_E_FORMAT, "scale_factor"},
    {SMOLVLM, 'c', "image_token_id", "49280", VLCACHE_E_FORMAT, "image_token_id"},
    {SMOLVLM, 'c', "vision_config.model_type", "\"siglip_vision_model\"", VLCACHE_E_UNSUPPORTED,
     "vision_config.model_type"},
    {SMOLVLM, 'c', "vision_config.image_size", "512", VLCACHE_E_UNSUPPORTED, "max_image_size"},
    {SMOLVLM, 'c', "vision_config.num_attention_heads", "7", VLCACHE_E_FORMAT,
     "vision_config.num_attention_heads"},
    {SMOLVLM, 'c', "text_config.model_type", "\"phi3\"", VLCACHE_E_UNSUPPORTED, "text_config.model_type"},
    {SMOLVLM, 'i', "max_image_size", "{\"longest_edge\":512}", VLCACHE_E_UNSUPPORTED,
     "max_image_size: longest_edge is 512, config.json's vision_config.image_size is 384"},
    {SMOLVLM, 'i', "max_image_size", "{\"longest_edge\":8}", VLCACHE_E_UNSUPPORTED, "max_image_size"},
    {SMOLVLM, 'i', "max_image_size", "{\"longest_edge\":0}", VLCACHE_E_FORMAT, "max_image_size.longest_edge"},
    {SMOLVLM, 'i', "max_image_size", "384", VLCACHE_E_FORMAT, "max_image_size"},
    {SMOLVLM, 'i', "size", "{\"height\":384,\"width\":384}", VLCACHE_E_UNSUPPORTED, "size"},
    {SMOLVLM, 'i', "size", "{\"longest_edge\":-1}", VLCACHE_E_FORMAT, "size.longest_edge"},
    {SMOLVLM, 'i', "do_resize", "false", VLCACHE_E_UNSUPPORTED, "do_resize"},
    {SMOLVLM, 'i', "do_image_splitting", "1", VLCACHE_E_FORMAT, "do_image_splitting"},
    {SMOLVLM, 'i', "image_std", "[0,1,1]", VLCACHE_E_FORMAT, "image_std"},
    {SMOLVLM, 'i', "resample", "7", VLCACHE_E_FORMAT, "resample"},
    {SMOLVLM, 'i', "image_processor_type", "\"CLIPImageProcessor\"", VLCACHE_E_UNSUPPORTED,
     "image_processor_type"},
    {ONEVISION, 'c', "vision_aspect_ratio", "\"pad\"", VLCACHE_E_UNSUPPORTED, "vision_aspect_ratio"},
    {ONEVISION, 'c', "vision_aspect_ratio", "\"anyres_max_0\"", VLCACHE_E_UNSUPPORTED, "vision_aspect_ratio"},
    {ONEVISION, 'c', "vision_aspect_ratio", "\"anyres_max_9x\"", VLCACHE_E_UNSUPPORTED,
     "vision_aspect_ratio"},
    {ONEVISION, 'c', "vision_feature_select_strategy", "\"default\"", VLCACHE_E_UNSUPPORTED,
     "vision_feature_select_strategy"},
    {ONEVISION, 'c', "vision_feature_select_strategy", "\"half\"", VLCACHE_E_UNSUPPORTED,
     "vision_feature_select_strategy"},
    {ONEVISION, 'c', "vision_feature_layer", "[-1,-2]", VLCACHE_E_UNSUPPORTED, "vision_feature_layer"},
    {ONEVISION, 'c', "vision_feature_layer", "28", VLCACHE_E_FORMAT, "vision_feature_layer"},
    {ONEVISION, 'c', "vision_config", "", VLCACHE_E_FORMAT, "vision_config: is missing"},
    {ONEVISION, 'c', "vision_config.model_type", "\"clip_vision_model\"", VLCACHE_E_UNSUPPORTED,
     "vision_config.model_type"},
    {ONEVISION, 'c', "image_grid_pinpoints", "[[384,385]]", VLCACHE_E_FORMAT, "image_grid_pinpoints"},
    {ONEVISION, 'i', "image_grid_pinpoints", "[]", VLCACHE_E_FORMAT, "image_grid_pinpoints"},
    {ONEVISION, 'i', "size", "{\"shortest_edge\":384}", VLCACHE_E_UNSUPPORTED, "size"},
    {ONEVISION, 'i', "size", "{\"height\":336,\"width\":336}", VLCACHE_E_FORMAT, "size"},
    {ONEVISION, 'i', "do_resize", "false", VLCACHE_E_UNSUPPORTED, "do_resize"},
    {ONEVISION, 'i', "image_processor_type", "\"LlavaNextImageProcessor\"", VLCACHE_E_UNSUPPORTED,
     "image_processor_type"},
    {INTERNVL, 'c', "model_type", "\"internvl_chat\"", VLCACHE_E_UNSUPPORTED, "InternVL3-2B-hf"},
    {INTERNVL, 'c', "downsample_ratio", "0.4", VLCACHE_E_UNSUPPORTED, "downsample_ratio"},
    {INTERNVL, 'c', "downsample_ratio", "0.2", VLCACHE_E_FORMAT, "downsample_ratio"},
    {INTERNVL, 'c', "downsample_ratio", "0", VLCACHE_E_FORMAT, "downsample_ratio"},
    {INTERNVL, 'c', "vision_feature_select_strategy", "\"full\"", VLCACHE_E_UNSUPPORTED,
     "vision_feature_select_strategy"},
    {INTERNVL, 'c', "vision_config.norm_type", "\"batch_norm\"", VLCACHE_E_UNSUPPORTED,
     "vision_config.norm_type"},
    {INTERNVL, 'c', "vision_config.use_absolute_position_embeddings", "false", VLCACHE_E_UNSUPPORTED,
     "vision_config.use_absolute_position_embeddings"},
    {INTERNVL, 'c', "vision_config.image_size", "[448,224]", VLCACHE_E_UNSUPPORTED,
     "vision_config.image_size"},
    {INTERNVL, 'c', "vision_config.use_qk_norm", "\"yes\"", VLCACHE_E_FORMAT, "vision_config.use_qk_norm"},
    {INTERNVL, 'i', "size", "{\"height\":384,\"width\":384}", VLCACHE_E_UNSUPPORTED, "size"},
    {INTERNVL, 'i', "min_patches", "13", VLCACHE_E_FORMAT, "min_patches: is 13, max_patches is 12"},
    {INTERNVL, 'i', "max_patches", "0", VLCACHE_E_FORMAT, "max_patches"},
    {INTERNVL, 'i', "do_center_crop", "true", VLCACHE_E_UNSUPPORTED, "do_center_crop"},
    {INTERNVL, 'i', "do_resize", "false", VLCACHE_E_UNSUPPORTED, "do_resize"},
    {INTERNVL, 'i', "image_processor_type", "\"SiglipImageProcessor\"", VLCACHE_E_UNSUPPORTED,
     "image_processor_type"},
    {PALIGEMMA, 'c', "projection_dim", "1024", VLCACHE_E_FORMAT, "projection_dim"},
    {PALIGEMMA, 'c', "text_config.model_type", "\"gemma3_text\"", VLCACHE_E_UNSUPPORTED,
     "text_config.model_type"},
    {PALIGEMMA, 'c', "image_token_index", "257216", VLCACHE_E_FORMAT, "image_token_index"},
    {PALIGEMMA, 'i', "size", "{\"height\":224,\"width\":224}", VLCACHE_E_UNSUPPORTED, "size"},
    {PALIGEMMA, 'i', "do_resize", "false", VLCACHE_E_UNSUPPORTED, "do_resize"},
    {PALIGEMMA, 'i', "do_center_crop", "true", VLCACHE_E_UNSUPPORTED, "do_center_crop"},
    {PALIGEMMA, 'i', "image_processor_type", "\"CLIPImageProcessor\"", VLCACHE_E_UNSUPPORTED,
     "image_processor_type"},
};

START_TEST(refused) {
    const folder *f = &folders[refusals[_i].folder];
    const settings_fault fault = {refusals[_i].file, refusals[_i].field, refusals[_i].value,
                                  refusals[_i].status, refusals[_i].why};
    settings_refuse(f->config, f->images, &fault);
}
END_TEST

/* Settings whose tiles or tokens no model takes: refused at the picture, at once. */
START_TEST(hostile_sizes) {
    vlci_config c;
    vlci_picture_layout l;
    char *config = settings_changed(folders[INTERNVL].config, "vision_config.image_size", "4096"),
         *fine = settings_changed(config, "vision_config.patch_size", "1");
    ck_ok(settings_load(
        fine, "{\"max_patches\":1024,\"min_patches\":1024,\"size\":{\"height\":4096,\"width\":4096}}", &c));
    ck_fails(c.family->layout(&c, 500, 400, &l), VLCACHE_E_CONTEXT_FULL, "rows");
    ck_assert_ptr_null(l.entry);
    ck_fails(c.family->layout(&c, 0, 400, &l), VLCACHE_E_ARGUMENT, "sides");
    vlci_config_release(&c);
    free(config);
    free(fine);
}
END_TEST

/* ---- memory ---- */

static const char *const tiny[] = {"smolvlm-tiles", "onevision-v5", "internvl-hub", "paligemma-hub"};

/* All that a family does before it has weights. */
static vlcache_status work(const char *path, const vlcache_image *image) {
    vlci_config c;
    vlci_picture_layout l[2] = {{0}, {0}};
    vlci_pixels pixels[2] = {{0}, {0}};
    vlcache_status status = vlci_config_load(path, &c);
    for (size_t n = 1; n <= 2 && !status; n++) {
        const vlci_family *family = vlci_family_among(c.family, n);
        status = family->layout(&c, 50, 31, &l[n - 1]);
        if (!status) status = family->prepare(&c, image, &pixels[n - 1]);
    }
    for (int i = 0; i < 2; i++) {
        vlci_picture_layout_release(&l[i]);
        vlci_pixels_release(&pixels[i]);
    }
    vlci_config_release(&c);
    return status;
}

START_TEST(memory) {
    static uint8_t rgb[50 * 31 * 3];
    char path[512];
    vlcache_image *image = NULL;
    snprintf(path, sizeof path, "%s/models/%s", VLCACHE_TEST_DATA, tiny[_i]);
    ck_ok(vlcache_image_from_rgb(rgb, 50, 31, 50 * 3, &image));
    bool failed = true;
    for (long at = 0; failed; at++) {
        failing_start(at);
        vlcache_status status = work(path, image);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
    vlcache_image_destroy(&image);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("settings");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, NULL, scratch_clean);
    tcase_add_loop_test(cases, visual_tokens, 0, N_FOLDERS);
    tcase_add_test(cases, several_pictures);
    tcase_add_test(cases, text_models);
    tcase_add_test(cases, positions_from_one);
    tcase_add_loop_test(cases, refused, 0, sizeof refusals / sizeof *refusals);
    tcase_add_test(cases, hostile_sizes);
    tcase_add_loop_test(cases, memory, 0, sizeof tiny / sizeof *tiny);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
