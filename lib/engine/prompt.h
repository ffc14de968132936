/**
 * prompt.h (internal) - one turn as the text model takes it: token ids with visual tokens among them, and
 * those tokens' features.
 */
#ifndef VLCI_ENGINE_PROMPT_H
#define VLCI_ENGINE_PROMPT_H

#include "cl/shared.h"
#include "engine/words.h"
#include "models/clip.h"
#include "models/model.h"
#include "picture/prepare.h"
#include "vlcache/engine.h"

/** Rows of a prompt that see the same pictures through cross-attention. */
typedef struct vlci_sight {
    int until;    /**< the row behind their last */
    int first, n; /**< pictures first .. first + n - 1; n 0: they stand in front of all of the prompt's, and
                     see those of the conversation before or, where there are none, all of them */
} vlci_sight;

typedef struct vlci_prompt {
    int32_t *ids;         /**< [n]: a token, or -1 - row of the features */
    int n, visual, after; /**< all, visual ones, text behind any picture but pictures' own marks (n without
                               one): the post-vision rows, as vlcache/compress.h defines them */
    int *after_at;        /**< [after]: where those stand, ascending */
    int features; /**< rows that vlci_prompt_look() gives: the visual tokens', and what is unseen of pictures
                   */
    vlcache_visual_token *where;  /**< [visual] */
    vlci_picture_layout *layout;  /**< [n_images + n_videos]: pictures, then videos */
    vlci_placed_picture *picture; /**< [n_images + n_videos]: where each stands, ascending, for positions() */
    int *shown;                   /**< [n_images + n_videos]: which layout stands there */
    size_t n_images, n_videos;
    vlci_clip *clip;          /**< [n_videos]: what is seen of each */
    vlcache_seen_frame *seen; /**< [n_seen]: frames with grids of their own, of all videos */
    int n_seen;
    int64_t rows;           /**< of pictures and videos */
    vlci_token_grid *grids; /**< [n_grids]: of all pictures and frames, by rows of the prompt */
    int n_grids;
    vlci_sight *sights; /**< [n_sights], in the order of their rows; none without pictures, or where these are
                             rows. Where there are sights, `after`, `where` and `grids` are about the last
                           one: positions and grids count the rows of its pictures, from 0 on */
    int n_sights;
    int *ends;      /**< [n_sights]: until */
    int sighted;    /**< visual tokens of the last sight */
    bool rewritten; /**< the template shows what was said before otherwise than the cache holds it */
} vlci_prompt;

/**
 * Lays the turn out: template, tokens, frames of videos, a place for each visual token. Needs no pixels, so
 * that a prompt which does not fit is refused before any work. Errors: VLCACHE_E_ARGUMENT (marks and pictures
 * of a raw prompt do not agree), VLCACHE_E_UNSUPPORTED, VLCACHE_E_NO_MEMORY. Release on success only.
 */
vlcache_status vlci_prompt_create(const vlcache_model *model, const vlcache_prompt *asked,
                                  const vlci_turn *turn, vlci_prompt *out);

/** What of a prompt is looked at: from frame `frame` of item `item` (of prompt->shown) to where the next
 * range begins; the prompt's visual tokens token .. token + n_tokens - 1. */
typedef struct vlci_look_range {
    int item, frame, end_item, end_frame; /**< end_item may be one behind the last */
    int token, n_tokens;
} vlci_look_range;

/**
 * Runs pictures and videos through the vision tower (look.c): f32 [features][hidden] in new memory, NULL
 * without them. `progress` (may be NULL) is told how many pictures are done, or frames of a video;
 * milliseconds of host preparation, frames' decoding included, and of the tower are added to the timings.
 * Errors: the device's, those of vlcache_video_frame(), VLCACHE_E_CANCELLED.
 */
vlcache_status vlci_prompt_look(const vlcache_model *model, const vlcache_prompt *asked,
                                const vlci_prompt *prompt, vlcache_progress_fn progress, void *user,
                                vlcache_timings *timings, cl_mem *features);

/** The same of a range. */
vlcache_status vlci_prompt_look_range(const vlcache_model *model, const vlcache_prompt *asked,
                                      const vlci_prompt *prompt, const vlci_look_range *range,
                                      vlcache_progress_fn progress, void *user, vlcache_timings *timings,
                                      cl_mem *features);

/** First row of the features of picture `image`. */
int vlci_prompt_features_at(const vlci_prompt *prompt, int image);

/** Fills in the sights of a prompt that is laid out otherwise. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_prompt_see(vlci_prompt *prompt);

void vlci_prompt_release(vlci_prompt *prompt);

#endif
