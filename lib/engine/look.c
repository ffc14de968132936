/*
 * look.c - a prompt's pictures and videos through the vision tower, in the order in which they stand in it.
 *
 *     pictures -> pixels -> visual tokens                          behind each other in `features`
 *     video -> frames, a part at a time -> pixels -> visual tokens
 *
 * Of a video no more frames are there at a time than are looked at together. Pictures of families that can
 * are looked at together, too, where that fills the device better.
 */
#include "core/alloc.h"
#include "core/clock.h"
#include "engine/prompt.h"

/* What is under way, and how far features go. */
typedef struct looking {
    const vlcache_model *model;
    const vlcache_prompt *asked;
    const vlci_prompt *prompt;
    vlcache_progress_fn progress;
    void *user;
    vlcache_timings *timings;
    cl_mem features;
    size_t at;
} looking;

/* Bytes of the features of n visual tokens, in all their sets. */
static size_t features_bytes(const vlcache_model *model, int n) {
    const vlci_text_config *c = &model->config.text;
    return (size_t)n * (size_t)(1 + c->deepstack) * (size_t)c->hidden * sizeof(float);
}

static vlcache_status go_on(const looking *l, const char *stage, size_t done, size_t total) {
    if (!l->progress || l->progress(l->user, stage, done, total)) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while %s", stage);
}

/* The tokens of a part, `status` how it was looked at; gives them back. */
static vlcache_status append(looking *l, vlcache_status status, cl_mem *tokens, int n, double prepared) {
    size_t bytes = features_bytes(l->model, n);
    if (!status) status = vlci_copy(l->model->device, *tokens, 0, l->features, l->at, bytes);
    if (!status) status = vlci_finish(l->model->device);
    l->at += bytes;
    l->timings->vision += vlci_clock_ms() - prepared;
    vlci_memory_release(l->model->device, tokens);
    return status;
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

/* Tiles that are looked at together, at most: as many as fill a device. A processor is full with one, whose
 * progress is told sooner. */
enum { TILES_TOGETHER = 16 };

static const vlci_family *family_of(const looking *l) {
    return vlci_family_among(l->model->family, l->prompt->n_images);
}

static const vlci_picture_layout *layout_at(const looking *l, int item) {
    return &l->prompt->layout[l->prompt->shown[item]];
}

static bool is_picture(const looking *l, int item) {
    return l->prompt->shown[item] < (int)l->prompt->n_images;
}

/* How many pictures from `item` on, and before `end`, are looked at together. */
static int together(const looking *l, int item, int end) {
    int n = 1, tiles = layout_at(l, item)->tiles;
    if (!family_of(l)->together || l->model->device->caps.wide_vectors) return 1;
    for (; n < TILES_TOGETHER && item + n < end && is_picture(l, item + n); n++) {
        tiles += layout_at(l, item + n)->tiles;
        if (tiles > TILES_TOGETHER) break;
    }
    return n;
}

static vlcache_status prepare_picture(const looking *l, int item, vlci_pixels *out) {
    int index = l->prompt->shown[item];
    vlcache_status status = go_on(l, "looking at pictures", (size_t)index, l->prompt->n_images);
    return status ? status : family_of(l)->prepare(&l->model->config, l->asked->images[index], out);
}

/* n > 1: their pixels and layouts as one. */
static vlcache_status prepare_pictures(const looking *l, int item, int n, vlci_pixels *pixels,
                                       vlci_picture_layout *layout) {
    vlci_pixels part[TILES_TOGETHER] = {{0}};
    const vlci_picture_layout *layouts[TILES_TOGETHER];
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n && !status; i++) {
        layouts[i] = layout_at(l, item + i);
        status = prepare_picture(l, item + i, &part[i]);
    }
    if (!status) status = vlci_pixels_join(part, n, pixels);
    if (!status)
        status = vlci_picture_layout_join(layouts, n, family_of(l)->together(&l->model->config), layout);
    for (int i = 0; i < n; i++) vlci_pixels_release(&part[i]);
    return status;
}

static vlcache_status look_at_pictures(looking *l, int item, int n) {
    vlci_pixels pixels = {0};
    vlci_picture_layout joined = {0};
    cl_mem tokens = NULL;
    double start = vlci_clock_ms();
    vlcache_status status =
        n > 1 ? prepare_pictures(l, item, n, &pixels, &joined) : prepare_picture(l, item, &pixels);
    const vlci_picture_layout *layout = n > 1 ? &joined : layout_at(l, item);
    double prepared = vlci_clock_ms();
    l->timings->image += prepared - start;
    if (!status) status = family_of(l)->look(&l->model->config, &pixels, layout, &tokens);
    status = append(l, status, &tokens, layout->n_tokens + layout->n_unseen, prepared);
    vlci_picture_layout_release(&joined);
    vlci_pixels_release(&pixels);
    return status;
}

/* ---- videos -------------------------------------------------------------------------------------------- */

static vlcache_status read_frames(const looking *l, int index, int first, int n, vlcache_image **frames) {
    const vlci_clip *clip = &l->prompt->clip[index];
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n && !status; i++) {
        status = go_on(l, "looking at a video", (size_t)(first + i), (size_t)clip->n);
        if (!status)
            status = vlcache_video_frame(l->asked->videos[index], clip->frame[first + i], &frames[i]);
    }
    return status;
}

/* Frames first .. first + n - 1 of the clip, in room for as many. */
static vlcache_status look_at_frames(looking *l, int index, int first, int n, vlcache_image **frames) {
    const vlci_watching *videos = l->model->family->videos;
    const vlci_clip *clip = &l->prompt->clip[index];
    const vlci_picture_layout *layout = &l->prompt->layout[l->prompt->n_images + (size_t)index];
    vlci_pixels pixels = {0};
    cl_mem tokens = NULL;
    int n_tokens = 0;
    double start = vlci_clock_ms();
    vlcache_status status = read_frames(l, index, first, n, frames);
    if (!status) status = videos->prepare(&l->model->config, clip, frames, n, &pixels);
    double prepared = vlci_clock_ms();
    l->timings->image += prepared - start;
    if (!status) status = videos->look(&l->model->config, clip, layout, &pixels, first, &tokens, &n_tokens);
    status = append(l, status, &tokens, n_tokens, prepared);
    vlci_pixels_release(&pixels);
    for (int i = 0; i < n; i++) vlcache_image_destroy(&frames[i]);
    return status;
}

/* Frames from .. to - 1 of the clip. */
static vlcache_status look_at_video(looking *l, int index, int from, int to) {
    const vlci_clip *clip = &l->prompt->clip[index];
    int part = l->model->family->videos->at_once(&l->model->config, clip);
    vlcache_image **frames = vlci_calloc((size_t)part, sizeof *frames);
    vlcache_status status = frames ? VLCACHE_OK : vlci_fail_memory("frames of a video");
    for (int first = from; first < to && !status; first += part)
        status = look_at_frames(l, index, first, to - first < part ? to - first : part, frames);
    if (!status) status = go_on(l, "looking at a video", (size_t)to, (size_t)clip->n);
    vlci_free(frames);
    return status;
}

/* ---- all ----------------------------------------------------------------------------------------------- */

/* Item `item`, as far as the range goes; `*n`: how many items it was with those behind it. */
static vlcache_status look_at_item(looking *l, const vlci_look_range *range, int item, int *n) {
    *n = is_picture(l, item) ? together(l, item, range->end_item) : 1;
    if (is_picture(l, item)) return look_at_pictures(l, item, *n);
    int index = l->prompt->shown[item] - (int)l->prompt->n_images;
    int from = item == range->item ? range->frame : 0;
    return look_at_video(l, index, from,
                         item == range->end_item ? range->end_frame : l->prompt->clip[index].n);
}

vlcache_status vlci_prompt_look_range(const vlcache_model *model, const vlcache_prompt *asked,
                                      const vlci_prompt *prompt, const vlci_look_range *range,
                                      vlcache_progress_fn progress, void *user, vlcache_timings *timings,
                                      cl_mem *features) {
    looking l = {.model = model,
                 .asked = asked,
                 .prompt = prompt,
                 .progress = progress,
                 .user = user,
                 .timings = timings};
    *features = NULL;
    if (!range->n_tokens) return VLCACHE_OK;
    vlcache_status status = vlci_memory_create(model->device, features_bytes(model, range->n_tokens),
                                               "visual tokens", &l.features);
    for (int item = range->item, n = 1; item <= range->end_item && !status; item += n)
        if (item < range->end_item || range->end_frame) status = look_at_item(&l, range, item, &n);
    if (status) vlci_memory_release(model->device, &l.features);
    *features = l.features;
    return status;
}

vlcache_status vlci_prompt_look(const vlcache_model *model, const vlcache_prompt *asked,
                                const vlci_prompt *prompt, vlcache_progress_fn progress, void *user,
                                vlcache_timings *timings, cl_mem *features) {
    const vlci_look_range all = {.end_item = (int)(prompt->n_images + prompt->n_videos),
                                 .n_tokens = prompt->features};
    vlcache_status status =
        vlci_prompt_look_range(model, asked, prompt, &all, progress, user, timings, features);
    if (status || !prompt->n_images || !progress) return status;
    if (progress(user, "looking at pictures", prompt->n_images, prompt->n_images)) return VLCACHE_OK;
    vlci_memory_release(model->device, features);
    return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while looking at pictures");
}
