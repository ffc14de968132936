/*
 * libav.c - loads the libraries once, and finds their functions by name.
 */
#include "video/libav.h"

#include "vlcache/video.h"

#ifdef VLCI_WITH_LIBAV
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

vlci_libav_table vlci_libav;

enum { MOST_BYTES_AT_ONCE = 1 << 30 };

static bool loaded;

/* A library of the major version whose headers were read. */
static void *open_library(const char *name, int major) {
    char file[64];
    snprintf(file, sizeof file, "lib%s.so.%d", name, major);
    return dlopen(file, RTLD_NOW | RTLD_LOCAL);
}

/* `into` is a pointer to a function. */
static bool find(void *const *libraries, const char *name, void *into) {
    void *found = dlsym(libraries[0], name); /* or in what that depends on */
    if (!found) found = dlsym(libraries[1], name);
    memcpy(into, &found, sizeof found);
    return found != NULL;
}

/* They speak to standard error unless told otherwise, and trust sizes that files name. */
static void quieten(void) {
    if (vlci_libav.av_log_get_level() == AV_LOG_INFO) vlci_libav.av_log_set_level(AV_LOG_QUIET);
    vlci_libav.av_max_alloc(MOST_BYTES_AT_ONCE);
}

#define QUOTED(name) #name
#define FIND(name)   whole = find(libraries, QUOTED(name), &vlci_libav.name) && whole;

static void load(void) {
    void *libraries[2] = {open_library("avformat", LIBAVFORMAT_VERSION_MAJOR),
                          open_library("swscale", LIBSWSCALE_VERSION_MAJOR)};
    bool whole = libraries[0] && libraries[1];
    if (whole) {
        VLCI_LIBAV_FUNCTIONS(FIND)
    }
    loaded = whole;
    if (loaded) quieten();
}

bool vlcache_video_reads_files(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded;
}
#else
bool vlcache_video_reads_files(void) {
    return false;
}
#endif
