/**
 * vision.h (internal) - the CLIP vision transformer: pixels to patch features, and on through the projector
 * to visual tokens.
 */
#ifndef VLCI_MODELS_VISION_H
#define VLCI_MODELS_VISION_H

#include "models/model.h"
#include "picture/image.h"

/**
 * Runs the tower up to the configured feature layer. pixels: host f32 [tiles][3][side][side].
 * `*features`: new device memory, f32 [tiles][1 + patches][hidden], class token first. Errors: the device's.
 */
vlcache_status vlci_vision_run(const vlcache_model *model, const float *pixels, int tiles, cl_mem *features);

/**
 * Selects the tokens that the config keeps (with or without the class token) and projects them.
 * `*selected` (may be NULL): the tower's rows as selected; `*projected`: f32 [tiles * tokens][text hidden].
 * New memory.
 */
vlcache_status vlci_projector_run(const vlcache_model *model, cl_mem features, int tiles, cl_mem *selected,
                                  cl_mem *projected);

/** Puts projected rows and newlines into prompt order: out [plan->n_tokens][text hidden], new memory. */
vlcache_status vlci_projector_arrange(const vlcache_model *model, cl_mem projected,
                                      const vlci_image_plan *plan, cl_mem *out);

#endif
