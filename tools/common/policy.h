/**
 * policy.h - how tools spell a policy: a name of the library, and behind @ any axes of it, key=value, parted
 * by commas.
 *
 *     vlcache      h2o@recent=0.2      centroids@storage=bits:4/2,pooling=none vlcache@label=mine,recall=host
 *
 * Beside the library's axes there are threshold, recent and sinks; label=TEXT, what tables call it;
 * recall=none or host; and stream=N, how many frames of a video are read at a time.
 */
#ifndef COMMON_POLICY_H
#define COMMON_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>
#include <vlcache/engine.h>

#include "common/console.h"

typedef struct policy_spec {
    const char *label; /* as it was spelled, or what label= says */
    vlcache_compress_options options;
    vlcache_recall recall;
    int stream; /* frames of a video that are read at a time; 0: all */
} policy_spec;
#define POLICY_INIT                                                                                          \
    { "vlcache", VLCACHE_COMPRESS_OPTIONS_INIT, VLCACHE_RECALL_NONE, 0 }

/**
 * Reads one policy over what `into` holds; `text` is cut, and `into` points into it from then on. `spelled`:
 * the whole of it again, for messages and as the label. What does not go together is policy_check()'s.
 * EXIT_OK, or EXIT_USAGE, told.
 */
int policy_read(char *text, const char *spelled, policy_spec *into);

/** Whether all of it goes together. EXIT_OK, or EXIT_USAGE, told. */
int policy_check(const policy_spec *p);

/** The name of the policy that options come to with a model (static storage); NULL: they are refused. Where
 * it is another than they name, and nobody wants it quiet, says so and why. */
const char *policy_comes_to(const vlcache_compress_options *options, const char *label,
                            const vlcache_model *model, console *c);

/** Policies parted by commas. */
typedef struct policy_list {
    policy_spec *items;
    size_t n;
    char *text; /* what they point into */
} policy_list;

/** Reads and checks a list; policies_release() in any case. An exit code. */
int policies_read(const char *list, policy_list *out);

void policies_release(policy_list *p);

/** Adds each axis to `object` as the policy has it, but those that are as usual. Whether the policy is known.
 */
bool policy_tell(const vlcache_compress_options *options, json_t *object);

/** The storage of a turn's coded rows with the domain that it had, as --storage reads it back for the same
 * cache; NULL where none is coded, or memory runs out. New. */
json_t *policy_storage(const vlcache_compress_options *options, const vlcache_compress_stats *turn);

#endif
