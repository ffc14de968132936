/**
 * talk.h - conversations under test: models that are opened once, sample pictures, sessions, a turn in one
 * call.
 */
#ifndef TEST_SUPPORT_TALK_H
#define TEST_SUPPORT_TALK_H

#include <check.h>

#include "vlcache/vlcache.h"

/** Where the model that ships, its samples and questions are. */
#define DEMO VLCACHE_SOURCE_DIR "/tools/demo/"

/** The model that ships, and one with random weights in f32: opened by the first test that needs them, closed
 * after the last of a case that talk_models() was called for. */
vlcache_model *talk_demo(void);
vlcache_model *talk_tiny(void);
void talk_models(TCase *tests);

/** A picture of the samples that ship, to be destroyed. */
vlcache_image *talk_picture(const char *file);

/** A session with a policy at a budget, to be destroyed. */
vlcache_session *talk_open(vlcache_model *model, const char *policy, double budget);

/** What streamed, and how it is stopped. */
typedef struct talk_listener {
    char text[4096];
    int pieces, stop_after, stages;
    vlcache_session *cancel_in_prefill;
} talk_listener;

/** Callbacks of an answer, `user` being a listener. */
bool talk_listen(void *user, const char *piece);
bool talk_watch(void *user, const char *stage, uint64_t done, uint64_t total);

/** One turn with a picture or none, heard by a listener or none. */
vlcache_status talk_ask(vlcache_session *session, const vlcache_image *image, const char *text,
                        talk_listener *l, int max_tokens, const vlcache_answer **answer);

/** Both answers have the same tokens. */
void talk_same(const vlcache_answer *a, const vlcache_answer *b);

/** Steps until no sequence has a turn any more. */
void talk_finish(vlcache_engine *engine);

/** A policy at a budget, all else the default, and axes of it with the numbers that have to be given. */
vlcache_compress_options talk_way(const char *policy, double budget);
void talk_grid(vlcache_compress_options *o, int rows, int columns);
void talk_summary(vlcache_compress_options *o, vlcache_summary summary, double centroids);

#endif
