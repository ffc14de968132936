/**
 * idefics3.h (internal) - Idefics3 as a family, and what SmolVLM has of it: all but videos.
 */
#ifndef VLCI_MODELS_IDEFICS3_H
#define VLCI_MODELS_IDEFICS3_H

#include "models/clip.h"
#include "models/eyes.h"

/** What config->eyes points to. */
typedef struct vlci_idefics3 {
    vlci_eyes all;
    int scale;      /**< patches a side of what becomes one visual token */
    int edge, tile; /**< pixels: the longest edge, a tile's side */
    bool split;
    vlci_processor frames;   /**< of videos, of SmolVLM: their values, */
    int frame_edge;          /**< longest edge of the first resize, */
    vlci_clip_choice choice; /**< and which of them are seen */
} vlci_idefics3;

extern const vlci_naming vlci_idefics3_names[];

/** Reads {"longest_edge"}, from 1 to `high`, and refuses any other size; absent, `*edge` stays. Errors:
 * VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED. */
vlcache_status vlci_idefics3_read_edge(const vlci_scope *scope, const char *key, int high, int *edge);

/** The longest edge to `edge`, up or down; the other one is made even, and is at least 1. */
void vlci_idefics3_scale(int edge, int *width, int *height);

/** Functions of vlci_family. */
vlcache_status vlci_idefics3_settings(vlci_hub *hub, vlci_config *config);
vlcache_status vlci_idefics3_load(vlci_upload *up, vlci_config *config);
vlcache_status vlci_idefics3_layout(const vlci_config *config, int width, int height,
                                    vlci_picture_layout *out);
vlcache_status vlci_idefics3_prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out);
vlcache_status vlci_idefics3_look(const vlci_config *config, const vlci_pixels *pixels,
                                  const vlci_picture_layout *layout, cl_mem *tokens);

/** What both families are, but for names, settings and videos. */
#define VLCI_IDEFICS3                                                                                        \
    .mark = "<image>", .names = vlci_idefics3_names, .load = vlci_idefics3_load,                             \
    .release = vlci_eyes_release, .describe = vlci_eyes_describe, .layout = vlci_idefics3_layout,            \
    .prepare = vlci_idefics3_prepare, .look = vlci_idefics3_look, .together = vlci_eyes_together,            \
    .positions = vlci_positions_count

extern const vlci_family vlci_family_idefics3;

#endif
