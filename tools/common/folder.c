/*
 * folder.c - the model that ships, wherever the program was put.
 */
#include "common/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const built_in[] = {
#ifdef VLCACHE_DEFAULT_MODEL
    VLCACHE_DEFAULT_MODEL, /* the source tree's */
#endif
#ifdef VLCACHE_INSTALLED_MODEL
    VLCACHE_INSTALLED_MODEL, /* $datadir/vlcache/model, where datadir is not ../share */
#endif
    NULL,
};

static bool is_model(const char *folder) {
    char file[FOLDER_BYTES + 16];
    snprintf(file, sizeof file, "%s/config.json", folder);
    return access(file, R_OK) == 0;
}

/* The program's own path is the kernel's to tell: argv[0] may be anything. */
static bool beside_program(char path[FOLDER_BYTES]) {
    char program[FOLDER_BYTES - 32];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return false;
    program[length] = 0;
    char *slash = strrchr(program, '/');
    if (!slash) return false;
    snprintf(path, FOLDER_BYTES, "%.*s/../share/vlcache/model", (int)(slash - program), program);
    return is_model(path);
}

bool folder_of_model(char path[FOLDER_BYTES]) {
    const char *asked = getenv("VLCACHE_MODEL");
    if (asked && *asked) return snprintf(path, FOLDER_BYTES, "%s", asked) < FOLDER_BYTES;
    if (beside_program(path)) return true;
    for (const char *const *folder = built_in; *folder; folder++) {
        snprintf(path, FOLDER_BYTES, "%s", *folder);
        if (is_model(path)) return true;
    }
    return false;
}
