/**
 * llava_onevision.h (internal) - LLaVA-OneVision as a family.
 */
#ifndef VLCI_MODELS_LLAVA_ONEVISION_H
#define VLCI_MODELS_LLAVA_ONEVISION_H

#include "models/family.h"

extern const vlci_family vlci_family_llava_onevision;

#endif
