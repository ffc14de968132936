/**
 * geometry.h - shapes of models by name, for measurements of models that need not be there.
 */
#ifndef BENCH_GEOMETRY_H
#define BENCH_GEOMETRY_H

#include <stddef.h>

/** The config.json of a named geometry (static storage); NULL when there is none of that name. */
const char *geometry_find(const char *name);

/** "llava-1.5-7b, tiny": all names, as text. */
void geometry_names(char *text, size_t capacity);

#endif
