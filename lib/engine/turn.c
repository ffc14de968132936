/*
 * turn.c - a turn that was asked (ask.c), from its mark to its end.
 *
 *     read:      pictures -> visual tokens; ids -> rows in the cache, observed by plans (plans.c) -> logits
 *     compress:  plan -> a smaller cache: layer by layer while reading, or behind the prompt or some tokens
 *     answer:    logits -> token -> logits -> ..., tokens -> reply (reply.c)
 */
#include <math.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "engine/sequence.h"

static vlcache_device *device_of(const vlcache_sequence *s) {
    return s->shared->model->device;
}

static bool cancelled(vlcache_sequence *s) {
    return atomic_load(&s->cancel);
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
    s->pages = vlci_turn_pages(s) + (s->kv.store ? vlci_kv_own_pages(&s->kv) : s->kv.held);
    s->aging = vlci_turn_aging(s);
    s->few = vlci_turn_few(s) - s->aging;
    vlcache_status status = vlci_turn_tidy(s->shared);
    if (!status) status = begin_recall(s);
    s->opened = s->open;
    s->kv.most = s->kv.held;
    if (pool->elastic) vlci_kv_pool_watch(pool);
    if (!status) status = vlci_kv_mark(&s->kv, &s->mark);
    if (!status && pool->elastic) status = vlci_kv_pool_need(pool, (int)vlci_turn_elastic_pages(s));
    return status || s->portions ? status : vlci_turn_plan(s, &s->prompt);
}

/* The whole prompt, or the next part of it, whose plan is made then. */
static vlcache_status look_at(vlcache_sequence *s) {
    const vlcache_model *model = s->shared->model;
    vlcache_timings *timings = &s->answer.timings;
    vlcache_status status = vlci_turn_tidy(s->shared);
    if (status) return status;
    if (!s->portions) return vlci_prompt_look(model, &s->asked, &s->prompt, report, s, timings, &s->features);
    status = vlci_portions_begin(s->portions);
    if (!status) status = vlci_turn_plan(s, &s->portions->prompt);
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
                                .singly = vlci_turn_by_layer(s) || vlci_turn_again(s),
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

/* Whether all of the prompt is compressed before a token is chosen: it begins while the device is still at
 * the prompt. */
static bool compresses_now(const vlcache_sequence *s) {
    const vlci_compress *plan = vlci_sequence_plan(s);
    return plan && !s->portions && (plan->applied || s->recipe.defer == 0);
}

/* What the prompt was read with, and looked at. */
static void put_away(vlcache_sequence *s) {
    if (vlci_sequence_plan(s)) vlci_compress_tidy(vlci_sequence_plan(s));
    vlci_reading_release(&s->reading);
    vlci_memory_release(device_of(s), &s->features);
}

/* Releasing waits for the device: what is enqueued first is on its way then. */
static vlcache_status tidy_next(vlci_shared *shared) {
    bool frees = !shared->untidy && shared->frees;
    if (frees) shared->frees = false;
    if (shared->untidy) put_away(shared->untidy);
    shared->untidy = NULL;
    return frees ? vlci_kv_pool_shrink(&shared->pool, 0) : VLCACHE_OK;
}

vlcache_status vlci_turn_tidy(vlci_shared *shared) {
    vlcache_status status = VLCACHE_OK;
    while (!status && (shared->untidy || shared->frees)) status = tidy_next(shared);
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
        s->open = -1;
        if (!status)
            status = compresses_now(s) ? vlci_mark(device_of(s), &s->read) : vlci_finish(device_of(s));
        if (!status && !s->portions) s->shared->untidy = s;
        if (status || s->portions) put_away(s);
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

/* What is not compressed yet: all, or as much as a token may wait for. It is enqueued while the device is
 * still at what came before, and its time begins when that is over; what has become free goes back behind the
 * next tokens. */
static vlcache_status compress(vlcache_sequence *s, bool all) {
    double start = vlci_clock_ms(), since = start;
    bool read = s->read != NULL;
    vlci_compress *plan = vlci_sequence_plan(s);
    vlcache_status status = read ? VLCACHE_OK : vlci_mark(device_of(s), &s->read), waited;
    if (!status && !plan->applied) {
        status = keep_rows(s);
        if (!status)
            status = vlci_turn_again(s) ? vlci_again_all(s)
                     : all              ? vlci_compress_all(plan, &s->kv)
                                        : vlci_compress_some(plan, &s->kv);
    }
    if (plan->measured > since)
        since = plan->measured; /* where the host is late, the device was at it then */
    waited = vlci_mark_wait(device_of(s), &s->read, &since);
    if (!status) status = waited;
    if (read) s->answer.timings.prefill += since - start;
    if (!status && plan->applied && vlci_compress_shrinks(&plan->recipe)) status = vlci_turn_give_back(s);
    if (!status) status = vlci_finish(device_of(s));
    if (!read && !status) vlci_compress_tidy(plan);
    s->waiting = !status && !plan->applied;
    if (!s->waiting) s->pages = s->kv.held + vlci_turn_growth_pages(s);
    since = vlci_clock_ms() - since;
    s->answer.timings.compress += since;
    if (s->answer.timings.first_token) s->late += since;
    return status;
}

/* ---- answering ----------------------------------------------------------------------------------------- */

/* The answer ends before another token is chosen; why. */
static bool finished(vlcache_sequence *s) {
    vlcache_answer *a = &s->answer;
    if (s->reply.stopped || cancelled(s))
        a->finish = VLCACHE_FINISH_CANCELLED;
    else if (s->reply.n >= s->how.max_tokens)
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
    vlcache_status status = vlci_step_check(&s->shared->step, token);
    *more = false;
    if (status) return status;
    if (!a->timings.first_token) a->timings.first_token = vlci_clock_ms() - s->start;
    if ((size_t)s->reply.n >= s->how.min_tokens && vlci_sequence_ends(s, token)) {
        s->open = -1;
        a->finish = VLCACHE_FINISH_STOP;
        return VLCACHE_OK;
    }
    s->open = token;
    *more = true;
    return vlci_reply_add(&s->reply, &s->how, token);
}

static vlcache_status begin_answer(vlcache_sequence *s) {
    vlcache_status status = vlci_reply_begin(s->shared->model->tokenizer, &s->how, &s->reply);
    return status ? status
                  : vlci_step_best(&s->shared->step, VLCACHE_FIRST_LOGITS, s->answer.first_logits,
                                   &s->answer.n_first_logits);
}

/* -log p of the token that a sequence is told next, from row `row` of the logits. */
static vlcache_status measure_loss(vlcache_sequence *s, int row, float *logits) {
    size_t vocab = (size_t)vlci_sequence_text(s)->vocab, bytes = vocab * sizeof *logits;
    double most = -(double)INFINITY, sum = 0.0;
    int at = s->reply.n;
    vlcache_status status =
        vlci_read(device_of(s), s->shared->text.logits, (size_t)row * bytes, logits, bytes);
    if (status) return status;
    for (size_t i = 0; i < vocab; i++) most = fmax(most, (double)logits[i]);
    for (size_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - most);
    s->reply.losses[at] = (float)(log(sum) + most - (double)logits[s->how.told[at]]);
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
        token[i] = list[i]->how.told[list[i]->reply.n];
        vlci_step_forget(&shared->step);
    }
    vlci_free(logits);
    return status;
}

/* A token for each of n sequences, sequence i from row i of the logits. own[i]: what went wrong with it
 * before. tidies: while they are waited for. */
static void choose(vlci_shared *shared, vlcache_sequence **list, int n, const vlcache_status *own,
                   bool tidies) {
    vlci_choice *choices[VLCI_STEP_MAX] = {NULL};
    int32_t token[VLCI_STEP_MAX];
    for (int i = 0; i < n; i++) choices[i] = &list[i]->choice;
    vlcache_status status = vlci_step_draw(&shared->step, choices, n);
    if (!status && tidies) status = tidy_next(shared);
    if (!status) status = vlci_step_drawn(&shared->step, n, token);
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
        choose(s->shared, &s, 1, &status, false);
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
        bool over = finished(s), again = s->waiting && vlci_turn_again(s);
        vlcache_status status = over ? VLCACHE_OK : again ? vlci_again_begin(s) : vlci_turn_make_room(s);
        if (over || status) {
            vlci_turn_end(s, status);
            continue;
        }
        s->row = m;
        shared->step.kv[m] = &s->kv;
        tokens[m] = s->open;
        if (again)
            shared->step.observer[(*observers)++] = vlci_again_observer(s);
        else if (s->waiting && looks(s))
            shared->step.observer[(*observers)++] = (vlci_observer){.user = s, .part = vlci_turn_observe};
        else if (s->watch.part)
            shared->step.observer[(*observers)++] = s->watch;
        list[m++] = s;
    }
    return m;
}

/* Rows that are old enough go to few bits, where those of the prompt are; with recall, the host has them
 * before as they were. */
static vlcache_status age(vlcache_sequence *s) {
    const vlci_compress_kernels *k = &s->shared->compress;
    int held = s->kv.held;
    uint64_t few = vlci_kv_few_bytes(&s->kv), more;
    if (!s->kv.quants || !vlci_quantise_ages(&k->shape, &s->recipe, &s->kv)) return VLCACHE_OK;
    vlcache_status status = keep_rows(s);
    if (!status) status = vlci_quantise_aged(&k->quantise, &k->compact, &k->shape, &s->recipe, &s->kv);
    more = vlci_kv_few_bytes(&s->kv) - few;
    s->aging -= more < s->aging ? more : s->aging;
    return status || s->kv.held == held ? status : vlci_turn_give_back(s);
}

/* Compresses when enough tokens are decoded, over some steps where there is much. */
static vlcache_status stepped(vlcache_sequence *s) {
    s->open = -1;
    if (!s->waiting) return age(s);
    return looks(s) || vlci_again_measures(s) ? VLCACHE_OK : compress(s, false);
}

void vlci_turn_step(vlci_shared *shared, vlcache_sequence **list, int n) {
    int32_t tokens[VLCI_STEP_MAX];
    bool tidies = shared->untidy || shared->frees; /* what this step leaves waits for the next */
    int observers, m = gather(shared, list, n, tokens, &observers);
    if (!m) return;
    vlcache_status own[VLCI_STEP_MAX], status = vlci_step_run(&shared->step, tokens, m, observers);
    for (int i = 0; i < m; i++) {
        own[i] = status ? status : stepped(list[i]);
        if (own[i]) vlci_turn_end(list[i], own[i]);
    }
    if (!status) choose(shared, list, m, own, tidies);
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static vlcache_status finish_answer(vlcache_sequence *s) {
    vlcache_answer *a = &s->answer;
    vlcache_status status =
        s->waiting ? compress(s, true) : VLCACHE_OK; /* the answer was too short to wait for */
    if (!status) status = vlci_turn_tidy(s->shared);
    if (!status && vlci_sequence_plan(s)) status = vlci_compress_settle(vlci_sequence_plan(s));
    if (!status && s->kv.store && vlci_sequence_plan(s)) status = keep_rows(s);
    if (!status && s->recalls) status = vlci_past_answer(&s->past, s->kv.length, s->kv.position);
    if (!status) status = vlci_reply_end(&s->reply, &s->how);
    double done = vlci_clock_ms();
    if (!a->timings.first_token) a->timings.first_token = done - s->start;
    a->timings.decode = done - s->start - a->timings.first_token - s->late;
    if (s->reply.n > 1) a->timings.per_token = a->timings.decode / (s->reply.n - 1);
    if (!status && s->said.n > s->said_before)
        status = vlci_conversation_add(&s->said, VLCI_ASSISTANT, s->reply.text, 0);
    if (!status) vlci_sequence_describe(s);
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

void vlci_turn_leave(vlcache_sequence *s) {
    double since = 0.0;
    if (s->shared->untidy == s) s->shared->untidy = NULL;
    vlci_mark_wait(device_of(s), &s->read, &since);
}

void vlci_turn_end(vlcache_sequence *s, vlcache_status status) {
    if (!status && s->state == VLCACHE_SEQUENCE_ANSWERING) status = finish_answer(s);
    vlci_step_forget(&s->shared->step);
    if (status) go_back(s);
    vlci_kv_release(&s->mark);
    vlci_turn_leave(s);
    vlci_reading_release(&s->reading);
    vlci_recall_release(&s->recall);
    vlci_memory_release(device_of(s), &s->features);
    vlci_detokenizer_destroy(&s->reply.stream);
    s->status = status;
    s->ended = true;
    s->pages = s->kv.held;
    s->state = VLCACHE_SEQUENCE_IDLE;
    atomic_store(&s->cancel, false);
}
