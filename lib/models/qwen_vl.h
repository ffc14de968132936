/**
 * qwen_vl.h (internal) - what the families Qwen2-VL, Qwen2.5-VL and Qwen3-VL share: all but the numbers and
 * the names of their towers.
 */
#ifndef VLCI_MODELS_QWEN_VL_H
#define VLCI_MODELS_QWEN_VL_H

#include "models/config.h"
#include "models/qwen_tower.h"
#include "picture/area.h"
#include "picture/prepare.h"

/** What config->eyes points to. */
typedef struct vlci_qwen_vl {
    vlci_qwen_tower_config vision;
    vlci_processor processor;
    vlci_area area;
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

#endif
