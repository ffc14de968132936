/**
 * picture.h - what suites of pictures share: golden files, and the picture that their makers draw too.
 */
#ifndef TEST_SUPPORT_PICTURE_H
#define TEST_SUPPORT_PICTURE_H

#include "vlcache/image.h"

/** A whole file in new memory; fails the test when it is missing. */
uint8_t *golden_read(const char *path, size_t *bytes);

/** The next little-endian number of a golden file. */
int32_t golden_take(const uint8_t **p);

/** The procedural picture of make_image_goldens.py. */
vlcache_image *golden_picture(int width, int height);

#endif
