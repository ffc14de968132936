/**
 * exif.h - which way up a camera held the picture.
 */
#ifndef VLCI_PICTURE_EXIF_H
#define VLCI_PICTURE_EXIF_H

#include <stddef.h>
#include <stdint.h>

/**
 * Orientation 1..8 (EXIF 2.32, tag 0x0112) from a TIFF block of `bytes` bytes: the body of a JPEG APP1 after
 * "Exif\0\0", or of a PNG eXIf chunk. 1, upright, for anything absent or damaged: bad metadata never costs
 * the picture.
 */
int vlci_exif_orientation(const uint8_t *tiff, size_t bytes);

#endif
