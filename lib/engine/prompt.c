/*
 * prompt.c - text and pictures -> ids and visual tokens.
 *
 *     "USER: <image>\nWhat is this? ASSISTANT:"
 *     <s> USER :  <image>  \n What ...           ids from the tokenizer
 *     <s> USER :  -1 -2 -3 ... -576  \n What ... each mark becomes the tokens of its picture
 *
 * The template places the marks; what the user writes is words, marks among them only where they are as many
 * as the pictures.
 */
#include "engine/prompt.h"

#include <string.h>

#include "core/alloc.h"
#include "core/clock.h"

/* ---- tokens -------------------------------------------------------------------------------------------- */

/* Ids that the caller has, with the model's own mark for each picture. */
static vlcache_status copy_ids(const vlcache_model *model, const vlcache_prompt *asked, int32_t **ids,
                               size_t *n) {
    int vocab = model->config.text.vocab;
    *ids = vlci_alloc(asked->n_tokens, sizeof **ids);
    if (!*ids) return vlci_fail_memory("prompt");
    *n = asked->n_tokens;
    for (size_t i = 0; i < *n; i++) {
        int32_t id = asked->tokens[i];
        bool picture = id == VLCACHE_TOKEN_IMAGE && model->config.eyes;
        if (!picture && (id < 0 || id >= vocab))
            return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("prompt.tokens[%zu]", i),
                               VLCI_VALUE("%d", (int)id), "must be from 0 to %d%s", vocab - 1,
                               model->config.eyes ? ", or VLCACHE_TOKEN_IMAGE for a picture" : "");
        (*ids)[i] = picture ? model->config.image_token : id;
    }
    return VLCACHE_OK;
}

static vlcache_status tokenize(const vlcache_model *model, const vlcache_prompt *asked, const vlci_turn *turn,
                               int32_t **ids, size_t *n, bool *rewritten) {
    vlci_chat_turn made;
    if (asked->tokens) return copy_ids(model, asked, ids, n);
    if (!model->tokenizer)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.text", NULL,
                           "the model has random weights and no tokenizer: give token ids (prompt.tokens)");
    if (asked->raw)
        return vlci_tokenizer_encode(model->tokenizer, asked->text, strlen(asked->text), false, ids, n);
    vlci_said alone = {VLCI_USER, (char *)asked->text, (int)asked->n_images};
    const vlci_conversation opening = {.at = &alone, .n = 1};
    vlcache_status status = vlci_chat_encode(turn->chat, turn->said ? turn->said : &opening, &made);
    *ids = made.ids;
    *n = made.n;
    *rewritten = made.rewritten;
    return status;
}

/* An id that has no row in the embedding would be read from beyond it. */
static vlcache_status check_ids(const vlcache_model *model, const int32_t *ids, size_t n) {
    int vocab = model->config.text.vocab, known = vlci_text_ids(&model->config.text);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= known)
            return vlci_fail(VLCACHE_E_FORMAT,
                             "the prompt holds a token of the tokenizer with id %d, config.json's "
                             "text_config.vocab_size is %d: they belong to different models",
                             (int)ids[i], vocab);
    return VLCACHE_OK;
}

/* A mark for each picture, as many as were tokenised. */
static vlcache_status check_marks(const vlcache_model *model, const vlcache_prompt *asked, const int32_t *ids,
                                  size_t n) {
    const char *mark = model->family->mark;
    size_t marks = 0;
    for (size_t i = 0; i < n; i++) marks += ids[i] == model->config.image_token;
    if (marks == asked->n_images) return VLCACHE_OK;
    if (!asked->tokens && vlci_tokenizer_id(model->tokenizer, mark) != model->config.image_token)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "tokenizer.json: \"%s\" is id %d, config.json's image_token_index is %d", mark,
                         (int)vlci_tokenizer_id(model->tokenizer, mark), model->config.image_token);
    return vlci_fail_field(VLCACHE_E_ARGUMENT, NULL, "prompt.n_images", VLCI_VALUE("%zu", asked->n_images),
                           VLCI_VALUE("must be %zu, the %s marks", marks, mark),
                           "the prompt has %zu %s mark%s for %zu picture%s", marks, mark,
                           marks == 1 ? "" : "s", asked->n_images, asked->n_images == 1 ? "" : "s");
}

/* ---- layout -------------------------------------------------------------------------------------------- */

static vlcache_status plan_images(const vlcache_model *model, const vlcache_prompt *asked, vlci_prompt *out) {
    out->layout = vlci_calloc(asked->n_images, sizeof *out->layout);
    out->picture = vlci_calloc(asked->n_images, sizeof *out->picture);
    if (!out->layout || !out->picture) return vlci_fail_memory("layouts of pictures");
    const vlci_family *family = vlci_family_among(model->family, asked->n_images);
    int64_t rows = 0;
    for (; out->n_images < asked->n_images; out->n_images++) {
        int width, height;
        vlci_picture_layout *layout = &out->layout[out->n_images];
        vlcache_image_size(asked->images[out->n_images], &width, &height);
        vlcache_status status = family->layout(&model->config, width, height, layout);
        if (status) return status;
        out->picture[out->n_images].layout = layout;
        out->n_grids += layout->n_grids;
        rows += layout->n;
        if (rows > INT32_MAX / 2)
            return vlci_fail(VLCACHE_E_CONTEXT_FULL, "the pictures give %lld rows", (long long)rows);
        out->visual += layout->n_tokens;
        out->features += layout->n_tokens + layout->n_unseen;
    }
    return VLCACHE_OK;
}

static void place_text(vlci_prompt *out, int32_t id) {
    out->after_at[out->after++] = out->n;
    out->ids[out->n++] = id;
}

static void place_token(vlci_prompt *out, int image, int token, int *seen) {
    const float *cell = out->layout[image].cell[token];
    if (!*seen) out->after = 0; /* what stands before the first visual token does not see any */
    out->where[*seen] = (vlcache_visual_token){out->n, image, cell[0], cell[1], cell[2], cell[3]};
    out->ids[out->n++] = -1 - (*seen)++;
}

static void place_picture(vlci_prompt *out, int image, int *seen, int *grids) {
    const vlci_picture_layout *layout = &out->layout[image];
    int row = out->picture[image].row = out->n;
    for (int i = 0; i < layout->n_grids && !layout->aside; i++) {
        const vlci_layout_grid *g = &layout->grids[i];
        out->grids[(*grids)++] = (vlci_token_grid){row + g->first, g->rows, g->columns, g->stride};
    }
    for (int i = 0; i < layout->n; i++) {
        int32_t entry = layout->entry[i];
        if (entry < 0)
            place_token(out, image, -1 - entry, seen);
        else
            place_text(out, entry);
    }
}

/* ---- cross-attention: pictures beside the rows --------------------------------------------------------- */

int vlci_prompt_features_at(const vlci_prompt *prompt, int image) {
    int at = 0;
    for (int i = 0; i < image; i++) at += prompt->layout[i].n_tokens + prompt->layout[i].n_unseen;
    return at;
}

/* A picture is seen from its mark on, up to the next one; of marks that stand side by side, each sees those
 * before it, too. */
static void list_sights(vlci_prompt *out) {
    int n = (int)out->n_images;
    if (out->picture[0].row) out->sights[out->n_sights++] = (vlci_sight){.until = out->picture[0].row};
    for (int i = 0; i < n; i++) {
        bool joins = i && out->picture[i].row == out->picture[i - 1].row + 1;
        int first = joins ? out->sights[out->n_sights - 1].first : i;
        int until = i + 1 < n ? out->picture[i + 1].row : out->n;
        out->sights[out->n_sights++] = (vlci_sight){until, first, i + 1 - first};
    }
    for (int i = 0; i < out->n_sights; i++) out->ends[i] = out->sights[i].until;
}

/* A picture of the last sight, the first token of which is row `at` there; `grids` counts. */
static void place_aside(vlci_prompt *out, int image, int at, int *grids) {
    const vlci_picture_layout *layout = &out->layout[image];
    for (int i = 0; i < layout->n_grids; i++) {
        const vlci_layout_grid *g = &layout->grids[i];
        out->grids[(*grids)++] = (vlci_token_grid){at + g->first, g->rows, g->columns, g->stride};
    }
}

/* Tokens, grids and text of the last sight, whose pictures the cache holds when the prompt is read. */
static void tell_last(vlci_prompt *out) {
    const vlci_sight *last = &out->sights[out->n_sights - 1];
    int seen = 0, grids = 0;
    for (int image = 0; image < (int)out->n_images; image++) {
        bool there = image >= last->first;
        if (there) place_aside(out, image, out->sighted, &grids);
        for (int token = 0; token < out->layout[image].n_tokens; token++) {
            const float *cell = out->layout[image].cell[token];
            int row = there ? out->sighted++ : -1;
            out->where[seen++] = (vlcache_visual_token){row, image, cell[0], cell[1], cell[2], cell[3]};
        }
    }
    out->n_grids = grids;
    out->after = 0;
    int mark = out->picture[out->n_images - 1].row; /* stands for the text behind it where there is none */
    for (int row = mark + 1 < out->n ? mark + 1 : mark; row < out->n; row++)
        out->after_at[out->after++] = row;
}

static vlcache_status see(vlci_prompt *out) {
    if (!out->n_images || !out->layout[0].aside) return VLCACHE_OK;
    out->sights = vlci_alloc(out->n_images + 1, sizeof *out->sights);
    out->ends = vlci_alloc(out->n_images + 1, sizeof *out->ends);
    if (!out->sights || !out->ends) return vlci_fail_memory("prompt");
    list_sights(out);
    tell_last(out);
    return VLCACHE_OK;
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

/* Rows of the prompt: a picture's mark becomes its layout's entries. */
static size_t count_rows(const vlci_prompt *out, size_t n) {
    for (size_t i = 0; i < out->n_images; i++) n += (size_t)out->layout[i].n;
    return n;
}

static vlcache_status lay_out(const vlcache_model *model, const vlci_turn *turn, const int32_t *ids, size_t n,
                              vlci_prompt *out) {
    int seen = 0, image = 0, grids = 0;
    size_t rows = count_rows(out, n + 1);
    out->where = vlci_alloc((size_t)out->visual, sizeof *out->where);
    out->ids = vlci_alloc(rows, sizeof *out->ids);
    out->after_at = vlci_alloc(rows, sizeof *out->after_at);
    out->grids = vlci_alloc((size_t)out->n_grids, sizeof *out->grids);
    if (!out->where || !out->ids || !out->after_at || !out->grids) return vlci_fail_memory("prompt");
    if (turn->open >= 0) place_text(out, turn->open);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == model->config.image_token)
            place_picture(out, image++, &seen, &grids);
        else
            place_text(out, ids[i]);
    }
    return out->n ? see(out)
                  : vlci_fail_field(VLCACHE_E_ARGUMENT, NULL, "prompt.text", "", "say something",
                                    "the prompt is empty");
}

static vlcache_status check_prompt(const vlcache_model *model, const vlcache_prompt *asked) {
    if (asked->text && asked->tokens)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "prompt.tokens", NULL,
                           "stand beside a text: give one of both");
    if ((!asked->text && !asked->tokens) || (asked->n_images && !asked->images))
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL,
                           asked->text || asked->tokens ? "prompt.images" : "prompt.text", NULL,
                           "is NULL: give it");
    if (asked->n_images && !model->config.eyes)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.n_images", VLCI_VALUE("%zu", asked->n_images),
                           "must be 0: this model (%s) is a text model, it sees no pictures",
                           model->family->name);
    if (asked->n_images > 4096)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "prompt.n_images", VLCI_VALUE("%zu", asked->n_images),
                           "must be at most 4096");
    for (size_t i = 0; i < asked->n_images; i++)
        if (!asked->images[i])
            return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("prompt.images[%zu]", i), NULL,
                               "is NULL: give a picture");
    return VLCACHE_OK;
}

vlcache_status vlci_prompt_create(const vlcache_model *model, const vlcache_prompt *asked,
                                  const vlci_turn *turn, vlci_prompt *out) {
    int32_t *ids = NULL;
    size_t n = 0;
    *out = (vlci_prompt){0};
    vlcache_status status = check_prompt(model, asked);
    if (!status) status = tokenize(model, asked, turn, &ids, &n, &out->rewritten);
    if (!status) status = check_ids(model, ids, n);
    if (!status) status = check_marks(model, asked, ids, n);
    if (!status) status = plan_images(model, asked, out);
    if (!status) status = lay_out(model, turn, ids, n, out);
    vlci_free(ids);
    if (status) vlci_prompt_release(out);
    return status;
}

void vlci_prompt_release(vlci_prompt *prompt) {
    for (size_t i = 0; i < prompt->n_images; i++) vlci_picture_layout_release(&prompt->layout[i]);
    vlci_free(prompt->layout);
    vlci_free(prompt->picture);
    vlci_free(prompt->grids);
    vlci_free(prompt->ids);
    vlci_free(prompt->where);
    vlci_free(prompt->after_at);
    vlci_free(prompt->sights);
    vlci_free(prompt->ends);
    *prompt = (vlci_prompt){0};
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

/* Bytes of the features of n visual tokens, in all their sets. */
static size_t features_bytes(const vlcache_model *model, int n) {
    const vlci_text_config *c = &model->config.text;
    return (size_t)n * (size_t)(1 + c->deepstack) * (size_t)c->hidden * sizeof(float);
}

/* One picture's visual tokens, features_bytes() of them, in new memory. */
static vlcache_status look_at(const vlcache_model *model, const vlci_family *family,
                              const vlcache_image *image, const vlci_picture_layout *layout,
                              vlcache_timings *timings, cl_mem *tokens) {
    vlci_pixels pixels = {0};
    double start = vlci_clock_ms();
    vlcache_status status = family->prepare(&model->config, image, &pixels);
    double prepared = vlci_clock_ms();
    timings->image += prepared - start;
    if (!status) status = family->look(&model->config, &pixels, layout, tokens);
    if (!status) status = vlci_finish(model->device);
    timings->vision += vlci_clock_ms() - prepared;
    vlci_pixels_release(&pixels);
    return status;
}

static vlcache_status append(const vlcache_model *model, cl_mem tokens, int n, cl_mem all, size_t *at) {
    size_t bytes = features_bytes(model, n);
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
    size_t at = 0, bytes = features_bytes(model, prompt->features);
    const vlci_family *family = vlci_family_among(model->family, prompt->n_images);
    *features = NULL;
    if (!prompt->n_images) return VLCACHE_OK;
    vlcache_status status = vlci_memory_create(model->device, bytes, "visual tokens", features);
    for (size_t i = 0; i <= prompt->n_images && !status; i++) {
        if (!go_on(progress, user, i, prompt->n_images))
            status = vlci_fail(VLCACHE_E_CANCELLED, "cancelled while looking at pictures");
        if (status || i == prompt->n_images) break;
        cl_mem tokens = NULL;
        status = look_at(model, family, asked->images[i], &prompt->layout[i], timings, &tokens);
        int n = prompt->layout[i].n_tokens + prompt->layout[i].n_unseen;
        if (!status) status = append(model, tokens, n, *features, &at);
        vlci_memory_release(model->device, &tokens);
    }
    if (status) vlci_memory_release(model->device, features);
    return status;
}
