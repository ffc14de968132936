/*
 * paper.c - a stream onto bytes that grow.
 */
#include "common/paper.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

static ssize_t add(void *user, const char *bytes, size_t n) {
    paper *p = user;
    if (p->room - p->bytes <= n) {
        p->room = 2 * (p->bytes + n) + 4096;
        char *grown = realloc(p->text, p->room);
        if (!grown) memory_out();
        p->text = grown;
    }
    memcpy(p->text + p->bytes, bytes, n);
    p->bytes += n;
    p->text[p->bytes] = 0;
    return (ssize_t)n;
}

void paper_begin(paper *p) {
    *p = (paper){0};
    add(p, "", 0);
    p->out = fopencookie(p, "w", (cookie_io_functions_t){.write = add});
    if (!p->out) memory_out();
}

void paper_end(paper *p) {
    if (p->out) fclose(p->out);
    p->out = NULL;
}

void paper_release(paper *p) {
    paper_end(p);
    free(p->text);
    *p = (paper){0};
}
