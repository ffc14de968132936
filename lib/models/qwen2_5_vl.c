/*
 * qwen2_5_vl.c - the family of Qwen2.5-VL: RMSNorms, a gated MLP, layers that see windows and some that see
 * all.
 */
#include "models/qwen2_5_vl.h"

#include "models/qwen_clip.h"

static const vlci_qwen_form form = {
    .rms = true,
    .mlp = {"mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"},
    .merger = {"ln_q", "mlp.0", "mlp.2"},
};

/* Qwen2_5_VLVisionConfig, but for its hidden_size of 3584, which no checkpoint leaves out. */
static const vlci_qwen_tower_config usual = {
    .form = &form,
    .hidden = 3584,
    .layers = 32,
    .heads = 16,
    .intermediate = 3420,
    .out = 3584,
    .patch = 14,
    .merge = 2,
    .step = 2,
    .theta = 10000,
    .act = VLCI_ACT_SILU,
};

/* "window_size" is in pixels, of which whole tokens count. */
static vlcache_status more(const vlci_scope *vision, vlci_qwen_tower_config *c) {
    int list[VLCI_MAX_LAYERS] = {7, 15, 23, 31}, n = 4, pixels = 112;
    vlcache_status status = vlci_json_int(vision, "window_size", 1, VLCI_MAX_WIDTH, &pixels);
    if (!status)
        status = vlci_hub_layers(vision, "fullatt_block_indexes", c->layers, VLCI_MAX_LAYERS, list, &n);
    if (status) return status;
    c->window = pixels / c->merge / c->patch;
    if (!c->window)
        return vlci_json_bad(vision, "window_size", "is %d, a token has %d pixels", pixels,
                             c->merge * c->patch);
    for (int i = 0; i < n; i++) c->whole[list[i]] = true;
    return VLCACHE_OK;
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlci_qwen_clip clip = vlci_qwen2_clip;
    clip.ticks = 4;
    vlcache_status status = vlci_qwen_vl_settings(hub, "qwen2_5_vl", &usual, more, config);
    return status ? status : vlci_qwen_clip_settings(hub, &clip, config);
}

const vlci_family vlci_family_qwen2_5_vl = {.name = "qwen2_5_vl", .settings = settings, VLCI_QWEN_VL};
