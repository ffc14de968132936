/**
 * session.h (internal) - one conversation: a sequence of an engine of its own.
 */
#ifndef VLCI_SESSION_SESSION_H
#define VLCI_SESSION_SESSION_H

#include "engine/engine.h"
#include "session/probe.h"
#include "vlcache/session.h"

struct vlcache_session {
    vlcache_engine *engine;
    vlcache_sequence *sequence;
    vlcache_sequence
        *speaker;      /* whose answer the caller may ask about: the sequence, or a comparison's variant */
    vlci_probe *probe; /* of the comparison that is running, which owns it; NULL: none */
    const vlci_recipe *variant; /* that the comparison speaks of */
};

#endif
