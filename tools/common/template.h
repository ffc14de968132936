/**
 * template.h - the value of --chat-template.
 */
#ifndef COMMON_TEMPLATE_H
#define COMMON_TEMPLATE_H

#include "common/flag.h"

/** A flag_reader: one of the library's names, into the flag's field (const char *). */
int template_read(const flag *f, const char *name, const char *text, void *options);

/** A flag_names: all of them. */
void template_names(char *text, size_t capacity);

#endif
