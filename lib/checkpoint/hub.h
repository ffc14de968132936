/**
 * hub.h - the settings files of a Hugging Face folder, opened: config.json, generation_config.json, and
 * preprocessor_config.json or the image part of processor_config.json. What the fields mean to a model is
 * the model's business; what all models write in the same words is read here.
 */
#ifndef VLCI_CHECKPOINT_HUB_H
#define VLCI_CHECKPOINT_HUB_H

#include "checkpoint/json.h"
#include "compute/act.h"

/** Beyond what any checkpoint has: what is larger is a damaged file. */
enum { VLCI_MAX_WIDTH = 1 << 20, VLCI_MAX_LAYERS = 1024, VLCI_MAX_HEADS = 1024, VLCI_MAX_IDS = 1 << 28 };

/** The folder's files; scopes borrow from it. */
typedef struct vlci_hub {
    vlci_scope config;     /**< config.json */
    vlci_scope generation; /**< generation_config.json; its object is NULL when there is none */
    char *path[5];         /**< the hub's own: config, generation, preprocessor, processor, video */
    json_t *file[4];       /**< its own: config, generation, the image processor's, the video processor's */
    bool alone;            /**< config.json and no folder: vlci_hub_open_alone() */
} vlci_hub;

/**
 * Opens config.json and, when it is there, generation_config.json. Errors: VLCACHE_E_IO (which file is
 * missing; what the folder holds in its place, where that is known), VLCACHE_E_FORMAT (file, line, column),
 * VLCACHE_E_NO_MEMORY. vlci_hub_close() follows in any case.
 */
vlcache_status vlci_hub_open(const char *folder, vlci_hub *out);

/**
 * A config.json without the files that stand beside one: the path of it, or its text ("{"). What the image
 * processor does it says itself, as "image_processor"; where it does not, vlci_hub_image() gives sizes that
 * come to vision_config.image_size, and nothing else. Errors as vlci_hub_open(), which it stands for.
 */
vlcache_status vlci_hub_open_alone(const char *config, vlci_hub *out);

/**
 * The settings of the image processor, read when asked for: the nested "image_processor" of
 * processor_config.json goes before preprocessor_config.json, as in transformers 5. Errors as
 * vlci_hub_open(); one of the two must be there.
 */
vlcache_status vlci_hub_image(vlci_hub *hub, vlci_scope *image);

/**
 * The settings of the video processor: the nested "video_processor" of processor_config.json, else
 * video_preprocessor_config.json, else those of the image processor, as in transformers 5; nothing (object
 * NULL) of a configuration that stands alone. Errors as vlci_hub_image().
 */
vlcache_status vlci_hub_video(vlci_hub *hub, vlci_scope *video);

/** Closes the files and zeroes the hub. */
void vlci_hub_close(vlci_hub *hub);

/*
 * Takers, as those of json.h: where the field is absent `*value` keeps what the caller put there.
 */

/** An activation by transformers' name. Errors: VLCACHE_E_UNSUPPORTED names those that are known. */
vlcache_status vlci_hub_activation(const vlci_scope *scope, const char *key, vlci_activation *value);

/** The side of a square, a number or [side, side], from 1 to `high`. */
vlcache_status vlci_hub_side(const vlci_scope *scope, const char *key, int high, int *value);

/** Whether heads divide the width: VLCACHE_E_FORMAT "num_attention_heads: ..." when not. */
vlcache_status vlci_hub_heads(const vlci_scope *scope, int hidden, int heads);

/** VLCACHE_E_UNSUPPORTED where the scope has a "quantization_config". */
vlcache_status vlci_hub_unquantised(const vlci_scope *scope);

/** One id or a list of ids, each below `vocab`; new memory. `*ids` stays NULL where the field is absent. */
vlcache_status vlci_hub_ids(const vlci_scope *scope, const char *key, int vocab, int **ids, int *n);

/** A list of layers, ascending, each below `layers`: `*n` of at most `room`. An absent list leaves both
 * alone. Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED. */
vlcache_status vlci_hub_layers(const vlci_scope *scope, const char *key, int layers, int room, int *list,
                               int *n);

/** "dtype", or "torch_dtype" of 4.x: AUTO where neither says one. */
vlcache_status vlci_hub_dtype(const vlci_scope *scope, vlcache_dtype *value);

#endif
