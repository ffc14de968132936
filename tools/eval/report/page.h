/**
 * page.h - HTML: what surrounds the sections of a report, and text that cannot break out of its place.
 */
#ifndef REPORT_PAGE_H
#define REPORT_PAGE_H

#include <stdio.h>

/** The head with all style, and the start of the body. */
void page_begin(FILE *out, const char *title);
void page_end(FILE *out);

/** A heading, and one sentence of how to read what follows. */
void page_section(FILE *out, const char *id, const char *heading, const char *reading);
void page_section_end(FILE *out);

/** Any text, for the inside of an element or of a quoted attribute. Control characters, which XML does not
 * have, are left out; bytes that are no UTF-8, as paths may have them, come as U+FFFD. NULL: nothing. */
void page_text(FILE *out, const char *text);

/** The first n bytes of it. */
void page_part(FILE *out, const char *text, size_t n);

/** A colour and a marker for each of a row of things: how many there are before they repeat. */
enum { PAGE_COLOURS = 8 };

#endif
