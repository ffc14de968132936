/**
 * processor.h - what the image processor of a checkpoint is told to do, as numbers.
 */
#ifndef VLCI_PICTURE_PROCESSOR_H
#define VLCI_PICTURE_PROCESSOR_H

#include "checkpoint/json.h"

/** The steps, in their order: pad, resize, crop, rescale, normalise. */
typedef struct vlci_processor {
    bool pad_square;   /**< to a square, with the background, before anything else */
    int background[3]; /**< 255 * mean, cut to whole numbers */
    bool resize;
    int shortest_edge; /**< > 0: keep the ratio; else resize to resize_width x resize_height */
    int resize_width, resize_height;
    int resample; /**< PIL's number: 0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box, 5 hamming */
    bool crop;
    int crop_width, crop_height;
    bool rescale, normalize;
    float rescale_factor; /**< 1/255 */
    float mean[3], std[3];
} vlci_processor;

/** What SigLIP's classes, and those that came behind them, do with a value: mean and standard deviation 0.5.
 */
#define VLCI_PROCESSOR_HALVES                                                                                \
    .resize = true, .rescale = true, .rescale_factor = 1 / 255.0f, .normalize = true,                        \
    .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}

/** CLIPImageProcessor's own values. */
#define VLCI_PROCESSOR_CLIP                                                                                  \
    {                                                                                                        \
        .resize = true, .shortest_edge = 224, .resample = 3, .crop = true, .crop_width = 224,                \
        .crop_height = 224, .rescale = true, .rescale_factor = 1 / 255.0f, .normalize = true,                \
        .mean = {0.48145466f, 0.4578275f, 0.40821073f}, .std = {                                             \
            0.26862954f,                                                                                     \
            0.26130258f,                                                                                     \
            0.27577711f                                                                                      \
        }                                                                                                    \
    }

/** The class that the file names ("image_processor_type", or "feature_extractor_type" of old files);
 * `*type` keeps what the caller put there when it names none. Errors: VLCACHE_E_FORMAT. */
vlcache_status vlci_processor_type(const vlci_scope *scope, const char **type);

/** Whether a class is `base` or its Fast or Pil form, which do the same. */
bool vlci_processor_is(const char *type, const char *base);

/** Refuses a file that names another class than `base`. Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED. */
vlcache_status vlci_processor_expect(const vlci_scope *scope, const char *base);

/** Reads of the steps what every class has: "do_resize", "resample", "do_rescale", "rescale_factor",
 * "do_normalize", "image_mean" and "image_std", over the values that are there: for families that size
 * pictures in their own way. Errors as vlci_processor_read(). */
vlcache_status vlci_processor_read_values(const vlci_scope *scope, vlci_processor *processor);

/** Reads the steps over the values that are there; pad_square is left alone, since what "do_pad" means
 * depends on the class. Errors: VLCACHE_E_FORMAT, VLCACHE_E_UNSUPPORTED (file and field named). */
vlcache_status vlci_processor_read(const vlci_scope *scope, vlci_processor *processor);

#endif
