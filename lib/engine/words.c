/*
 * words.c - what is asked -> tokens.
 *
 *     "<video>What?" --write--> "... video.(newline)Frame from
 * 00:00:<fake_token_around_image>(newlines)What?"
 *
 * Words around a video are made tokens together with those beside them; the token that stands for its layout
 * parts them as the layout's own first and last tokens do.
 */
#include "engine/words.h"

#include <string.h>

#include "core/alloc.h"

/* ---- what marks become --------------------------------------------------------------------------------- */

static void release_written(char **written, size_t n) {
    for (size_t i = 0; written && i < n; i++) vlci_free(written[i]);
    vlci_free(written);
}

/* Of each clip; `*out` NULL: marks stay as they are. */
static vlcache_status write_words(const vlcache_model *model, const vlci_clip *clips, size_t n, char ***out) {
    vlcache_status status = VLCACHE_OK;
    *out = NULL;
    if (!n || !vlci_takes_videos(model) || !model->family->videos->write) return VLCACHE_OK;
    char **written = vlci_calloc(n, sizeof *written);
    if (!written) return vlci_fail_memory("words around a video");
    for (size_t i = 0; i < n && !status; i++) status = model->family->videos->write(&clips[i], &written[i]);
    if (status)
        release_written(written, n);
    else
        *out = written;
    return status;
}

/* ---- ids ----------------------------------------------------------------------------------------------- */

/* Ids that the caller has, with the model's own token for each picture and video. */
static vlcache_status copy_ids(const vlcache_model *model, const vlcache_prompt *asked, int32_t **ids,
                               size_t *n) {
    int vocab = model->config.text.vocab;
    *ids = vlci_alloc(asked->n_tokens, sizeof **ids);
    if (!*ids) return vlci_fail_memory("prompt");
    *n = asked->n_tokens;
    for (size_t i = 0; i < *n; i++) {
        int32_t id = asked->tokens[i];
        bool picture = id == VLCACHE_TOKEN_IMAGE && model->config.eyes;
        bool video = id == VLCACHE_TOKEN_VIDEO && vlci_takes_videos(model);
        if (!picture && !video && (id < 0 || id >= vocab))
            return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("prompt.tokens[%zu]", i),
                               VLCI_VALUE("%d", (int)id), "must be from 0 to %d%s%s", vocab - 1,
                               model->config.eyes ? ", or VLCACHE_TOKEN_IMAGE for a picture" : "",
                               vlci_takes_videos(model) ? ", or VLCACHE_TOKEN_VIDEO for a video" : "");
        (*ids)[i] = picture ? model->config.image_token : video ? model->config.video_token : id;
    }
    return VLCACHE_OK;
}

/* `more` in the place of id `at`. */
static vlcache_status splice(const int32_t *more, size_t n_more, size_t at, int32_t **ids, size_t *n) {
    int32_t *grown = vlci_realloc(*ids, *n + n_more, sizeof *grown);
    if (!grown) return vlci_fail_memory("prompt");
    memmove(grown + at + n_more, grown + at + 1, (*n - at - 1) * sizeof *grown);
    memcpy(grown + at, more, n_more * sizeof *grown);
    *ids = grown;
    *n += n_more - 1;
    return VLCACHE_OK;
}

/* The words around each video's token, by themselves: ids have no text beside them. */
static vlcache_status spell(const vlcache_model *model, char *const *written, size_t videos, int32_t **ids,
                            size_t *n) {
    vlcache_status status = VLCACHE_OK;
    size_t video = 0;
    for (size_t i = 0; i < *n && video < videos && !status; i++) {
        int32_t *more = NULL;
        size_t n_more = 0;
        if ((*ids)[i] != model->config.video_token) continue;
        const char *text = written[video++];
        status = vlci_tokenizer_encode(model->tokenizer, text, strlen(text), false, &more, &n_more);
        if (!status && n_more) status = splice(more, n_more, i, ids, n);
        if (!status && n_more) i += n_more - 1;
        vlci_free(more);
    }
    return status;
}

/* ---- texts --------------------------------------------------------------------------------------------- */

vlcache_status vlci_words_miscounted(const char *field, const char *mark, size_t found, const char *what,
                                     size_t n) {
    return vlci_fail_field(VLCACHE_E_ARGUMENT, NULL, field, VLCI_VALUE("%zu", n),
                           VLCI_VALUE("must be %zu, the %s marks", found, mark),
                           "the prompt has %zu %s mark%s for %zu %s%s", found, mark, found == 1 ? "" : "s", n,
                           what, n == 1 ? "" : "s");
}

static vlcache_status encode_raw(const vlcache_model *model, const vlcache_prompt *asked,
                                 char *const *written, int32_t **ids, size_t *n) {
    const char *mark = vlci_family_video_mark(model->family);
    vlci_rendered text = {.bytes = strlen(asked->text)};
    size_t found = 0;
    if (!written) return vlci_tokenizer_encode(model->tokenizer, asked->text, text.bytes, false, ids, n);
    text.text = vlci_strdup(asked->text);
    text.whose = vlci_calloc(text.bytes + 1, sizeof *text.whose);
    vlcache_status status = text.text && text.whose ? VLCACHE_OK : vlci_fail_memory("prompt");
    if (!status) status = vlci_rendered_replace(&text, mark, written, asked->n_videos, &found);
    if (!status && found != asked->n_videos)
        status = vlci_words_miscounted("prompt.n_videos", mark, found, "video", asked->n_videos);
    if (!status) status = vlci_tokenizer_encode(model->tokenizer, text.text, text.bytes, false, ids, n);
    vlci_rendered_release(&text);
    return status;
}

static vlcache_status encode_turn(const vlcache_prompt *asked, const vlci_turn *turn, char *const *written,
                                  int32_t **ids, size_t *n, bool *rewritten) {
    vlci_said alone = {VLCI_USER, (char *)asked->text, (int)asked->n_images, (int)asked->n_videos};
    const vlci_conversation opening = {.at = &alone, .n = 1};
    vlci_conversation said = turn->said ? *turn->said : opening;
    vlci_chat_turn made;
    said.written = written;
    vlcache_status status = vlci_chat_encode(turn->chat, &said, &made);
    *ids = made.ids;
    *n = made.n;
    *rewritten = made.rewritten;
    return status;
}

vlcache_status vlci_words_tokenize(const vlcache_model *model, const vlcache_prompt *asked,
                                   const vlci_turn *turn, const vlci_clip *clips, int32_t **ids, size_t *n,
                                   bool *rewritten) {
    char **written;
    if (!asked->tokens && !model->tokenizer)
        return vlci_refuse(VLCACHE_E_UNSUPPORTED, NULL, "prompt.text", NULL,
                           "the model has random weights and no tokenizer: give token ids (prompt.tokens)");
    vlcache_status status = write_words(model, clips, asked->n_videos, &written);
    if (status) return status;
    if (asked->tokens) {
        status = copy_ids(model, asked, ids, n);
        if (!status && written) status = spell(model, written, asked->n_videos, ids, n);
    } else if (asked->raw) {
        status = encode_raw(model, asked, written, ids, n);
    } else {
        status = encode_turn(asked, turn, written, ids, n, rewritten);
    }
    release_written(written, asked->n_videos);
    return status;
}
