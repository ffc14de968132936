/*
 * exif.c - the block in which a camera says which way up it was held.
 */
#include "picture/exif.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    int orientation = vlci_exif_orientation(data, bytes);
    FUZZ_HOLDS(orientation >= 1 && orientation <= 8);
    return 0;
}
