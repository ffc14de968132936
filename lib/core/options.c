/*
 * options.c - a caller's options, of whatever size, to those that this library knows.
 *
 *     to[0, min(size, ours)) = from;    to[min(size, ours), ours) = defaults;    from[ours, size) must be 0
 */
#include "core/options.h"

#include <stdalign.h>
#include <string.h>

enum { MOST = 1 << 15 }; /* a larger size is no struct's: what lies behind it is not looked at */

static vlcache_status refuse(const vlci_options *kind, size_t size, const char *why) {
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("%s.size", kind->what), VLCI_VALUE("%zu", size),
                       "%s: start from %s", why, kind->start);
}

/* The first byte beyond what is known here that is set; `size` where none is. */
static size_t beyond(const unsigned char *from, size_t at, size_t size) {
    while (at < size && !from[at]) at++;
    return at;
}

vlcache_status vlci_options_take(const vlci_options *kind, const void *from, void *to) {
    const size_t ours = kind->size;
    size_t size = 0;
    memcpy(to, kind->defaults, ours);
    if (!from) return VLCACHE_OK;
    memcpy(&size, from, sizeof size);
    if (size < kind->least || size > MOST || size % alignof(size_t))
        return refuse(kind, size, VLCI_VALUE("must be %zu, the size here, or that of another version", ours));
    size_t set = beyond(from, ours, size);
    if (set < size)
        return refuse(
            kind, size,
            VLCI_VALUE("must be at most %zu, or have zeros behind that: byte %zu belongs to an option "
                       "that this library is too old for; leave it out or update the library",
                       ours, set));
    memcpy(to, from, size < ours ? size : ours);
    memcpy(to, &ours, sizeof ours);
    return VLCACHE_OK;
}
