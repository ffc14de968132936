/**
 * page.h - how vlcache-info writes: lines of a label and a text for people, strings for programs.
 */
#ifndef INFO_PAGE_H
#define INFO_PAGE_H

#include <jansson.h>

#include "common/console.h"

/** Columns of a line, in front of a label, and of a label. */
enum { PAGE_WIDTH = 100, PAGE_INDENT = 3, PAGE_LABEL = 18 };

/** "   label   text", broken at spaces before column PAGE_WIDTH. */
void page_field(console *c, const char *label, const char *format, ...) __attribute__((format(printf, 3, 4)));

/** A string of a text from elsewhere (a driver, a model's folder), which promises no encoding: what is not
 * UTF-8 loses its bytes above ASCII. NULL text: null. */
json_t *page_text(const char *text);

/** Prints the object, which it releases (NULL: memory ran out), as JSON; returns an exit code. */
int page_json(console *c, json_t *object);

#endif
