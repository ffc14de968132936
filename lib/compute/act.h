/**
 * act.h (internal) - the activations, as activate() of cl/common.clh numbers them.
 */
#ifndef VLCI_COMPUTE_ACT_H
#define VLCI_COMPUTE_ACT_H

typedef enum vlci_activation {
    VLCI_ACT_NONE,
    VLCI_ACT_SILU,
    VLCI_ACT_GELU,
    VLCI_ACT_GELU_TANH,
    VLCI_ACT_QUICK_GELU
} vlci_activation;

#endif
