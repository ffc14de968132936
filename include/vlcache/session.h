/**
 * session.h - a conversation with a model: pictures and text in, text out. A session owns its KV cache, which
 * lives on between turns and is compressed after the prefill of each turn that brings a picture.
 */
#ifndef VLCACHE_SESSION_H
#define VLCACHE_SESSION_H

#include "compress.h"
#include "image.h"
#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A conversation. One thread at a time uses it, except vlcache_session_cancel(); keeps its model alive. */
typedef struct vlcache_session vlcache_session;

/** Options of vlcache_session_create(); start from VLCACHE_SESSION_OPTIONS_INIT. */
typedef struct vlcache_session_options {
    size_t size; /**< sizeof(vlcache_session_options) */
    int context; /**< most tokens of the conversation, visual ones included; 0: the model's
                      max_position_embeddings (or its sliding window, where smaller) */
    const char
        *chat_template; /**< "vicuna", "mistral", "chatml", "llama3", "plain"; NULL: the checkpoint's */
    vlcache_compress_options compress; /**< VL-Cache at 10% by default */
} vlcache_session_options;
#define VLCACHE_SESSION_OPTIONS_INIT                                                                         \
    { sizeof(vlcache_session_options), 0, NULL, VLCACHE_COMPRESS_OPTIONS_INIT }

/** One turn; start from VLCACHE_PROMPT_INIT. Everything is borrowed for the call. */
typedef struct vlcache_prompt {
    size_t size;                        /**< sizeof(vlcache_prompt) */
    const char *text;                   /**< UTF-8 */
    const vlcache_image *const *images; /**< n_images pictures in the order of their marks */
    size_t n_images;
    bool raw; /**< tokenise the text as it stands: no template, nothing added, special tokens parsed, one
                   "<image>" for each picture. Otherwise the chat template makes a turn of it, with the
                   pictures in front; a text that holds "<image>" marks itself says where they go. */
} vlcache_prompt;
#define VLCACHE_PROMPT_INIT                                                                                  \
    { sizeof(vlcache_prompt), NULL, NULL, 0, false }

/** Takes text as it is generated: a piece of whole UTF-8 characters, valid for the call. False ends the
 * answer. */
typedef bool (*vlcache_text_fn)(void *user, const char *piece);

/** How an answer is made; start from VLCACHE_GENERATE_OPTIONS_INIT (greedy, at most 256 tokens). */
typedef struct vlcache_generate_options {
    size_t size;                  /**< sizeof(vlcache_generate_options) */
    int max_tokens;               /**< 0: none, the prompt is read only; 256 */
    float temperature;            /**< 0: the most likely token; 0 */
    int top_k;                    /**< draw among the k most likely; 0: all; 40 */
    float top_p;                  /**< draw among the fewest that reach this probability, in (0, 1]; 0.95 */
    uint64_t seed;                /**< of the draws: same seed, same device, same answer; 0 */
    vlcache_text_fn on_text;      /**< NULL: none */
    vlcache_progress_fn progress; /**< stages "looking at pictures" (tiles) and "reading the prompt" (layers);
                                       NULL: none */
    void *user;                   /**< of both callbacks */
    bool probe;                   /**< in vlcache_session_compare(): measure decode too, for
                                       vlcache_session_probe(); false */
} vlcache_generate_options;
#define VLCACHE_GENERATE_OPTIONS_INIT                                                                        \
    { sizeof(vlcache_generate_options), 256, 0.0f, 40, 0.95f, 0, NULL, NULL, NULL, false }

/** Why an answer ended. */
typedef enum vlcache_finish {
    VLCACHE_FINISH_STOP,      /**< an end token of the model */
    VLCACHE_FINISH_LENGTH,    /**< max_tokens */
    VLCACHE_FINISH_CONTEXT,   /**< the context is full */
    VLCACHE_FINISH_CANCELLED, /**< vlcache_session_cancel(), or on_text said so */
} vlcache_finish;

/** "stop", "length", "context", "cancelled" (static storage). */
VLCACHE_API const char *vlcache_finish_name(vlcache_finish finish);

/** A token and its logit. */
typedef struct vlcache_logit {
    int32_t token;
    float logit;
} vlcache_logit;

/** Where the wall-clock time of one turn went, in milliseconds. */
typedef struct vlcache_timings {
    double build;       /**< building kernels in this turn, contained in the others; 0 on a warm cache */
    double image;       /**< preparing pictures on the host */
    double vision;      /**< vision tower and projector */
    double prefill;     /**< prompt through the text model, with the counts and scores of VL-Cache */
    double compress;    /**< budgets, top-k and compaction */
    double first_token; /**< from the call to the first token: all of the above */
    double decode;      /**< all further tokens */
    double per_token;   /**< decode / (tokens - 1); 0 with fewer than two tokens */
} vlcache_timings;

enum { VLCACHE_FIRST_LOGITS = 5 };

/** What one turn gave. Owned by the session, valid until its next call. */
typedef struct vlcache_answer {
    const char *text;      /**< UTF-8; equals the streamed pieces */
    const int32_t *tokens; /**< n_tokens ids, without the end token */
    int n_tokens;
    vlcache_finish finish;
    int prompt_tokens;      /**< of this turn */
    int visual_tokens;      /**< of these, tokens of pictures */
    int post_vision_tokens; /**< of these, text behind any picture; all without a picture */
    int context_tokens;     /**< logical length of the conversation now */
    vlcache_logit first_logits[VLCACHE_FIRST_LOGITS]; /**< the best of the first generated position, sorted */
    int n_first_logits;
    vlcache_timings timings;
    vlcache_compress_stats compress; /**< of this turn; with policy "full" and in a turn without a picture,
                                          which is not compressed, everything is kept */
    bool compressed;                 /**< whether this turn was compressed */
    uint64_t kv_bytes;               /**< K and V on the device now, spare rows for decode included */
    uint64_t kv_bytes_peak;          /**< most that K and V took during this turn */
} vlcache_answer;

/**
 * Begins a conversation. `options` may be NULL. Allocates little: the KV cache grows with the prompt. Errors:
 * VLCACHE_E_ARGUMENT (an option and its range), VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY,
 * VLCACHE_E_DEVICE. `*out` is NULL on failure; release it with vlcache_session_destroy().
 */
VLCACHE_API vlcache_status vlcache_session_create(vlcache_model *model,
                                                  const vlcache_session_options *options,
                                                  vlcache_session **out);

/**
 * One turn: prepares the pictures, reads the prompt, compresses, generates. Blocks until the answer is whole;
 * text streams through `generate->on_text` (`generate` may be NULL). A turn that fails leaves the
 * conversation as it was before, except where the message says that it was cleared.
 * Errors: VLCACHE_E_ARGUMENT (marks and pictures do not agree, an option out of range),
 * VLCACHE_E_CONTEXT_FULL (how many tokens, and how many of them are visual), VLCACHE_E_CANCELLED (while
 * the prompt is read; later the answer is VLCACHE_FINISH_CANCELLED), VLCACHE_E_UNSUPPORTED,
 * VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_DEVICE, VLCACHE_E_BUILD. `*answer` (may be NULL) is
 * NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_session_ask(vlcache_session *session, const vlcache_prompt *prompt,
                                               const vlcache_generate_options *generate,
                                               const vlcache_answer **answer);

/** Hears of each variant of vlcache_session_compare(): `answer` and the calls below speak of that variant
 * until the next one. False ends the comparison. */
typedef bool (*vlcache_variant_fn)(void *user, size_t variant, const vlcache_answer *answer);

/**
 * One prompt, read once, answered with each of `n_variants` ways to compress its cache: every variant starts
 * from the same prefill, and its answer is the one vlcache_session_ask() would give with these options. The
 * conversation is left as it was. timings.prefill is the shared one. Errors: as vlcache_session_ask();
 * VLCACHE_E_CANCELLED when `each` returns false.
 */
VLCACHE_API vlcache_status vlcache_session_compare(vlcache_session *session, const vlcache_prompt *prompt,
                                                   const vlcache_generate_options *generate,
                                                   const vlcache_compress_options *variants,
                                                   size_t n_variants, vlcache_variant_fn each, void *user);

/** What the full cache attends to while it answers, and how much of that a variant has kept: one layer. A
 * step is one decoded token's way through the model; all numbers are NaN when there was none. */
typedef struct vlcache_probe_layer {
    int steps;
    double sparsity;  /**< share of the prompt's tokens whose attention is below the variant's threshold times
                           the row's maximum, mean over steps and query heads */
    double hit_first; /**< cache hit rate of the first step: of the k tokens of the prompt that a kv head
                           attends to most, the share that the variant has kept, k being how many that is
                           (centroids are no tokens); mean over kv heads */
    double hit_all;   /**< the same, mean over all steps */
} vlcache_probe_layer;

/**
 * A layer of the variant that vlcache_session_compare() speaks of, when the options asked for `probe`: the
 * answer is decoded once more with the full cache, observed step by step, for all variants together (host
 * memory: 4 bytes for each step, layer, kv head and token of the prompt). Reads from the device: blocks.
 * Errors: VLCACHE_E_ARGUMENT (no probe, no such layer), VLCACHE_E_DEVICE.
 */
VLCACHE_API vlcache_status vlcache_session_probe(vlcache_session *session, int layer,
                                                 vlcache_probe_layer *out);

/** Ends the turn that is running, at the next layer or token; without one, the next turn. From any thread and
 * from a signal handler. */
VLCACHE_API void vlcache_session_cancel(vlcache_session *session);

/** Forgets the conversation and releases its KV cache; the options stay. */
VLCACHE_API void vlcache_session_clear(vlcache_session *session);

/** A layer of the last turn: sparsity (NaN where it was not measured), budget, rows kept. Errors:
 * VLCACHE_E_ARGUMENT (no turn, no such layer). */
VLCACHE_API vlcache_status vlcache_session_layer(const vlcache_session *session, int layer,
                                                 vlcache_compress_layer *out);

/**
 * Positions in the last turn's prompt (0 its first token) that a kv head of a layer has kept, ascending: up
 * to `capacity` of them into `positions`, `*n` how many there are. Reads from the device: blocks. Errors:
 * VLCACHE_E_ARGUMENT (no turn, no such layer or head), VLCACHE_E_DEVICE.
 */
VLCACHE_API vlcache_status vlcache_session_kept(vlcache_session *session, int layer, int kv_head,
                                                int32_t *positions, size_t capacity, size_t *n);

/** A visual token of the last turn's prompt and the part of its picture that it shows. */
typedef struct vlcache_visual_token {
    int position;         /**< in the turn's prompt, 0 its first token */
    int image;            /**< index of the picture in the prompt */
    float x0, y0, x1, y1; /**< pixels of the picture; all 0 for a class token or an end-of-row token */
} vlcache_visual_token;

/** Visual token `index`, 0 <= index < visual_tokens, in the order of the prompt. Errors: VLCACHE_E_ARGUMENT.
 */
VLCACHE_API vlcache_status vlcache_session_visual(const vlcache_session *session, int index,
                                                  vlcache_visual_token *out);

/** Name of the chat template in use (static storage). */
VLCACHE_API const char *vlcache_session_chat_template(const vlcache_session *session);

/** Names of all chat templates, comma-separated (static storage). */
VLCACHE_API const char *vlcache_chat_template_names(void);

/** Releases everything and NULLs the handle; NULL and a NULL handle are accepted. */
VLCACHE_API void vlcache_session_destroy(vlcache_session **session);

#ifdef __cplusplus
}
#endif
#endif
