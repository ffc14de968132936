/**
 * session.h - a conversation with a model: pictures and text in, text out. A session owns its KV cache, which
 * lives on between turns and is compressed after the prefill of each turn that brings a picture; with recall
 * (vlcache_session_options) all of it comes back from the host's memory for each turn, and is compressed
 * anew.
 */
#ifndef VLCACHE_SESSION_H
#define VLCACHE_SESSION_H

#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A conversation. One thread at a time uses it, except vlcache_session_cancel(); keeps its model alive. */
typedef struct vlcache_session vlcache_session;

/** Options of vlcache_session_create(): those of a sequence. */
typedef vlcache_sequence_options vlcache_session_options;
#define VLCACHE_SESSION_OPTIONS_INIT VLCACHE_SEQUENCE_OPTIONS_INIT

/**
 * Begins a conversation; every kernel that answering needs is built or loaded here. `options` may be NULL.
 * Allocates little: the KV cache grows with the prompt. Errors:
 * those of vlcache_engine_create() and vlcache_engine_add(). `*out` is NULL on failure; release it with
 * vlcache_session_destroy().
 */
VLCACHE_API vlcache_status vlcache_session_create(vlcache_model *model,
                                                  const vlcache_session_options *options,
                                                  vlcache_session **out);

/**
 * One turn: prepares the pictures, reads the prompt, compresses, generates. Blocks until the answer is whole;
 * text streams through `generate->on_text` (`generate` may be NULL). A turn that fails leaves the
 * conversation as it was before.
 * Errors: VLCACHE_E_ARGUMENT (marks and pictures of a raw prompt do not agree, an option out of range, the
 * chat template refuses the conversation: its own words), VLCACHE_E_FORMAT (the template cannot be run: file,
 * line, column), VLCACHE_E_CONTEXT_FULL (how many tokens, and how many of them are visual),
 * VLCACHE_E_CANCELLED (while the prompt is read; later the answer is VLCACHE_FINISH_CANCELLED),
 * VLCACHE_E_IO and VLCACHE_E_FORMAT (also: a frame of a video, as vlcache_video_frame()),
 * VLCACHE_E_UNSUPPORTED, VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_DEVICE, VLCACHE_E_BUILD.
 * `*answer` (may be NULL) is NULL on failure.
 */
VLCACHE_API vlcache_status vlcache_session_ask(vlcache_session *session, const vlcache_prompt *prompt,
                                               const vlcache_generate_options *generate,
                                               const vlcache_answer **answer);

/**
 * How many tokens a turn would have, visual ones included, if it were asked now: `*tokens` (0 on failure).
 * Runs nothing and reads no pixels; the conversation and the last answer stay. Errors: those of
 * vlcache_session_ask() that the prompt by itself may have.
 */
VLCACHE_API vlcache_status vlcache_session_count(vlcache_session *session, const vlcache_prompt *prompt,
                                                 int *tokens);

/** Hears of each variant of vlcache_session_compare(): `answer` and the calls below speak of that variant
 * until the next one. False ends the comparison. */
typedef bool (*vlcache_variant_fn)(void *user, size_t variant, const vlcache_answer *answer);

/**
 * One prompt, read once, answered with each of `n_variants` ways to compress its cache: every variant starts
 * from the same prefill, and its answer is the one vlcache_session_ask() would give with these options. The
 * conversation is left as it was. timings.prefill is the shared one. The variants stand side by side, each as
 * large as the `size` of the first says, which all must have. Errors: as vlcache_session_ask();
 * VLCACHE_E_CANCELLED when `each` returns false.
 */
VLCACHE_API vlcache_status vlcache_session_compare(vlcache_session *session, const vlcache_prompt *prompt,
                                                   const vlcache_generate_options *generate,
                                                   const vlcache_compress_options *variants,
                                                   size_t n_variants, vlcache_variant_fn each, void *user);

enum { VLCACHE_TENTHS = 10 };

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
    double hit_tenth[VLCACHE_TENTHS]; /**< and over each tenth of the steps, one after another; NaN where
                                           that has none */
} vlcache_probe_layer;

/**
 * A layer of the variant that vlcache_session_compare() speaks of, when the options asked for `probe`: the
 * answer is decoded once more with the full cache, observed step by step, for all variants together (host
 * memory: 4 bytes for each step, layer, kv head and token of the prompt). Reads from the device: blocks.
 * Errors: VLCACHE_E_ARGUMENT (no probe, no such layer), VLCACHE_E_DEVICE, VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_session_probe(vlcache_session *session, int layer,
                                                 vlcache_probe_layer *out);

/**
 * The same of a turn behind it: what the full cache's answer to generate.later[turn - 1] attends to among the
 * rows of the prompt that was compared, and what of that the variant has kept of them; 0: the prompt's own.
 * `sparsity` is NaN of later turns. Errors: as vlcache_session_probe(), VLCACHE_E_ARGUMENT (no such turn).
 */
VLCACHE_API vlcache_status vlcache_session_probe_turn(vlcache_session *session, int layer, size_t turn,
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
 * Bits of a coded row of the last turn in a kv head of a layer, keys and values together, and what its basis
 * vectors come to, spread over the rows (where the bits of a row were asked for, these alone): what
 * allocation "heads" has shares of. 0: its rows are not coded. Errors: VLCACHE_E_ARGUMENT (no turn, no such
 * layer or head).
 */
VLCACHE_API vlcache_status vlcache_session_bits(const vlcache_session *session, int layer, int kv_head,
                                                double *bits);

/**
 * Positions in the last turn's prompt (0 its first token; with recall in the conversation) that a kv head of
 * a layer has kept, ascending: up to `capacity` of them into `positions`, `*n` how many there are. Reads from
 * the device: blocks. Errors: VLCACHE_E_ARGUMENT (no turn, no such layer or head), VLCACHE_E_DEVICE,
 * VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_session_kept(vlcache_session *session, int layer, int kv_head,
                                                int32_t *positions, size_t capacity, size_t *n);

/** Visual token `index`, 0 <= index < visual_tokens, in the order of the prompt. Errors: VLCACHE_E_ARGUMENT.
 */
VLCACHE_API vlcache_status vlcache_session_visual(const vlcache_session *session, int index,
                                                  vlcache_visual_token *out);

/** Frame `index` of those that the videos of the last turn's prompt were seen in; as
 * vlcache_sequence_frame().
 */
VLCACHE_API vlcache_status vlcache_session_frame(const vlcache_session *session, int index,
                                                 vlcache_seen_frame *out);

/** The chat template in use: one of vlcache_chat_template_names(), or the name of the file that it stands in
 * ("chat_template.jinja"), or "text" (owned by the session). */
VLCACHE_API const char *vlcache_session_chat_template(const vlcache_session *session);

/** Names of the chat templates that come with the library, comma-separated (static storage). */
VLCACHE_API const char *vlcache_chat_template_names(void);

/** Releases everything and NULLs the handle; NULL and a NULL handle are accepted. */
VLCACHE_API void vlcache_session_destroy(vlcache_session **session);

#ifdef __cplusplus
}
#endif
#endif
