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

/** The form in which a product with `from` leaves m rows for one with `to`: what that reads, where both are
 * of one dtype. */
vlci_form vlci_product_form(const vlci_compute *compute, const vlci_matrix *from, const vlci_matrix *to,
                            int m);

/** Whether products gated by `from`, whatever their m, need no p->wide where they leave y for `to` in
 * vlci_product_form(). */
bool vlci_product_gates(const vlci_compute *compute, const vlci_matrix *from, const vlci_matrix *to);

#endif
