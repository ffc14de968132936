/**
 * model.h (internal) - what a loaded model holds.
 */
#ifndef VLCI_MODELS_MODEL_H
#define VLCI_MODELS_MODEL_H

#include "compute/compute.h"
#include "models/config.h"
#include "models/weight.h"
#include "tokens/chat.h"
#include "tokens/tokenizer.h"
#include "vlcache/model.h"

struct vlcache_model {
    vlcache_device *device;
    const vlci_family *family; /**< config.family */
    vlci_config config;        /**< the family's settings and weights in it */
    vlci_tokenizer *tokenizer;
    vlci_chat *chat;      /**< as the checkpoint has it */
    vlcache_dtype dtype;  /**< of KV rows, and of matrices where the caller named one */
    vlci_compute compute; /**< what runs it, open as long as the model */
    uint64_t weight_bytes, mapped_bytes;
    int references;

    vlci_matrix embedding; /**< [vocab][hidden] */
    vlci_text_layer *text; /**< config.text.layers */
    vlci_norm final_norm;
    vlci_matrix head; /**< [vocab][hidden]; all zero when config.text.tied: use the embedding */
};

/*
 * The steps of vlcache_model_load(), in their order. A model that is only described takes them without a
 * device; vlcache_model_destroy() follows in any case.
 */

/** A model that holds nothing yet; `*taken`: the options, checked and filled in. `device` may be NULL.
 * Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_NO_MEMORY; `*out` is NULL then. */
vlcache_status vlci_model_begin(vlcache_device *device, const vlcache_model_options *options,
                                vlcache_model_options *taken, vlcache_model **out);

/** Loads config and family. Errors: those of vlci_config_load(), and of the bounds of pictures. */
vlcache_status vlci_model_load_config(vlcache_model *model, const char *folder,
                                      const vlcache_model_options *taken);

/** Loads what a folder says of text into a model that has its config: tokenizer and chat template. Errors:
 * those of vlci_tokenizer_load() and vlci_chat_load(). */
vlcache_status vlci_model_load_words(vlcache_model *model, const char *folder);

/** Takes all weights through `up` into a model that has its config: tower, projector, text model. Errors:
 * those of the family's load(); vlcache_model_destroy() follows. */
vlcache_status vlci_model_load_weights(vlcache_model *model, vlci_upload *up);

/** Logs what is stored and has no place in the model: it may be a setting misread, and is never left out
 * silently. `folder` is for the message. */
void vlci_model_warn_of_rest(const char *folder, const vlci_checkpoint *checkpoint);

/** The checkpoint's own dtype, which KV rows get: as config.json says, else that of the embedding. */
vlcache_dtype vlci_model_stored_dtype(const vlcache_model *model);

/** One more owner; vlcache_model_destroy() gives it up. */
vlcache_model *vlci_model_retain(vlcache_model *model);

#endif
