/**
 * container.h - what a picture file says of itself, checked before a single pixel is decoded.
 */
#ifndef VLCI_PICTURE_CONTAINER_H
#define VLCI_PICTURE_CONTAINER_H

#include "picture/format.h"

/**
 * Recognises the format by its content (the name's extension is not trusted), walks the file's structure to
 * its end and checks that it is whole and of a sane size: a truncated file, one with a wrong PNG checksum or
 * a bomb is refused here. `name` is for messages. Errors: VLCACHE_E_FORMAT.
 */
vlcache_status vlci_container_read(const uint8_t *file, size_t bytes, const char *name, vlci_container *out);

#endif
