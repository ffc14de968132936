/**
 * model.h (internal) - what a loaded model holds.
 */
#ifndef VLCI_MODELS_MODEL_H
#define VLCI_MODELS_MODEL_H

#include "compute/compute.h"
#include "models/config.h"
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
    uint64_t weight_bytes;
    int references;

    vlci_matrix embedding; /**< [vocab][hidden] */
    vlci_text_layer *text; /**< config.text.layers */
    vlci_norm final_norm;
    vlci_matrix head; /**< [vocab][hidden]; all zero when config.text.tied: use the embedding */
};

/** One more owner; vlcache_model_destroy() gives it up. */
vlcache_model *vlci_model_retain(vlcache_model *model);

#endif
