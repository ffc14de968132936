/*
 * geometry.c - a row for each geometry: its config.json, in which only sizes matter.
 *
 * Positions reach as far as the longest prompt that anybody measures: with random weights it is the cost of a
 * context that counts, not what the checkpoint was trained on.
 */
#include "bench/geometry.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
#define CLIP_L                                                                                               \
    "\"vision_config\": {\"hidden_size\": 1024, \"num_hidden_layers\": 24, \"num_attention_heads\": 16, "      \
    "\"intermediate_size\": 4096, \"image_size\": 336, \"patch_size\": 14}, "

#define SIGLIP(side, layers)                                                                                 \
    "\"vision_config\": {\"model_type\": \"siglip_vision_model\", \"hidden_size\": 1152, "                    \
    "\"num_hidden_layers\": " layers ", \"num_attention_heads\": 16, \"intermediate_size\": 4304, "           \
    "\"image_size\": " side ", \"patch_size\": 14}, "

#define ALL "\"torch_dtype\": \"bfloat16\", \"projector_hidden_act\": \"gelu\", "

/* Pictures of any size, up to a megapixel. */
#define ANY_SIZE "\"image_processor\": {\"max_pixels\": 1003520}, "

static const struct {
    const char *name, *config;
} rows[] = {
    {"llava-1.5-7b",
     "{\"model_type\": \"llava\", \"image_token_index\": 32000, " ALL CLIP_L
     "\"text_config\": {\"model_type\": \"llama\", \"num_hidden_layers\": 32, \"hidden_size\": 4096, "
     "\"num_attention_heads\": 32, \"num_key_value_heads\": 32, \"intermediate_size\": 11008, "
     "\"vocab_size\": 32064, \"max_position_embeddings\": 262144}}"},
    {"llava-mistral-7b",
     "{\"model_type\": \"llava\", \"image_token_index\": 32000, " ALL CLIP_L
     "\"text_config\": {\"model_type\": \"mistral\", \"num_hidden_layers\": 32, \"hidden_size\": 4096, "
     "\"num_attention_heads\": 32, \"num_key_value_heads\": 8, \"intermediate_size\": 14336, "
     "\"sliding_window\": null, \"rope_theta\": 1e6, \"vocab_size\": 32064, "
     "\"max_position_embeddings\": 262144}}"},
    {"llava-1.6-34b",
     "{\"model_type\": \"llava_next\", \"image_token_index\": 64000, " ALL CLIP_L
     "\"text_config\": {\"model_type\": \"llama\", \"num_hidden_layers\": 60, \"hidden_size\": 7168, "
     "\"num_attention_heads\": 56, \"num_key_value_heads\": 8, \"intermediate_size\": 20480, "
     "\"rope_theta\": 5e6, \"vocab_size\": 64064, \"max_position_embeddings\": 262144}}"},
    {"llava-onevision-7b",
     "{\"model_type\": \"llava_onevision\", \"image_token_index\": 151646, " ALL SIGLIP("384", "26")
     "\"image_processor\": {\"size\": {\"height\": 384, \"width\": 384}}, "
     "\"text_config\": {\"model_type\": \"qwen2\", \"num_hidden_layers\": 28, \"hidden_size\": 3584, "
     "\"num_attention_heads\": 28, \"num_key_value_heads\": 4, \"intermediate_size\": 18944, "
     "\"rope_theta\": 1e6, \"vocab_size\": 152000, \"max_position_embeddings\": 262144}}"},
    {"internvl3-2b",
     "{\"model_type\": \"internvl\", \"image_token_id\": 151667, " ALL
     "\"vision_config\": {\"model_type\": \"internvl_vision\", \"attention_bias\": true}, "
     "\"image_processor\": {\"size\": {\"height\": 448, \"width\": 448}}, "
     "\"text_config\": {\"model_type\": \"qwen2\", \"num_hidden_layers\": 28, \"hidden_size\": 1536, "
     "\"num_attention_heads\": 12, \"num_key_value_heads\": 2, \"intermediate_size\": 8960, "
     "\"rope_theta\": 1e6, \"vocab_size\": 151674, \"max_position_embeddings\": 262144}}"},
    {"smolvlm2-2.2b",
     "{\"model_type\": \"smolvlm\", \"image_token_id\": 49190, \"scale_factor\": 3, " ALL
     "\"vision_config\": {\"hidden_size\": 1152, \"num_hidden_layers\": 27, \"num_attention_heads\": 16, "
     "\"intermediate_size\": 4304, \"image_size\": 384, \"patch_size\": 14}, "
     "\"image_processor\": {\"size\": {\"longest_edge\": 1536}, \"max_image_size\": {\"longest_edge\": 384}}, "
     "\"text_config\": {\"model_type\": \"llama\", \"num_hidden_layers\": 24, \"hidden_size\": 2048, "
     "\"num_attention_heads\": 32, \"num_key_value_heads\": 32, \"intermediate_size\": 8192, "
     "\"rope_theta\": 130000, \"vocab_size\": 49280, \"max_position_embeddings\": 262144}}"},
    {"qwen2.5-vl-3b",
     "{\"model_type\": \"qwen2_5_vl\", " ALL ANY_SIZE
     "\"vision_config\": {\"depth\": 32, \"hidden_size\": 1280, \"num_heads\": 16, "
     "\"intermediate_size\": 3420, \"out_hidden_size\": 2048, \"patch_size\": 14, \"window_size\": 112, "
     "\"fullatt_block_indexes\": [7, 15, 23, 31]}, \"tie_word_embeddings\": true, "
     "\"text_config\": {\"num_hidden_layers\": 36, \"hidden_size\": 2048, \"num_attention_heads\": 16, "
     "\"num_key_value_heads\": 2, \"intermediate_size\": 11008, \"rms_norm_eps\": 1e-6, "
     "\"vocab_size\": 151936, \"max_position_embeddings\": 262144}}"},
    {"qwen2.5-vl-7b",
     "{\"model_type\": \"qwen2_5_vl\", " ALL ANY_SIZE
     "\"vision_config\": {\"depth\": 32, \"hidden_size\": 1280, \"num_heads\": 16, "
     "\"intermediate_size\": 3420, \"out_hidden_size\": 3584, \"patch_size\": 14, \"window_size\": 112, "
     "\"fullatt_block_indexes\": [7, 15, 23, 31]}, \"tie_word_embeddings\": false, "
     "\"text_config\": {\"num_hidden_layers\": 28, \"hidden_size\": 3584, \"num_attention_heads\": 28, "
     "\"num_key_value_heads\": 4, \"intermediate_size\": 18944, \"rms_norm_eps\": 1e-6, "
     "\"vocab_size\": 152064, \"max_position_embeddings\": 262144}}"},
    {"qwen3-vl-4b",
     "{\"model_type\": \"qwen3_vl\", " ALL
     "\"image_processor\": {\"patch_size\": 16, \"max_pixels\": 1048576}, "
     "\"vision_config\": {\"depth\": 24, \"hidden_size\": 1024, \"num_heads\": 16, "
     "\"intermediate_size\": 4096, \"out_hidden_size\": 2560, \"deepstack_visual_indexes\": [5, 11, 17]}, "
     "\"tie_word_embeddings\": true, "
     "\"text_config\": {\"num_hidden_layers\": 36, \"hidden_size\": 2560, \"num_attention_heads\": 32, "
     "\"num_key_value_heads\": 8, \"head_dim\": 128, \"intermediate_size\": 9728, \"rope_theta\": 5e6, "
     "\"vocab_size\": 151936, \"max_position_embeddings\": 262144}}"},
    {"llama-3.2-vision-11b",
     "{\"model_type\": \"mllama\", \"image_token_index\": 128256, \"torch_dtype\": \"bfloat16\", "
     "\"image_processor\": {\"size\": {\"height\": 560, \"width\": 560}}, "
     "\"vision_config\": {\"image_size\": 560}, \"text_config\": {\"max_position_embeddings\": 262144}}"},
    {"llava-half",
     "{\"model_type\": \"llava\", \"image_token_index\": 32000, " ALL CLIP_L
     "\"text_config\": {\"model_type\": \"llama\", \"num_hidden_layers\": 20, \"hidden_size\": 1024, "
     "\"num_attention_heads\": 16, \"num_key_value_heads\": 8, \"intermediate_size\": 4096, "
     "\"vocab_size\": 32064, \"max_position_embeddings\": 262144}}"},
    {"tiny",
     "{\"model_type\": \"llava\", \"image_token_index\": 500, " ALL
     "\"vision_config\": {\"hidden_size\": 128, \"num_hidden_layers\": 3, \"num_attention_heads\": 2, "
     "\"intermediate_size\": 256, \"image_size\": 56, \"patch_size\": 14}, "
     "\"text_config\": {\"model_type\": \"llama\", \"num_hidden_layers\": 3, \"hidden_size\": 256, "
     "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 512, "
     "\"vocab_size\": 512, \"max_position_embeddings\": 8192}}"},
};
/* clang-format on */
enum { ROWS = sizeof rows / sizeof *rows };

const char *geometry_find(const char *name) {
    for (int i = 0; i < ROWS; i++)
        if (strcmp(rows[i].name, name) == 0) return rows[i].config;
    return NULL;
}

void geometry_names(char *text, size_t capacity) {
    size_t at = 0;
    for (int i = 0; i < ROWS && at < capacity; i++)
        at += (size_t)snprintf(text + at, capacity - at, "%s%s", i ? ", " : "", rows[i].name);
}
