/**
 * outline.h - what a model's folder says of it, without its weights and without a device: what it is, what it
 * takes of a device's memory, how many tokens a picture becomes, and why it would not load.
 */
#ifndef VLCACHE_OUTLINE_H
#define VLCACHE_OUTLINE_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A folder that has been looked at. Immutable, shareable between threads. */
typedef struct vlcache_outline vlcache_outline;

/** What it says. Texts and arrays are owned by the outline. */
typedef struct vlcache_outline_info {
    vlcache_model_info model;   /**< as vlcache_model_describe() tells of the model loaded with the same
                                   options; weight_bytes: without what a device pads matrices with */
    const char *mark;           /**< the text that stands for a picture in a raw prompt; NULL: sees none */
    const char *chat_template;  /**< the file that it stands in, or where there is none the name of the one
                                   that is used (vicuna, ...); NULL: not known without a tokenizer */
    const char *template_error; /**< why it cannot be used, so that another has to be chosen; NULL: it can */
    int bos;                    /**< token that begins a text; -1: none */
    const int *eos;             /**< [n_eos]: tokens that end an answer */
    size_t n_eos;
    uint64_t stored[4]; /**< bytes of the tensors in its files by their vlcache_dtype; [VLCACHE_DTYPE_AUTO]:
                             of other types. All 0: they could not be looked at, and weight_bytes is what
                             the settings come to */
    uint64_t missing;   /**< bytes of these that lie behind the ends of their files */
    vlcache_status problem; /**< what loading ends with, as far as files can tell; VLCACHE_OK: nothing is
                               known to be wrong */
    const char *why;        /**< the message of the problem; "" without one */
} vlcache_outline_info;

/** Bytes of a device's memory that a conversation takes. */
typedef struct vlcache_outline_memory {
    uint64_t weights; /**< vlcache_model_info.weight_bytes */
    uint64_t kv_full; /**< keys and values of all tokens, in whole pages; of layers of cross-attention
                           vlcache_outline_aside_of() tells */
    uint64_t kv_kept; /**< of the share that the budget leaves, shared evenly; all, where pictures lie beside
                           the prompt: they are what is compressed */
    uint64_t work;    /**< activations while a prompt of all tokens is read; those of the vision
                           tower, which come before, and attention's scratch are not */
    uint64_t largest; /**< the largest single allocation: a matrix, or all keys */
    uint64_t
        mapped; /**< of the weights, what stays in its file on a processor whose products read it there
                     (vlcache_model_options.no_mmap: nothing); 0 where the files could not be looked at */
    uint64_t largest_mapped; /**< `largest` there: of a matrix that is stored in parts, each by itself */
} vlcache_outline_memory;

/**
 * Looks at a folder, as vlcache_model_load() with these options (NULL: the defaults; progress is not called)
 * does: settings, tokenizer and template are read, of the weights' files their headers only. What is wrong
 * with tokenizer, template or weights (missing, truncated, of another shape or type than the settings ask
 * for) is the outline's `problem`, with the message that loading has; a model that the settings rule out is
 * an error here. Not noticed: a stored output matrix of a tied model that differs from the embedding, which
 * takes its bytes more. Errors: VLCACHE_E_ARGUMENT, VLCACHE_E_IO, VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED
 * (file and field named), VLCACHE_E_NO_MEMORY. `*out` is NULL on failure; release it with
 * vlcache_outline_destroy().
 */
VLCACHE_API vlcache_status vlcache_outline_open(const char *folder, const vlcache_model_options *options,
                                                vlcache_outline **out);

/** Describes it. */
VLCACHE_API void vlcache_outline_describe(const vlcache_outline *outline, vlcache_outline_info *info);

/**
 * `*tokens`: tokens of a prompt that a picture of width x height pixels takes, one of `pictures` in it: row
 * ends and names of tiles count. Errors: VLCACHE_E_ARGUMENT (a side not from 1 to 65535, pictures below 1),
 * VLCACHE_E_UNSUPPORTED (a text model; sides that the model does not take), VLCACHE_E_CONTEXT_FULL, the
 * `problem` of an outline whose tokenizer cannot be read, VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_outline_picture(const vlcache_outline *outline, int width, int height,
                                                   int pictures, int *tokens);

/** What a picture takes beside the prompt, in layers of cross-attention (vlcache_model_info.cross_layers). */
typedef struct vlcache_outline_aside {
    int rows;         /**< keys and values in each of them, a head; 0: the model has no such layers */
    uint64_t kv_full; /**< bytes of all, in whole pages */
    uint64_t kv_kept; /**< of the share that the budget leaves, shared evenly */
} vlcache_outline_aside;

/** The same of one picture of width x height pixels beside the prompt, at a share of the cache's bytes above
 * 0, at most 1; a conversation holds those that its last rows see. Errors: those of
 * vlcache_outline_picture(). */
VLCACHE_API vlcache_status vlcache_outline_aside_of(const vlcache_outline *outline, int width, int height,
                                                    double budget, vlcache_outline_aside *out);

/** What a conversation of `tokens` tokens takes, from 1 to 2^24, at a share of the cache's bytes above 0, at
 * most 1. Errors: VLCACHE_E_ARGUMENT. */
VLCACHE_API vlcache_status vlcache_outline_memory_of(const vlcache_outline *outline, int tokens,
                                                     double budget, vlcache_outline_memory *out);

/** Releases and NULLs the handle; NULL and a NULL handle are accepted. */
VLCACHE_API void vlcache_outline_destroy(vlcache_outline **outline);

#ifdef __cplusplus
}
#endif
#endif
