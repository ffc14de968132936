/**
 * llava_next.h (internal) - LLaVA-1.6 as a family.
 */
#ifndef VLCI_MODELS_LLAVA_NEXT_H
#define VLCI_MODELS_LLAVA_NEXT_H

#include "models/family.h"

extern const vlci_family vlci_family_llava_next;

#endif
