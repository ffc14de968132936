/**
 * json.h - the JSON object of one turn.
 */
#ifndef RUN_JSON_H
#define RUN_JSON_H

#include "run/turn.h"

/** Prints it to standard output, whole or not at all. Returns an exit code. */
int json_print(run *r, const vlcache_answer *answer);

#endif
