/**
 * qwen_clip.h (internal) - how the families of Qwen-VL see videos: steps of two frames, each laid out as a
 * picture is.
 *
 *     Qwen2-VL, 2.5:  all steps in a row; the time of a position counts steps, or in 2.5 ticks of the clock
 *     Qwen3-VL:       "<1.5 seconds>" <|vision_start|> a step <|vision_end|> ...
 */
#ifndef VLCI_MODELS_QWEN_CLIP_H
#define VLCI_MODELS_QWEN_CLIP_H

#include "models/clip.h"
#include "models/qwen_vl.h"

/** Reads the settings of the video processor over those of a class, and where tokens_per_second is above 0
 * that of "vision_config"; config->eyes is there. Errors: those of vlci_family's settings(). */
vlcache_status vlci_qwen_clip_settings(vlci_hub *hub, const vlci_qwen_clip *usual, vlci_config *config);

/** What Qwen2VLVideoProcessor has, and Qwen3VLVideoProcessor. Frames are never all taken without being asked
 * for: where the processor samples nothing, 2 a second are, as in Qwen's own tools. */
extern const vlci_qwen_clip vlci_qwen2_clip, vlci_qwen3_clip;

extern const vlci_watching vlci_qwen_watching;

#endif
