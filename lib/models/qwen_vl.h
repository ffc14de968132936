/**
 * qwen_vl.h (internal) - what the families Qwen2-VL, Qwen2.5-VL and Qwen3-VL share: all but the numbers and
 * the names of their towers.
 */
#ifndef VLCI_MODELS_QWEN_VL_H
#define VLCI_MODELS_QWEN_VL_H

#include "models/clip.h"
#include "models/config.h"
#include "models/qwen_tower.h"
#include "picture/area.h"
#include "picture/prepare.h"

/** How videos are seen: qwen_clip.h. */
typedef struct vlci_qwen_clip {
    vlci_processor processor;
    vlci_area area; /**< of a frame, or where timed of all frames together */
    vlci_clip_choice choice;
    bool timed;      /**< each step stands behind its time as text */
    float ticks;     /**< what the time of positions goes on by in a second; 0: it counts steps */
    bool by_frame;   /**< area is of a frame although they are timed: the caller has bounded it */
    bool capped;     /**< most_tokens bounds pixels, too */
    int most_tokens; /**< of all frames, or where timed of one */
} vlci_qwen_clip;

/** What config->eyes points to. */
typedef struct vlci_qwen_vl {
    vlci_qwen_tower_config vision;
    vlci_processor processor;
    vlci_area area;
    vlci_qwen_clip clip;
    vlci_qwen_tower tower; /**< loaded */
} vlci_qwen_vl;

/** Tensors' names: what transformers 5 saves, and hub folders before. */
extern const vlci_naming vlci_qwen_vl_names[];

/**
 * Reads the settings over those of a class: `vision` holds its defaults, `type` is the family's name, and
 * `more` (may be NULL) reads what only this family's "vision_config" has, before all is checked. Errors:
 * those of vlci_family's settings().
 */
vlcache_status vlci_qwen_vl_settings(vlci_hub *hub, const char *type, const vlci_qwen_tower_config *vision,
                                     vlcache_status (*more)(const vlci_scope *vision,
                                                            vlci_qwen_tower_config *config),
                                     vlci_config *config);

/** Step `step` of a layout, its grid of one step in reading order from entry `first` on: `block` is the order
 * of its tokens in the tower (vlci_qwen_order), `view` what the whole step shows. */
void vlci_qwen_vl_lay_step(const vlci_qwen_vl *eyes, const vlci_qwen_grid *grid, const int32_t *block,
                           const vlci_view *view, int step, int first, vlci_picture_layout *out);

/** The other functions of the families. */
vlcache_status vlci_qwen_vl_load(vlci_upload *up, vlci_config *config);
void vlci_qwen_vl_release(vlci_config *config);
void vlci_qwen_vl_describe(const vlci_config *config, vlcache_model_info *info);
vlcache_status vlci_qwen_vl_bound(vlci_config *config, int least, int most);
vlcache_status vlci_qwen_vl_layout(const vlci_config *config, int width, int height,
                                   vlci_picture_layout *out);
vlcache_status vlci_qwen_vl_prepare(const vlci_config *config, const vlcache_image *image, vlci_pixels *out);
vlcache_status vlci_qwen_vl_look(const vlci_config *config, const vlci_pixels *pixels,
                                 const vlci_picture_layout *layout, cl_mem *tokens);
void vlci_qwen_vl_positions(const vlci_config *config, const vlci_placed_picture *pictures, size_t n_pictures,
                            int32_t start, int n, int32_t (*position)[3], int32_t *next);

/** A row of these families, but for its name and settings(). */
#define VLCI_QWEN_VL                                                                                         \
    .mark = "<|image_pad|>", .names = vlci_qwen_vl_names, .load = vlci_qwen_vl_load,                         \
    .release = vlci_qwen_vl_release, .describe = vlci_qwen_vl_describe, .bound = vlci_qwen_vl_bound,         \
    .layout = vlci_qwen_vl_layout, .prepare = vlci_qwen_vl_prepare, .look = vlci_qwen_vl_look,               \
    .positions = vlci_qwen_vl_positions, .videos = &vlci_qwen_watching

#endif
