/**
 * model.h - a vision-language model, or a text model alone, from a Hugging Face folder, its weights on a
 * device.
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
        progress;               /**< stage "loading weights", in bytes of the checkpoint; NULL: none; NULL */
    void *progress_user;        /**< handed to it; NULL */
    int min_pixels, max_pixels; /**< of families that take pictures of any size (Qwen-VL): what a picture is
                                   resized to has at least and at most so many, from 1 to 2^28, as multiples
                                   of a token's side allow; 0: as preprocessor_config.json says; 0 */
    uint64_t no_mmap; /**< not 0: weights are read into memory of their own even where a processor could read
                           them in their files (see vlcache_model_load()); 0 */
} vlcache_model_options;
#define VLCACHE_MODEL_OPTIONS_INIT                                                                           \
    { sizeof(vlcache_model_options), VLCACHE_DTYPE_AUTO, NULL, NULL, 0, 0, 0 }

/** What a model is. */
typedef struct vlcache_model_info {
    const char *family;    /**< "model_type" of config.json, e.g. "llava" (static storage) */
    const char *text_type; /**< of its text model, e.g. "llama" or "qwen2" (owned by the model) */
    vlcache_dtype dtype;   /**< of KV rows, and of weights unless AUTO left them mixed */
    int layers, heads, kv_heads, head_dim, hidden, intermediate, vocabulary;
    int max_positions;             /**< longest context in tokens */
    int image_side, patch_side;    /**< pixels of a tile, 0 where pictures keep their shape; of a patch, 0: a
                                        text model alone, which sees no pictures */
    uint64_t weight_bytes;         /**< on the device, those in mapped files among them */
    uint64_t mapped_bytes;         /**< of these, in mapped files: no memory of this process alone */
    int tower_layers, tower_heads; /**< of the vision tower: the layers that run; 0: there is none */
    int tower_hidden;              /**< its width */
    int cross_layers;              /**< of `layers`: those of cross-attention, which hold rows of pictures in
                                        place of rows of the text; 0: pictures are rows of the prompt */
    int window, windowed_layers;   /**< so many of the layers see the last `window` tokens only; 0: none */
    float attention_cap;           /**< logits of attention are bent to stay below it; 0: they are not */
    float logit_cap;               /**< the same of tokens' logits */
} vlcache_model_info;

/**
 * Loads config.json, preprocessor_config.json (of models that see), generation_config.json, tokenizer.json,
 * the chat template and the safetensors of `folder` onto `device`. Tensors are read, uploaded and dropped one
 * by one: weights are never held twice. Blocks until all is on the device.
 *
 * A processor without a matrix unit reads matrices that are stored in the dtype they are held in where they
 * lie: their files stay mapped until the model is destroyed, and their pages are the system's cache of these
 * files. A header's claims are held against the file's size, which must not have changed when it is mapped;
 * who changes such a file later changes the model, and a page of one that was cut short is a SIGBUS: replace
 * a file by renaming another over it, or load with `no_mmap`. What the system cannot map is read. Errors:
 * VLCACHE_E_ARGUMENT, VLCACHE_E_IO, VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named),
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_DEVICE, VLCACHE_E_BUILD, VLCACHE_E_CANCELLED.
 * `*out` is NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_model_load(vlcache_device *device, const char *folder,
                                              const vlcache_model_options *options, vlcache_model **out);

/**
 * A model of a geometry, with random weights that are made on the device: for measurements, of models that
 * need not be there. `config`: the path of a config.json as the hub has it, or its text, which begins with
 * "{". It says all: settings of the picture processor may stand in it as "image_processor", and are else
 * CLIP's, to the side of vision_config.image_size, which must be there. Matrices are uniform with a standard
 * deviation of 1 / sqrt(columns), so that numbers stay finite through any number of layers, and depend on
 * nothing but their names, their shapes and the dtype (AUTO: what the config says, else bf16).
 *
 * Such a model has no tokenizer: prompts are token ids (vlcache_prompt.tokens), answers have ids and no text,
 * no token ends one, and a prompt with text is VLCACHE_E_UNSUPPORTED. `options->progress` is not called.
 * Blocks until all is on the device. Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_IO, VLCACHE_E_FORMAT,
 * VLCACHE_E_UNSUPPORTED (field named), VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY (before anything is made
 * where weights exceed the memory that the device says it has), VLCACHE_E_DEVICE, VLCACHE_E_BUILD. `*out` is
 * NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_model_create_random(vlcache_device *device, const char *config,
                                                       const vlcache_model_options *options,
                                                       vlcache_model **out);

/**
 * The tokens of a text by itself, nothing added to it and special tokens in it read as such: up to `capacity`
 * of them into `ids`, `*n` how many there are. Errors: VLCACHE_E_ARGUMENT (NULL), VLCACHE_E_UNSUPPORTED (a
 * model without tokenizer), VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_model_tokenize(const vlcache_model *model, const char *text, int32_t *ids,
                                                  size_t capacity, size_t *n);

/** Describes a model. */
VLCACHE_API void vlcache_model_describe(const vlcache_model *model, vlcache_model_info *info);

/** Gives up the caller's reference and NULLs the handle; NULL is accepted. */
VLCACHE_API void vlcache_model_destroy(vlcache_model **model);

#ifdef __cplusplus
}
#endif
#endif
