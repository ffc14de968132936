/*
 * prompt.c - text, pictures and videos -> ids and places of visual tokens. look.c looks at them.
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

/* ---- tokens -------------------------------------------------------------------------------------------- */

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

/* Marks of pictures, or of videos. */
typedef struct marks {
    const char *mark, *word; /* the token as it is written: the mark itself, or what a family has for it */
    const char *what, *field, *setting;
    int token; /* -1: there are none */
    size_t n;  /* that there should be */
} marks;

/* A mark for each, as many as were tokenised. */
static vlcache_status check_kind(const vlcache_model *model, const vlcache_prompt *asked, const int32_t *ids,
                                 size_t n, const marks *m) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) found += m->token >= 0 && ids[i] == m->token;
    if (found == m->n) return VLCACHE_OK;
    if (!asked->tokens && vlci_tokenizer_id(model->tokenizer, m->word) != m->token)
        return vlci_fail(VLCACHE_E_UNSUPPORTED, "tokenizer.json: \"%s\" is id %d, config.json's %s is %d",
                         m->word, (int)vlci_tokenizer_id(model->tokenizer, m->word), m->setting, m->token);
    return vlci_words_miscounted(m->field, m->mark, found, m->what, m->n);
}

static vlcache_status check_marks(const vlcache_model *model, const vlcache_prompt *asked, const int32_t *ids,
                                  size_t n) {
    const char *mark = model->family->mark, *video = vlci_family_video_mark(model->family);
    const marks pictures = {.mark = mark,
                            .word = mark,
                            .what = "picture",
                            .field = "prompt.n_images",
                            .setting = "image_token_index",
                            .token = model->config.image_token,
                            .n = asked->n_images};
    vlcache_status status = check_kind(model, asked, ids, n, &pictures);
    if (status || !vlci_takes_videos(model)) return status;
    const marks videos = {.mark = video,
                          .word = vlci_family_video_token(model->family),
                          .what = "video",
                          .field = "prompt.n_videos",
                          .setting = "video_token_id",
                          .token = model->config.video_token,
                          .n = asked->n_videos};
    return check_kind(model, asked, ids, n, &videos);
}

/* ---- layout -------------------------------------------------------------------------------------------- */

/* Adds what a layout comes to. */
static vlcache_status count_layout(const vlci_picture_layout *layout, vlci_prompt *out) {
    out->n_grids += layout->n_grids;
    out->rows += layout->n;
    out->visual += layout->n_tokens;
    out->features += layout->n_tokens + layout->n_unseen;
    if (out->rows > INT32_MAX / 2)
        return vlci_fail(VLCACHE_E_CONTEXT_FULL, "pictures and videos give %lld rows", (long long)out->rows);
    return VLCACHE_OK;
}

static vlcache_status plan_images(const vlcache_model *model, const vlcache_prompt *asked, vlci_prompt *out) {
    const vlci_family *family = vlci_family_among(model->family, asked->n_images);
    vlcache_status status = VLCACHE_OK;
    for (; out->n_images < asked->n_images && !status; out->n_images += !status) {
        int width, height;
        vlci_picture_layout *layout = &out->layout[out->n_images];
        vlcache_image_size(asked->images[out->n_images], &width, &height);
        status = family->layout(&model->config, width, height, layout);
        if (!status) status = count_layout(layout, out);
        if (status) vlci_picture_layout_release(layout);
    }
    return status;
}

static vlcache_status plan_video(const vlcache_model *model, const vlcache_prompt *asked, vlci_clip *clip,
                                 vlci_picture_layout *layout, vlci_prompt *out) {
    const vlci_clip_asked how = {.fps = asked->video_fps, .frames = (int)asked->video_frames};
    vlcache_video_info info;
    vlcache_video_describe(asked->videos[out->n_videos], &info);
    *clip = (vlci_clip){.width = info.width, .height = info.height, .total = info.frames, .fps = info.fps};
    vlcache_status status = model->family->videos->choose(&model->config, &how, clip);
    if (!status) status = model->family->videos->layout(&model->config, clip, layout);
    return status ? status : count_layout(layout, out);
}

static vlcache_status plan_videos(const vlcache_model *model, const vlcache_prompt *asked, vlci_prompt *out) {
    vlcache_status status = VLCACHE_OK;
    while (out->n_videos < asked->n_videos && !status) {
        size_t i = out->n_videos;
        status = plan_video(model, asked, &out->clip[i], &out->layout[out->n_images + i], out);
        out->n_seen += out->layout[out->n_images + i].n_grids;
        out->n_videos++;
    }
    return status;
}

static vlcache_status plan(const vlcache_model *model, const vlcache_prompt *asked, vlci_prompt *out) {
    size_t n = asked->n_images + asked->n_videos;
    out->layout = vlci_calloc(n, sizeof *out->layout);
    out->picture = vlci_calloc(n, sizeof *out->picture);
    out->shown = vlci_calloc(n, sizeof *out->shown);
    out->clip = vlci_calloc(asked->n_videos, sizeof *out->clip);
    if (!out->layout || !out->picture || !out->shown || !out->clip)
        return vlci_fail_memory("layouts of pictures");
    vlcache_status status = plan_images(model, asked, out);
    return status ? status : plan_videos(model, asked, out);
}

static void place_text(vlci_prompt *out, int32_t id) {
    out->after_at[out->after++] = out->n;
    out->ids[out->n++] = id;
}

/* How far a prompt is laid out. */
typedef struct laying {
    int visual, grids, placed, images, videos, seen;
} laying;

/* `image`: the picture, or the frame, that the token shows. */
static void place_token(vlci_prompt *out, const vlci_picture_layout *layout, int image, int token,
                        laying *l) {
    const float *cell = layout->cell[token];
    if (!l->visual) out->after = 0; /* what stands before the first visual token does not see any */
    out->where[l->visual] = (vlcache_visual_token){out->n, image, cell[0], cell[1], cell[2], cell[3]};
    out->ids[out->n++] = -1 - l->visual++;
}

/* Whether entry `at` of a layout lies in front of grid `grid`, or there is no further one. */
static bool before_grid(const vlci_picture_layout *layout, int grid, int at) {
    return grid >= layout->n_grids || at < layout->grids[grid].first;
}

/* A layout's entries; those of a video count its grids as frames from `image` on. */
static void place_entries(vlci_prompt *out, int index, int image, bool video, laying *l) {
    const vlci_picture_layout *layout = &out->layout[index];
    int row = out->n, grid = 0;
    out->picture[l->placed] = (vlci_placed_picture){row, layout};
    out->shown[l->placed++] = index;
    for (int i = 0; i < layout->n_grids && !layout->aside; i++) {
        const vlci_layout_grid *g = &layout->grids[i];
        out->grids[l->grids++] = (vlci_token_grid){row + g->first, g->rows, g->columns, g->stride};
    }
    for (int i = 0; i < layout->n; i++) {
        int32_t entry = layout->entry[i];
        while (video && !before_grid(layout, grid + 1, i)) grid++;
        if (entry < 0)
            place_token(out, layout, image + grid, -1 - entry, l);
        else
            out->ids[out->n++] = entry; /* a mark of the picture's own, or a time: asks nothing */
    }
}

static void place_picture(vlci_prompt *out, laying *l) {
    int index = l->images++;
    place_entries(out, index, index, false, l);
}

/* A grid shows as many frames as come to each. */
static void place_video(vlci_prompt *out, laying *l) {
    int video = l->videos++, index = (int)out->n_images + video, grids = out->layout[index].n_grids;
    const vlci_clip *clip = &out->clip[video];
    int step = (clip->n + grids - 1) / grids;
    place_entries(out, index, (int)out->n_images + l->seen, true, l);
    for (int i = 0; i < grids; i++) {
        int frame = clip->frame[i * step];
        out->seen[l->seen++] = (vlcache_seen_frame){video, frame, frame / clip->fps};
    }
}

static vlcache_status lay_out(const vlcache_model *model, const vlci_turn *turn, const int32_t *ids, size_t n,
                              vlci_prompt *out) {
    const vlci_config *c = &model->config;
    bool videos = vlci_takes_videos(model);
    laying l = {0};
    size_t rows = n + 1 + (size_t)out->rows; /* a mark becomes its layout's entries */
    out->where = vlci_alloc((size_t)out->visual, sizeof *out->where);
    out->ids = vlci_alloc(rows, sizeof *out->ids);
    out->after_at = vlci_alloc(rows, sizeof *out->after_at);
    out->grids = vlci_alloc((size_t)out->n_grids, sizeof *out->grids);
    out->seen = vlci_alloc((size_t)out->n_seen, sizeof *out->seen);
    if (!out->where || !out->ids || !out->after_at || !out->grids || !out->seen)
        return vlci_fail_memory("prompt");
    if (turn->open >= 0) place_text(out, turn->open);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == c->image_token)
            place_picture(out, &l);
        else if (videos && ids[i] == c->video_token)
            place_video(out, &l);
        else
            place_text(out, ids[i]);
    }
    return out->n ? vlci_prompt_see(out)
                  : vlci_fail_field(VLCACHE_E_ARGUMENT, NULL, "prompt.text", "", "say something",
                                    "the prompt is empty");
}

/* ---- what is asked ------------------------------------------------------------------------------------- */

static vlcache_status check_videos(const vlcache_model *model, const vlcache_prompt *asked) {
    enum { MOST = 64 };
    if (!asked->n_videos) return VLCACHE_OK;
    if (!model->family->videos)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.n_videos", VLCI_VALUE("%zu", asked->n_videos),
                           "must be 0: models of the family %s take no videos%s", model->family->name,
                           model->config.eyes ? "; give it some frames as pictures" : "");
    if (model->config.video_token < 0)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.n_videos", VLCI_VALUE("%zu", asked->n_videos),
                           "must be 0: %s",
                           model->config.no_videos ? model->config.no_videos
                                                   : "this checkpoint's config.json names no video_token_id");
    if (!asked->videos || asked->n_videos > MOST)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, asked->videos ? "prompt.n_videos" : "prompt.videos",
                           VLCI_VALUE("%zu", asked->n_videos),
                           asked->videos ? "must be at most %d" : "is NULL", MOST);
    for (size_t i = 0; i < asked->n_videos; i++)
        if (!asked->videos[i])
            return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("prompt.videos[%zu]", i), NULL,
                               "is NULL: give a video");
    if (asked->video_frames > VLCACHE_VIDEO_MAX_FRAMES)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "prompt.video_frames",
                           VLCI_VALUE("%zu", asked->video_frames), "must be at most %d",
                           VLCACHE_VIDEO_MAX_FRAMES);
    if (asked->video_fps == 0 ||
        (asked->video_fps >= VLCACHE_VIDEO_MIN_FPS && asked->video_fps <= VLCACHE_VIDEO_MAX_FPS))
        return VLCACHE_OK;
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "prompt.video_fps", VLCI_VALUE("%g", asked->video_fps),
                       "must be from %g to %g, or 0", VLCACHE_VIDEO_MIN_FPS, VLCACHE_VIDEO_MAX_FPS);
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
    return check_videos(model, asked);
}

vlcache_status vlci_prompt_create(const vlcache_model *model, const vlcache_prompt *asked,
                                  const vlci_turn *turn, vlci_prompt *out) {
    int32_t *ids = NULL;
    size_t n = 0;
    *out = (vlci_prompt){0};
    vlcache_status status = check_prompt(model, asked);
    if (!status) status = plan(model, asked, out);
    if (!status) status = vlci_words_tokenize(model, asked, turn, out->clip, &ids, &n, &out->rewritten);
    if (!status) status = check_ids(model, ids, n);
    if (!status) status = check_marks(model, asked, ids, n);
    if (!status) status = lay_out(model, turn, ids, n, out);
    vlci_free(ids);
    if (status) vlci_prompt_release(out);
    return status;
}

void vlci_prompt_release(vlci_prompt *prompt) {
    for (size_t i = 0; i < prompt->n_images + prompt->n_videos; i++)
        vlci_picture_layout_release(&prompt->layout[i]);
    for (size_t i = 0; i < prompt->n_videos; i++) vlci_clip_release(&prompt->clip[i]);
    vlci_free(prompt->clip);
    vlci_free(prompt->shown);
    vlci_free(prompt->seen);
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
