/**
 * axis.h - the axes of a policy between their values and their texts: "grid:1x5" and VLCACHE_POOLING_GRID,
 * 1, 5.
 */
#ifndef VLCI_COMPRESS_AXIS_H
#define VLCI_COMPRESS_AXIS_H

#include "core/status.h"
#include "vlcache/compress.h"

/** A caller's options, of whatever version, as this library knows them. Errors: VLCACHE_E_ARGUMENT, NULL too.
 */
vlcache_status vlci_axes_take(const vlcache_compress_options *from, vlcache_compress_options *to);

/** Back into a caller's struct, as far as that has room. */
void vlci_axes_give(const vlcache_compress_options *from, vlcache_compress_options *to);

/** The i-th of the options' shares. */
static inline double vlci_axis_share(const vlcache_compress_options *o, int i) {
    return i < VLCACHE_SHARES_FIRST ? o->shares[i] : o->more_shares[i - VLCACHE_SHARES_FIRST];
}

/** Numbers that texts may leave out, and options too where neither they nor the policy say them. */
#define VLCI_USUAL_UNIFORM      0.8
#define VLCI_USUAL_FLOOR        0.2
#define VLCI_USUAL_DEFER_WEIGHT 4.0
#define VLCI_USUAL_RUN_BY_LAYER 16
#define VLCI_USUAL_RUN          64
#define VLCI_USUAL_KEY_BITS     4
#define VLCI_USUAL_VALUE_BITS   2
#define VLCI_USUAL_GROUP_MAX    1024 /* rows or channels that share a scale */
int vlci_usual_iterations(vlcache_summary summary);

/** Name of axis `index` from 0, in the order of the options; NULL past the last. */
const char *vlci_axis_name(size_t index);

/** Index of the axis of that name. Errors: VLCACHE_E_ARGUMENT (NULL, no such axis). */
vlcache_status vlci_axis_find(const char *name, size_t *index);

/** The text of an axis; "" where it is as the policy has it. The options are the library's own, their
 * enumerators valid. */
void vlci_axis_text(const vlcache_compress_options *options, size_t index, char text[VLCACHE_AXIS_BYTES]);

#endif
