/**
 * text_only.h (internal) - text models alone, without eyes: a family for each class that kinds.c knows.
 */
#ifndef VLCI_MODELS_TEXT_ONLY_H
#define VLCI_MODELS_TEXT_ONLY_H

#include "models/family.h"

extern const vlci_family vlci_family_llama, vlci_family_mistral, vlci_family_qwen2, vlci_family_qwen3,
    vlci_family_gemma, vlci_family_gemma2;

#endif
