/**
 * bench.h - what the parts of vlcache-bench share: the options, and what they opened.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "bench/options.h"
#include "common/console.h"
#include "vlcache/vlcache.h"

/** What the device can do at best, measured (ceiling.h). */
typedef struct ceiling {
    double copy;    /* bytes a second that a copy reads and writes; 0: not measured */
    double product; /* operations a second of a large matrix product; 0: not measured */
} ceiling;

typedef struct bench {
    options options;
    console console;
    vlcache_device *device;
    vlcache_device_info device_info;
    vlcache_model *model;
    vlcache_model_info info;
    vlcache_image *image;     /* of every question; NULL: none */
    int picture_tokens;       /* rows of a prompt that the image becomes, alone in it */
    int picture_tokens_among; /* and with others */
    int picture_token;        /* the model's mark of a picture */
    ceiling ceiling;
    double load_seconds;
} bench;

/** Opens device, model and picture. An exit code. */
int bench_open(bench *b);
void bench_close(bench *b);

/** The device alone. An exit code. */
int bench_open_device(bench *b);

#endif
