/*
 * stb.c - JPEG, PNG, GIF and BMP through stb_image.
 *
 * stb_image is fed only files whose structure has been walked to the end, never its multi-frame GIF entry
 * (where CVE-2023-45661, -45664, -45666 and -45667 live), and allocates through a gate with a ceiling that
 * follows from the header, so that a few bytes of deflate cannot grow to gigabytes.
 */
#include "picture/stb.h"

#include <string.h>

#include "core/alloc.h"

/* ---- stb_image ----------------------------------------------------------------------------------------- */

/* A block of the decoder's memory, in the list of those that live. */
typedef struct block {
    struct block *next, **link; /* link: what points to this block */
    _Alignas(16) uint8_t bytes[];
} block;

/* One decode, on this thread: its blocks (some of the decoder's error paths forget theirs), the largest that
 * it may ask for, and why it got none. */
static _Thread_local struct {
    block *blocks;
    size_t ceiling;
    bool refused, exhausted;
} gate;

static void gate_link(block *b) {
    b->next = gate.blocks;
    b->link = &gate.blocks;
    if (b->next) b->next->link = &b->next;
    gate.blocks = b;
}

static void gate_unlink(block *b) {
    *b->link = b->next;
    if (b->next) b->next->link = b->link;
}

static block *block_of(void *bytes) {
    return (block *)((uint8_t *)bytes - offsetof(block, bytes));
}

/* New bytes are zeroed: what a damaged file leaves out must not show old memory. */
static void *gate_resize(void *old, size_t old_bytes, size_t bytes) {
    block *b = old ? block_of(old) : NULL, *grown = NULL;
    if (bytes > gate.ceiling) {
        gate.refused = true;
        return NULL;
    }
    if (b) gate_unlink(b);
    grown = vlci_realloc(b, sizeof *b + bytes, 1);
    if (!grown) gate.exhausted = true;
    if (grown && bytes > old_bytes) memset(grown->bytes + old_bytes, 0, bytes - old_bytes);
    if (grown || b) gate_link(grown ? grown : b);
    return grown ? grown->bytes : NULL;
}

static void gate_free(void *bytes) {
    if (!bytes) return;
    gate_unlink(block_of(bytes));
    vlci_free(block_of(bytes));
}

static void gate_clear(void) {
    while (gate.blocks) gate_free(gate.blocks->bytes);
}

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wsign-compare"
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" // the compiler loses sight of read_from_callbacks
#endif
#define STB_IMAGE_IMPLEMENTATION
#define STBIDEF static __attribute__((unused)) // local, and part of it only is called
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_GIF
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS                   VLCI_IMAGE_MAX_SIDE
#define STBI_ASSERT(x)                        ((void)0)
#define STBI_MALLOC(bytes)                    gate_resize(NULL, 0, bytes)
#define STBI_REALLOC_SIZED(block, old, bytes) gate_resize(block, old, bytes)
#define STBI_FREE(block)                      gate_free(block)
#define stbi__unpremultiply_on_load_thread    stbi_set_unpremultiply_on_load_thread // 2.27 misnames it
#include <stb/stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/* ---- decoding ------------------------------------------------------------------------------------------ */

/* The largest single block an honest file of this size needs: a progressive JPEG holds 2 bytes a coefficient,
 * a 16-bit RGBA PNG inflates to 8 bytes a pixel in a buffer that doubles, its IDAT chunks are gathered in
 * another. */
static size_t decode_ceiling(const vlci_container *header, size_t bytes) {
    return ((size_t)16 << 20) + (size_t)header->width * header->height * 24 + bytes * 2;
}

static vlcache_status stb_failure(const char *name) {
    if (gate.refused)
        return vlci_fail(VLCACHE_E_FORMAT,
                         "%s: unpacks to far more than its header's size: a damaged or hostile file", name);
    if (gate.exhausted) return vlci_fail_memory("picture's decoding");
    const char *why = stbi_failure_reason();
    return vlci_fail(VLCACHE_E_FORMAT,
                     "%s: cannot be decoded (%s): save the picture again as an ordinary PNG or JPEG file",
                     name, why && *why ? why : "damaged data");
}

static vlcache_status decode(const uint8_t *file, size_t bytes, const char *name,
                             const vlci_container *header, uint8_t *rgb) {
    int width = 0, height = 0, channels = 0, wanted = header->kind == VLCI_CONTAINER_JPEG ? 3 : 4;
    vlcache_status status = VLCACHE_OK;
    gate.ceiling = decode_ceiling(header, bytes);
    gate.refused = gate.exhausted = false;
    stbi__g_failure_reason = NULL;
    uint8_t *pixels = stbi_load_from_memory(file, (int)bytes, &width, &height, &channels, wanted);
    if (!pixels) {
        status = stb_failure(name);
    } else if ((uint32_t)width != header->width || (uint32_t)height != header->height) {
        status = vlci_fail(VLCACHE_E_FORMAT, "%s: decodes to %d x %d pixels, its header says %u x %u", name,
                           width, height, header->width, header->height);
    } else if (wanted == 4) {
        vlci_compose_on_white(pixels, (size_t)width * (size_t)height, rgb);
    } else {
        memcpy(rgb, pixels, (size_t)width * (size_t)height * 3);
    }
    gate_clear();
    return status;
}

/* ---- JPEG without its end ------------------------------------------------------------------------------ */

/*
 * The decoder takes zeros for what a cut file lacks, gives up early where a restart marker is missing, and
 * says nothing of either. So such a file is decoded with zeros and with (nearly) ones behind it: where the
 * pixels depend on that, they are not all in the file; and with a restart marker behind it, which must be one
 * too many.
 */
enum { TAILS = 4, TAIL_BYTES = 128 };

static void write_tail(uint8_t *tail, int which) {
    memset(tail, which & 1 ? 0xFE : 0, TAIL_BYTES); // FF would begin a marker
    if (which & 2) tail[0] = 0xFF, tail[1] = 0xD0;
    tail[TAIL_BYTES - 2] = 0xFF, tail[TAIL_BYTES - 1] = 0xD9;
}

/* Whether the pixels, which come out in `rgb`, are the same whatever follows the file. `longer` has room for
 * a tail behind the file, `other` for its pixels. */
static vlcache_status is_whole(uint8_t *longer, size_t bytes, const char *name, const vlci_container *header,
                               uint8_t *rgb, uint8_t *other, bool *whole) {
    size_t pixels = (size_t)header->width * header->height;
    vlcache_status status = VLCACHE_OK;
    *whole = true;
    for (int i = 0; i < TAILS && *whole; i++) {
        write_tail(longer + bytes, i);
        status = decode(longer, bytes + TAIL_BYTES, name, header, i ? other : rgb);
        if (status && status != VLCACHE_E_FORMAT) return status;
        if (status)
            *whole = i >= 2 && strcmp(stbi_failure_reason(), "unknown marker") == 0;
        else
            *whole = i == 0 || memcmp(rgb, other, pixels * 3) == 0;
    }
    return VLCACHE_OK;
}

static vlcache_status decode_open_ended(const uint8_t *file, size_t bytes, const char *name,
                                        const vlci_container *header, uint8_t *rgb) {
    bool whole = false;
    vlcache_status status = VLCACHE_OK;
    while (bytes && file[bytes - 1] == 0xFF) bytes--; // half an end marker
    uint8_t *longer = vlci_alloc(bytes + TAIL_BYTES, 1);
    uint8_t *other = vlci_alloc((size_t)header->width * header->height, 3);
    if (!longer || !other) status = vlci_fail_memory("picture's decoding");
    if (!status) memcpy(longer, file, bytes);
    if (!status) status = is_whole(longer, bytes, name, header, rgb, other, &whole);
    if (!status && !whole)
        status = vlci_fail(VLCACHE_E_FORMAT,
                           "%s: the file ends inside the JPEG data after %zu bytes: it is truncated; copy it "
                           "again",
                           name, bytes);
    vlci_free(longer);
    vlci_free(other);
    return status;
}

vlcache_status vlci_stb_decode(const uint8_t *file, size_t bytes, const char *name,
                               const vlci_container *header, uint8_t *rgb) {
    return header->open_ended ? decode_open_ended(file, bytes, name, header, rgb)
                              : decode(file, bytes, name, header, rgb);
}
