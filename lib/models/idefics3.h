/**
 * idefics3.h (internal) - Idefics3 and SmolVLM as families: one model under two names.
 */
#ifndef VLCI_MODELS_IDEFICS3_H
#define VLCI_MODELS_IDEFICS3_H

#include "models/family.h"

extern const vlci_family vlci_family_idefics3, vlci_family_smolvlm;

#endif
