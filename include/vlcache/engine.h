/**
 * engine.h - many sequences of one model at once: conversations that share its weights and a budget of KV
 * memory. Each step gives every sequence that is answering one more token, reading the weights once for all
 * of them.
 *
 *     vlcache_engine_create(model, &options, &engine);
 *     vlcache_engine_add(engine, NULL, &sequence);               any number of them, at any time
 *     vlcache_sequence_ask(sequence, &prompt, &generate);        does not wait: the turn stands in a queue
 *     while (!vlcache_engine_step(engine, &busy) && busy) ...    tokens come through generate.on_text
 *     vlcache_sequence_answer(sequence, &answer);                of the turn that has ended
 *
 * vlcache_session (session.h) is a sequence of an engine of its own, for who has only one conversation and
 * waits for it.
 */
#ifndef VLCACHE_ENGINE_H
#define VLCACHE_ENGINE_H

#include "compress.h"
#include "image.h"
#include "model.h"
#include "video.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Among the tokens of a prompt: the next picture, the next video. */
enum { VLCACHE_TOKEN_IMAGE = -1, VLCACHE_TOKEN_VIDEO = -2 };

/** One turn; start from VLCACHE_PROMPT_INIT. Everything is borrowed for the call; by vlcache_sequence_ask()
 * pictures and videos until the turn has ended. */
typedef struct vlcache_prompt {
    size_t size;      /**< sizeof(vlcache_prompt), at least up to `raw`; see common.h */
    const char *text; /**< UTF-8; NULL where there are `tokens` in its place */
    bool raw; /**< tokenise the text as it stands: no template, nothing added, special tokens parsed, and for
                   each picture the family's mark ("<image>", Qwen-VL's "<|image_pad|>", InternVL's
                   "<IMG_CONTEXT>", Llama 3.2 Vision's "<|image|>"). Otherwise the chat template makes a turn
                   of it, and the text is words, special tokens in it ("</s>") too. Where it holds as many
                   marks as there are pictures, those say where the pictures go; otherwise the pictures stand
                   in front, and a mark is a word like any other. "\<image>" is always that word, without the
                   backslash. false */
    const vlcache_image *const *images; /**< n_images pictures in the order of their marks; NULL */
    size_t n_images;                    /**< 0..4096; 0 */
    const int32_t *tokens; /**< n_tokens ids in place of a text, taken as they stand (no template, nothing
                                added); VLCACHE_TOKEN_IMAGE stands for each picture. NULL: the text; NULL */
    size_t n_tokens;       /**< 0 */
    vlcache_video *const *videos; /**< n_videos videos in the order of their marks ("<|video_pad|>" of
                                       Qwen-VL), which a text may place as those of pictures; otherwise they
                                       stand behind the pictures. Their frames are decoded while the turn
                                       runs; NULL */
    size_t n_videos;              /**< 0..64; 0 */
    double video_fps;     /**< frames that are seen of each second, as far as the family's bounds allow; 0: as
                               the checkpoint says (Qwen-VL: 2, at least 4, at most 768); 0 */
    size_t video_frames;  /**< in place of a rate: how many of each video, at regular distances; 0: by rate.
                               SmolVLM: at most so many, at video_fps or the checkpoint's rate; 0 */
    size_t stream_frames; /**< videos are read so many frames at a time, and the cache is compressed between:
                               no more than that stands in it in full. Of K parts each keeps 1 / K of the
                               budget, all together what the budget leaves of one, so that memory stays flat
                               however long a video is; text in front of videos and behind them comes on top.
                               The rows of that text behind go through after each part, one by one, so that
                               what they look at is kept, and are taken out again; the text behind the
                               part's own frames chooses with them, or its last 32 rows. Does not go together
                               with storage "coded" or "bits", with recall, nor, of prompts with videos, with
                               vlcache_session_compare(). 0..VLCACHE_VIDEO_MAX_FRAMES; 0: all at once; 0 */
} vlcache_prompt;
#define VLCACHE_PROMPT_INIT                                                                                  \
    { sizeof(vlcache_prompt), NULL, false, NULL, 0, NULL, 0, NULL, 0, 0, 0, 0 }

/** A visual token of a prompt and the part of its picture that it shows. */
typedef struct vlcache_visual_token {
    int position;         /**< in the prompt, 0 its first token; with cross-attention among the rows of the
                               pictures that the prompt's last text sees, -1: of one that it does not see */
    int image;            /**< index of the picture in the prompt; n_images and above: frames of its videos,
                               vlcache_sequence_frame() */
    float x0, y0, x1, y1; /**< pixels of the picture; all 0 for a class token or an end-of-row token */
} vlcache_visual_token;

/** A frame of a video that visual tokens of a prompt show. Where two frames share tokens (Qwen-VL), the first
 * of them. */
typedef struct vlcache_seen_frame {
    int video;      /**< index of the video in the prompt */
    int frame;      /**< of the video, 0 its first */
    double seconds; /**< frame / fps */
} vlcache_seen_frame;

/** Takes text as it is generated: a piece of whole UTF-8 characters, valid for the call. False ends the
 * answer. */
typedef bool (*vlcache_text_fn)(void *user, const char *piece);

/** How an answer is made; start from VLCACHE_GENERATE_OPTIONS_INIT (greedy, at most 256 tokens). */
typedef struct vlcache_generate_options {
    size_t size;       /**< sizeof(vlcache_generate_options); see common.h */
    int max_tokens;    /**< 0: none, the prompt is read only; 0..16777216; 256 */
    float temperature; /**< 0: the most likely token; 0 or more, finite; 0 */
    int top_k;         /**< draw among the k most likely; 0: all; 0 or more; 40 */
    float top_p;       /**< draw among the fewest that reach this probability, in (0, 1]; 0.95 */
    uint64_t seed;     /**< of the draws: same seed, same device, same answer; 0 */
    bool probe;        /**< in vlcache_session_compare(): measure decode too, for vlcache_session_probe();
                            false */
    vlcache_text_fn on_text;      /**< NULL: none; NULL */
    vlcache_progress_fn progress; /**< stages "looking at pictures" (pictures), "looking at a video" (frames)
                                       and "reading the prompt" (layers); NULL: none; NULL */
    void *user;                   /**< of both callbacks; NULL */
    size_t min_tokens;            /**< an end token before so many tokens is a token like any other, for
                                       answers of a length (measurements); 0 */
    const int32_t *told; /**< n_told tokens that the answer is, in place of chosen ones: how likely the model
                              finds them, in vlcache_answer.losses. They say how many there are, whatever
                              max_tokens says; not with `probe`. Borrowed until the turn has ended. NULL */
    size_t n_told;       /**< 1..16777216 where `told` is given; 0 */
    const vlcache_prompt *later; /**< with `probe`: n_later turns that follow, asked of the full cache,
                                           for vlcache_session_probe_turn(). They stand as far apart as the
                                           `size` of the first says. Borrowed for the call. NULL */
    size_t n_later;              /**< 0 */
} vlcache_generate_options;
#define VLCACHE_GENERATE_OPTIONS_INIT                                                                        \
    {                                                                                                        \
        sizeof(vlcache_generate_options), 256, 0.0f, 40, 0.95f, 0, false, NULL, NULL, NULL, 0, NULL, 0,      \
            NULL, 0                                                                                          \
    }

/** Why an answer ended. */
typedef enum vlcache_finish {
    VLCACHE_FINISH_STOP,      /**< an end token of the model or of the chat template */
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
    double compress;    /**< budgets, top-k and compaction; what is deferred comes behind the first token */
    double first_token; /**< from the call to the first token: all of the above that comes before it */
    double decode;      /**< all further tokens, without compression between them or behind them */
    double per_token;   /**< decode / (tokens - 1); 0 with fewer than two tokens */
} vlcache_timings;

enum { VLCACHE_FIRST_LOGITS = 5 };

/** With recall, the rows in the host's memory; else all zero. */
typedef struct vlcache_recall_stats {
    int tokens;             /**< of earlier turns, that this one chose among again. Positions that the calls
                                 below give of kept rows count from the conversation's first token then: those
                                 of this turn's prompt begin at `tokens` */
    bool saves;             /**< whether host and device have a memory each */
    uint64_t host_bytes;    /**< of rows of the conversation; what forks share counts for each */
    uint64_t upload_bytes;  /**< that came back for this turn, however often */
    double upload_ms;       /**< that it took, host and device, while the device computed the layer before */
    uint64_t staging_bytes; /**< most that rows on their way took on the device; in kv_bytes_peak as well */
} vlcache_recall_stats;

/** What one turn gave. Owned by the session, valid until its next call. */
typedef struct vlcache_answer {
    const char *text;      /**< UTF-8; equals the streamed pieces */
    const int32_t *tokens; /**< n_tokens ids, without the end token */
    int n_tokens;
    const float *losses; /**< n_tokens: the negative logarithm of the probability of each token, of an answer
                              that was told; else NULL */
    vlcache_finish finish;
    int prompt_tokens;      /**< of this turn */
    int visual_tokens;      /**< of these, or beside them with cross-attention, tokens of pictures */
    int post_vision_tokens; /**< of these, text behind any picture; all without a picture */
    int context_tokens;     /**< logical length of the conversation now; one more than `context` where that
                               ended the answer, whose last token is not read yet */
    vlcache_logit first_logits[VLCACHE_FIRST_LOGITS]; /**< the best of the first generated position, sorted */
    int n_first_logits;
    vlcache_timings timings;
    vlcache_compress_stats compress; /**< of this turn; where it was not compressed, everything is kept */
    bool compressed;                 /**< not with policy "full", nor in a turn without a picture, but of a
                                          text model, and with recall once a picture was seen */
    uint64_t kv_bytes;               /**< K and V on the device now, spare rows for decode included */
    uint64_t kv_bytes_peak;          /**< most that K and V took during this turn; of an engine whose memory
                                          grows, of all its sequences */
    vlcache_recall_stats recall;
    uint64_t page_ends; /**< of kv_bytes: room in the conversation's pages that no row is in;
                             at most a page and what is spare for decode in each (layer, kv
                             head); not among compress.bytes_kept */
} vlcache_answer;

/** The sequences of a model and their KV memory. One thread at a time uses it and its sequences, except
 * vlcache_sequence_cancel(); several engines of one device may run in several threads. Keeps its model alive.
 */
typedef struct vlcache_engine vlcache_engine;

/** One conversation of an engine. */
typedef struct vlcache_sequence vlcache_sequence;

/** Options of vlcache_engine_create(); start from VLCACHE_ENGINE_OPTIONS_INIT. */
typedef struct vlcache_engine_options {
    size_t size;       /**< sizeof(vlcache_engine_options); see common.h */
    uint64_t kv_bytes; /**< keys and values of all sequences together, allocated at once, in whole pages of 16
                          rows of a kv head; biases of centroids come on top, at most 4 bytes a row. Rows in
                          few bits (storage "coded" and "bits") lie in memory of their own, and count: pages
                          that are held or promised and vlcache_engine_memory.few are together never more,
                          turns wait and are refused for both alike, and the device is to have room for few
                          beside all pages. 0: memory grows and shrinks with what is needed, and nothing ever
                          waits for it; 0 */
    int max_sequences; /**< that read or answer at once, the others wait; 1..1024; 64 */
    int prefill_tokens; /**< while others answer, a step reads no more of prompts than about so many tokens'
                           worth of work in all layers, at least one layer of one part (2,048 rows) of one;
                           looking at pictures counts like reading their tokens; 1 or more; 512 */
} vlcache_engine_options;
#define VLCACHE_ENGINE_OPTIONS_INIT                                                                          \
    { sizeof(vlcache_engine_options), 0, 64, 512 }

/** What becomes of the rows that compression takes from the device. */
typedef enum vlcache_recall {
    VLCACHE_RECALL_NONE, /**< they are gone: later turns see what the turn that read them has kept, and only
                              their own rows are chosen among */
    VLCACHE_RECALL_HOST, /**< the host's memory has all rows of the conversation, as they were: each turn is
                              read against all of them, layer by layer, and its policy chooses among all of
                              them anew. The device holds the budget, while it reads a layer or two in full
                              beside it, of storage "coded" and what the others are held in till bits are
                              shared out. Where what stays is not known as a layer is read (deferral but of
                              "coded", centroids or adaptive selection under a measured allocation, coded rows
                              of which some go) each leaves, and comes back for every token that is decoded
                              before, and to be compressed. A conversation that does nothing gives up its
                              pages where an engine of fixed size needs them. Where host and device have one
                              memory it saves none: see vlcache_recall_stats.saves. With policy "full" it is
                              not looked at */
} vlcache_recall;

/** Options of vlcache_engine_add() and vlcache_session_create(); start from VLCACHE_SEQUENCE_OPTIONS_INIT. */
typedef struct vlcache_sequence_options {
    size_t size;               /**< sizeof(vlcache_sequence_options); see common.h */
    int context;               /**< most tokens of the conversation, visual ones included, up to
                                    vlcache_model_info.max_positions; 0: that; 0 */
    const char *chat_template; /**< how questions and answers are put: one of vlcache_chat_template_names(),
                                    the path of a file with a template in Jinja, or its text, which has "{{"
                                    or "{%"; read by the call. NULL: the checkpoint's own; NULL */
    const vlcache_compress_options *compress; /**< read by the call; NULL: VLCACHE_COMPRESS_OPTIONS_INIT,
                                                   VL-Cache at 10%; NULL */
    const char *system;    /**< UTF-8: the system's words, with which every conversation opens, in the place
                                that the template has for them; copied. NULL: none; NULL */
    vlcache_recall recall; /**< not with layers of cross-attention; VLCACHE_RECALL_NONE */
    uint64_t recall_bytes; /**< with recall: most bytes of the host's memory that rows of the conversation may
                                take; a turn that needs more fails with VLCACHE_E_NO_MEMORY. 0: as many as
                                there are; 0 */
} vlcache_sequence_options;
#define VLCACHE_SEQUENCE_OPTIONS_INIT                                                                        \
    { sizeof(vlcache_sequence_options), 0, NULL, NULL, NULL, VLCACHE_RECALL_NONE, 0 }

/** What a sequence is doing. */
typedef enum vlcache_sequence_state {
    VLCACHE_SEQUENCE_IDLE,      /**< no turn, or its turn has ended: vlcache_sequence_answer() */
    VLCACHE_SEQUENCE_WAITING,   /**< its turn stands in the queue */
    VLCACHE_SEQUENCE_READING,   /**< looks at its pictures and reads its prompt */
    VLCACHE_SEQUENCE_ANSWERING, /**< has a token more with each step */
} vlcache_sequence_state;

/**
 * The name of the policy that options come to with this model (static storage): theirs, but "centroids" in
 * place of "vlcache+" where rows cannot be coded: vlcache_last_error() then says why, and what would have to
 * be said instead. NULL options: "vlcache". NULL: refused, as by vlcache_compress_check();
 * vlcache_last_error() says why.
 */
VLCACHE_API const char *vlcache_policy_of(const vlcache_model *model,
                                          const vlcache_compress_options *options);

/**
 * Opens an engine: every kernel that answering needs is built or loaded here. `options` may be NULL. Errors:
 * VLCACHE_E_ARGUMENT (an option and its range), VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY (kv_bytes more
 * than the device allocates at once: keys and values are one buffer each), VLCACHE_E_DEVICE, VLCACHE_E_BUILD.
 * `*out` is NULL on failure; release it with vlcache_engine_destroy().
 */
VLCACHE_API vlcache_status vlcache_engine_create(vlcache_model *model, const vlcache_engine_options *options,
                                                 vlcache_engine **out);

/** Drops all sequences, whatever they do, releases everything and NULLs the handle; NULL and a NULL handle
 * are accepted. */
VLCACHE_API void vlcache_engine_destroy(vlcache_engine **engine);

/** A new, empty conversation; kernels of its policy are built or loaded here. `options` may be NULL. Errors:
 * VLCACHE_E_ARGUMENT (an option and its range, $VLCACHE_VARIANT), VLCACHE_E_UNSUPPORTED (a policy or recall
 * that this model does not go with), VLCACHE_E_FORMAT (a chat template: file, line, column), VLCACHE_E_IO
 * (its file), VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY, VLCACHE_E_DEVICE, VLCACHE_E_BUILD. `*out` is NULL
 * on failure; release it with vlcache_sequence_destroy(), or with the engine. */
VLCACHE_API vlcache_status vlcache_engine_add(vlcache_engine *engine, const vlcache_sequence_options *options,
                                              vlcache_sequence **out);

/**
 * Queues a turn of an idle sequence; the prompt is tokenised and laid out at once, pictures are borrowed
 * until the turn has ended. `generate` may be NULL. Its callbacks run inside vlcache_engine_step(), and may
 * call vlcache_sequence_cancel() only. Errors, which leave the conversation as it was: VLCACHE_E_ARGUMENT
 * (marks and pictures of a raw prompt do not agree, an option out of range, the chat template refuses the
 * conversation, the sequence is not idle), VLCACHE_E_FORMAT (the template cannot be run),
 * VLCACHE_E_CONTEXT_FULL (how many tokens, and how many of them are visual), VLCACHE_E_DEVICE_MEMORY (the
 * engine's memory would not do if it were all free: the numbers), VLCACHE_E_UNSUPPORTED, VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_sequence_ask(vlcache_sequence *sequence, const vlcache_prompt *prompt,
                                                const vlcache_generate_options *generate);

/**
 * One step: turns that wait begin, in the order in which they were asked, as far as there is memory for all
 * that each may come to need (none overtakes another); the oldest prompt that is being read goes on, one
 * prompt at a time; every sequence that answers gets a token, all in one batch. `*busy` (may be NULL): how
 * many sequences are not idle after it. What goes wrong with one sequence ends its turn and is told by its
 * vlcache_sequence_answer(); an error here means that nothing could go on: VLCACHE_E_ARGUMENT (engine is
 * NULL).
 */
VLCACHE_API vlcache_status vlcache_engine_step(vlcache_engine *engine, int *busy);

/** What it is doing; of NULL VLCACHE_SEQUENCE_IDLE. */
VLCACHE_API vlcache_sequence_state vlcache_sequence_state_of(const vlcache_sequence *sequence);

/**
 * What became of the last turn: VLCACHE_OK and `*answer`, owned by the sequence and valid until its next call
 * that changes it; or the error that ended it, after which the conversation is as it was before that turn.
 * Errors: those of vlcache_session_ask(); VLCACHE_E_ARGUMENT (no turn has ended).
 */
VLCACHE_API vlcache_status vlcache_sequence_answer(const vlcache_sequence *sequence,
                                                   const vlcache_answer **answer);

/** Ends the turn at the next layer or token: VLCACHE_E_CANCELLED while it waits or reads,
 * VLCACHE_FINISH_CANCELLED later. Without a turn: the next one. From any thread and from a signal handler. */
VLCACHE_API void vlcache_sequence_cancel(vlcache_sequence *sequence);

/**
 * Another conversation that goes on from where an idle one stands, with the same options: several questions
 * about one picture. Rows are shared until one of both changes them: memory is taken for what differs.
 * Errors: VLCACHE_E_ARGUMENT (not idle), VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY. `*out` is NULL on
 * failure.
 */
VLCACHE_API vlcache_status vlcache_sequence_fork(const vlcache_sequence *sequence, vlcache_sequence **out);

/** Forgets an idle conversation and gives its memory back; the options stay. Does nothing while a turn runs.
 */
VLCACHE_API void vlcache_sequence_clear(vlcache_sequence *sequence);

/** Drops a sequence, whatever it does, gives its memory back and NULLs the handle; NULL and a NULL handle are
 * accepted. */
VLCACHE_API void vlcache_sequence_destroy(vlcache_sequence **sequence);

/** A layer of the last turn: sparsity (NaN where it was not measured), budget, rows kept. Layers are those
 * that vlcache_compress_stats.layers counts: all, but with cross-attention those that hold the turn's picture
 * or, without one, the others. Errors: VLCACHE_E_ARGUMENT (no turn, no such layer). */
VLCACHE_API vlcache_status vlcache_sequence_layer(const vlcache_sequence *sequence, int layer,
                                                  vlcache_compress_layer *out);

/**
 * Bits of a coded row of the last turn in a kv head of a layer, keys and values together, and what its basis
 * vectors come to, spread over the rows (where the bits of a row were asked for, these alone): what
 * allocation "heads" has shares of. 0: its rows are not coded. Errors: VLCACHE_E_ARGUMENT (no turn, no such
 * layer or head).
 */
VLCACHE_API vlcache_status vlcache_sequence_bits(const vlcache_sequence *sequence, int layer, int kv_head,
                                                 double *bits);

/**
 * Positions in the last turn's prompt (0 its first token; with recall in the conversation) that a kv head of
 * a layer has kept, ascending: up to `capacity` of them into `positions`, `*n` how many there are. Reads from
 * the device: blocks. Errors: VLCACHE_E_ARGUMENT (no turn, no such layer or head), VLCACHE_E_DEVICE,
 * VLCACHE_E_NO_MEMORY.
 */
VLCACHE_API vlcache_status vlcache_sequence_kept(vlcache_sequence *sequence, int layer, int kv_head,
                                                 int32_t *positions, size_t capacity, size_t *n);

/** Visual token `index`, 0 <= index < visual_tokens, in the order of the prompt. Errors: VLCACHE_E_ARGUMENT.
 */
VLCACHE_API vlcache_status vlcache_sequence_visual(const vlcache_sequence *sequence, int index,
                                                   vlcache_visual_token *out);

/** Frame `index` of those that the videos of the last turn's prompt were seen in: of
 * vlcache_visual_token.image less the number of pictures. Errors: VLCACHE_E_ARGUMENT (no turn, no such
 * frame). */
VLCACHE_API vlcache_status vlcache_sequence_frame(const vlcache_sequence *sequence, int index,
                                                  vlcache_seen_frame *out);

/** KV memory of an engine, in bytes. */
typedef struct vlcache_engine_memory {
    uint64_t total; /**< allocated */
    uint64_t held;  /**< by pages that some sequence holds */
    uint64_t
        rows; /**< of these, rows that are there: the rest is ends of pages and room for the next tokens */
    uint64_t peak; /**< most that was held since the engine was created */
    uint64_t few; /**< rows in few bits, with all that reading them needs: beside the pages, not among what is
                       allocated at once, but of the same budget */
} vlcache_engine_memory;

/** Fills `*out`; all zero for a NULL engine. */
VLCACHE_API void vlcache_engine_memory_of(const vlcache_engine *engine, vlcache_engine_memory *out);

#ifdef __cplusplus
}
#endif
#endif
