/**
 * form.h (internal) - how rows of activations lie.
 */
#ifndef VLCI_COMPUTE_FORM_H
#define VLCI_COMPUTE_FORM_H

#include "cl/shared.h"

/** f32, one row after another; or 16 bits of the weights' dtype at VLCI_STRIPE_AT() or VLCI_TILE_AT(). */
typedef enum vlci_form {
    VLCI_FLOATS = VLCI_FORM_FLOATS,
    VLCI_STRIPES = VLCI_FORM_STRIPES,
    VLCI_TILES = VLCI_FORM_TILES
} vlci_form;

/** Where element (row, i) of m rows of k lies in a form. */
static inline size_t vlci_form_at(vlci_form form, int row, int i, int m, int k) {
    if (form == VLCI_STRIPES) return VLCI_STRIPE_AT(row, i, VLCI_STRIPE_ROWS(m));
    return form == VLCI_TILES ? VLCI_TILE_AT(row, i, k) : (size_t)row * (size_t)k + (size_t)i;
}

/** How many elements of a row of n are written: whole stripes or tiles, zeros behind the last. */
static inline size_t vlci_form_width(vlci_form form, int n) {
    if (form == VLCI_STRIPES) return VLCI_BLOCKS(n) * VLCI_BLOCK;
    return form == VLCI_TILES ? VLCI_TILES(n) * VLCI_TILE : (size_t)n;
}

#endif
