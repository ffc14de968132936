/**
 * clip.h (internal) - some frames of a video: which, as processors choose them, and how a family sees them.
 *
 *     video (frames, rate) --choose--> a clip: the frames' numbers
 *     clip --layout--> the rows that it becomes in the prompt      (needs no pixels)
 *     a few frames --prepare--> pixels (host) --look--> their visual tokens (device), part by part
 */
#ifndef VLCI_MODELS_CLIP_H
#define VLCI_MODELS_CLIP_H

#include "checkpoint/json.h"
#include "models/entries.h"
#include "models/family.h"
#include "picture/prepare.h"

typedef struct vlci_clip {
    int width, height; /**< of a frame, pixels */
    int total;         /**< frames of the video */
    double fps;        /**< of the video */
    int *frame;        /**< [n], owned: numbers of the chosen ones, ascending */
    int n;             /**< 1 or more */
} vlci_clip;

/** What the caller wants of the choice; 0: as the checkpoint says. One of both at most. */
typedef struct vlci_clip_asked {
    double fps; /**< frames of a second of the video */
    int frames; /**< of the whole */
} vlci_clip_asked;

/** How a video processor chooses frames. */
typedef struct vlci_clip_choice {
    double fps;      /**< 0: not by rate */
    int frames;      /**< 0: not by number */
    int least, most; /**< of frames, where they are chosen by rate */
    int step;        /**< frames are a multiple of it; those of steps are counted in single numbers */
    bool ends;       /**< from the first to the last, both included; else each begins an equal part */
    bool middle;     /**< or stands in the middle of one */
    bool both;       /**< by rate, at most `frames`, from end to end; where that leaves out much of a long
                          video, without its first and last second (SmolVLM) */
} vlci_clip_choice;

/** How a family sees videos; functions as those of vlci_family. */
typedef struct vlci_watching {
    const char *mark;  /**< the text that stands for one video in a prompt: "<|video_pad|>" */
    const char *token; /**< the token that stands for its layout; NULL: the mark is one itself */
    const char *chat;  /**< the template of conversations that show videos, unless the caller names one; NULL:
                            the checkpoint's */

    /** Sets clip->frame (new memory) and clip->n; the rest of the clip is there. Errors:
     * VLCACHE_E_NO_MEMORY. */
    vlcache_status (*choose)(const vlci_config *config, const vlci_clip_asked *asked, vlci_clip *clip);

    /** What the mark becomes before a prompt is made tokens, since words join those beside them: new memory,
     * `token` stands in it once. NULL: the mark stays. Errors: VLCACHE_E_NO_MEMORY. */
    vlcache_status (*write)(const vlci_clip *clip, char **text);

    /** Lays the clip out: a grid for each frame, or for each step of as many as `out->n_grids` comes to.
     * Errors: those of vlci_family's layout(). */
    vlcache_status (*layout)(const vlci_config *config, const vlci_clip *clip, vlci_picture_layout *out);

    /** Frames that are looked at together, so that what that takes is bounded: whole steps. */
    int (*at_once)(const vlci_config *config, const vlci_clip *clip);

    /** Prepares n frames on the host. Errors: those of layout(). */
    vlcache_status (*prepare)(const vlci_config *config, const vlci_clip *clip, vlcache_image *const *frames,
                              int n, vlci_pixels *out);

    /** Runs tower and projector over the pixels of frames `first` and following: `*tokens`, as of
     * vlci_family's look(), are the next `*n_tokens` of the layout. Errors: those of that. */
    vlcache_status (*look)(const vlci_config *config, const vlci_clip *clip,
                           const vlci_picture_layout *layout, const vlci_pixels *pixels, int first,
                           cl_mem *tokens, int *n_tokens);
} vlci_watching;

/** The mark of a family's videos; NULL: it takes none. */
static inline const char *vlci_family_video_mark(const vlci_family *family) {
    return family->videos ? family->videos->mark : NULL;
}

/** The token of a family's videos; NULL: it takes none. */
static inline const char *vlci_family_video_token(const vlci_family *family) {
    const vlci_watching *videos = family->videos;
    return videos && videos->token ? videos->token : vlci_family_video_mark(family);
}

/** Reads "do_sample_frames", "fps", "num_frames", "min_frames" and "max_frames" of a video processor over
 * what is there: where it says that nothing is sampled, `fps` stays the one to take without being asked.
 * Errors: VLCACHE_E_FORMAT. */
vlcache_status vlci_clip_read(const vlci_scope *scope, vlci_clip_choice *choice);

/** Reads "fps" over what is there. Errors: VLCACHE_E_FORMAT. */
vlcache_status vlci_clip_read_fps(const vlci_scope *scope, double *fps);

/** choose() of a processor: what is asked goes before what it says. Errors: VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_clip_choose(const vlci_clip_choice *choice, const vlci_clip_asked *asked,
                                vlci_clip *clip);

/** The same, and the steps, of a video processor that squeezes each frame to a tower's square of `side`
 * pixels; values that no file names are CLIP's. Frames that do not become such squares leave `config` without
 * videos: such files come with processors that nobody has set. Errors: VLCACHE_E_FORMAT,
 * VLCACHE_E_UNSUPPORTED. */
vlcache_status vlci_clip_read_squares(const vlci_scope *scope, int side, vlci_processor *processor,
                                      vlci_clip_choice *choice, vlci_config *config);

/** layout() of frames that are squares of tokens, each seen by one view: `put` writes what stands around and
 * behind them, first[frame] being the entry of its first token; `square` is how each lies, but for where.
 * Errors: VLCACHE_E_NO_MEMORY, those of vlci_view_sides() and `put`. */
vlcache_status vlci_clip_layout(const vlci_config *config, const vlci_clip *clip, vlci_layout_square square,
                                const vlci_view *view,
                                vlcache_status (*put)(const vlci_clip *clip, int tokens,
                                                      vlci_entries *entries, int *first),
                                vlci_picture_layout *out);

/** at_once() of frames, or steps, of `patches` patches each: what a look takes grows with them. */
int vlci_clip_at_once(int patches);

/** prepare() by one view of each frame. Errors: those of vlci_pixels_fill(), `*out` is then zeroed. */
vlcache_status vlci_clip_prepare(const vlci_processor *processor, const vlci_view *view,
                                 vlcache_image *const *frames, int n, vlci_pixels *out);

/** Frees and zeroes. */
void vlci_clip_release(vlci_clip *clip);

#endif
