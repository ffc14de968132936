/**
 * options.h - what the command line asks for.
 */
#ifndef RUN_OPTIONS_H
#define RUN_OPTIONS_H

#include <vlcache/vlcache.h>

/**
 * How the KV cache is compressed unless --policy and --budget say otherwise; the one place for it. Of the
 * budgets measured on the shipped model (README.md), 0.10 is the smallest at which this policy keeps all of
 * the full cache's score on every task. A text model, whose prompts are short and hold no picture, is not
 * compressed unless they are given.
 */
#define DEFAULT_POLICY "vlcache+"
#define STREAM_POLICY  "centroids" /* with --stream, which does not go with coded rows */
#define DEFAULT_BUDGET 0.10

/** Frames a second in a folder without --fps. */
#define DEFAULT_FPS 2.0

typedef enum action {
    ACTION_ASK, /* with a prompt one question, without one a chat */
    ACTION_HELP,
    ACTION_VERSION,
    ACTION_DEVICES,
} action;

/** A video that the line names: a file, or a folder of frames. */
typedef struct video_option {
    const char *path;
    bool frames;
} video_option;

/** Texts point into argv. */
typedef struct options {
    int action;         /* ACTION_* */
    const char *model;  /* NULL: the model that ships */
    const char *prompt; /* NULL: a chat */
    const char **images;
    int n_images;
    video_option *videos;
    int n_videos;
    double fps;        /* of the frames in folders; 0: not given */
    double sample_fps; /* of the frames that are seen; 0: as the model says */
    int sample_frames; /* the same, of the whole */
    int stream;        /* frames that are read at a time; 0: all */
    const char *device, *chat_template, *system, *heatmap; /* NULL: not given */
    const char *recall;                                    /* "none" or "host" */
    int predict, context, top_k;
    int min_pixels, max_pixels; /* of pictures; 0: as the checkpoint says */
    double temperature, top_p;
    uint64_t seed;
    vlcache_dtype dtype;
    vlcache_compress_options compress;
    char *policy_text; /* what its policy points into; NULL: static */
    bool compresses;   /* whether the line says how */
    bool raw, json, dump_kept, quiet, profile, no_mmap;
} options;

/** The flags as --help shows them, with their defaults. */
void options_print_flags(void);

/** Reads the command line. EXIT_OK, EXIT_USAGE or EXIT_MEMORY; call options_release() in any case. */
int options_parse(int argc, char **argv, options *o);

void options_release(options *o);

#endif
