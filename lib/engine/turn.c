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

/* ROOM: rows that a cache grows by while it answers; TEXT_ROOM: bytes of text to begin with. */
enum { ROOM = 32, TEXT_ROOM = 1024, SMALL_SHARE = 64 /* a sixty-fourth */ };

static vlcache_device *device_of(const vlcache_sequence *s) {
    return s->shared->model->device;
}

static bool cancelled(vlcache_sequence *s) {
    return atomic_load(&s->cancel);
}

/* ---- asking -------------------------------------------------------------------------------------------- */

VLCI_OPTIONS_END(vlcache_prompt, n_tokens);
VLCI_OPTIONS_END(vlcache_generate_options, min_tokens);

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

static vlcache_status take(vlcache_sequence *s, const vlcache_prompt *prompt,
                           const vlcache_generate_options *generate) {
    vlcache_status status =
        VLCI_OPTIONS_TAKE("prompt", vlcache_prompt, raw, VLCACHE_PROMPT_INIT, prompt, &s->asked);
    if (!status)
        status = VLCI_OPTIONS_TAKE("generate", vlcache_generate_options, max_tokens,
                                   VLCACHE_GENERATE_OPTIONS_INIT, generate, &s->how);
    return status ? status : check_generate(&s->how);
}

static vlcache_status check_context(const vlcache_sequence *s, const vlci_prompt *prompt) {
    if (prompt->n <= s->context - s->kv.length) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_CONTEXT_FULL,
                     "the prompt has %d tokens, %d of them of pictures; with %d held already they exceed the "
                     "context of %d (the model takes %d)",
                     prompt->n, prompt->visual, s->kv.length, s->context,
                     vlci_sequence_text(s)->max_positions);
}

static vlcache_status keep_pictures(vlcache_sequence *s) {
    size_t n = s->asked.n_images;
    s->images = vlci_alloc(n, sizeof *s->images);
    if (!s->images) return vlci_fail_memory("pictures of a prompt");
    if (n) memcpy(s->images, s->asked.images, n * sizeof *s->images);
    s->asked.images = s->images;
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
    return status ? status
                  : vlci_conversation_add(&s->said, VLCI_USER, s->asked.text, (int)s->asked.n_images);
}

static void warn_of_rewriting(vlcache_sequence *s) {
    if (!s->warned)
        vlci_log(
            VLCACHE_LOG_WARN,
            "the chat template (%s) changes what was said in earlier turns; the cache keeps it as it was",
            vlci_chat_name(s->chat));
    s->warned = true;
}

vlcache_status vlci_turn_ask(vlcache_sequence *s, const vlcache_prompt *prompt,
                             const vlcache_generate_options *generate) {
    vlci_turn place = {.chat = s->chat, .said = &s->said, .open = s->open};
    vlci_prompt laid = {0};
    vlcache_status status = take(s, prompt, generate);
    if (!status) status = note_question(s);
    if (!status) status = vlci_prompt_create(s->shared->model, &s->asked, &place, &laid);
    if (!status) status = check_context(s, &laid);
    if (status) {
        vlci_sequence_take_back(s);
        vlci_prompt_release(&laid);
        return status;
    }
    if (laid.rewritten) warn_of_rewriting(s);
    vlci_sequence_forget(s);
    s->prompt = laid;
    status = keep_pictures(s);
    if (status) return status;
    s->start = vlci_clock_ms();
    s->built = vlci_kernel_build_seconds(device_of(s)) * 1e3;
    s->choice = (vlci_choice){{s->how.temperature, s->how.top_k, s->how.top_p}, s->how.seed};
    s->recipes = &s->recipe;
    s->plans = s->own;
    s->n_plans = 1;
    s->state = VLCACHE_SEQUENCE_WAITING;
    return VLCACHE_OK;
}

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Rows that the answer may come to need. */
static int answer_rows(const vlcache_sequence *s, int length) {
    int left = s->context - length;
    return s->how.max_tokens < left ? s->how.max_tokens : left;
}

/* Turns with pictures are, and those of models that see none. */
static bool may_compress(const vlcache_sequence *s) {
    return s->prompt.visual || !s->shared->model->config.eyes;
}

/* Whether the prompt's layers are all so small, beside the device's memory, that they may be there in full at
 * a time: shrinking each as it is read, and earlier ones with it, costs some launches a layer. */
static bool is_small(const vlcache_sequence *s) {
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    uint64_t row = 2 * (uint64_t)shape->head_dim * vlci_dtype_bytes(shape->dtype),
             all = row * (uint64_t)shape->kv_heads * (uint64_t)shape->layers * (uint64_t)s->prompt.n;
    return s->shared->pool.elastic && all <= s->shared->model->device->caps.info.global_memory / SMALL_SHARE;
}

static bool by_layer(const vlcache_sequence *s) {
    return s->plans == s->own && may_compress(s) && vlci_compress_by_layer(&s->recipe) && !is_small(s);
}

/* Pages that all lists take when `rows` more rows are spread over them, `loose` pages of each half empty or
 * shared. */
static int64_t spread_pages(const vlcache_sequence *s, int64_t rows, int loose) {
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    return shape->kv_heads * ((rows + VLCI_KV_PAGE - 1) / VLCI_KV_PAGE + (int64_t)loose * shape->layers);
}

/* Rows that all heads of all layers keep in pages at most, where the cache is compressed. */
static int64_t kept_rows(const vlcache_sequence *s) {
    int layers = s->shared->pool.shape.layers, n = s->prompt.n;
    if (s->recipe.coded) return (int64_t)layers * (vlci_coding_wanted(&s->recipe) ? 1 : n);
    return vlci_compress_rows_bound(&s->recipe, n, layers);
}

/* While the prompt is read: all of it, or its largest layer beside what the others keep. */
static int64_t reading_pages(const vlcache_sequence *s, int64_t kept, int until) {
    int layers = s->shared->pool.shape.layers, n = s->prompt.n, most = 0;
    if (!by_layer(s)) return vlci_kv_reserve_pages(&s->kv, 0, layers, n + until);
    for (int l = 0; l < layers; l++) {
        int pages = vlci_kv_reserve_pages(&s->kv, l, 1, n);
        if (pages > most) most = pages;
    }
    return kept + most;
}

static bool compresses(const vlcache_sequence *s) {
    return may_compress(s) && s->recipe.compresses;
}

/* Rows that are decoded before compression, or all when there is none. */
static int full_rows(const vlcache_sequence *s) {
    int answer = answer_rows(s, s->kv.length + s->prompt.n);
    return compresses(s) && s->recipe.defer < answer ? s->recipe.defer : answer;
}

int64_t vlci_turn_pages(const vlcache_sequence *s) {
    int layers = s->shared->pool.shape.layers, n = s->prompt.n, answer = answer_rows(s, s->kv.length + n);
    if (!compresses(s)) return vlci_kv_reserve_pages(&s->kv, 0, layers, n + answer);
    int64_t kept = spread_pages(s, kept_rows(s), 2);
    int64_t reading = reading_pages(s, kept, full_rows(s)),
            growth = spread_pages(s, (int64_t)layers * answer, 1);
    if (!by_layer(s)) reading += kept; /* what is kept is copied from what there was */
    return reading > kept + growth ? reading : kept + growth;
}

/* An elastic pool begins with what reading takes, as far as that can be told, and grows where it was not. */
static int64_t elastic_pages(const vlcache_sequence *s) {
    int until = full_rows(s);
    return reading_pages(s, compresses(s) ? spread_pages(s, kept_rows(s), 1) : 0,
                         until < ROOM ? until : ROOM);
}

/* In an elastic pool: what has become free goes back, but for room for the next rows. */
static vlcache_status give_back(vlcache_sequence *s) {
    int rows = answer_rows(s, s->kv.length);
    vlcache_status status = VLCACHE_OK;
    if (!s->shared->pool.elastic) return status;
    if (rows > 0)
        status = vlci_kv_reserve(&s->kv, 0, s->shared->pool.shape.layers, rows < ROOM ? rows : ROOM);
    return status ? status : vlci_kv_pool_shrink(&s->shared->pool, 0);
}

/* Room for the next row, and some more. */
static vlcache_status make_room(vlcache_sequence *s) {
    int rows = answer_rows(s, s->kv.length - s->answer.n_tokens + 1);
    if (vlci_kv_room(&s->kv) > 0) return VLCACHE_OK;
    return vlci_kv_reserve(&s->kv, 0, s->shared->pool.shape.layers, rows < 1 ? 1 : rows < ROOM ? rows : ROOM);
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
static vlcache_status check_window(const vlcache_sequence *s) {
    const vlci_text_config *c = vlci_sequence_text(s);
    int defer = -1, rows = s->kv.length + s->prompt.n;
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

static vlcache_status make_plans(vlcache_sequence *s) {
    vlci_compress_prompt asked = {.tokens = s->prompt.n,
                                  .text = s->prompt.visual ? s->prompt.after : 0,
                                  .text_rows = s->prompt.after_at,
                                  .grids = s->prompt.grids,
                                  .n_grids = s->prompt.n_grids};
    if (!may_compress(s)) return VLCACHE_OK;
    vlcache_status status = check_window(s);
    if (status) return status;
    int32_t *past = list_rows(&s->kv);
    int *visual = list_visual(&s->prompt);
    status = past && visual ? VLCACHE_OK : vlci_fail_memory("lengths of the KV cache");
    asked.past = past;
    asked.visual = visual;
    asked.n_visual = s->prompt.visual;
    for (size_t i = 0; i < s->n_plans && !status; i++)
        status =
            vlci_compress_create(&s->shared->compress, &s->recipes[i], &asked, s->plans, i, &s->plans[i]);
    vlci_free(past);
    vlci_free(visual);
    return status;
}

vlcache_status vlci_turn_begin(vlcache_sequence *s) {
    vlci_kv_pool *pool = &s->shared->pool;
    s->state = VLCACHE_SEQUENCE_READING;
    s->pages = s->kv.held + vlci_turn_pages(s);
    s->opened = s->open;
    s->kv.most = s->kv.held;
    if (pool->elastic) vlci_kv_pool_watch(pool);
    vlcache_status status = vlci_kv_mark(&s->kv, &s->mark);
    if (!status && pool->elastic) status = vlci_kv_pool_need(pool, (int)elastic_pages(s));
    return status ? status : make_plans(s);
}

static vlcache_status look(vlcache_sequence *s) {
    vlcache_status status = vlci_prompt_look(s->shared->model, &s->asked, &s->prompt, report, s,
                                             &s->answer.timings, &s->features);
    if (status) return status;
    s->looked = true;
    s->reading = (vlci_reading){.text = &s->shared->text,
                                .kv = &s->kv,
                                .prompt = &s->prompt,
                                .plans = s->plans,
                                .n_plans = s->n_plans,
                                .by_layer = by_layer(s) ? s->plans[0] : NULL,
                                .watch = watch_layers,
                                .watch_user = s,
                                .wait = s->how.progress != NULL};
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
        *work -= (int64_t)s->prompt.visual * s->shared->pool.shape.layers;
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
    return status;
}

/* ---- compressing --------------------------------------------------------------------------------------- */

static vlcache_status compress(vlcache_sequence *s) {
    double start = vlci_clock_ms();
    vlci_compress *plan = vlci_sequence_plan(s);
    vlcache_status status = plan->applied ? VLCACHE_OK : vlci_compress_all(plan, &s->kv);
    if (!status) status = give_back(s);
    if (!status) status = vlci_finish(device_of(s));
    s->waiting = false;
    s->pages =
        s->kv.held + spread_pages(s, (int64_t)s->shared->pool.shape.layers * answer_rows(s, s->kv.length), 1);
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
    vlcache_status status = s->tokens ? make_text_room(s, 0) : vlci_fail_memory("answer");
    if (!status) s->text[0] = 0;
    if (!status && s->shared->model->tokenizer)
        status = vlci_detokenizer_create(s->shared->model->tokenizer, &s->stream);
    if (!status)
        status = vlci_step_best(&s->shared->step, VLCACHE_FIRST_LOGITS, s->answer.first_logits,
                                &s->answer.n_first_logits);
    return status;
}

/* A token for each of n sequences, sequence i from row i of the logits. own[i]: what went wrong with it
 * before. */
static void choose(vlci_shared *shared, vlcache_sequence **list, int n, const vlcache_status *own) {
    vlci_choice *choices[VLCI_STEP_MAX] = {NULL};
    int32_t token[VLCI_STEP_MAX];
    for (int i = 0; i < n; i++) choices[i] = &list[i]->choice;
    vlcache_status status = vlci_step_choose(&shared->step, choices, n, token);
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
    vlcache_status status = plan && !s->waiting ? compress(s) : VLCACHE_OK;
    if (!status) status = begin_answer(s);
    if (status || finished(s))
        vlci_turn_end(s, status);
    else
        choose(s->shared, &s, 1, &status);
}

/* ---- a step -------------------------------------------------------------------------------------------- */

/* What a sequence's plan sees of its own row. */
static vlcache_status observe(void *user, int layer, const vlci_attention *a, int from, int rows) {
    vlcache_sequence *s = user;
    (void)from, (void)rows;
    vlci_look look = {.a = a, .heads_at = vlci_kv_heads_at(&s->kv, layer), .row = s->row, .n = 1};
    return vlci_compress_observe_decode(vlci_sequence_plan(s), layer, &look);
}

/* Those of the list that take part, with room for a row. */
static int gather(vlci_shared *shared, vlcache_sequence **list, int n, int32_t *tokens, int *observers) {
    int m = 0;
    *observers = 0;
    for (int i = 0; i < n; i++) {
        vlcache_sequence *s = list[i];
        bool over = finished(s);
        vlcache_status status = over ? VLCACHE_OK : make_room(s);
        if (over || status) {
            vlci_turn_end(s, status);
            continue;
        }
        s->row = m;
        shared->step.kv[m] = &s->kv;
        tokens[m] = s->open;
        if (s->waiting) shared->step.observer[(*observers)++] = (vlci_observer){.user = s, .part = observe};
        list[m++] = s;
    }
    return m;
}

/* Compresses when enough tokens are decoded. */
static vlcache_status stepped(vlcache_sequence *s) {
    s->open = -1;
    return s->waiting && vlci_sequence_plan(s)->decoded == s->recipe.defer ? compress(s) : VLCACHE_OK;
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
        return;
    }
    uint64_t row = 2 * (uint64_t)shape->kv_heads * (uint64_t)shape->head_dim * vlci_dtype_bytes(shape->dtype);
    a->compress =
        (vlcache_compress_stats){.layers = shape->layers,
                                 .kv_heads = shape->kv_heads,
                                 .tokens = s->prompt.n,
                                 .tau = s->prompt.after,
                                 .budget_asked = 1.0,
                                 .budget_kept = 1.0,
                                 .bytes_full = (uint64_t)s->prompt.n * (uint64_t)shape->layers * row,
                                 .bytes_peak = vlci_memory_peak(device_of(s))};
    a->compress.bytes_kept = a->compress.bytes_full;
}

static void describe(vlcache_sequence *s) {
    const vlci_kv_pool *pool = &s->shared->pool;
    uint64_t page = vlci_kv_page_bytes(&pool->shape, false);
    vlcache_answer *a = &s->answer;
    describe_cache(s);
    a->text = s->text;
    a->tokens = s->tokens;
    a->prompt_tokens = s->prompt.n;
    a->visual_tokens = s->prompt.visual;
    a->post_vision_tokens = s->prompt.after;
    a->context_tokens = s->kv.length + (s->open >= 0);
    a->timings.build = vlci_kernel_build_seconds(device_of(s)) * 1e3 - s->built;
    a->kv_bytes = vlci_kv_bytes(&s->kv);
    a->kv_bytes_peak =
        pool->elastic ? pool->most_bytes : (uint64_t)s->kv.most * page + vlci_codes_all_bytes(s->kv.codes);
}

static vlcache_status finish_answer(vlcache_sequence *s) {
    vlcache_answer *a = &s->answer;
    const char *rest = "";
    vlcache_status status = s->waiting ? compress(s) : VLCACHE_OK; /* the answer was too short to wait for */
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
}

void vlci_turn_end(vlcache_sequence *s, vlcache_status status) {
    if (!status && s->state == VLCACHE_SEQUENCE_ANSWERING) status = finish_answer(s);
    vlci_step_forget(&s->shared->step);
    if (status) go_back(s);
    vlci_kv_release(&s->mark);
    vlci_reading_release(&s->reading);
    vlci_memory_release(device_of(s), &s->features);
    vlci_detokenizer_destroy(&s->stream);
    s->status = status;
    s->ended = true;
    s->pages = s->kv.held;
    s->state = VLCACHE_SEQUENCE_IDLE;
    atomic_store(&s->cancel, false);
}
