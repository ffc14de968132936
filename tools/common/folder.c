/*
 * folder.c - the model and the questions that ship, wherever the program was put.
 */
#include "common/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const built_in[] = {
#ifdef VLCACHE_SOURCE_SHARE
    VLCACHE_SOURCE_SHARE, /* the source tree's */
#endif
#ifdef VLCACHE_INSTALLED_SHARE
    VLCACHE_INSTALLED_SHARE, /* $datadir/vlcache, where datadir is not ../share */
#endif
    NULL,
};

/* The program's own path is the kernel's to tell: argv[0] may be anything. */
static bool share_beside_program(char path[FOLDER_BYTES]) {
    ssize_t length = readlink("/proc/self/exe", path, FOLDER_BYTES - 1);
    if (length <= 0) return false;
    path[length] = 0;
    char *slash = strrchr(path, '/');
    if (!slash) return false;
    size_t left = FOLDER_BYTES - (size_t)(slash - path);
    return snprintf(slash, left, "/../share/vlcache") < (int)left;
}

/* Whether `folder` holds `file`; `path` is where. */
static bool holds(const char *folder, const char *file, char path[FOLDER_BYTES]) {
    return snprintf(path, FOLDER_BYTES, "%s/%s", folder, file) < FOLDER_BYTES && access(path, R_OK) == 0;
}

static bool find(const char *file, char path[FOLDER_BYTES]) {
    char share[FOLDER_BYTES];
    if (share_beside_program(share) && holds(share, file, path)) return true;
    for (const char *const *folder = built_in; *folder; folder++)
        if (holds(*folder, file, path)) return true;
    return false;
}

bool folder_of_model(char path[FOLDER_BYTES]) {
    const char *asked = getenv("VLCACHE_MODEL");
    if (asked && *asked) return snprintf(path, FOLDER_BYTES, "%s", asked) < FOLDER_BYTES;
    if (!find("model/config.json", path)) return false;
    *strrchr(path, '/') = 0;
    return true;
}

bool file_of_questions(char path[FOLDER_BYTES]) {
    return find("questions/questions.jsonl", path);
}
