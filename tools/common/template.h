/**
 * template.h - the value of --chat-template.
 */
#ifndef COMMON_TEMPLATE_H
#define COMMON_TEMPLATE_H

#include "common/flag.h"

/** A flag_reader: one of the library's names, or the path of a file, into the flag's field (const char *). */
int template_read(const flag *f, const char *name, const char *text, void *options);

/** Whether what template_read() has accepted is a file; NULL is none. */
bool template_is_file(const char *text);

/** A flag_names: all of them. */
void template_names(char *text, size_t capacity);

#endif
