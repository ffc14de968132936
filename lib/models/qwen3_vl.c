/*
 * qwen3_vl.c - the family of Qwen3-VL: a table of positions under each picture, and features of some layers
 * that go into the text model's first ones (DeepStack).
 */
#include "models/qwen3_vl.h"

#include "models/qwen_clip.h"

static const vlci_qwen_form form = {
    .patch_bias = true,
    .mlp = {"mlp.linear_fc1", "mlp.linear_fc2", NULL},
    .merger = {"norm", "linear_fc1", "linear_fc2"},
    .deep = {"visual.deepstack_merger_list.", "norm", "linear_fc1", "linear_fc2"},
};

/* Qwen3VLVisionConfig. */
static const vlci_qwen_tower_config usual = {
    .form = &form,
    .hidden = 1152,
    .layers = 27,
    .heads = 16,
    .intermediate = 4304,
    .out = 3584,
    .patch = 16,
    .merge = 2,
    .step = 2,
    .theta = 10000,
    .act = VLCI_ACT_GELU_TANH,
};

static vlcache_status more(const vlci_scope *vision, vlci_qwen_tower_config *c) {
    static const int layers[] = {8, 16, 24};
    int entries = 48 * 48;
    c->n_deep = 3;
    for (int i = 0; i < 3; i++) c->deep[i] = layers[i];
    vlcache_status status = vlci_json_int(vision, "num_position_embeddings", 1, 1 << 20, &entries);
    if (!status)
        status = vlci_hub_layers(vision, "deepstack_visual_indexes", c->layers, VLCI_QWEN_DEEP_MAX, c->deep,
                                 &c->n_deep);
    for (c->side = 1; (c->side + 1) * (c->side + 1) <= entries;) c->side++;
    if (!status && c->side * c->side != entries)
        status =
            vlci_json_unsupported(vision, "num_position_embeddings", "is %d; a square is supported", entries);
    if (!status && c->n_deep && c->deep[c->n_deep - 1] >= c->layers)
        status = vlci_json_bad(vision, "deepstack_visual_indexes",
                               "is missing, and the default %d is not "
                               "below depth %d",
                               c->deep[c->n_deep - 1], c->layers);
    return status;
}

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlcache_status status = vlci_qwen_vl_settings(hub, "qwen3_vl", &usual, more, config);
    return status ? status : vlci_qwen_clip_settings(hub, &vlci_qwen3_clip, config);
}

const vlci_family vlci_family_qwen3_vl = {.name = "qwen3_vl", .settings = settings, VLCI_QWEN_VL};
