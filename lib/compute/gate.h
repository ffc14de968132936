/**
 * gate.h (internal) - learned gates, and columns laid side by side: what stands between the products of a
 * tower of tiles and of layers of cross-attention. A gate is one number g on the device, f32 [1], and counts
 * as tanh(g).
 */
#ifndef VLCI_COMPUTE_GATE_H
#define VLCI_COMPUTE_GATE_H

#include "device/device.h"

typedef struct vlci_gate_kernels {
    vlcache_device *device;
    const vlci_kernel *add, *table, *put;
} vlci_gate_kernels;

/** Errors: those of vlci_kernel_get(). */
vlcache_status vlci_gate_open(vlcache_device *device, vlci_gate_kernels *out);

/** Some rows of x, f32 [..][n]: `rows` from row `first` on. */
typedef struct vlci_gate_rows {
    cl_mem x;
    int first, rows, n;
    cl_mem gate; /**< NULL: 1 */
} vlci_gate_rows;

/** Enqueues x[first + r] += tanh(gate) y[r] in those rows whose sees[first + r] (int) is `least` or more; all
 * where `sees` is NULL. y [rows][n] may hold anything, NaN too, in the others. Errors: the device's. */
vlcache_status vlci_gate_add(const vlci_gate_kernels *kernels, const vlci_gate_rows *to, cl_mem y,
                             cl_mem sees, int least);

/** Which row of a table [..][n] belongs to row r: from + r / each % turn. */
typedef struct vlci_gate_entries {
    cl_mem table;
    int from, each, turn;
} vlci_gate_entries;

/** Enqueues x[first + r] += tanh(gate) times its row of the table, or 1 - tanh(gate) times it with `rest`.
 * Errors: the device's. */
vlcache_status vlci_gate_table(const vlci_gate_kernels *kernels, const vlci_gate_rows *to,
                               const vlci_gate_entries *entries, bool rest);

/** Enqueues y[r][first + i * step] = x[r][i], i < n, of `rows` rows; y [rows][width], f32. Errors: the
 * device's. */
vlcache_status vlci_gate_put(const vlci_gate_kernels *kernels, cl_mem x, int rows, int n, cl_mem y, int width,
                             int first, int step);

#endif
