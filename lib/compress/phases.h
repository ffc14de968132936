/**
 * phases.h (internal) - phases of rows that are turned one by one -> those of each run's first row, and what
 * its others have beyond it. Where positions advance alike, runs share that: a table that is small, whatever
 * positions a model gives a picture.
 */
#ifndef VLCI_COMPRESS_PHASES_H
#define VLCI_COMPRESS_PHASES_H

#include "compress/code.h"

/** Zero to begin with. */
typedef struct vlci_phases {
    int runs, head_dim;
    int n;           /**< patterns */
    cl_mem first;    /**< f32 [runs][head_dim]: cosines, then sines */
    float *within;   /**< [n][head_dim][VLCI_CODE_RUN_MIN] */
    cl_int *pattern; /**< [runs] */
} vlci_phases;

/** Of f32 [rows][head_dim] on the device, in runs of VLCI_CODE_RUN_MIN; patterns are the same up to a
 * thousandth. kernels: of that head_dim. Blocks. Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_phases_find(vlcache_device *device, const vlci_code_kernels *kernels, cl_mem phase,
                                int rows, int head_dim, vlci_phases *out);

/** Enqueues them to the codes, whose numbers they gave. Errors: the device's. */
vlcache_status vlci_phases_write(const vlci_phases *phases, const vlci_codes *codes);

void vlci_phases_release(vlcache_device *device, vlci_phases *phases);

#endif
