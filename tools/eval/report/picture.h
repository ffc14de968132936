/**
 * picture.h - a picture inside a page.
 */
#ifndef REPORT_PICTURE_H
#define REPORT_PICTURE_H

#include <stdint.h>

/** "data:image/...;base64,..." of tightly packed RGB rows: PNG or JPEG, whichever is shorter. New memory;
 * NULL when it runs out. */
char *picture_uri(const uint8_t *rgb, int width, int height);

#endif
