/*
 * fingerprint.c - 64-bit FNV-1a
 *
 *     h = 14695981039346656037;  for each byte: h = (h ^ byte) * 1099511628211
 */
#include "eval/fingerprint.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const uint64_t basis = 14695981039346656037u, prime = 1099511628211u;

static uint64_t add(uint64_t h, const void *bytes, size_t n) {
    for (const unsigned char *at = bytes; n--; at++) h = (h ^ *at) * prime;
    return h;
}

static bool add_file(uint64_t *h, const char *path) {
    char block[65536];
    size_t n;
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    while ((n = fread(block, 1, sizeof block, file)) > 0) *h = add(*h, block, n);
    bool good = !ferror(file);
    fclose(file);
    return good;
}

/* Name and size of a regular file; a folder and what is not there any more add nothing. */
static void add_entry(uint64_t *h, const char *folder, const char *name) {
    char path[4096], text[512];
    struct stat s;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (stat(path, &s) || !S_ISREG(s.st_mode)) return;
    int n = snprintf(text, sizeof text, "%s %llu\n", name, (unsigned long long)s.st_size);
    *h = add(*h, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static int visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name); /* the same in every locale */
}

bool fingerprint_file(const char *path, char text[FINGERPRINT_BYTES]) {
    uint64_t h = basis;
    bool good = add_file(&h, path);
    snprintf(text, FINGERPRINT_BYTES, "%016llx", (unsigned long long)h);
    return good;
}

bool fingerprint_model(const char *folder, char text[FINGERPRINT_BYTES]) {
    char config[4096];
    uint64_t h = basis;
    struct dirent **entries = NULL;
    snprintf(config, sizeof config, "%s/config.json", folder);
    bool good = add_file(&h, config);
    int n = good ? scandir(folder, &entries, visible, by_bytes) : 0;
    for (int i = 0; i < n; i++) {
        add_entry(&h, folder, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    snprintf(text, FINGERPRINT_BYTES, "%016llx", (unsigned long long)h);
    return good && n >= 0;
}
