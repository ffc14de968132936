/*
 * config.c - the settings that all families have.
 */
#include "models/config.h"

#include <string.h>

#include "core/alloc.h"

vlcache_status vlci_config_read_image_token(const vlci_scope *root, int usual, vlci_config *config) {
    int high = config->text.vocab + config->text.more_ids - 1;
    config->image_token = usual;
    vlcache_status status = vlci_json_int(root, "image_token_id", 0, high, &config->image_token);
    if (!status) status = vlci_json_int(root, "image_token_index", 0, high, &config->image_token);
    if (!status && config->image_token > high)
        status = vlci_json_bad(root, "image_token_index",
                               "is missing, and the default %d is not below text_config.vocab_size %d", usual,
                               high + 1);
    return status;
}

vlcache_status vlci_config_read_video_token(const vlci_scope *root, int usual, vlci_config *config) {
    int high = config->text.vocab - 1;
    config->video_token = usual;
    vlcache_status status = vlci_json_int(root, "video_token_id", 0, high, &config->video_token);
    if (!status) status = vlci_json_int(root, "video_token_index", 0, high, &config->video_token);
    if (config->video_token > high) config->video_token = -1;
    return status;
}

/* What stands nowhere: what the text class has, unless its settings say null, which is none. */
static vlcache_status default_ends(const vlci_scope *text, bool bos, vlci_config *config) {
    int vocab = config->text.vocab;
    int usual_bos = config->text.bos, usual_eos = config->text.eos;
    if (!bos && usual_bos < vocab && !(text->object && json_object_get(text->object, "bos_token_id")))
        config->bos_token = usual_bos;
    if (config->eos_tokens || usual_eos < 0 || usual_eos >= vocab ||
        (text->object && json_object_get(text->object, "eos_token_id")))
        return VLCACHE_OK;
    config->eos_tokens = vlci_alloc(1, sizeof *config->eos_tokens);
    if (!config->eos_tokens) return vlci_fail_memory("end tokens");
    config->eos_tokens[0] = usual_eos;
    config->n_eos_tokens = 1;
    return VLCACHE_OK;
}

/* From generation_config.json, else config.json, else its text_config. */
static vlcache_status read_ends(const vlci_hub *hub, const vlci_scope *text, vlci_config *config) {
    int vocab = config->text.vocab;
    const vlci_scope *places[] = {&hub->generation, &hub->config, text};
    vlcache_status status = VLCACHE_OK;
    bool bos = false;
    for (int i = 0; i < 3 && !status; i++) {
        if (!config->eos_tokens)
            status =
                vlci_hub_ids(places[i], "eos_token_id", vocab, &config->eos_tokens, &config->n_eos_tokens);
        if (!status && !bos && vlci_json_value(places[i], "bos_token_id")) {
            status = vlci_json_int(places[i], "bos_token_id", 0, vocab - 1, &config->bos_token);
            bos = true;
        }
    }
    return status ? status : default_ends(text, bos, config);
}

vlcache_status vlci_config_read_common(const vlci_hub *hub, vlci_config *config) {
    vlci_scope text;
    config->bos_token = -1;
    vlcache_status status = vlci_json_object(&hub->config, "text_config", &text);
    if (config->text.flat) text = hub->config;
    if (!status) status = vlci_hub_dtype(&text, &config->dtype);
    if (!status) status = vlci_hub_dtype(&hub->config, &config->dtype);
    return status ? status : read_ends(hub, &text, config);
}

void vlci_config_release(vlci_config *config) {
    if (config->family) config->family->release(config);
    vlci_free(config->eos_tokens);
    vlci_free(config->text_model_type);
    memset(config, 0, sizeof *config);
}
