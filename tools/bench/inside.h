/**
 * inside.h - what the bench has to know of the library and no caller has to: vlcache-bench links the
 * library's objects, as its tests do.
 */
#ifndef BENCH_INSIDE_H
#define BENCH_INSIDE_H

#include "vlcache/vlcache.h"

/** Rows of a prompt that each of n pictures becomes. Errors: those of the family's layout. */
vlcache_status inside_picture_tokens(const vlcache_model *model, const vlcache_image *image, size_t n,
                                     int *tokens);

/** The id that marks a picture. */
int inside_picture_token(const vlcache_model *model);

/** Device memory that the library holds now and has held at most since the last inside_peak_restart(),
 * weights in mapped files among it. */
uint64_t inside_memory_now(const vlcache_device *device);
uint64_t inside_memory_peak(const vlcache_device *device);
void inside_peak_restart(vlcache_device *device);

#endif
