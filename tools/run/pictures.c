/*
 * pictures.c - pictures from files and from standard input.
 */
#include "run/pictures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exit.h"
#include "common/interrupt.h"

static const size_t max_input = (size_t)256 << 20; /* what a file may have, too */

/* All of standard input in new memory. */
static int read_input(uint8_t **data, size_t *bytes, console *c) {
    size_t room = 0;
    *data = NULL;
    *bytes = 0;
    if (isatty(STDIN_FILENO))
        return console_fail(c, EXIT_USAGE, "--image -: standard input is a terminal: pipe a picture into it");
    for (;;) {
        if (*bytes == room) {
            room = room ? 2 * room : 65536;
            uint8_t *grown = room <= 2 * max_input ? realloc(*data, room) : NULL;
            if (!grown) return console_fail(c, EXIT_MEMORY, "standard input: out of host memory");
            *data = grown;
        }
        ssize_t got = read(STDIN_FILENO, *data + *bytes, room - *bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return console_fail(c, EXIT_INPUT, "standard input cannot be read: %s", strerror(errno));
        if (got == 0) return EXIT_OK;
        *bytes += (size_t)got;
        if (*bytes > max_input)
            return console_fail(c, EXIT_INPUT, "standard input: more than %zu bytes: scale the picture down",
                                max_input);
    }
}

static int load_input(vlcache_image **out, console *c) {
    uint8_t *data = NULL;
    size_t bytes = 0;
    int code = read_input(&data, &bytes, c);
    if (!code) {
        vlcache_status status = vlcache_image_decode(data, bytes, "standard input", out);
        if (status) code = console_fail_status(c, status);
    }
    free(data);
    return code;
}

static int load_file(const char *path, vlcache_image **out, console *c) {
    vlcache_status status = vlcache_image_load(path, out);
    return status ? console_fail_status(c, status) : EXIT_OK;
}

int pictures_add(pictures *p, const char *path, console *c) {
    vlcache_image **grown = realloc(p->items, (p->n + 1) * sizeof *grown);
    if (!grown) return console_fail(c, EXIT_MEMORY, "%s: out of host memory", path);
    p->items = grown;
    grown[p->n] = NULL;
    interrupt_ends(true); /* a pipe may keep us waiting */
    int code = strcmp(path, "-") ? load_file(path, &grown[p->n], c) : load_input(&grown[p->n], c);
    interrupt_ends(false);
    if (!code) p->n++;
    return code;
}

void pictures_clear(pictures *p) {
    for (size_t i = 0; i < p->n; i++) vlcache_image_destroy(&p->items[i]);
    free(p->items);
    *p = (pictures){NULL, 0};
}
