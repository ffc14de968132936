/*
 * ask.c - a question with one turn goes through vlcache_session_compare(): one prefill for all variants. One
 * with several is asked turn by turn, in a session of its own for each variant, since every later turn reads
 * the cache that this variant has kept; so is one about a video by a variant that reads it in parts. What a
 * talk's later turns look at is the full cache's to say: one more prefill, where decode is probed.
 */
#include "eval/ask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/exit.h"
#include "common/infile.h"
#include "common/interrupt.h"
#include "common/kept.h"
#include "common/printable.h"
#include "eval/equal.h"
#include "eval/fingerprint.h"
#include "eval/hash.h"

enum { GALLERY_CANDIDATES = 16 }; /* questions of each task whose kept tokens are noted */

/* A question being asked. */
typedef struct question {
    asker *a;
    const item *it;
    metric metric;
    int32_t *given; /* tokens of this turn's answer, n_given of them */
    size_t n_given;
    bool gallery;
    vlcache_image **images;
    size_t n_images;
    vlcache_video *video;     /* NULL: none */
    vlcache_session *session; /* that speaks of the answer at hand */
    json_t *record, *runs;
    size_t *shared; /* variants that start from one prefill */
    bool alone;     /* the one at hand does not */
    size_t turn;
    int code;
    bool told;   /* why */
    infile file; /* the picture that was read last; why it could not be */
} question;

/* ---- the record --------------------------------------------------------------------------------------- */

/* Takes `value` over; running out of memory ends the question. */
static void set(question *q, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value)) q->code = EXIT_MEMORY;
}

static void append(question *q, json_t *array, json_t *value) {
    if (json_array_append_new(array, value)) q->code = EXIT_MEMORY;
}

static int fail(question *q, vlcache_status status) {
    const char *message = vlcache_error_message();
    if (status == VLCACHE_E_CANCELLED || interrupt_seen()) return EXIT_INTERRUPT;
    if (!status) return console_fail(q->a->console, EXIT_MEMORY, "out of host memory");
    return console_fail(q->a->console, exit_code(status), "%s:%d: %s", q->a->options->data, q->it->line,
                        *message ? message : vlcache_status_text(status));
}

/* Whether the library has told what was asked of it; otherwise the question ends, as it does where the answer
 * itself fails: a record without it would pass for a whole one. */
static bool known(question *q, vlcache_status status) {
    if (!status) return true;
    if (!q->code) q->code = fail(q, status);
    q->told = true;
    return false;
}

/* A model may answer with bytes that are no text, and a path may be one; JSON holds texts only. */
static json_t *text_json(const char *text) {
    json_t *value = json_string(text);
    char *copy = value ? NULL : strdup(text);
    if (copy) value = json_string(printable_utf8(copy));
    free(copy);
    return value;
}

/* Of the likelihood of an answer, the answer is told. */
static bool is_told(const question *q) {
    return q->metric == METRIC_LIKELIHOOD;
}

/* Whether the variant reads the question's video in parts. */
static bool is_streamed(const question *q, size_t variant_index) {
    return q->it->video && q->a->options->variants.items[variant_index].stream > 0;
}

static bool is_talk(const question *q) {
    return q->it->n_turns > 1;
}

/* The answers of a talk, or to a video in parts, have no prefill that all variants share, and so no probe. */
static bool is_probed(const question *q) {
    return q->a->options->studies.which & STUDY_PROBE && !is_talk(q) && !q->alone && !is_told(q);
}

/* What all variants share. */
static void note_prompt(question *q, const vlcache_answer *answer) {
    set(q, q->record, "prompt",
        json_pack("{s:i, s:i, s:i}", "tokens", answer->prompt_tokens, "visual", answer->visual_tokens,
                  "post_vision", answer->post_vision_tokens));
    set(q, q->record, "bytes", json_integer((json_int_t)answer->compress.bytes_full));
}

/* Takes what each layer's codes came to over; of rows that are not coded there is nothing. */
static void note_coded(question *q, bool coded, json_t *dims, json_t *bits, json_t *run) {
    if (coded) {
        set(q, run, "dims", dims);
        set(q, run, "bits", bits);
        return;
    }
    json_decref(dims);
    json_decref(bits);
}

/* Rows of each layer, and the sparsity behind them where this threshold has none yet. */
static void note_layers(question *q, const variant *v, const vlcache_answer *answer, json_t *run) {
    char threshold[32];
    json_t *rows = json_array(), *sparsity = json_array(), *all = json_object_get(q->record, "sparsity");
    snprintf(threshold, sizeof threshold, "%g", v->options.threshold);
    json_t *dims = json_array(), *bits = json_array();
    bool coded = false;
    for (int l = 0; l < answer->compress.layers; l++) {
        vlcache_compress_layer layer;
        if (!known(q, vlcache_session_layer(q->session, l, &layer))) break;
        append(q, rows, json_integer(layer.kept + layer.centroids));
        if (!isnan(layer.sparsity)) append(q, sparsity, json_real(layer.sparsity));
        append(q, dims, json_pack("[f, f]", layer.dims[0], layer.dims[1]));
        append(q, bits, json_pack("[f, f]", layer.bits[0], layer.bits[1]));
        coded |= layer.coded > 0;
    }
    set(q, run, "layers", rows);
    note_coded(q, coded, dims, bits, run);
    json_t *storage = policy_storage(&v->options, &answer->compress);
    if (storage) set(q, run, "storage", storage);
    bool measured = answer->compress.layers && (int)json_array_size(sparsity) == answer->compress.layers;
    if (measured && !json_object_get(all, threshold))
        set(q, all, threshold, sparsity);
    else
        json_decref(sparsity);
}

/* Bits of each kv head of each layer, in the study of spectra. */
static void note_heads(question *q, size_t variant_index, const vlcache_answer *answer, json_t *run) {
    const studies *s = &q->a->options->studies;
    if (!(s->which & STUDY_SPECTRUM) || variant_index != s->coded) return;
    int kv_heads = answer->compress.kv_heads, n = answer->compress.layers * kv_heads;
    json_t *heads = json_array();
    for (int i = 0; i < n; i++) {
        double bits = 0.0;
        if (!known(q, vlcache_session_bits(q->session, i / kv_heads, i % kv_heads, &bits))) break;
        append(q, heads, json_real(bits));
    }
    set(q, run, "heads", heads);
}

/* ---- the probe of decode ------------------------------------------------------------------------------ */

/* Shares have more digits than anyone reads. */
static json_t *share_json(double share) {
    return json_real(round(1e5 * share) / 1e5);
}

/* Hit rate of each tenth of the answer, mean over layers; null where that has no step. */
static void note_tenths(question *q, const vlcache_answer *answer, json_t *run) {
    double sum[VLCACHE_TENTHS] = {0};
    json_t *tenths = json_array();
    for (int l = 0; l < answer->compress.layers; l++) {
        vlcache_probe_layer probe;
        if (!known(q, vlcache_session_probe(q->session, l, &probe))) break;
        for (int t = 0; t < VLCACHE_TENTHS; t++) sum[t] += probe.hit_tenth[t] / answer->compress.layers;
    }
    for (int t = 0; t < VLCACHE_TENTHS; t++)
        append(q, tenths, isnan(sum[t]) ? json_null() : share_json(sum[t]));
    set(q, run, "hit_tenth", tenths);
}

static void note_probe(question *q, const variant *v, const vlcache_answer *answer, json_t *run) {
    char threshold[32];
    vlcache_probe_layer probe = {0};
    json_t *all = json_array(), *first = json_array(), *sparsity = json_array();
    json_t *decode = json_object_get(q->record, "decode");
    snprintf(threshold, sizeof threshold, "%g", v->options.threshold);
    for (int l = 0; l < answer->compress.layers; l++) {
        if (!known(q, vlcache_session_probe(q->session, l, &probe)) || !probe.steps) break;
        append(q, all, share_json(probe.hit_all));
        append(q, first, share_json(probe.hit_first));
        append(q, sparsity, share_json(probe.sparsity));
    }
    set(q, run, "hit", all);
    set(q, run, "hit_first", first);
    note_tenths(q, answer, run);
    set(q, q->record, "steps", json_integer(probe.steps));
    if (json_object_get(decode, threshold))
        json_decref(sparsity);
    else
        set(q, decode, threshold, sparsity);
}

/* ---- for the gallery ---------------------------------------------------------------------------------- */

static double tenth(float x) {
    return round(10.0 * (double)x) / 10.0;
}

static void note_cells(question *q, const vlcache_answer *answer) {
    json_t *cells = json_array();
    for (int i = 0; i < answer->visual_tokens; i++) {
        vlcache_visual_token t;
        if (!known(q, vlcache_session_visual(q->session, i, &t))) break;
        append(q, cells,
               json_pack("[i, f, f, f, f]", t.image, tenth(t.x0), tenth(t.y0), tenth(t.x1), tenth(t.y1)));
    }
    set(q, q->record, "cells", cells);
}

/* In how many (layer, kv head) pairs each position is kept. New memory. */
static int *count_positions(const kept *k, int tokens) {
    int *counts = calloc((size_t)tokens + 1, sizeof *counts);
    for (int i = 0; i < k->layers * k->heads && counts; i++)
        for (size_t p = 0; p < k->n[i]; p++) {
            int32_t position = k->positions[k->first[i] + p];
            if (position >= 0 && position < tokens) counts[position]++;
        }
    return counts;
}

static void note_seen(question *q, const vlcache_answer *answer, json_t *run) {
    kept k = {0};
    int *counts = NULL, visual = answer->visual_tokens, most = (int)strlen(SEEN_DIGITS) - 1;
    char *digits = calloc((size_t)visual + 1, 1);
    if (!q->code) q->code = kept_read(q->session, answer, &k, q->a->console);
    if (!q->code) counts = count_positions(&k, answer->prompt_tokens);
    if (!q->code && (!counts || !digits)) q->code = EXIT_MEMORY;
    int pairs = k.layers * k.heads;
    for (int i = 0; i < visual && !q->code; i++) {
        vlcache_visual_token t;
        bool seen = known(q, vlcache_session_visual(q->session, i, &t)) && t.position < answer->prompt_tokens;
        digits[i] = SEEN_DIGITS[seen && pairs ? (counts[t.position] * most + pairs - 1) / pairs : 0];
    }
    if (!q->code) set(q, run, "seen", json_string(digits));
    free(counts);
    free(digits);
    kept_release(&k);
}

/* ---- visual and text tokens --------------------------------------------------------------------------- */

/* Which positions of the prompt are visual. New memory. */
static bool *list_visual(question *q, const vlcache_answer *answer) {
    bool *visual = calloc((size_t)answer->prompt_tokens + 1, sizeof *visual);
    for (int i = 0; i < answer->visual_tokens && visual; i++) {
        vlcache_visual_token t;
        if (!known(q, vlcache_session_visual(q->session, i, &t))) break;
        if (t.position >= 0 && t.position < answer->prompt_tokens) visual[t.position] = true;
    }
    return visual;
}

/* What a layer keeps, over its kv heads. */
static size_t count_rows(const kept *k, int layer, const bool *visual, size_t *seen) {
    size_t all = 0;
    *seen = 0;
    for (int i = layer * k->heads; i < (layer + 1) * k->heads; i++)
        for (size_t p = 0; p < k->n[i]; p++, all++) *seen += visual[k->positions[k->first[i] + p]];
    return all;
}

/* Bits of a text row and kv head, scales with them; 0: it has as many as any row. */
static double text_bits(const vlcache_answer *answer, const kept *k, const bool *visual) {
    size_t texts = 0, seen;
    for (int l = 0; l < k->layers; l++) texts += count_rows(k, l, visual, &seen) - seen;
    return texts ? 8.0 * (double)answer->compress.bytes_text / (double)texts : 0.0;
}

/* Of each layer the share of its kept rows that is visual, and of the bits that they have. */
static void note_visual(question *q, const vlcache_answer *answer, json_t *run) {
    kept k = {0};
    json_t *shares = json_array(), *of_bits = json_array();
    bool *visual = list_visual(q, answer);
    if (!q->code) q->code = kept_read(q->session, answer, &k, q->a->console);
    if (!q->code && !visual) q->code = EXIT_MEMORY;
    double text = q->code ? 0.0 : text_bits(answer, &k, visual);
    for (int l = 0; l < k.layers && !q->code; l++) {
        vlcache_compress_layer layer;
        size_t seen, all = count_rows(&k, l, visual, &seen);
        if (!known(q, vlcache_session_layer(q->session, l, &layer))) break;
        double row = text > 0.0 ? layer.bits[0] + layer.bits[1] : 1.0;
        double bits = (double)seen * row, both = bits + (double)(all - seen) * (text > 0.0 ? text : 1.0);
        append(q, shares, share_json(all ? (double)seen / (double)all : 0.0));
        append(q, of_bits, share_json(both > 0.0 ? bits / both : 0.0));
    }
    set(q, run, "visual", shares);
    set(q, run, "visual_bits", of_bits);
    free(visual);
    kept_release(&k);
}

/* ---- answers ------------------------------------------------------------------------------------------ */

static void note_first(question *q, size_t variant_index, const vlcache_answer *answer) {
    const variant *v = &q->a->options->variants.items[variant_index];
    json_t *run = json_pack("{s:[], s:[], s:f, s:I}", "text", "tokens", "kept", answer->compress.budget_kept,
                            "bytes", (json_int_t)answer->compress.bytes_kept);
    if (json_array_set_new(q->runs, variant_index, run)) q->code = EXIT_MEMORY;
    if (q->code) return;
    if (is_told(q)) set(q, run, "loss", json_array());
    if (variant_index == 0) note_prompt(q, answer);
    note_layers(q, v, answer, run);
    note_heads(q, variant_index, answer, run);
    if (is_probed(q)) note_probe(q, v, answer, run);
    if (q->a->options->studies.which & STUDY_VISUAL && v->policy > 0) note_visual(q, answer, run);
    if (q->gallery && variant_index == 0) note_cells(q, answer);
    if (q->gallery && variant_index > 0 && v->policy != VARIANT_OF_STUDY) note_seen(q, answer, run);
}

static double mean_loss(const vlcache_answer *answer) {
    double sum = 0.0;
    for (int i = 0; i < answer->n_tokens; i++) sum += (double)answer->losses[i];
    return answer->n_tokens ? sum / answer->n_tokens : 0.0;
}

static void note_answer(question *q, size_t variant_index, const vlcache_answer *answer) {
    if (q->turn == 0) note_first(q, variant_index, answer);
    json_t *run = json_array_get(q->runs, variant_index);
    append(q, json_object_get(run, "text"), text_json(answer->text));
    append(q, json_object_get(run, "tokens"), json_integer(answer->n_tokens));
    if (is_told(q)) append(q, json_object_get(run, "loss"), json_real(mean_loss(answer)));
}

void asker_progress(console *c, size_t answers, size_t total, double start) {
    double passed = clock_seconds() - start, done = (double)answers;
    double left = done > 0 ? passed / done * ((double)total - done) : 0.0;
    if (left < 90)
        snprintf(c->note, sizeof c->note, " answers, %.0f s left", left);
    else if (left < 5400)
        snprintf(c->note, sizeof c->note, " answers, %.0f min left", left / 60);
    else
        snprintf(c->note, sizeof c->note, " answers, %.1f h left", left / 3600);
    console_progress(c, "asking", answers, total);
}

static void show_progress(const asker *a) {
    asker_progress(a->console, a->answers, a->answers_total, a->start);
}

static bool on_variant(void *user, size_t variant_index, const vlcache_answer *answer) {
    question *q = user;
    note_answer(q, q->shared[variant_index], answer);
    q->a->answers++;
    show_progress(q->a);
    return !q->code && !interrupt_seen();
}

static vlcache_generate_options how(const question *q) {
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    generate.max_tokens = q->it->max_tokens ? q->it->max_tokens : q->a->options->predict;
    generate.probe = is_probed(q);
    generate.told = q->given;
    generate.n_told = q->n_given;
    return generate;
}

static vlcache_prompt prompt_of(const question *q) {
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    prompt.text = q->it->turns[q->turn].question;
    prompt.raw = q->it->raw;
    prompt.images = (const vlcache_image *const *)q->images;
    prompt.n_images = q->turn == 0 && !q->video ? q->n_images : 0;
    prompt.videos = &q->video;
    prompt.n_videos = q->turn == 0 && q->video;
    prompt.video_frames = (size_t)q->it->n_frames;
    return prompt;
}

/* The first reference's tokens, where the answer of this turn is told. */
static vlcache_status take_told(question *q) {
    const char *text = q->it->turns[q->turn].answers[0];
    free(q->given);
    q->given = NULL;
    q->n_given = 0;
    if (!is_told(q)) return VLCACHE_OK;
    size_t room = strlen(text) + 1; /* a token has a byte or more */
    q->given = calloc(room, sizeof *q->given);
    if (!q->given) return q->code = EXIT_MEMORY, VLCACHE_OK;
    vlcache_status status = vlcache_model_tokenize(q->a->model, text, q->given, room, &q->n_given);
    if (q->n_given > room) q->n_given = room;
    return status;
}

/* Tokens of the prompt that the session is asked next, where budgets hang on them; else 0. */
static vlcache_status count_tokens(question *q, int *tokens) {
    vlcache_prompt prompt = prompt_of(q);
    *tokens = 0;
    if (strcmp(q->a->options->share_of, "bytes") != 0) return VLCACHE_OK;
    return vlcache_session_count(q->session, &prompt, tokens);
}

/* A variant as it is asked about a prompt of so many tokens. */
static vlcache_compress_options way_of(const question *q, size_t variant_index, int tokens) {
    vlcache_compress_options way = q->a->options->variants.items[variant_index].options;
    bool layers = way.allocation == VLCACHE_ALLOCATION_LAYERS &&
                  q->a->options->variants.items[variant_index].policy == VARIANT_OF_STUDY;
    const char *policy = vlcache_policy_of(q->a->model, &way);
    if (policy) way.policy = policy;
    way.strict = tokens > 0;
    if (!layers) /* of a layer alone the others stay whole */
        way.budget = tokens ? equal_bytes(&way, tokens, q->a->row_bytes) : equal_rows(&way, q->a->row_bytes);
    return way;
}

/* With recall a later turn chooses its rows anew. */
static bool keeps_rows(const question *q, size_t variant_index) {
    return !is_talk(q) || !q->a->options->variants.items[variant_index].recall;
}

/* All variants that start from one prefill. */
static vlcache_status compare(question *q, int tokens, const vlcache_generate_options *generate,
                              vlcache_variant_fn each) {
    const variants *v = &q->a->options->variants;
    vlcache_status status = VLCACHE_OK;
    size_t n = 0;
    q->session = q->a->session;
    vlcache_compress_options *ways = calloc(v->n, sizeof *ways);
    if (!q->shared) q->shared = calloc(v->n, sizeof *q->shared);
    if (!ways || !q->shared) q->code = EXIT_MEMORY;
    for (size_t i = 0; i < v->n && !q->code; i++) {
        if (is_streamed(q, i) || !keeps_rows(q, i)) continue;
        ways[n] = way_of(q, i, tokens);
        q->shared[n++] = i;
    }
    vlcache_prompt prompt = prompt_of(q);
    interrupt_cancels(q->session);
    if (interrupt_seen()) vlcache_session_cancel(q->session);
    if (!q->code) status = vlcache_session_compare(q->session, &prompt, generate, ways, n, each, q);
    interrupt_cancels(NULL);
    free(ways);
    return status == VLCACHE_E_CANCELLED && q->code ? VLCACHE_OK : status;
}

static vlcache_status ask_once(question *q, int tokens) {
    vlcache_status status = take_told(q);
    if (status || q->code) return status;
    vlcache_generate_options generate = how(q);
    return compare(q, tokens, &generate, on_variant);
}

/* Hit rate of each turn, mean over layers, of what the first prompt left in the cache; null where a turn had
 * no step. */
static bool on_talk(void *user, size_t variant_index, const vlcache_answer *answer) {
    question *q = user;
    json_t *turns = json_array(), *run = json_array_get(q->runs, q->shared[variant_index]);
    for (size_t t = 0; t < q->it->n_turns && !q->code; t++) {
        double sum = 0.0;
        for (int l = 0; l < answer->compress.layers; l++) {
            vlcache_probe_layer probe;
            if (!known(q, vlcache_session_probe_turn(q->session, l, t, &probe))) break;
            sum += probe.hit_all / answer->compress.layers;
        }
        append(q, turns, isnan(sum) ? json_null() : share_json(sum));
    }
    set(q, run, "hit_turn", turns);
    return !q->code && !interrupt_seen();
}

/* What the full cache's turns look at, which all variants are held against. */
static vlcache_status probe_talk(question *q, int tokens) {
    size_t n = q->it->n_turns;
    vlcache_prompt *turns = calloc(n, sizeof *turns);
    if (!turns) return q->code = EXIT_MEMORY, VLCACHE_OK;
    for (q->turn = 0; q->turn < n; q->turn++) turns[q->turn] = prompt_of(q);
    q->turn = 0;
    vlcache_generate_options generate = how(q);
    generate.probe = true;
    generate.later = turns + 1;
    generate.n_later = n - 1;
    vlcache_status status = compare(q, tokens, &generate, on_talk);
    free(turns);
    return status;
}

static vlcache_status begin_session(const asker *a, const vlcache_compress_options *compress,
                                    vlcache_recall recall, vlcache_session **out) {
    vlcache_session_options o = VLCACHE_SESSION_OPTIONS_INIT;
    o.chat_template = a->options->chat_template;
    o.system = a->options->system;
    o.compress = compress;
    o.recall = recall;
    return vlcache_session_create(a->model, &o, out);
}

/* The conversation of one variant. */
static vlcache_status ask_turns(question *q, size_t variant_index, int tokens) {
    const variant *v = &q->a->options->variants.items[variant_index];
    vlcache_compress_options way = way_of(q, variant_index, tokens);
    vlcache_status status = begin_session(q->a, &way, v->recall, &q->session);
    q->alone = true;
    interrupt_cancels(q->session);
    for (q->turn = 0; q->turn < q->it->n_turns && !status && !q->code; q->turn++) {
        const vlcache_answer *answer = NULL;
        vlcache_prompt prompt = prompt_of(q);
        if (is_streamed(q, variant_index)) prompt.stream_frames = (size_t)v->stream;
        status = take_told(q);
        if (status || q->code) break;
        vlcache_generate_options generate = how(q);
        if (interrupt_seen()) vlcache_session_cancel(q->session);
        status = vlcache_session_ask(q->session, &prompt, &generate, &answer);
        if (!status && answer->finish == VLCACHE_FINISH_CANCELLED) status = VLCACHE_E_CANCELLED;
        if (!status) note_answer(q, variant_index, answer);
    }
    interrupt_cancels(NULL);
    vlcache_session_destroy(&q->session);
    q->a->answers++;
    show_progress(q->a);
    return status;
}

/* ---- a question --------------------------------------------------------------------------------------- */

/* The bytes that are hashed are those that are shown. A file that is no picture has a hash too. */
static int load_image(question *q, const char *path, json_t *pictures) {
    char text[FINGERPRINT_BYTES];
    int code = infile_picture(path, &q->file, &q->images[q->n_images]);
    fingerprint_text(hash_of(q->file.data, q->file.bytes), text);
    append(q, pictures, code && !q->file.data ? json_null() : json_string(text));
    infile_release(&q->file);
    q->n_images++;
    return code;
}

/* A video's file, hashed and opened. */
static vlcache_status open_video(question *q, json_t *pictures) {
    char text[FINGERPRINT_BYTES];
    const char *path = q->it->images[0];
    append(q, pictures, fingerprint_file(path, text) ? json_string(text) : json_null());
    vlcache_status status = vlcache_video_open(path, &q->video);
    if (status) snprintf(q->file.why, sizeof q->file.why, "%s", vlcache_error_message());
    return status;
}

/* Frames that are loaded become a video. */
static vlcache_status join_frames(question *q) {
    if (!q->it->video || q->video) return VLCACHE_OK;
    vlcache_status status = vlcache_video_from_images((const vlcache_image *const *)q->images, q->n_images,
                                                      q->it->fps, &q->video);
    if (status) snprintf(q->file.why, sizeof q->file.why, "%s", vlcache_error_message());
    return status;
}

/* VLCACHE_E_IO: q->file.why says why. */
static vlcache_status load_images(question *q) {
    int code = EXIT_OK;
    json_t *pictures = json_array();
    q->images = calloc(q->it->n_images + 1, sizeof *q->images);
    if (!q->images) q->code = EXIT_MEMORY;
    bool file = q->it->video && q->it->fps == 0;
    vlcache_status status = file && !q->code ? open_video(q, pictures) : VLCACHE_OK;
    for (size_t i = 0; i < q->it->n_images && !file && !code && !q->code; i++)
        code = load_image(q, q->it->images[i], pictures);
    set(q, q->record, "pictures", pictures);
    if (!status && !code && !q->code) status = join_frames(q);
    if (status) return status;
    if (code == EXIT_MEMORY) q->code = code;
    return code == EXIT_INTERRUPT ? VLCACHE_E_CANCELLED : code ? VLCACHE_E_IO : VLCACHE_OK;
}

static vlcache_status ask_all(question *q) {
    vlcache_status status = load_images(q);
    size_t n = q->a->options->variants.n;
    for (size_t i = 0; i < n && !status && !q->code; i++) append(q, q->runs, json_null());
    if (status || q->code) return status;
    int tokens = 0;
    q->session = q->a->session;
    status = count_tokens(q, &tokens); /* of the first turn: only that is compressed */
    if (!status && !is_talk(q)) status = ask_once(q, tokens);
    for (size_t i = 0; i < n && !status && !q->code; i++)
        if (is_talk(q) || is_streamed(q, i)) status = ask_turns(q, i, tokens);
    bool probes = q->a->options->studies.which & STUDY_PROBE && is_talk(q) && !is_told(q);
    return probes && !status && !q->code ? probe_talk(q, tokens) : status;
}

/* What is wrong with this question, not with the device, the memory or the user's patience. */
static bool is_of_question(vlcache_status status) {
    return status == VLCACHE_E_ARGUMENT || status == VLCACHE_E_CONTEXT_FULL || status == VLCACHE_E_IO ||
           status == VLCACHE_E_FORMAT || status == VLCACHE_E_UNSUPPORTED;
}

static int skip(question *q) {
    bool strict = q->a->options->strict;
    const char *why = *q->file.why ? q->file.why : vlcache_error_message();
    console_fail(q->a->console, 0, "%s:%d: %s%s", q->a->options->data, q->it->line, why,
                 strict ? "" : " (skipped)");
    if (strict) return EXIT_INPUT;
    json_object_del(q->record, "runs");
    json_object_del(q->record, "cells");
    set(q, q->record, "error", text_json(why));
    return q->code;
}

/* Whether `index` is among the first questions of its group. */
static bool in_gallery(const data *d, size_t index) {
    size_t before = 0;
    for (size_t i = 0; i < index; i++) before += d->items[i].group == d->items[index].group;
    return before < GALLERY_CANDIDATES;
}

int asker_ask(asker *a, const data *d, size_t index, json_t **record) {
    const item *it = &d->items[index];
    question q = {.a = a,
                  .it = it,
                  .metric = d->groups[it->group].metric,
                  .gallery = !it->video && in_gallery(d, index)};
    size_t answers = a->answers + a->options->variants.n;
    q.record = json_pack("{s:i, s:s, s:{}, s:[]}", "line", it->line, "id", it->id, "sparsity", "runs");
    q.runs = json_object_get(q.record, "runs");
    if (q.record && is_probed(&q)) set(&q, q.record, "decode", json_object());
    show_progress(a);
    vlcache_status status = q.record ? ask_all(&q) : VLCACHE_OK;
    if (!q.record) q.code = EXIT_MEMORY;
    if (!q.code && status && is_of_question(status) && !interrupt_seen())
        q.code = skip(&q);
    else if ((q.code == EXIT_MEMORY && !q.told) || (!q.code && status))
        q.code = fail(&q, status);
    a->answers = answers; /* also where the question was skipped */
    for (size_t i = 0; i < q.n_images; i++) vlcache_image_destroy(&q.images[i]);
    vlcache_video_destroy(&q.video);
    free(q.images);
    free(q.shared);
    free(q.given);
    if (q.code) json_decref(q.record);
    *record = q.code ? NULL : q.record;
    return q.code;
}

/* ---- device and model --------------------------------------------------------------------------------- */

static int check(const asker *a, vlcache_status status) {
    const char *message = vlcache_error_message();
    if (!status) return EXIT_OK;
    if (status == VLCACHE_E_CANCELLED) return EXIT_INTERRUPT;
    return console_fail(a->console, exit_code(status), "%s",
                        *message ? message : vlcache_status_text(status));
}

static size_t row_bytes(const vlcache_model *model) {
    vlcache_model_info info;
    vlcache_model_describe(model, &info);
    return 2 * (size_t)info.head_dim * (info.dtype == VLCACHE_DTYPE_F32 ? 4 : 2);
}

/* Policies that come to another with this model, each once. */
static void say_policies(const asker *a) {
    const variants *v = &a->options->variants;
    for (size_t i = 0; i < v->n; i++) {
        const variant *of = &v->items[i], *before = i ? &of[-1] : NULL;
        if (before && before->policy == of->policy) continue;
        if (of->policy != VARIANT_OF_STUDY) policy_comes_to(&of->options, of->label, a->model, a->console);
    }
}

int asker_open(asker *a, const options *o, const char *folder, console *c) {
    vlcache_device_options device = VLCACHE_DEVICE_OPTIONS_INIT;
    vlcache_model_options model = VLCACHE_MODEL_OPTIONS_INIT;
    *a = (asker){.options = o, .console = c};
    device.progress = model.progress = console_progress;
    device.progress_user = model.progress_user = c;
    model.dtype = o->dtype;
    model.min_pixels = o->min_pixels;
    model.max_pixels = o->max_pixels;
    model.no_mmap = o->no_mmap;
    interrupt_says(true);
    int code = check(a, vlcache_device_open(o->device, &device, &a->device));
    if (!code) code = check(a, vlcache_model_load(a->device, folder, &model, &a->model));
    if (!code) say_policies(a);
    if (!code) code = check(a, begin_session(a, NULL, VLCACHE_RECALL_NONE, &a->session));
    if (!code) a->row_bytes = row_bytes(a->model);
    interrupt_says(false);
    a->start = clock_seconds();
    return code;
}

int asker_device_name(const options *o, console *c, char *name, size_t room) {
    vlcache_device *device = NULL;
    vlcache_device_info info;
    *name = 0;
    vlcache_status status = vlcache_device_open(o->device, NULL, &device);
    if (status == VLCACHE_E_NO_DEVICE) return EXIT_OK;
    if (status) return console_fail(c, exit_code(status), "%s", vlcache_error_message());
    vlcache_device_describe(device, &info);
    snprintf(name, room, "%s", info.name);
    vlcache_device_destroy(&device);
    return EXIT_OK;
}

void asker_close(asker *a) {
    vlcache_session_destroy(&a->session);
    vlcache_model_destroy(&a->model);
    vlcache_device_destroy(&a->device);
}
