/**
 * turn.h - a program that has everything open, and one turn of its conversation.
 */
#ifndef RUN_TURN_H
#define RUN_TURN_H

#include "run/options.h"
#include "run/pictures.h"
#include "run/videos.h"

/** The whole program. */
typedef struct run {
    options options;
    console console;
    pictures pictures; /* of the next turn, or of the one that was asked */
    videos videos;     /* the same */
    vlcache_device *device;
    vlcache_model *model;
    vlcache_session *session;
    double load_ms;            /* opening the device and loading the model */
    uint64_t kv_kept, kv_full; /* of the conversation: bytes of the rows before the next turn, and of all */
} run;

/** Asks `text` about the pictures, streams the answer, says the summary. `*answer` is NULL on failure, else
 * valid until the next turn; a cancelled answer comes with EXIT_INTERRUPT. Returns an exit code. */
int turn_ask(run *r, const char *text, const vlcache_answer **answer);

#endif
