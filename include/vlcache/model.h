/**
 * model.h - a vision-language model from a Hugging Face folder, its weights on a device.
 */
#ifndef VLCACHE_MODEL_H
#define VLCACHE_MODEL_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A loaded model. Immutable, shareable between threads; keeps its device alive. */
typedef struct vlcache_model vlcache_model;

/** Options of vlcache_model_load(); start from VLCACHE_MODEL_OPTIONS_INIT. */
typedef struct vlcache_model_options {
    size_t size;         /**< sizeof(vlcache_model_options); see common.h */
    vlcache_dtype dtype; /**< storage of weights and KV rows; AUTO: of each matrix as the checkpoint stores
                              it, of KV rows as config.json says; AUTO */
    vlcache_progress_fn
        progress;        /**< stage "loading weights", in bytes of the checkpoint; NULL: none; NULL */
    void *progress_user; /**< handed to it; NULL */
} vlcache_model_options;
#define VLCACHE_MODEL_OPTIONS_INIT                                                                           \
    { sizeof(vlcache_model_options), VLCACHE_DTYPE_AUTO, NULL, NULL }

/** What a model is. */
typedef struct vlcache_model_info {
    const char *family;    /**< "model_type" of config.json, e.g. "llava" (static storage) */
    const char *text_type; /**< "llama" or "mistral" (owned by the model) */
    vlcache_dtype dtype;   /**< of KV rows, and of weights unless AUTO left them mixed */
    int layers, heads, kv_heads, head_dim, hidden, vocabulary;
    int max_positions;          /**< longest context in tokens */
    int image_side, patch_side; /**< pixels */
    uint64_t weight_bytes;      /**< on the device */
} vlcache_model_info;

/**
 * Loads config.json, preprocessor_config.json, generation_config.json, tokenizer.json, the chat template and
 * the safetensors of `folder` onto `device`. Tensors are read, uploaded and dropped one by one: weights are
 * never held twice. Blocks until all is on the device. Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_IO,
 * VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named), VLCACHE_E_NO_MEMORY,
 * VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_DEVICE, VLCACHE_E_BUILD, VLCACHE_E_CANCELLED. `*out` is NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_model_load(vlcache_device *device, const char *folder,
                                              const vlcache_model_options *options, vlcache_model **out);

/** Describes a model. */
VLCACHE_API void vlcache_model_describe(const vlcache_model *model, vlcache_model_info *info);

/** Gives up the caller's reference and NULLs the handle; NULL is accepted. */
VLCACHE_API void vlcache_model_destroy(vlcache_model **model);

#ifdef __cplusplus
}
#endif
#endif
