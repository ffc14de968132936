/**
 * engine.h - prompts, how answers to them are made, and what an answer is.
 */
#ifndef VLCACHE_ENGINE_H
#define VLCACHE_ENGINE_H

#include "compress.h"
#include "image.h"
#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

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

/** A visual token of a prompt and the part of its picture that it shows. */
typedef struct vlcache_visual_token {
    int position;         /**< in the prompt, 0 its first token */
    int image;            /**< index of the picture in the prompt */
    float x0, y0, x1, y1; /**< pixels of the picture; all 0 for a class token or an end-of-row token */
} vlcache_visual_token;

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

#ifdef __cplusplus
}
#endif
#endif
