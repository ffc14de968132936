/**
 * config.h (internal) - what a checkpoint says of its model, checked. A field that changes the result is
 * honoured or refused by name, never ignored. families.h has vlci_config_load().
 */
#ifndef VLCI_MODELS_CONFIG_H
#define VLCI_MODELS_CONFIG_H

#include "models/decoder.h"
#include "models/family.h"
#include "tokens/tokenizer.h"

enum { VLCI_TOKEN_OF_MARK = -2 };

/** A model folder's configuration. Owned by the caller's struct; vlci_config_release() frees what it points
 * to. */
struct vlci_config {
    const vlci_family *family;
    void *eyes; /**< the family's own: tower, projector, how pictures are prepared; NULL: none */
    vlci_text_config text;
    char *text_model_type; /**< "llama", "qwen2", ..: as it is said; owned */
    int image_token;       /**< id of the family's mark */
    int video_token; /**< id of its mark of a video; -1: none; VLCI_TOKEN_OF_MARK: as the tokenizer says,
                          once it is there */
    const char *no_videos; /**< why there is none, where the checkpoint says more (static storage) */
    int bos_token;         /**< -1: none */
    int *eos_tokens;       /**< generation_config.json, else config.json; owned */
    int n_eos_tokens;
    vlcache_dtype dtype;             /**< dtype / torch_dtype; AUTO when absent */
    const vlci_tokenizer *tokenizer; /**< for the text of a picture's layout; borrowed, set by who has read
                                        it; NULL: random weights, see vlci_entries */
};

/** For families, once `text` is read: the mark's id ("image_token_id", "image_token_index"), `usual` where
 * neither is there. Errors: VLCACHE_E_FORMAT. */
vlcache_status vlci_config_read_image_token(const vlci_scope *root, int usual, vlci_config *config);

/** The same of the mark of a video ("video_token_id", "video_token_index"); where neither is there and the
 * usual id is none, -1: the checkpoint takes no videos. Errors: VLCACHE_E_FORMAT. */
vlcache_status vlci_config_read_video_token(const vlci_scope *root, int usual, vlci_config *config);

/** What all families share, once `text` is read: bos, eos and dtype. Errors: VLCACHE_E_FORMAT,
 * VLCACHE_E_UNSUPPORTED, VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_config_read_common(const vlci_hub *hub, vlci_config *config);

/** Frees what `config` points to, its family's own with it, and zeroes it. */
void vlci_config_release(vlci_config *config);

#endif
