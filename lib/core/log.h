/**
 * log.h - the library never prints: it hands lines to the callback of vlcache_set_log().
 */
#ifndef VLCI_CORE_LOG_H
#define VLCI_CORE_LOG_H

#include "vlcache/common.h"

/** One line, without a newline, bounded at 1,023 bytes. Free when no callback is set. */
void vlci_log(vlcache_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
