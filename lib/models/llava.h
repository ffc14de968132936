/**
 * llava.h (internal) - LLaVA-1.5 as a family, and what LLaVA-NeXT shares with it.
 */
#ifndef VLCI_MODELS_LLAVA_H
#define VLCI_MODELS_LLAVA_H

#include "models/clip.h"
#include "models/config.h"
#include "models/projector.h"
#include "models/vit.h"
#include "picture/prepare.h"

extern const vlci_family vlci_family_llava;

/** What config->eyes points to in both families. */
typedef struct vlci_llava {
    vlci_vit_config vision;
    bool keep_class; /**< select strategy "full": the class token stays in front of the patches */
    vlci_activation projector_act;
    bool projector_bias;
    vlci_processor processor;
    int (*pinpoints)[2]; /**< LLaVA-NeXT: {height, width} candidates, owned; else NULL */
    int n_pinpoints;
    int most; /**< LLaVA-OneVision: patches of so many tiles become visual tokens, at most (a tenth more a
                 side) */
    vlci_processor frames;   /**< LLaVA-OneVision: of a video's frames, */
    vlci_clip_choice choice; /**< and which those are */

    vlci_vit tower; /**< from here on: loaded */
    vlci_projector projector;
    cl_mem newline; /**< f32 [text hidden]: LLaVA-NeXT's end of a row of patches; else NULL */
} vlci_llava;

/** How both families' tensors are called: hub checkpoints first, then what transformers 5 holds in memory
 * and saves (save_original_format false), then its middle forms (CLIP without "vision_model."). */
extern const vlci_naming vlci_llava_names[];

/** What a family's classes have where a file says nothing. */
typedef struct vlci_llava_usual {
    const vlci_vit_kind *tower;
    int feature_layer;
    const char *strategy, *text; /**< vision_feature_select_strategy, text_config.model_type */
    int image_token;
} vlci_llava_usual;

/** The families' functions, but for what pictures look like. */
vlcache_status vlci_llava_settings(const vlci_scope *root, const vlci_llava_usual *usual,
                                   vlci_config *config);
extern const vlci_llava_usual vlci_llava_usual_clip; /**< of LLaVA and LLaVA-NeXT */
vlcache_status vlci_llava_load(vlci_upload *up, vlci_config *config);
vlcache_status vlci_llava_load_newline(vlci_upload *up, vlci_config *config); /**< and image_newline */
void vlci_llava_release(vlci_config *config);
void vlci_llava_describe(const vlci_config *config, vlcache_model_info *info);
vlcache_status vlci_llava_look(const vlci_config *config, const vlci_pixels *pixels,
                               const vlci_picture_layout *layout, cl_mem *tokens);
int vlci_llava_together(const vlci_config *config);

/** Whether the processor's steps, read from `scope`, give tiles that the tower takes: VLCACHE_E_FORMAT or
 * VLCACHE_E_UNSUPPORTED when not. */
vlcache_status vlci_llava_check_side(const vlci_scope *scope, const vlci_llava *eyes);

/** VLCACHE_E_UNSUPPORTED: `what` gives a picture that the tower does not take. */
vlcache_status vlci_llava_unfit(const vlci_llava *eyes, const char *what, int width, int height);

/** Lays tile 0 out, with its class token where that is kept, as the first tokens and grid 0, and makes every
 * entry a visual token; returns how many tokens are laid out. */
int vlci_llava_lay_tile(const vlci_llava *eyes, const vlci_view *view, int width, int height,
                        vlci_picture_layout *out);

#endif
