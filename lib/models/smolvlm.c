/*
 * smolvlm.c - the family of SmolVLM: Idefics3's pictures, and videos whose frames have their times in words.
 *
 *     frame:  its longest edge to `size`, then squeezed to one tile
 *     words:  You are provided the following series of six frames from a 0:00:03 [H:MM:SS] video.(newline)
 *             (newline)Frame from 00:00:[frame](newline)Frame from 00:01:[frame]...(two newlines)
 *     frame:  <fake_token_around_image><global-img> tokens <fake_token_around_image>
 *
 * What stands in front of the first frame and behind the last joins the words beside it, and is made tokens
 * with them; a video's layout is what lies between. Of several videos in one prompt each is told its own
 * number of frames, where transformers, which fills the shorter ones up, tells all that of the longest.
 */
#include "models/smolvlm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "models/entries.h"
#include "models/idefics3.h"
#include "vlcache/video.h"

#define AROUND "<fake_token_around_image>"

/* ---- settings ------------------------------------------------------------------------------------------ */

/* "video_sampling" of hub folders goes before what stands beside it, but for the size. */
static vlcache_status read_sampling(const vlci_scope *scope, vlci_idefics3 *eyes) {
    vlci_scope sampling;
    vlcache_status status = vlci_json_object(scope, "video_sampling", &sampling);
    if (status || !sampling.object) return status;
    if (!vlci_json_value(scope, "size"))
        status = vlci_idefics3_read_edge(&sampling, "video_size", 1 << 20, &eyes->frame_edge);
    if (!status)
        status = vlci_json_int(&sampling, "max_frames", 1, VLCACHE_VIDEO_MAX_FRAMES, &eyes->choice.frames);
    return status ? status : vlci_clip_read_fps(&sampling, &eyes->choice.fps);
}

/* Whether frames are chosen at all ("do_sample_frames") is not looked at: transformers' chats always do. */
static vlcache_status read_frames(const vlci_scope *scope, vlci_idefics3 *eyes, int *tile) {
    vlcache_status status = vlci_processor_read_values(scope, &eyes->frames);
    if (!status) status = vlci_idefics3_read_edge(scope, "size", 1 << 20, &eyes->frame_edge);
    if (!status) status = vlci_idefics3_read_edge(scope, "max_image_size", 1 << 20, tile);
    if (!status)
        status = vlci_json_int(scope, "num_frames", 1, VLCACHE_VIDEO_MAX_FRAMES, &eyes->choice.frames);
    if (!status) status = vlci_clip_read_fps(scope, &eyes->choice.fps);
    return status ? status : read_sampling(scope, eyes);
}

/* Frames that do not become what the tower takes leave the checkpoint without videos. */
static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlci_scope video;
    vlcache_status status = vlci_idefics3_settings(hub, config);
    if (!status) status = vlci_hub_video(hub, &video);
    if (status) return status;
    vlci_idefics3 *eyes = config->eyes;
    int tile = video.object ? 364 : eyes->tile;
    eyes->frames = (vlci_processor){VLCI_PROCESSOR_HALVES, .resample = 1};
    eyes->frame_edge = 4 * 364;
    eyes->choice = (vlci_clip_choice){.both = true, .step = 1};
    status = read_frames(&video, eyes, &tile);
    bool fits = eyes->frames.resize && tile == eyes->tile;
    config->video_token = fits ? VLCI_TOKEN_OF_MARK : -1;
    config->no_videos = fits ? "there is no tokenizer with the token " AROUND
                             : "this checkpoint's video processor makes frames that its tower does not take";
    return status;
}

/* ---- words --------------------------------------------------------------------------------------------- */

enum { NAME = 128 }; /* bytes of a number in words, or of a time */

/* Appends to a text in room for NAME bytes. */
static void append(char *text, const char *more) {
    size_t n = strlen(text);
    snprintf(text + n, NAME - n, "%s", more);
}

/* From 1 to 99. */
static void name_tens(int n, char *text) {
    static const char *const small[] = {"",        "one",     "two",       "three",    "four",
                                        "five",    "six",     "seven",     "eight",    "nine",
                                        "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                        "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
    static const char *const tens[] = {"",      "",      "twenty",  "thirty", "forty",
                                       "fifty", "sixty", "seventy", "eighty", "ninety"};
    if (n >= 20) append(text, tens[n / 10]);
    if (n >= 20 && n % 10) append(text, "-");
    append(text, small[n < 20 ? n : n % 10]);
}

/* From 1 to 999: "one hundred and twenty-eight". */
static void name_hundreds(int n, char *text) {
    if (n >= 100) {
        name_tens(n / 100, text);
        append(text, n % 100 ? " hundred and " : " hundred");
    }
    name_tens(n % 100, text);
}

/* As num2words has it: "twelve thousand, three hundred and one", "one thousand and one". */
static void name_number(int n, char text[static NAME]) {
    static const char *const powers[] = {" million", " thousand", ""};
    int rest = n;
    text[0] = 0;
    for (int power = 1000000, i = 0; rest; power /= 1000, i++) {
        int part = rest / power;
        rest %= power;
        if (!part) continue;
        if (text[0]) append(text, power == 1 && part < 100 ? " and " : ", ");
        name_hundreds(part, text);
        append(text, powers[i]);
    }
}

/* As Python shows a timedelta of whole seconds: "0:01:05", "1 day, 0:00:00". */
static void name_length(double seconds, char text[static NAME]) {
    int64_t all = (int64_t)seconds, days = all / 86400;
    int of_day = (int)(all % 86400);
    text[0] = 0;
    if (days) snprintf(text, NAME, "%lld day%s, ", (long long)days, days == 1 ? "" : "s");
    size_t n = strlen(text);
    snprintf(text + n, NAME - n, "%d:%02d:%02d", of_day / 3600, of_day / 60 % 60, of_day % 60);
}

/* "\nFrame from 01:05:" */
static void name_frame(const vlci_clip *clip, int i, char text[static NAME]) {
    double seconds = clip->frame[i] / clip->fps, over = fmod(seconds, 60);
    snprintf(text, NAME, "\nFrame from %02d:%02d:", (int)rint((seconds - over) / 60), (int)over);
}

static vlcache_status write_words(const vlci_clip *clip, char **text) {
    char count[NAME], length[NAME], first[NAME];
    name_number(clip->n, count);
    name_length(clip->total / clip->fps, length);
    name_frame(clip, 0, first);
    *text =
        vlci_format("You are provided the following series of %s frames from a %s [H:MM:SS] video.\n%s" AROUND
                    "\n\n",
                    count, length, first);
    return *text ? VLCACHE_OK : vlci_fail_memory("words around a video");
}

/* ---- videos -------------------------------------------------------------------------------------------- */

enum { LARGEST_EDGE = 4096 }; /* of a resize */

static vlcache_status choose(const vlci_config *config, const vlci_clip_asked *asked, vlci_clip *clip) {
    return vlci_clip_choose(&((const vlci_idefics3 *)config->eyes)->choice, asked, clip);
}

static int at_once(const vlci_config *config, const vlci_clip *clip) {
    (void)clip;
    return vlci_clip_at_once(vlci_vit_rows(&((const vlci_idefics3 *)config->eyes)->all.vision));
}

/* All frames; first[frame] is the entry of its first token. */
static vlcache_status put_frames(const vlci_clip *clip, int tokens, vlci_entries *e, int *first) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < clip->n && !status; i++) {
        char name[NAME] = "", text[2 * NAME];
        if (i) name_frame(clip, i, name);
        snprintf(text, sizeof text, "%s%s" AROUND "<global-img>", i ? AROUND : "", name);
        status = vlci_entries_text(e, text);
        if (!status) status = vlci_entries_tokens(e, tokens, &first[i]);
    }
    return status ? status : vlci_entries_text(e, AROUND);
}

static vlcache_status layout(const vlci_config *config, const vlci_clip *clip, vlci_picture_layout *out) {
    const vlci_idefics3 *eyes = config->eyes;
    const vlci_layout_square square = {.side = vlci_vit_side(&eyes->all.vision) / eyes->scale,
                                       .size = eyes->all.vision.patch_size * eyes->scale};
    const vlci_view view = vlci_view_squeeze(clip->width, clip->height, eyes->tile, eyes->tile);
    return vlci_clip_layout(config, clip, square, &view, put_frames, out);
}

static vlcache_status prepare_frame(const vlci_idefics3 *eyes, const vlcache_image *frame, int i,
                                    vlci_pixels *out) {
    int width, height, how = eyes->frames.resample;
    vlci_rgb first = {0}, tile = {0};
    vlcache_image_size(frame, &width, &height);
    int to_width = width, to_height = height;
    vlci_idefics3_scale(eyes->frame_edge < LARGEST_EDGE ? eyes->frame_edge : LARGEST_EDGE, &to_width,
                        &to_height);
    vlcache_status status =
        vlci_rgb_squeeze(vlcache_image_pixels(frame), width, height, how, to_width, to_height, &first);
    if (!status)
        status = vlci_rgb_squeeze(first.data, to_width, to_height, how, eyes->tile, eyes->tile, &tile);
    if (!status) vlci_pixels_cut(&eyes->frames, &tile, i, out);
    vlci_rgb_release(&tile);
    vlci_rgb_release(&first);
    return status;
}

static vlcache_status prepare(const vlci_config *config, const vlci_clip *clip, vlcache_image *const *frames,
                              int n, vlci_pixels *out) {
    const vlci_idefics3 *eyes = config->eyes;
    (void)clip;
    vlcache_status status = vlci_pixels_create(n, eyes->tile, eyes->tile, out);
    for (int i = 0; i < n && !status; i++) status = prepare_frame(eyes, frames[i], i, out);
    if (status) vlci_pixels_release(out);
    return status;
}

static vlcache_status look(const vlci_config *config, const vlci_clip *clip, const vlci_picture_layout *whole,
                           const vlci_pixels *pixels, int first, cl_mem *tokens, int *n_tokens) {
    (void)first;
    *n_tokens = whole->n_tokens / clip->n * pixels->tiles;
    const vlci_picture_layout part = {.n_tokens = *n_tokens};
    return vlci_idefics3_look(config, pixels, &part, tokens);
}

/* A space in front of what is no picture; an end behind each message. */
static const char chat[] =
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}:{% if m.content is string %}"
    "{{ ' ' + m.content }}{% else %}{{ '' if m.content[0].type == 'image' else ' ' }}"
    "{% for c in m.content %}{{ '<image>' if c.type == 'image' else '<video>' if c.type == 'video' else "
    "c.text }}"
    "{% endfor %}{% endif %}"
    "<end_of_utterance>\n{% endfor %}{{ 'Assistant:' if add_generation_prompt else '' }}";

static const vlci_watching watching = {
    .mark = "<video>",
    .token = AROUND,
    .chat = chat,
    .choose = choose,
    .write = write_words,
    .layout = layout,
    .at_once = at_once,
    .prepare = prepare,
    .look = look,
};

const vlci_family vlci_family_smolvlm = {
    .name = "smolvlm",
    .settings = settings,
    VLCI_IDEFICS3,
    .videos = &watching,
};
