/**
 * internvl.h (internal) - InternVL as a family, as transformers has it.
 */
#ifndef VLCI_MODELS_INTERNVL_H
#define VLCI_MODELS_INTERNVL_H

#include "models/family.h"

extern const vlci_family vlci_family_internvl;

#endif
