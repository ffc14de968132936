/**
 * team.h - threads that work through a list together. For work that the host does in bulk, such as packing
 * weights: between two lists the threads sleep.
 */
#ifndef VLCI_CORE_TEAM_H
#define VLCI_CORE_TEAM_H

#include <stddef.h>

#include "core/status.h"

typedef struct vlci_team vlci_team;

enum { VLCI_TEAM_MOST = 64 };

/** Processors that this process may run on, at least 1. */
int vlci_processors(void);

/**
 * A team of up to `members` (1 to VLCI_TEAM_MOST), the caller of vlci_team_run() among them: fewer where the
 * system gives no more threads. They take no signals. Errors: VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_team_create(int members, vlci_team **out);

/** How many they are, the caller among them. */
int vlci_team_size(const vlci_team *team);

/** One item of a list, by member 0 to size - 1: no two items are one member's at the same time. */
typedef vlcache_status (*vlci_team_task)(void *user, size_t item, int member);

/**
 * Does items 0 to n - 1, begun in that order; returns when none is being done. Where some fail, no more are
 * begun, and the lowest that failed is the failure returned, recorded for the caller's thread. One list at a
 * time.
 */
vlcache_status vlci_team_run(vlci_team *team, size_t n, vlci_team_task task, void *user);

/** Ends the threads and NULLs; NULL accepted. */
void vlci_team_destroy(vlci_team **team);

#endif
