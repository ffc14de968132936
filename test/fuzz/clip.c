/*
 * clip.c - settings of a model and of its video processor, and a video's numbers: which frames are seen, and
 * the rows that they become.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "models/clip.h"
#include "models/families.h"
#include "vlcache/video.h"

/* From 0 to 2^32 - 1. */
static unsigned whole(fuzz_input *in) {
    unsigned low = fuzz_number(in, 1 << 16);
    return low | fuzz_number(in, 1 << 16) << 16;
}

/* Between the bounds of rates, small ones as often as large ones; 0 now and then, where one may be left out.
 */
static double rate(fuzz_input *in, bool may_lack) {
    static const double usual[] = {
        1, 2, 24, 30000 / 1001.0, 0.1, 60, VLCACHE_VIDEO_MIN_FPS, VLCACHE_VIDEO_MAX_FPS};
    unsigned kind = fuzz_number(in, 16), number = 1 + fuzz_number(in, 1 << 16);
    if (may_lack && kind & 1) return 0;
    if (kind < 8) return usual[kind];
    double fps = kind < 12 ? number / 1000.0 : number / 66.0;
    return fps > VLCACHE_VIDEO_MAX_FPS ? VLCACHE_VIDEO_MAX_FPS : fps;
}

static void check_choice(const vlci_clip *clip) {
    FUZZ_HOLDS(clip->n >= 1 && clip->n <= clip->total);
    FUZZ_HOLDS(clip->frame[0] >= 0 && clip->frame[clip->n - 1] < clip->total);
    for (int i = 1; i < clip->n; i++) FUZZ_HOLDS(clip->frame[i] > clip->frame[i - 1]);
}

static void check_words(const vlci_watching *videos, const vlci_clip *clip) {
    char *text = NULL;
    if (!videos->write || videos->write(clip, &text)) return;
    const char *at = strstr(text, videos->token);
    FUZZ_HOLDS(at && !strstr(at + 1, videos->token));
    free(text);
}

/* Grids lie among the rows, one behind the other. */
static void check_layout(const vlci_config *config, const vlci_clip *clip) {
    vlci_picture_layout layout;
    if (config->family->videos->layout(config, clip, &layout)) return;
    int visual = 0, behind = 0;
    for (int i = 0; i < layout.n; i++) visual += layout.entry[i] < 0;
    FUZZ_HOLDS(visual == layout.n_tokens && layout.n_tokens >= 1);
    FUZZ_HOLDS(layout.n_grids >= 1 && layout.n_grids <= clip->n && layout.tiles == clip->n);
    for (int i = 0; i < layout.n_grids; i++) {
        const vlci_layout_grid *g = &layout.grids[i];
        FUZZ_HOLDS(g->first >= behind && g->rows >= 1 && g->columns >= 1 && g->stride >= g->columns);
        behind = g->first + (g->rows - 1) * g->stride + g->columns;
    }
    FUZZ_HOLDS(behind <= layout.n);
    vlci_picture_layout_release(&layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    vlci_config config;
    fuzz_write_text(&in, "config.json");
    fuzz_write_text(&in, "preprocessor_config.json");
    fuzz_write_text(&in, "video_preprocessor_config.json");
    fuzz_write_text(&in, "processor_config.json");
    vlci_clip clip = {.width = 1 + (int)fuzz_number(&in, 1 << 16),
                      .height = 1 + (int)fuzz_number(&in, 1 << 16)};
    clip.fps = rate(&in, false);
    clip.total = 1 + (int)(whole(&in) % VLCACHE_VIDEO_MAX_FRAMES);
    vlci_clip_asked asked = {.fps = rate(&in, true)};
    if (asked.fps == 0) asked.frames = (int)(whole(&in) % (VLCACHE_VIDEO_MAX_FRAMES + 1));
    vlcache_status status = vlci_config_load(fuzz_folder(), &config);
    const vlci_watching *videos = status ? NULL : config.family->videos;
    if (videos && config.video_token != -1 && !videos->choose(&config, &asked, &clip)) {
        check_choice(&clip);
        check_words(videos, &clip);
        FUZZ_HOLDS(videos->at_once(&config, &clip) >= 1);
        if (clip.n <= 4096) check_layout(&config, &clip); /* more is slow */
    }
    vlci_clip_release(&clip);
    vlci_config_release(&config);
    return 0;
}
