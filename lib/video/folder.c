/*
 * folder.c - pictures as frames: the files of a folder in the order of their names, or pictures in memory.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "video/source.h"

/* Most bytes of names that are kept of a folder. */
enum { MOST_NAMES = 1 << 28 };

/* ---- a folder ------------------------------------------------------------------------------------------ */

typedef struct folder {
    char **path; /* [n], each owned */
    size_t n, room, bytes;
} folder;

static void folder_close(void *self) {
    folder *f = self;
    if (!f) return;
    for (size_t i = 0; i < f->n; i++) vlci_free(f->path[i]);
    vlci_free(f->path);
    vlci_free(f);
}

static vlcache_status add(folder *f, const char *where, const char *name) {
    f->bytes += strlen(where) + strlen(name) + 2;
    if (f->n == VLCACHE_VIDEO_MAX_FRAMES || f->bytes > MOST_NAMES)
        return vlci_fail_file(VLCACHE_E_FORMAT, where, "take fewer frames a second",
                              "holds more than %d files", VLCACHE_VIDEO_MAX_FRAMES);
    if (f->n == f->room) {
        size_t room = 2 * f->room + 64;
        char **grown = vlci_realloc(f->path, room, sizeof *grown);
        if (!grown) return vlci_fail_memory("names of frames");
        f->path = grown;
        f->room = room;
    }
    f->path[f->n] = vlci_format("%s/%s", where, name);
    return f->path[f->n++] ? VLCACHE_OK : vlci_fail_memory("names of frames");
}

static vlcache_status list(folder *f, const char *where) {
    DIR *dir = opendir(where);
    vlcache_status status = VLCACHE_OK;
    if (!dir)
        return vlci_fail_file(vlci_errno_status(errno), where, "name a folder that holds pictures",
                              "cannot be opened as a folder (%s)", strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry || status) break;
        if (entry->d_name[0] != '.') status = add(f, where, entry->d_name);
    }
    if (!status && errno)
        status =
            vlci_fail_file(vlci_errno_status(errno), where, NULL, "cannot be read (%s)", strerror(errno));
    closedir(dir);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static vlcache_status folder_read(void *self, int index, vlcache_image **out) {
    return vlcache_image_load(((const folder *)self)->path[index], out);
}

static const vlci_source_kind folder_kind = {folder_read, folder_close};

vlcache_status vlci_folder_open(const char *where, double fps, vlci_source *out) {
    vlcache_image *first = NULL;
    folder *f = vlci_calloc(1, sizeof *f);
    if (!f) return vlci_fail_memory("names of frames");
    vlcache_status status = list(f, where);
    if (!status && !f->n)
        status =
            vlci_fail_file(VLCACHE_E_FORMAT, where, "name a folder that holds pictures", "holds no files");
    if (!status) qsort(f->path, f->n, sizeof *f->path, by_name);
    if (!status) status = folder_read(f, 0, &first);
    if (status) {
        folder_close(f);
        return status;
    }
    *out = (vlci_source){.kind = &folder_kind, .self = f, .info = {.frames = (int)f->n, .fps = fps}};
    vlcache_image_size(first, &out->info.width, &out->info.height);
    vlcache_image_destroy(&first);
    return VLCACHE_OK;
}

/* ---- pictures in memory -------------------------------------------------------------------------------- */

typedef struct stack {
    vlcache_image **image; /* [n], each owned */
    size_t n;
} stack;

static void stack_close(void *self) {
    stack *s = self;
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) vlcache_image_destroy(&s->image[i]);
    vlci_free(s->image);
    vlci_free(s);
}

static vlcache_status copy(const vlcache_image *image, vlcache_image **out) {
    int width, height;
    vlcache_image_size(image, &width, &height);
    return vlcache_image_from_rgb(vlcache_image_pixels(image), width, height, 0, out);
}

static vlcache_status stack_read(void *self, int index, vlcache_image **out) {
    return copy(((const stack *)self)->image[index], out);
}

static const vlci_source_kind stack_kind = {stack_read, stack_close};

static vlcache_status push(stack *s, const vlcache_image *image, vlcache_video_info *info) {
    int width, height;
    if (!image)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("video.images[%zu]", s->n), NULL,
                           "is NULL: give a picture");
    vlcache_image_size(image, &width, &height);
    if (!s->n) info->width = width, info->height = height;
    if (width != info->width || height != info->height)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("video.images[%zu]", s->n),
                           VLCI_VALUE("%d x %d", width, height), "must be %d x %d, as the first is",
                           info->width, info->height);
    vlcache_status status = copy(image, &s->image[s->n]);
    if (!status) s->n++;
    return status;
}

vlcache_status vlci_stack_open(const vlcache_image *const *images, size_t n, double fps, vlci_source *out) {
    stack *s = vlci_calloc(1, sizeof *s);
    if (s) s->image = vlci_calloc(n, sizeof *s->image);
    vlcache_status status = s && s->image ? VLCACHE_OK : vlci_fail_memory("frames of a video");
    *out = (vlci_source){.kind = &stack_kind, .self = s, .info = {.frames = (int)n, .fps = fps}};
    for (size_t i = 0; i < n && !status; i++) status = push(s, images[i], &out->info);
    if (status) stack_close(s);
    return status;
}
