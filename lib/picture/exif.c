/*
 * exif.c - the one EXIF field that changes the pixels.
 *
 *     "II*\0" or "MM\0*", offset of IFD 0
 *     IFD 0: count, then count entries of {tag, type, number, value}, 12 bytes each
 *
 * Only IFD 0 is read and no offset is followed out of it, so there is nothing to loop on.
 */
#include "picture/exif.h"

#include <stdbool.h>
#include <string.h>

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_BYTES = 12 };

static uint32_t read16(const uint8_t *p, bool big) {
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t read32(const uint8_t *p, bool big) {
    return big ? read16(p, big) << 16 | read16(p + 2, big) : read16(p + 2, big) << 16 | read16(p, big);
}

int vlci_exif_orientation(const uint8_t *tiff, size_t bytes) {
    if (bytes < 8) return 1;
    bool big = memcmp(tiff, "MM\0*", 4) == 0;
    if (!big && memcmp(tiff, "II*\0", 4) != 0) return 1;
    size_t at = read32(tiff + 4, big);
    if (at > bytes - 2) return 1;
    size_t entries = read16(tiff + at, big);
    at += 2;
    for (; entries > 0 && bytes - at >= ENTRY_BYTES; entries--, at += ENTRY_BYTES) {
        const uint8_t *entry = tiff + at;
        if (read16(entry, big) != TAG_ORIENTATION) continue;
        if (read16(entry + 2, big) != TYPE_SHORT || read32(entry + 4, big) != 1) return 1;
        uint32_t value = read16(entry + 8, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}
