/**
 * format.h (internal) - what the head of a picture file says.
 */
#ifndef VLCI_PICTURE_FORMAT_H
#define VLCI_PICTURE_FORMAT_H

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

#endif
