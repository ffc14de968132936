/*
 * ask.c - a turn is asked: its options are taken, and it is laid out behind what was said.
 *
 *     text, pictures, videos -> ids, and where each picture stands among them
 */
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/options.h"
#include "engine/sequence.h"

/* ---- options ------------------------------------------------------------------------------------------- */

VLCI_OPTIONS_END(vlcache_prompt, stream_frames);
VLCI_OPTIONS_END(vlcache_generate_options, n_later);

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
    if (g->n_later && (!g->later || !g->probe))
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "generate.n_later", VLCI_VALUE("%zu", g->n_later),
                           "must be 0 without `later`, and without `probe`");
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

/* ---- the layout ---------------------------------------------------------------------------------------- */

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
                           "must be 0 with coded rows, whose bits are shared out over the whole prompt: "
                           "take policy centroids, or storage exact");
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
    s->start = vlci_clock_ms();
    s->built = vlci_kernel_build_seconds(s->shared->model->device) * 1e3;
    s->choice = (vlci_choice){{s->how.temperature, s->how.top_k, s->how.top_p}, s->how.seed};
    s->recipes = &s->recipe;
    s->plans = s->own;
    s->n_plans = 1;
    s->past_before = vlci_past_here(&s->past);
    status = keep_pictures(s);
    if (!status) status = open_portions(s);
    if (status)
        vlci_sequence_take_back(s);
    else
        s->state = VLCACHE_SEQUENCE_WAITING;
    return status;
}
