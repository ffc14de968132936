/*
 * pictures.c - pictures from files and from standard input.
 */
#include "run/pictures.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exit.h"
#include "common/infile.h"
#include "common/interrupt.h"

static int load_input(infile *file, vlcache_image **out, console *c) {
    if (isatty(STDIN_FILENO))
        return console_fail(c, EXIT_USAGE, "--image -: standard input is a terminal: pipe a picture into it");
    int code = infile_read_open(STDIN_FILENO, "standard input", INFILE_MOST_PICTURE, file);
    if (code) return console_fail(c, code, "%s", file->why);
    vlcache_status status = vlcache_image_decode(file->data, file->bytes, "standard input", out);
    return status ? console_fail_status(c, status) : EXIT_OK;
}

static int load_file(infile *file, const char *path, vlcache_image **out, console *c) {
    int code = infile_picture(path, file, out);
    return code ? console_fail(c, code, "%s", file->why) : EXIT_OK;
}

int pictures_add(pictures *p, const char *path, console *c) {
    vlcache_image **grown = realloc(p->items, (p->n + 1) * sizeof *grown);
    if (!grown) return console_fail(c, EXIT_MEMORY, "%s: out of host memory", path);
    p->items = grown;
    grown[p->n] = NULL;
    interrupt_ends(true); /* a pipe may keep us waiting */
    infile file = {0};
    int code =
        strcmp(path, "-") ? load_file(&file, path, &grown[p->n], c) : load_input(&file, &grown[p->n], c);
    infile_release(&file);
    interrupt_ends(false);
    if (!code) p->n++;
    return code;
}

void pictures_clear(pictures *p) {
    for (size_t i = 0; i < p->n; i++) vlcache_image_destroy(&p->items[i]);
    free(p->items);
    *p = (pictures){NULL, 0};
}
