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

/** Any text, for the inside of an element or of a quoted attribute. Bytes that are no characters of XML are
 * left out. */
void page_text(FILE *out, const char *text);

/** A colour and a marker for each of a row of things: how many there are before they repeat. */
enum { PAGE_COLOURS = 8 };

#endif
