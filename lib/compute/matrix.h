/**
 * matrix.h (internal) - weights on the device, and a product with them as it is asked for.
 */
#ifndef VLCI_COMPUTE_MATRIX_H
#define VLCI_COMPUTE_MATRIX_H

#include "compute/norm.h"
#include "compute/rope.h"

/** Rows: element (n, k) at n * K + k. Panels: at VLCI_PANEL_AT(n, k, K), zero-padded to whole panels. Blocks,
 * of 16-bit weights: at VLCI_BLOCK_AT(n, k, K), zero-padded to whole blocks. Pairs, of 16-bit weights: at
 * VLCI_PAIR_AT(n, k, K), zero-padded to whole panels and 32 of k. */
typedef enum vlci_layout {
    VLCI_ROWS = VLCI_LAYOUT_ROWS,
    VLCI_PANELS = VLCI_LAYOUT_PANELS,
    VLCI_BLOCKS = VLCI_LAYOUT_BLOCKS,
    VLCI_PAIRS = VLCI_LAYOUT_PAIRS
} vlci_layout;
extern const char *const vlci_layout_names[4];

/** The form in which products of many rows read x where W lies in a layout. */
vlci_form vlci_layout_form(vlci_layout layout);

/** Products of pairs of bf16, which round x to bf16: by none, in plain OpenCL C, by the processor's own
 * (caps.dot). */
typedef enum vlci_dot { VLCI_DOT_NONE, VLCI_DOT_PLAIN, VLCI_DOT_OWN } vlci_dot;

enum { VLCI_MATRIX_PARTS = 3, VLCI_PART_MULTIPLE = 16 };

/** A matrix on the device, [n][k], with its bias (f32 [n]) or NULL. One that lies in mapped files is rows, in
 * up to VLCI_MATRIX_PARTS parts one below the other: of `data` the first until[0], until[1] with more[0]; all
 * parts but the last are multiples of VLCI_PART_MULTIPLE. Else more and until are zero. */
typedef struct vlci_matrix {
    cl_mem data, bias, more[VLCI_MATRIX_PARTS - 1];
    int n, k, until[VLCI_MATRIX_PARTS - 1];
    vlcache_dtype dtype;
    vlci_layout layout;
} vlci_matrix;

/**
 * y = act(x W^T + bias), or y += ... with `accumulate`; x [m][k] and y [m][n] from these elements on (floats;
 * other forms begin at 0). With `norm`, x is RMSNorm(x), or LayerNorm(x) where the norm has a bias. Gated: W
 * is [gate | up] and y [m][n / 2] = act(gate) * up; then there is no bias, and nothing is added to. With
 * `append`, y is its qkv and goes on as vlci_rope_append() says, but for k and v, which y need not get.
 */
typedef struct vlci_product {
    const vlci_matrix *w;
    cl_mem x, y;
    size_t x_offset, y_offset;
    int m;
    vlci_activation act;
    bool accumulate, gated;
    vlci_form x_form, y_form;
    const vlci_norm *norm; /**< NULL: x as it is, else f32 */
    float eps;
    const vlci_append *append; /**< NULL: y is all there is */
    const vlci_matrix *next;   /**< a hint: what the product behind this one reads; NULL: unknown */
    cl_mem brought;            /**< scratch for x, normed or in another form: vlci_operand_bytes(m, k) */
    cl_mem wide;               /**< scratch of gated: f32 [m][n] */
} vlci_product;

/** Bytes of a matrix [n][k] in a layout. */
size_t vlci_matrix_bytes(int n, int k, vlcache_dtype dtype, vlci_layout layout);

/** Bytes of up to `rows` rows of k activations, whatever their form. */
size_t vlci_operand_bytes(int rows, int k);

/** The kernel `name` of a file built for weights of a dtype; `options`: further ones, each with a blank
 * before it. */
vlcache_status vlci_matrix_kernel(vlcache_device *device, vlcache_dtype dtype, const char *file,
                                  const char *name, const char *options, const vlci_kernel **out);

/** What programs of dot_rows.clh are built with beside it, by how a processor reads. */
const char *vlci_dot_lines(const vlcache_device *device);

/** The arguments of kernels that compute a whole product, which others may stand behind. */
enum { VLCI_PRODUCT_ARGS = 11 };
void vlci_product_args(const vlci_product *p, vlci_arg out[VLCI_PRODUCT_ARGS]);

/** Enqueues one that has no others. */
vlcache_status vlci_product_launch(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                                   const vlci_product *p);

/** The same of kernels that read a mapped matrix, whose parts stand behind the first. */
enum { VLCI_PARTS_ARGS = 15 };
void vlci_product_parts(const vlci_product *p, vlci_arg out[VLCI_PARTS_ARGS]);

/** Enqueues one that has no others. */
vlcache_status vlci_product_launch_parts(vlcache_device *device, const vlci_kernel *kernel, vlci_grid grid,
                                         const vlci_product *p);

static inline size_t vlci_ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

#endif
