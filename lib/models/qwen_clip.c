/*
 * qwen_clip.c - clips of Qwen-VL: settings, sizes, layouts, and the look, some steps at a time.
 */
#include "models/qwen_clip.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/locale.h"
#include "models/entries.h"

/* ---- settings ------------------------------------------------------------------------------------------ */

const vlci_qwen_clip vlci_qwen2_clip = {.processor = VLCI_PROCESSOR_CLIP,
                                        .area = {.least = 128 * 28 * 28, .most = 28 * 28 * 768},
                                        .choice = {.fps = 2, .least = 4, .most = 768},
                                        .most_tokens = 128000};
const vlci_qwen_clip vlci_qwen3_clip = {.timed = true,
                                        .processor = {VLCI_PROCESSOR_HALVES, .resample = 3},
                                        .area = {.least = 128 * 32 * 32, .most = 32 * 32 * 768},
                                        .choice = {.fps = 2, .least = 4, .most = 768, .ends = true},
                                        .most_tokens = 768};

static vlcache_status check_same(const vlci_scope *scope, const char *key, int wanted) {
    int value = wanted;
    vlcache_status status = vlci_json_int(scope, key, 1, VLCI_MAX_WIDTH, &value);
    if (status || value == wanted) return status;
    return vlci_json_bad(scope, key, "is %d, the tower takes %d", value, wanted);
}

static vlcache_status read_processor(const vlci_scope *scope, const vlci_qwen_vl *eyes, vlci_qwen_clip *c) {
    vlcache_status status = check_same(scope, "patch_size", eyes->vision.patch);
    if (!status) status = check_same(scope, "merge_size", eyes->vision.merge);
    if (!status) status = check_same(scope, "temporal_patch_size", eyes->vision.step);
    if (!status) status = vlci_processor_read_values(scope, &c->processor);
    if (!status && !c->processor.resize)
        status = vlci_json_unsupported(scope, "do_resize", "false; the tower takes multiples of %d pixels",
                                       eyes->area.factor);
    if (!status) status = vlci_area_read(scope, &c->area);
    if (!status) status = vlci_json_bool(scope, "cap_pixels_per_frame", &c->capped);
    if (!status) status = vlci_json_int(scope, "max_video_tokens", 1, VLCI_AREA_MAX, &c->most_tokens);
    return status ? status : vlci_clip_read(scope, &c->choice);
}

vlcache_status vlci_qwen_clip_settings(vlci_hub *hub, const vlci_qwen_clip *usual, vlci_config *config) {
    vlci_qwen_vl *eyes = config->eyes;
    vlci_qwen_clip *c = &eyes->clip;
    vlci_scope vision, video;
    *c = *usual;
    c->area.factor = eyes->area.factor;
    c->choice.step = eyes->vision.step;
    vlcache_status status = vlci_config_read_video_token(&hub->config, 151656, config);
    if (!status) status = vlci_json_object(&hub->config, "vision_config", &vision);
    if (!status && c->ticks > 0) status = vlci_json_float(&vision, "tokens_per_second", 1e-6, 1e6, &c->ticks);
    if (!status) status = vlci_hub_video(hub, &video);
    return status ? status : read_processor(&video, eyes, c);
}

static vlcache_status choose(const vlci_config *config, const vlci_clip_asked *asked, vlci_clip *clip) {
    return vlci_clip_choose(&((const vlci_qwen_vl *)config->eyes)->clip.choice, asked, clip);
}

/* ---- sizes --------------------------------------------------------------------------------------------- */

static int steps_of(const vlci_qwen_vl *eyes, int frames) {
    return (frames + eyes->vision.step - 1) / eyes->vision.step;
}

/* Bounds of a frame's pixels: its own, or its share of what all have. */
static vlci_area bounds(const vlci_qwen_vl *eyes, const vlci_clip *clip) {
    const vlci_qwen_clip *c = &eyes->clip;
    vlci_area area = c->area;
    int64_t token = (int64_t)area.factor * area.factor, n = clip->n, most = area.most;
    int64_t floor_of_cap = (int64_t)(area.least * 1.05);
    if (c->by_frame) return area;
    if (c->capped && c->timed) {
        int64_t share = most / n < c->most_tokens * token ? most / n : c->most_tokens * token;
        most = (share > floor_of_cap ? share : floor_of_cap) * n;
    } else if (c->capped) {
        int64_t share = (int64_t)((double)c->most_tokens * (double)token * 0.9) * eyes->vision.step / n;
        most = share < most ? share : most;
        most = most > floor_of_cap ? most : floor_of_cap;
    }
    area.most = most < VLCI_AREA_MAX ? (int)most : VLCI_AREA_MAX;
    return area;
}

static vlcache_status fit(const vlci_qwen_vl *eyes, const vlci_clip *clip, vlci_view *view) {
    vlcache_status status = vlci_view_sides(clip->width, clip->height);
    const vlci_area area = bounds(eyes, clip);
    int frames = eyes->clip.timed && !eyes->clip.by_frame ? clip->n : 0;
    *view = (vlci_view){.canvas_width = clip->width, .canvas_height = clip->height};
    if (status) return status;
    status = frames ? vlci_area_fit_frames(&area, frames, eyes->vision.step, clip->width, clip->height,
                                           &view->width, &view->height)
                    : vlci_area_fit(&area, clip->width, clip->height, &view->width, &view->height);
    view->columns = view->width;
    view->rows = view->height;
    return status;
}

static int patches_of(const vlci_qwen_vl *eyes, const vlci_view *view) {
    return (view->width / eyes->vision.patch) * (view->height / eyes->vision.patch);
}

static int at_once(const vlci_config *config, const vlci_clip *clip) {
    const vlci_qwen_vl *eyes = config->eyes;
    vlci_view view;
    int patches = fit(eyes, clip, &view) ? 0 : patches_of(eyes, &view);
    return (patches ? vlci_clip_at_once(patches) : 1) * eyes->vision.step;
}

/* ---- layouts ------------------------------------------------------------------------------------------- */

/* "<1.5 seconds><|vision_start|>": the mean time of a step's first and last frame. */
static vlcache_status put_time(const vlci_qwen_vl *eyes, const vlci_clip *clip, int step, vlci_entries *e) {
    char text[96];
    int first = step * eyes->vision.step, last = first + eyes->vision.step - 1;
    if (last >= clip->n) last = clip->n - 1;
    double seconds = (clip->frame[first] / clip->fps + clip->frame[last] / clip->fps) / 2;
    vlci_snprintf(text, sizeof text, "%s<%.1f seconds><|vision_start|>", step ? "<|vision_end|>" : "",
                  seconds);
    return vlci_entries_text(e, text);
}

/* The entries of all steps, and where each begins: first[step]. */
static vlcache_status put_steps(const vlci_config *config, const vlci_clip *clip, int steps, int tokens,
                                vlci_entries *e, int *first) {
    const vlci_qwen_vl *eyes = config->eyes;
    vlcache_status status = VLCACHE_OK;
    for (int step = 0; step < steps && !status; step++) {
        if (eyes->clip.timed) status = put_time(eyes, clip, step, e);
        if (!status) status = vlci_entries_tokens(e, tokens, &first[step]);
    }
    return status || !eyes->clip.timed ? status : vlci_entries_text(e, "<|vision_end|>");
}

/* Ticks from a step to the next: single numbers, as transformers has them. */
static float pace(const vlci_qwen_vl *eyes, const vlci_clip *clip) {
    double sampled = (double)clip->n / clip->total * clip->fps;
    return eyes->clip.ticks > 0 ? eyes->clip.ticks * (float)(eyes->vision.step / sampled) : 1;
}

static vlcache_status layout(const vlci_config *config, const vlci_clip *clip, vlci_picture_layout *out) {
    const vlci_qwen_vl *eyes = config->eyes;
    vlci_entries e = {.tokenizer = config->tokenizer, .mark = "<|video_pad|>"};
    vlci_qwen_order order = {0};
    vlci_view view;
    int steps = steps_of(eyes, clip->n), *first = vlci_alloc((size_t)steps, sizeof *first);
    *out = (vlci_picture_layout){0};
    vlcache_status status = first ? fit(eyes, clip, &view) : vlci_fail_memory("layout of a video");
    if (status) goto done;
    const vlci_qwen_grid grid = vlci_qwen_tower_grid(&eyes->vision, 1, view.width, view.height);
    status = vlci_qwen_order_create(&grid, &order);
    if (!status) status = put_steps(config, clip, steps, order.tokens, &e, first);
    if (!status) status = vlci_entries_end(&e, steps, true, out);
    for (int step = 0; step < steps && !status; step++)
        vlci_qwen_vl_lay_step(eyes, &grid, order.block, &view, step, first[step], out);
    out->tiles = clip->n;
    out->pace = pace(eyes, clip);
done:
    vlci_qwen_order_release(&order);
    vlci_entries_release(&e);
    vlci_free(first);
    return status;
}

/* ---- the look ------------------------------------------------------------------------------------------ */

static vlcache_status prepare(const vlci_config *config, const vlci_clip *clip, vlcache_image *const *frames,
                              int n, vlci_pixels *out) {
    const vlci_qwen_vl *eyes = config->eyes;
    vlci_view view;
    *out = (vlci_pixels){0};
    vlcache_status status = fit(eyes, clip, &view);
    return status ? status : vlci_clip_prepare(&eyes->clip.processor, &view, frames, n, out);
}

/* A part of whole steps: each has its tokens in the order of the first step's. */
static vlcache_status look(const vlci_config *config, const vlci_clip *clip,
                           const vlci_picture_layout *layout_of, const vlci_pixels *pixels, int first,
                           cl_mem *tokens, int *n_tokens) {
    const vlci_qwen_vl *eyes = config->eyes;
    int per_step = layout_of->n_tokens / layout_of->n_grids;
    (void)clip, (void)first;
    *n_tokens = steps_of(eyes, pixels->tiles) * per_step;
    const vlci_picture_layout part = {.n_tokens = *n_tokens, .source = layout_of->source};
    return vlci_qwen_vl_look(config, pixels, &part, tokens);
}

const vlci_watching vlci_qwen_watching = {
    .mark = "<|video_pad|>",
    .choose = choose,
    .layout = layout,
    .at_once = at_once,
    .prepare = prepare,
    .look = look,
};
