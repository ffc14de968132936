/*
 * scratch.c - temporary files and failing memory for the tests.
 */
#include "support/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vlcache/common.h"

static char folder[64];

const char *scratch_folder(void) {
    if (!folder[0]) {
        strcpy(folder, "/tmp/vlcache-test-XXXXXX");
        if (!mkdtemp(folder)) abort();
    }
    return folder;
}

static void place(char path[512], const char *name) {
    snprintf(path, 512, "%s/%s", scratch_folder(), name);
}

void scratch_write(const char *name, const void *data, size_t bytes) {
    char path[512];
    place(path, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) abort();
}

void scratch_text(const char *name, const char *text) {
    scratch_write(name, text, strlen(text));
}

static int drop(const char *path, const struct stat *at, int type, struct FTW *walk) {
    (void)at, (void)type, (void)walk;
    return remove(path);
}

void scratch_remove(const char *name) {
    char path[512];
    place(path, name);
    nftw(path, drop, 8, FTW_DEPTH | FTW_PHYS);
}

void scratch_clean(void) {
    if (!folder[0]) return;
    DIR *list = opendir(folder);
    for (struct dirent *entry; list && (entry = readdir(list));)
        if (entry->d_name[0] != '.') scratch_remove(entry->d_name);
    if (list) closedir(list);
    rmdir(folder);
    folder[0] = '\0';
}

static struct {
    long left, held;
    bool failed;
} state;

static void *resize(void *user, void *block, size_t bytes) {
    (void)user;
    if (state.left == 0) {
        state.failed = true;
        return NULL;
    }
    if (state.left > 0) state.left--;
    void *moved = realloc(block, bytes);
    if (moved && !block) state.held++;
    return moved;
}

static void release(void *user, void *block) {
    (void)user;
    state.held--;
    free(block);
}

void failing_start(long at) {
    state.left = at;
    state.held = 0;
    state.failed = false;
    vlcache_set_allocator(resize, release, NULL);
}

long failing_stop(bool *failed) {
    vlcache_set_allocator(NULL, NULL, NULL);
    if (failed) *failed = state.failed;
    return state.held;
}
