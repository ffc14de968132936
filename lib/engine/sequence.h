/**
 * sequence.h (internal) - a conversation of an engine, and the turn that it is in.
 *
 *     idle --ask--> waiting --begin--> reading (look, read) --(compress)--> answering --(compress)--> idle
 *                                          any failure: back to the mark of the beginning
 */
#ifndef VLCI_ENGINE_SEQUENCE_H
#define VLCI_ENGINE_SEQUENCE_H

#include <stdatomic.h>

#include "compress/plan.h"
#include "engine/portions.h"
#include "engine/prompt.h"
#include "engine/read.h"
#include "engine/reply.h"
#include "engine/step.h"
#include "vlcache/engine.h"

/** What the sequences of an engine share. */
typedef struct vlci_shared {
    vlcache_model *model; /**< retained */
    vlci_kv_pool pool;
    vlci_text text;
    vlci_step step;
    vlci_compress_kernels compress;
    vlci_summary_room spare; /* scratch of compress */
    vlci_code_spare code_spare;
    vlci_looks looks;
    vlci_fetch fetch;         /* of its counts */
    vlcache_sequence *untidy; /* whose turn has left what it was read with: vlci_turn_tidy(); NULL: none */
    bool frees;               /* pages have become free, in an elastic pool */
    cl_mem metric;            /**< of values (compress/metric.h); NULL before rows are first to be coded */
} vlci_shared;

struct vlcache_sequence {
    vlci_shared *shared;
    vlcache_engine *engine;
    vlcache_sequence *next; /* of the engine, in the order in which they came */
    vlci_chat *chat;        /* retained */
    char *system;           /* opens every conversation; NULL: nothing does */
    vlci_conversation said; /* what the cache holds, and the turn's question */
    size_t said_before;     /* messages before the turn */
    bool lost_before;       /* said.lost before it */
    bool warned;            /* that the template changes what was said */
    vlci_recipe recipe;
    int context;
    bool recalls;          /* rows are kept in the host's memory, and chosen anew in each turn */
    uint64_t recall_bytes; /* most that they may take; 0: any */
    vlci_past past;        /* with recall: what the rows are */
    vlci_kv kv;
    int32_t open; /* last token of the answer before, not yet in the cache; -1: none */
    atomic_bool cancel;

    /* the turn */
    vlcache_sequence_state state;
    uint64_t ticket; /* its place in the queue */
    vlcache_prompt asked;
    const vlcache_image **images; /* asked.images, copied */
    vlcache_video **videos;       /* asked.videos, copied */
    vlcache_generate_options how;
    vlci_choice choice;
    vlci_kv mark;   /* the cache before it; pool NULL: not begun */
    int32_t opened; /* `open` before it */
    int earlier;    /* rows of earlier turns that are candidates again: all with recall, else none */
    vlci_past_mark past_before;
    vlci_recall recall;
    int row;        /* in the batch of this step */
    int64_t pages;  /* that it may come to hold, beyond which the engine promises none */
    uint64_t few;   /* bytes in few bits that its turn may come to hold of the prompt */
    uint64_t aging; /* and of rows that age, as far as they have not yet */
    vlci_prompt prompt;
    cl_mem features;
    bool looked;
    vlci_reading reading;
    cl_event read; /* behind the prompt's logits, where nobody has waited for them; NULL: somebody has */
    vlci_portions *portions; /* reads the prompt in parts; NULL: at once */
    vlci_compress *own[1];   /* where the plan stands for whoever reads */
    vlci_compress **plans;   /* that look on while the prompt is read: own, or a comparison's */
    const vlci_recipe *recipes;
    size_t n_plans;
    bool shrinks;        /* with this step, layer by layer, or is measured (again.c) */
    bool waiting;        /* compression waits for decoded tokens, or goes on between them */
    vlci_observer watch; /* looks at decoded rows where no plan does; part NULL: nobody */
    vlci_reply reply;
    double start, built; /* when it was asked; build milliseconds before */
    double late;         /* of compression, behind the first token */

    /* what became of it */
    bool ended;
    vlcache_status status;
    char *message;         /* of a failure */
    vlcache_answer answer; /* its arrays are the reply's */
};

/** Layer and head count for messages and checks. */
static inline const vlci_text_config *vlci_sequence_text(const vlcache_sequence *s) {
    return &s->shared->model->config.text;
}

/** What the last turn's statistics are about: layers of cross-attention and the rows of the pictures that
 * they hold, where the prompt brought some; else the layers that hold rows of the text, and the prompt's
 * rows, with recall the conversation's. */
static inline int vlci_sequence_layers(const vlcache_sequence *s) {
    const vlci_text_config *c = vlci_sequence_text(s);
    return s->prompt.n_sights ? c->crosses : c->layers - c->crosses;
}
static inline int vlci_sequence_tokens(const vlcache_sequence *s) {
    return s->prompt.n_sights ? s->prompt.sighted : s->earlier + s->prompt.n;
}

/** Whether the model's rows can be stored in few bits. */
static inline bool vlci_stores_few(const vlcache_model *m) {
    return !m->config.text.crosses && vlci_few_takes(m->config.text.head_dim);
}

/** The plan of the last turn; NULL when it was not compressed. */
static inline vlci_compress *vlci_sequence_plan(const vlcache_sequence *s) {
    return s->own[0];
}

/** Reads options. Errors: VLCACHE_E_ARGUMENT. */
vlcache_status vlci_sequence_take(const vlcache_model *model, const vlcache_sequence_options *options,
                                  vlcache_sequence *out);

/** A sequence without engine: options are taken already; the cache is made. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_sequence_create(vlci_shared *shared, vlcache_sequence *out);

/** Whether a token ends an answer: by the settings, or by the template, since a checkpoint that ends turns
 * with another token need not list it. */
bool vlci_sequence_ends(const vlcache_sequence *sequence, int32_t token);

/** The conversation stands before the turn again. */
void vlci_sequence_take_back(vlcache_sequence *sequence);

/** Drops what the last turn left for the caller. */
void vlci_sequence_forget(vlcache_sequence *sequence);

/** Fills the answer of a turn that has ended well, but for how it ended and its times. */
void vlci_sequence_describe(vlcache_sequence *sequence);

/** Releases all but the sequence itself. */
void vlci_sequence_release(vlcache_sequence *sequence);

/* ---- ask.c --------------------------------------------------------------------------------------------- */

/** Lays the turn out; state: waiting. Errors: those of vlcache_sequence_ask() but memory; nothing has changed
 * then. */
vlcache_status vlci_turn_ask(vlcache_sequence *sequence, const vlcache_prompt *prompt,
                             const vlcache_generate_options *generate);

/** How many tokens the turn would have, laid out and put away again. Errors: as vlci_turn_ask(). */
vlcache_status vlci_turn_count(vlcache_sequence *sequence, const vlcache_prompt *prompt, int *tokens);

/* ---- plans.c ------------------------------------------------------------------------------------------- */

/** Makes s->plans, where anything may go of the turn's prompt, or of the part of it that is read next.
 * Errors: those of vlci_compress_create(), VLCACHE_E_UNSUPPORTED (a sliding window that is shorter than the
 * prompt). */
vlcache_status vlci_turn_plan(vlcache_sequence *sequence, const vlci_prompt *prompt);

/* ---- turn.c, hearing.c, again.c: parts of a turn, in their order --------------------------------------- */

/** Sets the mark, makes the plans and, in an elastic pool, room; state: reading. */
vlcache_status vlci_turn_begin(vlcache_sequence *sequence);

/** Looks at pictures and reads the prompt while there is `*work` left, as of vlci_walk_go(); looking takes
 * what reading the visual tokens will. `*done`: it is read, logits are there. */
vlcache_status vlci_turn_read(vlcache_sequence *sequence, int64_t *work, bool *done);

/** A part of the prompt is read, and another follows (hearing.c): the cache shrinks to what it keeps. Errors:
 * the device's, VLCACHE_E_CANCELLED, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_turn_end_portion(vlcache_sequence *sequence);

/** Layers come back one at a time (again.c), where vlci_turn_again(): for the next token, which
 * vlci_again_observer() then has to look on at, and the step takes the place of vlci_turn_make_room() and,
 * with the last token that is waited for, of compression; or all are compressed without one. Errors: the
 * device's, those of vlci_recall_open(). */
vlcache_status vlci_again_begin(vlcache_sequence *sequence);
vlci_observer vlci_again_observer(vlcache_sequence *sequence);
vlcache_status vlci_again_all(vlcache_sequence *sequence);

/** Whether bits wait for one token more than decoded tokens are looked at. */
bool vlci_again_measures(const vlcache_sequence *sequence);

/** What a sequence's plan sees of its own row in a step: vlci_observer.part. */
vlcache_status vlci_turn_observe(void *sequence, int layer, const vlci_attention *a, int from, int rows);

/** The prompt is read: compresses where that does not wait, notes the best logits and chooses the first
 * token; state: answering, or idle where that is all. What goes wrong ends the turn. */
void vlci_turn_answer(vlcache_sequence *sequence);

/** Another token for each of n sequences that answer, all in one batch; those that end with it become idle.
 * What goes wrong ends the turns that it is about. `list` is reordered. */
void vlci_turn_step(vlci_shared *shared, vlcache_sequence **list, int n);

/** Puts away what turns have left, best while the host waits for the device anyway: what one was read with,
 * and pages that have become free (vlci_turn_give_back()). Errors: the device's. */
vlcache_status vlci_turn_tidy(vlci_shared *shared);

/** What a turn has left is its sequence's to release, at once. */
void vlci_turn_leave(vlcache_sequence *sequence);

/** The turn is over; state: idle. On failure the conversation goes back to where it was. */
void vlci_turn_end(vlcache_sequence *sequence, vlcache_status status);

/** Recipe `i` of the turn as its plan has it: rows of a layer that is coded as it is read are turned run by
 * run, if no domain was asked for, and all are kept, if no votes were. */
vlci_recipe vlci_turn_recipe(const vlcache_sequence *sequence, size_t i);

/* ---- room.c: what a turn may come to hold -------------------------------------------------------------- */

/** Most pages that the turn may come to hold beyond those its sequence has, and it never needs more at once.
 */
int64_t vlci_turn_pages(const vlcache_sequence *sequence);

/** The same of an answer behind a cache that is compressed. */
int64_t vlci_turn_growth_pages(const vlcache_sequence *sequence);

/** Most bytes that the turn, which has not begun, may come to hold in few bits (storage "coded", "bits")
 * beyond those that its sequence has; of them, those of rows that age: of what was exact before the turn, of
 * a prompt that is not compressed, and of the answer; and those that are still to come while it runs. */
uint64_t vlci_turn_few(const vlcache_sequence *sequence);
uint64_t vlci_turn_aging(const vlcache_sequence *sequence);
uint64_t vlci_turn_few_left(const vlcache_sequence *sequence);

/** What an elastic pool begins with: what reading takes, as far as that can be told; it grows where it was
 * not. */
int64_t vlci_turn_elastic_pages(const vlcache_sequence *sequence);

/** Whether the turn's rows may go: with pictures, of models that see none, and with recall once a picture was
 * seen. */
bool vlci_turn_may_compress(const vlcache_sequence *sequence);

/** Whether layers shrink as they are read. */
bool vlci_turn_by_layer(const vlcache_sequence *sequence);

/** Whether layers, which shrink later, come back for that. */
bool vlci_turn_again(const vlcache_sequence *sequence);

/** Room for the next row, and some more. Errors: as vlci_kv_reserve(). */
vlcache_status vlci_turn_make_room(vlcache_sequence *sequence);

/** In an elastic pool: what has become free goes back with the next vlci_turn_tidy(), but for room for the
 * next rows. Errors: as vlci_kv_reserve(). */
vlcache_status vlci_turn_give_back(vlcache_sequence *sequence);

#endif
