/**
 * act.h (internal) - the activations, numbered for activate() of cl/common.clh too.
 */
#ifndef VLCI_COMPUTE_ACT_H
#define VLCI_COMPUTE_ACT_H

#include "cl/shared.h"

#endif
