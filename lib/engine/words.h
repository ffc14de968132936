/**
 * words.h (internal) - a prompt's text, or the caller's ids, as tokens, with a token for each picture and
 * video; where a family writes words around a video (vlci_watching's write()), with those.
 */
#ifndef VLCI_ENGINE_WORDS_H
#define VLCI_ENGINE_WORDS_H

#include "models/clip.h"
#include "models/model.h"
#include "vlcache/engine.h"

/** How the text becomes a turn of its conversation. */
typedef struct vlci_turn {
    const vlci_chat *chat;
    const vlci_conversation *said; /**< its last message is the text and the pictures that are asked about;
                                        NULL: they open the conversation. Not looked at for a raw prompt or
                                        token ids */
    int32_t open; /**< token of the answer before that the text model has not seen yet; -1: none */
} vlci_turn;

/** Whether the model takes videos. */
static inline bool vlci_takes_videos(const vlcache_model *model) {
    return model->family->videos && model->config.video_token >= 0;
}

/**
 * `*ids` is new memory (vlci_free), `*n` of them; `clips` [asked->n_videos] are what is seen of the videos.
 * Errors: VLCACHE_E_ARGUMENT (an id out of range; marks of videos in a raw text that are not as many),
 * VLCACHE_E_UNSUPPORTED (no tokenizer), those of vlci_chat_encode().
 */
vlcache_status vlci_words_tokenize(const vlcache_model *model, const vlcache_prompt *asked,
                                   const vlci_turn *turn, const vlci_clip *clips, int32_t **ids, size_t *n,
                                   bool *rewritten);

/** What a prompt with `found` marks for `n` pictures or videos is told. */
vlcache_status vlci_words_miscounted(const char *field, const char *mark, size_t found, const char *what,
                                     size_t n);

#endif
