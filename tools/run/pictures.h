/**
 * pictures.h - the pictures of the next question, loaded.
 */
#ifndef RUN_PICTURES_H
#define RUN_PICTURES_H

#include <vlcache/image.h>

#include "common/console.h"

typedef struct pictures {
    vlcache_image **items;
    size_t n;
} pictures;

/** Loads one more: a file, or standard input for "-". Returns an exit code. */
int pictures_add(pictures *p, const char *path, console *c);

void pictures_clear(pictures *p);

#endif
