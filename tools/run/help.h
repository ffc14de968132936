/**
 * help.h - the text of --help.
 */
#ifndef RUN_HELP_H
#define RUN_HELP_H

#include "common/console.h"

/** Prints it to standard output, the defaults in it. */
void help_print(console *c);

#endif
