/**
 * printable.h - text from elsewhere (models, files, drivers) made fit for a terminal and for JSON.
 */
#ifndef COMMON_PRINTABLE_H
#define COMMON_PRINTABLE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/** Writes the text; control characters other than newline and tab, and bytes that are no UTF-8, come as
 * U+FFFD, so that nothing moves the cursor or sets the terminal's title. */
void printable_put(FILE *out, const char *text);

/** The same for what vprintf() makes of its arguments; false where there was memory for its beginning only.
 */
bool printable_vprintf(FILE *out, const char *format, va_list args) __attribute__((format(printf, 2, 0)));

/** Bytes of the character at `text`, which is not at its end; 0: what stands there is no UTF-8. */
int printable_step(const char *text);

/** In place: bytes that are no UTF-8 become question marks. Returns `text`. */
char *printable_utf8(char *text);

#endif
