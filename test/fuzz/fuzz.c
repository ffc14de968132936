/*
 * fuzz.c - texts, numbers and files out of a fuzzer's bytes.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *fuzz_text(fuzz_input *in) {
    const uint8_t *end = in->bytes ? memchr(in->data, 0, in->bytes) : NULL;
    size_t n = end ? (size_t)(end - in->data) : in->bytes, taken = n + (end != NULL);
    char *text = malloc(n + 1);
    if (!text) abort();
    if (n) memcpy(text, in->data, n);
    text[n] = 0;
    *in = (fuzz_input){in->data + taken, in->bytes - taken};
    return text;
}

unsigned fuzz_number(fuzz_input *in, unsigned most) {
    if (in->bytes < 2) return 0;
    unsigned number = in->data[0] | (unsigned)in->data[1] << 8;
    *in = (fuzz_input){in->data + 2, in->bytes - 2};
    return number % most;
}

/* ---- files -------------------------------------------------------------------------------------------- */

static char folder[64];

static int drop(const char *path, const struct stat *at, int type, struct FTW *walk) {
    (void)at, (void)type, (void)walk;
    return remove(path);
}

/* Of libFuzzer's processes each cleans up after itself. */
static void clean(void) {
    nftw(folder, drop, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void) {
    if (!folder[0]) {
        strcpy(folder, "/dev/shm/vlcache-fuzz-XXXXXX");
        if (!mkdtemp(folder)) abort();
        atexit(clean);
    }
    return folder;
}

const char *fuzz_path(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    return path;
}

void fuzz_write(const char *name, const void *data, size_t bytes) {
    int fd = open(fuzz_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || (bytes && write(fd, data, bytes) != (ssize_t)bytes) || close(fd)) abort();
}

void fuzz_remove(const char *name) {
    unlink(fuzz_path(name));
}

void fuzz_write_text(fuzz_input *in, const char *name) {
    char *text = fuzz_text(in);
    if (*text)
        fuzz_write(name, text, strlen(text));
    else
        fuzz_remove(name);
    free(text);
}

console *fuzz_console(void) {
    static console quiet;
    if (!quiet.words) quiet = (console){.quiet = true, .words = fopen("/dev/null", "w")};
    return &quiet;
}
