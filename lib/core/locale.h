/**
 * locale.h - numbers and dates as C has them, with a point and in English, whatever locale the program has
 * set: kernels' options, templates and prompts are no texts for its users.
 */
#ifndef VLCI_CORE_LOCALE_H
#define VLCI_CORE_LOCALE_H

#include <stddef.h>
#include <time.h>

/** strtod(), snprintf() and strftime() in the C locale. */
double vlci_strtod(const char *text, char **end);
int vlci_snprintf(char *text, size_t room, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t vlci_strftime(char *text, size_t room, const char *format, const struct tm *when)
    __attribute__((format(strftime, 3, 0)));

#endif
