/**
 * projector.h (internal) - two matrices with an activation between, from a tower's width to the text model's.
 */
#ifndef VLCI_MODELS_PROJECTOR_H
#define VLCI_MODELS_PROJECTOR_H

#include "models/weight.h"

typedef struct vlci_projector {
    const vlci_compute *compute; /**< borrowed */
    vlci_matrix first, second;
    vlci_activation act;
} vlci_projector;

/** Uploads "<prefix>linear_1" [to][from] and "<prefix>linear_2" [to][to]. Errors: those of
 * vlci_upload_matrix(); vlci_projector_release() follows. */
vlcache_status vlci_projector_load(vlci_upload *up, const char *prefix, int from, int to, bool bias,
                                   vlci_activation act, vlci_projector *out);

/** `*projected`: new memory, f32 [rows][to]. Errors: the device's. */
vlcache_status vlci_projector_run(const vlci_projector *projector, cl_mem features, int rows,
                                  cl_mem *projected);

/** Releases and zeroes; one that is all zero is accepted. */
void vlci_projector_release(vlci_projector *projector);

#endif
