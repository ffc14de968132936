/*
 * qwen2_vl.c - the family of Qwen2-VL: LayerNorms, quick GELU, every layer sees the whole picture.
 */
#include "models/qwen2_vl.h"

#include "models/qwen_clip.h"

static const vlci_qwen_form form = {
    .mlp = {"mlp.fc1", "mlp.fc2", NULL},
    .merger = {"ln_q", "mlp.0", "mlp.2"},
};

/* Qwen2VLVisionConfig. */
static const vlci_qwen_tower_config usual = {
    .form = &form,
    .hidden = 1280,
    .layers = 32,
    .heads = 16,
    .out = 3584,
    .patch = 14,
    .merge = 2,
    .step = 2,
    .theta = 10000,
    .act = VLCI_ACT_QUICK_GELU,
};

/* The tower's width is "embed_dim" here, and "hidden_size" the text model's. */
static vlcache_status more(const vlci_scope *vision, vlci_qwen_tower_config *c) {
    float ratio = 4;
    c->hidden = usual.hidden;
    c->out = usual.out;
    vlcache_status status = vlci_json_int(vision, "embed_dim", 1, VLCI_MAX_WIDTH, &c->hidden);
    if (!status) status = vlci_json_int(vision, "hidden_size", 1, VLCI_MAX_WIDTH, &c->out);
    if (!status) status = vlci_json_float(vision, "mlp_ratio", 1.0 / VLCI_MAX_WIDTH, 1024, &ratio);
    c->intermediate = (int)((float)c->hidden * ratio);
    if (!status && (c->intermediate < 1 || c->intermediate > VLCI_MAX_WIDTH))
        status = vlci_json_bad(vision, "mlp_ratio", "makes a layer of %d, must be from 1 to %d",
                               c->intermediate, VLCI_MAX_WIDTH);
    return status;
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlcache_status status = vlci_qwen_vl_settings(hub, "qwen2_vl", &usual, more, config);
    return status ? status : vlci_qwen_clip_settings(hub, &vlci_qwen2_clip, config);
}

const vlci_family vlci_family_qwen2_vl = {.name = "qwen2_vl", .settings = settings, VLCI_QWEN_VL};
