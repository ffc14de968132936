/**
 * paper.h - a text that is written whole before anyone sees it. Unlike open_memstream(), which loses what it
 * has no memory for and says nothing, it ends the program there (memory.h).
 */
#ifndef COMMON_PAPER_H
#define COMMON_PAPER_H

#include <stddef.h>
#include <stdio.h>

typedef struct paper {
    FILE *out;  /* writes to it; NULL: ended */
    char *text; /* after paper_end(); a zero byte follows */
    size_t bytes, room;
} paper;

/** Begins an empty one, which must stay where it is. */
void paper_begin(paper *p);

/** Closes `out`: text and bytes are whole. */
void paper_end(paper *p);

/** Ends it and gives the text back. */
void paper_release(paper *p);

#endif
