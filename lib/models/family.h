/**
 * family.h (internal) - what a family of models is, as an object: everything in which LLaVA differs from the
 * next. families.c lists them; a family is a row there and a file of this folder, over shared blocks.
 *
 *     folder --settings--> vlci_config --load--> weights on the device
 *     width, height --layout--> the rows that a picture becomes in the prompt, and what each shows
 *     picture --prepare--> pixels (host) --look--> visual tokens (device), in the layout's order
 *     rows of a prompt --positions--> what RoPE turns them by
 *
 * A family of text models alone has no eyes: config->eyes stays NULL, layout(), prepare() and look() are
 * NULL, and pictures are refused before they are asked for.
 *
 * A family reaches its own settings and weights through config->eyes, which nobody else looks into. All
 * functions but load() and release() may run in several threads on one model.
 */
#ifndef VLCI_MODELS_FAMILY_H
#define VLCI_MODELS_FAMILY_H

#include "device/device.h"
#include "models/weight.h"
#include "vlcache/image.h"
#include "vlcache/model.h"

typedef struct vlci_config vlci_config; /* models/config.h */
typedef struct vlci_hub vlci_hub;       /* checkpoint/hub.h */
typedef struct vlci_pixels vlci_pixels; /* picture/prepare.h */
typedef struct vlci_view vlci_view;
typedef struct vlci_watching vlci_watching; /* models/clip.h */

/** Visual tokens that lie as what they show: the token of row y and column x is entry first + y * stride + x
 * of its layout. */
typedef struct vlci_layout_grid {
    int first, rows, columns, stride;
} vlci_layout_grid;

/**
 * What one picture, or some frames of a video, becomes in a prompt, in place of its mark. `entry` lists the
 * rows in order: a text token (id >= 0), or visual token t as -1 - t; visual tokens count up from 0, text may
 * stand before, between and behind them (tile names, row ends that are words). A learned vector that is no
 * word (image_newline) is a visual token which shows nothing.
 */
typedef struct vlci_picture_layout {
    int n;            /**< entries: rows of the prompt */
    int32_t *entry;   /**< [n], owned */
    int n_tokens;     /**< visual ones among them, or aside: rows of what look() gives */
    bool aside;       /**< the tokens are no entries, but what layers of cross-attention look at */
    int n_unseen;     /**< further rows that look() gives behind them: seen by rows of the prompt in front
                           of all pictures alone; 0 but aside */
    float (*cell)[4]; /**< [n_tokens], owned: what a token shows, as x0, y0, x1, y1 in pixels of the
                           picture; all 0 where it shows nothing */
    vlci_layout_grid *grids; /**< [n_grids], owned: disjoint; pooling works along them, M-RoPE counts them. Of
                                  tokens aside `first` counts tokens, not entries */
    int n_grids;
    int tiles;       /**< tiles that the tower sees, as prepare() gives them */
    float pace;      /**< M-RoPE: what time goes on by from a grid to the next; 0 counts as 1 */
    int32_t *source; /**< the family's own: where look() takes each token from; owned, may be NULL */
} vlci_picture_layout;

/** A picture where it stands: its layout's entries are the prompt's rows row .. row + layout->n - 1. */
typedef struct vlci_placed_picture {
    int row;
    const vlci_picture_layout *layout; /**< borrowed */
} vlci_placed_picture;

typedef struct vlci_family vlci_family;

struct vlci_family {
    const char *name; /**< "model_type" of config.json, and vlcache_model_info.family */
    const char *mark; /**< the text that stands for one picture in a prompt: "<image>"; the tokenizer makes
                           config->image_token of it (-1 without eyes: it makes words of it) */

    const vlci_naming *names; /**< how checkpoints call its tensors (see vlci_checkpoint_name()) */

    /**
     * Reads what the folder says into `config`, whose `family` is set: text, image_token, text_model_type,
     * and config->eyes (new memory). What the family's files leave out gets its classes' defaults; what is
     * not supported is refused. The fields that all families share (dtype, bos, eos) are read by the caller.
     * Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named), VLCACHE_E_NO_MEMORY. On failure
     * release() still follows.
     */
    vlcache_status (*settings)(vlci_hub *hub, vlci_config *config);

    /**
     * Uploads tower and projector into config->eyes, and keeps what computes (up->compute) for look(). What
     * the checkpoint stores for it and it does not need is told to vlci_checkpoint_skip(). Without up->device
     * weights are looked for and counted, and nothing is opened. Errors: those of vlci_upload_matrix(). On
     * failure release() still follows.
     */
    vlcache_status (*load)(vlci_upload *up, vlci_config *config);

    /** Releases config->eyes, loaded or not, and NULLs it; NULL accepted. */
    void (*release)(vlci_config *config);

    /** Adds what only the family knows: image_side, patch_side, and of the tower. */
    void (*describe)(const vlci_config *config, vlcache_model_info *info);

    /**
     * Bounds the pixels that pictures are resized to, instead of what the checkpoint says; 0: as it says.
     * NULL where pictures have sizes of the family's own. Errors: VLCACHE_E_ARGUMENT.
     */
    vlcache_status (*bound)(vlci_config *config, int least, int most);

    /**
     * Lays out a picture of width x height; needs no pixels and no weights. Release with
     * vlci_picture_layout_release(). Errors: VLCACHE_E_ARGUMENT (sides), VLCACHE_E_UNSUPPORTED (the
     * processor's sizes do not give what the tower takes), VLCACHE_E_NO_MEMORY; `*out` is then zeroed.
     */
    vlcache_status (*layout)(const vlci_config *config, int width, int height, vlci_picture_layout *out);

    /**
     * Prepares the pixels on the host, as the family's processor does. Release with vlci_pixels_release().
     * Errors: those of layout().
     */
    vlcache_status (*prepare)(const vlci_config *config, const vlcache_image *image, vlci_pixels *out);

    /**
     * Runs tower and projector over prepare()'s pixels and puts the result in the layout's order: `*tokens`
     * is new memory, f32 [n_tokens + n_unseen][1 + config->text.deepstack][text hidden]: a token's features,
     * and behind them those of its further sets (DeepStack), of which set 1 + k is added to the rows of
     * visual tokens behind text layer k while a prompt is read; settings() says how many there are. Enqueues;
     * the caller waits where it must. Errors: the device's, VLCACHE_E_NO_MEMORY.
     */
    vlcache_status (*look)(const vlci_config *config, const vlci_pixels *pixels,
                           const vlci_picture_layout *layout, cl_mem *tokens);

    /**
     * Of a family whose look() takes several pictures together: their tiles, all of one size, behind each
     * other, and their layouts joined, of which it reads tokens and sources alone. By how much a source, a
     * row of features, rises with each tile in front of its picture's own. NULL: one picture after another.
     */
    int (*together)(const vlci_config *config);

    /**
     * The positions of a prompt's n rows, the first of which comes at `start`: position[i] holds three
     * numbers (time, height, width; all equal where a family has one), and `*next` is where the row after
     * the prompt comes, which may be less than start + n. Pictures ascend by row. Cannot fail.
     */
    void (*positions)(const vlci_config *config, const vlci_placed_picture *pictures, size_t n_pictures,
                      int32_t start, int n, int32_t (*position)[3], int32_t *next);

    const vlci_watching *videos; /**< how videos are seen; NULL: the family takes none */

    /** Whose layout(), prepare() and look() take pictures that share a prompt with others, where those are
     * seen otherwise than one alone; the settings and weights are the same. NULL: there is no difference. */
    const vlci_family *several;
};

/** The family that looks at each of a prompt's n pictures. */
static inline const vlci_family *vlci_family_among(const vlci_family *family, size_t n) {
    return n > 1 && family->several ? family->several : family;
}

/** Room for a layout of `n` entries, `n_tokens` of them visual, and `n_grids` grids; all zero, with source
 * where `sources`. Errors: VLCACHE_E_NO_MEMORY, `*out` is then zeroed. */
vlcache_status vlci_picture_layout_create(int n, int n_tokens, int n_grids, bool sources,
                                          vlci_picture_layout *out);

/** Frees what the layout points to and zeroes it; NULL accepted. */
void vlci_picture_layout_release(vlci_picture_layout *layout);

/** What look() reads of the layouts of n pictures together, vlci_family.together() being `a_tile`. Release
 * with vlci_picture_layout_release(). Errors: VLCACHE_E_NO_MEMORY, `*out` is then zeroed. */
vlcache_status vlci_picture_layout_join(const vlci_picture_layout *const *parts, int n, int a_tile,
                                        vlci_picture_layout *out);

/** A square of visual tokens among the layout's: `side` x `side`, row by row without a gap, each of `size`
 * pixels of a view. */
typedef struct vlci_layout_square {
    int side, size;
    int entry, token; /**< of the first */
    int x, y;         /**< where its upper left corner lies in the view, pixels */
} vlci_layout_square;

/** Makes grid `grid` of the square, and its tokens' cells, in a picture of width x height. */
void vlci_picture_layout_square(vlci_picture_layout *layout, int grid, const vlci_layout_square *square,
                                const vlci_view *view, int width, int height);

/** positions() of a family whose rows simply count up: start, start + 1, ... */
void vlci_positions_count(const vlci_config *config, const vlci_placed_picture *pictures, size_t n_pictures,
                          int32_t start, int n, int32_t (*position)[3], int32_t *next);

#endif
