/**
 * mllama.h (internal) - Llama 3.2 Vision as a family.
 */
#ifndef VLCI_MODELS_MLLAMA_H
#define VLCI_MODELS_MLLAMA_H

#include "models/family.h"

extern const vlci_family vlci_family_mllama;

#endif
