/*
 * locale.c - this thread's locale is the C one for a call, and then again what it was.
 */
#include "core/locale.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct locales {
    locale_t plain, before; /* plain: 0 where there is no memory for it */
} locales;

static locales enter(void) {
    locales l = {.plain = newlocale(LC_ALL_MASK, "C", (locale_t)0)};
    if (l.plain) l.before = uselocale(l.plain);
    return l;
}

static void leave(const locales *l) {
    int saved = errno;
    if (l->plain) uselocale(l->before);
    if (l->plain) freelocale(l->plain);
    errno = saved;
}

double vlci_strtod(const char *text, char **end) {
    locales l = enter();
    double value = strtod(text, end);
    leave(&l);
    return value;
}

int vlci_snprintf(char *text, size_t room, const char *format, ...) {
    va_list args;
    locales l = enter();
    va_start(args, format);
    int n = vsnprintf(text, room, format, args);
    va_end(args);
    leave(&l);
    return n;
}

size_t vlci_strftime(char *text, size_t room, const char *format, const struct tm *when) {
    locales l = enter();
    size_t n = strftime(text, room, format, when);
    leave(&l);
    return n;
}
