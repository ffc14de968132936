/**
 * qwen3_vl.h (internal) - Qwen3-VL as a family.
 */
#ifndef VLCI_MODELS_QWEN3_VL_H
#define VLCI_MODELS_QWEN3_VL_H

#include "models/family.h"

extern const vlci_family vlci_family_qwen3_vl;

#endif
