/**
 * qwen2_vl.h (internal) - Qwen2-VL as a family.
 */
#ifndef VLCI_MODELS_QWEN2_VL_H
#define VLCI_MODELS_QWEN2_VL_H

#include "models/family.h"

extern const vlci_family vlci_family_qwen2_vl;

#endif
