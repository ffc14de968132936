/*
 * turn.c - the parts of a turn: laying it out, reading the prompt, compressing what that left in the cache,
 * answering.
 *
 *     ask:       text, pictures -> ids
 *     read:      pictures -> visual tokens; ids -> rows in the cache, observed by plans -> logits
 *     compress:  plan -> a smaller cache: layer by layer while reading, behind the prompt, or behind some
 * tokens answer:    logits -> token -> logits -> ...
 */
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/options.h"
#include "engine/sequence.h"

enum { TEXT_ROOM = 1024 /* bytes of text to begin with */ };

static vlcache_device *device_of(const vlcache_sequence *s) {
    return s->shared->model->device;
}

static bool cancelled(vlcache_sequence *s) {
    return atomic_load(&s->cancel);
}

/* ---- asking -------------------------------------------------------------------------------------------- */

VLCI_OPTIONS_END(vlcache_prompt, stream_frames);
VLCI_OPTIONS_END(vlcache_generate_options, n_told);

static vlcache_status check_generate(const vlcache_generate_options *g) {
    if (g->max_tokens < 0 || g->max_tokens > 1 << 24)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.max_tokens", VLCI_VALUE("%d", g->max_tokens),
                           "must be 0 to %d", 1 << 24);
    if (!(g->temperature >= 0.0f) || isinf(g->temperature))
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.temperature",
                           VLCI_VALUE("%g", (double)g->temperature), "must be 0 or more");
    if (g->top_k < 0)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.top_k", VLCI_VALUE("%d", g->top_k),
                           "must be 0 or more");
    if (!(g->top_p > 0.0f && g->top_p <= 1.0f))
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.top_p", VLCI_VALUE("%g", (double)g->top_p),
                           "must be above 0 and at most 1");
    return VLCACHE_OK;
}

/* An answer that is told has as many tokens as it has, end tokens among them. */
static vlcache_status take_told(vlcache_sequence *s) {
    vlcache_generate_options *g = &s->how;
    int vocab = vlci_sequence_text(s)->vocab;
    if (!g->told && !g->n_told) return VLCACHE_OK;
    if (!g->told || g->n_told < 1 || g->n_told > 1 << 24)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.n_told", VLCI_VALUE("%zu", g->n_told),
                           "must be 1 to %d where tokens are told, else 0", 1 << 24);
    if (g->probe)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.probe", "true",
                           "must be false where the answer is told");
    for (size_t i = 0; i < g->n_told; i++)
        if (g->told[i] < 0 || g->told[i] >= vocab)
            return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("generate.told[%zu]", i),
                               VLCI_VALUE("%d", (int)g->told[i]), "must be from 0 to %d", vocab - 1);
    g->max_tokens = (int)g->n_told;
    g->min_tokens = g->n_told;
    return VLCACHE_OK;
}

static vlcache_status take(vlcache_sequence *s, const vlcache_prompt *prompt,
                           const vlcache_generate_options *generate) {
    vlcache_status status =
        VLCI_OPTIONS_TAKE("prompt", vlcache_prompt, raw, VLCACHE_PROMPT_INIT, prompt, &s->asked);
    if (!status)
        status = VLCI_OPTIONS_TAKE("generate", vlcache_generate_options, max_tokens,
                                   VLCACHE_GENERATE_OPTIONS_INIT, generate, &s->how);
    if (!status) status = check_generate(&s->how);
    return status ? status : take_told(s);
}

static vlcache_status check_context(const vlcache_sequence *s, const vlci_prompt *prompt) {
    if (prompt->n <= s->context - s->kv.length) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_CONTEXT_FULL,
                     "the prompt has %d tokens, %d of them of pictures; with %d held already they exceed the "
                     "context of %d (the model takes %d)",
                     prompt->n, prompt->n_sights ? (int)prompt->n_images : prompt->visual, s->kv.length,
                     s->context, vlci_sequence_text(s)->max_positions);
}

static vlcache_status keep_pictures(vlcache_sequence *s) {
    size_t n = s->asked.n_images, videos = s->asked.n_videos;
    s->images = vlci_alloc(n, sizeof *s->images);
    s->videos = vlci_alloc(videos, sizeof *s->videos);
    if (!s->images || !s->videos) return vlci_fail_memory("pictures of a prompt");
    if (n) memcpy(s->images, s->asked.images, n * sizeof *s->images);
    if (videos) memcpy(s->videos, s->asked.videos, videos * sizeof *s->videos);
    s->asked.images = s->images;
    s->asked.videos = s->videos;
    return VLCACHE_OK;
}

/* The question joins what was said, behind the system's words where it is the first; what does not go through
 * the template leaves only that something was read. */
static vlcache_status note_question(vlcache_sequence *s) {
    vlcache_status status = VLCACHE_OK;
    s->said_before = s->said.n;
    s->lost_before = s->said.lost;
    if (s->asked.raw || !s->asked.text) {
        s->said.lost = true;
        return VLCACHE_OK;
    }
    if (!s->said.n && !s->said.lost && s->system)
        status = vlci_conversation_add(&s->said, VLCI_SYSTEM, s->system, 0);
    if (!status) status = vlci_conversation_add(&s->said, VLCI_USER, s->asked.text, (int)s->asked.n_images);
    if (!status) vlci_conversation_show(&s->said, (int)s->asked.n_videos);
    return status;
}

static vlcache_status check_stream(const vlcache_sequence *s) {
    if (!s->asked.stream_frames) return VLCACHE_OK;
    if (s->asked.stream_frames > VLCACHE_VIDEO_MAX_FRAMES)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "prompt.stream_frames",
                           VLCI_VALUE("%zu", s->asked.stream_frames), "must be at most %d",
                           VLCACHE_VIDEO_MAX_FRAMES);
    if (s->recalls)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.stream_frames",
                           VLCI_VALUE("%zu", s->asked.stream_frames),
                           "must be 0 with recall, which keeps every row");
    if (s->recipe.coded || s->recipe.quantised)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.stream_frames",
                           VLCI_VALUE("%zu", s->asked.stream_frames),
                           "must be 0 with coded rows, whose bits are shared out over the whole prompt");
    return VLCACHE_OK;
}

/* Videos in parts, where they come to several. */
static vlcache_status open_portions(vlcache_sequence *s) {
    if (!s->asked.stream_frames) return VLCACHE_OK;
    vlcache_status status = vlci_portions_create(s->shared->model, &s->prompt, &s->recipe,
                                                 (int)s->asked.stream_frames, s->kv.position, &s->portions);
    if (s->portions) s->recipes = &s->portions->recipe;
    return status;
}

static void warn_of_rewriting(vlcache_sequence *s) {
    if (!s->warned)
        vlci_log(
            VLCACHE_LOG_WARN,
            "the chat template (%s) changes what was said in earlier turns; the cache keeps it as it was",
            vlci_chat_name(s->chat));
    s->warned = true;
}

/* The question has joined what was said where it succeeds; otherwise nothing has changed. */
static vlcache_status lay_out(vlcache_sequence *s, const vlcache_prompt *prompt,
                              const vlcache_generate_options *generate, vlci_prompt *laid) {
    vlci_turn place = {.chat = s->chat, .said = &s->said, .open = s->open};
    vlcache_status status = take(s, prompt, generate);
    if (status) return status;
    status = note_question(s);
    if (!status) status = vlci_prompt_create(s->shared->model, &s->asked, &place, laid);
    if (!status) status = check_context(s, laid);
    if (!status) status = check_stream(s);
    if (!status) return VLCACHE_OK;
    vlci_sequence_take_back(s);
    vlci_prompt_release(laid);
    return status;
}

vlcache_status vlci_turn_count(vlcache_sequence *s, const vlcache_prompt *prompt, int *tokens) {
    vlci_prompt laid = {0};
    vlcache_status status = lay_out(s, prompt, NULL, &laid);
    *tokens = status ? 0 : laid.n;
    if (status) return status;
    vlci_sequence_take_back(s);
    vlci_prompt_release(&laid);
    return VLCACHE_OK;
}

vlcache_status vlci_turn_ask(vlcache_sequence *s, const vlcache_prompt *prompt,
                             const vlcache_generate_options *generate) {
    vlci_prompt laid = {0};
    vlcache_status status = lay_out(s, prompt, generate, &laid);
    if (status) return status;
    if (laid.rewritten) warn_of_rewriting(s);
    vlci_sequence_forget(s);
    s->prompt = laid;
    status = keep_pictures(s);
    if (status) {
        vlci_sequence_take_back(s);
        return status;
    }
    s->start = vlci_clock_ms();
    s->built = vlci_kernel_build_seconds(device_of(s)) * 1e3;
    s->choice = (vlci_choice){{s->how.temperature, s->how.top_k, s->how.top_p}, s->how.seed};
    s->recipes = &s->recipe;
    s->plans = s->own;
    s->n_plans = 1;
    s->past_before = vlci_past_here(&s->past);
    status = open_portions(s);
    if (!status) s->state = VLCACHE_SEQUENCE_WAITING;
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static bool report(void *user, const char *stage, uint64_t done, uint64_t total) {
    vlcache_sequence *s = user;
    if (cancelled(s)) return false;
    return !s->how.progress || s->how.progress(s->how.user, stage, done, total);
}

static bool watch_layers(void *user, int done, int layers) {
    return report(user, "reading the prompt", (uint64_t)done, (uint64_t)layers);
}

/* Cache rows that each head of each layer holds: [layers * kv_heads], new memory. */
static int32_t *list_rows(const vlci_kv *kv) {
    size_t n = (size_t)kv->pool->shape.layers * (size_t)kv->pool->shape.kv_heads;
    int32_t *rows = vlci_alloc(n, sizeof *rows);
    for (size_t i = 0; rows && i < n; i++) rows[i] = kv->list[i].rows;
    return rows;
}

/* Scores are taken of rows that see all before them: in layers with a window they do as long as it is not
 * full. */
static vlcache_status check_window(const vlcache_sequence *s, const vlci_prompt *prompt) {
    const vlci_text_config *c = vlci_sequence_text(s);
    int defer = -1, rows = s->kv.length + prompt->n;
    for (size_t i = 0; i < s->n_plans; i++)
        if (s->recipes[i].compresses && s->recipes[i].defer > defer) defer = s->recipes[i].defer;
    for (int layer = 0; layer < c->layers && defer >= 0; layer++) {
        int window = vlci_text_window(c, layer);
        if (window && rows + defer > window)
            return vlci_fail(
                VLCACHE_E_UNSUPPORTED,
                "the prompt comes to %d rows of the cache, of which layer %d sees only the last %d "
                "(config.json: sliding_window): such prompts are not compressed, ask without "
                "compression",
                rows + defer, layer, window);
    }
    return VLCACHE_OK;
}

/* Rows of the visual tokens: new memory. */
static int *list_visual(const vlci_prompt *prompt) {
    int *rows = vlci_alloc((size_t)prompt->visual, sizeof *rows);
    for (int i = 0; rows && i < prompt->visual; i++) rows[i] = prompt->where[i].position;
    return rows;
}

/* Rows of a layer that is coded as it is read are turned run by run, if no domain was asked for. */
static vlci_recipe recipe_of(const vlcache_sequence *s, size_t i) {
    vlci_recipe recipe = s->recipes[i];
    if (recipe.run_by_layer && vlci_turn_by_layer(s)) recipe.run = recipe.run_by_layer;
    return recipe;
}

/* A plan for each recipe. */
static vlcache_status create_plans(vlcache_sequence *s, const vlci_compress_prompt *asked) {
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < s->n_plans && !status; i++) {
        const vlci_recipe recipe = recipe_of(s, i);
        status = vlci_compress_create(&s->shared->compress, &recipe, asked, s->plans, i, &s->plans[i]);
    }
    return status;
}

/* All rows of the conversation are candidates. */
static vlcache_status make_plans_again(vlcache_sequence *s) {
    vlci_compress_prompt asked;
    int *text_rows;
    vlcache_status status = vlci_past_prompt(&s->past, &s->prompt, &text_rows, &asked);
    if (!status) status = create_plans(s, &asked);
    vlci_free(text_rows);
    return status;
}

/* Of pictures aside: the rows that layers of cross-attention hold, and text rows that look at them. */
static vlcache_status make_plans_aside(vlcache_sequence *s) {
    int layers[VLCI_MAX_LAYERS], n = 0;
    const vlci_compress_prompt asked = {.tokens = s->prompt.sighted,
                                        .rows = s->prompt.n,
                                        .kv_layers = layers,
                                        .text = s->prompt.after,
                                        .text_rows = s->prompt.after_at,
                                        .grids = s->prompt.grids,
                                        .n_grids = s->prompt.n_grids};
    for (int i = 0; i < vlci_sequence_text(s)->layers; i++)
        if (vlci_text_crosses(vlci_sequence_text(s), i)) layers[n++] = i;
    return create_plans(s, &asked);
}

/* Of the prompt, or of a part of it. */
static vlcache_status make_plans(vlcache_sequence *s, const vlci_prompt *prompt) {
    vlci_compress_prompt asked = {.tokens = prompt->n,
                                  .text = s->prompt.visual ? prompt->after : 0,
                                  .text_rows = prompt->after_at,
                                  .grids = prompt->grids,
                                  .n_grids = prompt->n_grids};
    if (!vlci_turn_may_compress(s)) return VLCACHE_OK;
    if (s->prompt.n_sights) return make_plans_aside(s);
    vlcache_status status = check_window(s, prompt);
    if (status) return status;
    if (s->recalls) return make_plans_again(s);
    int32_t *past = list_rows(&s->kv);
    int *visual = list_visual(prompt);
    status = past && visual ? VLCACHE_OK : vlci_fail_memory("lengths of the KV cache");
    asked.past = past;
    asked.visual = s->prompt.visual ? visual : NULL; /* of a text model all rows may be coded */
    asked.n_visual = prompt->visual;
    if (!status) status = create_plans(s, &asked);
    vlci_free(past);
    vlci_free(visual);
    return status;
}

/* With recall: the device's share of the conversation goes, since all of it comes back. What a failure leaves
 * is the store. */
static vlcache_status begin_recall(vlcache_sequence *s) {
    s->earlier = s->recalls ? s->kv.length : 0;
    s->recall.limit = s->recall_bytes;
    if (s->kv.store) vlci_kv_drop(&s->kv);
    return s->recalls ? vlci_past_ask(&s->past, s->shared->model, &s->prompt, s->kv.position) : VLCACHE_OK;
}

vlcache_status vlci_turn_begin(vlcache_sequence *s) {
    vlci_kv_pool *pool = &s->shared->pool;
    s->state = VLCACHE_SEQUENCE_READING;
    s->pages = s->kv.held + vlci_turn_pages(s);
    vlcache_status status = begin_recall(s);
    s->opened = s->open;
    s->kv.most = s->kv.held;
    if (pool->elastic) vlci_kv_pool_watch(pool);
    if (!status) status = vlci_kv_mark(&s->kv, &s->mark);
    if (!status && pool->elastic) status = vlci_kv_pool_need(pool, (int)vlci_turn_elastic_pages(s));
    return status || s->portions ? status : make_plans(s, &s->prompt);
}

/* The whole prompt, or the next part of it, whose plan is made then. */
static vlcache_status look_at(vlcache_sequence *s) {
    const vlcache_model *model = s->shared->model;
    vlcache_timings *timings = &s->answer.timings;
    if (!s->portions) return vlci_prompt_look(model, &s->asked, &s->prompt, report, s, timings, &s->features);
    vlcache_status status = vlci_portions_begin(s->portions);
    if (!status) status = make_plans(s, &s->portions->prompt);
    const vlci_look_range *range = &s->portions->part[s->portions->at].look;
    return status ? status
                  : vlci_prompt_look_range(model, &s->asked, &s->prompt, range, report, s, timings,
                                           &s->features);
}

static vlcache_status look(vlcache_sequence *s) {
    vlcache_status status = look_at(s);
    if (status) return status;
    vlci_portions *portions = s->portions;
    s->looked = true;
    s->reading = (vlci_reading){.text = &s->shared->text,
                                .kv = &s->kv,
                                .prompt = portions ? &portions->prompt : &s->prompt,
                                .plans = s->plans,
                                .n_plans = s->n_plans,
                                .by_layer = vlci_turn_by_layer(s) ? s->plans[0] : NULL,
                                .recall = s->recalls ? &s->recall : NULL,
                                .past = &s->past,
                                .watch = watch_layers,
                                .watch_user = s,
                                .wait = s->how.progress != NULL};
    if (portions) {
        s->reading.position = (const int32_t(*)[3])portions->position + portions->part[portions->at].row;
        s->reading.next_position = portions->next;
    }
    double start = vlci_clock_ms();
    status = vlci_reading_begin(&s->reading, s->features);
    s->answer.timings.prefill += vlci_clock_ms() - start;
    return status;
}

vlcache_status vlci_turn_read(vlcache_sequence *s, int64_t *work, bool *done) {
    *done = false;
    vlci_step_forget(&s->shared->step);
    if (!s->looked) {
        vlcache_status status = look(s);
        if (status) return status;
        *work -= (int64_t)s->reading.prompt->visual * s->shared->pool.shape.layers;
        if (*work <= 0) return VLCACHE_OK;
    }
    double start = vlci_clock_ms();
    vlcache_status status = vlci_reading_go(&s->reading, work, done);
    if (*done) {
        if (!status) status = vlci_finish(device_of(s));
        s->open = -1;
        vlci_reading_release(&s->reading);
        vlci_memory_release(device_of(s), &s->features);
    }
    s->answer.timings.prefill += vlci_clock_ms() - start;
    if (status || !*done || !s->portions || s->portions->at == s->portions->n - 1) return status;
    *done = false;
    return vlci_turn_end_portion(s);
}

/* ---- compressing --------------------------------------------------------------------------------------- */

/* With recall: the host gets the rows that it does not have, the last ones of each head. */
static vlcache_status keep_rows(vlcache_sequence *s) {
    int rows = s->kv.length - vlci_store_rows(s->kv.store);
    return s->recalls && rows ? vlci_recall_keep_all(&s->recall, &s->kv, rows) : VLCACHE_OK;
}

/* What is not compressed yet: all, or as much as a token may wait for. */
static vlcache_status compress(vlcache_sequence *s, bool all) {
    double start = vlci_clock_ms();
    vlci_compress *plan = vlci_sequence_plan(s);
    vlcache_status status = plan->applied ? VLCACHE_OK : keep_rows(s);
    if (!status && !plan->applied)
        status = all ? vlci_compress_all(plan, &s->kv) : vlci_compress_some(plan, &s->kv);
    s->waiting = !status && !plan->applied;
    if (!status && !s->waiting) status = vlci_turn_give_back(s);
    if (!status) status = vlci_finish(device_of(s));
    if (!s->waiting) s->pages = s->kv.held + vlci_turn_growth_pages(s);
    s->answer.timings.compress += vlci_clock_ms() - start;
    return status;
}

/* ---- answering ----------------------------------------------------------------------------------------- */

/* Room for n more bytes and a zero: twice as much as before, so that few tokens allocate. */
static vlcache_status make_text_room(vlcache_sequence *s, size_t n) {
    size_t room = s->text_room ? s->text_room : TEXT_ROOM;
    if (s->text && s->text_bytes + n < s->text_room) return VLCACHE_OK;
    while (room <= s->text_bytes + n) room *= 2;
    char *longer = vlci_realloc(s->text, room, 1);
    if (!longer) return vlci_fail_memory("answer");
    s->text = longer;
    s->text_room = room;
    return VLCACHE_OK;
}

static vlcache_status say(vlcache_sequence *s, const char *piece) {
    size_t n = strlen(piece);
    vlcache_status status = make_text_room(s, n);
    if (status || !n) return status;
    memcpy(s->text + s->text_bytes, piece, n + 1);
    s->text_bytes += n;
    if (s->how.on_text && !s->how.on_text(s->how.user, piece)) s->stopped = true;
    return VLCACHE_OK;
}

/* The answer ends before another token is chosen; why. */
static bool finished(vlcache_sequence *s) {
    vlcache_answer *a = &s->answer;
    if (s->stopped || cancelled(s))
        a->finish = VLCACHE_FINISH_CANCELLED;
    else if (a->n_tokens >= s->how.max_tokens)
        a->finish = VLCACHE_FINISH_LENGTH;
    else if (s->open >= 0 && s->kv.length >= s->context)
        a->finish = VLCACHE_FINISH_CONTEXT;
    else
        return false;
    return true;
}

/* The token that was chosen; an end token is not said. `*more`: whether the answer goes on. */
static vlcache_status take_token(vlcache_sequence *s, int32_t token, bool *more) {
    vlcache_answer *a = &s->answer;
    const char *piece = "";
    *more = false;
    if (!a->timings.first_token) a->timings.first_token = vlci_clock_ms() - s->start;
    if ((size_t)a->n_tokens >= s->how.min_tokens && vlci_sequence_ends(s, token)) {
        s->open = -1;
        a->finish = VLCACHE_FINISH_STOP;
        return VLCACHE_OK;
    }
    s->tokens[a->n_tokens++] = token;
    s->open = token;
    *more = true;
    vlcache_status status = s->stream ? vlci_detokenizer_push(s->stream, token, &piece) : VLCACHE_OK;
    return status ? status : say(s, piece);
}

static vlcache_status begin_answer(vlcache_sequence *s) {
    s->tokens = vlci_alloc((size_t)s->how.max_tokens + 1, sizeof *s->tokens);
    if (s->how.told) s->losses = vlci_alloc(s->how.n_told, sizeof *s->losses);
    bool room = s->tokens && (s->losses || !s->how.told);
    vlcache_status status = room ? make_text_room(s, 0) : vlci_fail_memory("answer");
    if (!status) s->text[0] = 0;
    if (!status && s->shared->model->tokenizer)
        status = vlci_detokenizer_create(s->shared->model->tokenizer, &s->stream);
    if (!status)
        status = vlci_step_best(&s->shared->step, VLCACHE_FIRST_LOGITS, s->answer.first_logits,
                                &s->answer.n_first_logits);
    return status;
}

/* -log p of the token that a sequence is told next, from row `row` of the logits. */
static vlcache_status measure_loss(vlcache_sequence *s, int row, float *logits) {
    size_t vocab = (size_t)vlci_sequence_text(s)->vocab, bytes = vocab * sizeof *logits;
    double most = -(double)INFINITY, sum = 0.0;
    int at = s->answer.n_tokens;
    vlcache_status status =
        vlci_read(device_of(s), s->shared->text.logits, (size_t)row * bytes, logits, bytes);
    if (status) return status;
    for (size_t i = 0; i < vocab; i++) most = fmax(most, (double)logits[i]);
    for (size_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - most);
    s->losses[at] = (float)(log(sum) + most - (double)logits[s->how.told[at]]);
    return VLCACHE_OK;
}

/* Those that are told what they answer take that; the device knows nothing of it. */
static vlcache_status be_told(vlci_shared *shared, vlcache_sequence **list, int n, const vlcache_status *own,
                              int32_t *token) {
    vlcache_status status = VLCACHE_OK;
    float *logits = NULL;
    for (int i = 0; i < n && !status; i++) {
        if (own[i] || !list[i]->how.told) continue;
        if (!logits) logits = vlci_alloc((size_t)vlci_sequence_text(list[i])->vocab, sizeof *logits);
        status = logits ? measure_loss(list[i], i, logits) : vlci_fail_memory("logits");
        token[i] = list[i]->how.told[list[i]->answer.n_tokens];
        vlci_step_forget(&shared->step);
    }
    vlci_free(logits);
    return status;
}

/* A token for each of n sequences, sequence i from row i of the logits. own[i]: what went wrong with it
 * before. */
static void choose(vlci_shared *shared, vlcache_sequence **list, int n, const vlcache_status *own) {
    vlci_choice *choices[VLCI_STEP_MAX] = {NULL};
    int32_t token[VLCI_STEP_MAX];
    for (int i = 0; i < n; i++) choices[i] = &list[i]->choice;
    vlcache_status status = vlci_step_choose(&shared->step, choices, n, token);
    if (!status) status = be_told(shared, list, n, own, token);
    for (int i = 0; i < n; i++) {
        bool more = false;
        if (own[i]) continue; /* it has ended */
        vlcache_status taken = status ? status : take_token(list[i], token[i], &more);
        if (taken || !more) vlci_turn_end(list[i], taken);
    }
}

void vlci_turn_answer(vlcache_sequence *s) {
    vlci_compress *plan = vlci_sequence_plan(s);
    s->state = VLCACHE_SEQUENCE_ANSWERING;
    s->waiting = plan && s->recipe.defer > 0 && !plan->applied;
    vlcache_status status = plan && !s->waiting ? compress(s, true) : VLCACHE_OK;
    if (!status) status = begin_answer(s);
    if (status || finished(s))
        vlci_turn_end(s, status);
    else
        choose(s->shared, &s, 1, &status);
}

/* ---- a step -------------------------------------------------------------------------------------------- */

vlcache_status vlci_turn_observe(void *user, int layer, const vlci_attention *a, int from, int rows) {
    vlcache_sequence *s = user;
    (void)from, (void)rows;
    vlci_look look = {.a = a, .heads_at = vlci_kv_heads_at(&s->kv, layer), .row = s->row, .n = 1};
    return vlci_compress_observe_decode(vlci_sequence_plan(s), layer, &look);
}

/* Whether the scores still wait for tokens. */
static bool looks(const vlcache_sequence *s) {
    return vlci_sequence_plan(s)->decoded < s->recipe.defer;
}

/* Those of the list that take part, with room for a row. */
static int gather(vlci_shared *shared, vlcache_sequence **list, int n, int32_t *tokens, int *observers) {
    int m = 0;
    *observers = 0;
    for (int i = 0; i < n; i++) {
        vlcache_sequence *s = list[i];
        bool over = finished(s);
        vlcache_status status = over ? VLCACHE_OK : vlci_turn_make_room(s);
        if (over || status) {
            vlci_turn_end(s, status);
            continue;
        }
        s->row = m;
        shared->step.kv[m] = &s->kv;
        tokens[m] = s->open;
        if (s->waiting && looks(s))
            shared->step.observer[(*observers)++] = (vlci_observer){.user = s, .part = vlci_turn_observe};
        list[m++] = s;
    }
    return m;
}

/* Rows that are old enough go to few bits, where those of the prompt are; with recall, the host has them
 * before as they were. */
static vlcache_status age(vlcache_sequence *s) {
    const vlci_compress_kernels *k = &s->shared->compress;
    int held = s->kv.held;
    if (!s->kv.quants || !vlci_quantise_ages(&k->shape, &s->recipe, &s->kv)) return VLCACHE_OK;
    vlcache_status status = keep_rows(s);
    if (!status) status = vlci_quantise_aged(&k->quantise, &k->compact, &k->shape, &s->recipe, &s->kv);
    return status || s->kv.held == held ? status : vlci_turn_give_back(s);
}

/* Compresses when enough tokens are decoded, over some steps where there is much. */
static vlcache_status stepped(vlcache_sequence *s) {
    s->open = -1;
    if (!s->waiting) return age(s);
    return !looks(s) ? compress(s, false) : VLCACHE_OK;
}

void vlci_turn_step(vlci_shared *shared, vlcache_sequence **list, int n) {
    int32_t tokens[VLCI_STEP_MAX];
    int observers, m = gather(shared, list, n, tokens, &observers);
    if (!m) return;
    vlcache_status own[VLCI_STEP_MAX], status = vlci_step_run(&shared->step, tokens, m, observers);
    for (int i = 0; i < m; i++) {
        own[i] = status ? status : stepped(list[i]);
        if (own[i]) vlci_turn_end(list[i], own[i]);
    }
    if (!status) choose(shared, list, m, own);
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static void describe_cache(vlcache_sequence *s) {
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    vlcache_answer *a = &s->answer;
    a->compressed = vlci_sequence_plan(s) != NULL;
    if (a->compressed) {
        vlci_compress_stats(vlci_sequence_plan(s), &a->compress);
        if (s->portions) vlci_portions_stats(s->portions, vlci_sequence_plan(s), &a->compress);
        return;
    }
    uint64_t row = 2 * (uint64_t)shape->kv_heads * (uint64_t)shape->head_dim * vlci_dtype_bytes(shape->dtype);
    int layers = vlci_sequence_layers(s), tokens = vlci_sequence_tokens(s);
    a->compress = (vlcache_compress_stats){.layers = layers,
                                           .kv_heads = shape->kv_heads,
                                           .tokens = tokens,
                                           .tau = s->prompt.after,
                                           .budget_asked = 1.0,
                                           .budget_kept = 1.0,
                                           .bytes_full = (uint64_t)tokens * (uint64_t)layers * row,
                                           .bytes_peak = vlci_memory_peak(device_of(s))};
    a->compress.bytes_kept = a->compress.bytes_full;
}

static void describe_recall(vlcache_sequence *s) {
    if (!s->recalls) return;
    s->answer.recall = (vlcache_recall_stats){.tokens = s->earlier,
                                              .saves = !device_of(s)->caps.info.unified_memory,
                                              .host_bytes = vlci_store_bytes(s->kv.store),
                                              .upload_bytes = s->recall.bytes,
                                              .upload_ms = s->recall.ms,
                                              .staging_bytes = s->recall.most};
}

static void describe(vlcache_sequence *s) {
    const vlci_kv_pool *pool = &s->shared->pool;
    uint64_t page = vlci_kv_page_bytes(&pool->shape, false);
    vlcache_answer *a = &s->answer;
    describe_cache(s);
    describe_recall(s);
    a->text = s->text;
    a->tokens = s->tokens;
    a->losses = s->losses;
    a->prompt_tokens = s->prompt.n;
    a->visual_tokens = s->prompt.visual;
    a->post_vision_tokens = s->prompt.after;
    a->context_tokens = s->kv.length + (s->open >= 0);
    a->timings.build = vlci_kernel_build_seconds(device_of(s)) * 1e3 - s->built;
    a->kv_bytes = vlci_kv_bytes(&s->kv);
    a->kv_bytes_peak = (pool->elastic ? pool->most_bytes + vlci_quants_all_bytes(s->kv.quants)
                                      : (uint64_t)s->kv.most * page + vlci_kv_few_bytes(&s->kv)) +
                       a->recall.staging_bytes;
}

static vlcache_status finish_answer(vlcache_sequence *s) {
    vlcache_answer *a = &s->answer;
    const char *rest = "";
    vlcache_status status =
        s->waiting ? compress(s, true) : VLCACHE_OK; /* the answer was too short to wait for */
    if (!status && s->kv.store && vlci_sequence_plan(s)) status = keep_rows(s);
    if (!status && s->recalls) status = vlci_past_answer(&s->past, s->kv.length, s->kv.position);
    if (!status && s->stream) status = vlci_detokenizer_flush(s->stream, &rest);
    if (!status) status = say(s, rest);
    double done = vlci_clock_ms();
    if (!a->timings.first_token) a->timings.first_token = done - s->start;
    a->timings.decode = done - s->start - a->timings.first_token;
    if (a->n_tokens > 1) a->timings.per_token = a->timings.decode / (a->n_tokens - 1);
    if (!status && s->said.n > s->said_before)
        status = vlci_conversation_add(&s->said, VLCI_ASSISTANT, s->text, 0);
    if (!status) describe(s);
    return status;
}

/* The conversation as it was. */
static void go_back(vlcache_sequence *s) {
    s->message = vlci_strdup(vlcache_error_message());
    vlci_sequence_take_back(s);
    if (s->mark.pool) {
        vlci_kv_go_back(&s->kv, &s->mark);
        s->open = s->opened;
    }
    vlci_past_cut(&s->past, s->past_before);
}

void vlci_turn_end(vlcache_sequence *s, vlcache_status status) {
    if (!status && s->state == VLCACHE_SEQUENCE_ANSWERING) status = finish_answer(s);
    vlci_step_forget(&s->shared->step);
    if (status) go_back(s);
    vlci_kv_release(&s->mark);
    vlci_reading_release(&s->reading);
    vlci_recall_release(&s->recall);
    vlci_memory_release(device_of(s), &s->features);
    vlci_detokenizer_destroy(&s->stream);
    s->status = status;
    s->ended = true;
    s->pages = s->kv.held;
    s->state = VLCACHE_SEQUENCE_IDLE;
    atomic_store(&s->cancel, false);
}
