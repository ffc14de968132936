/**
 * decoder.h (internal) - the block that text models are made of: transformers of Llama's kind, their settings
 * and the weights of a layer. Matrices are fused where one product serves several: q, k, v; gate, up.
 *
 * Which kinds there are, and what their classes' defaults are: kinds.c. In what they differ is a field here.
 */
#ifndef VLCI_MODELS_DECODER_H
#define VLCI_MODELS_DECODER_H

#include "checkpoint/hub.h"
#include "models/rotary.h"
#include "models/weight.h"

typedef struct vlci_text_config {
    int hidden, layers, heads, kv_heads, head_dim, intermediate, vocab;
    int max_positions; /**< max_position_embeddings, or what its scaled RoPE is for where that is more */
    float norm_eps;
    vlci_rotary rope;
    vlci_activation act;
    bool tied; /**< lm_head is the embedding; loading unsets it where the checkpoint stores another head */
    bool qkv_bias, out_bias, mlp_bias;
    bool head_norm;     /**< q and k are RMS-normed, each head for itself, before RoPE (Qwen3) */
    bool norm_plus_one; /**< RMSNorms multiply by 1 + what is stored (Gemma); loading adds the 1 */
    bool post_norms;    /**< what attention and the MLP give is RMS-normed before it is added (Gemma 2) */
    float attention_cap,
        logit_cap;     /**< logits of attention, of tokens are cap tanh(x / cap); 0: as they are */
    float query_scale; /**< what attention's logits are multiplied by; 0: 1 / sqrt(head_dim) */
    bool embed_scaled; /**< a token's row is multiplied by sqrt(hidden), visual tokens are not (Gemma) */
    int window;        /**< rows that a windowed layer sees at most, its own among them; 0: there are none */
    uint32_t windowed[VLCI_MAX_LAYERS / 32]; /**< a bit for each layer; vlci_text_window() */
    bool prefix_lm; /**< all rows of a prompt see each other (PaliGemma); the family sets it */
    int deepstack;  /**< further sets of features of visual tokens, set k added behind layer k (Qwen3-VL); the
                         family sets it */
    int more_ids; /**< rows of the embedding behind the vocabulary's: tokens that are read and never said; the
                       family sets it */
    int crosses;  /**< layers of cross-attention (Llama 3.2 Vision): they look at the rows of a picture in
                     place  of those of the text; the family sets them */
    uint32_t crossing[VLCI_MAX_LAYERS / 32]; /**< a bit for each layer; vlci_text_crosses() */
    int bos, eos;                            /**< of the class, where no file says; -1: none */
    bool flat; /**< read from the root of config.json, not from a "text_config" */
} vlci_text_config;

typedef struct vlci_text_layer {
    vlci_norm norm1, norm2;
    vlci_norm q_norm, k_norm; /**< [head_dim]; NULL but with head_norm */
    vlci_norm post1, post2;   /**< of what attention and the MLP give; NULL but with post_norms */
    vlci_matrix qkv, out, gate_up, down;
    vlci_matrix q, kv; /**< of cross-attention, in place of qkv: kv is [k | v] of a picture's rows */
    cl_mem attend_gate, think_gate; /**< f32 [1] of cross-attention: its sums are gated by their tanh */
} vlci_text_layer;

/** Rows that layer `layer` sees at most; 0: all. */
static inline int vlci_text_window(const vlci_text_config *text, int layer) {
    return text->windowed[layer / 32] >> (layer % 32) & 1 ? text->window : 0;
}

/** Whether layer `layer` is of cross-attention. */
static inline bool vlci_text_crosses(const vlci_text_config *text, int layer) {
    return text->crossing[layer / 32] >> (layer % 32) & 1;
}

/** Rows of the embedding. */
static inline int vlci_text_ids(const vlci_text_config *text) {
    return text->vocab + text->more_ids;
}

/**
 * Reads a text model's settings from `scope` over its class's defaults. Which class: `scope`'s "model_type",
 * or `usual` where it has none; "qwen2_vl" means "qwen2_vl_text", and so on. `scope` may be the root of
 * config.json (text models alone, old Qwen2-VL folders); scope->object NULL: defaults alone. `*model_type`:
 * the type as it is said, new memory, NULL when it comes to none. A family may change `*text` afterwards.
 * Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named), VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_text_config_read(const vlci_scope *scope, const char *usual, vlci_text_config *text,
                                     char **model_type);

/** The same of "text_config" of config.json; "tie_word_embeddings" may also stand beside it. */
vlcache_status vlci_text_config_read_nested(const vlci_scope *root, const char *usual, vlci_text_config *text,
                                            char **model_type);

/** Uploads layer `layer`, whose tensors' names begin with `prefix`. Errors: those of vlci_upload_matrix();
 * what is there already stays, to be released. */
vlcache_status vlci_text_layer_load(vlci_upload *up, const vlci_text_config *config, int layer,
                                    const char *prefix, vlci_text_layer *out);

/** Uploads one of its RMSNorms of n values, with 1 added where `config` says so. Errors as
 * vlci_text_layer_load(). */
vlcache_status vlci_text_norm_load(vlci_upload *up, const vlci_text_config *config, const char *prefix,
                                   const char *name, int n, vlci_norm *norm);

/** Releases a layer's memory and zeroes it. */
void vlci_text_layer_release(vlcache_device *device, vlci_text_layer *layer);

#endif
