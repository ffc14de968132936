/**
 * gemm_plan.h (internal) - which engine of matrix products a device is best at.
 */
#ifndef VLCI_COMPUTE_GEMM_PLAN_H
#define VLCI_COMPUTE_GEMM_PLAN_H

#include "compute/gemm.h"

/**
 * Measures the engines for weights of `dtype` on this device (or recalls what was measured) and returns the
 * winner; VLCACHE_GEMM=portable|wide|clblast forces one. `engines` (VLCI_GEMM_ENGINES of them, in the order
 * of vlci_gemm_engine) may be NULL. Errors: VLCACHE_E_ARGUMENT (dtype, VLCACHE_GEMM), VLCACHE_E_NO_MEMORY,
 * VLCACHE_E_CANCELLED, VLCACHE_E_DEVICE (none works).
 */
vlcache_status vlci_gemm_plan(vlcache_device *device, vlcache_dtype dtype, vlci_gemm_engine *engine,
                              vlcache_gemm_engine *engines);

#endif
