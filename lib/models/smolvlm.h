/**
 * smolvlm.h (internal) - SmolVLM as a family: Idefics3, which sees videos too.
 */
#ifndef VLCI_MODELS_SMOLVLM_H
#define VLCI_MODELS_SMOLVLM_H

#include "models/family.h"

extern const vlci_family vlci_family_smolvlm;

#endif
