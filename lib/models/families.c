/*
 * families.c - a row for each family of models, and which row a folder means.
 */
#include "models/families.h"

#include <stdio.h>
#include <string.h>

#include "models/idefics3.h"
#include "models/internvl.h"
#include "models/llava.h"
#include "models/llava_next.h"
#include "models/llava_onevision.h"
#include "models/mllama.h"
#include "models/paligemma.h"
#include "models/qwen2_5_vl.h"
#include "models/qwen2_vl.h"
#include "models/qwen3_vl.h"
#include "models/smolvlm.h"
#include "models/text_only.h"

const vlci_family *const vlci_families[] = {
    &vlci_family_llava,           // LLaVA-1.5 and all that is built as it is
    &vlci_family_llava_next,      // LLaVA-1.6
    &vlci_family_llava_onevision, // and LLaVA-OV-Chat
    &vlci_family_idefics3,        // SmolVLM's first release, too
    &vlci_family_smolvlm,         // SmolVLM2
    &vlci_family_internvl,        // InternVL3 and 3.5, "-hf"
    &vlci_family_paligemma,       // 1 and 2, whose text models are Gemma's
    &vlci_family_qwen2_vl,        // and QVQ
    &vlci_family_qwen2_5_vl,      // windows
    &vlci_family_qwen3_vl,        // dense ones
    &vlci_family_mllama,          // Llama 3.2 Vision: cross-attention
    &vlci_family_llama,           // from here on text models alone, each under its own name
    &vlci_family_mistral,         // sliding windows
    &vlci_family_qwen2,           // and 2.5
    &vlci_family_qwen3,           // dense ones
    &vlci_family_gemma,           // the first
    &vlci_family_gemma2,          // capped logits, windows
    NULL,
};

const vlci_family *vlci_family_find(const char *name) {
    for (const vlci_family *const *row = vlci_families; *row; row++)
        if (strcmp((*row)->name, name) == 0) return *row;
    return NULL;
}

/* "llava and llava_next": all names, for messages. */
static const char *all_names(char text[static 256]) {
    size_t at = 0;
    for (const vlci_family *const *row = vlci_families; *row && at < 256; row++)
        at += (size_t)snprintf(text + at, 256 - at, "%s%s",
                               row == vlci_families ? ""
                               : row[1]             ? ", "
                                                    : " and ",
                               (*row)->name);
    return text;
}

/* What LLaVA's own code writes: model types of its own, later "llava", and a field that no conversion has. */
static bool is_original(const vlci_scope *root, const char *type) {
    return strncmp(type, "llava_l", 7) == 0 || strncmp(type, "llava_m", 7) == 0 ||
           vlci_json_value(root, "mm_vision_tower");
}

/* Those that people bring along and that are not supported, with what to take in their place. */
static const char *way_out(const char *type) {
    static const struct {
        const char *type, *way;
    } ways[] = {
        {"internvl_chat",
         "internvl is supported: take the folder whose name ends in -hf "
         "(OpenGVLab/InternVL3-2B-hf for OpenGVLab/InternVL3-2B, and so on)"},
        {"qwen3_vl_moe",
         "mixtures of experts are not supported: take a dense one (Qwen/Qwen3-VL-8B-Instruct)"},
        {"mixtral", "mixtures of experts are not supported: take a dense model (mistral)"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(type, ways[i].type) == 0) return ways[i].way;
    return NULL;
}

static vlcache_status find(const vlci_scope *root, const vlci_family **family) {
    char names[256];
    const char *type = NULL;
    *family = NULL;
    vlcache_status status = vlci_json_string(root, "model_type", &type);
    if (status) return status;
    if (!type) return vlci_json_bad(root, "model_type", "is missing; %s are supported", all_names(names));
    if (is_original(root, type))
        return vlci_json_unsupported(root, "model_type",
                                     "\"%.64s\"; %s are supported: this folder is an original LLaVA "
                                     "checkpoint, take its Hugging Face conversion (llava-hf/llava-1.5-7b-hf "
                                     "for liuhaotian/llava-v1.5-7b, and so on)",
                                     type, all_names(names));
    if (way_out(type)) return vlci_json_unsupported(root, "model_type", "\"%.64s\"; %s", type, way_out(type));
    *family = vlci_family_find(type);
    if (!*family)
        return vlci_json_unsupported(root, "model_type",
                                     "\"%.64s\"; %s (Hugging Face conversions) are supported", type,
                                     all_names(names));
    return vlci_hub_unquantised(root);
}

/* What the open hub says, and closes it; `status`: how it was opened. */
static vlcache_status read(vlcache_status status, vlci_hub *hub, vlci_config *out) {
    *out = (vlci_config){0};
    if (!status) status = find(&hub->config, &out->family);
    if (!status) status = out->family->settings(hub, out);
    if (!status) status = vlci_config_read_common(hub, out);
    vlci_hub_close(hub);
    if (status) vlci_config_release(out);
    return status;
}

vlcache_status vlci_config_load(const char *folder, vlci_config *out) {
    vlci_hub hub;
    return read(vlci_hub_open(folder, &hub), &hub, out);
}

vlcache_status vlci_config_load_alone(const char *config, vlci_config *out) {
    vlci_hub hub;
    return read(vlci_hub_open_alone(config, &hub), &hub, out);
}
