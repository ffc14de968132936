/*
 * picture.c - a picture of the format that FUZZ_FORMAT names: a target for each.
 */
#include <string.h>

#include "fuzz.h"
#include "picture/container.h"
#include "picture/png.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t most, unsigned seed);

/* Makes the checksums of a PNG true, so that what a change has done is looked at. */
static void seal(uint8_t *png, size_t bytes) {
    for (size_t at = 8; at + 12 <= bytes;) {
        size_t length =
            (size_t)png[at] << 24 | (size_t)png[at + 1] << 16 | (size_t)png[at + 2] << 8 | png[at + 3];
        if (length > bytes - at - 12) return;
        uint32_t crc = vlci_png_crc(png + at + 4, length + 4);
        for (int i = 0; i < 4; i++) png[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t most, unsigned seed) {
    bytes = LLVMFuzzerMutate(data, bytes, most);
    if (FUZZ_FORMAT == VLCI_CONTAINER_PNG && seed % 8) seal(data, bytes);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    vlci_container head;
    vlcache_image *image = NULL;
    int width, height;
    if (vlci_container_read(data, bytes, "f", &head) || head.kind != FUZZ_FORMAT) return 0;
    if ((uint64_t)head.width * head.height > 1 << 20) return 0; /* allowed, and slow */
    if (vlcache_image_decode(data, bytes, "f", &image)) return 0;
    vlcache_image_size(image, &width, &height);
    bool turned = head.orientation >= 5;
    FUZZ_HOLDS((uint32_t)width == (turned ? head.height : head.width));
    FUZZ_HOLDS((uint32_t)height == (turned ? head.width : head.height));
    volatile uint8_t last = vlcache_image_pixels(image)[3 * (size_t)width * (size_t)height - 1];
    (void)last;
    vlcache_image_destroy(&image);
    return 0;
}
