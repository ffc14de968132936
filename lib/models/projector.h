/**
 * projector.h (internal) - from a tower's width to the text model's: one matrix, or two with an activation
 * between; a LayerNorm in front where a family has one.
 */
#ifndef VLCI_MODELS_PROJECTOR_H
#define VLCI_MODELS_PROJECTOR_H

#include "models/weight.h"

/** What a family's projector is made of; names are behind `prefix`. */
typedef struct vlci_projector_config {
    const char *prefix, *first;
    const char *second; /**< NULL: there is only one matrix, and no activation */
    const char *norm;   /**< LayerNorm of what comes in; NULL: none */
    float norm_eps;
    int from, to;
    bool bias; /**< of the matrices */
    vlci_activation act;
} vlci_projector_config;

typedef struct vlci_projector {
    const vlci_compute *compute; /**< borrowed */
    vlci_norm norm;              /**< all zero: none */
    float norm_eps;
    vlci_matrix first, second; /**< second: all zero where there is one */
    vlci_activation act;
} vlci_projector;

/** Uploads first [to][from], second [to][to] and the norm [from]. Errors: those of vlci_upload_matrix();
 * vlci_projector_release() follows. */
vlcache_status vlci_projector_load(vlci_upload *up, const vlci_projector_config *config, vlci_projector *out);

/** `*projected`: new memory, f32 [rows][to]. Errors: the device's. */
vlcache_status vlci_projector_run(const vlci_projector *projector, cl_mem features, int rows,
                                  cl_mem *projected);

/** Releases and zeroes; one that is all zero is accepted. */
void vlci_projector_release(vlci_projector *projector);

#endif
