/*
 * heif.c - HEIC and AVIF through libheif.
 *
 *     first box: length (4 bytes), "ftyp", brand, version, further brands (4 bytes each)    (ISO 14496-12)
 */
#include "picture/heif.h"

#include <string.h>

static const char *kind_of_brand(const uint8_t *brand) {
    static const char heic[][5] = {"heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs"};
    if (memcmp(brand, "avif", 4) == 0 || memcmp(brand, "avis", 4) == 0) return "AVIF";
    for (size_t i = 0; i < sizeof heic / sizeof *heic; i++)
        if (memcmp(brand, heic[i], 4) == 0) return "HEIC";
    return NULL;
}

const char *vlci_heif_kind(const uint8_t *file, size_t bytes) {
    if (bytes < 16 || memcmp(file + 4, "ftyp", 4) != 0) return NULL;
    size_t end = (size_t)file[2] << 8 | file[3];
    if (file[0] || file[1] || end > bytes) end = 16;
    const char *kind = kind_of_brand(file + 8);
    for (size_t at = 16; !kind && at + 4 <= end; at += 4) kind = kind_of_brand(file + at);
    bool still = memcmp(file + 8, "mif1", 4) == 0 || memcmp(file + 8, "msf1", 4) == 0;
    return kind ? kind : still ? "HEIC" : NULL;
}

#ifdef VLCI_WITH_HEIF
#include <libheif/heif.h>

#include "core/alloc.h"

typedef struct heif {
    struct heif_context *context;
    struct heif_image_handle *picture;
} heif;

static vlcache_status failure(const char *name, struct heif_error error) {
    bool unsupported = error.code == heif_error_Unsupported_filetype ||
                       error.code == heif_error_Unsupported_feature ||
                       error.code == heif_error_Decoder_plugin_error;
    bool limit = error.subcode == heif_suberror_Security_limit_exceeded;
    if (error.code == heif_error_Memory_allocation_error && !limit)
        return vlci_fail_memory("picture's decoding");
    return vlci_fail(
        unsupported ? VLCACHE_E_UNSUPPORTED : VLCACHE_E_FORMAT,
        "%s: HEIC or AVIF picture cannot be decoded (%s): save it again as an ordinary PNG or JPEG "
        "file",
        name, error.message ? error.message : "damaged data");
}

static void close_file(heif *h) {
    if (h->picture) heif_image_handle_release(h->picture);
    if (h->context) heif_context_free(h->context);
}

static vlcache_status open_file(const uint8_t *file, size_t bytes, const char *name, heif *h) {
    *h = (heif){.context = heif_context_alloc()};
    if (!h->context) return vlci_fail_memory("picture's decoding");
    struct heif_error error = heif_context_read_from_memory_without_copy(h->context, file, bytes, NULL);
    if (!error.code) error = heif_context_get_primary_image_handle(h->context, &h->picture);
    return error.code ? failure(name, error) : VLCACHE_OK;
}

vlcache_status vlci_heif_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out) {
    heif h;
    out->kind = VLCI_CONTAINER_HEIF;
    vlcache_status status = open_file(file, bytes, name, &h);
    if (!status) {
        out->width = (uint32_t)heif_image_handle_get_width(h.picture);
        out->height = (uint32_t)heif_image_handle_get_height(h.picture);
        out->alpha = heif_image_handle_has_alpha_channel(h.picture);
    }
    close_file(&h);
    return status;
}

/* The decoded picture's rows, packed. */
static vlcache_status copy_rows(const struct heif_image *image, const char *name,
                                const vlci_container *header, uint8_t *rgb) {
    int stride = 0;
    const uint8_t *rows = heif_image_get_plane_readonly(image, heif_channel_interleaved, &stride);
    if (!rows || heif_image_get_width(image, heif_channel_interleaved) != (int)header->width ||
        heif_image_get_height(image, heif_channel_interleaved) != (int)header->height)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: decodes to another size than its header says", name);
    for (uint32_t y = 0; y < header->height; y++, rows += stride, rgb += (size_t)header->width * 3) {
        if (header->alpha)
            vlci_compose_on_white(rows, header->width, rgb);
        else
            memcpy(rgb, rows, (size_t)header->width * 3);
    }
    return VLCACHE_OK;
}

vlcache_status vlci_heif_decode(const uint8_t *file, size_t bytes, const char *name,
                                const vlci_container *header, uint8_t *rgb) {
    heif h;
    struct heif_image *image = NULL;
    struct heif_decoding_options *options = NULL;
    vlcache_status status = open_file(file, bytes, name, &h);
    if (status) goto done;
    options = heif_decoding_options_alloc();
    if (!options) {
        status = vlci_fail_memory("picture's decoding");
        goto done;
    }
    options->convert_hdr_to_8bit = 1;
    struct heif_error error =
        heif_decode_image(h.picture, &image, heif_colorspace_RGB,
                          header->alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB,
                          options);
    status = error.code ? failure(name, error) : copy_rows(image, name, header, rgb);
done:
    if (image) heif_image_release(image);
    if (options) heif_decoding_options_free(options);
    close_file(&h);
    return status;
}
#else
vlcache_status vlci_heif_header(const uint8_t *file, size_t bytes, const char *name, vlci_container *out) {
    (void)out;
    return vlci_fail(
        VLCACHE_E_UNSUPPORTED,
        "%s: is a picture in %s, which this build does not read: build with libheif-dev installed, or "
        "save it as PNG or JPEG",
        name, vlci_heif_kind(file, bytes));
}

vlcache_status vlci_heif_decode(const uint8_t *file, size_t bytes, const char *name,
                                const vlci_container *header, uint8_t *rgb) {
    (void)header, (void)rgb;
    return vlci_heif_header(file, bytes, name, NULL);
}
#endif
