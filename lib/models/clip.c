/*
 * clip.c - which frames of a video are seen, and what the families' ways of seeing them share.
 *
 *     by rate:    n = frames / fps of the video * fps asked for, between least and most, down to whole steps
 *     parts:      frame i = i * frames / n, cut        ends:  i * (frames - 1) / (n - 1), to the nearest
 *     middle:     (i + 1 / 2) * frames / n, cut
 *     both:       n = seconds * fps asked for, to the nearest, at most so many;
 *                 first + i * (last - first) / (n - 1), cut, each frame once
 */
#include "models/clip.h"

#include <math.h>

#include "core/alloc.h"
#include "models/config.h"
#include "vlcache/video.h"

enum { PART_PATCHES = 1 << 14 }; /* of a look */

vlcache_status vlci_clip_read_fps(const vlci_scope *scope, double *fps) {
    const json_t *value = vlci_json_value(scope, "fps");
    float checked;
    vlcache_status status =
        vlci_json_float(scope, "fps", VLCACHE_VIDEO_MIN_FPS, VLCACHE_VIDEO_MAX_FPS, &checked);
    if (!status && value) *fps = json_number_value(value);
    return status;
}

vlcache_status vlci_clip_read(const vlci_scope *scope, vlci_clip_choice *choice) {
    bool samples = true;
    double fps = choice->fps;
    int frames = 0, most = VLCACHE_VIDEO_MAX_FRAMES;
    vlcache_status status = vlci_json_bool(scope, "do_sample_frames", &samples);
    if (!status) status = vlci_clip_read_fps(scope, &fps);
    if (!status) status = vlci_json_int(scope, "num_frames", 1, most, &frames);
    if (!status) status = vlci_json_int(scope, "min_frames", 1, most, &choice->least);
    if (!status) status = vlci_json_int(scope, "max_frames", 1, most, &choice->most);
    if (status || !samples) return status;
    choice->fps = frames ? 0 : fps;
    choice->frames = frames;
    return VLCACHE_OK;
}

vlcache_status vlci_clip_read_squares(const vlci_scope *scope, int side, vlci_processor *p,
                                      vlci_clip_choice *choice, vlci_config *config) {
    *p = (vlci_processor)VLCI_PROCESSOR_CLIP;
    p->crop = false;
    p->shortest_edge = 0;
    p->resize_width = p->resize_height = scope->object ? 384 : side;
    vlcache_status status = vlci_processor_read(scope, p);
    if (!status) status = vlci_clip_read(scope, choice);
    if (status || (p->resize && !p->crop && p->resize_width == side && p->resize_height == side))
        return status;
    config->video_token = -1;
    config->no_videos = "this checkpoint's video processor makes frames that its tower does not take";
    return VLCACHE_OK;
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int whole_steps(double frames, int step) {
    return (int)floor(frames / step) * step;
}

/* By rate: at least `least`, at most `most`, never more than there are. */
static int count_by_rate(const vlci_clip_choice *c, double fps, const vlci_clip *clip) {
    double n = clip->total / clip->fps * fps;
    if (c->ends) n = floor(n);
    int most = smaller(c->ends ? c->most : whole_steps(smaller(c->most, clip->total), c->step), clip->total);
    if (n < c->least) n = c->least;
    return c->ends ? (int)fmin(n, most) : whole_steps(fmin(n, most), c->step);
}

static int count(const vlci_clip_choice *c, const vlci_clip_asked *asked, const vlci_clip *clip) {
    int frames = asked->frames ? asked->frames : asked->fps > 0 ? 0 : c->frames;
    double fps = asked->fps > 0 ? asked->fps : c->fps;
    int n = !frames && fps > 0 ? count_by_rate(c, fps, clip) : clip->total;
    if (frames) n = smaller(c->ends ? frames : (int)rint((double)frames / c->step) * c->step, clip->total);
    return n < 1 ? 1 : n;
}

static int frame_at(const vlci_clip_choice *c, const vlci_clip *clip, int i) {
    if (c->ends) return clip->n > 1 ? (int)rint(i * ((clip->total - 1) / (double)(clip->n - 1))) : 0;
    double part = clip->total / (double)clip->n;
    if (c->middle) return smaller((int)(float)(part / 2 + i * part), clip->total - 1);
    if (c->step == 1) return (int)((int64_t)i * clip->total / clip->n);
    return smaller((int)(float)(i * (clip->total / (double)clip->n)), clip->total - 1);
}

/* ---- by rate and number -------------------------------------------------------------------------------- */

/* From which frame to which, and how many there should be; more than lie between is all of them. */
typedef struct stretch {
    int first, last;
    double n;
} stretch;

static stretch stretch_of(const vlci_clip_choice *c, const vlci_clip_asked *asked, const vlci_clip *clip) {
    double fps = asked->fps > 0 ? asked->fps : c->fps, seconds = clip->total / clip->fps;
    int most = asked->frames ? asked->frames : c->frames;
    stretch s = {0, clip->total - 1, fps > 0 ? rint(fps * seconds) : clip->total};
    if (most && s.n > most) s.n = most;
    if (s.n < 1) s.n = 1;
    if (!most || !(fps > 0) || seconds - 2 <= most * fps) return s;
    int first = (int)clip->fps, last = (int)(clip->total - clip->fps);
    if (last > s.last) last = s.last;
    if (first < last) s.first = first, s.last = last;
    return s;
}

static vlcache_status choose_both(const vlci_clip_choice *c, const vlci_clip_asked *asked, vlci_clip *clip) {
    const stretch s = stretch_of(c, asked, clip);
    int between = s.last - s.first + 1, n = s.n < between ? (int)s.n : between;
    double step = n > 1 ? (s.last - s.first) / (double)(n - 1) : 0;
    clip->n = 0;
    clip->frame = vlci_alloc((size_t)n, sizeof *clip->frame);
    if (!clip->frame) return vlci_fail_memory("frames of a video");
    for (int i = 0; i < n; i++) {
        int frame = i && i == n - 1 ? s.last : (int)(i * step + s.first);
        if (!i || frame > clip->frame[clip->n - 1]) clip->frame[clip->n++] = frame;
    }
    return VLCACHE_OK;
}

/* ---- the choice ---------------------------------------------------------------------------------------- */

vlcache_status vlci_clip_choose(const vlci_clip_choice *choice, const vlci_clip_asked *asked,
                                vlci_clip *clip) {
    if (choice->both) return choose_both(choice, asked, clip);
    clip->n = count(choice, asked, clip);
    clip->frame = vlci_alloc((size_t)clip->n, sizeof *clip->frame);
    if (!clip->frame) return vlci_fail_memory("frames of a video");
    for (int i = 0; i < clip->n; i++) clip->frame[i] = frame_at(choice, clip, i);
    return VLCACHE_OK;
}

vlcache_status vlci_clip_layout(const vlci_config *config, const vlci_clip *clip, vlci_layout_square square,
                                const vlci_view *view,
                                vlcache_status (*put)(const vlci_clip *clip, int tokens,
                                                      vlci_entries *entries, int *first),
                                vlci_picture_layout *out) {
    vlci_entries entries = {.tokenizer = config->tokenizer, .mark = config->family->mark};
    int tokens = square.side * square.side, *first = vlci_alloc((size_t)clip->n, sizeof *first);
    *out = (vlci_picture_layout){0};
    vlcache_status status = first ? VLCACHE_OK : vlci_fail_memory("layout of a video");
    if (!status) status = vlci_view_sides(clip->width, clip->height);
    if (!status) status = put(clip, tokens, &entries, first);
    if (!status) status = vlci_entries_end(&entries, clip->n, false, out);
    for (int i = 0; i < clip->n && !status; i++) {
        square.entry = first[i];
        square.token = i * tokens;
        vlci_picture_layout_square(out, i, &square, view, clip->width, clip->height);
    }
    out->tiles = clip->n;
    vlci_entries_release(&entries);
    vlci_free(first);
    return status;
}

int vlci_clip_at_once(int patches) {
    return patches < PART_PATCHES ? PART_PATCHES / patches : 1;
}

vlcache_status vlci_clip_prepare(const vlci_processor *processor, const vlci_view *view,
                                 vlcache_image *const *frames, int n, vlci_pixels *out) {
    vlcache_status status = vlci_pixels_create(n, view->columns, view->rows, out);
    for (int i = 0; i < n && !status; i++) status = vlci_pixels_fill(processor, frames[i], view, i, out);
    if (status) vlci_pixels_release(out);
    return status;
}

void vlci_clip_release(vlci_clip *clip) {
    vlci_free(clip->frame);
    *clip = (vlci_clip){0};
}
