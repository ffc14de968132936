/**
 * container.h - what a picture file says of itself, checked before a single pixel is decoded.
 */
#ifndef VLCI_CONTAINER_H
#define VLCI_CONTAINER_H

#include "core/status.h"

/** Longest side of a picture, the limit of JPEG and GIF; held for every format. */
#define VLCI_IMAGE_MAX_SIDE 65535

typedef enum vlci_container_kind {
    VLCI_CONTAINER_JPEG,
    VLCI_CONTAINER_PNG,
    VLCI_CONTAINER_GIF,
    VLCI_CONTAINER_BMP,
    VLCI_CONTAINER_PNM
} vlci_container_kind;

/** Facts of the header. */
typedef struct vlci_container {
    vlci_container_kind kind;
    uint32_t width, height; /**< as stored, before orientation; both at least 1 */
    int orientation;        /**< EXIF, 1..8 */
    int components;         /**< JPEG: 1, 3 or 4 */
    bool adobe;             /**< JPEG: has Adobe's APP14, which says what 4 components mean */
    size_t pixels_at;       /**< PNM: offset of the first sample */
    uint32_t maxval;        /**< PNM: 1..65535; 1 for bitmaps */
    char form;              /**< PNM: '1'..'6' */
} vlci_container;

/**
 * Recognises the format by its content (the name's extension is not trusted), walks the file's structure to
 * its end and checks that it is whole and of a sane size: a truncated file, one with a wrong PNG checksum or
 * a bomb is refused here. `name` is for messages. Errors: VLCACHE_E_FORMAT.
 */
vlcache_status vlci_container_read(const uint8_t *file, size_t bytes, const char *name, vlci_container *out);

#endif
