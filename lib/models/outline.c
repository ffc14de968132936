/*
 * outline.c - a model's folder looked at: the steps of loading, without a device and without weights.
 *
 *     folder -> config -> words (tokenizer, template) -> headers of the weights -> bytes
 *                            |                             |
 *                            +-- what fails here is kept --+
 *
 * What weights take is counted by the code that loads them (vlci_upload without a device): it looks for each
 * tensor and judges its shape and type. Where that fails it counts what the settings ask for instead.
 */
#include "vlcache/outline.h"

#include <math.h>

#include "core/alloc.h"
#include "kv/pool.h"
#include "models/text.h"

struct vlcache_outline {
    vlcache_model *model; /* config, words, dtype and bytes; no device, no weights */
    uint64_t stored[4], missing, largest, mapped, piece;
    vlcache_status problem;
    char *why; /* NULL: no problem */
};

/* ---- opening ------------------------------------------------------------------------------------------- */

/* Keeps the first of the failures that leave something to describe. */
static vlcache_status note(vlcache_outline *o, vlcache_status status) {
    if (!status || status == VLCACHE_E_NO_MEMORY || o->problem)
        return status == VLCACHE_E_NO_MEMORY ? status : VLCACHE_OK;
    o->why = vlci_strdup(vlcache_error_message());
    if (!o->why) return vlci_fail_memory("message");
    o->problem = status;
    return VLCACHE_OK;
}

/* Takes all weights of a model of its own, and keeps how much they are. `checkpoint` NULL: as the settings
 * say. */
static vlcache_status count(const char *folder, const vlcache_model_options *options,
                            vlci_checkpoint *checkpoint, vlcache_outline *o) {
    vlcache_model_options taken;
    vlcache_model *model = NULL;
    vlcache_status status = vlci_model_begin(NULL, options, &taken, &model);
    if (status) return status;
    status = vlci_model_load_config(model, folder, &taken);
    vlci_upload up = {.compute = &model->compute,
                      .checkpoint = checkpoint,
                      .dtype = taken.dtype,
                      .no_mmap = taken.no_mmap != 0};
    if (!checkpoint && up.dtype == VLCACHE_DTYPE_AUTO) up.dtype = model->config.dtype;
    if (!checkpoint && up.dtype == VLCACHE_DTYPE_AUTO) up.dtype = VLCACHE_DTYPE_BF16;
    if (!status) status = vlci_model_load_weights(model, &up);
    if (!status) {
        o->largest = up.largest;
        o->mapped = up.mapped_bytes;
        o->piece = up.piece;
        o->model->weight_bytes = up.device_bytes;
        o->model->dtype = taken.dtype != VLCACHE_DTYPE_AUTO ? taken.dtype : vlci_model_stored_dtype(model);
        if (checkpoint) vlci_model_warn_of_rest(folder, checkpoint);
    }
    vlcache_model_destroy(&model);
    return status;
}

/* The headers of a folder whose data are not all there are read as they stand; what loading says is noted. */
static vlcache_status open_headers(const char *folder, vlcache_outline *o, vlci_checkpoint **checkpoint) {
    vlcache_status status = vlci_checkpoint_open(folder, checkpoint);
    vlci_checkpoint_close(checkpoint);
    vlcache_status kept = note(o, status);
    if (kept) return kept;
    status = vlci_checkpoint_outline(folder, checkpoint);
    if (!status) vlci_checkpoint_count(*checkpoint, o->stored, &o->missing);
    return note(o, status);
}

static vlcache_status look_at_weights(const char *folder, const vlcache_model_options *options,
                                      vlcache_outline *o) {
    vlci_checkpoint *checkpoint = NULL;
    vlcache_status status = open_headers(folder, o, &checkpoint);
    vlcache_status counted = VLCACHE_E_FORMAT;
    if (!status && checkpoint) status = note(o, counted = count(folder, options, checkpoint, o));
    vlci_checkpoint_close(&checkpoint);
    return status || !counted ? status : count(folder, options, NULL, o);
}

vlcache_status vlcache_outline_open(const char *folder, const vlcache_model_options *options,
                                    vlcache_outline **out) {
    vlcache_model_options taken;
    if (out) *out = NULL;
    if (!folder || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_outline_open: folder or out is NULL");
    vlcache_outline *o = vlci_calloc(1, sizeof *o);
    if (!o) return vlci_fail_memory("outline of a model");
    vlcache_status status = vlci_model_begin(NULL, options, &taken, &o->model);
    if (!status) status = vlci_model_load_config(o->model, folder, &taken);
    if (!status) status = note(o, vlci_model_load_words(o->model, folder));
    if (!status) status = look_at_weights(folder, options, o);
    if (status)
        vlcache_outline_destroy(&o);
    else
        *out = o;
    return status;
}

void vlcache_outline_destroy(vlcache_outline **handle) {
    if (!handle || !*handle) return;
    vlcache_model_destroy(&(*handle)->model);
    vlci_free((*handle)->why);
    vlci_free(*handle);
    *handle = NULL;
}

/* ---- what it says -------------------------------------------------------------------------------------- */

void vlcache_outline_describe(const vlcache_outline *o, vlcache_outline_info *info) {
    const vlcache_model *model = o->model;
    const vlci_chat *chat = model->chat;
    *info = (vlcache_outline_info){
        .mark = model->config.eyes ? model->family->mark : NULL,
        .chat_template = chat ? vlci_chat_name(chat) : NULL,
        .template_error = chat ? chat->failure : NULL,
        .bos = model->config.bos_token,
        .eos = model->config.eos_tokens,
        .n_eos = (size_t)model->config.n_eos_tokens,
        .missing = o->missing,
        .problem = o->problem,
        .why = o->why ? o->why : "",
    };
    for (int i = 0; i < 4; i++) info->stored[i] = o->stored[i];
    vlcache_model_describe(model, &info->model);
}

/* The layout of one of some pictures, to be released. */
static vlcache_status lay_out(const vlcache_outline *o, int width, int height, int pictures,
                              vlci_picture_layout *layout) {
    enum { LONGEST = 65535 };
    if (width < 1 || width > LONGEST || height < 1 || height > LONGEST || pictures < 1)
        return vlci_fail(VLCACHE_E_ARGUMENT, "a picture of %d x %d, one of %d: sides must be from 1 to %d",
                         width, height, pictures, LONGEST);
    const vlci_config *config = &o->model->config;
    const vlci_family *family = vlci_family_among(o->model->family, (size_t)pictures);
    if (!family->layout)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "%s is a text model, which sees no pictures", family->name);
    if (!config->tokenizer) return vlci_fail(o->problem, "%s", o->why);
    return family->layout(config, width, height, layout);
}

vlcache_status vlcache_outline_picture(const vlcache_outline *o, int width, int height, int pictures,
                                       int *tokens) {
    vlci_picture_layout layout;
    if (!o || !tokens)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_outline_picture: outline or tokens is NULL");
    *tokens = 0;
    vlcache_status status = lay_out(o, width, height, pictures, &layout);
    if (!status) *tokens = layout.n;
    if (!status) vlci_picture_layout_release(&layout);
    return status;
}

/* ---- what it takes ------------------------------------------------------------------------------------- */

/* Of `rows` rows in some layers. */
static uint64_t kv_bytes(const vlcache_model *model, int layers, int rows) {
    const vlci_text_config *c = &model->config.text;
    const vlci_kv_shape shape = {c->layers, c->kv_heads, c->head_dim, model->dtype};
    uint64_t lists = (uint64_t)layers * (uint64_t)c->kv_heads;
    return lists * (uint64_t)vlci_kv_pages(rows) * vlci_kv_page_bytes(&shape, false);
}

vlcache_status vlcache_outline_aside_of(const vlcache_outline *o, int width, int height, double budget,
                                        vlcache_outline_aside *out) {
    vlci_picture_layout layout;
    if (!o || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_outline_aside_of: outline or out is NULL");
    *out = (vlcache_outline_aside){0};
    if (!(budget > 0 && budget <= 1))
        return vlci_fail(VLCACHE_E_ARGUMENT, "a budget of %g: must be above 0, at most 1", budget);
    vlcache_status status = lay_out(o, width, height, 1, &layout);
    if (status) return status;
    if (layout.aside) {
        int crosses = o->model->config.text.crosses, kept = (int)lround(layout.n_tokens * budget);
        out->rows = layout.n_tokens;
        out->kv_full = kv_bytes(o->model, crosses, layout.n_tokens);
        out->kv_kept = kv_bytes(o->model, crosses, kept ? kept : 1);
    }
    vlci_picture_layout_release(&layout);
    return VLCACHE_OK;
}

vlcache_status vlcache_outline_memory_of(const vlcache_outline *o, int tokens, double budget,
                                         vlcache_outline_memory *out) {
    enum { MOST_TOKENS = 1 << 24 };
    if (!o || !out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_outline_memory_of: outline or out is NULL");
    *out = (vlcache_outline_memory){0};
    if (tokens < 1 || tokens > MOST_TOKENS || !(budget > 0 && budget <= 1))
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "%d tokens at a budget of %g: must be from 1 to %d, and above 0, at most 1", tokens,
                         budget, MOST_TOKENS);
    const vlci_text_config *c = &o->model->config.text;
    int kept = c->crosses ? tokens : (int)lround(tokens * budget), layers = c->layers - c->crosses;
    out->weights = o->model->weight_bytes;
    out->kv_full = kv_bytes(o->model, layers, tokens);
    out->kv_kept = kv_bytes(o->model, layers, kept ? kept : 1);
    out->work = vlci_text_work_bytes(&o->model->config.text, tokens);
    out->largest = out->kv_full / 2 > o->largest ? out->kv_full / 2 : o->largest;
    out->mapped = o->mapped;
    out->largest_mapped = out->kv_full / 2 > o->piece ? out->kv_full / 2 : o->piece;
    return VLCACHE_OK;
}
