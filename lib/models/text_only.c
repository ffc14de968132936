/*
 * text_only.c - text models alone: config.json is the text model's, and there is nothing beside it.
 */
#include "models/text_only.h"

#include "models/config.h"

static const vlci_naming names[] = {
    {{"language_model.model.", "model."}},
    {{"language_model.lm_head.", "lm_head."}},
    {{NULL}},
};

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    config->image_token = -1;
    return vlci_text_config_read(&hub->config, config->family->name, &config->text, &config->text_model_type);
}

static vlcache_status load(vlci_upload *up, vlci_config *config) {
    (void)up, (void)config;
    return VLCACHE_OK;
}

static void release(vlci_config *config) {
    (void)config;
}

static void describe(const vlci_config *config, vlcache_model_info *info) {
    (void)config, (void)info;
}

#define FAMILY(text)                                                                                         \
    const vlci_family vlci_family_##text = {                                                                 \
        .name = #text,                                                                                       \
        .mark = "<image>",                                                                                   \
        .names = names,                                                                                      \
        .settings = settings,                                                                                \
        .load = load,                                                                                        \
        .release = release,                                                                                  \
        .describe = describe,                                                                                \
        .positions = vlci_positions_count,                                                                   \
    }

FAMILY(llama);
FAMILY(mistral);
FAMILY(qwen2);
FAMILY(qwen3);
FAMILY(gemma);
FAMILY(gemma2);
