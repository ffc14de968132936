/**
 * product.h (internal) - a product with what stands around it: a norm of x in front, a gate behind. One
 * launch where the device's kernels can, else one for each.
 */
#ifndef VLCI_COMPUTE_PRODUCT_H
#define VLCI_COMPUTE_PRODUCT_H

#include "compute/compute.h"

/**
 * Enqueues a product whose dtype is open. p->x_form and p->y_form are those of vlci_linear_form(), or floats.
 * p->brought is needed with a norm and where floats are not what the product reads, p->wide with a gate,
 * whose activation is that of `compute`. Errors: those of vlci_linear_product().
 */
vlcache_status vlci_product_run(const vlci_compute *compute, const vlci_product *p);

/** Whether products gated by these weights need no p->wide, whatever their m, where p->y_form is
 * vlci_linear_form() for weights of the same dtype. */
bool vlci_product_gates(const vlci_compute *compute, const vlci_matrix *w);

#endif
