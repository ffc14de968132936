/*
 * open.c - device, model and picture; then what the device can do.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/ceiling.h"
#include "bench/geometry.h"
#include "bench/inside.h"
#include "common/clock.h"
#include "common/exit.h"
#include "common/folder.h"
#include "common/memory.h"

int bench_open_device(bench *b) {
    vlcache_device_options d = VLCACHE_DEVICE_OPTIONS_INIT;
    d.progress = console_progress;
    d.progress_user = &b->console;
    d.profile = b->options.profile;
    vlcache_status status = vlcache_device_open(b->options.device, &d, &b->device);
    console_erase(&b->console);
    if (status) return console_fail_status(&b->console, status);
    vlcache_device_describe(b->device, &b->device_info);
    return EXIT_OK;
}

static vlcache_status open_model(bench *b, const char *folder) {
    vlcache_model_options m = VLCACHE_MODEL_OPTIONS_INIT;
    const char *geometry = b->options.geometry, *config = geometry ? geometry_find(geometry) : NULL;
    double start = clock_seconds();
    m.progress = console_progress;
    m.progress_user = &b->console;
    m.dtype = b->options.dtype;
    m.no_mmap = b->options.no_mmap;
    vlcache_status status =
        geometry ? vlcache_model_create_random(b->device, config ? config : geometry, &m, &b->model)
                 : vlcache_model_load(b->device, folder, &m, &b->model);
    console_erase(&b->console);
    b->load_seconds = clock_seconds() - start;
    if (status) return status;
    vlcache_model_describe(b->model, &b->info);
    b->picture_token = inside_picture_token(b->model);
    return VLCACHE_OK;
}

enum { ANY_SIDE = 896 }; /* where the tower takes any */

/* Pixels at random, of the tower's side. */
static vlcache_status make_image(bench *b) {
    int side = b->info.image_side ? b->info.image_side : ANY_SIDE;
    size_t bytes = (size_t)side * (size_t)side * 3;
    uint8_t *rgb = memory_take(bytes, 1);
    uint32_t state = 1;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        rgb[i] = (uint8_t)(state >> 24);
    }
    vlcache_status status = vlcache_image_from_rgb(rgb, side, side, 0, &b->image);
    free(rgb);
    return status;
}

static vlcache_status open_image(bench *b) {
    vlcache_status status = VLCACHE_OK;
    if (b->options.image)
        status = vlcache_image_load(b->options.image, &b->image);
    else if (!options_words(&b->options) && b->info.patch_side)
        status = make_image(b);
    if (status || !b->image) return status;
    status = inside_picture_tokens(b->model, b->image, 1, &b->picture_tokens);
    return status ? status : inside_picture_tokens(b->model, b->image, 2, &b->picture_tokens_among);
}

/* A word that is no file is a name that was mistyped. */
static int check_geometry(bench *b) {
    const char *geometry = b->options.geometry;
    char names[256];
    if (!geometry || geometry_find(geometry) || strchr(geometry, '/') || !access(geometry, F_OK))
        return EXIT_OK;
    geometry_names(names, sizeof names);
    return console_fail(&b->console, EXIT_INPUT, "--geometry %s: neither a config.json nor one of %s",
                        geometry, names);
}

int bench_open(bench *b) {
    char shipped[FOLDER_BYTES];
    const char *folder = b->options.model;
    if (check_geometry(b)) return EXIT_INPUT;
    if (!folder && !b->options.geometry && folder_of_model(shipped)) folder = shipped;
    if (!folder && !b->options.geometry)
        return console_fail(&b->console, EXIT_INPUT, "no model: name one with -m DIR, or a --geometry");
    int code = bench_open_device(b);
    if (code) return code;
    vlcache_status status = open_model(b, folder);
    if (!status) status = open_image(b);
    if (!status && !b->options.plain) status = ceiling_measure(b->device, b->info.dtype, &b->ceiling);
    console_erase(&b->console);
    return status ? console_fail_status(&b->console, status) : EXIT_OK;
}

void bench_close(bench *b) {
    vlcache_image_destroy(&b->image);
    vlcache_model_destroy(&b->model);
    vlcache_device_destroy(&b->device);
}
