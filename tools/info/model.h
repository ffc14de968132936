/**
 * model.h - vlcache-info -m: what a model's folder says, and whether it fits.
 */
#ifndef INFO_MODEL_H
#define INFO_MODEL_H

#include <vlcache/vlcache.h>

#include "common/console.h"
#include "common/flag.h"

enum { MODEL_SIZES = 16 };

/** What is asked about a folder. */
typedef struct model_question {
    const char *folder;
    struct {
        int width, height; /* pixels */
    } size[MODEL_SIZES];
    int n_sizes;
    int tokens; /* of a conversation; 0: the usual two lengths */
    double budget;
    vlcache_dtype dtype;               /* of weights and KV rows */
    int min_pixels, max_pixels;        /* of pictures; 0: as the checkpoint says */
    bool json, no_mmap;                /* no_mmap: nothing stays in its file, whatever the device */
    const vlcache_device_info *device; /* [n_devices]: those that it may fit; borrowed */
    size_t n_devices;
} model_question;

/** Every default. */
#define MODEL_QUESTION                                                                                       \
    { .size = {{640, 480}, {1024, 768}, {1920, 1080}}, .n_sizes = 3, .budget = 0.1 }

/** A flag_reader of "640x480,1024x768" into the question at the flag's offset. */
int model_read_sizes(const flag *f, const char *name, const char *text, void *options);

/** Prints what the folder says. EXIT_OK; what would fail while it is loaded, as the exit code of that. */
int model_describe(console *c, const model_question *question);

#endif
