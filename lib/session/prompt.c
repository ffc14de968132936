/*
 * prompt.c - text and pictures -> ids and visual tokens.
 *
 *     "USER: <image>\nWhat is this? ASSISTANT:"
 *     <s> USER :  <image>  \n What ...           ids from the tokenizer
 *     <s> USER :  -1 -2 -3 ... -576  \n What ... each mark becomes the tokens of its picture
 */
#include "session/prompt.h"

#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"
#include "models/vision.h"

static const char MARK[] = "<image>";

static size_t count_marks(const char *text) {
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, MARK)); at += sizeof MARK - 1) n++;
    return n;
}

/* ---- tokens -------------------------------------------------------------------------------------------- */

/* The text of the turn; `*start` skips a BOS that the tokenizer does not have as one token. */
static vlcache_status turn_text(const vlcache_model *model, const vlcache_prompt *asked,
                                const vlci_turn *turn, char **text, size_t *start) {
    *start = 0;
    if (asked->raw) {
        *text = vlci_strdup(asked->text);
        return *text ? VLCACHE_OK : vlci_fail_memory("prompt");
    }
    int marks = count_marks(asked->text) ? 0 : (int)asked->n_images;
    const char *bos = vlci_chat_bos(turn->chat);
    if (turn->first && *bos && vlci_tokenizer_id(model->tokenizer, bos) < 0) *start = strlen(bos);
    return vlci_chat_turn(turn->chat, turn->first, false, marks, asked->text, text);
}

static vlcache_status tokenize(const vlcache_model *model, const vlcache_prompt *asked, const vlci_turn *turn,
                               int32_t **ids, size_t *n) {
    char *text = NULL;
    size_t start = 0;
    vlcache_status status = turn_text(model, asked, turn, &text, &start);
    if (!status)
        status = vlci_tokenizer_encode(model->tokenizer, text + start, strlen(text + start), false, ids, n);
    vlci_free(text);
    return status;
}

/* A mark for each picture, as many as were tokenised. */
static vlcache_status check_marks(const vlcache_model *model, const vlcache_prompt *asked, const int32_t *ids,
                                  size_t n) {
    size_t marks = 0;
    for (size_t i = 0; i < n; i++) marks += ids[i] == model->config.image_token;
    if (marks == asked->n_images) return VLCACHE_OK;
    if (vlci_tokenizer_id(model->tokenizer, MARK) != model->config.image_token)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "tokenizer.json: \"%s\" is id %d, config.json's image_token_index is %d", MARK,
                         (int)vlci_tokenizer_id(model->tokenizer, MARK), model->config.image_token);
    return vlci_fail(VLCACHE_E_ARGUMENT, "the prompt has %zu %s mark%s for %zu picture%s", marks, MARK,
                     marks == 1 ? "" : "s", asked->n_images, asked->n_images == 1 ? "" : "s");
}

/* ---- layout -------------------------------------------------------------------------------------------- */

static vlcache_status plan_images(const vlcache_model *model, const vlcache_prompt *asked, vlci_prompt *out) {
    out->plan = vlci_calloc(asked->n_images + 1, sizeof *out->plan);
    if (!out->plan) return vlci_fail_memory("picture plans");
    int64_t visual = 0;
    for (; out->n_images < asked->n_images; out->n_images++) {
        int width, height;
        vlcache_image_size(asked->images[out->n_images], &width, &height);
        vlcache_status status =
            vlci_image_plan_make(&model->config, width, height, &out->plan[out->n_images]);
        if (status) return status;
        visual += out->plan[out->n_images].n_tokens;
    }
    if (visual > INT32_MAX / 2)
        return vlci_fail(VLCACHE_E_CONTEXT_FULL, "the pictures give %lld visual tokens", (long long)visual);
    out->visual = (int)visual;
    return VLCACHE_OK;
}

static void place_picture(vlci_prompt *out, int image, int *row) {
    const vlci_image_plan *plan = &out->plan[image];
    for (int t = 0; t < plan->n_tokens; t++, (*row)++) {
        const float *cell = plan->cell[t];
        out->where[*row] = (vlcache_visual_token){out->n, image, cell[0], cell[1], cell[2], cell[3]};
        out->ids[out->n++] = -1 - *row;
    }
    if (image == 0) out->after = 0; /* what stands before the first picture does not see any */
}

static void place_text(vlci_prompt *out, int32_t id) {
    out->after_at[out->after++] = out->n;
    out->ids[out->n++] = id;
}

static vlcache_status lay_out(const vlcache_model *model, const vlci_turn *turn, const int32_t *ids, size_t n,
                              vlci_prompt *out) {
    int row = 0, image = 0;
    out->where = vlci_alloc((size_t)out->visual + 1, sizeof *out->where);
    out->ids = vlci_alloc(n + (size_t)out->visual + 1, sizeof *out->ids);
    out->after_at = vlci_alloc(n + 1, sizeof *out->after_at);
    if (!out->where || !out->ids || !out->after_at) return vlci_fail_memory("prompt");
    if (turn->open >= 0) place_text(out, turn->open);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == model->config.image_token)
            place_picture(out, image++, &row);
        else
            place_text(out, ids[i]);
    }
    return out->n ? VLCACHE_OK : vlci_fail(VLCACHE_E_ARGUMENT, "the prompt is empty");
}

static vlcache_status check_prompt(const vlcache_prompt *asked) {
    if (!asked || !asked->text || (asked->n_images && !asked->images))
        return vlci_fail(VLCACHE_E_ARGUMENT, "prompt: text or images is NULL");
    if (asked->size != sizeof *asked)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "prompt: size: is %zu, must be %zu: start from VLCACHE_PROMPT_INIT", asked->size,
                         sizeof *asked);
    if (asked->n_images > 4096)
        return vlci_fail(VLCACHE_E_ARGUMENT, "prompt: %zu pictures, at most 4096", asked->n_images);
    for (size_t i = 0; i < asked->n_images; i++)
        if (!asked->images[i]) return vlci_fail(VLCACHE_E_ARGUMENT, "prompt: picture %zu is NULL", i);
    return VLCACHE_OK;
}

vlcache_status vlci_prompt_create(const vlcache_model *model, const vlcache_prompt *asked,
                                  const vlci_turn *turn, vlci_prompt *out) {
    int32_t *ids = NULL;
    size_t n = 0;
    *out = (vlci_prompt){0};
    vlcache_status status = check_prompt(asked);
    if (!status) status = tokenize(model, asked, turn, &ids, &n);
    if (!status) status = check_marks(model, asked, ids, n);
    if (!status) status = plan_images(model, asked, out);
    if (!status) status = lay_out(model, turn, ids, n, out);
    vlci_free(ids);
    if (status) vlci_prompt_release(out);
    return status;
}

void vlci_prompt_release(vlci_prompt *prompt) {
    for (size_t i = 0; i < prompt->n_images; i++) vlci_image_plan_release(&prompt->plan[i]);
    vlci_free(prompt->plan);
    vlci_free(prompt->ids);
    vlci_free(prompt->where);
    vlci_free(prompt->after_at);
    *prompt = (vlci_prompt){0};
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

/* One picture's visual tokens, f32 [plan->n_tokens][hidden], in new memory. */
static vlcache_status look_at(const vlcache_model *model, const vlcache_image *image,
                              const vlci_image_plan *plan, vlcache_timings *timings, cl_mem *tokens) {
    vlci_pixels pixels = {0};
    cl_mem features = NULL, projected = NULL;
    double start = vlci_clock_ms();
    vlcache_status status = vlci_image_prepare(&model->config, image, &pixels);
    double prepared = vlci_clock_ms();
    timings->image += prepared - start;
    if (!status) status = vlci_vision_run(model, pixels.data, pixels.tiles, &features);
    if (!status) status = vlci_projector_run(model, features, pixels.tiles, NULL, &projected);
    if (!status) status = vlci_projector_arrange(model, projected, plan, tokens);
    if (!status) status = vlci_finish(model->device);
    timings->vision += vlci_clock_ms() - prepared;
    vlci_memory_release(model->device, &projected);
    vlci_memory_release(model->device, &features);
    vlci_pixels_release(&pixels);
    return status;
}

static vlcache_status append(const vlcache_model *model, cl_mem tokens, int n, cl_mem all, size_t *at) {
    size_t bytes = (size_t)n * (size_t)model->config.text.hidden * sizeof(float);
    vlcache_status status = vlci_copy(model->device, tokens, 0, all, *at, bytes);
    *at += bytes;
    return status;
}

static bool go_on(vlcache_progress_fn progress, void *user, size_t done, size_t total) {
    return !progress || progress(user, "looking at pictures", done, total);
}

vlcache_status vlci_prompt_look(const vlcache_model *model, const vlcache_prompt *asked,
                                const vlci_prompt *prompt, vlcache_progress_fn progress, void *user,
                                vlcache_timings *timings, cl_mem *features) {
    size_t at = 0, bytes = (size_t)prompt->visual * (size_t)model->config.text.hidden * sizeof(float);
    *features = NULL;
    if (!prompt->n_images) return VLCACHE_OK;
    vlcache_status status = vlci_memory_create(model->device, bytes, "visual tokens", features);
    for (size_t i = 0; i <= prompt->n_images && !status; i++) {
        if (!go_on(progress, user, i, prompt->n_images))
            status = vlci_fail(VLCACHE_E_CANCELLED, "cancelled while looking at pictures");
        if (status || i == prompt->n_images) break;
        cl_mem tokens = NULL;
        status = look_at(model, asked->images[i], &prompt->plan[i], timings, &tokens);
        if (!status) status = append(model, tokens, prompt->plan[i].n_tokens, *features, &at);
        vlci_memory_release(model->device, &tokens);
    }
    if (status) vlci_memory_release(model->device, features);
    return status;
}
