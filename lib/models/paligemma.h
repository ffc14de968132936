/**
 * paligemma.h (internal) - PaliGemma as a family.
 */
#ifndef VLCI_MODELS_PALIGEMMA_H
#define VLCI_MODELS_PALIGEMMA_H

#include "models/family.h"

extern const vlci_family vlci_family_paligemma;

#endif
